//! The two roles, as types: what only one side may do does not exist on the other.

mod sealed {
    #[expect(unnameable_types, reason = "sealed: only the two roles below are sides")]
    pub trait Sealed {}
}

/// Which end of a session this is.
pub trait Side: sealed::Sealed + core::fmt::Debug + Send + Sync + 'static {
    /// The role as a value.
    const ROLE: Role;
}

/// The side that dials out and asks for binds.
#[derive(Clone, Copy, Debug)]
pub enum Agent {}

/// The side that listens and gives endpoints.
#[derive(Clone, Copy, Debug)]
pub enum Network {}

impl sealed::Sealed for Agent {}
impl sealed::Sealed for Network {}

impl Side for Agent {
    const ROLE: Role = Role::Agent;
}

impl Side for Network {
    const ROLE: Role = Role::Network;
}

/// A role as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Dials out, opens odd streams.
    Agent,
    /// Listens, opens even streams.
    Network,
}

impl Role {
    /// Returns the other role.
    pub const fn peer(self) -> Self {
        match self {
            Self::Agent => Self::Network,
            Self::Network => Self::Agent,
        }
    }

    /// Returns whether a stream with this number was opened by this role.
    pub const fn opened(self, stream: u32) -> bool {
        match self {
            Self::Agent => stream % 2 == 1,
            Self::Network => stream.is_multiple_of(2) && stream != 0,
        }
    }

    /// Returns the number of the stream that this role opens as its `count`th, counted from 1.
    pub(crate) fn stream(self, count: u32) -> Option<u32> {
        let even = count.checked_mul(2)?;
        match self {
            Self::Agent => even.checked_sub(1),
            Self::Network => Some(even),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// STREAM-001
    #[test]
    fn an_agent_opens_odd_streams_and_the_network_even_ones() {
        let opened = |role: Role| [0, 1, 2, 3, 4].map(|stream| role.opened(stream));

        assert_eq!(opened(Role::Agent), [false, true, false, true, false]);
        assert_eq!(opened(Role::Network), [false, false, true, false, true]);
        assert_eq!([1, 2, 1 << 31].map(|count| Role::Agent.stream(count)), [Some(1), Some(3), None]);
        assert_eq!([1, 2, 1 << 31].map(|count| Role::Network.stream(count)), [Some(2), Some(4), None]);
        assert_eq!((Role::Agent.peer(), Role::Network.peer()), (Role::Network, Role::Agent));
    }
}
