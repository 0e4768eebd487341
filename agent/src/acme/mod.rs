//! Certificates that the agent orders itself from an authority that speaks ACME (RFC 8555), for endpoints whose TLS ends here.
//!
//! The authority sees that the name leads here by a handshake through the tunnel (`proof`). `plan` says when, `order` how;
//! one order is under way at a time. Account, certificates and keys are made here and stay in a folder of the agent's (`kept`).

mod client;
mod http;
mod kept;
mod order;
mod plan;
mod proof;

use core::time::Duration;
use std::{
    sync::{Arc, Weak},
    time::{SystemTime, UNIX_EPOCH},
};

use adit_acme::{Nearness, SHORTEST, Validity};
use rustls::crypto::CryptoProvider;
use tokio::{
    sync::Mutex,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    audit::Draft,
    clock::utc,
    config::{AcmeConfig, EndpointConfig},
    errors::{Error, Fault},
    policy::Guard,
    route::Route,
    status::{CertificateState, Status},
    termination::{Facts, Termination},
};

#[doc(hidden)]
pub use http::directory_answer;
#[doc(hidden)]
pub use kept::issued_chain;
pub(crate) use proof::{INTERNAL_ERROR, Met, Proof, refuse};

use client::Client;
use kept::{Folder, Record};
use order::{Counter, Failure, bound_to};
use plan::Plan;

/// What all orders of an agent share.
pub(crate) struct Desk {
    route: Route,
    guard: Arc<Guard>,
    provider: Arc<CryptoProvider>,
    status: Arc<Status>,
    /// One order at a time: two names never make two accounts, and nobody is asked by many at once.
    turn: Mutex<()>,
}

impl Desk {
    pub(crate) fn new(
        route: Route,
        guard: Arc<Guard>,
        provider: Arc<CryptoProvider>,
        status: Arc<Status>,
    ) -> Arc<Self> {
        Arc::new(Self { route, guard, provider, status, turn: Mutex::default() })
    }
}

impl Desk {
    pub(crate) const fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }
}

/// Looks whether what the configuration names can be used: roots, and the key of an external account.
///
/// # Errors
/// [`Fault::RootsUnusable`], [`Fault::CertificateUnusable`].
pub(crate) fn check(config: &AcmeConfig, provider: &Arc<CryptoProvider>) -> Result<(), Error> {
    client::trusted(config, provider)?;
    config.external.as_ref().map(bound_to).transpose()?;
    Ok(())
}

/// Asks whether the directory is one, under the policy and by the agent's own way out; says what it found.
///
/// # Errors
/// [`Fault::PolicyRefused`], [`Fault::DirectoryUnreachable`], [`Fault::RootsUnusable`].
pub(crate) async fn look(config: &AcmeConfig, desk: &Arc<Desk>) -> Result<String, Error> {
    let answer = Client::new(config, desk)?.get(&config.directory).await?;
    let other = |what: &str| Error::new(Fault::DirectoryUnreachable, format!("{}: {what}", config.directory));
    if !answer.status().is_success() {
        return Err(other(&format!("status {}", answer.status().as_u16())));
    }
    let directory: serde_json::Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    if !directory["newOrder"].is_string() || !directory["newAccount"].is_string() {
        return Err(other("what answers is no directory of ACME"));
    }
    let advice = if directory["renewalInfo"].is_string() { ", and says when to renew" } else { "" };
    Ok(format!("the directory takes orders{advice}; nothing was ordered"))
}

/// Asks the agent that runs, or the next one, for a new certificate.
///
/// # Errors
/// [`Fault::FileUnwritable`].
pub(crate) fn wish(config: &AcmeConfig, provider: &CryptoProvider) -> Result<(), Error> {
    Folder::new(config, provider).put_wish()
}

/// Sees to it that an endpoint has a certificate, for as long as anybody has its termination.
pub(crate) struct Keeper {
    endpoint: EndpointConfig,
    termination: Weak<Termination>,
    counter: Counter,
    plan: Plan,
    record: Record,
    state: CertificateState,
    /// What of the policy keeps it from ordering, told once.
    barred: String,
}

