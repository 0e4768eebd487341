//! A session: streams, credit, binds and counted frames. It outlives its links.

mod control;
mod hints;
#[cfg(feature = "testing")]
mod measure;
mod recv;
mod replay;
mod resume;
mod schedule;
mod send;
mod spare;
mod stream;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
};
use core::marker::PhantomData;

use crate::{
    Cause, Code, Config, Duration, Event, Instant, Limits, Open, Side, StreamId, Violation, flow::Pool, frame::Kind,
};
use control::Control;
use replay::{Incoming, Outgoing};
use resume::Permit;
use spare::Spare;
use stream::{Acceptance, SendState, Stream};

pub use control::{AnswerError, BindError, RevocationsError, TLS_ENDS_ELSEWHERE};
pub use recv::ReadError;
pub use send::WriteError;
pub(crate) use spare::most as most_spare;

/// The state that agent and network share, apart from any transport.
#[derive(Debug)]
pub struct Session<S: Side> {
    config: Config,
    peer: Limits,
    streams: BTreeMap<u32, Box<Stream>>,
    /// Streams that owe control frames, each once, in order; an OPEN is always a stream's first frame.
    urgent: VecDeque<u32>,
    /// Streams with data to send, each once: they take turns, one frame each.
    ready: VecDeque<u32>,
    /// Streams with news for the application, each once.
    news: VecDeque<u32>,
    /// Streams whose writers were blocked by the total, oldest first.
    crowded: VecDeque<u32>,
    opened: OpenCounts,
    pool: Pool,
    /// The shortest round trip of late on the present link, once there was one.
    rtt: Option<Duration>,
    queued: u64,
    control: Control,
    outgoing: Outgoing,
    incoming: Incoming,
    spare: Spare,
    permit: Option<Permit>,
    /// For how long it was without a link before the present one.
    waited: Duration,
    /// Agent: how many times it has asked to resume. Network: the highest such number that it consented to.
    attempt: u64,
    /// Whether a stream was wanted for which there is no number.
    exhausted: bool,
    over: Option<Code>,
    stats: Stats,
    side: PhantomData<S>,
}

/// How many streams were opened and may be.
#[derive(Debug)]
struct OpenCounts {
    /// By this side, in all.
    ours: u32,
    /// By this side and not over.
    ours_live: u32,
    /// What the peer grants, in all.
    ours_granted: u64,
    /// By the peer, in all: the highest.
    theirs: u32,
    /// By the peer and over.
    theirs_over: u64,
    /// What the peer was told, in all.
    theirs_granted: u64,
}

/// Counters of a session, since its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Payload octets sent on streams.
    pub data_sent: u64,
    /// Payload octets received on streams.
    pub data_received: u64,
    /// Streams that this side opened.
    pub streams_opened: u64,
    /// Streams that the peer opened.
    pub streams_accepted: u64,
    /// Streams that are open now.
    pub streams_live: u64,
    /// Octets that wait to be sent now.
    pub queued: u64,
    /// Octets of frames that wait to be acknowledged now.
    pub retained: u64,
}

/// A stream cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// As many streams are open as the peer or this side's own limit allows; some will end.
    #[error("as many streams are open as the session allows")]
    Limit,
    /// The session drains: open the stream on another.
    #[error("the session drains")]
    Draining,
    /// The session is over.
    #[error("the session is over")]
    Closed,
}

impl<S: Side> Session<S> {
    pub(crate) fn new(config: &Config, peer: Limits, keeps: bool) -> Self {
        Self {
            config: config.clone(),
            peer,
            streams: BTreeMap::new(),
            urgent: VecDeque::new(),
            ready: VecDeque::new(),
            news: VecDeque::new(),
            crowded: VecDeque::new(),
            opened: OpenCounts {
                ours: 0,
                ours_live: 0,
                ours_granted: u64::from(peer.streams),
                theirs: 0,
                theirs_over: 0,
                theirs_granted: u64::from(config.streams),
            },
            pool: Pool::new(config.pool),
            rtt: None,
            queued: 0,
            control: Control::default(),
            outgoing: Outgoing::new(keeps, config),
            incoming: Incoming::new(config),
            spare: Spare::new(config.frame),
            permit: None,
            waited: Duration::ZERO,
            attempt: 0,
            exhausted: false,
            over: None,
            stats: Stats::default(),
            side: PhantomData,
        }
    }

