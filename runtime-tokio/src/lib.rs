//! Adit sessions over tokio: sockets, TLS, streams and listeners.

mod connect;
mod options;

pub use connect::{ConnectError, ConnectOptions, connect};
pub use options::{Keepalive, SocketOptions};
