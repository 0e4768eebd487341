//! A link: one transport's life. Handshake, heartbeat and acknowledgements, and the frames of the session between them.
//!
//! A link sees the octets inside TLS. It is driven like this: hand in what was read, pull what is to be written, report
//! what the transport took, and call [`Link::handle_timeout`] when [`Link::poll_timeout`] is due.

mod doubt;
mod ending;
mod resume;

use alloc::{collections::VecDeque, format, string::String, vec};

use crate::{
    AuthRequest, Cause, Close, Code, Config, Deadline, Duration, Event, FRAME, Hello, Instant, Limits, Loss, Message,
    Refusal, Rng, Role, Session, Side, TimerKind, VERSION, Violation, Welcome,
    bucket::Bucket,
    config::{FRAME_LEAST, FRAME_MOST},
    frame::{Decoder, Encoded, Frame, HEADER, Kind, RawKind, be_u64},
    heartbeat::{Beat, PongResult, Pulse},
    side,
};

use doubt::Doubt;

/// One transport's life, seen from one side.
#[derive(Debug)]
pub struct Link<S: Side> {
    decoder: Decoder,
    state: Machine<S>,
}

#[derive(Debug)]
struct Machine<S: Side> {
    config: Config,
    phase: Phase,
    session: Option<Session<S>>,
    pulse: Option<Pulse>,
    rng: Rng,
    events: VecDeque<Event>,
    /// Handshake messages that have not been pulled: one at most, then CLOSE.
    output: VecDeque<Encoded>,
    ping: Option<[u8; 8]>,
    /// The newest question of the peer: at most one answer is owed.
    pong: Option<[u8; 8]>,
    acknowledged: bool,
    pings: Bucket,
    pongs: Bucket,
    forgiven: Instant,
    before_welcome: usize,
    /// Since when counted frames wait for an acknowledgement, and what was acknowledged then.
    awaiting: Option<(Instant, u64)>,
    doubt: Doubt,
    /// Network: the agent has not shown yet that it has the newest secret.
    unconfirmed: bool,
    cause: Option<Cause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Agent: waits for WELCOME. Network: waits for HELLO.
    Handshake {
        until: Instant,
    },
    /// Network: the application has been asked.
    Asked {
        until: Instant,
    },
    Established,
    /// The transport is lost; the session waits for another link.
    Parked {
        until: Instant,
    },
    /// The terminal event is told; the last octets go out.
    Closing {
        until: Instant,
    },
    Over,
}

impl Link<side::Agent> {
    /// Starts a link on a transport that has just been secured. Versions, limits and heartbeat of `hello` are set from
    /// `config`; `seed` decides the nonces of pings.
    pub fn new(config: Config, hello: Hello, seed: u64, now: Instant) -> Self {
        let (limits, resume_window) = (config.limits(), config.resume_window);
        let heartbeat = config.heartbeat;
        let hello = Hello { versions: vec![VERSION], limits, heartbeat, resume: None, resume_window, ..hello };
        let frame = config.frame;
        let mut state = Machine::new(config, seed, now);
        state.output.push_back(Encoded::message(Kind::Hello, &hello)); // spec: PRE-001
        Self { decoder: Decoder::new(frame), state }
    }
}

impl Link<side::Network> {
    /// Starts a link on a transport that has just been secured. `seed` decides the nonces of pings.
    pub fn new(config: Config, seed: u64, now: Instant) -> Self {
        // spec: FRAME-003, nothing else is announced yet
        Self { decoder: Decoder::new(FRAME), state: Machine::new(config, seed, now) }
    }

