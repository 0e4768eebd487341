//! How certificates are ordered by ACME (RFC 8555), the same at the network and at the agent: when, in what steps, whom to blame for
//! what came to nothing, and what of an authority's answers is believed. HTTP is the caller's, as are accounts, and whatever
//! answers a challenge.

mod advice;
mod answer;
mod blame;
mod order;
mod times;

pub use advice::{Advice, advice, identifier};
pub use answer::{asked, tame};
pub use blame::{Blame, is_problem};
pub use order::{Answer, NONCES, ORDER, POLLS, Unproved, begin, hmac_key, obtain, prove, request};
pub use times::{LONGEST, Nearness, SHORTEST, Validity, back_off, fraction, renewal, suggested};
