//! What each frame does in each state of a stream and of a session, and what may not be said at all.
#![cfg(feature = "testing")]

mod common;

use adit_core::{
    AnswerError, Bind, BindError, BindId, BindRefusal, Bound, Cause, Close, Code, Command, CommandResult, Config,
    Duration, Event, GoAway, Loss, MAX_OFFSET, Open, OpenError, ReadError, Refusal, TLS_ENDS_ELSEWHERE, TlsEnd, Unbind,
    Violation,
    frame::{Encoded, Kind},
    testing::{Lone, raw},
};
use bytes::Bytes;
use common::*;

/// STREAM-007, STREAM-008, STREAM-009, STREAM-013, END-008
#[test]
fn every_frame_in_every_state_of_a_stream_does_what_the_table_says() {
    let one = stream(1);
    let frames = [
        open(1),
        data(1, 1),
        Encoded::fin(one, 0),
        Encoded::reset(one, Code(9)),
        Encoded::stop(one, Code(9)),
        Encoded::credit(one, 1 << 20),
        Encoded::blocked(one, 1),
        Encoded::accept(one),
    ];
    for row in TABLE {
        let (state, answers) = row.split_once(':').unwrap();
        for (frame, answer) in frames.iter().zip(answers.split_whitespace()) {
            for released in [false, true] {
                let mut lone = Lone::established_network(Config::network());
                lone.hear_frames(&brought_to(state));
                if released {
                    lone.session().release(one);
                    lone.say();
                }
                lone.hear_frames(core::slice::from_ref(frame));

                let cause = violation(answer).map(Cause::Violation);
                assert_eq!(lone.cause(), cause.as_ref(), "{:?} while {state}, let go: {released}", frame.kind());
            }
        }
    }
}

/// What the network answers an agent for its stream 1; a dot where the frame is taken or ignored.
const TABLE: [&str; 7] = [
    // state           OPEN  DATA  FIN   RESET STOP CREDIT BLOCKED ACCEPT
    "idle:              .     idle  idle  idle  idle idle   idle    opener",
    "open:              order .     .     .     .    .      .       opener",
    "finished:          order ended ended .     .    .      .       opener",
    "reset:             order ended ended .     .    .      .       opener",
    "stopped:           order .     .     .     .    .      .       opener",
    "reset and stopped: order ended ended .     .    .      .       opener",
    "skipped:           order ended ended .     .    .      .       opener",
];

fn brought_to(state: &str) -> Vec<Encoded> {
    let one = stream(1);
    let (fin, reset, stop) = (Encoded::fin(one, 0), Encoded::reset(one, Code(9)), Encoded::stop(one, Code(9)));
    match state {
        "idle" => vec![],
        "open" => vec![open(1)],
        "finished" => vec![open(1), fin],
        "reset" => vec![open(1), reset],
        "stopped" => vec![open(1), stop],
        "reset and stopped" => vec![open(1), reset, stop],
        "skipped" => vec![open(3)],
        _ => panic!("no state {state}"),
    }
}

fn violation(answer: &str) -> Option<Violation> {
    match answer {
        "." => None,
        "idle" => Some(Violation::StreamIdle),
        "order" => Some(Violation::StreamOrder),
        "ended" => Some(Violation::StreamEnded),
        "opener" => Some(Violation::AcceptByOpener),
        _ => panic!("no answer {answer}"),
    }
}

/// STREAM-007: nor does a peer know streams that this side has not opened.
#[test]
fn frames_for_a_stream_that_this_side_never_opened_end_the_session() {
    for frame in [
        data(2, 1),
        Encoded::fin(stream(2), 0),
        Encoded::reset(stream(2), Code(0)),
        Encoded::stop(stream(2), Code(0)),
        Encoded::credit(stream(2), 1),
        Encoded::blocked(stream(2), 1),
        Encoded::accept(stream(2)),
    ] {
        let mut lone = Lone::established_network(Config::network());
        lone.hear_frames(&[frame]);
        assert_violation(&mut lone, Violation::StreamIdle);
    }
    let mut lone = Lone::established_network(Config::network());
    lone.session().open(Open::default()).unwrap(); // its OPEN has not been said
    lone.hear_frames(&[data(2, 1)]);
    assert_violation(&mut lone, Violation::StreamIdle);
    let mut lone = Lone::established_network(Config::network());
    lone.hear_frames(&[open(2)]);
    assert_violation(&mut lone, Violation::StreamParity);
}

