//! The id of a request: on what the upstream gets, on every answer, and in the access log.

use core::fmt;

use http::{HeaderName, HeaderValue};

use crate::random;

/// An id that nobody but this network gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestId([u8; 16]);

impl RequestId {
    /// Returns a new one.
    pub(super) fn new() -> Self {
        let mut octets = [0; 16];
        // Without randomness zeros are as good as no answer, and better than none.
        random::fill(&mut octets);
        Self(octets)
    }

    /// Returns it as the value of [`REQUEST_ID`].
    pub(super) fn value(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.text()).unwrap_or_else(|_| HeaderValue::from_static("0"))
    }

    fn text(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, octet) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(octet >> 4)];
            pair[1] = DIGITS[usize::from(octet & 15)];
        }
        text
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// The header that has it.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("adit-request-id");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_the_same_way_everywhere_and_is_never_used_again() {
        let (one, other) = (RequestId::new(), RequestId::new());

        assert_eq!(one.value().to_str().unwrap(), one.to_string());
        assert_eq!(one.to_string().len(), 32);
        assert_ne!(one, other);
    }
}
