//! Adit sessions over tokio: sockets, TLS, streams and listeners.
//!
//! [`adit_core`] decides everything; this crate moves ciphertext between it and sockets. The network's side listens
//! with [`accept`], the agent's side dials with [`connect_over`]; both get a [`Session`] whose [`Stream`]s are
//! `AsyncRead + AsyncWrite`.

mod clock;
mod connect;
mod io;
mod listen;
mod options;
mod session;
mod stream;
mod tls;
mod uplink;

pub use adit_core as proto;

pub use clock::SystemClock;
pub use connect::{ConnectError, ConnectOptions, connect};
pub use listen::{Intake, IntakeStats, ListenOptions, listen};
pub use options::{Keepalive, SocketOptions};
pub use session::{AgentSession, Event, Events, Incoming, NetworkSession, Session, SetupError, accept, connect_over};
pub use stream::{CHUNK, ReadHalf, Stream, WriteHalf, code_of};
pub use tls::{client_config, danger_client_config, server_config};
#[cfg(feature = "axum")]
pub use uplink::Caller;
pub use uplink::{CommandReply, DialError, Endpoint, Target, Uplink, UplinkEvent, UplinkEvents, UplinkOptions};
