//! Who calls: passwords, signed tokens, signed calls of services.
//!
//! Whatever cannot be decided is a refusal. What costs much, needs a body or somebody else's keys is asked for, and the answer comes
//! from who has IO.
//!
//! * [`basic`] has users and passwords, [`password`] their hashes, [`throttle`] what wrong attempts cost.
//! * [`webhook`] has calls that a service has signed.
//! * [`jwt`] has signed tokens, the keys of their issuers, and when those are fetched.

pub mod basic;
mod encoding;
pub(crate) mod form;
pub(crate) mod json;
pub mod jwt;
pub mod password;
mod secret;
pub mod throttle;
pub mod webhook;

pub(crate) use encoding::hex;
pub use secret::Secret;
