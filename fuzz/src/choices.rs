//! Choices made by octets.

use arbitrary::Unstructured;

/// The octets of an input, taken as choices.
#[derive(Debug)]
pub struct Choices<'a>(Unstructured<'a>);

impl<'a> Choices<'a> {
    /// Returns the choices that `octets` make.
    pub fn new(octets: &'a [u8]) -> Self {
        Self(Unstructured::new(octets))
    }

    /// Returns whether every further choice is the first one.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all octets that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.0.bytes(self.0.len()).unwrap_or_default()
    }

    /// Returns the next octets, fewer than `count` when there are fewer.
    pub fn octets(&mut self, count: usize) -> &'a [u8] {
        self.0.bytes(count.min(self.0.len())).unwrap_or_default()
    }

    /// Returns true as often as not.
    pub fn coin(&mut self) -> bool {
        self.number::<u8>() % 2 == 1
    }

    /// Returns any number.
    pub fn number<T: arbitrary::Arbitrary<'a> + Default>(&mut self) -> T {
        self.0.arbitrary().unwrap_or_default()
    }

    /// Returns a number below `end`, zero when that is zero.
    pub fn below(&mut self, end: usize) -> usize {
        self.between(0, end.saturating_sub(1))
    }

    /// Returns a number in `low..=high`.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        self.0.int_in_range(low..=high.max(low)).unwrap_or(low)
    }

    /// Returns a number in `low..=high`.
    pub fn long(&mut self, low: u64, high: u64) -> u64 {
        self.0.int_in_range(low..=high.max(low)).unwrap_or(low)
    }

    /// Returns one of `all`.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Returns a number in `0..=most` that is mostly small, and often one of the ends.
    pub fn size(&mut self, most: usize) -> usize {
        match self.number::<u8>() % 8 {
            0 => 0,
            1 => most,
            2 => most.saturating_sub(1),
            3 => self.between(0, most),
            _ => self.between(0, most.min(64)),
        }
    }

    /// Returns something, as often as not.
    pub fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.coin().then(|| make(self))
    }
}
