//! Two sides and every octet between them by hand: links are cut at any octet, also while they resume, and what one side has
//! not noticed the other may.

use adit_core::{
    AuthRequest, Cause, Code, Config, Duration, Event, Hello, Instant, Link, Loss, Open, ReadError, Resume,
    ResumeOffer, Role, Secret, Session, SessionId, Side, StreamId, WriteError,
    frame::{Encoded, Kind},
    side::{Agent, Network},
    testing::{a_hello, encoded, raw},
};

use crate::{Choices, model::pattern};

/// No octet is lost and none comes twice, whatever was on its way; what is sent again is what was sent.
pub fn resume(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let mut run = Run::new(&mut choices);
    for _ in 0..600 {
        if choices.is_over() {
            break;
        }
        run.step(&mut choices);
        run.check();
    }
    run.finish();
}

struct Run {
    now: Instant,
    config: Config,
    agent: End<Agent>,
    network: End<Network>,
    /// The network's link that still has the session while another is being made.
    old: Option<Link<Network>>,
    /// On the way.
    up: Vec<u8>,
    down: Vec<u8>,
    flows: Vec<Flow>,
    secrets: u8,
    /// Every secret that was offered, the newest last.
    offered: Vec<Secret>,
    /// Since when no link has worked.
    lost: Option<Instant>,
}

/// One side, with the counted frames of its session.
struct End<S: Side> {
    link: Link<S>,
    sent: Vec<Encoded>,
    /// The place of the next counted frame.
    next: usize,
}

/// One direction of a stream.
struct Flow {
    id: StreamId,
    from: Role,
    written: usize,
    read: usize,
    finished: bool,
    ended: bool,
}

impl Run {
    fn new(choices: &mut Choices<'_>) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let mut config = Config::agent();
        let window = choices.one_of(&[16_384, 1_024, 5_000]);
        (config.window, config.window_eager, config.window_max) = (window, window, 80_000);
        (config.retain_octets, config.retain_frames) = (65_536, 64);
        (config.streams, config.open_streams) = (8, 8);
        let agent = Link::<Agent>::new(config.clone(), a_hello(), 1, now);
        let network = Link::<Network>::new(config.clone(), 2, now);
        let mut run = Self {
            now,
            config,
            agent: End { link: agent, sent: Vec::new(), next: 0 },
            network: End { link: network, sent: Vec::new(), next: 0 },
            old: None,
            up: Vec::new(),
            down: Vec::new(),
            flows: Vec::new(),
            secrets: 1,
            offered: Vec::new(),
            lost: None,
        };
        run.exchange();
        assert!(run.agent.link.is_established() && run.network.link.is_established());
        run
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.number::<u8>() % 24 {
            0..=3 => self.agent.say(&mut self.up, 1 + choices.size(30), self.now),
            4..=7 => self.network.say(&mut self.down, 1 + choices.size(30), self.now),
            8..=11 => self.hear_at_network(choices.size(3_000)),
            12..=15 => self.hear_at_agent(choices.size(3_000)),
            16 => self.open(choices.one_of(&[Role::Agent, Role::Network])),
            17..=19 => self.write(choices),
            20 => self.read(choices),
            21 => self.wait(Duration::from_millis(choices.size(2_000) as u64)),
            22 => self.cut(choices),
            _ => {
                if !self.agent.link.is_established() || choices.number::<u8>() < 40 {
                    self.dial();
                }
            }
        }
        self.told();
        if self.lost.is_some_and(|since| self.now.since(since) > PATIENCE) {
            self.recover();
        }
    }

    fn hear_at_network(&mut self, count: usize) {
        let piece: Vec<u8> = self.up.drain(..count.min(self.up.len())).collect();
        self.network.link.handle_input(&piece, self.now);
    }

    fn hear_at_agent(&mut self, count: usize) {
        let piece: Vec<u8> = self.down.drain(..count.min(self.down.len())).collect();
        self.agent.link.handle_input(&piece, self.now);
    }

