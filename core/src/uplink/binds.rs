//! The endpoints that an agent wishes for, each asked for and retried by itself.

use alloc::{collections::BTreeMap, string::String};

use crate::{
    Bind, BindId, BindRefusal, Code, Deadline, Duration, Instant, Refusal, Retry, Rng, TimerKind,
    backoff::{self, Backoff},
};

#[derive(Debug)]
pub(super) struct Binds {
    wishes: BTreeMap<BindId, Wish>,
    /// Given up before the network answered, which it then need not do: until when they count as not answered.
    left: BTreeMap<BindId, Instant>,
    next: u32,
    stable_after: Duration,
    rng: Rng,
}

#[derive(Debug)]
struct Wish {
    bind: Bind,
    /// The URL that left something to the network, once it has chosen.
    open: Option<String>,
    backoff: Backoff,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be asked for as soon as there is a session, and room in it.
    Due,
    /// The answer is given up at this instant.
    Asked {
        until: Instant,
    },
    Bound {
        since: Instant,
    },
    Refused {
        until: Instant,
    },
}

impl Binds {
    pub(super) fn new(stable_after: Duration, rng: Rng) -> Self {
        Self { wishes: BTreeMap::new(), left: BTreeMap::new(), next: 1, stable_after, rng }
    }

    /// Begins anew: another session, or none, knows nothing of what was asked before (BIND-006).
    pub(super) fn on_session(&mut self) {
        self.left.clear();
        self.wishes.values_mut().for_each(|wish| wish.state = State::Due); // spec: BIND-006
    }

    /// Returns whether this is news.
    pub(super) fn on_bound(&mut self, id: BindId, url: &str, now: Instant) -> bool {
        self.left.remove(&id);
        let Some(wish) = self.wishes.get_mut(&id).filter(|wish| wish.is_asked()) else { return false };
        if let Some(chosen) = wish.bind.chosen(url) {
            wish.open = Some(core::mem::replace(&mut wish.bind.url, chosen)); // spec: BIND-012
        }
        wish.state = State::Bound { since: now };
        true
    }

