use super::*;
use crate::{Duration, Rng};

#[test]
fn the_first_dial_is_due_at_once() {
    let mut machine = machine(1);

    assert_eq!(machine.poll_timeout(), Some(Deadline { at: at(0), why: TimerKind::Redial }));
    assert_eq!(machine.handle_timeout(at(0)), Some(Order::Dial { attempt: 1, target: 0 }));
    assert_eq!(machine.handle_timeout(at(0)), None);
    assert_eq!(machine.poll_timeout(), Some(Deadline { at: at(30), why: TimerKind::Dial }));
}

/// TIME-003
#[test]
fn every_target_is_tried_in_turn_and_all_before_the_delay_doubles() {
    for targets in 1..=7_usize {
        let mut machine = machine(targets);
        let mut now = at(0);
        let per_step = targets.max(4);
        for dial in 0..60 {
            let Some(Order::Dial { attempt, target }) = machine.handle_timeout(now) else { panic!("dial {dial}") };
            assert_eq!(target, dial % targets);
            machine.on_failed(attempt, Retry::Backoff, now);
            let due = machine.redial().expect("waiting");
            let doublings = u32::try_from(dial / per_step).expect("small");
            let ceiling = Duration::from_secs(30).min(Duration::from_millis(500) * 2_u32.pow(doublings));
            let delay = due.since(now);
            assert!(Duration::from_millis(100) <= delay && delay <= ceiling, "{targets}: {dial}: {delay:?}");
            now = due;
        }
    }
}

#[test]
fn a_dial_ends_at_its_deadline() {
    let mut machine = machine(1);
    machine.handle_timeout(at(0));

    assert_eq!(machine.handle_timeout(at(29)), None);
    assert_eq!(machine.handle_timeout(at(30)), Some(Order::Hangup { attempt: 1 }));
    assert!(!machine.on_established(1));
    assert!(machine.redial().is_some_and(|due| at(30) < due && due <= at(31)));
}

/// TIME-002
#[test]
fn the_delay_begins_anew_only_after_stable_life() {
    for (lived, fresh) in [(Duration::from_millis(9_999), false), (Duration::from_secs(10), true)] {
        let mut machine = machine(1);
        let mut now = at(0);
        for _ in 0..40 {
            now = fail(&mut machine, Retry::Backoff, now);
        }
        let Some(Order::Dial { attempt, .. }) = machine.handle_timeout(now) else { panic!("no dial") };
        assert!(machine.on_established(attempt));

        machine.on_life(lived);
        let backoff = machine.backoff.clone();
        machine.on_lost(Retry::Backoff, now);

        let expected = Backoff::new(machine.policy.floor, machine.policy.base, machine.policy.cap);
        assert_eq!(backoff == expected, fresh, "{lived:?}");
    }
}

#[test]
fn at_once_is_honoured_once_until_life_was_stable() {
    let mut machine = machine(1);
    let attempt = establish(&mut machine, at(0));
    assert_eq!(attempt, 1);

    machine.on_lost(Retry::Now, at(1));
    assert_eq!(machine.redial(), Some(at(1)));
    let later = fail(&mut machine, Retry::Now, at(1));
    assert!(at(1) + Duration::from_millis(100) <= later);

    establish(&mut machine, later);
    machine.on_life(Duration::from_secs(10));
    machine.on_lost(Retry::Now, at(99));
    assert_eq!(machine.redial(), Some(at(99)));
}

/// TIME-002, GO-004
#[test]
fn the_delay_that_the_network_names_wins_and_is_clamped() {
    for (asked, least, most) in [(40, 40, 44), (3_600, 300, 330)] {
        let mut machine = machine(1);
        let due = fail(&mut machine, Retry::After(Duration::from_secs(asked)), at(0));
        assert!(at(least) <= due && due <= at(most), "{due:?}");
    }
    let mut machine = machine(1);
    assert!(at(0) + Duration::from_millis(100) <= fail(&mut machine, Retry::After(Duration::ZERO), at(0)));
}

#[test]
fn a_target_that_says_never_is_passed_over_and_when_all_do_it_is_over() {
    let mut machine = machine(3);
    let now = fail(&mut machine, Retry::Never, at(0));
    let now = fail(&mut machine, Retry::Backoff, now);
    let now = fail(&mut machine, Retry::Never, now);
    let Some(Order::Dial { attempt, target: 1 }) = machine.handle_timeout(now) else { panic!("not the one left") };

    machine.on_failed(attempt, Retry::Never, now);

    assert_eq!(machine.handle_timeout(now), Some(Order::GiveUp));
    assert_eq!(machine.handle_timeout(at(9_999)), None);
    assert_eq!(machine.on_network_change(at(9_999)), None);
    assert_eq!(machine.poll_timeout(), None);
}