impl Keeper {
    /// Returns a keeper where the endpoint's certificate is ordered by the agent.
    pub(crate) fn new(endpoint: &EndpointConfig, termination: &Arc<Termination>, desk: &Arc<Desk>) -> Option<Self> {
        let (config, proof) = (endpoint.termination.as_ref()?.acme.clone()?, termination.proof()?);
        let folder = Folder::new(&config, &desk.provider);
        let mut seed = [0; 8];
        let _ = desk.provider.secure_random.fill(&mut seed); // chance spreads load, and keeps no secret
        let (mut plan, mut record) = (Plan::new(u64::from_be_bytes(seed)), folder.record());
        if let Some(facts) = termination.facts() {
            plan.have(validity(&facts));
        }
        if record.directory == config.directory {
            plan.remember(record.failures, record.next, record.limited);
        } else if !record.directory.is_empty() {
            tracing::info!(
                name = endpoint.name,
                directory = config.directory,
                "the authority is another: its certificate is ordered"
            );
            plan.hurry(0);
            record = Record::default();
        }
        record.directory.clone_from(&config.directory);
        let state = CertificateState { directory: config.directory.clone(), ..CertificateState::default() };
        let (endpoint, termination, desk) = (endpoint.clone(), Arc::downgrade(termination), Arc::clone(desk));
        let counter = Counter { config, desk, proof, folder };
        Some(Self { endpoint, termination, counter, plan, record, state, barred: String::new() })
    }

