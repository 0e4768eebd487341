//! An agent and a network joined in memory: no task, no socket, a clock that is a number.

use std::collections::{BTreeMap, VecDeque};

use adit_core::{
    AgentId, Config, Duration, Event, Heartbeat, Hello, Instant, Limits, Link, Loss, Open, OpenError, ReadError,
    ResumeOffer, Secret, Session, SessionId, Side, StreamId, Welcome, side,
};
use bytes::Bytes;

use crate::{BLOCK, MESSAGE, secure::End};

/// Two links, what is on the way between them, and their time.
#[derive(Debug)]
pub struct Pair {
    /// The agent.
    pub agent: Link<side::Agent>,
    /// The network.
    pub network: Link<side::Network>,
    now: Instant,
    options: Options,
    plain: Vec<u8>,
    tls: Option<(End, End)>,
    secrets: u8,
}

/// How a [`Pair`] is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The agent's configuration.
    pub agent: Config,
    /// The network's configuration.
    pub network: Config,
    /// Whether both sides keep what is not acknowledged.
    pub resumable: bool,
    /// Whether TLS stands between the two.
    pub tls: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { agent: Config::agent(), network: Config::network(), resumable: true, tls: false }
    }
}

impl Options {
    /// Returns the defaults without retention: nothing is kept, nothing can be resumed.
    pub fn forgetful() -> Self {
        Self { resumable: false, ..Self::default() }
    }

    /// Returns the defaults with TLS between the two.
    pub fn secured() -> Self {
        Self { tls: true, ..Self::default() }
    }

    /// Returns windows so small that each `window` octets of a stream need two announcements.
    pub fn narrow(window: u32) -> Self {
        let mut options = Self::default();
        for config in [&mut options.agent, &mut options.network] {
            (config.window, config.window_eager, config.window_max) = (window, window, window);
        }
        options
    }
}

