//! A session that goes on over another link: what is kept, what is refused, and when it ends.
#![cfg(feature = "testing")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use adit_core::{
    Bind, BindError, BindId, Cause, Code, Config, Duration, Event, Heartbeat, Hello, Link, Loss, Message, Open,
    ReadError, Refusal, Resume, ResumeOffer, Secret, SessionId, Unbind, Violation, Welcome, WriteError,
    frame::{Encoded, Kind},
    side,
    testing::{Lone, Options, Pair, Path, a_hello, a_welcome, closed_with, encoded, raw},
};

/// RES-005
#[test]
fn what_was_written_while_there_was_no_link_arrives_on_the_next() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.network.write(stream, b"before ").unwrap();
    pair.cut();

    let lost = Cause::Transport(Loss::Reset);
    assert_eq!(pair.agent.take_events().last(), Some(&Event::Suspended(lost.clone())));
    assert_eq!(pair.network.take_events().last(), Some(&Event::Suspended(lost)));
    pair.network.write(stream, b"between ").unwrap();
    let opened = pair.network.session().open(Open::default()).unwrap();
    pair.run_for(secs(20));
    pair.resume();
    pair.network.write(stream, b"after").unwrap();
    pair.network.session().finish(stream).unwrap();
    pair.settle();

    assert_eq!(pair.agent.read(stream), Ok((b"before between after".to_vec(), true)));
    assert_eq!(pair.agent.read(opened), Ok((Vec::new(), false)));
    assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
}

/// RES-005
#[test]
fn half_closes_resets_and_stops_in_flight_are_kept() {
    let mut pair = Pair::established(Options::default());
    let (half, reset, stopped) = (pair.open(), pair.open(), pair.open());
    pair.settle();
    pair.network.write(half, b"all").unwrap();
    pair.network.session().finish(half).unwrap();
    pair.network.session().reset(reset, Code::APPLICATION);
    pair.agent.session().stop(stopped, Code::CANCELLED);
    let now = pair.now();
    while pair.network.link.poll_transmit(now).is_some() {} // out of the machine, lost with the wire
    while pair.agent.link.poll_transmit(now).is_some() {}
    pair.cut();
    pair.resume();
    pair.settle();

    assert_eq!(pair.agent.read(half), Ok((b"all".to_vec(), true)));
    assert_eq!(pair.agent.write(half, b"still open"), Ok(10));
    assert_eq!(pair.agent.read(reset), Err(ReadError::Reset(Code::APPLICATION)));
    assert_eq!(pair.network.write(stopped, b"x"), Err(WriteError::Stopped(Code::CANCELLED)));
}

/// RES-019, GO-009: only nobody dials for it, as an agent makes its next session first.
#[test]
fn a_session_that_drains_goes_on_over_another_link_and_ends_with_its_streams() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.settle();
    let now = pair.now();
    pair.network.session().drain(Code::SHUTDOWN, None, "", now);
    pair.network.write(stream, b"before ").unwrap();
    pair.cut();

    pair.resume();
    pair.network.write(stream, b"after").unwrap();
    pair.network.session().finish(stream).unwrap();
    pair.settle();
    assert_eq!(pair.agent.read(stream), Ok((b"before after".to_vec(), true)));
    assert!(pair.agent.session().is_draining(), "GOAWAY was said before the loss or after it");
    pair.agent.session().finish(stream).unwrap();
    pair.agent.session().release(stream);
    pair.settle();
    pair.network.read(stream).unwrap();
    pair.network.session().release(stream);
    pair.settle();

    assert_eq!(pair.network.cause(), Some(&Cause::Local(Code::NO_ERROR)));
}

