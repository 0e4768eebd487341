//! The liveness of one link: asks, waits, and says when the peer or the transport is gone.
//!
//! Every octet received is life; what is sent proves nothing. A question is judged only once the transport has taken it,
//! so that a slow link is not mistaken for a dead one; a transport that takes nothing is judged by itself.

use crate::{Deadline, Duration, Heartbeat, Instant, Rng, TimerKind, config::clamp_heartbeat};

/// The heartbeat of one link; a new link gets a new one (HB-010).
#[derive(Debug)]
pub(crate) struct Pulse {
    heartbeat: Heartbeat,
    rng: Rng,
    heard: Instant,
    question: Question,
    waiting: Option<Instant>,
    rtt: Option<Rtt>,
    ended: bool,
}

/// What the owner has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Send a PING with these octets ahead of data.
    SendPing([u8; 8]),
    /// The peer is gone: end the link.
    Dead {
        /// The time since the last octet came.
        silent_for: Duration,
    },
    /// The transport is stuck: end the link.
    Stalled {
        /// The time since it last took an octet.
        stuck_for: Duration,
    },
}

/// What a PONG was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PongResult {
    /// It answers the question; this is the round trip.
    Matched(Duration),
    /// It answers nothing: ignored, and counted by the owner.
    Unmatched,
}

/// The round trips measured on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rtt {
    /// The one before it was averaged.
    pub(crate) latest: Duration,
    /// The moving average, the latest weighing one eighth.
    pub(crate) smoothed: Duration,
}

/// The one question that may be outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Due(Instant),
    Queued([u8; 8]),
    Written { nonce: [u8; 8], sent: Instant },
    Asked { nonce: [u8; 8], sent: Instant, flushed: Instant, life: bool },
}

impl Pulse {
    /// Returns the pulse of a link established at `now`. The first question is due at once, so that the round trip is known.
    pub(crate) fn new(heartbeat: Heartbeat, rng: Rng, now: Instant) -> Self {
        Self {
            heartbeat: clamp_heartbeat(heartbeat),
            rng,
            heard: now,
            question: Question::Due(now),
            waiting: None,
            rtt: None,
            ended: false,
        }
    }

    /// Takes note that octets came, whatever they say. After the tolerance it is too late.
    pub(crate) fn on_input(&mut self, now: Instant) {
        if self.overdue(now).is_some() {
            return; // spec: HB-004, however late the timer is
        }
        self.heard = self.heard.max(now); // spec: HB-003
        if let Question::Asked { life, .. } = &mut self.question {
            *life = true;
        }
    }

    /// Takes a PONG.
    pub(crate) fn on_pong(&mut self, nonce: [u8; 8], now: Instant) -> PongResult {
        self.on_input(now);
        let (sent, from) = match self.question {
            Question::Asked { nonce: asked, sent, flushed, .. } if asked == nonce => (sent, flushed),
            // The transport may have taken the ping without having said so yet.
            Question::Written { nonce: asked, sent } if asked == nonce => (sent, sent),
            Question::Due(_) | Question::Queued(_) | Question::Written { .. } | Question::Asked { .. } => {
                return PongResult::Unmatched; // spec: HB-007
            }
        };
        if !self.ended && self.overdue(now).is_none() {
            self.question = Question::Due(sent + self.heartbeat.interval); // spec: HB-001
        }
        let latest = now.since(from);
        let smoothed = self.rtt.map_or(latest, |rtt| (rtt.smoothed.saturating_mul(7).saturating_add(latest)) / 8);
        self.rtt = Some(Rtt { latest, smoothed });
        PongResult::Matched(latest)
    }

    /// Takes note that the queued ping was handed out to be written.
    pub(crate) fn on_ping_sent(&mut self, now: Instant) {
        if let Question::Queued(nonce) = self.question {
            self.question = Question::Written { nonce, sent: now };
        }
    }

    /// Takes note that the transport took all that was handed out, a ping included: its tolerance starts.
    pub(crate) fn on_flushed(&mut self, now: Instant) {
        if self.overdue(now).is_some() {
            return;
        }
        self.waiting = None;
        if let Question::Written { nonce, sent } = self.question {
            self.question = Question::Asked { nonce, sent, flushed: now, life: false };
        }
    }

    /// Takes note that octets wait for the transport. Saying so again changes nothing.
    pub(crate) fn on_waiting(&mut self, now: Instant) {
        self.waiting.get_or_insert(now);
    }

