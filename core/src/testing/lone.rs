//! One side alone, and a peer of octets that keeps no rule.

use alloc::{string::String, vec, vec::Vec};

use super::pair::hello;
use crate::{
    Cause, Code, Config, Duration, Event, Heartbeat, Hello, Instant, Limits, Link, Message, Session, SessionId, Side,
    VERSION, Welcome,
    frame::{Encoded, HEADER, Kind},
    side,
};

/// One link that hears whatever a test makes up.
#[derive(Debug)]
pub struct Lone<S: Side> {
    /// The link.
    pub link: Link<S>,
    now: Instant,
}

impl Lone<side::Network> {
    /// Returns a network that has heard nothing.
    pub fn network(config: Config) -> Self {
        let now = START;
        Self { link: Link::<side::Network>::new(config, 1, now), now }
    }

    /// Returns a network with a session and nothing left to say.
    pub fn established_network(config: Config) -> Self {
        let mut lone = Self::network(config);
        lone.hear(&raw(Kind::Hello.number(), 0, &encoded(&a_hello())));
        lone.answer();
        lone.settle();
        lone
    }

    /// Returns a network with a session that can be resumed and nothing left to say.
    pub fn resumable_network(config: Config) -> Self {
        let mut lone = Self::network(config);
        let hello = Hello { resume_window: Duration::from_secs(30), ..a_hello() };
        lone.hear(&raw(Kind::Hello.number(), 0, &encoded(&hello)));
        for event in lone.events() {
            if let Event::Hello(request) = event {
                let mut welcome = request.welcome(SessionId([7; 16]), "local", "node-1");
                let offer = crate::ResumeOffer { secret: crate::Secret::new([9; 16]), window: Duration::from_secs(30) };
                welcome.resume = Some(offer);
                lone.link.accept(request, welcome, lone.now);
            }
        }
        lone.settle();
        lone
    }

    /// Consents to the session that was asked for.
    pub fn answer(&mut self) {
        for event in self.events() {
            if let Event::Hello(request) = event {
                let welcome = request.welcome(SessionId([7; 16]), "local", "node-1");
                self.link.accept(request, welcome, self.now);
            }
        }
    }
}

impl Lone<side::Agent> {
    /// Returns an agent whose HELLO waits to be said.
    pub fn agent(config: Config) -> Self {
        let now = START;
        Self { link: Link::<side::Agent>::new(config, hello(), 1, now), now }
    }

    /// Returns an agent with a session and nothing left to say.
    pub fn established_agent(config: Config) -> Self {
        let mut lone = Self::agent(config);
        lone.say();
        lone.hear(&raw(Kind::Welcome.number(), 0, &encoded(&a_welcome())));
        lone.events();
        lone.settle();
        lone
    }
}

impl<S: Side> Lone<S> {
    /// Goes on alone with a link that had a peer.
    pub const fn over(link: Link<S>, now: Instant) -> Self {
        Self { link, now }
    }

    /// Lets octets arrive.
    pub fn hear(&mut self, octets: &[u8]) {
        self.link.handle_input(octets, self.now);
    }

    /// Lets frames arrive.
    pub fn hear_frames(&mut self, frames: &[Encoded]) {
        let mut octets = Vec::new();
        frames.iter().for_each(|frame| frame.write(&mut octets));
        self.hear(&octets);
    }

    /// Takes all that waits to be said, as a transport that is never full.
    pub fn say(&mut self) -> Vec<Encoded> {
        let mut said = Vec::new();
        while let Some(frame) = self.link.poll_transmit(self.now) {
            said.push(frame);
        }
        let length = said.iter().map(Encoded::len).sum();
        self.link.handle_written(length, 0, self.now);
        said
    }

    /// Returns what happened since it was last asked.
    pub fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.link.poll_event()).collect()
    }

    /// Returns the session that was established.
    pub fn session(&mut self) -> &mut Session<S> {
        self.link.session_mut().expect("established")
    }

    /// Returns why the link ended, if it has.
    pub fn cause(&self) -> Option<&Cause> {
        self.link.cause()
    }

    /// Lets time pass, with each timer that is due in it, in order; what is said meanwhile is lost.
    pub fn wait(&mut self, time: Duration) {
        self.wait_and_say(time, |_| ());
    }

    /// Lets time pass, with each timer that is due in it, in order, and tells what is said.
    pub fn wait_and_say(&mut self, time: Duration, mut tell: impl FnMut(&Encoded)) {
        let until = self.now + time;
        while let Some(deadline) = self.link.poll_timeout().filter(|deadline| deadline.at <= until) {
            self.now = deadline.at;
            self.link.handle_timeout(self.now);
            self.say().iter().for_each(&mut tell);
        }
        self.now = until;
        self.link.handle_timeout(until);
    }

    /// Returns the instant that it is.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Says what waits, and answers the PING in it.
    fn settle(&mut self) {
        for frame in self.say() {
            if frame.kind() == Kind::Ping {
                self.hear(&raw(Kind::Pong.number(), 0, frame.payload()));
            }
        }
    }
}

/// Returns the octets of a frame that may break any rule.
pub fn raw(number: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [.., l0, l1, l2] = (payload.len() as u64).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    let mut octets = Vec::with_capacity(HEADER + payload.len());
    octets.extend([l0, l1, l2, number, s0, s1, s2, s3]);
    octets.extend(payload);
    octets
}

/// Returns a HELLO that any network understands.
pub fn a_hello() -> Hello {
    let heartbeat = Heartbeat { interval: Duration::from_secs(10), tolerance: Duration::from_secs(15) };
    Hello { versions: vec![VERSION], heartbeat, limits: LIMITS, ..hello() }
}

/// Returns a WELCOME that any agent understands.
pub fn a_welcome() -> Welcome {
    Welcome {
        version: VERSION,
        session: SessionId([7; 16]),
        heartbeat: Heartbeat { interval: Duration::from_secs(10), tolerance: Duration::from_secs(15) },
        limits: LIMITS,
        region: String::new(),
        node: String::new(),
        resume: None,
        resumed: None,
    }
}

/// Returns the code of the CLOSE among these frames, if there is one.
pub fn closed_with(said: &[Encoded]) -> Option<Code> {
    let close = said.iter().find(|frame| frame.kind() == Kind::Close)?;
    crate::Close::decode(close.payload()).ok().map(|close| close.code)
}

/// Returns a message as it stands on the wire.
pub fn encoded(message: &impl Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

const START: Instant = Instant::from_nanos(1_000_000_000);
const LIMITS: Limits = Limits { frame: crate::FRAME, window: 16 << 10, streams: 100 };
