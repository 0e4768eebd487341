//! Credit: absolute offsets on each stream, and the pool that the windows of a session grow out of.

use crate::{Duration, Instant, MAX_OFFSET, Violation};

/// What this side may send on one stream.
#[derive(Debug)]
pub(crate) struct SendCredit {
    limit: u64,
    used: u64,
    said_blocked: Option<u64>,
}

impl SendCredit {
    pub(crate) const fn new(window: u32) -> Self {
        Self { limit: window as u64, used: 0, said_blocked: None }
    }

    /// Takes a limit that the peer announced; returns whether it gives room. A limit that is not higher changes nothing.
    pub(crate) fn raise(&mut self, limit: u64) -> Result<bool, Violation> {
        if limit > MAX_OFFSET {
            return Err(Violation::OffsetRange); // spec: CREDIT-004
        }
        let raised = limit > self.limit; // spec: CREDIT-001
        self.limit = self.limit.max(limit);
        Ok(raised)
    }

    pub(crate) const fn available(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    pub(crate) fn spend(&mut self, octets: usize) {
        self.used = self.used.saturating_add(octets as u64);
        debug_assert!(self.used <= self.limit, "no octet is sent without credit");
    }

    pub(crate) const fn used(&self) -> u64 {
        self.used
    }

    /// Returns the offset at which this side is blocked, once for each offset.
    pub(crate) fn say_blocked(&mut self) -> Option<u64> {
        let blocked = self.available() == 0 && self.said_blocked != Some(self.limit);
        blocked.then(|| {
            self.said_blocked = Some(self.limit); // spec: CREDIT-010
            self.limit
        })
    }
}

/// What the peer may send on one stream.
#[derive(Debug)]
pub(crate) struct RecvCredit {
    window: u64,
    announced: u64,
    received: u64,
    consumed: u64,
    /// What had been announced when the window last grew.
    grown_at: u64,
    /// When the peer last said that it is blocked, and what had been received then.
    stalled: Option<(Instant, u64)>,
}

impl RecvCredit {
    /// Starts with a window that the peer knows without an announcement, and that no pool has to hold.
    pub(crate) const fn new(window: u32) -> Self {
        Self { window: window as u64, announced: window as u64, received: 0, consumed: 0, grown_at: 0, stalled: None }
    }

    /// Counts octets that arrived.
    pub(crate) fn on_data(&mut self, octets: usize) -> Result<(), Violation> {
        let received = self.received.saturating_add(octets as u64);
        if received > self.announced {
            return Err(Violation::BeyondCredit); // spec: CREDIT-002
        }
        self.received = received;
        Ok(())
    }

    /// Counts octets that the application took; returns whether an announcement is due.
    ///
    /// A window that is larger than what the others would find gives back as much as was taken: what was announced stands, so
    /// that the memory is free at once.
    pub(crate) fn on_consumed(&mut self, octets: usize, first: u64, pool: &mut Pool) -> bool {
        self.consumed = self.consumed.saturating_add(octets as u64);
        debug_assert!(self.consumed <= self.received, "what is consumed has arrived");
        let fair = pool.free().saturating_mul(2).max(first);
        let less = self.window.saturating_sub(fair).min(octets as u64);
        self.window = self.window.saturating_sub(less);
        pool.release(less);
        debug_assert!(self.announced <= self.target(), "what is announced is in the window");
        self.is_due()
    }

    /// Returns whether half of the window can be announced, or so much that a large one need not wait for its half: over a
    /// distance the peer would stand still meanwhile.
    pub(crate) const fn is_due(&self) -> bool {
        let half = self.window.div_ceil(2);
        self.target().saturating_sub(self.announced) >= if half < ENOUGH { half } else { ENOUGH } // spec: CREDIT-007
    }

    /// Returns the offset to announce; never lower than before.
    pub(crate) fn announce(&mut self) -> u64 {
        self.announced = self.announced.max(self.target()); // spec: CREDIT-006
        self.announced
    }