/// RES-011
#[test]
fn after_the_window_both_sides_end_the_streams_with_a_code_that_says_so() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.settle();
    pair.cut();

    pair.run_for(secs(30) - Duration::from_millis(1));
    assert_eq!(pair.agent.write(stream, b"x"), Ok(1));
    pair.run_for(Duration::from_millis(1));

    assert_eq!(pair.agent.take_events().last(), Some(&Event::Closed(Cause::ResumeExpired)));
    assert_eq!(pair.network.take_events().last(), Some(&Event::Closed(Cause::ResumeExpired)));
    assert_eq!(pair.agent.write(stream, b"x"), Err(WriteError::Lost(Code::RESUME_EXPIRED)));
    assert_eq!(pair.network.read(stream), Err(ReadError::Lost(Code::RESUME_EXPIRED)));
    assert_eq!(pair.agent.link.poll_timeout(), None);
}

/// RES-006, RES-012
#[test]
fn each_secret_is_good_once_and_the_last_one_until_its_use_is_confirmed() {
    let mut pair = Pair::established(Options::default());
    let first = request_of(&mut pair);
    pair.resume();
    pair.settle(); // the agent has acknowledged: it has the second secret
    pair.cut();
    assert!(!pair.admits(&first), "a used secret");
    let second = request_of(&mut pair);
    assert!(second.secret != first.secret);

    for _ in 0..3 {
        pair.redial_in_vain(Duration::ZERO); // the consent never reached the agent
        assert_eq!(request_of(&mut pair).secret, second.secret);
    }
    pair.resume();
    pair.settle();

    assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
}

/// RES-007
#[test]
fn a_request_that_is_not_good_changes_nothing() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.network.write(stream, b"kept").unwrap();
    pair.settle();
    pair.cut();
    let good = request_of(&mut pair);
    let bad = [
        Resume { secret: Secret::new([0xee; 16]), ..good.clone() },
        Resume { secret: Secret::new(*b""), ..good.clone() },
        Resume { session: SessionId([8; 16]), ..good.clone() },
        Resume { received: good.received + 1, ..good.clone() },
        Resume { received: u64::MAX, ..good },
    ];
    for bad in bad {
        assert!(!pair.admits(&bad), "{bad:?}");
    }
    pair.resume();

    pair.settle();
    assert_eq!(pair.agent.read(stream), Ok((b"kept".to_vec(), false)));
}

/// RES-008, RES-009
#[test]
fn of_two_requests_with_one_secret_one_link_goes_on() {
    let mut pair = Pair::established(Options::default());
    let request = request_of(&mut pair);
    let old = pair.redial();
    let mut first = lone_network(&request, 1);
    let mut second = lone_network(&request, 2);
    let mut old = Lone::over(old, pair.now());

    resume(&mut first, &mut old).unwrap();
    resume(&mut second, &mut first).unwrap();

    let time = old.link.poll_timeout().unwrap().at.since(old.now());
    assert!(time <= secs(1), "its path may be gone: it is not held for longer than its last words may take");
    assert_eq!(closed_with(&old.say()), Some(Code::REPLACED));
    assert_eq!(closed_with(&first.say()), Some(Code::REPLACED));
    assert!(first.link.session().is_none());
    let stream = second.session().open(Open::default()).unwrap();
    assert_eq!(second.say().iter().filter(|frame| frame.kind() == Kind::Open).count(), 1, "{stream}");
    second.hear(&raw(Kind::Ack.number(), 0, &0_u64.to_be_bytes()));
    let mut third = lone_network(&request, 3);
    assert!(resume(&mut third, &mut second).is_err(), "the secret was confirmed as used");
}

/// RES-021
#[test]
fn a_request_that_its_agent_has_given_up_takes_nothing_from_the_next() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.settle();
    pair.cut();
    let given_up = request_of(&mut pair);
    pair.resume();
    let now = pair.now();
    let mut late = lone_network(&given_up, 1); // before the agent could say that it has the next secret
    let request = take_request(&mut late);
    let welcome = request.welcome(SessionId([7; 16]), "", "");

    assert!(late.link.resume(request, &mut pair.network.link, welcome, now).is_err());

    pair.network.write(stream, b"here").unwrap();
    pair.settle();
    assert_eq!(pair.agent.read(stream), Ok((b"here".to_vec(), false)));
    assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
}

