//! Upstreams: how they are reached, and what they are told of the caller.

mod dial;
mod proxy;
mod socket;

pub(crate) use dial::{Failure, Upstream};
pub(crate) use proxy::header;
pub(crate) use socket::{Socket, read};
