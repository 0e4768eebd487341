//! How long a caller may let the body of a request wait: a budget of really spent time that octets refill (V61).

use core::time::Duration;

use tokio::time::Instant;

use super::HttpLimits;

/// What is left of the waiting that a caller may cause with one body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    full: Duration,
    /// Octets that buy a second. At 0 any octet buys all.
    rate: u32,
    left: Duration,
    /// Since when the caller is waited for.
    since: Option<Instant>,
}

impl Allowance {
    pub(super) const fn new(limits: &HttpLimits) -> Self {
        let full = limits.body_timeout;
        Self { full, rate: limits.body_rate, left: full, since: None }
    }

    /// Notes that the caller is waited for, and returns when that is over.
    pub(super) fn wait(&mut self, now: Instant) -> Instant {
        *self.since.get_or_insert(now) + self.left
    }

    /// Takes off what was waited for these octets, and adds what they buy; none buy nothing.
    pub(super) fn earn(&mut self, octets: usize, now: Instant) {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(now.duration_since(since));
        }
        let earned = match (octets, self.rate, u32::try_from(octets)) {
            (0, _, _) => Duration::ZERO,
            (_, rate @ 1.., Ok(octets)) => Duration::from_secs(1).saturating_mul(octets) / rate,
            (_, _, _) => self.full,
        };
        self.left = self.left.saturating_add(earned).min(self.full);
    }

    /// Notes that it is not the caller that is waited for.
    pub(super) const fn rest(&mut self) {
        self.since = None;
    }

    /// Returns when time is over, if the caller is waited for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + self.left)
    }

    /// Returns what is left but for the wait that is under way: time is not over before that.
    pub(super) const fn left(&self) -> Duration {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_waited_is_spent_and_octets_buy_it_back_up_to_the_whole() {
        let (start, mut allowance) = (Instant::now(), allowance(30, 100));

        assert_eq!(allowance.wait(start), start + secs(30));
        assert_eq!(allowance.wait(start + secs(5)), start + secs(30), "one wait, however often it is looked at");
        allowance.earn(200, start + secs(20));
        assert_eq!((allowance.left(), allowance.due()), (secs(12), None));

        allowance.earn(0, start + secs(21));
        assert_eq!(allowance.left(), secs(12), "nobody waited, nothing came");
        allowance.earn(1_000_000, start + secs(22));
        assert_eq!(allowance.left(), secs(30));
    }

    #[test]
    fn octets_that_keep_coming_do_not_keep_it_going() {
        let (start, mut allowance) = (Instant::now(), allowance(30, 100));

        for octet in 1..=60 {
            allowance.wait(start + secs(octet - 1));
            allowance.earn(1, start + secs(octet));
        }

        assert_eq!(allowance.wait(start + secs(60)), start + secs(60) + Duration::from_millis(10));
    }

    #[test]
    fn who_is_not_waited_for_spends_nothing_and_at_rate_0_any_octet_buys_all() {
        let (start, mut allowance) = (Instant::now(), allowance(30, 0));

        allowance.wait(start);
        allowance.rest();
        allowance.earn(0, start + secs(29));
        assert_eq!(allowance.left(), secs(30));
        allowance.wait(start + secs(29));
        allowance.earn(0, start + secs(49));
        assert_eq!(allowance.left(), secs(10), "a frame without octets buys nothing");
        allowance.earn(1, start + secs(50));
        assert_eq!(allowance.left(), secs(30));
    }

    fn allowance(timeout: u64, rate: u32) -> Allowance {
        let limits = HttpLimits { body_timeout: secs(timeout), body_rate: rate, ..HttpLimits::default() };
        Allowance::new(&limits)
    }

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
}
