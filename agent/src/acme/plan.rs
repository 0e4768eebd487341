//! When a certificate is ordered: pure, with the time as an argument.
//!
//! What failed waits longer each time, and over restarts; what the authority limits waits as long as it says. A certificate is
//! renewed at two thirds of its life, or when the authority says so, and never in the last eighth of it for the first time.

use core::hash::{Hash as _, Hasher as _};
use std::hash::DefaultHasher;

/// One certificate, and when it is ordered. Times are seconds since 1970.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    validity: Option<Validity>,
    failures: u32,
    /// The authority has said until when.
    limited: bool,
    due: u64,
    /// When the authority is asked for its advice.
    ask: u64,
    /// How often in a row that came to nothing.
    unanswered: u32,
    /// Where the jitter begins: another one in each agent.
    seed: u64,
}

/// From when to when a certificate is good: seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: u64,
    pub(super) until: u64,
}

/// Why an order came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// The name, or the account: it does not lead here, or the authority does not issue for it.
    Name,
    /// The authority cannot be reached or used, or this machine cannot keep what it gives.
    Way,
    /// The authority limits how often: so many seconds, if it says so.
    Limit(Option<u64>),
}

impl Validity {
    fn life(self) -> u64 {
        self.until.saturating_sub(self.from)
    }

    /// Returns whether no more than a quarter of its life is left.
    pub(super) fn is_ending(self, now: u64) -> bool {
        self.until.saturating_sub(now) <= self.life() / 4
    }
}

impl Plan {
    /// Returns the plan of a name without a certificate, which is ordered at once.
    pub(super) const fn new(seed: u64) -> Self {
        Self { validity: None, failures: 0, limited: false, due: 0, ask: 0, unanswered: 0, seed }
    }

    /// Takes a certificate that is there already.
    pub(super) fn have(&mut self, validity: Validity) {
        self.validity = Some(validity);
        self.due = self.due.max(renewal(validity, self.jitter(0)));
    }

    /// Takes how often it failed before this agent began, and when it may be tried again.
    pub(super) fn remember(&mut self, failures: u32, next: u64, limited: bool) {
        (self.failures, self.limited) = (failures, limited);
        self.due = if failures > 0 { next } else { self.due.max(next) };
    }

    /// Takes the certificate that an order gave. One that comes late in its life is not replaced in haste.
    pub(super) fn issued(&mut self, validity: Validity, now: u64) {
        let left = validity.until.saturating_sub(now);
        let due = renewal(validity, self.jitter(0)).max(now.saturating_add(SHORTEST.min(left / 2)));
        *self = Self { validity: Some(validity), due, ..Self::new(self.seed) };
    }

    /// Takes that an order came to nothing; returns when it is tried again.
    pub(super) fn failed(&mut self, blame: Blame, now: u64) -> u64 {
        self.failures = self.failures.saturating_add(1);
        self.limited = matches!(blame, Blame::Limit(_));
        let own = |longest| back_off(self.failures, longest, self.jitter(self.failures));
        let wait = match blame {
            Blame::Name => own(LONGEST),
            Blame::Way => own(LONGEST_WAY),
            Blame::Limit(asked) => own(LONGEST).max(asked.unwrap_or(0)).min(LONGEST_ASKED),
        };
        self.due = now.saturating_add(wait);
        self.due
    }

    /// Somebody wants it at once: then it is, unless the authority has said until when to wait. Returns whether it is.
    pub(super) fn hurry(&mut self, now: u64) -> bool {
        if self.limited && now < self.due {
            return false;
        }
        self.due = self.due.min(now);
        true
    }

    /// Returns whether the authority is to be asked when the certificate is to be renewed; it is then under way.
    pub(super) fn ask(&mut self, now: u64) -> bool {
        let is_due = self.validity.is_some() && self.ask <= now;
        if is_due {
            self.ask = now.saturating_add(LONGEST); // until there is an answer
        }
        is_due
    }

    /// Takes what the authority said, and when it is to be asked again. Returns when the certificate is renewed if that has
    /// changed. A failed renewal keeps its own time.
    pub(super) fn advise(&mut self, window: Option<(u64, u64)>, again: u64) -> Option<u64> {
        (self.ask, self.unanswered) = (again, 0);
        let (window, validity) = (window?, self.validity?);
        let due = suggested(window, validity, self.jitter(0));
        if self.failures > 0 || self.due == due {
            return None;
        }
        self.due = due;
        Some(due)
    }