    /// Orders when it is time, until the endpoint is given up.
    pub(crate) async fn run(mut self) {
        self.tell_file();
        let mut clock = interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            if self.is_over() {
                return;
            }
            self.wished();
            let (now, (host, port)) = (now(), self.place());
            if self.plan.is_due(now) {
                if self.may() {
                    self.order().await;
                }
            } else if self.counter.desk.guard.orders(&host, port).is_ok() && self.plan.ask(now) {
                self.ask().await;
            }
            self.tell();
        }
    }

    /// Tells of a file that is there and cannot be used: it was not for want of one.
    fn tell_file(&self) {
        let path = self.counter.folder.pair();
        if self.plan.validity().is_none() && path.exists() {
            let (name, path) = (&self.endpoint.name, path.display());
            tracing::warn!(name, %path, "the certificate that is kept cannot be used: another is ordered");
        }
    }

    /// Takes the wish of somebody for a new certificate.
    fn wished(&mut self) {
        if !self.counter.folder.take_wish() {
            return;
        }
        let (name, until) = (&self.endpoint.name, utc(seconds(self.plan.due())));
        if self.plan.hurry(now()) {
            tracing::info!(name, "a new certificate is asked for by hand");
        } else {
            tracing::warn!(
                name,
                until,
                "a new certificate is asked for by hand, and the authority has said until when to wait"
            );
        }
    }

    /// Returns whether an order can come to something now: the authority must be one that the policy has, and its own callers
    /// must come through.
    fn may(&mut self) -> bool {
        let desk = &self.counter.desk;
        if !desk.status.is_bound(&self.endpoint.name) {
            return false;
        }
        let (host, port) = self.place();
        let refused = desk.guard.orders(&host, port).and_then(|()| desk.guard.endpoint(&self.endpoint, None));
        let barred = refused.map_or_else(|refusal| format!("{}: {refusal}", Fault::PolicyRefused), |()| String::new());
        if barred != self.barred && !barred.is_empty() {
            let (name, remedy) = (&self.endpoint.name, Fault::PolicyRefused.entry().remedy);
            tracing::warn!(name, error = barred, remedy, "no certificate is ordered: the policy does not allow it");
            let record = || self.audited("not ordered").text("decision", "refused").text("why", &barred);
            desk.guard.note(record);
        }
        self.barred = barred;
        self.barred.is_empty()
    }

    async fn order(&mut self) {
        let had = self.plan.validity().is_some();
        let old = self.termination.upgrade().and_then(|it| it.certificate());
        // Counted before it begins: an agent that is started again and again is no way around what must be waited for.
        self.record.next = now().saturating_add(SHORTEST);
        let (folder, desk) = (self.counter.folder.clone(), Arc::clone(&self.counter.desk));
        let noted = folder.make().and_then(|()| folder.put_record(&self.record));
        let ordered = match noted {
            Ok(()) => tokio::select! {
                biased;
                () = self.abandoned() => return,
                ordered = async {
                    let _turn = desk.turn.lock().await;
                    self.counter.order(old.as_ref()).await
                } => ordered,
            },
            Err(error) => Err(Failure::here(error)),
        };
        let put = |(chain, key): (String, adit_core::Secret)| {
            folder.put_pair(&chain, &key, &desk.provider).map_err(Failure::here)
        };
        match ordered.and_then(put) {
            Ok(facts) => self.issued(&facts, had),
            Err(failure) => self.failed(failure, had),
        }
    }

    fn issued(&mut self, facts: &Facts, had: bool) {
        self.plan.issued(validity(facts), now());
        self.record = Record { directory: self.record.directory.clone(), ..Record::default() };
        if let Err(error) = self.counter.folder.put_record(&self.record) {
            tracing::warn!(name = self.endpoint.name, %error, "what was ordered is not remembered");
        }
        let (name, host, directory) = (&self.endpoint.name, &self.counter.config.name, &self.record.directory);
        let (until, next) = (utc(facts.until), utc(seconds(self.plan.due())));
        tracing::info!(name, host, directory, until, next, sha256 = facts.sha256, "a certificate was ordered");
        let event = if had { "renewed" } else { "ordered" };
        self.counter.desk.guard.note(|| self.audited(event).text("sha256", &facts.sha256).text("until", &until));
        if let Some(termination) = self.termination.upgrade() {
            termination.reload();
        }
        self.tell();
    }

    fn failed(&mut self, failure: Failure, had: bool) {
        let Failure { blame, error, .. } = failure;
        let now = now();
        let next = self.plan.failed(blame, now);
        self.record.error = error.to_string();
        (self.record.failures, self.record.next) = (self.plan.failures(), next);
        self.record.limited = self.plan.is_limited();
        if let Err(error) = self.counter.folder.put_record(&self.record) {
            tracing::warn!(name = self.endpoint.name, %error, "what failed is not remembered");
        }
        let (name, host, directory) = (&self.endpoint.name, &self.counter.config.name, &self.record.directory);
        let (failures, wait, remedy) = (self.record.failures, next - now, error.fault.entry().remedy);
        let until = self.plan.validity().map(|validity| utc(seconds(validity.until)));
        let is_ending = self.plan.validity().is_none_or(|validity| validity.nearness(now) > Nearness::Far);
        match (had, is_ending) {
            (true, false) => {
                tracing::warn!(name, host, directory, %error, remedy, failures, wait, until, "a certificate cannot be renewed: the last one stays");
            }
            (true, true) => {
                tracing::error!(name, host, directory, %error, remedy, failures, wait, until, "a certificate cannot be renewed and comes to its end");
            }
            (false, _) => {
                tracing::error!(name, host, directory, %error, remedy, failures, wait, "a certificate cannot be ordered: callers are refused");
            }
        }
        self.counter.desk.guard.note(|| {
            let record = self.audited("failed").text("why", &error.to_string()).number("failures", failures.into());
            record.text("next", &utc(seconds(next))).maybe("until", until.as_deref())
        });
        self.tell();
    }

    /// Asks the authority when the certificate is to be renewed. What it says may be nothing.
    async fn ask(&mut self) {
        let Some(certificate) = self.termination.upgrade().and_then(|it| it.certificate()) else { return };
        let desk = Arc::clone(&self.counter.desk);
        let asked = tokio::select! {
            biased;
            () = self.abandoned() => return,
            asked = async {
                let _turn = desk.turn.lock().await;
                self.counter.advice(&certificate).await
            } => asked,
        };
        let name = &self.endpoint.name;
        match asked {
            Ok(advice) => {
                if let Some(due) = self.plan.advise(advice.window, now().saturating_add(advice.again)) {
                    let (due, why) = (utc(seconds(due)), advice.explanation);
                    tracing::info!(name, due, why, "the authority says when the certificate is to be renewed");
                }
            }
            Err(Failure { error, .. }) => {
                tracing::debug!(name, %error, "the authority does not say when to renew");
                self.plan.unadvised(now());
            }
        }
        self.tell();
    }

    /// Is ready when nothing may go on: the endpoint was given up, or everything is frozen.
    async fn abandoned(&self) {
        while !self.is_over() && self.counter.desk.guard.frozen().is_none() {
            sleep(WATCH).await;
        }
    }

    fn is_over(&self) -> bool {
        self.termination.strong_count() == 0
    }

    fn place(&self) -> (String, u16) {
        self.counter.config.place()
    }

    fn audited(&self, event: &str) -> crate::audit::Record {
        Draft::certificate(event, &self.endpoint.name, &self.counter.config.name, &self.counter.config.directory)
    }

    /// Puts on the board how it stands.
    fn tell(&mut self) {
        let failing = self.record.failures > 0;
        let problem = match (self.barred.is_empty(), failing) {
            (false, _) => &self.barred,
            (true, true) => &self.record.error,
            (true, false) => "",
        };
        let state = CertificateState {
            directory: self.record.directory.clone(),
            until: self.plan.validity().map(|validity| seconds(validity.until)),
            next: seconds(self.plan.due()),
            failures: self.record.failures,
            problem: problem.to_owned(),
        };
        if state != self.state && self.counter.desk.status.set_certificate(&self.endpoint.name, &state) {
            self.state = state;
        }
    }
}

fn validity(facts: &Facts) -> Validity {
    let time = |seconds: i64| u64::try_from(seconds).unwrap_or(0);
    Validity { from: time(facts.from), until: time(facts.until) }
}

fn seconds(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// How often it is looked whether something is to be done.
const TICK: Duration = Duration::from_secs(1);
/// How often an order that is under way looks whether it may go on.
const WATCH: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
