//! How it went with the members of one endpoint, and who is turned away for a while. Pure: time is an argument.
//!
//! A member that fails several times on end gets nothing for a time that doubles with each time, less up to a quarter by which
//! members come back apart. Then it gets one request, and serves again if that goes well. Of a pool only a share is turned away
//! at once, and never the last one.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::MemberId;

/// When members are turned away and how much they may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rules {
    /// Failures on end after which a member is turned away.
    pub failures: u32,
    /// Whether answers with a status from 500 on count as failures.
    pub errors: bool,
    /// For how long it is turned away the first time.
    pub away: Duration,
    /// For how long at the most.
    pub away_max: Duration,
    /// The share of a pool that may be turned away at once, in percent; of two members one.
    pub share: u32,
    /// Requests and connections that a member carries at once.
    pub outstanding: usize,
    /// Those of them that its upstream has not taken yet.
    pub pending: usize,
    /// How the upstream is asked whether it is well: the answers in a row that make a member well and unwell again.
    pub probed: Option<Rounds>,
}

/// How many probes in a row change what is thought of a member; the first one alone decides about a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounds {
    /// Good ones, of a member that was not well.
    pub healthy: u32,
    /// Bad ones, of a member that was well.
    pub unhealthy: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            failures: 5,
            errors: false,
            away: Duration::from_secs(5),
            away_max: Duration::from_secs(300),
            share: 50,
            outstanding: 16_384,
            pending: 4_096,
            probed: None,
        }
    }
}

/// How it went with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream took the connection, or answered.
    Fine,
    /// It answered that it failed: a status from 500 on.
    Error,
    /// It did not take the connection, or did not answer as it should.
    Failed,
}

/// What changed about a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is turned away for this long.
    Away(Duration),
    /// It serves again.
    Back,
    /// The probes find it well.
    Well,
    /// The probes find it not well.
    Unwell,
}

/// Whether a member gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Like any other.
    Fine,
    /// It was turned away for long enough: one request, and that tells.
    Try,
    /// Only when there is nobody else.
    Out,
}

/// The members of one endpoint. What is kept is bounded by their number.
#[derive(Debug, Default)]
pub struct Pool {
    present: BTreeSet<MemberId>,
    records: BTreeMap<MemberId, Record>,
}

#[derive(Debug, Default)]
struct Record {
    /// Failures since something last went well.
    streak: u32,
    /// How often it was turned away, as far as that still counts.
    times: u32,
    state: State,
    /// What the probes say, and how many in a row say something else.
    probe: Option<(bool, u32)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Serving,
    /// It serves again, since then.
    Returned(Instant),
    /// Turned away.
    Away { until: Instant },
    /// One request is under way. It may take long to tell: then another one is sent.
    Trying { until: Instant },
}

impl Pool {
    /// Takes a member in.
    pub fn join(&mut self, member: MemberId) {
        self.present.insert(member);
    }

    /// Takes a member out and forgets it.
    pub fn leave(&mut self, member: MemberId) {
        self.present.remove(&member);
        self.records.remove(&member);
    }

    /// Takes in how it went with a member.
    pub fn handle(&mut self, member: MemberId, outcome: Outcome, rules: &Rules, now: Instant) -> Option<Change> {
        match outcome {
            Outcome::Failed => self.failed(member, rules, now),
            Outcome::Error if rules.errors => self.failed(member, rules, now),
            Outcome::Error | Outcome::Fine => self.succeeded(member, rules, now),
        }
    }

    /// Takes in what a probe found.
    pub fn handle_probe(&mut self, member: MemberId, well: bool, rounds: Rounds) -> Option<Change> {
        if !self.present.contains(&member) {
            return None;
        }
        let record = self.records.entry(member).or_default();
        let Some((was, against)) = &mut record.probe else {
            record.probe = Some((well, 0));
            return Some(if well { Change::Well } else { Change::Unwell });
        };
        if *was == well {
            *against = 0;
            return None;
        }
        *against += 1;
        if *against < if well { rounds.healthy } else { rounds.unhealthy } {
            return None;
        }
        record.probe = Some((well, 0));
        record.streak = 0;
        Some(if well { Change::Well } else { Change::Unwell })
    }

