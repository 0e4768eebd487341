//! Counts of outstanding requests and connections, shared between the table and those who hold one.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// How many are outstanding.
#[derive(Debug, Default)]
pub struct Load {
    open: AtomicUsize,
}

impl Load {
    /// Returns how many.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// One request or connection, counted for the member, its session, its agent, the endpoint and its account until dropped.
#[derive(Debug)]
pub struct Lease {
    loads: [Arc<Load>; 5],
}

impl Lease {
    pub(super) fn new(loads: [Arc<Load>; 5]) -> Self {
        for load in &loads {
            load.open.fetch_add(1, Ordering::Relaxed);
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
