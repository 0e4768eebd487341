//! Adit sessions over smol: sockets, TLS, streams and listeners.
//!
//! [`adit_core`] decides everything; this crate names the sockets of `async-io` and the executor of `smol` to it. The
//! network's side listens with [`accept`], the agent's side dials with [`connect_over`]; both get a [`Session`] whose
//! [`Stream`]s are `AsyncRead + AsyncWrite` of `futures`. An agent that comes back whatever happens is an [`Uplink`].
//!
//! Tasks run on smol's own executor, which has one thread or `SMOL_THREADS` of them. A program with an executor of its own
//! implements [`Runtime`](adit_runtime::Runtime) for a type of its own, with [`Smol`]'s sockets and timers.
//!
//! # Both sides in one program
//! ```
//! use std::sync::Arc;
//!
//! use adit_smol::{
//!     ConnectOptions, Event, Intake, ListenOptions, Target, Uplink, UplinkOptions, accept, client_config, listen,
//!     proto::{AgentId, Bind, BindId, Config, Open, ReconnectPolicy, Secret, SessionId, UpstreamProtocol},
//!     server_config,
//! };
//! use rustls::{RootCertStore, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
//! use smol::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
//! # let (certificate, key) = (issued.cert.der().clone(), PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into()));
//! let provider = Arc::new(aws_lc_rs::default_provider());
//! let server = Arc::new(server_config(vec![certificate.clone()], key, Arc::clone(&provider)).unwrap());
//! let mut roots = RootCertStore::empty();
//! roots.add(certificate).unwrap();
//!
//! smol::block_on(async {
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
//!     let (answer, _stream) = smol::future::zip(network, agent).await;
//!     assert_eq!(&answer, b"answer");
//! });
//! ```

mod runtime;
mod session;
mod stream;

use core::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use std::{io, sync::Arc};

use adit_core::side;
use adit_runtime as shared;
use async_io::Async;
use rustls::{ClientConfig, pki_types::ServerName};
use smol::net::TcpStream;

pub use adit_core as proto;
pub use adit_core::tls::{client_config, danger_client_config, server_config};
pub use adit_runtime::{
    Bypass, CHUNK, CommandReply, ConnectError, ConnectOptions, Credentials, DialError, IntakeStats, Keepalive,
    ListenOptions, Probe, Proxy, ProxyError, ProxyProtocol, ProxyUrlError, Resolver, SetupError, SocketOptions, Step,
    StepResult, StepTaken, SystemClock, Target, UplinkEvent, UplinkEvents, UplinkOptions, code_of,
};
pub use runtime::{Io, Listener, Smol, Timer, Udp};
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
pub fn listen(address: SocketAddr, options: &ListenOptions) -> io::Result<Listener> {
    Ok(Listener(Async::new_nonblocking(shared::listen(address, options)?)?))
}

/// Connects to `host`, a name or an address, at `port`. When the future is dropped, every attempt under way is.
///
/// A resolver that hangs keeps a thread of smol's pool for blocking work, also after the time is over.
///
/// # Errors
/// [`ConnectError`]; of several addresses that failed, what the most telling one said.
pub async fn connect(host: &str, port: u16, options: &ConnectOptions) -> Result<TcpStream, ConnectError> {
    shared::connect::<Smol>(host, port, options).await
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
    shared::probe::<Smol>(target, connect, tls, limit).await
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
    shared::greet::<Smol>(target, connect, tls, limit).await
}

/// Returns the addresses of a name or an address, as [`connect`] would try them.
///
/// # Errors
/// [`ConnectError::Resolve`], [`ConnectError::NoAddress`].
pub async fn resolve(host: &str, options: &ConnectOptions) -> Result<Vec<IpAddr>, ConnectError> {
    shared::resolve::<Smol>(host, options).await
}
