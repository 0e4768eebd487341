//! Which certificate is ordered when: pure, with the time as an argument.
//!
//! A name is under way once at most, so many names are at a time, and one account has no more than its share of them. What
//! failed waits longer each time; what the CA limits waits as long as the CA says, and slows down the others a little, since
//! some limits are for all.

use std::collections::{BTreeMap, BTreeSet};

use adit_acme::{Blame, LONGEST, Validity, back_off, fraction, renewal, suggested};

use crate::NamePattern;

/// What is to be ordered, and when. Times are seconds since 1970.
#[derive(Debug)]
pub(super) struct Plan {
    names: BTreeMap<NamePattern, Item>,
    /// Names that callers have asked for since the last look at who holds what.
    demanded: BTreeSet<NamePattern>,
    /// Nothing begins before.
    paused_until: u64,
    /// How often in a row the CA could not be used, or limited somebody.
    pauses: u32,
    /// Where the jitter begins: another one in each process.
    seed: u64,
}

#[derive(Debug)]
struct Item {
    /// The account that holds it; none for the network's own names.
    owner: Option<i64>,
    wanted: bool,
    under_way: bool,
    validity: Option<Validity>,
    failures: u32,
    /// The CA has said until when.
    limited: bool,
    /// When it is ordered, or ordered again.
    due: u64,
    /// When the CA is asked for its advice.
    ask: u64,
    /// How often in a row that came to nothing.
    unanswered: u32,
}

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        Self { names: BTreeMap::new(), demanded: BTreeSet::new(), paused_until: 0, pauses: 0, seed }
    }

    /// Takes a certificate that is there already.
    pub(super) fn have(&mut self, name: &NamePattern, validity: Validity) {
        let due = renewal(validity, fraction((self.seed, name, 0)));
        let item = self.names.entry(name.clone()).or_insert_with(Item::unwanted);
        (item.validity, item.due) = (Some(validity), item.due.max(due));
    }

    /// Takes how often a name failed before this process began, and when it may be tried again.
    pub(super) fn remember(&mut self, name: &NamePattern, failures: u32, next: u64, limited: bool) {
        let item = self.names.entry(name.clone()).or_insert_with(Item::unwanted);
        (item.failures, item.due, item.limited) = (failures, next, limited);
    }

    /// Takes who holds what: everything else is wanted no more. What failed is remembered until its time, so that giving a
    /// name up and taking it again is no way around it.
    pub(super) fn want(&mut self, wanted: &BTreeMap<NamePattern, Option<i64>>, now: u64) {
        self.demanded.clear();
        for (name, item) in &mut self.names {
            item.wanted = wanted.contains_key(name);
        }
        for (name, owner) in wanted {
            let item = self.names.entry(name.clone()).or_insert_with(|| Item { due: now, ..Item::unwanted() });
            (item.wanted, item.owner) = (true, *owner);
        }
        self.names.retain(|_, item| {
            let over = item.validity.is_none_or(|validity| validity.until <= now);
            item.wanted || item.under_way || item.due > now || !over
        });
    }

    /// Notes that a caller asks for a name; the next look at who holds what decides about it.
    pub(super) fn demand(&mut self, name: &NamePattern) -> bool {
        self.demanded.len() < MAX_DEMANDED && self.demanded.insert(name.clone())
    }

    /// Returns what callers have asked for.
    pub(super) const fn demanded(&self) -> &BTreeSet<NamePattern> {
        &self.demanded
    }

    /// Begins the next order that is due, if there is room for one.
    pub(super) fn begin(&mut self, now: u64) -> Option<NamePattern> {
        let under_way = self.names.values().filter(|item| item.under_way);
        let mut shares = BTreeMap::new();
        for item in under_way {
            *shares.entry(item.owner).or_insert(0) += 1;
        }
        if shares.values().sum::<usize>() >= ORDERS || now < self.paused_until {
            return None;
        }
        let share = |item: &Item| shares.get(&item.owner).copied().unwrap_or(0);
        let ready = |item: &Item| {
            let fits = item.owner.is_none() || share(item) < ORDERS_PER_ACCOUNT;
            item.wanted && !item.under_way && item.due <= now && fits
        };
        let due = self.names.iter_mut().filter(|(_, item)| ready(item));
        let (name, item) = due.min_by_key(|(_, item)| (share(item), item.due))?;
        item.under_way = true;
        Some(name.clone())
    }

    /// Takes the certificate that an order gave.
    pub(super) fn issued(&mut self, name: &NamePattern, validity: Validity) {
        self.pauses = 0;
        let due = renewal(validity, fraction((self.seed, name, 0)));
        let Some(item) = self.names.get_mut(name) else { return };
        let validity = Some(validity);
        *item = Item { under_way: false, validity, failures: 0, limited: false, due, ask: 0, unanswered: 0, ..*item };
    }

    /// Returns the next name about whose certificate the CA is to be asked.
    pub(super) fn ask(&mut self, now: u64) -> Option<NamePattern> {
        if self.names.values().filter(|item| item.ask == ASKED).count() >= ASKS {
            return None;
        }
        let due = |item: &Item| item.wanted && !item.under_way && item.validity.is_some() && item.ask <= now;
        let (name, item) = self.names.iter_mut().find(|(_, item)| due(item))?;
        item.ask = ASKED;
        Some(name.clone())
    }

    /// Takes what the CA said about a certificate, and when it is to be asked again. Returns when the certificate is renewed if
    /// that has changed. A failed renewal keeps its own time.
    pub(super) fn advise(&mut self, name: &NamePattern, window: Option<(u64, u64)>, again: u64) -> Option<u64> {
        let jitter = fraction((self.seed, name, 0));
        let item = self.names.get_mut(name)?;
        (item.ask, item.unanswered) = (again, 0);
        let (window, validity) = (window?, item.validity?);
        let due = suggested(window, validity, jitter);
        if item.under_way || item.failures > 0 || item.due == due {
            return None;
        }
        item.due = due;
        Some(due)
    }

    /// Takes that the CA gave no advice: what it said last counts, and it is asked again later and later.
    pub(super) fn unadvised(&mut self, name: &NamePattern, now: u64) {
        let seed = self.seed;
        let Some(item) = self.names.get_mut(name) else { return };
        item.unanswered = item.unanswered.saturating_add(1);
        item.ask = now.saturating_add(back_off(item.unanswered, LONGEST, fraction((seed, name, item.unanswered))));
    }

    /// Takes that an order came to nothing; returns how often it did in a row, and when it is tried again.
    pub(super) fn failed(&mut self, name: &NamePattern, blame: Blame, now: u64) -> (u32, u64) {
        let Some(item) = self.names.get_mut(name) else { return (0, now) };
        item.under_way = false;
        item.failures = item.failures.saturating_add(1);
        item.limited = matches!(blame, Blame::Limit(_));
        let own = blame.wait(item.failures, fraction((self.seed, name, item.failures)));
        // Orders that were under way together tell the same thing, and it counts once.
        if blame != Blame::Name && self.paused_until <= now {
            self.pauses = self.pauses.saturating_add(1);
            let pause = Blame::Way.wait(self.pauses, fraction((self.seed, name, self.pauses)));
            self.paused_until = self.paused_until.max(now.saturating_add(pause));
        }
        item.due = if blame == Blame::Way { self.paused_until } else { now.saturating_add(own) };
        (item.failures, item.due)
    }

    /// Tries at once what failed, but for what the CA limits.
    pub(super) fn retry(&mut self, now: u64) {
        let limited = self.names.values().any(|item| item.limited && now < item.due);
        if !limited {
            self.paused_until = 0;
        }
        for item in self.names.values_mut().filter(|item| item.failures > 0 && !item.limited) {
            item.due = item.due.min(now);
        }
    }

    /// Returns when something is due.
    pub(super) fn next(&self) -> Option<u64> {
        let waiting = self.names.values().filter(|item| item.wanted && !item.under_way);
        waiting.map(|item| item.due).min().map(|due| due.max(self.paused_until))
    }

    /// Returns when the CA is to be asked about a certificate.
    pub(super) fn next_ask(&self) -> Option<u64> {
        let known = self.names.values().filter(|item| item.wanted && !item.under_way && item.validity.is_some());
        known.map(|item| item.ask).filter(|ask| *ask != ASKED).min()
    }

    /// Tells whether a first certificate of the name is about to be there.
    pub(super) fn expects(&self, name: &NamePattern, now: u64) -> bool {
        let soon = |item: &Item| item.under_way || (item.wanted && item.due <= now && self.paused_until <= now);
        self.demanded.contains(name) || self.names.get(name).is_some_and(soon)
    }

    /// Tells whether somebody holds the name.
    pub(super) fn is_wanted(&self, name: &NamePattern) -> bool {
        self.names.get(name).is_some_and(|item| item.wanted)
    }

    /// Returns how often a name has failed in a row.
    pub(super) fn failures(&self, name: &NamePattern) -> u32 {
        self.names.get(name).map_or(0, |item| item.failures)
    }

    /// Returns how many names have failed and are still wanted.
    pub(super) fn failing(&self) -> usize {
        self.names.values().filter(|item| item.wanted && item.failures > 0).count()
    }
}

