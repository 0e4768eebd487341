//! Streams as `AsyncRead + AsyncWrite`.

use core::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};
use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use adit_core::{Code, FRAME, Open, ReadError, StreamId, WriteError, driver::StreamHandle};
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A good size for what is read elsewhere and written to a stream, in octets: whole frames, no small rest.
pub const CHUNK: usize = FRAME as usize * 4;

/// One connection inside a session. Dropping it resets what was not finished and stops what was not read.
///
/// Reading and writing may be cancelled at any await: nothing is lost.
#[derive(Debug)]
pub struct Stream {
    inner: StreamHandle,
    open: Option<Box<Open>>,
    rest: Bytes,
}

/// The receiving half of a [`Stream`]. Dropping it stops what was not read.
#[derive(Debug)]
pub struct ReadHalf {
    inner: Arc<StreamHandle>,
    rest: Bytes,
}

/// The sending half of a [`Stream`]. Dropping it resets what was not finished.
#[derive(Debug)]
pub struct WriteHalf {
    inner: Arc<StreamHandle>,
}

impl Stream {
    pub(crate) fn new(inner: StreamHandle) -> Self {
        let open = inner.take_open().map(Box::new);
        Self { inner, open, rest: Bytes::new() }
    }

    /// Returns the stream's number in its session.
    pub const fn id(&self) -> StreamId {
        self.inner.id()
    }

    /// Returns what the peer opened the stream for; `None` for a stream that this side opened.
    pub fn open(&self) -> Option<&Open> {
        self.open.as_deref()
    }

    /// Says that the stream has been handed to its destination.
    pub fn accept(&self) {
        self.inner.accept();
    }

    /// Waits until the peer has handed the stream to its destination. Data may be written before.
    ///
    /// # Errors
    /// The code with which the peer refused, or [`Code::SESSION_LOST`].
    pub async fn accepted(&self) -> Result<(), Code> {
        poll_fn(|cx| self.inner.poll_accepted(cx)).await
    }

    /// Like [`Self::accepted`], for use in a poll function.
    ///
    /// # Errors
    /// The code with which the peer refused, or [`Code::SESSION_LOST`].
    pub fn poll_accepted(&self, cx: &Context<'_>) -> Poll<Result<(), Code>> {
        self.inner.poll_accepted(cx)
    }

    /// Returns the next octets without a copy, at most `most`; `None` at the end.
    ///
    /// # Errors
    /// [`code_of`] gives the wire code.
    pub async fn read_bytes(&mut self, most: usize) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_read_bytes(cx, most)).await
    }

    /// Like [`Self::read_bytes`], for use in a poll function.
    ///
    /// # Errors
    /// [`code_of`] gives the wire code.
    pub fn poll_read_bytes(&mut self, cx: &Context<'_>, most: usize) -> Poll<io::Result<Option<Bytes>>> {
        read_bytes(&self.inner, &mut self.rest, most, cx)
    }

    /// Writes all of `data` without a copy. Cancelled, it leaves in `data` what was not taken.
    ///
    /// # Errors
    /// [`code_of`] gives the wire code.
    pub async fn write_bytes(&mut self, data: &mut Bytes) -> io::Result<()> {
        poll_fn(|cx| self.poll_write_bytes(cx, data)).await
    }

    /// Like [`Self::write_bytes`], for use in a poll function.
    ///
    /// # Errors
    /// [`code_of`] gives the wire code.
    pub fn poll_write_bytes(&mut self, cx: &Context<'_>, data: &mut Bytes) -> Poll<io::Result<()>> {
        write_bytes(&self.inner, data, cx)
    }

    /// Ends the sending direction in order; what was written still goes out.
    ///
    /// # Errors
    /// When the direction has been ended otherwise.
    pub fn finish(&self) -> io::Result<()> {
        self.inner.finish().map_err(write_error)
    }

    /// Ends the sending direction at once; the code reaches the peer's application.
    pub fn reset(&self, code: Code) {
        self.inner.reset(code);
    }

    /// Wants no more of the receiving direction; the peer is asked to cease.
    pub fn stop(&self, code: Code) {
        self.inner.stop(code);
    }

    /// Ends both directions at once.
    pub fn abort(&self, code: Code) {
        self.inner.reset(code);
        self.inner.stop(code);
    }

    /// Splits the stream into halves that can be used in different tasks.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        let inner = Arc::new(self.inner);
        (ReadHalf { inner: Arc::clone(&inner), rest: self.rest }, WriteHalf { inner })
    }
}

impl ReadHalf {
    /// Returns the next octets without a copy, at most `most`; `None` at the end.
    ///
    /// # Errors
    /// [`code_of`] gives the wire code.
    pub async fn read_bytes(&mut self, most: usize) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_read_bytes(cx, most)).await
    }

    /// Like [`Self::read_bytes`], for use in a poll function.
    ///
    /// # Errors
    /// [`code_of`] gives the wire code.
    pub fn poll_read_bytes(&mut self, cx: &Context<'_>, most: usize) -> Poll<io::Result<Option<Bytes>>> {
        read_bytes(&self.inner, &mut self.rest, most, cx)
    }

    /// Wants no more of the receiving direction; the peer is asked to cease.
    pub fn stop(&self, code: Code) {
        self.inner.stop(code);
    }
}