    /// Returns when the bind will be asked for again, if this is news.
    pub(super) fn on_refused(&mut self, refused: &BindRefusal, now: Instant) -> Option<Duration> {
        self.left.remove(&refused.id);
        let wish = self.wishes.get_mut(&refused.id)?;
        match wish.state {
            State::Asked { .. } => {}
            State::Bound { since } if self.stable_after <= now.since(since) => wish.backoff.reset(),
            State::Bound { .. } => {}
            State::Due | State::Refused { .. } => return None,
        }
        if matches!(refused.refusal.code, Code::IN_USE | Code::FORBIDDEN | Code::BAD_NAME | Code::UNSUPPORTED)
            && let Some(open) = wish.open.take()
        {
            wish.bind.url = open; // what was chosen is not to be had any more
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

    /// Gives up a bind that the network has not answered in time: returns it, and when it will be asked for again.
    pub(super) fn give_up(&mut self, now: Instant) -> Option<(BindRefusal, Duration)> {
        let overdue = |state| matches!(state, State::Asked { until } if until <= now);
        let id = self.wishes.iter().find(|(_, wish)| overdue(wish.state)).map(|(id, _)| *id)?;
        let refusal = Refusal { code: Code::BUSY, retry_after: None, text: String::from("no answer in time") };
        let refused = BindRefusal { id, refusal };
        let retry_in = self.on_refused(&refused, now)?;
        self.left.insert(id, now + PATIENCE);
        Some((refused, retry_in))
    }

    /// Hands out what is due to be asked for, as much as the session bears.
    pub(super) fn ask(&mut self, now: Instant, mut send: impl FnMut(Bind)) {
        self.left.retain(|_, until| now < *until);
        let mut room = MAX_UNANSWERED.saturating_sub(self.unanswered());
        for wish in self.wishes.values_mut() {
            if room == 0 {
                return; // spec: BIND-007, an answer makes room
            }
            let due = match wish.state {
                State::Due => true,
                State::Refused { until } => until <= now,
                State::Asked { .. } | State::Bound { .. } => false,
            };
            if due {
                room -= 1;
                wish.state = State::Asked { until: now + PATIENCE };
                send(wish.bind.clone());
            }
        }
    }

    pub(super) fn add(&mut self, bind: Bind) -> BindId {
        while self.wishes.contains_key(&BindId(self.next)) || self.left.contains_key(&BindId(self.next)) {
            self.next = self.next.wrapping_add(1);
        }
        let id = BindId(self.next);
        self.next = self.next.wrapping_add(1);
        let backoff = Backoff::new(FLOOR, BASE, CAP);
        self.wishes.insert(id, Wish { bind: Bind { id, ..bind }, open: None, backoff, state: State::Due });
        id
    }

    /// Returns whether the session knows the bind.
    pub(super) fn remove(&mut self, id: BindId) -> bool {
        match self.wishes.remove(&id).map(|wish| wish.state) {
            Some(State::Asked { until }) => {
                self.left.insert(id, until);
                true
            }
            Some(State::Bound { .. }) => true,
            Some(State::Due | State::Refused { .. }) | None => false,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let room = self.unanswered() < MAX_UNANSWERED;
        let due = self.wishes.values().filter_map(|wish| match wish.state {
            State::Asked { until } => Some(until),
            State::Refused { until } => room.then_some(until),
            State::Due | State::Bound { .. } => None,
        });
        let forgotten = self.left.values().copied().filter(|_| !room);
        due.chain(forgotten).min().map(|at| Deadline { at, why: TimerKind::Rebind })
    }

    fn unanswered(&self) -> usize {
        self.left.len() + self.wishes.values().filter(|wish| wish.is_asked()).count()
    }
}

impl Wish {
    const fn is_asked(&self) -> bool {
        matches!(self.state, State::Asked { .. })
    }
}

/// The most binds without an answer that a network bears.
pub(super) const MAX_UNANSWERED: usize = 100;

/// How long an answer is waited for (TIME-004).
const PATIENCE: Duration = Duration::from_secs(30);

const FLOOR: Duration = Duration::from_millis(500);
const BASE: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UpstreamProtocol;

    #[test]
    fn a_bind_that_was_in_force_for_long_waits_as_little_as_a_new_one() {
        for (lasted, fresh) in [(Duration::from_millis(9_999), false), (Duration::from_secs(10), true)] {
            let mut binds = Binds::new(Duration::from_secs(10), Rng::new(1));
            let id = binds.add(wish());
            let mut now = at(0);
            for _ in 0..4 {
                binds.ask(now, |_| ());
                now = now + binds.on_refused(&refused(id), now).expect("news");
            }
            binds.ask(now, |_| ());
            assert!(binds.on_bound(id, "", now));

            binds.on_refused(&refused(id), now + lasted);

            let mut once = Backoff::new(FLOOR, BASE, CAP);
            once.double();
            assert_eq!(binds.wishes.get(&id).map(|wish| wish.backoff == once), Some(fresh), "{lasted:?}");
        }
    }

    #[test]
    fn a_number_that_is_used_or_was_given_up_without_an_answer_is_passed_over() {
        let mut binds = Binds::new(Duration::ZERO, Rng::new(1));
        let [one, two, three] = [(); 3].map(|()| binds.add(wish()));
        binds.ask(at(0), |_| ());
        assert!(binds.remove(two));

        binds.next = one.0; // all numbers were used once

        assert_eq!(binds.add(wish()).0, three.0 + 1);
    }

    /// BIND-007
    #[test]
    fn while_there_is_no_room_nothing_is_due_but_what_makes_room() {
        let mut binds = Binds::new(Duration::ZERO, Rng::new(1));
        let refused_id = binds.add(wish());
        binds.ask(at(0), |_| ());
        binds.on_refused(&refused(refused_id), at(0)).expect("news");
        let ids: [BindId; MAX_UNANSWERED] = core::array::from_fn(|_| binds.add(wish()));
        binds.wishes.get_mut(&refused_id).expect("there").state = State::Refused { until: at(1) };
        binds.ask(at(0), |_| ());
        assert_eq!(binds.poll_timeout().map(|due| due.at), Some(at(30)), "an answer is given up");

        for id in ids {
            assert!(binds.remove(id)); // its answer need not come any more
        }
        assert_eq!(binds.poll_timeout().map(|due| due.at), Some(at(30)), "and no longer waited for");
        let mut asked = 0;
        binds.ask(at(30), |_| asked += 1);
        assert_eq!((asked, binds.unanswered()), (1, 1));
        assert_eq!(binds.poll_timeout().map(|due| due.at), Some(at(60)));
    }

    #[test]
    fn what_is_not_waited_for_any_more_is_no_reason_to_wake_up() {
        let mut binds = Binds::new(Duration::ZERO, Rng::new(1));
        let id = binds.add(wish());
        binds.ask(at(0), |_| ());
        assert!(binds.remove(id));

        assert_eq!(binds.poll_timeout(), None, "there is room");
    }

    fn wish() -> Bind {
        Bind {
            id: BindId(0),
            url: String::from("tcp://:1"),
            pooling: false,
            upstream_protocol: UpstreamProtocol::Http1,
            name: String::new(),
            description: String::new(),
            metadata: String::new(),
            tls_end: crate::TlsEnd::Unsaid,
        }
    }

    fn refused(id: BindId) -> BindRefusal {
        BindRefusal { id, refusal: Refusal { code: Code::BUSY, retry_after: None, text: String::new() } }
    }

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }
}
