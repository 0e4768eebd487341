//! A link that is silent while somebody waits: asked early, and doubted long before it is dead.

use adit_core::{
    Config, Duration, StreamId,
    testing::{Options, Pair, Path},
};

/// HB-014
#[test]
fn a_link_on_which_somebody_waits_is_asked_early_and_doubted_a_second_later() {
    let (mut pair, _) = talking(Options::default());
    pair.run_for(millis(100));
    (pair.up.hole, pair.down.hole) = (true, true);

    // All that the agent had to say is acknowledged: nothing but its question is owed.
    pair.run_for(millis(800));
    let before = pair.up.sent();
    pair.run_for(millis(200));
    assert_eq!(pair.up.sent() - before, PING);
    pair.run_for(millis(800));
    assert!(!pair.agent.link.is_silent());
    pair.run_for(millis(200));

    assert!(pair.agent.link.is_silent());
    assert_eq!(pair.agent.cause(), None, "it is not dead before the tolerance");
    assert_eq!(pair.up.sent() - before, PING, "it is asked once");
}

#[test]
fn where_answers_take_long_nobody_is_asked_sooner_than_two_of_them_take() {
    let slow = Path { latency: millis(400), ..Path::default() };
    let (mut pair, _) = talking(Options { up: slow.clone(), down: slow, ..Options::default() });
    pair.run_for(millis(600)); // the last acknowledgement has come in this time
    (pair.up.hole, pair.down.hole) = (true, true);
    let before = pair.up.sent();

    pair.run_for(millis(950));
    assert_eq!(pair.up.sent() - before, 0, "twice 800 ms are not over");
    pair.run_for(millis(700));

    assert_eq!(pair.up.sent() - before, PING);
}

#[test]
fn what_is_sent_and_not_acknowledged_is_owed_from_then_on() {
    let (mut pair, stream) = talking(Options::default());
    pair.run_for(millis(5_000)); // asked early and answered: all is quiet
    (pair.up.hole, pair.down.hole) = (true, true);

    assert_eq!(pair.agent.write(stream, b"late"), Ok(4));
    pair.run_for(millis(1_950));
    assert!(!pair.agent.link.is_silent(), "nobody owed anything before");
    pair.run_for(millis(100));

    assert!(pair.agent.link.is_silent());
}

#[test]
fn a_network_doubts_nobody_for_it_cannot_dial() {
    let (mut pair, stream) = talking(Options::default());
    (pair.up.hole, pair.down.hole) = (true, true);

    assert_eq!(pair.network.write(stream, b"late"), Ok(4));
    pair.run_for(millis(5_000));

    assert_eq!((pair.agent.link.is_silent(), pair.network.link.is_silent()), (true, false));
}

#[test]
fn an_octet_ends_the_doubt_and_the_pause_is_no_death() {
    let (mut pair, stream) = talking(Options::default());
    (pair.up.stalled, pair.down.stalled) = (true, true);
    assert_eq!(pair.agent.write(stream, b"late"), Ok(4));
    pair.run_for(millis(14_000));
    assert!(pair.agent.link.is_silent());

    (pair.up.stalled, pair.down.stalled) = (false, false);
    pair.settle();

    assert!(!pair.agent.link.is_silent());
    assert_eq!((pair.agent.cause(), pair.network.read(stream)), (None, Ok((b"late".to_vec(), false))));
}

#[test]
fn a_part_of_a_record_is_a_sign_of_life() {
    let (mut pair, stream) = talking(Options::default());
    (pair.up.hole, pair.down.hole) = (true, true);
    assert_eq!(pair.agent.write(stream, b"late"), Ok(4));

    for _ in 0..100 {
        pair.run_for(millis(500));
        let now = pair.now();
        pair.agent.link.handle_life(now); // TLS has made nothing of it yet
        assert!(!pair.agent.link.is_silent());
    }

    assert!(matches!(pair.agent.cause(), None | Some(adit_core::Cause::Unacknowledged)), "{:?}", pair.agent.cause());
    let (mut pair, _) = talking(Options::default());
    (pair.up.hole, pair.down.hole) = (true, true);
    pair.run_for(millis(10_000));
    for _ in 0..14 {
        pair.run_for(millis(1_000));
        let now = pair.now();
        pair.agent.link.handle_life(now);
    }
    assert_eq!(pair.agent.cause(), None, "any octet is life, long after the tolerance");
}

