//! What is counted.

use core::mem::size_of;
use std::alloc::System;

#[cfg(feature = "quic")]
use adit_benches::quic::{self, Quic};
use adit_benches::{
    pair::{Options, Pair},
    report::Goal,
    secure::End,
};
use adit_core::{Duration, Event, FRAME, Link, Open, StreamId, side, tls::Tls};
use bytes::Bytes;
use peakmem_alloc::{PeakMemAlloc, PeakMemAllocTrait as _};
use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};

#[global_allocator]
static PEAK: PeakMemAlloc<&StatsAlloc<System>> = PeakMemAlloc::new(ALLOCATOR);
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A name, what was counted, what it should be, and of what.
type Count = (String, f64, Goal, &'static str);

/// Counts everything.
pub(crate) fn all() -> Vec<Count> {
    let mut counts = Vec::new();
    counts.extend(session());
    counts.push((
        "session: the most while it is made, both sides".into(),
        float(peak_of_session()),
        Goal::AtMost(PEAK_SESSION),
        "octets",
    ));
    counts.push((
        "stream: the most while 1,000 are opened, both sides".into(),
        peak_of_stream(),
        Goal::AtMost(PEAK_STREAM),
        "octets",
    ));
    counts.extend(streams("new", |_, _| ()));
    counts.extend(streams("after an echo", |pair, streams| {
        for id in streams {
            let network = pair.network.session_mut().expect("established");
            network.write(*id, &mut Bytes::from_static(&[7; 64])).expect("open");
            pair.settle();
            let agent = pair.agent.session_mut().expect("established");
            while let Ok(Some(mut chunk)) = agent.read(*id, usize::MAX) {
                agent.write(*id, &mut chunk).expect("open");
            }
            pair.settle();
            let network = pair.network.session_mut().expect("established");
            while let Ok(Some(_)) = network.read(*id, usize::MAX) {}
        }
    }));
    counts.extend(streams("after 1 MiB", |pair, streams| {
        for id in streams {
            pair.bulk(&[*id], 1 << 20);
        }
    }));
    counts.extend(of_tls());
    #[cfg(feature = "quic")]
    counts.extend(of_quic());
    for (name, options) in [("retained", Options::default()), ("forgetful", Options::forgetful())] {
        for count in [1, 100] {
            counts.push(bulk(name, &options, count));
        }
    }
    counts
}

/// An idle session, of both sides.
fn session() -> [Count; 4] {
    let before = ALLOCATOR.stats();
    let pair = Pair::new(Options::default());
    let made = (ALLOCATOR.stats() - before).allocations;
    let (agent, network) = rest(pair).part();
    let (agent_held, network_held) = (held_by(agent), held_by(network));
    let agent = agent_held + size_of::<Link<side::Agent>>();
    let network = network_held + size_of::<Link<side::Network>>();
    [
        ("idle session: agent".into(), float(agent), Goal::AtMost(2_048.0), "octets"),
        ("idle session: network".into(), float(network), Goal::AtMost(2_048.0), "octets"),
        ("idle session: network, on the heap".into(), float(network_held), Goal::None, "octets"),
        ("handshake, both sides".into(), float(made), Goal::None, "allocations"),
    ]
}

/// Returns the most that both sides hold at any moment of their handshake, in octets, with what is on the way between them.
fn peak_of_session() -> usize {
    PEAK.reset_peak_memory();
    let pair = Pair::new(Options::default());
    let most = PEAK.get_peak_memory();
    drop(pair);
    most + size_of::<Link<side::Agent>>() + size_of::<Link<side::Network>>()
}

/// Returns the most that both sides hold for each stream at any moment while many are opened at once, in octets.
fn peak_of_stream() -> f64 {
    let mut pair = rest(Pair::new(Options::default()));
    PEAK.reset_peak_memory();
    let streams = pair.open(STREAMS).expect("few");
    take_opens(&mut pair);
    drop(streams);
    float(PEAK.get_peak_memory()) / float(STREAMS)
}

/// An idle stream, of both sides, after it was used.
fn streams(name: &str, used: impl Fn(&mut Pair, &[StreamId])) -> Vec<Count> {
    let held = |count: usize| {
        let mut pair = Pair::new(Options::default());
        let before = ALLOCATOR.stats();
        let streams = pair.open(count).expect("few");
        take_opens(&mut pair);
        let made = (ALLOCATOR.stats() - before).allocations;
        used(&mut pair, &streams);
        let (agent, network) = rest(pair).part();
        (held_by(agent), held_by(network), made)
    };
    let (none, some) = (held(0), held(STREAMS));
    let each = |some: usize, none: usize| float(some - none) / float(STREAMS);
    let mut counts = vec![
        (format!("idle stream {name}: agent"), each(some.0, none.0), Goal::AtMost(600.0), "octets"),
        (format!("idle stream {name}: network"), each(some.1, none.1), Goal::AtMost(600.0), "octets"),
    ];
    if name == "new" {
        counts.push(("opening a stream, both sides".into(), each(some.2, none.2), Goal::None, "allocations"));
    }
    counts
}

/// What TLS holds at rest below a session, of both sides. What aws-lc holds is allocated in C, and not counted.
fn of_tls() -> [Count; 2] {
    let (agent, network) = End::pair();
    let count = |name: &str, end: End| {
        let held = float(held_by(end.part()) + size_of::<Tls>());
        (format!("TLS of an idle session: {name}"), held, Goal::None, "octets")
    };
    [count("agent", agent), count("network", network)]
}

/// What a connection of quinn-proto holds at rest, TLS included, without its part of the endpoint's tables; and a stream of it,
/// with its part of the tables that grow with the number of streams that may be open.
#[cfg(feature = "quic")]
fn of_quic() -> Vec<Count> {
    let held = |count: u32| {
        let mut quic = Quic::new(quic::ETHERNET, quic::STREAMS.max(count));
        drop(quic.open(count as usize));
        quic.part().map(held_by)
    };
    let (none, some) = (held(0), held(1_000));
    let mut counts = Vec::new();
    for (name, (none, some)) in ["client", "server"].into_iter().zip(none.into_iter().zip(some)) {
        let each = float(some - none) / 1_000.0;
        counts.push((
            format!("quinn-proto: idle connection: {name}"),
            float(none + quic::CONNECTION),
            Goal::None,
            "octets",
        ));
        counts.push((format!("quinn-proto: idle stream: {name}"), each, Goal::None, "octets"));
    }
    counts
}

/// What both sides allocate for a frame while a stream carries much for long.
fn bulk(name: &str, options: &Options, count: usize) -> Count {
    let mut pair = Pair::new(options.clone());
    let streams = pair.open(count).expect("few");
    take_opens(&mut pair);
    pair.bulk(&streams, 256 << 20); // the windows grow
    let octets = 512 << 20;
    let before = ALLOCATOR.stats();
    pair.bulk(&streams, octets);
    let made = ALLOCATOR.stats() - before;
    let frames = float(usize::try_from(octets).unwrap_or(0)) / f64::from(FRAME);
    let made = float(made.allocations + made.reallocations) / frames;
    (format!("bulk, {name}, {count} streams: each frame"), made, Goal::AtMost(0.01), "allocations")
}

/// Takes what the agent is told of streams that the network opened, as an application does.
fn take_opens(pair: &mut Pair) {
    while let Some(event) = pair.agent.poll_event() {
        if let Event::Opened(id) = event {
            let agent = pair.agent.session_mut().expect("established");
            let open: Option<Open> = agent.take_open(id);
            drop(open);
            agent.accept_stream(id);
        }
    }
    pair.settle();
    while pair.network.poll_event().is_some() {}
}

/// Lets everything be acknowledged.
fn rest(mut pair: Pair) -> Pair {
    for _ in 0..3 {
        pair.pass(Duration::from_secs(1));
        while pair.agent.poll_event().is_some() || pair.network.poll_event().is_some() {}
    }
    pair
}

/// Returns what is given back when a side is dropped, in octets.
fn held_by<T>(side: T) -> usize {
    let before: Stats = ALLOCATOR.stats();
    drop(side);
    let given = ALLOCATOR.stats() - before;
    given.bytes_deallocated - given.bytes_allocated
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
const fn float(count: usize) -> f64 {
    count as f64
}

const STREAMS: usize = 1_000;
/// What both sides of a session may hold at rest, and half as much again for the messages of the handshake.
const PEAK_SESSION: f64 = 2.0 * 2_048.0 * 1.5;
/// What both sides of a stream may hold at rest: what says that it was opened must not add to it.
const PEAK_STREAM: f64 = 2.0 * 600.0;