    /// Opens a stream. Data may be written at once; whether the peer takes the stream is told by [`Event::Accepted`].
    ///
    /// # Errors
    /// [`OpenError`]: nothing was opened.
    pub fn open(&mut self, open: Open) -> Result<StreamId, OpenError> {
        if self.over.is_some() {
            return Err(OpenError::Closed);
        }
        if self.control.peer_drains() || self.control.drains() {
            return Err(OpenError::Draining); // spec: GO-003
        }
        let count = self.opened.ours.saturating_add(1);
        if self.opened.ours_live >= self.config.open_streams || u64::from(count) > self.opened.ours_granted {
            return Err(OpenError::Limit); // spec: STREAM-015
        }
        let Some(id) = S::ROLE.stream(count).filter(|id| *id <= MAX_STREAM) else {
            self.exhausted = true; // spec: STREAM-003
            return Err(OpenError::Draining);
        };
        self.opened.ours = count;
        self.opened.ours_live = self.opened.ours_live.saturating_add(1);
        self.stats.streams_opened = self.stats.streams_opened.saturating_add(1);
        self.insert(id, open, true);
        self.with(id, |stream| stream.owed.open = true);
        self.make_urgent(id);
        Ok(StreamId(id))
    }

    /// Says that a stream which the peer opened has been handed to its destination.
    pub fn accept_stream(&mut self, id: StreamId) {
        let owes = self.with(id.0, |stream| {
            let owes = !stream.ours && stream.accepted == Acceptance::Pending && stream.send.state == SendState::Open;
            if owes {
                stream.accepted = Acceptance::Accepted;
                stream.owed.accept = true;
            }
            owes
        });
        if owes == Some(true) {
            self.make_urgent(id.0);
        }
    }

    /// Returns whether the peer handed the stream to its destination; `None` while that is not known.
    pub fn acceptance(&self, id: StreamId) -> Option<Result<(), Code>> {
        let Some(stream) = self.streams.get(&id.0) else { return Some(Err(Code::CANCELLED)) };
        match (stream.accepted, self.over) {
            (Acceptance::Accepted, _) => Some(Ok(())),
            (Acceptance::Refused(code), _) | (Acceptance::Pending, Some(code)) => Some(Err(code)),
            (Acceptance::Pending, None) => None,
        }
    }

    /// Returns what a stream of the peer was opened for, once: the session does not keep it.
    pub fn take_open(&mut self, id: StreamId) -> Option<Open> {
        let open = self.with(id.0, |stream| if stream.ours { None } else { stream.open.take() }).flatten();
        open.map(|open| *open)
    }

    /// Lets go of a stream: what is not finished is reset, what is not read is not wanted. What was finished still goes
    /// out.
    pub fn release(&mut self, id: StreamId) {
        self.reset_unfinished(id, Code::CANCELLED);
        self.stop(id, Code::CANCELLED); // spec: END-010
        self.with(id.0, |stream| stream.released = true);
        self.remove_if_over(id.0);
    }

    /// Returns the counters.
    pub fn stats(&self) -> Stats {
        Stats {
            streams_live: self.streams.len() as u64,
            queued: self.queued,
            retained: self.outgoing.kept_octets(),
            ..self.stats
        }
    }

    /// Returns how many streams are open.
    pub fn live_streams(&self) -> usize {
        self.streams.len()
    }

    /// Returns whether new streams can no longer be opened because one side drains.
    pub fn is_draining(&self) -> bool {
        self.control.drains() || self.control.peer_drains()
    }

    /// Returns the code that ended the session, if it has ended.
    pub const fn over(&self) -> Option<Code> {
        self.over
    }

    /// Returns how many counted frames of the peer were processed.
    pub const fn processed(&self) -> u64 {
        self.incoming.processed()
    }

