//! A small seeded generator for jitter and ping nonces. Not for secrets.

/// SplitMix64: the same seed gives the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Returns a generator that starts from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number, uniform over all of `u64`.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number in `low..=high`, near enough to uniform for jitter; `low` when the range is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        let Some(span) = high.checked_sub(low) else { return low };
        match span.checked_add(1) {
            Some(count) => low.saturating_add(self.next() % count),
            None => self.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let (mut one, mut other) = (Rng::new(7), Rng::new(7));

        for _ in 0..100 {
            assert_eq!(one.next(), other.next());
        }
    }

    /// The numbers are those of the generator's authors.
    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let mut rng = Rng::new(1_234_567);

        let numbers = [(); 3].map(|()| rng.next());

        assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn a_range_includes_both_its_ends_and_nothing_else() {
        let mut rng = Rng::new(1);
        let mut seen = [false; 3];

        for _ in 0..200 {
            let n = rng.between(4, 6);
            assert!((4..=6).contains(&n), "{n} is outside 4..=6");
            seen[usize::try_from(n - 4).expect("small")] = true;
        }

        assert_eq!(seen, [true; 3]);
        assert_eq!(rng.between(9, 3), 9);
    }
}
