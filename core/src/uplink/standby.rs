//! Another way beside a silent link: when to look for one, and when to take it.
//!
//! A link that is silent for seconds is mostly not lost: its peer was stopped, or has much to do, or the path is slow. So who
//! answers beside it is nothing but a precaution, until the old link had its moment. Thousands of agents fall silent together
//! when their node stops: each comes at a time of its own, says nothing at first, and not often.

use super::{Action, Stage, Uplink};
use crate::{Deadline, Duration, Instant, Rng, TimerKind, bucket::Bucket};

#[derive(Debug)]
pub(super) struct Standby {
    state: State,
    rng: Rng,
    tries: Bucket,
    /// The time that a connection, or TLS on it, may take.
    limit: Duration,
    /// How often the old link spoke after all, lately, and when that was forgiven last.
    alarms: u32,
    forgiven: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The session's link speaks, or its session is on its way to another.
    Calm,
    /// It is silent; a connection is to be made at that time.
    Waiting { until: Instant },
    /// A connection is being made.
    Connecting { attempt: u64, since: Instant, deadline: Instant },
    /// There is a connection; the old link may still speak.
    Listening { attempt: u64, until: Instant, prompt: bool, secured: bool },
    /// TLS is being agreed on, beside the old link.
    Securing { attempt: u64, deadline: Instant, prompt: bool },
}

/// What the owner has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Connect(u64),
    Secure(u64),
    Move(u64),
    Hangup(u64),
}

impl Standby {
    pub(super) const fn new(rng: Rng, limit: Duration, now: Instant) -> Self {
        Self { state: State::Calm, rng, tries: Bucket::new(TRIES, TRY_PERIOD, now), limit, alarms: 0, forgiven: now }
    }

    /// Takes note that the link is silent.
    pub(super) fn on_silence(&mut self, now: Instant) {
        if self.state != State::Calm {
            return;
        }
        let periods = now.since(self.forgiven).as_nanos() / FORGIVE.as_nanos();
        if periods > 0 {
            self.alarms = self.alarms.saturating_sub(u32::try_from(periods).unwrap_or(u32::MAX));
            self.forgiven = now;
        }
        // Whoever was wrong three times waits twice as long each time. A short outage looks the same, and one alone is soon forgotten.
        let patience = SPREAD.saturating_mul((1 << self.alarms.saturating_sub(2)) - 1);
        let spread = u64::try_from(SPREAD.as_nanos()).unwrap_or(u64::MAX);
        self.state = State::Waiting { until: now + patience + Duration::from_nanos(self.rng.between(0, spread)) };
    }

    /// Takes note that the link speaks; returns the attempt that is of no more use.
    pub(super) fn on_sound(&mut self, now: Instant) -> Option<u64> {
        match self.state {
            State::Listening { prompt: true, .. } | State::Securing { prompt: true, .. } => {
                (self.alarms, self.forgiven) = ((self.alarms + 1).min(MOST_ALARMS), now);
            }
            State::Calm
            | State::Waiting { .. }
            | State::Connecting { .. }
            | State::Listening { .. }
            | State::Securing { .. } => {}
        }
        self.end()
    }

    /// Wants no other way any more; returns the attempt that is of no more use.
    pub(super) const fn end(&mut self) -> Option<u64> {
        let attempt = self.attempt();
        self.state = State::Calm;
        attempt
    }

    /// Takes note that the network answers beside the old link.
    ///
    /// Who is answered at once learns that the path is good, and that the old link may be slow or its peer stopped. Who is
    /// answered after a while learns that it was the path.
    pub(super) fn on_connected(&mut self, attempt: u64, now: Instant) {
        if let State::Connecting { attempt: connecting, since, .. } = self.state
            && connecting == attempt
        {
            let prompt = now < since + PROMPT;
            let until = now + if prompt { MOMENT } else { SHORT };
            self.state = State::Listening { attempt, until, prompt, secured: false };
        }
    }

    /// Takes note that TLS is agreed on: whoever answers is awake, and the old link has another moment.
    pub(super) fn on_secured(&mut self, attempt: u64, now: Instant) {
        if let State::Securing { attempt: securing, prompt, .. } = self.state
            && securing == attempt
        {
            self.state = State::Listening { attempt, until: now + SHORT, prompt, secured: true };
        }
    }

    /// Takes note that an attempt came to nothing; returns whether it was this one. The link is silent still.
    pub(super) fn on_failed(&mut self, attempt: u64, now: Instant) -> bool {
        let failed = self.attempt() == Some(attempt);
        if failed {
            self.state = State::Waiting { until: now + SPREAD };
        }
        failed
    }