    /// Notes that the one request goes out that tells whether a member is back; returns what [`Self::abandon`] needs.
    pub fn begin_trial(&mut self, member: MemberId, now: Instant) -> Instant {
        let until = now + TRIAL;
        if let Some(record) = self.records.get_mut(&member) {
            record.state = State::Trying { until };
        }
        until
    }

    /// Ends a trial that told nothing: the next request is another.
    pub fn abandon(&mut self, member: MemberId, trial: Instant) {
        if let Some(record) = self.records.get_mut(&member)
            && record.state == (State::Trying { until: trial })
        {
            record.state = State::Away { until: trial - TRIAL };
        }
    }

    /// Returns whether a member gets requests.
    pub fn standing(&self, member: MemberId, rules: &Rules, now: Instant) -> Standing {
        let record = self.records.get(&member);
        if rules.probed.is_some() && !record.is_some_and(Record::is_well) {
            return Standing::Out;
        }
        match record.map(|record| record.state) {
            None | Some(State::Serving | State::Returned(_)) => Standing::Fine,
            Some(State::Away { until } | State::Trying { until }) if until <= now => Standing::Try,
            Some(State::Away { .. } | State::Trying { .. }) => Standing::Out,
        }
    }

    /// Returns whether nothing is held against anybody, as far as no probe is asked.
    pub fn is_calm(&self) -> bool {
        self.records.values().all(|record| record.streak == 0 && record.state == State::Serving)
    }

    fn succeeded(&mut self, member: MemberId, rules: &Rules, now: Instant) -> Option<Change> {
        let record = self.records.get_mut(&member)?;
        record.streak = 0;
        match record.state {
            State::Trying { .. } => {
                record.state = State::Returned(now);
                return Some(Change::Back);
            }
            State::Returned(since) if rules.span(record.times) <= now.duration_since(since) => {
                record.state = State::Serving;
                record.times = 0;
            }
            State::Serving | State::Returned(_) | State::Away { .. } => {} // what was under way says little
        }
        if record.probe.is_none() && record.state == State::Serving {
            self.records.remove(&member);
        }
        None
    }

    fn failed(&mut self, member: MemberId, rules: &Rules, now: Instant) -> Option<Change> {
        if !self.present.contains(&member) {
            return None;
        }
        let room = self.has_room(member, rules);
        let record = self.records.entry(member).or_default();
        record.streak = record.streak.saturating_add(1);
        let due = match record.state {
            State::Serving => rules.failures <= record.streak && room,
            State::Returned(since) => {
                if rules.span(record.times) <= now.duration_since(since) {
                    record.times = 0; // it has served for as long as it would be away
                }
                rules.failures <= record.streak && room
            }
            State::Trying { .. } => true,
            State::Away { .. } => false, // what was under way when it was turned away
        };
        if !due {
            return None;
        }
        let span = rules.span(record.times);
        let span = span - span.mul_f64(f64::from(chance(member, record.times)) / f64::from(u16::MAX) / 4.0);
        record.times = record.times.saturating_add(1);
        record.streak = 0;
        record.state = State::Away { until: now + span };
        Some(Change::Away(span))
    }

    /// Returns whether one more may be turned away: not more than the share, and not the last one that serves.
    fn has_room(&self, member: MemberId, rules: &Rules) -> bool {
        let out = self.records.values().filter(|record| !record.serves()).count();
        let share = self.present.len().saturating_mul(rules.share as usize) / 100;
        let others = self.present.iter().filter(|other| **other != member);
        let mut others = others.map(|other| self.records.get(other).is_none_or(|it| it.serves() && !it.is_unwell()));
        out < share.max(usize::from(rules.share > 0)) && others.any(|serves| serves)
    }
}

impl Record {
    fn serves(&self) -> bool {
        matches!(self.state, State::Serving | State::Returned(_))
    }

