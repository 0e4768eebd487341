//! What the runtimes share: sessions, streams, listeners and the uplink over any executor that is a [`Runtime`].
//!
//! The protocol decides in [`adit_core`], which does no IO; the clock of the operating system, sockets and their options begin
//! here, with what needs them and no executor. A runtime crate names its sockets and timers and gives streams the traits of
//! its executor.

extern crate alloc;

mod clock;
mod connect;
mod dns;
mod drive;
mod listen;
mod options;
mod proxy;
mod queue;
mod session;
mod steps;
mod stream;
mod tasks;
#[cfg(test)]
mod testing;
mod timer;
mod uplink;

use core::{
    fmt,
    future::Future,
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};
use std::{io, net::UdpSocket};

use adit_core::driver::Transport;
use alloc::{string::String, vec::Vec};
use socket2::SockRef;

pub use clock::SystemClock;
pub use connect::{ConnectError, ConnectOptions, connect, resolve};
pub use dns::Resolver;
pub use listen::{Intake, IntakeStats, ListenOptions, listen};
pub use options::{Keepalive, SocketOptions, leave_to_kernel, reset_when_closed};
pub use proxy::{
    Bypass, Credentials, Forward, Path, Proxy, ProxyError, ProxyProtocol, ProxyUrlError, reach, reach_http,
};
pub use session::{Event, Events, Incoming, Session, SetupError, accept, connect_over};
pub use steps::{Step, StepResult, StepTaken};
pub use stream::{CHUNK, ReadHalf, Stream, WriteHalf, code_of};
pub use uplink::{
    CommandReply, DialError, Endpoint, Probe, Target, Uplink, UplinkEvent, UplinkEvents, UplinkOptions, greet, probe,
};

/// What is decided without IO, for whoever tries it with anything that may arrive.
#[doc(hidden)]
pub mod sans_io {
    pub use crate::{
        dns::{Answer, Kind, NoAnswer, Question, host_name},
        proxy::Handshake,
    };
}

/// What is asked of an executor and its sockets.
pub trait Runtime: Copy + fmt::Debug + Send + Sync + 'static {
    /// A stream of a session, with the traits that this runtime's users expect.
    type Stream: From<Stream> + fmt::Debug + Send + 'static;
    /// A listening TCP socket.
    type Listener: fmt::Debug + Send + 'static;
    /// A connected TCP socket.
    type Tcp: fmt::Debug + Send + 'static;
    /// A connected TCP socket below a session.
    type Socket: Transport + From<Self::Tcp> + Send + 'static;
    /// A UDP socket that is connected to one address.
    type Udp: Datagrams + fmt::Debug + Send + 'static;
    /// A timer.
    type Sleep: Sleep;

    /// Runs a task to its end, beside the caller.
    fn spawn(task: impl Future<Output = ()> + Send + 'static);

    /// Resolves a name, in the order of preference.
    ///
    /// # Errors
    /// What the resolver says.
    fn resolve(host: String, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Connects to one address, for as long as it takes.
    ///
    /// # Errors
    /// What the operating system says.
    fn dial(address: SocketAddr) -> impl Future<Output = io::Result<Self::Tcp>> + Send;

    /// Takes a UDP socket that is connected and does not block.
    ///
    /// # Errors
    /// What the operating system says.
    fn udp(socket: UdpSocket) -> io::Result<Self::Udp>;

    /// Takes a connection that waits. One task at a time asks.
    ///
    /// # Errors
    /// What the operating system says; the listener may be asked again.
    fn poll_accept(listener: &mut Self::Listener, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Tcp, SocketAddr)>>;

    /// Returns the address it listens on.
    ///
    /// # Errors
    /// What the operating system says.
    fn local_addr(listener: &Self::Listener) -> io::Result<SocketAddr>;

    /// Returns the socket, for its options.
    fn socket(tcp: &Self::Tcp) -> SockRef<'_>;
}

/// A timer of a runtime: ready when its time has passed on the clock of that runtime.
pub trait Sleep: Future<Output = ()> + fmt::Debug + Send + Unpin + 'static {
    /// Starts a timer.
    fn start(after: Duration) -> Self;

    /// Starts it anew.
    fn restart(&mut self, after: Duration);
}

/// A UDP socket that is connected to one address.
pub trait Datagrams {
    /// Sends a datagram.
    ///
    /// # Errors
    /// What the operating system says.
    fn poll_send(&mut self, cx: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<usize>>;

    /// Receives a datagram, cut to the length of `buffer`.
    ///
    /// # Errors
    /// What the operating system says: that nobody listens, perhaps.
    fn poll_recv(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
}
