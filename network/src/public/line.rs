//! A caller's end of a carried connection: its socket, or TLS over it that ends here.

use core::{
    cell::RefCell,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    net::Shutdown,
    sync::Arc,
};

use adit_tokio::CHUNK;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::http::Rewound;

/// TLS of a caller that ends here, over the socket and what was read of it before.
pub(super) type Secured = TlsStream<Rewound<Shared>>;

/// A caller's end of a carried connection.
#[derive(Debug)]
pub(super) struct Line {
    socket: Arc<TcpStream>,
    tls: Option<Box<Secured>>,
}

/// A socket that its TLS and whoever watches it have in common.
#[derive(Debug)]
pub(super) struct Shared(Arc<TcpStream>);

impl Line {
    /// Octets as they are.
    pub(super) fn plain(socket: TcpStream) -> Self {
        Self { socket: Arc::new(socket), tls: None }
    }

    /// What TLS over the socket says.
    pub(super) fn secured(tls: Secured) -> Self {
        Self { socket: Arc::clone(&tls.get_ref().0.io.0), tls: Some(Box::new(tls)) }
    }

    pub(super) fn socket(&self) -> Arc<TcpStream> {
        Arc::clone(&self.socket)
    }

    /// Returns whether TLS ends here.
    pub(super) const fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// Makes the close a reset, so that the caller does not take what it got for everything.
    pub(super) fn reset(&self) {
        // A socket that is gone needs no reset.
        let _ = SockRef::from(&*self.socket).set_linger(Some(Duration::ZERO));
    }

    /// Reads at most `most` octets when there are some; empty at the end. TLS that breaks off without saying so has no end.
    pub(super) fn poll_read(&mut self, most: usize, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match &mut self.tls {
            None => poll_read(&self.socket, most, cx),
            Some(tls) => SCRATCH.with_borrow_mut(|scratch| {
                scratch.clear();
                scratch.reserve(CHUNK);
                let mut room = (&mut *scratch).limit(most.min(CHUNK));
                let read = pin!(tls.read_buf(&mut room)).poll(cx); // dropped while it waits, it has taken nothing
                Poll::Ready(ready!(read).map(|count| taken(scratch, count)))
            }),
        }
    }

    /// Writes from the front of `waiting`; returns how many octets.
    pub(super) fn poll_write(
        &mut self,
        waiting: &mut VecDeque<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let Some(tls) = &mut self.tls else { return poll_write(&self.socket, waiting, cx) };
        let Some(front) = waiting.front() else { return Poll::Ready(Ok(0)) };
        match ready!(Pin::new(&mut **tls).poll_write(cx, front))? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => {
                advance(waiting, written);
                Poll::Ready(Ok(written))
            }
        }
    }

    /// Is ready when the socket has all that was written.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tls {
            None => Poll::Ready(Ok(())),
            Some(tls) => Pin::new(&mut **tls).poll_flush(cx),
        }
    }

    /// Says that no more is written, in TLS as well.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tls {
            None => Poll::Ready(SockRef::from(&*self.socket).shutdown(Shutdown::Write)),
            Some(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
        }
    }
}

impl Shared {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self(Arc::new(socket))
    }
}

impl AsyncRead for Shared {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buf.initialize_unfilled()) {
                Ok(count) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.0.try_write_vectored(data) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_write_ready(cx))?,
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}

fn poll_read(socket: &TcpStream, most: usize, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    loop {
        ready!(socket.poll_read_ready(cx))?;
        let read = SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            scratch.reserve(CHUNK);
            let count = socket.try_read_buf(&mut (&mut *scratch).limit(most.min(CHUNK)))?;
            Ok(taken(scratch, count))
        });
        match read {
            Err(error) if io::Error::kind(&error) == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}

/// Takes what was read; a small piece must not hold a large buffer while it waits.
fn taken(scratch: &mut BytesMut, count: usize) -> Bytes {
    if count >= CHUNK / 4 { scratch.split().freeze() } else { Bytes::copy_from_slice(scratch) }
}

fn poll_write(socket: &TcpStream, waiting: &mut VecDeque<Bytes>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    loop {
        let mut parts = [IoSlice::new(&[]); PARTS];
        let mut count = 0;
        for (part, chunk) in parts.iter_mut().zip(waiting.iter()) {
            *part = IoSlice::new(chunk);
            count += 1;
        }
        match socket.try_write_vectored(parts.get(..count).unwrap_or_default()) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(written) => {
                advance(waiting, written);
                return Poll::Ready(Ok(written));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(socket.poll_write_ready(cx))?,
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

fn advance(waiting: &mut VecDeque<Bytes>, mut written: usize) {
    while written > 0
        && let Some(front) = waiting.front_mut()
    {
        let count = written.min(front.len());
        front.advance(count);
        written -= count;
        if front.is_empty() {
            waiting.pop_front();
        }
    }
}

thread_local! {
    /// What a read fills; large pieces leave with it.
    static SCRATCH: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Pieces that are written at once.
const PARTS: usize = 16;
