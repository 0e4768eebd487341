//! The applications of both sides: whatever they do and are told is held against the model.

use adit_core::{
    AnswerError, BindError, BindId, Cause, Code, Command, CommandResult, Duration, Event, Open, OpenError, ReadError,
    Refusal, Role, Session, Side, Stats, StreamId, Unbind, WriteError,
    testing::{Pair, Peer},
};

use super::{
    a_bind,
    binds::{Binds, Down, Up},
    reference::{Reference, Stream, pattern},
};
use crate::Choices;

/// Both applications, and the model of what they may see.
pub(super) struct App {
    pub(super) pair: Pair,
    model: Reference,
    binds: Binds,
    closed: Vec<(Role, Cause)>,
    /// Whether one side has announced the end.
    drains: bool,
}

/// What an application does to a session, whichever side it is.
trait Act {
    fn read(&mut self, id: StreamId, most: usize) -> Result<Option<bytes::Bytes>, ReadError>;
    fn write(&mut self, id: StreamId, octets: &mut bytes::Bytes) -> Result<usize, WriteError>;
    fn finish(&mut self, id: StreamId) -> Result<(), WriteError>;
    fn reset(&mut self, id: StreamId, code: Code);
    fn stop(&mut self, id: StreamId, code: Code);
    fn accept(&mut self, id: StreamId);
    fn release(&mut self, id: StreamId);
    fn open(&mut self) -> Result<StreamId, OpenError>;
    fn fate(&self, id: StreamId) -> Option<Result<(), Code>>;
}

impl<S: Side> Act for Session<S> {
    fn read(&mut self, id: StreamId, most: usize) -> Result<Option<bytes::Bytes>, ReadError> {
        Self::read(self, id, most)
    }
    fn write(&mut self, id: StreamId, octets: &mut bytes::Bytes) -> Result<usize, WriteError> {
        Self::write(self, id, octets)
    }
    fn finish(&mut self, id: StreamId) -> Result<(), WriteError> {
        Self::finish(self, id)
    }
    fn reset(&mut self, id: StreamId, code: Code) {
        Self::reset(self, id, code);
    }
    fn stop(&mut self, id: StreamId, code: Code) {
        Self::stop(self, id, code);
    }
    fn accept(&mut self, id: StreamId) {
        self.accept_stream(id);
    }
    fn release(&mut self, id: StreamId) {
        Self::release(self, id);
    }
    fn open(&mut self) -> Result<StreamId, OpenError> {
        Self::open(self, Open::default())
    }
    fn fate(&self, id: StreamId) -> Option<Result<(), Code>> {
        self.acceptance(id)
    }
}

impl App {
    pub(super) fn new(pair: Pair) -> Self {
        Self { pair, model: Reference::default(), binds: Binds::default(), closed: Vec::new(), drains: false }
    }

    /// Returns one of the streams that this side's application holds.
    pub(super) fn pick(&mut self, side: Role, choices: &mut Choices<'_>) -> Option<u32> {
        let held: Vec<u32> = self.held(side);
        (!held.is_empty()).then(|| choices.one_of(&held))
    }

    pub(super) fn with_one(
        &mut self,
        side: Role,
        choices: &mut Choices<'_>,
        act: impl FnOnce(&mut Self, Role, u32, Code),
    ) {
        if let Some(id) = self.pick(side, choices) {
            act(self, side, id, Code(choices.number()));
        }
    }

