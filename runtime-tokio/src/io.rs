//! Any tokio transport as the driver sees it, and the future that drives it.

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use std::io::{self, IoSlice};

use adit_core::{
    Side,
    driver::{Task, Transport},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::Alarm;

struct Socket<T>(T);

impl<T: AsyncRead + AsyncWrite + Unpin> Transport for Socket<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, buffers)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Drives one link to its end, and keeps its session afterwards for as long as another link may come.
pub(crate) struct Drive<S: Side, T> {
    task: Task<S>,
    /// Closed as soon as it is of no more use.
    io: Option<Socket<T>>,
    alarm: Alarm,
}

impl<S: Side, T> Drive<S, T> {
    pub(crate) fn new(task: Task<S>, io: T) -> Self {
        Self { task, io: Some(Socket(io)), alarm: Alarm::default() }
    }
}

impl<S: Side, T: AsyncRead + AsyncWrite + Unpin> Future for Drive<S, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { task, io, alarm } = self.get_mut();
        if let Some(socket) = io {
            ready!(task.poll_drive(socket, alarm, cx));
            *io = None;
        }
        task.poll_parked(alarm, cx)
    }
}

impl<S: Side, T> Unpin for Drive<S, T> {}