/// END-002
#[test]
fn a_final_offset_that_is_not_what_came_ends_the_session() {
    for (offset, sound) in [(4, false), (5, true), (6, false), (u64::MAX, false)] {
        let mut lone = Lone::established_network(Config::network());
        lone.hear_frames(&[open(1), data(1, 5), Encoded::fin(stream(1), offset)]);

        let expected = (!sound).then_some(Violation::FinalOffset);
        let found = match lone.cause() {
            Some(Cause::Violation(violation)) => Some(*violation),
            _ => None,
        };
        assert!(found == expected || found == Some(Violation::OffsetRange) && !sound, "{offset}: {found:?}");
    }
}

/// END-004
#[test]
fn a_stop_is_answered_by_a_reset_of_its_code_and_nothing_more_is_sent() {
    let mut lone = Lone::established_network(Config::network());
    lone.hear_frames(&[open(1)]);
    let session = lone.session();
    session.write(stream(1), &mut Bytes::from(vec![1; 50_000])).unwrap();
    lone.say();

    lone.hear_frames(&[Encoded::stop(stream(1), Code(0x2345)), Encoded::stop(stream(1), Code(0x1111))]);
    lone.hear_frames(&[Encoded::credit(stream(1), 1 << 30)]);

    let said: Vec<_> = lone.say().into_iter().filter(|frame| frame.kind() != Kind::Ack).collect();
    assert_eq!(said, [Encoded::reset(stream(1), Code(0x2345))]);
}

/// END-005
#[test]
fn a_reset_after_everything_was_read_is_ignored_and_before_it_is_not() {
    let mut lone = Lone::established_network(Config::network());
    lone.hear_frames(&[open(1), data(1, 5), Encoded::fin(stream(1), 5)]);
    assert_eq!(read(&mut lone, 1), Ok(5));
    lone.hear_frames(&[Encoded::reset(stream(1), Code(7))]);
    assert_eq!(lone.session().read(stream(1), 9), Ok(None));

    let mut lone = Lone::established_network(Config::network());
    lone.hear_frames(&[open(1), data(1, 5), Encoded::fin(stream(1), 5), Encoded::reset(stream(1), Code(7))]);
    assert_eq!(read(&mut lone, 1), Err(ReadError::Reset(Code(7))));
}

/// GO-001, GO-002
#[test]
fn a_goaway_may_lower_its_stream_and_not_raise_it() {
    let goaway =
        |last| Encoded::message(Kind::GoAway, &GoAway { last, code: Code(0), retry_after: None, text: String::new() });
    let mut lone = Lone::established_network(Config::network());

    lone.hear_frames(&[goaway(8), goaway(8), goaway(4)]);
    assert_eq!((lone.events().len(), lone.cause()), (1, None));
    lone.hear_frames(&[goaway(6)]);

    assert_violation(&mut lone, Violation::GoAwayRaised);
}

/// GO-001
#[test]
fn streams_above_a_goaway_are_refused_and_those_below_go_on() {
    let mut lone = Lone::established_network(Config::network());
    lone.hear_frames(&[open(1)]);
    lone.events();
    let now = lone.now();
    lone.session().drain(Code::SHUTDOWN, None, "", now);
    lone.say();

    lone.hear_frames(&[open(3), data(3, 10), data(1, 10), Encoded::fin(stream(3), 10)]);

    let said: Vec<_> = lone.say().into_iter().filter(|frame| frame.header()[7] == 3).collect();
    assert!(said.contains(&Encoded::reset(stream(3), Code::REFUSED)), "{said:?}");
    assert_eq!(lone.events(), [Event::Readable(stream(1))]);
    assert_eq!(lone.link.session().unwrap().live_streams(), 1);
}

/// MSG-006
#[test]
fn messages_of_the_wrong_side_end_the_session() {
    for kind in [Kind::Bound, Kind::Rejected, Kind::Unbound, Kind::Command, Kind::Revocations] {
        let mut lone = Lone::established_network(Config::network());
        lone.hear(&plausible(kind, 0));
        assert_violation(&mut lone, Violation::WrongSide);
    }
    for kind in [Kind::Bind, Kind::Unbind, Kind::CommandResult, Kind::Withheld] {
        let mut lone = Lone::established_agent(Config::agent());
        lone.hear(&plausible(kind, 0));
        assert_violation(&mut lone, Violation::WrongSide);
    }
}

