//! What the fuzzers run: one function a target, each a law that holds for any octets. How to run them is in `README.md`.
//!
//! A law that is broken panics. The octets are choices, taken in order; when they are used up every choice is the first one,
//! so that any input is a whole run and a shorter one is a simpler run.
#![expect(clippy::missing_panics_doc, reason = "a panic is how a broken law is told")]

mod acme;
mod audit;
mod body;
mod capture;
mod choices;
mod config;
mod crl;
mod customer;
mod decoder;
mod dns;
mod driver;
mod expression;
mod handshake;
mod import;
mod messages;
mod model;
mod policy;
mod proxy;
mod reconnect;
mod release;
mod remote;
mod resume;
mod session;
mod text;
mod tls;
mod vouch;

pub use acme::acme;
pub use audit::audit;
pub use body::body;
pub use capture::capture;
pub use choices::Choices;
pub use config::config;
pub use crl::crl;
pub use customer::customer;
pub use decoder::decoder;
pub use dns::dns;
pub use driver::driver;
pub use expression::expression;
pub use handshake::handshake;
pub use import::import;
pub use messages::{
    bind, bind_refusal, bound, close, command, command_result, goaway, hello, open, refusal, unbind, welcome, withheld,
};
pub use model::model;
pub use policy::policy;
pub use proxy::proxy;
pub use reconnect::reconnect;
pub use release::release;
pub use remote::remote;
pub use resume::resume;
pub use session::session;
pub use text::text;
pub use tls::tls;
pub use vouch::vouch;

/// A fuzz target: its name, and the law.
pub type Target = (&'static str, fn(&[u8]));

/// Every fuzz target.
pub const TARGETS: &[Target] = &[
    ("acme", acme),
    ("audit", audit),
    ("bind", bind),
    ("bind_refusal", bind_refusal),
    ("body", body),
    ("bound", bound),
    ("capture", capture),
    ("close", close),
    ("command", command),
    ("command_result", command_result),
    ("config", config),
    ("crl", crl),
    ("customer", customer),
    ("decoder", decoder),
    ("dns", dns),
    ("driver", driver),
    ("expression", expression),
    ("goaway", goaway),
    ("handshake", handshake),
    ("hello", hello),
    ("import", import),
    ("model", model),
    ("open", open),
    ("policy", policy),
    ("proxy", proxy),
    ("reconnect", reconnect),
    ("refusal", refusal),
    ("release", release),
    ("remote", remote),
    ("resume", resume),
    ("session", session),
    ("text", text),
    ("tls", tls),
    ("unbind", unbind),
    ("vouch", vouch),
    ("welcome", welcome),
    ("withheld", withheld),
];