#[test]
fn what_the_old_link_had_not_told_is_told_by_the_new_one() {
    let mut pair = Pair::established(Options::default());
    let now = pair.now();
    pair.network.link.handle_loss(Loss::Reset, now); // nobody has looked
    pair.agent.link.handle_loss(Loss::Reset, now);
    pair.resume();

    let told = |events: Vec<Event>| events.into_iter().filter(|event| matches!(event, Event::Suspended(_))).count();
    assert_eq!((told(pair.agent.take_events()), told(pair.network.take_events())), (1, 1));
}

/// RES-008
#[test]
fn a_resume_takes_the_session_from_a_link_that_seems_alive() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.settle();
    pair.up.hole = true; // dead, and the network does not know
    pair.agent.write(stream, b"lost on the way").unwrap();
    pair.run_for(secs(1));

    pair.resume();
    pair.settle();

    assert_eq!(pair.network.read(stream), Ok((b"lost on the way".to_vec(), false)));
}

/// RES-016
#[test]
fn nothing_is_kept_for_an_agent_that_never_resumes() {
    let mut agent = Config::agent();
    agent.resume_window = Duration::ZERO;
    let mut pair = Pair::established(Options { agent, ..Options::default() });
    let stream = pair.open();
    pair.network.write(stream, b"x").unwrap();
    let now = pair.now();
    while pair.network.link.poll_transmit(now).is_some() {}
    assert_eq!(pair.network.session().stats().retained, 0);
    pair.cut();

    assert_eq!(pair.network.take_events().last(), Some(&Event::Closed(Cause::Transport(Loss::Reset))));
    assert_eq!(pair.agent.take_events().last(), Some(&Event::Closed(Cause::Transport(Loss::Reset))));
}

/// Returns an agent that never resumes, and is offered to all the same.
fn offered_and_unwilling() -> Lone<side::Agent> {
    let mut config = Config::agent();
    config.resume_window = Duration::ZERO;
    let mut lone = Lone::agent(config);
    lone.say();
    let offer = ResumeOffer { secret: Secret::new([9; 16]), window: secs(30) };
    lone.hear(&raw(Kind::Welcome.number(), 0, &encoded(&Welcome { resume: Some(offer), ..a_welcome() })));
    lone
}

/// RES-016
#[test]
fn an_agent_that_never_resumes_keeps_nothing_whatever_it_is_offered() {
    let mut lone = offered_and_unwilling();

    lone.session().open(Open::default()).unwrap();
    assert!(lone.say().iter().any(|frame| frame.kind() == Kind::Open));

    assert_eq!(lone.session().stats().retained, 0);
}

/// RES-016
#[test]
fn the_window_is_the_least_that_both_sides_want() {
    let mut agent = Config::agent();
    agent.resume_window = secs(5);
    let mut pair = Pair::established(Options { agent, ..Options::default() });
    pair.cut();
    pair.run_for(secs(5));

    assert_eq!(pair.agent.cause(), Some(&Cause::ResumeExpired));
    assert_eq!(pair.network.cause(), Some(&Cause::ResumeExpired));
}

#[test]
fn the_time_without_a_link_is_counted_over_all_of_them() {
    let mut pair = Pair::established(Options::default());
    pair.run_for(secs(7));
    assert_eq!(waited(&mut pair), [Duration::ZERO; 2]);

    pair.cut();
    pair.run_for(secs(3));
    assert_eq!(waited(&mut pair), [secs(3); 2]);
    pair.resume();
    pair.settle();
    let before = waited(&mut pair);
    pair.run_for(secs(5));
    assert_eq!(waited(&mut pair), before, "there is a link");
    pair.cut();
    pair.run_for(secs(2));

    assert_eq!(waited(&mut pair), before.map(|before| before + secs(2)));
    pair.run_for(secs(60));
    assert_eq!(waited(&mut pair), before.map(|before| before + secs(30)), "no longer than the window");
}

fn waited(pair: &mut Pair) -> [Duration; 2] {
    let now = pair.now();
    [pair.agent.session().waited(now), pair.network.session().waited(now)]
}