/// CODE-003, CODE-004
#[test]
fn after_a_violation_nothing_in_the_same_read_is_processed() {
    let mut lone = Lone::established_network(Config::network());
    let mut octets = raw(0x7f, 0, b"");
    open(1).write(&mut octets);
    Encoded::ping([1; 8]).write(&mut octets);

    lone.hear(&octets);
    lone.hear_frames(&[open(1)]);

    assert_violation(&mut lone, Violation::UnknownType);
    assert_eq!(lone.link.session().unwrap().live_streams(), 0);
}

/// CODE-002
#[test]
fn the_clause_that_was_broken_is_named_in_the_text() {
    let mut lone = Lone::established_network(Config::network());
    lone.hear_frames(&[open(2)]);

    let said = lone.say();
    let close = <Close as adit_core::Message>::decode(said.last().unwrap().payload()).unwrap();
    assert_eq!(close.code, Code::PROTOCOL);
    assert!(close.text.contains("STREAM-001"), "{}", close.text);
}

/// GO-006
#[test]
fn a_closing_link_ends_by_its_deadline_whatever_the_peer_does() {
    let mut lone = Lone::established_network(Config::network());
    lone.link.close(Code::SHUTDOWN, "bye", lone.now());
    let close = lone.link.poll_transmit(lone.now()).unwrap();

    let (now, deadline) = (lone.now(), lone.link.poll_timeout().unwrap());
    assert_eq!(deadline.at.since(now), Duration::from_secs(5));
    for millis in [0, 1_000, 4_999] {
        let now = now + Duration::from_millis(millis);
        lone.link.handle_written(0, close.len(), now); // the transport takes nothing
        lone.hear_frames(&[open(1), Encoded::ping([1; 8])]);
        assert_eq!(lone.link.poll_transmit(now), None);
        lone.link.handle_timeout(now);
        assert!(!lone.link.is_finished());
    }
    lone.link.handle_timeout(deadline.at);

    assert!(lone.link.is_finished());
    assert_eq!(lone.events(), [Event::Closed(Cause::Local(Code::SHUTDOWN))]);
    assert_eq!(lone.link.poll_timeout(), None);
}

/// FRAME-010
#[test]
fn every_frame_cut_anywhere_does_nothing() {
    for kind in Kind::ALL {
        if *kind == Kind::Close {
            continue;
        }
        let frame = plausible(*kind, if *kind == Kind::Accept { 2 } else { 1 });
        for end in 0..frame.len() {
            let mut lone = Lone::established_network(Config::network());
            lone.hear_frames(&[open(1)]);
            lone.session().open(Open::default()).unwrap();
            if *kind == Kind::Open {
                continue;
            }
            lone.say();
            lone.events();

            lone.hear(&frame[..end]);
            assert_eq!((lone.events(), lone.say(), lone.cause()), (vec![], vec![], None), "{kind:?} cut at {end}");
            lone.link.handle_eof(false, lone.now());
            assert_eq!(lone.cause(), Some(&Cause::Eof { clean: false }), "{kind:?} cut at {end}");
        }
    }
}

/// CREDIT-002, CREDIT-003
#[test]
fn data_up_to_the_credit_is_delivered_and_one_octet_more_is_not() {
    let window = 1_024;
    let mut lone = Lone::established_network(small_windows(window));

    lone.hear_frames(&[open(1), data(1, 1_000), data(1, 24)]);
    assert_eq!(lone.cause(), None);
    lone.hear_frames(&[data(1, 1)]);

    assert_violation(&mut lone, Violation::BeyondCredit);
    assert_eq!(read(&mut lone, 1), Ok(1_024));
}

/// CREDIT-002
#[test]
fn data_that_ends_beyond_the_credit_is_refused_whole() {
    let mut lone = Lone::established_network(small_windows(1_024));

    lone.hear_frames(&[open(1), data(1, 1_025)]);

    assert_violation(&mut lone, Violation::BeyondCredit);
    assert_eq!(read(&mut lone, 1), Err(ReadError::Lost(Code::SESSION_LOST)));
}

