//! Handles to a link that a task drives.

use alloc::{sync::Arc, vec::Vec};
use core::task::{Context, Poll, Waker};

use bytes::Bytes;
use std::io::IoSlice;

use super::shared::{Port, Seat, Shared, State, TaskId, Wait};
use super::{Failure, Task};
use crate::{
    AnswerError, AuthRequest, Bind, BindError, BindId, BindRequest, Cause, Code, Command, CommandResult, Config,
    Duration, Event, Hello, Instant, Link, Loss, Open, OpenError, ReadError, Refusal, RevocationsError, Side, Stats,
    StreamId, Unbind, Welcome, Withheld, WriteError, side,
    tls::{Peer, Tls},
};

/// A link and its session; clones are the same link.
#[derive(Debug)]
pub struct Handle<S: Side> {
    pub(super) shared: Arc<Shared<S>>,
}

impl<S: Side> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl<S: Side> Drop for Handle<S> {
    fn drop(&mut self) {
        self.shared.leave(); // the last one ends the session
    }
}

/// What [`Handle::poll_event`] gives.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "events are few and moved once")]
pub enum PollEvent {
    /// Something that concerns the session as a whole; never one about a single stream.
    Event(Event),
    /// The peer opened a stream.
    Stream(StreamHandle),
}

impl<S: Side> Handle<S> {
    pub(super) fn new(shared: Arc<Shared<S>>) -> Self {
        shared.join();
        Self { shared }
    }

    /// Opens a stream; data may be written at once.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Closed`] also before the session is established.
    pub fn open(&self, open: Open) -> Result<StreamHandle, OpenError> {
        let id = self.shared.act(|state| match state.link.session_mut() {
            Some(session) => session.open(open),
            None => Err(OpenError::Closed),
        })?;
        Ok(self.stream(id))
    }

