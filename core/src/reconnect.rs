//! When to dial, and whom: one dial at a time, every target in turn, delays that grow until life has been stable.

use alloc::{vec, vec::Vec};

use crate::{
    Deadline, Duration, Instant, Retry, Rng, TimerKind,
    backoff::{self, Backoff},
};

/// How an agent comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReconnectPolicy {
    /// The least delay that is drawn: 100 ms.
    pub floor: Duration,
    /// The first ceiling of the delay: 500 ms.
    pub base: Duration,
    /// The last ceiling of the delay: 30 s.
    pub cap: Duration,
    /// The dials under one ceiling, one for each target at least: 4; five times as many of [`Retry::Soon`].
    ///
    /// Most outages are restarts of a few seconds, during which nobody listens; an agent that doubled after each dial
    /// would sleep through their end.
    pub dials: u32,
    /// How long a session has to live before the delay begins anew: 10 s.
    pub stable_after: Duration,
    /// How long only the target that holds a session is dialed to resume it: 5 s. Then the others have their turn as well,
    /// for a new session.
    pub faithful: Duration,
    /// The last ceiling of the delay while a session waits to be resumed: 1 s.
    pub resume_cap: Duration,
    /// The time that one dial may take, from resolving the name to the end of the handshake: 30 s.
    pub dial_timeout: Duration,
}

impl Default for ReconnectPolicy {
    fn default() -> Self {
        Self {
            floor: Duration::from_millis(100),
            base: Duration::from_millis(500),
            cap: Duration::from_secs(30),
            dials: 4,
            stable_after: Duration::from_secs(10),
            faithful: Duration::from_secs(5),
            resume_cap: Duration::from_secs(1),
            dial_timeout: Duration::from_secs(30),
        }
    }
}

/// The dial, wait, give-up machine of one agent.
#[derive(Debug)]
pub(crate) struct Reconnect {
    policy: ReconnectPolicy,
    backoff: Backoff,
    rng: Rng,
    state: State,
    attempts: u64,
    /// Set once a target has said never.
    barred: Vec<bool>,
    next: usize,
    /// Dials since the last doubling.
    dials: u32,
    /// What they have cost.
    cost: u32,
    dialed: Option<Instant>,
    eager: Eager,
    /// The delays while a session waits to be resumed.
    resume_backoff: Backoff,
    /// While a session waits to be resumed: the target that has it, and until when no other has its turn.
    resuming: Option<(usize, Instant)>,
}

/// What the owner has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Dial this target.
    Dial { attempt: u64, target: usize },
    /// Abandon the dial in progress.
    Hangup { attempt: u64 },
    /// No target will ever answer otherwise.
    GiveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A session lives, or nothing is wanted any more.
    Resting,
    Waiting {
        until: Instant,
    },
    Dialing {
        attempt: u64,
        target: usize,
        deadline: Instant,
    },
    /// Every target said never; `told` once the owner knows.
    Barred {
        told: bool,
    },
}

/// Whether [`Retry::Now`] is still honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Eager {
    Fresh,
    Spent,
}

impl Reconnect {
    /// Returns a machine that dials the first of `targets` at once.
    pub(crate) fn new(policy: ReconnectPolicy, targets: usize, rng: Rng, now: Instant) -> Self {
        // Without these two a policy of zeros would be a loop.
        let floor = policy.floor.max(Duration::from_millis(1));
        let dial_timeout = policy.dial_timeout.max(Duration::from_millis(1));
        let policy = ReconnectPolicy { floor, dial_timeout, base: policy.base.max(floor), ..policy };
        Self {
            backoff: Backoff::new(policy.floor, policy.base, policy.cap),
            resume_backoff: Backoff::new(policy.floor, policy.base, policy.resume_cap),
            policy,
            rng,
            state: if targets == 0 { State::Barred { told: false } } else { State::Waiting { until: now } },
            attempts: 0,
            barred: vec![false; targets],
            next: 0,
            dials: 0,
            cost: 0,
            dialed: None,
            eager: Eager::Fresh,
            resuming: None,
        }
    }

