//! What is answered while an order is open, and not a moment longer.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::{collections::HashMap, path::PathBuf, sync::Arc};

use parking_lot::RwLock;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{crypto::CryptoProvider, pki_types::PrivatePkcs8KeyDer, sign::CertifiedKey};

use super::super::CertificateError;
use crate::EndpointName;

/// The answers of the orders that are open.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    /// How many there are: the common case is none, and costs one load.
    open: AtomicUsize,
    answers: RwLock<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    /// By token; a token is for one name.
    http: HashMap<String, (EndpointName, String)>,
    tls: HashMap<EndpointName, Arc<CertifiedKey>>,
}

/// An answer is given until this is dropped.
#[derive(Debug)]
pub(super) struct Answering {
    challenges: Arc<Challenges>,
    what: What,
}

#[derive(Debug)]
enum What {
    Http(String),
    Tls(EndpointName),
}

impl Challenges {
    /// Answers for a token (HTTP-01) from here on.
    pub(super) fn answer_http(self: &Arc<Self>, name: EndpointName, token: &str, text: &str) -> Answering {
        self.answers.write().http.insert(token.to_owned(), (name, text.to_owned()));
        self.opened(What::Http(token.to_owned()))
    }

    /// Shows a certificate with this digest (TLS-ALPN-01) from here on.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn answer_tls(
        self: &Arc<Self>,
        name: EndpointName,
        digest: &[u8],
    ) -> Result<Answering, CertificateError> {
        let certified = certificate(&name, digest)?;
        self.answers.write().tls.insert(name.clone(), certified);
        Ok(self.opened(What::Tls(name)))
    }

    fn opened(self: &Arc<Self>, what: What) -> Answering {
        self.open.fetch_add(1, Ordering::Release);
        Answering { challenges: Arc::clone(self), what }
    }

    /// Returns the answer to a request for a path of a name, if an order waits for it.
    pub(crate) fn http(&self, name: &EndpointName, path: &str) -> Option<String> {
        if self.open.load(Ordering::Acquire) == 0 {
            return None;
        }
        let token = path.strip_prefix("/.well-known/acme-challenge/")?;
        let answers = self.answers.read();
        answers.http.get(token).filter(|(of, _)| of == name).map(|(_, text)| text.clone())
    }

    /// Returns the certificate for a CA that asks for a name, if an order waits for it.
    pub(crate) fn tls(&self, name: &EndpointName) -> Option<Arc<CertifiedKey>> {
        if self.open.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.answers.read().tls.get(name).map(Arc::clone)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut answers = self.challenges.answers.write();
        match &self.what {
            What::Http(token) => drop(answers.http.remove(token)),
            What::Tls(name) => drop(answers.tls.remove(name)),
        }
        drop(answers);
        self.challenges.open.fetch_sub(1, Ordering::Release);
    }
}

/// Makes the certificate of RFC 8737 §3: of the name alone, with the digest in a critical extension, signed by itself.
fn certificate(name: &EndpointName, digest: &[u8]) -> Result<Arc<CertifiedKey>, CertificateError> {
    let mut params = CertificateParams::new([name.to_string()]).map_err(CertificateError::Issue)?;
    params.custom_extensions.push(CustomExtension::new_acme_identifier(digest));
    let key = KeyPair::generate().map_err(CertificateError::Issue)?;
    let certificate = params.self_signed(&key).map_err(CertificateError::Issue)?;
    let provider = CryptoProvider::get_default().ok_or(CertificateError::NoProvider)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let invalid = |error: rustls::Error| CertificateError::Invalid {
        path: PathBuf::from("challenge"),
        problem: error.to_string(),
    };
    let key = provider.key_provider.load_private_key(key.into()).map_err(invalid)?;
    // Not compared with its key: the extension that makes it what it is, is critical and unknown to those who compare.
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_for_its_name_and_token_and_only_while_the_order_is_open() {
        let challenges = Arc::new(Challenges::default());
        let [crm, other] = ["crm.example.com", "other.example.com"].map(|name| EndpointName::parse(name).unwrap());
        let path = "/.well-known/acme-challenge/token";

        assert_eq!(challenges.http(&crm, path), None);
        let answering = challenges.answer_http(crm.clone(), "token", "token.thumb");
        assert_eq!(challenges.http(&crm, path).as_deref(), Some("token.thumb"));
        assert_eq!(challenges.http(&other, path), None);
        for path in ["/.well-known/acme-challenge/", "/.well-known/acme-challenge/token/", "/token", "/"] {
            assert_eq!(challenges.http(&crm, path), None, "{path}");
        }
        drop(answering);
        assert_eq!(challenges.http(&crm, path), None);
    }

    #[test]
    fn the_certificate_of_a_challenge_is_shown_for_its_name_while_the_order_is_open() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let challenges = Arc::new(Challenges::default());
        let [crm, other] = ["crm.example.com", "other.example.com"].map(|name| EndpointName::parse(name).unwrap());

        let answering = challenges.answer_tls(crm.clone(), &[7; 32]).unwrap();
        assert!(challenges.tls(&crm).is_some() && challenges.tls(&other).is_none());
        drop(answering);
        assert!(challenges.tls(&crm).is_none());
    }
}
