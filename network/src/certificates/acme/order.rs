//! One order: from a name to a certificate that is kept.

use core::{cell::Cell, time::Duration};
use std::sync::Arc;

use adit_core::Secret;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use instant_acme::{
    Account, AccountCredentials, AuthorizationHandle, AuthorizationStatus, ChallengeType, Error, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::{sync::Mutex, time::timeout};
use tracing::{info, warn};

use super::{
    super::{CertificateError, Kept, Nearness, Pair, read_secret, unix_now},
    advice::identifier,
    challenges::{Answering, Challenges},
    client::{ASKED, Client},
    hook::{self, Deed},
    plan::Blame,
};
use crate::{
    EndpointName, NamePattern,
    config::{Acme, Challenge, EabKey},
    store::{Kind, Store, Vault},
};

/// Where orders are made.
pub(super) struct Desk {
    settings: Acme,
    /// The challenges that can be answered here, the first to be tried first.
    challenges: Vec<Challenge>,
    client: Client,
    /// The HMAC key of the external account.
    external: Option<Secret>,
    account: Mutex<Option<Account>>,
    answers: Arc<Challenges>,
    pub(super) store: Arc<Store>,
    pub(super) vault: Arc<Vault>,
}

/// Why an order came to nothing.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) blame: Blame,
    pub(super) text: String,
    /// The CA forgot a nonce that it gave: the same again may work at once.
    again: bool,
}

/// What was put in place for an order, until it is over.
#[derive(Default)]
struct Placed {
    answers: Vec<Answering>,
    records: Vec<(String, String)>,
}

impl Desk {
    /// Opens a desk.
    ///
    /// # Errors
    /// When the roots or the key of the external account cannot be read.
    pub(super) fn new(
        settings: Acme,
        challenges: Vec<Challenge>,
        answers: Arc<Challenges>,
        store: Arc<Store>,
        vault: Arc<Vault>,
    ) -> Result<Self, CertificateError> {
        let client = Client::new(settings.ca.as_deref())?;
        let external = settings.eab.as_ref().map(|eab| hmac_key(&eab.key)).transpose()?;
        Ok(Self { settings, challenges, client, external, account: Mutex::default(), answers, store, vault })
    }

    /// Orders a certificate for a name and returns it; `attempt` counts what failed before, and chooses the challenge.
    ///
    /// # Errors
    /// Why there is none. Whatever was put in place for it is taken away again.
    pub(super) async fn order(&self, name: &NamePattern, attempt: u32, old: Option<&Pair>) -> Result<Kept, Failure> {
        let mut left = NONCES;
        loop {
            left -= 1;
            match ASKED.scope(Cell::new(None), self.order_once(name, attempt, old)).await {
                Err(failure) if failure.again && left > 0 => {}
                result => return result,
            }
        }
    }

    async fn order_once(&self, name: &NamePattern, attempt: u32, old: Option<&Pair>) -> Result<Kept, Failure> {
        let mut placed = Placed::default();
        let negotiation = self.negotiate(name, attempt, old, &mut placed);
        let ordered = timeout(ORDER + self.settings.dns_hook_timeout, negotiation).await;
        for (record, value) in &placed.records {
            let most = self.settings.dns_hook_timeout;
            if let Err(error) = hook::run(&self.settings.dns_hook, Deed::Cleanup, (record, value), most).await {
                warn!(%name, error, "a record of a challenge stays in the DNS");
            }
        }
        let (chain, key) = ordered.map_err(|_| Failure::of_name("the order took too long".to_owned()))??;
        let unusable = |error: CertificateError| Failure::of_name(format!("the CA's certificate: {error}"));
        let kept = Kept::new(Some(&name.to_string()), core::slice::from_ref(name), &chain, &key).map_err(unusable)?;
        if kept.pair.validity.nearness(unix_now()) == Nearness::Over {
            return Err(Failure::of_name("the CA's certificate has expired already".to_owned()));
        }
        Ok(kept)
    }

