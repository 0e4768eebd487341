//! The caller's side of an HTTP/1 connection: the gate in front of the parser, the timers, and what the two sides of one
//! connection tell each other.

use core::{
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};
use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Cut, HttpLimits, Note,
    allowance::Allowance,
    gate::{Gate, Phase, Progress, Stop},
    link::poll_read_some,
    record::Notes,
};
use crate::Fault;

/// What the connection and the service of its requests know of each other; HTTP/1 has one request at a time.
#[derive(Debug)]
pub(super) struct Talk {
    born: Instant,
    /// A request has passed the gate and its answer is not over.
    busy: AtomicBool,
    /// The upstream has begun to answer: how fast the rest of the body comes is its own affair.
    answering: AtomicBool,
    /// Milliseconds after `born` when the last answer ended.
    idle_since: AtomicU64,
    /// The reader holds back octets until the answer is over or an upgrade is decided.
    waiting: AtomicBool,
    reader: AtomicWaker,
    upgrade: AtomicU8,
    refused: Mutex<Option<Fault>>,
    body_fault: Mutex<Option<Fault>>,
    has_hints: AtomicBool,
    hints: Mutex<Vec<u8>>,
    hints_written: AtomicWaker,
    /// The caller may still be sending: read a little after the end, so that it reads our answer.
    linger: AtomicBool,
    /// The last write had to wait: what is sent next is not fetched before.
    blocked: AtomicBool,
    /// No request is taken after those that have begun.
    draining: AtomicBool,
}

impl Talk {
    pub(super) fn new() -> Self {
        Self {
            born: Instant::now(),
            busy: AtomicBool::new(false),
            answering: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            upgrade: AtomicU8::new(UNDECIDED),
            refused: Mutex::new(None),
            body_fault: Mutex::new(None),
            has_hints: AtomicBool::new(false),
            hints: Mutex::new(Vec::new()),
            hints_written: AtomicWaker::new(),
            linger: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        }
    }

    /// Takes the fault for which the request that comes now is only a placeholder.
    pub(super) fn take_refused(&self) -> Option<Fault> {
        self.refused.lock().take()
    }

    /// Takes the fault that ended the request's body.
    pub(super) fn take_body_fault(&self) -> Option<Fault> {
        self.body_fault.lock().take()
    }

    /// Tells that the upstream has begun to answer.
    pub(super) fn answering(&self) {
        self.answering.store(true, Ordering::Relaxed);
    }

    /// Says what became of the upgrade that the current request asks for.
    pub(super) fn decide_upgrade(&self, accepted: bool) {
        self.upgrade.store(if accepted { ACCEPTED } else { DECLINED }, Ordering::Release);
        self.wake_reader();
    }

    /// Tells that the answer is over; the next request may come.
    pub(super) fn finish(&self) {
        let idle = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.idle_since.store(idle, Ordering::Relaxed);
        self.busy.store(false, Ordering::Release);
        self.wake_reader();
    }

    /// Leaves the caller time to stop sending after the connection's end.
    pub(super) fn linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }

    pub(super) fn lingers(&self) -> bool {
        self.linger.load(Ordering::Relaxed)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Ends the connection when what the caller has begun is answered.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.reader.wake();
    }

    pub(super) fn drains(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Puts a whole 1xx head in front of the answer.
    pub(super) fn hint(&self, head: &[u8]) {
        let mut hints = self.hints.lock();
        if hints.len() + head.len() <= MAX_HINTS {
            hints.extend_from_slice(head);
            self.has_hints.store(true, Ordering::Release);
            self.reader.wake();
        }
    }

    /// Waits until the hints are out: none may follow the answer.
    pub(super) fn poll_hints_written(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.has_hints.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.hints_written.register(cx.waker());
        if self.has_hints.load(Ordering::Acquire) { Poll::Pending } else { Poll::Ready(()) }
    }

    fn wake_reader(&self) {
        if self.waiting.swap(false, Ordering::AcqRel) || self.drains() {
            self.reader.wake();
        }
    }
}

/// The caller's connection as the parser sees it: only what has one reading comes through.
#[derive(Debug)]
pub(super) struct CallerIo<IO> {
    io: IO,
    gate: Gate,
    talk: Arc<Talk>,
    limits: Arc<HttpLimits>,
    notes: Notes,
    /// Octets that were read; the first `ready` may pass.
    held: Vec<u8>,
    ready: usize,
    ended: bool,
    /// A placeholder for a refused request has gone through; nothing follows it.
    refused: bool,
    served: bool,
    head_since: Option<Instant>,
    /// How long the caller may let a body wait.
    allowance: Allowance,
    write_since: Option<Instant>,
    /// It took nothing for too long.
    stalled: bool,
    hint_written: usize,
    sleep: Pin<Box<Sleep>>,
}

