//! What concerns the session as a whole: binds, remote commands, and its announced end.

use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
    vec::Vec,
};

use bytes::Bytes;

use super::{Session, StreamId, hints::Hints, stream::SendState};
use crate::{
    Bind, BindId, BindRefusal, BindRequest, Bound, Code, Command, CommandRequest, CommandResult, DOCUMENT, Duration,
    Event, GoAway, Instant, Message, Refusal, Role, Side, TlsEnd, Unbind, Violation, Withheld,
    bucket::Bucket,
    frame::{Encoded, Kind},
    link::pop,
    side,
};

/// The state behind the control messages.
#[derive(Debug)]
pub(super) struct Control {
    output: VecDeque<Encoded>,
    events: VecDeque<Event>,
    binds: BTreeMap<u32, BindState>,
    /// Numbers given up before their answer came, which may be under way: by them, the UNBIND's place among counted frames.
    /// An ACK says that what was said before it has come; the count of a resume says nothing of what is sent again.
    left: BTreeMap<u32, u64>,
    pub(super) hints: Hints,
    serial: u64,
    /// Binds or commands that wait for an answer of the application on this side.
    unanswered: u32,
    /// On the network: commands that the agent has not answered. On an agent: those it has to answer.
    commands: Vec<u32>,
    next_command: u32,
    /// On an agent: how often revocation lists may come.
    revocations: Bucket,
    drain: Option<Drain>,
    goaway: Option<u32>,
    oddities: u32,
}

/// Where one bind stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BindState {
    /// Asked for; the number tells requests for the same bind apart.
    Asked(u64, AskedTls),
    Bound,
}

/// Where TLS of callers was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AskedTls {
    end: TlsEnd,
    /// Whether an answer that says nothing means the same.
    silence: bool,
}

impl AskedTls {
    fn of(bind: &Bind) -> Self {
        let end = bind.tls_end;
        // What does not know of the field ends TLS of `https` itself.
        let silence = match end {
            TlsEnd::Unsaid | TlsEnd::Network => true,
            TlsEnd::Agent | TlsEnd::Upstream => TlsEnd::of(&bind.url) != TlsEnd::Network,
        };
        Self { end, silence }
    }

    fn is_kept(self, said: TlsEnd) -> bool {
        said == self.end || said == TlsEnd::Unsaid && self.silence // spec: BIND-018
    }
}

/// This side's own drain.
#[derive(Clone, Copy, Debug)]
struct Drain {
    last: u32,
    until: Instant,
}

/// A bind cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The number is in use, or was given up without an answer and the peer has not acknowledged that.
    #[error("bind {0:?} is asked for or in force")]
    InUse(BindId),
    /// There are as many binds as a session may have.
    #[error("as many binds are in use as the session allows")]
    Limit,
    /// The session drains or is over.
    #[error("the session ends")]
    Ending,
}

/// A command cannot be asked, or an answer has no question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// As many commands are without an answer as may be.
    #[error("as many commands wait for an answer as the session allows")]
    Limit,
    /// There is no such question.
    #[error("nothing waits for this answer")]
    Unasked,
    /// The session is over.
    #[error("the session is over")]
    Closed,
    /// The document is longer than a command carries.
    #[error("the document has more than {DOCUMENT} octets")]
    TooLong,
}

/// Revocation lists cannot be handed to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationsError {
    /// They are longer than a frame that the agent takes, in octets.
    #[error("the agent takes no frame of more than {0} octets")]
    TooLong(u32),
    /// The session is over, or has not begun.
    #[error("the session is over")]
    Closed,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            output: VecDeque::new(),
            events: VecDeque::new(),
            binds: BTreeMap::new(),
            left: BTreeMap::new(),
            hints: Hints::default(),
            serial: 0,
            unanswered: 0,
            commands: Vec::new(),
            next_command: 0,
            revocations: Bucket::new(REVOCATIONS_BURST, REVOCATIONS_PERIOD, Instant::ZERO),
            drain: None,
            goaway: None,
            oddities: 0,
        }
    }
}

