//! Adit sessions over smol: sockets, TLS, streams and listeners.
//!
//! [`adit_core`] decides everything; this crate names the sockets of `async-io` and the executor of `smol` to it. The
//! network's side listens with [`accept`], the agent's side dials with [`connect_over`]; both get a [`Session`] whose
//! [`Stream`]s are `AsyncRead + AsyncWrite` of `futures`. An agent that comes back whatever happens is an [`Uplink`].
//!
//! Tasks run on smol's own executor, which has one thread or `SMOL_THREADS` of them. A program with an executor of its own
//! implements [`Runtime`](proto::runtime::Runtime) for a type of its own, with [`Smol`]'s sockets and timers.

mod runtime;
mod session;
mod stream;

use core::net::SocketAddr;
use std::{
    io,
    net::{TcpListener, TcpStream},
};

use adit_core::{runtime as shared, side};
use async_io::Async;

pub use adit_core as proto;
pub use adit_core::{
    runtime::{
        CHUNK, CommandReply, ConnectError, ConnectOptions, DialError, IntakeStats, Keepalive, ListenOptions,
        SetupError, SocketOptions, SystemClock, Target, UplinkEvent, UplinkEvents, UplinkOptions, code_of,
    },
    tls::{client_config, danger_client_config, server_config},
};
pub use runtime::{Io, Smol, Timer};
pub use session::{accept, connect_over};
pub use stream::{ReadHalf, Stream, WriteHalf};

/// A session; clones are the same session. When all clones, its events and its streams are gone, it closes.
pub type Session<S = side::Network> = shared::Session<S, Smol>;
/// The network's end of a session.
pub type NetworkSession = Session<side::Network>;
/// The agent's end of a session.
pub type AgentSession = Session<side::Agent>;
/// What happens to a session, in order.
pub type Events<S = side::Network> = shared::Events<S, Smol>;
/// Something that happened to a session.
pub type Event = shared::Event<Stream>;
/// An agent that has said HELLO and waits for an answer. Dropped, its connection closes.
pub type Incoming = shared::Incoming<Smol>;
/// Accepts connections and completes what is to be done with each, many at a time.
pub type Intake<T> = shared::Intake<Smol, T>;
/// An agent's connection to the network, whatever happens to single sessions.
pub type Uplink = shared::Uplink<Smol>;
/// An endpoint that an agent wishes for: a listener. Dropped, it is given up, and its streams may finish.
pub type Endpoint = shared::Endpoint<Smol>;

/// Listens on an address. An unspecified IPv6 address takes IPv4 too.
///
/// # Errors
/// What the operating system says: the address is in use, not ours, or not allowed.
pub fn listen(address: SocketAddr, options: &ListenOptions) -> io::Result<Async<TcpListener>> {
    Async::new_nonblocking(shared::listen(address, options)?)
}

/// Connects to `host`, a name or an address, at `port`. When the future is dropped, every attempt under way is.
///
/// A resolver that hangs keeps a thread of smol's pool for blocking work, also after the time is over.
///
/// # Errors
/// [`ConnectError`]; of several addresses that failed, what the most telling one said.
pub async fn connect(host: &str, port: u16, options: &ConnectOptions) -> Result<Async<TcpStream>, ConnectError> {
    shared::connect::<Smol>(host, port, options).await
}
