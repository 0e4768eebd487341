//! Two links joined by a wire, or one alone with a made-up peer, under a clock that the test moves.

#[expect(clippy::missing_panics_doc, reason = "a test that asks for the impossible fails")]
mod lone;
#[expect(clippy::missing_panics_doc, reason = "a test that asks for the impossible fails")]
mod pair;
mod puppet;
pub mod sim;
mod wire;

pub use lone::{Lone, a_hello, a_welcome, closed_with, encoded, raw};
pub use pair::{Options, Pair, Peer};
pub use puppet::Puppet;
pub use wire::{Path, Wire};
