//! Streams as `AsyncRead + AsyncWrite`.

use core::{
    ops::{Deref, DerefMut},
    pin::Pin,
    task::{Context, Poll},
};
use std::io::{self, IoSlice};

use adit_runtime as shared;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One connection inside a session. Dropping it resets what was not finished and stops what was not read.
///
/// Reading and writing may be cancelled at any await: nothing is lost.
#[derive(Debug)]
pub struct Stream(shared::Stream);

/// The receiving half of a [`Stream`]. Dropping it stops what was not read.
#[derive(Debug)]
pub struct ReadHalf(shared::ReadHalf);

/// The sending half of a [`Stream`]. Dropping it resets what was not finished.
#[derive(Debug)]
pub struct WriteHalf(shared::WriteHalf);

impl Stream {
    /// Splits the stream into halves that can be used in different tasks.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        let (read, write) = self.0.into_split();
        (ReadHalf(read), WriteHalf(write))
    }
}

impl From<shared::Stream> for Stream {
    fn from(stream: shared::Stream) -> Self {
        Self(stream)
    }
}

macro_rules! deref {
    ($outer:ident) => {
        impl Deref for $outer {
            type Target = shared::$outer;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }

        impl DerefMut for $outer {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.0
            }
        }
    };
}

macro_rules! async_read {
    ($half:ident) => {
        impl AsyncRead for $half {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let room = buffer.remaining();
                self.0.poll_read_with(cx, room, |part| buffer.put_slice(part)).map_ok(drop)
            }
        }
    };
}

macro_rules! async_write {
    ($half:ident) => {
        impl AsyncWrite for $half {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
                self.0.poll_write(cx, &[IoSlice::new(data)])
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                data: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.0.poll_write(cx, data)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(self.0.finish())
            }
        }
    };
}

deref!(Stream);
deref!(ReadHalf);
deref!(WriteHalf);
async_read!(Stream);
async_read!(ReadHalf);
async_write!(Stream);
async_write!(WriteHalf);
