//! What is noted about a connection that is carried octet by octet.

use std::{sync::Arc, time::SystemTime};

use adit_core::AgentId;
use adit_policy::engine::{Policy, Run};
use tokio::time::Instant;

use super::{Entry, Numbers, Open, Seeing};
use crate::{Caller, Edge, Fault, policy, router::Key};

/// One connection, from where its endpoint is known to its end. Dropped early it counts as broken off.
#[derive(Debug)]
pub(crate) struct Visit {
    seeing: Arc<Seeing>,
    started: Instant,
    caller: Arc<Caller>,
    endpoint: String,
    numbers: Numbers,
    _open: Open,
    verdicts: Vec<String>,
    fault: Option<Fault>,
    /// Whose session carries it.
    pub(crate) agent: Option<AgentId>,
    /// How often it was tried again.
    pub(crate) retries: u32,
    /// Octets from the caller.
    pub(crate) received: u64,
    /// Octets to the caller.
    pub(crate) sent: u64,
    /// Whether both directions ended in order.
    pub(crate) whole: bool,
}

impl Visit {
    pub(crate) fn begin(edge: &Edge, key: &Key, caller: Caller) -> Self {
        let numbers = edge.numbers(key);
        Self {
            seeing: edge.seeing.load_full(),
            started: Instant::now(),
            caller: Arc::new(caller),
            endpoint: key.to_string(),
            _open: numbers.open(),
            numbers,
            verdicts: Vec::new(),
            fault: None,
            agent: None,
            retries: 0,
            received: 0,
            sent: 0,
            whole: false,
        }
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Takes what came of rules.
    pub(crate) fn rules(&mut self, run: &Run, policy: &Policy) {
        self.verdicts.extend(policy::verdicts(run, policy));
        run.trace().actions(policy).for_each(|action| self.numbers.verdict(action));
    }

    /// Takes why it is refused.
    pub(crate) fn refuse(&mut self, fault: Fault) {
        self.fault = Some(fault);
        self.numbers.refuse(fault);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.numbers.octets(self.received, self.sent);
        self.numbers.retry(self.retries.into());
        self.seeing.finish(Entry {
            ended: SystemTime::now(),
            total: self.started.elapsed(),
            caller: Arc::clone(&self.caller),
            account: Some(Arc::clone(self.numbers.account())),
            endpoint: Some(core::mem::take(&mut self.endpoint)),
            agent: self.agent,
            fault: self.fault,
            received: self.received,
            sent: self.sent,
            retries: self.retries,
            verdicts: core::mem::take(&mut self.verdicts),
            whole: self.whole,
            request: None,
        });
    }
}