impl Pair {
    /// Joins two sides and lets them establish a session.
    ///
    /// # Panics
    /// When they do not.
    pub fn new(options: Options) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let mut pair = Self {
            agent: Link::<side::Agent>::new(options.agent.clone(), hello(), 1, now),
            network: Link::<side::Network>::new(options.network.clone(), 2, now),
            now,
            plain: Vec::new(),
            tls: options.tls.then(End::pair),
            options,
            secrets: 0,
        };
        pair.shake(None);
        pair
    }

    /// Opens streams from the network.
    ///
    /// # Errors
    /// [`OpenError`], for as many as could not be opened.
    pub fn open(&mut self, count: usize) -> Result<Vec<StreamId>, OpenError> {
        let streams = (0..count).map(|_| session(&mut self.network).open(Open::default())).collect();
        self.settle();
        streams
    }

    /// Moves `octets` in all over `streams` from the network to the agent, who reads what comes at once.
    ///
    /// # Panics
    /// When nothing moves any more.
    pub fn bulk(&mut self, streams: &[StreamId], octets: u64) {
        let each = octets / streams.len() as u64;
        let mut left: BTreeMap<StreamId, u64> = streams.iter().map(|id| (*id, each)).collect();
        let (mut read, whole) = (0, each * streams.len() as u64);
        for id in streams {
            read += drain(session(&mut self.agent), *id); // and be told when there is more
            pour(session(&mut self.network), *id, &mut left);
        }
        while read < whole {
            assert!(self.exchange(), "{read} of {whole} octets have come");
            while let Some(event) = self.agent.poll_event() {
                if let Event::Readable(id) = event {
                    read += drain(session(&mut self.agent), id);
                }
            }
            while let Some(event) = self.network.poll_event() {
                if let Event::Writable(id) = event {
                    pour(session(&mut self.network), id, &mut left);
                }
            }
        }
    }

    /// Opens `count` streams from the network, `at_once` at a time; each carries [`MESSAGE`] octets there and back and closes.
    ///
    /// # Panics
    /// When a stream cannot be opened, or is not answered.
    pub fn echo(&mut self, count: usize, at_once: usize) {
        let (mut opened, mut live) = (0, 0);
        while opened < count || live > 0 {
            while opened < count && live < at_once {
                let sender = session(&mut self.network);
                let id = sender.open(Open::default()).expect("few are open");
                sender.write(id, &mut Bytes::from_static(&[7; MESSAGE])).expect("it is new");
                sender.finish(id).expect("it is new");
                (opened, live) = (opened + 1, live + 1);
            }
            assert!(self.exchange(), "{live} streams wait for an answer");
            live -= self.take_echoes();
        }
        self.settle();
        while self.network.poll_event().is_some() {}
    }

    /// Answers at the agent, takes answers at the network; returns how many streams are over.
    fn take_echoes(&mut self) -> usize {
        while let Some(event) = self.agent.poll_event() {
            if let Event::Opened(id) | Event::Readable(id) = event {
                answer(session(&mut self.agent), id);
            }
        }
        let mut over = 0;
        while let Some(event) = self.network.poll_event() {
            let Event::Readable(id) = event else { continue };
            let session = session(&mut self.network);
            while let Ok(Some(_)) = session.read(id, usize::MAX) {}
            if matches!(session.read(id, usize::MAX), Ok(None)) {
                session.release(id);
                over += 1;
            }
        }
        over
    }

    /// Loses the link of both sides, and all that is on the way.
    pub fn cut(&mut self) {
        self.agent.handle_loss(Loss::Reset, self.now);
        self.network.handle_loss(Loss::Reset, self.now);
    }

    /// Resumes the session over new links, and brings again what was lost.
    ///
    /// # Panics
    /// When it cannot be resumed.
    pub fn resume(&mut self) {
        let (seed, now) = (u64::from(self.secrets), self.now);
        let options = &self.options;
        self.agent = Link::<side::Agent>::resume(&mut self.agent, options.agent.clone(), hello(), seed, now)
            .expect("the session can be resumed");
        let network = Link::<side::Network>::new(options.network.clone(), seed, now);
        let old = core::mem::replace(&mut self.network, network);
        self.tls = options.tls.then(End::pair);
        self.shake(Some(old));
        self.settle();
        while self.agent.poll_event().is_some() {}
        while self.network.poll_event().is_some() {}
    }

    /// Takes from the network what it would send, and loses it.
    pub fn lose_output(&mut self) {
        while self.network.poll_transmit(self.now).is_some() {}
    }

    /// Moves what there is until there is no more.
    pub fn settle(&mut self) {
        while self.exchange() {}
    }

    /// Parts the two sides.
    pub fn part(self) -> (Link<side::Agent>, Link<side::Network>) {
        (self.agent, self.network)
    }

    /// Lets time pass, and does what is due at its end.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.agent.handle_timeout(self.now);
        self.network.handle_timeout(self.now);
        self.settle();
    }

    /// Moves one batch each way; returns whether anything moved.
    pub fn exchange(&mut self) -> bool {
        self.now = self.now + STEP;
        let (plain, now) = (&mut self.plain, self.now);
        let up = self.tls.as_mut().map(|(agent, network)| (agent, network));
        let moved = carry(&mut self.agent, &mut self.network, plain, up, now);
        let down = self.tls.as_mut().map(|(agent, network)| (network, agent));
        carry(&mut self.network, &mut self.agent, plain, down, now) || moved
    }

    fn shake(&mut self, mut old: Option<Link<side::Network>>) {
        while !self.agent.is_established() {
            assert!(self.exchange(), "the handshake goes on");
            while let Some(event) = self.network.poll_event() {
                let Event::Hello(request) = event else { continue };
                let mut welcome = request.welcome(SessionId([7; 16]), "local", "node-1");
                self.offer(&mut welcome);
                match &mut old {
                    None => self.network.accept(request, welcome, self.now),
                    Some(old) => self.network.resume(request, old, welcome, self.now).expect("the request is good"),
                }
            }
        }
    }

    fn offer(&mut self, welcome: &mut Welcome) {
        self.secrets = self.secrets.wrapping_add(1);
        let offer = ResumeOffer { secret: Secret::new([self.secrets; 16]), window: Duration::from_secs(30) };
        welcome.resume = self.options.resumable.then_some(offer);
    }
}

/// Moves one batch of frames from one side to the other.
fn carry<A: Side, B: Side>(
    from: &mut Link<A>,
    to: &mut Link<B>,
    plain: &mut Vec<u8>,
    tls: Option<(&mut End, &mut End)>,
    now: Instant,
) -> bool {
    let mut octets = 0;
    match tls {
        None => {
            plain.clear();
            while plain.len() < BATCH
                && let Some(frame) = from.poll_transmit(now)
            {
                frame.write(plain);
            }
            octets = plain.len();
            if octets > 0 {
                to.handle_input(plain, now);
            }
        }
        Some((mine, theirs)) => {
            while octets < BATCH
                && let Some(frame) = from.poll_transmit(now)
            {
                octets += frame.len();
                mine.seal(&frame);
            }
            if octets > 0 {
                mine.deliver(theirs, |plain| to.handle_input(plain, now));
            }
        }
    }
    from.handle_written(octets, 0, now);
    octets > 0
}

