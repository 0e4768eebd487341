//! A connection to an upstream, and what became of it.

use core::{
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    task::{Context, Poll, ready},
};
use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use adit_core::Code;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Upstream;
use crate::router::Pending;

/// What is known about a connection to an upstream, for those who sent a request over it.
#[derive(Debug, Default)]
pub(super) struct Fate {
    accepted: AtomicBool,
    /// Counts the connection until the upstream has it, or does not take it.
    pending: Mutex<Option<Pending>>,
    /// A request is under way: the connection's end cancels it.
    busy: AtomicBool,
    /// An octet has come from the upstream.
    heard: AtomicBool,
    failed: AtomicBool,
    code: AtomicU32,
    body: AtomicWaker,
    /// The last write had to wait: what is sent next is not fetched before.
    blocked: AtomicBool,
    /// More 1xx heads came than an answer may have.
    chatters: AtomicBool,
    request: AtomicWaker,
}

impl Fate {
    pub(super) fn is_accepted(&self) -> bool {
        self.accepted.load(Ordering::Acquire)
    }

    /// Begins a request: what came for the one before is forgotten.
    pub(super) fn begin(&self) {
        self.busy.store(true, Ordering::Relaxed);
        self.heard.store(false, Ordering::Relaxed);
    }

    /// Ends a request that needs no cancelling.
    pub(super) fn settle(&self) {
        self.busy.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Tells the request that the upstream says 1xx without end.
    pub(super) fn chatter(&self) {
        self.chatters.store(true, Ordering::Release);
        self.request.wake();
    }

    /// Waits for [`Self::chatter`].
    pub(super) fn poll_chatter(&self, cx: &Context<'_>) -> Poll<()> {
        self.request.register(cx.waker());
        if self.chatters.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(super) fn was_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Returns the code with which the connection ended, if it ended with one.
    pub(super) fn code(&self) -> Option<Code> {
        self.failed.load(Ordering::Acquire).then(|| Code(self.code.load(Ordering::Relaxed)))
    }

    /// Waits until the upstream has the connection; the one body that is sent first waits so.
    pub(super) fn poll_accepted(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_accepted() {
            return Poll::Ready(());
        }
        self.body.register(cx.waker());
        if self.is_accepted() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Keeps what counts the connection until the upstream has it.
    pub(super) fn count(&self, pending: Pending) {
        *self.pending.lock() = Some(pending);
        if self.is_accepted() || self.code().is_some() {
            drop(self.pending.lock().take());
        }
    }

    fn fail(&self, code: Code) {
        drop(self.pending.lock().take());
        self.code.store(code.0, Ordering::Relaxed);
        self.failed.store(true, Ordering::Release);
        self.body.wake();
    }
}

/// The connection itself.
#[derive(Debug)]
pub(super) struct Link<Io> {
    io: Io,
    fate: Arc<Fate>,
}

impl<Io: Upstream> Link<Io> {
    pub(super) fn new(io: Io) -> (Self, Arc<Fate>) {
        let fate = Arc::new(Fate::default());
        (Self { io, fate: Arc::clone(&fate) }, fate)
    }

    pub(super) fn abort(&mut self, code: Code) {
        self.io.abort(code);
    }

    /// Polls for the word about the connection; a refusal fails it.
    fn poll_word(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.fate.is_accepted() {
            return Ok(());
        }
        match self.io.poll_accepted(cx) {
            Poll::Ready(Ok(())) => {
                self.fate.accepted.store(true, Ordering::Release);
                drop(self.fate.pending.lock().take());
                self.fate.body.wake();
                Ok(())
            }
            Poll::Ready(Err(code)) => {
                self.fate.fail(code);
                Err(io::ErrorKind::ConnectionRefused.into())
            }
            Poll::Pending => Ok(()),
        }
    }

    fn told<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| self.fate.fail(Io::code_of(error).unwrap_or(Code::CONNECTION_RESET)))
    }
}

impl<Io: Upstream> AsyncRead for Link<Io> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_word(cx)?;
        let before = buf.filled().len();
        let result = ready!(poll_read_some(&mut this.io, cx, buf));
        if buf.filled().len() > before {
            this.fate.heard.store(true, Ordering::Relaxed);
        } else if result.is_ok() {
            this.fate.settle();
        }
        Poll::Ready(this.told(result))
    }
}

impl<Io: Upstream> AsyncWrite for Link<Io> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_write(cx, data);
        this.fate.blocked.store(result.is_pending(), Ordering::Relaxed);
        let result = ready!(result);
        Poll::Ready(this.told(result))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_write_vectored(cx, data);
        this.fate.blocked.store(result.is_pending(), Ordering::Relaxed);
        let result = ready!(result);
        Poll::Ready(this.told(result))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = ready!(Pin::new(&mut this.io).poll_flush(cx));
        Poll::Ready(this.told(result))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.fate.busy.load(Ordering::Relaxed) {
            // An orderly end would let the upstream take half a request for a whole one, and go on answering it.
            this.io.abort(Code::CANCELLED);
            return Poll::Ready(Ok(()));
        }
        let result = ready!(Pin::new(&mut this.io).poll_shutdown(cx));
        Poll::Ready(this.told(result))
    }
}

/// Reads at most [`PIECE`] octets: a parser that has room for a large head would fill it with body, and hold that for a
/// reader that takes nothing.
pub(super) fn poll_read_some<IO: AsyncRead + Unpin>(
    io: &mut IO,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    if buf.remaining() <= PIECE {
        return Pin::new(io).poll_read(cx, buf);
    }
    let mut piece = ReadBuf::new(buf.initialize_unfilled_to(PIECE));
    let result = ready!(Pin::new(io).poll_read(cx, &mut piece));
    let count = piece.filled().len();
    buf.advance(count);
    Poll::Ready(result)
}

const PIECE: usize = 64 << 10;
