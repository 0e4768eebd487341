//! The caller's side of a carried connection: its octets as they are, or what is inside the TLS that ends here.

use core::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use std::io;

use adit_core::{Code, Open};
use adit_tokio::{CHUNK, Stream};
use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite as _;
use tokio_rustls::server::TlsStream;

use crate::upstream::read;

/// The caller's side of a carried connection.
pub(crate) enum Front {
    /// Octets that this agent cannot or need not understand.
    Plain(Stream),
    /// TLS that ends here.
    Tls(Box<TlsStream<Stream>>),
}

impl Front {
    /// Takes what is there, at most a chunk; `None` at the end. TLS that ends without saying so is an error
    /// ([`io::ErrorKind::UnexpectedEof`]): what came may be a part only.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        match self {
            Self::Plain(stream) => stream.poll_read_bytes(cx, CHUNK),
            Self::Tls(tls) => read(tls, cx).map_ok(|data| (!data.is_empty()).then_some(data)),
        }
    }

    /// Writes all of `data`; ready when nothing of it, nor of what was written before, waits here.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_write_bytes(cx, data),
            Self::Tls(tls) => {
                while !data.is_empty() {
                    let taken = ready!(Pin::new(&mut *tls).poll_write(cx, data))?;
                    data.advance(taken);
                }
                Pin::new(tls).poll_flush(cx)
            }
        }
    }

    /// Ends the direction to the caller in order; in TLS it is told so.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Poll::Ready(stream.finish()),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }

    /// Fails once the caller wants nothing more.
    pub(super) fn poll_alive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, &[]),
            Self::Tls(tls) => Pin::new(tls.get_mut().0).poll_write(cx, &[]),
        }
    }

    /// Wants no more of the caller's direction.
    pub(super) fn stop(&self, code: Code) {
        self.stream().stop(code);
    }

    /// Ends both directions at once.
    pub(crate) fn abort(&self, code: Code) {
        self.stream().abort(code);
    }

    /// Returns what the network told of the caller.
    pub(crate) fn open(&self) -> Option<&Open> {
        self.stream().open()
    }

    /// Returns the number of the stream in its session.
    pub(crate) fn number(&self) -> u32 {
        self.stream().id().number()
    }

    fn stream(&self) -> &Stream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }
}