    /// Returns the next event; `None` after [`Event::Closed`]. One task at a time may wait.
    pub fn poll_event(&self, cx: &Context<'_>) -> Poll<Option<PollEvent>> {
        let mut state = self.shared.lock();
        // A stream may have come in the same read as the consent or the bind that it belongs to: those are told first.
        if let Some(event) = state.link.poll_control_event() {
            return Poll::Ready(Some(PollEvent::Event(event)));
        }
        if let Some(id) = state.incoming.pop_front() {
            drop(state);
            return Poll::Ready(Some(PollEvent::Stream(self.stream(id))));
        }
        if let Some(event) = state.link.poll_closed_event() {
            return Poll::Ready(Some(PollEvent::Event(event)));
        }
        if state.cause.is_some() {
            return Poll::Ready(None);
        }
        state.listener = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until the session has ended and returns why. Any number of tasks may wait.
    pub async fn closed(&self) -> Cause {
        Wait::new(&self.shared, |state| &mut state.closed, |state| state.cause.clone()).await
    }

    /// Waits until the handshake of the present link is done.
    ///
    /// # Errors
    /// Why it was lost; the session may go on, see [`Self::is_parked`].
    pub async fn established(&self) -> Result<(), Cause> {
        Wait::new(&self.shared, |state| &mut state.shaking, |state| state.link.outcome()).await
    }

    /// Returns whether the link is lost and the session waits for another.
    pub fn is_parked(&self) -> bool {
        self.shared.lock().link.is_parked()
    }

    /// Returns for how long the session has been without a link, in all.
    pub fn waited(&self) -> Duration {
        let now = self.shared.now();
        self.shared.lock().link.session().map_or(Duration::ZERO, |session| session.waited(now))
    }

    /// Waits until the task is gone: what the link said last is written, or never will be. Any number of tasks may wait.
    pub async fn gone(&self) {
        Wait::new(&self.shared, |state| &mut state.leaving, |state| state.gone.then_some(())).await;
    }

    /// Returns when TLS was agreed upon below the present link: not while it is under way, nor where it was secured before.
    pub fn secured_at(&self) -> Option<Instant> {
        self.shared.lock().secured
    }

    /// Returns why the session ended, if it has.
    pub fn cause(&self) -> Option<Cause> {
        self.shared.lock().cause.clone()
    }

    /// Ends the session at once; the peer is told.
    pub fn close(&self, code: Code, text: &str) {
        self.settled(|state, now| state.link.close(code, text, now));
    }

    /// Announces the end; see [`Session::drain`](crate::Session::drain).
    pub fn drain(&self, code: Code, retry_after: Option<Duration>, text: &str) {
        self.settled(|state, now| {
            if let Some(session) = state.link.session_mut() {
                session.drain(code, retry_after, text, now);
            }
        });
    }

    /// Returns the counters, once there is a session.
    pub fn stats(&self) -> Option<Stats> {
        self.shared.lock().link.session().map(crate::Session::stats)
    }

    /// Returns what TLS said of the peer when the present link, or the last there was, was secured.
    pub fn peer(&self) -> Option<Arc<Peer>> {
        self.shared.lock().peer.clone()
    }

    /// Returns what failed below the link, once: TLS, or the socket.
    pub fn take_failure(&self) -> Option<Failure> {
        self.shared.lock().failure.take()
    }

    /// Returns how many streams are open.
    pub fn live_streams(&self) -> usize {
        self.shared.lock().link.session().map_or(0, crate::Session::live_streams)
    }

    /// Returns whether new streams cannot be opened because one side drains or the session is over.
    pub fn is_ending(&self) -> bool {
        let state = self.shared.lock();
        state.link.session().is_none_or(|session| session.is_draining() || session.over().is_some())
    }

    /// Returns the round trip of the latest question and its answer.
    pub fn rtt(&self) -> Option<Duration> {
        self.shared.lock().link.rtt()
    }

    fn stream(&self, id: StreamId) -> StreamHandle {
        let port: Arc<dyn Port> = Arc::<Shared<S>>::clone(&self.shared);
        port.join();
        StreamHandle { id, port, over: false }
    }

    /// Runs `act`, then wakes whoever its outcome concerns, and the task in any case.
    fn settled<T>(&self, act: impl FnOnce(&mut State<S>, Instant) -> T) -> T {
        let now = self.shared.now();
        let mut wake: Vec<Waker> = Vec::new();
        let mut state = self.shared.lock();
        let result = act(&mut state, now);
        state.settle(&mut wake);
        wake.extend(state.task.take());
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        result
    }
}

impl Handle<side::Agent> {
    /// Goes on with the session over a new connection, to be driven by the task that is returned; the handles and streams of
    /// the session stay as they are. [`Self::established`] tells what came of it.
    ///
    /// `None` when the session is over or cannot be resumed.
    pub fn resume(&self, tls: Tls, config: Config, hello: Hello, seed: u64) -> Option<Task<side::Agent>> {
        self.resume_if(|_| true, tls, config, hello, seed)
    }

    /// Like [`Self::resume`], unless the link that is there has something to say: then it stays.
    pub fn resume_silent(&self, tls: Tls, config: Config, hello: Hello, seed: u64) -> Option<Task<side::Agent>> {
        self.resume_if(|link| link.is_silent() || link.is_parked(), tls, config, hello, seed) // spec: TIME-008
    }

    fn resume_if(
        &self,
        wanted: impl FnOnce(&Link<side::Agent>) -> bool,
        tls: Tls,
        config: Config,
        hello: Hello,
        seed: u64,
    ) -> Option<Task<side::Agent>> {
        let (now, clock, driver) = (self.shared.now(), self.shared.clock(), TaskId::next());
        let mut state = self.shared.lock();
        if !wanted(&state.link) {
            return None;
        }
        let link = Link::<side::Agent>::resume(&mut state.link, config, hello, seed, now)?;
        let old = core::mem::replace(&mut state.link, link);
        let replaced = core::mem::replace(&mut state.driver, driver);
        let place = Arc::new(Shared::new(old, replaced, Arc::clone(&clock)));
        state.forward.insert(replaced, place);
        (state.failure, state.secured, state.gone) = (None, None, false);
        let waker = state.task.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Some(Task::seated(Seat::new(Arc::clone(&self.shared), driver), tls, clock))
    }