    /// Takes what both were told; the network consents.
    fn told(&mut self) {
        while let Some(event) = self.agent.link.poll_event() {
            assert!(!matches!(event, Event::Closed(_)), "the session is lost: {event:?}");
            if let Event::Resumed(_) = event {
                self.lost = None;
            }
        }
        while let Some(event) = self.network.link.poll_event() {
            let had = self.network.link.session().is_some();
            assert!(!had || !matches!(event, Event::Closed(_)), "the session is lost: {event:?}");
            if let Event::Hello(request) = event {
                self.consent(request);
            }
        }
    }

    fn consent(&mut self, request: AuthRequest) {
        self.secrets = self.secrets.wrapping_add(1);
        let mut welcome = request.welcome(SessionId([7; 16]), "local", "node-1");
        let secret = Secret::new([self.secrets; 16]);
        self.offered.push(secret.clone());
        welcome.resume = Some(ResumeOffer { secret, window: Duration::from_secs(30) });
        let Some(asked) = request.hello().resume.clone() else {
            self.network.link.accept(request, welcome, self.now);
            return;
        };
        let old = self.old.as_mut().expect("some link has the session");
        let resumed = self.network.link.resume(request, old, welcome, self.now);
        assert!(resumed.is_ok(), "RES-006: an agent that lost no secret is refused");
        self.old = None;
        self.network.next = place(asked.received);
        let session = self.network.link.session().expect("it was resumed");
        self.agent.next = place(session.processed());
    }

    fn open(&mut self, side: Role) {
        if self.flows.len() >= 12 {
            return;
        }
        let id = self.session(side).open().expect("within the grant");
        for from in [Role::Agent, Role::Network] {
            self.flows.push(Flow { id, from, written: 0, read: 0, finished: false, ended: false });
        }
    }

    fn write(&mut self, choices: &mut Choices<'_>) {
        let Some(mut flow) = self.take_flow(choices) else { return };
        let length = choices.size(20_000);
        if choices.number::<u8>() < 20 {
            flow.finish(self.session(flow.from));
        } else {
            flow.write(length, self.session(flow.from));
        }
        self.flows.push(flow);
    }

    fn read(&mut self, choices: &mut Choices<'_>) {
        let Some(mut flow) = self.take_flow(choices) else { return };
        flow.read(1 + choices.size(20_000), self.session(flow.from.peer()));
        self.flows.push(flow);
    }