    /// Lets time pass; returns what to do. `number` names an attempt.
    pub(super) fn handle_timeout(&mut self, number: impl FnOnce() -> u64, now: Instant) -> Option<Step> {
        match self.state {
            State::Waiting { until } if until <= now => {
                // spec: TIME-008
                if !self.tries.take(now) {
                    self.state = State::Waiting { until: now + SPREAD };
                    return None;
                }
                let attempt = number();
                self.state = State::Connecting { attempt, since: now, deadline: now + self.limit };
                Some(Step::Connect(attempt))
            }
            State::Listening { attempt, until, secured: true, .. } if until <= now => {
                self.state = State::Calm;
                Some(Step::Move(attempt))
            }
            State::Listening { attempt, until, prompt, secured: false } if until <= now => {
                self.state = State::Securing { attempt, deadline: now + self.limit, prompt };
                Some(Step::Secure(attempt))
            }
            State::Connecting { attempt, deadline, .. } | State::Securing { attempt, deadline, .. }
                if deadline <= now =>
            {
                self.state = State::Waiting { until: now + SPREAD }; // spec: TIME-004
                Some(Step::Hangup(attempt))
            }
            State::Calm
            | State::Waiting { .. }
            | State::Connecting { .. }
            | State::Listening { .. }
            | State::Securing { .. } => None,
        }
    }

    pub(super) const fn poll_timeout(&self) -> Option<Deadline> {
        match self.state {
            State::Waiting { until: at }
            | State::Listening { until: at, .. }
            | State::Connecting { deadline: at, .. }
            | State::Securing { deadline: at, .. } => Some(Deadline { at, why: TimerKind::Dial }),
            State::Calm => None,
        }
    }

    const fn attempt(&self) -> Option<u64> {
        match self.state {
            State::Calm | State::Waiting { .. } => None,
            State::Connecting { attempt, .. } | State::Listening { attempt, .. } | State::Securing { attempt, .. } => {
                Some(attempt)
            }
        }
    }
}

impl Uplink {
    /// Takes note that the link of a session is silent, though somebody waits for it. If it may be resumed, the network is
    /// asked for a connection beside it.
    pub fn handle_silence(&mut self, attempt: u64, now: Instant) {
        self.handle_timeout(now);
        let waits = self.current.is_some_and(|live| live.attempt == attempt && live.resumable && !live.suspended);
        if waits && self.stage == Stage::Running && self.reconnect.is_resting() {
            self.standby.on_silence(now);
        }
        self.handle_timeout(now);
    }

    /// Takes note that the link of a session speaks again: another is not needed.
    pub fn handle_sound(&mut self, attempt: u64, now: Instant) {
        if self.is_current(attempt) {
            let needless = self.standby.on_sound(now);
            self.hang_up(needless);
        }
        self.handle_timeout(now);
    }

    /// Takes note that a connection beside a silent link is there. Nothing is to be said on it before [`Action::Proceed`].
    pub fn handle_connected(&mut self, attempt: u64, now: Instant) {
        self.handle_timeout(now);
        self.standby.on_connected(attempt, now);
        self.handle_timeout(now);
    }

    /// Takes note that such a connection is secured. The session stays where it is until the next [`Action::Proceed`].
    pub fn handle_secured(&mut self, attempt: u64, now: Instant) {
        self.handle_timeout(now);
        self.standby.on_secured(attempt, now);
        self.handle_timeout(now);
    }

    pub(super) fn stand_by(&mut self, now: Instant) {
        let Some(live) = self.current else { return };
        let number = || self.reconnect.number();
        let action = match self.standby.handle_timeout(number, now) {
            Some(Step::Connect(attempt)) => Action::StandBy { attempt, session: live.attempt, target: live.target },
            Some(Step::Secure(attempt)) => Action::Proceed { attempt },
            Some(Step::Move(attempt)) => {
                self.reconnect.on_dialed(attempt, live.target, now); // from here it is a dial like any other
                Action::Proceed { attempt }
            }
            Some(Step::Hangup(attempt)) => Action::Hangup { attempt },
            None => return,
        };
        self.actions.push_back(action);
    }

    pub(super) fn hang_up(&mut self, attempt: Option<u64>) {
        if let Some(attempt) = attempt {
            self.withdraw(attempt);
            self.actions.push_back(Action::Hangup { attempt });
        }
    }

    /// Takes back a consent that nobody has seen.
    pub(super) fn withdraw(&mut self, attempt: u64) {
        self.actions.retain(|action| *action != Action::Proceed { attempt });
    }
}

/// The time over which agents that fall silent together come, and the pause after a connection that came to nothing.
const SPREAD: Duration = Duration::from_secs(1);
/// An answer that comes as soon is no news of a path that was away.
const PROMPT: Duration = Duration::from_secs(1);
/// The moment that the old link has where the path is good, and where it comes back.
const MOMENT: Duration = Duration::from_millis(1_500);
const SHORT: Duration = Duration::from_millis(100);
/// Connections in a burst, and the time after which there may be another.
const TRIES: u32 = 2;
const TRY_PERIOD: Duration = Duration::from_millis(7_500);
/// The time after which one false alarm is forgotten, and how many count.
const FORGIVE: Duration = Duration::from_secs(15);
const MOST_ALARMS: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_forgiven_after_its_time_however_often_the_link_is_silent_meanwhile() {
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        let mut standby = Standby::new(Rng::new(1), Duration::from_secs(30), at(0));
        standby.alarms = 3;

        let alarms = [10, 15, 29, 30].map(|secs| {
            standby.on_silence(at(secs));
            assert_eq!(standby.end(), None);
            standby.alarms
        });

        assert_eq!(alarms, [3, 2, 2, 1]);
    }
}
