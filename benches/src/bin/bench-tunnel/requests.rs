//! Requests a second: over 64 connections that are kept, and over a new one each.

use core::{net::SocketAddr, time::Duration};
use std::{io, time::Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How a worker uses connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connections {
    /// One for all its requests.
    Kept,
    /// A new one for each.
    New,
}

/// Returns the requests a second that `workers` make at once.
pub(crate) fn rate(
    address: SocketAddr,
    host: &str,
    connections: Connections,
    workers: usize,
    seconds: f64,
) -> io::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(seconds);
        let tasks: Vec<_> = (0..workers)
            .map(|_| {
                let host = host.to_owned();
                tokio::spawn(async move {
                    match connections {
                        Connections::Kept => keep(address, &host, end).await,
                        Connections::New => renew(address, &host, end).await,
                    }
                })
            })
            .collect();
        let mut count = 0;
        for task in tasks {
            count += task.await.map_err(io::Error::other)??;
        }
        Ok(f64::from(count) / start.elapsed().as_secs_f64())
    })
}

async fn keep(address: SocketAddr, host: &str, end: Instant) -> io::Result<u32> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut buffer = Vec::with_capacity(4096);
    let mut count = 0;
    while Instant::now() < end {
        stream.write_all(request.as_bytes()).await?;
        buffer.clear();
        while !buffer.ends_with(b"hello world\n") {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(io::Error::other(format!("cut: {}", String::from_utf8_lossy(&buffer))));
            }
        }
        count += 1;
    }
    Ok(count)
}

async fn renew(address: SocketAddr, host: &str, end: Instant) -> io::Result<u32> {
    let request = format!("GET /close HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut buffer = Vec::with_capacity(4096);
    let mut count = 0;
    while Instant::now() < end {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(request.as_bytes()).await?;
        buffer.clear();
        while stream.read_buf(&mut buffer).await? > 0 {}
        if !buffer.ends_with(b"hello world\n") {
            return Err(io::Error::other(format!("cut: {}", String::from_utf8_lossy(&buffer))));
        }
        count += 1;
    }
    Ok(count)
}
