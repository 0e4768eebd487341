//! Adit sessions over tokio: sockets, TLS, streams and listeners.
//!
//! [`adit_core`] decides everything; this crate names tokio's sockets and timers to it. The network's side listens
//! with [`accept`], the agent's side dials with [`connect_over`]; both get a [`Session`] whose [`Stream`]s are
//! `AsyncRead + AsyncWrite`. An agent that comes back whatever happens is an [`Uplink`].
//!
//! # Both sides in one program
//! ```
//! use std::sync::Arc;
//!
//! use adit_tokio::{
//!     ConnectOptions, Event, Intake, ListenOptions, Target, Uplink, UplinkOptions, accept, client_config, listen,
//!     proto::{AgentId, Bind, BindId, Config, Open, ReconnectPolicy, Secret, SessionId, UpstreamProtocol},
//!     server_config,
//! };
//! use rustls::{RootCertStore, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
//! # let (certificate, key) = (issued.cert.der().clone(), PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into()));
//! let provider = Arc::new(aws_lc_rs::default_provider());
//! let server = Arc::new(server_config(vec![certificate.clone()], key, Arc::clone(&provider)).unwrap());
//! let mut roots = RootCertStore::empty();
//! roots.add(certificate).unwrap();
//!
//! tokio::runtime::Runtime::new().unwrap().block_on(async {
//!     // The network: it listens, looks at who comes, and consents.
//!     let listener = listen("127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
//!     let port = listener.local_addr().unwrap().port();
//!     let mut intake = Intake::new(listener, ListenOptions::default(), move |tcp, _peer| {
//!         let server = Arc::clone(&server);
//!         async move { accept(tcp, server, Config::network(), 7).await.ok() }
//!     });
//!     let network = async {
//!         let incoming = intake.next().await.unwrap();
//!         assert_eq!(incoming.hello().token, Secret::new(*b"token"));
//!         let welcome = incoming.welcome(SessionId([1; 16]), "here", "node-1");
//!         let (session, mut events) = incoming.accept(welcome);
//!         let Some(Event::Bind(request)) = events.next().await else { panic!("no bind") };
//!         let bind = request.bind().id;
//!         session.bound(request, "https://app.example/");
//!         let mut stream = session.open(Open { bind: Some(bind), ..Open::default() }).unwrap();
//!         stream.write_all(b"question").await.unwrap();
//!         let mut answer = [0; 6];
//!         stream.read_exact(&mut answer).await.unwrap();
//!         answer
//!     };
//!
//!     // The agent: it dials out, wishes for an endpoint, and serves what comes, whatever happens to connections.
//!     let (uplink, _events) = Uplink::start(UplinkOptions {
//!         targets: vec![Target { host: "localhost".into(), port }],
//!         tls: Arc::new(client_config(roots, provider).unwrap()),
//!         server_name: None,
//!         config: Config::agent(),
//!         token: Secret::new(*b"token"),
//!         agent: AgentId([7; 16]),
//!         software: "guide/1".into(),
//!         metadata: String::new(),
//!         connect: ConnectOptions::default(),
//!         reconnect: ReconnectPolicy::default(),
//!         sessions: 1,
//!     });
//!     let mut endpoint = uplink.bind(Bind {
//!         id: BindId(0),
//!         url: "https://app.example".into(),
//!         pooling: false,
//!         upstream_protocol: UpstreamProtocol::Http1,
//!         name: "app".into(),
//!         description: String::new(),
//!         metadata: String::new(),
//!         tls_end: Default::default(),
//!     });
//!     let agent = async {
//!         let mut stream = endpoint.accept().await.unwrap();
//!         stream.accept();
//!         let mut question = [0; 8];
//!         stream.read_exact(&mut question).await.unwrap();
//!         stream.write_all(b"answer").await.unwrap();
//!         stream
//!     };
//!
//!     let (answer, _stream) = tokio::join!(network, agent);
//!     assert_eq!(&answer, b"answer");
//! });
//! ```

mod reached;
mod runtime;
#[cfg(feature = "axum")]
mod serve;
mod session;
mod stream;

use core::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use std::{io, sync::Arc};

use adit_core::side;
use adit_runtime as shared;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::{TcpListener, TcpStream};

pub use adit_core as proto;
pub use adit_core::tls::{client_config, danger_client_config, server_config};
pub use adit_runtime::{
    Bypass, CHUNK, CommandReply, ConnectError, ConnectOptions, Credentials, DialError, Forward, IntakeStats, Keepalive,
    ListenOptions, Probe, Proxy, ProxyError, ProxyProtocol, ProxyUrlError, Resolver, SetupError, SocketOptions, Step,
    StepResult, StepTaken, SystemClock, Target, UplinkEvent, UplinkEvents, UplinkOptions, code_of,
};
pub use reached::{Reached, reach, reach_http};
pub use runtime::{Io, Timer, Tokio, Udp};
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

/// Connects to a network, agrees on TLS, asks which versions of the protocol it speaks, and goes: no token is shown and no session asked
/// for, and the network takes it for no failure of anybody (PRE-012).
///
/// Without a `name` the network's certificate must have that of the target. TLS may take `limit`, and the answer as long again.
pub async fn probe(
    target: &Target,
    connect: &ConnectOptions,
    tls: (Arc<ClientConfig>, Option<ServerName<'static>>),
    limit: Duration,
) -> Probe {
    shared::probe::<Tokio>(target, connect, tls, limit).await
}

/// Connects to a network, agrees on TLS, and goes without a word: what is part of every handshake is all that it is for.
///
/// Without a `name` the network's certificate must have that of the target. TLS may take `limit`.
pub async fn greet(
    target: &Target,
    connect: &ConnectOptions,
    tls: (Arc<ClientConfig>, Option<ServerName<'static>>),
    limit: Duration,
) -> Probe {
    shared::greet::<Tokio>(target, connect, tls, limit).await
}

/// Returns the addresses of a name or an address, as [`connect`] would try them.
///
/// # Errors
/// [`ConnectError::Resolve`], [`ConnectError::NoAddress`].
pub async fn resolve(host: &str, options: &ConnectOptions) -> Result<Vec<IpAddr>, ConnectError> {
    shared::resolve::<Tokio>(host, options).await
}
