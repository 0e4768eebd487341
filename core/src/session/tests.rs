use alloc::{vec, vec::Vec};

use bytes::Bytes;

use super::*;
use crate::{
    frame::Encoded,
    side::{Agent, Network},
};

#[test]
fn the_shortest_round_trip_of_late_counts_and_a_longer_path_is_believed_by_and_by() {
    let ms = Duration::from_millis;
    let mut session = session(&Config::network());

    let known = [800, 1_000, 2_000, 400, 410].map(|rtt| {
        session.on_round_trip(ms(rtt));
        session.rtt
    });

    assert_eq!(
        known,
        [800, 900, 1_012, 400, 410].map(|rtt| Some(ms(rtt) + if rtt == 1_012 { ms(1) / 2 } else { ms(0) }))
    );
}

#[test]
fn a_session_at_rest_gives_back_the_memory_that_a_session_at_work_keeps() {
    let config = Config { ack_delay: Duration::from_millis(25), ..Config::network() };
    let works = || {
        let mut session = session(&config);
        session.on_open(1, &[]).expect("valid");
        session.handle_frame(Kind::Data, 1, &[7; 16_000], Instant::ZERO).expect("valid");
        assert!(matches!(session.read(StreamId(1), usize::MAX), Ok(Some(_))));
        assert!(session.spare.holds());
        session
    };

    let mut quiet = works();
    quiet.handle_timeout(Instant::ZERO + config.ack_delay);
    assert!(!quiet.spare.holds(), "little comes");

    let mut over = works();
    over.end(&Cause::HandshakeTimeout);
    assert!(!over.spare.holds());
}

#[test]
fn a_stream_of_the_peer_that_owes_nothing_does_not_make_the_session_want_to_speak() {
    let config = Config { window_eager: Config::network().window, ..Config::network() };
    let mut session = session(&config);

    session.on_open(1, &[]).expect("valid");

    assert!(!session.wants_transmit());
}

/// STREAM-016
#[test]
fn streams_are_granted_anew_when_a_quarter_of_them_are_over() {
    let config = Config { streams: 9, ..Config::network() };
    let mut session = session(&config);
    let mut granted = Vec::new();

    for id in [1, 3, 5, 7] {
        session.on_open(id, &[]).expect("granted");
        session.release(StreamId(id));
        session.on_reset(id, &[0; 4]).expect("valid");
        let said: Vec<Encoded> = core::iter::from_fn(|| session.poll_transmit()).collect();
        granted.extend(said.into_iter().filter(|frame| frame.kind() == Kind::Streams));
    }

    assert_eq!(granted, [Encoded::streams(11), Encoded::streams(13)]);
}

#[test]
fn streams_take_turns_also_when_they_are_finished_and_an_end_follows_its_last_octet() {
    let mut session = session(&Config::network());
    let [one, two] = [(); 2].map(|()| session.open(Open::default()).expect("granted"));
    for id in [one, two] {
        assert_eq!(session.write(id, &mut Bytes::from(vec![7; 20_000])), Ok(20_000));
        session.finish(id).expect("open");
    }

    let said = core::iter::from_fn(|| session.poll_transmit());
    let said: Vec<(Kind, u8)> = said.map(|frame| (frame.kind(), frame.header()[7])).collect();

    let (open, data, fin) = (Kind::Open, Kind::Data, Kind::Fin);
    assert_eq!(
        said.into_iter().filter(|(kind, _)| [open, data, fin].contains(kind)).collect::<Vec<_>>(),
        [(open, 2), (open, 4), (data, 2), (data, 4), (data, 2), (fin, 2), (data, 4), (fin, 4)]
    );
}

#[test]
fn a_stream_that_has_sent_all_does_not_make_the_session_want_to_speak() {
    let mut session = session(&Config::network());
    let id = session.open(Open::default()).expect("granted");
    session.write(id, &mut Bytes::from_static(b"all")).expect("room");

    while session.poll_transmit().expect("something to say").kind() != Kind::Data {}

    assert!(!session.wants_transmit());
}

#[test]
fn what_a_reset_drops_waits_no_longer_and_its_writer_and_reader_are_told() {
    let mut session = session(&Config { send_stream: 16_376, ..Config::network() });
    let [one, two] = [(); 2].map(|()| session.open(Open::default()).expect("granted"));
    for id in [one, two] {
        session.write(id, &mut Bytes::from(vec![7; 16_376])).expect("room");
        assert_eq!(session.write(id, &mut Bytes::from_static(b"x")), Err(WriteError::Blocked));
    }
    assert_eq!(session.stats().queued, 2 * 16_376);
    while session.poll_transmit().expect("something to say").kind() != Kind::Data {}
    while session.poll_event().is_some() {}
    let queued = session.stats().queued;

    session.on_stop(two.number(), &[0; 4]).expect("valid");
    assert_eq!((queued, session.stats().queued), (16_376, 0));
    let told: Vec<Event> = core::iter::from_fn(|| session.poll_event()).collect();
    assert_eq!(told, [Event::Accepted(two), Event::Writable(two)]);

    session.on_accept(one.number()).expect("valid");
    assert_eq!(session.poll_event(), Some(Event::Accepted(one)));
    session.on_reset(one.number(), &[0; 4]).expect("valid");
    assert_eq!((session.poll_event(), session.poll_event()), (Some(Event::Readable(one)), None));
}

