//! A connection to an upstream, whatever it is made of.

use core::{
    cell::RefCell,
    future::Future as _,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};
use std::io::{self, IoSlice};

use adit_tokio::CHUNK;
use bytes::{BufMut as _, Bytes, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// A connection to an upstream.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Reads what is there, at most a chunk; empty at the end. An idle connection has no buffer.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match self {
            Self::Tcp(stream) => read(stream, cx),
            #[cfg(unix)]
            Self::Unix(stream) => read(stream, cx),
            Self::Tls(stream) => read(stream, cx),
        }
    }

    pub(crate) fn poll_write(&mut self, data: &[IoSlice<'_>], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, data),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, data),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, data),
        }
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            #[cfg(unix)]
            Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Ends the writing side; what the upstream sends can still be read.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Makes the close that follows a reset: the upstream must not take it for an orderly end.
    pub(crate) fn abort(self) {
        let tcp = match &self {
            Self::Tcp(stream) => stream,
            #[cfg(unix)]
            Self::Unix(_) => return, // a close with unread data is all that Unix sockets have
            Self::Tls(stream) => stream.get_ref().0,
        };
        let _ = SockRef::from(tcp).set_linger(Some(core::time::Duration::ZERO)); // it is closed either way
    }
}

/// Reads what is there, at most a chunk; empty at the end.
pub(crate) fn read<T: AsyncRead + Unpin>(stream: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        scratch.reserve(CHUNK);
        let count = {
            let mut room = (&mut *scratch).limit(CHUNK);
            // Polled once and dropped: reading takes nothing unless it is ready.
            ready!(pin!(stream.read_buf(&mut room)).poll(cx))?
        };
        if count <= COPIED {
            return Poll::Ready(Ok(Bytes::copy_from_slice(scratch)));
        }
        Poll::Ready(Ok(scratch.split().freeze()))
    })
}

thread_local! {
    /// What a read goes into, shared by all connections of a thread.
    static SCRATCH: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// What is not longer is copied, in octets: small pieces must not keep a whole chunk alive.
const COPIED: usize = 8 << 10;
