//! One session over many links: a link that is lost parks its session, and a later one takes it up.

use alloc::vec;

use super::{Link, Machine, Phase};
use crate::{
    AuthRequest, Cause, Close, Code, Config, Duration, Event, Hello, Instant, Role, Side, VERSION, Violation, Welcome,
    frame::{Encoded, Kind},
    heartbeat::Pulse,
    side,
};

impl Link<side::Agent> {
    /// Starts a link, on a transport that has just been secured, that goes on with the session of `old`. That one, lost or
    /// alive, is over at once; what it has not told comes from this one.
    ///
    /// `None` when there is no session, or one that cannot be resumed: `old` is as it was.
    pub fn resume(old: &mut Self, config: Config, hello: Hello, seed: u64, now: Instant) -> Option<Self> {
        old.handle_timeout(now);
        let request = old.state.session.as_mut()?.resume_request()?;
        let limits = config.limits();
        let resume_window = config.resume_window;
        let hello = Hello {
            versions: vec![VERSION],
            limits,
            heartbeat: config.heartbeat,
            resume: Some(request),
            resume_window,
            ..hello
        };
        let mut link =
            Self { decoder: crate::frame::Decoder::new(config.frame), state: Machine::new(config, seed, now) };
        link.state.output.push_back(Encoded::message(Kind::Hello, &hello));
        link.state.events = core::mem::take(&mut old.state.events);
        let mut session = old.state.session.take()?;
        let until = session.park(now).map_or(now, |window| window.min(now + link.state.config.handshake_timeout));
        link.state.phase = Phase::Handshake { until };
        link.state.session = Some(session);
        old.state.give_way();
        Some(link)
    }
}

impl Link<side::Network> {
    /// Consents to go on with the session of `old`, lost or alive. That one is over: its peer is told `REPLACED`, and nothing
    /// that comes on it is processed any more; what it has not told comes from this one. The session's name, limits and
    /// counts in `welcome` are filled in.
    ///
    /// # Errors
    /// The request, when it does not name the session of `old`, its secret is wrong or used, its count cannot be, or this
    /// link has ended meanwhile: nothing has changed. Refuse it with [`Code::RESUME_UNKNOWN`].
    #[expect(clippy::result_large_err, reason = "moved once a handshake")]
    pub fn resume(
        &mut self,
        request: AuthRequest,
        old: &mut Self,
        welcome: Welcome,
        now: Instant,
    ) -> Result<(), AuthRequest> {
        old.handle_timeout(now);
        let asked = matches!(self.state.phase, Phase::Asked { .. });
        let session = old.state.session.take_if(|session| {
            // spec: RES-009
            asked && request.hello.resume.as_ref().is_some_and(|resume| session.admits(resume)) // spec: RES-007
        });
        let (Some(mut session), Some(resume)) = (session, &request.hello.resume) else { return Err(request) };
        session.show(resume);
        let resumed = session.resume_at(resume.received);
        debug_assert_eq!(resumed, Ok(()), "the count was found possible");
        self.state.events.append(&mut old.state.events);
        old.state.replaced(now); // spec: RES-008
        let mut welcome = Welcome {
            session: resume.session,
            limits: self.state.config.limits(),
            resumed: Some(session.processed()),
            ..welcome
        };
        request.bound_offer(&mut welcome);
        self.decoder.set_limit(self.state.config.frame);
        self.state.output.push_back(Encoded::message(Kind::Welcome, &welcome));
        self.state.session = Some(session);
        self.state.go_on(&welcome, now);
        Ok(())
    }
}

impl<S: Side> Link<S> {
    /// Ends a parked session at once; its peer cannot be told. Does nothing to a link that lives.
    #[cfg(feature = "driver")]
    pub(crate) fn forsake(&mut self) {
        if matches!(self.state.phase, Phase::Parked { .. }) {
            self.state.conclude(Cause::Transport(crate::Loss::Other));
        }
    }

