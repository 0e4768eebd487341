//! A peer that keeps no rule: each is told its code, costs what it sends, and moves nothing else.
#![cfg(feature = "testing")]

mod common;

use adit_core::{
    Cause, Close, Code, Config, Duration, Event, Inquiry, VERSION, Violation,
    frame::{Encoded, Kind},
    testing::{Lone, a_hello, a_welcome, raw},
};
use common::*;

/// HB-011, HB-006
#[test]
fn pings_beyond_a_burst_end_the_session_and_before_that_one_answer_is_owed() {
    let mut lone = Lone::established_agent(Config::agent());

    for count in 0..20u64 {
        lone.hear_frames(&[Encoded::ping(count.to_be_bytes())]);
    }
    assert_eq!(lone.say(), [Encoded::pong(19u64.to_be_bytes())]);
    lone.hear_frames(&[Encoded::ping([0; 8])]);

    assert_violation(&mut lone, Violation::PingFlood);
}

/// HB-011
#[test]
fn ten_pings_a_second_are_no_flood() {
    let mut lone = Lone::established_network(Config::network());

    for _ in 0..300 {
        lone.hear_frames(&[Encoded::ping([1; 8])]);
        lone.wait(Duration::from_millis(100));
    }

    assert_eq!(lone.cause(), None);
}

/// HB-007
#[test]
fn pongs_that_answer_nothing_are_ignored_up_to_a_burst() {
    let mut lone = Lone::established_network(Config::network());

    lone.hear_frames(&vec![Encoded::pong([1; 8]); 10]);
    assert_eq!((lone.say(), lone.cause()), (vec![], None));
    lone.hear_frames(&[Encoded::pong([1; 8])]);

    assert_violation(&mut lone, Violation::PongFlood);
}

/// STREAM-004, LIM-002
#[test]
fn a_stream_beyond_the_grant_ends_the_session() {
    let config = network(|config| config.streams = 50);
    let mut lone = Lone::established_network(config);

    lone.hear_frames(&(0..50).map(|count| open(2 * count + 1)).collect::<Vec<_>>());
    assert_eq!(lone.cause(), None);
    assert_eq!(lone.events().len(), 50);
    lone.hear_frames(&[open(101)]);

    assert_violation(&mut lone, Violation::StreamLimit);
}

/// STREAM-005: the application has not let go, so the peer gains nothing.
#[test]
fn opening_and_resetting_gains_no_stream() {
    let config = network(|config| config.streams = 50);
    let mut lone = Lone::established_network(config);

    for id in (1..100).step_by(2) {
        lone.hear_frames(&[open(id), Encoded::reset(stream(id), Code::CANCELLED), Encoded::stop(stream(id), Code(0))]);
    }
    assert!(!lone.say().iter().any(|frame| frame.kind() == Kind::Streams), "streams were granted");
    lone.hear_frames(&[open(101)]);

    assert_violation(&mut lone, Violation::StreamLimit);
}

/// STREAM-005, END-009
#[test]
fn streams_that_the_application_let_go_of_are_granted_again() {
    let config = network(|config| config.streams = 4);
    let mut lone = Lone::established_network(config);

    for id in (1..2_001).step_by(2) {
        lone.hear_frames(&[open(id), Encoded::reset(stream(id), Code::CANCELLED)]);
        let session = lone.session();
        session.release(stream(id));
        lone.say();
        assert_eq!(lone.cause(), None, "at stream {id}");
    }

    assert_eq!(lone.link.session().unwrap().live_streams(), 0);
    assert_eq!(lone.link.session().unwrap().reserved(), 0);
}

/// STREAM-002: skipped numbers count as opened and over.
#[test]
fn skipped_streams_are_closed_and_cannot_be_used() {
    let mut lone = Lone::established_network(network(|config| config.streams = 50));

    lone.hear_frames(&[open(99)]);
    assert_eq!(lone.cause(), None);
    lone.hear_frames(&[Encoded::reset(stream(97), Code(0)), Encoded::credit(stream(95), 1 << 20)]);
    assert_eq!(lone.cause(), None);
    lone.hear_frames(&[open(97)]);

    assert_violation(&mut lone, Violation::StreamOrder);
}

