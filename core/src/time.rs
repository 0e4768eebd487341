//! Time as an argument: an instant is a number that the driver hands in.

pub use core::time::Duration;

/// A point in time: nanoseconds since an origin that the driver chose and keeps.
///
/// Arithmetic saturates: a hostile or broken clock makes a deadline too late or too early, never a panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64); // spec: TIME-001, and never the time of day

impl Instant {
    /// The origin.
    pub const ZERO: Self = Self(0);

    /// Returns the instant that lies `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the time from `earlier` to `self`, zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// When to call `handle_timeout`, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// The instant at which the timer is due.
    pub at: Instant,
    /// What is due.
    pub why: TimerKind,
}

impl Deadline {
    /// Returns the earlier of two deadlines; of two at the same instant, the first in the order of [`TimerKind`].
    pub fn earliest(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// The reason of a [`Deadline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerKind {
    /// The handshake has to be complete.
    Handshake,
    /// A question is due.
    Ping,
    /// The peer has been silent for the tolerance after a question.
    Silence,
    /// The transport has taken nothing for the tolerance.
    Stall,
    /// An acknowledgement is due.
    Ack,
    /// A drain has to be complete.
    Drain,
    /// The last octets of a closing link have to be out.
    Close,
    /// A parked session ends.
    Park,
    /// The next attempt to dial is due.
    Redial,
    /// The dial in progress takes too long.
    Dial,
    /// A session has lived long enough to be called stable.
    Stable,
    /// A refused bind is due to be asked for again.
    Rebind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let last = Instant::from_nanos(u64::MAX);

        assert_eq!(last + Duration::MAX, last);
        assert_eq!(Instant::ZERO.since(last), Duration::ZERO);
        assert_eq!(last.since(Instant::ZERO), Duration::from_nanos(u64::MAX));
        assert_eq!((Instant::ZERO + Duration::from_micros(3)).as_nanos(), 3_000);
    }

    #[test]
    fn the_earliest_deadline_is_the_earlier_one_whichever_stands_first() {
        let early = Deadline { at: Instant::from_nanos(1), why: TimerKind::Ack };
        let late = Deadline { at: Instant::from_nanos(2), why: TimerKind::Ping };

        assert_eq!(Deadline::earliest(Some(early), Some(late)), Some(early));
        assert_eq!(Deadline::earliest(Some(late), Some(early)), Some(early));
        assert_eq!(Deadline::earliest(None, Some(late)), Some(late));
        assert_eq!(Deadline::earliest(None, None), None);
    }
}
