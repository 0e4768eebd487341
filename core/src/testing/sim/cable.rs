//! A connection between an agent and a node: two pipes that deliver in order, late, or never.

use alloc::{collections::VecDeque, vec::Vec};

use super::super::Path;
use crate::{Duration, Instant, Role};

/// One connection, as both its ends and the network between them see it.
#[derive(Debug)]
pub(super) struct Cable {
    pub(super) agent: usize,
    pub(super) node: usize,
    pipes: [Pipe; 2],
    /// Which ends still hold it.
    held: [bool; 2],
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    path: Path,
    transit: VecDeque<(Instant, Vec<u8>)>,
    on_the_way: usize,
    free_at: Instant,
    pub(super) fate: Fate,
    /// When the receiver learns that the sender is gone, and how.
    end: Option<(Instant, Farewell)>,
    /// Whether the sender waits for room.
    pub(super) blocked: bool,
}

/// What becomes of octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// They arrive.
    Flows,
    /// They fill the buffers and never arrive.
    Dead,
    /// They are taken and never arrive.
    Swallowed,
}

/// How the sender's end shows at the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    Eof { clean: bool },
    Reset,
}

impl Cable {
    pub(super) fn new(agent: usize, node: usize, [up, down]: [Path; 2]) -> Self {
        Self { agent, node, pipes: [Pipe::new(up), Pipe::new(down)], held: [true; 2] }
    }

    /// Returns the pipe that this role sends into.
    pub(super) const fn out(&mut self, role: Role) -> &mut Pipe {
        &mut self.pipes[side(role)]
    }

    /// Lets go of one end; returns whether the other has as well.
    pub(super) fn let_go(&mut self, role: Role, farewell: Farewell, now: Instant) -> bool {
        self.held[side(role)] = false;
        self.out(role).finish(farewell, now);
        self.out(role.peer()).fate = Fate::Swallowed; // whatever still comes is nobody's
        self.held == [false, false]
    }

    pub(super) const fn is_held(&self, role: Role) -> bool {
        self.held[side(role)]
    }
}

impl Pipe {
    const fn new(path: Path) -> Self {
        Self {
            path,
            transit: VecDeque::new(),
            on_the_way: 0,
            free_at: Instant::ZERO,
            fate: Fate::Flows,
            end: None,
            blocked: false,
        }
    }

    /// Takes octets from the sender: how many, and when each piece of them arrives.
    pub(super) fn send(&mut self, octets: &[u8], now: Instant, mut arrives: impl FnMut(Instant)) -> usize {
        if self.fate == Fate::Swallowed || self.end.is_some() {
            return octets.len();
        }
        let room = self.path.capacity.saturating_sub(self.on_the_way);
        let taken = octets.get(..room.min(octets.len())).unwrap_or_default();
        self.blocked = taken.len() < octets.len();
        for piece in taken.chunks(self.path.piece.max(1)) {
            let time = self.path.rate.map_or(Duration::ZERO, |rate| {
                Duration::from_nanos((piece.len() as u64).saturating_mul(1_000_000_000) / rate.max(1))
            });
            self.free_at = self.free_at.max(now) + time;
            let at = self.free_at + self.path.latency;
            self.transit.push_back((at, piece.to_vec()));
            self.on_the_way += piece.len();
            arrives(at);
        }
        taken.len()
    }

    /// Returns the next piece that has arrived.
    pub(super) fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.fate != Fate::Flows || self.transit.front()?.0 > now {
            return None;
        }
        let (_, piece) = self.transit.pop_front()?;
        self.on_the_way -= piece.len();
        Some(piece)
    }

    /// Returns how the sender ended, once all that it sent was received.
    pub(super) fn farewell(&self, now: Instant) -> Option<Farewell> {
        let (at, farewell) = self.end?;
        (self.fate == Fate::Flows && self.transit.is_empty() && at <= now).then_some(farewell)
    }

    /// Ends the pipe behind what is in it; a reset does not wait for it.
    pub(super) fn finish(&mut self, farewell: Farewell, now: Instant) {
        if farewell == Farewell::Reset {
            self.transit.clear();
            self.on_the_way = 0;
        }
        let at = self.free_at.max(now) + self.path.latency;
        self.end = self.end.or(Some((at, farewell)));
    }

    /// Returns when the sender's end arrives.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.end.map(|(at, _)| at)
    }

    /// Lets what was held up arrive from now on, in order; tells when.
    pub(super) fn flow_again(&mut self, now: Instant, mut arrives: impl FnMut(Instant)) {
        let at = now + self.path.latency;
        for piece in &mut self.transit {
            piece.0 = piece.0.max(at);
            arrives(piece.0);
        }
        if let Some(end) = &mut self.end {
            end.0 = end.0.max(at);
            arrives(end.0);
        }
        self.free_at = self.free_at.max(now);
    }

    pub(super) const fn latency(&self) -> Duration {
        self.path.latency
    }
}

/// Returns the place of a role in a pair: the agent first.
pub(super) const fn side(role: Role) -> usize {
    match role {
        Role::Agent => 0,
        Role::Network => 1,
    }
}
