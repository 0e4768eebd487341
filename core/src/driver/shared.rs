//! What the task and the handles share: the link, and who waits for what.

use alloc::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    vec::Vec,
};
use core::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, Waker},
};
use std::{io::IoSlice, sync::PoisonError};

use bytes::Bytes;
use sync::{AtomicUsize, Mutex, MutexGuard};

use super::{Clock, Failure};
use crate::{Cause, Code, Event, Instant, Link, Open, ReadError, Side, StreamId, WriteError, tls::Peer};

/// The locks: those of the standard library, or of a scheduler that tries interleavings (core/shuttle).
mod sync {
    #[cfg(not(shuttle))]
    pub(super) use core::sync::atomic::AtomicUsize;
    #[cfg(shuttle)]
    pub(super) use shuttle::sync::{Mutex, MutexGuard, atomic::AtomicUsize};
    #[cfg(not(shuttle))]
    pub(super) use std::sync::{Mutex, MutexGuard};
}

/// A link behind a lock.
#[derive(Debug)]
pub(super) struct Shared<S: Side> {
    state: Mutex<State<S>>,
    clock: Arc<dyn Clock>,
    /// Handles of the link and of its streams. Not the count of the `Arc`: that one falls only after the last handle
    /// could have woken the task.
    handles: AtomicUsize,
}

#[derive(Debug)]
pub(super) struct State<S: Side> {
    pub(super) link: Link<S>,
    /// The task that drives the link.
    pub(super) driver: TaskId,
    /// Where the tasks went that drove it before and have not noticed yet.
    pub(super) forward: BTreeMap<TaskId, Arc<Shared<S>>>,
    /// The task, while it sleeps.
    pub(super) task: Option<Waker>,
    pub(super) cause: Option<Cause>,
    /// What failed below the link.
    pub(super) failure: Option<Failure>,
    /// When TLS was agreed upon below the link, if the task did that.
    pub(super) secured: Option<Instant>,
    /// What TLS said of the peer, once the link is secured.
    pub(super) peer: Option<Arc<Peer>>,
    /// Streams that the peer opened and nobody has taken.
    pub(super) incoming: VecDeque<StreamId>,
    pub(super) listener: Option<Waker>,
    pub(super) closed: Waiters,
    /// Whether the task is gone, and the transport with it.
    pub(super) gone: bool,
    pub(super) leaving: Waiters,
    /// Who waits for the outcome of a handshake.
    pub(super) shaking: Waiters,
    /// Whether the link was silent when that was told last, and whether that is news.
    pub(super) silent: (bool, bool),
    waiting: BTreeMap<StreamId, Waiting>,
}

/// Any number of tasks that wait for one thing, each until it has it or is dropped.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    wakers: BTreeMap<u64, Waker>,
    next: u64,
}

impl Waiters {
    /// Returns who waits, once.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Waker> + use<> {
        core::mem::take(&mut self.wakers).into_values()
    }
}

/// Waits until `ready` finds in the state what it looks for. Dropped, it leaves nothing behind.
pub(super) struct Wait<'a, S: Side, T> {
    shared: &'a Shared<S>,
    waiters: fn(&mut State<S>) -> &mut Waiters,
    ready: fn(&State<S>) -> Option<T>,
    number: Option<u64>,
}

impl<'a, S: Side, T> Wait<'a, S, T> {
    pub(super) const fn new(
        shared: &'a Shared<S>,
        waiters: fn(&mut State<S>) -> &mut Waiters,
        ready: fn(&State<S>) -> Option<T>,
    ) -> Self {
        Self { shared, waiters, ready, number: None }
    }
}

impl<S: Side, T> Future for Wait<'_, S, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        let mut state = this.shared.lock();
        if let Some(found) = (this.ready)(&state) {
            return Poll::Ready(found);
        }
        let waiters = (this.waiters)(&mut state);
        let number = *this.number.get_or_insert_with(|| {
            waiters.next += 1;
            waiters.next
        });
        waiters.wakers.insert(number, cx.waker().clone());
        Poll::Pending
    }
}

impl<S: Side, T> Drop for Wait<'_, S, T> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let gone = (self.waiters)(&mut self.shared.lock()).wakers.remove(&number);
            drop(gone); // outside of the lock: a waker may do anything when it goes
        }
    }
}

/// Who waits for something on one stream.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) read: Option<Waker>,
    pub(super) write: Option<Waker>,
    pub(super) accepted: Option<Waker>,
}

/// Names a task among all of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskId(u64);

