use alloc::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{Duration, Rng};

const INTERVAL: Duration = Duration::from_secs(10);
const TOLERANCE: Duration = Duration::from_secs(15);

/// HB-001, HB-010
#[test]
fn the_first_question_is_due_at_once() {
    let mut pulse = pulse();

    assert_eq!(pulse.poll_timeout(), Some(Deadline { at: at(0), why: TimerKind::Ping }));
    assert!(matches!(pulse.handle_timeout(at(0)), Some(Beat::SendPing(_))));
    assert_eq!(pulse.poll_timeout(), None);
}

#[test]
fn a_new_question_comes_an_interval_after_the_last_and_only_when_that_is_answered() {
    let mut pulse = pulse();
    let first = ask(&mut pulse, at(0));

    assert_eq!(pulse.on_pong(first, ms(50)), PongResult::Matched(Duration::from_millis(50)));
    assert_eq!(pulse.poll_timeout(), Some(Deadline { at: at(10), why: TimerKind::Ping }));
    assert_eq!(pulse.handle_timeout(ms(9_999)), None);
    let second = ask(&mut pulse, at(10));
    assert_ne!(first, second);
    assert_eq!(pulse.handle_timeout(at(24)), None);
}

#[test]
fn silence_is_death_at_the_tolerance_and_not_earlier() {
    let mut pulse = pulse();
    ask(&mut pulse, at(0));

    assert_eq!(pulse.poll_timeout(), Some(Deadline { at: at(15), why: TimerKind::Silence }));
    assert_eq!(pulse.handle_timeout(ms(14_999)), None);
    assert_eq!(pulse.handle_timeout(at(15)), Some(Beat::Dead { silent_for: TOLERANCE }));
    assert_eq!(pulse.handle_timeout(at(99)), None);
    assert_eq!(pulse.poll_timeout(), None);
}

#[test]
fn the_tolerance_starts_when_the_transport_took_the_question() {
    let mut pulse = pulse();
    let Some(Beat::SendPing(_)) = pulse.handle_timeout(at(0)) else { panic!("no question") };
    pulse.on_waiting(at(0));

    pulse.on_progress(at(9));
    pulse.on_ping_sent(at(9));
    pulse.on_progress(at(20));
    pulse.on_flushed(at(20));

    assert_eq!(pulse.poll_timeout(), Some(Deadline { at: at(35), why: TimerKind::Silence }));
    assert_eq!(pulse.handle_timeout(ms(34_999)), None);
    assert_eq!(pulse.handle_timeout(at(35)), Some(Beat::Dead { silent_for: Duration::from_secs(35) }));
}

#[test]
fn sending_is_no_life() {
    let mut pulse = pulse();
    ask(&mut pulse, at(0));

    for second in 1..15 {
        pulse.on_waiting(at(second));
        pulse.on_progress(at(second));
        pulse.on_flushed(at(second));
    }

    assert_eq!(pulse.handle_timeout(at(15)), Some(Beat::Dead { silent_for: TOLERANCE }));
}

#[test]
fn any_octet_is_life_even_when_the_answer_is_late() {
    let mut pulse = pulse();
    let nonce = ask(&mut pulse, at(0));

    pulse.on_input(ms(14_999));

    assert_eq!(pulse.handle_timeout(at(39)), None);
    assert_eq!(pulse.on_pong(nonce, at(39)), PongResult::Matched(Duration::from_secs(39)));
    assert!(matches!(pulse.handle_timeout(at(39)), Some(Beat::SendPing(_))));
}

#[test]
fn a_peer_that_sends_but_never_answers_dies_once_it_stops_sending() {
    let mut pulse = pulse();
    ask(&mut pulse, at(0));

    for second in 1..100 {
        pulse.on_input(at(second));
        assert_eq!(pulse.handle_timeout(at(second)), None);
    }

    let end = at(99) + INTERVAL + TOLERANCE;
    assert_eq!(pulse.poll_timeout(), Some(Deadline { at: end, why: TimerKind::Silence }));
    assert_eq!(pulse.handle_timeout(end), Some(Beat::Dead { silent_for: INTERVAL + TOLERANCE }));
}

#[test]
fn life_after_the_tolerance_is_too_late_however_late_the_timer_is() {
    let mut pulse = pulse();
    let nonce = ask(&mut pulse, at(0));

    pulse.on_input(at(15));
    pulse.on_pong(nonce, at(16));

    assert_eq!(pulse.handle_timeout(at(16)), Some(Beat::Dead { silent_for: Duration::from_secs(16) }));
}

