//! One order: from a name to a certificate and the key that was made for it here.

use core::time::Duration;
use std::sync::Arc;

use adit_core::{Secret, escape};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use instant_acme::{
    Account, AccountCredentials, AuthorizationHandle, AuthorizationStatus, CertificateIdentifier, ChallengeType,
    ExternalAccountKey, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::{CertificateDer, Der};
use tokio::time::timeout;
use x509_parser::{certificate::X509Certificate, extensions::ParsedExtension, prelude::FromDer as _};

use super::{
    Desk,
    client::Client,
    kept::Folder,
    plan::Blame,
    proof::{Proof, Showing},
};
use crate::{
    config::{AcmeConfig, EAB_VARIABLE, ExternalAccount, ExternalKey},
    errors::{Error, Fault, clip},
};

/// Where one name's certificates are ordered.
pub(super) struct Counter {
    pub(super) config: AcmeConfig,
    pub(super) desk: Arc<Desk>,
    pub(super) proof: Arc<Proof>,
    pub(super) folder: Folder,
}

/// Why an order came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) blame: Blame,
    pub(super) error: Error,
    /// The authority forgot a nonce that it gave: the same again may work at once.
    again: bool,
}

/// When the authority wants a certificate to be renewed (RFC 9773).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// Seconds since 1970; nothing where the authority gives no such advice.
    pub(super) window: Option<(u64, u64)>,
    /// After how many seconds it wants to be asked again.
    pub(super) again: u64,
    /// Where it explains why.
    pub(super) explanation: Option<String>,
}

impl Counter {
    /// Orders a certificate in the place of `old`; returns the chain and its key, PEM.
    ///
    /// # Errors
    /// Why there is none. Nothing is shown to anybody any more.
    pub(super) async fn order(&self, old: Option<&CertificateDer<'_>>) -> Result<(String, Secret), Failure> {
        let client = Client::new(&self.config, &self.desk).map_err(Failure::here)?;
        let mut left = NONCES;
        loop {
            left -= 1;
            let negotiated = timeout(ORDER, self.negotiate(&client, old)).await;
            match negotiated.unwrap_or_else(|_| Err(Failure::of_name("the order took too long"))) {
                Err(failure) if failure.again && left > 0 => {}
                result => return result,
            }
        }
    }