    /// Takes note that the link of a session is lost after it lived this long, and that the session waits at `target`.
    ///
    /// A link that lived is replaced at once, but for a spread that keeps the agents of one node apart.
    pub(crate) fn on_suspended(&mut self, target: usize, lived: Duration, retry: Retry, now: Instant) {
        self.resuming = Some((target, now + self.policy.faithful)); // spec: TIME-007
        let lasted = RESUMED <= lived;
        if lasted {
            self.resume_backoff.reset();
        }
        if self.state != State::Resting {
            return;
        }
        self.state = match retry {
            Retry::Never | Retry::Now | Retry::Soon | Retry::Backoff if lasted => {
                let spread = u64::try_from(self.policy.floor.as_nanos()).unwrap_or(u64::MAX);
                State::Waiting { until: now + Duration::from_nanos(self.rng.between(0, spread)) }
            }
            Retry::Never | Retry::Now | Retry::Soon | Retry::Backoff | Retry::After(_) => self.wait(retry, now),
        };
    }

    /// Dials this target first, because it has the session that may be resumed.
    pub(crate) const fn prefer(&mut self, target: usize) {
        self.next = target;
    }

    /// Takes note that no session waits to be resumed any more.
    pub(crate) const fn on_settled(&mut self) {
        self.resuming = None;
    }

    /// Returns a name for a dial.
    pub(crate) const fn number(&mut self) -> u64 {
        self.attempts += 1;
        self.attempts
    }

    /// Takes on a dial that is in progress. Does nothing while another one is.
    pub(crate) fn on_dialed(&mut self, attempt: u64, target: usize, now: Instant) {
        if self.state == State::Resting {
            let deadline = now + self.policy.dial_timeout;
            self.state = State::Dialing { attempt, target, deadline };
            self.dialed = Some(now);
        }
    }

    /// Returns whether no dial is in progress or waited for.
    pub(crate) fn is_resting(&self) -> bool {
        self.state == State::Resting
    }

    /// Returns the target of the dial in progress.
    pub(crate) const fn dialing(&self) -> Option<usize> {
        match self.state {
            State::Dialing { target, .. } => Some(target),
            State::Resting | State::Waiting { .. } | State::Barred { .. } => None,
        }
    }

    /// Takes note that the dial in progress became a session. False when it is not in progress.
    pub(crate) fn on_established(&mut self, attempt: u64) -> bool {
        let State::Dialing { attempt: dialing, target, .. } = self.state else { return false };
        if dialing != attempt {
            return false;
        }
        self.barred.fill(false);
        self.next = self.after(target);
        self.state = State::Resting;
        self.resuming = None;
        true
    }

    /// Takes note that the dial in progress failed. False when it is not in progress.
    pub(crate) fn on_failed(&mut self, attempt: u64, retry: Retry, now: Instant) -> bool {
        let State::Dialing { attempt: dialing, target, .. } = self.state else { return false };
        if dialing != attempt {
            return false;
        }
        if retry == Retry::Never {
            self.barred[target] = true;
        }
        self.next = self.after(target);
        self.state = self.wait(retry, now);
        true
    }

    /// Takes note that a session lived this long; a stable one lets the delay begin anew.
    pub(crate) fn on_life(&mut self, lived: Duration) {
        if self.policy.stable_after <= lived {
            self.backoff.reset(); // spec: TIME-002
            (self.dials, self.cost) = (0, 0);
            self.eager = Eager::Fresh;
        }
    }

    /// Takes note that the session is lost, or announced its end.
    pub(crate) fn on_lost(&mut self, retry: Retry, now: Instant) {
        match self.state {
            State::Resting => self.state = self.wait(retry, now),
            State::Waiting { .. } | State::Dialing { .. } | State::Barred { .. } => {}
        }
    }

