//! What came of each rule and action, so that every decision can be explained.

use core::fmt;
use std::borrow::Cow;

use super::{Effect, Failure, Outcome, Policy};
use crate::environment::Phase;

/// What came of each rule and action of a phase, in the order in which they were looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    phase: Phase,
    entries: Vec<Entry>,
}

/// What came of a rule, or of one of its actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which rule, from zero.
    pub rule: usize,
    /// Which of its actions, from zero; the rule's expressions when there is none.
    pub action: Option<usize>,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a rule or an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All expressions are true.
    Matched,
    /// An expression is false.
    NotMatched,
    /// It could not be decided.
    Failed(Failure),
    /// The action was done.
    Done,
    /// The action asked the world.
    Asked,
    /// The action ended the phase with an answer.
    Responded,
    /// The action ended the phase with a refusal of this status, perhaps with what was wrong.
    Refused(u16, Option<Cow<'static, str>>),
    /// The action ended the phase and the connection.
    Closed,
    /// The action ended the phase with a forward.
    Forwarded,
}

impl Verdict {
    pub(super) fn of(effect: &Result<Effect, Failure>) -> Self {
        match effect {
            Ok(Effect::Next | Effect::Change(_)) => Self::Done,
            Ok(Effect::Ask(_)) => Self::Asked,
            Ok(Effect::End(Outcome::Continue)) => Self::Done,
            Ok(Effect::End(Outcome::Respond(_))) => Self::Responded,
            Ok(Effect::End(Outcome::Refuse(refusal))) => Self::Refused(refusal.status, refusal.reason.clone()),
            Ok(Effect::End(Outcome::Close)) => Self::Closed,
            Ok(Effect::End(Outcome::Forward { .. })) => Self::Forwarded,
            Err(failure) => Self::Failed(failure.clone()),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matched => f.write_str("matched"),
            Self::NotMatched => f.write_str("not matched"),
            Self::Failed(failure) if failure.is_limit() => write!(f, "over budget: {failure}"),
            Self::Failed(failure) => write!(f, "failed: {failure}"),
            Self::Done => f.write_str("done"),
            Self::Asked => f.write_str("asked"),
            Self::Responded => f.write_str("responded"),
            Self::Refused(status, None) => write!(f, "refused with {status}"),
            Self::Refused(status, Some(reason)) => write!(f, "refused with {status}: {reason}"),
            Self::Closed => f.write_str("closed"),
            Self::Forwarded => f.write_str("forwarded"),
        }
    }
}

impl Trace {
    pub(super) fn new(phase: Phase) -> Self {
        Self { phase, entries: Vec::new() }
    }

    pub(super) fn add(&mut self, rule: usize, action: Option<usize>, verdict: Verdict) {
        self.entries.push(Entry { rule, action, verdict });
    }

    /// Returns what came of each.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the types of the actions that had their say.
    pub fn actions<'t>(&'t self, policy: &'t Policy) -> impl Iterator<Item = &'static str> + 't {
        let rules = policy.document().rules(self.phase);
        let action = |entry: &Entry| rules.get(entry.rule)?.actions.get(entry.action?).map(|action| action.name());
        self.entries.iter().filter_map(action)
    }

    /// Returns each entry as text: `on_http_request[2] admin: matched`, `on_http_request[2] admin: deny: refused with 403`.
    pub fn lines<'t>(&'t self, policy: &'t Policy) -> impl Iterator<Item = String> + 't {
        self.entries.iter().map(|entry| self.line(entry, policy))
    }

    /// Returns what had a part in the decision as text: all but expressions that are false, for which nothing is written.
    pub fn fired<'t>(&'t self, policy: &'t Policy) -> impl Iterator<Item = String> + 't {
        let fired = self.entries.iter().filter(|entry| entry.verdict != Verdict::NotMatched);
        fired.map(|entry| self.line(entry, policy))
    }

    fn line(&self, entry: &Entry, policy: &Policy) -> String {
        let Entry { rule, action, verdict } = entry;
        let found = policy.document().rules(self.phase).get(*rule);
        let name = found.and_then(|rule| rule.name.as_deref());
        let action = action.and_then(|at| found?.actions.get(at)).map(|action| action.name());
        let (before, colon) = (name.map_or("", |_| " "), action.map_or("", |_| ":"));
        let (phase, name) = (self.phase.name(), name.unwrap_or_default());
        let (between, action) = (action.map_or("", |_| " "), action.unwrap_or_default());
        format!("{phase}[{rule}]{before}{name}:{between}{action}{colon} {verdict}")
    }
}
