//! The sockets and timers of `async-io` and the executor of smol, as the shared machinery asks for them.

use core::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use std::{
    io::{self, IoSlice},
    net::{TcpListener, TcpStream, ToSocketAddrs},
};

use adit_core::{
    driver::Transport,
    runtime::{Runtime, Sleep},
};
use async_io::Async;
use smol::io::{AsyncRead, AsyncWrite};
use socket2::SockRef;

use crate::Stream;

/// The runtime that this crate is for.
#[derive(Clone, Copy, Debug)]
pub struct Smol;

impl Runtime for Smol {
    type Stream = Stream;
    type Listener = Async<TcpListener>;
    type Tcp = Async<TcpStream>;
    type Socket = Io<Async<TcpStream>>;
    type Sleep = Timer;

    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }

    async fn resolve(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        smol::unblock(move || Ok((host.as_str(), port).to_socket_addrs()?.collect())).await
    }

    async fn dial(address: SocketAddr) -> io::Result<Async<TcpStream>> {
        Async::<TcpStream>::connect(address).await
    }

    fn poll_accept(
        listener: &mut Async<TcpListener>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Async<TcpStream>, SocketAddr)>> {
        loop {
            match listener.get_ref().accept() {
                Ok((tcp, peer)) => return Poll::Ready(Async::new(tcp).map(|tcp| (tcp, peer))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(listener.poll_readable(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(listener: &Async<TcpListener>) -> io::Result<SocketAddr> {
        listener.get_ref().local_addr()
    }

    fn socket(tcp: &Async<TcpStream>) -> SockRef<'_> {
        SockRef::from(tcp.get_ref())
    }
}

/// A transport of `futures`, as the pump reads and writes it.
#[derive(Debug)]
pub struct Io<T>(pub T);

impl<T> From<T> for Io<T> {
    fn from(io: T) -> Self {
        Self(io)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Transport for Io<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, buffers)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

/// A timer of `async-io`.
#[derive(Debug)]
pub struct Timer(async_io::Timer);

impl Sleep for Timer {
    fn start(after: Duration) -> Self {
        Self(async_io::Timer::after(after))
    }

    fn restart(&mut self, after: Duration) {
        self.0.set_after(after);
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}
