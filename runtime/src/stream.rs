//! Streams, but for the traits of an executor.

use alloc::{boxed::Box, sync::Arc};
use core::{
    fmt,
    future::poll_fn,
    task::{Context, Poll, ready},
};
use std::io::{self, IoSlice};

use bytes::Bytes;

use adit_core::{Code, FRAME, Open, ReadError, StreamId, WriteError, driver::StreamHandle};

/// A good size for what is read elsewhere and written to a stream, in octets: whole frames, no small rest.
pub const CHUNK: usize = FRAME as usize * 4;

/// One connection inside a session; a runtime's own stream is this one with its traits. Dropping it resets what was not finished and stops what was not read.
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
    pub(super) fn new(inner: StreamHandle) -> Self {
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

    /// Copies octets to `buffer`; returns how many, zero at the end.
    ///
    /// # Errors
    /// [`code_of`] gives the wire code.
    pub fn poll_read(&mut self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        read(&self.inner, &mut self.rest, buffer, cx)
    }

    /// Hands octets to `put`, `room` at most in all; returns how many, zero at the end. For buffers that need not be zeroed first.
    ///
    /// # Errors
    /// [`code_of`] gives the wire code.
    pub fn poll_read_with(&mut self, cx: &Context<'_>, room: usize, put: impl FnMut(&[u8])) -> Poll<io::Result<usize>> {
        read_with(&self.inner, &mut self.rest, room, put, cx)
    }

    /// Copies octets from the front of `data`, as far as there is room; returns how many.
    ///
    /// # Errors
    /// [`code_of`] gives the wire code.
    pub fn poll_write(&self, cx: &Context<'_>, data: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.inner.poll_copy(data, cx).map_err(write_error)
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

    /// Copies octets to `buffer`; returns how many, zero at the end.
    ///
    /// # Errors
    /// [`code_of`] gives the wire code.
    pub fn poll_read(&mut self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        read(&self.inner, &mut self.rest, buffer, cx)
    }

    /// Hands octets to `put`, `room` at most in all; returns how many, zero at the end. For buffers that need not be zeroed first.
    ///
    /// # Errors
    /// [`code_of`] gives the wire code.
    pub fn poll_read_with(&mut self, cx: &Context<'_>, room: usize, put: impl FnMut(&[u8])) -> Poll<io::Result<usize>> {
        read_with(&self.inner, &mut self.rest, room, put, cx)
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

    /// Copies octets from the front of `data`, as far as there is room; returns how many.
    ///
    /// # Errors
    /// [`code_of`] gives the wire code.
    pub fn poll_write(&self, cx: &Context<'_>, data: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.inner.poll_copy(data, cx).map_err(write_error)
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

fn read_with(
    stream: &StreamHandle,
    rest: &mut Bytes,
    room: usize,
    mut put: impl FnMut(&[u8]),
    cx: &Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut filled = 0;
    while filled < room {
        if rest.is_empty() {
            match stream.poll_read(usize::MAX, cx) {
                Poll::Ready(Ok(Some(chunk))) => *rest = chunk,
                _ if filled > 0 => break,
                Poll::Ready(Ok(None)) => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(read_error(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        let part = rest.split_to(rest.len().min(room - filled));
        filled += part.len();
        put(&part);
    }
    Poll::Ready(Ok(filled))
}

fn read(stream: &StreamHandle, rest: &mut Bytes, mut buffer: &mut [u8], cx: &Context<'_>) -> Poll<io::Result<usize>> {
    let room = buffer.len();
    let put = |part: &[u8]| {
        let (filled, left) = core::mem::take(&mut buffer).split_at_mut(part.len());
        filled.copy_from_slice(part);
        buffer = left;
    };
    read_with(stream, rest, room, put, cx)
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
