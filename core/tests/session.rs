//! Behaviour of two joined sides: establishing, streams, credit, endings, heartbeat, drain.
#![cfg(feature = "testing")]

use adit_core::{
    AnswerError, Bind, BindError, BindId, BindRefusal, Bound, Cause, Close, Code, Command, CommandRequest,
    CommandResult, Config, DOCUMENT, Duration, Event, GoAway, Loss, Open, OpenError, ReadError, Refusal,
    RevocationsError, StreamId, TlsEnd, Unbind, UpstreamProtocol, WriteError,
    testing::{Options, Pair, Path},
};

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn bind(id: u32, url: &str) -> Bind {
    Bind {
        id: BindId(id),
        url: url.into(),
        pooling: false,
        upstream_protocol: UpstreamProtocol::Http1,
        name: String::new(),
        description: String::new(),
        metadata: String::new(),
        tls_end: Default::default(),
    }
}

fn refusal(code: Code) -> Refusal {
    Refusal { code, retry_after: None, text: String::new() }
}

#[test]
fn an_established_pair_is_quiet_on_both_sides() {
    let mut pair = Pair::established(Options::default());

    assert_eq!(pair.agent.take_events(), []);
    assert_eq!(pair.network.take_events(), []);
    assert!(pair.agent.link.rtt().is_some());
}

#[test]
fn what_is_written_arrives_in_order_and_ends_where_it_was_finished() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();

    assert_eq!(pair.network.write(stream, b"hello "), Ok(6));
    assert_eq!(pair.network.write(stream, b"world"), Ok(5));
    pair.network.link.session_mut().unwrap().finish(stream).unwrap();
    pair.settle();

    assert_eq!(pair.agent.take_events(), [Event::Opened(stream), Event::Readable(stream)]);
    assert_eq!(pair.agent.read(stream), Ok((b"hello world".to_vec(), true)));
}

#[test]
fn one_direction_ends_and_the_other_goes_on() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.network.link.session_mut().unwrap().finish(stream).unwrap();
    pair.run_for(secs(600));

    assert_eq!(pair.agent.read(stream), Ok((vec![], true)));
    assert_eq!(pair.agent.write(stream, b"late"), Ok(4));
    pair.settle();

    assert_eq!(pair.network.read(stream), Ok((b"late".to_vec(), false)));
}

#[test]
fn a_reset_carries_its_code_and_drops_what_was_not_read() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.network.write(stream, b"lost").unwrap();
    pair.settle();

    pair.network.link.session_mut().unwrap().reset(stream, Code::CONNECTION_RESET);
    pair.settle();

    assert_eq!(pair.agent.read(stream), Err(ReadError::Reset(Code::CONNECTION_RESET)));
    assert_eq!(pair.network.write(stream, b"x"), Err(WriteError::Closed));
}

#[test]
fn a_stop_reaches_the_writer_and_the_stream_is_forgotten_when_both_let_go() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.network.write(stream, b"unwanted").unwrap();
    pair.settle();

    pair.agent.link.session_mut().unwrap().stop(stream, Code::CANCELLED);
    pair.settle();

    assert_eq!(pair.network.write(stream, b"x"), Err(WriteError::Stopped(Code::CANCELLED)));
    pair.network.link.session_mut().unwrap().release(stream);
    pair.agent.link.session_mut().unwrap().release(stream);
    pair.settle();
    assert_eq!(pair.network.link.session().unwrap().live_streams(), 0);
    assert_eq!(pair.agent.link.session().unwrap().live_streams(), 0);
    assert_eq!(pair.agent.link.session().unwrap().reserved(), 0);
}

#[test]
fn acceptance_is_told_once_by_accept_by_data_or_by_refusal() {
    let mut pair = Pair::established(Options::default());
    let (accepted, answered, refused) = (pair.open(), pair.open(), pair.open());
    pair.settle();
    let session = pair.agent.link.session_mut().unwrap();

    session.accept_stream(accepted);
    session.reset(refused, Code::UPSTREAM_REFUSED);
    session.stop(refused, Code::UPSTREAM_REFUSED);
    pair.agent.write(answered, b"hi").unwrap();
    pair.settle();

    let session = pair.network.link.session().unwrap();
    assert_eq!(session.acceptance(accepted), Some(Ok(())));
    assert_eq!(session.acceptance(answered), Some(Ok(())));
    assert_eq!(session.acceptance(refused), Some(Err(Code::UPSTREAM_REFUSED)));
    let told = |id| pair.network.events.iter().filter(|event| **event == Event::Accepted(id)).count();
    assert_eq!([told(accepted), told(answered), told(refused)], [1, 1, 1]);
}

