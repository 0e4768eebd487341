//! Another way beside a silent link.

use alloc::vec::Vec;

use super::*;

/// TIME-008
#[test]
fn a_session_whose_link_stays_silent_goes_on_beside_it_step_by_step() {
    let mut uplink = resumable(5);

    uplink.handle_silence(1, at(60));
    let due = next(&uplink);
    assert!(at(60) <= due && due <= at(61));
    uplink.handle_timeout(due);
    assert_eq!(actions(&mut uplink), [Action::StandBy { attempt: 2, session: 1, target: 0 }]);
    let connected = due + millis(30);
    uplink.handle_connected(2, connected);
    assert_eq!(next(&uplink), connected + millis(1_500), "it was answered at once: the path is good");
    uplink.handle_timeout(connected + millis(1_500));
    assert_eq!(actions(&mut uplink), [Action::Proceed { attempt: 2 }]);
    let secured = connected + millis(1_560);
    uplink.handle_secured(2, secured);
    assert_eq!((actions(&mut uplink), next(&uplink)), (Vec::new(), secured + millis(100)));
    uplink.handle_timeout(secured + millis(100));
    assert_eq!(actions(&mut uplink), [Action::Proceed { attempt: 2 }]);
    uplink.handle_resumed(2, secured + millis(160));

    assert_eq!((uplink.current(), actions(&mut uplink)), (Some(1), Vec::new()));
    assert_eq!(uplink.poll_timeout(), None);
}

#[test]
fn who_is_answered_after_a_while_knows_that_the_path_was_away_and_does_not_wait() {
    let mut uplink = resumable(5);
    let dialed = stand_by(&mut uplink, at(60));

    let connected = dialed + millis(1_000);
    uplink.handle_connected(2, connected);

    assert_eq!(next(&uplink), connected + millis(100));
    uplink.handle_timeout(connected + millis(100));
    assert_eq!(actions(&mut uplink), [Action::Proceed { attempt: 2 }]);
}

/// TIME-008
#[test]
fn a_link_that_speaks_again_keeps_its_session_whatever_was_reached_beside_it() {
    for steps in 0..5 {
        let mut uplink = resumable(5);
        uplink.handle_silence(1, at(60));
        let mut now = at(60);
        if steps > 0 {
            now = next(&uplink);
            uplink.handle_timeout(now);
        }
        if steps > 1 {
            uplink.handle_connected(2, now);
        }
        if steps > 2 {
            now = next(&uplink);
            uplink.handle_timeout(now);
        }
        if steps > 3 {
            uplink.handle_secured(2, now);
        }
        actions(&mut uplink);

        uplink.handle_sound(1, now);

        let hangup = [Action::Hangup { attempt: 2 }];
        assert_eq!(actions(&mut uplink), hangup[..usize::from(steps > 0)], "after {steps} steps");
        uplink.handle_connected(2, now);
        uplink.handle_secured(2, now);
        uplink.handle_closed(2, Retry::Backoff, now);
        assert_eq!((uplink.poll_timeout(), uplink.current()), (None, Some(1)), "after {steps} steps");
    }
}

#[test]
fn a_consent_that_comes_too_late_is_taken_back() {
    let mut uplink = resumable(5);
    let now = stand_by(&mut uplink, at(60));
    uplink.handle_connected(2, now);

    uplink.handle_sound(1, now + millis(1_500));
    uplink.handle_closed(2, Retry::Backoff, now + millis(1_500));

    assert_eq!(actions(&mut uplink), [Action::Hangup { attempt: 2 }]);
}

/// TIME-008
#[test]
fn only_the_session_that_may_be_resumed_and_has_a_link_gets_another_way() {
    let quiet = |uplink: &mut Uplink, session: u64| {
        uplink.handle_silence(session, at(70));
        uplink.handle_timeout(at(72));
        !actions(uplink).iter().any(|action| matches!(action, Action::StandBy { .. }))
    };
    let mut unoffered = uplink();
    unoffered.handle_established(1, at(0));
    assert!(quiet(&mut unoffered, 1));
    assert!(quiet(&mut resumable(5), 9), "another session");

    let mut drains = resumable(5);
    drains.handle_goaway(1, &goaway(None), at(60));
    assert!(quiet(&mut drains, 1));

    let mut waits = resumable(5);
    waits.handle_suspended(1, Retry::Backoff, at(60));
    assert!(quiet(&mut waits, 1));

    let mut moves = resumable(5);
    moves.handle_network_change(at(70));
    assert!(quiet(&mut moves, 1), "it is dialed already");

    let mut ends = resumable(5);
    ends.shutdown(Duration::from_secs(30), at(70));
    assert!(quiet(&mut ends, 1));

    let mut withdrawn = resumable(5);
    withdrawn.handle_silence(1, at(60));
    withdrawn.handle_offer(1, false);
    assert!(quiet(&mut withdrawn, 1));
}

