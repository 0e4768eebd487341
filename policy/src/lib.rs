//! The policy of Adit: what is decided about a caller, from facts alone.
//!
//! No IO, no clock, no randomness: facts go in, decisions come out.
//!
//! * [`actions`] has what rules do.
//! * [`addresses`] has sets of IP addresses.
//! * [`auth`] has who calls: passwords, signed tokens, signed calls.
//! * [`body`] has what is done to bodies on their way.
//! * [`cel`] has expressions, compiled once and evaluated within a budget.
//! * [`document`] has the rules of a policy, read from YAML or JSON.
//! * [`engine`] runs them.
//! * [`environment`] has what they may name, and the facts of a request.
#![forbid(unsafe_code)]

pub mod actions;
pub mod addresses;
pub mod auth;
pub mod body;
pub mod cel;
pub mod document;
pub mod engine;
pub mod environment;