impl<IO> CallerIo<IO> {
    pub(super) fn new(io: IO, first: Vec<u8>, talk: Arc<Talk>, limits: Arc<HttpLimits>, notes: Notes) -> Self {
        Self {
            io,
            gate: Gate::new(limits.head()),
            held: first,
            ready: 0,
            ended: false,
            refused: false,
            served: false,
            head_since: None,
            allowance: Allowance::new(&limits),
            write_since: None,
            stalled: false,
            hint_written: 0,
            sleep: Box::pin(sleep_until(talk.born + limits.header_timeout)),
            talk,
            limits,
            notes,
        }
    }

    pub(super) fn into_inner(self) -> IO {
        self.io
    }

    /// Lets the gate go on where it may.
    fn turn(&mut self) {
        let busy = self.talk.busy.load(Ordering::Acquire);
        match self.talk.upgrade.load(Ordering::Acquire) {
            ACCEPTED => self.gate.open(),
            _ if busy => {}
            _ => self.gate.begin(),
        }
    }

    /// Notes how far the gate came.
    fn passed(&mut self, before: Phase, progress: Progress) -> io::Result<()> {
        if before == Phase::Head && self.gate.phase() != Phase::Head {
            if let Stop::Refused { fault, at_head: true } = progress.stop {
                self.refuse(fault);
                return Ok(());
            }
            self.served = true;
            self.head_since = None;
            self.allowance = Allowance::new(&self.limits);
            self.talk.answering.store(false, Ordering::Relaxed);
            self.talk.upgrade.store(UNDECIDED, Ordering::Relaxed);
            self.talk.busy.store(true, Ordering::Release);
        }
        if progress.pass > 0 {
            self.allowance.earn(progress.pass, Instant::now());
        }
        match progress.stop {
            Stop::Refused { fault, .. } if progress.pass == 0 && !self.refused => Err(self.body_failed(fault)),
            Stop::Refused { .. } | Stop::More | Stop::End { .. } => Ok(()),
        }
    }

    /// Puts a placeholder in the place of a refused request, so that the parser keeps the answers in order and the service
    /// answers with our words.
    fn refuse(&mut self, fault: Fault) {
        let accept = accept_line(&self.held);
        self.held.clear();
        self.held.extend_from_slice(PLACEHOLDER);
        self.held.extend_from_slice(&accept);
        self.held.extend_from_slice(b"\r\n");
        self.ready = self.held.len();
        self.refused = true;
        self.head_since = None;
        *self.talk.refused.lock() = Some(fault);
        self.talk.busy.store(true, Ordering::Release);
        self.talk.linger();
    }

    fn body_failed(&self, fault: Fault) -> io::Error {
        *self.talk.body_fault.lock() = Some(fault);
        self.talk.linger();
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }

    /// Decides what a reader that would wait is told: nothing yet, or that time is over.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = Instant::now();
        let busy = self.talk.busy.load(Ordering::Acquire);
        let (due, overdue) = match self.gate.phase() {
            Phase::Body if !self.talk.answering.load(Ordering::Relaxed) => {
                (Some(self.allowance.wait(now)), Overdue::Body)
            }
            Phase::Head if !self.held.is_empty() => {
                let since = *self.head_since.get_or_insert(now);
                (Some(since + self.limits.header_timeout), Overdue::Head)
            }
            Phase::Head | Phase::Rest if !busy && !self.refused => {
                let idle = Duration::from_millis(self.talk.idle_since.load(Ordering::Relaxed));
                let most = match (self.talk.drains(), self.served) {
                    (true, _) => Duration::ZERO,
                    (false, true) => self.limits.idle_timeout,
                    (false, false) => self.limits.header_timeout,
                };
                (Some(self.talk.born + idle + most), Overdue::Idle)
            }
            Phase::Head | Phase::Body | Phase::Rest | Phase::Open => (None, Overdue::Idle),
        };
        if due.is_some_and(|due| due <= now) {
            return match overdue {
                Overdue::Body => Poll::Ready(Err(self.body_failed(Fault::HeaderTimeout))),
                Overdue::Head => {
                    self.refuse(Fault::HeaderTimeout);
                    Poll::Ready(Ok(()))
                }
                Overdue::Idle => {
                    self.ended = true;
                    Poll::Ready(Ok(()))
                }
            };
        }
        // While a request is served nobody polls the reader when its answer ends: the timer looks for itself, later.
        let due = due.unwrap_or_else(|| now + self.limits.idle_timeout);
        self.arm(due, cx);
        Poll::Pending
    }

    /// Sees to it that the task is woken at `due` or before.
    fn arm(&mut self, due: Instant, cx: &mut Context<'_>) {
        if due < self.sleep.deadline() || self.sleep.is_elapsed() {
            self.sleep.as_mut().reset(due);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            self.sleep.as_mut().reset(due);
        }
    }
}

enum Overdue {
    Body,
    Head,
    Idle,
}

