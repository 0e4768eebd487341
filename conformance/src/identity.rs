//! TLS of the tests: an authority that lives as long as they run.

use std::{io, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

/// An authority, and what it issued, in PEM: a network's certificate, and one for another name.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate of the authority.
    pub authority: String,
    /// The certificate of the network.
    pub certificate: String,
    /// The key of the network.
    pub key: String,
    /// A certificate for another name, and its key.
    pub other: (String, String),
}

impl Identity {
    /// Issues a certificate for a network of this name.
    ///
    /// # Errors
    /// What is wrong with the name, or why there is no randomness.
    pub fn issue(name: &str) -> io::Result<Self> {
        let mut authority = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        authority.distinguished_name = called("adit-conformance");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority_key = KeyPair::generate().map_err(io::Error::other)?;
        let root = authority.self_signed(&authority_key).map_err(io::Error::other)?;
        let issuer = Issuer::new(authority, authority_key);

        let (certificate, key) = issued(name, &issuer)?;
        Ok(Self { authority: root.pem(), certificate, key, other: issued("other.invalid", &issuer)? })
    }

    /// Returns the TLS of the network that the certificate is for.
    ///
    /// # Errors
    /// Why the certificate cannot be used.
    pub fn server(&self) -> io::Result<Arc<ServerConfig>> {
        server(&self.certificate, &self.key)
    }

    /// Returns the TLS of a network with another name.
    ///
    /// # Errors
    /// Why the certificate cannot be used.
    pub fn other_server(&self) -> io::Result<Arc<ServerConfig>> {
        server(&self.other.0, &self.other.1)
    }
}

/// Returns the TLS of an agent that trusts the authorities in `roots`, in PEM; with `None` it trusts everybody.
///
/// # Errors
/// Why the authorities cannot be used.
pub fn client(roots: Option<&str>) -> io::Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?;
    let mut config = if let Some(roots) = roots {
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
            store.add(root.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        builder.with_root_certificates(store).with_no_client_auth()
    } else {
        let verifier = Arc::new(Anybody(provider()));
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Takes every certificate: what is tested is not the network's name.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn issued(name: &str, issuer: &Issuer<'_, KeyPair>) -> io::Result<(String, String)> {
    let mut network = CertificateParams::new(vec![name.to_owned()]).map_err(io::Error::other)?;
    network.distinguished_name = called(name);
    network.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = network.signed_by(&key, issuer).map_err(io::Error::other)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn server(certificate: &str, key: &str) -> io::Result<Arc<ServerConfig>> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(io::Error::other)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?;
    let mut config =
        builder.with_no_client_auth().with_single_cert(vec![certificate], key).map_err(io::Error::other)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

const ALPN: &[u8] = b"adit/1";
