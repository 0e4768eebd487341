//! Two links in one thread: pipes of any narrowness, a clock that stands still, and tasks that run when they are told to.

use core::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
};
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::{Arc, Mutex},
    task::Wake,
};

use adit_core::{
    AgentId, Close, Code, Config, Duration, Event, Heartbeat, Hello, Instant, Limits, Link, Open, ReadError,
    ResumeOffer, Secret, SessionId, Side, Welcome,
    driver::{Clock, Handle, PollEvent, StreamHandle, Task, Timer, Transport},
    side,
    tls::Tls,
};
use rustls::{RootCertStore, crypto::aws_lc_rs, pki_types::PrivateKeyDer};

/// An agent and a network.
pub(crate) struct Rig {
    pub(crate) agent: Runner<side::Agent>,
    pub(crate) network: Runner<side::Network>,
    clock: Hand,
    up: Arc<Mutex<Pipe>>,
    down: Arc<Mutex<Pipe>>,
}

/// One side: its task, and the handle to it.
pub(crate) struct Runner<S: Side> {
    pub(crate) handle: Option<Handle<S>>,
    runs: Arc<Runs<S>>,
}

struct Runs<S: Side> {
    state: Mutex<Option<(Task<S>, End, Bell)>>,
    woken: AtomicBool,
    within_wake: AtomicBool,
    polls: AtomicUsize,
}

/// The clock's hand, in nanoseconds.
#[derive(Clone, Debug)]
struct Hand(Arc<AtomicU64>);

struct Bell {
    clock: Hand,
    due: Option<Instant>,
}

/// One end of two pipes.
struct End {
    input: Arc<Mutex<Pipe>>,
    output: Arc<Mutex<Pipe>>,
}

struct Pipe {
    octets: VecDeque<u8>,
    /// What it holds, and what is read from it at once.
    width: usize,
    closed: bool,
    broken: bool,
    aborted: bool,
    waiting: Vec<Waker>,
    fault: Option<(usize, Fault)>,
}

/// What happens to a pipe after so many octets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It ends.
    Cut,
    /// An octet is another.
    Flip,
    /// Nothing comes out any more, and nothing says so.
    Hole,
}

/// A task that does not run.
pub(crate) struct Nobody;

impl Wake for Nobody {
    fn wake(self: Arc<Self>) {}
}

impl Rig {
    /// Joins two sides by pipes of this width; nothing has run.
    pub(crate) fn new(width: usize) -> Self {
        Self::with(width, Config::agent(), Config::network())
    }

