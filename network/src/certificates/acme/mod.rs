//! Certificates from a CA that speaks ACME (RFC 8555): ordered for names that somebody holds, renewed, and kept.
//!
//! One task decides (`plan`), orders run beside it, and what they give is swapped in. A handshake waits for a first
//! certificate that is under way, for a few seconds; nobody else waits.

mod challenges;
mod client;
mod hook;
mod order;
mod plan;

use core::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant as Clock,
};

use adit_acme::{Advice, Blame, Nearness};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::{Id, JoinSet},
    time::{Instant, sleep, timeout_at},
};
use tracing::{error, info, warn};

use super::{CertificateError, Certificates, Kept, KeptError, Pair, unix_now};
use crate::{
    Edge, EndpointName, NameMap, NamePattern,
    config::{Acme, Challenge, Config},
    metrics::{Metrics, ReasonLabel},
    router::{Configured, Key, Scheme},
    store::{Issue, Kind, Store, StoreError, Vault},
};
pub(crate) use challenges::Challenges;
use order::{Desk, Failure};
use plan::Plan;

/// Orders certificates. Shared by those who wait for one.
pub struct Issuer {
    names: Names,
    plan: Mutex<Plan>,
    challenges: Arc<Challenges>,
    desk: Desk,
    /// Rung when somebody may hold something new, or everything that failed is to be tried at once.
    wake: Notify,
    /// Rung when something has changed for those who wait.
    news: Notify,
    waiting: AtomicUsize,
}

/// Which names may be ordered.
struct Names {
    domains: Vec<EndpointName>,
    /// The network's own: configured ones, and those of an ingress that has no other certificate.
    own: Vec<NamePattern>,
    exact: bool,
    wildcards: bool,
}

/// Who holds which names, looked up at most once a minute.
#[derive(Default)]
struct Held {
    accounts: BTreeMap<NamePattern, i64>,
    at: Option<Clock>,
}

impl core::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Issuer").finish_non_exhaustive()
    }
}

impl Issuer {
    /// Returns an issuer, when the configuration has one.
    ///
    /// # Errors
    /// When the roots or the key of the external account cannot be read.
    pub fn new(config: &Config, store: &Arc<Store>, vault: &Arc<Vault>) -> Result<Option<Arc<Self>>, CertificateError> {
        let Some(settings) = &config.acme else { return Ok(None) };
        let challenges = kinds(settings, config);
        let names = Names {
            domains: settings.domains.clone(),
            own: own_names(settings, config),
            exact: !challenges.is_empty(),
            wildcards: !settings.dns_hook.is_empty(),
        };
        let answers = Arc::new(Challenges::default());
        let desk = Desk::new(settings.clone(), challenges, Arc::clone(&answers), Arc::clone(store), Arc::clone(vault))?;
        Ok(Some(Arc::new(Self {
            names,
            plan: Mutex::new(Plan::new(seed())),
            challenges: answers,
            desk,
            wake: Notify::new(),
            news: Notify::new(),
            waiting: AtomicUsize::new(0),
        })))
    }

    /// Tells whether a certificate for the name can be ordered here at all.
    pub fn can_order(&self, name: &NamePattern) -> bool {
        self.names.can_order(name)
    }

    /// Returns what is answered to the CA.
    pub(crate) const fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    /// Looks soon at who holds what.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Tries at once what failed, but for what the CA limits.
    pub fn retry(&self) {
        self.plan.lock().retry(unix_now());
        self.wake();
    }

    /// Waits until `is_there`, while the first certificate of a held name is under way; not for long, and not too many.
    pub(super) async fn wait(&self, name: &NamePattern, is_there: impl Fn() -> bool) {
        let Some(_place) = Waiting::take(&self.waiting) else { return };
        {
            let mut plan = self.plan.lock();
            if !plan.expects(name, unix_now()) && self.can_order(name) && plan.demand(name) {
                self.wake();
            }
        }
        let until = Instant::now() + HANDSHAKE;
        loop {
            let news = self.news.notified();
            if is_there() || !self.plan.lock().expects(name, unix_now()) || timeout_at(until, news).await.is_err() {
                return;
            }
        }
    }

