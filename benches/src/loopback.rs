//! Sockets over loopback, and TLS between them without anything on top.

use std::io;

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::{BLOCK, secure::Credentials};

/// Returns both ends of a connection.
///
/// # Errors
/// What the operating system says.
pub async fn sockets() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (dialed, accepted) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
    let (dialed, (accepted, _)) = (dialed?, accepted?);
    dialed.set_nodelay(true)?;
    accepted.set_nodelay(true)?;
    Ok((dialed, accepted))
}

/// Returns both ends of a connection that is secured for the application protocol `alpn`.
///
/// # Errors
/// What the operating system or TLS says.
pub async fn secured(alpn: &[u8]) -> io::Result<(client::TlsStream<TcpStream>, server::TlsStream<TcpStream>)> {
    let Credentials { client, server } = Credentials::new(alpn);
    let (dialed, accepted) = sockets().await?;
    let dialed = TlsConnector::from(client).connect(Credentials::name(), dialed);
    let (dialed, accepted) = tokio::join!(dialed, TlsAcceptor::from(server).accept(accepted));
    Ok((dialed?, accepted?))
}

/// One TLS connection, whose other end takes what comes and acknowledges each `octets` of it.
#[derive(Debug)]
pub struct Bare {
    stream: client::TlsStream<TcpStream>,
    octets: u64,
}

impl Bare {
    /// Joins two ends.
    ///
    /// # Errors
    /// When they cannot be joined.
    pub async fn new(octets: u64) -> io::Result<Self> {
        let (stream, mut sink) = secured(b"bare").await?;
        tokio::spawn(async move {
            let (mut buffer, mut count) = (vec![0; BLOCK], 0);
            while let Ok(more @ 1..) = sink.read(&mut buffer).await {
                count += more as u64;
                if count >= octets {
                    count -= octets;
                    sink.write_all(&[1]).await?;
                    sink.flush().await?;
                }
            }
            io::Result::Ok(())
        });
        Ok(Self { stream, octets })
    }

    /// Moves the octets that the other end acknowledges at a time.
    ///
    /// # Errors
    /// When they do not arrive.
    pub async fn bulk(&mut self) -> io::Result<()> {
        let (block, mut left) = (Bytes::from_static(&[7; BLOCK]), self.octets);
        while left > 0 {
            let length = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
            self.stream.write_all(&block[..length]).await?;
            left -= length as u64;
        }
        self.stream.flush().await?;
        self.stream.read_u8().await.map(drop)
    }
}