impl Control {
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.hints.poll().map(Event::Withheld).or_else(|| pop(&mut self.events))
    }

    #[cfg(feature = "driver")]
    pub(super) fn has_event(&self) -> bool {
        !self.events.is_empty() || self.hints.has_news()
    }

    pub(super) fn poll_output(&mut self) -> Option<Encoded> {
        pop(&mut self.output)
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    #[cfg(feature = "testing")]
    pub(super) fn held(&self) -> usize {
        let binds = self.binds.len() * size_of::<(u32, BindState)>() + self.left.len() * size_of::<(u32, u64)>();
        let commands = self.commands.capacity() * size_of::<u32>();
        binds
            + self.hints.held()
            + commands
            + super::measure::frames(&self.output)
            + super::measure::events(&self.events)
    }

    pub(super) fn clear(&mut self) {
        self.output = VecDeque::new();
        self.drain = None;
    }

    pub(super) const fn drains(&self) -> bool {
        self.drain.is_some()
    }

    pub(super) const fn peer_drains(&self) -> bool {
        self.goaway.is_some()
    }

    /// Returns whether a stream of the peer comes too late: above what this side's GOAWAY named.
    pub(super) fn refuses(&self, stream: u32) -> bool {
        self.drain.is_some_and(|drain| stream > drain.last)
    }

    /// Takes the peer's ACK of so many frames.
    pub(super) fn on_ack(&mut self, count: u64) {
        self.left.retain(|_, unbound| *unbound > count);
    }

    /// Drops what waits to be said of a bind that was given up: after the ACK of UNBIND the number may be another's.
    fn unsay(&mut self, id: BindId) {
        self.output.retain(|frame| {
            let of = if frame.kind() == Kind::Bound {
                Bound::decode(frame.payload()).map(|bound| bound.id)
            } else if matches!(frame.kind(), Kind::Rejected | Kind::Unbound) {
                BindRefusal::decode(frame.payload()).map(|no| no.id)
            } else {
                return true;
            };
            of != Ok(id)
        });
    }

    pub(super) fn send(&mut self, kind: Kind, message: &impl Message) {
        self.output.push_back(Encoded::message(kind, message));
    }
}

impl Session<side::Agent> {
    /// Asks for an endpoint. The answer is [`Event::Bound`] or [`Event::Rejected`].
    ///
    /// # Errors
    /// [`BindError`]: nothing was asked.
    pub fn bind(&mut self, bind: &Bind) -> Result<(), BindError> {
        if self.over.is_some() || self.is_draining() {
            return Err(BindError::Ending);
        }
        let control = &mut self.control;
        // An answer to the BIND before would be taken for the answer to this one.
        // spec: BIND-014
        if control.binds.contains_key(&bind.id.0) || control.left.contains_key(&bind.id.0) {
            return Err(BindError::InUse(bind.id));
        }
        if control.binds.len() + control.left.len() >= self.config.binds as usize {
            return Err(BindError::Limit);
        }
        control.binds.insert(bind.id.0, BindState::Asked(0, AskedTls::of(bind)));
        control.hints.drop(&bind.url); // spec: BIND-021
        control.send(Kind::Bind, bind);
        Ok(())
    }

    /// Gives a bind up, asked for or in force; does nothing for one that is neither.
    pub fn unbind(&mut self, unbind: &Unbind) {
        if self.over.is_some() {
            return;
        }
        let Some(state) = self.control.binds.remove(&unbind.id.0) else { return };
        self.control.send(Kind::Unbind, unbind);
        if unbind.cut {
            self.cut(unbind.id);
        }
        if let BindState::Asked(..) = state {
            // Nothing that is counted goes out before what waits here.
            let place = self.outgoing.sent().saturating_add(self.control.output.len() as u64);
            self.control.left.insert(unbind.id.0, place);
        }
    }

    /// Ends the streams of a bind; their applications are told.
    fn cut(&mut self, bind: BindId) {
        let streams: Vec<u32> =
            self.streams.iter().filter(|(_, stream)| stream.bind == Some(bind)).map(|(id, _)| *id).collect();
        for id in streams {
            self.end_sending(id, SendState::Stopped(Code::UNBOUND), Code::UNBOUND); // spec: BIND-004
            self.stop(StreamId(id), Code::UNBOUND);
            self.with(id, |stream| {
                stream.recv.told = Some(Code::UNBOUND);
                stream.news.readable |= core::mem::take(&mut stream.recv.waiting);
            });
            self.tell(id);
        }
    }

    /// Answers a remote command.
    ///
    /// # Errors
    /// [`AnswerError::Unasked`] when there is no such command, [`AnswerError::Closed`] after the end.
    pub fn answer(&mut self, result: &CommandResult) -> Result<(), AnswerError> {
        if self.over.is_some() {
            return Err(AnswerError::Closed);
        }
        let control = &mut self.control;
        let place = control.commands.iter().position(|id| *id == result.id).ok_or(AnswerError::Unasked)?;
        control.commands.swap_remove(place);
        control.send(Kind::CommandResult, result);
        Ok(())
    }
}