    /// Takes that the authority gave no advice: what it said last counts, and it is asked again later and later.
    pub(super) fn unadvised(&mut self, now: u64) {
        self.unanswered = self.unanswered.saturating_add(1);
        self.ask = now.saturating_add(back_off(self.unanswered, LONGEST, self.jitter(self.unanswered)));
    }

    /// Returns whether it is to be ordered.
    pub(super) const fn is_due(&self, now: u64) -> bool {
        self.due <= now
    }

    pub(super) const fn due(&self) -> u64 {
        self.due
    }

    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) const fn is_limited(&self) -> bool {
        self.limited
    }

    pub(super) const fn validity(&self) -> Option<Validity> {
        self.validity
    }

    /// Returns a number below one that is always the same for the same attempt.
    fn jitter(&self, attempt: u32) -> f64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, attempt).hash(&mut hasher);
        #[expect(clippy::cast_precision_loss, reason = "32 bits fit")]
        let fraction = (hasher.finish() >> 32) as f64 / (f64::from(u32::MAX) + 1.0);
        fraction
    }
}

/// Returns when a certificate is renewed: at two thirds of its life, or up to a twentieth of it earlier.
fn renewal(validity: Validity, jitter: f64) -> u64 {
    let life = validity.life();
    validity.from.saturating_add(life - life / 3).saturating_sub(share(life / 20, jitter))
}

/// Returns when a certificate is renewed by the authority's window: at a time in it that chance chose once, so that not all
/// come at its begin; at the latest when an eighth of its life is left, whatever the authority says.
fn suggested((from, to): (u64, u64), validity: Validity, jitter: f64) -> u64 {
    let chosen = from.saturating_add(share(to.saturating_sub(from), jitter));
    chosen.min(validity.until.saturating_sub(validity.life() / 8))
}

/// Returns for how long something waits that failed so often: a minute, then twice as long each time, at most `longest`; and
/// up to a quarter less, so that many do not come back at once.
fn back_off(failures: u32, longest: u64, jitter: f64) -> u64 {
    let doubled = SHORTEST.saturating_mul(1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX));
    let whole = doubled.min(longest);
    (whole - share(whole / 4, jitter)).max(SHORTEST)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "below `whole`"
)]
fn share(whole: u64, jitter: f64) -> u64 {
    (whole as f64 * jitter) as u64
}

