//! A token bucket for what a peer may do now and then, but not all the time.

use crate::{Duration, Instant};

/// Holds up to `burst` tokens and gains one each `period`.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: u32,
    burst: u32,
    period: Duration,
    gained: Instant,
}

impl Bucket {
    pub(crate) const fn new(burst: u32, period: Duration, now: Instant) -> Self {
        Self { tokens: burst, burst, period, gained: now }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let periods = now.since(self.gained).as_nanos() / self.period.as_nanos().max(1);
        let gain = u32::try_from(periods).unwrap_or(u32::MAX);
        if self.tokens.saturating_add(gain) >= self.burst {
            self.tokens = self.burst;
            self.gained = now;
        } else {
            self.tokens = self.tokens.saturating_add(gain);
            self.gained = self.gained + self.period.saturating_mul(gain);
        }
        let taken = self.tokens.checked_sub(1);
        self.tokens = taken.unwrap_or(0);
        taken.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_and_then_one_each_period() {
        let at = |ms| Instant::ZERO + Duration::from_millis(ms);
        let mut bucket = Bucket::new(3, Duration::from_millis(100), at(0));

        assert_eq!([0, 0, 0, 0].map(|ms| bucket.take(at(ms))), [true, true, true, false]);
        assert_eq!([99, 100, 100, 199, 200].map(|ms| bucket.take(at(ms))), [false, true, false, false, true]);
        assert_eq!([9_000; 4].map(|ms| bucket.take(at(ms))), [true, true, true, false]);
    }
}