    /// Dials at once, whatever it is doing; a dial in progress may be on a path that is gone, and is abandoned.
    ///
    /// Called in a loop it dials no more often than once in `base`.
    pub(crate) fn on_network_change(&mut self, now: Instant) -> Option<Order> {
        let soon = self.dialed.map_or(now, |dialed| now.max(dialed + self.policy.base));
        match self.state {
            State::Resting => {
                self.state = State::Waiting { until: soon };
                None
            }
            State::Waiting { until } => {
                self.state = State::Waiting { until: until.min(soon) };
                None
            }
            State::Dialing { attempt, .. } => {
                self.state = State::Waiting { until: soon };
                Some(Order::Hangup { attempt })
            }
            State::Barred { .. } => None,
        }
    }

    /// Wants no session any more, or no other than the one that lives.
    pub(crate) fn on_stop(&mut self) -> Option<Order> {
        self.barred.fill(false);
        match core::mem::replace(&mut self.state, State::Resting) {
            State::Dialing { attempt, .. } => Some(Order::Hangup { attempt }),
            State::Resting | State::Waiting { .. } | State::Barred { .. } => None,
        }
    }

    /// Lets time pass; call it until there is nothing to do.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Order> {
        match self.state {
            State::Waiting { until } if until <= now => {
                let holder = self.resuming.filter(|(target, until)| now < *until && !self.barred[*target]);
                let (attempt, target) = (self.number(), holder.map_or(self.next, |(target, _)| target));
                self.state = State::Dialing { attempt, target, deadline: now + self.policy.dial_timeout };
                self.dialed = Some(now);
                Some(Order::Dial { attempt, target })
            }
            State::Dialing { attempt, deadline, .. } if deadline <= now => {
                self.on_failed(attempt, Retry::Backoff, now); // spec: TIME-004
                Some(Order::Hangup { attempt })
            }
            State::Barred { told: false } => {
                self.state = State::Barred { told: true };
                Some(Order::GiveUp)
            }
            State::Waiting { .. } | State::Dialing { .. } | State::Resting | State::Barred { told: true } => None,
        }
    }

    /// Returns when to call [`Self::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        match self.state {
            State::Waiting { until } => Some(Deadline { at: until, why: TimerKind::Redial }),
            State::Dialing { deadline, .. } => Some(Deadline { at: deadline, why: TimerKind::Dial }),
            State::Barred { told: false } => Some(Deadline { at: Instant::ZERO, why: TimerKind::Redial }),
            State::Resting | State::Barred { told: true } => None,
        }
    }

    /// Returns when the next dial is due, if one is waited for.
    pub(crate) fn redial(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Resting | State::Dialing { .. } | State::Barred { .. } => None,
        }
    }

    fn wait(&mut self, retry: Retry, now: Instant) -> State {
        if self.barred.iter().all(|barred| *barred) {
            return State::Barred { told: false };
        }
        let delay = match (retry, self.eager) {
            (Retry::After(asked), _) => backoff::after(asked.max(self.policy.floor), &mut self.rng),
            (Retry::Now, Eager::Fresh) => {
                self.eager = Eager::Spent;
                Duration::ZERO
            }
            (Retry::Soon, _) => self.back_off(SOON),
            (Retry::Now, Eager::Spent) | (Retry::Backoff | Retry::Never, _) => self.back_off(FULL),
        };
        State::Waiting { until: now + delay }
    }

    fn back_off(&mut self, cost: u32) -> Duration {
        let backoff = if self.resuming.is_some() { &mut self.resume_backoff } else { &mut self.backoff };
        let delay = backoff.draw(&mut self.rng);
        self.dials = self.dials.saturating_add(1);
        self.cost = self.cost.saturating_add(cost);
        let every_target = self.barred.len() <= self.dials as usize;
        if every_target && self.policy.dials.saturating_mul(FULL) <= self.cost {
            (self.dials, self.cost) = (0, 0);
            backoff.double(); // spec: TIME-003
        }
        delay
    }

    /// Returns the target to dial after `target`: the next that has not said never.
    fn after(&self, target: usize) -> usize {
        let count = self.barred.len();
        (1..=count).map(|step| (target + step) % count).find(|&next| !self.barred[next]).unwrap_or(target)
    }
}

/// What a failed dial counts towards a doubling, and what one counts that met nobody.
const FULL: u32 = 5;
const SOON: u32 = 1;

/// How long a link must have lived to be replaced at once.
const RESUMED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