    async fn negotiate(
        &self,
        name: &NamePattern,
        attempt: u32,
        old: Option<&Pair>,
        placed: &mut Placed,
    ) -> Result<(String, Secret), Failure> {
        let mut order = match self.begin(name, old).await? {
            Ok(order) => order,
            Err(error) => return Err(self.refused(error).await),
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let authorization = authorization.map_err(Failure::of)?;
            match authorization.status {
                AuthorizationStatus::Valid => {}
                AuthorizationStatus::Pending => self.answer(name, attempt, authorization, placed).await?,
                AuthorizationStatus::Invalid
                | AuthorizationStatus::Revoked
                | AuthorizationStatus::Expired
                | AuthorizationStatus::Deactivated => {
                    return Err(Failure::of_name("the CA has an authorization that is not valid".to_owned()));
                }
            }
        }
        if order.state().status != OrderStatus::Ready {
            match order.poll_ready(&POLLS).await {
                Ok(OrderStatus::Ready | OrderStatus::Valid | OrderStatus::Processing) => {}
                Ok(OrderStatus::Pending | OrderStatus::Invalid) | Err(Error::Api(_)) => {
                    return Err(why_invalid(&mut order).await);
                }
                Err(error) => return Err(Failure::of(error)),
            }
        }
        let (request, key) = request(name)?;
        order.finalize_csr(&request).await.map_err(Failure::of)?;
        let chain = match order.state().status {
            OrderStatus::Valid => order.certificate().await.map_err(Failure::of)?,
            OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Invalid => None,
        };
        match chain {
            Some(chain) => Ok((chain, key)),
            None => Ok((order.poll_certificate(&POLLS).await.map_err(Failure::of)?, key)),
        }
    }

