//! TLS with a proxy, below TLS with the network.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{MAX_CHAIN, MAX_CHAIN_OCTETS, Seen, internal, upstream_verifier};
use crate::{
    config::{ProxyRoots, UpstreamTrust},
    errors::Error,
};

/// Verifies a proxy as usual, and remembers the certificate that was refused.
#[derive(Debug)]
pub(crate) struct ProxyWitness {
    inner: Arc<dyn ServerCertVerifier>,
    seen: Mutex<Option<Seen>>,
}

/// Builds what an `https` proxy is spoken to with, and who remembers its certificate if it is refused.
///
/// # Errors
/// [`Fault::RootsUnusable`](crate::errors::Fault::RootsUnusable).
pub(crate) fn proxy_tls(
    roots: &ProxyRoots,
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<ClientConfig>, Arc<ProxyWitness>), Error> {
    let trust = match roots {
        ProxyRoots::Host => UpstreamTrust::Host,
        ProxyRoots::File(path) => UpstreamTrust::File(path.clone()),
    };
    let witness = Arc::new(ProxyWitness { inner: upstream_verifier(&trust, provider)?, seen: Mutex::default() });
    let checked = Arc::clone(&witness);
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(internal)?.dangerous().with_custom_certificate_verifier(checked);
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), witness))
}

impl ProxyWitness {
    /// Takes what was refused last.
    pub(crate) fn take(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ServerCertVerifier for ProxyWitness {
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
            return Err(CertificateError::UnknownIssuer.into());
        }
        let result = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if result.is_err() {
            let (certificate, name) = (end_entity.clone().into_owned(), server_name.to_str().into());
            let seen = Seen { certificate, name, now, refused: None };
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