/// RES-016
#[test]
fn an_offer_that_was_not_asked_for_changes_nothing() {
    let mut lone = offered_and_unwilling();
    lone.session().bind(&a_bind()).unwrap();
    lone.say();
    assert_eq!(lone.session().stats().retained, 0);

    let now = lone.now();
    lone.link.handle_eof(false, now);

    assert!(!lone.link.is_parked());
    assert_eq!(lone.events().last(), Some(&Event::Closed(Cause::Eof { clean: false })));
}

/// RES-016: a network that grants more than was asked for is not believed.
#[test]
fn an_agent_waits_no_longer_than_it_wants_to_whatever_it_is_offered() {
    let mut config = Config::agent();
    config.resume_window = secs(5);
    let mut lone = Lone::agent(config);
    lone.say();
    let offer = ResumeOffer { secret: Secret::new([9; 16]), window: Duration::from_millis(u64::MAX) };
    lone.hear(&raw(Kind::Welcome.number(), 0, &encoded(&Welcome { resume: Some(offer), ..a_welcome() })));
    let now = lone.now();
    lone.link.handle_eof(false, now);
    assert!(lone.link.is_parked());

    lone.wait(secs(5));

    assert_eq!(lone.events().last(), Some(&Event::Closed(Cause::ResumeExpired)));
}

/// RES-011: also while a network lets the agent wait for its answer.
#[test]
fn a_handshake_that_resumes_does_not_outlast_the_window() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.settle();
    pair.cut();
    pair.run_for(secs(25));
    pair.redial();
    pair.up.hole = true;
    pair.run_for(secs(5) - Duration::from_millis(1));
    assert_eq!(pair.agent.write(stream, b"x"), Ok(1));

    pair.run_for(Duration::from_millis(1));

    assert_eq!(pair.agent.take_events().last(), Some(&Event::Closed(Cause::ResumeExpired)));
    assert_eq!(pair.agent.write(stream, b"x"), Err(WriteError::Lost(Code::RESUME_EXPIRED)));
}

#[test]
fn a_peer_that_comes_and_goes_makes_no_news_pile_up() {
    let mut lone = Lone::resumable_network(Config::network());
    for _ in 0..200 {
        let now = lone.now();
        lone.link.handle_loss(Loss::Reset, now); // nobody looks
        let resume = Resume {
            session: SessionId([7; 16]),
            secret: Secret::new([9; 16]),
            received: lone.link.session().unwrap().sent(),
            attempt: 1,
        };
        let mut next = lone_network(&resume, 1);
        resume_with(&mut next, &mut lone, resume.secret.clone()).unwrap();
        lone = next;
    }

    assert!(lone.events().len() <= 1);
}

/// RES-019
#[test]
fn a_close_ends_the_session_and_a_violation_too() {
    let mut pair = Pair::established(Options::default());
    let now = pair.now();
    pair.agent.link.close(Code::NO_ERROR, "", now);
    pair.settle();
    assert!(matches!(pair.network.cause(), Some(Cause::Remote(_))));
    assert!(!pair.network.link.is_parked());

    let mut lone = Lone::resumable_network(Config::network());
    lone.hear(&raw(0x7f, 0, &[]));
    assert_eq!(lone.cause(), Some(&Cause::Violation(Violation::UnknownType)));
    assert!(!lone.link.is_parked());
}

/// RES-017: the heartbeat of the second WELCOME, the limits of the first. BIND-006: binds stay in force.
#[test]
fn the_heartbeat_is_that_of_the_newest_consent_and_binds_stay_in_force() {
    let mut pair = Pair::established(Options::default());
    let bind = Bind { id: BindId(1), url: "tcp://:1".into(), ..a_bind() };
    pair.agent.session().bind(&bind).unwrap();
    pair.settle();
    for event in pair.network.take_events() {
        if let Event::Bind(request) = event {
            pair.network.session().bound(request, "tcp://:1");
        }
    }
    pair.settle();
    pair.cut();
    let mut old = pair.redial();
    pair.settle();
    let request = pair.network.take_request().expect("the agent asks");
    let mut welcome = request.welcome(SessionId([7; 16]), "", "");
    let heartbeat = Heartbeat { interval: secs(2), tolerance: secs(2) };
    welcome.heartbeat = heartbeat;
    welcome.resume = pair.offer();
    let now = pair.now();
    pair.network.link.resume(request, &mut old, welcome, now).unwrap();
    pair.settle();

    assert_eq!(pair.agent.session().bind(&bind), Err(BindError::InUse(BindId(1))));
    assert!(pair.network.session().unbound(BindId(1), refusal()));
    pair.down.hole = true;
    pair.run_for(secs(5));
    assert!(matches!(pair.agent.cause(), Some(Cause::Dead { .. })), "{:?}", pair.agent.cause());
}