    /// Consents to a session. Does nothing when the link has ended meanwhile. An agent that asked to resume is refused:
    /// [`Self::resume`] is the consent to that.
    pub fn accept(&mut self, request: AuthRequest, mut welcome: Welcome, now: Instant) {
        if !matches!(self.state.phase, Phase::Asked { .. }) {
            return;
        }
        if request.hello.resume.is_some() {
            let text = String::from("there is no such session");
            self.state.refuse(&Refusal { code: Code::RESUME_UNKNOWN, retry_after: None, text }, now);
            return;
        }
        request.bound_offer(&mut welcome);
        welcome.resumed = None;
        self.decoder.set_limit(self.state.config.frame);
        self.state.output.push_back(Encoded::message(Kind::Welcome, &welcome));
        self.state.establish(request.hello.limits, &welcome, now);
    }

    /// Refuses a session and closes the link. Does nothing when the link has ended meanwhile.
    pub fn refuse(&mut self, request: AuthRequest, refusal: Refusal, now: Instant) {
        drop(request);
        self.state.refuse(&refusal, now);
    }
}

impl<S: Side> Link<S> {
    /// Takes octets that the transport delivered, in any pieces.
    pub fn handle_input(&mut self, mut input: &[u8], now: Instant) {
        self.handle_timeout(now);
        if input.is_empty() || self.state.is_ending() {
            return;
        }
        if let Err(violation) = self.state.on_octets(input.len(), now) {
            self.state.violated(violation, now);
            return;
        }
        loop {
            let handled = match self.decoder.next(&mut input) {
                Ok(Some(frame)) => self.state.on_frame(frame, now),
                Ok(None) => return,
                Err(violation) => Err(violation),
            };
            if let Err(violation) = handled {
                self.state.violated(violation, now); // spec: CODE-003
            }
            if self.state.is_ending() {
                return;
            }
        }
    }

    /// Takes the end of the transport's input. `clean` says whether TLS ended in order; it makes no difference to the
    /// streams: only CLOSE ends a session in order.
    pub fn handle_eof(&mut self, clean: bool, now: Instant) {
        self.handle_timeout(now);
        self.state.lost(Cause::Eof { clean }, now); // spec: TLS-004
    }

    /// Takes the failure of the transport.
    pub fn handle_loss(&mut self, loss: Loss, now: Instant) {
        self.handle_timeout(now);
        self.state.lost(Cause::Transport(loss), now);
    }

    /// Takes that the transport accepted `written` octets and `left` octets of what was pulled still wait for it.
    pub fn handle_written(&mut self, written: usize, left: usize, now: Instant) {
        self.state.on_written(written, left, now);
    }

