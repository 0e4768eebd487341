//! Who a caller is by its certificate.

use adit_tls::Described;
use rustls::{crypto::CryptoProvider, pki_types::CertificateDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::trust::sha256;

/// A certificate that a caller has shown and whose key it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Whether one of the endpoint's authorities vouches for it.
    pub(crate) verified: bool,
    /// The common name of its subject; may be empty.
    pub(crate) common_name: String,
    pub(crate) certificate: CertificateDer<'static>,
    /// The fingerprint in hexadecimal; empty where the provider knows no SHA-256.
    pub(crate) sha256: String,
}

impl Identity {
    /// Reads a certificate; nothing when it is not well formed, or larger than what we tell about.
    pub(crate) fn read(der: &CertificateDer<'_>, verified: bool, provider: &CryptoProvider) -> Option<Self> {
        let common_name = common_name(der)?;
        let sha256 = sha256(der, provider).unwrap_or_default().replace(':', "").to_lowercase();
        Some(Self { verified, common_name, certificate: der.clone().into_owned(), sha256 })
    }

    /// Returns whether a certificate is one that can be told of.
    pub(crate) fn is_readable(der: &CertificateDer<'_>) -> bool {
        common_name(der).is_some() && Described::read(der).is_some()
    }

    /// Returns what upstreams are told in header fields.
    pub(crate) fn fields(&self) -> Vec<(&'static str, String)> {
        let described = Described::read(&self.certificate);
        described.map(|it| it.fields(&self.certificate, &self.sha256, self.verified)).unwrap_or_default()
    }
}

/// Returns the common name of a certificate's subject; nothing when it is no certificate that we tell about.
fn common_name(der: &CertificateDer<'_>) -> Option<String> {
    if der.len() > MAX_CERTIFICATE {
        return None;
    }
    let ([], parsed) = X509Certificate::from_der(der).ok()? else { return None };
    let mut names = parsed.subject().iter_common_name();
    let name = names.next().map_or(Some(""), |name| name.as_str().ok())?;
    // Of two names somebody would read the other.
    let fine = names.next().is_none() && name.len() <= MAX_NAME && !name.chars().any(char::is_control);
    fine.then(|| name.to_owned())
}

/// The largest certificate of a caller, in octets.
const MAX_CERTIFICATE: usize = 8 << 10;
/// The longest common name, in octets.
const MAX_NAME: usize = 256;