    /// Lets the window grow to at most `most`, and to no more than stays free for others; returns whether it grew.
    pub(crate) fn grow(&mut self, most: u64, pool: &mut Pool) -> bool {
        let share = pool.free().saturating_sub(self.window) / 2;
        let more = most.saturating_sub(self.window).min(share);
        let grows = more > 0 && pool.reserve(more);
        if grows {
            self.window = self.window.saturating_add(more);
            self.grown_at = self.announced;
        }
        grows
    }

    pub(crate) const fn window(&self) -> u64 {
        self.window
    }

    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    pub(crate) const fn unread(&self) -> u64 {
        self.received.saturating_sub(self.consumed)
    }

    /// Returns whether a peer that is blocked at `offset` has used what was announced since the window last grew. Who says so
    /// without having sent as much gains nothing.
    pub(crate) const fn is_news(&self, offset: u64) -> bool {
        offset > self.grown_at && offset <= self.received
    }

    /// Takes note that the peer is blocked; returns the largest window that its path can use. What came since it was blocked before
    /// tells how fast it goes, and `rtt` for how long a window has to last: more would only wait in queues, ahead of other streams.
    pub(crate) fn on_stalled(&mut self, rtt: Option<Duration>, now: Instant) -> u64 {
        let before = self.stalled.replace((now, self.received));
        let (Some((since, received)), Some(rtt)) = (before, rtt) else { return u64::MAX };
        let octets = u128::from(self.received.saturating_sub(received));
        let meanwhile = octets.saturating_mul(rtt.as_nanos()) / now.since(since).as_nanos().max(1);
        let rounds = if rtt < NEAR { AMPLE } else { AMPLE_FAR };
        u64::try_from(meanwhile.saturating_mul(rounds)).unwrap_or(u64::MAX)
    }

    const fn target(&self) -> u64 {
        let target = self.consumed.saturating_add(self.window);
        if target > MAX_OFFSET { MAX_OFFSET } else { target }
    }
}

/// The memory that a session promises to its peer beyond the first window of each stream: what windows grow by, in sum,
/// never exceeds it. First windows stand apart, bounded by the number of streams, so that no stream can take another's.
#[derive(Debug)]
pub(crate) struct Pool {
    size: u64,
    reserved: u64,
}

impl Pool {
    pub(crate) const fn new(size: u64) -> Self {
        Self { size, reserved: 0 }
    }

    /// Reserves octets if all of them are free.
    pub(crate) fn reserve(&mut self, octets: u64) -> bool {
        let reserved = self.reserved.saturating_add(octets);
        let fits = reserved <= self.size; // spec: CREDIT-008
        if fits {
            self.reserved = reserved;
        }
        fits
    }

    pub(crate) fn release(&mut self, octets: u64) {
        debug_assert!(octets <= self.reserved, "what is released was reserved");
        self.reserved = self.reserved.saturating_sub(octets);
    }

    pub(crate) const fn free(&self) -> u64 {
        self.size.saturating_sub(self.reserved)
    }

    /// Returns whether `more` octets would leave half of the pool free.
    pub(crate) const fn is_plentiful(&self, more: u64) -> bool {
        self.reserved.saturating_add(more) <= self.size / 2
    }

    pub(crate) const fn reserved(&self) -> u64 {
        self.reserved
    }
}

/// What is announced at the latest, in octets, however large the window.
const ENOUGH: u64 = 1 << 20;

/// The round trips that a window lasts: announcements come by the half, and answers are late.
const AMPLE: u128 = 3;

/// The same for a path that loses packets: what came behind a lost one waits until that has been sent again, perhaps twice, and is
/// announced only then. A window that lasts less would keep the sender waiting each time, and be measured as slow.
const AMPLE_FAR: u128 = 8;

/// A shorter round trip is one inside of a site, where little is lost.
const NEAR: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_limit_that_is_not_higher_changes_nothing() {
        let mut credit = SendCredit::new(100);

        assert_eq!(credit.raise(100), Ok(false));
        assert_eq!(credit.raise(99), Ok(false));
        assert_eq!(credit.available(), 100);
        assert_eq!(credit.raise(101), Ok(true));
        assert_eq!(credit.available(), 101);
    }

