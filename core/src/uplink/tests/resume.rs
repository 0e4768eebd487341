//! A session that lost its link: whom to dial, when, and until when.

use alloc::vec::Vec;

use super::*;

#[test]
fn a_session_that_lost_its_link_is_resumed_where_it_is_and_its_binds_stay_in_force() {
    let mut uplink = uplink();
    let id = uplink.bind(wish("https://one.example"), at(0));
    uplink.handle_established(1, at(0));
    uplink.handle_offer(1, true);
    uplink.handle_bound(1, &granted(id), at(0));
    actions(&mut uplink);

    uplink.handle_suspended(1, Retry::Backoff, at(60));
    let due = uplink.poll_timeout().expect("a dial").at;
    assert!(due <= at(60) + Duration::from_millis(100), "a link that lived is replaced at once");
    uplink.handle_timeout(due);
    assert_eq!(actions(&mut uplink), [Action::Resume { attempt: 2, session: 1, target: 0 }]);
    uplink.handle_closed(2, Retry::Backoff, due);
    let again = uplink.poll_timeout().expect("a dial").at;
    uplink.handle_timeout(again);
    assert_eq!(actions(&mut uplink), [Action::Resume { attempt: 3, session: 1, target: 0 }]);
    uplink.handle_resumed(3, again);

    assert_eq!((uplink.current(), actions(&mut uplink)), (Some(1), Vec::new()));
    assert_eq!(uplink.poll_timeout(), None);
}

#[test]
fn a_session_is_resumed_at_the_target_that_it_was_made_with() {
    let mut uplink = uplink();
    uplink.handle_closed(1, Retry::Backoff, at(0));
    let due = uplink.poll_timeout().expect("a dial").at;
    uplink.handle_timeout(due);
    uplink.handle_established(2, due);
    uplink.handle_offer(2, true);
    actions(&mut uplink);

    uplink.handle_suspended(2, Retry::Backoff, at(60));
    uplink.handle_timeout(at(61));

    assert_eq!(actions(&mut uplink), [Action::Resume { attempt: 3, session: 2, target: 1 }]);
}

#[test]
fn a_session_that_is_over_binds_no_dial_to_the_target_that_had_it() {
    let mut uplink = uplink();
    uplink.handle_established(1, at(0));
    uplink.handle_offer(1, true);
    actions(&mut uplink);

    uplink.handle_suspended(1, Retry::Backoff, at(60));
    uplink.handle_closed(1, Retry::Backoff, at(60));
    uplink.handle_timeout(uplink.poll_timeout().expect("a dial").at);

    assert_eq!(actions(&mut uplink), [Action::Dial { attempt: 2, target: 1 }]);
}

#[test]
fn only_the_loss_of_the_current_link_is_news_and_only_once() {
    let mut uplink = uplink();
    uplink.handle_established(1, at(0));
    uplink.handle_offer(1, true);
    actions(&mut uplink);

    assert!(!uplink.handle_suspended(9, Retry::Backoff, at(60)));
    assert_eq!((uplink.poll_timeout(), actions(&mut uplink)), (None, Vec::new()));
    assert!(uplink.handle_suspended(1, Retry::Backoff, at(60)));
    assert!(!uplink.handle_suspended(1, Retry::Backoff, at(60)));
    assert!(!uplink.handle_suspended(9, Retry::Backoff, at(60)));
}

/// TIME-007
#[test]
fn a_target_that_stays_away_is_left_for_another_and_a_new_session() {
    let mut uplink = uplink();
    uplink.handle_established(1, at(0));
    uplink.handle_offer(1, true);
    actions(&mut uplink);
    uplink.handle_suspended(1, Retry::Backoff, at(60));

    let (mut now, mut dials) = (at(60), Vec::new());
    while now < at(70) {
        now = uplink.poll_timeout().expect("a dial").at;
        uplink.handle_timeout(now);
        match &*actions(&mut uplink) {
            [Action::Resume { attempt, target: 0, .. }] => {
                dials.push((now, true));
                uplink.handle_closed(*attempt, Retry::Backoff, now);
            }
            [Action::Dial { attempt, target: 1 }] => {
                assert!(at(65) <= now, "others have no turn for 5 s");
                uplink.handle_established(*attempt, now);
                assert_eq!(actions(&mut uplink), [Action::Hangup { attempt: 1 }]);
                assert_eq!(uplink.current(), Some(*attempt));
                return;
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("no other target was dialed: {dials:?}");
}

/// TIME-007
#[test]
fn delays_while_a_session_waits_stay_short_and_a_link_that_does_not_live_is_not_replaced_at_once() {
    let mut uplink = Uplink::new(1, ReconnectPolicy::default(), 5, at(0));
    uplink.handle_established(1, at(0));
    uplink.handle_offer(1, true);
    actions(&mut uplink);
    let mut now = at(60);
    for round in 0..40 {
        uplink.handle_suspended(1, Retry::Backoff, now);
        let due = uplink.poll_timeout().expect("a dial").at;
        let delay = due.since(now);
        let least = if round == 0 { Duration::ZERO } else { Duration::from_millis(100) };
        assert!(least <= delay && delay <= Duration::from_secs(1), "{delay:?} in round {round}");
        now = due;
        uplink.handle_timeout(now);
        let [Action::Resume { attempt, .. }] = *actions(&mut uplink) else { panic!("no dial") };
        uplink.handle_resumed(attempt, now);
    }
}

#[test]
fn a_network_change_resumes_beside_a_link_that_seems_alive() {
    let mut uplink = uplink();
    uplink.handle_established(1, at(0));
    uplink.handle_offer(1, true);
    actions(&mut uplink);

    uplink.handle_network_change(at(60));
    assert_eq!(actions(&mut uplink), [Action::Resume { attempt: 2, session: 1, target: 0 }]);
    uplink.handle_closed(2, Retry::Backoff, at(61));
    assert_eq!(uplink.poll_timeout(), None, "the heartbeat of the old link tells if there is a need");
}

#[test]
fn a_shutdown_ends_a_session_that_waits_at_once() {
    let mut uplink = uplink();
    uplink.handle_established(1, at(0));
    uplink.handle_suspended(1, Retry::Backoff, at(60));
    actions(&mut uplink);

    uplink.shutdown(Duration::from_secs(30), at(61));

    let [.., Action::Hangup { attempt: 1 }, Action::GiveUp(GiveUp::Shutdown)] = &*actions(&mut uplink) else {
        panic!("it lingers")
    };
}

#[test]
fn a_network_that_restarts_is_dialed_as_often_by_who_waits_as_by_who_begins_anew() {
    let mut uplink = Uplink::new(1, ReconnectPolicy::default(), 5, at(0));
    uplink.handle_established(1, at(0));
    uplink.handle_offer(1, true);
    actions(&mut uplink);
    uplink.handle_suspended(1, Retry::Backoff, at(60));

    let mut now = at(60);
    for _ in 0..20 {
        let due = uplink.poll_timeout().expect("a dial").at;
        assert!(due.since(now) <= Duration::from_millis(500), "{:?}", due.since(now));
        now = due;
        uplink.handle_timeout(now);
        let [Action::Resume { attempt, .. }] = *actions(&mut uplink) else { panic!("no dial") };
        uplink.handle_closed(attempt, Retry::Soon, now); // nobody listens yet
    }
}
