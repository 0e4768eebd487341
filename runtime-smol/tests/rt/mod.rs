//! Smol, in the words of the tests.

use core::{net::SocketAddr, time::Duration};
use std::io;

use async_io::Timer;
use smol::net::TcpListener;
pub(crate) use smol::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) use adit_smol as adit;

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    smol::block_on(future)
}

pub(crate) fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) {
    smol::spawn(future).detach();
}

pub(crate) fn start<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> impl Future<Output = T> {
    let (tell, told) = smol::channel::bounded(1);
    smol::spawn(async move {
        let _ = tell.send(future.await).await; // nobody need wait
    })
    .detach();
    async move { told.recv().await.unwrap() }
}

pub(crate) fn unblock<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> {
    smol::unblock(act)
}

pub(crate) async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    smol::future::or(async { Some(future.await) }, async {
        Timer::after(limit).await;
        None
    })
    .await
}

pub(crate) async fn join<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    smol::future::zip(one, other).await
}

pub(crate) async fn race<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    smol::future::or(one, other).await
}

pub(crate) async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

pub(crate) async fn dial(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Returns both ends of a transport.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = bind().await;
    let near = dial(listener.local_addr().unwrap()).await;
    (near, listener.accept().await.unwrap().0)
}

pub(crate) fn split<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> (impl AsyncRead + Unpin, impl AsyncWrite + Unpin) {
    smol::io::split(io)
}

pub(crate) async fn shutdown(io: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    io.close().await
}

pub(crate) fn nodelay(tcp: &TcpStream) -> bool {
    tcp.nodelay().unwrap()
}

pub(crate) async fn octet(io: &mut (impl AsyncRead + Unpin)) -> io::Result<u8> {
    let mut octet = [0];
    io.read_exact(&mut octet).await?;
    Ok(octet[0])
}
