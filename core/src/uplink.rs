//! The agent across reconnects: which target to dial, which session is current, which binds to ask for.
//!
//! Sessions are named by the attempt that made them. At most one is current: it gets the binds. A session that announced
//! its end drains beside it until its streams are done; the next one is dialed meanwhile.

mod binds;
mod standby;
mod withheld;

use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
};

use crate::{
    Bind, BindId, BindRefusal, Bound, Deadline, Duration, GoAway, Instant, Refusal, Retry, Rng, TimerKind, Unbind,
    Withheld,
    reconnect::{Order, Reconnect, ReconnectPolicy},
};

use binds::Binds;
use standby::Standby;
use withheld::Withholdings;

/// The agent's part that outlives every session. Whoever drives it does what [`Self::poll_action`] says.
#[derive(Debug)]
pub struct Uplink {
    stage: Stage,
    reconnect: Reconnect,
    standby: Standby,
    binds: Binds,
    withheld: Withholdings,
    current: Option<Live>,
    /// By attempt, the oldest first: when patience ends.
    draining: BTreeMap<u64, Instant>,
    actions: VecDeque<Action>,
    notices: VecDeque<Notice>,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect to this target and shake hands; report `handle_established` or `handle_closed`.
    Dial {
        /// Names the dial, and the session that may come of it. Never used twice.
        attempt: u64,
        /// The index of the target.
        target: usize,
    },
    /// Connect to this target and resume the session there; report `handle_resumed` or `handle_closed` for the attempt. While it
    /// lasts the session may still live on its old link.
    Resume {
        /// Names the dial. Never used twice.
        attempt: u64,
        /// Names the session, which keeps its name.
        session: u64,
        /// The index of the target.
        target: usize,
    },
    /// Connect to where the session has its link, which is silent, and say nothing; report `handle_connected` or `handle_closed`
    /// for the attempt. Then each [`Self::Proceed`] is the consent to one step more.
    StandBy {
        /// Names the dial. Never used twice.
        attempt: u64,
        /// Names the session, which stays on its link.
        session: u64,
        /// The index of the target.
        target: usize,
    },
    /// The old link is silent still. First: agree on TLS, and report `handle_secured` or `handle_closed`. Then: resume the session
    /// there, if it is silent to the last, and report `handle_resumed` or `handle_closed`.
    Proceed {
        /// Names the dial.
        attempt: u64,
    },
    /// End this dial or session at once, if it still exists. No report is needed.
    Hangup {
        /// Names it.
        attempt: u64,
    },
    /// Send this on the session.
    Bind {
        /// Names the session.
        attempt: u64,
        /// What to ask for.
        bind: Bind,
    },
    /// Send this on the session.
    Unbind {
        /// Names the session.
        attempt: u64,
        /// What to give up.
        unbind: Unbind,
    },
    /// Send this on the session; what it does not take is left out.
    Withhold {
        /// Names the session.
        attempt: u64,
        /// What to say.
        withheld: Withheld,
    },
    /// Announce the end of the session, and let its streams finish; report `handle_closed`.
    Drain {
        /// Names the session.
        attempt: u64,
    },
    /// It is over. The last action.
    GiveUp(GiveUp),
}

/// Why an uplink ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// Every target refused for good.
    Refused,
    /// It was asked to.
    Shutdown,
}

/// What the user may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The current session ends once its streams are done; another is made.
    Draining {
        /// Names the session.
        attempt: u64,
    },
    /// A bind is in force.
    Bound {
        /// The bind.
        id: BindId,
        /// The endpoint as callers know it.
        url: String,
    },
    /// A bind was refused, or not answered within 30 s.
    Rejected {
        /// The bind.
        id: BindId,
        /// Why.
        refusal: Refusal,
        /// When it will be asked for again.
        retry_in: Duration,
    },
    /// A bind that was in force was taken back.
    Unbound {
        /// The bind.
        id: BindId,
        /// Why.
        refusal: Refusal,
        /// When it will be asked for again.
        retry_in: Duration,
    },
}

