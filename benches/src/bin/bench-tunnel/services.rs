//! The services behind the tunnels: bulk on threads, everything else on one small runtime.

use core::net::SocketAddr;
use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener as AsyncListener, TcpStream as AsyncStream},
};

/// Where the services listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Services {
    /// `D` or `U` and a count (u64, big endian): sends so many octets, or takes them and answers one.
    pub(crate) bulk: SocketAddr,
    /// HTTP/1.1: `/` in one write, `/two` in two, `/close` closes.
    pub(crate) http: SocketAddr,
    /// Sends back what comes.
    pub(crate) echo: SocketAddr,
}

impl Services {
    /// Starts the services on free ports.
    pub(crate) fn start() -> io::Result<Self> {
        let bulk = TcpListener::bind("127.0.0.1:0")?;
        let http = TcpListener::bind("127.0.0.1:0")?;
        let echo = TcpListener::bind("127.0.0.1:0")?;
        let services = Self { bulk: bulk.local_addr()?, http: http.local_addr()?, echo: echo.local_addr()? };
        thread::spawn(move || {
            for stream in bulk.incoming().flatten() {
                // A transfer that breaks is seen by the one who measures it.
                thread::spawn(move || drop(serve_bulk(stream)));
            }
        });
        http.set_nonblocking(true)?;
        echo.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || runtime.block_on(async { tokio::join!(serve_http(http), serve_echo(echo)) }));
        Ok(services)
    }
}

fn serve_bulk(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; 9];
    stream.read_exact(&mut request)?;
    let [direction, count @ ..] = request;
    let mut left = u64::from_be_bytes(count);
    let mut buffer = vec![0; CHUNK];
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let part = buffer.get_mut(..size).unwrap_or_default();
        if direction == b'D' {
            stream.write_all(part)?;
            left -= size as u64;
        } else {
            let count = stream.read(part)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= count as u64;
        }
    }
    if direction == b'D' { Ok(()) } else { stream.write_all(b".") }
}

async fn serve_http(listener: TcpListener) -> io::Result<()> {
    let listener = AsyncListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move { answer_requests(stream).await });
    }
}

async fn answer_requests(mut stream: AsyncStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        if !buffer.ends_with(b"\r\n\r\n") {
            continue;
        }
        if buffer.starts_with(b"GET /two ") {
            stream.write_all(HEAD).await?;
            stream.write_all(BODY).await?;
        } else if buffer.starts_with(b"GET /close ") {
            stream.write_all(CLOSING).await?;
            return stream.shutdown().await;
        } else {
            stream.write_all(WHOLE).await?;
        }
        buffer.clear();
    }
}

async fn serve_echo(listener: TcpListener) -> io::Result<()> {
    let listener = AsyncListener::from_std(listener)?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let mut buffer = [0; 256];
            loop {
                let count = stream.read(&mut buffer).await?;
                if count == 0 {
                    return stream.shutdown().await;
                }
                stream.write_all(buffer.get(..count).unwrap_or_default()).await?;
            }
        });
    }
}

/// Octets handed to one write.
pub(crate) const CHUNK: usize = 256 << 10;

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\n";
const BODY: &[u8] = b"hello world\n";
const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nhello world\n";
const CLOSING: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\nConnection: close\r\n\r\nhello world\n";