/// LIM-003, FRAME-006
#[test]
fn extensions_are_ignored_until_they_are_nothing_but_work() {
    let mut lone = Lone::established_agent(Config::agent());
    let extension = raw(0x80, 77, b"whatever");

    lone.hear(&extension.repeat(1_000));
    assert_eq!((lone.events(), lone.cause()), (vec![], None));
    lone.hear(&extension);

    assert_violation(&mut lone, Violation::Oddities);
}

/// LIM-003
#[test]
fn ten_oddities_a_second_are_forgiven() {
    let mut lone = Lone::established_agent(agent(|config| config.oddities = 10));

    for _ in 0..200 {
        lone.hear(&raw(0xc0, 0, b""));
        lone.wait(Duration::from_millis(100));
    }

    assert_eq!(lone.cause(), None);
}

/// BIND-007
#[test]
fn binds_without_an_answer_are_bounded() {
    let mut lone = Lone::established_network(Config::network());

    let binds: Vec<_> = (0..100).map(|id| Encoded::message(Kind::Bind, &bind(id))).collect();
    lone.hear_frames(&binds);
    assert_eq!((lone.events().len(), lone.cause()), (100, None));
    lone.hear_frames(&[Encoded::message(Kind::Bind, &bind(100))]);

    assert_violation(&mut lone, Violation::BindFlood);
}

/// BIND-007: giving a bind up does not take its question off the application's desk.
#[test]
fn binding_and_unbinding_in_haste_is_bounded() {
    let mut lone = Lone::established_network(Config::network());
    let haste = [Encoded::message(Kind::Bind, &bind(1)), unbind(1)];

    for _ in 0..100 {
        lone.hear_frames(&haste);
    }
    assert_eq!(lone.cause(), None);
    lone.hear_frames(&haste);

    assert_violation(&mut lone, Violation::BindFlood);
}

/// LIM-003, BIND-009
#[test]
fn withdrawals_that_concern_nothing_are_oddities() {
    let mut lone = Lone::established_network(Config::network());

    lone.hear_frames(&vec![unbind(9); 1_000]);
    assert_eq!((lone.events(), lone.cause()), (vec![], None));
    lone.hear_frames(&[unbind(9)]);

    assert_violation(&mut lone, Violation::Oddities);
}

/// CMD-003
#[test]
fn commands_without_an_answer_are_bounded() {
    let mut lone = Lone::established_agent(Config::agent());

    lone.hear_frames(&(1..=100).map(command).collect::<Vec<_>>());
    assert_eq!((lone.events().len(), lone.cause()), (100, None));
    lone.hear_frames(&[command(101)]);

    assert_violation(&mut lone, Violation::CommandFlood);
}

/// CRL-003, LIM-003
#[test]
fn revocation_lists_in_haste_are_ignored_until_they_are_nothing_but_work() {
    let lists = |count| vec![Encoded::revocations("list".into()); count];
    let mut lone = Lone::established_agent(agent(|config| config.oddities = 100));

    // Nobody has looked at the first: the second takes its place.
    let mut idle = Lone::established_agent(Config::agent());
    idle.hear_frames(&[Encoded::revocations("old".into()), command(1), Encoded::revocations("new".into())]);
    assert_eq!((idle.events().len(), idle.events()), (2, vec![]));

    let heard = |lone: &mut Lone<_>, count: usize| {
        let heard = (0..count).map(|_| {
            lone.hear_frames(&lists(1));
            lone.events().len()
        });
        heard.sum::<usize>()
    };
    assert_eq!((heard(&mut lone, 10), heard(&mut lone, 100)), (10, 0));
    assert_eq!(lone.cause(), None);
    lone.wait(Duration::from_secs(10));
    assert_eq!((heard(&mut lone, 1), heard(&mut lone, 100)), (1, 0));
    lone.hear_frames(&lists(1));

    assert_violation(&mut lone, Violation::Oddities);
}

/// LIM-004
#[test]
fn a_peer_that_never_reads_makes_nothing_wait_but_what_it_is_granted() {
    let mut lone = Lone::established_network(network(|config| config.streams = 100));

    for id in (1..200).step_by(2) {
        lone.hear_frames(&[open(id), Encoded::blocked(stream(id), 1)]);
    }
    for _ in 0..50 {
        for id in (1..200).step_by(2) {
            lone.hear_frames(&[Encoded::stop(stream(id), Code(1)), Encoded::credit(stream(id), 1 << 30)]);
        }
    }

    let said = lone.say();
    assert!(said.len() <= 100 * 3, "{} frames were owed", said.len());
    assert_eq!(lone.cause(), None);
}

