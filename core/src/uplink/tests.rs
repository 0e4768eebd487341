mod resume;
mod standby;
mod withheld;

use alloc::{collections::BTreeSet, format, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{BindId, Code, Duration, UpstreamProtocol};

#[test]
fn it_dials_at_once_and_asks_for_every_bind_when_the_session_is_there() {
    let mut uplink = uplink();
    let one = uplink.bind(wish("https://one.example"), at(0));
    assert_eq!(actions(&mut uplink), [Action::Dial { attempt: 1, target: 0 }]);

    uplink.handle_established(1, at(1));
    let two = uplink.bind(wish("https://two.example"), at(2));

    assert_eq!(asked(&actions(&mut uplink)), [(1, one), (1, two)]);
}

#[test]
fn a_lost_session_is_followed_by_another_and_the_binds_are_asked_anew() {
    let mut uplink = uplink();
    let id = uplink.bind(wish("https://one.example"), at(0));
    uplink.handle_established(1, at(0));
    uplink.handle_bound(1, &granted(id), at(0));
    actions(&mut uplink);

    uplink.handle_closed(1, Retry::Backoff, at(60));
    assert_eq!(uplink.current(), None);
    let due = uplink.poll_timeout().expect("a dial").at;
    assert!(at(60) < due && due <= at(61));
    uplink.handle_timeout(due);
    assert_eq!(actions(&mut uplink), [Action::Dial { attempt: 2, target: 1 }]);
    uplink.handle_established(2, due);

    assert_eq!(asked(&actions(&mut uplink)), [(2, id)]);
    assert_eq!(notices(&mut uplink), [Notice::Bound { id, url: "https://final.example".into() }]);
}

#[test]
fn a_refused_bind_is_retried_by_itself_and_harms_no_other() {
    let mut uplink = uplink();
    let [good, bad] = ["https://good.example", "https://bad.example"].map(|url| uplink.bind(wish(url), at(0)));
    uplink.handle_established(1, at(0));
    actions(&mut uplink);

    uplink.handle_bound(1, &granted(good), at(1));
    uplink.handle_rejected(1, refused(bad, Code::IN_USE, None), at(1));

    let notices = notices(&mut uplink);
    let [Notice::Bound { id: one, .. }, Notice::Rejected { id: other, retry_in, .. }] = &*notices else {
        panic!("{notices:?}")
    };
    assert_eq!((*one, *other), (good, bad));
    let due = at(1) + *retry_in;
    assert_eq!(uplink.poll_timeout(), Some(Deadline { at: due, why: TimerKind::Rebind }));
    uplink.handle_timeout(due);
    assert_eq!(asked(&actions(&mut uplink)), [(1, bad)]);
}

/// TIME-006
#[test]
fn a_refused_bind_waits_longer_each_time_and_as_long_as_it_is_told() {
    let mut uplink = uplink();
    let id = uplink.bind(wish("https://one.example"), at(0));
    uplink.handle_established(1, at(0));
    let mut now = at(0);
    for ceiling in [1, 2, 4, 8, 16, 30, 30] {
        assert_eq!(asked(&actions(&mut uplink)).last(), Some(&(1, id)));
        uplink.handle_rejected(1, refused(id, Code::IN_USE, None), now);
        let due = uplink.poll_timeout().expect("a retry").at;
        let delay = due.since(now);
        assert!(Duration::from_millis(500) <= delay && delay <= Duration::from_secs(ceiling), "{delay:?}");
        now = due;
        uplink.handle_timeout(now);
    }

    uplink.handle_rejected(1, refused(id, Code::IN_USE, Some(120)), now);
    let delay = uplink.poll_timeout().expect("a retry").at.since(now);
    assert!(Duration::from_secs(120) <= delay && delay <= Duration::from_secs(132), "{delay:?}");
}

/// BIND-013
#[test]
fn a_bind_that_was_taken_back_is_asked_for_again() {
    let mut uplink = uplink();
    let id = uplink.bind(wish("https://one.example"), at(0));
    uplink.handle_established(1, at(0));
    uplink.handle_bound(1, &granted(id), at(0));
    actions(&mut uplink);
    notices(&mut uplink);

    uplink.handle_unbound(1, refused(id, Code::FORBIDDEN, None), at(5));

    let notices = notices(&mut uplink);
    let [Notice::Unbound { retry_in, .. }] = &*notices else { panic!("{notices:?}") };
    assert!(Duration::from_secs(60) <= *retry_in && *retry_in <= Duration::from_secs(66));
    uplink.handle_timeout(at(5) + *retry_in);
    assert_eq!(asked(&actions(&mut uplink)), [(1, id)]);
}

#[test]
fn a_bind_that_is_not_answered_is_taken_back_and_asked_for_again() {
    let mut uplink = uplink();
    let id = uplink.bind(wish("https://one.example"), at(0));
    uplink.handle_established(1, at(0));
    actions(&mut uplink);

    assert_eq!(uplink.poll_timeout(), Some(Deadline { at: at(30), why: TimerKind::Rebind }));
    uplink.handle_timeout(at(30));

    let said = Unbind::new(id).because(Code::BUSY, "no answer in time"); // BIND-020
    assert_eq!(actions(&mut uplink), [unbind(1, said)]);
    let notices = notices(&mut uplink);
    let [Notice::Rejected { id: told, retry_in, .. }] = &*notices else { panic!("{notices:?}") };
    assert_eq!(*told, id);
    let again = at(30) + *retry_in;
    uplink.handle_timeout(again);
    assert_eq!(asked(&actions(&mut uplink)), [(1, id)]);
    uplink.handle_bound(1, &granted(id), again);
    assert_eq!(uplink.poll_timeout(), None);
}

#[test]
fn no_more_than_a_hundred_binds_are_without_an_answer() {
    let mut uplink = uplink();
    let ids: Vec<_> = (0..150).map(|n| uplink.bind(wish(&format!("https://{n}.example")), at(0))).collect();
    uplink.handle_established(1, at(0));
    assert_eq!(asked(&actions(&mut uplink)).len(), 100);

    uplink.unbind(Unbind::new(ids[0]), at(1));
    assert_eq!(actions(&mut uplink), [unbind(1, Unbind::new(ids[0]))]);
    uplink.handle_bound(1, &granted(ids[0]), at(1));
    uplink.handle_rejected(1, refused(ids[1], Code::IN_USE, None), at(1));

    assert_eq!(asked(&actions(&mut uplink)), [(1, ids[100]), (1, ids[101])]);
    assert!(matches!(&*notices(&mut uplink), [Notice::Rejected { .. }]));
}

#[test]
fn what_is_given_up_is_not_asked_for_again() {
    let mut uplink = uplink();
    let [one, two] = ["https://one.example", "https://two.example"].map(|url| uplink.bind(wish(url), at(0)));
    uplink.unbind(Unbind::new(one), at(0));
    uplink.handle_established(1, at(0));
    assert_eq!(asked(&actions(&mut uplink)), [(1, two)]);
    uplink.handle_bound(1, &granted(two), at(0));

    let said = Unbind::new(two).cutting(true).because(Code::DISALLOWED, "no rule is for it");
    uplink.unbind(said.clone(), at(1));
    uplink.unbind(Unbind::new(two), at(1));
    assert_eq!(actions(&mut uplink), [unbind(1, said)]);

    uplink.handle_closed(1, Retry::Now, at(2));
    uplink.handle_established(2, at(2));
    assert_eq!(actions(&mut uplink), [Action::Dial { attempt: 2, target: 1 }]);
}

#[test]
fn the_next_session_is_made_while_the_old_one_drains() {
    let mut uplink = uplink();
    let id = uplink.bind(wish("https://one.example"), at(0));
    uplink.handle_established(1, at(0));
    uplink.handle_bound(1, &granted(id), at(0));
    actions(&mut uplink);
    notices(&mut uplink);

    uplink.handle_goaway(1, &goaway(None), at(5));
    assert_eq!(actions(&mut uplink), [Action::Dial { attempt: 2, target: 1 }]);
    assert_eq!(notices(&mut uplink), [Notice::Draining { attempt: 1 }]);
    uplink.handle_established(2, at(6));
    assert_eq!(asked(&actions(&mut uplink)), [(2, id)]);
    uplink.handle_bound(2, &granted(id), at(6));
    uplink.handle_closed(1, Retry::Now, at(20));

    assert_eq!(actions(&mut uplink), []);
    assert_eq!((uplink.current(), uplink.poll_timeout()), (Some(2), None));
}

#[test]
fn a_goaway_with_a_delay_is_obeyed() {
    let mut uplink = uplink();
    uplink.handle_established(1, at(0));

    uplink.handle_goaway(1, &goaway(Some(40)), at(5));

    let redial = uplink.redial_in(at(5)).expect("waiting");
    assert!(Duration::from_secs(40) <= redial && redial <= Duration::from_secs(44));
}

#[test]
fn a_session_that_never_stops_draining_is_hung_up() {
    let mut uplink = uplink();
    uplink.handle_established(1, at(0));
    uplink.handle_goaway(1, &goaway(None), at(5));
    uplink.handle_established(2, at(5));
    actions(&mut uplink);

    assert_eq!(uplink.poll_timeout(), Some(Deadline { at: at(3_605), why: TimerKind::Drain }));
    uplink.handle_timeout(at(3_605));

    assert_eq!(actions(&mut uplink), [Action::Hangup { attempt: 1 }]);
    assert_eq!(uplink.poll_timeout(), None);
}

#[test]
fn a_network_that_drains_again_and_again_cannot_pile_up_sessions() {
    let mut uplink = uplink();
    let mut now = at(0);
    for attempt in 1..=9 {
        uplink.handle_established(attempt, now);
        now = now + Duration::from_secs(10);
        actions(&mut uplink);
        uplink.handle_goaway(attempt, &goaway(None), now);
    }

    let dial = Action::Dial { attempt: 10, target: 1 };
    assert_eq!(actions(&mut uplink), [Action::Hangup { attempt: 1 }, dial]);
}

#[test]
fn a_network_change_dials_beside_the_living_session_and_then_drains_it() {
    let mut uplink = uplink();
    let id = uplink.bind(wish("https://one.example"), at(0));
    uplink.handle_established(1, at(0));
    uplink.handle_bound(1, &granted(id), at(0));
    actions(&mut uplink);

    uplink.handle_network_change(at(60));
    assert_eq!(actions(&mut uplink), [Action::Dial { attempt: 2, target: 1 }]);
    assert_eq!(uplink.current(), Some(1));
    uplink.handle_established(2, at(61));

    let actions = actions(&mut uplink);
    assert_eq!(actions[0], Action::Drain { attempt: 1 });
    assert_eq!(asked(&actions), [(2, id)]);
}

#[test]
fn a_failed_dial_beside_a_living_session_is_not_repeated() {
    for failed_by_deadline in [false, true] {
        let mut uplink = uplink();
        uplink.handle_established(1, at(0));
        uplink.handle_network_change(at(60));

        match failed_by_deadline {
            true => uplink.handle_timeout(at(90)),
            false => uplink.handle_closed(2, Retry::Never, at(61)),
        }
        assert_eq!((uplink.current(), uplink.poll_timeout()), (Some(1), None));

        actions(&mut uplink);
        uplink.handle_closed(1, Retry::Now, at(99));
        assert!(matches!(&*actions(&mut uplink), [Action::Dial { attempt: 3, .. }]));
    }
}

#[test]
fn when_every_target_says_never_it_gives_up() {
    let mut uplink = uplink();
    uplink.handle_closed(1, Retry::Never, at(0));
    uplink.handle_timeout(at(1));
    uplink.handle_closed(2, Retry::Never, at(1));

    assert_eq!(actions(&mut uplink).last(), Some(&Action::GiveUp(GiveUp::Refused)));
    uplink.handle_network_change(at(9));
    assert_eq!((actions(&mut uplink), uplink.poll_timeout()), (vec![], None));
}

#[test]
fn a_shutdown_lets_sessions_drain_and_ends_with_them() {
    let mut uplink = uplink();
    uplink.handle_established(1, at(0));
    uplink.handle_goaway(1, &goaway(None), at(5));
    uplink.handle_established(2, at(5));
    actions(&mut uplink);

    uplink.shutdown(Duration::from_secs(30), at(10));
    assert_eq!(actions(&mut uplink), [Action::Drain { attempt: 2 }]);
    assert_eq!(uplink.poll_timeout(), Some(Deadline { at: at(40), why: TimerKind::Drain }));
    uplink.handle_closed(1, Retry::Backoff, at(11));
    assert_eq!(actions(&mut uplink), []);
    uplink.handle_closed(2, Retry::Backoff, at(12));

    assert_eq!(actions(&mut uplink), [Action::GiveUp(GiveUp::Shutdown)]);
    assert_eq!(uplink.poll_timeout(), None);
}

#[test]
fn a_shutdown_ends_at_its_deadline_whatever_the_sessions_do() {
    let mut uplink = uplink();
    uplink.handle_established(1, at(0));
    actions(&mut uplink);

    uplink.shutdown(Duration::from_secs(30), at(10));
    uplink.shutdown(Duration::from_secs(99), at(11));
    uplink.handle_timeout(at(39));
    assert_eq!(actions(&mut uplink), [Action::Drain { attempt: 1 }]);
    uplink.handle_timeout(at(40));

    assert_eq!(actions(&mut uplink), [Action::Hangup { attempt: 1 }, Action::GiveUp(GiveUp::Shutdown)]);
}

#[test]
fn a_shutdown_acts_in_every_state() {
    let mut dialing = uplink();
    dialing.shutdown(Duration::from_secs(30), at(1));
    let end = [Action::Hangup { attempt: 1 }, Action::GiveUp(GiveUp::Shutdown)];
    assert_eq!(actions(&mut dialing)[1..], end);
    dialing.handle_established(1, at(2));
    assert_eq!(actions(&mut dialing), []);

    let mut waiting = uplink();
    waiting.handle_closed(1, Retry::Backoff, at(0));
    waiting.shutdown(Duration::from_secs(30), at(0));
    assert_eq!(actions(&mut waiting)[1..], [Action::GiveUp(GiveUp::Shutdown)]);
}

#[derive(Clone, Debug)]
enum Step {
    Established,
    Suspended(Retry),
    Failed(Retry),
    Lost(u8, Retry),
    GoAway(Option<u64>),
    Answer(Option<u32>),
    Unbound(u8, u32),
    Bind,
    Unbind(u8, bool),
    /// Not of what is ever asked for.
    Withhold(u8, u32),
    Silent(bool),
    NetworkChange,
    Shutdown(u64),
    Time,
}

/// A network and a driver that do what the actions say, and watch that they make sense.
#[derive(Default)]
struct World {
    dialing: Option<u64>,
    /// The session that the dial would resume.
    resuming: Option<u64>,
    /// Of a dial beside a silent link: the steps that it was allowed. `None` once it may do all.
    steps: Option<u32>,
    /// By attempt: what was asked for and is not answered, what is bound.
    sessions: BTreeMap<u64, (BTreeSet<BindId>, BTreeSet<BindId>)>,
    wishes: Vec<BindId>,
    /// What is withheld: as it should be, and as each session was told.
    withheld: BTreeMap<String, Code>,
    told: BTreeMap<u64, BTreeMap<String, Code>>,
    attempts: u64,
    given_up: u32,
    log: Vec<Action>,
}

impl World {
    fn obey(&mut self, uplink: &mut Uplink) {
        while let Some(action) = uplink.poll_action() {
            assert_eq!(self.given_up, 0, "{action:?} after the end");
            match &action {
                Action::Dial { attempt, target } => {
                    assert_eq!(self.dialing.replace(*attempt), None, "two dials at once");
                    assert!(*attempt > self.attempts && *target < 2);
                    (self.attempts, self.resuming, self.steps) = (*attempt, None, None);
                }
                Action::Resume { attempt, session, target } => {
                    assert_eq!(self.dialing.replace(*attempt), None, "two dials at once");
                    assert!(*attempt > self.attempts && *target < 2);
                    assert_eq!(uplink.current(), Some(*session));
                    (self.attempts, self.resuming, self.steps) = (*attempt, Some(*session), None);
                }
                Action::StandBy { attempt, session, target } => {
                    assert_eq!(self.dialing.replace(*attempt), None, "two dials at once");
                    assert!(*attempt > self.attempts && *target < 2);
                    assert_eq!(uplink.current(), Some(*session));
                    (self.attempts, self.resuming, self.steps) = (*attempt, Some(*session), Some(0));
                }
                Action::Proceed { attempt } => {
                    assert_eq!(self.dialing, Some(*attempt), "a consent to nothing");
                    self.steps = self.steps.filter(|steps| *steps == 0).map(|steps| steps + 1);
                }
                Action::Hangup { attempt } => {
                    self.dialing.take_if(|dialing| dialing == attempt);
                    self.sessions.remove(attempt);
                }
                Action::Bind { attempt, bind } => {
                    assert_eq!(uplink.current(), Some(*attempt));
                    let (asked, bound) = self.sessions.get_mut(attempt).expect("a session");
                    assert!(!bound.contains(&bind.id) && asked.insert(bind.id), "a bind number in use");
                    assert!(asked.len() <= binds::MAX_UNANSWERED);
                }
                Action::Unbind { attempt, unbind } => {
                    let (asked, bound) = self.sessions.get_mut(attempt).expect("a session");
                    assert!(bound.remove(&unbind.id) || asked.remove(&unbind.id));
                }
                Action::Withhold { attempt, withheld: Withheld { url, code, .. } } => {
                    assert_eq!(uplink.current(), Some(*attempt));
                    let told = self.told.entry(*attempt).or_default();
                    let before =
                        if *code == Code::NO_ERROR { told.remove(url) } else { told.insert(url.clone(), *code) };
                    assert_ne!(before.unwrap_or(Code::NO_ERROR), *code, "said again");
                }
                Action::Drain { attempt } => assert!(self.sessions.contains_key(attempt)),
                Action::GiveUp(_) => {
                    self.given_up += 1;
                    assert_eq!((self.dialing, self.sessions.len()), (None, 0), "something is left");
                }
            }
            self.log.push(action);
        }
        while uplink.poll_notice().is_some() {}
    }

    fn step(&mut self, uplink: &mut Uplink, step: Step, now: Instant) {
        let current = uplink.current();
        match step {
            Step::Established => {
                let Some(attempt) = self.dialing else { return };
                match self.steps {
                    Some(0) => return uplink.handle_connected(attempt, now),
                    Some(_) => return uplink.handle_secured(attempt, now),
                    None => self.dialing = None,
                }
                if let Some(session) = self.resuming.take() {
                    if self.sessions.contains_key(&session) {
                        uplink.handle_resumed(attempt, now);
                    } else {
                        uplink.handle_closed(attempt, Retry::Now, now);
                    }
                } else {
                    self.sessions.insert(attempt, Default::default());
                    uplink.handle_established(attempt, now);
                }
            }
            Step::Suspended(retry) => {
                if let Some(session) = current {
                    uplink.handle_offer(session, true);
                    uplink.handle_suspended(session, retry, now);
                }
            }
            Step::Failed(retry) => {
                if let Some(attempt) = self.dialing.take() {
                    uplink.handle_closed(attempt, retry, now);
                }
            }
            Step::Lost(which, retry) => {
                if let Some(attempt) = pick(self.sessions.keys().copied(), which) {
                    self.sessions.remove(&attempt);
                    uplink.handle_closed(attempt, retry, now);
                }
            }
            Step::GoAway(retry_after) => {
                if let Some(attempt) = current {
                    uplink.handle_goaway(attempt, &goaway(retry_after), now);
                }
            }
            Step::Answer(code) => self.answer(uplink, code, now),
            Step::Unbound(which, code) => {
                let Some(attempt) = current else { return };
                let (_, bound) = self.sessions.get_mut(&attempt).expect("the current session");
                if let Some(id) = pick(bound.iter().copied(), which) {
                    bound.remove(&id);
                    uplink.handle_unbound(attempt, refused(id, Code(code), None), now);
                }
            }
            Step::Bind => self.wishes.push(uplink.bind(wish("https://x.example"), now)),
            Step::Unbind(which, cut) => {
                if let Some(id) = pick(self.wishes.iter().copied(), which) {
                    self.wishes.retain(|wish| *wish != id);
                    uplink.unbind(Unbind::new(id).cutting(cut), now);
                }
            }
            Step::Withhold(which, code) => self.withhold(uplink, which, code, now),
            Step::Silent(silent) => {
                let Some(session) = current else { return };
                uplink.handle_offer(session, true);
                if silent { uplink.handle_silence(session, now) } else { uplink.handle_sound(session, now) }
            }
            Step::NetworkChange => uplink.handle_network_change(now),
            Step::Shutdown(drain) => uplink.shutdown(Duration::from_millis(drain), now),
            Step::Time => uplink.handle_timeout(now),
        }
    }

    fn withhold(&mut self, uplink: &mut Uplink, which: u8, code: u32, now: Instant) {
        let url = format!("https://{which}.example");
        uplink.withhold(Withheld { code: Code(code), ..Withheld::taken_back(url.as_str()) }, now);
        _ = if code == 0 { self.withheld.remove(&url) } else { self.withheld.insert(url, Code(code)) };
    }

    fn answer(&mut self, uplink: &mut Uplink, code: Option<u32>, now: Instant) {
        let attempts: Vec<u64> = self.sessions.keys().copied().collect();
        for attempt in attempts {
            uplink.handle_timeout(now);
            self.obey(uplink);
            let Some((asked, bound)) = self.sessions.get_mut(&attempt) else { continue };
            let Some(id) = asked.pop_first() else { continue };
            match code {
                Some(code) => uplink.handle_rejected(attempt, refused(id, Code(code), None), now),
                None => {
                    bound.insert(id);
                    uplink.handle_bound(attempt, &granted(id), now);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happens: one dial at a time, one bind number in use once, L3, L6; and when the network behaves again,
    /// every wish is bound.
    #[test]
    fn it_makes_sense_whatever_happens_and_converges_once_all_is_well(
        seed: u64,
        steps in prop::collection::vec((step(), 0..4_000_u64), 0..150),
    ) {
        let (mut uplink, mut world) = (Uplink::new(2, ReconnectPolicy::default(), seed, at(0)), World::default());
        let mut now = at(0);
        world.obey(&mut uplink);
        for (step, pause) in steps {
            now = now + Duration::from_millis(pause);
            world.step(&mut uplink, step, now);
            prop_assert!(uplink.current().is_none_or(|current| world.sessions.contains_key(&current)));
            uplink.handle_timeout(now);
            prop_assert!(uplink.poll_timeout().is_none_or(|deadline| now < deadline.at));
            world.obey(&mut uplink);
            uplink.handle_timeout(now);
            prop_assert_eq!(uplink.poll_action(), None);
        }

        let end = now + Duration::from_secs(4_000);
        let mut wakes = 0;
        while world.given_up == 0 {
            world.step(&mut uplink, Step::Established, now);
            world.obey(&mut uplink);
            while world.sessions.values().any(|(asked, _)| !asked.is_empty()) {
                world.step(&mut uplink, Step::Answer(None), now);
                world.obey(&mut uplink);
            }
            let Some(deadline) = uplink.poll_timeout() else { break };
            now = deadline.at;
            prop_assert!(now <= end);
            wakes += 1;
            prop_assert!(wakes < 1_000, "spinning");
            uplink.handle_timeout(now);
            world.obey(&mut uplink);
        }
        if world.given_up == 0 {
            let current = uplink.current().expect("a session");
            let wishes: BTreeSet<_> = world.wishes.iter().copied().collect();
            prop_assert_eq!(&world.sessions[&current].1, &wishes);
            prop_assert_eq!(world.told.remove(&current).unwrap_or_default(), world.withheld);
        }
    }

    /// L11: the same seed and inputs give the same actions.
    #[test]
    fn it_is_deterministic(seed: u64, steps in prop::collection::vec((step(), 0..4_000_u64), 0..50)) {
        let run = || {
            let (mut uplink, mut world) = (Uplink::new(2, ReconnectPolicy::default(), seed, at(0)), World::default());
            let mut now = at(0);
            for (step, pause) in steps.clone() {
                now = now + Duration::from_millis(pause);
                world.obey(&mut uplink);
                world.step(&mut uplink, step, now);
            }
            (world.log, uplink.poll_timeout())
        };
        prop_assert_eq!(run(), run());
    }
}

fn step() -> impl Strategy<Value = Step> {
    let retry = prop_oneof![
        4 => Just(Retry::Backoff),
        2 => Just(Retry::Soon),
        2 => Just(Retry::Now),
        1 => (0..400_u64).prop_map(|secs| Retry::After(Duration::from_secs(secs))),
        1 => Just(Retry::Never),
    ];
    let code = || prop_oneof![Just(Code::IN_USE.0), Just(Code::FORBIDDEN.0), 0..0x300_u32];
    prop_oneof![
        8 => Just(Step::Established),
        4 => retry.clone().prop_map(Step::Failed),
        4 => retry.clone().prop_map(Step::Suspended),
        3 => (any::<u8>(), retry).prop_map(|(which, retry)| Step::Lost(which, retry)),
        2 => prop::option::of(0..400_u64).prop_map(Step::GoAway),
        8 => prop::option::weighted(0.4, code()).prop_map(Step::Answer),
        2 => (any::<u8>(), code()).prop_map(|(which, code)| Step::Unbound(which, code)),
        6 => Just(Step::Bind),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(which, cut)| Step::Unbind(which, cut)),
        4 => (0..4_u8, 0..3_u32).prop_map(|(which, code)| Step::Withhold(which, code)),
        4 => prop::bool::weighted(0.8).prop_map(Step::Silent),
        2 => Just(Step::NetworkChange),
        1 => (0..60_000_u64).prop_map(Step::Shutdown),
        40 => Just(Step::Time),
    ]
}

fn pick<T>(items: impl ExactSizeIterator<Item = T>, which: u8) -> Option<T> {
    let mut items = items;
    let count = items.len();
    items.nth(usize::from(which).checked_rem(count)?)
}

fn uplink() -> Uplink {
    Uplink::new(2, ReconnectPolicy::default(), 7, at(0))
}

fn wish(url: &str) -> Bind {
    Bind {
        id: BindId(0),
        url: url.into(),
        pooling: false,
        upstream_protocol: UpstreamProtocol::Http1,
        name: String::new(),
        description: String::new(),
        metadata: String::new(),
        tls_end: crate::TlsEnd::Unsaid,
    }
}

fn granted(id: BindId) -> Bound {
    Bound { id, url: "https://final.example".into(), tls_end: crate::TlsEnd::Unsaid }
}

fn refused(id: BindId, code: Code, retry_after: Option<u64>) -> BindRefusal {
    let retry_after = retry_after.map(Duration::from_secs);
    BindRefusal { id, refusal: Refusal { code, retry_after, text: String::new() } }
}

fn goaway(retry_after: Option<u64>) -> GoAway {
    let retry_after = retry_after.map(Duration::from_secs);
    GoAway { last: 0, code: Code::SHUTDOWN, retry_after, text: String::new() }
}

fn unbind(attempt: u64, unbind: Unbind) -> Action {
    Action::Unbind { attempt, unbind }
}

fn actions(uplink: &mut Uplink) -> Vec<Action> {
    core::iter::from_fn(|| uplink.poll_action()).collect()
}

fn notices(uplink: &mut Uplink) -> Vec<Notice> {
    core::iter::from_fn(|| uplink.poll_notice()).collect()
}

fn asked(actions: &[Action]) -> Vec<(u64, BindId)> {
    let binds = actions.iter().filter_map(|action| match action {
        Action::Bind { attempt, bind } => Some((*attempt, bind.id)),
        Action::Dial { .. }
        | Action::Resume { .. }
        | Action::StandBy { .. }
        | Action::Proceed { .. }
        | Action::Hangup { .. }
        | Action::Unbind { .. }
        | Action::Withhold { .. }
        | Action::Drain { .. } => None,
        Action::GiveUp(_) => None,
    });
    binds.collect()
}

fn at(secs: u64) -> Instant {
    Instant::from_nanos(secs * 1_000_000_000)
}