    fn is_well(&self) -> bool {
        self.probe.is_some_and(|(well, _)| well)
    }

    fn is_unwell(&self) -> bool {
        self.probe.is_some_and(|(well, _)| !well)
    }
}

impl Rules {
    /// Returns for how long a member is turned away that was turned away so many times before.
    fn span(&self, times: u32) -> Duration {
        self.away.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(self.away_max)
    }
}

/// Scatters members and times: the same ones get the same number.
fn chance(MemberId(id): MemberId, times: u32) -> u16 {
    let mut mixed = id.wrapping_add(u64::from(times) << 32).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    u16::try_from(mixed >> 48).unwrap_or(u16::MAX)
}

/// After which a request that should tell whether a member is back has told nothing.
const TRIAL: Duration = Duration::from_secs(30);

/// How many requests may be sent again to other members: a fifth of all, and ten a second. An overload grows by no more.
#[derive(Debug)]
pub struct Budget {
    thousandths: u64,
    at: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { thousandths: MOST, at: None }
    }
}

impl Budget {
    /// Takes one retry out, if it is there. `requests` have begun since the last call.
    pub fn retry(&mut self, requests: u32, now: Instant) -> bool {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(now);
        let gained = u64::from(requests) * RETRY / SHARE;
        let floor = u64::try_from(passed.as_millis()).unwrap_or(MOST).saturating_mul(FLOOR);
        self.thousandths = self.thousandths.saturating_add(gained).saturating_add(floor).min(MOST);
        let may = RETRY <= self.thousandths;
        if may {
            self.thousandths -= RETRY;
        }
        may
    }
}