#[test]
fn a_reader_that_does_not_read_stops_its_own_stream_and_no_other() {
    let mut pair = Pair::established(Options::default());
    let (slow, quick) = (pair.open(), pair.open());
    let block = vec![7; 64 << 10];

    for _ in 0..200 {
        let _ = pair.network.write(slow, &block);
        pair.settle();
    }
    let held = pair.network.link.session().unwrap().stats().data_sent;
    pair.network.write(quick, b"quick").unwrap();
    pair.settle();

    assert_eq!(held, 256 << 10, "a slow reader holds its first window and no more");
    assert_eq!(pair.agent.read(quick), Ok((b"quick".to_vec(), false)));
}

#[test]
fn a_window_grows_while_the_reader_keeps_up() {
    let wire = Path { latency: Duration::from_millis(50), capacity: 64 << 20, ..Path::default() };
    let mut pair = Pair::established(Options { up: wire.clone(), down: wire, ..Options::default() });
    let stream = pair.open();
    pair.settle();
    let block = vec![7; 64 << 10];
    let total = 256 << 20;
    let (mut sent, mut received) = (0, 0);
    let start = pair.now();

    while received < total {
        while sent < total {
            match pair.network.write(stream, &block) {
                Ok(count) => sent += count,
                Err(WriteError::Blocked) => break,
                Err(other) => panic!("{other}"),
            }
        }
        pair.run_for(Duration::from_millis(5));
        received += pair.agent.read(stream).unwrap().0.len();
    }

    let seconds = pair.now().since(start).as_secs_f64();
    let rate = total as f64 / seconds / 1e6;
    assert!(rate > 40.0, "{rate} MB/s over 100 ms is what a fixed window of 256 KiB cannot give (2.6)");
}

#[test]
fn nothing_is_written_beyond_what_may_wait() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.down.stalled = true;
    let block = vec![7; 1 << 20];
    let mut taken = 0;
    while let Ok(count) = pair.network.write(stream, &block) {
        taken += count;
    }

    assert_eq!(taken, 16 * adit_core::FRAME as usize);
    assert_eq!(pair.network.write(stream, &block), Err(WriteError::Blocked));
}

#[test]
fn a_blocked_writer_is_told_when_there_is_room() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    let block = vec![7; 1 << 20];
    while pair.network.write(stream, &block).is_ok() {}
    pair.network.take_events();

    pair.settle();
    pair.agent.read(stream).unwrap();
    pair.settle();

    assert!(pair.network.take_events().contains(&Event::Writable(stream)));
}

#[test]
fn one_refused_bind_harms_no_other() {
    let mut pair = Pair::established(Options::default());
    let session = pair.agent.link.session_mut().unwrap();
    session.bind(&bind(1, "https://a.example")).unwrap();
    session.bind(&bind(2, "https://b.example")).unwrap();
    pair.settle();

    for event in pair.network.take_events() {
        let Event::Bind(request) = event else { panic!("{event:?}") };
        let session = pair.network.link.session_mut().unwrap();
        match request.bind().id {
            BindId(1) => session.reject(request, refusal(Code::IN_USE)),
            _ => session.bound(request, "https://b.example"),
        }
    }
    pair.settle();

    let rejected = BindRefusal { id: BindId(1), refusal: refusal(Code::IN_USE) };
    let bound = Bound { id: BindId(2), url: "https://b.example".into(), tls_end: TlsEnd::Unsaid };
    assert_eq!(pair.agent.take_events(), [Event::Rejected(rejected), Event::Bound(bound)]);
}

#[test]
fn an_answer_to_a_bind_that_was_given_up_answers_no_later_one() {
    let mut pair = Pair::established(Options::default());
    pair.agent.link.session_mut().unwrap().bind(&bind(1, "https://a.example")).unwrap();
    pair.settle();
    let Some(Event::Bind(first)) = pair.network.take_events().pop() else { panic!("no bind") };
    pair.agent.link.session_mut().unwrap().unbind(&Unbind::new(BindId(1)));
    pair.run_for(secs(1));
    pair.agent.link.session_mut().unwrap().bind(&bind(1, "https://other.example")).unwrap();
    pair.settle();

    pair.network.link.session_mut().unwrap().bound(first, "https://a.example");
    pair.settle();

    assert_eq!(pair.agent.take_events(), []);
}

