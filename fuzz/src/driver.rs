//! The pump over transports that take and give as they like, and fail: octets arrive whole, and whoever waits is woken.

mod rig;
mod wild;

use core::task::{Context, Poll, Waker};
use std::sync::{Arc, Mutex};

use adit_core::{
    AuthRequest, Config, Duration, Event, Instant, Link, Open, ReadError, ResumeOffer, Role, Secret, SessionId,
    StreamId, Welcome, WriteError,
    driver::{Clock, Handle, PollEvent, StreamHandle, Task},
    side::{Agent, Network},
    testing::a_hello,
};

use crate::{Choices, model::pattern, tls::pair};
use rig::{FOREVER, Fault, Flag, Hand, Pipe, Runner, break_pipe, transport};
use wild::Wild;

/// Two applications over two pumps, and transports of any narrowness that fail at any place.
pub fn driver(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let mut run = Run::new(&mut choices);
    for _ in 0..200 {
        if choices.is_over() {
            break;
        }
        run.step(&mut choices);
        run.told();
    }
    run.finish(&mut choices);
}

struct Run {
    clock: Hand,
    agent: Handle<Agent>,
    /// The handle that has the session; before there is one, that of the first link.
    network: Handle<Network>,
    /// The handle of a link that is being made.
    next: Option<Handle<Network>>,
    agent_news: Arc<Flag>,
    network_news: Arc<Flag>,
    next_news: Arc<Flag>,
    agents: Vec<Runner<Agent>>,
    networks: Vec<Runner<Network>>,
    pipes: [Arc<Mutex<Pipe>>; 2],
    sizes: Vec<usize>,
    capacity: usize,
    streams: Vec<Stream>,
    wild: Wild,
    secrets: u8,
    lost: Option<Instant>,
}

/// A stream as both its applications hold it.
struct Stream {
    id: StreamId,
    opener: Role,
    from_agent: Flow,
    from_network: Flow,
    agent: Option<StreamHandle>,
    network: Option<StreamHandle>,
}

struct Flow {
    written: usize,
    read: usize,
    finished: bool,
    ended: bool,
    readable: Arc<Flag>,
    writable: Arc<Flag>,
}

impl Run {
    fn new(choices: &mut Choices<'_>) -> Self {
        let sizes: Vec<usize> = (0..choices.between(1, 6)).map(|_| choices.size(20_000)).chain([1_500]).collect();
        let capacity = choices.one_of(&[65_536, 1, 100, 5_000]);
        let clock = Hand::new();
        let (near, far, pipes) = transport(capacity, &sizes);
        let ((client, server), now) = (pair(), clock.now());
        let link = Link::<Agent>::new(config(Config::agent()), a_hello(), 1, now);
        let (task, agent) = Task::new(link, client, Box::new(clock.clone()));
        let agents = vec![Runner::new(task, near, &clock)];
        let link = Link::<Network>::new(config(Config::network()), 2, now);
        let (task, network) = Task::new(link, server, Box::new(clock.clone()));
        let networks = vec![Runner::new(task, far, &clock)];
        let mut run = Self {
            clock,
            agent,
            network,
            next: None,
            agent_news: Flag::new(),
            network_news: Flag::new(),
            next_news: Flag::new(),
            agents,
            networks,
            pipes,
            sizes,
            capacity,
            streams: Vec::new(),
            wild: Wild::default(),
            secrets: 1,
            lost: None,
        };
        run.settle();
        assert!(run.agent.stats().is_some(), "established");
        run
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let most = (200 * self.capacity).min(30_000); // octet by octet takes its time
        match choices.number::<u8>() % 20 {
            0 => self.open(choices.one_of(&[Role::Agent, Role::Network])),
            1..=4 => self.with_one(choices, |stream, side, choices| stream.write(side, choices.size(most))),
            5..=7 => self.with_one(choices, |stream, side, choices| stream.read(side, 1 + choices.size(30_000))),
            8 => self.with_one(choices, |stream, side, _| stream.finish(side)),
            9..=11 => _ = self.run_agents(),
            12..=14 => _ = self.run_networks(),
            15 => self.settle(),
            16 => self.pass(Duration::from_millis(choices.size(2_000) as u64)),
            17 => {
                let fault = choices.one_of(&[Fault::Cut, Fault::Error, Fault::Flip, Fault::Zero]);
                break_pipe(&self.pipes[choices.below(2)], fault);
            }
            18 if choices.coin() => self.dial(),
            18 => self.wild.act(&self.agent, &self.network, most, choices),
            _ => {
                if choices.number::<u8>() < 20 {
                    self.fall_silent();
                }
            }
        }
        if self.agent.is_parked() || self.network.is_parked() {
            let now = self.clock.now();
            self.lost.get_or_insert(now);
        }
        if self.lost.is_some_and(|since| self.clock.now().since(since) > PATIENCE) {
            self.recover();
        }
    }

