//! The protocol core of Adit, without IO: bytes and time go in; bytes, events and deadlines come out.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod backoff;
mod code;
mod config;
pub mod frame;
#[allow(dead_code, reason = "the link drives it")]
mod heartbeat;
mod id;
mod message;
mod reconnect;
mod retry;
mod rng;
pub mod side;
mod text;
mod time;
mod uplink;

pub use code::{Code, CodeClass, Violation};
pub use config::{Config, ConfigError, FRAME, MAX_OFFSET};
pub use id::{AgentId, BindId, Secret, SessionId, StreamId};
pub use message::{
    Bind, BindRefusal, Bound, Close, Command, CommandRequest, CommandResult, GoAway, Heartbeat, Hello, Limits, Message,
    Open, Refusal, Resume, ResumeOffer, TlsInfo, Unbind, UpstreamProtocol, VERSION, Welcome,
};
pub use reconnect::ReconnectPolicy;
pub use retry::Retry;
pub use rng::Rng;
pub use side::{Role, Side};
pub use text::{Escaped, escape};
pub use time::{Deadline, Duration, Instant, TimerKind};
pub use uplink::{Action, GiveUp, Notice, Uplink};
