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
