//! The pump: one task that moves octets between a transport, TLS and a link.

use alloc::{boxed::Box, sync::Arc, vec, vec::Vec};
use core::{
    cell::RefCell,
    task::{Context, Poll, Waker},
};
use std::{
    io::{self, IoSlice, Write},
    thread_local,
};

use super::{
    Clock, Handle, Timer, Transport,
    shared::{Seat, Shared, TaskId},
};
use crate::{Cause, Code, Instant, Link, Loss, Side, TimerKind, frame::Encoded, tls::Tls};

/// Drives one link over one transport until both are over.
#[derive(Debug)]
pub struct Task<S: Side> {
    seat: Seat<S>,
    clock: Arc<dyn Clock>,
    tls: Tls,
    phase: Phase,
    batch: Vec<Encoded>,
    small: Vec<u8>,
    wake: Vec<Waker>,
    /// Whether somebody was woken since the task last let others have their turn.
    told: bool,
    /// Whether the transport's input has ended.
    ended: bool,
    /// Until when a link that says its last words has a transport.
    until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// TLS is not agreed upon.
    Securing,
    Open,
    /// The link is over; close_notify goes out until the instant at the latest.
    Parting(Instant),
    /// Everything went out; what the peer still sends is thrown away, so that its end does not lose our last words.
    Lingering(Instant),
    Over,
}

/// Why a transport failed, in the words of who noticed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// TLS failed.
    Tls(rustls::Error),
    /// The peer does not speak Adit: the application protocol was not agreed upon.
    NotAdit,
    /// The operating system said so.
    Io(io::Error),
}

impl<S: Side> Task<S> {
    /// Joins a link that was just made with the TLS connection below it.
    pub fn new(link: Link<S>, tls: Tls, clock: Box<dyn Clock>) -> (Self, Handle<S>) {
        let (driver, clock) = (TaskId::next(), Arc::from(clock));
        let shared = Arc::new(Shared::new(link, driver, Arc::clone(&clock)));
        let handle = Handle::new(Arc::clone(&shared));
        (Self::seated(Seat::new(shared, driver), tls, clock), handle)
    }

    pub(super) fn seated(seat: Seat<S>, tls: Tls, clock: Arc<dyn Clock>) -> Self {
        let phase = if tls.is_handshaking() { Phase::Securing } else { Phase::Open };
        let mut task = Self {
            seat,
            clock,
            tls,
            phase,
            batch: Vec::new(),
            small: Vec::new(),
            wake: Vec::new(),
            told: false,
            ended: false,
            until: None,
        };
        if phase == Phase::Open {
            task.introduce();
        }
        task
    }

    /// Tells what TLS said of the peer.
    fn introduce(&mut self) {
        let peer = Arc::new(self.tls.peer());
        self.seat.with(|state| state.peer = Some(peer));
    }

