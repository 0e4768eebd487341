//! One order: from a name to a certificate and the key that was made for it here.

use std::sync::Arc;

use adit_acme::{
    Advice, Answer, Blame, NONCES, ORDER, POLLS, Unproved, advice, begin, hmac_key, identifier, is_problem, obtain,
    prove, request,
};
use adit_core::{Secret, escape};
use instant_acme::{Account, AccountCredentials, AuthorizationHandle, ChallengeType, ExternalAccountKey, NewAccount};
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use super::{
    Desk,
    client::Client,
    kept::Folder,
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

/// Answers the challenges of one order; what it shows is shown until it is gone.
struct Showings<'a> {
    counter: &'a Counter,
    client: &'a Client,
    showing: Option<Showing>,
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
        let account = self.account(client).await?;
        let declined = |_: &instant_acme::Error| {
            tracing::info!(name = self.config.name, "the authority does not take the order for a renewal");
        };
        let begun = begin(&account, &self.config.name, old.and_then(identifier), declined).await;
        let mut order = begun.map_err(|error| self.refused(error, client))?;
        let mut showings = Showings { counter: self, client, showing: None };
        let proved = prove(&mut order, &mut showings, &POLLS).await;
        drop(showings);
        proved.map_err(|unproved| Failure::unproved(unproved, client))?;
        let made = request(&self.config.name);
        let (request, key) = made.map_err(|error| Failure::here(Error::new(Fault::Internal, error.to_string())))?;
        let chain = obtain(&mut order, &request, &POLLS).await.map_err(|error| Failure::of(error, client))?;
        Ok((chain, key))
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
        let Some(id) = identifier(certificate) else { return Ok(Advice::NONE) };
        if self.folder.account().map_err(Failure::here)?.is_none() {
            return Ok(Advice::NONE); // whoever issued it, it was not to this agent
        }
        let client = Client::new(&self.config, &self.desk).map_err(Failure::here)?;
        let account = self.account(&client).await?;
        let advice = advice(&account, &id).await.map_err(|error| Failure::of(error, &client))?;
        Ok(Advice { explanation: advice.explanation.as_deref().map(clip), ..advice })
    }
}

impl Answer for Showings<'_> {
    type Failure = Failure;

    /// Answers the one challenge that is answered by whoever ends TLS of the name.
    async fn answer(&mut self, mut authorization: AuthorizationHandle<'_>) -> Result<(), Failure> {
        let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
            return Err(Failure::of_name("the authority does not offer tls-alpn-01"));
        };
        let digest = challenge.key_authorization().digest();
        self.showing = Some(self.counter.proof.show(digest.as_ref()).map_err(Failure::here)?);
        challenge.set_ready().await.map_err(|error| Failure::of(error, self.client))
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

    fn unproved(unproved: Unproved<Self>, client: &Client) -> Self {
        match unproved {
            Unproved::Answer(failure) => failure,
            Unproved::Error(error) => Self::of(error, client),
            Unproved::Authorization => Self::of_name("the authority has an authorization that is not valid"),
            Unproved::Challenge(problem) => Self::of_name(&clip(&escape(&problem.to_string()).to_string())),
            Unproved::Silence => Self::of_name("the order is invalid"),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
    fn of(error: instant_acme::Error, client: &Client) -> Self {
        let told = client.told();
        let again = is_problem(&error, "badNonce");
        if let Some(error) = told.failed {
            return Self { blame: Blame::Way, error, again };
        }
        let blame = Blame::of(&error, told.asked);
        let fault = match blame {
            Blame::Name => Fault::OrderRefused,
            Blame::Way => Fault::DirectoryUnreachable,
            Blame::Limit(_) => Fault::OrderLimited,
        };
        Self { blame, error: Error::new(fault, clip(&escape(&error.to_string()).to_string())), again }
    }
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
    let octets = hmac_key(&text);
    let octets = octets.ok_or_else(|| {
        Error::new(Fault::CertificateUnusable, format!("{place}: it holds no key of an account in base64url"))
    })?;
    Ok(ExternalAccountKey::new(external.key_id.clone(), octets.expose()))
}

/// A file with the key of an account is not longer, in octets.
const MAX_KEY: u64 = 4 << 10;

#[cfg(test)]
mod tests {
    use instant_acme::Problem;

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
}