    /// Lets time pass on both sides.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        let next = |run: &Self| {
            let network = run.network.link.poll_timeout();
            let old = run.old.as_ref().and_then(Link::poll_timeout);
            [run.agent.link.poll_timeout(), network, old].into_iter().flatten().map(|deadline| deadline.at).min()
        };
        self.pass(self.now);
        while let Some(at) = next(self).filter(|at| *at <= until) {
            assert!(at > self.now, "L3: it is {:?} and {at:?} is not handled", self.now);
            self.pass(at);
        }
        self.pass(until);
    }

    /// A driver hands out what is to be said before it sleeps.
    fn pass(&mut self, now: Instant) {
        self.agent.say(&mut self.up, usize::MAX, self.now);
        self.network.say(&mut self.down, usize::MAX, self.now);
        self.now = now;
        self.agent.link.handle_timeout(now);
        self.network.link.handle_timeout(now);
        if let Some(old) = &mut self.old {
            old.handle_timeout(now);
        }
        if !self.agent.link.is_established() || !self.network.link.is_established() {
            self.lost.get_or_insert(now);
        }
    }

    /// The link is gone, and one side, both, or nobody knows.
    fn cut(&mut self, choices: &mut Choices<'_>) {
        let who = choices.number::<u8>() % 4;
        if who != 1 {
            self.agent.link.handle_loss(Loss::Reset, self.now);
        }
        if who > 0 {
            self.network.link.handle_eof(false, self.now);
        }
        (self.up, self.down) = (Vec::new(), Vec::new());
        self.lost.get_or_insert(self.now);
    }

    /// The agent asks to resume over a new link; whatever was on the old one is lost.
    fn dial(&mut self) {
        self.secrets = self.secrets.wrapping_add(1);
        let seed = u64::from(self.secrets);
        let agent = Link::<Agent>::resume(&mut self.agent.link, self.config.clone(), a_hello(), seed, self.now);
        self.agent.link = agent.expect("the session can be resumed");
        let network = Link::<Network>::new(self.config.clone(), seed, self.now);
        let before = core::mem::replace(&mut self.network.link, network);
        if before.session().is_some() {
            self.old = Some(before);
        }
        (self.up, self.down) = (Vec::new(), Vec::new());
        self.lost.get_or_insert(self.now);
    }

    /// Resumes over a link that nothing happens to.
    fn recover(&mut self) {
        self.dial();
        self.exchange();
        assert!(self.agent.link.is_established(), "{:?}", self.agent.link.cause());
        assert_eq!(self.lost, None);
    }

    /// Delivers everything, until nobody has anything to say.
    fn exchange(&mut self) {
        loop {
            self.agent.say(&mut self.up, usize::MAX, self.now);
            self.hear_at_network(usize::MAX);
            self.told();
            self.network.say(&mut self.down, usize::MAX, self.now);
            if self.down.is_empty() && !self.agent.link.wants_transmit() {
                return;
            }
            self.hear_at_agent(usize::MAX);
            self.told();
        }
    }

    fn finish(mut self) {
        self.recover();
        self.steal();
        for round in 0.. {
            assert!(round < 10_000, "L9");
            let mut flows = core::mem::take(&mut self.flows);
            for flow in &mut flows {
                flow.finish(self.session(flow.from));
                flow.read(usize::MAX, self.session(flow.from.peer()));
            }
            self.flows = flows;
            self.exchange();
            if self.flows.iter().all(|flow| flow.ended) {
                break;
            }
            self.wait(Duration::from_millis(30));
        }
        for flow in &self.flows {
            assert_eq!(flow.read, flow.written, "L4");
        }
        for (side, id) in self.flows.iter().map(|flow| (flow.from, flow.id)).collect::<Vec<_>>() {
            self.session(side).release(id);
        }
        self.exchange();
        self.wait(Duration::from_millis(60));
        self.exchange();
        for side in [Role::Agent, Role::Network] {
            assert_eq!(self.session(side).left(), (0, 0, 0), "END-009");
        }
    }

    /// RES-006, RES-007: a secret whose next one was used is good for nothing, and trying harms nothing.
    fn steal(&mut self) {
        let received = self.agent.link.session().map(Session::processed).unwrap_or_default();
        let newest = self.offered.pop();
        let older = self.offered.split_off(self.offered.len().saturating_sub(3));
        for secret in older.into_iter().filter(|secret| Some(secret) != newest.as_ref()) {
            let resume = Resume { session: SessionId([7; 16]), secret, received, attempt: u64::MAX };
            let hello = encoded(&Hello { resume: Some(resume), ..a_hello() });
            let mut thief = Link::<Network>::new(self.config.clone(), 3, self.now);
            thief.handle_input(&raw(Kind::Hello.number(), 0, &hello), self.now);
            let Some(Event::Hello(request)) = thief.poll_event() else { panic!("a good HELLO") };
            let welcome = request.welcome(SessionId([7; 16]), "local", "node-1");
            let stolen = thief.resume(request, &mut self.network.link, welcome, self.now);
            assert!(stolen.is_err(), "RES-006: a used secret is good");
        }
    }

    fn check(&self) {
        for cause in [self.agent.link.cause(), self.network.link.cause()].into_iter().flatten() {
            assert!(cause.is_loss() || *cause == Cause::Local(Code::REPLACED), "{cause}");
        }
    }

    fn take_flow(&mut self, choices: &mut Choices<'_>) -> Option<Flow> {
        let place = choices.below(self.flows.len());
        (!self.flows.is_empty()).then(|| self.flows.swap_remove(place))
    }

    fn session(&mut self, side: Role) -> &mut dyn App {
        match side {
            Role::Agent => self.agent.link.session_mut().expect("it is kept"),
            Role::Network => {
                let link = self.old.as_mut().unwrap_or(&mut self.network.link);
                link.session_mut().expect("it is kept")
            }
        }
    }
}

