//! What is kept of requests, for as long as it may be.

use core::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Instant, SystemTime},
};

use super::{Exchange, Follower, Limits, Lost, Redact};
use crate::{config::CaptureConfig, policy::Guard};

/// The last requests. Without the configuration's wish, or without the policy's leave, there are none.
#[derive(Debug)]
pub(crate) struct Store {
    most: usize,
    limits: Limits,
    redact: Arc<Redact>,
    guard: Arc<Guard>,
    state: Mutex<State>,
    /// Octets of what is under way, of all connections together.
    under_way: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    kept: VecDeque<Arc<Record>>,
    weight: usize,
    /// What is under way, so that it can be forgotten at once.
    live: BTreeMap<u64, Weak<Mutex<Following>>>,
    next_live: u64,
    /// Connections that were given up before their end.
    given_up: u64,
}

/// A request that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Rises by one with each, and is never used again.
    pub(crate) id: u64,
    pub(crate) endpoint: String,
    /// Where it led.
    pub(crate) upstream: String,
    /// Who called, as the network says.
    pub(crate) caller: Option<SocketAddr>,
    /// When the head of the request had come.
    pub(crate) at: SystemTime,
    pub(crate) exchange: Exchange,
    /// The request that this one repeats.
    pub(crate) replay_of: Option<u64>,
}

/// Reads along on one connection.
#[derive(Debug)]
pub(crate) struct Tee {
    store: Arc<Store>,
    number: u64,
    following: Arc<Mutex<Following>>,
}

#[derive(Debug)]
struct Following {
    /// Nothing once it was forgotten: what comes later could not be understood.
    follower: Option<Follower>,
    endpoint: String,
    upstream: String,
    caller: Option<SocketAddr>,
    replay_of: Option<u64>,
    weight: usize,
    last: Option<Arc<Record>>,
}

impl Store {
    /// Keeps what `config` asks for, as long as the policy of `guard` allows it.
    pub(crate) fn new(config: &CaptureConfig, guard: Arc<Guard>) -> Arc<Self> {
        let limits = Limits { head: config.head, body: config.body };
        let redact = Arc::new(Redact::new(config.redact.iter().map(String::as_str)));
        let (state, under_way) = (Mutex::default(), AtomicUsize::new(0));
        Arc::new(Self { most: config.requests, limits, redact, guard, state, under_way })
    }

    /// Returns how many requests the configuration asks to keep.
    pub(crate) const fn most(&self) -> usize {
        self.most
    }

    /// Returns how much is kept of each message.
    pub(crate) const fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns whether the configuration asks for it and the policy allows it, at this moment.
    pub(crate) fn is_on(&self) -> bool {
        self.most > 0 && self.guard.captures()
    }

    /// Begins to read along on a connection, from its first octet; nothing while it may not.
    pub(crate) fn tee(
        self: &Arc<Self>,
        (endpoint, upstream): (&str, &str),
        caller: Option<SocketAddr>,
        replay_of: Option<u64>,
    ) -> Option<Tee> {
        if !self.is_on() {
            return None;
        }
        let follower = Some(Follower::new(self.limits, Arc::clone(&self.redact)));
        let (endpoint, upstream) = (endpoint.to_owned(), upstream.to_owned());
        let following = Following { follower, endpoint, upstream, caller, replay_of, weight: 0, last: None };
        let following = Arc::new(Mutex::new(following));
        let mut state = self.lock();
        let number = state.next_live;
        state.next_live += 1;
        state.live.insert(number, Arc::downgrade(&following));
        drop(state);
        Some(Tee { store: Arc::clone(self), number, following })
    }

    /// Forgets everything at once, of what is under way too, if it may not be kept.
    pub(crate) fn obey(&self) {
        if self.is_on() {
            return;
        }
        let mut state = self.lock();
        let forgotten = state.kept.len();
        state.kept = VecDeque::new();
        state.weight = 0;
        let live: Vec<_> = state.live.values().filter_map(Weak::upgrade).collect();
        drop(state);
        for following in live {
            let mut following = following.lock().unwrap_or_else(PoisonError::into_inner);
            (following.follower, following.last) = (None, None);
            self.under_way.fetch_sub(core::mem::take(&mut following.weight), Ordering::Relaxed);
        }
        if forgotten > 0 {
            tracing::warn!(requests = forgotten, "capture is not allowed any more: what was kept is forgotten");
        }
    }

