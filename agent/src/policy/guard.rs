//! The policy that is in force, and everything that goes on under it.

use core::{
    fmt,
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

use super::{
    Commands, Facts, Found, Limits, Policy, Reason, Refusal, Ticket, Updates, Usage, Verdict,
    audited::Audited,
    clock::Clock,
    meter::Meter,
    ticket::{Signal, Target},
    totals::Totals,
};
use crate::config::{EndpointConfig, RemoteManagement};

/// What an agent asks before it does anything: may it? Without a policy it may, as long as nothing is frozen.
pub struct Guard {
    state: Mutex<State>,
    start: Instant,
    /// Whether there is a policy to count for.
    counts: AtomicBool,
    clock: Clock,
    /// Counts changes of what is allowed.
    turn: watch::Sender<u64>,
    /// Where it is written down what goes on.
    pub(super) audited: Audited,
}

/// The time: of the wall clock in seconds since 1970, and since the guard was made.
#[derive(Clone, Copy, Debug)]
struct Now {
    wall: i64,
    /// The latest that it ever was under this policy: what has expired stays so.
    latest: i64,
    passed: Duration,
}

/// What the guard knows; no IO, time is an argument.
#[derive(Debug, Default)]
struct State {
    policy: Option<Arc<Policy>>,
    /// What tells one policy from another.
    version: String,
    frozen: Option<String>,
    whole: Meter,
    /// By the names of rules, so that a policy that is read again begins no count anew.
    meters: BTreeMap<String, Meter>,
    live: BTreeMap<u64, Live>,
    next: u64,
    /// Which bounds hold at the moment: of the whole, and of each rule.
    holding: Vec<bool>,
    /// Why what was counted before is not known: totals count as used up.
    uncounted: Option<String>,
}

/// A connection that was admitted.
#[derive(Debug)]
struct Live {
    target: Arc<Target>,
    address: Option<IpAddr>,
    rule: Option<usize>,
    signal: Arc<Signal>,
    /// What it ends with.
    tie: Option<Arc<Tie>>,
}

/// What the connections of an endpoint have in common: they can be ended together, whatever session carries them.
#[derive(Debug, Default)]
pub(crate) struct Tie(OnceLock<&'static str>);

impl Tie {
    fn check(&self) -> Result<(), Refusal> {
        let Some(why) = self.0.get() else { return Ok(()) };
        Err(Refusal { reason: Reason::Endpoint, rule: None, detail: (*why).to_owned() })
    }
}

impl Guard {
    /// Returns a guard without a policy.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            start: Instant::now(),
            counts: AtomicBool::new(false),
            clock: Clock::new(),
            turn: watch::Sender::new(0),
            audited: Audited::default(),
        })
    }

    /// Puts a policy in force, at once and for what is open as well; returns how many connections it ends.
    pub fn set(&self, found: Found, version: String) -> usize {
        if self.version() != version {
            self.clock.forget();
        }
        let ended = self.change(|state, now| state.set(found.policy, version, now));
        self.counts.store(true, Ordering::Relaxed);
        ended
    }

    /// Closes everything, or ends that. Returns how many connections end.
    pub fn freeze(&self, frozen: Option<String>) -> usize {
        self.change(|state, now| {
            state.frozen = frozen;
            state.judge_again(now)
        })
    }

    /// Lets the time pass: what has expired ends. Returns how many connections do.
    pub fn tick(&self) -> usize {
        let now = self.now();
        if self.lock().holds_as_before(now) { 0 } else { self.change(State::judge_again) }
    }

    /// Returns what tells of changes of what is allowed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.turn.subscribe()
    }

    /// Returns the policy in force.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.lock().policy.clone()
    }

    /// Returns whether what is carried may be recorded: only a policy that is in force and has not expired allows that.
    pub(crate) fn captures(&self) -> bool {
        let now = self.now().latest;
        self.lock().policy.as_ref().is_some_and(|policy| policy.captures(now))
    }

    /// Returns what names the policy in force; empty without one.
    pub fn version(&self) -> String {
        self.lock().version.clone()
    }

    /// Returns why everything is closed, if it is.
    pub fn frozen(&self) -> Option<String> {
        self.lock().frozen.clone()
    }

    /// Returns why nothing is done for anybody at this moment: frozen, or out of the bounds of the whole policy.
    pub(crate) fn rests(&self) -> Option<String> {
        let now = self.now().wall;
        let state = self.lock();
        let frozen = state.frozen.as_ref().map(|why| format!("frozen: {why}"));
        frozen.or_else(|| state.policy.as_ref()?.rests(now))
    }

    /// Returns what both the policy and the configuration let the vendor ask for at this moment. Without a policy no endpoints are
    /// taken: they could lead to anything that this machine reaches.
    pub fn commands(&self, configured: RemoteManagement) -> RemoteManagement {
        let all = Commands { stop: true, restart: true, update: true, configuration: false };
        let none = Commands::default();
        let allowed = self.now_allowed(|policy| policy.map_or(all, |policy| policy.commands));
        allowed.unwrap_or(none).intersect(configured)
    }

    /// Returns what may happen about newer versions unasked at this moment: without a policy they are looked for, and none is installed.
    pub fn updates(&self) -> Updates {
        let unsaid = Updates { check: true, install: false };
        self.now_allowed(|policy| policy.map_or(unsaid, |policy| policy.updates)).unwrap_or_default()
    }

    /// Asks the policy, unless nothing is done at this moment.
    fn now_allowed<T>(&self, ask: impl FnOnce(Option<&Policy>) -> T) -> Option<T> {
        let now = self.now().wall;
        let state = self.lock();
        let policy = state.policy.as_deref();
        let rests = state.frozen.is_some() || policy.is_some_and(|policy| policy.rests(now).is_some());
        (!rests).then(|| ask(policy))
    }

    /// Decides whether the agent may speak to a certificate authority now; without a policy the configuration's word is enough.
    ///
    /// # Errors
    /// Why not.
    pub fn orders(&self, host: &str, port: u16) -> Result<(), Refusal> {
        let now = self.now().wall;
        let state = self.lock();
        if let Some(why) = &state.frozen {
            return Err(Refusal { reason: Reason::Frozen, rule: None, detail: format!("frozen: {why}") });
        }
        state.policy.as_ref().map_or(Ok(()), |policy| policy.orders(host, port, now))
    }

    /// Decides about an endpoint, as it is asked for or, with `url`, as the network has bound it.
    ///
    /// # Errors
    /// Why no connection to it could be carried at this moment, limits apart.
    pub fn endpoint(&self, endpoint: &EndpointConfig, url: Option<&str>) -> Result<(), Refusal> {
        let now = self.now();
        let state = self.lock();
        let Some(policy) = &state.policy else { return Ok(()) };
        let facts = Facts::of(endpoint, now.wall);
        let verdict = policy.judge(&Facts { endpoint: url.unwrap_or(facts.endpoint), latest: now.latest, ..facts });
        let policy = Arc::clone(policy);
        drop(state); // files are looked at
        match verdict {
            Verdict::Refused(refusal) if refusal.reason == Reason::Endpoint => Err(refusal),
            Verdict::Allowed { .. } => policy.names(endpoint),
            Verdict::Refused(refusal) => policy.names(endpoint).and(Err(refusal)),
        }
    }

    /// Decides about a connection that has come.
    ///
    /// # Errors
    /// Why it may not be carried.
    pub(crate) fn admit(self: &Arc<Self>, target: Arc<Target>) -> Result<Ticket, Refusal> {
        let now = self.now();
        let (number, signal) = self.lock().admit(target, now)?;
        Ok(Ticket::new(Arc::clone(self), number, signal))
    }

    /// Decides about a connection that has come to an endpoint which can be cut.
    ///
    /// # Errors
    /// Why it may not be carried.
    pub(crate) fn admit_tied(self: &Arc<Self>, target: Arc<Target>, tie: &Arc<Tie>) -> Result<Ticket, Refusal> {
        let now = self.now();
        let mut state = self.lock();
        tie.check()?;
        let (number, signal) = state.admit(target, now)?;
        if let Some(live) = state.live.get_mut(&number) {
            live.tie = Some(Arc::clone(tie));
        }
        drop(state);
        Ok(Ticket::new(Arc::clone(self), number, signal))
    }

    /// Ends what is open of an endpoint, and admits nothing more to it.
    pub(crate) fn cut(&self, tie: &Arc<Tie>, why: &'static str) {
        let mut state = self.lock();
        let _ = tie.0.set(why); // cut twice, it is cut
        state.cut(tie);
    }

    pub(super) fn settle(&self, number: u64, address: IpAddr) -> Result<(), Refusal> {
        let now = self.now();
        self.lock().settle(number, address, now)
    }

    /// Counts octets.
    pub(super) fn carried(&self, number: u64, octets: u64) {
        if !self.counts.load(Ordering::Relaxed) {
            return;
        }
        let now = self.now();
        let mut state = self.lock();
        if state.carried(number, octets, now) {
            state.judge_again(now);
        }
    }

    /// Returns when more octets may be carried, if not at once.
    pub(super) fn ready(&self, number: u64) -> Option<Instant> {
        if !self.counts.load(Ordering::Relaxed) {
            return None;
        }
        let ready = self.lock().ready(number);
        (ready > self.start.elapsed()).then(|| self.start + ready)
    }

    pub(super) fn leave(&self, number: u64) {
        self.lock().leave(number);
    }

    /// Returns the rule that a connection counts under, and the address that was dialed for it.
    pub(super) fn facts(&self, number: u64) -> (Option<String>, Option<IpAddr>) {
        let state = self.lock();
        let Some(live) = state.live.get(&number) else { return (None, None) };
        let rule = state.policy.as_ref().zip(live.rule).and_then(|(policy, rule)| policy.rules.get(rule));
        (rule.map(|rule| rule.name.clone()), live.address)
    }

    /// Returns the octets that were carried under each rule and in all.
    pub(super) fn totals(&self) -> Totals {
        self.lock().totals()
    }

    /// Adds what was counted by an agent before this one.
    pub(super) fn add(&self, totals: &Totals) {
        self.change(|state, now| {
            state.add(totals);
            state.judge_again(now)
        });
    }

    /// Returns the latest time that was seen under the policy in force, in seconds since 1970.
    pub(super) fn latest(&self) -> i64 {
        self.now().latest
    }

    /// Takes the latest time that was seen under the policy in force by an agent before this one: what has expired by it ends.
    pub(super) fn recall(&self, latest: Option<i64>) {
        self.clock.forget();
        if let Some(latest) = latest {
            self.clock.remember(latest, self.start.elapsed());
        }
        self.tick();
    }

    /// Says why totals are not known, or that they are; returns how many connections that ends.
    pub(super) fn uncounted(&self, why: Option<String>) -> usize {
        if self.lock().uncounted == why {
            return 0;
        }
        self.change(|state, now| {
            state.uncounted = why;
            state.judge_again(now)
        })
    }

    fn change(&self, change: impl FnOnce(&mut State, Now) -> usize) -> usize {
        let now = self.now();
        let ended = change(&mut self.lock(), now);
        self.turn.send_modify(|turn| *turn += 1);
        ended
    }

    fn now(&self) -> Now {
        let passed = self.start.elapsed();
        // A clock that shows a time before 1970 was never set: by it everything has expired.
        let Ok(wall) = SystemTime::now().duration_since(UNIX_EPOCH) else {
            return Now { wall: 0, latest: i64::MAX, passed };
        };
        let latest = self.clock.latest(wall, passed);
        Now { wall: i64::try_from(wall.as_secs()).unwrap_or(i64::MAX), latest, passed }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("version", &self.version())
            .field("frozen", &self.frozen())
            .finish_non_exhaustive()
    }
}