    /// Asks for an order. A CA that gives advice about renewals is told which certificate the new one replaces (RFC 9773 §5).
    async fn begin(&self, name: &NamePattern, old: Option<&Pair>) -> Result<Result<Order, Error>, Failure> {
        let account = self.account().await?;
        let identifiers = [Identifier::Dns(name.to_string())];
        if let Some(replaced) = old.and_then(|old| identifier(old.certified.cert.first()?)) {
            match account.new_order(&NewOrder::new(&identifiers).replaces(replaced)).await {
                Ok(order) => return Ok(Ok(order)),
                Err(Error::Unsupported(_)) => {}
                // Another order has it, or the CA does not know it: the certificate is wanted all the same.
                Err(error) if is_problem(&error, "alreadyReplaced") || is_problem(&error, "malformed") => {
                    info!(%name, %error, "the CA does not take the order for a renewal");
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(account.new_order(&NewOrder::new(&identifiers)).await)
    }

    /// Answers one challenge of an authorization.
    async fn answer(
        &self,
        name: &NamePattern,
        attempt: u32,
        mut authorization: AuthorizationHandle<'_>,
        placed: &mut Placed,
    ) -> Result<(), Failure> {
        let (NamePattern::Exact(base) | NamePattern::Below(base)) = name;
        let kinds = match name {
            NamePattern::Exact(_) => self.challenges.as_slice(),
            NamePattern::Below(_) => &[Challenge::Dns], // no other challenge is for a wildcard
        };
        let first = usize::try_from(attempt).unwrap_or_default() % kinds.len().max(1);
        let in_turn = kinds.iter().cycle().skip(first).take(kinds.len());
        let offered = |kind: &Challenge| authorization.challenges.iter().any(|one| one.r#type == protocol(*kind));
        let Some(kind) = in_turn.copied().find(offered) else {
            return Err(Failure::of_name("the CA offers no challenge that can be answered here".to_owned()));
        };
        let Some(mut challenge) = authorization.challenge(protocol(kind)) else {
            return Err(Failure::of_name("the CA offers no challenge".to_owned()));
        };
        let text = challenge.key_authorization();
        match kind {
            Challenge::Http => {
                placed.answers.push(self.answers.answer_http(base.clone(), &challenge.token, text.as_str()));
            }
            Challenge::Tls => {
                let answer = self.answers.answer_tls(base.clone(), text.digest().as_ref());
                placed.answers.push(answer.map_err(|error| Failure::of_name(error.to_string()))?);
            }
            Challenge::Dns => self.present(base, text.dns_value(), placed).await?,
        }
        info!(%name, challenge = kind.word(), "a challenge of the CA is answered");
        challenge.set_ready().await.map_err(Failure::of)
    }

    async fn present(&self, base: &EndpointName, value: String, placed: &mut Placed) -> Result<(), Failure> {
        let record = format!("_acme-challenge.{base}");
        placed.records.push((record.clone(), value.clone())); // whatever it did is taken out
        let most = self.settings.dns_hook_timeout;
        hook::run(&self.settings.dns_hook, Deed::Present, (&record, &value), most).await.map_err(Failure::of_name)
    }

    /// Returns the account at the CA: the one that is kept, or a new one.
    pub(super) async fn account(&self) -> Result<Account, Failure> {
        let mut account = self.account.lock().await;
        if let Some(account) = &*account {
            return Ok(account.clone());
        }
        let directory = &self.settings.directory;
        let of_store = |error: crate::store::StoreError| Failure::of_ca(error.to_string());
        let kept = self.store.secrets(&self.vault, Kind::Account).await.map_err(of_store)?;
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        let found = match kept.iter().find(|row| row.name == *directory) {
            Some(row) => {
                let credentials: AccountCredentials =
                    serde_json::from_slice(row.plain.expose()).map_err(|error| Failure::of_ca(error.to_string()))?;
                builder.from_credentials(credentials).await.map_err(Failure::of_account)?
            }
            None => {
                let contact: Vec<_> = self.settings.contact.iter().map(String::as_str).collect();
                let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
                let ids = self.settings.eab.as_ref().map(|eab| eab.key_id.clone());
                let external = ids.zip(self.external.as_ref());
                let external = external.map(|(id, key)| ExternalAccountKey::new(id, key.expose()));
                let created = builder.create(&new, directory.clone(), external.as_ref()).await;
                let (account, credentials) = created.map_err(Failure::of_account)?;
                let plain = serde_json::to_vec(&credentials).map_err(|error| Failure::of_ca(error.to_string()))?;
                let plain = Secret::new(plain);
                self.store.put_secret(&self.vault, Kind::Account, directory, plain.expose()).await.map_err(of_store)?;
                info!(directory, account = account.id(), "an account at the CA was made");
                account
            }
        };
        *account = Some(found.clone());
        Ok(found)
    }

    /// Takes that an order was refused. An account that the CA does not know any more is given up: the next is a new one.
    async fn refused(&self, error: Error) -> Failure {
        if is_problem(&error, "accountDoesNotExist") {
            warn!(
                directory = self.settings.directory,
                "the CA does not know the account: the next order makes a new one"
            );
            *self.account.lock().await = None;
            if let Err(error) = self.store.remove_secret(Kind::Account, &self.settings.directory).await {
                warn!(%error, "the account cannot be removed");
            }
            return Failure::of_account(error);
        }
        Failure::of(error)
    }
}

impl Failure {
    const fn of_name(text: String) -> Self {
        Self { blame: Blame::Name, text, again: false }
    }

    /// The order's task ended without a word.
    pub(super) fn panicked() -> Self {
        Self::of_name("the order failed by a fault of our own".to_owned())
    }

    const fn of_ca(text: String) -> Self {
        Self { blame: Blame::Ca, text, again: false }
    }

    /// Without an account nothing can be ordered, whatever the name.
    fn of_account(error: Error) -> Self {
        let failure = Self::of(error);
        Self { blame: if failure.blame == Blame::Name { Blame::Ca } else { failure.blame }, ..failure }
    }

    #[expect(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
    #[expect(clippy::wildcard_enum_match_arm, reason = "the errors of a crate that may get more")]
    pub(super) fn of(error: Error) -> Self {
        let asked = ASKED.try_with(Cell::take).ok().flatten().map(|asked| asked.as_secs());
        let blame = match &error {
            Error::Api(problem) if problem.status == Some(429) => Blame::Limit(asked),
            _ if asked.is_some() || is_problem(&error, "rateLimited") => Blame::Limit(asked),
            Error::Api(problem) if problem.status.is_some_and(|status| status >= 500) => Blame::Ca,
            Error::Api(_) | Error::Timeout(_) | Error::Str(_) | Error::Unsupported(_) => Blame::Name,
            _ => Blame::Ca,
        };
        Self { blame, text: adit_core::escape(&error.to_string()).to_string(), again: is_problem(&error, "badNonce") }
    }
}

/// Asks each authorization why the order is invalid.
async fn why_invalid(order: &mut Order) -> Failure {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        let problem = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            return Failure::of_name(adit_core::escape(&problem.to_string()).to_string());
        }
    }
    let problem = order.state().error.clone();
    problem.map_or_else(|| Failure::of_name("the order is invalid".to_owned()), |problem| Failure::of(problem.into()))
}

/// Makes a key and the request for its certificate.
fn request(name: &NamePattern) -> Result<(Vec<u8>, Secret), Failure> {
    let make = || {
        let mut params = CertificateParams::new([name.to_string()])?;
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate()?;
        let request = params.serialize_request(&key)?;
        Ok((request.der().to_vec(), Secret::new(key.serialize_pem())))
    };
    make().map_err(|error: rcgen::Error| Failure::of_name(error.to_string()))
}

fn is_problem(error: &Error, kind: &str) -> bool {
    let Error::Api(problem) = error else { return false };
    problem.r#type.as_deref().and_then(|text| text.strip_prefix("urn:ietf:params:acme:error:")) == Some(kind)
}

const fn protocol(kind: Challenge) -> ChallengeType {
    match kind {
        Challenge::Http => ChallengeType::Http01,
        Challenge::Tls => ChallengeType::TlsAlpn01,
        Challenge::Dns => ChallengeType::Dns01,
    }
}

/// Reads the HMAC key of an external account: base64url, with or without padding.
fn hmac_key(key: &EabKey) -> Result<Secret, CertificateError> {
    let (place, text) = match key {
        EabKey::File(path) => (path.clone(), read_secret(path)?),
        EabKey::Environment(text) => ("ADIT_NETWORK_ACME_EAB_HMAC_KEY".into(), text.clone()),
    };
    let trimmed = text.expose().trim_ascii();
    let end = trimmed.iter().rposition(|octet| *octet != b'=').map_or(0, |at| at + 1);
    let octets = BASE64_URL_SAFE_NO_PAD.decode(&trimmed[..end]);
    let octets = octets.ok().filter(|octets| octets.len() >= MIN_HMAC_KEY);
    let problem = "not an HMAC key in base64url".to_owned();
    octets.map(Secret::new).ok_or(CertificateError::Invalid { path: place, problem })
}

/// How often an order is begun anew because the CA forgot a nonce.
const NONCES: u32 = 4;
/// An order takes at most so long, beside what its hook may take.
const ORDER: Duration = Duration::from_secs(300);
const POLLS: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(100)).backoff(1.5).timeout(Duration::from_secs(120));
const MIN_HMAC_KEY: usize = 16;

#[cfg(test)]
mod tests {
    use instant_acme::Problem;

