//! Tokio's sockets, timers and tasks, as the shared machinery asks for them.

use core::{
    any::Any,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use std::io::{self, IoSlice};

use adit_core::driver::Transport;
use adit_runtime::{Datagrams, Runtime, Sleep, leave_to_kernel, reset_when_closed};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket, lookup_host},
};

use crate::Stream;

/// The runtime that this crate is for. Tasks run in the tokio runtime that is entered where they are started.
#[derive(Clone, Copy, Debug)]
pub struct Tokio;

impl Runtime for Tokio {
    type Stream = Stream;
    type Listener = TcpListener;
    type Tcp = TcpStream;
    type Socket = Io<TcpStream>;
    type Udp = Udp;
    type Sleep = Timer;

    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    async fn resolve(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(lookup_host((host, port)).await?.collect())
    }

    async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
        socket.connect(address).await
    }

    fn udp(socket: std::net::UdpSocket) -> io::Result<Udp> {
        UdpSocket::from_std(socket).map(Udp)
    }

    fn poll_accept(listener: &mut TcpListener, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        listener.poll_accept(cx)
    }

    fn local_addr(listener: &TcpListener) -> io::Result<SocketAddr> {
        listener.local_addr()
    }

    fn socket(tcp: &TcpStream) -> SockRef<'_> {
        SockRef::from(tcp)
    }
}

/// A transport of tokio, as the pump reads and writes it.
#[derive(Debug)]
pub struct Io<T>(pub T);

impl<T> From<T> for Io<T> {
    fn from(io: T) -> Self {
        Self(io)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Transport for Io<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, buffers)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tcp) = (&self.0 as &dyn Any).downcast_ref::<TcpStream>() {
            leave_to_kernel(SockRef::from(tcp));
        }
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn abort(&mut self) {
        if let Some(tcp) = (&self.0 as &dyn Any).downcast_ref::<TcpStream>() {
            reset_when_closed(SockRef::from(tcp));
        }
    }
}

/// A UDP socket of tokio.
#[derive(Debug)]
pub struct Udp(UdpSocket);

impl Datagrams for Udp {
    fn poll_send(&mut self, cx: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_send(cx, datagram)
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(self.0.poll_recv(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

/// A timer of tokio.
#[derive(Debug)]
pub struct Timer(Pin<Box<tokio::time::Sleep>>);

impl Sleep for Timer {
    fn start(after: Duration) -> Self {
        Self(Box::pin(tokio::time::sleep(after)))
    }

    fn restart(&mut self, after: Duration) {
        self.0.as_mut().reset(tokio::time::Instant::now() + after);
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}
