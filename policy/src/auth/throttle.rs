//! What wrong attempts cost: who guesses has to wait.

use core::{
    hash::{BuildHasher, Hash},
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};
use std::{hash::RandomState, time::Instant};

/// The wrong attempts of one address at one user that are free; then there is one each [`PAIR`].
pub const BURST: u32 = 10;
/// After this time, one more attempt of an address at a user.
pub const PAIR: Duration = Duration::from_secs(6);
/// After this time, one more attempt of an address at whatever users; six times as many are free.
pub const ADDRESS: Duration = Duration::from_secs(1);
/// How many addresses, and pairs of an address and a user, are remembered. Beyond that, those are forgotten that have waited the most.
pub const REMEMBERED: usize = SETS * WAYS;

const ADDRESS_BURST: u32 = 6 * BURST;
const SETS: usize = 2048;
const WAYS: usize = 8;

/// Counts wrong attempts of each address, and of each address at each user.
///
/// An account is not locked: an attacker who has other addresses than the user keeps nobody out. An IPv6 address is the network of 64
/// bits that it is in, for its holder has them all.
#[derive(Debug)]
pub struct Throttle<S = RandomState> {
    /// In sets of [`WAYS`], found by a keyed hash: no caller can choose whom it displaces.
    slots: Vec<Slot>,
    hasher: S,
}

/// What is remembered of one address or pair: when all its wrong attempts are paid for.
#[derive(Clone, Copy, Debug)]
struct Slot {
    tag: u64,
    paid: Instant,
}

/// What wrong attempts at one thing cost.
#[derive(Clone, Copy, Debug)]
struct Price {
    each: Duration,
    burst: u32,
}

