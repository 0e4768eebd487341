//! The first octets of a connection without ALPN: HTTP/2 with prior knowledge, or HTTP/1.

use core::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use std::io::{self, IoSlice};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::timeout,
};

/// What the caller speaks, as far as its first octets tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http1,
    Http2,
}

/// Reads until the first octets tell what is spoken; they are returned too. `None` when nothing came in time.
///
/// The timer is ours because hyper has none before it knows the version.
pub(super) async fn peek<IO: AsyncRead + Unpin>(io: &mut IO, most: Duration) -> Option<(Spoken, Vec<u8>)> {
    let mut first = Vec::new();
    let told = async {
        loop {
            if !PREFACE.starts_with(&first[..first.len().min(PREFACE.len())]) {
                return Some(Spoken::Http1);
            }
            if first.len() >= PREFACE.len() {
                return Some(Spoken::Http2);
            }
            first.reserve(FIRST_READ);
            if !matches!(io.read_buf(&mut first).await, Ok(count) if count > 0) {
                return None;
            }
        }
    };
    let spoken = timeout(most, told).await;
    match spoken {
        Ok(Some(spoken)) => Some((spoken, first)),
        Ok(None) => None,
        // What came is the beginning of a preface or of a method such as PRI: HTTP/1 will say 408 or 505.
        Err(_) => (!first.is_empty()).then_some((Spoken::Http1, first)),
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FIRST_READ: usize = 2048;

/// A connection with octets put back in front of it.
#[derive(Debug)]
pub(crate) struct Rewound<IO> {
    pub(crate) first: Vec<u8>,
    pub(crate) io: IO,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Rewound<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let count = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..count]);
        self.first.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Rewound<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
