//! One direction of a transport: latency, rate, pieces, stalls and cuts.

use alloc::{collections::VecDeque, vec::Vec};

use crate::{Duration, Instant};

/// What a wire is like.
#[derive(Clone, Debug)]
pub struct Path {
    /// The time that an octet takes.
    pub latency: Duration,
    /// The most octets that may be on the way: the socket's buffers.
    pub capacity: usize,
    /// The longest piece that is delivered at once.
    pub piece: usize,
    /// The octets a second; `None` for no limit.
    pub rate: Option<u64>,
}

impl Default for Path {
    fn default() -> Self {
        Self { latency: Duration::from_millis(1), capacity: 256 << 10, piece: usize::MAX, rate: None }
    }
}

/// Octets on their way from one side to the other.
#[derive(Clone, Debug)]
pub struct Wire {
    /// What it is like.
    pub path: Path,
    /// While set, nothing is taken from the sender.
    pub stalled: bool,
    /// While set, what is taken vanishes.
    pub hole: bool,
    /// While set, nothing arrives; what was sent meanwhile comes in its turn, as behind a packet that has to be sent again.
    pub held: bool,
    transit: VecDeque<(Instant, Vec<u8>)>,
    on_the_way: usize,
    free_at: Instant,
    sent: u64,
}

impl Wire {
    /// Returns an empty wire.
    pub const fn new(path: Path) -> Self {
        let transit = VecDeque::new();
        Self { path, stalled: false, hole: false, held: false, transit, on_the_way: 0, free_at: Instant::ZERO, sent: 0 }
    }

    /// Takes octets from the sender; returns how many.
    pub fn send(&mut self, octets: &[u8], now: Instant) -> usize {
        let room = if self.stalled { 0 } else { self.path.capacity.saturating_sub(self.on_the_way) };
        let taken = octets.get(..room.min(octets.len())).unwrap_or_default();
        self.sent = self.sent.saturating_add(taken.len() as u64);
        if self.hole || taken.is_empty() {
            return taken.len();
        }
        for piece in taken.chunks(self.path.piece.max(1)) {
            let start = self.free_at.max(now);
            let time = self.path.rate.map_or(Duration::ZERO, |rate| {
                Duration::from_nanos((piece.len() as u64).saturating_mul(1_000_000_000) / rate.max(1))
            });
            self.free_at = start + time;
            self.transit.push_back((self.free_at + self.path.latency, piece.to_vec()));
            self.on_the_way += piece.len();
        }
        taken.len()
    }

    /// Returns the next piece that has arrived.
    pub fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.hole {
            self.transit.clear();
            self.on_the_way = 0;
        }
        let (at, _) = self.transit.front()?;
        if self.held || *at > now {
            return None;
        }
        let (_, piece) = self.transit.pop_front()?;
        self.on_the_way -= piece.len();
        Some(piece)
    }

    /// Returns when the next piece arrives.
    pub fn arrival(&self) -> Option<Instant> {
        self.transit.front().filter(|_| !self.held).map(|(at, _)| *at)
    }

    /// Returns how many octets could be taken.
    pub const fn room(&self) -> usize {
        if self.stalled { 0 } else { self.path.capacity.saturating_sub(self.on_the_way) }
    }

    /// Returns how many octets were taken in all.
    pub const fn sent(&self) -> u64 {
        self.sent
    }
}