/// BIND-018
#[test]
fn the_answer_to_a_bind_says_where_tls_ends_as_it_was_asked() {
    for (tls_end, url) in [
        (TlsEnd::Unsaid, "tls://a.example"),
        (TlsEnd::Network, "https://a.example"),
        (TlsEnd::Agent, "https://a.example"),
        (TlsEnd::Agent, "tls://a.example"),
        (TlsEnd::Upstream, "tls://a.example"),
    ] {
        let mut pair = Pair::established(Options::default());
        let wish = Bind { tls_end, ..bind(1, url) };
        pair.agent.link.session_mut().unwrap().bind(&wish).unwrap();
        pair.settle();
        let Some(Event::Bind(request)) = pair.network.take_events().pop() else { panic!("no bind") };
        assert_eq!(request.bind(), &wish);

        pair.network.link.session_mut().unwrap().bound(request, url);
        pair.settle();

        let bound = Bound { id: BindId(1), url: url.into(), tls_end };
        assert_eq!(pair.agent.take_events(), [Event::Bound(bound)]);
    }
}

/// BIND-018
#[test]
fn where_tls_ends_must_fit_the_scheme() {
    let ends = [TlsEnd::Unsaid, TlsEnd::Network, TlsEnd::Agent, TlsEnd::Upstream];
    for (url, expected) in [
        ("https://a.example", [true, true, true, false]),
        ("HTTPS://*.a.example/", [true, true, true, false]),
        ("https://", [true, true, true, false]),
        ("https://internal.example", [true, true, true, false]),
        ("tls://a.example", [true, false, true, true]),
        ("http://a.example", [true, false, false, false]),
        ("tcp://:5432", [true, false, false, false]),
        ("https://crm.internal", [true, true, false, false]),
        ("https://CRM.Internal./", [true, true, false, false]),
        ("tls://crm.internal", [true, false, true, true]),
        ("tcp://crm.internal:1", [true, false, false, false]),
        ("ftp://a.example", [true; 4]),
        ("a.example", [true; 4]),
    ] {
        assert_eq!(ends.map(|end| end.fits(url)), expected, "{url}");
    }
}

/// BIND-014
#[test]
fn a_bind_number_that_was_given_up_is_not_used_while_its_answer_may_be_on_the_way() {
    let mut pair = Pair::established(Options::default());
    let again = bind(1, "https://other.example");
    pair.agent.link.session_mut().unwrap().bind(&bind(1, "https://a.example")).unwrap();
    pair.settle();
    let Some(Event::Bind(first)) = pair.network.take_events().pop() else { panic!("no bind") };
    let session = pair.agent.link.session_mut().unwrap();
    session.unbind(&Unbind::new(BindId(1)));
    let in_use = Err(BindError::InUse(BindId(1)));
    assert_eq!(session.bind(&again), in_use);
    let session = pair.network.link.session_mut().unwrap();
    session.bound(first, "https://a.example");
    assert!(session.unbound(BindId(1), refusal(Code::IN_USE)));

    pair.run_for(secs(1)); // BOUND and UNBOUND cross UNBIND, which is acknowledged

    assert_eq!(pair.agent.take_events(), []);
    let session = pair.agent.link.session_mut().unwrap();
    assert_eq!(session.bind(&again), Ok(()));
    assert_eq!(session.bind(&again), in_use);
    pair.settle();
    assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
}

/// BIND-004
#[test]
fn a_bind_that_is_cut_ends_its_streams_and_no_other() {
    let mut pair = Pair::established(Options::default());
    for id in [1, 2] {
        pair.agent.link.session_mut().unwrap().bind(&bind(id, "https://a.example")).unwrap();
    }
    pair.settle();
    let session = pair.network.link.session_mut().unwrap();
    let [cut, other] = [1, 2].map(|id| session.open(Open { bind: Some(BindId(id)), ..Open::default() }).unwrap());
    pair.settle();
    pair.agent.take_events();
    pair.network.take_events();
    let session = pair.agent.link.session_mut().unwrap();
    assert_eq!(session.read(cut, 1), Err(ReadError::Blocked));

    session.unbind(&Unbind::new(BindId(1)).cutting(true));
    pair.settle();

    assert_eq!(pair.agent.take_events(), [Event::Readable(cut)]);
    let session = pair.agent.link.session_mut().unwrap();
    assert_eq!(session.read(cut, 1), Err(ReadError::Reset(Code::UNBOUND)));
    assert_eq!(session.write(cut, &mut "x".into()), Err(WriteError::Stopped(Code::UNBOUND)));
    let session = pair.network.link.session_mut().unwrap();
    assert_eq!(session.read(cut, 1), Err(ReadError::Reset(Code::UNBOUND)));
    assert_eq!(session.write(cut, &mut "x".into()), Err(WriteError::Stopped(Code::UNBOUND)));
    assert_eq!(session.write(other, &mut "x".into()), Ok(1));
    pair.settle();
    assert_eq!(pair.agent.link.session_mut().unwrap().read(other, 9), Ok(Some("x".into())));
}