#[test]
fn of_the_end_hears_who_waits_to_write() {
    let mut session = session(&Config { send_stream: 16_376, ..Config::network() });
    let id = session.open(Open::default()).expect("granted");
    session.on_accept(id.number()).err();
    session.write(id, &mut Bytes::from(vec![7; 16_376])).expect("room");
    assert_eq!(session.write(id, &mut Bytes::from_static(b"x")), Err(WriteError::Blocked));

    session.end(&Cause::HandshakeTimeout);

    let told: Vec<Event> = core::iter::from_fn(|| session.poll_event()).collect();
    assert!(told.contains(&Event::Writable(id)), "{told:?}");
    assert_eq!((session.over(), session.stats().queued), (Some(Code::SESSION_LOST), 0));
}

#[test]
fn what_a_stream_was_opened_for_is_taken_once_and_only_of_the_peers() {
    let mut session = session(&Config::network());
    let open = Open { endpoint: "https://a.example".into(), ..Open::default() };
    let mut payload = Vec::new();
    crate::Message::encode(&open, &mut payload);
    session.on_open(1, &payload).expect("valid");
    let ours = session.open(open.clone()).expect("granted");

    assert_eq!(session.take_open(StreamId(1)), Some(open));
    assert_eq!(
        (session.take_open(StreamId(1)), session.take_open(ours), session.take_open(StreamId(9))),
        (None, None, None)
    );
}

#[test]
fn a_session_counts_what_is_open_and_what_went_out() {
    let mut session = session(&Config::network());
    session.on_open(1, &[]).expect("valid");
    let ours = session.open(Open::default()).expect("granted");
    session.write(ours, &mut Bytes::from_static(b"hello")).expect("room");
    let (live, queued) = (session.stats().streams_live, session.stats().queued);
    assert_eq!((live, queued, session.sent(), session.over()), (2, 5, 0, None));

    let said = core::iter::from_fn(|| session.poll_transmit()).count() as u64;

    assert_eq!((session.sent(), session.stats().queued, session.stats().data_sent), (said, 0, 5));
    assert!(said >= 2);
}

#[test]
fn what_was_read_after_the_end_or_is_little_is_not_announced() {
    let mut session = session(&Config { window_eager: 16 << 10, window: 16 << 10, ..Config::network() });
    session.on_open(1, &[]).expect("valid");
    let mut credits = |octets: usize, ended: bool| {
        session.on_data(1, &vec![7; octets]).expect("within the window");
        if ended {
            session.on_fin(1, &(100u64 + 10_000).to_be_bytes()).expect("valid");
        }
        assert!(matches!(session.read(StreamId(1), usize::MAX), Ok(Some(_))));
        core::iter::from_fn(|| session.poll_transmit()).filter(|frame| frame.kind() == Kind::Credit).count()
    };

    assert_eq!(credits(100, false), 0, "little");
    assert_eq!(credits(10_000, true), 0, "nothing more will come");
}

#[test]
fn a_crowd_is_rid_of_the_gone_when_they_are_most_of_it_and_not_before() {
    let mut session = session(&Config::network());
    session.on_open(1, &[]).expect("valid");
    let crowds = [0, 66, 67, 300].map(|gone| {
        session.on_open(3 + 2 * gone, &[]).expect("granted");
        session.release(StreamId(3 + 2 * gone));
        while session.poll_transmit().is_some() {}
        session.crowded = (0..gone).map(|count| 100_001 + 2 * count).collect();
        session.on_reset(3 + 2 * gone, &[0; 4]).expect("valid");
        session.crowded.len()
    });

    assert_eq!(crowds, [0, 66, 0, 0]);
}

#[test]
fn no_bind_is_asked_for_once_the_end_is_announced() {
    let peer = Limits { frame: 16_376, window: 1 << 20, streams: 100 };
    let bind = |session: &mut Session<Agent>| session.bind(&a_bind());
    let mut drains = Session::<Agent>::new(&Config::agent(), peer, false);
    assert_eq!(bind(&mut drains), Ok(()));
    drains.drain(Code::SHUTDOWN, None, "", Instant::ZERO);
    assert_eq!(bind(&mut drains), Err(BindError::Ending));

    let mut over = Session::<Agent>::new(&Config::agent(), peer, false);
    over.end(&Cause::HandshakeTimeout);
    assert_eq!(bind(&mut over), Err(BindError::Ending));
}

fn session(config: &Config) -> Session<Network> {
    Session::new(config, Limits { frame: 16_376, window: 1 << 20, streams: 100 }, false)
}

fn a_bind() -> crate::Bind {
    crate::Bind {
        id: crate::BindId(1),
        url: "tcp://:1".into(),
        pooling: false,
        upstream_protocol: crate::UpstreamProtocol::Http1,
        name: "".into(),
        description: "".into(),
        metadata: "".into(),
        tls_end: crate::TlsEnd::Unsaid,
    }
}
