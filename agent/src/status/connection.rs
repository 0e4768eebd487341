//! The last attempt to connect, step by step, and the last ends of connections.

use core::time::Duration;
use std::{collections::VecDeque, time::SystemTime};

use adit_core::escape;
use adit_tokio::{StepResult, StepTaken};

use crate::errors::{Error, clip};

/// An attempt to connect to the network that is over, whatever came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// When it ended.
    pub ended: SystemTime,
    /// The place among the agent's sessions, from 0.
    pub lane: u8,
    /// The network as configured, `host:port`.
    pub network: String,
    /// The steps, in the order in which they were taken. The last is the one that failed, if there is an error.
    pub steps: Vec<StepState>,
    /// Why it led to no session, and what to do; empty when it did.
    pub error: String,
}

/// A step of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepState {
    /// Which: `dns`, `tcp`, `proxy`, `tls`, `session`.
    pub step: &'static str,
    /// How long it took.
    pub took: Duration,
    /// Whether it is done.
    pub outcome: StepOutcome,
    /// What was found, such as addresses, or what was wrong. Safe to print.
    pub detail: String,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// It is done.
    Done,
    /// It failed.
    Failed,
    /// The attempt was given up meanwhile.
    Unfinished,
}

impl StepOutcome {
    /// Returns the word for texts and JSON: `ok`, `failed` or `unfinished`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Failed => "failed",
            Self::Unfinished => "unfinished",
        }
    }
}

/// A connection to the network that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disconnect {
    /// When.
    pub at: SystemTime,
    /// The place among the agent's sessions, from 0.
    pub lane: u8,
    /// Why, beginning with the stable code. Safe to print.
    pub reason: String,
    /// Whether the session and its open connections waited for the next one.
    pub kept: bool,
}

impl Attempt {
    pub(crate) fn new(lane: u8, network: &str, taken: Vec<StepTaken>, error: Option<&Error>) -> Self {
        let error = error.map(|error| format!("{error}. {}", error.fault.entry().remedy)).unwrap_or_default();
        let steps = taken.into_iter().map(|taken| {
            let (outcome, detail) = match taken.result {
                StepResult::Done(found) => (StepOutcome::Done, clip(&escape(&found).to_string())),
                StepResult::Failed => (StepOutcome::Failed, error.clone()),
                StepResult::Unfinished => (StepOutcome::Unfinished, String::new()),
            };
            StepState { step: taken.step.word(), took: taken.took, outcome, detail }
        });
        let steps = steps.collect();
        Self { ended: SystemTime::now(), lane, network: network.to_owned(), steps, error }
    }
}

/// Notes the end of a connection; of those that are kept the oldest makes room.
pub(crate) fn note(disconnects: &mut VecDeque<Disconnect>, lane: u8, error: &Error, kept: bool) {
    if disconnects.len() >= MAX_DISCONNECTS {
        disconnects.pop_front();
    }
    disconnects.push_back(Disconnect { at: SystemTime::now(), lane, reason: error.to_string(), kept });
}

/// Ends of connections that are remembered.
const MAX_DISCONNECTS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Fault;

    #[test]
    fn the_last_ten_disconnects_are_kept_in_order() {
        let mut disconnects = VecDeque::new();
        for number in 0..12 {
            note(&mut disconnects, number, &Error::new(Fault::Silent, "25s".to_owned()), true);
        }

        let lanes: Vec<_> = disconnects.iter().map(|one| one.lane).collect();
        assert_eq!(lanes, Vec::from_iter(2..12));
        assert_eq!(disconnects[0].reason, "ADIT-1113: network was silent for too long: 25s");
    }
}
