//! Threads that use a session while its task is driven: whatever the interleaving, no wakeup is lost and nobody waits for ever.
//!
//! One thread drives the tasks of both sides, as a runtime's worker does; the applications are other threads. The scheduler
//! switches at every lock of the driver, and says so when everybody waits. Time stands still: only wakeups move anything.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use core::{
    future::poll_fn,
    task::{Context, Poll, Waker},
};
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::{Arc, Mutex, OnceLock},
};

use adit_core::{
    Code, Config, Event, Instant, Link, Open, SessionId,
    driver::{Clock, Handle, PollEvent, StreamHandle, Task, Timer, Transport},
    side::{Agent, Network},
    testing::a_hello,
    tls::{Tls, client_config, server_config},
};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use shuttle::{future::block_on, thread};

/// Octets written and echoed while the task runs: every blocked read and write is told.
#[test]
fn whoever_waits_for_a_stream_is_woken() {
    explore(|| {
        let (agent, network, runtime) = start();
        let far = thread::spawn(move || {
            let stream = accept(&agent);
            stream.accept();
            while let Some(octets) = block_on(poll_fn(|cx| stream.poll_read(usize::MAX, cx))).unwrap() {
                write(&stream, octets);
            }
            stream.finish().unwrap();
            block_on(agent.closed())
        });

        let stream = network.open(Open::default()).unwrap();
        block_on(poll_fn(|cx| stream.poll_accepted(cx))).unwrap();
        let reader = thread::spawn({
            let network = network.clone();
            let mut stream = Some(network.open(Open::default()).unwrap());
            drop(stream.take()); // a stream that nobody wants any more, beside the one in use
            move || drop(network)
        });
        write(&stream, vec![7; LENGTH].into());
        stream.finish().unwrap();
        let mut echoed = 0;
        while let Some(octets) = block_on(poll_fn(|cx| stream.poll_read(usize::MAX, cx))).unwrap() {
            echoed += octets.len();
        }
        assert_eq!(echoed, LENGTH);
        reader.join().unwrap();
        network.close(Code::NO_ERROR, "done");
        far.join().unwrap();
        block_on(network.gone());
        drop(network);
        runtime.join().unwrap();
    });
}

/// One thread reads and another writes the same stream.
#[test]
fn a_reader_and_a_writer_of_one_stream_are_both_woken() {
    explore(|| {
        let (agent, network, runtime) = start();
        let far = thread::spawn(move || {
            let stream = accept(&agent);
            write(&stream, vec![9; LENGTH].into());
            stream.finish().unwrap();
            let read = read_all(&stream);
            (read, block_on(agent.closed()))
        });
        let stream = Arc::new(network.open(Open::default()).unwrap());
        let writer = thread::spawn({
            let stream = Arc::clone(&stream);
            move || {
                write(&stream, vec![7; LENGTH].into());
                stream.finish().unwrap();
            }
        });
        assert_eq!(read_all(&stream), LENGTH);
        writer.join().unwrap();
        drop(stream);
        // Who closes at once may cut off what is on its way; the far side has told that it has everything by its end.
        let read = thread::spawn(move || {
            network.close(Code::NO_ERROR, "");
            block_on(network.gone());
        });
        let (far, _) = far.join().unwrap();
        assert!(far <= LENGTH);
        read.join().unwrap();
        runtime.join().unwrap();
    });
}

/// The last handle is dropped while the task is about to sleep: the session ends all the same.
#[test]
fn a_session_that_everybody_left_ends() {
    explore(|| {
        let (agent, network, runtime) = start();
        let stream = network.open(Open::default()).unwrap();
        let leavers = [
            thread::spawn(move || drop(network)),
            thread::spawn(move || drop(stream)),
            thread::spawn(move || drop(agent)),
        ];
        for leaver in leavers {
            leaver.join().unwrap();
        }
        runtime.join().unwrap();
    });
}

/// Many wait for the end, and one brings it.
#[test]
fn everybody_who_waits_for_the_end_is_told() {
    explore(|| {
        let (agent, network, runtime) = start();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let (agent, network) = (agent.clone(), network.clone());
                thread::spawn(move || (block_on(agent.closed()), block_on(network.closed())))
            })
            .collect();
        agent.close(Code::NO_ERROR, "");
        for waiter in waiters {
            waiter.join().unwrap();
        }
        block_on(agent.gone());
        block_on(network.gone());
        runtime.join().unwrap();
    });
}