/// HB-009
#[test]
fn a_suspend_gives_one_question_and_not_a_burst() {
    let mut pulse = pulse();
    let nonce = ask(&mut pulse, at(0));
    pulse.on_pong(nonce, at(1));

    let hours = at(8 * 3_600);
    let nonce = ask(&mut pulse, hours);

    assert_eq!(pulse.handle_timeout(hours), None);
    pulse.on_pong(nonce, hours);
    assert_eq!(pulse.poll_timeout(), Some(Deadline { at: hours + INTERVAL, why: TimerKind::Ping }));
}

/// HB-009, TIME-001
#[test]
fn a_suspend_with_a_question_outstanding_is_judged_before_anything_else() {
    let mut pulse = pulse();
    let nonce = ask(&mut pulse, at(0));
    let hours = at(8 * 3_600);

    assert_eq!(pulse.handle_timeout(hours), Some(Beat::Dead { silent_for: Duration::from_secs(8 * 3_600) }));
    pulse.on_pong(nonce, hours);
    assert_eq!(pulse.handle_timeout(hours + INTERVAL), None);
}

/// HB-005
#[test]
fn a_transport_that_takes_nothing_for_the_tolerance_is_stuck() {
    let mut pulse = pulse();
    let nonce = ask(&mut pulse, at(0));
    pulse.on_pong(nonce, at(0));

    pulse.on_waiting(at(1));
    pulse.on_waiting(at(9));
    assert!(matches!(pulse.handle_timeout(at(10)), Some(Beat::SendPing(_))));

    assert_eq!(pulse.poll_timeout(), Some(Deadline { at: at(16), why: TimerKind::Stall }));
    assert_eq!(pulse.handle_timeout(ms(15_999)), None);
    assert_eq!(pulse.handle_timeout(at(16)), Some(Beat::Stalled { stuck_for: TOLERANCE }));
    assert_eq!(pulse.poll_timeout(), None);
}

/// HB-005
#[test]
fn a_transport_that_takes_nothing_is_slow_while_the_peer_is_heard_and_stuck_after_three_tolerances() {
    for (heard, stuck) in [(10, 25), (15, 30), (29, 44), (31, 45), (44, 45)] {
        let mut pulse = pulse();
        let nonce = ask(&mut pulse, at(0));
        pulse.on_pong(nonce, at(0));

        pulse.on_waiting(at(0));
        assert!(matches!(pulse.handle_timeout(at(10)), Some(Beat::SendPing(_))));
        (1..=heard).for_each(|second| pulse.on_input(at(second)));

        assert_eq!(
            pulse.poll_timeout(),
            Some(Deadline { at: at(stuck), why: TimerKind::Stall }),
            "heard until {heard}"
        );
        assert_eq!(pulse.handle_timeout(at(stuck)), Some(Beat::Stalled { stuck_for: Duration::from_secs(stuck) }));
    }
}

#[test]
fn progress_forgives_a_stall_in_time_and_not_later() {
    let mut pulse = pulse();
    let nonce = ask(&mut pulse, at(0));
    pulse.on_pong(nonce, at(0));

    pulse.on_waiting(at(0));
    pulse.on_progress(ms(14_999));
    assert!(matches!(pulse.handle_timeout(at(15)), Some(Beat::SendPing(_))));
    pulse.on_progress(at(30));

    assert_eq!(pulse.handle_timeout(at(30)), Some(Beat::Stalled { stuck_for: Duration::from_millis(15_001) }));
}

#[test]
fn a_pong_that_answers_nothing_changes_nothing() {
    let mut pulse = pulse();
    let nonce = ask(&mut pulse, at(0));
    let wrong = (u64::from_be_bytes(nonce) ^ 1).to_be_bytes();

    assert_eq!(pulse.on_pong(wrong, at(1)), PongResult::Unmatched);
    assert_eq!(pulse.on_pong(nonce, at(2)), PongResult::Matched(Duration::from_secs(2)));
    assert_eq!(pulse.on_pong(nonce, at(3)), PongResult::Unmatched);
    assert_eq!(pulse.rtt().map(|rtt| rtt.latest), Some(Duration::from_secs(2)));
}

#[test]
fn an_answer_that_overtakes_the_report_of_its_writing_counts() {
    let mut pulse = pulse();
    let Some(Beat::SendPing(nonce)) = pulse.handle_timeout(at(0)) else { panic!("no question") };
    pulse.on_ping_sent(at(0));

    assert_eq!(pulse.on_pong(nonce, ms(3)), PongResult::Matched(Duration::from_millis(3)));
    pulse.on_flushed(ms(4));
    assert_eq!(pulse.poll_timeout(), Some(Deadline { at: at(10), why: TimerKind::Ping }));
}

