//! Doubt: a link on which somebody waits is silent, long before silence means death.
//!
//! The transport below may be at fault alone: after an outage without a word it sends again ever more rarely, while a new
//! one would be answered at once. So the agent asks early, and whoever drives it may look for another way meanwhile.

use super::{Link, Machine, Phase};
use crate::{Deadline, Duration, Instant, Role, Side, TimerKind, heartbeat::Pulse};

/// What is known of a link beside its heartbeat.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Doubt {
    /// Whether something was said since the last question.
    busy: bool,
    /// Whether it has been silent for too long.
    silent: bool,
}

impl Doubt {
    /// Takes note that octets came.
    pub(super) const fn on_life(&mut self) {
        self.silent = false;
    }

    /// Takes note that a frame of the session came or went.
    pub(super) const fn on_traffic(&mut self) {
        self.busy = true;
    }

    /// Takes note that the peer is asked.
    pub(super) const fn on_question(&mut self) {
        self.busy = false;
    }
}

impl<S: Side> Link<S> {
    /// Takes note that octets came of which TLS has made nothing yet: a long record on a slow link.
    pub fn handle_life(&mut self, now: Instant) {
        self.handle_timeout(now);
        self.state.on_life(now);
    }

    /// Returns whether an agent's link is silent although streams are open and something is owed to it. An octet ends that.
    pub const fn is_silent(&self) -> bool {
        self.state.doubt.silent && matches!(self.state.phase, Phase::Established)
    }
}

impl<S: Side> Machine<S> {
    pub(super) fn on_life(&mut self, now: Instant) {
        if let Some(pulse) = &mut self.pulse {
            pulse.on_input(now); // spec: HB-003
            self.doubt.on_life();
        }
    }

    /// Returns when frames that are not acknowledged mean that the link is dead.
    pub(super) fn ack_deadline(&self) -> Option<Instant> {
        let tolerance = self.pulse.as_ref()?.tolerance();
        self.awaiting.map(|(since, _)| since + tolerance.saturating_mul(3))
    }

    /// Asks early if it is time.
    pub(super) fn hasten(&mut self, now: Instant) {
        if self.question_due().is_some_and(|due| due <= now)
            && let Some(pulse) = &mut self.pulse
        {
            pulse.hasten(now); // spec: HB-014
        }
    }

    pub(super) fn on_doubt_timeout(&mut self, now: Instant) {
        if self.silence_due().is_some_and(|due| due <= now) {
            self.doubt.silent = true;
        }
    }

    pub(super) fn doubt_deadline(&self) -> Option<Deadline> {
        let question = self.question_due().map(|at| Deadline { at, why: TimerKind::Ping });
        let silence = self.silence_due().map(|at| Deadline { at, why: TimerKind::Silence });
        Deadline::earliest(question, silence)
    }

    /// Returns when to ask early.
    fn question_due(&self) -> Option<Instant> {
        let pulse = self.waits().filter(|pulse| self.doubt.busy && pulse.is_patient())?;
        let heard = pulse.heard();
        let since = self.awaiting.map_or(heard, |(since, _)| since.max(heard));
        Some(since + QUIET.max(pulse.answer_time() * 2))
    }

    /// Returns when the link is silent for too long.
    fn silence_due(&self) -> Option<Instant> {
        let pulse = self.waits().filter(|_| !self.doubt.silent)?;
        let (heard, slow) = (pulse.heard(), pulse.answer_time() * 2);
        let unacknowledged = self.awaiting.map(|(since, _)| since.max(heard) + SILENT.max(slow));
        let unanswered = pulse.asked().map(|since| (heard + SILENT).max(since + QUIET.max(slow)));
        [unacknowledged, unanswered].into_iter().flatten().min()
    }

    /// Returns the heartbeat of a link that could be replaced, and on which somebody may wait.
    fn waits(&self) -> Option<&Pulse> {
        if S::ROLE == Role::Network || self.phase != Phase::Established {
            return None;
        }
        let session = self.session.as_ref().filter(|session| session.live_streams() > 0 && !session.is_draining())?;
        session.window()?;
        self.pulse.as_ref()
    }
}

/// The silence before the peer is asked early, and that which is doubtful. An answer may take two round trips in any case.
const QUIET: Duration = Duration::from_secs(1);
const SILENT: Duration = Duration::from_secs(2);