/// CREDIT-004
#[test]
fn offsets_and_counts_beyond_the_range_are_violations() {
    let id = stream(1);
    for beyond in [MAX_OFFSET + 1, u64::MAX] {
        for frame in [Encoded::credit(id, beyond), Encoded::streams(beyond), Encoded::blocked(id, beyond)] {
            let mut lone = Lone::established_network(Config::network());
            lone.hear_frames(&[open(1), frame]);
            assert_violation(&mut lone, Violation::OffsetRange);
        }
    }
    let mut lone = Lone::established_network(Config::network());
    lone.hear_frames(&[open(1), Encoded::streams(MAX_OFFSET), Encoded::blocked(id, MAX_OFFSET)]);
    assert_eq!(lone.cause(), None);
}

/// CREDIT-001, CREDIT-004
#[test]
fn the_highest_credit_is_taken_and_lower_ones_change_nothing() {
    let mut lone = Lone::established_network(Config::network());
    let id = stream(1);

    lone.hear_frames(&[open(1), Encoded::credit(id, MAX_OFFSET), Encoded::credit(id, 0), Encoded::streams(0)]);
    let session = lone.session();
    session.write(id, &mut Bytes::from(vec![7; 100_000])).unwrap();

    let sent: usize =
        lone.say().iter().filter(|frame| frame.kind() == Kind::Data).map(|frame| frame.payload().len()).sum();
    assert_eq!((sent, lone.cause()), (100_000, None));
}

/// CREDIT-010
#[test]
fn a_window_grows_for_a_reader_who_has_read_half_of_it_and_for_no_slower_one() {
    for (read, grown) in [(512, 1_024), (511, 0)] {
        let mut lone = Lone::established_network(small_windows(1_024));
        lone.hear_frames(&[open(1), data(1, 1_024)]);
        lone.session().read(stream(1), read).unwrap();

        lone.hear_frames(&[Encoded::blocked(stream(1), 1_024)]);

        assert_eq!(lone.session().reserved(), grown, "{read} octets were read");
    }
}

/// CREDIT-007
#[test]
fn a_window_that_grew_by_little_is_not_announced_for_that() {
    let mut lone = Lone::established_network(network(|config| {
        (config.window, config.window_eager, config.pool) = (1_024, 1_024, 1_224);
    }));
    lone.hear_frames(&[open(1)]);
    for announced in [2_048_u64, 3_072] {
        lone.hear_frames(&[data(1, 1_024)]);
        lone.session().read(stream(1), 1_024).unwrap();
        assert!(lone.say().contains(&Encoded::credit(stream(1), announced)));
    }

    lone.hear_frames(&[Encoded::blocked(stream(1), 2_048)]);

    assert_eq!((lone.session().reserved(), counted(&lone.say())), (100, vec![]));
}

#[test]
fn streams_begin_with_a_large_window_while_half_of_the_pool_stays_free() {
    let mut lone = Lone::established_network(network(|config| {
        (config.window, config.window_eager, config.pool) = (1_024, 11_264, 40_960);
    }));

    let reserved = [1, 3, 5].map(|id| {
        lone.hear_frames(&[open(id)]);
        lone.session().reserved()
    });

    assert_eq!(reserved, [10_240; 3]);
    assert_eq!(counted(&lone.say()), [Kind::Credit]);
}

/// STREAM-005
#[test]
fn a_lower_grant_of_streams_takes_nothing_back() {
    let mut lone = Lone::established_network(Config::network());

    lone.hear_frames(&[Encoded::streams(101), Encoded::streams(3)]);
    let session = lone.session();
    for _ in 0..101 {
        session.open(Open::default()).unwrap();
    }

    assert_eq!(session.open(Open::default()), Err(OpenError::Limit));
}

/// RES-002
#[test]
fn an_acknowledgement_beyond_what_was_sent_ends_the_session() {
    let mut lone = Lone::established_network(Config::network());
    lone.session().open(Open::default()).unwrap();
    let sent = lone.say().iter().filter(|frame| frame.is_counted()).count() as u64;
    assert!(sent > 0);

    lone.hear_frames(&[Encoded::ack(sent), Encoded::ack(0), Encoded::ack(sent)]);
    assert_eq!(lone.cause(), None);
    lone.hear_frames(&[Encoded::ack(sent + 1)]);

    assert_violation(&mut lone, Violation::AckRange);
}

/// RES-002
#[test]
fn the_highest_acknowledgement_there_is_costs_no_loop() {
    let mut lone = Lone::established_network(Config::network());

    lone.hear_frames(&[Encoded::ack(u64::MAX)]);

    assert!(matches!(lone.cause(), Some(Cause::Violation(Violation::AckRange | Violation::OffsetRange))));
}

