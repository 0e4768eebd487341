//! How a link ends: closed by this side, given up, or lost.

use alloc::format;

use super::{Machine, Phase};
use crate::{
    Cause, Close, Code, Event, Instant, Refusal, Session, Side, Violation,
    frame::{Encoded, Kind},
};

impl<S: Side> Machine<S> {
    pub(super) fn refuse(&mut self, refusal: &Refusal, now: Instant) {
        self.refuse_for(refusal.code, refusal, now);
    }

    /// Refuses a session; this side's own reason for the end is `code`.
    pub(super) fn refuse_for(&mut self, code: Code, refusal: &Refusal, now: Instant) {
        if !matches!(self.phase, Phase::Asked { .. }) {
            return;
        }
        self.output.push_back(Encoded::message(Kind::Refuse, refusal));
        self.end(Cause::Local(code));
        self.phase = Phase::Closing { until: now + self.config.close_timeout }; // spec: PRE-008
    }

    pub(super) fn violated(&mut self, violation: Violation, now: Instant) {
        let text = format!("{violation}");
        self.close(Cause::Violation(violation), violation.code(), &text, now); // spec: CODE-002
    }

    /// Ends a link whose transport still works: the peer is told.
    pub(super) fn close(&mut self, cause: Cause, code: Code, text: &str, now: Instant) {
        if matches!(self.phase, Phase::Parked { .. }) {
            return self.conclude(cause);
        }
        if self.is_ending() {
            return;
        }
        self.end(cause);
        self.output.push_back(Encoded::message(Kind::Close, &Close { code, text: text.into() }));
        self.phase = Phase::Closing { until: now + self.config.close_timeout };
    }

    /// Ends a link whose peer does not answer: the peer is told if the transport still takes it.
    pub(super) fn dead(&mut self, cause: Cause, now: Instant) {
        if self.park(&cause, now) {
            return; // spec: HB-013
        }
        let slept = self.session.as_ref().and_then(Session::window).is_some();
        let cause = if slept { Cause::ResumeExpired } else { cause };
        self.close(cause, Code::DEAD, "no sign of life", now);
    }

    /// Ends a link whose transport is gone, or whose peer has ended it.
    pub(super) fn lost(&mut self, cause: Cause, now: Instant) {
        if matches!(self.phase, Phase::Parked { .. }) || self.park(&cause, now) {
            return;
        }
        self.end(cause);
        self.output.clear();
        self.phase = Phase::Over;
    }

    pub(super) fn end(&mut self, cause: Cause) {
        if self.is_ending() {
            return;
        }
        self.ping = None;
        self.pong = None;
        if let Some(session) = &mut self.session {
            session.end(&cause);
        }
        self.cause = Some(cause.clone());
        self.events.push_back(Event::Closed(cause));
    }
}
