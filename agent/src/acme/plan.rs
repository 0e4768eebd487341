//! When a certificate is ordered: pure, with the time as an argument.
//!
//! What failed waits longer each time, and over restarts; what the authority limits waits as long as it says. A certificate is
//! renewed at two thirds of its life, or when the authority says so, and never in the last eighth of it for the first time.

use adit_acme::{Blame, LONGEST, SHORTEST, Validity, back_off, fraction, renewal, suggested};

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
        self.due = now.saturating_add(blame.wait(self.failures, self.jitter(self.failures)));
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
        fraction((self.seed, attempt))
    }
}

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
        assert!(most <= 3_600, "who is away may be back soon");
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
        assert_eq!(Plan::new(1).failed(Blame::Limit(Some(u64::MAX)), 0), 7 * DAY);
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

    proptest! {
        #[test]
        fn nothing_is_tried_again_within_a_minute_of_its_failure(
            seed: u64, now in 0..u64::MAX / 2, blames in proptest::collection::vec(0..3_u8, 1..40), asked: u64,
        ) {
            let mut plan = Plan::new(seed);
            for blame in blames {
                let blame = [Blame::Name, Blame::Way, Blame::Limit(Some(asked))][usize::from(blame)];
                let due = plan.failed(blame, now);
                prop_assert!(due >= now + SHORTEST && due <= now + 7 * DAY);
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
