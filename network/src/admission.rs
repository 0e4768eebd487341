//! Who may come in: connections in all, and of one source address.

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
    shards: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
    hasher: RandomState,
}

/// A connection that came in; it is counted until this is dropped.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    source: IpAddr,
}

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
        let count = shard.entry(source).or_default();
        if *count >= limits.connections_per_source {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Full("connections_per_source"));
        }
        *count += 1;
        drop(shard);
        Ok(Admitted { admission: Arc::clone(self), source })
    }

    /// Returns the connections that are in.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    fn shard(&self, source: IpAddr) -> &Mutex<HashMap<IpAddr, usize>> {
        let hash = self.hasher.hash_one(source);
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
        let mut shard = self.admission.shard(self.source).lock();
        if let Some(count) = shard.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.source);
            }
        }
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
    fn nothing_is_kept_of_those_who_left() {
        let (admission, limits) = (Arc::new(Admission::default()), limits(9, 1));

        for last in 0..=255 {
            drop(admission.admit(IpAddr::from([192, 0, 2, last]), &limits).unwrap());
        }

        assert!(admission.shards.iter().all(|shard| shard.lock().is_empty()));
    }

    fn limits(connections: usize, connections_per_source: usize) -> Limits {
        Limits { connections, connections_per_source, ..Limits::default() }
    }
}
