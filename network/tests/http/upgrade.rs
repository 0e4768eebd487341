//! Leaving HTTP: only after the upstream's 101 with what was asked for, and then octet by octet (V53).

use tokio::io::AsyncWriteExt as _;

use crate::support::*;

#[tokio::test]
async fn after_101_octets_go_both_ways_and_each_direction_ends_by_itself() {
    let upstream = upstream(|mut peer, _| async move {
        let head = peer.head().await.unwrap();
        assert!(head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"), "{head}");
        assert!(head.contains("sec-websocket-key: k\r\n"), "{head}");
        peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\nfirst").await;
        peer.until("early").await;
        assert_eq!(peer.rest().await, "last");
        peer.send("after the caller's end").await;
    })
    .await;
    let edge = Edge::new(vec![upstream]).await;
    let mut caller = edge.connect().await;

    caller.send([UPGRADE, "early"].concat()).await;
    let head = caller.head().await.unwrap();
    caller.until("first").await;
    caller.send("last").await;
    caller.stream.shutdown().await.unwrap();

    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("upgrade: WebSocket\r\n") && head.contains("connection: upgrade\r\n"), "{head}");
    assert_eq!(caller.rest().await, "after the caller's end");
}

#[tokio::test]
async fn the_upstream_may_end_its_direction_first() {
    let upstream = upstream(|mut peer, _| async move {
        peer.head().await.unwrap();
        peer.send(SWITCHED).await;
        peer.stream.shutdown().await.unwrap();
        assert_eq!(peer.until("still heard").await, "still heard");
        peer.stream.set_zero_linger().unwrap();
    })
    .await;
    let edge = Edge::new(vec![upstream]).await;
    let mut caller = edge.connect().await;

    caller.send(UPGRADE).await;
    caller.head().await.unwrap();
    assert_eq!(caller.rest().await, "");
    caller.send("still heard").await;

    assert_eq!(caller.rest().await, "");
}

#[tokio::test]
async fn a_declined_upgrade_leaves_http_as_it_was() {
    let edge = Edge::new(vec![echo().await]).await;
    let mut caller = edge.connect().await;

    caller.send([UPGRADE, "GET /2 HTTP/1.1\r\nHost: a.example\r\n\r\n"].concat()).await;

    assert!(caller.until("adit\r\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(caller.until("adit\r\n").await.contains("GET /2 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn octets_after_a_declined_upgrade_are_read_strictly() {
    let edge = Edge::new(vec![echo().await]).await;

    let answer = edge.talk([UPGRADE, "GET /2 HTTP/1.1\nHost: a.example\n\n"].concat()).await;

    assert!(answer.contains("ADIT-3008") && !answer.contains("/2"), "{answer}");
}

#[tokio::test]
async fn a_101_that_was_not_asked_for_or_goes_elsewhere_is_a_fault() {
    let elsewhere = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\nsecret";
    let nowhere = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\nsecret";
    for (request, answer) in [(UPGRADE, &elsewhere[..]), (UPGRADE, nowhere), (GET, SWITCHED.as_bytes())] {
        let edge = Edge::new(vec![says(answer, false).await]).await;
        let mut caller = edge.connect().await;

        caller.send(request).await;

        let answer = caller.until("ADIT-3005").await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && !answer.contains("secret"), "{answer}");
    }
}

#[tokio::test]
async fn an_upgrade_with_a_body_or_without_connection_is_no_upgrade() {
    let edge = Edge::new(vec![echo().await]).await;
    let mut caller = edge.connect().await;
    for lines in
        ["Upgrade: websocket\r\n\r\n", "Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nhi"]
    {
        caller.send(format!("POST / HTTP/1.1\r\nHost: a.example\r\n{lines}")).await;

        let answer = caller.until("adit\r\n").await;

        assert!(!answer.contains("upgrade: websocket"), "{answer}");
    }
}

#[tokio::test]
async fn a_broken_tunnel_breaks_on_the_other_side() {
    let (gone, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let upstream = upstream(move |mut peer, _| {
        let gone = gone.clone();
        async move {
            peer.head().await.unwrap();
            peer.send(SWITCHED).await;
            peer.rest().await;
            gone.send(()).unwrap();
        }
    })
    .await;
    let edge = Edge::new(vec![upstream]).await;
    let mut caller = edge.connect().await;
    caller.send(UPGRADE).await;
    caller.head().await.unwrap();

    caller.stream.set_zero_linger().unwrap();
    drop(caller);

    soon(seen.recv()).await.unwrap();
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
     Sec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
