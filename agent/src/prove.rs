//! Whether TLS of callers ends here: the certificate that is served is held against the key that is held here.

use core::time::Duration;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    config::UpstreamTrust,
    errors::Error,
    trust::{self, Description, describe, sha256},
};

/// What somebody serves, and has shown to hold the key of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) certificate: CertificateDer<'static>,
    /// Why a caller with the roots of this machine, or those that were named, would not take it.
    pub(crate) distrust: Option<String>,
}

/// A public key, by its SHA-256 as 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) String);

impl Key {
    /// Returns the key of a certificate; nothing when it is none.
    pub(crate) fn of(certificate: &[u8], provider: &CryptoProvider) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let print = sha256(parsed.public_key().raw, provider)?;
        Some(Self(print.replace(':', "").to_lowercase()))
    }
}

impl Served {
    pub(crate) fn describe(&self) -> Option<Description> {
        describe(&self.certificate)
    }
}

/// Shakes hands as a caller of `name` would, and returns what is served by whom has its key.
///
/// # Errors
/// Why there is no certificate whose key the other end has.
pub(crate) async fn served(
    io: impl AsyncRead + AsyncWrite + Unpin,
    name: &str,
    roots: Option<&Path>,
    provider: &Arc<CryptoProvider>,
) -> Result<Served, String> {
    let server = ServerName::try_from(name.to_owned()).map_err(|error| format!("{name}: {error}"))?;
    let trusted = roots.map_or(UpstreamTrust::Host, |path| UpstreamTrust::File(path.to_owned().into()));
    let caller = match (trust::upstream_verifier(&trusted, provider), roots) {
        (Err(error), Some(_)) => return Err(error.to_string()),
        (caller, _) => caller, // a machine that trusts nobody is told as such
    };
    let recorder = Arc::new(Recorder { caller, provider: Arc::clone(provider), seen: Mutex::default() });
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.dangerous();
    let verifier = Arc::clone(&recorder) as Arc<dyn ServerCertVerifier>;
    let config = builder.with_custom_certificate_verifier(verifier).with_no_client_auth();
    let shaken = timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(server, io)).await;
    // Whoever wants a certificate of callers refuses this one after it has shown its own.
    let seen = recorder.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Seen { served, is_signed: true }) = seen {
        return Ok(served);
    }
    match shaken {
        Ok(Ok(_)) => Err("the handshake has shown no certificate".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no handshake within {PATIENCE:?}")),
    }
}

/// Takes any certificate whose key the other end has, and remembers it.
#[derive(Debug)]
struct Recorder {
    caller: Result<Arc<dyn ServerCertVerifier>, Error>,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    served: Served,
    is_signed: bool,
}

impl Recorder {
    fn signed(
        &self,
        valid: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if let (Ok(_), Some(seen)) = (&valid, &mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner)) {
            seen.is_signed = true;
        }
        valid
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let distrust = match &self.caller {
            Ok(caller) => {
                let judged = caller.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
                judged.err().map(|error| error.to_string())
            }
            Err(error) => Some(error.to_string()),
        };
        let served = Served { certificate: end_entity.clone().into_owned(), distrust };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen { served, is_signed: false });
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.signed(rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.signed(rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);
