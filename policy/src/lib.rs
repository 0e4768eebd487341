//! The policy of Adit: what is decided about a caller, from facts alone.
//!
//! No IO, no clock, no randomness: facts go in, decisions come out.
//!
//! * [`cel`] has expressions, compiled once and evaluated within a budget.
#![forbid(unsafe_code)]

pub mod cel;