    /// Returns whether the link is lost and its session waits for the next.
    pub const fn is_parked(&self) -> bool {
        matches!(self.state.phase, Phase::Parked { .. })
    }

    /// Returns whether the handshake is done and the transport works, as far as this side knows.
    pub const fn is_established(&self) -> bool {
        matches!(self.state.phase, Phase::Established)
    }

    /// Returns how the handshake came out: established, or lost before.
    #[cfg(feature = "driver")]
    pub(crate) fn outcome(&self) -> Option<Result<(), Cause>> {
        match self.state.phase {
            Phase::Handshake { .. } | Phase::Asked { .. } => None,
            Phase::Established => Some(Ok(())),
            Phase::Parked { .. } | Phase::Closing { .. } | Phase::Over => {
                Some(Err(self.state.cause.clone().unwrap_or(Cause::Local(Code::INTERNAL))))
            }
        }
    }

    /// Returns why the session is over, if it is.
    #[cfg(feature = "driver")]
    pub(crate) const fn ended(&self) -> Option<&Cause> {
        match self.state.phase {
            Phase::Parked { .. } => None,
            Phase::Handshake { .. }
            | Phase::Asked { .. }
            | Phase::Established
            | Phase::Closing { .. }
            | Phase::Over => self.state.cause.as_ref(),
        }
    }
}

impl<S: Side> Machine<S> {
    /// Parks the session if the cause allows it to go on; returns whether it did.
    pub(super) fn park(&mut self, cause: &Cause, now: Instant) -> bool {
        if matches!(self.phase, Phase::Closing { .. } | Phase::Over | Phase::Parked { .. }) {
            return false;
        }
        let silent = if let Cause::Dead { silent_for } = cause { *silent_for } else { Duration::ZERO };
        let Some(session) = self.session.as_mut().filter(|_| cause.is_loss()) else { return false };
        let Some(window) = session.window() else { return false };
        // The peer of a machine that slept has given up long ago.
        if self.pulse.as_ref().is_some_and(|pulse| pulse.patience() + window <= silent) {
            return false;
        }
        let Some(until) = session.park(now) else { return false };
        self.output.clear();
        (self.ping, self.pong, self.pulse, self.awaiting) = (None, None, None, None);
        self.phase = Phase::Parked { until };
        self.cause = Some(cause.clone());
        // What was not looked at is out of date: a peer that comes and goes makes nothing pile up.
        self.events.retain(|event| !matches!(event, Event::Suspended(_) | Event::Resumed(_)));
        self.events.push_back(Event::Suspended(cause.clone()));
        if until <= now {
            self.conclude(Cause::ResumeExpired);
        }
        true
    }

    /// Takes the network's answer to a request to resume.
    pub(super) fn on_resumed(&mut self, welcome: &Welcome, now: Instant) -> Result<(), Violation> {
        let Some(session) = &mut self.session else { return Err(Violation::ResumeAnswer) };
        let Some(received) = welcome.resumed.filter(|_| session.is_named(welcome.session)) else {
            return Err(Violation::ResumeAnswer);
        };
        session.resume_at(received)?;
        self.go_on(welcome, now);
        Ok(())
    }

    /// Establishes the link for a session that was there before.
    fn go_on(&mut self, welcome: &Welcome, now: Instant) {
        if let Some(session) = &mut self.session {
            session.permit(welcome.session, welcome.resume.as_ref(), now);
        }
        self.pulse = Some(Pulse::new(welcome.heartbeat, self.rng.clone(), now)); // spec: RES-017
        self.phase = Phase::Established;
        self.unconfirmed = S::ROLE == Role::Network;
        self.handle_timeout(now);
    }

    /// Ends the session whose time without a link is over, or for another reason while it waits.
    pub(super) fn conclude(&mut self, cause: Cause) {
        if let Some(session) = &mut self.session {
            session.end(&cause);
        }
        self.events.push_back(Event::Closed(cause.clone()));
        self.cause = Some(cause);
        self.phase = Phase::Over;
    }

