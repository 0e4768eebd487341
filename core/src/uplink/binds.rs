//! The endpoints that an agent wishes for, each asked for and retried by itself.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::{
    Bind, BindId, BindRefusal, Deadline, Duration, Instant, Retry, Rng, TimerKind,
    backoff::{self, Backoff},
};

#[derive(Debug)]
pub(super) struct Binds {
    wishes: BTreeMap<BindId, Wish>,
    /// Given up before the network answered.
    left: BTreeSet<BindId>,
    next: u32,
    stable_after: Duration,
    rng: Rng,
}

#[derive(Debug)]
struct Wish {
    bind: Bind,
    backoff: Backoff,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be asked for as soon as there is a session, and room in it.
    Due,
    Asked,
    Bound {
        since: Instant,
    },
    Refused {
        until: Instant,
    },
}

impl Binds {
    pub(super) fn new(stable_after: Duration, rng: Rng) -> Self {
        Self { wishes: BTreeMap::new(), left: BTreeSet::new(), next: 1, stable_after, rng }
    }

    /// Begins anew: another session, or none, knows nothing of what was asked before (BIND-006).
    pub(super) fn on_session(&mut self) {
        self.left.clear();
        self.wishes.values_mut().for_each(|wish| wish.state = State::Due);
    }

    /// Returns whether this is news.
    pub(super) fn on_bound(&mut self, id: BindId, now: Instant) -> bool {
        self.left.remove(&id);
        let Some(wish) = self.wishes.get_mut(&id).filter(|wish| wish.state == State::Asked) else { return false };
        wish.state = State::Bound { since: now };
        true
    }

    /// Returns when the bind will be asked for again, if this is news.
    pub(super) fn on_refused(&mut self, refused: &BindRefusal, now: Instant) -> Option<Duration> {
        self.left.remove(&refused.id);
        let wish = self.wishes.get_mut(&refused.id)?;
        match wish.state {
            State::Asked => {}
            State::Bound { since } if self.stable_after <= now.since(since) => wish.backoff.reset(),
            State::Bound { .. } => {}
            State::Due | State::Refused { .. } => return None,
        }
        let delay = match Retry::bind(&refused.refusal) {
            Retry::After(asked) => backoff::after(asked.max(FLOOR), &mut self.rng),
            Retry::Backoff | Retry::Soon | Retry::Now | Retry::Never => {
                let delay = wish.backoff.draw(&mut self.rng);
                wish.backoff.double();
                delay
            }
        };
        wish.state = State::Refused { until: now + delay };
        Some(delay)
    }

    /// Hands out what is due to be asked for, as much as the session bears.
    pub(super) fn ask(&mut self, now: Instant, mut send: impl FnMut(Bind)) {
        let mut room = MAX_UNANSWERED.saturating_sub(self.unanswered());
        for wish in self.wishes.values_mut() {
            if room == 0 {
                return; // spec: BIND-007, an answer makes room
            }
            let due = match wish.state {
                State::Due => true,
                State::Refused { until } => until <= now,
                State::Asked | State::Bound { .. } => false,
            };
            if due {
                room -= 1;
                wish.state = State::Asked;
                send(wish.bind.clone());
            }
        }
    }

    pub(super) fn add(&mut self, bind: Bind) -> BindId {
        while self.wishes.contains_key(&BindId(self.next)) || self.left.contains(&BindId(self.next)) {
            self.next = self.next.wrapping_add(1);
        }
        let id = BindId(self.next);
        self.next = self.next.wrapping_add(1);
        let backoff = Backoff::new(FLOOR, BASE, CAP);
        self.wishes.insert(id, Wish { bind: Bind { id, ..bind }, backoff, state: State::Due });
        id
    }

    /// Returns whether the session knows the bind.
    pub(super) fn remove(&mut self, id: BindId) -> bool {
        match self.wishes.remove(&id).map(|wish| wish.state) {
            Some(State::Asked) => self.left.insert(id),
            Some(State::Bound { .. }) => true,
            Some(State::Due | State::Refused { .. }) | None => false,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        if self.unanswered() >= MAX_UNANSWERED {
            return None;
        }
        let refused = self.wishes.values().filter_map(|wish| match wish.state {
            State::Refused { until } => Some(until),
            State::Due | State::Asked | State::Bound { .. } => None,
        });
        refused.min().map(|at| Deadline { at, why: TimerKind::Rebind })
    }

    fn unanswered(&self) -> usize {
        self.left.len() + self.wishes.values().filter(|wish| wish.state == State::Asked).count()
    }
}

/// The most binds without an answer that a network bears.
pub(super) const MAX_UNANSWERED: usize = 100;

const FLOOR: Duration = Duration::from_millis(500);
const BASE: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(30);