impl Action {
    /// Returns the session without which the action makes no sense.
    fn session(&self) -> Option<u64> {
        match self {
            Self::Bind { attempt, .. }
            | Self::Unbind { attempt, .. }
            | Self::Withhold { attempt, .. }
            | Self::Drain { attempt } => Some(*attempt),
            Self::StandBy { session, .. } => Some(*session),
            Self::Dial { .. } | Self::Resume { .. } | Self::Proceed { .. } | Self::Hangup { .. } | Self::GiveUp(_) => {
                None
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Live {
    attempt: u64,
    /// Since when it has the link it has, or had last.
    since: Instant,
    target: usize,
    resumable: bool,
    /// Whether it has no link.
    suspended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    Ending { deadline: Instant, reason: GiveUp },
    Over,
}

impl Uplink {
    /// Returns an uplink that dials the first of `targets` targets at once.
    pub fn new(targets: usize, policy: ReconnectPolicy, seed: u64, now: Instant) -> Self {
        let mut rng = Rng::new(seed);
        let stable_after = policy.stable_after;
        let binds = Binds::new(stable_after, Rng::new(rng.next()));
        let standby = Standby::new(Rng::new(rng.next()), policy.dial_timeout.max(Duration::from_millis(1)), now);
        let mut uplink = Self {
            stage: Stage::Running,
            reconnect: Reconnect::new(policy, targets, rng, now),
            standby,
            binds,
            withheld: Withholdings::default(),
            current: None,
            draining: BTreeMap::new(),
            actions: VecDeque::new(),
            notices: VecDeque::new(),
        };
        uplink.handle_timeout(now);
        uplink
    }

    /// Takes note that a dial became a session. A dial that was given up meanwhile is hung up.
    pub fn handle_established(&mut self, attempt: u64, now: Instant) {
        self.handle_timeout(now);
        if self.stage == Stage::Over {
            return;
        }
        let target = self.reconnect.dialing();
        let (Stage::Running, Some(target), true) = (self.stage, target, self.reconnect.on_established(attempt)) else {
            self.actions.push_back(Action::Hangup { attempt });
            return;
        };
        if let Some(Live { attempt: old, suspended, .. }) = self.current
            && self.leave(old, now)
        {
            if suspended {
                self.actions.push_back(Action::Hangup { attempt: old }); // nobody would let it drain
            } else {
                self.actions.push_back(Action::Drain { attempt: old });
                self.drain(old, now);
            }
        }
        self.current = Some(Live { attempt, since: now, target, resumable: false, suspended: false });
        // spec: BIND-022
        self.actions.extend(self.withheld.all().map(|withheld| Action::Withhold { attempt, withheld }));
        self.handle_timeout(now);
    }

    /// Takes note that the network offered that the session may be resumed, or no longer does.
    pub fn handle_offer(&mut self, attempt: u64, resumable: bool) {
        if let Some(live) = self.current.as_mut().filter(|live| live.attempt == attempt) {
            live.resumable = resumable;
            if !resumable {
                let needless = self.standby.end();
                self.hang_up(needless);
            }
        }
    }

    /// Takes note that the link of a session is lost, and that the session waits to be resumed: its binds stay in force.
    /// A session that drains is not resumed. Returns whether that is news.
    pub fn handle_suspended(&mut self, attempt: u64, retry: Retry, now: Instant) -> bool {
        self.handle_timeout(now);
        let mut news = false;
        if let Some(live) = self.current.as_mut().filter(|live| live.attempt == attempt && !live.suspended) {
            (live.suspended, live.resumable) = (true, true);
            let (target, lived) = (live.target, now.since(live.since));
            let overtaken = self.standby.end();
            self.hang_up(overtaken);
            self.reconnect.on_life(lived);
            self.reconnect.on_suspended(target, lived, retry, now);
            news = true;
        }
        self.handle_timeout(now);
        news
    }

    /// Takes note that a dial took a session to a new link.
    pub fn handle_resumed(&mut self, attempt: u64, now: Instant) {
        self.handle_timeout(now);
        if self.reconnect.on_established(attempt) {
            match &mut self.current {
                Some(live) => (live.suspended, live.since) = (false, now),
                None => self.reconnect.on_lost(Retry::Now, now), // it drains meanwhile: the next one is still to be made
            }
        }
        self.handle_timeout(now);
    }

    /// Takes note that a dial failed, was refused, or that a session is over.
    pub fn handle_closed(&mut self, attempt: u64, retry: Retry, now: Instant) {
        self.handle_timeout(now);
        self.withdraw(attempt);
        if self.leave(attempt, now) {
            self.reconnect.on_lost(retry, now);
        } else if self.standby.on_failed(attempt, now) {
            // The session is where it was.
        } else if self.draining.remove(&attempt).is_none() && self.reconnect.on_failed(attempt, retry, now) {
            self.settle();
        }
        self.handle_timeout(now);
    }

    /// Takes note that the network announced the end of a session.
    pub fn handle_goaway(&mut self, attempt: u64, notice: &GoAway, now: Instant) {
        self.handle_timeout(now);
        if self.leave(attempt, now) {
            self.drain(attempt, now);
            self.notices.push_back(Notice::Draining { attempt });
            self.reconnect.on_lost(Retry::drain(notice), now); // spec: GO-003
        }
        self.handle_timeout(now);
    }

    /// Takes note that the network put a bind in force.
    pub fn handle_bound(&mut self, attempt: u64, bound: &Bound, now: Instant) {
        if self.is_current(attempt) && self.binds.on_bound(bound.id, &bound.url, now) {
            self.notices.push_back(Notice::Bound { id: bound.id, url: bound.url.clone() });
        }
        self.handle_timeout(now);
    }

    /// Takes note that the network refused a bind. The others go on (BIND-005).
    pub fn handle_rejected(&mut self, attempt: u64, rejected: BindRefusal, now: Instant) {
        if let Some(retry_in) = self.refused(attempt, &rejected, now) {
            self.notices.push_back(Notice::Rejected { id: rejected.id, refusal: rejected.refusal, retry_in });
        }
        self.handle_timeout(now);
    }

    /// Takes note that the network took a bind back.
    pub fn handle_unbound(&mut self, attempt: u64, unbound: BindRefusal, now: Instant) {
        if let Some(retry_in) = self.refused(attempt, &unbound, now) {
            self.notices.push_back(Notice::Unbound { id: unbound.id, refusal: unbound.refusal, retry_in });
        }
        self.handle_timeout(now);
    }

    /// Takes note that addresses or routes changed: dials at once, also beside a living session.
    pub fn handle_network_change(&mut self, now: Instant) {
        self.handle_timeout(now);
        if self.stage == Stage::Running {
            let overtaken = self.standby.end();
            self.hang_up(overtaken);
            let order = self.reconnect.on_network_change(now);
            if let Some(Live { target, resumable: true, .. }) = self.current {
                self.reconnect.prefer(target);
            }
            self.obey(order, now);
        }
        self.handle_timeout(now);
    }

    /// Lets time pass. Calling it early or twice does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Stage::Ending { deadline, reason } = self.stage {
            if self.draining.is_empty() || deadline <= now {
                self.finish(reason);
            }
            return;
        }
        while let Some(order) = self.reconnect.handle_timeout(now) {
            if matches!(order, Order::Hangup { .. }) {
                self.settle();
            }
            self.obey(Some(order), now);
        }
        self.stand_by(now);
        while let Some(oldest) = self.draining.first_entry().filter(|oldest| *oldest.get() <= now) {
            self.actions.push_back(Action::Hangup { attempt: oldest.remove_entry().0 });
        }
        if let Some(Live { attempt, .. }) = self.current {
            while let Some((BindRefusal { id, refusal }, retry_in)) = self.binds.give_up(now) {
                // Taken back, so that an answer which comes after all binds nothing that nobody expects.
                let unbind = Unbind::new(id).because(refusal.code, refusal.text.clone()); // spec: BIND-020
                self.actions.push_back(Action::Unbind { attempt, unbind });
                self.notices.push_back(Notice::Rejected { id, refusal, retry_in });
            }
            self.binds.ask(now, |bind| self.actions.push_back(Action::Bind { attempt, bind }));
        }
    }

    /// Wishes for an endpoint, now and after every reconnect, until [`Self::unbind`]. The `id` in `bind` is ignored.
    pub fn bind(&mut self, bind: Bind, now: Instant) -> BindId {
        self.withhold(Withheld::taken_back(bind.url.as_str()), now);
        let id = self.binds.add(bind);
        self.handle_timeout(now);
        id
    }

    /// Gives an endpoint up. Giving it up twice changes nothing.
    pub fn unbind(&mut self, unbind: Unbind, now: Instant) {
        let known = self.binds.remove(unbind.id);
        if let (true, Some(Live { attempt, .. })) = (known, self.current) {
            self.actions.push_back(Action::Unbind { attempt, unbind });
        }
        self.handle_timeout(now);
    }

    /// Tells those who run the network why an endpoint is not asked for, now and after every reconnect, until [`Self::bind`] of the
    /// same URL, or until this is called with [`Code::NO_ERROR`](crate::Code::NO_ERROR). What was said already is not said again.
    pub fn withhold(&mut self, withheld: Withheld, now: Instant) {
        let is_news = self.withheld.note(&withheld);
        if let (true, Some(Live { attempt, .. })) = (is_news, self.current) {
            self.actions.push_back(Action::Withhold { attempt, withheld });
        }
        self.handle_timeout(now);
    }

    /// Ends everything: no more dials, sessions drain for at most `drain`, then comes [`Action::GiveUp`].
    ///
    /// A second call can only bring the end nearer.
    pub fn shutdown(&mut self, drain: Duration, now: Instant) {
        let deadline = now + drain;
        match &mut self.stage {
            Stage::Running => {
                let order = self.reconnect.on_stop();
                self.obey(order, now);
                let needless = self.standby.end();
                self.hang_up(needless);
                if let Some(Live { attempt, suspended, .. }) = self.current
                    && self.leave(attempt, now)
                {
                    if suspended {
                        self.actions.push_back(Action::Hangup { attempt }); // nobody would let it drain
                    } else {
                        self.actions.push_back(Action::Drain { attempt });
                        self.draining.insert(attempt, deadline);
                    }
                }
                self.stage = Stage::Ending { deadline, reason: GiveUp::Shutdown };
            }
            Stage::Ending { deadline: end, reason } => {
                *end = deadline.min(*end);
                *reason = GiveUp::Shutdown;
            }
            Stage::Over => {}
        }
        self.handle_timeout(now);
    }

    /// Returns what to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns what the user may want to know.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`], and why.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        match self.stage {
            Stage::Running => {
                let drained = self.draining.values().min().map(|&at| Deadline { at, why: TimerKind::Drain });
                let rebind = self.current.and_then(|_| self.binds.poll_timeout());
                let dial = Deadline::earliest(self.reconnect.poll_timeout(), self.standby.poll_timeout());
                Deadline::earliest(Deadline::earliest(dial, drained), rebind)
            }
            Stage::Ending { deadline, .. } => Some(Deadline { at: deadline, why: TimerKind::Drain }),
            Stage::Over => None,
        }
    }

