//! The HTTP proxy between raw callers and raw upstreams, on real sockets.

#![expect(clippy::unwrap_used, unreachable_pub, clippy::std_instead_of_core, reason = "tests")]

mod support;

mod faults;
mod forward;
mod frames;
mod hostile;
mod http2;
mod policy;
mod session;
mod slow;
mod smuggling;
mod sources;
mod timers;
mod upgrade;