    #[test]
    fn an_offset_beyond_the_range_is_a_violation_and_changes_nothing() {
        let mut credit = SendCredit::new(100);

        assert_eq!(credit.raise(MAX_OFFSET), Ok(true));
        assert_eq!(credit.raise(MAX_OFFSET + 1), Err(Violation::OffsetRange));
        assert_eq!(credit.raise(u64::MAX), Err(Violation::OffsetRange));
        assert_eq!(credit.available(), MAX_OFFSET);
    }

    #[test]
    fn blocked_is_said_once_for_each_offset() {
        let mut credit = SendCredit::new(10);

        assert_eq!(credit.say_blocked(), None);
        credit.spend(10);
        assert_eq!(credit.say_blocked(), Some(10));
        assert_eq!(credit.say_blocked(), None);
        credit.raise(20).unwrap();
        assert_eq!(credit.say_blocked(), None);
        credit.spend(10);
        assert_eq!(credit.say_blocked(), Some(20));
    }

    #[test]
    fn the_last_octet_of_the_window_is_taken_and_the_next_is_not() {
        let mut credit = RecvCredit::new(10);

        assert_eq!(credit.on_data(10), Ok(()));
        assert_eq!(credit.on_data(1), Err(Violation::BeyondCredit));
        assert_eq!(credit.received(), 10);
    }

    #[test]
    fn an_announcement_is_due_when_half_of_the_window_was_read() {
        let (mut credit, mut pool) = (RecvCredit::new(10), Pool::new(0));
        credit.on_data(10).unwrap();

        assert!(!credit.on_consumed(4, 10, &mut pool));
        assert!(credit.on_consumed(1, 10, &mut pool));
        assert_eq!(credit.announce(), 15);
        assert!(!credit.is_due());
    }

    #[test]
    fn no_offset_beyond_the_range_is_announced() {
        let last = MAX_OFFSET - 15;
        let mut credit = RecvCredit { announced: last, received: last, consumed: last, ..RecvCredit::new(10) };
        let mut announced_after = |octets| {
            credit.on_data(octets).unwrap();
            credit.on_consumed(octets, 10, &mut Pool::new(0));
            credit.announce()
        };

        assert_eq!(announced_after(0), MAX_OFFSET - 5);
        assert_eq!(announced_after(10), MAX_OFFSET);
    }

    /// CREDIT-007
    #[test]
    fn a_large_window_is_announced_long_before_its_half() {
        let (mut credit, mut pool) = (RecvCredit::new(64 << 20), Pool::new(0));
        credit.on_data(8 << 20).unwrap();

        assert!(!credit.on_consumed((1 << 20) - 1, 64 << 20, &mut pool));
        assert!(credit.on_consumed(1, 64 << 20, &mut pool));
    }

    #[test]
    fn a_pool_gives_what_it_has_and_is_plentiful_while_half_of_it_stays_free() {
        let mut pool = Pool::new(100);

        assert!(pool.is_plentiful(50) && !pool.is_plentiful(51));
        assert!(pool.reserve(20));
        assert!(pool.is_plentiful(30) && !pool.is_plentiful(31));
        assert!(pool.reserve(80) && !pool.reserve(1));
        pool.release(1);
        assert_eq!((pool.free(), pool.reserved()), (1, 99));
    }

    /// CREDIT-010
    #[test]
    fn to_be_blocked_is_news_where_what_was_announced_since_the_last_growth_has_come() {
        let (mut credit, mut pool) = (RecvCredit::new(10), Pool::new(100));
        credit.on_data(10).unwrap();
        assert_eq!([0, 1, 10, 11].map(|offset| credit.is_news(offset)), [false, true, true, false]);

        assert!(credit.grow(20, &mut pool));
        assert!(!credit.is_news(10));
        credit.announce();
        credit.on_data(1).unwrap();
        assert!(credit.is_news(11));
    }

