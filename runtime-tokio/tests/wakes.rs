//! No wake-up is lost: applications that run only when they are woken finish, at one instant of a clock that stands still.

#[allow(dead_code, reason = "each test file uses its part")]
mod rig;

use core::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Waker},
};
use std::{rc::Rc, sync::Arc, task::Wake};

use adit_core::{
    Code, Config, Duration, ReadError, Side, WriteError,
    driver::{Handle, StreamHandle},
};
use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use rig::{Fault, Rig};

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// L4, L9, and the end: whatever single applications do, the others finish whole, and nothing is left.
    #[test]
    fn applications_that_run_when_woken_finish(
        flows in vec((direction(), direction()), 1..7),
        width in prop_oneof![1usize..200, Just(64usize << 10)],
        window in 1_024u32..20_000,
    ) {
        let rig = Rig::with(width, small(Config::agent(), window), small(Config::network(), window));
        rig.establish();
        let mut tasks = Tasks::default();
        let mut outcomes = Vec::new();
        for (down, up) in flows {
            let (near, far) = rig.open();
            let (near, far) = (Rc::new(near), Rc::new(far));
            outcomes.push(tasks.flow(&down, &near, &far));
            outcomes.push(tasks.flow(&up, &far, &near));
        }

        while rig.agent.run() | rig.network.run() | tasks.run() {}

        prop_assert_eq!(tasks.left(), 0, "somebody was not woken");
        for outcome in &outcomes {
            prop_assert!(outcome.is_sound(), "{outcome:?}");
        }
        let idle = [rig.network().stats(), rig.agent().stats()].map(|stats| stats.expect("established"));
        prop_assert_eq!(idle.map(|stats| (stats.streams_live, stats.queued)), [(0, 0); 2]);
        let Rig { mut agent, mut network, .. } = rig;
        (agent.handle, network.handle) = (None, None);
        while agent.run() | network.run() {}
        prop_assert!(agent.is_gone() && network.is_gone(), "a task waits for nobody");
    }

    /// L4, L10: whatever happens to the transport, everybody who waits is told, once, and what was read is a beginning.
    #[test]
    fn a_transport_that_fails_is_told_to_everybody(
        flows in vec((direction(), direction()), 1..7),
        width in prop_oneof![20usize..200, Just(64usize << 10)],
        (after, fault) in (0usize..60_000, prop_oneof![Just(Fault::Cut), Just(Fault::Flip), Just(Fault::Hole)]),
    ) {
        let rig = Rig::with(width, small(Config::agent(), 8_000), small(Config::network(), 8_000));
        rig.establish();
        let (mut tasks, mut outcomes) = (Tasks::default(), Vec::new());
        for (down, up) in flows {
            let (near, far) = rig.open();
            let (near, far) = (Rc::new(near), Rc::new(far));
            outcomes.push(tasks.flow(&down, &near, &far));
            outcomes.push(tasks.flow(&up, &far, &near));
        }
        let (closed, also_closed) = (tasks.closed(&rig.agent().clone()), tasks.closed(&rig.network().clone()));
        rig.break_down(after, fault);

        while rig.agent.run() | rig.network.run() | tasks.run() {}
        for _ in 0..60 {
            rig.run_for(Duration::from_secs(1));
            while rig.agent.run() | rig.network.run() | tasks.run() {}
        }

        for outcome in &outcomes {
            prop_assert!(outcome.is_beginning(), "{outcome:?}");
        }
        if !rig.agent.is_gone() {
            // Less was said than it takes to fail.
            prop_assert_eq!(rig.agent().cause(), None);
            prop_assert_eq!(tasks.left(), 2);
            return Ok(());
        }
        prop_assert!(rig.network.is_gone());
        prop_assert_eq!(tasks.left(), 0, "somebody was not told");
        prop_assert!(closed.get() && also_closed.get());
    }
}

/// What goes one way through a stream.
#[derive(Clone, Debug)]
struct Direction {
    length: usize,
    /// What is written and read at once.
    piece: usize,
    /// Where the writer or the reader loses interest.
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Whole,
    Reset(usize),
    Stop(usize),
}

#[derive(Debug)]
struct Outcome {
    octets: usize,
    whole: bool,
    read: Rc<Cell<usize>>,
    finished: Rc<Cell<bool>>,
    error: Rc<RefCell<Option<String>>>,
}

/// Futures, each with a waker of its own.
#[derive(Default)]
struct Tasks(Vec<(Arc<Flag>, Option<Task>)>);

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Flag(AtomicBool);

