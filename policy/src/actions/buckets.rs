//! Counts of requests by key, bounded.

use core::{hash::BuildHasher, time::Duration};
use std::{
    collections::{HashMap, hash_map::RandomState},
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// The most keys of one `rate-limit` that are kept at a time; about 10 MiB.
pub const MAX_KEYS: usize = 100_000;

/// How requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    SlidingWindow,
    TokenBucket,
}

/// Buckets by key.
#[derive(Debug)]
pub(super) struct Buckets {
    limit: Limit,
    /// A key is known by two hashes that no caller can foretell: keys of any length take the same room.
    hashers: [RandomState; 2],
    shards: [Mutex<Shard>; SHARDS],
    rest: Mutex<Bucket>,
    start: Mutex<Option<Instant>>,
}

const SHARDS: usize = 16;
/// Slices of a window.
const SLICES: usize = 10;

#[derive(Debug)]
struct Shard {
    buckets: HashMap<(u64, u64), Bucket>,
    /// When there may be room again: it is looked for once a slice.
    sweep: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Limit {
    algorithm: Algorithm,
    capacity: u32,
    rate: Duration,
}

/// What is counted for one key. Times are since the first request of all.
#[derive(Clone, Copy, Debug)]
enum Bucket {
    /// Counts of the current slice and of the ten before it, and the number of the current one. A slice more than a window has: the
    /// oldest is counted whole as long as a part of it is within the window.
    Window { slice: u64, counts: [u32; SLICES + 1] },
    /// How many more may pass, in nanoseconds of the rate for each, and when that was.
    Tokens { left: u128, at: Duration },
}

impl Buckets {
    pub(super) fn new(algorithm: Algorithm, capacity: u32, rate: Duration) -> Self {
        let limit = Limit { algorithm, capacity, rate };
        Self {
            limit,
            hashers: [RandomState::new(), RandomState::new()],
            shards: [(); SHARDS].map(|()| Mutex::new(Shard { buckets: HashMap::new(), sweep: Duration::ZERO })),
            rest: Mutex::new(limit.bucket(Duration::ZERO)),
            start: Mutex::new(None),
        }
    }

    /// Takes one request of a key; returns how long to wait when it may not pass.
    pub(super) fn take(&self, key: &str, now: Instant) -> Option<Duration> {
        let now = self.since_start(now);
        let [one, two] = self.hashers.each_ref().map(|hasher| hasher.hash_one(key));
        let shard = self.shards.get(usize::try_from(one % SHARDS as u64).unwrap_or(0))?;
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = shard.buckets.get_mut(&(one, two)) {
            return self.limit.take(bucket, now);
        }
        if shard.buckets.len() >= MAX_KEYS / SHARDS && shard.sweep <= now {
            shard.buckets.retain(|_, bucket| !self.limit.is_idle(bucket, now));
            shard.sweep = now + self.limit.slice();
        }
        if shard.buckets.len() >= MAX_KEYS / SHARDS {
            return self.limit.take(&mut self.rest.lock().unwrap_or_else(PoisonError::into_inner), now);
        }
        let mut bucket = self.limit.bucket(now);
        let wait = self.limit.take(&mut bucket, now);
        shard.buckets.insert((one, two), bucket);
        wait
    }

    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.limit == other.limit
    }

    /// Returns how many keys count at a time.
    pub(super) fn len(&self, now: Instant) -> usize {
        let now = self.since_start(now);
        let busy = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.buckets.values().filter(|bucket| !self.limit.is_idle(bucket, now)).count()
        };
        self.shards.iter().map(busy).sum()
    }

    fn since_start(&self, now: Instant) -> Duration {
        let mut start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(*start.get_or_insert(now))
    }
}

impl Limit {
    fn bucket(&self, now: Duration) -> Bucket {
        match self.algorithm {
            Algorithm::SlidingWindow => Bucket::Window { slice: self.slice_of(now), counts: [0; SLICES + 1] },
            Algorithm::TokenBucket => Bucket::Tokens { left: self.full(), at: now },
        }
    }

    /// What a bucket holds that may let the whole capacity pass.
    fn full(&self) -> u128 {
        self.rate.as_nanos().saturating_mul(u128::from(self.capacity))
    }

    fn slice(&self) -> Duration {
        self.rate / 10
    }