    async fn negotiate(&self, client: &Client, old: Option<&CertificateDer<'_>>) -> Result<(String, Secret), Failure> {
        let failed = |error| Failure::of(error, client);
        let mut order = self.begin(client, old).await?;
        let mut showing = None; // until the order is over
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let authorization = authorization.map_err(failed)?;
            match authorization.status {
                AuthorizationStatus::Valid => {}
                AuthorizationStatus::Pending => showing = Some(self.answer(client, authorization).await?),
                AuthorizationStatus::Invalid
                | AuthorizationStatus::Revoked
                | AuthorizationStatus::Expired
                | AuthorizationStatus::Deactivated => {
                    return Err(Failure::of_name("the authority has an authorization that is not valid"));
                }
            }
        }
        if order.state().status != OrderStatus::Ready {
            match order.poll_ready(&POLLS).await {
                Ok(OrderStatus::Ready | OrderStatus::Valid | OrderStatus::Processing) => {}
                Ok(OrderStatus::Pending | OrderStatus::Invalid) | Err(instant_acme::Error::Api(_)) => {
                    return Err(why_invalid(&mut order, client).await);
                }
                Err(error) => return Err(failed(error)),
            }
        }
        drop(showing);
        let (request, key) = self.request()?;
        order.finalize_csr(&request).await.map_err(failed)?;
        let chain = match order.state().status {
            OrderStatus::Valid => order.certificate().await.map_err(failed)?,
            OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Invalid => None,
        };
        match chain {
            Some(chain) => Ok((chain, key)),
            None => Ok((order.poll_certificate(&POLLS).await.map_err(failed)?, key)),
        }
    }

    /// Asks for an order. An authority that gives advice about renewals is told which certificate the new one replaces.
    async fn begin(&self, client: &Client, old: Option<&CertificateDer<'_>>) -> Result<Order, Failure> {
        let account = self.account(client).await?;
        let identifiers = [Identifier::Dns(self.config.name.clone())];
        if let Some(replaced) = old.and_then(identifier) {
            match account.new_order(&NewOrder::new(&identifiers).replaces(replaced)).await {
                Ok(order) => return Ok(order),
                Err(instant_acme::Error::Unsupported(_)) => {}
                // Another order has it, or the authority does not know it: the certificate is wanted all the same.
                Err(error) if is_problem(&error, "alreadyReplaced") || is_problem(&error, "malformed") => {
                    tracing::info!(name = self.config.name, "the authority does not take the order for a renewal");
                }
                Err(error) => return Err(self.refused(error, client)),
            }
        }
        let order = account.new_order(&NewOrder::new(&identifiers)).await;
        order.map_err(|error| self.refused(error, client))
    }

    /// Answers the one challenge that is answered by whoever ends TLS of the name.
    async fn answer(&self, client: &Client, mut authorization: AuthorizationHandle<'_>) -> Result<Showing, Failure> {
        let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
            return Err(Failure::of_name("the authority does not offer tls-alpn-01"));
        };
        let digest = challenge.key_authorization().digest();
        let showing = self.proof.show(digest.as_ref()).map_err(Failure::here)?;
        challenge.set_ready().await.map_err(|error| Failure::of(error, client))?;
        Ok(showing)
    }

    /// Makes a key and the request for its certificate. Of the key nothing else leaves this function but to the file.
    fn request(&self) -> Result<(Vec<u8>, Secret), Failure> {
        let make = || {
            let mut params = CertificateParams::new([self.config.name.clone()])?;
            params.distinguished_name = DistinguishedName::new();
            let key = KeyPair::generate()?;
            let request = params.serialize_request(&key)?;
            Ok((request.der().to_vec(), Secret::new(key.serialize_pem())))
        };
        make().map_err(|error: rcgen::Error| Failure::here(Error::new(Fault::Internal, error.to_string())))
    }

    /// Returns the account at the authority: the one that is kept, or a new one.
    async fn account(&self, client: &Client) -> Result<Account, Failure> {
        let builder = Account::builder_with_http(Box::new(client.clone()));
        if let Some(kept) = self.folder.account().map_err(Failure::here)? {
            let unusable = |error: serde_json::Error| {
                Failure::here(Error::new(Fault::CertificateUnusable, format!("the account that is kept: {error}")))
            };
            let credentials: AccountCredentials = serde_json::from_slice(kept.expose()).map_err(unusable)?;
            return builder.from_credentials(credentials).await.map_err(|error| Failure::of(error, client));
        }
        let external = self.config.external.as_ref().map(bound_to).transpose().map_err(Failure::here)?;
        let contact: Vec<_> = self.config.contact.iter().map(String::as_str).collect();
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let created = builder.create(&new, self.config.directory.clone(), external.as_ref()).await;
        let (account, credentials) = created.map_err(|error| Failure::of(error, client))?;
        let plain = Secret::new(serde_json::to_vec(&credentials).unwrap_or_default());
        self.folder.put_account(plain.expose()).map_err(Failure::here)?;
        tracing::info!(
            directory = self.config.directory,
            account = account.id(),
            "an account at the authority was made"
        );
        Ok(account)
    }

    /// Takes that an order was refused. An account that the authority does not know any more is given up.
    fn refused(&self, error: instant_acme::Error, client: &Client) -> Failure {
        if is_problem(&error, "accountDoesNotExist") {
            let directory = &self.config.directory;
            tracing::warn!(directory, "the authority does not know the account: the next order makes a new one");
            self.folder.drop_account();
        }
        Failure::of(error, client)
    }

    /// Asks the authority when its certificate should be renewed.
    ///
    /// # Errors
    /// It cannot be asked, or what it says makes no sense.
    pub(super) async fn advice(&self, certificate: &CertificateDer<'_>) -> Result<Advice, Failure> {
        let none = Advice { window: None, again: LATEST, explanation: None };
        let Some(id) = identifier(certificate) else { return Ok(none) };
        if self.folder.account().map_err(Failure::here)?.is_none() {
            return Ok(none); // whoever issued it, it was not to this agent
        }
        let client = Client::new(&self.config, &self.desk).map_err(Failure::here)?;
        let account = self.account(&client).await?;
        match account.renewal_info(&id).await {
            Ok((info, again)) => {
                let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
                let window = info.suggested_window;
                let window = (seconds(window.start.unix_timestamp()), seconds(window.end.unix_timestamp()));
                if window.1 <= window.0 {
                    return Err(Failure::of_name("the window for a renewal ends before it begins"));
                }
                let explanation = info.explanation_url.map(|url| clip(&escape(&url).to_string()));
                Ok(Advice { window: Some(window), again: again.as_secs().clamp(SOONEST, LATEST), explanation })
            }
            Err(instant_acme::Error::Unsupported(_)) => Ok(none),
            Err(error) => Err(Failure::of(error, &client)),
        }
    }
}

