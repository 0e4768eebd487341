//! How long to wait before trying again: full jitter under a doubling ceiling.

use crate::{Duration, Rng};

/// The delays between attempts: uniform in `[floor, min(cap, base · 2ⁿ)]`, where `n` counts the doublings so far (TIME-002).
///
/// The whole range is drawn from, so that many agents that lost the same node do not come back together; the floor keeps
/// an unlucky draw from being no delay at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    floor: Duration,
    base: Duration,
    cap: Duration,
    doublings: u32,
}

impl Backoff {
    /// Returns a policy that has not doubled yet. A `cap` under `base` counts as `base`, a `floor` above it too.
    pub(crate) fn new(floor: Duration, base: Duration, cap: Duration) -> Self {
        Self { floor: floor.min(base), base, cap: cap.max(base), doublings: 0 }
    }

    /// Draws a delay.
    pub(crate) fn draw(&self, rng: &mut Rng) -> Duration {
        let factor = 1_u32.checked_shl(self.doublings).unwrap_or(u32::MAX);
        let ceiling = self.cap.min(self.base.saturating_mul(factor));
        Duration::from_nanos(rng.between(nanos(self.floor), nanos(ceiling)))
    }

    /// Doubles the ceiling of the next draws.
    pub(crate) fn double(&mut self) {
        self.doublings = self.doublings.saturating_add(1);
    }

    /// Forgets every doubling.
    pub(crate) fn reset(&mut self) {
        self.doublings = 0;
    }
}

/// Returns the delay that a peer asked for: no longer than [`MAX_RETRY_AFTER`], and spread by up to a tenth, later only,
/// because the peer tells everyone the same.
pub(crate) fn after(asked: Duration, rng: &mut Rng) -> Duration {
    let delay = asked.min(MAX_RETRY_AFTER);
    delay + Duration::from_nanos(rng.between(0, nanos(delay / 10)))
}

/// The most of a peer's wish for a delay that counts (GO-004).
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Rng;

    const FLOOR: Duration = Duration::from_millis(100);
    const BASE: Duration = Duration::from_millis(500);
    const CAP: Duration = Duration::from_secs(30);

    #[test]
    fn the_ceiling_doubles_up_to_the_cap_and_the_whole_range_is_drawn_from() {
        let mut backoff = Backoff::new(FLOOR, BASE, CAP);
        let mut rng = Rng::new(3);

        for ceiling in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            let ceiling = Duration::from_millis(ceiling);
            let draws: [Duration; 400] = core::array::from_fn(|_| backoff.draw(&mut rng));
            let (least, most) = (draws.iter().min().expect("some"), draws.iter().max().expect("some"));
            let twentieth = (ceiling - FLOOR) / 20;
            assert!((FLOOR..FLOOR + twentieth).contains(least), "{least:?} under {ceiling:?}");
            assert!((ceiling - twentieth..=ceiling).contains(most), "{most:?} under {ceiling:?}");
            backoff.double();
        }
    }

    #[test]
    fn after_a_reset_the_first_range_holds() {
        let mut backoff = Backoff::new(FLOOR, BASE, CAP);
        let mut rng = Rng::new(3);

        (0..100).for_each(|_| backoff.double());
        backoff.reset();

        assert!((0..100).all(|_| backoff.draw(&mut rng) <= BASE));
    }

    proptest! {
        #[test]
        fn a_delay_is_between_floor_and_cap_however_odd_the_policy(
            floor: u64, base: u64, cap: u64, doublings in 0..100_u32, seed: u64,
        ) {
            let [floor, base, cap] = [floor, base, cap].map(Duration::from_nanos);
            let mut backoff = Backoff::new(floor, base, cap);
            (0..doublings).for_each(|_| backoff.double());

            let delay = backoff.draw(&mut Rng::new(seed));

            prop_assert!(floor.min(base) <= delay && delay <= cap.max(base));
        }

        #[test]
        fn a_peers_wish_is_never_undercut_and_never_beyond_five_minutes_and_a_tenth(asked: u64, seed: u64) {
            let asked = Duration::from_nanos(asked);

            let delay = after(asked, &mut Rng::new(seed));

            prop_assert!(asked.min(MAX_RETRY_AFTER) <= delay && delay <= MAX_RETRY_AFTER + MAX_RETRY_AFTER / 10);
        }
    }
}
