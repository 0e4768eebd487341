//! A path between two network namespaces: passes packets from one TUN device (standard input) to another (standard output)
//! and back, late, at a rate, with a queue of bounded length, and loses some.
//!
//! `bench-link DELAY_US RATE_OCTETS_PER_S QUEUE_OCTETS LOSS_PER_MILLION`

use core::{error::Error, time::Duration};
use std::{
    env,
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Instant,
};

use adit_core::Rng;

/// What the path is like in one direction.
#[derive(Clone, Copy)]
struct Path {
    delay: Duration,
    rate: u64,
    queue: u64,
    loss: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u64> = env::args().skip(1).map(|argument| argument.parse()).collect::<Result<_, _>>()?;
    let &[delay, rate, queue, loss] = numbers.as_slice() else {
        return Err("usage: bench-link DELAY_US RATE_OCTETS_PER_S QUEUE_OCTETS LOSS_PER_MILLION".into());
    };
    let path = Path { delay: Duration::from_micros(delay), rate: rate.max(1), queue, loss };
    let one = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let other = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let pairs = [(one.try_clone()?, other.try_clone()?, 1), (other, one, 2)];
    let threads = pairs.map(|(from, to, seed)| {
        let (sender, receiver) = channel();
        [thread::spawn(move || take(from, path, &sender, seed)), thread::spawn(move || give(to, &receiver))]
    });
    for thread in threads.into_iter().flatten() {
        thread.join().map_err(|_| "a direction panicked")??;
    }
    Ok(())
}

/// Takes packets and says when each arrives at the other end; what finds the queue full is lost, as at a router.
fn take(mut from: File, path: Path, sender: &Sender<(Instant, Vec<u8>)>, seed: u64) -> io::Result<()> {
    let (mut rng, mut free_at) = (Rng::new(seed), Instant::now());
    let mut buffer = vec![0; 1 << 16];
    let longest = Duration::from_nanos(path.queue.saturating_mul(1_000_000_000) / path.rate);
    loop {
        let count = from.read(&mut buffer)?;
        let now = Instant::now();
        let lost = rng.between(0, 1_000_000) < path.loss;
        if lost || free_at.saturating_duration_since(now) > longest {
            continue;
        }
        let time = Duration::from_nanos((count as u64).saturating_mul(1_000_000_000) / path.rate);
        free_at = free_at.max(now) + time;
        if sender.send((free_at + path.delay, buffer.get(..count).unwrap_or_default().to_vec())).is_err() {
            return Ok(());
        }
    }
}

/// Gives packets out when they have arrived.
fn give(mut to: File, receiver: &Receiver<(Instant, Vec<u8>)>) -> io::Result<()> {
    while let Ok((at, packet)) = receiver.recv() {
        let left = at.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            thread::sleep(left);
        }
        // A packet that the other end does not take is lost.
        let _ = to.write(&packet);
    }
    Ok(())
}
