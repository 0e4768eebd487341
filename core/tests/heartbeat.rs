//! The heartbeat between two sides, on a virtual clock.

use adit_core::{
    Cause, Code, Config, Duration, Event, Heartbeat,
    testing::{Options, Pair, Path},
};
use proptest::prelude::*;

#[test]
fn an_idle_session_lives_and_each_side_asks_once_an_interval() {
    let mut pair = Pair::with_heartbeat(secs(10), secs(15));
    let before = (pair.up.sent(), pair.down.sent());

    pair.run_for(secs(3_600));

    assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
    let sent = (pair.up.sent() - before.0, pair.down.sent() - before.1);
    let beat = 2 * PING; // a question and an answer
    assert!((359 * beat..=361 * beat).contains(&sent.0) && sent.0 == sent.1, "{sent:?}");
}

#[test]
fn a_peer_that_vanishes_is_dead_after_interval_and_tolerance_and_not_before() {
    let mut pair = Pair::with_heartbeat(secs(10), secs(15));
    (pair.up.hole, pair.down.hole) = (true, true);

    pair.run_for(millis(24_900));
    assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
    pair.run_for(millis(100));

    for cause in [pair.agent.cause(), pair.network.cause()] {
        let Some(Cause::Dead { silent_for }) = cause else { panic!("{cause:?}") };
        assert!(millis(24_900) <= *silent_for && *silent_for <= secs(25), "{silent_for:?}");
    }
}

#[test]
fn to_be_handed_no_octets_is_no_sign_of_life() {
    let mut pair = Pair::with_heartbeat(secs(10), secs(15));
    (pair.up.hole, pair.down.hole) = (true, true);

    pair.run_for(millis(24_900));
    let now = pair.now();
    pair.network.link.handle_input(&[], now);
    pair.run_for(millis(100));

    assert!(matches!(pair.network.cause(), Some(Cause::Dead { .. })), "{:?}", pair.network.cause());
}

#[test]
fn the_round_trip_is_what_a_question_and_its_answer_took() {
    let (up, down) = [70, 30].map(|latency| Path { latency: millis(latency), ..Path::default() }).into();
    let pair = Pair::established(Options { up, down, ..Options::default() });

    assert_eq!((pair.agent.link.rtt(), pair.network.link.rtt()), (Some(millis(100)), Some(millis(100))));
}

#[test]
fn silence_that_ends_in_time_is_forgiven() {
    let mut pair = Pair::with_heartbeat(secs(10), secs(15));

    for _ in 0..10 {
        pair.run_for(secs(30));
        (pair.up.stalled, pair.down.stalled) = (true, true);
        pair.run_for(millis(14_000));
        (pair.up.stalled, pair.down.stalled) = (false, false);
    }

    pair.run_for(secs(60));
    assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
}

#[test]
fn when_one_direction_dies_the_side_that_hears_nothing_notices_and_tells_the_other() {
    let mut up = Pair::established(Options { resumable: false, ..Options::default() });
    up.up.hole = true;
    up.run_for(secs(25));
    assert!(matches!(up.network.cause(), Some(Cause::Dead { .. })), "{:?}", up.network.cause());
    assert_eq!(closes(&up.agent.take_events()), [Code::DEAD]);

    let mut down = Pair::established(Options { resumable: false, ..Options::default() });
    down.down.hole = true;
    down.run_for(secs(25));
    assert!(matches!(down.agent.cause(), Some(Cause::Dead { .. })), "{:?}", down.agent.cause());
    assert_eq!(closes(&down.network.take_events()), [Code::DEAD]);
}

#[test]
fn the_agent_chooses_the_heartbeat_of_both_sides_within_what_is_allowed() {
    let heartbeat = Heartbeat { interval: secs(2), tolerance: secs(3) };
    let mut pair = Pair::established(Options { agent: agent_that_asks_for(heartbeat), ..Options::default() });
    (pair.up.hole, pair.down.hole) = (true, true);

    pair.run_for(millis(4_900));
    assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
    pair.run_for(millis(100));
    assert!(pair.agent.cause().is_some() && pair.network.cause().is_some());

    let greedy = Heartbeat { interval: millis(1), tolerance: millis(1) };
    let mut pair = Pair::established(Options { agent: agent_that_asks_for(greedy), ..Options::default() });
    (pair.up.hole, pair.down.hole) = (true, true);
    pair.run_for(millis(1_400));
    assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
}

#[test]
fn a_machine_that_slept_asks_once_and_goes_on_if_the_other_is_still_there() {
    let mut pair = Pair::with_heartbeat(secs(10), secs(15));
    pair.run_for(secs(5)); // no question is outstanding
    let before = pair.up.sent();

    pair.sleep(secs(8 * 3_600));
    pair.run_for(secs(1));

    assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
    assert_eq!(pair.up.sent() - before, 2 * PING, "one question and one answer");
}

#[test]
fn a_machine_that_slept_on_a_question_judges_before_it_asks_anew() {
    let mut pair = Pair::established(Options { resumable: false, ..Options::default() });
    pair.down.hole = true;
    pair.run_for(secs(11)); // the agent has asked and hears nothing
    pair.down.hole = false;

    pair.sleep(secs(3 * 3_600));
    pair.run_for(millis(1));

    assert!(matches!(pair.agent.cause(), Some(Cause::Dead { silent_for }) if *silent_for > secs(3 * 3_600)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the path is like: a healthy one is never called dead, and a hole is noticed between the tolerance and
    /// interval + tolerance + what was still on the way.
    #[test]
    fn a_hole_is_noticed_in_time_and_only_a_hole(
        interval in 1_000..20_000_u64,
        tolerance in 1_000..20_000_u64,
        latency in 0..400_u64,
        piece in 1..64_usize,
        healthy in 0..120_000_u64,
        seed: u64,
    ) {
        let heartbeat = Heartbeat { interval: millis(interval), tolerance: millis(tolerance).max(millis(interval) / 2) };
        let path = Path { latency: millis(latency), piece, ..Path::default() };
        let mut pair = Pair::established(Options {
            agent: agent_that_asks_for(heartbeat),
            up: path.clone(),
            down: path,
            seed,
            ..Options::default()
        });

        pair.run_for(millis(healthy));
        prop_assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));

        (pair.up.hole, pair.down.hole) = (true, true);
        pair.run_for(heartbeat.interval + heartbeat.tolerance);
        for cause in [pair.agent.cause(), pair.network.cause()] {
            let Some(Cause::Dead { silent_for }) = cause else { panic!("{cause:?}") };
            prop_assert!(heartbeat.tolerance <= *silent_for);
            prop_assert!(*silent_for <= heartbeat.interval + heartbeat.tolerance + millis(latency));
        }
    }
}

/// The octets of a PING or a PONG.
const PING: u64 = 16;

fn closes(events: &[Event]) -> Vec<Code> {
    let code = |event: &Event| if let Event::Closed(Cause::Remote(close)) = event { Some(close.code) } else { None };
    events.iter().filter_map(code).collect()
}

fn agent_that_asks_for(heartbeat: Heartbeat) -> Config {
    let mut config = Config::agent();
    config.heartbeat = heartbeat;
    config
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