    fn open(&mut self, opener: Role) {
        if self.streams.len() >= 5 {
            return;
        }
        let handle = match opener {
            Role::Agent => self.agent.open(Open::default()),
            Role::Network => self.network.open(Open::default()),
        };
        let handle = handle.expect("within the grant");
        let mut stream = Stream::new(handle.id(), opener);
        *stream.held(opener) = Some(handle);
        self.streams.push(stream);
    }

    fn with_one(&mut self, choices: &mut Choices<'_>, act: impl FnOnce(&mut Stream, Role, &mut Choices<'_>)) {
        let (place, side) = (choices.below(self.streams.len()), choices.one_of(&[Role::Agent, Role::Network]));
        if let Some(stream) = self.streams.get_mut(place) {
            act(stream, side, choices);
        }
    }

    /// Takes what both were told, if somebody woke them.
    fn told(&mut self) {
        while self.agent_news.take() {
            let waker = Waker::from(Arc::clone(&self.agent_news));
            while let Poll::Ready(Some(event)) = self.agent.poll_event(&Context::from_waker(&waker)) {
                match event {
                    PollEvent::Stream(handle) => self.accept(Role::Agent, handle),
                    PollEvent::Event(Event::Resumed(_)) => self.lost = None,
                    PollEvent::Event(event) => self.wild.on_agent_event(event, &self.agent),
                }
            }
        }
        while self.network_news.take() {
            let waker = Waker::from(Arc::clone(&self.network_news));
            while let Poll::Ready(Some(event)) = self.network.poll_event(&Context::from_waker(&waker)) {
                match event {
                    PollEvent::Stream(handle) => self.accept(Role::Network, handle),
                    PollEvent::Event(Event::Hello(request)) => {
                        let welcome = self.welcome(&request);
                        self.network.accept(request, welcome);
                    }
                    PollEvent::Event(event) => self.wild.on_network_event(event, &self.network),
                }
            }
        }
        while self.next.is_some() && self.next_news.take() {
            self.consent();
        }
    }

    /// Takes what a link that is being made was told.
    fn consent(&mut self) {
        let waker = Waker::from(Arc::clone(&self.next_news));
        let Some(next) = self.next.clone() else { return };
        while let Poll::Ready(Some(event)) = next.poll_event(&Context::from_waker(&waker)) {
            if let PollEvent::Event(Event::Hello(request)) = event {
                let welcome = self.welcome(&request);
                let resumed = next.resume(request, &self.network, welcome);
                assert!(resumed.is_ok() || next.cause().is_some(), "RES-006: an agent that lost no secret is refused");
                self.next = None;
                self.network_news.raise(); // who consents looks
                return;
            }
        }
    }

    fn welcome(&mut self, request: &AuthRequest) -> Welcome {
        self.secrets = self.secrets.wrapping_add(1);
        let resume = ResumeOffer { secret: Secret::new([self.secrets; 16]), window: Duration::from_secs(30) };
        Welcome { resume: Some(resume), ..request.welcome(SessionId([7; 16]), "local", "node-1") }
    }

    fn accept(&mut self, side: Role, handle: StreamHandle) {
        if Wild::is_wild(&handle) {
            self.wild.streams.push(handle);
            return;
        }
        let stream = self.streams.iter_mut().find(|stream| stream.id == handle.id()).expect("somebody opened it");
        assert!(stream.opener != side && stream.held(side).is_none(), "told again");
        *stream.held(side) = Some(handle);
    }

    fn run_agents(&self) -> bool {
        self.agents.iter().fold(false, |ran, runner| runner.run() | ran)
    }

    fn run_networks(&self) -> bool {
        self.networks.iter().fold(false, |ran, runner| runner.run() | ran)
    }

    /// Runs every task until none was woken.
    fn settle(&mut self) {
        for polls in 0.. {
            assert!(polls < 500_000, "a task wakes itself for ever");
            if !(self.run_agents() | self.run_networks()) {
                break;
            }
            self.told();
        }
        self.agents.retain(|runner| !runner.is_over());
        self.networks.retain(|runner| !runner.is_over());
    }

    /// Lets time pass, with every timer that rings in it.
    fn pass(&mut self, time: Duration) {
        let until = self.clock.now() + time;
        self.settle();
        loop {
            let agents = self.agents.iter().filter_map(Runner::due);
            let due = agents.chain(self.networks.iter().filter_map(Runner::due)).min();
            let Some(due) = due.filter(|due| *due <= until) else { break };
            self.ring(due.max(self.clock.now()));
        }
        self.ring(until);
    }

    fn ring(&mut self, now: Instant) {
        self.clock.set(now);
        self.agents.iter().for_each(|runner| runner.ring(now));
        self.networks.iter().for_each(|runner| runner.ring(now));
        self.settle();
    }

    /// The agent asks to resume over a new transport, whatever became of the old.
    fn dial(&mut self) {
        let (near, far, pipes) = transport(self.capacity, &self.sizes);
        let ((client, server), now) = (pair(), self.clock.now());
        self.secrets = self.secrets.wrapping_add(1);
        let seed = self.secrets.into();
        let task = self.agent.resume(client, config(Config::agent()), a_hello(), seed).expect("it can be resumed");
        self.agents.push(Runner::new(task, near, &self.clock));
        let link = Link::<Network>::new(config(Config::network()), seed, now);
        let (task, handle) = Task::new(link, server, Box::new(self.clock.clone()));
        self.networks.push(Runner::new(task, far, &self.clock));
        (self.next, self.pipes) = (Some(handle), pipes);
        self.next_news.raise();
        self.lost.get_or_insert(now);
    }

    /// Resumes over a transport that nothing happens to.
    fn recover(&mut self) {
        self.dial();
        self.settle();
        self.pass(Duration::from_millis(1));
        assert_eq!(self.lost, None, "{:?} {:?}", self.agent.take_failure(), self.network.take_failure());
    }

    /// Nothing comes through any more and nobody says so: the agent notices.
    fn fall_silent(&mut self) {
        self.pipes.iter().for_each(|pipe| break_pipe(pipe, Fault::Hole));
        for _ in 0..50 {
            if self.agent.is_parked() {
                break;
            }
            self.pass(Duration::from_secs(1));
        }
        assert!(self.agent.is_parked(), "HB-004");
        self.recover();
    }

    /// Everything that was written arrives, to those who only look when they are woken; then both let go, and all tasks end.
    fn finish(mut self, choices: &mut Choices<'_>) {
        self.recover();
        for round in 0.. {
            self.told();
            let mut done = true;
            for stream in &mut self.streams {
                for side in [Role::Agent, Role::Network] {
                    stream.finish(side);
                    stream.read(side, usize::MAX);
                    done &= stream.from(side).ended;
                }
            }
            self.settle();
            if done {
                break;
            }
            assert!(round < 250, "L9: only a heartbeat wakes somebody"); // less than ten seconds
            self.pass(Duration::from_millis(30));
        }
        for stream in &self.streams {
            for flow in [&stream.from_agent, &stream.from_network] {
                assert_eq!(flow.read, flow.written, "L4");
            }
        }
        self.streams.clear();
        self.wild.streams.clear();
        self.pass(Duration::from_millis(100));
        for stats in [self.agent.stats(), self.network.stats()].into_iter().flatten() {
            assert_eq!((stats.streams_live, stats.queued, stats.retained), (0, 0, 0), "END-009");
        }
        self.wild.part(&self.agent, &self.network, choices);
        let Self { agent, network, next, mut agents, mut networks, clock, .. } = self;
        drop((agent, network, next));
        for _ in 0..1_000 {
            let due = agents.iter().filter_map(Runner::due).chain(networks.iter().filter_map(Runner::due)).min();
            while agents.iter().fold(false, |ran, runner| runner.run() | ran)
                | networks.iter().fold(false, |ran, runner| runner.run() | ran)
            {}
            agents.retain(|runner| !runner.is_over());
            networks.retain(|runner| !runner.is_over());
            let Some(due) = due.filter(|due| due.since(clock.now()) < FOREVER) else { break };
            clock.set(due.max(clock.now()));
            agents.iter().for_each(|runner| runner.ring(due));
            networks.iter().for_each(|runner| runner.ring(due));
        }
        assert_eq!((agents.len(), networks.len()), (0, 0), "nobody is left, and a task goes on");
    }
}