    /// Joins two sides that are so configured.
    pub(crate) fn with(width: usize, agent: Config, network: Config) -> Self {
        let issued = rcgen::generate_simple_self_signed(["network.test".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(issued.cert.der().clone()).expect("a root");
        let client = adit_tokio::client_config(roots, Arc::clone(&provider)).expect("TLS 1.3");
        let server =
            adit_tokio::server_config(vec![issued.cert.der().clone()], key, provider).expect("a key that fits");
        let name = "network.test".try_into().expect("a name");
        let client = Tls::client(Arc::new(client), name).expect("a configuration that fits");
        let server = Tls::server(Arc::new(server)).expect("a configuration that fits");

        let clock = Hand(Arc::new(AtomicU64::new(1_000_000_000)));
        let now = clock.now();
        let (up, down) = (Pipe::new(width.min(64 << 10)), Pipe::new(width.min(64 << 10)));
        let near = End { input: Arc::clone(&down), output: Arc::clone(&up) };
        let far = End { input: Arc::clone(&up), output: Arc::clone(&down) };
        Self {
            agent: Runner::new(Link::<side::Agent>::new(agent, hello(), 1, now), client, near, &clock),
            network: Runner::new(Link::<side::Network>::new(network, 2, now), server, far, &clock),
            clock,
            up,
            down,
        }
    }

    /// Joins two sides and lets them establish a session.
    pub(crate) fn established(width: usize) -> Self {
        let rig = Self::new(width);
        rig.establish();
        rig
    }

    /// Lets this happen to what the network says, after so many octets more.
    pub(crate) fn break_down(&self, after: usize, fault: Fault) {
        self.down.lock().expect("no panic").fault = Some((after, fault));
    }

    /// Ends what the agent says; it may go on reading.
    pub(crate) fn end_up(&self) {
        let mut up = self.up.lock().expect("no panic");
        up.closed = true;
        wake(up);
    }

    /// Tells whether the agent has given its transport up, and whether the network has.
    pub(crate) fn aborted(&self) -> (bool, bool) {
        (self.up.lock().expect("no panic").aborted, self.down.lock().expect("no panic").aborted)
    }

    /// Lets both establish a session.
    pub(crate) fn establish(&self) {
        self.establish_with(None);
    }

    /// Lets both establish a session that keeps what is not acknowledged.
    pub(crate) fn establish_resumable(&self) {
        self.establish_with(Some(ResumeOffer { secret: Secret::new([9; 16]), window: Duration::from_secs(30) }));
    }

    fn establish_with(&self, resume: Option<ResumeOffer>) {
        self.run();
        let Poll::Ready(Some(PollEvent::Event(Event::Hello(request)))) = self.network().poll_event(&noop()) else {
            panic!("no HELLO");
        };
        let welcome = request.welcome(SessionId([7; 16]), "local", "node-1");
        self.network().accept(request, Welcome { resume, ..welcome });
        self.run();
        let established = self.agent().poll_event(&noop());
        assert!(matches!(established, Poll::Ready(Some(PollEvent::Event(Event::Established(_))))), "{established:?}");
    }

    /// Opens a stream from the network; returns it as the network and as the agent have it.
    pub(crate) fn open(&self) -> (StreamHandle, StreamHandle) {
        let near = self.network().open(Open::default()).expect("a stream");
        self.run();
        let Poll::Ready(Some(PollEvent::Stream(far))) = self.agent().poll_event(&noop()) else { panic!("no stream") };
        (near, far)
    }

    /// Runs both sides until neither has anything to do at this instant.
    pub(crate) fn run(&self) {
        while self.agent.run() | self.network.run() {}
    }

    /// Lets time pass, with every timer that rings in it.
    pub(crate) fn run_for(&self, time: Duration) {
        let until = self.clock.now() + time;
        self.run();
        while let Some(due) = self.agent.due().into_iter().chain(self.network.due()).min().filter(|due| *due <= until) {
            self.clock.0.store(due.as_nanos(), Ordering::Relaxed);
            self.agent.ring(due);
            self.network.ring(due);
            self.run();
        }
        self.clock.0.store(until.as_nanos(), Ordering::Relaxed);
    }

    /// Lets time pass for the network alone.
    pub(crate) fn run_network_for(&self, time: Duration) {
        let until = self.clock.now() + time;
        self.network.run();
        while let Some(due) = self.network.due().filter(|due| *due <= until) {
            self.clock.0.store(due.as_nanos(), Ordering::Relaxed);
            self.network.ring(due);
            self.network.run();
        }
        self.clock.0.store(until.as_nanos(), Ordering::Relaxed);
    }

    /// Returns how often both tasks ran.
    pub(crate) fn polls(&self) -> usize {
        self.agent.polls() + self.network.polls()
    }

    pub(crate) fn agent(&self) -> &Handle<side::Agent> {
        self.agent.handle.as_ref().expect("not dropped")
    }

    pub(crate) fn network(&self) -> &Handle<side::Network> {
        self.network.handle.as_ref().expect("not dropped")
    }
}

impl<S: Side> Runner<S> {
    fn new(link: Link<S>, tls: Tls, end: End, clock: &Hand) -> Self {
        let (task, handle) = Task::new(link, tls, Box::new(clock.clone()));
        let state = Mutex::new(Some((task, end, Bell { clock: clock.clone(), due: None })));
        let (woken, within_wake, polls) = (AtomicBool::new(true), AtomicBool::new(false), AtomicUsize::new(0));
        Self { handle: Some(handle), runs: Arc::new(Runs { state, woken, within_wake, polls }) }
    }

    /// Runs the task if it was woken; returns whether it was.
    pub(crate) fn run(&self) -> bool {
        self.runs.run()
    }

    /// Returns how often the task ran.
    pub(crate) fn polls(&self) -> usize {
        self.runs.polls.load(Ordering::Relaxed)
    }

    /// Runs the task within the call that wakes it, for as long as `act` takes.
    pub(crate) fn run_within_the_wake(&self, act: impl FnOnce()) {
        self.runs.within_wake.store(true, Ordering::Relaxed);
        act();
        self.runs.within_wake.store(false, Ordering::Relaxed);
    }

    /// Returns whether the task is over, and its transport dropped.
    pub(crate) fn is_gone(&self) -> bool {
        self.runs.state.lock().expect("no panic").is_none()
    }

    fn due(&self) -> Option<Instant> {
        self.runs.state.lock().expect("no panic").as_ref().and_then(|(.., bell)| bell.due)
    }

    fn ring(&self, now: Instant) {
        if self.due().is_some_and(|due| due <= now) {
            self.runs.woken.store(true, Ordering::Relaxed);
        }
    }
}

impl<S: Side> Runs<S> {
    fn run(self: &Arc<Self>) -> bool {
        let Ok(mut state) = self.state.try_lock() else { return false };
        let mut ran = false;
        while self.woken.swap(false, Ordering::Relaxed) {
            let Some((task, end, bell)) = state.as_mut() else { break };
            ran = true;
            self.polls.fetch_add(1, Ordering::Relaxed);
            bell.due = None;
            let waker = Waker::from(Arc::clone(self));
            if task.poll_drive(end, bell, &mut Context::from_waker(&waker)).is_ready() {
                *state = None;
            }
        }
        ran
    }
}

impl<S: Side> Wake for Runs<S> {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Relaxed);
        if self.within_wake.load(Ordering::Relaxed) {
            self.run();
        }
    }
}