    fn slice_of(&self, now: Duration) -> u64 {
        u64::try_from(now.as_nanos() / self.slice().as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    /// Lets time pass for a bucket. Time that went back is no time.
    fn pass(&self, bucket: &mut Bucket, now: Duration) {
        match bucket {
            Bucket::Window { slice, counts } => {
                let current = self.slice_of(now).max(*slice);
                let passed = usize::try_from(current - *slice).unwrap_or(usize::MAX).min(counts.len());
                counts.rotate_right(passed);
                counts.iter_mut().take(passed).for_each(|count| *count = 0);
                *slice = current;
            }
            Bucket::Tokens { left, at } => {
                let more = now.saturating_sub(*at).as_nanos().saturating_mul(u128::from(self.capacity));
                *left = left.saturating_add(more).min(self.full());
                *at = now.max(*at);
            }
        }
    }

    fn take(&self, bucket: &mut Bucket, now: Duration) -> Option<Duration> {
        self.pass(bucket, now);
        match bucket {
            Bucket::Window { slice, counts } => {
                let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
                if total < u64::from(self.capacity) {
                    if let Some(current) = counts.first_mut() {
                        *current += 1;
                    }
                    return None;
                }
                // The oldest slice that has any is the first to be forgotten.
                let oldest = counts.iter().rposition(|count| *count > 0).unwrap_or(0);
                let left = u32::try_from(counts.len().saturating_sub(oldest)).unwrap_or(1);
                let begins = self.slice() * u32::try_from(*slice).unwrap_or(u32::MAX);
                Some((begins + self.slice() * left).saturating_sub(now))
            }
            Bucket::Tokens { left, .. } => match left.checked_sub(self.rate.as_nanos()) {
                Some(rest) => {
                    *left = rest;
                    None
                }
                None => {
                    let missing = self.rate.as_nanos().saturating_sub(*left);
                    let nanos = missing.div_ceil(u128::from(self.capacity.max(1)));
                    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
                }
            },
        }
    }

    /// Returns whether a bucket is as a new one would be.
    fn is_idle(&self, bucket: &Bucket, now: Duration) -> bool {
        let mut bucket = *bucket;
        self.pass(&mut bucket, now);
        match bucket {
            Bucket::Window { counts, .. } => counts.iter().all(|count| *count == 0),
            Bucket::Tokens { left, .. } => left >= self.full(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPACITY: u32 = 5;
    const RATE: Duration = Duration::from_secs(10);

    fn buckets(algorithm: Algorithm) -> Buckets {
        Buckets::new(algorithm, CAPACITY, RATE)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whenever requests come: a window of the rate has no more than the capacity (twice that for a bucket, which may be full and
        /// fill once more), and who waits as long as he is told passes.
        #[test]
        fn no_window_has_more_than_may_pass(
            token in any::<bool>(),
            gaps in prop::collection::vec(prop_oneof![0..200_u64, 0..12_000_u64], 1..200),
        ) {
            let (algorithm, most) =
                if token { (Algorithm::TokenBucket, 2 * CAPACITY) } else { (Algorithm::SlidingWindow, CAPACITY) };
            let buckets = buckets(algorithm);
            let start = Instant::now();
            let (mut now, mut passed) = (start, Vec::new());
            for gap in gaps {
                now += Duration::from_millis(gap);
                match buckets.take("key", now) {
                    None => passed.push(now),
                    Some(wait) => {
                        prop_assert!(wait > Duration::ZERO && wait <= RATE * 11 / 10);
                        now += wait;
                        prop_assert_eq!(buckets.take("key", now), None);
                        passed.push(now);
                    }
                }
            }
            for (at, first) in passed.iter().enumerate() {
                let within = passed.iter().skip(at).take_while(|time| **time < *first + RATE).count();
                prop_assert!(within <= most as usize, "{} within a window", within);
            }
        }
    }

    #[test]
    fn keys_beyond_the_most_share_a_bucket_until_there_is_room() {
        let buckets = buckets(Algorithm::SlidingWindow);
        let start = Instant::now();
        assert_eq!(buckets.take("known", start), None);
        for key in 0..3 * MAX_KEYS {
            _ = buckets.take(&key.to_string(), start);
        }

        assert!(buckets.len(start) <= MAX_KEYS);
        // The rest has had its share; who was known before is served on.
        let refused = (0..100).filter(|key| buckets.take(&format!("new {key}"), start).is_some()).count();
        assert_eq!(refused, 100);
        assert_eq!(buckets.take("known", start), None);
        let later = start + RATE * 11 / 10;
        assert_eq!(buckets.take("new", later), None);
        assert!(buckets.len(later) < 100);
    }

    #[test]
    fn time_that_goes_back_is_no_time() {
        for algorithm in [Algorithm::SlidingWindow, Algorithm::TokenBucket] {
            let buckets = buckets(algorithm);
            let start = Instant::now();
            for _ in 0..CAPACITY {
                assert_eq!(buckets.take("key", start + RATE), None);
            }
            assert!(buckets.take("key", start).is_some());
        }
    }
}