    /// Returns whether the link has fallen silent or speaks again, once each.
    pub fn take_silence(&self) -> Option<bool> {
        let mut state = self.shared.lock();
        let (silent, news) = state.silent;
        state.silent.1 = false;
        news.then_some(silent)
    }

    /// Gives up the handshake in progress, as if its transport had failed. Does nothing once it is done.
    pub fn hang_up(&self) {
        self.settled(|state, now| {
            if state.link.outcome().is_none() {
                state.link.handle_loss(Loss::Other, now);
            }
        });
    }

    /// Asks for an endpoint; see [`Session::bind`](crate::Session::bind).
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(&self, bind: &Bind) -> Result<(), BindError> {
        self.shared.act(|state| state.link.session_mut().map_or(Err(BindError::Ending), |s| s.bind(bind)))
    }

    /// Gives a bind up.
    pub fn unbind(&self, unbind: &Unbind) {
        self.shared.act(|state| state.link.session_mut().map(|session| session.unbind(unbind)));
    }

    /// Says why an endpoint is not asked for; see [`Session::withhold`](crate::Session::withhold).
    ///
    /// # Errors
    /// [`BindError`].
    pub fn withhold(&self, withheld: &Withheld) -> Result<(), BindError> {
        self.shared.act(|state| state.link.session_mut().map_or(Err(BindError::Ending), |s| s.withhold(withheld)))
    }

    /// Answers a remote command.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn answer(&self, result: &CommandResult) -> Result<(), AnswerError> {
        self.shared.act(|state| state.link.session_mut().map_or(Err(AnswerError::Closed), |s| s.answer(result)))
    }
}

impl Handle<side::Network> {
    /// Consents to a session.
    pub fn accept(&self, request: AuthRequest, welcome: Welcome) {
        self.settled(|state, now| state.link.accept(request, welcome, now));
    }

    /// Consents to go on with the session of `parked`, lost or alive: its handles and streams stay as they are, and this
    /// handle is of no more use. See [`Link::resume`].
    ///
    /// # Errors
    /// The request, when it is not good for that session: nothing has changed.
    #[expect(clippy::result_large_err, reason = "moved once a handshake")]
    pub fn resume(&self, request: AuthRequest, parked: &Self, welcome: Welcome) -> Result<(), AuthRequest> {
        if Arc::ptr_eq(&self.shared, &parked.shared) {
            return Err(request);
        }
        let now = self.shared.now();
        let mut wake: Vec<Waker> = Vec::new();
        // The order is safe: a link that was not answered yet is nobody's parked one.
        let mut theirs = parked.shared.lock();
        let mut own = self.shared.lock();
        own.link.resume(request, &mut theirs.link, welcome, now)?;
        core::mem::swap(&mut own.link, &mut theirs.link);
        let (mine, replaced) = (own.driver, theirs.driver);
        (own.driver, theirs.driver) = (replaced, mine);
        own.forward.insert(mine, Arc::clone(&parked.shared));
        theirs.forward.insert(replaced, Arc::clone(&self.shared));
        core::mem::swap(&mut own.peer, &mut theirs.peer);
        (theirs.failure, theirs.gone) = (None, false);
        wake.extend(own.task.take());
        wake.extend(theirs.task.take());
        own.settle(&mut wake);
        theirs.settle(&mut wake);
        drop((own, theirs));
        wake.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Refuses a session.
    pub fn refuse(&self, request: AuthRequest, refusal: Refusal) {
        self.settled(|state, now| state.link.refuse(request, refusal, now));
    }

    /// Says that a bind is in force.
    pub fn bound(&self, request: BindRequest, url: &str) {
        self.shared.act(|state| state.link.session_mut().map(|session| session.bound(request, url)));
    }

    /// Refuses a bind.
    pub fn reject(&self, request: BindRequest, refusal: Refusal) {
        self.shared.act(|state| state.link.session_mut().map(|session| session.reject(request, refusal)));
    }

    /// Takes a bind back that is in force; returns whether it was.
    pub fn unbound(&self, id: BindId, refusal: Refusal) -> bool {
        self.shared.act(|state| state.link.session_mut().is_some_and(|session| session.unbound(id, refusal)))
    }

    /// Asks the agent for something that it may refuse.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn command(&self, command: Command, text: &str) -> Result<u32, AnswerError> {
        self.shared.act(|state| {
            state.link.session_mut().map_or(Err(AnswerError::Closed), |session| session.command(command, text))
        })
    }