/// RES-003
#[test]
fn counted_frames_are_acknowledged_after_25_ms_or_64_kib() {
    let mut lone = Lone::established_network(Config::network());

    lone.hear_frames(&[open(1), data(1, 100)]);
    lone.say(); // grants ride out, and the acknowledgement with them
    lone.hear_frames(&[data(1, 100)]);
    assert_eq!(lone.say(), []);
    let due = lone.link.poll_timeout().unwrap().at;
    assert_eq!(due.since(lone.now()), Duration::from_millis(25));
    lone.link.handle_timeout(due);
    assert_eq!(lone.link.poll_transmit(due), Some(Encoded::ack(3)));

    let mut lone = Lone::established_network(network(|config| config.window = 256 << 10));
    lone.hear_frames(&[open(1), data(1, 16_000)]);
    lone.say();
    lone.hear_frames(&vec![data(1, 16_376); 4]);
    assert_eq!(lone.say(), [Encoded::ack(6)]);
}

/// END-003, END-004: what this side wanted no more stays unwanted, however the peer ends it.
#[test]
fn a_direction_that_was_stopped_gives_nothing_more_when_it_ends() {
    for end in [Encoded::fin(stream(1), 0), Encoded::reset(stream(1), Code(7))] {
        let mut lone = Lone::established_network(Config::network());
        lone.hear_frames(&[open(1)]);
        lone.session().stop(stream(1), Code::CANCELLED);
        lone.hear_frames(&[end]);

        assert_eq!(lone.session().read(stream(1), 9), Err(ReadError::Closed));
    }
}

/// STREAM-013
#[test]
fn a_reset_or_a_stop_before_anything_else_says_why_the_stream_was_not_taken() {
    for no in [Encoded::reset(stream(2), Code::UPSTREAM_REFUSED), Encoded::stop(stream(2), Code::UPSTREAM_REFUSED)] {
        let mut lone = Lone::established_network(Config::network());
        let id = lone.session().open(Open::default()).unwrap();
        lone.say();
        assert_eq!(lone.session().acceptance(id), None);
        lone.hear_frames(&[no]);

        assert_eq!(lone.session().acceptance(id), Some(Err(Code::UPSTREAM_REFUSED)));
    }
}

#[test]
fn this_side_opens_no_more_streams_at_once_than_it_allows_itself() {
    let mut lone = Lone::established_network(network(|config| config.open_streams = 2));
    let mut open = || lone.session().open(Open::default());
    let (first, _) = (open().unwrap(), open().unwrap());
    assert_eq!(open(), Err(OpenError::Limit));

    lone.session().release(first);
    lone.say();
    lone.hear_frames(&[Encoded::reset(first, Code::CANCELLED)]);

    assert!(lone.session().open(Open::default()).is_ok());
    assert_eq!(lone.session().open(Open::default()), Err(OpenError::Limit));
}

/// BIND-007, BIND-008
#[test]
fn binds_that_are_answered_leave_room_for_others() {
    let mut lone = Lone::established_network(network(|config| config.unanswered = 2));

    for id in 0..20 {
        lone.hear_frames(&[Encoded::message(Kind::Bind, &bind(id))]);
        for event in lone.events() {
            if let Event::Bind(request) = event {
                lone.session().bound(request, "tcp://:1");
            }
        }
    }

    assert_eq!(lone.cause(), None);
}

/// CMD-003
#[test]
fn a_command_that_comes_twice_is_told_once() {
    let mut lone = Lone::established_agent(Config::agent());

    lone.hear_frames(&[command(5), command(5)]);

    assert_eq!((lone.events().len(), lone.cause()), (1, None));
}

#[test]
fn to_write_nothing_takes_nothing_and_says_nothing() {
    let mut lone = Lone::established_network(small_windows(16_384));
    let id = lone.session().open(Open::default()).unwrap();
    assert_eq!(counted(&lone.say()), [Kind::Open]);

    assert_eq!(lone.session().write(id, &mut Bytes::new()), Ok(0));
    assert_eq!(lone.say(), []);
}