/// Runs a scene many times, each with another interleaving; SCHEDULES says how many.
fn explore(scene: impl Fn() + Send + Sync + 'static) {
    let schedules = std::env::var("SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(100);
    let scene = Arc::new(scene);
    let random = Arc::clone(&scene);
    shuttle::check_random(move || random(), schedules);
    shuttle::check_pct(move || scene(), schedules, 3);
}

/// Returns both handles of a session that is established, and the thread that drives it until it is over.
fn start() -> (Handle<Agent>, Handle<Network>, thread::JoinHandle<()>) {
    let (client, server) = tls();
    let [up, down] = [0, 1].map(|_| Arc::new(Mutex::new(Pipe::default())));
    let (mut near, mut far) = (End(Arc::clone(&down), Arc::clone(&up)), End(up, down));
    let link = Link::<Agent>::new(small(Config::agent()), a_hello(), 1, NOW);
    let (mut agents, agent) = Task::new(link, client, Box::new(Still));
    let link = Link::<Network>::new(small(Config::network()), 2, NOW);
    let (mut networks, network) = Task::new(link, server, Box::new(Still));
    let runtime = thread::spawn(move || {
        let mut over = [false, false];
        block_on(poll_fn(|cx| {
            over[0] = over[0] || agents.poll_drive(&mut near, &mut Still, cx).is_ready();
            over[1] = over[1] || networks.poll_drive(&mut far, &mut Still, cx).is_ready();
            if over == [true, true] { Poll::Ready(()) } else { Poll::Pending }
        }));
    });
    let request = block_on(poll_fn(|cx| network.poll_event(cx)));
    let Some(PollEvent::Event(Event::Hello(request))) = request else { panic!("{request:?}") };
    let welcome = request.welcome(SessionId([7; 16]), "", "");
    network.accept(request, welcome);
    block_on(agent.established()).unwrap();
    (agent, network, runtime)
}

fn accept(agent: &Handle<Agent>) -> StreamHandle {
    loop {
        match block_on(poll_fn(|cx| agent.poll_event(cx))) {
            Some(PollEvent::Stream(stream)) => return stream,
            Some(PollEvent::Event(_)) => {}
            None => panic!("the session is over"),
        }
    }
}

fn write(stream: &StreamHandle, mut octets: bytes::Bytes) {
    while !octets.is_empty() {
        block_on(poll_fn(|cx| stream.poll_write(&mut octets, cx))).unwrap();
    }
}

fn read_all(stream: &StreamHandle) -> usize {
    let mut length = 0;
    while let Ok(Some(octets)) = block_on(poll_fn(|cx| stream.poll_read(usize::MAX, cx))) {
        length += octets.len();
    }
    length
}

/// Windows and queues that are soon full.
fn small(mut config: Config) -> Config {
    (config.window, config.window_eager, config.window_max) = (1_024, 1_024, 2_048);
    (config.send_stream, config.send_total) = (16_376, 16_376);
    config.frame = 8_192;
    config.resume_window = core::time::Duration::ZERO;
    config
}

/// One direction of a transport. Its lock is never held while anybody is woken.
#[derive(Debug, Default)]
struct Pipe {
    octets: VecDeque<u8>,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// One end: where it reads and where it writes.
struct End(Arc<Mutex<Pipe>>, Arc<Mutex<Pipe>>);

impl Transport for End {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.lock().unwrap();
        let count = buffer.len().min(pipe.octets.len());
        if count == 0 && !pipe.closed {
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        for (place, octet) in buffer.iter_mut().zip(pipe.octets.drain(..count)) {
            *place = octet;
        }
        let writer = pipe.writer.take();
        drop(pipe);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut pipe = self.1.lock().unwrap();
        let room = CAPACITY.saturating_sub(pipe.octets.len());
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let before = pipe.octets.len();
        let octets = buffers.iter().flat_map(|buffer| buffer.iter().copied()).take(room);
        pipe.octets.extend(octets);
        let (count, reader) = (pipe.octets.len() - before, pipe.reader.take());
        drop(pipe);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.1.lock().unwrap();
        pipe.closed = true;
        let reader = pipe.reader.take();
        drop(pipe);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

/// A clock that stands still, and a timer that never rings.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        NOW
    }
}

impl Timer for Still {
    fn poll_until(&mut self, at: Instant, _: &mut Context<'_>) -> Poll<()> {
        if at <= NOW { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn tls() -> (Tls, Tls) {
    static CONFIGS: OnceLock<(Arc<ClientConfig>, Arc<ServerConfig>)> = OnceLock::new();
    let (client, server) = CONFIGS.get_or_init(|| {
        let provider = || Arc::new(ring::default_provider());
        let made = rcgen::generate_simple_self_signed(["network.test".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = server_config(vec![made.cert.der().clone()], key, provider()).unwrap();
        (Arc::new(client_config(roots, provider()).unwrap()), Arc::new(server))
    });
    let client = Tls::client(Arc::clone(client), "network.test".try_into().unwrap()).unwrap();
    (client, Tls::server(Arc::clone(server)).unwrap())
}

const NOW: Instant = Instant::from_nanos(1_000_000_000);
/// What a pipe holds, in octets: less than a frame.
const CAPACITY: usize = 3_000;
/// What is written, in octets: several windows.
const LENGTH: usize = 20_000;