#[test]
fn nobody_waits_without_streams_in_a_drain_or_where_no_other_link_can_follow() {
    let silent = |mut pair: Pair| {
        pair.run_for(millis(500));
        (pair.up.hole, pair.down.hole) = (true, true);
        let before = pair.up.sent();
        pair.run_for(millis(5_000));
        (pair.agent.link.is_silent(), pair.up.sent() - before)
    };
    let (mut ended, stream) = talking(Options::default());
    ended.agent.session().reset(stream, adit_core::Code::CANCELLED);
    ended.network.session().reset(stream, adit_core::Code::CANCELLED);
    ended.settle();
    ended.agent.session().release(stream);
    ended.network.session().release(stream);
    let (mut drains, _) = talking(Options::default());
    let now = drains.now();
    drains.network.session().drain(adit_core::Code::SHUTDOWN, None, "", now);
    drains.settle();
    let (unkept, _) = talking(Options { resumable: false, ..Options::default() });
    let mut never = Config::agent();
    never.resume_window = Duration::ZERO;
    let (never, _) = talking(Options { agent: never, ..Options::default() });

    for (why, pair) in [("ended", ended), ("drains", drains), ("unkept", unkept), ("never", never)] {
        assert_eq!(silent(pair), (false, 0), "{why}: neither doubted nor asked before it is due");
    }
}

#[test]
fn an_open_stream_that_says_nothing_costs_no_question_more() {
    let (mut pair, _) = talking(Options::default());
    pair.run_for(millis(5_000));
    let before = pair.up.sent();

    pair.run_for(millis(600_000));

    let sent = pair.up.sent() - before;
    assert!((59 * 2 * PING..=61 * 2 * PING).contains(&sent), "{sent} octets");
    assert!(!pair.agent.link.is_silent());
}

/// A link that is full to the brim is slow, and not silent: its round trip says so, and before there is one the age of the
/// question that waits in it.
#[test]
fn a_link_that_is_full_is_not_doubted() {
    for (up, down) in [(true, false), (false, true), (true, true)] {
        let slow = Path { latency: millis(300), rate: Some(8_000), capacity: 192 << 10, piece: 1_448 };
        let (mut pair, stream) = talking(Options { up: slow.clone(), down: slow, ..Options::default() });
        let (mut doubts, mut lasts, mut longest) = (0, 0, 0);

        for _ in 0..3_000 {
            if up {
                let _ = pair.agent.write(stream, &[1; 64 << 10]);
                let _ = pair.network.read(stream);
            }
            if down {
                let _ = pair.network.write(stream, &[1; 64 << 10]);
                let _ = pair.agent.read(stream);
            }
            pair.run_for(millis(100));
            lasts = if pair.agent.link.is_silent() { lasts + 1 } else { 0 };
            doubts += u32::from(lasts > 0);
            longest = longest.max(lasts);
        }

        assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
        // Where nothing but acknowledgements comes back, it is learned from the first pauses.
        let text =
            format!("{doubts} tenths of a second of 300 s in doubt, up to {longest} of them, up {up}, down {down}");
        assert!(doubts <= 30 && longest <= 9, "{text}");
    }
}

/// A stream over which both have said something that is acknowledged.
fn talking(options: Options) -> (Pair, StreamId) {
    let mut pair = Pair::established(options);
    pair.run_for(millis(2_000)); // the first question is answered
    let stream = pair.open();
    pair.settle();
    pair.agent.session().accept_stream(stream);
    assert_eq!((pair.agent.write(stream, b"one"), pair.network.write(stream, b"two")), (Ok(3), Ok(3)));
    pair.settle();
    assert!(pair.agent.read(stream).is_ok() && pair.network.read(stream).is_ok());
    pair.settle();
    (pair, stream)
}

/// A question or an answer with its header.
const PING: u64 = 16;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