    /// Drives until nothing moves. Ready when the transport is over: drop it, and go on with [`Self::poll_parked`].
    pub fn poll_drive(&mut self, io: &mut impl Transport, timer: &mut impl Timer, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS {
            let now = self.clock.now();
            // Overdue is judged by the clock, before anything else is asked.
            self.expire(now, cx);
            let mut moved = self.write(io, now, cx);
            moved |= self.read(io, now, cx);
            self.settle();
            if let Poll::Ready(()) = self.poll_over(io, now, cx) {
                return Poll::Ready(());
            }
            if !moved && self.poll_timer(timer, cx).is_pending() {
                return Poll::Pending;
            }
            if core::mem::take(&mut self.told) {
                break; // who was woken may wait for this very worker, and the peer for what he reads or writes
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Keeps a session whose link is lost. Ready when another link has it, or it is over.
    pub fn poll_parked(&mut self, timer: &mut impl Timer, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = self.clock.now();
            self.expire(now, cx);
            self.settle();
            let Some(until) = self.seat.with(|state| state.link.is_parked().then(|| state.link.poll_timeout())) else {
                return Poll::Ready(());
            };
            let wait = until.map_or(Poll::Pending, |deadline| timer.poll_until(deadline.at, cx));
            if wait.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Returns the TLS connection, for what it knows of the peer.
    pub const fn tls(&self) -> &Tls {
        &self.tls
    }

    fn expire(&mut self, now: Instant, cx: &Context<'_>) {
        self.seat.with(|state| match &mut state.task {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            place => *place = Some(cx.waker().clone()),
        });
        let abandoned = self.seat.is_abandoned();
        self.seat.with(|state| {
            if abandoned {
                state.link.close(Code::NO_ERROR, "nobody is left", now);
            }
            if state.link.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
                state.link.handle_timeout(now);
            }
        });
    }

    /// Writes while the transport takes something; returns whether anything moved.
    fn write(&mut self, io: &mut impl Transport, now: Instant, cx: &mut Context<'_>) -> bool {
        let (mut moved, mut written) = (false, 0);
        for _ in 0..WRITES {
            if matches!(self.phase, Phase::Lingering(_) | Phase::Over) {
                return moved;
            }
            if !self.tls.wants_write() {
                if self.phase == Phase::Open {
                    self.seat.with(|state| state.link.handle_written(written, 0, now));
                    written = 0;
                }
                if !self.seal(now) {
                    return moved;
                }
            }
            let mut writer = Writer { io, cx, blocked: false };
            match self.tls.write_to(&mut writer) {
                Ok(0) if self.tls.wants_write() => {
                    self.fail(Failure::Io(io::ErrorKind::WriteZero.into()), Loss::Other, now);
                    return moved;
                }
                Ok(count) => {
                    moved = true;
                    written += count;
                }
                Err(_) if writer.blocked => {
                    if self.phase == Phase::Open {
                        self.seat.with(|state| state.link.handle_written(written, 1, now));
                    }
                    return moved;
                }
                Err(error) => {
                    let loss = loss_of(&error);
                    self.fail(Failure::Io(error), loss, now);
                    return moved;
                }
            }
        }
        if written > 0 && self.phase == Phase::Open {
            let left = usize::from(self.tls.wants_write());
            self.seat.with(|state| state.link.handle_written(written, left, now));
        }
        moved
    }

    /// Encrypts one batch of frames; returns whether there was any.
    fn seal(&mut self, now: Instant) -> bool {
        if self.phase != Phase::Open {
            return false;
        }
        let mut octets = 0;
        let (batch, wake) = (&mut self.batch, &mut self.wake);
        self.seat.with(|state| {
            while octets < BATCH
                && let Some(frame) = state.link.poll_transmit(now)
            {
                octets += frame.len();
                batch.push(frame);
            }
            // Sending makes room, and that is news for writers.
            state.settle(wake);
        });
        for frame in self.batch.drain(..) {
            let (header, payload) = (frame.header(), frame.payload());
            // Small frames share a record; a large one fills its own.
            if frame.len() > SMALL {
                flush(&mut self.tls, &mut self.small);
                self.tls.seal(&[IoSlice::new(header), IoSlice::new(payload)]);
            } else {
                if self.small.len() + frame.len() > RECORD {
                    flush(&mut self.tls, &mut self.small);
                }
                self.small.extend_from_slice(header);
                self.small.extend_from_slice(payload);
            }
        }
        flush(&mut self.tls, &mut self.small);
        if octets == 0 {
            (self.batch, self.small) = (Vec::new(), Vec::new());
        }
        octets > 0
    }

    /// Reads what the transport has, bounded; returns whether anything moved.
    fn read(&mut self, io: &mut impl Transport, now: Instant, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        for _ in 0..READS {
            if self.ended || self.phase == Phase::Over {
                return moved;
            }
            let more = SCRATCH.with_borrow_mut(|scratch| match io.poll_read(cx, scratch) {
                Poll::Pending => false,
                Poll::Ready(Ok(0)) => {
                    self.ended = true;
                    self.on_eof(now);
                    moved = true;
                    false
                }
                Poll::Ready(Ok(count)) => {
                    self.on_input(scratch.get(..count).unwrap_or(&[]), now);
                    moved = true;
                    count == scratch.len()
                }
                Poll::Ready(Err(error)) => {
                    let loss = loss_of(&error);
                    self.fail(Failure::Io(error), loss, now);
                    moved = true;
                    false
                }
            });
            if !more {
                return moved;
            }
            self.settle();
        }
        moved
    }

    fn on_input(&mut self, cipher: &[u8], now: Instant) {
        if matches!(self.phase, Phase::Parting(_) | Phase::Lingering(_)) {
            return;
        }
        let (seat, mut told) = (&mut self.seat, self.phase == Phase::Securing);
        let result = self.tls.read(cipher, |plain| {
            told = true;
            seat.with(|state| state.link.handle_input(plain, now));
        });
        if !told {
            seat.with(|state| state.link.handle_life(now)); // the rest of the record is still to come
        }
        if let Err(error) = result {
            self.fail(Failure::Tls(error), Loss::Tls, now);
            return;
        }
        if self.phase == Phase::Securing && !self.tls.is_handshaking() {
            if !self.tls.has_alpn() {
                self.fail(Failure::NotAdit, Loss::Tls, now);
                return;
            }
            self.phase = Phase::Open;
            self.seat.with(|state| state.secured = Some(now));
            self.introduce();
        }
        if self.tls.peer_closed() {
            self.on_eof(now);
        }
    }

    fn on_eof(&mut self, now: Instant) {
        let (clean, securing) = (self.tls.peer_closed(), self.phase == Phase::Securing);
        self.seat.with(|state| {
            if securing {
                state.failure.get_or_insert(Failure::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            state.link.handle_eof(clean, now);
        });
    }

    /// Takes a failure below the link. An alert of TLS still goes out if the transport takes it.
    fn fail(&mut self, failure: Failure, loss: Loss, now: Instant) {
        let gone = matches!(failure, Failure::Io(_));
        self.seat.with(|state| {
            state.failure.get_or_insert(failure);
            state.link.handle_loss(loss, now);
        });
        self.phase = if gone { Phase::Over } else { Phase::Parting(now + PARTING) };
    }

    fn settle(&mut self) {
        let wake = &mut self.wake;
        self.seat.with(|state| state.settle(wake));
        self.told |= !self.wake.is_empty();
        for waker in self.wake.drain(..) {
            waker.wake();
        }
    }

    fn poll_over(&mut self, io: &mut impl Transport, now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let (lost, silent, finished, until) = self.seat.with(|state| {
            let outcome = state.link.outcome();
            let closing = state.link.poll_timeout().filter(|deadline| deadline.why == TimerKind::Close);
            let silent =
                matches!(outcome, Some(Err(Cause::Dead { .. } | Cause::Stalled { .. } | Cause::Unacknowledged)));
            let until = closing.map(|deadline| deadline.at);
            (matches!(outcome, Some(Err(_))), silent && state.link.is_parked(), state.link.is_finished(), until)
        });
        self.until = until.or(self.until);
        match self.phase {
            // Nothing can be said yet, and a silent peer must not hold what nobody wants.
            Phase::Securing if lost => {
                io.abort();
                self.phase = Phase::Over;
            }
            // The other direction may work: its end must not queue behind what is never acknowledged.
            Phase::Open if silent => {
                io.abort();
                self.phase = Phase::Over;
            }
            // Its time is over, and the last words did not go out: whoever has not taken them by now has another link, or none.
            Phase::Open if finished && self.until.is_some_and(|until| until <= now) => {
                io.abort();
                self.phase = Phase::Over;
            }
            Phase::Open if finished => {
                self.tls.close();
                let until = now + PARTING;
                self.phase = Phase::Parting(self.until.map_or(until, |least| until.min(least))); // spec: GO-006
                self.write(io, now, cx);
            }
            Phase::Securing | Phase::Open | Phase::Parting(_) | Phase::Lingering(_) | Phase::Over => {}
        }
        if let Phase::Parting(until) = self.phase
            && !self.tls.wants_write()
            && io.poll_close(cx).is_ready()
        {
            self.phase = Phase::Lingering(until);
        }
        match self.phase {
            Phase::Securing | Phase::Open => Poll::Pending,
            Phase::Parting(until) if until > now => Poll::Pending,
            Phase::Lingering(until) if until > now && !self.ended => Poll::Pending,
            // It was not closed: a peer that is there and reads nothing would make the kernel keep what it holds.
            Phase::Parting(_) => {
                io.abort();
                Poll::Ready(())
            }
            Phase::Lingering(_) | Phase::Over => Poll::Ready(()),
        }
    }

    fn poll_timer(&mut self, timer: &mut impl Timer, cx: &mut Context<'_>) -> Poll<()> {
        let at = match self.phase {
            Phase::Parting(until) | Phase::Lingering(until) => Some(until),
            Phase::Securing | Phase::Open | Phase::Over => {
                self.seat.with(|state| state.link.poll_timeout()).map(|deadline| deadline.at)
            }
        };
        at.map_or(Poll::Pending, |at| timer.poll_until(at, cx))
    }
}

impl<S: Side> Drop for Task<S> {
    fn drop(&mut self) {
        // A task that is dropped takes its transport along: whoever waits must learn of it.
        let now = self.clock.now();
        let wake = &mut self.wake;
        self.seat.with(|state| {
            state.link.handle_loss(Loss::Other, now);
            state.link.forsake(); // nobody would end it in time
            state.settle(wake);
            state.gone = true;
            wake.extend(state.leaving.take());
        });
        self.wake.drain(..).for_each(Waker::wake);
    }
}

/// A transport as TLS writes to it.
pub(super) struct Writer<'a, 'c, T> {
    pub(super) io: &'a mut T,
    pub(super) cx: &'a mut Context<'c>,
    pub(super) blocked: bool,
}

impl<T: Transport> Write for Writer<'_, '_, T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buffer)])
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.io.poll_write(self.cx, buffers) {
            Poll::Ready(result) => result,
            Poll::Pending => {
                self.blocked = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn flush(tls: &mut Tls, small: &mut Vec<u8>) {
    if !small.is_empty() {
        tls.seal(&[IoSlice::new(small)]);
        small.clear();
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of IO errors are many and grow")]
fn loss_of(error: &io::Error) -> Loss {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => Loss::Reset,
        io::ErrorKind::TimedOut => Loss::TimedOut,
        _ => Loss::Other,
    }
}

thread_local! {
    /// Ciphertext passes through here within one call; an idle session holds no buffer.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 128 << 10]);
}

/// Frames of together this many octets are encrypted at a time: what is more urgent waits for no more.
const BATCH: usize = 64 << 10;
/// Frames up to this length share a record.
const SMALL: usize = 4_096;
const RECORD: usize = 16_384;
const ROUNDS: usize = 16;
const WRITES: usize = 8;
const READS: usize = 2;
const PARTING: crate::Duration = crate::Duration::from_secs(1);