    /// Returns how many counted frames were sent.
    pub const fn sent(&self) -> u64 {
        self.outgoing.sent()
    }

    /// Returns what all windows have grown by beyond the first of each stream, in octets: at most the pool.
    pub const fn reserved(&self) -> u64 {
        self.pool.reserved()
    }

    /// Ends the session: streams keep what has arrived and then fail.
    pub(crate) fn end(&mut self, cause: &Cause) {
        let code = cause.stream_code();
        if self.over.replace(code).is_some() {
            return;
        }
        self.urgent = VecDeque::new();
        self.ready = VecDeque::new();
        self.control.clear();
        self.rest();
        self.queued = 0;
        let ids: VecDeque<u32> = self.streams.keys().copied().collect();
        for id in ids {
            self.with(id, |stream| {
                stream.send.clear();
                stream.owed = stream::Owed::default();
                stream.news.accepted |= stream.ours && stream.accepted == Acceptance::Pending;
                stream.news.readable |= core::mem::take(&mut stream.recv.waiting);
                stream.news.writable |= core::mem::take(&mut stream.send.waiting);
            });
            self.tell(id);
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.poll_control_event().or_else(|| self.poll_stream_event())
    }

    pub(crate) fn poll_control_event(&mut self) -> Option<Event> {
        self.control.poll_event()
    }

    #[cfg(feature = "driver")]
    pub(crate) fn has_control_event(&self) -> bool {
        self.control.has_event()
    }

    pub(crate) fn poll_stream_event(&mut self) -> Option<Event> {
        while let Some(id) = self.news.front().copied() {
            let told = self.streams.get_mut(&id).and_then(|stream| {
                let event = next_news(id, stream);
                stream.in_news = stream.news.any();
                event.map(|event| (event, stream.in_news))
            });
            let Some((event, more)) = told else {
                self.news.pop_front();
                continue;
            };
            if !more {
                self.news.pop_front();
            }
            return Some(event);
        }
        None
    }

    /// Takes one frame of the session or of a stream; counts it once it is processed.
    pub(crate) fn handle_frame(&mut self, kind: Kind, id: u32, payload: &[u8], now: Instant) -> Result<(), Violation> {
        match kind {
            Kind::Open => self.on_open(id, payload),
            Kind::Data => self.on_data(id, payload),
            Kind::Fin => self.on_fin(id, payload),
            Kind::Reset => self.on_reset(id, payload),
            Kind::Stop => self.on_stop(id, payload),
            Kind::Credit => self.on_credit(id, payload),
            Kind::Blocked => self.on_blocked(id, payload, now),
            Kind::Accept => self.on_accept(id),
            Kind::Streams => self.on_streams(payload),
            Kind::Bind
            | Kind::Bound
            | Kind::Rejected
            | Kind::Unbind
            | Kind::Unbound
            | Kind::Command
            | Kind::CommandResult
            | Kind::Revocations
            | Kind::GoAway
            | Kind::Withheld => self.on_control(kind, payload, now),
            Kind::Hello | Kind::Welcome | Kind::Refuse => Err(Violation::SecondHandshake), // spec: PRE-005
            Kind::Ping | Kind::Pong | Kind::Ack | Kind::Close => unreachable_link_frame(),
        }?;
        self.count_processed(payload.len(), now);
        Ok(())
    }

    /// Counts a frame of the peer that was processed, or ignored as an extension.
    pub(crate) fn count_processed(&mut self, octets: usize, now: Instant) {
        self.incoming.on_processed(octets.saturating_add(HEADER), now);
    }

    /// Takes the peer's acknowledgement.
    pub(crate) fn handle_ack(&mut self, count: u64) -> Result<(), Violation> {
        self.outgoing.on_ack(count)?;
        self.control.on_ack(count);
        Ok(())
    }

    /// Takes a round trip. One beside much data takes longer than the path does; a path may become longer.
    pub(crate) fn on_round_trip(&mut self, rtt: Duration) {
        self.rtt = Some(self.rtt.map_or(rtt, |least| rtt.min(least.saturating_mul(9) / 8)));
    }

    /// Lets time pass for acknowledgements.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.incoming.handle_timeout(now) {
            self.rest(); // little comes
        }
    }

    /// Gives back what only a session at work needs.
    pub(crate) fn rest(&mut self) {
        self.spare.clear();
    }

    pub(crate) fn poll_ack(&mut self, riding: bool) -> Option<u64> {
        // What is sent again comes first: an ACK says that what was said before has come.
        if self.outgoing.repeats() { None } else { self.incoming.poll_ack(riding) } // spec: RES-020
    }

    pub(crate) const fn owes_ack(&self) -> bool {
        self.incoming.owed()
    }

    pub(crate) const fn ack_due(&self) -> Option<Instant> {
        self.incoming.due()
    }

    fn insert(&mut self, id: u32, open: Open, ours: bool) {
        let window = self.config.window;
        let mut stream = Box::new(Stream::new(open, ours, self.peer.window, window)); // spec: CREDIT-003
        let eager = u64::from(self.config.window_eager);
        if self.pool.is_plentiful(eager) && stream.recv.credit.grow(eager, &mut self.pool) {
            stream.owed.credit = stream.recv.credit.is_due();
        }
        let owes = stream.owed.credit;
        self.streams.insert(id, stream);
        if owes && !ours {
            self.make_urgent(id); // what this side opens becomes urgent with its OPEN
        }
    }

    fn remove_if_over(&mut self, id: u32) {
        if !self.streams.get(&id).is_some_and(|stream| stream.is_over() || (self.over.is_some() && stream.released)) {
            return;
        }
        let Some(stream) = self.streams.remove(&id) else { return };
        self.pool.release(stream.recv.credit.window().saturating_sub(u64::from(self.config.window))); // spec: END-009
        self.queued = self.queued.saturating_sub(stream.send.queued as u64);
        if stream.ours {
            self.opened.ours_live = self.opened.ours_live.saturating_sub(1);
        } else {
            self.opened.theirs_over = self.opened.theirs_over.saturating_add(1); // spec: STREAM-005
        }
        // In a crowd that lasts nobody takes the gone off its list.
        if self.crowded.len() > self.streams.len().saturating_mul(2).saturating_add(64) {
            self.crowded.retain(|id| self.streams.contains_key(id));
        }
    }

    /// Runs `act` on a stream if it is there.
    fn with<T>(&mut self, id: u32, act: impl FnOnce(&mut Stream) -> T) -> Option<T> {
        self.streams.get_mut(&id).map(|stream| act(stream))
    }

    fn make_urgent(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            enter(&mut self.urgent, id, &mut stream.in_urgent);
        }
    }

    fn make_ready(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.send.has_work()) {
            enter(&mut self.ready, id, &mut stream.in_ready);
        }
    }

    fn tell(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.news.any()) {
            enter(&mut self.news, id, &mut stream.in_news);
        }
    }
}

/// Lets a stream take its place in a ring, unless it has one.
fn enter(ring: &mut VecDeque<u32>, id: u32, inside: &mut bool) {
    if !core::mem::replace(inside, true) {
        ring.push_back(id);
    }
}

fn next_news(id: u32, stream: &mut Stream) -> Option<Event> {
    let (id, news) = (StreamId(id), &mut stream.news);
    if core::mem::take(&mut news.opened) {
        Some(Event::Opened(id))
    } else if core::mem::take(&mut news.accepted) {
        Some(Event::Accepted(id))
    } else if core::mem::take(&mut news.readable) {
        Some(Event::Readable(id))
    } else if core::mem::take(&mut news.writable) {
        Some(Event::Writable(id))
    } else {
        None
    }
}

fn unreachable_link_frame() -> Result<(), Violation> {
    debug_assert!(false, "frames of the link are handled by the link");
    Ok(())
}

/// The octets of a frame's header.
const HEADER: usize = 8;

/// Stream numbers have 31 bits.
const MAX_STREAM: u32 = (1 << 31) - 1;

#[cfg(test)]
mod tests;
