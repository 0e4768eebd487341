//! The sockets and timers of `async-io` and the executor of smol, as the shared machinery asks for them.

use core::{
    any::Any,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use std::{
    io::{self, IoSlice},
    net::{TcpListener, ToSocketAddrs, UdpSocket},
};

use adit_core::driver::Transport;
use adit_runtime::{Datagrams, Runtime, Sleep, leave_to_kernel, reset_when_closed};
use async_io::Async;
use smol::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use socket2::SockRef;

use crate::Stream;

/// The runtime that this crate is for.
#[derive(Clone, Copy, Debug)]
pub struct Smol;

impl Runtime for Smol {
    type Stream = Stream;
    type Listener = Listener;
    type Tcp = TcpStream;
    type Socket = Io<TcpStream>;
    type Udp = Udp;
    type Sleep = Timer;

    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }

    async fn resolve(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        smol::unblock(move || Ok((host.as_str(), port).to_socket_addrs()?.collect())).await
    }

    async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
        Ok(Async::<std::net::TcpStream>::connect(address).await?.into())
    }

    fn udp(socket: UdpSocket) -> io::Result<Udp> {
        Async::new_nonblocking(socket).map(Udp)
    }

    fn poll_accept(listener: &mut Listener, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        listener.poll_accept(cx)
    }

    fn local_addr(listener: &Listener) -> io::Result<SocketAddr> {
        listener.local_addr()
    }

    fn socket(tcp: &TcpStream) -> SockRef<'_> {
        SockRef::from(tcp)
    }
}

/// A listening socket that can be asked in a poll function.
#[derive(Debug)]
pub struct Listener(pub Async<TcpListener>);

impl Listener {
    /// Waits for a connection. One task at a time may wait.
    ///
    /// # Errors
    /// What the operating system says; the listener may be asked again.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Like [`Self::accept`], for use in a poll function.
    ///
    /// # Errors
    /// What the operating system says; the listener may be asked again.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        loop {
            match self.0.get_ref().accept() {
                Ok((tcp, peer)) => return Poll::Ready(Async::new(tcp).map(|tcp| (tcp.into(), peer))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_readable(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Returns the address it listens on.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }
}

/// A transport of `futures`, as the pump reads and writes it. Its `poll_close` must end the writing side: that of
/// `smol::net::TcpStream` does, that of a bare `Async<TcpStream>` does nothing.
#[derive(Debug)]
pub struct Io<T>(pub T);

impl<T> From<T> for Io<T> {
    fn from(io: T) -> Self {
        Self(io)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Transport for Io<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, buffers)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tcp) = (&self.0 as &dyn Any).downcast_ref::<TcpStream>() {
            leave_to_kernel(SockRef::from(tcp));
        }
        Pin::new(&mut self.0).poll_close(cx)
    }

    fn abort(&mut self) {
        if let Some(tcp) = (&self.0 as &dyn Any).downcast_ref::<TcpStream>() {
            reset_when_closed(SockRef::from(tcp));
        }
    }
}

/// A UDP socket of `async-io`.
#[derive(Debug)]
pub struct Udp(Async<UdpSocket>);

impl Datagrams for Udp {
    fn poll_send(&mut self, cx: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.0.get_ref().send(datagram) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_writable(cx))?,
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.0.get_ref().recv(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_readable(cx))?,
                received => return Poll::Ready(received),
            }
        }
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
