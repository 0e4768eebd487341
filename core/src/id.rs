//! Identifiers, and the secret that must not be printed.

use alloc::vec::Vec;
use core::fmt;

/// The number of a stream: odd when the agent opened it, even when the network did, never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u32);

impl StreamId {
    /// Returns the identifier with this number, unless it is zero.
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// Returns the number as it stands on the wire.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The number that an agent gave to one of its binds; unique among the binds of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindId(pub u32);

/// The name of a session, given by the network: 16 octets.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

/// The name of an agent, chosen by the agent and kept by it across restarts: 16 octets.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(pub [u8; 16]);

macro_rules! hex {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

hex!(SessionId);
hex!(AgentId);

/// Octets that must not be printed: an authtoken, a resume secret.
///
/// `Debug` prints a placeholder, comparison takes the same time wherever the first difference is, and the octets are
/// overwritten when the value is dropped (as far as safe code can promise).
#[derive(Clone, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Returns a secret with these octets.
    pub fn new(octets: impl Into<Vec<u8>>) -> Self {
        Self(octets.into())
    }

    /// Returns the octets, for the one who checks or sends them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Returns true when there are no octets.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let same_length = self.0.len() == other.0.len();
        let difference = self.0.iter().zip(&other.0).fold(0, |sum, (a, b)| sum | (a ^ b));
        same_length & (core::hint::black_box(difference) == 0)
    }
}

impl Eq for Secret {}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        core::hint::black_box(&self.0);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)") // spec: RES-014
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn a_secret_never_shows_itself() {
        let secret = Secret::new(*b"hunter2");

        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(secret.expose(), b"hunter2");
    }

    #[test]
    fn secrets_are_equal_when_every_octet_is() {
        assert_eq!(Secret::new(*b"abc"), Secret::new(*b"abc"));
        assert_ne!(Secret::new(*b"abc"), Secret::new(*b"abd"));
        assert_ne!(Secret::new(*b"abc"), Secret::new(*b"abcd"));
        assert_ne!(Secret::new(*b"abc"), Secret::default());
        assert_ne!(Secret::new(*b"aa"), Secret::new(*b"bb"), "differences do not outweigh each other");
        assert!(Secret::default().is_empty() && !Secret::new(*b"a").is_empty());
    }

    #[test]
    fn identifiers_print_as_hexadecimal() {
        assert_eq!(format!("{}", SessionId([0xab; 16])), "ab".repeat(16));
        assert_eq!(format!("{:?}", AgentId([0x0c; 16])), "0c".repeat(16));
    }

    #[test]
    fn a_stream_is_its_number_and_never_zero() {
        let stream = StreamId::new(17).expect("not zero");

        assert_eq!((format!("{stream}"), format!("{stream:?}"), stream.number()), ("17".into(), "17".into(), 17));
        assert_eq!(StreamId::new(0), None);
    }
}
