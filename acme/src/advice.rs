//! When the authority wants a certificate to be renewed (RFC 9773): it knows of revocations and of its load, and we do not.

use adit_core::escape;
use instant_acme::{Account, CertificateIdentifier, Error};
use rustls::pki_types::{CertificateDer, Der};
use x509_parser::{certificate::X509Certificate, extensions::ParsedExtension, prelude::FromDer as _};

/// What the authority says about one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// From when to when it should be renewed: seconds since 1970; nothing where the authority gives no such advice.
    pub window: Option<(u64, u64)>,
    /// After how many seconds it wants to be asked again.
    pub again: u64,
    /// Where it explains why, escaped.
    pub explanation: Option<String>,
}

impl Advice {
    /// What an authority says that gives no advice.
    pub const NONE: Self = Self { window: None, again: LATEST, explanation: None };
}

/// Asks the authority when the certificate that it calls so should be renewed.
///
/// # Errors
/// It cannot be asked, or what it says makes no sense.
pub async fn advice(account: &Account, id: &CertificateIdentifier<'_>) -> Result<Advice, Error> {
    match account.renewal_info(id).await {
        Ok((info, again)) => {
            let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
            let window = info.suggested_window;
            let window = (seconds(window.start.unix_timestamp()), seconds(window.end.unix_timestamp()));
            if window.1 <= window.0 {
                return Err(Error::Str("the window for a renewal ends before it begins"));
            }
            let explanation = info.explanation_url.map(|url| escape(&url).to_string());
            Ok(Advice { window: Some(window), again: again.as_secs().clamp(SOONEST, LATEST), explanation })
        }
        Err(Error::Unsupported(_)) => Ok(Advice::NONE),
        Err(error) => Err(error),
    }
}

/// Returns how authorities call a certificate: by its issuer's key and its serial number (RFC 9773 §4.1).
pub fn identifier(certificate: &CertificateDer<'_>) -> Option<CertificateIdentifier<'static>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let issuer = parsed.iter_extensions().find_map(|extension| {
        let ParsedExtension::AuthorityKeyIdentifier(id) = extension.parsed_extension() else { return None };
        id.key_identifier.as_ref().map(|id| id.0.to_vec())
    })?;
    Some(CertificateIdentifier::new(Der::from_slice(&issuer), Der::from_slice(parsed.raw_serial())).into_owned())
}

/// The authority is not asked more often than this, whatever it says (RFC 9773 §4.3.2),
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
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let id = "69885b6b87464041e1b37b847ba0ae2cde01c8d4";
        let id = (0..20).map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap()).collect();
        ca.key_identifier_method = KeyIdMethod::PreSpecified(id);
        let issuer = Issuer::new(ca, KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(vec![0x87, 0x65, 0x43, 0x21].into());
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();

        assert_eq!(identifier(certificate.der()).unwrap().to_string(), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
        let bare = CertificateParams::new(["a.example".to_owned()]).unwrap();
        assert_eq!(identifier(bare.self_signed(&KeyPair::generate().unwrap()).unwrap().der()), None);
    }
}
