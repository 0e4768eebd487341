//! Bulk transfers over one or many streams.

use core::{net::SocketAddr, time::Duration};
use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Instant,
};

use crate::services::CHUNK;

/// Which way the octets go, seen from the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the service to the caller.
    Down,
    /// From the caller to the service.
    Up,
}

/// Moves `total` octets over `streams` connections at once; returns the time it took.
pub(crate) fn transfer(address: SocketAddr, direction: Direction, streams: usize, total: u64) -> io::Result<Duration> {
    let share = total / streams as u64;
    let connections = (0..streams).map(|_| connect(address)).collect::<io::Result<Vec<_>>>()?;
    let start = Instant::now();
    let threads: Vec<_> =
        connections.into_iter().map(|stream| thread::spawn(move || move_one(stream, direction, share))).collect();
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a transfer panicked"))??;
    }
    Ok(start.elapsed())
}

/// Connects without Nagle's algorithm.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

fn move_one(mut stream: TcpStream, direction: Direction, total: u64) -> io::Result<()> {
    let letter = if direction == Direction::Down { b'D' } else { b'U' };
    let mut request = vec![letter];
    request.extend(total.to_be_bytes());
    stream.write_all(&request)?;
    let mut buffer = vec![0; CHUNK];
    match direction {
        Direction::Down => {
            let mut left = total;
            while left > 0 {
                match stream.read(&mut buffer)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => left = left.saturating_sub(count as u64),
                }
            }
        }
        Direction::Up => {
            let mut left = total;
            while left > 0 {
                let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                stream.write_all(buffer.get(..size).unwrap_or_default())?;
                left -= size as u64;
            }
            stream.read_exact(buffer.get_mut(..1).unwrap_or_default())?;
        }
    }
    Ok(())
}
