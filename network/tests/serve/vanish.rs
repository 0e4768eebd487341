//! Agents that go without a word, and what they leave behind: nothing (V24, V40).

use core::time::Duration;
use std::time::Instant;

use adit_tokio::proto::{
    AgentId, Bind, BindId, Bound, Heartbeat, Hello, Message as _, Secret, UpstreamProtocol,
    frame::{Encoded, Kind, RawKind},
};
use futures_util::{StreamExt as _, stream};
use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use crate::{
    PATIENCE,
    resume::hello,
    support::{Network, sockets, until},
    wire::{Wire, first},
};

/// How an agent goes.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// It ends its direction and keeps the socket: half-closed.
    Fin,
    /// It resets the connection.
    Reset,
    /// It says nothing any more, and takes what comes.
    Silence,
}

#[tokio::test]
async fn an_agent_that_half_closes_resets_or_falls_silent_loses_its_endpoint_in_time_and_no_socket_stays() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let ingress = network.address("ingress").port();
    // It is missed at once or after interval and tolerance, and waited for a second: the rest is for a slow machine.
    for (way, missed) in [(Way::Fin, 0), (Way::Reset, 0), (Way::Silence, 2)] {
        let mut agent = join(&network, &token, 1, Duration::from_secs(1)).await;
        let port = bind(&mut agent).await;
        let mut caller = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        while agent.hear().await.expect("a stream").0 != RawKind::Known(Kind::Open) {}
        let gone = Instant::now();

        let kept = go(agent, way).await;

        until("nobody has the endpoint", || network.metric("adit_binds") == 0).await;
        let deadline = Duration::from_secs(missed + 1 + SLACK);
        assert!(gone.elapsed() < deadline, "{way:?}: {:?}", gone.elapsed());
        let ended = timeout(PATIENCE, caller.read(&mut [0])).await.expect("a caller is told");
        assert!(ended.is_err(), "{way:?}: broken, never complete");
        until("no session is left", || network.metric("adit_sessions") == 0).await;
        for (port, what) in [(ingress, "link"), (port, "caller")] {
            until("the sockets are closed", || !sockets(port).iter().any(|state| OPEN.contains(state))).await;
            assert!(!sockets(port).contains(&CLOSE_WAIT), "{way:?}: a {what}");
        }
        drop(kept);
    }
}

/// The oldest goes first: `so_many_sessions_wait_and_the_one_that_waited_longest_makes_room`.
#[tokio::test]
async fn agents_that_join_and_vanish_by_the_hundred_leave_no_memory_behind() {
    let network = Network::start("limits: {parked_sessions: 50, resume_window: 3s}\nlog: {level: warn}\n");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let none = || network.metric("adit_sessions") == 0 && network.metric("adit_sessions_parked") == 0;
    let flood = |numbers: core::ops::Range<u64>| {
        let (network, token) = (&network, &token);
        async move {
            let vanish = |number| async move {
                let agent = join(network, token, number, Duration::from_secs(30)).await;
                drop(go(agent, Way::Reset).await);
            };
            stream::iter(numbers).map(vanish).buffer_unordered(8).collect::<()>().await;
        }
    };
    // What a first flood makes the program hold for ever, as its allocator does, is no leak.
    flood(0..200).await;
    until("the first are forgotten", none).await;
    let before = network.resident();

    flood(1_000..1_600).await;
    let flooded = Instant::now();
    until("no more wait than may", || network.metric("adit_sessions_parked") <= 50).await;
    until("the last are forgotten", none).await;

    assert!(flooded.elapsed() < Duration::from_secs(3 + SLACK), "{:?}", flooded.elapsed());
    assert!(network.metric("adit_limits_reached_total{limit=\"parked_sessions\"}") > 0);
    let after = network.resident();
    assert!(after < before + MEMORY, "{before} KiB, {after} KiB");
}

async fn join(network: &Network, token: &Secret, number: u64, resume_window: Duration) -> Wire {
    let mut wire = Wire::dial(network).await;
    let mut agent = [0; 16];
    agent[..8].copy_from_slice(&number.to_be_bytes());
    let second = Duration::from_secs(1);
    let heartbeat = Heartbeat { interval: second, tolerance: second };
    let hello = Hello { resume_window, heartbeat, agent: AgentId(agent), ..first(hello(token, 0)) };
    wire.say(&Encoded::message(Kind::Hello, &hello)).await;
    let welcome = timeout(PATIENCE, wire.hear()).await.expect("in time").expect("a welcome");
    assert_eq!(welcome.0, RawKind::Known(Kind::Welcome));
    wire
}

async fn bind(wire: &mut Wire) -> u16 {
    let bind = Bind {
        id: BindId(1),
        url: String::from("tcp://:0"),
        pooling: false,
        upstream_protocol: UpstreamProtocol::Http1,
        name: String::new(),
        description: String::new(),
        metadata: String::new(),
        tls_end: Default::default(),
    };
    wire.say(&Encoded::message(Kind::Bind, &bind)).await;
    loop {
        let (kind, payload) = timeout(PATIENCE, wire.hear()).await.expect("in time").expect("an answer");
        if kind == RawKind::Known(Kind::Bound) {
            return Bound::decode(&payload).unwrap().url.rsplit_once(':').unwrap().1.parse().unwrap();
        }
    }
}

/// Goes; returns what the agent still has of the connection.
async fn go(mut wire: Wire, way: Way) -> Option<Wire> {
    match way {
        Way::Fin => wire.io.shutdown().await.unwrap(),
        Way::Reset => {
            wire.io.set_zero_linger().unwrap();
            return None;
        }
        Way::Silence => {}
    }
    Some(wire)
}

/// ESTABLISHED and CLOSE_WAIT: somebody has the socket.
const OPEN: [u8; 2] = [1, CLOSE_WAIT];
const CLOSE_WAIT: u8 = 8;
/// Seconds that a machine with much else to do may take on top.
const SLACK: u64 = 5;
/// What a flood may leave, in KiB.
const MEMORY: u64 = 4 << 10;