impl Drop for ReadHalf {
    fn drop(&mut self) {
        self.inner.stop(Code::CANCELLED);
    }
}

impl WriteHalf {
    /// Writes all of `data` without a copy. Cancelled, it leaves in `data` what was not taken.
    ///
    /// # Errors
    /// [`code_of`] gives the wire code.
    pub async fn write_bytes(&mut self, data: &mut Bytes) -> io::Result<()> {
        poll_fn(|cx| self.poll_write_bytes(cx, data)).await
    }

    /// Like [`Self::write_bytes`], for use in a poll function.
    ///
    /// # Errors
    /// [`code_of`] gives the wire code.
    pub fn poll_write_bytes(&mut self, cx: &Context<'_>, data: &mut Bytes) -> Poll<io::Result<()>> {
        write_bytes(&self.inner, data, cx)
    }

    /// Says that the stream has been handed to its destination.
    pub fn accept(&self) {
        self.inner.accept();
    }

    /// Ends the sending direction in order; what was written still goes out.
    ///
    /// # Errors
    /// When the direction has been ended otherwise.
    pub fn finish(&self) -> io::Result<()> {
        self.inner.finish().map_err(write_error)
    }

    /// Ends the sending direction at once; the code reaches the peer's application.
    pub fn reset(&self, code: Code) {
        self.inner.reset(code);
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.inner.reset_unfinished(Code::CANCELLED);
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        read(&this.inner, &mut this.rest, buffer, cx)
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        read(&this.inner, &mut this.rest, buffer, cx)
    }
}

macro_rules! async_write {
    ($half:ident) => {
        impl AsyncWrite for $half {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
                self.inner.poll_copy(&[IoSlice::new(data)], cx).map_err(write_error)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                data: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.inner.poll_copy(data, cx).map_err(write_error)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(self.finish())
            }
        }
    };
}

async_write!(Stream);
async_write!(WriteHalf);

/// The wire code behind an error of a stream.
#[derive(Clone, Copy, Debug)]
struct StreamError {
    code: Code,
    what: &'static str,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.code)
    }
}

impl core::error::Error for StreamError {}

/// Returns the wire code behind an error of a stream; `None` for other errors.
pub fn code_of(error: &io::Error) -> Option<Code> {
    error.get_ref()?.downcast_ref::<StreamError>().map(|error| error.code)
}

fn read_bytes(
    stream: &StreamHandle,
    rest: &mut Bytes,
    most: usize,
    cx: &Context<'_>,
) -> Poll<io::Result<Option<Bytes>>> {
    if rest.is_empty() {
        return stream.poll_read(most, cx).map_err(read_error);
    }
    Poll::Ready(Ok(Some(rest.split_to(most.min(rest.len())))))
}

fn read(stream: &StreamHandle, rest: &mut Bytes, buffer: &mut ReadBuf<'_>, cx: &Context<'_>) -> Poll<io::Result<()>> {
    let before = buffer.filled().len();
    while buffer.remaining() > 0 {
        if rest.is_empty() {
            match stream.poll_read(usize::MAX, cx) {
                Poll::Ready(Ok(Some(chunk))) => *rest = chunk,
                _ if buffer.filled().len() > before => break,
                Poll::Ready(Ok(None)) => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(read_error(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..count).unwrap_or_default());
        rest.advance(count);
    }
    Poll::Ready(Ok(()))
}

fn write_bytes(stream: &StreamHandle, data: &mut Bytes, cx: &Context<'_>) -> Poll<io::Result<()>> {
    while !data.is_empty() {
        ready!(stream.poll_write(data, cx)).map_err(write_error)?;
    }
    Poll::Ready(Ok(()))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what is left is this side's own doing")]
fn read_error(error: ReadError) -> io::Error {
    match error {
        ReadError::Reset(code) => failure(io::ErrorKind::ConnectionReset, code, "the peer reset the stream"),
        ReadError::Lost(code) => failure(io::ErrorKind::ConnectionAborted, code, "the session is over"),
        _ => failure(io::ErrorKind::NotConnected, Code::CANCELLED, "the direction was ended by this side"),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what is left is this side's own doing")]
fn write_error(error: WriteError) -> io::Error {
    match error {
        WriteError::Stopped(code) => failure(io::ErrorKind::BrokenPipe, code, "the peer wants no more"),
        WriteError::Lost(code) => failure(io::ErrorKind::ConnectionAborted, code, "the session is over"),
        _ => failure(io::ErrorKind::BrokenPipe, Code::CANCELLED, "the direction was ended by this side"),
    }
}

fn failure(kind: io::ErrorKind, code: Code, what: &'static str) -> io::Error {
    io::Error::new(kind, StreamError { code, what })
}