#[test]
fn a_command_is_asked_and_answered_once() {
    let mut pair = Pair::established(Options::default());
    let id = pair.network.link.session_mut().unwrap().command(Command::Restart, "by ops").unwrap();
    pair.settle();
    let request = CommandRequest { text: "by ops".into(), ..CommandRequest::new(id, Command::Restart) };
    assert_eq!(pair.agent.take_events(), [Event::Command(request)]);

    let result = CommandResult { id, code: Code::FORBIDDEN, text: "not enabled here".into() };
    let session = pair.agent.link.session_mut().unwrap();
    session.answer(&result).unwrap();
    assert!(session.answer(&result).is_err());
    pair.settle();

    assert_eq!(pair.network.take_events(), [Event::CommandResult(result)]);
}

/// CMD-006
#[test]
fn a_document_is_carried_whole_or_not_at_all() {
    let mut pair = Pair::established(Options::default());
    let (whole, longer) = ("ü".repeat(DOCUMENT / 2), "x".repeat(DOCUMENT + 1));
    let session = pair.network.link.session_mut().unwrap();
    assert_eq!(session.configure(&longer, "by ops"), Err(AnswerError::TooLong));
    let id = session.configure(&whole, "by ops").unwrap();
    pair.settle();

    let request = CommandRequest::new(id, Command::Configuration);
    let request = CommandRequest { text: "by ops".into(), document: whole, ..request };
    assert_eq!(pair.agent.take_events(), [Event::Command(request)]);
}

/// CRL-001, CRL-002
#[test]
fn revocation_lists_are_handed_over_the_newest_of_those_that_wait() {
    let mut pair = Pair::established(Options::default());
    let heard = |pair: &Pair| pair.agent.link.session().unwrap().processed();
    let before = heard(&pair);
    let session = pair.network.link.session_mut().unwrap();
    session.tell_revocations("old".into()).unwrap();
    session.command(Command::Restart, "").unwrap();
    session.tell_revocations("new".into()).unwrap();
    pair.settle();
    let told = pair.agent.take_events();
    let lists: Vec<_> = told.iter().filter(|event| matches!(event, Event::Revocations(_))).collect();
    assert_eq!((told.len(), lists), (2, vec![&Event::Revocations("new".into())]));
    assert_eq!(heard(&pair) - before, 2, "the agent would leave the older out by itself");

    assert_eq!(pair.network.take_events(), [], "there is no answer");
}

/// CRL-001, FRAME-012
#[test]
fn revocation_lists_that_fit_no_frame_of_the_agent_are_not_sent() {
    let mut agent = Config::agent();
    agent.frame = 8_192;
    let mut pair = Pair::established(Options { agent, ..Options::default() });
    let session = pair.network.link.session_mut().unwrap();
    session.tell_revocations(vec![1; 8_192].into()).unwrap();
    assert_eq!(session.tell_revocations(vec![2; 8_193].into()), Err(RevocationsError::TooLong(8_192)));
    pair.settle();

    assert_eq!(pair.agent.take_events(), [Event::Revocations(vec![1; 8_192].into())], "what waited went out");
    pair.network.link.close(Code::NO_ERROR, "", pair.now());
    let session = pair.network.link.session_mut().unwrap();
    assert_eq!(session.tell_revocations("late".into()), Err(RevocationsError::Closed));
}

