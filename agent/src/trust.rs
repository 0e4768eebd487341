//! Whom the agent trusts, and what it says when the network shows something else.

mod certificate;
mod explain;
mod pins;
mod proxy;
mod revocation;

use std::{
    io,
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
    config::{AgentConfig, CrlConfig, CrlMode, ListUrl, NamedFile, Roots, UpstreamTrust},
    errors::{Error, Fault},
};
use pins::Pins;

pub(crate) use certificate::{Description, describe, describe_names, sha256};
pub(crate) use explain::{explain_dial, explain_end, explain_tls};
pub(crate) use proxy::{ProxyWitness, proxy_tls};
#[cfg(test)]
pub(crate) use revocation::ListTimes;
pub(crate) use revocation::{Chain, Dated, Refused, Revocation, Times, Way};

/// The TLS towards the network, and a memory of the certificate that was refused last.
#[derive(Clone, Debug)]
pub(crate) struct NetworkTls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) witness: Arc<Witness>,
    pub(crate) revocation: Arc<Revocation>,
}

/// What the other end showed when it was refused.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) name: String,
    pub(crate) now: UnixTime,
    /// What was found out beyond the chain, where that is the reason.
    pub(crate) refused: Option<Refused>,
}

/// Verifies as usual and remembers whom it refused.
#[derive(Debug)]
pub(crate) struct Witness {
    inner: Arc<dyn ServerCertVerifier>,
    pins: Pins,
    revocation: Arc<Revocation>,
    seen: Mutex<Option<Seen>>,
}

impl NetworkTls {
    /// Builds what sessions are secured with.
    ///
    /// # Errors
    /// [`Fault::RootsUnusable`]: never widened to somebody else's roots (V30).
    pub(crate) fn new(agent: &AgentConfig, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let (trusted, roots) = match &agent.roots {
            Roots::Bundled(pem) => store(pem.as_bytes(), "connect_ca_pem")?,
            Roots::File(path) => file(path)?,
            Roots::Host => host()?,
        };
        let roots = Arc::new(roots);
        let hosts = agent.targets.iter().map(|target| target.host.clone()).collect();
        let pins = Pins::new(agent.network_keys.clone(), trusted.clone(), Arc::clone(provider));
        let inner = verifier(Arc::clone(&roots), provider)?;
        let revocation = Arc::new(Revocation::new(agent.crl.clone(), hosts, trusted, roots, Arc::clone(provider)));
        let witness = Arc::new(Witness { inner, pins, revocation: Arc::clone(&revocation), seen: Mutex::default() });
        let verifier = Arc::clone(&witness);
        let config = adit_tokio::danger_client_config(verifier, Arc::clone(provider)).map_err(internal)?;
        Ok(Self { config: Arc::new(config), witness, revocation })
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
        UpstreamTrust::Host => verifier(Arc::new(host()?.1), provider)?,
        UpstreamTrust::File(path) => verifier(Arc::new(file(path)?.1), provider)?,
        UpstreamTrust::DangerAnybody => Arc::new(Anybody(Arc::clone(provider))),
    })
}

/// Returns the host and the port where lists are fetched by the customer's word, if they are.
pub(crate) fn list_place(crl: &CrlConfig) -> Option<(String, u16)> {
    let url = crl.url.as_deref().filter(|_| crl.mode != CrlMode::Off).and_then(ListUrl::parse)?;
    let (host, port) = url.place();
    Some((host.to_owned(), port))
}

/// Returns the body of what a server of revocation lists answers, for who fuzzes it.
///
/// # Errors
/// What is wrong with it, for people.
pub fn list_of_answer(answer: &[u8]) -> Result<&[u8], String> {
    revocation::body(answer)
}

/// Certificates of authorities, as they are and as they are verified with.
type Anchors = (Vec<CertificateDer<'static>>, RootCertStore);

fn verifier(roots: Arc<RootCertStore>, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider));
    builder.build().map_err(|error| Error::new(Fault::RootsUnusable, error.to_string()))
}

fn internal(error: impl core::fmt::Display) -> Error {
    Error::new(Fault::Internal, error.to_string())
}

fn file(named: &NamedFile) -> Result<Anchors, Error> {
    let shown = named.display();
    let unusable = |problem: String| Error::new(Fault::RootsUnusable, format!("{shown}: {problem}"));
    let pem = read(named).map_err(|error| unusable(error.to_string()))?;
    store(&pem, &shown.to_string())
}

fn read(named: &NamedFile) -> io::Result<Vec<u8>> {
    use std::io::Read as _;

    let file = named.open_any()?;
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

fn store(pem: &[u8], from: &str) -> Result<Anchors, Error> {
    let unusable = |problem: String| Error::new(Fault::RootsUnusable, format!("{from}: {problem}"));
    let (mut all, mut store) = (Vec::new(), RootCertStore::empty());
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| unusable(format!("not PEM: {error}")))?;
        all.push(certificate.clone());
        store.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if store.is_empty() { Err(unusable("holds no certificate".to_owned())) } else { Ok((all, store)) }
}

fn host() -> Result<Anchors, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(found.certs.iter().cloned());
    if added == 0 {
        let problems: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let detail = format!("this machine trusts nobody: {}", problems.join("; "));
        return Err(Error::new(Fault::RootsUnusable, detail));
    }
    Ok((found.certs, store))
}

impl Witness {
    /// Takes what was refused last.
    pub(crate) fn take(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn remember(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
        refused: Option<Refused>,
    ) {
        let (certificate, name) = (certificate.clone().into_owned(), name.to_str().into());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen { certificate, name, now, refused });
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
        let chain = Chain {
            leaf: end_entity.clone().into_owned(),
            intermediates: intermediates.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            name: server_name.to_owned(),
        };
        let verified = match result {
            Ok(verified) => verified,
            Err(error) => {
                self.revocation.overhear(&chain, ocsp_response); // whether it is the clock that is wrong
                self.remember(end_entity, server_name, now, None);
                return Err(error);
            }
        };
        // Before anything is said: whoever is refused here never sees the authtoken.
        let judged = self.pins.check(&chain, now).and_then(|()| self.revocation.check(chain, ocsp_response, now));
        judged.map(|()| verified).map_err(|refused| {
            let error = refused.error.clone();
            self.remember(end_entity, server_name, now, Some(refused));
            error
        })
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
