//! The end of a caller that takes nothing: what waits for it in the system is thrown away with its connection, else the system
//! would keep it for as long as the caller opens its window now and then.

use core::{
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
    time::Duration,
};
use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::Rewound;

/// A connection whose close can be made a reset.
pub trait Cut {
    /// Makes the close of the connection a reset.
    fn cut(&self);
}

impl Cut for TcpStream {
    fn cut(&self) {
        // A socket that is gone needs no reset.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl<IO: Cut> Cut for TlsStream<IO> {
    fn cut(&self) {
        self.get_ref().0.cut();
    }
}

impl<IO: Cut> Cut for Rewound<IO> {
    fn cut(&self) {
        self.io.cut();
    }
}

/// A connection that is cut when it is dropped, if somebody has said so.
#[derive(Debug)]
pub(super) struct Guarded<IO: Cut> {
    io: IO,
    cut: Arc<AtomicBool>,
}

impl<IO: Cut> Guarded<IO> {
    /// Returns the connection, and what says that it is to be cut.
    pub(super) fn new(io: IO) -> (Self, Arc<AtomicBool>) {
        let cut = Arc::new(AtomicBool::new(false));
        (Self { io, cut: Arc::clone(&cut) }, cut)
    }
}

impl<IO: Cut> Drop for Guarded<IO> {
    fn drop(&mut self) {
        if self.cut.load(Ordering::Relaxed) {
            self.io.cut();
        }
    }
}

impl<IO: Cut + AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl<IO: Cut + AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
