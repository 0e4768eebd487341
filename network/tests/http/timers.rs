//! Time: callers that are slow, idle or deaf, and the network that stops.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use adit_network::{Phase, http::HttpLimits};

use crate::support::*;

#[tokio::test]
async fn a_head_that_does_not_come_in_time_is_answered_408() {
    let mut limits = HttpLimits::default();
    limits.header_timeout = ms(150);
    let edge = Edge::with(vec![echo().await], limits, None).await;
    let (mut slow, mut mute) = (edge.connect().await, edge.connect().await);

    for piece in ["GET / HT", "TP/1.1\r\nHost: a.ex", "ample\r\nX: "] {
        slow.send(piece).await;
        tokio::time::sleep(ms(40)).await;
    }

    let answer = slow.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n") && answer.contains("ADIT-3011"), "{answer}");
    assert_eq!(mute.rest().await, "", "nothing was asked");
    edge.is_empty().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_that_waits_for_an_answer_is_not() {
    let upstream = upstream(|mut peer, _| async move {
        while peer.head().await.is_some() {
            tokio::time::sleep(ms(300)).await;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let mut limits = HttpLimits::default();
    limits.idle_timeout = ms(100);
    let edge = Edge::with(vec![upstream], limits, None).await;
    let mut caller = edge.connect().await;

    caller.send(GET).await;
    caller.until("\r\n\r\nok").await;
    let ended = tokio::time::Instant::now();

    assert_eq!(caller.rest().await, "");
    assert!((ms(80)..ms(400)).contains(&ended.elapsed()), "{:?}", ended.elapsed());
}

#[tokio::test]
async fn a_body_that_stops_coming_is_answered_408() {
    let mut limits = HttpLimits::default();
    limits.body_timeout = ms(100);
    let edge = Edge::with(vec![echo().await], limits, None).await;
    let mut caller = edge.connect().await;

    caller.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nhello").await;

    let answer = caller.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("ADIT-3011"), "{answer}");
}

#[tokio::test]
async fn a_body_that_dribbles_is_answered_408_for_all_its_progress() {
    let mut limits = HttpLimits::default();
    limits.body_timeout = ms(150);
    let edge = Edge::with(vec![echo().await], limits, None).await;
    let mut caller = edge.connect().await;

    caller.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100\r\n\r\n").await;
    // An octet each 40 ms never lets it wait for 150 ms at once, and buys 10 ms.
    let (mut heard, mut dribbled) = ([0; 13], 0);
    while dribbled < 100 {
        tokio::select! {
            read = tokio::io::AsyncReadExt::read_exact(&mut caller.stream, &mut heard) => {
                read.unwrap();
                break;
            }
            () = tokio::time::sleep(ms(40)) => {}
        }
        tokio::io::AsyncWriteExt::write_all(&mut caller.stream, b"x").await.unwrap();
        dribbled += 1;
    }

    assert_eq!(heard, *b"HTTP/1.1 408 ", "after {dribbled} octets");
}

#[tokio::test]
async fn a_body_may_take_its_time_when_the_upstream_has_answered() {
    let upstream = upstream(|mut peer, _| async move {
        peer.head().await;
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        peer.until("late").await;
        peer.send("2\r\nok\r\n0\r\n\r\n").await;
    })
    .await;
    let mut limits = HttpLimits::default();
    limits.body_timeout = ms(50);
    let edge = Edge::with(vec![upstream], limits, None).await;
    let mut caller = edge.connect().await;

    caller.send("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    caller.until("\r\n\r\n").await;
    tokio::time::sleep(ms(200)).await;
    caller.send("4\r\nlate\r\n0\r\n\r\n").await;

    caller.until("ok\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_cut_off() {
    let upstream = upstream(|mut peer, _| async move {
        peer.head().await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
        while tokio::io::AsyncWriteExt::write_all(&mut peer.stream, &[0; 65536]).await.is_ok() {}
    })
    .await;
    let mut limits = HttpLimits::default();
    limits.stall_timeout = ms(150);
    let edge = Edge::with(vec![upstream], limits, None).await;
    let mut caller = edge.connect().await;

    caller.send(GET).await;
    caller.head().await;

    edge.is_empty().await;
}

#[tokio::test]
async fn an_upstream_whose_agent_is_away_is_waited_for() {
    let upstream = upstream(|mut peer, _| async move {
        let head = peer.head().await.unwrap_or_default();
        peer.body(&head).await;
        tokio::time::sleep(ms(400)).await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    let mut limits = HttpLimits::default();
    limits.response_timeout = ms(100);
    let edge = Edge::with(vec![FakeMember { away_since: Some(Instant::now()), ..upstream }], limits, None).await;
    let (mut caller, mut other) = (edge.connect().await, edge.connect().await);

    caller.send(GET).await;
    other.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi").await;

    assert_eq!(status(&caller.until("\r\n\r\nok").await), "200");
    assert_eq!(status(&other.until("\r\n\r\nok").await), "200");
}

#[tokio::test]
async fn draining_closes_idle_connections_and_lets_answers_finish() {
    let upstream = upstream(|mut peer, _| async move {
        while peer.head().await.is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").await;
            tokio::time::sleep(ms(100)).await;
            peer.send("lf").await;
        }
    })
    .await;
    let edge = Edge::new(vec![upstream.clone(), upstream]).await;
    let (mut idle, mut within, mut before) = (edge.connect().await, edge.connect().await, edge.connect().await);
    idle.send(GET).await;
    idle.until("half").await;
    within.send(GET).await;
    within.until("ha").await;
    before.send(GET).await;

    edge.phase.send(Phase::Draining).unwrap();

    assert_eq!(idle.rest().await, "");
    assert_eq!(within.rest().await, "lf");
    let answer = before.rest().await;
    assert!(answer.ends_with("half"), "{answer}");
    edge.is_empty().await;
}

#[tokio::test]
async fn an_answer_that_begins_while_draining_says_close() {
    let upstream = upstream(|mut peer, _| async move {
        peer.head().await;
        tokio::time::sleep(ms(100)).await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    let edge = Edge::new(vec![upstream]).await;
    let mut caller = edge.connect().await;
    caller.send(GET).await;
    tokio::time::sleep(ms(30)).await;

    edge.phase.send(Phase::Draining).unwrap();

    let answer = caller.rest().await;
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("ok"), "{answer}");
}

#[tokio::test]
async fn ending_cuts_what_is_left() {
    let upstream = upstream(|mut peer, _| async move {
        peer.head().await;
        peer.rest().await;
    })
    .await;
    let edge = Edge::new(vec![upstream]).await;
    let mut caller = edge.connect().await;
    caller.send(GET).await;
    tokio::time::sleep(ms(30)).await;

    edge.phase.send(Phase::Ending).unwrap();

    assert_eq!(caller.rest().await, "");
    edge.is_empty().await;
}

#[tokio::test]
async fn pooled_connections_grow_old() {
    let mut limits = HttpLimits::default();
    limits.pool_idle_timeout = ms(200);
    let edge = Edge::with(vec![echo().await], limits, None).await;
    let mut caller = edge.connect().await;

    caller.send(GET).await;
    caller.until("adit\r\n\r\n").await;
    tokio::time::sleep(ms(20)).await;
    let young = edge.http.pooled();
    tokio::time::sleep(ms(600)).await;

    assert_eq!((young, edge.http.pooled()), (1, 0));
}

impl Edge {
    /// Waits until no connection is served.
    async fn is_empty(&self) {
        soon(async {
            while self.open.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(ms(10)).await;
            }
        })
        .await;
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