impl Session<side::Network> {
    /// Says that a bind is in force under this URL. Does nothing when the agent has given it up.
    pub fn bound(&mut self, request: BindRequest, url: &str) {
        let Bind { id, tls_end, .. } = request.bind;
        if self.settle(&request) {
            // spec: BIND-001, BIND-018
            self.control.binds.insert(id.0, BindState::Bound);
            self.control.send(Kind::Bound, &Bound { id, url: url.into(), tls_end });
        }
    }

    /// Refuses a bind. Does nothing when the agent has given it up.
    pub fn reject(&mut self, request: BindRequest, refusal: Refusal) {
        let id = request.bind.id;
        if self.settle(&request) {
            self.control.binds.remove(&id.0); // spec: BIND-005
            self.control.send(Kind::Rejected, &BindRefusal { id, refusal });
        }
    }

    /// Takes a bind back that is in force; returns whether it was.
    pub fn unbound(&mut self, id: BindId, refusal: Refusal) -> bool {
        let was_bound = self.control.binds.get(&id.0) == Some(&BindState::Bound);
        if was_bound && self.over.is_none() {
            self.control.binds.remove(&id.0);
            self.control.send(Kind::Unbound, &BindRefusal { id, refusal });
        }
        was_bound
    }

    /// Asks the agent for something that it may refuse; returns the number that its answer will carry.
    ///
    /// # Errors
    /// [`AnswerError`]: nothing was asked.
    pub fn command(&mut self, command: Command, text: &str) -> Result<u32, AnswerError> {
        self.ask(CommandRequest { text: text.into(), ..CommandRequest::new(0, command) })
    }

    /// Asks the agent to put a document of endpoints in force; returns the number that its answer will carry.
    ///
    /// # Errors
    /// [`AnswerError`]: nothing was asked. [`AnswerError::TooLong`] past [`DOCUMENT`] octets: half a document may ask for something else.
    pub fn configure(&mut self, document: &str, text: &str) -> Result<u32, AnswerError> {
        if document.len() > DOCUMENT {
            return Err(AnswerError::TooLong); // spec: CMD-006
        }
        let (text, document) = (text.into(), document.into());
        self.ask(CommandRequest { text, document, ..CommandRequest::new(0, Command::Configuration) })
    }

    fn ask(&mut self, request: CommandRequest) -> Result<u32, AnswerError> {
        if self.over.is_some() {
            return Err(AnswerError::Closed);
        }
        let control = &mut self.control;
        if control.commands.len() >= self.config.unanswered as usize {
            return Err(AnswerError::Limit);
        }
        control.next_command = control.next_command.wrapping_add(1);
        let id = control.next_command;
        control.commands.push(id);
        control.send(Kind::Command, &CommandRequest { id, ..request });
        Ok(id)
    }

    /// Hands revocation lists to the agent. Of those that wait to be sent, the newest take the place of the others.
    ///
    /// # Errors
    /// [`RevocationsError`]: nothing is sent, and what waits is as it was.
    pub fn tell_revocations(&mut self, lists: Bytes) -> Result<(), RevocationsError> {
        if self.over.is_some() {
            return Err(RevocationsError::Closed);
        }
        if lists.len() > self.peer.frame as usize {
            return Err(RevocationsError::TooLong(self.peer.frame)); // spec: CRL-001
        }
        let control = &mut self.control;
        control.output.retain(|frame| frame.kind() != Kind::Revocations); // spec: CRL-002
        control.output.push_back(Encoded::revocations(lists));
        Ok(())
    }

    /// Takes a request off the count of the unanswered; returns whether its bind still waits for this very answer.
    fn settle(&mut self, request: &BindRequest) -> bool {
        self.control.unanswered = self.control.unanswered.saturating_sub(1);
        let asked = BindState::Asked(request.serial, AskedTls::of(&request.bind));
        let waits = self.control.binds.get(&request.bind.id.0) == Some(&asked);
        waits && self.over.is_none()
    }
}

impl<S: Side> Session<S> {
    /// Announces the end: streams of the peer up to now finish, later ones are refused, and the link closes when all are
    /// over or the drain's time has passed.
    pub fn drain(&mut self, code: Code, retry_after: Option<Duration>, text: &str, now: Instant) {
        if self.over.is_some() || self.control.drains() {
            return;
        }
        let last = S::ROLE.peer().stream(self.opened.theirs).unwrap_or(0);
        // spec: GO-009, nothing else changes
        self.control.drain = Some(Drain { last, until: now + self.config.drain_timeout });
        self.control.send(Kind::GoAway, &GoAway { last, code, retry_after, text: String::from(text) });
    }