impl State {
    fn set(&mut self, policy: Policy, version: String, now: Now) -> usize {
        self.meters.retain(|name, _| policy.rules.iter().any(|rule| rule.name == *name));
        for rule in &policy.rules {
            self.meters.entry(rule.name.clone()).or_default();
        }
        (self.policy, self.version) = (Some(Arc::new(policy)), version);
        self.judge_again(now)
    }

    fn admit(&mut self, target: Arc<Target>, now: Now) -> Result<(u64, Arc<Signal>), Refusal> {
        let rule = self.judge(&target, None, now, Stage::New)?;
        self.count(rule);
        self.each_meter(rule, |meter, limits| meter.arrived(limits, now.passed));
        let (number, signal) = (self.next, Arc::<Signal>::default());
        self.next += 1;
        self.live.insert(number, Live { target, address: None, rule, signal: Arc::clone(&signal), tie: None });
        Ok((number, signal))
    }

    /// Decides again, of the address that is dialed. The connection counts under the rule that allows it.
    fn settle(&mut self, number: u64, address: IpAddr, now: Now) -> Result<(), Refusal> {
        let Some(Live { target, rule: before, .. }) = self.live.get(&number) else { return Ok(()) };
        let (target, before) = (Arc::clone(target), *before);
        self.discount(before);
        let decided = self.judge(&target, Some(address), now, Stage::Settling(before));
        let rule = decided.as_ref().map_or(before, |rule| *rule);
        self.count(rule);
        if rule != before {
            self.meter_of(rule, |meter, limits| meter.arrived(limits, now.passed));
        }
        if let (Some(live), true) = (self.live.get_mut(&number), decided.is_ok()) {
            (live.address, live.rule) = (Some(address), rule);
        }
        decided.map(|_| ())
    }