#[test]
fn a_network_change_acts_in_every_state() {
    let mut machine = machine(1);
    fail(&mut machine, Retry::After(Duration::from_secs(300)), at(0));
    let early = at(100);
    assert_eq!(machine.on_network_change(early), None, "waiting: dial now");
    let Some(Order::Dial { attempt, .. }) = machine.handle_timeout(early) else { panic!("no dial") };

    assert_eq!(machine.on_network_change(early), Some(Order::Hangup { attempt }), "dialing: dial anew");
    assert_eq!(machine.handle_timeout(early), None, "and not in a loop");
    let soon = early + Duration::from_millis(500);
    let Some(Order::Dial { attempt, .. }) = machine.handle_timeout(soon) else { panic!("no dial") };
    assert!(machine.on_established(attempt));

    assert_eq!(machine.on_network_change(at(99_999)), None, "living: dial beside it");
    assert_eq!(machine.handle_timeout(at(99_999)), Some(Order::Dial { attempt: attempt + 1, target: 0 }));
}

/// TIME-007
#[test]
fn for_its_time_only_the_target_that_holds_the_session_is_dialed() {
    for (waited, target) in [(Duration::from_nanos(4_999_999_999), 0), (Duration::from_secs(5), 1)] {
        let mut machine = machine(2);
        establish(&mut machine, at(0));
        machine.on_suspended(0, Duration::from_secs(60), Retry::Backoff, at(60));

        assert_eq!(machine.handle_timeout(at(60) + waited), Some(Order::Dial { attempt: 2, target }));
    }
}

#[test]
fn a_stop_acts_in_every_state() {
    let mut waiting = machine(1);
    assert_eq!(waiting.on_stop(), None);
    assert_eq!((waiting.handle_timeout(at(9)), waiting.poll_timeout()), (None, None));

    let mut dialing = machine(1);
    dialing.handle_timeout(at(0));
    assert_eq!(dialing.on_stop(), Some(Order::Hangup { attempt: 1 }));
    assert_eq!((dialing.handle_timeout(at(99)), dialing.poll_timeout()), (None, None));

    let mut living = machine(1);
    establish(&mut living, at(0));
    assert_eq!(living.on_stop(), None);
    assert_eq!((living.handle_timeout(at(99)), living.poll_timeout()), (None, None));
}

#[test]
fn without_targets_there_is_nothing_to_try() {
    let mut machine = machine(0);

    assert_eq!(machine.handle_timeout(at(0)), Some(Order::GiveUp));
}

#[test]
fn dials_that_meet_nobody_let_the_delay_grow_slowly() {
    let mut machine = machine(2);
    let mut now = at(0);
    let mut most = [Duration::ZERO; 3];
    for dial in 0..60 {
        let due = fail(&mut machine, Retry::Soon, now);
        most[dial / 20] = most[dial / 20].max(due.since(now));
        now = due;
    }

    let ceilings = [500, 1_000, 2_000].map(Duration::from_millis);
    assert!(most.iter().zip(ceilings).all(|(most, ceiling)| *most <= ceiling && ceiling / 2 < *most), "{most:?}");
}

#[test]
fn a_network_that_is_back_after_three_seconds_is_found_within_half_a_second() {
    for seed in 0..1_000 {
        let mut machine = Reconnect::new(ReconnectPolicy::default(), 1, Rng::new(seed), at(0));
        establish(&mut machine, at(0));
        machine.on_lost(Retry::Backoff, at(0));
        let mut now = machine.redial().expect("waiting");
        while now < at(3) {
            now = fail(&mut machine, Retry::Soon, now);
        }
        assert!(now.since(at(3)) <= Duration::from_millis(500), "seed {seed}: {now:?}");
    }
}

fn machine(targets: usize) -> Reconnect {
    Reconnect::new(ReconnectPolicy::default(), targets, Rng::new(5), at(0))
}

fn establish(machine: &mut Reconnect, now: Instant) -> u64 {
    let Some(Order::Dial { attempt, .. }) = machine.handle_timeout(now) else { panic!("no dial at {now:?}") };
    assert!(machine.on_established(attempt));
    attempt
}

fn fail(machine: &mut Reconnect, retry: Retry, now: Instant) -> Instant {
    let Some(Order::Dial { attempt, .. }) = machine.handle_timeout(now) else { panic!("no dial at {now:?}") };
    assert!(machine.on_failed(attempt, retry, now));
    machine.redial().unwrap_or(now)
}

fn at(secs: u64) -> Instant {
    Instant::from_nanos(secs * 1_000_000_000)
}
