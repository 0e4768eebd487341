//! What a runtime would provide: pipes whose every read and write has the size that a list says, a clock that stands still, and
//! tasks that run when they were woken and at no other time.

use core::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::{Context, Poll, Waker},
};
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::{Arc, Mutex, MutexGuard},
    task::Wake,
};

use adit_core::{
    Duration, Instant, Side,
    driver::{Clock, Task, Timer, Transport},
};

/// The clock's hand, in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Hand(Arc<AtomicU64>);

/// A task, driven or parked.
pub(super) struct Runner<S: Side>(Arc<Runs<S>>);

struct Runs<S: Side> {
    stage: Mutex<Stage<S>>,
    woken: AtomicBool,
}

enum Stage<S: Side> {
    Driven(Task<S>, End, Bell),
    /// The transport is gone.
    Parked(Task<S>, Bell),
    Over,
}

/// Whether somebody who waits was woken.
#[derive(Debug)]
pub(super) struct Flag(AtomicBool);

struct Bell {
    clock: Hand,
    due: Option<Instant>,
}

/// One end of two pipes.
pub(super) struct End {
    input: Arc<Mutex<Pipe>>,
    output: Arc<Mutex<Pipe>>,
}

/// One direction of a transport.
pub(super) struct Pipe {
    octets: VecDeque<u8>,
    capacity: usize,
    /// What is taken and given at once, in turn; zero is not now, but soon.
    sizes: Vec<usize>,
    turn: usize,
    pub(super) fault: Option<Fault>,
    /// Whether the writer is done.
    closed: bool,
    waiting: Vec<Waker>,
}

/// What goes wrong with a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It ends.
    Cut,
    /// The operating system says so.
    Error,
    /// It takes nothing more, and calls that a success.
    Zero,
    /// The next octet is another.
    Flip,
    /// It takes all and gives nothing.
    Hole,
}

/// Returns the two ends of a transport, and its pipes: towards the second and towards the first.
pub(super) fn transport(capacity: usize, sizes: &[usize]) -> (End, End, [Arc<Mutex<Pipe>>; 2]) {
    let pipes = [0, 1].map(|turn| {
        let (octets, sizes, waiting) = (VecDeque::new(), sizes.to_vec(), Vec::new());
        Arc::new(Mutex::new(Pipe { octets, capacity, sizes, turn, fault: None, closed: false, waiting }))
    });
    let [up, down] = &pipes;
    let near = End { input: Arc::clone(down), output: Arc::clone(up) };
    let far = End { input: Arc::clone(up), output: Arc::clone(down) };
    (near, far, pipes)
}

/// Lets this happen to a pipe.
pub(super) fn break_pipe(pipe: &Mutex<Pipe>, fault: Fault) {
    let mut pipe = pipe.lock().expect("no panic");
    pipe.fault = Some(fault);
    wake(pipe);
}

impl Hand {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_000_000_000)))
    }

    pub(super) fn set(&self, now: Instant) {
        self.0.store(now.as_nanos(), Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl<S: Side> Runner<S> {
    pub(super) fn new(task: Task<S>, end: End, clock: &Hand) -> Self {
        let bell = Bell { clock: clock.clone(), due: None };
        Self(Arc::new(Runs { stage: Mutex::new(Stage::Driven(task, end, bell)), woken: AtomicBool::new(true) }))
    }

    /// Polls the task once if it was woken; returns whether it was.
    pub(super) fn run(&self) -> bool {
        let mut stage = self.0.stage.lock().expect("no panic");
        if !self.0.woken.swap(false, Ordering::Relaxed) {
            return false;
        }
        let waker = Waker::from(Arc::clone(&self.0));
        let cx = &mut Context::from_waker(&waker);
        *stage = match core::mem::replace(&mut *stage, Stage::Over) {
            Stage::Driven(mut task, mut end, mut bell) => {
                bell.due = None;
                if task.poll_drive(&mut end, &mut bell, cx).is_pending() {
                    Stage::Driven(task, end, bell)
                } else {
                    self.0.woken.store(true, Ordering::Relaxed);
                    Stage::Parked(task, bell)
                }
            }
            Stage::Parked(mut task, mut bell) => {
                bell.due = None;
                if task.poll_parked(&mut bell, cx).is_pending() { Stage::Parked(task, bell) } else { Stage::Over }
            }
            Stage::Over => Stage::Over,
        };
        true
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(*self.0.stage.lock().expect("no panic"), Stage::Over)
    }

    /// Returns when its timer rings.
    pub(super) fn due(&self) -> Option<Instant> {
        match &*self.0.stage.lock().expect("no panic") {
            Stage::Driven(_, _, bell) | Stage::Parked(_, bell) => bell.due,
            Stage::Over => None,
        }
    }

    /// Wakes it if its timer rings.
    pub(super) fn ring(&self, now: Instant) {
        if self.due().is_some_and(|due| due <= now) {
            self.0.woken.store(true, Ordering::Relaxed);
        }
    }
}

impl<S: Side> Wake for Runs<S> {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Relaxed);
    }
}

