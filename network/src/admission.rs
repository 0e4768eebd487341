//! Who may come in: connections in all, and connections and requests of one source address.

use core::{
    hash::BuildHasher as _,
    net::{IpAddr, Ipv6Addr},
    sync::atomic::{AtomicUsize, Ordering},
};
use std::{
    collections::{HashMap, hash_map::RandomState},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::config::Limits;

/// Counts the connections of callers.
#[derive(Debug, Default)]
pub struct Admission {
    total: AtomicUsize,
    /// The sources that have a connection: as many as there may be connections, at the most.
    shards: [Mutex<HashMap<IpAddr, Entry>>; SHARDS],
    hasher: RandomState,
}

/// A connection that came in; it is counted until this is dropped.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    source: IpAddr,
}

#[derive(Debug, Default)]
struct Entry {
    connections: usize,
    source: Arc<Source>,
}

/// The requests of one source, over all its connections: one over HTTP/2 carries many.
#[derive(Debug, Default)]
pub struct Source {
    requests: AtomicUsize,
}

/// A request that is under way; it is counted until this is dropped.
#[derive(Debug)]
pub struct Underway(Arc<Source>);

/// The name of the limit that keeps a connection out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full(pub &'static str);

impl Admission {
    /// Lets a connection in, or names the limit that is reached. What is refused is not counted.
    ///
    /// # Errors
    /// [`Full`].
    pub fn admit(self: &Arc<Self>, caller: IpAddr, limits: &Limits) -> Result<Admitted, Full> {
        if self.total.fetch_add(1, Ordering::Relaxed) >= limits.connections {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Full("connections"));
        }
        let source = source(caller);
        let mut shard = self.shard(source).lock();
        let entry = shard.entry(source).or_default();
        if entry.connections >= limits.connections_per_source {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Full("connections_per_source"));
        }
        entry.connections += 1;
        drop(shard);
        Ok(Admitted { admission: Arc::clone(self), source })
    }

    /// Returns the connections that are in.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Returns what counts the requests of a caller, who has a connection that is in.
    pub fn source(&self, caller: IpAddr) -> Arc<Source> {
        let source = source(caller);
        let known = self.shard(source).lock().get(&source).map(|entry| Arc::clone(&entry.source));
        known.unwrap_or_default()
    }

    fn shard(&self, source: IpAddr) -> &Mutex<HashMap<IpAddr, Entry>> {
        let hash = self.hasher.hash_one(source);
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
        let mut shard = self.admission.shard(self.source).lock();
        if let Some(entry) = shard.get_mut(&self.source) {
            entry.connections -= 1;
            if entry.connections == 0 {
                shard.remove(&self.source);
            }
        }
    }
}

impl Source {
    /// Lets one more request begin, unless `most` are under way.
    pub fn begin(self: &Arc<Self>, most: usize) -> Option<Underway> {
        let underway = Underway(Arc::clone(self));
        (self.requests.fetch_add(1, Ordering::Relaxed) < most).then_some(underway)
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns what counts as one source: an IPv4 address, however it is written (V67), or an IPv6 /64.
fn source(caller: IpAddr) -> IpAddr {
    match caller.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

const SHARDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_come_in_and_not_one_more() {
        let (admission, limits) = (Arc::new(Admission::default()), limits(3, 2));
        let admit = |caller: &str| admission.admit(caller.parse().unwrap(), &limits);

        let first = admit("192.0.2.1").unwrap();
        let _second = admit("192.0.2.1").unwrap();
        assert_eq!(admit("192.0.2.1").unwrap_err(), Full("connections_per_source"));
        let third = admit("192.0.2.2").unwrap();
        assert_eq!(admit("192.0.2.3").unwrap_err(), Full("connections"));

        drop((first, third));
        assert!(admit("192.0.2.1").is_ok());
        assert_eq!(admission.total(), 1);
    }

    #[test]
    fn a_source_is_an_address_however_it_is_written_or_a_network_of_64_bits() {
        let (admission, limits) = (Arc::new(Admission::default()), limits(9, 1));
        let admit = |caller: &str| admission.admit(caller.parse().unwrap(), &limits);

        let _four = admit("192.0.2.1").unwrap();
        assert!(admit("::ffff:192.0.2.1").is_err(), "V67");
        let _six = admit("2001:db8::1").unwrap();
        assert!(admit("2001:db8::ffff:2").is_err());
        assert!(admit("2001:db8:0:1::1").is_ok());
    }

    #[test]
    fn the_requests_of_one_source_are_counted_over_all_its_connections() {
        let (admission, limits) = (Arc::new(Admission::default()), limits(9, 9));
        let connect = |caller: &str| {
            let caller = caller.parse().unwrap();
            (admission.admit(caller, &limits).unwrap(), admission.source(caller))
        };
        let ((_one, first), (_two, second)) = (connect("2001:db8::1"), connect("2001:db8::2"));
        let (_three, other) = connect("192.0.2.1");

        let requests = [first.begin(2), second.begin(2)];
        assert!(requests.iter().all(Option::is_some));
        assert!(first.begin(2).is_none() && second.begin(2).is_none());
        assert!(other.begin(2).is_some(), "another source");

        drop(requests);
        assert!(second.begin(1).is_some(), "what is refused is not counted");
    }

    #[test]
    fn nothing_is_kept_of_those_who_left() {
        let (admission, limits) = (Arc::new(Admission::default()), limits(9, 1));

        for last in 0..=255 {
            let caller = IpAddr::from([192, 0, 2, last]);
            let connection = admission.admit(caller, &limits).unwrap();
            drop(admission.source(caller).begin(1));
            drop(connection);
            drop(admission.source(caller).begin(1)); // a request may outlive its connection by a moment
        }

        assert!(admission.shards.iter().all(|shard| shard.lock().is_empty()));
    }

    fn limits(connections: usize, connections_per_source: usize) -> Limits {
        Limits { connections, connections_per_source, ..Limits::default() }
    }
}
