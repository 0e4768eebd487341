//! What is measured, apart from who measures it: sessions joined in memory, and the loads that they carry.

pub mod clock;
pub mod frames;
#[cfg(feature = "others")]
pub mod loopback;
#[cfg(feature = "others")]
pub mod mux;
pub mod pair;
#[cfg(feature = "quic")]
pub mod quic;
#[cfg(feature = "others")]
pub mod report;
#[cfg(feature = "others")]
pub mod secure;
#[cfg(not(feature = "others"))]
#[path = "plain.rs"]
mod secure;

/// What a sender hands over at once, in octets: four whole frames.
pub const BLOCK: usize = 4 * adit_core::FRAME as usize;
/// What one exchange carries each way, in octets.
pub const MESSAGE: usize = 64;
/// What fits in a pipe in memory, in octets.
pub const PIPE: usize = 256 << 10;