/// PRE-001, PRE-006
#[test]
fn a_network_hears_nothing_but_hello_first() {
    for kind in Kind::ALL {
        let mut lone = Lone::network(Config::network());
        lone.hear(&plausible(*kind, 1));
        if *kind == Kind::Hello {
            assert_eq!(lone.cause(), None);
        } else if *kind == Kind::Close {
            assert!(matches!(lone.cause(), Some(Cause::Remote(_))));
        } else {
            assert_violation(&mut lone, Violation::FirstFrame);
        }
    }
    let mut lone = Lone::network(Config::network());
    lone.hear(&raw(0x80, 0, b""));
    assert_violation(&mut lone, Violation::FirstFrame);
}

/// PRE-002, PRE-005
#[test]
fn an_agent_hears_nothing_but_the_answer_before_it() {
    for kind in Kind::ALL {
        let mut lone = Lone::agent(Config::agent());
        lone.say();
        lone.hear(&plausible(*kind, 2));
        if *kind == Kind::Welcome {
            assert_eq!(lone.cause(), None);
        } else if *kind == Kind::Refuse {
            assert!(matches!(lone.cause(), Some(Cause::Refused(_))));
        } else if *kind == Kind::Close {
            assert!(matches!(lone.cause(), Some(Cause::Remote(_))));
        } else {
            assert_violation(&mut lone, Violation::BeforeWelcome);
        }
    }
}

/// PRE-005
#[test]
fn a_handshake_happens_once() {
    for kind in [Kind::Hello, Kind::Welcome, Kind::Refuse] {
        let mut network = Lone::established_network(Config::network());
        network.hear(&plausible(kind, 0));
        assert_violation(&mut network, Violation::SecondHandshake);

        let mut agent = Lone::established_agent(Config::agent());
        agent.hear(&plausible(kind, 0));
        assert_violation(&mut agent, Violation::SecondHandshake);
    }
    let mut lone = Lone::network(Config::network());
    lone.hear(&plausible(Kind::Hello, 0).repeat(2));
    assert_violation(&mut lone, Violation::SecondHandshake);
}

/// PRE-006
#[test]
fn octets_before_the_answer_are_bounded() {
    let mut lone = Lone::network(network(|config| config.frame = 65_536));
    lone.hear(&[0, 0x3f, 0xf9, 0, 0, 0, 0, 0]);
    assert_violation(&mut lone, Violation::FrameTooLong);

    let mut lone = Lone::network(Config::network());
    let (hello, behind) = (plausible(Kind::Hello, 0), raw(Kind::Bind.number(), 0, &[0; 16_376]));
    lone.hear(&hello);
    let (within, beyond) = behind.split_at(16_384 - hello.len());
    within.iter().for_each(|octet| lone.hear(&[*octet]));
    assert_eq!(lone.cause(), None);
    lone.hear(&beyond[..1]);
    assert_violation(&mut lone, Violation::HandshakeTooLong);
}

/// PRE-004, PRE-006
#[test]
fn a_hello_that_trickles_in_does_not_extend_its_time() {
    let mut lone = Lone::network(Config::network());
    let hello = plausible(Kind::Hello, 0);

    for octet in &hello[..10] {
        lone.hear(&[*octet]);
        lone.wait(Duration::from_millis(999));
    }
    assert_eq!(lone.cause(), None);
    lone.wait(Duration::from_millis(10));

    assert_eq!(lone.cause(), Some(&Cause::HandshakeTimeout));
    assert_eq!(lone.events(), [Event::Closed(Cause::HandshakeTimeout)]);
}

/// PRE-004: the application's silence is bounded too.
#[test]
fn an_application_that_does_not_answer_does_not_keep_the_link() {
    let mut lone = Lone::network(Config::network());
    lone.hear(&plausible(Kind::Hello, 0));
    let request = lone.events().pop();
    lone.wait(Duration::from_secs(10));

    assert_eq!(lone.cause(), Some(&Cause::HandshakeTimeout));
    let Some(Event::Hello(request)) = request else { panic!("no request") };
    let welcome = request.welcome(adit_core::SessionId([1; 16]), "", "");
    lone.link.accept(request, welcome, lone.now());
    assert!(lone.link.session().is_none());
}