impl Stream {
    fn new(id: StreamId, opener: Role) -> Self {
        let (from_agent, from_network) = (Flow::new(), Flow::new());
        Self { id, opener, from_agent, from_network, agent: None, network: None }
    }

    const fn held(&mut self, side: Role) -> &mut Option<StreamHandle> {
        match side {
            Role::Agent => &mut self.agent,
            Role::Network => &mut self.network,
        }
    }

    const fn from(&mut self, side: Role) -> &mut Flow {
        match side {
            Role::Agent => &mut self.from_agent,
            Role::Network => &mut self.from_network,
        }
    }

    fn write(&mut self, side: Role, length: usize) {
        let (id, flow) = (self.id.number(), self.from(side));
        if flow.finished || !flow.writable.take() {
            return;
        }
        let waker = Waker::from(Arc::clone(&flow.writable));
        let mut octets = pattern(id, side, flow.written, length);
        let Some(handle) = self.held(side) else {
            waker.wake();
            return;
        };
        match handle.poll_write(&mut octets, &Context::from_waker(&waker)) {
            Poll::Ready(Ok(count)) => {
                self.from(side).written += count;
                waker.wake();
            }
            Poll::Ready(Err(error)) => assert_eq!(error, WriteError::Closed, "stream {id}"),
            Poll::Pending => {}
        }
    }