    /// Takes note that the transport took at least one octet.
    pub(crate) fn on_progress(&mut self, now: Instant) {
        if self.overdue(now).is_none() && self.waiting.is_some() {
            self.waiting = Some(now);
        }
    }

    /// Lets time pass. What is overdue is judged before a new question is asked.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Beat> {
        if let Some(end) = self.overdue(now) {
            self.ended = true;
            return Some(end);
        }
        match self.question {
            Question::Due(due) if due <= now && !self.ended => {
                let nonce = self.rng.next().to_be_bytes();
                self.question = Question::Queued(nonce); // spec: HB-009, one question however much time went by
                Some(Beat::SendPing(nonce))
            }
            Question::Due(_) | Question::Queued(_) | Question::Written { .. } | Question::Asked { .. } => None,
        }
    }

    /// Returns when to call [`Self::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        if self.ended {
            return None;
        }
        let ping = match self.question {
            Question::Due(at) => Some(Deadline { at, why: TimerKind::Ping }),
            Question::Queued(_) | Question::Written { .. } | Question::Asked { .. } => None,
        };
        let silence = self.silence().map(|at| Deadline { at, why: TimerKind::Silence });
        let stall = self.stall().map(|at| Deadline { at, why: TimerKind::Stall });
        Deadline::earliest(Deadline::earliest(ping, silence), stall)
    }

    /// Returns how long the peer of a link that went silent takes at most to give it up.
    pub(crate) fn patience(&self) -> Duration {
        self.heartbeat.interval + self.heartbeat.tolerance
    }

    /// Returns how long silence is tolerated.
    pub(crate) const fn tolerance(&self) -> Duration {
        self.heartbeat.tolerance
    }

    /// Asks before it is due. Does nothing while a question is unanswered.
    pub(crate) fn hasten(&mut self, now: Instant) {
        if let Question::Due(due) = &mut self.question {
            *due = now.min(*due);
        }
    }

    /// Returns when the last octet came.
    pub(crate) const fn heard(&self) -> Instant {
        self.heard
    }

    /// Returns since when an answer is owed, if one is.
    pub(crate) const fn asked(&self) -> Option<Instant> {
        match self.question {
            Question::Written { sent: since, .. } | Question::Asked { flushed: since, .. } => Some(since),
            Question::Due(_) | Question::Queued(_) => None,
        }
    }

    /// Returns whether a question may be asked before it is due.
    pub(crate) const fn is_patient(&self) -> bool {
        matches!(self.question, Question::Due(_))
    }

    /// Returns how long an answer takes, as far as is known. What waits for it while the peer is heard is on its way: a
    /// link that is full is known to be slow before the answer comes.
    pub(crate) fn answer_time(&self) -> Duration {
        let measured = self.rtt.map_or(Duration::ZERO, |rtt| rtt.latest.max(rtt.smoothed));
        self.asked().map_or(measured, |since| measured.max(self.heard.since(since)))
    }

    /// Returns the round trips, once there was one.
    pub(crate) fn rtt(&self) -> Option<Rtt> {
        self.rtt
    }

    fn overdue(&self, now: Instant) -> Option<Beat> {
        if self.ended {
            return None;
        }
        if self.silence().is_some_and(|at| at <= now) {
            return Some(Beat::Dead { silent_for: now.since(self.heard) }); // spec: HB-004
        }
        let since = self.waiting.filter(|_| self.stall().is_some_and(|at| at <= now))?;
        Some(Beat::Stalled { stuck_for: now.since(since) }) // spec: HB-005
    }

    /// Returns when silence means death.
    ///
    /// A peer that sends but owes the answer is alive; once it stops, it gets as long as a new question would have given it.
    fn silence(&self) -> Option<Instant> {
        let Heartbeat { interval, tolerance } = self.heartbeat;
        match self.question {
            Question::Asked { flushed, life: false, .. } => Some(flushed + tolerance),
            Question::Asked { flushed, life: true, .. } => Some(self.heard.max(flushed) + interval + tolerance),
            Question::Due(_) | Question::Queued(_) | Question::Written { .. } => None,
        }
    }

    /// Returns when a transport that takes nothing means death.
    ///
    /// A slow link takes octets in lumps, the next when the last has drained: as long as the peer is heard, it is given time.
    fn stall(&self) -> Option<Instant> {
        let tolerance = self.heartbeat.tolerance;
        self.waiting.map(|since| (since.max(self.heard) + tolerance).min(since + tolerance * LUMPS))
    }
}

/// For how many tolerances a transport may take nothing while the peer is heard.
const LUMPS: u32 = 3;

#[cfg(test)]
mod tests;
