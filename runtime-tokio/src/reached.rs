//! Connections to other servers by the way that sessions take: what a proxy opened, as `AsyncRead + AsyncWrite`.

use core::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use std::io::{self, IoSlice};

use adit_core::driver::Transport as _;
use adit_runtime::{self as shared, ConnectError, ConnectOptions, Forward, Path};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{Io, Tokio};

/// A connection to a server, or to the proxy before it.
#[derive(Debug)]
pub struct Reached(Path<Io<TcpStream>>);

/// Connects to `host`, a name or an address, at `port`, through the proxy of `options` if there is one for it: whatever is said
/// then is said to the server. The name is resolved at the proxy.
///
/// # Errors
/// [`ConnectError`]; what concerns a proxy is [`ConnectError::Proxy`].
pub async fn reach(host: &str, port: u16, options: &ConnectOptions) -> Result<Reached, ConnectError> {
    shared::reach::<Tokio>(host, port, options).await.map(Reached)
}

/// Connects for one request in plain HTTP: to the server, or to a proxy that takes such requests for others. Of the latter the
/// [`Forward`] tells what concerns it, and the request names the whole URL.
///
/// # Errors
/// [`ConnectError`]; what concerns a proxy is [`ConnectError::Proxy`].
pub async fn reach_http(
    host: &str,
    port: u16,
    options: &ConnectOptions,
) -> Result<(Reached, Option<Forward>), ConnectError> {
    let (path, forward) = shared::reach_http::<Tokio>(host, port, options).await?;
    Ok((Reached(path), forward))
}

impl AsyncRead for Reached {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = ready!(self.0.poll_read(cx, buffer.initialize_unfilled()))?;
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Reached {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_close(cx)
    }
}