/// RES-017
#[test]
fn a_request_to_resume_and_its_consent_say_what_the_two_are_configured_to() {
    let heartbeat = Heartbeat { interval: secs(7), tolerance: secs(9) };
    let mut agent = Config::agent();
    agent.heartbeat = heartbeat;
    let mut pair = Pair::established(Options { agent: agent.clone(), ..Options::default() });
    pair.cut();
    let mut old = pair.redial();
    pair.settle();
    let request = pair.network.take_request().expect("the agent asks");
    assert_eq!((request.hello().heartbeat, request.hello().limits), (heartbeat, agent.limits()));

    // Whatever else the application fills in, it is this session and these limits.
    let mut welcome = request.welcome(SessionId([8; 16]), "eu", "node-2");
    welcome.limits.window += 1;
    welcome.resume = pair.offer();
    let now = pair.now();
    pair.network.link.resume(request, &mut old, welcome, now).unwrap();
    pair.settle();

    let events = pair.agent.take_events();
    let Some(Event::Resumed(welcome)) = events.last() else { panic!("{events:?}") };
    assert_eq!((welcome.session, welcome.limits), (SessionId([7; 16]), Config::network().limits()));
    assert_eq!((welcome.region.as_str(), welcome.node.as_str()), ("eu", "node-2"));
}

/// RES-008
#[test]
fn an_agents_link_that_has_lost_its_session_to_another_says_nothing_more() {
    let mut pair = Pair::established(Options::default());
    let (now, mut hello) = (pair.now(), a_hello());
    hello.token = Secret::new(*b"token");
    pair.agent.session().open(Open::default()).unwrap();

    let new = Link::<side::Agent>::resume(&mut pair.agent.link, Config::agent(), hello, 1, now);

    assert!(new.is_some() && pair.agent.link.is_finished());
    assert_eq!(pair.agent.cause(), Some(&Cause::Local(Code::REPLACED)));
    assert_eq!((pair.agent.link.poll_transmit(now), pair.agent.link.poll_timeout()), (None, None));
}

#[test]
fn a_close_while_there_is_no_link_ends_the_session_at_once() {
    let mut pair = Pair::established(Options::default());
    pair.cut();
    let now = pair.now();
    pair.network.link.close(Code::SHUTDOWN, "", now);

    assert_eq!(pair.network.take_events().last(), Some(&Event::Closed(Cause::Local(Code::SHUTDOWN))));
    assert_eq!(pair.network.link.poll_timeout(), None);
}

/// RES-018
#[test]
fn a_peer_that_acknowledges_nothing_is_dead_after_three_tolerances() {
    let mut lone = Lone::resumable_network(Config::network());
    lone.session().open(Open::default()).unwrap();
    lone.say();
    let mut pings = Vec::new();
    for second in 0..60 {
        if lone.link.is_parked() {
            assert!((44..=46).contains(&second), "after {second} s");
            assert_eq!(lone.events().last(), Some(&Event::Suspended(Cause::Unacknowledged)));
            return;
        }
        lone.wait_and_say(secs(1), |frame| {
            pings.extend((frame.kind() == Kind::Ping).then(|| frame.payload().to_vec()))
        });
        for ping in pings.drain(..) {
            lone.hear(&raw(Kind::Pong.number(), 0, &ping));
            lone.hear_frames(&[Encoded::ack(0)]); // which is no news
        }
    }
    panic!("it went on for a minute");
}