    /// Lets time pass. Calling it early or twice does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.state.handle_timeout(now);
    }

    /// Returns the next frame to write. Ask again until `None`, or until there is enough for one write.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Encoded> {
        self.state.poll_transmit(now)
    }

    /// Returns whether [`Self::poll_transmit`] may have something to give.
    pub fn wants_transmit(&self) -> bool {
        self.state.wants_transmit()
    }

    /// Returns when to call [`Self::handle_timeout`], and why; never a time already handled.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.state.poll_timeout()
    }

    /// Returns what happened, each once; [`Event::Closed`] is the last.
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.state.events.front().is_some_and(|event| !matches!(event, Event::Closed(_))) {
            return pop(&mut self.state.events);
        }
        let session = self.state.session.as_mut().and_then(Session::poll_event);
        session.or_else(|| pop(&mut self.state.events)) // what the session told comes before its end
    }

    /// Returns what happened to the session as a whole.
    #[cfg(feature = "driver")]
    pub(crate) fn poll_control_event(&mut self) -> Option<Event> {
        if self.state.events.front().is_some_and(|event| !matches!(event, Event::Closed(_))) {
            return pop(&mut self.state.events);
        }
        self.state.session.as_mut().and_then(Session::poll_control_event)
    }

    /// Returns [`Event::Closed`], for who has taken everything else.
    #[cfg(feature = "driver")]
    pub(crate) fn poll_closed_event(&mut self) -> Option<Event> {
        pop(&mut self.state.events)
    }

    /// Returns whether [`Self::poll_control_event`] or [`Self::poll_closed_event`] has something to give.
    #[cfg(feature = "driver")]
    pub(crate) fn has_control_event(&self) -> bool {
        !self.state.events.is_empty() || self.state.session.as_ref().is_some_and(Session::has_control_event)
    }

    /// Returns what happened to single streams.
    #[cfg(feature = "driver")]
    pub(crate) fn poll_stream_event(&mut self) -> Option<Event> {
        self.state.session.as_mut().and_then(Session::poll_stream_event)
    }

    /// Returns why the link ended, if it has.
    pub const fn cause(&self) -> Option<&Cause> {
        self.state.cause.as_ref()
    }

    /// Returns the session, once there is one.
    pub const fn session(&self) -> Option<&Session<S>> {
        self.state.session.as_ref()
    }

    /// Returns the session, once there is one.
    pub const fn session_mut(&mut self) -> Option<&mut Session<S>> {
        self.state.session.as_mut()
    }

    /// Ends the session and closes the link: the peer is told the code and the text.
    pub fn close(&mut self, code: Code, text: &str, now: Instant) {
        self.state.close(Cause::Local(code), code, text, now);
    }

    /// Returns whether the transport can be closed: nothing will be written, and nothing read matters.
    pub const fn is_finished(&self) -> bool {
        matches!(self.state.phase, Phase::Over | Phase::Parked { .. })
    }

    /// Returns the octets that the link and its session hold.
    #[cfg(feature = "testing")]
    pub(crate) fn held(&self) -> u64 {
        let session = self.state.session.as_ref().map_or(0, Session::held);
        session.saturating_add(self.decoder.allocated() as u64)
    }

    /// Returns the round trip of the latest question and its answer.
    pub fn rtt(&self) -> Option<Duration> {
        self.state.pulse.as_ref().and_then(Pulse::rtt).map(|rtt| rtt.latest)
    }
}

impl<S: Side> Machine<S> {
    fn new(config: Config, seed: u64, now: Instant) -> Self {
        let until = now + config.handshake_timeout;
        Self {
            config,
            phase: Phase::Handshake { until },
            session: None,
            pulse: None,
            rng: Rng::new(seed),
            events: VecDeque::new(),
            output: VecDeque::new(),
            ping: None,
            pong: None,
            acknowledged: false,
            pings: Bucket::new(PING_BURST, PING_PERIOD, now),
            pongs: Bucket::new(PONG_BURST, PONG_PERIOD, now),
            forgiven: now,
            before_welcome: 0,
            awaiting: None,
            doubt: Doubt::default(),
            unconfirmed: false,
            cause: None,
        }
    }

