//! The keys that the agent is bound to: a chain that is trusted and has none of them is somebody else's network.

use std::sync::Arc;

use adit_tls::KeyPrint;
use rustls::{
    CertificateError, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
};

use super::revocation::{Chain, Refused};
use crate::errors::{Error, Fault, clip};

/// The keys of `agent.network_key`.
#[derive(Debug)]
pub(super) struct Pins {
    keys: Vec<KeyPrint>,
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Pins {
    pub(super) const fn new(
        keys: Vec<KeyPrint>,
        trusted: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self { keys, trusted, provider }
    }

    /// Judges a chain that is trusted: its certificate has one of the keys, or an authority with one of them issued it, directly or through
    /// others.
    ///
    /// # Errors
    /// It is none of the keys. What was seen is told.
    pub(super) fn check(&self, chain: &Chain, now: UnixTime) -> Result<(), Refused> {
        if self.keys.is_empty() || self.is_bound(&chain.leaf) {
            return Ok(());
        }
        // Who only shows a certificate with such a key has not signed with it: the whole path is verified from there.
        let mut anchors = RootCertStore::empty();
        let shown = chain.intermediates.iter().chain(&self.trusted).filter(|der| self.is_bound(der));
        anchors.add_parsable_certificates(shown.cloned());
        if !anchors.is_empty() && self.leads_to(anchors, chain, now) {
            return Ok(());
        }
        let told = Error::new(Fault::OtherNetwork, clip(&self.seen(chain)));
        Err(Refused { error: CertificateError::ApplicationVerificationFailure.into(), told, is_pending: false })
    }

    fn is_bound(&self, certificate: &CertificateDer<'_>) -> bool {
        KeyPrint::of(certificate, &self.provider).is_some_and(|key| self.keys.contains(&key))
    }

    fn leads_to(&self, anchors: RootCertStore, chain: &Chain, now: UnixTime) -> bool {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(&self.provider));
        let verify = |verifier: Arc<WebPkiServerVerifier>| {
            verifier.verify_server_cert(&chain.leaf, &chain.intermediates, &chain.name, &[], now).is_ok()
        };
        builder.build().is_ok_and(verify)
    }

    /// Tells the keys that are to be seen: of the certificate, and of who issued it.
    fn seen(&self, chain: &Chain) -> String {
        let print = |der: &CertificateDer<'_>| {
            KeyPrint::of(der, &self.provider).map_or_else(|| "unknown".to_owned(), |key| key.to_string())
        };
        let is_issuer = |der: &&CertificateDer<'static>| {
            adit_tls::is_issued(&chain.leaf, core::slice::from_ref(*der), &self.provider)
        };
        let issuer = chain.intermediates.iter().chain(&self.trusted).find(is_issuer);
        let (own, wanted) = (print(&chain.leaf), self.keys.iter().map(ToString::to_string).collect::<Vec<_>>());
        let issuer = issuer.map_or_else(String::new, |der| format!(", that of its issuer {}", print(der)));
        format!("its key is {own}{issuer}; bound to {}", wanted.join(", "))
    }
}
