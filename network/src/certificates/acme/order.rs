//! One order: from a name to a certificate that is kept.

use core::cell::Cell;
use std::sync::Arc;

use adit_acme::{
    Advice, Answer, Blame, NONCES, ORDER, POLLS, Unproved, advice, begin, hmac_key, identifier, is_problem, obtain,
    prove, request,
};
use adit_core::{Secret, escape};
use instant_acme::{
    Account, AccountCredentials, AuthorizationHandle, ChallengeType, Error, ExternalAccountKey, NewAccount,
};
use rustls::pki_types::CertificateDer;
use tokio::{sync::Mutex, time::timeout};
use tracing::{info, warn};

use super::{
    super::{CertificateError, Kept, Nearness, Pair, read_secret, unix_now},
    challenges::{Answering, Challenges},
    client::{ASKED, Client},
    hook::{self, Deed},
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

/// Answers the challenges of one order.
struct Answers<'a> {
    desk: &'a Desk,
    name: &'a NamePattern,
    attempt: u32,
    placed: &'a mut Placed,
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
        let external = settings.eab.as_ref().map(|eab| bound_to(&eab.key)).transpose()?;
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
        let account = self.account().await?;
        let replaced = old.and_then(|old| identifier(old.certified.cert.first()?));
        let declined = |error: &Error| info!(%name, %error, "the CA does not take the order for a renewal");
        let mut order = match begin(&account, &name.to_string(), replaced, declined).await {
            Ok(order) => order,
            Err(error) => return Err(self.refused(error).await),
        };
        let mut answers = Answers { desk: self, name, attempt, placed };
        prove(&mut order, &mut answers, &POLLS).await.map_err(Failure::unproved)?;
        let (request, key) = request(&name.to_string()).map_err(|error| Failure::of_name(error.to_string()))?;
        let chain = obtain(&mut order, &request, &POLLS).await.map_err(Failure::of)?;
        Ok((chain, key))
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
        let of_store = |error: crate::store::StoreError| Failure::of_way(error.to_string());
        let kept = self.store.secrets(&self.vault, Kind::Account).await.map_err(of_store)?;
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        let found = match kept.iter().find(|row| row.name == *directory) {
            Some(row) => {
                let credentials: AccountCredentials =
                    serde_json::from_slice(row.plain.expose()).map_err(|error| Failure::of_way(error.to_string()))?;
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
                let plain = serde_json::to_vec(&credentials).map_err(|error| Failure::of_way(error.to_string()))?;
                let plain = Secret::new(plain);
                self.store.put_secret(&self.vault, Kind::Account, directory, plain.expose()).await.map_err(of_store)?;
                info!(directory, account = account.id(), "an account at the CA was made");
                account
            }
        };
        *account = Some(found.clone());
        Ok(found)
    }

    /// Asks the CA when a certificate of its own should be renewed.
    ///
    /// # Errors
    /// The CA cannot be asked, or what it says makes no sense.
    pub(super) async fn advice(&self, certificate: &CertificateDer<'_>) -> Result<Advice, Failure> {
        let Some(id) = identifier(certificate) else { return Ok(Advice::NONE) };
        let asked = async {
            let account = self.account().await?;
            advice(&account, &id).await.map_err(Failure::of)
        };
        ASKED.scope(Cell::new(None), asked).await
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

impl Answer for Answers<'_> {
    type Failure = Failure;

    async fn answer(&mut self, authorization: AuthorizationHandle<'_>) -> Result<(), Failure> {
        self.desk.answer(self.name, self.attempt, authorization, self.placed).await
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

    const fn of_way(text: String) -> Self {
        Self { blame: Blame::Way, text, again: false }
    }

    /// Without an account nothing can be ordered, whatever the name.
    fn of_account(error: Error) -> Self {
        let failure = Self::of(error);
        Self { blame: if failure.blame == Blame::Name { Blame::Way } else { failure.blame }, ..failure }
    }

    #[expect(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
    pub(super) fn of(error: Error) -> Self {
        let blame = Blame::of(&error, ASKED.try_with(Cell::take).ok().flatten());
        Self { blame, text: escape(&error.to_string()).to_string(), again: is_problem(&error, "badNonce") }
    }

    fn unproved(unproved: Unproved<Self>) -> Self {
        match unproved {
            Unproved::Answer(failure) => failure,
            Unproved::Error(error) => Self::of(error),
            Unproved::Authorization => Self::of_name("the CA has an authorization that is not valid".to_owned()),
            Unproved::Challenge(problem) => Self::of_name(escape(&problem.to_string()).to_string()),
            Unproved::Silence => Self::of_name("the order is invalid".to_owned()),
        }
    }
}

const fn protocol(kind: Challenge) -> ChallengeType {
    match kind {
        Challenge::Http => ChallengeType::Http01,
        Challenge::Tls => ChallengeType::TlsAlpn01,
        Challenge::Dns => ChallengeType::Dns01,
    }
}

/// Reads the HMAC key of an external account.
fn bound_to(key: &EabKey) -> Result<Secret, CertificateError> {
    let (path, text) = match key {
        EabKey::File(path) => (path.clone(), read_secret(path)?),
        EabKey::Environment(text) => ("ADIT_NETWORK_ACME_EAB_HMAC_KEY".into(), text.clone()),
    };
    let problem = "not an HMAC key in base64url".to_owned();
    hmac_key(&text).ok_or(CertificateError::Invalid { path, problem })
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn what_was_asked_for_beside_an_answer_is_blamed_once() {
        let failed = || Failure::of(Error::Other("503".into())).blame;
        let told = ASKED.sync_scope(Cell::new(Some(Duration::from_secs(90))), || (failed(), failed()));

        assert_eq!(told, (Blame::Limit(Some(90)), Blame::Way));
    }
}
