//! Adit sessions over tokio: sockets, TLS, streams and listeners.
//!
//! [`adit_core`] decides everything; this crate names tokio's sockets and timers to it. The network's side listens
//! with [`accept`], the agent's side dials with [`connect_over`]; both get a [`Session`] whose [`Stream`]s are
//! `AsyncRead + AsyncWrite`. An agent that comes back whatever happens is an [`Uplink`].

mod runtime;
#[cfg(feature = "axum")]
mod serve;
mod session;
mod stream;

use core::net::SocketAddr;
use std::io;

use adit_core::{runtime as shared, side};
use tokio::net::{TcpListener, TcpStream};

pub use adit_core as proto;
pub use adit_core::{
    runtime::{
        CHUNK, CommandReply, ConnectError, ConnectOptions, DialError, IntakeStats, Keepalive, ListenOptions,
        SetupError, SocketOptions, SystemClock, Target, UplinkEvent, UplinkEvents, UplinkOptions, code_of,
    },
    tls::{client_config, danger_client_config, server_config},
};
pub use runtime::{Io, Timer, Tokio};
#[cfg(feature = "axum")]
pub use serve::{Caller, Serve};
pub use session::{accept, connect_over};
pub use stream::{ReadHalf, Stream, WriteHalf};

/// A session; clones are the same session. When all clones, its events and its streams are gone, it closes.
pub type Session<S = side::Network> = shared::Session<S, Tokio>;
/// The network's end of a session.
pub type NetworkSession = Session<side::Network>;
/// The agent's end of a session.
pub type AgentSession = Session<side::Agent>;
/// What happens to a session, in order.
pub type Events<S = side::Network> = shared::Events<S, Tokio>;
/// Something that happened to a session.
pub type Event = shared::Event<Stream>;
/// An agent that has said HELLO and waits for an answer. Dropped, its connection closes.
pub type Incoming = shared::Incoming<Tokio>;
/// Accepts connections and completes what is to be done with each, many at a time.
pub type Intake<T> = shared::Intake<Tokio, T>;
/// An agent's connection to the network, whatever happens to single sessions.
pub type Uplink = shared::Uplink<Tokio>;
/// An endpoint that an agent wishes for: a listener. Dropped, it is given up, and its streams may finish.
pub type Endpoint = shared::Endpoint<Tokio>;

/// Listens on an address. An unspecified IPv6 address takes IPv4 too.
///
/// # Errors
/// What the operating system says: the address is in use, not ours, or not allowed.
///
/// # Panics
/// Outside of a runtime.
pub fn listen(address: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    TcpListener::from_std(shared::listen(address, options)?)
}

/// Connects to `host`, a name or an address, at `port`. When the future is dropped, every attempt under way is.
///
/// A resolver that hangs keeps a blocking thread of the runtime, also after the time is over: a program that must end at
/// once does not wait for those (`Runtime::shutdown_background`).
///
/// # Errors
/// [`ConnectError`]; of several addresses that failed, what the most telling one said.
pub async fn connect(host: &str, port: u16, options: &ConnectOptions) -> Result<TcpStream, ConnectError> {
    shared::connect::<Tokio>(host, port, options).await
}