/// A minute: nothing that failed is tried again before, in seconds.
pub(super) const SHORTEST: u64 = 60;
/// A day: nothing that failed waits longer.
pub(super) const LONGEST: u64 = 86_400;
/// An hour: how long an authority that cannot be reached is left alone.
const LONGEST_WAY: u64 = 3_600;
/// A week: an authority that says more than that is asked again.
const LONGEST_ASKED: u64 = 7 * 86_400;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400;
    const QUARTER: Validity = Validity { from: 100 * DAY, until: 190 * DAY };

    fn holding(validity: Validity, seed: u64) -> Plan {
        let mut plan = Plan::new(seed);
        plan.have(validity);
        plan
    }

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life_or_a_little_earlier() {
        assert_eq!(renewal(QUARTER, 0.0), 160 * DAY);
        assert_eq!(renewal(QUARTER, 0.5), 160 * DAY - 90 * DAY / 40);
        assert!(renewal(QUARTER, 0.999) > 155 * DAY);

        let mut plan = holding(QUARTER, 1);
        let due = plan.due();
        assert!(!plan.is_due(due - 1) && plan.is_due(due));
        plan.issued(Validity { from: due, until: due + 90 * DAY }, due);
        assert!(plan.due() > due + 55 * DAY);
        let others: std::collections::BTreeSet<_> = (0..50).map(|seed| holding(QUARTER, seed).due()).collect();
        assert!(others.len() > 40, "not all at once");
    }

    #[test]
    fn without_a_certificate_it_is_ordered_at_once_and_what_failed_waits_longer_each_time() {
        let mut plan = Plan::new(7);
        assert!(plan.is_due(0));

        let mut waits = Vec::new();
        for _ in 0..20 {
            waits.push(plan.failed(Blame::Name, 1_000) - 1_000);
        }
        assert!(
            waits[..11].is_sorted() && waits[0] == SHORTEST && waits[3] > 300 && *waits.last().unwrap() <= LONGEST,
            "{waits:?}"
        );
        let mut plan = Plan::new(7);
        let most = (0..20).map(|_| plan.failed(Blame::Way, 0)).max().unwrap();
        assert!(most <= LONGEST_WAY, "who is away may be back soon");
    }

    #[test]
    fn a_limit_is_kept_whoever_is_in_a_hurry_and_over_restarts() {
        let mut plan = Plan::new(1);
        let due = plan.failed(Blame::Limit(Some(7_200)), 1_000);
        assert_eq!(due, 8_200);
        assert!(!plan.hurry(8_199) && !plan.is_due(8_199));

        let mut again = Plan::new(2);
        again.remember(plan.failures(), plan.due(), plan.is_limited());
        assert!(!again.is_due(8_199) && !again.hurry(8_199) && again.is_due(8_200));
        assert_eq!(Plan::new(1).failed(Blame::Limit(Some(u64::MAX)), 0), LONGEST_ASKED);
        assert!(Plan::new(1).failed(Blame::Limit(None), 0) >= SHORTEST);
    }

    #[test]
    fn who_is_in_a_hurry_need_not_wait_for_what_only_failed() {
        let mut plan = Plan::new(1);
        plan.failed(Blame::Name, 1_000);
        assert!(!plan.is_due(1_001));
        assert!(plan.hurry(1_001) && plan.is_due(1_001));
    }

    #[test]
    fn a_failed_renewal_that_is_remembered_keeps_its_time_and_one_that_did_not_fail_no_more_than_that() {
        let mut plan = holding(QUARTER, 1);
        plan.remember(3, 120 * DAY, false);
        assert_eq!(plan.due(), 120 * DAY);
        let mut plan = holding(QUARTER, 1);
        let due = plan.due();
        plan.remember(0, 110 * DAY, false);
        assert_eq!(plan.due(), due);
        let mut plan = Plan::new(1);
        plan.remember(0, 500, false);
        assert!(!plan.is_due(499), "an attempt that the last agent did not survive counts");
    }

    #[test]
    fn a_certificate_that_is_old_when_it_comes_is_not_replaced_in_haste() {
        let mut plan = Plan::new(1);
        plan.issued(Validity { from: 0, until: 1_000 * DAY }, 999 * DAY);
        assert_eq!(plan.due(), 999 * DAY + SHORTEST);
        plan.issued(Validity { from: 100, until: 112 }, 100);
        assert!((106..=108).contains(&plan.due()), "short ones are renewed in time: {}", plan.due());
    }

    #[test]
    fn a_certificate_is_renewed_in_the_window_of_the_authority_and_before_its_end_whatever_that_says() {
        let mut plan = holding(QUARTER, 1);
        assert!(plan.ask(100 * DAY) && !plan.ask(100 * DAY + 1), "asked once");
        let due = plan.advise(Some((120 * DAY, 122 * DAY)), 101 * DAY).unwrap();
        assert!((120 * DAY..122 * DAY).contains(&due) && plan.due() == due);
        assert_eq!(plan.advise(Some((120 * DAY, 122 * DAY)), 102 * DAY), None, "nothing new");
        let due = plan.advise(Some((189 * DAY, 400 * DAY)), 102 * DAY).unwrap();
        assert!(due <= 190 * DAY - 90 * DAY / 8, "in time all the same");
        assert_eq!(plan.advise(None, 103 * DAY), None);
        assert!(!plan.ask(102 * DAY) && plan.ask(103 * DAY));

        plan.failed(Blame::Name, 130 * DAY);
        assert_eq!(plan.advise(Some((1, 2)), 0), None, "a failed renewal keeps its own time");
        plan.unadvised(130 * DAY);
        assert!(!plan.ask(130 * DAY + 59) && plan.ask(130 * DAY + 60));
    }

    #[test]
    fn the_end_is_near_when_a_quarter_is_left() {
        assert!(!QUARTER.is_ending(167 * DAY) && QUARTER.is_ending(168 * DAY) && QUARTER.is_ending(200 * DAY));
    }

    proptest! {
        #[test]
        fn nothing_is_tried_again_within_a_minute_of_its_failure(
            seed: u64, now in 0..u64::MAX / 2, blames in proptest::collection::vec(0..3_u8, 1..40), asked: u64,
        ) {
            let mut plan = Plan::new(seed);
            for blame in blames {
                let blame = [Blame::Name, Blame::Way, Blame::Limit(Some(asked))][usize::from(blame)];
                let due = plan.failed(blame, now);
                prop_assert!(due >= now + SHORTEST && due <= now + LONGEST_ASKED);
                prop_assert!(!plan.is_due(now + SHORTEST - 1));
            }
        }

        #[test]
        fn a_certificate_is_renewed_within_its_life_and_not_in_its_first_half(seed: u64, from in 0..1_u64 << 40, life in 100..1_u64 << 32) {
            let due = holding(Validity { from, until: from + life }, seed).due();
            prop_assert!(due >= from + life / 2 && due <= from + life - life / 3);
        }
    }
}