    pub(super) fn open(&mut self, side: Role) {
        let opened = self.model.streams.values().filter(|stream| stream.opener == side).count();
        match self.session(side).open() {
            Ok(id) => {
                let expected = 2 * opened + if side == Role::Agent { 1 } else { 2 };
                assert_eq!(id.number() as usize, expected, "no number is skipped");
                self.model.streams.insert(id.number(), Stream::new(side));
            }
            Err(OpenError::Limit) => assert!(opened >= 8, "STREAM-004: only {opened} were opened"),
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn write(&mut self, side: Role, id: u32, length: usize) {
        let start = self.half(id, side).written;
        let mut octets = pattern(id, side, start, length);
        let got = self.session(side).write(stream(id), &mut octets);
        self.half(id, side).on_write(id, length, got);
    }

    /// Reads once; returns whether that gave octets.
    pub(super) fn read(&mut self, side: Role, id: u32, most: usize) -> bool {
        let got = self.session(side).read(stream(id), most);
        let half = self.half(id, side.peer());
        let news = !half.reader_waits || half.stopped.is_some() || got == Err(ReadError::Blocked);
        assert!(news, "stream {id}: nobody told the reader of {got:?}");
        half.on_read(id, side.peer(), &got);
        matches!(got, Ok(Some(_)))
    }

    pub(super) fn finish(&mut self, side: Role, id: u32, _: Code) {
        let got = self.session(side).finish(stream(id));
        let half = self.half(id, side);
        match got {
            Ok(()) => half.finished = true,
            Err(WriteError::Stopped(_)) => assert!(half.stopped.is_some()),
            Err(WriteError::Closed) => assert!(half.reset.is_some(), "stream {id}: {half:?}"),
            Err(error) => panic!("stream {id}: {error}"),
        }
    }

    pub(super) fn reset(&mut self, side: Role, id: u32, code: Code) {
        self.session(side).reset(stream(id), code);
        self.half(id, side).on_reset(code);
    }

    pub(super) fn stop(&mut self, side: Role, id: u32, code: Code) {
        self.session(side).stop(stream(id), code);
        self.half(id, side.peer()).on_stop(code);
    }

    pub(super) fn accept(&mut self, side: Role, id: u32, _: Code) {
        self.session(side).accept(stream(id));
        if let Some(stream) = self.model.streams.get_mut(&id) {
            stream.accepted |= stream.opener != side;
        }
    }

    pub(super) fn release(&mut self, side: Role, id: u32, _: Code) {
        self.session(side).release(stream(id));
        let forth = self.half(id, side);
        forth.writer_gone = true;
        if !forth.finished {
            forth.on_reset(Code::CANCELLED);
        }
        let back = self.half(id, side.peer());
        back.reader_gone = true;
        back.on_stop(Code::CANCELLED);
    }

    pub(super) fn bind(&mut self, choices: &mut Choices<'_>) {
        let id = a_number(choices);
        if self.binds.requests.len() > 60 {
            return; // BIND-007
        }
        match self.pair.agent.session().bind(&a_bind(BindId(id))) {
            Ok(()) => self.binds.on_bind(id),
            // It is in use, or the answer to the wish before may be on its way.
            Err(error) => assert_eq!(error, BindError::InUse(BindId(id))),
        }
    }

    pub(super) fn answer_bind(&mut self, choices: &mut Choices<'_>) {
        if self.binds.requests.is_empty() {
            return;
        }
        let (serial, request) = self.binds.requests.swap_remove(choices.below(self.binds.requests.len()));
        let (id, session) = (request.bind().id.0, self.pair.network.session());
        let (bound, waits) = (choices.coin(), self.binds.at_network.get(&id) == Some(&Some(serial)));
        if bound {
            session.bound(request, "tcp://:1");
        } else {
            session.reject(request, refusal());
        }
        match (waits, bound) {
            (false, _) => {}
            (true, true) => {
                self.binds.at_network.insert(id, None);
                self.binds.to_agent.push_back(Down::Bound(id));
            }
            (true, false) => {
                self.binds.at_network.remove(&id);
                self.binds.to_agent.push_back(Down::Rejected(id));
            }
        }
    }

    pub(super) fn give_up_bind(&mut self, side: Role, choices: &mut Choices<'_>) {
        let id = a_number(choices);
        match side {
            Role::Agent => {
                self.pair.agent.session().unbind(&Unbind::new(BindId(id)));
                if self.binds.at_agent.remove(&id).is_some() {
                    self.binds.to_network.push_back(Up::Unbind(id));
                }
            }
            Role::Network => {
                let was = self.pair.network.session().unbound(BindId(id), refusal());
                assert_eq!(was, self.binds.at_network.get(&id) == Some(&None));
                if was {
                    self.binds.at_network.remove(&id);
                    self.binds.to_agent.push_back(Down::Unbound(id));
                }
            }
        }
    }

    /// The agent says of an endpoint why it does not ask for it, or takes that back.
    fn withhold(&mut self, choices: &mut Choices<'_>) {
        let hint = super::a_hint(choices);
        if self.pair.agent.session().withhold(&hint).is_ok() {
            self.binds.on_hint(hint);
        }
    }

    /// The network asks for something and tells which certificates are revoked, or the agent answers.
    pub(super) fn command(&mut self, side: Role, choices: &mut Choices<'_>) {
        match side {
            Role::Agent => {
                let Some(id) = self.binds.commands.pop() else { return self.withhold(choices) };
                let result = CommandResult { id, code: Code::FORBIDDEN, text: String::new() };
                self.pair.agent.session().answer(&result).expect("it was asked");
                self.binds.to_network.push_back(Up::Answer(id));
            }
            Role::Network => {
                match self.pair.network.session().command(Command::Stop, "") {
                    Ok(id) => self.binds.to_agent.push_back(Down::Command(id)),
                    Err(error) => assert_eq!(error, AnswerError::Limit),
                }
                let lists = self.binds.next_lists();
                assert_eq!(self.pair.network.session().tell_revocations(lists), Ok(()));
            }
        }
    }

    /// Takes what both applications were told.
    pub(super) fn observe(&mut self) {
        let events = self.events();
        for (side, event) in &events {
            if let Event::Closed(cause) = event {
                self.closed.push((*side, cause.clone()));
            }
        }
        for (side, event) in events {
            match event {
                Event::Opened(id) => {
                    let stream = self.model.streams.get_mut(&id.number()).expect("somebody opened it");
                    assert!(stream.opener != side && !stream.told && !stream.refused, "stream {id} is told again");
                    stream.told = true;
                }
                Event::Accepted(id) => {
                    let fate = self.session(side).fate(id);
                    let stream = self.model.streams.get_mut(&id.number()).expect("somebody opened it");
                    stream.answers += 1;
                    assert!(stream.opener == side && stream.answers == 1, "stream {id} is answered again");
                    let lost = self
                        .closed
                        .iter()
                        .any(|(closed, cause)| *closed == side && fate == Some(Err(cause.stream_code())));
                    assert!(fate.is_some() && (lost || stream.allows_fate(fate)), "stream {id}: {fate:?}: {stream:?}");
                }
                Event::Readable(id) => self.half(id.number(), side.peer()).reader_waits = false,
                Event::Writable(id) => self.half(id.number(), side).writer_waits = false,
                Event::Closed(_) | Event::Suspended(_) | Event::Resumed(_) | Event::GoAway(_) => {}
                event @ (Event::Hello(_)
                | Event::Established(_)
                | Event::Bind(_)
                | Event::Unbind(_)
                | Event::Withheld(_)
                | Event::CommandResult(_)
                | Event::Bound(_)
                | Event::Rejected(_)
                | Event::Unbound(_)
                | Event::Command(_)
                | Event::Revocations(_)) => match side {
                    Role::Agent => self.binds.on_agent_event(event),
                    Role::Network => self.binds.on_network_event(event),
                },
            }
        }
    }

    /// L2, L5, and that nobody has ended the session.
    pub(super) fn assert_bounds(&mut self) {
        assert_eq!(self.closed, [], "nobody closed it");
        let (agent, network) = (self.pair.agent.session(), self.pair.network.session());
        assert!(agent.processed() <= network.sent() && network.processed() <= agent.sent(), "RES-001");
        for (stats, reserved) in self.counters() {
            assert!(stats.queued <= 40_000 + 16 * 20_000, "L2: {} octets are queued", stats.queued);
            assert!(stats.retained <= 65_536 + 16_384, "L2: {} octets are retained", stats.retained);
            assert!(reserved <= 100_000, "L5: {reserved}");
        }
    }

    pub(super) fn finish_all(&mut self) {
        for side in [Role::Agent, Role::Network] {
            for id in self.held(side) {
                self.finish(side, id, Code::NO_ERROR);
            }
        }
    }

    /// Lets everything arrive; reads what there is to be read, and only when told so.
    pub(super) fn complete(&mut self) {
        let (mut quiet, mut sent) = (0, (0, 0));
        for round in 0.. {
            assert!(round < 100_000, "L9: not finished in half an hour");
            self.observe();
            if self.drains && !self.closed.is_empty() {
                break; // no stream was left to wait for
            }
            assert_eq!(self.closed, [], "nobody closed it");
            let moved = self.read_all();
            self.pair.run_for(Duration::from_millis(20));
            let now_sent = (self.pair.up.sent(), self.pair.down.sent());
            quiet = if moved || now_sent != sent { 0 } else { quiet + 1 };
            sent = now_sent;
            if quiet > 20 {
                break;
            }
        }
        self.observe();
        for (id, stream) in &mut self.model.streams {
            assert!(stream.told || stream.refused, "stream {id} was not told");
            stream.from_agent.assert_complete(*id);
            stream.from_network.assert_complete(*id);
            let holds = !stream.from(stream.opener).writer_gone;
            assert!(!(holds && stream.has_fate()) || stream.answers == 1, "stream {id}: its fate: {stream:?}");
        }
        self.binds.assert_complete();
    }

    /// END-009: both applications let go, and nothing is left.
    pub(super) fn assert_nothing_left(&mut self) {
        self.release_all();
        self.complete();
        for (stats, reserved) in self.counters() {
            assert_eq!((stats.streams_live, stats.queued, stats.retained, reserved), (0, 0, 0, 0), "END-009");
        }
    }

    /// One side announces the end. What the other opened and this one has not heard of, is refused.
    pub(super) fn drain(&mut self, side: Role) {
        self.observe();
        self.drains = true;
        let now = self.pair.now();
        match side {
            Role::Agent => self.pair.agent.session().drain(Code::SHUTDOWN, None, "", now),
            Role::Network => self.pair.network.session().drain(Code::SHUTDOWN, None, "", now),
        }
        for stream in self.model.streams.values_mut().filter(|stream| stream.opener != side && !stream.told) {
            stream.refused = true;
            stream.from(side).on_reset(Code::REFUSED);
            stream.towards(side).on_stop(Code::REFUSED);
            (stream.from(side).writer_gone, stream.towards(side).reader_gone) = (true, true);
        }
    }

    /// The side that drains closes the link when every stream is over.
    pub(super) fn assert_drained(&mut self, side: Role) {
        self.release_all();
        self.pair.run_for(Duration::from_secs(60));
        self.observe();
        let cause = |role| self.closed.iter().filter(|(closed, _)| *closed == role).map(|(_, cause)| cause).collect();
        let (own, other): (Vec<&Cause>, Vec<&Cause>) = (cause(side), cause(side.peer()));
        assert_eq!(own, [&Cause::Local(Code::NO_ERROR)]);
        assert!(matches!(*other, [Cause::Remote(close)] if close.code == Code::NO_ERROR), "{other:?}");
    }

    /// One side closes the link, whatever is on the way.
    pub(super) fn close(&mut self, side: Role, code: Code) {
        let now = self.pair.now();
        match side {
            Role::Agent => self.pair.agent.link.close(code, "bye", now),
            Role::Network => self.pair.network.link.close(code, "bye", now),
        }
        self.pair.run_for(Duration::from_secs(8));
        self.observe();
        self.closed.sort_by_key(|(closed, _)| *closed != side);
        let close = adit_core::Close { code, text: String::from("bye") };
        let expected = [(side, Cause::Local(code)), (side.peer(), Cause::Remote(close))];
        assert_eq!(self.closed, expected);
        self.read_the_rest();
    }

    /// Both sides gave the session up for this reason.
    pub(super) fn observe_the_end(&mut self, cause: &Cause) {
        self.observe();
        self.closed.sort_by_key(|(closed, _)| *closed != Role::Agent);
        assert_eq!(self.closed, [Role::Agent, Role::Network].map(|side| (side, cause.clone())));
        self.read_the_rest();
    }

    /// L4: what had arrived can be read, and is what was written; then every stream says why it ended.
    fn read_the_rest(&mut self) {
        for (side, cause) in self.closed.clone() {
            let code = cause.stream_code();
            for id in self.held(side) {
                loop {
                    let got = self.session(side).read(stream(id), usize::MAX);
                    if let Err(ReadError::Lost(lost)) = got {
                        assert_eq!(lost, code, "stream {id}");
                        break;
                    }
                    assert!(got != Err(ReadError::Blocked), "stream {id} has no end");
                    self.half(id, side.peer()).on_read(id, side.peer(), &got);
                    if !matches!(got, Ok(Some(_))) {
                        break;
                    }
                }
                match self.session(side).write(stream(id), &mut bytes::Bytes::from_static(&[0])) {
                    Err(WriteError::Lost(lost)) => assert_eq!(lost, code, "stream {id}"),
                    got => self.half(id, side).on_write(id, 1, got),
                }
            }
            assert_eq!(self.session(side).open(), Err(OpenError::Closed));
        }
    }

    fn read_all(&mut self) -> bool {
        let mut moved = false;
        for side in [Role::Agent, Role::Network] {
            for id in self.held(side) {
                let half = self.half(id, side.peer());
                if !half.reader_waits && half.end.is_none() && half.stopped.is_none() {
                    while self.read(side, id, 5_000) {
                        moved = true;
                    }
                }
            }
        }
        moved
    }

    fn release_all(&mut self) {
        for side in [Role::Agent, Role::Network] {
            for id in self.held(side) {
                self.release(side, id, Code::NO_ERROR);
            }
        }
    }

    /// Returns the streams that this side's application knows and has not let go.
    fn held(&mut self, side: Role) -> Vec<u32> {
        let held = |stream: &mut Stream| stream.known_to(side) && !stream.from(side).writer_gone;
        self.model.streams.iter_mut().filter_map(|(id, stream)| held(stream).then_some(*id)).collect()
    }

    fn half(&mut self, id: u32, from: Role) -> &mut super::reference::Half {
        self.model.streams.get_mut(&id).expect("somebody opened it").from(from)
    }

    fn session(&mut self, side: Role) -> &mut dyn Act {
        match side {
            Role::Agent => self.pair.agent.session(),
            Role::Network => self.pair.network.session(),
        }
    }

    fn counters(&mut self) -> [(Stats, u64); 2] {
        let (agent, network) = (self.pair.agent.session(), self.pair.network.session());
        [(agent.stats(), agent.reserved()), (network.stats(), network.reserved())]
    }

    fn events(&mut self) -> Vec<(Role, Event)> {
        fn of<S: Side>(peer: &mut Peer<S>) -> impl Iterator<Item = (Role, Event)> {
            peer.take_events().into_iter().map(|event| (S::ROLE, event))
        }
        of(&mut self.pair.agent).chain(of(&mut self.pair.network)).collect()
    }
}

/// Few enough that the same one comes again.
fn a_number(choices: &mut Choices<'_>) -> u32 {
    1 + u32::from(choices.number::<u8>() % 5)
}

fn refusal() -> Refusal {
    Refusal { code: Code::BUSY, retry_after: None, text: String::new() }
}

fn stream(id: u32) -> StreamId {
    StreamId::new(id).expect("not zero")
}