impl<IO: AsyncRead + Unpin> CallerIo<IO> {
    /// Reads straight into the parser's buffer and takes back what may not pass.
    fn poll_straight(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(poll_read_some(&mut self.io, cx, buf))?;
        let new = &buf.filled()[before..];
        self.ended = new.is_empty();
        let phase = self.gate.phase();
        let progress = self.gate.handle_input(new);
        self.held.extend_from_slice(&new[progress.pass..]);
        buf.set_filled(before + progress.pass);
        Poll::Ready(self.passed(phase, progress))
    }

    /// Reads behind what is held.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = [0; 8192];
        let mut buf = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        self.ended = buf.filled().is_empty();
        self.held.extend_from_slice(buf.filled());
        Poll::Ready(self.sift())
    }

    fn sift(&mut self) -> io::Result<()> {
        let phase = self.gate.phase();
        let progress = self.gate.handle_input(&self.held);
        self.ready = progress.pass;
        self.passed(phase, progress)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for CallerIo<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        this.talk.reader.register(cx.waker());
        this.turn();
        if this.ready == 0 && !this.held.is_empty() && !this.refused {
            this.sift()?;
        }
        loop {
            if this.ready > 0 {
                let count = this.ready.min(buf.remaining());
                buf.put_slice(&this.held[..count]);
                this.held.drain(..count);
                this.ready -= count;
                return Poll::Ready(Ok(()));
            }
            if this.ended || buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            let waits = this.gate.phase() == Phase::Rest;
            let read = if this.refused || (waits && this.held.len() >= MAX_AHEAD) {
                Poll::Pending // whoever talks on and does not listen is not listened to either
            } else if this.held.is_empty() {
                this.poll_straight(cx, buf)
            } else {
                this.poll_held(cx)
            };
            if let Poll::Ready(result) = read {
                result?;
                continue;
            }
            this.talk.waiting.store(waits && !this.held.is_empty(), Ordering::Release);
            ready!(this.poll_overdue(cx))?;
        }
    }
}

impl<IO: AsyncWrite + Cut + Unpin> CallerIo<IO> {
    /// Notes a write that waits for the caller; one that waits too long fails.
    fn written<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.talk.blocked.store(written.is_pending(), Ordering::Relaxed);
        if written.is_ready() {
            self.write_since = None;
            return written;
        }
        let now = Instant::now();
        let due = *self.write_since.get_or_insert(now) + self.limits.stall_timeout;
        if due <= now {
            if !self.stalled {
                self.stalled = true;
                self.notes.note(Note::Limit("stall_timeout"));
            }
            self.io.cut();
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the caller does not read")));
        }
        self.arm(due, cx);
        Poll::Pending
    }

    /// Writes the hints out. The parser has nothing of its own under way when it flushes.
    fn poll_hints(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let talk = Arc::clone(&self.talk);
        let mut hints = talk.hints.lock();
        while self.hint_written < hints.len() {
            let written = Pin::new(&mut self.io).poll_write(cx, &hints[self.hint_written..]);
            let count = ready!(self.written(written, cx))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.hint_written += count;
        }
        hints.clear();
        self.hint_written = 0;
        talk.has_hints.store(false, Ordering::Release);
        talk.hints_written.wake();
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Cut + Unpin> AsyncWrite for CallerIo<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.hint_written > 0 {
            ready!(this.poll_hints(cx))?;
        }
        let written = Pin::new(&mut this.io).poll_write(cx, data);
        this.written(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.hint_written > 0 {
            ready!(this.poll_hints(cx))?;
        }
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, data);
        this.written(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.talk.has_hints.load(Ordering::Acquire) {
            ready!(this.poll_hints(cx))?;
        }
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.written(flushed, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let closed = Pin::new(&mut this.io).poll_shutdown(cx);
        this.written(closed, cx)
    }
}

/// Finds what a refused request would accept, so that a browser gets a page; returns the line or nothing.
fn accept_line(head: &[u8]) -> Vec<u8> {
    let head = &head[..head.len().min(MAX_ACCEPT_SEARCH)];
    let lines = head.split(|octet| *octet == b'\n');
    let named = |line: &&[u8]| line.get(..7).is_some_and(|name| name.eq_ignore_ascii_case(b"accept:"));
    let Some(line) = lines.skip(1).find(named) else { return Vec::new() };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > 512 || !line.iter().all(|octet| matches!(octet, b' '..=b'~')) {
        return Vec::new();
    }
    [line, b"\r\n"].concat()
}

const PLACEHOLDER: &[u8] = b"GET / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n";

/// What may come ahead of its turn: pipelined requests, or octets after an upgrade that is not decided.
const MAX_AHEAD: usize = 64 << 10;
const MAX_HINTS: usize = 32 << 10;
const MAX_ACCEPT_SEARCH: usize = 16 << 10;

const UNDECIDED: u8 = 0;
const ACCEPTED: u8 = 1;
const DECLINED: u8 = 2;
