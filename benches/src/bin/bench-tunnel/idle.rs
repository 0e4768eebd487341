//! Memory of connections that say nothing.

use core::{net::SocketAddr, time::Duration};
use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{process::wait_for, stand::Stand};

/// Returns what one idle connection costs network and agent, in octets.
pub(crate) fn per_connection(stand: &Stand, count: usize) -> io::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = settled(|| stand.memory())?;
    let held = runtime.block_on(open(stand.services.echo, count))?;
    let after = settled(|| stand.memory())?;
    drop(held);
    #[expect(clippy::cast_precision_loss, reason = "a count of connections")]
    Ok((after - before) / count as f64)
}

/// Returns the memory before `count` connections are opened and after they are closed, in octets.
pub(crate) fn after_closing(stand: &Stand, count: usize) -> io::Result<(f64, f64)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = settled(|| stand.memory())?;
    runtime.block_on(async { open(stand.services.echo, count).await.map(drop) })?;
    // One more exchange shows that the tunnel has come past the ends before it.
    runtime.block_on(async { open(stand.services.echo, 1).await.map(drop) })?;
    Ok((before, settled(|| stand.memory())?))
}

/// Opens connections, each of which has carried 64 octets to and fro.
async fn open(address: SocketAddr, count: usize) -> io::Result<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(count);
    while held.len() < count {
        let batch: Vec<_> = (held.len()..count.min(held.len() + BATCH)).map(|_| tokio::spawn(greet(address))).collect();
        for task in batch {
            held.push(task.await.map_err(io::Error::other)??);
        }
    }
    Ok(held)
}

async fn greet(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = [7; 64];
    stream.write_all(&buffer).await?;
    stream.read_exact(&mut buffer).await?;
    Ok(stream)
}

/// Reads the memory when it has stopped to change: two readings, a fifth of a second apart, within one percent.
pub(crate) fn settled(read: impl Fn() -> io::Result<f64>) -> io::Result<f64> {
    let mut last = read()?;
    wait_for("memory settles", Duration::from_secs(20), || {
        std::thread::sleep(Duration::from_millis(200));
        let memory = read()?;
        let still = (memory - last).abs() <= last * 0.01;
        last = memory;
        Ok(still.then_some(memory))
    })
}

/// Connections opened at once.
const BATCH: usize = 64;
