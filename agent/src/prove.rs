//! Whether TLS of callers ends here: the certificate that is served is held against the key that is held here.

use core::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use std::{
    io,
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
    io::{AsyncRead, AsyncWrite, ReadBuf},
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

/// Why nothing was served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unserved {
    /// What answers is no TLS.
    NotTls(String),
    /// The handshake came to nothing otherwise.
    Failed(String),
}

impl Unserved {
    /// Returns what was seen.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::NotTls(text) | Self::Failed(text) => text,
        }
    }
}

/// A connection of which the first octets of the other end are remembered.
struct Listened<'o, IO> {
    io: IO,
    first: &'o Mutex<Vec<u8>>,
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
) -> Result<Served, Unserved> {
    let failed = Unserved::Failed;
    let server = ServerName::try_from(name.to_owned()).map_err(|error| failed(format!("{name}: {error}")))?;
    let trusted = roots.map_or(UpstreamTrust::Host, |path| UpstreamTrust::File(path.to_owned().into()));
    let caller = match (trust::upstream_verifier(&trusted, provider), roots) {
        (Err(error), Some(_)) => return Err(failed(error.to_string())),
        (caller, _) => caller, // a machine that trusts nobody is told as such
    };
    let recorder = Arc::new(Recorder { caller, provider: Arc::clone(provider), seen: Mutex::default() });
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| failed(error.to_string()))?.dangerous();
    let verifier = Arc::clone(&recorder) as Arc<dyn ServerCertVerifier>;
    let config = builder.with_custom_certificate_verifier(verifier).with_no_client_auth();
    let first = Mutex::default();
    let shaken =
        timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(server, Listened { io, first: &first })).await;
    // Whoever wants a certificate of callers refuses this one after it has shown its own.
    let seen = recorder.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Seen { served, is_signed: true }) = seen {
        return Ok(served);
    }
    let first = first.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(other) = other_than_tls(&first) {
        return Err(Unserved::NotTls(other));
    }
    Err(failed(match shaken {
        Ok(Ok(_)) => "the handshake has shown no certificate".to_owned(),
        Ok(Err(error)) if first.is_empty() => format!("it has ended the connection without an answer: {error}"),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no handshake within {PATIENCE:?}"),
    }))
}

/// Says what answers, by its first octets, where that is no TLS: records of handshakes and alerts begin with their kind and a version
/// of three.
fn other_than_tls(first: &[u8]) -> Option<String> {
    match first {
        [] | [21 | 22] | [21 | 22, 3, ..] => None,
        _ if first.starts_with(b"HTTP/") => Some("it answers in plain HTTP".to_owned()),
        _ => {
            let text = String::from_utf8_lossy(first);
            let line = text.split(['\r', '\n']).next().unwrap_or_default();
            Some(format!("its answer begins with \"{}\"", adit_core::escape(line)))
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Listened<'_, IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_FIRST.saturating_sub(first.len());
        first.extend(buffer.filled().iter().skip(before).take(room));
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Listened<'_, IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
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
/// So many of the first octets are told of what is no TLS.
const MAX_FIRST: usize = 40;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn answered(answer: &'static [u8]) -> Unserved {
        let (ours, mut theirs) = tokio::io::duplex(4_096);
        tokio::spawn(async move {
            let _ = theirs.read(&mut [0; 1_024]).await;
            let _ = theirs.write_all(answer).await;
        });
        served(ours, "crm.example", None, &Arc::new(rustls::crypto::aws_lc_rs::default_provider())).await.unwrap_err()
    }

    #[tokio::test]
    async fn what_answers_no_tls_is_told_by_what_it_says() {
        let not_tls = |text: &str| Unserved::NotTls(text.to_owned());

        assert_eq!(answered(b"HTTP/1.1 400 Bad Request\r\n\r\n").await, not_tls("it answers in plain HTTP"));
        assert_eq!(
            answered(b"SSH-2.0-OpenSSH_9.2\r\n").await,
            not_tls("its answer begins with \"SSH-2.0-OpenSSH_9.2\"")
        );
        assert_eq!(answered(b"\x1b[2J\n").await, not_tls("its answer begins with \"\\u{1b}[2J\""));
        for alert in [&[21, 3, 3, 0, 2, 2, 40][..], &[21, 3, 3, 0, 2, 2, 112]] {
            assert!(matches!(answered(alert).await, Unserved::Failed(text) if text.contains("alert")), "that is TLS");
        }
        assert!(matches!(answered(b"").await, Unserved::Failed(text) if text.contains("without an answer")));
    }
}