#[test]
fn the_round_trip_is_smoothed() {
    let mut pulse = pulse();
    let mut now = at(0);
    for rtt in [80, 160] {
        let nonce = ask(&mut pulse, now);
        pulse.on_pong(nonce, now + Duration::from_millis(rtt));
        now = now + INTERVAL;
    }

    let (latest, smoothed) = (Duration::from_millis(160), Duration::from_millis(90));
    assert_eq!(pulse.rtt(), Some(Rtt { latest, smoothed }));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Input,
    Pong(bool),
    Sent,
    Flushed,
    Waiting,
    Progress,
    Time,
}

proptest! {
    /// Beside the machine runs the rule as it stands in the specification: no death without silence since a taken
    /// question, none later than the rule allows, one question at a time, and L3.
    #[test]
    fn death_comes_by_the_rule_alone(
        seed: u64,
        steps in prop::collection::vec((step(), 0..9_000_u64), 1..200),
    ) {
        let mut pulse = Pulse::new(Heartbeat { interval: INTERVAL, tolerance: TOLERANCE }, Rng::new(seed), at(0));
        let (mut now, mut outstanding, mut sent, mut asked) = (at(0), None, None, None);
        let (mut heard, mut stuck, mut nonces) = (at(0), None::<Instant>, vec![]);
        for (step, pause) in steps {
            now = now + Duration::from_millis(pause);
            match pulse.handle_timeout(now) {
                Some(Beat::SendPing(nonce)) => {
                    prop_assert_eq!(outstanding.replace(nonce), None);
                    prop_assert!(!nonces.contains(&nonce));
                    nonces.push(nonce);
                    (sent, asked) = (None, None);
                }
                Some(Beat::Dead { silent_for }) => {
                    prop_assert!(asked.is_some_and(|flushed| flushed + TOLERANCE <= now && now.since(heard) >= TOLERANCE));
                    prop_assert_eq!(silent_for, now.since(heard));
                    prop_assert_eq!(pulse.poll_timeout(), None);
                    return Ok(());
                }
                Some(Beat::Stalled { .. }) => {
                    prop_assert!(stuck.is_some_and(|since| stuck_at(since, heard) <= now));
                    prop_assert_eq!(pulse.poll_timeout(), None);
                    return Ok(());
                }
                None => {}
            }
            prop_assert!(pulse.poll_timeout().is_none_or(|deadline| now < deadline.at));
            prop_assert!(asked.is_none_or(|flushed: Instant| now < flushed.max(heard) + INTERVAL + TOLERANCE));
            prop_assert!(asked.is_none_or(|flushed| heard >= flushed || now < flushed + TOLERANCE));
            prop_assert!(stuck.is_none_or(|since| now < stuck_at(since, heard)));
            match step {
                Step::Input => { pulse.on_input(now); heard = now; }
                Step::Pong(right) => {
                    let nonce = outstanding.filter(|_| right).unwrap_or([0; 8]);
                    heard = now;
                    let matched = matches!(pulse.on_pong(nonce, now), PongResult::Matched(_));
                    prop_assert_eq!(matched, right && sent.is_some());
                    if matched { (outstanding, sent, asked) = (None, None, None); }
                }
                Step::Sent => {
                    pulse.on_ping_sent(now);
                    if outstanding.is_some() { sent = sent.or(Some(now)); }
                }
                Step::Flushed => { pulse.on_flushed(now); stuck = None; if sent.is_some() { asked = asked.or(Some(now)); } }
                Step::Waiting => { pulse.on_waiting(now); stuck = stuck.or(Some(now)); }
                Step::Progress => { pulse.on_progress(now); stuck = stuck.map(|_| now); }
                Step::Time => {}
            }
        }
    }
}

fn stuck_at(since: Instant, heard: Instant) -> Instant {
    (since.max(heard) + TOLERANCE).min(since + TOLERANCE * 3)
}

fn step() -> impl Strategy<Value = Step> {
    let steps: Vec<_> = vec![
        Just(Step::Input).boxed(),
        any::<bool>().prop_map(Step::Pong).boxed(),
        Just(Step::Sent).boxed(),
        Just(Step::Flushed).boxed(),
        Just(Step::Waiting).boxed(),
        Just(Step::Progress).boxed(),
        Just(Step::Time).boxed(),
    ];
    prop::strategy::Union::new(steps)
}

fn pulse() -> Pulse {
    Pulse::new(Heartbeat { interval: INTERVAL, tolerance: TOLERANCE }, Rng::new(1), at(0))
}

fn ask(pulse: &mut Pulse, now: Instant) -> [u8; 8] {
    let Some(Beat::SendPing(nonce)) = pulse.handle_timeout(now) else { panic!("no question at {now:?}") };
    pulse.on_ping_sent(now);
    pulse.on_flushed(now);
    nonce
}

fn at(secs: u64) -> Instant {
    ms(secs * 1_000)
}

fn ms(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}