    use super::*;

    #[test]
    fn who_is_to_blame_follows_from_what_the_ca_says() {
        let problem = |kind: &str, status: u16| {
            let text = format!("{{\"type\": \"urn:ietf:params:acme:error:{kind}\", \"status\": {status}}}");
            Failure::of(Error::Api(serde_json::from_str::<Problem>(&text).unwrap())).blame
        };

        assert_eq!(problem("rateLimited", 429), Blame::Limit(None));
        assert_eq!(problem("rateLimited", 403), Blame::Limit(None));
        assert_eq!(problem("other", 429), Blame::Limit(None));
        assert_eq!(problem("serverInternal", 500), Blame::Ca);
        for kind in ["rejectedIdentifier", "unauthorized", "dns", "caa", "malformed", "orderNotReady"] {
            assert_eq!(problem(kind, 403), Blame::Name, "{kind}");
        }
        assert_eq!(Failure::of(Error::Other("connection refused".into())).blame, Blame::Ca);
        let limited =
            ASKED.sync_scope(Cell::new(Some(Duration::from_secs(90))), || Failure::of(Error::Other("503".into())));
        assert_eq!(limited.blame, Blame::Limit(Some(90)));
    }

    #[test]
    fn an_hmac_key_is_base64url_with_or_without_padding() {
        let read = |text: &str| hmac_key(&EabKey::Environment(Secret::new(text))).map(|key| key.expose().len());

        assert_eq!(read("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n").unwrap(), 48);
        assert_eq!(read("AAAAAAAAAAAAAAAAAAAAAA==").unwrap(), 16);
        for wrong in ["", "====", "AAAA", "not base64 at all!", "a+/a+/a+/a+/a+/a+/a+/a+/"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
