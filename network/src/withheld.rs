//! What agents do not ask for although their configurations name it: hints for whoever runs the network, which prove nothing (BIND-024).

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Instant, SystemTime},
};

use adit_core::{AgentId, Code, SessionId};
use parking_lot::Mutex;
use prometheus_client::metrics::{family::Family, gauge::Gauge};
use serde_json::{Value, json};

use crate::{departures::shown, metrics::WireLabel, router::Key, seeing::Time};

/// What is withheld, by the sessions that said so.
#[derive(Debug, Default)]
pub struct Withholdings {
    table: Mutex<Table>,
    /// So many, by the code.
    gauge: Family<WireLabel, Gauge>,
}

#[derive(Debug, Default)]
struct Table {
    hints: BTreeMap<Place, (Arc<Key>, Hint)>,
    keys: HashMap<Arc<Key>, BTreeSet<Place>>,
    accounts: HashMap<i64, usize>,
}

/// A session, and the URL as it was said there.
type Place = (SessionId, String);

/// What an agent says of an endpoint that it does not ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Since when.
    pub since: SystemTime,
    /// Why.
    pub code: Code,
    /// Why, in the agent's words: harmless and short.
    pub text: String,
    /// Who.
    pub agent: AgentId,
    /// Whose.
    pub account: i64,
}

impl Hint {
    /// Returns what an agent of an account says now.
    pub fn new(code: Code, text: &str, agent: AgentId, account: i64) -> Self {
        Self { since: SystemTime::now(), code, text: shown(text), agent, account }
    }

    /// Returns it for programs to read.
    pub fn json(&self) -> Value {
        json!({
            "since": Time(self.since).to_string(),
            "code": self.code.to_string(),
            "text": self.text,
            "agent": self.agent.to_string(),
        })
    }
}

impl Withholdings {
    /// Returns an empty table that keeps a number.
    pub fn new(gauge: Family<WireLabel, Gauge>) -> Self {
        Self { table: Mutex::default(), gauge }
    }

    /// Keeps what a session says of an endpoint, in place of what it said before; returns whether there was room. Of one account
    /// 1,024 are kept, and 4,096 of all.
    pub fn note(&self, session: SessionId, url: &str, key: Arc<Key>, hint: Hint) -> bool {
        let (mut table, place) = (self.table.lock(), (session, url.to_owned()));
        self.count(table.remove(&place));
        let of_account = table.accounts.get(&hint.account).copied().unwrap_or_default();
        if table.hints.len() >= MOST || of_account >= MOST_OF_ACCOUNT {
            return false;
        }
        self.gauge.get_or_create(&WireLabel::of(hint.code)).inc();
        *table.accounts.entry(hint.account).or_default() += 1;
        table.keys.entry(Arc::clone(&key)).or_default().insert(place.clone());
        table.hints.insert(place, (key, hint));
        true
    }

    /// Forgets what a session said of one URL; returns whether anything was kept.
    pub fn take_back(&self, session: SessionId, url: &str) -> bool {
        let gone = self.table.lock().remove(&(session, url.to_owned()));
        let was_there = gone.is_some();
        self.count(gone);
        was_there
    }

    /// Forgets what a session said, but for the endpoints that `keeps` says so of.
    pub fn retain(&self, session: SessionId, keeps: impl Fn(&Key) -> bool) {
        let mut table = self.table.lock();
        let said = table.hints.range((session, String::new())..).take_while(|((other, _), _)| *other == session);
        let lost: Vec<_> = said.filter(|(_, (key, _))| !keeps(key)).map(|(place, _)| place.clone()).collect();
        for place in lost {
            self.count(table.remove(&place));
        }
    }

    /// Forgets what other accounts said of an endpoint: it is this one's.
    pub fn claimed(&self, key: &Key, account: i64) {
        let mut table = self.table.lock();
        let Some(places) = table.keys.get(key) else { return };
        let foreign = |place: &&Place| table.hints.get(*place).is_some_and(|(_, hint)| hint.account != account);
        let lost: Vec<_> = places.iter().filter(foreign).cloned().collect();
        for place in lost {
            self.count(table.remove(&place));
        }
    }

    /// Returns what is said of an endpoint.
    pub fn of(&self, key: &Key) -> Vec<Hint> {
        let table = self.table.lock();
        let places = table.keys.get(key).into_iter().flatten();
        places.filter_map(|place| table.hints.get(place)).map(|(_, hint)| hint.clone()).collect()
    }

    /// Returns the endpoints that something is said of.
    pub fn keys(&self) -> Vec<Arc<Key>> {
        self.table.lock().keys.keys().map(Arc::clone).collect()
    }

    fn count(&self, gone: Option<Hint>) {
        if let Some(hint) = gone {
            self.gauge.get_or_create(&WireLabel::of(hint.code)).dec();
        }
    }
}

impl Table {
    fn remove(&mut self, place: &Place) -> Option<Hint> {
        let (key, hint) = self.hints.remove(place)?;
        if let Some(places) = self.keys.get_mut(&key) {
            places.remove(place);
            if places.is_empty() {
                self.keys.remove(&key);
            }
        }
        if let Some(count) = self.accounts.get_mut(&hint.account) {
            *count -= 1;
            if *count == 0 {
                self.accounts.remove(&hint.account);
            }
        }
        Some(hint)
    }
}

/// How many lines of the log the hints of one session may be: a hundred at once, and ten a second.
#[derive(Debug)]
pub struct Pace {
    spare: u64,
    since: Instant,
}