#[test]
fn a_link_that_is_lost_meanwhile_is_followed_by_an_ordinary_dial() {
    let mut uplink = resumable(5);
    stand_by(&mut uplink, at(60));

    uplink.handle_suspended(1, Retry::Backoff, at(62));
    uplink.handle_timeout(next(&uplink));

    let resume = Action::Resume { attempt: 3, session: 1, target: 0 };
    assert_eq!(actions(&mut uplink), [Action::Hangup { attempt: 2 }, resume]);
}

#[test]
fn a_session_that_cannot_be_moved_is_where_it_was_or_waits_for_the_next_dial() {
    for lost in [false, true] {
        let mut uplink = resumable(5);
        let now = stand_by(&mut uplink, at(60));
        uplink.handle_connected(2, now);
        uplink.handle_timeout(now + millis(1_500));
        uplink.handle_secured(2, now + millis(1_500));
        uplink.handle_timeout(now + millis(1_600));
        actions(&mut uplink);

        if lost {
            uplink.handle_suspended(1, Retry::Backoff, at(63));
        }
        uplink.handle_closed(2, Retry::Backoff, at(63));

        assert_eq!(uplink.current(), Some(1));
        assert_eq!(uplink.poll_timeout().is_some(), lost);
    }
}

/// TIME-008
#[test]
fn connections_that_come_to_nothing_are_few() {
    let mut uplink = resumable(5);
    uplink.handle_silence(1, at(60));
    let mut dials = Vec::new();

    while let Some(due) = uplink.poll_timeout().map(|due| due.at).filter(|due| *due < at(180)) {
        uplink.handle_timeout(due);
        for action in actions(&mut uplink) {
            let Action::StandBy { attempt, .. } = action else { panic!("{action:?}") };
            dials.push(due);
            uplink.handle_closed(attempt, Retry::Backoff, due);
        }
    }

    for from in &dials {
        let minute = dials.iter().filter(|at| *from <= **at && at.since(*from) < Duration::from_secs(60)).count();
        assert!(minute <= 10, "{minute} in a minute");
    }
    assert!(dials.len() >= 12, "{dials:?}");
}

#[test]
fn who_was_wrong_three_times_is_more_patient_each_time_and_forgets_it() {
    let mut uplink = resumable(5);
    let (mut now, mut waits) = (at(60), Vec::new());
    for attempt in 2..9 {
        uplink.handle_silence(1, now);
        let due = next(&uplink);
        waits.push(due.since(now).as_secs());
        uplink.handle_timeout(due);
        uplink.handle_connected(attempt, due);
        uplink.handle_sound(1, due + millis(500));
        now = due + Duration::from_secs(15);
    }
    assert_eq!(waits, [0, 0, 0, 1, 3, 7, 15]);

    uplink.handle_silence(1, now + Duration::from_secs(300));
    assert!(next(&uplink).since(now) <= Duration::from_secs(301));
}

#[test]
fn a_path_that_came_back_is_no_false_alarm() {
    let mut uplink = resumable(5);
    let mut now = at(60);
    for attempt in 2..8 {
        uplink.handle_silence(1, now);
        let due = next(&uplink);
        assert!(due.since(now) <= Duration::from_secs(1));
        uplink.handle_timeout(due);
        uplink.handle_connected(attempt, due + millis(1_000));
        uplink.handle_sound(1, due + millis(1_050));
        now = due + Duration::from_secs(15);
    }
}

/// A node that stops for three seconds under ten thousand agents is not overrun when it goes on.
#[test]
fn a_node_that_stops_for_three_seconds_meets_no_crowd() {
    let (mut tenths, mut said) = ([0; 11], 0);
    for seed in 0..10_000 {
        let mut uplink = resumable(seed);
        let silent = at(62); // it stops at 60
        uplink.handle_silence(1, silent);
        let due = next(&uplink);
        tenths[usize::try_from(due.since(silent).as_millis() / 100).unwrap()] += 1;
        if due < at(63) {
            uplink.handle_timeout(due);
            uplink.handle_connected(2, due); // by its kernel
            uplink.handle_timeout(at(63));
        }
        uplink.handle_sound(1, at(63));
        said += actions(&mut uplink).iter().filter(|action| matches!(action, Action::Proceed { .. })).count();
    }
    assert_eq!(said, 0, "nobody said anything on a second connection");
    assert!(tenths.iter().all(|count| *count < 1_200), "{tenths:?}");
}

fn resumable(seed: u64) -> Uplink {
    let mut uplink = Uplink::new(2, ReconnectPolicy::default(), seed, at(0));
    uplink.handle_established(1, at(0));
    uplink.handle_offer(1, true);
    actions(&mut uplink);
    uplink
}

/// Lets the link fall silent and the connection beside it be dialed; returns when that was.
fn stand_by(uplink: &mut Uplink, now: Instant) -> Instant {
    uplink.handle_silence(1, now);
    let due = next(uplink);
    uplink.handle_timeout(due);
    assert!(matches!(*actions(uplink), [Action::StandBy { .. }]));
    due
}

fn next(uplink: &Uplink) -> Instant {
    uplink.poll_timeout().expect("something is waited for").at
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