#[test]
fn whatever_there_is_to_say_alone_makes_a_link_want_to_say_it() {
    type Act = fn(&mut Lone<adit_core::side::Network>);
    let reasons: [(Kind, Act); 6] = [
        (Kind::Pong, |lone| lone.hear_frames(&[Encoded::ping([1; 8])])),
        (Kind::Command, |lone| assert!(lone.session().command(Command::Stop, "").is_ok())),
        (Kind::Revocations, |lone| assert!(lone.session().tell_revocations("list".into()).is_ok())),
        (Kind::Open, |lone| assert!(lone.session().open(Open::default()).is_ok())),
        (Kind::Data, |lone| assert!(lone.session().write(stream(3), &mut "x".into()).is_ok())),
        (Kind::Streams, |lone| lone.hear_frames(&[Encoded::reset(stream(1), Code::CANCELLED)])),
    ];
    for (kind, act) in reasons {
        let mut lone = Lone::established_network(network(|config| (config.streams, config.window_eager) = (4, 16_384)));
        lone.hear_frames(&[open(1), open(3)]);
        lone.session().release(stream(1));
        lone.say();
        assert!(!lone.link.wants_transmit());

        act(&mut lone);

        assert!(lone.link.wants_transmit(), "{kind:?}");
        let said: Vec<_> = lone.say().iter().map(Encoded::kind).filter(|kind| *kind != Kind::Ack).collect();
        assert_eq!(said, [kind]);
        assert!(!lone.link.wants_transmit());
    }
}

/// STREAM-013
#[test]
fn only_an_open_stream_of_the_peer_is_accepted_and_only_once() {
    let mut lone = Lone::established_network(small_windows(16_384));
    lone.hear_frames(&[open(1), open(3)]);

    lone.session().accept_stream(stream(1));
    lone.session().accept_stream(stream(1));
    lone.session().reset(stream(3), Code::APPLICATION);
    lone.session().accept_stream(stream(3));
    let ours = lone.session().open(Open::default()).unwrap();
    lone.session().accept_stream(ours);

    assert_eq!(counted(&lone.say()), [Kind::Accept, Kind::Reset, Kind::Open]);
}

#[test]
fn streams_of_a_session_that_is_over_are_forgotten_as_soon_as_the_application_lets_go() {
    let mut lone = Lone::established_network(Config::network());
    let ours = lone.session().open(Open::default()).unwrap();
    lone.hear_frames(&[open(1), open(3)]);
    let now = lone.now();
    lone.link.close(Code::SHUTDOWN, "", now);

    lone.session().reset(ours, Code::APPLICATION);
    lone.session().stop(stream(1), Code::APPLICATION);
    for id in [ours, stream(1), stream(3)] {
        lone.session().release(id);
    }

    assert_eq!(lone.session().live_streams(), 0);
    assert_eq!(counted(&lone.say()), []);
}

/// BIND-014
#[test]
fn a_bind_given_up_without_an_answer_takes_room_until_that_is_acknowledged() {
    let mut lone = Lone::established_agent(agent(|config| config.binds = 2));
    let session = lone.session();
    session.bind(&bind(1)).unwrap();
    session.unbind(&Unbind::new(BindId(1)));
    session.bind(&bind(2)).unwrap();
    assert_eq!(session.bind(&bind(3)), Err(BindError::Limit));
    assert_eq!(counted(&lone.say()), [Kind::Bind, Kind::Unbind, Kind::Bind]);

    lone.hear_frames(&[Encoded::ack(1)]);
    assert_eq!(lone.session().bind(&bind(3)), Err(BindError::Limit));
    lone.hear_frames(&[Encoded::ack(2)]);
    assert_eq!(lone.session().bind(&bind(3)), Ok(()));
    assert_eq!(lone.session().bind(&bind(4)), Err(BindError::Limit));
}

/// LIM-002
#[test]
fn a_bind_beyond_those_that_a_session_may_have_is_refused_and_harms_no_other() {
    let mut lone = Lone::established_network(network(|config| config.binds = 2));

    lone.hear_frames(&[1, 2, 3].map(|id| Encoded::message(Kind::Bind, &bind(id))));

    assert_eq!((lone.events().len(), lone.cause()), (2, None));
    assert_eq!(counted(&lone.say()), [Kind::Rejected]);
}

#[test]
fn a_bind_is_taken_back_when_it_is_in_force_and_not_before() {
    let refusal = || Refusal { code: Code::IN_USE, retry_after: None, text: String::new() };
    let mut lone = Lone::established_network(Config::network());
    lone.hear_frames(&[Encoded::message(Kind::Bind, &bind(1))]);
    let Some(Event::Bind(request)) = lone.events().pop() else { panic!("no bind") };

    assert!(!lone.session().unbound(BindId(1), refusal()));
    assert_eq!(counted(&lone.say()), []);
    lone.session().bound(request, "tcp://:1");
    assert!(lone.session().unbound(BindId(1), refusal()));
    assert!(!lone.session().unbound(BindId(1), refusal()));
    assert_eq!(counted(&lone.say()), [Kind::Bound, Kind::Unbound]);
}

