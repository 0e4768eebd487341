//! The connections that are carried at this moment.

use core::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use super::Status;

/// A connection that is carried.
#[derive(Debug)]
pub(crate) struct Carried {
    /// Rises by one with each.
    pub(crate) number: u64,
    /// The name of the endpoint.
    pub(crate) endpoint: String,
    /// Who calls, as the network says; nobody where a request is sent again from here.
    pub(crate) caller: Option<SocketAddr>,
    /// Where it leads.
    pub(crate) upstream: String,
    pub(crate) begun: SystemTime,
    pub(crate) since: Instant,
    /// Octets towards the upstream.
    pub(crate) up: AtomicU64,
    /// Octets towards the caller.
    pub(crate) down: AtomicU64,
}

/// A connection that is counted and shown.
#[derive(Debug)]
pub(crate) struct Counted {
    status: Arc<Status>,
    pub(crate) carried: Arc<Carried>,
}

impl Status {
    /// Counts and shows a connection for as long as what is returned lives.
    pub(crate) fn connection(
        self: &Arc<Self>,
        endpoint: &str,
        caller: Option<SocketAddr>,
        upstream: String,
    ) -> Counted {
        self.traffic.live.fetch_add(1, Ordering::Relaxed);
        let number = self.traffic.total.fetch_add(1, Ordering::Relaxed);
        let carried = Arc::new(Carried {
            number,
            endpoint: endpoint.to_owned(),
            caller,
            upstream,
            begun: SystemTime::now(),
            since: Instant::now(),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
        });
        self.open().insert(number, Arc::clone(&carried));
        Counted { status: Arc::clone(self), carried }
    }

    /// Returns the connections that are open, the oldest first, at most so many.
    pub(crate) fn connections(&self, most: usize) -> Vec<Arc<Carried>> {
        self.open().values().take(most).map(Arc::clone).collect()
    }

    /// Returns how many connections are open at each endpoint that has any.
    pub(crate) fn open_by_endpoint(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for carried in self.open().values() {
            match counts.get_mut(&carried.endpoint) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(carried.endpoint.clone(), 1);
                }
            }
        }
        counts
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Carried>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Carried {
    /// Counts octets towards the upstream.
    pub(crate) fn sent(&self, octets: usize) {
        self.up.fetch_add(u64::try_from(octets).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counts octets towards the caller.
    pub(crate) fn received(&self, octets: usize) {
        self.down.fetch_add(u64::try_from(octets).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.status.traffic.live.fetch_sub(1, Ordering::Relaxed);
        self.status.open().remove(&self.carried.number);
    }
}