    /// Orders and renews until it is dropped.
    pub async fn run(self: Arc<Self>, edge: Arc<Edge>) {
        let certificates = Arc::clone(&edge.certificates);
        let mut kept = match self.begin().await {
            Ok(kept) => kept,
            Err(error) => {
                error!(%error, "ordered certificates cannot be read: none is ordered until the network is started again");
                return;
            }
        };
        let (mut held, mut orders, mut ids) = (Held::default(), JoinSet::new(), HashMap::new());
        let mut asked = JoinSet::new();
        loop {
            self.look(&edge, &mut held, &kept).await;
            show(&certificates, &self.plan.lock(), &kept);
            while let Some((name, failures)) = self.next_order() {
                let (issuer, ordered, old) = (Arc::clone(&self), name.clone(), kept.get(&name).cloned());
                let order = async move { issuer.desk.order(&ordered, failures, old.as_ref()).await };
                ids.insert(orders.spawn(order).id(), name);
            }
            self.ask(&kept, &mut asked);
            self.news.notify_waiters();
            edge.metrics.certificates.failing.set(i64::try_from(self.plan.lock().failing()).unwrap_or(i64::MAX));
            let due = self.next().map_or(LOOK, |due| Duration::from_secs(due.saturating_sub(unix_now())));
            tokio::select! {
                biased;
                Some(done) = orders.join_next_with_id(), if !orders.is_empty() => {
                    let (id, result) = match done {
                        Ok((id, result)) => (id, result),
                        Err(panicked) => (panicked.id(), Err(Failure::panicked())),
                    };
                    self.ended(&mut ids, id, result, &mut kept, &edge.metrics).await;
                }
                Some(done) = asked.join_next(), if !asked.is_empty() => {
                    if let Ok((name, result)) = done {
                        self.advised(&name, result);
                    }
                }
                () = self.wake.notified() => sleep(TOGETHER).await, // what is bound together is looked at together
                () = sleep(due.clamp(SOONEST, LOOK)) => {}
            }
        }
    }

    /// Reads what is kept.
    async fn begin(&self) -> Result<BTreeMap<NamePattern, Pair>, KeptError> {
        let (store, vault) = (&self.desk.store, &self.desk.vault);
        let issues = store.issues().await?;
        let mut kept = BTreeMap::new();
        for Kept { id, names, pair, .. } in Kept::all(store, vault, Kind::Issued).await? {
            if pair.validity.until.saturating_add(FORGOTTEN) < unix_now() {
                store.remove_secret(Kind::Issued, &id).await?; // of a name that nobody has held for long
                continue;
            }
            for name in names {
                self.plan.lock().have(&name, pair.validity);
                kept.insert(name, pair.clone());
            }
        }
        let mut plan = self.plan.lock();
        for Issue { name, failures, next, limited } in issues {
            if let Ok(name) = NamePattern::parse(&name) {
                plan.remember(&name, failures, next, limited);
            }
        }
        Ok(kept)
    }

    /// Finds out who holds what.
    async fn look(&self, edge: &Edge, held: &mut Held, kept: &BTreeMap<NamePattern, Pair>) {
        if held.at.is_none_or(|at| at.elapsed() >= LOOK) {
            match self.desk.store.held().await {
                Ok(rows) => held.take(&rows),
                Err(error) => warn!(%error, "who holds which names cannot be looked up"),
            }
        }
        let mut wanted: BTreeMap<_, _> = self.names.own.iter().map(|name| (name.clone(), None)).collect();
        let mut plan = self.plan.lock();
        // Who was away keeps its certificate, and gets one when a caller asks.
        let away = held.accounts.iter().filter(|(name, _)| kept.contains_key(name) || plan.demanded().contains(name));
        wanted.extend(away.map(|(name, account)| (name.clone(), Some(*account))));
        for (key, account) in edge.router.read().live() {
            if let Key::Name(Scheme::Https, name) = &**key {
                wanted.entry(name.clone()).or_insert(Some(account));
            }
        }
        let terms = edge.terms.load();
        for Configured { key, account, cloud } in edge.endpoints.load().configured() {
            if let (true, Key::Name(scheme, name)) = (cloud, &key)
                && (*scheme == Scheme::Https || terms.find_carried(&key).is_some())
            {
                wanted.entry(name.clone()).or_insert(Some(account));
            }
        }
        wanted
            .retain(|name, _| self.can_order(name) && !edge.certificates.has_own(name) && !terms.has_certificate(name));
        let now = unix_now();
        let valid =
            |name: &NamePattern| kept.get(name).is_some_and(|pair| pair.validity.nearness(now) < Nearness::Close);
        let wildcards: BTreeSet<_> = wanted
            .keys()
            .filter(|name| valid(name))
            .filter_map(|name| match name {
                NamePattern::Below(parent) => Some(parent.clone()),
                NamePattern::Exact(_) => None,
            })
            .collect();
        wanted.retain(|name, _| match name {
            NamePattern::Exact(name) => !name.parents().next().is_some_and(|parent| wildcards.contains(parent)),
            NamePattern::Below(_) => true,
        });
        plan.want(&wanted, now);
    }