/// BIND-013
#[test]
fn a_bind_that_is_taken_back_is_told_once_and_can_be_asked_for_again() {
    let no = || BindRefusal {
        id: BindId(1),
        refusal: Refusal { code: Code::IN_USE, retry_after: None, text: String::new() },
    };
    let bound = Bound { id: BindId(1), url: String::from("tcp://:1"), tls_end: Default::default() };
    let mut lone = Lone::established_agent(Config::agent());
    lone.session().bind(&bind(1)).unwrap();

    lone.hear_frames(&[Encoded::message(Kind::Unbound, &no())]);
    assert_eq!(lone.events(), [], "it is not in force");
    lone.hear_frames(&[Encoded::message(Kind::Bound, &bound), Encoded::message(Kind::Bound, &bound)]);
    assert_eq!(lone.events(), [Event::Bound(bound)]);
    lone.hear_frames(&[Encoded::message(Kind::Unbound, &no()), Encoded::message(Kind::Unbound, &no())]);
    assert_eq!(lone.events(), [Event::Unbound(no())]);

    assert_eq!((lone.session().bind(&bind(1)), lone.cause()), (Ok(()), None));
}

/// BIND-018
#[test]
fn a_bind_whose_tls_would_end_elsewhere_than_asked_is_given_up_and_harms_no_other() {
    let ends = [TlsEnd::Unsaid, TlsEnd::Network, TlsEnd::Agent, TlsEnd::Upstream];
    let urls = ["tls://a.example", "https://a.example"];
    let cases = urls.iter().flat_map(|url| ends.map(|asked| (url, asked)));
    for ((url, asked), said) in cases.flat_map(|case| ends.map(|said| (case, said))) {
        let mut lone = Lone::established_agent(Config::agent());
        lone.session().bind(&Bind { url: (*url).to_owned(), tls_end: asked, ..bind(1) }).unwrap();
        lone.say();
        let bound = Bound { id: BindId(1), url: (*url).to_owned(), tls_end: said };
        // What does not know of the field ends TLS of `https` itself.
        let by_scheme =
            said == TlsEnd::Unsaid && !(url.starts_with("https") && [TlsEnd::Agent, TlsEnd::Upstream].contains(&asked));

        lone.hear_frames(&[Encoded::message(Kind::Bound, &bound)]);

        let events = lone.events();
        if said == asked || by_scheme {
            assert_eq!((events, counted(&lone.say())), (vec![Event::Bound(bound)], vec![]), "{url} {asked:?} {said:?}");
        } else {
            let [Event::Rejected(no)] = &events[..] else { panic!("{url} {asked:?} {said:?}: {events:?}") };
            assert_eq!((no.id, no.refusal.code, &*no.refusal.text), (BindId(1), Code::UNSUPPORTED, TLS_ENDS_ELSEWHERE));
            assert_eq!(counted(&lone.say()), [Kind::Unbind], "{url} {asked:?} {said:?}");
            assert_eq!(lone.session().bind(&bind(1)), Ok(()), "the number is free: its answer has come");
        }
        assert_eq!(lone.cause(), None);
    }
}

/// LIM-003: an application that does not look leaves as many as its binds; then haste is charged.
#[test]
fn binds_that_come_and_go_before_anybody_looks_are_oddities_beyond_the_number_of_binds() {
    let mut lone = Lone::established_network(network(|config| (config.binds, config.oddities) = (3, 10)));
    let haste = [Encoded::message(Kind::Bind, &bind(1)), unbind(1)];

    (0..12).for_each(|_| lone.hear_frames(&haste));
    assert_eq!(lone.cause(), None);
    lone.hear_frames(&haste);

    assert_eq!(lone.cause(), Some(&Cause::Violation(Violation::Oddities)));
}

