//! The pump between a transport and a link, for any executor: wakers and no system call.
//!
//! One task owns the transport and TLS. The link stands behind one lock, which handles and the task hold for a push or a
//! pop, never across TLS, a system call or an await.

mod handle;
mod secure;
mod shared;
mod task;

use core::task::{Context, Poll};
use std::io::{self, IoSlice};

use crate::Instant;

pub use handle::{Handle, PollEvent, StreamHandle};
pub use secure::{ask, secure};
pub use task::{Failure, Task};

/// A byte transport, as a runtime provides it.
pub trait Transport {
    /// Reads into `buffer`; zero is the end.
    ///
    /// # Errors
    /// What the operating system says; every error is final.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes from `buffers`.
    ///
    /// # Errors
    /// What the operating system says; every error is final.
    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Ends the writing side.
    ///
    /// # Errors
    /// What the operating system says; every error is final.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Takes note that nothing goes through any more, before it is dropped: what is under way need not arrive, and a peer
    /// that still hears something is better told by a reset than by an end that waits its turn.
    fn abort(&mut self) {}
}

/// A timer, as a runtime provides it.
pub trait Timer {
    /// Is ready at `at` or later. Asked again with another instant, it waits for that one.
    fn poll_until(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()>;
}

/// A clock that counts the time during which the machine sleeps.
pub trait Clock: core::fmt::Debug + Send + Sync + 'static {
    /// Returns the instant that it is.
    fn now(&self) -> Instant;
}
