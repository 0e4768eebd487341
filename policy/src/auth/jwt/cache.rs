//! When an issuer's keys are fetched, and how long they are used.
//!
//! How long that is, [`Terms`] say, which are [`FRESH`], [`STALE`] and [`PAUSE`] where nobody says otherwise. Fresh keys are used without asking.
//! After that they are used while others are fetched, and for no longer than the second when nothing can be fetched: an issuer that is down for an hour keeps nobody out, and one that cannot be asked for longer can have taken its keys back.
//! A key that is not known makes one fetch at once. Whatever the reason, there is one fetch at a time of an address, and none sooner than
//! the third after the last: who sends tokens with keys that nobody has makes us ask the issuer once a minute, and no more.

use core::time::Duration;
use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::KeySet;

/// How long keys are used without asking again.
pub const FRESH: Duration = Duration::from_secs(15 * 60);
/// How long keys are used when nothing can be fetched.
pub const STALE: Duration = Duration::from_secs(6 * 60 * 60);
/// The least time between two fetches of one address.
pub const PAUSE: Duration = Duration::from_secs(60);
/// The most sets that are kept; then the one goes that was fetched first.
pub const MOST_SETS: usize = 1_000;

/// How long keys are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Without asking again.
    pub fresh: Duration,
    /// When nothing can be fetched.
    pub stale: Duration,
    /// The least time between two fetches of one address.
    pub pause: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { fresh: FRESH, stale: STALE, pause: PAUSE }
    }
}

/// The keys of issuers, by the address that they are fetched from. What belongs to two accounts is two caches, or has two keys.
#[derive(Debug)]
pub struct KeyCache<K> {
    terms: Terms,
    sets: BTreeMap<K, Entry>,
}

#[derive(Debug)]
struct Entry {
    keys: Option<(Arc<KeySet>, Instant)>,
    asked: Instant,
    is_fetching: bool,
}

/// What to do about an address.
#[derive(Clone, Debug)]
pub enum Look {
    /// Use these.
    Use(Arc<KeySet>),
    /// Use these, and fetch without waiting for it; [`KeyCache::on_fetched`] is called with the outcome.
    Refresh(Arc<KeySet>),
    /// Fetch, call [`KeyCache::on_fetched`] with the outcome, and look again, no longer for fresh ones.
    Fetch,
    /// Somebody fetches: wait for it, and look again, no longer for fresh ones.
    Wait,
    /// There are none.
    Unavailable,
}

impl<K> Default for KeyCache<K> {
    fn default() -> Self {
        Self { terms: Terms::default(), sets: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> KeyCache<K> {
    /// Takes other terms, from here on also for keys that are there.
    pub fn set_terms(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// Looks for the keys of an address. `fresh` says that those that were there did not have the key of a token.
    pub fn look(&mut self, address: &K, fresh: bool, now: Instant) -> Look {
        let Terms { fresh: refresh, stale, pause } = self.terms;
        let Some(entry) = self.sets.get_mut(address) else {
            self.make_room();
            self.sets.insert(address.clone(), Entry { keys: None, asked: now, is_fetching: true });
            return Look::Fetch;
        };
        let age = |(_, at): &(Arc<KeySet>, Instant)| now.saturating_duration_since(*at);
        let usable = entry.keys.as_ref().filter(|keys| age(keys) <= stale);
        let may_fetch = !entry.is_fetching && now.saturating_duration_since(entry.asked) >= pause;
        let look = match (usable, may_fetch) {
            (Some(_), true) if fresh => Look::Fetch,
            (Some(_), false) if fresh && entry.is_fetching => Look::Wait,
            (Some(keys), true) if age(keys) > refresh => Look::Refresh(Arc::clone(&keys.0)),
            (Some(keys), _) => Look::Use(Arc::clone(&keys.0)),
            (None, true) => Look::Fetch,
            (None, false) if entry.is_fetching => Look::Wait,
            (None, false) => Look::Unavailable,
        };
        if let Look::Fetch | Look::Refresh(_) = look {
            entry.is_fetching = true;
            entry.asked = now;
        }
        look
    }

    /// Takes what came of a fetch; nothing when it failed, which leaves the keys that were there.
    pub fn on_fetched(&mut self, address: &K, keys: Option<KeySet>, now: Instant) {
        let Some(entry) = self.sets.get_mut(address) else { return };
        entry.is_fetching = false;
        if let Some(keys) = keys {
            entry.keys = Some((Arc::new(keys), now));
        }
    }

    /// Returns how many addresses are known.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Returns whether none is known.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    fn make_room(&mut self) {
        if self.sets.len() < MOST_SETS {
            return;
        }
        let first = self.sets.iter().filter(|(_, entry)| !entry.is_fetching).min_by_key(|(_, entry)| entry.asked);
        let first = first.or_else(|| self.sets.iter().min_by_key(|(_, entry)| entry.asked));
        if let Some(address) = first.map(|(address, _)| address.clone()) {
            self.sets.remove(&address);
        }
    }
}