    /// Returns the attempt that made the current session.
    pub fn current(&self) -> Option<u64> {
        self.current.map(|live| live.attempt)
    }

    /// Returns how long it is until the next dial, if one is waited for.
    pub fn redial_in(&self, now: Instant) -> Option<Duration> {
        self.reconnect.redial().map(|due| due.since(now))
    }

    /// Makes the session no longer the current one, if it is that.
    fn leave(&mut self, attempt: u64, now: Instant) -> bool {
        let Some(live) = self.current.take_if(|live| live.attempt == attempt) else { return false };
        if !live.suspended {
            self.reconnect.on_life(now.since(live.since));
        }
        self.reconnect.on_settled();
        self.binds.on_session();
        let overtaken = self.standby.end();
        self.hang_up(overtaken);
        for action in &mut self.actions {
            if let Action::Resume { attempt: dial, session, target } = *action
                && session == attempt
            {
                *action = Action::Dial { attempt: dial, target };
            }
        }
        self.actions.retain(|action| action.session() != Some(attempt));
        true
    }

    /// A dial beside a living session was a precaution; when it fails, the heartbeat of that one will tell if there is a need.
    fn settle(&mut self) {
        if self.current.is_some_and(|live| !live.suspended) {
            self.reconnect.on_stop();
        }
    }