impl TaskId {
    /// Returns a name that no other task has.
    pub(super) fn next() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self(COUNT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A task's way to the link that it drives, wherever that was moved.
#[derive(Debug)]
pub(super) struct Seat<S: Side> {
    shared: Arc<Shared<S>>,
    task: TaskId,
}

impl<S: Side> Seat<S> {
    pub(super) const fn new(shared: Arc<Shared<S>>, task: TaskId) -> Self {
        Self { shared, task }
    }

    /// Runs `act` on the link that is this task's, which may have been moved since it last looked.
    pub(super) fn with<T>(&mut self, act: impl FnOnce(&mut State<S>) -> T) -> T {
        loop {
            let mut state = self.shared.lock();
            let next = if state.driver == self.task { None } else { state.forward.remove(&self.task) };
            debug_assert!(next.is_some() || state.driver == self.task, "who is replaced is told where to go");
            let Some(next) = next else { return act(&mut state) };
            drop(state);
            self.shared = next;
        }
    }

    /// Returns whether nobody is left who could want anything of the link.
    pub(super) fn is_abandoned(&self) -> bool {
        self.shared.handles.load(Ordering::Acquire) == 0
    }
}

impl<S: Side> Shared<S> {
    pub(super) fn new(link: Link<S>, driver: TaskId, clock: Arc<dyn Clock>) -> Self {
        Self {
            state: Mutex::new(State {
                link,
                driver,
                forward: BTreeMap::new(),
                task: None,
                cause: None,
                failure: None,
                secured: None,
                peer: None,
                incoming: VecDeque::new(),
                listener: None,
                closed: Waiters::default(),
                gone: false,
                leaving: Waiters::default(),
                shaking: Waiters::default(),
                silent: (false, false),
                waiting: BTreeMap::new(),
            }),
            clock,
            handles: AtomicUsize::new(0),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<S>> {
        // A panic under the lock is a bug of one session; the others must not learn of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `act` on the state, then wakes the task if there is something to write.
    pub(super) fn act<T>(&self, act: impl FnOnce(&mut State<S>) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state);
        let task = if state.link.wants_transmit() { state.task.take() } else { None };
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
        result
    }
}

impl<S: Side> State<S> {
    /// Moves news of streams to those who wait for it; whom to wake is added to `wake`.
    pub(super) fn settle(&mut self, wake: &mut Vec<Waker>) {
        while let Some(event) = self.link.poll_stream_event() {
            match event {
                Event::Opened(id) => {
                    self.incoming.push_back(id);
                    wake.extend(self.listener.take());
                }
                Event::Readable(id) => self.wake(id, |waiting| waiting.read.take(), wake),
                Event::Writable(id) => self.wake(id, |waiting| waiting.write.take(), wake),
                Event::Accepted(id) => self.wake(id, |waiting| waiting.accepted.take(), wake),
                Event::Hello(_)
                | Event::Established(_)
                | Event::Suspended(_)
                | Event::Resumed(_)
                | Event::Bind(_)
                | Event::Unbind(_)
                | Event::Withheld(_)
                | Event::CommandResult(_)
                | Event::Bound(_)
                | Event::Rejected(_)
                | Event::Unbound(_)
                | Event::Command(_)
                | Event::Revocations(_)
                | Event::GoAway(_)
                | Event::Closed(_) => debug_assert!(false, "only news of streams"),
            }
        }
        if self.link.has_control_event() {
            wake.extend(self.listener.take());
        }
        if self.silent.0 != self.link.is_silent() {
            self.silent = (!self.silent.0, true);
            wake.extend(self.listener.take());
        }
        if self.link.outcome().is_some() {
            wake.extend(self.shaking.take());
        }
        if self.cause.is_none() && self.link.ended().is_some() {
            self.cause = self.link.ended().cloned();
            wake.extend(self.listener.take());
            wake.extend(self.closed.take());
        }
    }

    fn wake(&mut self, id: StreamId, who: impl FnOnce(&mut Waiting) -> Option<Waker>, wake: &mut Vec<Waker>) {
        let Some(waiting) = self.waiting.get_mut(&id) else { return };
        wake.extend(who(waiting));
        if waiting.read.is_none() && waiting.write.is_none() && waiting.accepted.is_none() {
            self.waiting.remove(&id);
        }
    }

    fn wait(&mut self, id: StreamId, who: impl FnOnce(&mut Waiting) -> &mut Option<Waker>, cx: &Context<'_>) {
        let place = who(self.waiting.entry(id).or_default());
        match place {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => *place = Some(cx.waker().clone()),
        }
    }
}

/// The streams of a link, whichever side it is.
pub(super) trait Port: core::fmt::Debug + Send + Sync {
    fn poll_read(&self, id: StreamId, most: usize, cx: &Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>>;
    fn poll_write(&self, id: StreamId, data: &mut Bytes, cx: &Context<'_>) -> Poll<Result<usize, WriteError>>;
    fn poll_copy(&self, id: StreamId, data: &[IoSlice<'_>], cx: &Context<'_>) -> Poll<Result<usize, WriteError>>;
    fn poll_accepted(&self, id: StreamId, cx: &Context<'_>) -> Poll<Result<(), Code>>;
    fn finish(&self, id: StreamId) -> Result<(), WriteError>;
    fn reset(&self, id: StreamId, code: Code);
    fn reset_unfinished(&self, id: StreamId, code: Code);
    fn stop(&self, id: StreamId, code: Code);
    fn accept(&self, id: StreamId);
    fn release(&self, id: StreamId);
    fn take_open(&self, id: StreamId) -> Option<Open>;
    /// Counts one handle more.
    fn join(&self);
    /// Counts one handle less; the task learns when it was the last.
    fn leave(&self);
}

impl<S: Side> Port for Shared<S> {
    fn poll_read(&self, id: StreamId, most: usize, cx: &Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        self.act(|state| {
            let Some(session) = state.link.session_mut() else { return Poll::Ready(Err(ReadError::Closed)) };
            match session.read(id, most) {
                Err(ReadError::Blocked) => {
                    state.wait(id, |waiting| &mut waiting.read, cx);
                    Poll::Pending
                }
                result => Poll::Ready(result),
            }
        })
    }

    fn poll_write(&self, id: StreamId, data: &mut Bytes, cx: &Context<'_>) -> Poll<Result<usize, WriteError>> {
        self.act(|state| {
            let Some(session) = state.link.session_mut() else { return Poll::Ready(Err(WriteError::Closed)) };
            match session.write(id, data) {
                Err(WriteError::Blocked) => {
                    state.wait(id, |waiting| &mut waiting.write, cx);
                    Poll::Pending
                }
                result => Poll::Ready(result),
            }
        })
    }

    fn poll_copy(&self, id: StreamId, data: &[IoSlice<'_>], cx: &Context<'_>) -> Poll<Result<usize, WriteError>> {
        self.act(|state| {
            let Some(session) = state.link.session_mut() else { return Poll::Ready(Err(WriteError::Closed)) };
            let length = data.iter().map(|part| part.len()).sum();
            match session.write_with(id, length, |room| gather(data, room)) {
                Err(WriteError::Blocked) => {
                    state.wait(id, |waiting| &mut waiting.write, cx);
                    Poll::Pending
                }
                result => Poll::Ready(result),
            }
        })
    }

    fn poll_accepted(&self, id: StreamId, cx: &Context<'_>) -> Poll<Result<(), Code>> {
        self.act(|state| {
            let Some(session) = state.link.session() else { return Poll::Ready(Err(Code::SESSION_LOST)) };
            match session.acceptance(id) {
                Some(result) => Poll::Ready(result),
                None => {
                    state.wait(id, |waiting| &mut waiting.accepted, cx);
                    Poll::Pending
                }
            }
        })
    }

    fn finish(&self, id: StreamId) -> Result<(), WriteError> {
        self.act(|state| state.link.session_mut().map_or(Err(WriteError::Closed), |session| session.finish(id)))
    }

    fn reset(&self, id: StreamId, code: Code) {
        self.act(|state| state.link.session_mut().map(|session| session.reset(id, code)));
    }

    fn reset_unfinished(&self, id: StreamId, code: Code) {
        self.act(|state| state.link.session_mut().map(|session| session.reset_unfinished(id, code)));
    }

    fn stop(&self, id: StreamId, code: Code) {
        self.act(|state| state.link.session_mut().map(|session| session.stop(id, code)));
    }

    fn accept(&self, id: StreamId) {
        self.act(|state| state.link.session_mut().map(|session| session.accept_stream(id)));
    }

    fn release(&self, id: StreamId) {
        self.act(|state| {
            state.waiting.remove(&id);
            state.link.session_mut().map(|session| session.release(id))
        });
    }

    fn take_open(&self, id: StreamId) -> Option<Open> {
        self.lock().link.session_mut().and_then(|session| session.take_open(id))
    }

    fn join(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    fn leave(&self) {
        if self.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            let task = self.lock().task.take();
            if let Some(task) = task {
                task.wake();
            }
        }
    }
}

/// Returns the first `count` octets of `parts` in one piece.
fn gather(parts: &[IoSlice<'_>], count: usize) -> Bytes {
    let mut left = count;
    let mut whole = Vec::with_capacity(count);
    for part in parts {
        let taken = part.get(..left.min(part.len())).unwrap_or_default();
        whole.extend_from_slice(taken);
        left -= taken.len();
    }
    Bytes::from(whole)
}
