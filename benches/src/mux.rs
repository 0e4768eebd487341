//! Multiplexers that do the same behind one trait, and the loads that they carry.
//!
//! Who opens streams sends; who accepts them does what the first octet says: [`SINK`] counts what comes and tells how much that
//! was, [`ECHO`] sends it back.

pub mod adit;
pub mod h2;
pub mod yamux;

use core::{future::Future, time::Duration};
use std::{io, time::Instant};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{BLOCK, MESSAGE};

/// Opens streams.
pub trait Dialer: Clone + Send + Sync + 'static {
    /// What is opened.
    type Stream: Stream;

    /// Opens a stream, as soon as the peer allows it.
    ///
    /// # Errors
    /// When the session is over.
    fn open(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// A stream in both directions.
pub trait Stream: Send + 'static {
    /// Sends all of `data`, as soon as there is room.
    ///
    /// # Errors
    /// When the stream is over.
    fn send(&mut self, data: Bytes) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits for octets; `None` at the end.
    ///
    /// # Errors
    /// When the stream was reset.
    fn receive(&mut self) -> impl Future<Output = io::Result<Option<Bytes>>> + Send;

    /// Waits for octets and returns how many there were, without them; `None` at the end.
    ///
    /// # Errors
    /// When the stream was reset.
    fn discard(&mut self) -> impl Future<Output = io::Result<Option<usize>>> + Send {
        async { Ok(self.receive().await?.map(|octets| octets.len())) }
    }

    /// Ends the sending direction.
    ///
    /// # Errors
    /// When the stream is over.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// Does at the accepting end what the first octet says.
pub(crate) async fn serve(mut stream: impl Stream) -> io::Result<()> {
    let Some(first) = stream.receive().await? else { return stream.finish().await };
    if first.first() == Some(&SINK) {
        let mut count = first.len() as u64;
        while let Some(more) = stream.discard().await? {
            count += more as u64;
        }
        stream.send(Bytes::copy_from_slice(&count.to_be_bytes())).await?;
        return stream.finish().await;
    }
    stream.send(first).await?;
    while let Some(more) = stream.receive().await? {
        stream.send(more).await?;
    }
    stream.finish().await
}

/// Moves `octets` in all over `streams` streams opened for it, and waits until the peer has told that they came.
///
/// # Errors
/// When they did not.
pub async fn bulk(dialer: &impl Dialer, streams: usize, octets: u64) -> io::Result<()> {
    carry(dialer, streams, octets, Bytes::clone).await
}

/// Like [`bulk`], each block in memory of its own, as it comes from a socket.
///
/// # Errors
/// When the octets did not come.
pub async fn bulk_of_copies(dialer: &impl Dialer, streams: usize, octets: u64) -> io::Result<()> {
    carry(dialer, streams, octets, |block| Bytes::copy_from_slice(block)).await
}

async fn carry(dialer: &impl Dialer, streams: usize, octets: u64, take: fn(&Bytes) -> Bytes) -> io::Result<()> {
    let each = octets / streams as u64;
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        let dialer = dialer.clone();
        tasks.spawn(async move {
            let mut stream = dialer.open().await?;
            pour(&mut stream, each, take).await?;
            stream.finish().await?;
            let mut count = Vec::new();
            while let Some(more) = stream.receive().await? {
                count.extend_from_slice(&more);
            }
            if count == each.to_be_bytes() { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
        });
    }
    tasks.join_all().await.into_iter().collect()
}

/// Sends `octets` that a [`SINK`] takes.
async fn pour(stream: &mut impl Stream, octets: u64, take: fn(&Bytes) -> Bytes) -> io::Result<()> {
    let (block, mut left) = (Bytes::from_static(&[SINK; BLOCK]), octets);
    while left > 0 {
        let length = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
        stream.send(take(&block.slice(..length))).await?;
        left -= length as u64;
    }
    Ok(())
}

/// Opens `count` streams, `at_once` at a time; each carries [`MESSAGE`] octets there and back and closes.
///
/// # Errors
/// When one does not.
pub async fn echo(dialer: &impl Dialer, count: usize, at_once: usize) -> io::Result<()> {
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        let dialer = dialer.clone();
        tasks.spawn(async move {
            for _ in 0..count / at_once {
                let mut stream = dialer.open().await?;
                stream.send(Bytes::from_static(&[ECHO; MESSAGE])).await?;
                stream.finish().await?;
                let mut length = 0;
                while let Some(more) = stream.discard().await? {
                    length += more;
                }
                if length != MESSAGE {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            Ok(())
        });
    }
    tasks.join_all().await.into_iter().collect()
}

/// Sends [`MESSAGE`] octets and waits until they are back, `count` times on one stream; returns each time that it took.
///
/// # Errors
/// When they do not come back.
pub async fn ping_pong(dialer: &impl Dialer, count: usize) -> io::Result<Vec<Duration>> {
    let mut stream = dialer.open().await?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        stream.send(Bytes::from_static(&[ECHO; MESSAGE])).await?;
        let mut length = 0;
        while length < MESSAGE {
            length += stream.discard().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        times.push(start.elapsed());
    }
    stream.finish().await?;
    while stream.discard().await?.is_some() {}
    Ok(times)
}

/// Like [`ping_pong`], while another stream carries as much as it can.
///
/// # Errors
/// When the octets do not come back.
pub async fn ping_pong_beside_bulk<D: Dialer>(dialer: &D, count: usize) -> io::Result<Vec<Duration>> {
    let other = dialer.clone();
    let bulk = tokio::spawn(async move {
        let mut stream = other.open().await?;
        loop {
            pour(&mut stream, 1 << 30, Bytes::clone).await?;
        }
        #[expect(unreachable_code, reason = "says what the block returns")]
        io::Result::Ok(())
    });
    let times = ping_pong(dialer, count).await;
    bulk.abort();
    let _ = bulk.await;
    times
}

/// The first octet of a stream whose octets are counted.
pub const SINK: u8 = b's';
/// The first octet of a stream whose octets come back.
pub const ECHO: u8 = b'e';

#[cfg(test)]
mod tests {
    use super::*;

    async fn loads(dialer: impl Dialer) -> io::Result<()> {
        bulk(&dialer, 1, 3_000_000).await?;
        bulk(&dialer, 100, 3_000_000).await?;
        echo(&dialer, 96, 32).await?;
        assert_eq!(ping_pong(&dialer, 10).await?.len(), 10);
        assert_eq!(ping_pong_beside_bulk(&dialer, 10).await?.len(), 10);
        echo(&dialer, 10, 1).await
    }

    #[tokio::test]
    async fn each_carries_all_loads_over_loopback() {
        loads(adit::over_loopback(true).await.unwrap()).await.unwrap();
        loads(adit::over_loopback(false).await.unwrap()).await.unwrap();
        loads(h2::over_loopback().await.unwrap()).await.unwrap();
        loads(yamux::over_loopback().await.unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn those_without_a_task_of_their_own_carry_all_loads_in_memory() {
        loads(h2::in_memory().await.unwrap()).await.unwrap();
        loads(yamux::in_memory().await.unwrap()).await.unwrap();
    }
}
