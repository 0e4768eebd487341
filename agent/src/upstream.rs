//! Upstreams: where they are, how they are reached, and what they are told of the caller.

mod address;
mod dial;
mod proxy;
mod socket;

pub use address::Address;
pub use proxy::ProxyVersion;

pub(crate) use address::{Cover, is_forbidden};
pub(crate) use dial::{Failure, Upstream};
pub(crate) use proxy::header;
pub(crate) use socket::{Socket, read};