    /// Leaves the transport to be closed without a word: CLOSE would end the session.
    fn give_way(&mut self) {
        self.output.clear();
        (self.ping, self.pong) = (None, None);
        self.cause = Some(Cause::Local(Code::REPLACED));
        self.phase = Phase::Over;
    }

    /// Tells the peer of a link that has lost its session to another.
    fn replaced(&mut self, now: Instant) {
        let lives = self.phase == Phase::Established;
        self.give_way();
        if lives {
            let text = "the session goes on elsewhere".into();
            self.output.push_back(Encoded::message(Kind::Close, &Close { code: Code::REPLACED, text }));
            // Where its path is gone nobody reads this, and whoever has the session has another link.
            self.phase = Phase::Closing { until: now + self.config.close_timeout.min(REPLACED) };
        }
    }
}

/// How long a link that was replaced has for its last words.
const REPLACED: Duration = Duration::from_secs(1);

#[cfg(all(test, feature = "driver", feature = "testing"))]
mod tests {
    use alloc::{string::String, vec::Vec};

    use crate::{
        Cause, Code, Event, GoAway, Loss, Open, StreamId,
        frame::{Encoded, Kind},
        testing::{Options, Pair},
    };

    #[test]
    fn a_handshake_has_no_outcome_until_it_is_done_and_another_once_the_link_is_lost() {
        let mut pair = Pair::new(Options::default());
        assert_eq!((pair.agent.link.outcome(), pair.network.link.outcome()), (None, None));

        pair.establish();
        assert_eq!((pair.agent.link.outcome(), pair.network.link.outcome()), (Some(Ok(())), Some(Ok(()))));

        pair.cut();
        assert_eq!(pair.agent.link.outcome(), Some(Err(Cause::Transport(Loss::Reset))));
    }

    #[test]
    fn a_session_has_not_ended_while_it_waits_for_a_link_and_is_forsaken_only_then() {
        let mut pair = Pair::established(Options::default());
        pair.agent.link.forsake();
        assert_eq!((pair.agent.link.ended(), pair.agent.link.is_established()), (None, true));

        pair.cut();
        assert_eq!((pair.agent.link.ended(), pair.agent.link.is_parked()), (None, true));
        pair.agent.link.forsake();

        let lost = Cause::Transport(Loss::Other);
        assert_eq!(pair.agent.link.ended(), Some(&lost));
        assert_eq!(pair.agent.take_events().pop(), Some(Event::Closed(lost)));
    }

    #[test]
    fn what_happened_to_the_session_and_to_its_streams_can_be_asked_for_apart() {
        let mut pair = Pair::established(Options::default());
        let (now, link) = (pair.now(), &mut pair.agent.link);
        assert!(!link.has_control_event());
        let open = Encoded::open(StreamId(2), &Open::default());
        let goaway = GoAway { last: 0, code: Code::SHUTDOWN, retry_after: None, text: String::new() };
        let mut octets = Vec::new();
        open.write(&mut octets);
        Encoded::message(Kind::GoAway, &goaway).write(&mut octets);

        link.handle_input(&octets, now);

        assert!(link.has_control_event());
        assert_eq!((link.poll_control_event(), link.poll_control_event()), (Some(Event::GoAway(goaway)), None));
        assert!(!link.has_control_event());
        assert_eq!((link.poll_stream_event(), link.poll_stream_event()), (Some(Event::Opened(StreamId(2))), None));
        link.close(Code::NO_ERROR, "", now);
        assert!(link.has_control_event());
        assert_eq!(link.poll_control_event(), None, "the end comes after everything else");
        assert_eq!(link.poll_closed_event(), Some(Event::Closed(Cause::Local(Code::NO_ERROR))));
        assert!(!link.has_control_event());
    }
}
