//! An agent and a network joined by two wires.

use alloc::{string::String, vec::Vec};

use super::{Path, Wire};
use crate::{
    AgentId, AuthRequest, Cause, Config, Deadline, Duration, Event, Heartbeat, Hello, Instant, Limits, Link, Loss,
    Open, ReadError, Secret, Session, SessionId, Side, StreamId, WriteError, side,
};

/// How a [`Pair`] is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The agent's configuration.
    pub agent: Config,
    /// The network's configuration.
    pub network: Config,
    /// The wire towards the network.
    pub up: Path,
    /// The wire towards the agent.
    pub down: Path,
    /// Decides the nonces of pings.
    pub seed: u64,
    /// Whether the network offers resumption, and so both sides keep what is not acknowledged.
    pub resumable: bool,
    /// The most octets that a side writes at once.
    pub write: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            agent: Config::agent(),
            network: Config::network(),
            up: Path::default(),
            down: Path::default(),
            seed: 1,
            resumable: true,
            write: 64 << 10,
        }
    }
}

/// Two links, two wires and one clock.
#[derive(Debug)]
pub struct Pair {
    /// The agent.
    pub agent: Peer<side::Agent>,
    /// The network.
    pub network: Peer<side::Network>,
    /// The wire towards the network.
    pub up: Wire,
    /// The wire towards the agent.
    pub down: Wire,
    now: Instant,
    options: Options,
    secrets: u8,
}

/// One side of a [`Pair`].
#[derive(Debug)]
pub struct Peer<S: Side> {
    /// The link.
    pub link: Link<S>,
    /// What happened and has not been looked at.
    pub events: Vec<Event>,
    output: Vec<u8>,
    write: usize,
}

