//! The protocol core of Adit, without IO: bytes and time go in; bytes, events and deadlines come out.
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
mod link;
mod message;
mod reconnect;
mod retry;
mod rng;
#[cfg(feature = "runtime")]
pub mod runtime;
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
pub use link::Link;
pub use message::{
    Bind, BindRefusal, Bound, Close, Command, CommandRequest, CommandResult, GoAway, Heartbeat, Hello, Limits, Message,
    Open, Refusal, Resume, ResumeOffer, TlsInfo, Unbind, UpstreamProtocol, VERSION, Welcome,
};
pub use reconnect::ReconnectPolicy;
pub use retry::Retry;
pub use rng::Rng;
pub use session::{AnswerError, BindError, OpenError, ReadError, Session, Stats, WriteError};
pub use side::{Role, Side};
pub use text::{Escaped, escape};
pub use time::{Deadline, Duration, Instant, TimerKind};
pub use uplink::{Action, GiveUp, Notice, Uplink};
