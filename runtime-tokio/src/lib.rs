//! Adit sessions over tokio: sockets, TLS, streams and listeners.

mod connect;
mod listen;
mod options;
mod tls;

pub use connect::{ConnectError, ConnectOptions, connect};
pub use listen::{Intake, IntakeStats, ListenOptions, listen};
pub use options::{Keepalive, SocketOptions};
pub use tls::{client_config, danger_client_config, server_config};
