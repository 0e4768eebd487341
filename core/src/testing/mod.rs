//! Two links joined by a wire, under a clock that the test moves.

#[expect(clippy::missing_panics_doc, reason = "a test that asks for the impossible fails")]
mod pair;
mod wire;

pub use pair::{Options, Pair, Peer};
pub use wire::{Path, Wire};
