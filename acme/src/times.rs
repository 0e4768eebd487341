//! When something is ordered, or ordered again: pure, in seconds since 1970.

use core::hash::{Hash, Hasher as _};
use std::hash::DefaultHasher;

/// From when to when a certificate is good: seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before.
    pub from: u64,
    /// Not after.
    pub until: u64,
}

/// How near a certificate is to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// More than a quarter of its life is left.
    Far,
    /// A quarter or less: it should have been renewed.
    Near,
    /// An eighth or less.
    Close,
    /// It is over.
    Over,
}

impl Validity {
    /// Returns how long it lives, in seconds.
    pub const fn life(self) -> u64 {
        self.until.saturating_sub(self.from)
    }

    /// Returns how near its end is.
    pub const fn nearness(self, now: u64) -> Nearness {
        let (left, life) = (self.until.saturating_sub(now), self.life());
        match left {
            0 => Nearness::Over,
            _ if left <= life / 8 => Nearness::Close,
            _ if left <= life / 4 => Nearness::Near,
            _ => Nearness::Far,
        }
    }
}

impl Nearness {
    /// Returns the word for logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Far => "far",
            Self::Near => "near",
            Self::Close => "close",
            Self::Over => "expired",
        }
    }
}

/// Returns when a certificate is renewed: at two thirds of its life, or up to a twentieth of it earlier.
pub fn renewal(validity: Validity, jitter: f64) -> u64 {
    let life = validity.life();
    validity.from.saturating_add(life - life / 3).saturating_sub(share(life / 20, jitter))
}

/// Returns when a certificate is renewed by the authority's window: at a time in it that chance chose once, so that not all
/// come at its begin; at the latest when an eighth of its life is left, whatever the authority says.
pub fn suggested((from, to): (u64, u64), validity: Validity, jitter: f64) -> u64 {
    let chosen = from.saturating_add(share(to.saturating_sub(from), jitter));
    chosen.min(validity.until.saturating_sub(validity.life() / 8))
}

/// Returns for how long something waits that failed so often: a minute, then twice as long each time, at most `longest`; and
/// up to a quarter less, so that many do not come back at once.
pub fn back_off(failures: u32, longest: u64, jitter: f64) -> u64 {
    let doubled = SHORTEST.saturating_mul(1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX));
    let whole = doubled.min(longest);
    (whole - share(whole / 4, jitter)).max(SHORTEST)
}

/// Returns a number below one that is always the same for the same thing.
pub fn fraction(of: impl Hash) -> f64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    #[expect(clippy::cast_precision_loss, reason = "32 bits fit")]
    let fraction = (hasher.finish() >> 32) as f64 / (f64::from(u32::MAX) + 1.0);
    fraction
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "below `whole`"
)]
fn share(whole: u64, jitter: f64) -> u64 {
    (whole as f64 * jitter) as u64
}

/// A minute: nothing that failed is tried again before, in seconds.
pub const SHORTEST: u64 = 60;
/// A day: nothing that failed waits longer.
pub const LONGEST: u64 = 86_400;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400;
    const QUARTER: Validity = Validity { from: 100 * DAY, until: 190 * DAY };

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life_or_a_little_earlier() {
        assert_eq!(renewal(QUARTER, 0.0), 160 * DAY);
        assert_eq!(renewal(QUARTER, 0.5), 160 * DAY - 90 * DAY / 40);
        assert!(renewal(QUARTER, 0.999) > 155 * DAY);
    }

    #[test]
    fn a_window_is_kept_and_the_last_eighth_of_a_life_is_not_waited_for() {
        assert_eq!(suggested((120 * DAY, 122 * DAY), QUARTER, 0.5), 121 * DAY);
        assert_eq!(suggested((189 * DAY, 400 * DAY), QUARTER, 0.0), 190 * DAY - 90 * DAY / 8);
    }

    #[test]
    fn the_end_of_a_certificate_comes_nearer_in_quarters_and_eighths_of_its_life() {
        let validity = Validity { from: 1_000, until: 1_800 };
        let table = [
            (0, Nearness::Far),
            (1_599, Nearness::Far),
            (1_600, Nearness::Near),
            (1_699, Nearness::Near),
            (1_700, Nearness::Close),
            (1_799, Nearness::Close),
            (1_800, Nearness::Over),
            (u64::MAX, Nearness::Over),
        ];
        for (now, nearness) in table {
            assert_eq!(validity.nearness(now), nearness, "{now}");
        }
    }

    proptest! {
        #[test]
        fn no_wait_is_shorter_than_a_minute_or_longer_than_its_bound(failures: u32, seed: u64) {
            let wait = back_off(failures, LONGEST, fraction(seed));
            prop_assert!((SHORTEST..=LONGEST).contains(&wait));
        }

        #[test]
        fn a_renewal_is_inside_of_the_life(from in 0_u64..1 << 40, life in 0_u64..1 << 40, seed: u64) {
            let due = renewal(Validity { from, until: from + life }, fraction(seed));
            prop_assert!(from <= due && due <= from + life);
        }
    }
}