    /// Counts octets of a connection; returns whether they are the last that its rule has.
    fn carried(&mut self, number: u64, octets: u64, now: Now) -> bool {
        let Some(live) = self.live.get(&number) else { return false };
        let mut is_last = false;
        self.each_meter(live.rule, |meter, limits| is_last |= meter.carried(octets, limits, now.passed));
        is_last
    }

    fn ready(&mut self, number: u64) -> Duration {
        let Some(live) = self.live.get(&number) else { return Duration::ZERO };
        let mut ready = Duration::ZERO;
        self.each_meter(live.rule, |meter, limits| ready = ready.max(meter.ready(limits)));
        ready
    }

    fn leave(&mut self, number: u64) {
        if let Some(live) = self.live.remove(&number) {
            self.discount(live.rule);
        }
    }

    fn cut(&mut self, tie: &Arc<Tie>) {
        let Err(refusal) = tie.check() else { return };
        for (number, live) in core::mem::take(&mut self.live) {
            if live.tie.as_ref().is_some_and(|tied| Arc::ptr_eq(tied, tie)) {
                self.discount(live.rule);
                live.signal.revoke(refusal.clone());
            } else {
                self.live.insert(number, live);
            }
        }
    }

    /// Decides about everything that is open again, the oldest first: beyond a limit the newest end. Returns how many do.
    fn judge_again(&mut self, now: Now) -> usize {
        self.holding = self.holding_at(now);
        self.whole.connections = 0;
        self.meters.values_mut().for_each(|meter| meter.connections = 0);
        let mut ended = 0;
        for (number, mut live) in core::mem::take(&mut self.live) {
            match self.judge(&live.target, live.address, now, Stage::Standing) {
                Ok(rule) => {
                    self.count(rule);
                    live.rule = rule;
                    self.live.insert(number, live);
                }
                Err(refusal) => {
                    live.signal.revoke(refusal);
                    ended += 1;
                }
            }
        }
        ended
    }