impl Pair {
    /// Joins two sides that have said nothing.
    pub fn new(options: Options) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let agent = Link::<side::Agent>::new(options.agent.clone(), hello(), options.seed, now);
        let network = Link::<side::Network>::new(options.network.clone(), options.seed.wrapping_add(1), now);
        Self {
            agent: Peer::new(agent, options.write),
            network: Peer::new(network, options.write),
            up: Wire::new(options.up.clone()),
            down: Wire::new(options.down.clone()),
            now,
            options,
            secrets: 9,
        }
    }

    /// Joins two sides and lets them establish a session.
    pub fn established(options: Options) -> Self {
        let mut pair = Self::new(options);
        pair.establish();
        pair
    }

    /// Joins two sides with this heartbeat, and the defaults for the rest.
    pub fn with_heartbeat(interval: Duration, tolerance: Duration) -> Self {
        let heartbeat = Heartbeat { interval, tolerance };
        let config = |config| Config { heartbeat, ..config };
        Self::established(Options {
            agent: config(Config::agent()),
            network: config(Config::network()),
            ..Options::default()
        })
    }

    /// Answers the agent's HELLO with a consent and lets both settle.
    pub fn establish(&mut self) {
        let until = self.now + Duration::from_secs(9);
        while self.agent.link.session().is_none() && self.now < until {
            self.step(until);
            if let Some(request) = self.network.take_request() {
                let mut welcome = request.welcome(SessionId([7; 16]), "local", "node-1");
                welcome.resume = self.offer();
                self.network.link.accept(request, welcome, self.now);
            }
        }
        self.settle();
        self.agent.events.retain(|event| !matches!(event, Event::Established(_)));
    }

    /// Gives both sides new links and new wires, whatever became of the old, and lets the agent ask to resume; nothing is
    /// delivered yet. Returns the network's old link, which still has the session.
    ///
    /// # Panics
    /// When the agent's session cannot be resumed.
    pub fn redial(&mut self) -> Link<side::Network> {
        let seed = u64::from(self.secrets);
        let options = &self.options;
        let agent = Link::<side::Agent>::resume(&mut self.agent.link, options.agent.clone(), hello(), seed, self.now);
        self.agent.link = agent.expect("the session can be resumed");
        let network = Link::<side::Network>::new(options.network.clone(), seed, self.now);
        (self.up, self.down) = (Wire::new(options.up.clone()), Wire::new(options.down.clone()));
        (self.agent.output, self.network.output) = (Vec::new(), Vec::new());
        core::mem::replace(&mut self.network.link, network)
    }

    /// Gives both sides new links and resumes the session over them.
    ///
    /// # Panics
    /// When that does not come about within 9 s.
    pub fn resume(&mut self) {
        let mut old = self.redial();
        let until = self.now + Duration::from_secs(9);
        while !self.agent.link.is_established() {
            assert!(self.now < until, "the session is resumed");
            self.step(until);
            if let Some(request) = self.network.take_request() {
                let mut welcome = request.welcome(SessionId([7; 16]), "local", "node-1");
                welcome.resume = self.offer();
                self.network.link.resume(request, &mut old, welcome, self.now).expect("the request is good");
            }
        }
        self.agent.events.retain(|event| !matches!(event, Event::Resumed(_)));
    }

    /// Lets the agent ask to resume and cuts the new link `after` the network's consent, wherever that is by then: both
    /// sides are without a link again.
    ///
    /// # Panics
    /// When the session cannot be resumed.
    pub fn redial_in_vain(&mut self, after: Duration) {
        let mut old = self.redial();
        let until = self.now + Duration::from_secs(9);
        let request = loop {
            assert!(self.now < until, "the agent asks");
            self.step(until);
            if let Some(request) = self.network.take_request() {
                break request;
            }
        };
        let mut welcome = request.welcome(SessionId([7; 16]), "local", "node-1");
        welcome.resume = self.offer();
        self.network.link.resume(request, &mut old, welcome, self.now).expect("the request is good");
        self.run_for(after);
        self.cut();
    }

    /// Returns a new offer, when the network makes any.
    pub fn offer(&mut self) -> Option<crate::ResumeOffer> {
        self.secrets = self.secrets.wrapping_add(1);
        let (secret, window) = (Secret::new([self.secrets; 16]), Duration::from_secs(30));
        self.options.resumable.then_some(crate::ResumeOffer { secret, window })
    }

    /// Returns the instant that it is.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Lets time pass, with everything that is due in it, in order.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Lets pass what the wires need to deliver what is on the way, a second at most.
    pub fn settle(&mut self) {
        let until = self.now + Duration::from_secs(1);
        while self.exchange() || self.next_arrival().is_some_and(|at| at <= until && self.step(at)) {}
    }

    /// Lets the clock jump without anything happening in between: the machine slept.
    pub fn sleep(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Tells both sides that the transport failed.
    pub fn cut(&mut self) {
        self.agent.link.handle_loss(Loss::Reset, self.now);
        self.network.link.handle_loss(Loss::Reset, self.now);
        self.exchange();
    }

    /// Opens a stream from the network and returns its number, the same on both sides.
    pub fn open(&mut self) -> StreamId {
        let session = self.network.link.session_mut().expect("established");
        session.open(Open::default()).expect("a stream can be opened")
    }

    /// Goes to the next instant at which something happens, `until` at the latest; returns whether it was before that.
    fn step(&mut self, until: Instant) -> bool {
        if self.exchange() {
            return true;
        }
        let timer = Deadline::earliest(self.agent.link.poll_timeout(), self.network.link.poll_timeout());
        let next = [self.next_arrival(), timer.map(|deadline| deadline.at)].into_iter().flatten().min();
        let at = next.filter(|at| *at <= until);
        self.now = self.now.max(at.unwrap_or(until));
        if at.is_some() {
            self.expire();
        }
        at.is_some()
    }

    fn next_arrival(&self) -> Option<Instant> {
        [self.up.arrival(), self.down.arrival()].into_iter().flatten().min()
    }

    fn expire(&mut self) {
        let now = self.now;
        self.agent.expire(now);
        self.network.expire(now);
        self.exchange();
    }

    /// Moves whatever can be moved now; returns whether anything was.
    fn exchange(&mut self) -> bool {
        let now = self.now;
        let mut moved = self.agent.write_to(&mut self.up, now);
        moved |= self.network.write_to(&mut self.down, now);
        moved |= self.network.read_from(&mut self.up, now);
        moved |= self.agent.read_from(&mut self.down, now);
        self.agent.collect();
        self.network.collect();
        moved
    }
}

