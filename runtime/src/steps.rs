//! The steps from a name to a session: how long each took, and what came of it.

use alloc::{string::String, sync::Arc, vec::Vec};
use core::time::Duration;
use std::sync::{Mutex, MutexGuard, PoisonError};

use adit_core::{Instant, driver::Clock};

use super::SystemClock;

/// A step on the way to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Step {
    /// A name is resolved.
    Resolve,
    /// A TCP connection is made: to the network, or to the proxy before it.
    Connect,
    /// A proxy is asked for the way to the network.
    Proxy,
    /// TLS is agreed upon with the network.
    Secure,
    /// The network is asked which versions of the protocol it speaks: only where somebody looks, see [`probe`](crate::probe).
    Ask,
    /// The network is asked for a session, or to go on with one.
    Session,
}

impl Step {
    /// Returns the word for texts and JSON: `dns`, `tcp`, `proxy`, `tls`, `protocol` or `session`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Resolve => "dns",
            Self::Connect => "tcp",
            Self::Proxy => "proxy",
            Self::Secure => "tls",
            Self::Ask => "protocol",
            Self::Session => "session",
        }
    }
}

/// A step that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepTaken {
    /// Which.
    pub step: Step,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub result: StepResult,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepResult {
    /// It is done; what was found, as addresses, in words.
    Done(String),
    /// It failed: the dial's error says why.
    Failed,
    /// The dial was given up meanwhile.
    Unfinished,
}

/// Notes steps as they are taken. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    taken: Vec<StepTaken>,
    open: Option<(Step, Instant)>,
}

impl Steps {
    pub(crate) fn begin(&self, step: Step) {
        self.begin_at(step, SystemClock.now());
    }

    pub(crate) fn begin_at(&self, step: Step, now: Instant) {
        self.lock().open = Some((step, now));
    }

    pub(crate) fn done(&self, found: String) {
        self.done_at(found, SystemClock.now());
    }

    pub(crate) fn done_at(&self, found: String, now: Instant) {
        self.lock().end(StepResult::Done(found), now);
    }

    /// Returns all steps; the one under way ends so.
    pub(crate) fn take(&self, open: StepResult) -> Vec<StepTaken> {
        let mut record = self.lock();
        record.end(open, SystemClock.now());
        core::mem::take(&mut record.taken)
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn end(&mut self, result: StepResult, now: Instant) {
        if let Some((step, since)) = self.open.take() {
            self.taken.push(StepTaken { step, took: now.since(since), result });
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn each_step_is_told_once_and_the_one_under_way_as_it_ended() {
        let (steps, second) = (Steps::default(), Duration::from_secs(1));
        let start = SystemClock.now();

        steps.begin_at(Step::Resolve, start);
        steps.done_at("::1".to_string(), start + second);
        steps.done_at("not begun".to_string(), start + second);
        steps.begin_at(Step::Connect, start + second);
        let taken = steps.take(StepResult::Failed);

        let resolved = StepTaken { step: Step::Resolve, took: second, result: StepResult::Done("::1".to_string()) };
        assert_eq!(taken.first(), Some(&resolved));
        assert_eq!((taken.len(), taken[1].step, &taken[1].result), (2, Step::Connect, &StepResult::Failed));
        assert_eq!(steps.take(StepResult::Unfinished), []);
    }
}
