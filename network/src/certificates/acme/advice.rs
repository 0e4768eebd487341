//! When the CA wants a certificate to be renewed (RFC 9773): it knows of revocations and of its load, and we do not.

use core::cell::Cell;

use instant_acme::{CertificateIdentifier, Error};
use rustls::pki_types::{CertificateDer, Der};
use x509_parser::{certificate::X509Certificate, extensions::ParsedExtension, prelude::FromDer as _};

use super::{
    client::ASKED,
    order::{Desk, Failure},
};

/// What the CA says about one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// From when to when it should be renewed: seconds since 1970; nothing where the CA gives no such advice.
    pub(super) window: Option<(u64, u64)>,
    /// After how many seconds it wants to be asked again.
    pub(super) again: u64,
    /// Where it explains why.
    pub(super) explanation: Option<String>,
}

impl Desk {
    /// Asks the CA when a certificate of its own should be renewed.
    ///
    /// # Errors
    /// The CA cannot be asked, or what it says makes no sense.
    pub(super) async fn advice(&self, certificate: &CertificateDer<'_>) -> Result<Advice, Failure> {
        let none = Advice { window: None, again: LATEST, explanation: None };
        let Some(id) = identifier(certificate) else { return Ok(none) };
        let asked = async {
            let account = self.account().await?;
            match account.renewal_info(&id).await {
                Ok((info, again)) => {
                    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
                    let window = info.suggested_window;
                    let window = (seconds(window.start.unix_timestamp()), seconds(window.end.unix_timestamp()));
                    if window.1 <= window.0 {
                        return Err(Failure::of(Error::Str("the window for a renewal ends before it begins")));
                    }
                    let explanation = info.explanation_url.map(|url| adit_core::escape(&url).to_string());
                    let again = again.as_secs().clamp(SOONEST, LATEST);
                    Ok(Advice { window: Some(window), again, explanation })
                }
                Err(Error::Unsupported(_)) => Ok(none),
                Err(error) => Err(Failure::of(error)),
            }
        };
        ASKED.scope(Cell::new(None), asked).await
    }
}

/// Returns how the CA calls a certificate: by its issuer's key and its serial number.
pub(super) fn identifier(certificate: &CertificateDer<'_>) -> Option<CertificateIdentifier<'static>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let issuer = parsed.iter_extensions().find_map(|extension| {
        let ParsedExtension::AuthorityKeyIdentifier(id) = extension.parsed_extension() else { return None };
        id.key_identifier.as_ref().map(|id| id.0.to_vec())
    })?;
    Some(CertificateIdentifier::new(Der::from_slice(&issuer), Der::from_slice(parsed.raw_serial())).into_owned())
}

/// The CA is not asked more often than this, whatever it says (RFC 9773 §4.3.2),
const SOONEST: u64 = 60;
/// nor more seldom.
const LATEST: u64 = 86_400;

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyIdMethod, KeyPair};

    use super::*;

    /// The example of RFC 9773 §4.1.
    #[test]
    fn a_certificate_is_called_by_its_issuers_key_and_its_serial_number() {
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_identifier_method = KeyIdMethod::PreSpecified(
            [
                0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3, 0x7b, 0x84, 0x7b, 0xa0, 0xae, 0x2c, 0xde,
                0x01, 0xc8, 0xd4,
            ]
            .to_vec(),
        );
        let issuer = Issuer::new(ca, key);
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(vec![0x87, 0x65, 0x43, 0x21].into());
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();

        let id = identifier(certificate.der()).unwrap();

        assert_eq!(id.to_string(), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
        let bare = CertificateParams::new(["a.example".to_owned()]).unwrap();
        assert_eq!(identifier(bare.self_signed(&KeyPair::generate().unwrap()).unwrap().der()), None);
    }
}