impl Tasks {
    fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        self.0.push((Arc::new(Flag(AtomicBool::new(true))), Some(Box::pin(task))));
    }

    /// Runs who was woken; returns whether anybody was.
    fn run(&mut self) -> bool {
        let mut ran = false;
        for (flag, place) in &mut self.0 {
            let Some(task) = place.as_mut().filter(|_| flag.0.swap(false, Ordering::Relaxed)) else { continue };
            ran = true;
            let waker = Waker::from(Arc::clone(flag));
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                *place = None;
            }
        }
        ran
    }

    /// Waits for the end of a link.
    fn closed<S: Side>(&mut self, handle: &Handle<S>) -> Rc<Cell<bool>> {
        let (told, handle) = (Rc::new(Cell::new(false)), handle.clone());
        let tells = Rc::clone(&told);
        self.spawn(async move {
            handle.closed().await;
            handle.gone().await;
            tells.set(true);
        });
        told
    }

    fn left(&self) -> usize {
        self.0.iter().filter(|(_, task)| task.is_some()).count()
    }

    /// Starts a writer at one end and a reader at the other.
    fn flow(&mut self, direction: &Direction, from: &Rc<StreamHandle>, to: &Rc<StreamHandle>) -> Outcome {
        let outcome = Outcome {
            octets: direction.length,
            whole: matches!(direction.end, End::Whole),
            read: Rc::default(),
            finished: Rc::default(),
            error: Rc::default(),
        };
        self.spawn(write(direction.clone(), Rc::clone(from)));
        let told = (Rc::clone(&outcome.read), Rc::clone(&outcome.finished), Rc::clone(&outcome.error));
        self.spawn(read(direction.clone(), Rc::clone(to), told));
        outcome
    }
}

async fn write(direction: Direction, stream: Rc<StreamHandle>) {
    let mut written = 0;
    while written < direction.length {
        if matches!(direction.end, End::Reset(at) if at <= written) {
            return stream.reset(Code::APPLICATION);
        }
        let length = direction.piece.min(direction.length - written);
        let mut piece = Bytes::from((written..written + length).map(octet).collect::<Vec<u8>>());
        while !piece.is_empty() {
            match poll_fn(|cx| stream.poll_write(&mut piece, cx)).await {
                Ok(count) => written += count,
                Err(WriteError::Stopped(_) | WriteError::Lost(_)) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
    let _ = stream.finish();
}

type Told = (Rc<Cell<usize>>, Rc<Cell<bool>>, Rc<RefCell<Option<String>>>);

async fn read(direction: Direction, stream: Rc<StreamHandle>, (read, finished, error): Told) {
    loop {
        if matches!(direction.end, End::Stop(at) if at <= read.get()) {
            return stream.stop(Code::APPLICATION);
        }
        match poll_fn(|cx| stream.poll_read(direction.piece, cx)).await {
            Ok(Some(piece)) => {
                let expected: Vec<u8> = (read.get()..read.get() + piece.len()).map(octet).collect();
                if piece != expected {
                    *error.borrow_mut() = Some(format!("other octets after {}", read.get()));
                }
                read.set(read.get() + piece.len());
            }
            Ok(None) => return finished.set(true),
            Err(ReadError::Reset(_) | ReadError::Lost(_)) => return,
            Err(other) => {
                *error.borrow_mut() = Some(other.to_string());
                return;
            }
        }
    }
}

impl Outcome {
    fn is_sound(&self) -> bool {
        self.is_beginning() && (!self.whole || self.finished.get())
    }

    fn is_beginning(&self) -> bool {
        let (read, finished) = (self.read.get(), self.finished.get());
        self.error.borrow().is_none() && read <= self.octets && (!finished || read == self.octets)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn direction() -> impl Strategy<Value = Direction> {
    let end = prop_oneof![
        4 => Just(End::Whole),
        1 => (0usize..20_000).prop_map(End::Reset),
        1 => (0usize..20_000).prop_map(End::Stop),
    ];
    (0usize..40_000, 500usize..20_000, end).prop_map(|(length, piece, end)| Direction { length, piece, end })
}

/// The octet at an offset; neighbours differ, and so do frames.
fn octet(offset: usize) -> u8 {
    u8::try_from(offset % 251).unwrap_or(0)
}

/// So small that every limit is reached.
fn small(config: Config, window: u32) -> Config {
    let mut config = config;
    (config.window, config.window_eager, config.window_max, config.pool) = (window, window, 40_000, 60_000);
    (config.streams, config.open_streams) = (8, 8);
    (config.send_stream, config.send_total) = (16_376, 30_000);
    config
}
