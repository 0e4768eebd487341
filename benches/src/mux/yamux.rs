//! The crate `yamux`, with its defaults: windows that grow by themselves, up to 1 GiB in all.

use core::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};
use std::io;

use bytes::Bytes;
use futures_util::{
    AsyncReadExt as _, AsyncWriteExt as _,
    io::{AsyncRead, AsyncWrite},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::TokioAsyncReadCompatExt as _;
use yamux::{Config, Connection, Mode};

use super::{Dialer, Stream, serve};
use crate::{BLOCK, loopback};

/// The end that opens streams, by asking the task that drives the connection.
#[derive(Clone, Debug)]
pub struct Yamux(mpsc::UnboundedSender<Wish>);

type Wish = oneshot::Sender<yamux::Stream>;

/// A stream and what it reads into.
#[derive(Debug)]
pub struct Channel {
    stream: yamux::Stream,
    buffer: Vec<u8>,
}

/// Joins two ends over loopback, with TLS.
///
/// # Errors
/// When they cannot be joined.
pub async fn over_loopback() -> io::Result<Yamux> {
    let (dialed, accepted) = loopback::secured(b"yamux").await?;
    Ok(join(dialed.compat(), accepted.compat()))
}

/// Joins two ends in memory.
///
/// # Errors
/// When they cannot be joined.
#[expect(clippy::unused_async, reason = "shaped like the others; it spawns")]
pub async fn in_memory() -> io::Result<Yamux> {
    let (dialed, accepted) = tokio::io::duplex(crate::PIPE);
    Ok(join(dialed.compat(), accepted.compat()))
}

fn join<T>(dialed: T, accepted: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Yamux
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut accepted = Connection::new(accepted, Config::default(), Mode::Server);
    tokio::spawn(async move {
        while let Some(Ok(stream)) = poll_fn(|cx| accepted.poll_next_inbound(cx)).await {
            tokio::spawn(serve(Channel::new(stream)));
        }
    });
    let (sender, wishes) = mpsc::unbounded_channel();
    let connection = Connection::new(dialed, Config::default(), Mode::Client);
    tokio::spawn(Drive { connection, wishes, wish: None });
    Yamux(sender)
}

/// Drives the end that opens streams.
struct Drive<T> {
    connection: Connection<T>,
    wishes: mpsc::UnboundedReceiver<Wish>,
    wish: Option<Wish>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Drive<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            if this.wish.is_none() {
                match this.wishes.poll_recv(cx) {
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Ready(wish) => this.wish = wish,
                    Poll::Pending => {}
                }
            }
            if let Some(wish) = this.wish.take() {
                match this.connection.poll_new_outbound(cx) {
                    Poll::Ready(Ok(stream)) => {
                        let _ = wish.send(stream);
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => this.wish = Some(wish),
                }
            }
            match this.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(_))) => {} // nobody opens streams from there
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Dialer for Yamux {
    type Stream = Channel;

    async fn open(&self) -> io::Result<Channel> {
        let (wish, stream) = oneshot::channel();
        self.0.send(wish).map_err(io::Error::other)?;
        stream.await.map(Channel::new).map_err(io::Error::other)
    }
}

impl Channel {
    const fn new(stream: yamux::Stream) -> Self {
        Self { stream, buffer: Vec::new() }
    }
}

impl Stream for Channel {
    async fn send(&mut self, data: Bytes) -> io::Result<()> {
        self.stream.write_all(&data).await
    }

    async fn receive(&mut self) -> io::Result<Option<Bytes>> {
        let count = self.discard().await?;
        Ok(count.map(|count| Bytes::copy_from_slice(&self.buffer[..count])))
    }

    async fn discard(&mut self) -> io::Result<Option<usize>> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BLOCK];
        }
        let count = self.stream.read(&mut self.buffer).await?;
        Ok((count > 0).then_some(count))
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.stream.close().await
    }
}
