//! A host's own clock: it runs with the world's, but for jumps, and for sleep that it does not count.

use crate::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Clock {
    /// What it shows more than the world's clock, in nanoseconds.
    ahead: u64,
    sleep: Option<Sleep>,
}

#[derive(Clone, Copy, Debug)]
struct Sleep {
    since: Instant,
    until: Instant,
    counted: bool,
}

impl Default for Clock {
    fn default() -> Self {
        Self { ahead: START, sleep: None }
    }
}

impl Clock {
    /// Returns what it shows.
    pub(super) fn read(&self, world: Instant) -> Instant {
        let stands = self.sleep.filter(|sleep| !sleep.counted).map(|sleep| sleep.since);
        stands.unwrap_or(world) + Duration::from_nanos(self.ahead)
    }

    /// Returns when, for the world, it shows this.
    pub(super) fn world(&self, shown: Instant) -> Instant {
        Instant::from_nanos(shown.as_nanos().saturating_sub(self.ahead))
    }

    pub(super) fn jump(&mut self, by: Duration) {
        self.ahead = self.ahead.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(0));
    }

    /// Stops the host, or lets it stay so for longer.
    pub(super) fn sleep(&mut self, now: Instant, until: Instant, counted: bool) {
        let sleep = self.sleep.get_or_insert(Sleep { since: now, until, counted });
        sleep.until = sleep.until.max(until);
    }

    pub(super) const fn sleeps(&self) -> bool {
        self.sleep.is_some()
    }

    /// Wakes the host if it is time.
    pub(super) fn wake(&mut self, now: Instant) {
        if self.sleep.is_some_and(|sleep| sleep.until <= now) {
            self.wake_at_once(now);
        }
    }

    pub(super) fn wake_at_once(&mut self, now: Instant) {
        if let Some(sleep) = self.sleep.take().filter(|sleep| !sleep.counted) {
            let slept = u64::try_from(now.since(sleep.since).as_nanos()).unwrap_or(u64::MAX);
            self.ahead = self.ahead.saturating_sub(slept);
        }
    }
}

/// More than all sleep of a world that is not counted.
const START: u64 = 1_000_000_000_000_000;
