//! Octets that nobody may see.

use core::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;

/// A secret. It is never shown, and compared in a time that depends on its length alone.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes a secret.
    pub fn new(octets: impl Into<Box<[u8]>>) -> Self {
        Self(octets.into())
    }

    /// Returns the octets.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether these are the same octets.
    pub fn is(&self, octets: &[u8]) -> bool {
        verify_slices_are_equal(&self.0, octets).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Where two secrets differ tells nothing. With so many octets a comparison that stops at the first difference is thousands
    /// of times as fast at the first one as at the last.
    #[test]
    fn the_time_of_a_comparison_does_not_depend_on_where_secrets_differ() {
        let octets = vec![7; 4 << 20];
        let (mut first, mut last) = (octets.clone(), octets.clone());
        (first[0], last[octets.len() - 1]) = (8, 8);
        let secret = Secret::new(octets);
        let time = |other: &[u8]| {
            let began = Instant::now();
            assert!(!core::hint::black_box(&secret).is(core::hint::black_box(other)));
            began.elapsed()
        };

        // The shortest of many: what else the machine does only makes it longer.
        let (first, last) = (0..20)
            .map(|_| (time(&first), time(&last)))
            .fold((core::time::Duration::MAX, core::time::Duration::MAX), |(a, b), (first, last)| {
                (a.min(first), b.min(last))
            });

        assert!(last < first * 3 && first < last * 3, "V37: {first:?} at the first octet, {last:?} at the last");
    }
}
