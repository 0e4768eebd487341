//! The encoding of control messages.

/// A message that can be put on the wire.
pub trait Message: Sized {}
