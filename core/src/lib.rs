//! The protocol core of Adit, without IO: bytes and time go in; bytes, events and deadlines come out.
//!
//! # For embedders
//! Who has tokio or smol takes `adit-tokio` or `adit-smol` and is done. Another executor implements
//! `adit_runtime::Runtime`: spawn, sleep, resolve, dial, accept; sessions, streams, listeners
//! and an uplink that comes back by itself follow. Who wants the pump alone takes [`driver`] (feature
//! `driver`), and who wants none of it drives a [`Link`] by hand.
//!
//! The whole loop of a link is five calls. Octets that arrive go to [`Link::handle_input`]; what is to be said comes from
//! [`Link::poll_transmit`]; [`Link::poll_timeout`] says when [`Link::handle_timeout`] is due at the latest; what happened
//! comes from [`Link::poll_event`]. The order of the calls does not matter, and every call may be repeated:
//!
//! ```
//! use adit_core::{
//!     AgentId, Config, Duration, Event, Heartbeat, Hello, Instant, Limits, Link, Open, Secret, SessionId, side,
//! };
//! use bytes::Bytes;
//!
//! /// Moves what one side has to say to the other, as a socket would.
//! fn carry<A: side::Side, B: side::Side>(from: &mut Link<A>, to: &mut Link<B>, now: Instant) {
//!     let mut octets = Vec::new();
//!     while let Some(frame) = from.poll_transmit(now) {
//!         octets.extend_from_slice(frame.header());
//!         octets.extend_from_slice(frame.payload());
//!     }
//!     from.handle_written(octets.len(), 0, now); // the socket took all
//!     to.handle_input(&octets, now);
//! }
//!
//! let mut now = Instant::from_nanos(1); // whatever clock you have, if it goes on while the machine sleeps
//! let hello = Hello {
//!     versions: vec![], // what this core speaks
//!     agent: AgentId([7; 16]),
//!     incarnation: 1,
//!     token: Secret::new(*b"token"),
//!     software: "guide/1".into(),
//!     metadata: String::new(),
//!     heartbeat: Heartbeat { interval: Duration::from_secs(10), tolerance: Duration::from_secs(15) },
//!     limits: Limits { frame: 0, window: 0, streams: 0 }, // what the configuration says
//!     resume: None,
//!     resume_window: Duration::ZERO,
//!     lane: 0,
//! };
//! let mut agent = Link::<side::Agent>::new(Config::agent(), hello, 1, now);
//! let mut network = Link::<side::Network>::new(Config::network(), 2, now);
//!
//! // The agent asks for a session; the network looks at the token and consents.
//! carry(&mut agent, &mut network, now);
//! let Some(Event::Hello(request)) = network.poll_event() else { panic!("no HELLO") };
//! assert_eq!(request.hello().token, Secret::new(*b"token"));
//! let welcome = request.welcome(SessionId([1; 16]), "here", "node-1");
//! network.accept(request, welcome, now);
//! carry(&mut network, &mut agent, now);
//! assert!(matches!(agent.poll_event(), Some(Event::Established(_))));
//!
//! // The network opens a stream and writes; a write takes what credit and buffers allow.
//! let session = network.session_mut().expect("established");
//! let stream = session.open(Open::default()).expect("within the grant");
//! let mut data = Bytes::from_static(b"hello");
//! while !data.is_empty() {
//!     session.write(stream, &mut data).expect("room");
//! }
//! session.finish(stream).expect("open");
//! carry(&mut network, &mut agent, now);
//!
//! // The agent is told of the stream and reads to its end.
//! assert!(std::iter::from_fn(|| agent.poll_event()).any(|event| matches!(event, Event::Opened(id) if id == stream)));
//! let session = agent.session_mut().expect("established");
//! assert_eq!(session.read(stream, usize::MAX), Ok(Some(Bytes::from_static(b"hello"))));
//! assert_eq!(session.read(stream, usize::MAX), Ok(None));
//!
//! // Nothing happens any more: time passes to the next deadline, and the heartbeat asks whether anybody is there.
//! let deadline = agent.poll_timeout().expect("a session always has one");
//! now = deadline.at;
//! agent.handle_timeout(now);
//! assert!(agent.poll_transmit(now).is_some());
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod backoff;
mod bucket;
mod code;
mod config;
#[cfg(feature = "driver")]
pub mod driver;
mod event;
mod flow;
pub mod frame;
mod heartbeat;
mod id;
mod inquiry;
mod link;
mod message;
mod reconnect;
mod retry;
mod rng;
mod session;
pub mod side;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
mod time;
#[cfg(feature = "tls")]
pub mod tls;
mod uplink;

pub use code::{Code, CodeClass, Violation};
pub use config::{Config, ConfigError, FRAME, MAX_OFFSET};
pub use event::{AuthRequest, BindRequest, Cause, Event, Loss};
pub use id::{AgentId, BindId, Secret, SessionId, StreamId};
pub use inquiry::Inquiry;
pub use link::Link;
pub use message::{
    Bind, BindRefusal, Bound, Close, Command, CommandRequest, CommandResult, DOCUMENT, GoAway, Heartbeat, Hello, LANES,
    Limits, Message, Open, Refusal, Resume, ResumeOffer, TlsEnd, TlsInfo, Unbind, UpstreamProtocol, VERSION, Welcome,
    Withheld,
};
pub use reconnect::ReconnectPolicy;
pub use retry::Retry;
pub use rng::Rng;
pub use session::{
    AnswerError, BindError, OpenError, ReadError, RevocationsError, Session, Stats, TLS_ENDS_ELSEWHERE, WriteError,
};
pub use side::{Role, Side};
pub use text::{Escaped, escape};
pub use time::{Deadline, Duration, Instant, TimerKind};
pub use uplink::{Action, GiveUp, Notice, Uplink};
