//! Adit agent: dials out to a network and carries connections to the upstreams that its owner allows.
//!
//! [`Agent`] runs inside any tokio program, and beside any other ([`Agent::detach`]); the program `adit` is a command line around it. Cryptography is the caller's
//! choice: nothing is installed for the process.

mod acme;
mod agent;
pub mod audit;
pub mod capture;
pub mod cli;
mod clock;
pub mod config;
mod diagnose;
pub mod errors;
mod explain;
mod firewall;
mod http1;
mod identity;
mod import;
mod local;
pub mod log;
mod notify;
pub mod policy;
mod private;
mod prove;
mod regular;
mod relay;
mod remote;
mod route;
mod schema;
mod sealed;
mod service;
mod status;
mod termination;
#[cfg(test)]
mod testing;
mod trust;
mod update;
mod upstream;
mod view;
pub mod vouch;

#[doc(hidden)]
pub use acme::{directory_answer, issued_chain};
pub use agent::{Agent, Detached, Outcome};
pub use config::{Address, Channel, Config, ProxyVersion};
#[doc(hidden)]
pub use import::{ImportSample, import_sample};
#[doc(hidden)]
pub use remote::sent_endpoints;
pub use status::{
    Attempt, Board, CertificateState, Disconnect, EndpointState, RemoteState, SessionState, Status, StepOutcome,
    StepState,
};
#[doc(hidden)]
pub use trust::list_of_answer;
#[doc(hidden)]
pub use update::{ReleaseRead, is_signed_release, read_release, version_order};