impl<S: Side> Peer<S> {
    fn new(link: Link<S>, write: usize) -> Self {
        Self { link, events: Vec::new(), output: Vec::new(), write }
    }

    /// Returns what happened since it was last asked.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.collect();
        core::mem::take(&mut self.events)
    }

    /// Returns the session that was established.
    pub fn session(&mut self) -> &mut Session<S> {
        self.link.session_mut().expect("established")
    }

    /// Returns why the link ended, if it has.
    pub fn cause(&self) -> Option<&Cause> {
        self.link.cause()
    }

    /// Writes what is taken of `octets`; returns how many.
    ///
    /// # Errors
    /// What the session says.
    pub fn write(&mut self, stream: StreamId, octets: &[u8]) -> Result<usize, WriteError> {
        let session = self.link.session_mut().expect("established");
        session.write(stream, &mut bytes::Bytes::copy_from_slice(octets))
    }

    /// Reads all that has arrived; the flag says whether the end has.
    ///
    /// # Errors
    /// What the session says, except that nothing has arrived.
    pub fn read(&mut self, stream: StreamId) -> Result<(Vec<u8>, bool), ReadError> {
        let session = self.link.session_mut().expect("established");
        let mut octets = Vec::new();
        loop {
            match session.read(stream, usize::MAX) {
                Ok(Some(chunk)) => octets.extend_from_slice(&chunk),
                Ok(None) => return Ok((octets, true)),
                Err(ReadError::Blocked) => return Ok((octets, false)),
                Err(error) if octets.is_empty() => return Err(error),
                Err(_) => return Ok((octets, false)),
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        self.link.handle_timeout(now);
        let next = self.link.poll_timeout();
        assert!(next.is_none_or(|deadline| deadline.at > now), "L3: {next:?} is not later than {now:?}");
    }

    fn write_to(&mut self, wire: &mut Wire, now: Instant) -> bool {
        let mut moved = false;
        loop {
            while self.output.len() < self.write
                && let Some(frame) = self.link.poll_transmit(now)
            {
                frame.write(&mut self.output);
            }
            if self.output.is_empty() {
                return moved;
            }
            let taken = wire.send(&self.output, now);
            self.output.drain(..taken);
            self.link.handle_written(taken, self.output.len(), now);
            if taken == 0 {
                return moved;
            }
            moved = true;
        }
    }

    fn read_from(&mut self, wire: &mut Wire, now: Instant) -> bool {
        let mut moved = false;
        while let Some(piece) = wire.receive(now) {
            self.link.handle_input(&piece, now);
            moved = true;
        }
        moved
    }

    fn collect(&mut self) {
        while let Some(event) = self.link.poll_event() {
            self.events.push(event);
        }
    }
}

impl Peer<side::Network> {
    /// Takes the agent's request for a session out of the events.
    pub fn take_request(&mut self) -> Option<AuthRequest> {
        let place = self.events.iter().position(|event| matches!(event, Event::Hello(_)))?;
        let Event::Hello(request) = self.events.remove(place) else { return None };
        Some(request)
    }
}

/// Returns a HELLO with a token, as tests use it.
pub(super) fn hello() -> Hello {
    Hello {
        versions: Vec::new(),
        agent: AgentId([1; 16]),
        incarnation: 1,
        token: Secret::new(*b"token"),
        software: String::from("test"),
        metadata: String::new(),
        heartbeat: Heartbeat { interval: Duration::ZERO, tolerance: Duration::ZERO },
        limits: Limits { frame: 0, window: 0, streams: 0 },
        resume: None,
        resume_window: Duration::ZERO,
        lane: 0,
    }
}