#[test]
fn no_more_commands_are_asked_than_may_be_without_an_answer() {
    let result =
        |id| Encoded::message(Kind::CommandResult, &CommandResult { id, code: Code::NO_ERROR, text: String::new() });
    let mut lone = Lone::established_network(network(|config| config.unanswered = 2));
    let ask = |lone: &mut Lone<_>| lone.session().command(Command::Stop, "");
    assert_eq!([(); 3].map(|()| ask(&mut lone)), [Ok(1), Ok(2), Err(AnswerError::Limit)]);

    lone.hear_frames(&[result(9)]); // nobody has asked
    assert_eq!((lone.events(), ask(&mut lone)), (vec![], Err(AnswerError::Limit)));
    lone.hear_frames(&[result(1)]);

    assert_eq!((lone.events().len(), ask(&mut lone)), (1, Ok(3)));
    assert_eq!(lone.cause(), None);
}

/// GO-009
#[test]
fn a_drain_is_announced_once() {
    let mut lone = Lone::established_network(small_windows(16_384));
    let now = lone.now();
    lone.session().open(Open::default()).unwrap();

    lone.session().drain(Code::SHUTDOWN, None, "", now);
    lone.session().drain(Code::REVOKED, None, "", now);

    assert_eq!(counted(&lone.say()), [Kind::GoAway, Kind::Open]);
}

/// GO-006
#[test]
fn a_lost_link_says_nothing_of_what_still_waited() {
    let mut lone = Lone::agent(Config::agent());
    let now = lone.now();
    lone.link.handle_loss(Loss::Reset, now); // HELLO has not been said

    assert_eq!(lone.say(), []);
    assert!(lone.link.is_finished());
}

/// LIM-003
#[test]
fn ten_oddities_are_forgiven_a_second() {
    let mut lone = Lone::established_network(network(|config| config.oddities = 20));
    let odd = raw(0x80, 0, &[]);
    lone.hear(&odd.repeat(20));
    lone.wait(Duration::from_secs(1));

    lone.hear(&odd.repeat(10));
    assert_eq!(lone.cause(), None);
    lone.hear(&odd);

    assert_violation(&mut lone, Violation::Oddities);
}

/// PRE-001, PRE-002
#[test]
fn an_extension_does_not_come_before_the_handshake() {
    let odd = raw(0x80, 0, &[]);
    let mut network = Lone::network(Config::network());
    network.hear(&odd);
    assert_violation(&mut network, Violation::FirstFrame);

    let mut agent = Lone::agent(Config::agent());
    agent.say();
    agent.hear(&odd);
    assert_violation(&mut agent, Violation::BeforeWelcome);
}

/// RES-003
#[test]
fn one_acknowledgement_rides_along_with_what_is_written_at_once() {
    let mut lone = Lone::established_network(Config::network());
    lone.hear_frames(&[open(1), data(1, 100)]);
    lone.session().write(stream(1), &mut Bytes::from(vec![1; 10_000])).unwrap();
    let now = lone.now();
    let next = |lone: &mut Lone<_>| lone.link.poll_transmit(now).map(|frame| frame.kind());
    assert_eq!(next(&mut lone), Some(Kind::Ack));

    let mut octets = Vec::new();
    data(1, 100).write(&mut octets);
    lone.hear(&octets);
    let rest: Vec<_> = core::iter::from_fn(|| next(&mut lone)).collect();

    assert!(rest.contains(&Kind::Data) && !rest.contains(&Kind::Ack), "{rest:?}");
    lone.link.handle_written(30_000, 0, now);
    lone.session().write(stream(1), &mut Bytes::from_static(b"more")).unwrap();
    assert_eq!(lone.say(), [Encoded::ack(3), Encoded::data(stream(1), Bytes::from_static(b"more"))]);
}

/// RES-003
#[test]
fn an_acknowledgement_that_is_owed_makes_a_link_want_to_say_it() {
    let mut lone = Lone::established_network(network(|config| config.window = 256 << 10));
    lone.hear_frames(&[open(1)]);
    lone.say();
    lone.hear_frames(&vec![data(1, 16_376); 4]);

    assert!(lone.link.wants_transmit());
    assert_eq!(lone.say(), [Encoded::ack(5)]);
}

/// FRAME-003
#[test]
fn the_longest_frame_is_what_was_announced_once_the_session_is_there() {
    let large = |config: &mut Config| (config.frame, config.window, config.window_eager) = (32_768, 65_536, 65_536);
    let mut lone = Lone::established_network(network(large));

    lone.hear_frames(&[open(1), data(1, 32_768)]);
    assert_eq!(read(&mut lone, 1), Ok(32_768));
    lone.hear_frames(&[data(1, 32_769)]);

    assert_violation(&mut lone, Violation::FrameTooLong);
}
