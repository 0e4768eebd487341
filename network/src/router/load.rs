//! Counts of open connections, shared between the table and those who hold one.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;

/// How many connections are open, and how many there were.
#[derive(Debug, Default)]
pub struct Load {
    open: AtomicUsize,
    served: AtomicU64,
}

impl Load {
    /// Returns the open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Returns the connections there ever were.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

/// One open connection, counted for the member, its session, its agent and the endpoint until dropped.
#[derive(Debug)]
pub struct Lease {
    loads: [Arc<Load>; 4],
}

impl Lease {
    pub(super) fn new(loads: [Arc<Load>; 4]) -> Self {
        for load in &loads {
            load.open.fetch_add(1, Ordering::Relaxed);
            load.served.fetch_add(1, Ordering::Relaxed);
        }
        Self { loads }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        for load in &self.loads {
            load.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