impl Item {
    const fn unwanted() -> Self {
        let (owner, validity) = (None, None);
        let (wanted, under_way, limited) = (false, false, false);
        Self { owner, wanted, under_way, validity, failures: 0, limited, due: 0, ask: 0, unanswered: 0 }
    }
}

/// Orders under way at a time, of all and of one account.
const ORDERS: usize = 4;
const ORDERS_PER_ACCOUNT: usize = 2;
const MAX_DEMANDED: usize = 1_000;
/// Questions about certificates under way at a time.
const ASKS: usize = 4;
/// The CA has been asked and has not answered.
const ASKED: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life_or_a_little_earlier() {
        let validity = Validity { from: 100 * DAY, until: 190 * DAY };

        let mut plan = Plan::new(1);
        plan.have(&name("a.example"), validity);
        plan.want(&wanted(&[("a.example", 1)]), 100 * DAY);
        let due = plan.next().unwrap();
        assert_eq!(plan.begin(due - 1), None);
        assert_eq!(plan.begin(due), Some(name("a.example")));
        assert_eq!(plan.begin(due), None, "once at a time");
        plan.issued(&name("a.example"), Validity { from: due, until: due + 90 * DAY });
        assert!(plan.next().unwrap() > due + 55 * DAY);
    }

    #[test]
    fn a_certificate_is_renewed_in_the_window_of_the_ca_and_before_its_end_whatever_that_says() {
        let validity = Validity { from: 100 * DAY, until: 190 * DAY };
        let mut plan = Plan::new(1);
        let name = name("a.example");
        plan.have(&name, validity);
        plan.want(&wanted(&[("a.example", 1)]), 100 * DAY);
        let two_thirds = plan.begin(156 * DAY);
        assert_eq!(two_thirds, None);

        assert_eq!(plan.ask(100 * DAY), Some(name.clone()));
        assert_eq!(plan.ask(100 * DAY), None, "asked once");
        let due = plan.advise(&name, Some((170 * DAY, 172 * DAY)), 101 * DAY).unwrap();
        assert!((170 * DAY..172 * DAY).contains(&due), "later than two thirds, if the CA says so");
        assert_eq!(plan.next_ask(), Some(101 * DAY), "the CA is asked again as it says");
        assert_eq!(plan.ask(101 * DAY - 1), None);
        assert_eq!(plan.ask(101 * DAY), Some(name.clone()));
        assert_eq!(plan.advise(&name, Some((170 * DAY, 172 * DAY)), 102 * DAY), None, "the same window, the same time");
        plan.unadvised(&name, 102 * DAY);
        assert_eq!(plan.ask(102 * DAY + 59), None);
        assert_eq!(plan.begin(due - 1), None, "what it said last counts");

        let latest = 190 * DAY - 90 * DAY / 8;
        assert_eq!(plan.advise(&name, Some((188 * DAY, 300 * DAY)), 103 * DAY), Some(latest), "never too late");
        assert!(plan.advise(&name, Some((90 * DAY, 91 * DAY)), 103 * DAY).unwrap() < 103 * DAY, "it was revoked");
        assert_eq!(plan.begin(103 * DAY), Some(name.clone()), "so it is renewed at once");
        plan.failed(&name, Blame::Name, 103 * DAY);
        assert_eq!(plan.advise(&name, Some((90 * DAY, 91 * DAY)), 104 * DAY), None, "what failed keeps its own time");
        assert_eq!(plan.begin(103 * DAY + 59), None);
    }

    #[test]
    fn four_certificates_are_asked_about_at_most() {
        let mut plan = Plan::new(1);
        let many: Vec<_> = (0..10).map(|number| format!("a{number}.example")).collect();
        let names: Vec<_> = many.iter().zip(1..).map(|(name, account)| (name.as_str(), account)).collect();
        plan.want(&wanted(&names), 0);
        assert_eq!(plan.ask(0), None, "there is no certificate yet");
        for name in wanted(&names).keys() {
            plan.have(name, Validity { from: 0, until: 90 * DAY });
        }

        let asked: Vec<_> = core::iter::from_fn(|| plan.ask(0)).collect();

        assert_eq!(asked.len(), 4);
        assert_eq!(plan.next_ask(), Some(0));
        plan.advise(&asked[0], None, DAY);
        assert!(plan.ask(0).is_some() && plan.ask(0).is_none());
    }

    #[test]
    fn what_fails_waits_from_a_minute_to_a_day() {
        let mut plan = Plan::new(1);
        let (name, mut now) = (name("a.example"), 1_000);
        plan.want(&wanted(&[("a.example", 1)]), now);
        let mut waits = Vec::new();

        for attempt in 1..=20 {
            assert_eq!(plan.begin(now), Some(name.clone()));
            let (failures, next) = plan.failed(&name, Blame::Name, now);
            assert_eq!((failures, plan.next()), (attempt, Some(next)));
            assert_eq!(plan.begin(next - 1), None);
            waits.push(next - now);
            now = next;
        }

        assert!((60..=60).contains(&waits[0]) && (90..=120).contains(&waits[1]), "{waits:?}");
        assert!(waits[19] <= DAY && waits[19] >= DAY * 3 / 4, "{waits:?}");
        plan.issued(&name, Validity { from: now, until: now + 90 * DAY });
        assert_eq!(plan.failing(), 0);
    }

    #[test]
    fn a_limit_of_the_ca_is_kept_and_slows_the_others_down_for_a_minute() {
        let mut plan = Plan::new(1);
        plan.want(&wanted(&[("a.example", 1), ("b.example", 2)]), 0);
        let first = plan.begin(0).unwrap();

        let (_, next) = plan.failed(&first, Blame::Limit(Some(5 * 3_600)), 0);

        assert_eq!(next, 5 * 3_600);
        assert_eq!(plan.begin(59), None, "a limit may be for all");
        plan.retry(59);
        assert_eq!(plan.begin(59), None, "nobody gets around a limit");
        let second = plan.begin(60).unwrap();
        assert_ne!(second, first);
        plan.issued(&second, Validity { from: 60, until: 60 + 90 * DAY });
        assert_eq!(plan.begin(5 * 3_600 - 1), None);
        assert_eq!(plan.begin(5 * 3_600), Some(first.clone()));
        assert_eq!(plan.failed(&first, Blame::Limit(Some(u64::MAX)), DAY).1, 8 * DAY, "a week at most");
    }

    #[test]
    fn a_ca_that_is_down_is_asked_once_for_all_names() {
        let mut plan = Plan::new(1);
        plan.want(&wanted(&[("a.example", 1), ("b.example", 2), ("c.example", 3)]), 0);
        let mut now = 0;
        let mut asked = Vec::new();
        while now < DAY {
            let Some(name) = plan.begin(now) else {
                now = plan.next().unwrap().max(now + 1);
                continue;
            };
            asked.push(now);
            plan.failed(&name, Blame::Way, now);
        }

        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= 60), "{asked:?}");
        assert!(asked.len() > 24 && asked.len() < 45, "an hour at most, each: {}", asked.len());
        plan.retry(DAY);
        assert!(plan.begin(DAY).is_some());
    }

    #[test]
    fn one_account_does_not_take_all_places() {
        let mut plan = Plan::new(1);
        let many: Vec<_> = (0..100).map(|number| format!("a{number}.example")).collect();
        let mut names: Vec<_> = many.iter().map(|name| (name.as_str(), 1)).collect();
        names.push(("z.example", 2));
        plan.want(&wanted(&names), 0);

        let begun: Vec<_> = core::iter::from_fn(|| plan.begin(0)).collect();

        assert_eq!(begun.len(), 3, "{begun:?}");
        assert!(begun.contains(&name("z.example")));
    }

    #[test]
    fn four_orders_are_under_way_at_most() {
        let mut plan = Plan::new(1);
        let many: Vec<_> = (0..10).map(|number| format!("a{number}.example")).collect();
        let names: Vec<_> = many.iter().zip(1..).map(|(name, account)| (name.as_str(), account)).collect();
        plan.want(&wanted(&names), 0);

        let begun: Vec<_> = core::iter::from_fn(|| plan.begin(0)).collect();

        assert_eq!(begun.len(), 4);
        plan.issued(&begun[0], Validity { from: 0, until: 90 * DAY });
        assert!(plan.begin(0).is_some() && plan.begin(0).is_none());
    }

    #[test]
    fn giving_a_name_up_and_taking_it_again_does_not_shorten_its_wait() {
        let mut plan = Plan::new(1);
        let held = wanted(&[("a.example", 1)]);
        plan.want(&held, 0);
        let name = plan.begin(0).unwrap();
        plan.want(&BTreeMap::new(), 0);
        let (_, next) = plan.failed(&name, Blame::Name, 0);

        plan.want(&BTreeMap::new(), 1);
        assert_eq!(plan.next(), None, "nobody wants it");
        plan.want(&held, 2);
        assert_eq!((plan.begin(next - 1), plan.next()), (None, Some(next)));

        plan.want(&BTreeMap::new(), next);
        plan.want(&held, next);
        assert_eq!(plan.begin(next), Some(name), "its time has come");
    }

    #[test]
    fn what_failed_before_a_restart_waits_after_it_and_a_limit_is_kept() {
        let mut plan = Plan::new(1);
        plan.remember(&name("a.example"), 3, 500, false);
        plan.remember(&name("b.example"), 1, 900, true);
        plan.want(&wanted(&[("a.example", 1), ("b.example", 2)]), 10);

        assert_eq!((plan.begin(10), plan.failing(), plan.next()), (None, 2, Some(500)));
        plan.retry(20);
        assert_eq!(plan.begin(20), Some(name("a.example")));
        assert_eq!((plan.begin(899), plan.begin(900)), (None, Some(name("b.example"))));
        assert_eq!(plan.failed(&name("a.example"), Blame::Name, 1_000).0, 4);
    }

    #[test]
    fn what_a_caller_asks_for_is_expected_until_it_is_known_that_nobody_holds_it() {
        let mut plan = Plan::new(1);
        let (held, made_up) = (name("a.example"), name("x.example"));

        assert!(!plan.expects(&held, 0));
        plan.demand(&held);
        plan.demand(&made_up);
        assert!(plan.expects(&held, 0) && plan.expects(&made_up, 0));
        plan.want(&wanted(&[("a.example", 1)]), 0);
        assert!(plan.expects(&held, 0) && !plan.expects(&made_up, 0));
        let _ = plan.begin(0);
        assert!(plan.expects(&held, 0));
        plan.failed(&held, Blame::Name, 0);
        assert!(!plan.expects(&held, 0), "not before its next attempt");
    }

    fn name(text: &str) -> NamePattern {
        NamePattern::parse(text).unwrap()
    }

    fn wanted(names: &[(&str, i64)]) -> BTreeMap<NamePattern, Option<i64>> {
        names.iter().map(|(text, account)| (name(text), Some(*account))).collect()
    }
}