#[test]
fn a_silent_peer_is_declared_dead_after_the_tolerance() {
    let mut pair = Pair::with_heartbeat(secs(10), secs(15));
    pair.run_for(secs(60));
    let heard = pair.now();
    pair.down.hole = true;

    pair.run_for(secs(14));
    assert_eq!(pair.agent.cause(), None);
    pair.run_for(secs(11));

    let Some(Cause::Dead { silent_for }) = pair.agent.cause() else { panic!("{:?}", pair.agent.cause()) };
    assert!(*silent_for >= secs(15) && *silent_for <= secs(25), "{silent_for:?} since {heard:?}");
}

#[test]
fn a_peer_that_takes_nothing_is_declared_dead_after_the_tolerance() {
    let mut pair = Pair::with_heartbeat(secs(10), secs(15));
    let stream = pair.open();
    (pair.up.stalled, pair.down.stalled) = (true, true);
    pair.network.write(stream, b"stuck").unwrap();

    pair.run_for(secs(15) - Duration::from_millis(1));
    assert_eq!(pair.network.cause(), None);
    pair.run_for(Duration::from_millis(1));

    assert_eq!(pair.network.cause(), Some(&Cause::Stalled { stuck_for: secs(15) }));
}

#[test]
fn a_slow_busy_link_is_not_a_dead_one() {
    let slow = Path { latency: Duration::from_millis(300), rate: Some(8_000), capacity: 64 << 10, ..Path::default() };
    let mut pair = Pair::established(Options { up: slow.clone(), down: slow, ..Options::default() });
    let stream = pair.open();
    pair.settle();
    let block = vec![1; 64 << 10];

    for _ in 0..1_800 {
        let _ = pair.network.write(stream, &block);
        pair.run_for(secs(1));
        pair.agent.read(stream).unwrap();
    }

    assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
}

#[test]
fn a_drain_lets_streams_finish_refuses_new_ones_and_then_closes() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.settle();
    pair.agent.take_events();
    let now = pair.now();

    pair.network.link.session_mut().unwrap().drain(Code::SHUTDOWN, None, "bye", now);
    pair.settle();
    let goaway = GoAway { last: 0, code: Code::SHUTDOWN, retry_after: None, text: "bye".into() };
    assert_eq!(pair.agent.take_events(), [Event::GoAway(goaway)]);
    assert_eq!(pair.agent.link.session_mut().unwrap().open(Open::default()), Err(OpenError::Draining));
    assert_eq!(pair.network.link.session_mut().unwrap().open(Open::default()), Err(OpenError::Draining));

    pair.agent.write(stream, b"done").unwrap();
    pair.agent.link.session_mut().unwrap().finish(stream).unwrap();
    pair.settle();
    assert_eq!(pair.network.read(stream), Ok((b"done".to_vec(), true)));
    pair.network.link.session_mut().unwrap().finish(stream).unwrap();
    pair.settle();
    assert_eq!(pair.agent.read(stream), Ok((vec![], true)));
    pair.network.link.session_mut().unwrap().release(stream);
    pair.agent.link.session_mut().unwrap().release(stream);
    pair.run_for(Duration::from_millis(100));

    assert_eq!(pair.network.cause(), Some(&Cause::Local(Code::NO_ERROR)));
    let close = Close { code: Code::NO_ERROR, text: String::new() };
    assert_eq!(pair.agent.cause(), Some(&Cause::Remote(close)));
    assert!(pair.network.link.is_finished() && pair.agent.link.is_finished());
}

/// CODE-006, GO-005
#[test]
fn a_drain_ends_at_its_deadline_whatever_the_streams_do() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.settle();
    let now = pair.now();
    pair.network.link.session_mut().unwrap().drain(Code::SHUTDOWN, None, "", now);

    pair.run_for(secs(30) + Duration::from_millis(10));

    assert_eq!(pair.network.cause(), Some(&Cause::Local(Code::DRAIN_TIMEOUT)));
    assert_eq!(pair.agent.read(stream), Err(ReadError::Lost(Code::DRAIN_TIMEOUT)));
}

/// CODE-006
#[test]
fn a_lost_transport_ends_every_stream_with_a_code_after_what_had_arrived() {
    let mut pair = Pair::established(Options { resumable: false, ..Options::default() });
    let (ended, open) = (pair.open(), pair.open());
    pair.network.write(ended, b"whole").unwrap();
    pair.network.link.session_mut().unwrap().finish(ended).unwrap();
    pair.network.write(open, b"part").unwrap();
    pair.settle();

    pair.cut();

    assert_eq!(pair.agent.cause(), Some(&Cause::Transport(Loss::Reset)));
    assert_eq!(pair.agent.read(ended), Ok((b"whole".to_vec(), true)));
    assert_eq!(pair.agent.read(open), Ok((b"part".to_vec(), false)));
    assert_eq!(pair.agent.read(open), Err(ReadError::Lost(Code::SESSION_LOST)));
    assert_eq!(pair.network.write(open, b"x"), Err(WriteError::Lost(Code::SESSION_LOST)));
}