    /// Obeys the policy, for as long as it is polled.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut changes = self.guard.changes();
        loop {
            self.obey();
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Returns what is kept, the newest first.
    pub(crate) fn list(&self) -> Vec<Arc<Record>> {
        if !self.is_on() {
            return Vec::new();
        }
        self.lock().kept.iter().rev().map(Arc::clone).collect()
    }

    /// Returns the request with a number, if it is kept.
    pub(crate) fn get(&self, id: u64) -> Option<Arc<Record>> {
        if !self.is_on() {
            return None;
        }
        self.lock().kept.iter().find(|record| record.id == id).map(Arc::clone)
    }

    /// Returns how many requests are kept, and how many connections were given up before their end.
    pub(crate) fn counts(&self) -> (usize, u64) {
        let state = self.lock();
        (state.kept.len(), state.given_up)
    }

    fn keep(&self, following: &mut Following, exchange: Exchange, now: Instant) {
        let age = now.saturating_duration_since(exchange.begun);
        let at = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut state = self.lock();
        if !self.is_on() {
            return; // asked within the lock: what is forgotten afterwards has this as well
        }
        state.weight += exchange.weight();
        let Following { endpoint, upstream, caller, replay_of, .. } = &*following;
        let (endpoint, upstream, id) = (endpoint.clone(), upstream.clone(), state.next);
        let record = Record { id, endpoint, upstream, caller: *caller, at, exchange, replay_of: *replay_of };
        let record = Arc::new(record);
        state.next += 1;
        state.kept.push_back(Arc::clone(&record));
        while state.kept.len() > self.most || state.weight > MAX_KEPT {
            let Some(oldest) = state.kept.pop_front() else { break };
            state.weight = state.weight.saturating_sub(oldest.exchange.weight());
        }
        following.last = Some(record);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tee {
    /// Takes octets that go to the upstream.
    pub(crate) fn up(&self, octets: &[u8]) {
        self.with(|follower, now| follower.handle_up(octets, now));
    }

    /// Takes octets that come from the upstream; none are its end.
    pub(crate) fn down(&self, octets: &[u8]) {
        self.with(
            |follower, now| {
                if octets.is_empty() { follower.handle_down_end(now) } else { follower.handle_down(octets, now) }
            },
        );
    }

    /// Returns the last request that was kept of this connection.
    pub(crate) fn last(&self) -> Option<Arc<Record>> {
        self.following.lock().unwrap_or_else(PoisonError::into_inner).last.clone()
    }

    /// The connection is over.
    pub(crate) fn end(&self) {
        self.with(Follower::handle_end);
    }

    fn with(&self, act: impl FnOnce(&mut Follower, Instant)) {
        let now = Instant::now();
        let mut following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut follower) = following.follower.take() else { return };
        act(&mut follower, now);
        let weight = follower.weight();
        let all = self.store.under_way.fetch_add(weight, Ordering::Relaxed).saturating_add(weight);
        let all = all.saturating_sub(following.weight);
        self.store.under_way.fetch_sub(core::mem::replace(&mut following.weight, weight), Ordering::Relaxed);
        if all > MAX_UNDER_WAY {
            follower.lose(Lost::Memory, now);
        }
        while let Some(exchange) = follower.poll_exchange() {
            self.store.keep(&mut following, exchange, now);
        }
        match follower.lost() {
            None => following.follower = Some(follower),
            Some(lost) => {
                self.store.under_way.fetch_sub(core::mem::take(&mut following.weight), Ordering::Relaxed);
                if lost != Lost::Over {
                    self.store.lock().given_up += 1;
                    tracing::debug!(name = following.endpoint, why = ?lost, "requests of a connection are not seen any more");
                }
            }
        }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.end();
        self.store.lock().live.remove(&self.number);
    }
}

/// What is kept does not take more memory, in octets, however many requests are asked for.
const MAX_KEPT: usize = 16 << 20;
/// What is under way does not take more, of all connections together.
const MAX_UNDER_WAY: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::{Found, Policy};

    fn set(guard: &Guard, text: &str) {
        let text = format!("version: 1\n{text}");
        let policy = Policy::parse(Path::new("policy.yml"), &text).unwrap();
        guard.set(Found { policy, text }, "one".into());
    }

    fn store(requests: usize) -> (Arc<Store>, Arc<Guard>) {
        let guard = Guard::new();
        set(&guard, "capture: true\n");
        let config = CaptureConfig { requests, ..CaptureConfig::default() };
        (Store::new(&config, Arc::clone(&guard)), guard)
    }

    fn talk(tee: &Tee, path: &str) {
        tee.up(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
        tee.down(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
    }

    fn targets(store: &Store) -> Vec<String> {
        store.list().iter().map(|record| record.exchange.request.target.clone()).collect()
    }

    #[test]
    fn the_last_requests_are_kept_the_newest_first() {
        let (store, _guard) = store(2);
        let tee = store.tee(("web", "localhost:1"), None, None).unwrap();

        for path in ["/1", "/2", "/3"] {
            talk(&tee, path);
        }

        assert_eq!(targets(&store), ["/3", "/2"]);
        assert_eq!((store.get(0), store.get(2).map(|record| record.id)), (None, Some(2)));
    }

    #[test]
    fn nothing_is_kept_unless_both_the_policy_and_the_configuration_want_it() {
        assert!(store(0).0.tee(("web", "localhost:1"), None, None).is_none(), "not asked for");
        let config = CaptureConfig { requests: 9, ..CaptureConfig::default() };
        let guard = Guard::new();
        let store = Store::new(&config, Arc::clone(&guard));
        assert!(store.tee(("web", "localhost:1"), None, None).is_none(), "no policy");
        set(&guard, "");
        assert!(store.tee(("web", "localhost:1"), None, None).is_none(), "not allowed");
        set(&guard, "capture: true\nexpires: 2020-01-01T00:00:00Z\n");
        assert!(store.tee(("web", "localhost:1"), None, None).is_none(), "not any more");
        set(&guard, "capture: true\n");
        assert!(store.tee(("web", "localhost:1"), None, None).is_some());
    }

    #[test]
    fn a_policy_that_is_tightened_forgets_what_is_kept_and_what_is_under_way() {
        let (store, guard) = store(9);
        let tee = store.tee(("web", "localhost:1"), None, None).unwrap();
        talk(&tee, "/1");
        tee.up(b"GET /2 HTTP/1.1\r\n\r\n");
        assert!(store.under_way.load(Ordering::Relaxed) > 0);

        set(&guard, "capture: false\n");
        assert!(store.list().is_empty() && store.get(0).is_none(), "before anything was forgotten");
        store.obey();
        assert_eq!((store.counts().0, store.under_way.load(Ordering::Relaxed)), (0, 0));

        set(&guard, "capture: true\n");
        talk(&tee, "/3");
        assert!(store.list().is_empty(), "a connection of before is not understood any more");
        talk(&store.tee(("web", "localhost:1"), None, None).unwrap(), "/4");
        assert_eq!((targets(&store), store.list()[0].id), (vec!["/4".to_owned()], 1));
    }

    #[test]
    fn what_is_under_way_is_bounded_over_all_connections() {
        let (store, _guard) = store(9);
        let head = format!("GET / HTTP/1.1\r\na: {}", "x".repeat(15_000));
        let tees: Vec<_> = (0..1_000).map(|_| store.tee(("web", "localhost:1"), None, None).unwrap()).collect();

        for tee in &tees {
            tee.up(head.as_bytes());
            assert!(store.under_way.load(Ordering::Relaxed) <= MAX_UNDER_WAY);
        }

        assert!(store.counts().1 > 0, "some were given up");
        drop(tees);
        assert_eq!((store.under_way.load(Ordering::Relaxed), store.lock().live.len()), (0, 0));
    }
}
