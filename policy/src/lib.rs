//! The policy of Adit: what is decided about a caller, from facts alone.
//!
//! No IO, no clock, no randomness: facts go in, decisions come out.
//!
//! * [`addresses`] has sets of IP addresses.
//! * [`body`] has what is done to bodies on their way.
//! * [`cel`] has expressions, compiled once and evaluated within a budget.
//! * [`document`] has the rules of a policy, read from YAML or JSON.
//! * [`environment`] has what they may name, and the facts of a request.
#![forbid(unsafe_code)]

pub mod addresses;
pub mod body;
pub mod cel;
pub mod document;
pub mod environment;
