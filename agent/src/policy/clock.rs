//! The latest time that was seen: a clock that is set back brings nothing back that has expired.

use core::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

/// What the wall clock has shown, and what has passed since by a clock that never goes back; lock-free, times are arguments.
#[derive(Debug)]
pub(super) struct Clock(
    /// The latest time that was seen, less what had passed then since the agent began: in milliseconds since 1970.
    AtomicI64,
);

impl Clock {
    pub(super) const fn new() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }

    /// Takes what the wall clock shows, since 1970, and what has passed since the agent began; returns the latest time that was seen, in
    /// seconds since 1970.
    pub(super) fn latest(&self, wall: Duration, passed: Duration) -> i64 {
        let (wall, passed) = (millis(wall), millis(passed));
        let begun = wall.saturating_sub(passed);
        self.0.fetch_max(begun, Ordering::Relaxed).max(begun).saturating_add(passed).div_euclid(1_000)
    }

    /// Takes a time that was seen before the agent began, in seconds since 1970.
    pub(super) fn remember(&self, latest: i64, passed: Duration) {
        self.0.fetch_max(latest.saturating_mul(1_000).saturating_sub(millis(passed)), Ordering::Relaxed);
    }

    /// Forgets what was seen: another policy has come.
    pub(super) fn forget(&self) {
        self.0.store(i64::MIN, Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_latest_time_goes_on_when_the_clock_goes_back_and_follows_it_ahead() {
        let clock = Clock::new();

        assert_eq!(clock.latest(at(1_000), at(1)), 1_000);
        assert_eq!(clock.latest(at(500), at(11)), 1_010, "ten seconds have passed, whatever the clock shows");
        assert_eq!(clock.latest(at(0), at(12)), 1_011);
        assert_eq!(clock.latest(at(2_000), at(13)), 2_000, "as after a sleep of the machine");
    }

    #[test]
    fn what_was_seen_before_the_agent_began_counts_until_another_policy_comes() {
        let clock = Clock::new();
        clock.remember(5_000, at(2));

        assert_eq!(clock.latest(at(1_000), at(3)), 5_001);
        clock.remember(4_000, at(4));
        assert_eq!(clock.latest(at(1_000), at(4)), 5_002, "an earlier time changes nothing");
        clock.forget();
        assert_eq!(clock.latest(at(1_000), at(5)), 1_000);
        clock.remember(i64::MAX, at(6));
        assert!(clock.latest(at(1_000), at(7)) > i64::from(u32::MAX) * 1_000, "what is not known is long past");
    }
}
