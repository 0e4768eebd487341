//! Why endpoints are away: for each that somebody served and left, who left last, and what was said of it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use adit_core::{AgentId, Cause, Code, SessionId, Unbind, escape};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{router::Key, seeing::Time};

/// The last departure from each endpoint, until somebody serves it again.
#[derive(Debug, Default)]
pub struct Departures(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    last: HashMap<Arc<Key>, (u64, Departure)>,
    /// By number, the oldest first.
    order: BTreeMap<u64, Arc<Key>>,
    next: u64,
}

/// Somebody who served an endpoint and does not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// When.
    pub at: SystemTime,
    /// How it came.
    pub how: How,
    /// Why; [`Code::NO_ERROR`] where nothing was said.
    pub code: Code,
    /// Why, in words that may be the agent's own: harmless and short.
    pub text: String,
    /// Whose session it was.
    pub agent: AgentId,
    /// The session.
    pub session: SessionId,
}

/// How an endpoint came to be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The agent gave it up.
    GivenUp,
    /// The agent's session ended.
    SessionEnded,
    /// The network took it back.
    TakenBack,
}

impl How {
    /// Returns the word for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::GivenUp => "given up",
            Self::SessionEnded => "session ended",
            Self::TakenBack => "taken back",
        }
    }
}

impl Departure {
    /// An agent gave an endpoint up.
    pub fn given_up(unbind: &Unbind, (agent, session): (AgentId, SessionId)) -> Self {
        Self::new(How::GivenUp, unbind.code, &unbind.text, (agent, session))
    }

    /// A session ended, and nobody serves what it had bound.
    pub fn session_ended(cause: &Cause, of: (AgentId, SessionId)) -> Self {
        let how = How::SessionEnded;
        match cause {
            Cause::Remote(close) => Self::new(how, close.code, &close.text, of),
            Cause::Refused(refusal) => Self::new(how, refusal.code, &refusal.text, of),
            Cause::Local(code) => Self::new(how, *code, &cause.to_string(), of),
            Cause::Violation(violation) => Self::new(how, violation.code(), &cause.to_string(), of),
            Cause::ResumeExpired => Self::new(how, Code::RESUME_EXPIRED, &cause.to_string(), of),
            Cause::HandshakeTimeout => Self::new(how, Code::HANDSHAKE_TIMEOUT, &cause.to_string(), of),
            Cause::Dead { .. } | Cause::Stalled { .. } | Cause::Unacknowledged => {
                Self::new(how, Code::DEAD, &cause.to_string(), of)
            }
            Cause::Eof { .. } | Cause::Transport(_) => Self::new(how, Code::SESSION_LOST, &cause.to_string(), of),
        }
    }

    /// The network took an endpoint back.
    pub fn taken_back(code: Code, text: &str, of: (AgentId, SessionId)) -> Self {
        Self::new(How::TakenBack, code, text, of)
    }

    fn new(how: How, code: Code, text: &str, (agent, session): (AgentId, SessionId)) -> Self {
        Self { at: SystemTime::now(), how, code, text: shown(text), agent, session }
    }

    /// Returns it for programs to read.
    pub fn json(&self) -> Value {
        json!({
            "at": Time(self.at).to_string(),
            "how": self.how.word(),
            "code": self.code.to_string(),
            "text": self.text,
            "agent": self.agent.to_string(),
            "session": self.session.to_string(),
        })
    }
}

impl Departures {
    /// Notes that somebody left an endpoint. Beyond `MOST` endpoints that nobody came back to the oldest is forgotten.
    pub fn note(&self, key: &Arc<Key>, departure: Departure) {
        let mut table = self.0.lock();
        table.forget(key);
        let number = table.next;
        table.next += 1;
        table.last.insert(Arc::clone(key), (number, departure));
        table.order.insert(number, Arc::clone(key));
        if table.order.len() > MOST
            && let Some((_, oldest)) = table.order.pop_first()
        {
            table.last.remove(&oldest);
        }
    }

    /// Forgets why an endpoint was away: somebody serves it.
    pub fn forget(&self, key: &Key) {
        self.0.lock().forget(key);
    }

    /// Returns who left an endpoint last, and did not come back.
    pub fn of(&self, key: &Key) -> Option<Departure> {
        self.0.lock().last.get(key).map(|(_, departure)| departure.clone())
    }

    /// Returns the endpoints that were left.
    pub fn keys(&self) -> Vec<Arc<Key>> {
        self.0.lock().order.values().map(Arc::clone).collect()
    }
}

impl Table {
    fn forget(&mut self, key: &Key) {
        if let Some((number, _)) = self.last.remove(key) {
            self.order.remove(&number);
        }
    }
}

/// Returns what an agent wrote as it may stand in a log or on a page: harmless (MSG-007), and no longer than a line bears (V94).
pub(crate) fn shown(text: &str) -> String {
    escape(text).to_string().chars().take(LONGEST).collect()
}

/// So many endpoints may be away with a reason, some 2 MiB at most.
const MOST: usize = 4_096;
/// The longest text, in characters.
const LONGEST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_who_left_is_told_of_until_somebody_comes() {
        let (departures, key) = (Departures::default(), Arc::new(Key::Port(1)));
        departures.note(&key, left("first"));
        departures.note(&key, left("second"));

        assert_eq!(departures.of(&key).map(|one| one.text), Some("second".to_owned()));
        assert_eq!(departures.keys(), [Arc::clone(&key)]);
        departures.forget(&key);
        assert_eq!((departures.of(&key), departures.keys().len()), (None, 0));
    }

    #[test]
    fn beyond_the_bound_the_oldest_is_forgotten() {
        let departures = Departures::default();
        let key = |number: usize| Arc::new(Key::Port(u16::try_from(number).unwrap()));
        (0..=MOST).for_each(|number| departures.note(&key(number), left("x")));

        assert_eq!((departures.of(&key(0)), departures.of(&key(1)).is_some()), (None, true));
        let table = departures.0.lock();
        assert_eq!((table.last.len(), table.order.len()), (MOST, MOST));
    }

    /// MSG-007
    #[test]
    fn what_an_agent_says_is_harmless_and_short() {
        let hostile = Unbind::new(adit_core::BindId(1)).because(Code(0xdead_beef), "\u{1b}[2Jok\nlevel=error \u{202e}");
        let told = Departure::given_up(&hostile, Default::default());
        assert_eq!(told.text, "\\u{1b}[2Jok\\u{a}level=error \\u{202e}");
        let page = told.json();
        assert_eq!((page["how"].as_str(), page["code"].as_str()), (Some("given up"), Some("0xdeadbeef")));

        assert_eq!(shown(&"\u{1b}".repeat(1_024)).chars().count(), LONGEST);
    }

    #[test]
    fn the_end_of_a_session_says_why_as_the_agent_said_it() {
        let close = adit_core::Close { code: Code::FROZEN, text: "the customer has frozen this agent".into() };
        let told = Departure::session_ended(&Cause::Remote(close), Default::default());
        assert_eq!((told.code, &*told.text), (Code::FROZEN, "the customer has frozen this agent"));

        let dead = Cause::Dead { silent_for: adit_core::Duration::from_secs(25) };
        let told = Departure::session_ended(&dead, Default::default());
        assert_eq!((told.how, told.code), (How::SessionEnded, Code::DEAD));
    }

    fn left(text: &str) -> Departure {
        Departure::taken_back(Code::IN_USE, text, Default::default())
    }
}