    /// Returns when something is due.
    fn next(&self) -> Option<u64> {
        let plan = self.plan.lock();
        plan.next().into_iter().chain(plan.next_ask()).min()
    }

    fn next_order(&self) -> Option<(NamePattern, u32)> {
        let mut plan = self.plan.lock();
        let name = plan.begin(unix_now())?;
        let failures = plan.failures(&name);
        Some((name, failures))
    }

    /// Asks the CA when certificates should be renewed, of which it is time to.
    fn ask(self: &Arc<Self>, kept: &BTreeMap<NamePattern, Pair>, asked: &mut JoinSet<(NamePattern, Said)>) {
        let mut plan = self.plan.lock();
        while let Some(name) = plan.ask(unix_now()) {
            let Some(leaf) = kept.get(&name).and_then(|pair| pair.certified.cert.first().cloned()) else {
                plan.unadvised(&name, unix_now());
                continue;
            };
            let issuer = Arc::clone(self);
            asked.spawn(async move {
                let said = issuer.desk.advice(&leaf).await;
                (name, said)
            });
        }
    }

    /// Takes what the CA said about a certificate.
    fn advised(&self, name: &NamePattern, said: Said) {
        let (mut plan, now) = (self.plan.lock(), unix_now());
        match said {
            Ok(Advice { window, again, explanation }) => {
                if let Some(due) = plan.advise(name, window, now.saturating_add(again)) {
                    let (hours, why) = (due.saturating_sub(now) / 3_600, explanation.unwrap_or_default());
                    info!(%name, hours, why, "the CA says when a certificate is to be renewed");
                }
            }
            Err(Failure { text, .. }) => {
                plan.unadvised(name, now);
                warn!(%name, error = text, "the CA does not say when a certificate is to be renewed");
            }
        }
    }

    /// Takes what came of an order.
    async fn ended(
        &self,
        ids: &mut HashMap<Id, NamePattern>,
        id: Id,
        result: Result<Kept, Failure>,
        kept: &mut BTreeMap<NamePattern, Pair>,
        metrics: &Metrics,
    ) {
        let Some(name) = ids.remove(&id) else { return };
        let old = kept.get(&name).map(|pair| pair.validity);
        let (reason, issue) = match result {
            Ok(new) => {
                if let Err(error) = new.keep(&self.desk.store, &self.desk.vault, Kind::Issued).await {
                    error!(%name, %error, "a new certificate cannot be stored: it is lost with the process");
                }
                let reason = if old.is_some() { "renewed" } else { "issued" };
                let validity = new.pair.validity;
                info!(%name, until = validity.until, reason, "a certificate was ordered");
                self.plan.lock().issued(&name, validity);
                kept.insert(name.clone(), new.pair);
                (reason, Issue { name: name.to_string(), failures: 0, next: 0, limited: false })
            }
            Err(Failure { blame, text, .. }) => {
                let now = unix_now();
                let (failures, next) = self.plan.lock().failed(&name, blame, now);
                let wait = next.saturating_sub(now);
                let near = old.map(|validity| validity.nearness(now));
                if near.is_some_and(|near| near >= Nearness::Close) {
                    error!(%name, failures, wait, error = text, "a certificate cannot be renewed, and its end is close");
                } else if near.is_some() {
                    warn!(%name, failures, wait, error = text, "a certificate cannot be renewed: the old one stays");
                } else {
                    warn!(%name, failures, wait, error = text, "a certificate cannot be ordered");
                }
                let reason = match blame {
                    Blame::Name => "failed",
                    Blame::Way => "unreachable",
                    Blame::Limit(_) => "limited",
                };
                let limited = matches!(blame, Blame::Limit(_));
                (reason, Issue { name: name.to_string(), failures, next, limited })
            }
        };
        metrics.certificates.orders.get_or_create(&ReasonLabel { reason }).inc();
        if let Err(error) = self.desk.store.note_issue(&issue).await {
            let error: StoreError = error;
            warn!(%name, %error, "what came of an order cannot be noted");
        }
    }
}