/// RES-015
#[test]
fn an_answer_that_does_not_fit_the_request_is_a_violation() {
    let mut fresh = Lone::agent(Config::agent());
    fresh.say();
    fresh.hear(&raw(Kind::Welcome.number(), 0, &encoded(&Welcome { resumed: Some(0), ..a_welcome() })));
    assert_eq!(fresh.cause(), Some(&Cause::Violation(Violation::ResumeAnswer)));

    for wrong in [
        Welcome { resumed: None, ..a_welcome() },
        Welcome { resumed: Some(1_000), ..a_welcome() },
        Welcome { session: SessionId([8; 16]), resumed: Some(0), ..a_welcome() },
    ] {
        let mut pair = Pair::established(Options::default());
        pair.cut();
        pair.redial();
        let now = pair.now();
        while pair.agent.link.poll_transmit(now).is_some() {}
        pair.agent.link.handle_input(&raw(Kind::Welcome.number(), 0, &encoded(&wrong)), now);
        assert_eq!(pair.agent.cause(), Some(&Cause::Violation(Violation::ResumeAnswer)), "{wrong:?}");
    }
}

#[test]
fn a_machine_that_slept_longer_than_its_peer_waits_says_that_the_session_expired() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.settle();
    pair.down.hole = true;
    pair.run_for(secs(11));
    pair.sleep(secs(600));
    pair.run_for(Duration::from_millis(1));

    assert_eq!(pair.agent.cause(), Some(&Cause::ResumeExpired));
    assert_eq!(pair.agent.write(stream, b"x"), Err(WriteError::Lost(Code::RESUME_EXPIRED)));
}

#[test]
fn a_network_that_does_not_know_the_session_ends_it_and_a_busy_one_does_not() {
    for (code, ends) in [(Code::RESUME_UNKNOWN, true), (Code::CREDENTIALS, true), (Code::BUSY, false)] {
        let mut pair = Pair::established(Options::default());
        pair.cut();
        pair.redial();
        let refusal = Refusal { code, ..refusal() };
        let now = pair.now();
        pair.agent.link.handle_input(&raw(Kind::Refuse.number(), 0, &encoded(&refusal)), now);
        assert_eq!(pair.agent.link.is_parked(), !ends, "{code}");
    }
}

/// What the agent would ask.
fn request_of(pair: &mut Pair) -> Resume {
    let mut copy = Lone::over(pair.redial(), pair.now()); // the network keeps its link
    core::mem::swap(&mut pair.network.link, &mut copy.link);
    let now = pair.now();
    let hello = pair.agent.link.poll_transmit(now).expect("HELLO");
    pair.agent.link.handle_loss(Loss::Reset, now);
    Hello::decode(hello.payload()).unwrap().resume.expect("it asks to resume")
}

trait Admits {
    fn admits(&mut self, request: &Resume) -> bool;
}

impl Admits for Pair {
    /// Whether the network would resume, without letting it.
    fn admits(&mut self, request: &Resume) -> bool {
        let mut asked = lone_network(request, 1);
        let auth = take_request(&mut asked);
        let welcome = auth.welcome(SessionId([7; 16]), "", "");
        let now = asked.now();
        let admits = asked.link.resume(auth, &mut self.network.link, welcome, now).is_ok();
        assert!(!admits, "only requests that are no good");
        admits
    }
}

fn lone_network(request: &Resume, seed: u8) -> Lone<side::Network> {
    let mut lone = Lone::network(Config::network());
    let hello = Hello { resume: Some(request.clone()), resume_window: secs(30), ..a_hello() };
    lone.hear(&raw(Kind::Hello.number(), 0, &encoded(&Hello { incarnation: seed.into(), ..hello })));
    lone
}

fn take_request(lone: &mut Lone<side::Network>) -> adit_core::AuthRequest {
    lone.events()
        .into_iter()
        .find_map(|event| if let Event::Hello(request) = event { Some(request) } else { None })
        .expect("the agent asks")
}

#[expect(clippy::result_large_err, reason = "moved once a handshake")]
fn resume(new: &mut Lone<side::Network>, old: &mut Lone<side::Network>) -> Result<(), adit_core::AuthRequest> {
    resume_with(new, old, Secret::new([0x5a; 16]))
}