impl Throttle {
    /// Returns a throttle that remembers nobody.
    pub fn new() -> Self {
        Self::with_hasher(RandomState::new())
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: BuildHasher> Throttle<S> {
    /// Returns a throttle that remembers nobody and finds what it remembers by this hash.
    pub fn with_hasher(hasher: S) -> Self {
        Self { slots: Vec::new(), hasher }
    }

    /// Returns how long an address has to wait before an attempt at a user is looked at; nothing when it need not.
    pub fn wait(&self, address: IpAddr, user: &str, now: Instant) -> Option<Duration> {
        self.keys(address, user).into_iter().filter_map(|(tag, price)| self.wait_of(tag, price, now)).max()
    }

    /// Counts a wrong attempt.
    pub fn on_wrong(&mut self, address: IpAddr, user: &str, now: Instant) {
        for (tag, price) in self.keys(address, user) {
            let slot = self.slot(tag, now);
            // What waits the longest is the burst: attempts that were under way together do not add up to more.
            slot.paid = (slot.paid.max(now) + price.each).min(now + price.each * price.burst);
        }
    }

    fn keys(&self, address: IpAddr, user: &str) -> [(u64, Price); 2] {
        let source = source(address);
        let pair = Price { each: PAIR, burst: BURST };
        let alone = Price { each: ADDRESS, burst: ADDRESS_BURST };
        [(self.tag((source, Some(user))), pair), (self.tag((source, None::<&str>)), alone)]
    }

    fn tag(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    fn wait_of(&self, tag: u64, price: Price, now: Instant) -> Option<Duration> {
        let slot = self.set(tag)?.iter().find(|slot| slot.tag == tag)?;
        let owed = slot.paid.saturating_duration_since(now);
        let free = price.each * (price.burst - 1);
        owed.checked_sub(free).filter(|wait| !wait.is_zero())
    }

    /// Returns the slot of a tag, taken from who has the least to wait when there is none.
    fn slot(&mut self, tag: u64, now: Instant) -> &mut Slot {
        if self.slots.is_empty() {
            self.slots = vec![Slot { tag: 0, paid: now }; REMEMBERED];
        }
        let start = set_of(tag);
        let set = self.slots.get_mut(start..start + WAYS).unwrap_or_default();
        let known = set.iter().position(|slot| slot.tag == tag);
        let at = known.or_else(|| (0..set.len()).min_by_key(|at| set.get(*at).map(|slot| slot.paid))).unwrap_or(0);
        let slot = set.get_mut(at).expect("a set has its ways");
        if known.is_none() {
            *slot = Slot { tag, paid: now };
        }
        slot
    }

    fn set(&self, tag: u64) -> Option<&[Slot]> {
        let start = set_of(tag);
        self.slots.get(start..start + WAYS)
    }
}

fn set_of(tag: u64) -> usize {
    usize::try_from(tag % SETS as u64).unwrap_or(0) * WAYS
}

/// Returns the address by which a caller is counted.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(four) => IpAddr::V4(four),
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ten_attempts_are_free_and_then_there_is_one_each_six_seconds() {
        let (mut throttle, start) = (Throttle::new(), Instant::now());
        let caller = address("192.0.2.1");

        for _ in 0..10 {
            assert_eq!(throttle.wait(caller, "ann", start), None);
            throttle.on_wrong(caller, "ann", start);
        }

        assert_eq!(throttle.wait(caller, "ann", start), Some(Duration::from_secs(6)));
        assert_eq!(throttle.wait(caller, "ann", start + Duration::from_millis(5_999)), Some(Duration::from_millis(1)));
        assert_eq!(throttle.wait(caller, "ann", start + Duration::from_secs(6)), None);
        throttle.on_wrong(caller, "ann", start + Duration::from_secs(6));
        assert_eq!(throttle.wait(caller, "ann", start + Duration::from_secs(6)), Some(Duration::from_secs(6)));
        assert_eq!(throttle.wait(caller, "bob", start), None);
        assert_eq!(throttle.wait(address("192.0.2.2"), "ann", start), None);
    }

    #[test]
    fn an_address_that_tries_many_users_waits_too() {
        let (mut throttle, start) = (Throttle::new(), Instant::now());
        let caller = address("192.0.2.1");

        for at in 0..60 {
            let user = format!("user{at}");
            assert_eq!(throttle.wait(caller, &user, start), None, "{at}");
            throttle.on_wrong(caller, &user, start);
        }

        assert_eq!(throttle.wait(caller, "another", start), Some(Duration::from_secs(1)));
        assert_eq!(throttle.wait(address("192.0.2.2"), "another", start), None);
    }

    #[test]
    fn a_source_is_an_ipv4_address_however_it_is_written_or_a_network_of_64_bits() {
        let (mut throttle, now) = (Throttle::new(), Instant::now());
        for _ in 0..10 {
            throttle.on_wrong(address("::ffff:192.0.2.1"), "ann", now);
            throttle.on_wrong(address("2001:db8::1"), "ann", now);
        }

        assert!(throttle.wait(address("192.0.2.1"), "ann", now).is_some());
        assert!(throttle.wait(address("2001:db8::ffff"), "ann", now).is_some());
        assert!(throttle.wait(address("2001:db8:0:1::1"), "ann", now).is_none());
    }

    #[test]
    fn attempts_that_were_under_way_together_cost_no_more_than_the_burst() {
        let (mut throttle, now) = (Throttle::new(), Instant::now());
        for _ in 0..1_000 {
            throttle.on_wrong(address("192.0.2.1"), "ann", now);
        }

        assert_eq!(throttle.wait(address("192.0.2.1"), "ann", now), Some(Duration::from_secs(6)));
    }

    #[test]
    fn memory_is_bounded_and_a_flood_of_addresses_forgets_little_of_who_waits() {
        let (mut throttle, now) = (Throttle::new(), Instant::now());
        for _ in 0..60 {
            throttle.on_wrong(address("192.0.2.1"), "ann", now);
        }
        for at in 0..200_000 {
            throttle.on_wrong(IpAddr::V4((0x0a00_0000 + at).into()), "ann", now);
        }

        assert_eq!(throttle.slots.len(), REMEMBERED);
        assert!(throttle.wait(address("192.0.2.1"), "ann", now).is_some());
    }
}
