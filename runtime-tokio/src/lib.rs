//! Adit sessions over tokio: sockets, TLS, streams and listeners.

mod connect;
mod listen;
mod options;

pub use connect::{ConnectError, ConnectOptions, connect};
pub use listen::{Intake, IntakeStats, ListenOptions, listen};
pub use options::{Keepalive, SocketOptions};