impl Failure {
    /// This machine is to blame.
    pub(super) const fn here(error: Error) -> Self {
        Self { blame: Blame::Way, error, again: false }
    }

    fn of_name(text: &str) -> Self {
        Self { blame: Blame::Name, error: Error::new(Fault::OrderRefused, text.to_owned()), again: false }
    }

    #[expect(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
    #[expect(clippy::wildcard_enum_match_arm, reason = "the errors of a crate that may get more")]
    fn of(error: instant_acme::Error, client: &Client) -> Self {
        let told = client.told();
        let again = is_problem(&error, "badNonce");
        if let Some(error) = told.failed {
            return Self { blame: Blame::Way, error, again };
        }
        let asked = told.asked.map(|asked| asked.as_secs());
        let (fault, blame) = match &error {
            instant_acme::Error::Api(problem) if problem.status == Some(429) => {
                (Fault::OrderLimited, Blame::Limit(asked))
            }
            _ if asked.is_some() || is_problem(&error, "rateLimited") => (Fault::OrderLimited, Blame::Limit(asked)),
            instant_acme::Error::Api(problem) if problem.status.is_some_and(|status| status >= 500) => {
                (Fault::DirectoryUnreachable, Blame::Way)
            }
            instant_acme::Error::Api(_)
            | instant_acme::Error::Timeout(_)
            | instant_acme::Error::Str(_)
            | instant_acme::Error::Unsupported(_) => (Fault::OrderRefused, Blame::Name),
            _ => (Fault::DirectoryUnreachable, Blame::Way),
        };
        Self { blame, error: Error::new(fault, clip(&escape(&error.to_string()).to_string())), again }
    }
}

/// Asks each authorization why the order is invalid.
async fn why_invalid(order: &mut Order, client: &Client) -> Failure {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        let problem = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            return Failure::of_name(&clip(&escape(&problem.to_string()).to_string()));
        }
    }
    match order.state().error.clone() {
        Some(problem) => Failure::of(problem.into(), client),
        None => Failure::of_name("the order is invalid"),
    }
}

/// Returns how authorities call a certificate: by its issuer's key and its serial number (RFC 9773 §4.1).
fn identifier(certificate: &CertificateDer<'_>) -> Option<CertificateIdentifier<'static>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let issuer = parsed.iter_extensions().find_map(|extension| {
        let ParsedExtension::AuthorityKeyIdentifier(id) = extension.parsed_extension() else { return None };
        id.key_identifier.as_ref().map(|id| id.0.to_vec())
    })?;
    Some(CertificateIdentifier::new(Der::from_slice(&issuer), Der::from_slice(parsed.raw_serial())).into_owned())
}

fn is_problem(error: &instant_acme::Error, kind: &str) -> bool {
    let instant_acme::Error::Api(problem) = error else { return false };
    problem.r#type.as_deref().and_then(|text| text.strip_prefix("urn:ietf:params:acme:error:")) == Some(kind)
}

/// Reads the key of an external account: base64url, with or without padding.
///
/// # Errors
/// [`Fault::CertificateUnusable`]; the key is not told.
pub(super) fn bound_to(external: &ExternalAccount) -> Result<ExternalAccountKey, Error> {
    let (place, text) = match &external.key {
        ExternalKey::File(file) => {
            let unusable = |problem| Error::new(Fault::CertificateUnusable, format!("{}: {problem}", file.display()));
            (file.display().to_string(), file.read_private(MAX_KEY).map_err(unusable)?)
        }
        ExternalKey::Given(text) => (EAB_VARIABLE.to_owned(), text.clone()),
    };
    let trimmed = text.expose().trim_ascii();
    let end = trimmed.iter().rposition(|octet| *octet != b'=').map_or(0, |at| at + 1);
    let octets = BASE64_URL_SAFE_NO_PAD.decode(trimmed.get(..end).unwrap_or_default());
    let octets = octets.ok().filter(|octets| octets.len() >= MIN_KEY).map(Secret::new);
    let octets = octets.ok_or_else(|| {
        Error::new(Fault::CertificateUnusable, format!("{place}: it holds no key of an account in base64url"))
    })?;
    Ok(ExternalAccountKey::new(external.key_id.clone(), octets.expose()))
}