    fn drain(&mut self, attempt: u64, now: Instant) {
        self.draining.insert(attempt, now + DRAIN_LIMIT);
        if self.draining.len() > MAX_DRAINING
            && let Some((attempt, _)) = self.draining.pop_first()
        {
            self.actions.push_back(Action::Hangup { attempt });
        }
    }

    fn refused(&mut self, attempt: u64, refusal: &BindRefusal, now: Instant) -> Option<Duration> {
        if self.is_current(attempt) { self.binds.on_refused(refusal, now) } else { None }
    }

    fn obey(&mut self, order: Option<Order>, now: Instant) {
        match order {
            Some(Order::Dial { attempt, target }) => {
                let action = match self.current {
                    Some(Live { attempt: session, target: held, resumable: true, .. }) if held == target => {
                        Action::Resume { attempt, session, target }
                    }
                    Some(_) | None => Action::Dial { attempt, target },
                };
                self.actions.push_back(action);
            }
            Some(Order::Hangup { attempt }) => self.actions.push_back(Action::Hangup { attempt }),
            Some(Order::GiveUp) => {
                if let Some(attempt) = self.current()
                    && self.leave(attempt, now)
                {
                    self.actions.push_back(Action::Hangup { attempt }); // it waits for a link that nobody will make
                }
                self.stage = Stage::Ending { deadline: now + DRAIN_LIMIT, reason: GiveUp::Refused };
                self.handle_timeout(now);
            }
            None => {}
        }
    }

    fn finish(&mut self, reason: GiveUp) {
        self.stage = Stage::Over;
        let rest = core::mem::take(&mut self.draining);
        self.actions.extend(rest.into_keys().map(|attempt| Action::Hangup { attempt }));
        self.actions.push_back(Action::GiveUp(reason));
    }

    fn is_current(&self, attempt: u64) -> bool {
        self.current() == Some(attempt)
    }
}

/// How long a session may drain: the longest drain that a network can be configured for, so that it is not cut short.
const DRAIN_LIMIT: Duration = Duration::from_secs(3_600);

/// How many sessions may drain beside the current one; one more, and the oldest is hung up.
const MAX_DRAINING: usize = 8;

#[cfg(test)]
mod tests;