#[test]
fn of_the_end_hears_who_waits_for_an_acceptance_and_who_waits_to_read() {
    let mut pair = Pair::established(Options { resumable: false, ..Options::default() });
    let (accepted, pending) = (pair.open(), pair.open());
    pair.settle();
    pair.agent.session().accept_stream(accepted);
    pair.settle();
    pair.agent.take_events();
    pair.network.take_events();

    pair.cut();

    let closed = || Event::Closed(Cause::Transport(Loss::Reset));
    let (accepted, unknown, pending) = (Event::Readable(accepted), Event::Accepted(pending), Event::Readable(pending));
    assert_eq!(pair.network.take_events(), [accepted, unknown, pending, closed()]);
    assert_eq!(pair.agent.take_events().pop(), Some(closed()));
}

#[test]
fn an_unfinished_handshake_ends_at_its_deadline() {
    let mut pair = Pair::new(Options::default());

    pair.run_for(secs(10));

    assert_eq!(pair.network.cause(), Some(&Cause::HandshakeTimeout));
}

#[test]
fn a_stream_limit_holds_until_streams_are_let_go_and_then_gives_way() {
    let mut agent = Config::agent();
    agent.streams = 8;
    let mut pair = Pair::established(Options { agent, ..Options::default() });
    let streams: Vec<StreamId> = (0..8).map(|_| pair.open()).collect();
    let open = |pair: &mut Pair| pair.network.link.session_mut().unwrap().open(Open::default());
    assert_eq!(open(&mut pair), Err(OpenError::Limit));

    // None of them has been sent: they are opened and reset all the same, so that no number is lost.
    for stream in streams {
        pair.network.link.session_mut().unwrap().release(stream);
    }
    pair.settle();
    assert_eq!(open(&mut pair), Err(OpenError::Limit), "the agent's application still holds its ends");
    for event in pair.agent.take_events() {
        if let Event::Opened(stream) = event {
            pair.agent.link.session_mut().unwrap().release(stream);
        }
    }
    pair.settle();

    assert_eq!(pair.agent.link.session().unwrap().live_streams(), 0);
    assert_eq!(pair.network.link.session().unwrap().live_streams(), 0);
    assert_eq!(open(&mut pair).map(StreamId::number), Ok(18));
}

/// RES-004
#[test]
fn what_is_not_acknowledged_is_kept_and_its_bound_stops_the_sender() {
    let mut network = Config::network();
    network.retain_octets = 64 << 10;
    let mut pair = Pair::established(Options { network, ..Options::default() });
    let stream = pair.open();
    pair.settle();
    pair.up.hole = true;
    for _ in 0..8 {
        let _ = pair.network.write(stream, &[1; 64 << 10]);
        pair.run_for(Duration::from_millis(100));
    }

    let kept = pair.network.link.session().unwrap().stats().retained;
    assert!((64 << 10..(64 << 10) + 16_384).contains(&kept), "{kept}");
}

#[test]
fn what_was_finished_still_goes_out_after_its_writer_let_go() {
    let mut pair = Pair::established(Options::default());
    let stream = pair.open();
    pair.network.write(stream, &[7; 100_000]).unwrap();
    let session = pair.network.link.session_mut().unwrap();
    session.finish(stream).unwrap();
    session.release(stream);
    pair.settle();

    let (octets, ended) = pair.agent.read(stream).unwrap();
    assert_eq!((octets.len(), ended), (100_000, true));
}

#[test]
fn a_stream_that_crosses_the_goaway_is_refused_and_not_lost() {
    let mut pair = Pair::established(Options::default());
    let now = pair.now();
    pair.agent.link.session_mut().unwrap().drain(Code::SHUTDOWN, None, "", now);

    let stream = pair.open();
    pair.run_for(Duration::from_millis(100));

    assert_eq!(pair.network.link.session().unwrap().acceptance(stream), Some(Err(Code::REFUSED)));
    assert_eq!(pair.agent.cause(), Some(&Cause::Local(Code::NO_ERROR)));
}