impl Flag {
    /// Returns one that is up: the first look is always worth it.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    pub(super) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.raise();
    }
}

impl Timer for Bell {
    fn poll_until(&mut self, at: Instant, _: &mut Context<'_>) -> Poll<()> {
        self.due = Some(at);
        if at <= self.clock.now() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Pipe {
    /// Returns how much may move at once; `None` for nothing yet, and then the waker is told at once.
    fn turn(&mut self, cx: &Context<'_>) -> Option<usize> {
        self.turn = (self.turn + 1) % self.sizes.len();
        let size = self.sizes[self.turn];
        if size == 0 {
            cx.waker().wake_by_ref();
        }
        (size > 0).then_some(size)
    }
}

impl Transport for End {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.input.lock().expect("no panic");
        match pipe.fault {
            Some(Fault::Cut) => return Poll::Ready(Ok(0)),
            Some(Fault::Error) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Some(Fault::Hole) => pipe.octets.clear(),
            Some(Fault::Flip) if !pipe.octets.is_empty() => {
                pipe.octets.iter_mut().take(1).for_each(|octet| *octet ^= 0x10);
                pipe.fault = None;
            }
            Some(Fault::Flip | Fault::Zero) | None => {}
        }
        if pipe.octets.is_empty() {
            if pipe.closed {
                return Poll::Ready(Ok(0));
            }
            pipe.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(size) = pipe.turn(cx) else { return Poll::Pending };
        let count = size.min(buffer.len()).min(pipe.octets.len());
        buffer.iter_mut().zip(pipe.octets.drain(..count)).for_each(|(to, from)| *to = from);
        wake(pipe);
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut pipe = self.output.lock().expect("no panic");
        if matches!(pipe.fault, Some(Fault::Cut | Fault::Error)) || pipe.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if pipe.fault == Some(Fault::Zero) {
            return Poll::Ready(Ok(0));
        }
        let room = pipe.capacity.saturating_sub(pipe.octets.len());
        if room == 0 {
            pipe.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(size) = pipe.turn(cx) else { return Poll::Pending };
        let before = pipe.octets.len();
        let octets = buffers.iter().flat_map(|buffer| buffer.iter().copied()).take(room.min(size));
        pipe.octets.extend(octets);
        let count = pipe.octets.len() - before;
        wake(pipe);
        Poll::Ready(Ok(count))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.output.lock().expect("no panic");
        pipe.closed = true;
        wake(pipe);
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        for pipe in [&self.input, &self.output] {
            let mut pipe = pipe.lock().expect("no panic");
            pipe.closed = true;
            wake(pipe);
        }
    }
}

fn wake(mut pipe: MutexGuard<'_, Pipe>) {
    let waiting = core::mem::take(&mut pipe.waiting);
    drop(pipe);
    waiting.into_iter().for_each(Waker::wake);
}

/// A timer that rings later than this is none for a run.
pub(super) const FOREVER: Duration = Duration::from_secs(3_600);