    fn judge(
        &self,
        target: &Target,
        address: Option<IpAddr>,
        now: Now,
        stage: Stage,
    ) -> Result<Option<usize>, Refusal> {
        if let Some(why) = &self.frozen {
            return Err(Refusal { reason: Reason::Frozen, rule: None, detail: format!("frozen: {why}") });
        }
        let Some(policy) = &self.policy else { return Ok(None) };
        let usage = |meter: &Meter, limits: &Limits, comes: bool| {
            let usage = meter.usage(limits, now.passed);
            let bytes = if self.uncounted.is_some() { u64::MAX } else { usage.bytes };
            Usage { hurried: usage.hurried && comes, bytes, ..usage }
        };
        let comes = |rule: usize| match stage {
            Stage::New => true,
            Stage::Settling(counted) => counted != Some(rule),
            Stage::Standing => false,
        };
        let rules: Vec<Usage> = policy
            .rules
            .iter()
            .enumerate()
            .map(|(number, rule)| {
                let meter = self.meters.get(&rule.name);
                meter.map_or_else(Usage::default, |meter| usage(meter, &rule.bounds.limits, comes(number)))
            })
            .collect();
        let facts = Facts {
            endpoint: &target.endpoint,
            upstream: &target.upstream,
            protocol: target.protocol,
            address,
            now: now.wall,
            latest: now.latest,
            whole: usage(&self.whole, &policy.bounds.limits, stage == Stage::New),
            rules: &rules,
        };
        match policy.judge(&facts) {
            Verdict::Allowed { rule } => Ok(Some(rule)),
            Verdict::Refused(mut refusal) => {
                if let (Reason::Bytes, Some(why)) = (refusal.reason, &self.uncounted) {
                    refusal.detail = format!("total_bytes: what was carried before is not known: {why}");
                }
                Err(refusal)
            }
        }
    }