/// How often an order is begun anew because the authority forgot a nonce.
const NONCES: u32 = 4;
/// An order takes at most so long.
const ORDER: Duration = Duration::from_secs(300);
const POLLS: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(100)).backoff(1.5).timeout(Duration::from_secs(120));
/// The authority is not asked for advice more often than this, whatever it says (RFC 9773 §4.3.2),
const SOONEST: u64 = 60;
/// nor more seldom.
const LATEST: u64 = 86_400;
const MIN_KEY: usize = 16;
/// A file with the key of an account is not longer, in octets.
const MAX_KEY: u64 = 4 << 10;

#[cfg(test)]
mod tests {
    use instant_acme::Problem;
    use rcgen::{BasicConstraints, IsCa, Issuer, KeyIdMethod};

    use super::*;
    use crate::acme::tests::{config, desk};

    fn client() -> Client {
        let folder = crate::testing::folder(&format!("acme-client-{:?}", std::thread::current().id()));
        let ca = folder.join("ca.pem");
        std::fs::write(&ca, crate::testing::root_pem()).unwrap();
        Client::new(&AcmeConfig { ca: Some(ca.into()), ..config(folder, "") }, &desk()).unwrap()
    }

    #[test]
    fn who_is_to_blame_follows_from_what_the_authority_says() {
        let client = client();
        let problem = |kind: &str, status: u16| {
            let text = format!("{{\"type\": \"urn:ietf:params:acme:error:{kind}\", \"status\": {status}}}");
            let failure = Failure::of(serde_json::from_str::<Problem>(&text).unwrap().into(), &client);
            (failure.blame, failure.error.fault)
        };

        for (kind, status) in [("rateLimited", 429), ("rateLimited", 403), ("other", 429)] {
            assert_eq!(problem(kind, status), (Blame::Limit(None), Fault::OrderLimited));
        }
        assert_eq!(problem("serverInternal", 500), (Blame::Way, Fault::DirectoryUnreachable));
        for kind in ["rejectedIdentifier", "unauthorized", "dns", "caa", "malformed", "orderNotReady"] {
            assert_eq!(problem(kind, 403), (Blame::Name, Fault::OrderRefused), "{kind}");
        }
        let away = Failure::of(instant_acme::Error::Other("connection refused".into()), &client);
        assert_eq!(away.blame, Blame::Way);
    }

    #[test]
    fn roots_that_cannot_be_read_never_become_those_of_this_machine() {
        let folder = crate::testing::folder("acme-roots");
        let ca = folder.join("ca.pem");
        let with =
            || Client::new(&AcmeConfig { ca: Some(ca.clone().into()), ..config(folder.clone(), "") }, &desk()).err();

        assert_eq!(with().map(|error| error.fault), Some(Fault::RootsUnusable), "V30: missing");
        for text in ["", "not a certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&ca, text).unwrap();
            assert_eq!(with().map(|error| error.fault), Some(Fault::RootsUnusable), "V30: {text:?}");
        }
    }

    #[test]
    fn the_key_of_an_external_account_is_base64url_and_is_never_told() {
        let read = |text: &str| {
            let key = ExternalKey::Given(Secret::new(text.as_bytes()));
            bound_to(&ExternalAccount { key_id: "kid".to_owned(), key }).map(drop)
        };

        assert!(read("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n").is_ok());
        assert!(read("AAAAAAAAAAAAAAAAAAAAAA==").is_ok());
        for wrong in ["", "====", "AAAA", "s3cret and not base64", "a+/a+/a+/a+/a+/a+/a+/a+/"] {
            let error = read(wrong).unwrap_err();
            assert!(wrong.is_empty() || !error.to_string().contains(wrong), "{error}");
        }
    }

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