impl<S: Side> End<S> {
    /// Says up to so many frames; what was said before on another link is said again octet by octet.
    fn say(&mut self, wire: &mut Vec<u8>, most: usize, now: Instant) {
        let before = wire.len();
        for _ in 0..most {
            let Some(frame) = self.link.poll_transmit(now) else { break };
            frame.write(wire);
            if !frame.is_counted() {
                continue;
            }
            match self.sent.get(self.next) {
                Some(earlier) => assert_eq!(*earlier, frame, "RES-005: frame {} is another", self.next),
                None => self.sent.push(frame),
            }
            self.next += 1;
        }
        self.link.handle_written(wire.len() - before, 0, now);
    }
}

impl Flow {
    fn write(&mut self, length: usize, app: &mut dyn App) {
        if self.finished {
            return;
        }
        match app.write(self.id, pattern(self.id.number(), self.from, self.written, length)) {
            Ok(count) => self.written += count,
            // The peer's application cannot write on what it was not told of.
            Err(error) => assert!(matches!(error, WriteError::Blocked | WriteError::Closed), "{error}"),
        }
    }

    fn finish(&mut self, app: &mut dyn App) {
        if !self.finished {
            self.finished = app.finish(self.id).is_ok();
        }
    }

    fn read(&mut self, most: usize, app: &mut dyn App) {
        loop {
            match app.read(self.id, most) {
                Ok(Some(chunk)) => {
                    let expected = pattern(self.id.number(), self.from, self.read, chunk.len());
                    assert!(chunk == expected, "L4: stream {} from {}", self.id, self.read);
                    self.read += chunk.len();
                    assert!(self.read <= self.written, "L4: stream {}", self.id);
                }
                Ok(None) => {
                    assert!(self.finished && self.read == self.written, "L4: an end too early");
                    self.ended = true;
                    return;
                }
                Err(error) => {
                    assert!(matches!(error, ReadError::Blocked | ReadError::Closed), "{error}");
                    return;
                }
            }
        }
    }
}

/// What an application does, whichever side it is.
trait App {
    fn open(&mut self) -> Option<StreamId>;
    fn read(&mut self, id: StreamId, most: usize) -> Result<Option<bytes::Bytes>, ReadError>;
    fn write(&mut self, id: StreamId, octets: bytes::Bytes) -> Result<usize, WriteError>;
    fn finish(&mut self, id: StreamId) -> Result<(), WriteError>;
    fn release(&mut self, id: StreamId);
    /// Returns what is left: streams, octets to send, octets kept.
    fn left(&self) -> (u64, u64, u64);
}

impl<S: Side> App for Session<S> {
    fn open(&mut self) -> Option<StreamId> {
        Self::open(self, Open::default()).ok()
    }
    fn read(&mut self, id: StreamId, most: usize) -> Result<Option<bytes::Bytes>, ReadError> {
        Self::read(self, id, most)
    }
    fn write(&mut self, id: StreamId, mut octets: bytes::Bytes) -> Result<usize, WriteError> {
        Self::write(self, id, &mut octets)
    }
    fn finish(&mut self, id: StreamId) -> Result<(), WriteError> {
        Self::finish(self, id)
    }
    fn release(&mut self, id: StreamId) {
        Self::release(self, id);
    }
    fn left(&self) -> (u64, u64, u64) {
        let stats = self.stats();
        (stats.streams_live, stats.queued, stats.retained)
    }
}

fn place(count: u64) -> usize {
    usize::try_from(count).expect("it is small")
}

/// How long a run leaves a session without a link that works: less than it is kept for.
const PATIENCE: Duration = Duration::from_secs(12);