impl Names {
    fn can_order(&self, name: &NamePattern) -> bool {
        let (NamePattern::Exact(base) | NamePattern::Below(base)) = name;
        let answered = match name {
            NamePattern::Exact(_) => self.exact,
            NamePattern::Below(_) => self.wildcards,
        };
        let inside = |domain: &EndpointName| base == domain || NamePattern::Below(domain.clone()).matches(base);
        let public = base.contains('.') && !base.ends_with(".internal");
        answered && public && (self.domains.is_empty() || self.own.contains(name) || self.domains.iter().any(inside))
    }
}

impl Held {
    fn take(&mut self, rows: &[(String, i64)]) {
        let https = |(endpoint, account): &(String, i64)| match Key::parse(endpoint)? {
            Key::Name(Scheme::Https, name) => Some((name, *account)),
            Key::Name(..) | Key::Port(_) | Key::Internal(..) => None,
        };
        self.accounts = rows.iter().filter_map(https).collect();
        self.at = Some(Clock::now());
    }
}

/// What the CA said when a certificate should be renewed.
type Said = Result<Advice, Failure>;

/// A place among the handshakes that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Shows callers the certificates of names that somebody holds.
fn show(certificates: &Certificates, plan: &Plan, kept: &BTreeMap<NamePattern, Pair>) {
    let mut shown = NameMap::default();
    for (name, pair) in kept.iter().filter(|(name, _)| plan.is_wanted(name)) {
        shown.insert(name.clone(), pair.clone());
    }
    certificates.set_ordered(shown);
}

/// Returns the challenges that can be answered, the first to be tried first.
fn kinds(settings: &Acme, config: &Config) -> Vec<Challenge> {
    if !settings.challenges.is_empty() {
        return settings.challenges.clone();
    }
    let all = [
        (Challenge::Http, !config.http.is_empty()),
        (Challenge::Tls, !config.https.is_empty()),
        (Challenge::Dns, !settings.dns_hook.is_empty()),
    ];
    all.into_iter().filter(|(_, fits)| *fits).map(|(kind, _)| kind).collect()
}

fn own_names(settings: &Acme, config: &Config) -> Vec<NamePattern> {
    let mut own = settings.names.clone();
    if config.ingress.files.is_none() && config.private_ca.is_none() {
        let names = config.ingress.names.iter().filter_map(|name| EndpointName::parse(name).ok());
        own.extend(names.map(NamePattern::Exact));
    }
    if config.private_ca.is_none() {
        let custom = config.ingress.custom.iter().filter(|name| name.files.is_none());
        own.extend(custom.map(|name| NamePattern::Exact(name.name.clone())));
    }
    own
}

fn seed() -> u64 {
    let mut octets = [0; 8];
    let _ = aws_lc_rs::rand::fill(&mut octets); // without entropy only the jitter is the same everywhere
    u64::from_le_bytes(octets)
}

/// So long a handshake waits for the first certificate of its name.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// So many handshakes wait at a time; more are closed at once.
const MAX_WAITING: usize = 256;
/// How often it is looked up who holds what, if nothing happens.
const LOOK: Duration = Duration::from_secs(60);
/// A certificate that was over for 30 days is of no use to anybody.
const FORGOTTEN: u64 = 30 * 86_400;
const TOGETHER: Duration = Duration::from_millis(50);
const SOONEST: Duration = Duration::from_secs(1);