    const fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. } | Phase::Over | Phase::Parked { .. })
    }

    fn on_octets(&mut self, count: usize, now: Instant) -> Result<(), Violation> {
        match self.phase {
            Phase::Handshake { .. } | Phase::Asked { .. } if S::ROLE == Role::Network => {
                self.before_welcome = self.before_welcome.saturating_add(count);
                if self.before_welcome > HANDSHAKE_OCTETS {
                    return Err(Violation::HandshakeTooLong); // spec: PRE-006
                }
            }
            Phase::Handshake { .. }
            | Phase::Asked { .. }
            | Phase::Parked { .. }
            | Phase::Closing { .. }
            | Phase::Over => {}
            Phase::Established => {
                self.on_life(now);
                let tenths = now.since(self.forgiven).as_millis() / 100;
                if let (Ok(count @ 1..), Some(session)) = (u32::try_from(tenths), &mut self.session) {
                    session.forgive_oddities(count);
                    self.forgiven = now;
                }
            }
        }
        Ok(())
    }

    fn on_frame(&mut self, frame: Frame<'_>, now: Instant) -> Result<(), Violation> {
        let RawKind::Known(kind) = frame.header.kind else { return self.on_extension(&frame, now) };
        if kind == Kind::Close {
            let close = Close::decode(frame.payload)?;
            self.lost(Cause::Remote(close), now); // spec: GO-008
            return Ok(());
        }
        match (self.phase, kind, S::ROLE) {
            // spec: FRAME-013
            (Phase::Handshake { until }, Kind::Hello, Role::Network) => {
                self.on_hello(Hello::decode(frame.payload)?, until, now)
            }
            (Phase::Handshake { .. }, _, Role::Network) => Err(Violation::FirstFrame), // spec: PRE-001
            (Phase::Asked { .. }, Kind::Hello, _) => Err(Violation::SecondHandshake),  // spec: PRE-005
            (Phase::Handshake { .. }, Kind::Welcome, Role::Agent) => {
                let welcome = Welcome::decode(frame.payload)?;
                self.on_welcome(welcome, now)
            }
            (Phase::Handshake { .. }, Kind::Refuse, Role::Agent) => {
                let refusal = Refusal::decode(frame.payload)?;
                self.lost(Cause::Refused(refusal), now);
                Ok(())
            }
            (Phase::Handshake { .. } | Phase::Asked { .. }, _, _) => Err(Violation::BeforeWelcome), // spec: PRE-002
            (Phase::Established, Kind::Ping, _) => self.on_ping(frame.payload, now),
            (Phase::Established, Kind::Pong, _) => self.on_pong(frame.payload, now),
            (Phase::Established, _, _) => {
                let Some(session) = &mut self.session else { return Ok(()) };
                if core::mem::take(&mut self.unconfirmed) {
                    session.confirm();
                }
                if kind == Kind::Ack {
                    session.handle_ack(be_u64(frame.payload).ok_or(Violation::FrameLength)?)?;
                    let (waits, count) = (session.awaits_ack(), session.acknowledged());
                    self.awaiting = self
                        .awaiting
                        .filter(|_| waits)
                        .map(|(since, before)| if before < count { (now, count) } else { (since, before) });
                    return Ok(());
                }
                self.doubt.on_traffic();
                session.handle_frame(kind, frame.header.stream, frame.payload, now)
            }
            (Phase::Parked { .. } | Phase::Closing { .. } | Phase::Over, _, _) => Ok(()),
        }
    }

    fn on_extension(&mut self, frame: &Frame<'_>, now: Instant) -> Result<(), Violation> {
        match (self.phase, &mut self.session) {
            (Phase::Established, Some(session)) => {
                session.charge_oddity()?;
                if frame.header.kind.is_counted() {
                    session.count_processed(frame.header.length as usize, now);
                }
                Ok(()) // spec: FRAME-006
            }
            (Phase::Handshake { .. }, _) if S::ROLE == Role::Network => Err(Violation::FirstFrame),
            _ => Err(Violation::BeforeWelcome),
        }
    }

    fn on_hello(&mut self, hello: Hello, until: Instant, now: Instant) -> Result<(), Violation> {
        check_limits(hello.limits)?;
        self.phase = Phase::Asked { until };
        if !hello.versions.contains(&VERSION) {
            let text = format!("this network speaks version {VERSION}");
            // spec: PRE-012, whoever only asks has not failed at anything
            let cause = if hello.versions.is_empty() { Code::NO_ERROR } else { Code::VERSION };
            self.refuse_for(cause, &Refusal { code: Code::VERSION, retry_after: None, text }, now); // spec: PRE-003
        } else {
            self.events.push_back(Event::Hello(AuthRequest::new(hello, &self.config)));
        }
        Ok(())
    }

    fn on_welcome(&mut self, welcome: Welcome, now: Instant) -> Result<(), Violation> {
        check_limits(welcome.limits)?;
        if welcome.version != VERSION {
            return Err(Violation::VersionNotOffered); // spec: PRE-003
        }
        if self.session.is_some() {
            self.on_resumed(&welcome, now)?;
            self.events.push_back(Event::Resumed(welcome));
            return Ok(());
        }
        if welcome.resumed.is_some() {
            return Err(Violation::ResumeAnswer);
        }
        self.establish(welcome.limits, &welcome, now); // spec: PRE-011
        self.events.push_back(Event::Established(welcome));
        Ok(())
    }

    fn establish(&mut self, peer: Limits, welcome: &Welcome, now: Instant) {
        // An agent that never resumes keeps nothing, whatever it is offered; and a window of nothing is no offer.
        let offer = welcome.resume.as_ref().filter(|offer| offer.within(self.config.resume_window).is_some());
        let mut session = Session::new(&self.config, peer, offer.is_some());
        session.permit(welcome.session, offer, now);
        self.session = Some(session);
        self.pulse = Some(Pulse::new(welcome.heartbeat, self.rng.clone(), now)); // spec: HB-010
        self.phase = Phase::Established;
        self.handle_timeout(now);
    }

    fn on_ping(&mut self, payload: &[u8], now: Instant) -> Result<(), Violation> {
        if !self.pings.take(now) {
            return Err(Violation::PingFlood); // spec: HB-011
        }
        self.pong = Some(payload.try_into().map_err(|_| Violation::FrameLength)?); // spec: HB-006
        Ok(())
    }

    fn on_pong(&mut self, payload: &[u8], now: Instant) -> Result<(), Violation> {
        let nonce = payload.try_into().map_err(|_| Violation::FrameLength)?;
        let Some(pulse) = &mut self.pulse else { return Ok(()) };
        match pulse.on_pong(nonce, now) {
            PongResult::Matched(rtt) => {
                if let Some(session) = &mut self.session {
                    session.on_round_trip(rtt);
                }
                Ok(())
            }
            PongResult::Unmatched if self.pongs.take(now) => Ok(()),
            PongResult::Unmatched => Err(Violation::PongFlood), // spec: HB-007
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Handshake { until } | Phase::Asked { until } if until <= now => {
                if self.park(&Cause::HandshakeTimeout, now) {
                    return;
                }
                let text = "the handshake was not complete in time";
                self.close(Cause::HandshakeTimeout, Code::HANDSHAKE_TIMEOUT, text, now); // spec: PRE-004
            }
            Phase::Established => self.on_established_timeout(now),
            Phase::Parked { until } if until <= now => self.conclude(Cause::ResumeExpired), // spec: RES-011
            Phase::Closing { until } if until <= now => self.phase = Phase::Over,           // spec: GO-006
            Phase::Handshake { .. }
            | Phase::Asked { .. }
            | Phase::Parked { .. }
            | Phase::Closing { .. }
            | Phase::Over => {}
        }
    }

    fn on_established_timeout(&mut self, now: Instant) {
        self.hasten(now);
        match self.pulse.as_mut().and_then(|pulse| pulse.handle_timeout(now)) {
            Some(Beat::SendPing(nonce)) => {
                self.ping = Some(nonce);
                self.doubt.on_question();
                if let Some(session) = &mut self.session {
                    session.rest(); // so rarely that a busy one begins anew
                }
            }
            Some(Beat::Dead { silent_for }) => return self.dead(Cause::Dead { silent_for }, now),
            Some(Beat::Stalled { stuck_for }) => return self.dead(Cause::Stalled { stuck_for }, now),
            None => {}
        }
        self.on_doubt_timeout(now);
        if self.ack_deadline().is_some_and(|until| until <= now) {
            return self.dead(Cause::Unacknowledged, now); // spec: RES-018
        }
        let Some(session) = &mut self.session else { return };
        session.handle_timeout(now);
        if session.drain_deadline().is_some_and(|until| until <= now) {
            self.close(Cause::Local(Code::DRAIN_TIMEOUT), Code::DRAIN_TIMEOUT, "the drain took too long", now);
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        match self.phase {
            Phase::Handshake { until } | Phase::Asked { until } => {
                Some(Deadline { at: until, why: TimerKind::Handshake })
            }
            Phase::Established => {
                let pulse = self.pulse.as_ref().and_then(Pulse::poll_timeout);
                let session = self.session.as_ref();
                let ack = session.and_then(Session::ack_due).map(|at| Deadline { at, why: TimerKind::Ack });
                let drain = session.and_then(Session::drain_deadline);
                let drain = drain.map(|at| Deadline { at, why: TimerKind::Drain });
                let missing = self.ack_deadline().map(|at| Deadline { at, why: TimerKind::Silence });
                let doubt = self.doubt_deadline();
                let session = Deadline::earliest(ack, drain);
                Deadline::earliest(Deadline::earliest(Deadline::earliest(pulse, missing), session), doubt)
            }
            Phase::Parked { until } => Some(Deadline { at: until, why: TimerKind::Park }),
            Phase::Closing { until } => Some(Deadline { at: until, why: TimerKind::Close }),
            Phase::Over => None,
        }
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Encoded> {
        if let Some(frame) = pop(&mut self.output) {
            return Some(frame);
        }
        if self.phase != Phase::Established {
            return None;
        }
        if let Some(nonce) = self.pong.take() {
            return Some(Encoded::pong(nonce)); // spec: HB-002, HB-012
        }
        if let Some(nonce) = self.ping.take() {
            if let Some(pulse) = &mut self.pulse {
                pulse.on_ping_sent(now);
            }
            return Some(Encoded::ping(nonce));
        }
        let session = self.session.as_mut()?;
        session.drain_exhausted(now);
        let riding = !self.acknowledged && session.wants_transmit();
        self.acknowledged |= riding;
        if let Some(count) = session.poll_ack(riding) {
            return Some(Encoded::ack(count));
        }
        if let Some(frame) = session.poll_transmit() {
            if session.awaits_ack() {
                let count = session.acknowledged();
                self.awaiting.get_or_insert((now, count));
            }
            self.doubt.on_traffic();
            return Some(frame);
        }
        if session.is_drained() {
            self.close(Cause::Local(Code::NO_ERROR), Code::NO_ERROR, "", now);
            return pop(&mut self.output);
        }
        None
    }

    fn wants_transmit(&self) -> bool {
        let session = self.session.as_ref();
        !self.output.is_empty()
            || (self.phase == Phase::Established
                && (self.pong.is_some()
                    || self.ping.is_some()
                    || session
                        .is_some_and(|session| session.owes_ack() || session.wants_transmit() || session.is_drained())))
    }

    fn on_written(&mut self, written: usize, left: usize, now: Instant) {
        if left == 0 {
            self.acknowledged = false;
            if matches!(self.phase, Phase::Closing { .. }) && self.output.is_empty() {
                self.phase = Phase::Over;
            }
        }
        let Some(pulse) = &mut self.pulse else { return };
        if written > 0 {
            pulse.on_progress(now);
        }
        if left == 0 {
            pulse.on_flushed(now); // spec: HB-004
        } else {
            pulse.on_waiting(now); // spec: HB-005
        }
    }
}

/// Takes what is first, and gives the memory back with what is last: links live for hours and say little.
pub(crate) fn pop<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let first = queue.pop_front()?;
    if queue.is_empty() {
        *queue = VecDeque::new();
    }
    Some(first)
}

/// Checks what a peer says it is willing to receive.
fn check_limits(limits: Limits) -> Result<(), Violation> {
    let sound = (FRAME_LEAST..=FRAME_MOST).contains(&limits.frame) && limits.window <= 1 << 30;
    if sound { Ok(()) } else { Err(Violation::LimitRange) } // spec: MSG-005
}

/// The most that an agent may send before it is authenticated.
/// What a network takes before it has authenticated HELLO: the longest frame with its header.
const HANDSHAKE_OCTETS: usize = FRAME as usize + HEADER;
const PING_BURST: u32 = 20;
const PING_PERIOD: Duration = Duration::from_millis(100);
const PONG_BURST: u32 = 10;
const PONG_PERIOD: Duration = Duration::from_secs(1);