    #[test]
    fn a_window_grows_as_long_as_another_could_become_as_large() {
        let mut pool = Pool::new(40);
        let mut credit = RecvCredit::new(10);

        assert!(credit.grow(20, &mut pool));
        assert_eq!((credit.window(), pool.free()), (20, 30));
        assert!(credit.is_due());
        assert_eq!(credit.announce(), 20);
        assert!(credit.grow(40, &mut pool));
        assert_eq!((credit.window(), pool.free()), (25, 25));
        assert!(!credit.grow(40, &mut pool));
    }

    #[test]
    fn a_window_too_large_for_the_others_gives_back_what_is_read() {
        let mut pool = Pool::new(100);
        let mut credit = RecvCredit::new(10);
        assert!(credit.grow(50, &mut pool));
        credit.announce();
        credit.on_data(50).unwrap();
        assert!(pool.reserve(50)); // another's

        credit.on_consumed(20, 10, &mut pool);

        assert_eq!((credit.window(), pool.free()), (30, 30));
        assert!(!credit.is_due(), "nothing is announced until the window is as small as it shall be");
        credit.on_consumed(30, 10, &mut pool);
        assert_eq!((credit.window(), pool.free()), (30, 30), "it is small enough");
        assert_eq!(credit.announce(), 80);
    }

    /// CREDIT-010
    #[test]
    fn a_window_is_as_large_as_a_few_round_trips_need() {
        let ms = Duration::from_millis;
        let at = |millis| Instant::ZERO + ms(millis);
        let mut credit = RecvCredit::new(3_000);

        assert_eq!(credit.on_stalled(Some(ms(10)), at(0)), u64::MAX, "nothing is known of its speed");
        credit.on_data(1_000).unwrap();
        assert_eq!(credit.on_stalled(Some(ms(10)), at(10)), 8_000);
        credit.on_data(1_000).unwrap();
        assert_eq!(credit.on_stalled(Some(ms(10)), at(1_010)), 80, "it was idle");
        credit.on_data(500).unwrap();
        assert_eq!(credit.on_stalled(Some(ms(4)), at(1_011)), 6_000, "a path on which nothing is lost needs less");
        credit.on_data(100).unwrap();
        assert_eq!(credit.on_stalled(Some(ms(5)), at(1_012)), 4_000, "one of 5 ms is not among those");
        assert_eq!(credit.on_stalled(Some(ms(10)), at(1_012)), 0, "who says so without having sent gains nothing");
        assert_eq!(credit.on_stalled(None, at(1_012)), u64::MAX, "nothing is known of the path");
        credit.on_data(1).unwrap();
        assert_eq!(credit.on_stalled(Some(Duration::MAX), at(1_012)), u64::MAX);
    }

    #[test]
    fn many_windows_that_are_read_and_blocked_find_equal_shares() {
        let mut pool = Pool::new(1_000_000);
        let mut credits: Vec<RecvCredit> = Vec::new();
        for _ in 0..20 {
            credits.push(RecvCredit::new(1_000));
            for _ in 0..200 {
                for credit in &mut credits {
                    let room = usize::try_from(credit.announced - credit.received).unwrap();
                    credit.on_data(room).unwrap();
                    credit.on_consumed(room, 1_000, &mut pool);
                    let doubled = credit.window() * 2;
                    credit.grow(doubled, &mut pool);
                    credit.announce();
                }
            }
        }

        let (least, most) =
            (credits.iter().map(RecvCredit::window).min(), credits.iter().map(RecvCredit::window).max());
        assert!(least.unwrap() >= 20_000 && most.unwrap() <= 100_000, "{least:?} to {most:?}");
        let promised: u64 = credits.iter().map(|credit| credit.window() - 1_000).sum();
        assert_eq!(promised, pool.reserved());
    }
}