impl Pace {
    /// Returns a pace that begins now.
    pub const fn new(now: Instant) -> Self {
        Self { spare: BURST, since: now }
    }

    /// Returns whether one line more may be written.
    pub fn allows(&mut self, now: Instant) -> bool {
        let gained = u64::try_from(now.duration_since(self.since).as_millis() / 100).unwrap_or(u64::MAX);
        if gained >= BURST {
            *self = Self::new(now);
        } else {
            self.spare = self.spare.saturating_add(gained).min(BURST);
            self.since += Duration::from_millis(gained * 100);
        }
        let allowed = self.spare > 0;
        self.spare = self.spare.saturating_sub(1);
        allowed
    }
}

/// So many endpoints may be withheld, some 4 MiB at most.
const MOST: usize = 4_096;
const MOST_OF_ACCOUNT: usize = 1_024;
const BURST: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    /// BIND-024
    #[test]
    fn what_a_session_said_is_known_until_it_takes_it_back_or_ends() {
        let (table, port) = (Withholdings::default(), Arc::new(Key::Port(1)));
        let said = |code| Hint::new(code, "why", AgentId::default(), 1);
        assert!(table.note(session(1), "tcp://:1", Arc::clone(&port), said(Code::DISALLOWED)));
        assert!(table.note(session(1), "tcp://:1", Arc::clone(&port), said(Code::CERTIFICATE)));
        assert!(table.note(session(2), "tcp://:1", Arc::clone(&port), said(Code::DISALLOWED)));
        assert_eq!(codes(&table, &port), [Code::CERTIFICATE, Code::DISALLOWED]);
        assert_eq!((count(&table, Code::CERTIFICATE), count(&table, Code::DISALLOWED)), (1, 1));

        assert!(table.take_back(session(1), "tcp://:1"));
        assert!(!table.take_back(session(1), "tcp://:1"));
        assert_eq!(codes(&table, &port), [Code::DISALLOWED]);
        table.retain(session(1), |_| false);
        assert_eq!(codes(&table, &port), [Code::DISALLOWED], "it is another session's");
        table.retain(session(2), |_| true);
        assert_eq!(codes(&table, &port), [Code::DISALLOWED]);
        table.retain(session(2), |_| false);

        assert_eq!((codes(&table, &port), table.keys()), (vec![], vec![]));
        assert_eq!((count(&table, Code::CERTIFICATE), count(&table, Code::DISALLOWED)), (0, 0));
        assert!(table.table.lock().accounts.is_empty());
    }

    /// BIND-024
    #[test]
    fn of_an_endpoint_that_an_account_has_bound_nothing_is_kept_that_others_said() {
        let (table, port) = (Withholdings::default(), Arc::new(Key::Port(1)));
        for (number, account) in [(1, 7), (2, 8)] {
            let hint = Hint::new(Code::DISALLOWED, "", AgentId::default(), account);
            table.note(session(number), "tcp://:1", Arc::clone(&port), hint);
        }

        table.claimed(&port, 7);

        assert_eq!(table.of(&port).iter().map(|hint| hint.account).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn one_account_takes_no_more_than_its_part_and_all_no_more_than_there_is() {
        let table = Withholdings::default();
        let note = |account: i64, number: usize| {
            let key = Arc::new(Key::Port(u16::try_from(number).unwrap()));
            let hint = Hint::new(Code::DISALLOWED, "", AgentId::default(), account);
            table.note(session(u8::try_from(account).unwrap()), &format!("tcp://:{number}"), key, hint)
        };
        assert!((0..MOST_OF_ACCOUNT).all(|number| note(1, number)));
        assert!(!note(1, MOST_OF_ACCOUNT));
        assert!(note(1, 0), "it is no other");

        let parts = i64::try_from(MOST / MOST_OF_ACCOUNT).unwrap();
        assert!((2..=parts).all(|account| (0..MOST_OF_ACCOUNT).all(|number| note(account, number))));
        assert!(!note(parts + 1, 0));
    }

    #[test]
    fn lines_are_as_many_as_a_burst_and_then_ten_a_second() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut lines = |at: u64| {
            let now = start + Duration::from_millis(at);
            (0..1_000).filter(|_| pace.allows(now)).count()
        };

        assert_eq!([0, 99, 100, 1_150, 1_199, 1_200].map(&mut lines), [100, 0, 1, 10, 0, 1]);
        assert_eq!(lines(60_000), 100);
    }

    /// MSG-007
    #[test]
    fn what_an_agent_says_is_harmless_and_short() {
        let hint = Hint::new(Code(0xdead_beef), "\u{1b}[2Jok\n\u{202e}", AgentId::default(), 1);
        assert_eq!(hint.text, "\\u{1b}[2Jok\\u{a}\\u{202e}");
        assert_eq!(hint.json()["code"].as_str(), Some("0xdeadbeef"));
        assert_eq!(Hint::new(Code::FROZEN, &"x".repeat(1_024), AgentId::default(), 1).text.len(), 256);
    }

    fn codes(table: &Withholdings, key: &Key) -> Vec<Code> {
        table.of(key).into_iter().map(|hint| hint.code).collect()
    }

    fn count(table: &Withholdings, code: Code) -> i64 {
        table.gauge.get_or_create(&WireLabel::of(code)).get()
    }

    fn session(number: u8) -> SessionId {
        SessionId([number; 16])
    }
}
