//! What a rule has been used for: a rate is the time at which its next unit is due.

use core::time::Duration;

use super::{Limits, Usage};

/// What goes on under one rule. Times are since any one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meter {
    pub(super) connections: u64,
    pub(super) bytes: u64,
    /// When the connections that have come would be paid for.
    connections_due: Duration,
    /// When the octets that were carried would be paid for.
    bytes_due: Duration,
}

impl Meter {
    /// Returns what one more connection meets.
    pub(super) fn usage(&self, limits: &Limits, now: Duration) -> Usage {
        let hurried = limits
            .connections_per_second
            .is_some_and(|rate| self.connections_due.max(now) + cost(1, rate) > now + SECOND);
        Usage { connections: self.connections, bytes: self.bytes, hurried }
    }

    /// Counts a connection that has come.
    pub(super) fn arrived(&mut self, limits: &Limits, now: Duration) {
        if let Some(rate) = limits.connections_per_second {
            self.connections_due = self.connections_due.max(now) + cost(1, rate);
        }
    }

    /// Counts octets; returns whether they are the last that there may be.
    pub(super) fn carried(&mut self, octets: u64, limits: &Limits, now: Duration) -> bool {
        if let Some(rate) = limits.bytes_per_second {
            self.bytes_due = self.bytes_due.max(now) + cost(octets, rate);
        }
        self.bytes = self.bytes.saturating_add(octets);
        limits.total_bytes.is_some_and(|total| total <= self.bytes)
    }

    /// Returns when more octets may be carried; a time that has passed for at once.
    pub(super) fn ready(&self, limits: &Limits) -> Duration {
        if limits.bytes_per_second.is_some() { self.bytes_due.saturating_sub(BURST) } else { Duration::ZERO }
    }
}

fn cost(units: u64, rate: u64) -> Duration {
    let nanos = u128::from(units) * SECOND.as_nanos() / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).min(MAX_COST))
}

const SECOND: Duration = Duration::from_secs(1);
/// Octets that may come at once before the rate holds, as a time.
const BURST: Duration = Duration::from_millis(100);
/// A day: no single piece is worth more, whatever the rate.
const MAX_COST: u64 = 86_400_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_a_second_of_connections_come_at_once_and_then_one_at_a_time() {
        let limits = Limits { connections_per_second: Some(4), ..Limits::default() };
        let (mut meter, ms) = (Meter::default(), Duration::from_millis);
        let mut arrive = |now| {
            let refused = meter.usage(&limits, now).hurried;
            if !refused {
                meter.arrived(&limits, now);
            }
            !refused
        };

        assert_eq!([0; 6].map(|_| arrive(ms(10_000))), [true, true, true, true, false, false]);
        assert_eq!((arrive(ms(10_249)), arrive(ms(10_250)), arrive(ms(10_251))), (false, true, false));
    }

    #[test]
    fn octets_come_at_their_rate() {
        let limits = Limits { bytes_per_second: Some(1_000), ..Limits::default() };
        let (mut meter, ms) = (Meter::default(), Duration::from_millis);

        assert!(!meter.carried(100, &limits, ms(5_000)));
        assert!(meter.ready(&limits) <= ms(5_000));
        meter.carried(1_000, &limits, ms(5_000));
        assert_eq!(meter.ready(&limits), ms(6_000));
        assert_eq!(meter.ready(&Limits::default()), ms(0), "a rule that was loosened holds nothing up");
    }

    #[test]
    fn the_last_octet_is_told() {
        let limits = Limits { total_bytes: Some(10), ..Limits::default() };
        let mut meter = Meter::default();

        assert!(!meter.carried(9, &limits, SECOND));
        assert!(meter.carried(1, &limits, SECOND));
        assert_eq!(meter.usage(&limits, SECOND).bytes, 10);
    }
}
