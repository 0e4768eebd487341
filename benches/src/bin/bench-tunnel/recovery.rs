//! How soon the tunnel serves again after the network was killed.

use core::{net::SocketAddr, time::Duration};
use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    time::Instant,
};

use crate::{adit::Adit, process::wait_for};

/// Kills the network, starts it again `down` later, and returns the seconds from its being ready to the first answer.
pub(crate) fn after_kill(adit: &mut Adit, down: Duration) -> io::Result<f64> {
    let echo = adit.entrances().echo;
    wait_for("service before the kill", Duration::from_secs(20), || Ok(exchange(echo).ok()))?;
    adit.kill_network();
    std::thread::sleep(down);
    adit.restart_network()?;
    let ready = Instant::now();
    wait_for("service after the restart", Duration::from_secs(60), || Ok(exchange(echo).ok()))?;
    Ok(ready.elapsed().as_secs_f64())
}

fn exchange(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut buffer = [7; 64];
    stream.write_all(&buffer)?;
    stream.read_exact(&mut buffer)
}