/// MSG-005
#[test]
fn limits_that_nobody_can_work_with_are_refused() {
    for (frame, window, sound) in [
        (8_192, 0, true),
        (65_536, 1 << 30, true),
        (8_191, 0, false),
        (65_537, 0, false),
        (16_376, (1 << 30) + 1, false),
        (u32::MAX, u32::MAX, false),
    ] {
        let mut hello = a_hello();
        (hello.limits.frame, hello.limits.window) = (frame, window);
        let mut network = Lone::network(Config::network());
        network.hear_frames(&[Encoded::message(Kind::Hello, &hello)]);
        let mut welcome = a_welcome();
        welcome.limits = hello.limits;
        let mut agent = Lone::agent(Config::agent());
        agent.hear_frames(&[Encoded::message(Kind::Welcome, &welcome)]);

        let expected = (!sound).then_some(Cause::Violation(Violation::LimitRange));
        assert_eq!(network.cause(), expected.as_ref(), "frame {frame}, window {window}");
        assert_eq!(agent.cause(), expected.as_ref(), "frame {frame}, window {window}");
    }
}

/// PRE-003
#[test]
fn a_version_that_was_not_offered_is_refused() {
    let mut welcome = a_welcome();
    welcome.version = 2;
    let mut lone = Lone::agent(Config::agent());
    lone.hear_frames(&[Encoded::message(Kind::Welcome, &welcome)]);

    assert_violation(&mut lone, Violation::VersionNotOffered);
}

/// PRE-012
#[test]
fn who_asks_for_the_versions_is_told_before_anybody_looks_at_a_token_and_has_not_failed() {
    let mut inquiry = Inquiry::new();
    let mut lone = Lone::network(Config::network());

    lone.hear_frames(&[inquiry.poll_transmit().unwrap()]);

    assert_eq!(lone.events(), [Event::Closed(Cause::Local(Code::NO_ERROR))], "nobody is asked about a token");
    for frame in lone.say() {
        inquiry.handle_input(frame.header());
        inquiry.handle_input(frame.payload());
    }
    assert_eq!(inquiry.answer(), Some(&Ok(vec![VERSION])));

    let mut hello = a_hello();
    hello.versions = vec![VERSION + 1];
    let mut lone = Lone::network(Config::network());
    lone.hear_frames(&[Encoded::message(Kind::Hello, &hello)]);
    assert_eq!(lone.events(), [Event::Closed(Cause::Local(Code::VERSION))], "PRE-003: that is a failure");
}

/// CREDIT-010: windows grow by use, not by complaint.
#[test]
fn a_peer_that_says_it_is_blocked_and_is_not_gains_no_window() {
    let mut lone = Lone::established_network(Config::network());
    lone.hear_frames(&[open(1)]);
    let announced = |said: Vec<Encoded>| {
        said.into_iter().filter(|frame| frame.kind() == Kind::Credit).map(|frame| frame.payload().to_vec()).next_back()
    };
    let mut offset = announced(lone.say()).map_or(0, |octets| u64::from_be_bytes(octets.try_into().unwrap()));
    let before = lone.session().reserved();

    for _ in 0..20 {
        lone.hear_frames(&[Encoded::blocked(stream(1), offset)]);
        offset = announced(lone.say()).map_or(offset, |octets| u64::from_be_bytes(octets.try_into().unwrap()));
    }

    assert_eq!(lone.session().reserved(), before);
}

/// MSG-007
#[test]
fn the_text_of_a_close_cannot_write_a_line_of_its_own_into_a_log() {
    let text = String::from("bye\n\u{1b}[2J2026-01-01 INFO all is well\u{202e}");
    let mut lone = Lone::established_agent(Config::agent());
    lone.hear_frames(&[Encoded::message(Kind::Close, &Close { code: Code::SHUTDOWN, text })]);

    let shown = lone.cause().unwrap().to_string();
    assert!(!shown.contains(|c: char| c.is_control() || c == '\u{202e}'), "{shown}");
    assert!(shown.contains("bye"), "{shown}");
}
