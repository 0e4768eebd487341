//! Tokio, in the words of the tests.

use core::{net::SocketAddr, time::Duration};
use std::io;

use tokio::io::split as halves;
pub(crate) use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub(crate) use adit_tokio as adit;

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(future)
}

pub(crate) fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) {
    tokio::spawn(future);
}

pub(crate) fn start<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> impl Future<Output = T> {
    let task = tokio::spawn(future);
    async { task.await.unwrap() }
}

pub(crate) fn unblock<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> {
    let task = tokio::task::spawn_blocking(act);
    async { task.await.unwrap() }
}

pub(crate) async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

pub(crate) async fn join<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    tokio::join!(one, other)
}

pub(crate) async fn race<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    tokio::select! {
        output = one => output,
        output = other => output,
    }
}

pub(crate) async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

pub(crate) async fn dial(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Returns both ends of a transport.
pub(crate) async fn pair() -> (impl AsyncRead + AsyncWrite + Unpin + Send, impl AsyncRead + AsyncWrite + Unpin + Send) {
    tokio::io::duplex(64 << 10)
}

pub(crate) fn split<T: AsyncRead + AsyncWrite>(io: T) -> (impl AsyncRead + Unpin, impl AsyncWrite + Unpin) {
    halves(io)
}

pub(crate) async fn shutdown(io: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    io.shutdown().await
}

pub(crate) fn nodelay(tcp: &TcpStream) -> bool {
    tcp.nodelay().unwrap()
}

pub(crate) async fn octet(io: &mut (impl AsyncRead + Unpin)) -> io::Result<u8> {
    io.read_u8().await
}
