//! What a session holds in memory, counted octet by octet, whatever the peer does and the application leaves undone (L2).
#![cfg(feature = "testing")]

use std::alloc::System;

use adit_core::{
    Bind, BindId, Code, Config, Duration, Event, Open, ResumeOffer, Secret, SessionId, StreamId, TlsInfo,
    UpstreamProtocol, Withheld,
    frame::Kind,
    side,
    testing::{Lone, a_hello, encoded, raw},
};
use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What it is, and how it is done.
type Attack = (&'static str, fn(&mut Lone<side::Network>));

/// One test, because the allocator counts for all threads.
#[test]
fn a_session_never_holds_more_than_its_configuration_says() {
    let attacks: [Attack; 9] = [
        ("octets that come one at a time and are not read", |lone| unread(lone, 1)),
        ("octets that come in pieces just too long to be joined", |lone| unread(lone, 1_024)),
        ("octets that come in whole frames", |lone| unread(lone, 8_192)),
        ("octets that are written one at a time to a peer that grants nothing", |lone| unsent(lone, 1)),
        ("octets that are written in pieces just too long to be joined", |lone| unsent(lone, 1_024)),
        ("binds that nobody answers", unanswered),
        ("hints of what is withheld, which come and go and are not heard", withholding),
        ("frames of one octet that nobody acknowledges", unacknowledged),
        ("all of it at once", everything),
    ];
    for (attack, act) in attacks {
        // The thread that started this one allocates for itself meanwhile, once or twice: a leak is there each time.
        let leaks: Vec<usize> = (0..3).map(|_| keeps(attack, act)).take_while(|leak| *leak > 0).collect();
        assert!(leaks.len() < 3, "{attack}: all is given back, but {leaks:?}");
    }
}

/// Returns how many octets are still held when an attack is over, and checks what it held meanwhile.
fn keeps(attack: &str, act: fn(&mut Lone<side::Network>)) -> usize {
    let before = held();
    let mut lone = resumable();
    act(&mut lone);
    let (holds, most) = ((held() - before) as u64, config().worst_case_memory());
    assert_eq!(lone.cause(), None, "{attack}");
    assert!(holds <= most, "{attack}: {holds} octets of {most}");
    drop(lone);
    held().saturating_sub(before)
}

/// The peer sends on every stream as much as it is granted, after the application read fast and then no more.
fn unread(lone: &mut Lone<side::Network>, piece: usize) {
    for id in theirs() {
        lone.hear(&raw(Kind::Open.number(), id.number(), &encoded(&long_open())));
    }
    let mut sent = vec![0; theirs().count()];
    for round in 0..12 {
        let limits = granted(lone);
        for (id, sent) in theirs().zip(&mut sent) {
            let limit =
                limits.iter().rev().find(|(of, _)| *of == u64::from(id.number())).map_or(0, |(_, limit)| *limit);
            let limit = limit.max(u64::from(config().window));
            while *sent < limit {
                let length = usize::try_from(limit - *sent).expect("a small window").min(piece);
                lone.hear(&raw(Kind::Data.number(), id.number(), &vec![7; length]));
                *sent += length as u64;
            }
            if round < 11 {
                while lone.session().read(id, usize::MAX).is_ok() {}
                lone.hear(&raw(Kind::Blocked.number(), id.number(), &sent.to_be_bytes()));
            }
        }
    }
    assert!(lone.session().reserved() > config().pool / 2, "the windows grew: {}", lone.session().reserved());
}

fn granted(lone: &mut Lone<side::Network>) -> Vec<(u64, u64)> {
    let said = lone.say();
    let processed = lone.session().sent();
    lone.hear(&raw(Kind::Ack.number(), 0, &processed.to_be_bytes()));
    let credit = said.iter().filter(|frame| frame.kind() == Kind::Credit);
    let number = |octets: &[u8]| octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet));
    credit.map(|frame| (number(&frame.header()[4..]), number(frame.payload()))).collect()
}

/// The application writes as much as is taken, and the peer grants nothing beyond its first window.
fn unsent(lone: &mut Lone<side::Network>, piece: usize) {
    let session = lone.session();
    let streams: Vec<StreamId> = core::iter::from_fn(|| session.open(long_open()).ok()).collect();
    for _ in 0..2 {
        for id in &streams {
            while lone.session().write(*id, &mut Bytes::from(vec![7; piece])).is_ok() {}
        }
        lone.say();
    }
}

fn unanswered(lone: &mut Lone<side::Network>) {
    for id in 0..config().unanswered {
        let bind = Bind {
            id: BindId(id),
            url: "x".repeat(512),
            pooling: true,
            upstream_protocol: UpstreamProtocol::Http1,
            name: "x".repeat(253),
            description: "x".repeat(1_024),
            metadata: "x".repeat(4_096),
            tls_end: Default::default(),
        };
        lone.hear(&raw(Kind::Bind.number(), 0, &encoded(&bind)));
    }
}

fn withholding(lone: &mut Lone<side::Network>) {
    for count in 0..100 {
        let url = format!("{:x<512}", count % 20);
        let withheld = Withheld { code: Code(1 + count), text: "x".repeat(1_024), ..Withheld::taken_back(url) };
        lone.hear(&raw(Kind::Withheld.number(), 0, &encoded(&withheld)));
    }
}

/// The application writes octets one at a time, and the peer takes and never acknowledges them.
fn unacknowledged(lone: &mut Lone<side::Network>) {
    let id = lone.session().open(long_open()).expect("granted");
    for _ in 0..1_000 {
        let _ = lone.session().write(id, &mut Bytes::from_static(&[7]));
        lone.say();
    }
}

fn everything(lone: &mut Lone<side::Network>) {
    unread(lone, 1);
    unanswered(lone);
    withholding(lone);
    unsent(lone, 1);
}

/// A session that keeps what is not acknowledged.
fn resumable() -> Lone<side::Network> {
    let mut lone = Lone::network(config());
    lone.hear(&raw(Kind::Hello.number(), 0, &encoded(&a_hello())));
    for event in lone.events() {
        let Event::Hello(request) = event else { continue };
        let mut welcome = request.welcome(SessionId([7; 16]), "local", "node-1");
        welcome.resume = Some(ResumeOffer { secret: Secret::new([9; 16]), window: Duration::from_secs(30) });
        let now = lone.now();
        lone.link.accept(request, welcome, now);
    }
    lone.say();
    lone
}

fn long_open() -> Open {
    let text = "x".repeat(255);
    let (sni, alpn, version, cipher) = (text.clone(), text.clone(), text.clone(), text);
    Open { tls: Some(TlsInfo { sni, alpn, version, cipher }), endpoint: "x".repeat(512), ..Open::default() }
}

fn theirs() -> impl Iterator<Item = StreamId> {
    (0..config().streams).filter_map(|count| StreamId::new(2 * count + 1))
}

/// Small, so that nothing hides behind what is large.
fn config() -> Config {
    let mut config = Config::network();
    (config.streams, config.open_streams, config.pool) = (8, 8, 100_000);
    (config.window, config.window_eager, config.window_max) = (2_048, 2_048, 32_768);
    (config.send_stream, config.send_total) = (32_768, 65_536);
    (config.retain_octets, config.retain_frames) = (65_536, 64);
    (config.unanswered, config.binds, config.oddities) = (10, 10, 100);
    config
}

fn held() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}
