//! TLS-ALPN-01 (RFC 8737): what an authority is shown that asks whether a name leads here, while an order is open.

use core::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use adit_tokio::Stream;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::PrivatePkcs8KeyDer,
    server::{Acceptor, NoServerSessionStorage},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, timeout_at},
};
use tokio_rustls::{LazyConfigAcceptor, server::StartHandshake};

use crate::errors::{Error, Fault};

/// What a name's callers are asked first: are you the authority?
#[derive(Debug)]
pub(crate) struct Proof {
    name: String,
    provider: Arc<CryptoProvider>,
    /// What is shown while an order is open.
    open: Mutex<Option<Arc<ServerConfig>>>,
}

/// The proof is given until this is dropped.
#[derive(Debug)]
pub(super) struct Showing(Arc<Proof>);

/// Who has come.
pub(crate) enum Met {
    /// A caller, whose handshake goes on.
    Caller(Box<StartHandshake<Stream>>),
    /// The authority, which has seen what it wanted to.
    Authority,
}

/// What somebody wants who has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    Endpoint,
    Proof,
    /// The proof and something else, or that of another name.
    Mixture,
}

impl Proof {
    /// Returns a proof of a name that is not given yet.
    pub(crate) fn new(name: &str, provider: &Arc<CryptoProvider>) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), provider: Arc::clone(provider), open: Mutex::default() })
    }

    /// Shows a certificate with this digest of the challenge from here on.
    ///
    /// # Errors
    /// [`Fault::Internal`].
    pub(super) fn show(self: &Arc<Self>, digest: &[u8]) -> Result<Showing, Error> {
        let config = self.config(digest).map_err(|problem| Error::new(Fault::Internal, problem))?;
        *self.lock() = Some(Arc::new(config));
        Ok(Showing(Arc::clone(self)))
    }

    /// Reads what a caller says first. Whoever asks for the proof gets it, or an alert, and nothing else.
    ///
    /// # Errors
    /// [`Fault::CallerTls`].
    pub(crate) async fn meet(&self, stream: Stream, deadline: Instant) -> Result<Met, Error> {
        let failed = |problem: String| Error::new(Fault::CallerTls, problem);
        let late = || failed("no handshake in time".to_owned());
        let mut acceptor = pin!(LazyConfigAcceptor::new(Acceptor::default(), stream));
        let begun = match timeout_at(deadline, acceptor.as_mut()).await {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) => {
                if let Some(stream) = acceptor.take_io() {
                    let _ = stream.finish(); // what was said of the failure still goes out
                }
                return Err(failed(error.to_string()));
            }
            Err(_) => return Err(late()),
        };
        let wants = {
            let hello = begun.client_hello();
            let offered: Vec<_> = hello.alpn().into_iter().flatten().collect();
            self.wants(&offered, hello.server_name())
        };
        let config = match wants {
            Wants::Endpoint => return Ok(Met::Caller(Box::new(begun))),
            Wants::Proof => self.lock().clone(),
            Wants::Mixture => None,
        };
        let Some(config) = config else {
            let _ = timeout_at(deadline, refuse(begun.io, NO_APPLICATION_PROTOCOL)).await;
            return Err(failed("asked for acme-tls/1, and no order is open that would need it".to_owned()));
        };
        let shown = async { begun.into_stream(config).await?.shutdown().await };
        match timeout_at(deadline, shown).await {
            Ok(Ok(())) => Ok(Met::Authority),
            Ok(Err(error)) => Err(failed(format!("the proof was not taken: {error}"))),
            Err(_) => Err(late()),
        }
    }

    /// Tells what a caller wants by what it offers and whom it asks for: an authority offers one protocol, and names the name.
    fn wants(&self, offered: &[&[u8]], named: Option<&str>) -> Wants {
        let is_ours = named.is_some_and(|named| named.eq_ignore_ascii_case(&self.name));
        match offered {
            [PROTOCOL] if is_ours => Wants::Proof,
            _ if offered.contains(&PROTOCOL) => Wants::Mixture,
            _ => Wants::Endpoint,
        }
    }

    /// Makes the certificate of RFC 8737 §3: of the name alone, with the digest in a critical extension, signed by itself.
    fn config(&self, digest: &[u8]) -> Result<ServerConfig, String> {
        let told = |error: rcgen::Error| error.to_string();
        let mut params = CertificateParams::new([self.name.clone()]).map_err(told)?;
        params.custom_extensions.push(CustomExtension::new_acme_identifier(digest));
        let key = KeyPair::generate().map_err(told)?;
        let certificate = params.self_signed(&key).map_err(told)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let key = self.provider.key_provider.load_private_key(key.into()).map_err(|error| error.to_string())?;
        // Not compared with its key: the extension that makes it what it is, is critical and unknown to those who compare.
        let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<ServerConfig>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Showing {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

/// Ends a handshake before it has begun.
pub(crate) async fn refuse(mut stream: Stream, alert: u8) {
    // A fatal alert of TLS, before anything is agreed on. A caller that is gone hears nothing.
    let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, alert]).await;
    let _ = stream.finish();
}

/// What an authority offers, and nothing beside it.
const PROTOCOL: &[u8] = b"acme-tls/1";
/// The alert for whoever asks for the proof when there is none.
const NO_APPLICATION_PROTOCOL: u8 = 120;
/// The alert for callers while there is no certificate.
pub(crate) const INTERNAL_ERROR: u8 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    fn proof() -> Arc<Proof> {
        Proof::new("crm.example.com", &Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
    }

    #[test]
    fn the_proof_is_for_who_offers_nothing_else_and_names_the_name() {
        let proof = proof();
        let wants = |offered: &[&[u8]], named| proof.wants(offered, named);

        assert_eq!(wants(&[PROTOCOL], Some("crm.example.com")), Wants::Proof);
        assert_eq!(wants(&[PROTOCOL], Some("CRM.example.com")), Wants::Proof);
        for (offered, named) in [
            (&[PROTOCOL, b"http/1.1"][..], Some("crm.example.com")),
            (&[b"h2", PROTOCOL], Some("crm.example.com")),
            (&[PROTOCOL, PROTOCOL], Some("crm.example.com")),
            (&[PROTOCOL], Some("other.example.com")),
            (&[PROTOCOL], None),
        ] {
            assert_eq!(wants(offered, named), Wants::Mixture, "{offered:?} {named:?}");
        }
        for offered in [&[][..], &[&b"http/1.1"[..]], &[b"acme-tls/2"]] {
            assert_eq!(wants(offered, Some("crm.example.com")), Wants::Endpoint);
        }
    }

    #[test]
    fn it_is_given_while_an_order_is_open_and_speaks_of_nothing_else() {
        let proof = proof();
        assert!(proof.lock().is_none());

        let showing = proof.show(&[7; 32]).unwrap();
        let config = proof.lock().clone().unwrap();
        assert_eq!((config.alpn_protocols.as_slice(), config.send_tls13_tickets), (&[PROTOCOL.to_vec()][..], 0));
        drop(showing);
        assert!(proof.lock().is_none());
    }
}