    /// Asks the agent to put a document of endpoints in force.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn configure(&self, document: &str, text: &str) -> Result<u32, AnswerError> {
        self.shared.act(|state| {
            state.link.session_mut().map_or(Err(AnswerError::Closed), |session| session.configure(document, text))
        })
    }

    /// Hands revocation lists to the agent; see [`Session::tell_revocations`](crate::Session::tell_revocations).
    ///
    /// # Errors
    /// [`RevocationsError`].
    pub fn tell_revocations(&self, lists: &Bytes) -> Result<(), RevocationsError> {
        self.shared.act(|state| {
            state
                .link
                .session_mut()
                .map_or(Err(RevocationsError::Closed), |session| session.tell_revocations(lists.clone()))
        })
    }
}

/// One stream. Dropping it resets what was not finished and stops what was not read.
#[derive(Debug)]
pub struct StreamHandle {
    id: StreamId,
    port: Arc<dyn Port>,
    over: bool,
}

impl StreamHandle {
    /// Returns the stream's number.
    pub const fn id(&self) -> StreamId {
        self.id
    }

    /// Returns what the peer opened the stream for, once; nothing for a stream of this side.
    pub fn take_open(&self) -> Option<Open> {
        self.port.take_open(self.id)
    }

    /// Returns the next octets, at most `most`; `None` at the end. One task at a time may wait.
    ///
    /// # Errors
    /// [`ReadError`], never [`ReadError::Blocked`].
    pub fn poll_read(&self, most: usize, cx: &Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        self.port.poll_read(self.id, most, cx)
    }

    /// Takes octets from the front of `data`; returns how many. One task at a time may wait.
    ///
    /// # Errors
    /// [`WriteError`], never [`WriteError::Blocked`].
    pub fn poll_write(&self, data: &mut Bytes, cx: &Context<'_>) -> Poll<Result<usize, WriteError>> {
        self.port.poll_write(self.id, data, cx)
    }

    /// Copies octets from the front of `data`, as far as there is room; returns how many. One task at a time may wait.
    ///
    /// # Errors
    /// [`WriteError`], never [`WriteError::Blocked`].
    pub fn poll_copy(&self, data: &[IoSlice<'_>], cx: &Context<'_>) -> Poll<Result<usize, WriteError>> {
        self.port.poll_copy(self.id, data, cx)
    }

    /// Waits until the peer has handed the stream to its destination, or returns why not.
    ///
    /// # Errors
    /// The code with which the peer refused.
    pub fn poll_accepted(&self, cx: &Context<'_>) -> Poll<Result<(), Code>> {
        self.port.poll_accepted(self.id, cx)
    }

    /// Ends the sending direction in order.
    ///
    /// # Errors
    /// [`WriteError`], when it has been ended otherwise.
    pub fn finish(&self) -> Result<(), WriteError> {
        self.port.finish(self.id)
    }

    /// Ends the sending direction at once.
    pub fn reset(&self, code: Code) {
        self.port.reset(self.id, code);
    }

    /// Ends the sending direction at once, unless it was finished.
    pub fn reset_unfinished(&self, code: Code) {
        self.port.reset_unfinished(self.id, code);
    }

    /// Wants no more of the receiving direction.
    pub fn stop(&self, code: Code) {
        self.port.stop(self.id, code);
    }

    /// Says that the stream has been handed to its destination.
    pub fn accept(&self) {
        self.port.accept(self.id);
    }

    /// Lets go of the stream; every later call fails.
    pub fn release(&mut self) {
        if !core::mem::replace(&mut self.over, true) {
            self.port.release(self.id);
        }
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        self.release();
        self.port.leave();
    }
}