    /// Drains the session if its numbers are used up.
    pub(crate) fn drain_exhausted(&mut self, now: Instant) {
        if core::mem::take(&mut self.exhausted) {
            self.drain(Code::NO_ERROR, None, "the numbers of streams are used up", now);
        }
    }

    /// Returns when this side's drain ends at the latest.
    pub(crate) fn drain_deadline(&self) -> Option<Instant> {
        self.control.drain.map(|drain| drain.until)
    }

    /// Returns whether this side drains and everything has been said and done: what was on its way to this side when
    /// the peer learned of the drain has arrived and was answered.
    pub(crate) fn is_drained(&self) -> bool {
        self.control.drains()
            && self.streams.is_empty()
            && !self.control.has_output()
            && self.outgoing.is_acknowledged() // spec: GO-010
    }

    /// Charges something harmless without purpose.
    pub(crate) fn charge_oddity(&mut self) -> Result<(), Violation> {
        self.control.oddities = self.control.oddities.saturating_add(1);
        if self.control.oddities > self.config.oddities {
            return Err(Violation::Oddities); // spec: LIM-003
        }
        Ok(())
    }

    /// Forgives oddities as time passes.
    pub(crate) fn forgive_oddities(&mut self, count: u32) {
        self.control.oddities = self.control.oddities.saturating_sub(count);
    }

    pub(super) fn on_control(&mut self, kind: Kind, payload: &[u8], now: Instant) -> Result<(), Violation> {
        match (S::ROLE, kind) {
            (_, Kind::GoAway) => self.on_goaway(GoAway::decode(payload)?),
            (Role::Network, Kind::Bind) => self.on_bind(Bind::decode(payload)?),
            (Role::Network, Kind::Unbind) => self.on_unbind(Unbind::decode(payload)?),
            (Role::Network, Kind::Withheld) => self.on_withheld(Withheld::decode(payload)?),
            (Role::Network, Kind::CommandResult) => self.on_command_result(CommandResult::decode(payload)?),
            (Role::Agent, Kind::Bound) => self.on_bound(Bound::decode(payload)?),
            (Role::Agent, Kind::Rejected) => self.on_rejected(BindRefusal::decode(payload)?),
            (Role::Agent, Kind::Unbound) => self.on_unbound(BindRefusal::decode(payload)?),
            (Role::Agent, Kind::Command) => self.on_command(CommandRequest::decode(payload)?),
            (Role::Agent, Kind::Revocations) => self.on_revocations(payload, now),
            _ => Err(Violation::WrongSide), // spec: MSG-006
        }
    }

    fn on_goaway(&mut self, goaway: GoAway) -> Result<(), Violation> {
        if self.control.goaway.is_some_and(|last| goaway.last > last) {
            return Err(Violation::GoAwayRaised); // spec: GO-002
        }
        if self.control.goaway.replace(goaway.last).is_some() {
            return self.charge_oddity();
        }
        self.control.events.push_back(Event::GoAway(goaway));
        Ok(())
    }

    fn on_bind(&mut self, bind: Bind) -> Result<(), Violation> {
        let control = &mut self.control;
        if control.binds.contains_key(&bind.id.0) {
            return Err(Violation::BindReused); // spec: BIND-008
        }
        if control.unanswered >= self.config.unanswered {
            return Err(Violation::BindFlood); // spec: BIND-007
        }
        control.hints.take_back(&bind.url); // spec: BIND-021
        if control.binds.len() >= self.config.binds as usize {
            // spec: LIM-002
            let refusal = Refusal { code: Code::LIMIT, retry_after: None, text: String::from("too many binds") };
            control.send(Kind::Rejected, &BindRefusal { id: bind.id, refusal });
            return self.charge_oddity();
        }
        control.unanswered = control.unanswered.saturating_add(1);
        control.serial = control.serial.wrapping_add(1);
        control.binds.insert(bind.id.0, BindState::Asked(control.serial, AskedTls::of(&bind)));
        control.events.push_back(Event::Bind(BindRequest { bind, serial: control.serial }));
        Ok(())
    }

