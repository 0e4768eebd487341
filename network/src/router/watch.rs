//! What is shared between the table and those who hold one of its members: how it goes with them.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;

use super::{
    MemberId,
    health::{Budget, Change, Outcome, Pool, Rounds, Rules, Standing},
};

/// How it goes with the members of one endpoint. While nothing is wrong, nobody waits for a lock.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    troubled: AtomicBool,
    pool: Mutex<Pool>,
    budget: Mutex<Budget>,
    /// Requests that began since the budget was last asked.
    asked: AtomicU32,
    turn: AtomicU64,
}

impl Outlook {
    pub(super) fn join(&self, member: MemberId) {
        self.with(|pool| pool.join(member));
    }

    pub(super) fn leave(&self, member: MemberId) {
        self.with(|pool| pool.leave(member));
    }

    pub(super) fn asked(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of the next choice.
    pub(super) fn turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn handle_probe(&self, member: MemberId, well: bool, rounds: Rounds) -> Option<Change> {
        self.with(|pool| pool.handle_probe(member, well, rounds))
    }

    /// Chooses by what is known of the members: `best` gets those that qualify, better ones first. The guard is given when the
    /// choice is a trial. `first` tells that it may be repeated with others.
    pub(super) fn choose<T>(
        self: &Arc<Self>,
        rules: &Rules,
        first: bool,
        now: Instant,
        best: impl Fn(&dyn Fn(MemberId) -> bool) -> Option<(MemberId, T)>,
    ) -> Option<(MemberId, T, Option<Instant>)> {
        if rules.probed.is_none() && !self.troubled.load(Ordering::Acquire) {
            return best(&|_| true).map(|(member, it)| (member, it, None));
        }
        let mut pool = self.pool.lock();
        // Who comes back is tried by a request that somebody else can serve if it fails.
        let order = if first {
            [Standing::Try, Standing::Fine, Standing::Out]
        } else {
            [Standing::Fine, Standing::Try, Standing::Out]
        };
        let chosen = order.into_iter().find_map(|standing| {
            let (member, it) = best(&|member| pool.standing(member, rules, now) == standing)?;
            Some((member, it, standing))
        });
        let (member, it, standing) = chosen?;
        let trial = (standing == Standing::Try).then(|| pool.begin_trial(member, now));
        Some((member, it, trial))
    }

    pub(super) fn standing(&self, member: MemberId, rules: &Rules, now: Instant) -> Standing {
        self.pool.lock().standing(member, rules, now)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Pool) -> T) -> T {
        let mut pool = self.pool.lock();
        let result = act(&mut pool);
        self.troubled.store(!pool.is_calm(), Ordering::Release);
        result
    }
}

/// What somebody who holds a member tells about it. Dropped before it told whether a member is back, another one is to tell.
#[derive(Debug)]
pub struct Watch {
    outlook: Arc<Outlook>,
    member: MemberId,
    trial: Option<Instant>,
    pending: Arc<AtomicUsize>,
}

impl Watch {
    pub(super) fn new(
        outlook: &Arc<Outlook>,
        member: MemberId,
        trial: Option<Instant>,
        pending: &Arc<AtomicUsize>,
    ) -> Self {
        Self { outlook: Arc::clone(outlook), member, trial, pending: Arc::clone(pending) }
    }

    /// Returns whom it is about.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Tells how it went.
    pub fn report(&self, outcome: Outcome, rules: &Rules, now: Instant) -> Option<Change> {
        if outcome != Outcome::Failed && !rules.errors && !self.outlook.troubled.load(Ordering::Acquire) {
            return None;
        }
        self.outlook.with(|pool| pool.handle(self.member, outcome, rules, now))
    }

    /// Takes one retry out of what the endpoint may cost.
    pub fn may_retry(&self, now: Instant) -> bool {
        self.outlook.budget.lock().retry(self.outlook.asked.swap(0, Ordering::Relaxed), now)
    }

    /// Counts a connection that the upstream has not taken yet, until the result is dropped.
    pub fn pending(&self) -> Pending {
        self.pending.fetch_add(1, Ordering::Relaxed);
        Pending(Some(Arc::clone(&self.pending)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(trial) = self.trial {
            self.outlook.with(|pool| pool.abandon(self.member, trial));
        }
    }
}

/// A connection that no upstream has taken yet, counted until dropped.
#[derive(Debug, Default)]
pub struct Pending(Option<Arc<AtomicUsize>>);

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
