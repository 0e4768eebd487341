//! Whom the agent trusts, and what it says when the network shows something else.

mod certificate;
mod explain;
mod proxy;

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};

use crate::{
    config::{Roots, UpstreamTrust},
    errors::{Error, Fault},
};

pub(crate) use certificate::{Description, describe, describe_names, sha256};
pub(crate) use explain::{explain_dial, explain_end, explain_tls};
pub(crate) use proxy::{ProxyWitness, proxy_tls};

/// The TLS towards the network, and a memory of the certificate that was refused last.
#[derive(Clone, Debug)]
pub(crate) struct NetworkTls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) witness: Arc<Witness>,
}

/// What the other end showed when it was refused.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) name: String,
    pub(crate) now: UnixTime,
}

/// Verifies as usual and remembers whom it refused.
#[derive(Debug)]
pub(crate) struct Witness {
    inner: Arc<dyn ServerCertVerifier>,
    seen: Mutex<Option<Seen>>,
}

impl NetworkTls {
    /// Builds what sessions are secured with.
    ///
    /// # Errors
    /// [`Fault::RootsUnusable`]: never widened to somebody else's roots (V30).
    pub(crate) fn new(roots: &Roots, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let store = match roots {
            Roots::Bundled(pem) => store(pem.as_bytes(), "connect_ca_pem")?,
            Roots::File(path) => file(path)?,
            Roots::Host => host()?,
        };
        let witness = Arc::new(Witness { inner: verifier(store, provider)?, seen: Mutex::default() });
        let verifier = Arc::clone(&witness);
        let config = adit_tokio::danger_client_config(verifier, Arc::clone(provider)).map_err(internal)?;
        Ok(Self { config: Arc::new(config), witness })
    }
}

/// Builds what an upstream is spoken to with.
///
/// # Errors
/// [`Fault::RootsUnusable`].
pub(crate) fn upstream_tls(
    trust: &UpstreamTrust,
    alpn: Option<&[u8]>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ClientConfig>, Error> {
    let verifier = upstream_verifier(trust, provider)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(internal)?.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    Ok(Arc::new(config))
}

/// Returns who judges the certificate of an upstream, or as a caller would.
///
/// # Errors
/// [`Fault::RootsUnusable`].
pub(crate) fn upstream_verifier(
    trust: &UpstreamTrust,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    Ok(match trust {
        UpstreamTrust::Host => verifier(host()?, provider)?,
        UpstreamTrust::File(path) => verifier(file(path)?, provider)?,
        UpstreamTrust::DangerAnybody => Arc::new(Anybody(Arc::clone(provider))),
    })
}

fn verifier(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    builder.build().map_err(|error| Error::new(Fault::RootsUnusable, error.to_string()))
}

fn internal(error: impl core::fmt::Display) -> Error {
    Error::new(Fault::Internal, error.to_string())
}

fn file(path: &Path) -> Result<RootCertStore, Error> {
    let shown = path.display();
    let unusable = |problem: String| Error::new(Fault::RootsUnusable, format!("{shown}: {problem}"));
    let pem = read(path).map_err(|error| unusable(error.to_string()))?;
    store(&pem, &shown.to_string())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;

    let file = std::fs::File::open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = file.metadata()?;
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_file() && mode & 0o002 != 0 {
            return Err(io::Error::other(format!("mode {mode:04o} lets everybody change it; chmod 644")));
        }
    }
    let mut pem = Vec::new();
    file.take(MAX_PEM + 1).read_to_end(&mut pem)?;
    if pem.len() as u64 > MAX_PEM {
        return Err(io::Error::other(format!("longer than {MAX_PEM} octets"))); // a part of it is not what was meant
    }
    Ok(pem)
}

fn store(pem: &[u8], from: &str) -> Result<RootCertStore, Error> {
    let unusable = |problem: String| Error::new(Fault::RootsUnusable, format!("{from}: {problem}"));
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| unusable(format!("not PEM: {error}")))?;
        store.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if store.is_empty() { Err(unusable("holds no certificate".to_owned())) } else { Ok(store) }
}

fn host() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added == 0 {
        let problems: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let detail = format!("this machine trusts nobody: {}", problems.join("; "));
        return Err(Error::new(Fault::RootsUnusable, detail));
    }
    Ok(store)
}

impl Witness {
    /// Takes what was refused last.
    pub(crate) fn take(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let total: usize = intermediates.iter().map(|certificate| certificate.len()).sum();
        if intermediates.len() > MAX_CHAIN || total > MAX_CHAIN_OCTETS {
            return Err(CertificateError::UnknownIssuer.into()); // no path is worth that much searching (V32)
        }
        // spec: TLS-005
        let result = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if result.is_err() {
            let seen = Seen { certificate: end_entity.clone().into_owned(), name: server_name.to_str().into(), now };
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        }
        result
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Takes any certificate, but only from whom holds its key.
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
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A file of certificates is not read beyond it, in octets.
const MAX_PEM: u64 = 4 << 20;
/// Certificates below the root that are looked at.
const MAX_CHAIN: usize = 8;
/// Octets of certificates below the root that are looked at.
const MAX_CHAIN_OCTETS: usize = 64 << 10;
