//! How long one small exchange takes: alone, and while a bulk transfer runs beside it.

use core::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::{
    io::{self, Read as _, Write as _},
    sync::Arc,
    thread,
    time::Instant,
};

use crate::{bulk::connect, services::CHUNK};

/// Times requests whose answer is written in two segments, one after another on one connection; seconds, sorted.
pub(crate) fn two_segments(address: SocketAddr, host: &str, seconds: f64) -> io::Result<Vec<f64>> {
    let mut stream = connect(address)?;
    let request = format!("GET /two HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut buffer = vec![0; 4096];
    sample(seconds, || {
        stream.write_all(request.as_bytes())?;
        let mut length = 0;
        while !buffer.get(..length).unwrap_or_default().ends_with(b"hello world\n") {
            match stream.read(buffer.get_mut(length..).unwrap_or_default())? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => length += count,
            }
        }
        Ok(())
    })
}

/// Times round trips of 64 octets while a bulk download runs through the same tunnel; seconds, sorted.
pub(crate) fn echo_beside_bulk(echo: SocketAddr, bulk: SocketAddr, seconds: f64) -> io::Result<Vec<f64>> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut download = connect(bulk)?;
    let mut request = vec![b'D'];
    request.extend(u64::MAX.to_be_bytes());
    download.write_all(&request)?;
    let mut buffer = vec![0; CHUNK];
    download.read_exact(buffer.get_mut(..1).unwrap_or_default())?;
    let reader = thread::spawn({
        let stop = Arc::clone(&stop);
        move || -> io::Result<()> {
            while !stop.load(Ordering::Relaxed) {
                if download.read(&mut buffer)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(())
        }
    });
    let times = echoes(echo, seconds);
    stop.store(true, Ordering::Relaxed);
    reader.join().map_err(|_| io::Error::other("the download panicked"))??;
    times
}

fn echoes(address: SocketAddr, seconds: f64) -> io::Result<Vec<f64>> {
    let mut stream = connect(address)?;
    let mut buffer = [7; 64];
    sample(seconds, || {
        stream.write_all(&buffer)?;
        stream.read_exact(&mut buffer)
    })
}

fn sample(seconds: f64, mut exchange: impl FnMut() -> io::Result<()>) -> io::Result<Vec<f64>> {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut times = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        exchange()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Returns the value below which `part` of the sorted samples lie.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index of a short list"
    )]
    let index = ((sorted.len() as f64 - 1.0) * part).round().max(0.0) as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