    fn on_unbind(&mut self, unbind: Unbind) -> Result<(), Violation> {
        self.control.unsay(unbind.id); // spec: BIND-015
        // UNBIND may cross REJECTED or UNBOUND on the way.
        if self.control.binds.remove(&unbind.id.0).is_none() {
            return self.charge_oddity(); // spec: BIND-009
        }
        if self.control.events.len() > self.config.binds as usize {
            self.charge_oddity()?; // an application that does not listen, or an agent that binds and unbinds in haste
        }
        self.control.events.push_back(Event::Unbind(unbind));
        Ok(())
    }

    fn on_command_result(&mut self, result: CommandResult) -> Result<(), Violation> {
        let Some(place) = self.control.commands.iter().position(|id| *id == result.id) else {
            return self.charge_oddity();
        };
        self.control.commands.swap_remove(place);
        self.control.events.push_back(Event::CommandResult(result));
        Ok(())
    }

    fn on_bound(&mut self, bound: Bound) -> Result<(), Violation> {
        let Some(BindState::Asked(_, asked)) = self.control.binds.get(&bound.id.0).copied() else {
            return self.charge_oddity(); // BOUND may cross UNBIND on the way
        };
        if !asked.is_kept(bound.tls_end) {
            // spec: BIND-018, whoever can read what callers send is never changed in passing
            self.control.binds.remove(&bound.id.0);
            let text = String::from(TLS_ENDS_ELSEWHERE);
            let unbind = Unbind::new(bound.id).cutting(true).because(Code::UNSUPPORTED, text.clone()); // spec: BIND-020
            self.control.send(Kind::Unbind, &unbind);
            let refusal = Refusal { code: Code::UNSUPPORTED, retry_after: None, text };
            self.control.events.push_back(Event::Rejected(BindRefusal { id: bound.id, refusal }));
            return Ok(());
        }
        self.control.binds.insert(bound.id.0, BindState::Bound);
        self.control.events.push_back(Event::Bound(bound));
        Ok(())
    }

    fn on_rejected(&mut self, rejected: BindRefusal) -> Result<(), Violation> {
        if !matches!(self.control.binds.get(&rejected.id.0), Some(BindState::Asked(..))) {
            return self.charge_oddity();
        }
        self.control.binds.remove(&rejected.id.0);
        self.control.events.push_back(Event::Rejected(rejected));
        Ok(())
    }

    fn on_unbound(&mut self, unbound: BindRefusal) -> Result<(), Violation> {
        if self.control.binds.get(&unbound.id.0) != Some(&BindState::Bound) {
            return self.charge_oddity();
        }
        self.control.binds.remove(&unbound.id.0); // spec: BIND-013
        self.control.events.push_back(Event::Unbound(unbound));
        Ok(())
    }

    fn on_command(&mut self, request: CommandRequest) -> Result<(), Violation> {
        if self.control.commands.len() >= self.config.unanswered as usize {
            return Err(Violation::CommandFlood); // spec: CMD-003
        }
        if self.control.commands.contains(&request.id) {
            return self.charge_oddity(); // spec: CMD-005
        }
        self.control.commands.push(request.id);
        self.control.events.push_back(Event::Command(request));
        Ok(())
    }

    fn on_revocations(&mut self, lists: &[u8], now: Instant) -> Result<(), Violation> {
        if !self.control.revocations.take(now) {
            return self.charge_oddity(); // spec: CRL-003
        }
        // What was not looked at is out of date.
        self.control.events.retain(|event| !matches!(event, Event::Revocations(_)));
        self.control.events.push_back(Event::Revocations(Bytes::copy_from_slice(lists)));
        Ok(())
    }
}

/// Revocation lists that an agent looks at in a row, and after how long at one more.
const REVOCATIONS_BURST: u32 = 10;
const REVOCATIONS_PERIOD: Duration = Duration::from_secs(10);

/// The text of the refusal for which an agent takes a BOUND that says where TLS ends otherwise than BIND did.
pub const TLS_ENDS_ELSEWHERE: &str = "the network would end TLS of callers elsewhere than it was asked to";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cause, Config, Limits, side::Network};

    #[test]
    fn a_session_that_is_over_keeps_nothing_to_say_and_waits_for_nothing() {
        let peer = Limits { frame: 16_376, window: 0, streams: 0 };
        let mut session = Session::<Network>::new(&Config::network(), peer, false);
        session.command(Command::Stop, "").expect("within the limit");
        session.drain(Code::SHUTDOWN, None, "", Instant::ZERO);

        session.end(&Cause::Local(Code::SHUTDOWN));

        assert_eq!((session.control.has_output(), session.drain_deadline()), (false, None));
    }
}