    fn finish(&mut self, side: Role) {
        let Some(handle) = self.held(side) else { return };
        let result = handle.finish();
        assert_eq!(result, Ok(()));
        self.from(side).finished = true;
    }

    /// Reads what there is, if the reader was woken.
    fn read(&mut self, side: Role, most: usize) {
        let (id, from) = (self.id.number(), side.peer());
        let Some(handle) = self.held(side).take() else { return };
        let flow = self.from(from);
        if !flow.ended && flow.readable.take() {
            let waker = Waker::from(Arc::clone(&flow.readable));
            loop {
                match handle.poll_read(most, &Context::from_waker(&waker)) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(Some(chunk))) => {
                        assert!(chunk == pattern(id, from, flow.read, chunk.len()), "L4: stream {id}");
                        flow.read += chunk.len();
                        assert!(flow.read <= flow.written, "L4: stream {id}");
                    }
                    Poll::Ready(Ok(None)) => {
                        assert!(flow.finished && flow.read == flow.written, "L4: an end too early");
                        flow.ended = true;
                        break;
                    }
                    Poll::Ready(Err(error)) => {
                        assert_eq!(error, ReadError::Closed, "stream {id}");
                        break;
                    }
                }
            }
        }
        *self.held(side) = Some(handle);
    }
}

impl Flow {
    fn new() -> Self {
        let (readable, writable) = (Flag::new(), Flag::new());
        Self { written: 0, read: 0, finished: false, ended: false, readable, writable }
    }
}

/// Small enough that a run reaches the limits.
fn config(mut config: Config) -> Config {
    (config.window, config.window_eager, config.window_max) = (5_000, 5_000, 80_000);
    (config.send_stream, config.send_total) = (20_000, 40_000);
    (config.retain_octets, config.retain_frames) = (65_536, 64);
    config
}

/// How long a run leaves a session without a link that works: less than it is kept for.
const PATIENCE: Duration = Duration::from_secs(12);
