//! What is measured, apart from who measures it: sessions joined in memory, and the loads that they carry.

pub mod clock;
pub mod frames;
pub mod loopback;
pub mod mux;
pub mod pair;
#[cfg(feature = "quic")]
pub mod quic;
pub mod report;
pub mod secure;

/// What a sender hands over at once, in octets: four whole frames.
pub const BLOCK: usize = 4 * adit_core::FRAME as usize;
/// What one exchange carries each way, in octets.
pub const MESSAGE: usize = 64;
/// What fits in a pipe in memory, in octets.
pub const PIPE: usize = 256 << 10;
