//! Chance, from one seed.

use crate::{Duration, Rng};

/// Draws what a run depends on.
#[derive(Clone, Debug)]
pub(super) struct Dice(Rng);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    /// Returns dice of their own, so that what one part of a run draws does not depend on another.
    pub(super) const fn fork(&mut self) -> Self {
        Self::new(self.0.next())
    }

    pub(super) const fn seed(&mut self) -> u64 {
        self.0.next()
    }

    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.between(low, high)
    }

    pub(super) fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.between(0, (count as u64).saturating_sub(1))).unwrap_or(0)
    }

    pub(super) fn size(&mut self, low: u64, high: u64) -> usize {
        usize::try_from(self.between(low, high)).unwrap_or(usize::MAX)
    }

    /// Returns a number whose order of magnitude is uniform: small ones are as likely as large ones.
    pub(super) fn spread(&mut self, low: u64, high: u64) -> u64 {
        let ratio = (high / low.max(1)).max(1);
        let doublings = self.between(0, u64::from(ratio.ilog2()));
        let base = low.max(1) << doublings;
        self.between(base, (base * 2).min(high)).clamp(low, high)
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.between(1, 100) <= chance
    }

    pub(super) fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low * 1_000, high * 1_000))
    }

    pub(super) fn spread_millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.spread(low * 1_000, high * 1_000))
    }
}