impl Clock for Hand {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl Timer for Bell {
    fn poll_until(&mut self, at: Instant, _: &mut Context<'_>) -> Poll<()> {
        self.due = Some(at);
        if at <= self.clock.now() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Pipe {
    fn new(width: usize) -> Arc<Mutex<Self>> {
        let octets = VecDeque::new();
        Arc::new(Mutex::new(Self {
            octets,
            width,
            closed: false,
            broken: false,
            aborted: false,
            waiting: Vec::new(),
            fault: None,
        }))
    }
}

impl Transport for End {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.input.lock().expect("no panic");
        if pipe.octets.is_empty() && !pipe.closed {
            pipe.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        let mut count = pipe.octets.len().min(pipe.width).min(buffer.len());
        match pipe.fault {
            Some((0, Fault::Hole)) => return Poll::Pending,
            Some((0, Fault::Cut)) => {
                (pipe.broken, count) = (true, 0);
            }
            Some((0, Fault::Flip)) => {
                pipe.fault = None;
                pipe.octets.iter_mut().take(1).for_each(|octet| *octet ^= 0x10);
            }
            Some((after, fault)) => {
                count = count.min(after);
                pipe.fault = Some((after - count, fault));
            }
            None => {}
        }
        buffer.iter_mut().zip(pipe.octets.drain(..count)).for_each(|(to, from)| *to = from);
        wake(pipe);
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut pipe = self.output.lock().expect("no panic");
        if pipe.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = pipe.width - pipe.octets.len();
        if room == 0 {
            pipe.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        let octets: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.iter().copied()).take(room).collect();
        pipe.octets.extend(&octets);
        wake(pipe);
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.output.lock().expect("no panic");
        pipe.closed = true;
        wake(pipe);
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {
        self.output.lock().expect("no panic").aborted = true;
    }
}

impl Drop for End {
    fn drop(&mut self) {
        for pipe in [&self.input, &self.output] {
            let mut pipe = pipe.lock().expect("no panic");
            (pipe.closed, pipe.broken) = (true, true);
            wake(pipe);
        }
    }
}

fn wake(mut pipe: std::sync::MutexGuard<'_, Pipe>) {
    let waiting = core::mem::take(&mut pipe.waiting);
    drop(pipe);
    waiting.into_iter().for_each(Waker::wake);
}

/// Reads all that has arrived; the flag says whether the end has.
pub(crate) fn read(stream: &StreamHandle) -> (Vec<u8>, bool) {
    let mut octets = Vec::new();
    loop {
        match stream.poll_read(usize::MAX, &noop()) {
            Poll::Ready(Ok(Some(chunk))) => octets.extend_from_slice(&chunk),
            Poll::Ready(Ok(None)) => return (octets, true),
            Poll::Pending | Poll::Ready(Err(ReadError::Closed)) => return (octets, false),
            Poll::Ready(Err(error)) => panic!("{error}"),
        }
    }
}

pub(crate) fn close(code: Code, text: &str) -> Close {
    Close { code, text: text.into() }
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn hello() -> Hello {
    Hello {
        versions: vec![],
        agent: AgentId([1; 16]),
        incarnation: 1,
        token: Secret::new(*b"token"),
        software: "test".into(),
        metadata: String::new(),
        heartbeat: Heartbeat { interval: Duration::ZERO, tolerance: Duration::ZERO },
        limits: Limits { frame: 0, window: 0, streams: 0 },
        resume: None,
        resume_window: Duration::ZERO,
        lane: 0,
    }
}