const RETRY: u64 = 1_000;
/// A retry for so many requests.
const SHARE: u64 = 5;
/// Thousandths a millisecond: ten a second.
const FLOOR: u64 = 10;
/// A hundred at once.
const MOST: u64 = 100 * RETRY;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules {
        failures: 3,
        errors: false,
        away: Duration::from_secs(10),
        away_max: Duration::from_secs(60),
        share: 50,
        outstanding: 100,
        pending: 10,
        probed: None,
    };
    const ROUNDS: Rounds = Rounds { healthy: 2, unhealthy: 3 };

    #[test]
    fn a_member_that_fails_on_end_is_turned_away_for_a_growing_time_and_comes_back_by_one_request() {
        let mut world = World::new(2);
        let mut spans = Vec::new();
        for round in 0..5 {
            let fails = if round == 0 { 3 } else { 1 };
            let changes: Vec<_> = (0..fails).filter_map(|_| world.fail(1)).collect();
            let [Change::Away(span)] = changes[..] else { panic!("{changes:?}") };
            spans.push(span);
            assert_eq!(world.standing(1), Standing::Out);
            world.pass(span - Duration::from_millis(1));
            assert_eq!(world.standing(1), Standing::Out, "not a moment early");
            world.pass(Duration::from_millis(1));
            assert_eq!(world.standing(1), Standing::Try);
            world.pool.begin_trial(MemberId(1), world.now);
            assert_eq!(world.standing(1), Standing::Out, "one request, not two");
        }
        for (span, most) in spans.iter().zip([10, 20, 40, 60, 60]) {
            let most = Duration::from_secs(most);
            assert!((most * 3 / 4..=most).contains(span), "{spans:?}");
        }
        assert_ne!(spans[3], spans[4], "scattered");

        assert_eq!(world.fine(1), Some(Change::Back));
        assert_eq!(world.standing(1), Standing::Fine);
        assert!((0..2).all(|_| world.fail(1).is_none()), "it has the same right to fail as before");
    }

    #[test]
    fn what_goes_well_between_failures_forgives_them() {
        let mut world = World::new(2);
        for _ in 0..10 {
            assert_eq!((world.fail(1), world.fail(1), world.fine(1)), (None, None, None));
        }
        assert!(world.pool.is_calm() && world.pool.records.is_empty(), "nothing is kept of who does well");
    }

    #[test]
    fn who_has_served_for_as_long_as_it_would_be_away_begins_anew() {
        let away = |pause| {
            let mut world = World::new(2);
            for fails in [3, 1] {
                world.fails(1, fails);
                world.pass(Duration::from_secs(20));
                world.pool.begin_trial(MemberId(1), world.now);
            }
            assert_eq!(world.fine(1), Some(Change::Back));
            world.pass(Duration::from_secs(pause));
            let Some(Change::Away(span)) = (0..3).filter_map(|_| world.fail(1)).next() else { panic!() };
            span
        };
        assert!(Duration::from_secs(30) <= away(39));
        assert!(away(40) <= Duration::from_secs(10));
    }

    #[test]
    fn the_last_one_stays_and_of_a_pool_no_more_than_its_share_goes() {
        for (members, share, expected) in [
            (1, 50, 0),
            (1, 100, 0),
            (2, 50, 1),
            (2, 10, 1),
            (3, 50, 1),
            (4, 50, 2),
            (4, 100, 3),
            (10, 30, 3),
            (4, 0, 0),
        ] {
            let mut world = World::new(members);
            world.rules.share = share;
            for member in (1..=members).chain(1..=members) {
                world.fails(member, 5);
            }
            let out = (1..=members).filter(|member| world.standing(*member) != Standing::Fine).count();
            assert_eq!(out, expected, "{members} {share}");
        }
    }

    #[test]
    fn when_the_others_leave_or_are_not_well_the_one_that_serves_is_the_last() {
        let mut world = World::new(3);
        world.rules.share = 100;
        world.rules.probed = Some(ROUNDS);
        for (member, well) in [(1, true), (2, false), (3, true)] {
            world.pool.handle_probe(MemberId(member), well, ROUNDS);
        }
        world.pool.leave(MemberId(3));
        assert!((0..9).all(|_| world.fail(1).is_none()));
    }

    #[test]
    fn a_trial_that_tells_nothing_is_followed_by_another() {
        let mut world = World::new(2);
        world.fails(1, 3);
        world.pass(Duration::from_secs(10));
        let trial = world.pool.begin_trial(MemberId(1), world.now);

        world.pass(TRIAL - Duration::from_millis(1));
        assert_eq!(world.standing(1), Standing::Out);
        world.pass(Duration::from_millis(1));
        assert_eq!(world.standing(1), Standing::Try);

        let again = world.pool.begin_trial(MemberId(1), world.now);
        world.pool.abandon(MemberId(1), trial);
        assert_eq!(world.standing(1), Standing::Out, "the late end of the first is none of the second");
        world.pool.abandon(MemberId(1), again);
        assert_eq!(world.standing(1), Standing::Try);
    }

    #[test]
    fn errors_of_the_upstream_count_where_they_should() {
        let mut world = World::new(2);
        let error = |world: &mut World| world.pool.handle(MemberId(1), Outcome::Error, &world.rules, world.now);
        assert!((0..9).all(|_| error(&mut world).is_none()));
        world.rules.errors = true;
        assert!((0..3).any(|_| error(&mut world).is_some()));
    }

    #[test]
    fn a_member_is_well_when_probes_say_so_the_first_alone_and_then_several_in_a_row() {
        let mut world = World::new(2);
        world.rules.probed = Some(ROUNDS);
        let mut probe = |well| {
            let change = world.pool.handle_probe(MemberId(1), well, ROUNDS);
            (change, world.standing(1) == Standing::Fine)
        };
        let rows = [
            (true, Some(Change::Well), true),
            (false, None, true),
            (false, None, true),
            (true, None, true),
            (false, None, true),
            (false, None, true),
            (false, Some(Change::Unwell), false),
            (true, None, false),
            (false, None, false),
            (true, None, false),
            (true, Some(Change::Well), true),
        ];
        for (at, (well, change, fine)) in rows.into_iter().enumerate() {
            assert_eq!(probe(well), (change, fine), "{at}");
        }
        assert_eq!(world.standing(2), Standing::Out, "nobody has asked it yet");
        world.rules.probed = None;
        assert_eq!(world.standing(2), Standing::Fine);
    }

    proptest! {
        /// Whatever happens: somebody serves if anybody is there, no more than the share is turned away, nothing is kept of who
        /// is gone, and everybody who was turned away gets its chance within the longest time.
        #[test]
        fn a_pool_always_has_somebody_who_serves(
            share in 0..=100_u32,
            acts in prop::collection::vec((0..6_u8, 1..6_u64, 0..40_u64), 1..200),
        ) {
            let mut world = World::new(0);
            world.rules.share = share;
            for (act, member, seconds) in acts {
                let id = MemberId(member);
                match act {
                    0 => world.pool.join(id),
                    1 => world.pool.leave(id),
                    2 => assert!(!matches!(world.fine(member), Some(Change::Away(_)))),
                    3 if world.standing(member) == Standing::Try => {
                        world.pool.begin_trial(id, world.now);
                    }
                    3 => {}
                    4 => world.pass(Duration::from_secs(seconds)),
                    _ => world.fails(member, 4),
                }
                let present: Vec<_> = world.pool.present.iter().copied().collect();
                prop_assert!(world.pool.records.keys().all(|id| present.contains(id)));
                let out = world.pool.records.values().filter(|record| !record.serves()).count();
                prop_assert!(present.is_empty() || out <= present.len());
                if act == 5 && !present.is_empty() {
                    let fine = present.iter().any(|id| world.pool.records.get(id).is_none_or(Record::serves));
                    // Those who leave may leave only such behind as were turned away: nobody is added to them.
                    prop_assert!(fine || out == present.len());
                }
            }
            world.pass(Duration::from_secs(61));
            for id in world.pool.present.clone() {
                prop_assert!(world.standing(id.0) != Standing::Out);
            }
        }

        /// However they come: of any span, retries are no more than a fifth of the requests, ten a second, and a hundred.
        #[test]
        fn retries_are_bounded(acts in prop::collection::vec((0..50_u32, 0..30_u32, 0..2_000_u64), 1..100)) {
            let (mut budget, mut now) = (Budget::default(), Instant::now());
            let (start, mut asked, mut granted) = (now, 0_u64, 0_u64);
            for (requests, retries, millis) in acts {
                now += Duration::from_millis(millis);
                asked += u64::from(requests);
                for at in 0..retries {
                    granted += u64::from(budget.retry(if at == 0 { requests } else { 0 }, now));
                }
            }
            let seconds = (now - start).as_secs() + 1;
            prop_assert!(granted <= asked / 5 + seconds * 10 + 100);
        }
    }

    #[test]
    fn a_retry_is_there_again_after_five_requests_or_a_tenth_of_a_second() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        assert_eq!((0..200).filter(|_| budget.retry(0, start)).count(), 100);
        assert!(!budget.retry(4, start));
        assert!(budget.retry(1, start));
        assert!(!budget.retry(0, start + Duration::from_millis(99)));
        assert!(budget.retry(0, start + Duration::from_millis(100)));
        let later = start + Duration::from_secs(3_600);
        assert_eq!((0..200).filter(|_| budget.retry(0, later)).count(), 100, "no more is saved up");
    }

    struct World {
        pool: Pool,
        rules: Rules,
        now: Instant,
    }

    impl World {
        fn new(members: u64) -> Self {
            let mut pool = Pool::default();
            (1..=members).for_each(|member| pool.join(MemberId(member)));
            Self { pool, rules: RULES, now: Instant::now() }
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }

        fn fail(&mut self, member: u64) -> Option<Change> {
            self.pool.handle(MemberId(member), Outcome::Failed, &self.rules, self.now)
        }

        fn fails(&mut self, member: u64, times: usize) {
            for _ in 0..times {
                self.fail(member);
            }
        }

        fn fine(&mut self, member: u64) -> Option<Change> {
            self.pool.handle(MemberId(member), Outcome::Fine, &self.rules, self.now)
        }

        fn standing(&self, member: u64) -> Standing {
            self.pool.standing(MemberId(member), &self.rules, self.now)
        }
    }
}