#[expect(clippy::result_large_err, reason = "moved once a handshake")]
fn resume_with(
    new: &mut Lone<side::Network>,
    old: &mut Lone<side::Network>,
    secret: Secret,
) -> Result<(), adit_core::AuthRequest> {
    let request = take_request(new);
    let mut welcome = request.welcome(SessionId([7; 16]), "", "");
    welcome.resume = Some(ResumeOffer { secret, window: secs(30) });
    let now = new.now();
    let result = new.link.resume(request, &mut old.link, welcome, now);
    let _: Vec<Encoded> = if result.is_ok() { new.say() } else { Vec::new() };
    result
}

/// RES-020, RES-005
#[test]
fn nothing_is_acknowledged_before_what_is_sent_again() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.settle();
    pair.down.hole = true;
    pair.network.write(stream, b"lost on the way").unwrap();
    pair.run_for(secs(1));
    let request = request_of(&mut pair);
    let mut old = pair.redial();
    let mut new = lone_network(&request, 1);

    let auth = take_request(&mut new);
    let (welcome, now) = (auth.welcome(SessionId([7; 16]), "", ""), new.now());
    new.link.resume(auth, &mut old, welcome, now).unwrap();

    let said: Vec<Kind> = new.say().iter().map(Encoded::kind).collect();
    let of = |kind| said.iter().position(|other| *other == kind);
    assert!(of(Kind::Data).is_some() && of(Kind::Data) < of(Kind::Ack), "{said:?}");
}

/// BIND-014
#[test]
fn an_answer_that_is_sent_again_answers_no_later_bind() {
    let slow = Path { rate: Some(2_000), piece: 1, ..Path::default() };
    let mut pair = Pair::established(Options { down: slow, ..Options::default() });
    let bind = Bind { id: BindId(1), ..a_bind() };
    pair.agent.session().bind(&bind).unwrap();
    pair.run_for(secs(1));
    let Some(Event::Bind(request)) = pair.network.take_events().pop() else { panic!("no bind") };
    pair.down.hole = true;
    pair.network.session().reject(request, refusal());
    pair.agent.session().unbind(&Unbind::new(BindId(1)));
    pair.run_for(secs(1));
    pair.cut();

    pair.resume(); // the consent counts the UNBIND, and REJECTED is sent again after it
    assert_eq!(pair.agent.session().bind(&bind), Err(BindError::InUse(BindId(1))));
    pair.run_for(secs(1));

    assert_eq!(pair.agent.session().bind(&bind), Ok(()));
    pair.run_for(secs(1));
    assert!(matches!(pair.network.take_events().pop(), Some(Event::Bind(_))));
    assert!(!pair.agent.take_events().iter().any(|event| matches!(event, Event::Rejected(_))));
}

/// BIND-015
#[test]
fn an_answer_that_waits_to_be_said_is_not_said_to_who_gave_the_bind_up() {
    let mut pair = Pair::established(Options::default());
    let bind = Bind { id: BindId(1), ..a_bind() };
    pair.agent.session().bind(&bind).unwrap();
    pair.settle();
    let Some(Event::Bind(request)) = pair.network.take_events().pop() else { panic!("no bind") };
    pair.network.session().reject(request, refusal());
    let octets = Encoded::message(Kind::Unbind, &Unbind::new(BindId(1)));
    let (mut unbind, now) = (Vec::new(), pair.now());
    octets.write(&mut unbind);

    pair.network.link.handle_input(&unbind, now);

    pair.settle();
    assert_eq!(pair.agent.take_events(), []);
}

fn refusal() -> Refusal {
    Refusal { code: Code::BUSY, retry_after: None, text: String::new() }
}

fn a_bind() -> Bind {
    Bind {
        id: BindId(0),
        url: String::new(),
        pooling: false,
        upstream_protocol: adit_core::UpstreamProtocol::Http1,
        name: String::new(),
        description: String::new(),
        metadata: String::new(),
        tls_end: Default::default(),
    }
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}