/// Writes what a stream has left, as far as there is room.
fn pour(session: &mut Session<side::Network>, id: StreamId, left: &mut BTreeMap<StreamId, u64>) {
    let block = Bytes::from_static(&[7; BLOCK]);
    let Some(left) = left.get_mut(&id) else { return };
    while *left > 0 {
        let mut data = block.slice(..usize::try_from(*left).map_or(BLOCK, |left| left.min(BLOCK)));
        let Ok(count) = session.write(id, &mut data) else { return };
        *left -= count as u64;
    }
}

/// Reads all that has arrived on a stream; returns how many octets that was.
fn drain<S: Side>(session: &mut Session<S>, id: StreamId) -> u64 {
    let mut read = 0;
    while let Ok(Some(chunk)) = session.read(id, usize::MAX) {
        read += chunk.len() as u64;
    }
    read
}

fn answer(session: &mut Session<side::Agent>, id: StreamId) {
    let mut back = VecDeque::new();
    loop {
        match session.read(id, usize::MAX) {
            Ok(Some(chunk)) => back.push_back(chunk),
            Ok(None) => break,
            Err(ReadError::Blocked) => return write(session, id, back),
            Err(_) => return, // it was answered and let go of
        }
    }
    write(session, id, back);
    let _ = session.finish(id);
    session.release(id);
}

fn write(session: &mut Session<side::Agent>, id: StreamId, octets: VecDeque<Bytes>) {
    for mut chunk in octets {
        let _ = session.write(id, &mut chunk); // shorter than any window
    }
}

fn session<S: Side>(link: &mut Link<S>) -> &mut Session<S> {
    link.session_mut().expect("established")
}

/// Returns a HELLO of an agent with a token.
pub fn hello() -> Hello {
    Hello {
        versions: Vec::new(),
        agent: AgentId([1; 16]),
        incarnation: 1,
        token: Secret::new(*b"token"),
        software: "benches".into(),
        metadata: String::new(),
        heartbeat: Heartbeat { interval: Duration::ZERO, tolerance: Duration::ZERO },
        limits: Limits { frame: 0, window: 0, streams: 0 },
        resume: None,
        resume_window: Duration::ZERO,
        lane: 0,
    }
}

/// What one side sends before the other is asked, in octets: as the driver does it.
const BATCH: usize = 64 << 10;
const STEP: Duration = Duration::from_micros(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn each_way() -> [Pair; 3] {
        [Options::default(), Options::forgetful(), Options::secured()].map(Pair::new)
    }

    #[test]
    fn bulk_moves_as_much_as_it_says() {
        for mut pair in each_way() {
            let streams = pair.open(3).expect("few");

            pair.bulk(&streams, 3_000_000);

            let (sent, received) = (session(&mut pair.network).stats(), session(&mut pair.agent).stats());
            assert_eq!((sent.data_sent, received.data_received), (3_000_000, 3_000_000));
        }
    }

    #[test]
    fn each_echo_is_a_stream_that_ends() {
        for mut pair in each_way() {
            pair.echo(100, 7);

            for stats in [session(&mut pair.network).stats(), session(&mut pair.agent).stats()] {
                assert_eq!((stats.data_sent, stats.data_received, stats.streams_live), (6_400, 6_400, 0));
                assert_eq!(stats.streams_opened + stats.streams_accepted, 100);
            }
        }
    }

    #[test]
    fn a_resumed_session_has_its_streams_and_what_was_lost() {
        let mut pair = Pair::new(Options::default());
        let streams = pair.open(10).expect("few");
        for id in &streams {
            session(&mut pair.network).write(*id, &mut Bytes::from_static(&[7; MESSAGE])).expect("open");
        }
        pair.lose_output();

        pair.cut();
        pair.resume();

        let stats = session(&mut pair.agent).stats();
        assert_eq!((stats.data_received, stats.streams_live), (640, 10));
    }
}