    fn totals(&self) -> Totals {
        let rules = self.meters.iter().map(|(name, meter)| (name.clone(), meter.bytes)).collect();
        Totals { whole: self.whole.bytes, rules }
    }

    fn add(&mut self, totals: &Totals) {
        self.whole.bytes = self.whole.bytes.saturating_add(totals.whole);
        for (name, bytes) in &totals.rules {
            if let Some(meter) = self.meters.get_mut(name) {
                meter.bytes = meter.bytes.saturating_add(*bytes);
            }
        }
    }

    fn count(&mut self, rule: Option<usize>) {
        self.each_meter(rule, |meter, _| meter.connections = meter.connections.saturating_add(1));
    }

    fn discount(&mut self, rule: Option<usize>) {
        self.each_meter(rule, |meter, _| meter.connections = meter.connections.saturating_sub(1));
    }

    /// Calls `act` for what a connection under `rule` counts in: the rule, and the whole.
    fn each_meter(&mut self, rule: Option<usize>, mut act: impl FnMut(&mut Meter, &Limits)) {
        let Some(policy) = &self.policy else { return };
        let Some(rule) = rule.and_then(|rule| policy.rules.get(rule)) else { return };
        act(&mut self.whole, &policy.bounds.limits);
        if let Some(meter) = self.meters.get_mut(&rule.name) {
            act(meter, &rule.bounds.limits);
        }
    }

    /// Calls `act` for the rule's own.
    fn meter_of(&mut self, rule: Option<usize>, act: impl FnOnce(&mut Meter, &Limits)) {
        let Some(policy) = &self.policy else { return };
        let Some(rule) = rule.and_then(|rule| policy.rules.get(rule)) else { return };
        if let Some(meter) = self.meters.get_mut(&rule.name) {
            act(meter, &rule.bounds.limits);
        }
    }

    fn holds_as_before(&self, now: Now) -> bool {
        self.holding == self.holding_at(now)
    }

    fn holding_at(&self, now: Now) -> Vec<bool> {
        let Some(policy) = &self.policy else { return Vec::new() };
        let rules = policy.rules.iter().map(|rule| &rule.bounds);
        core::iter::once(&policy.bounds)
            .chain(rules)
            .map(|bounds| bounds.is_valid(now.latest) && bounds.is_open(now.wall))
            .collect()
    }
}

/// Whether a connection comes, or has come before: a rate is about those that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    /// Its address is known, and it may come under another rule than the one that it came under.
    Settling(Option<usize>),
    Standing,
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
