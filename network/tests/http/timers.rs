//! Time: callers that are slow, idle or deaf, and the network that stops. All in memory, where time is virtual.

use std::time::Duration;

use adit_network::{Phase, http::HttpLimits};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::Instant,
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_in_time_is_answered_408() {
    let edge = Edge::new(vec![echo_in_memory()]).await;
    let ((mut slow, _), (mut mute, _)) = (edge.call(None), edge.call(None));
    let began = Instant::now();

    for piece in ["GET / HT", "TP/1.1\r\nHost: a.ex", "ample\r\nX: "] {
        slow.send(piece).await;
        tokio::time::sleep(secs(3)).await;
    }

    let answer = slow.until("ADIT-3011").await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert_eq!(began.elapsed(), secs(10));
    assert_eq!(mute.rest().await, "", "nothing was asked");
    edge.is_empty().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_one_that_waits_for_an_answer_is_not() {
    let upstream = in_memory(|mut peer, _| async move {
        while peer.head().await.is_some() {
            tokio::time::sleep(secs(50)).await;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    });
    let mut limits = HttpLimits::default();
    limits.idle_timeout = secs(20);
    let edge = Edge::with(vec![upstream], limits, None).await;
    let (mut caller, _) = edge.call(None);

    caller.send(GET).await;
    caller.until("\r\n\r\nok").await;
    let ended = Instant::now();

    assert_eq!(caller.rest().await, "");
    // While a request is served the timer looks for itself, and not at every moment.
    assert!((secs(20)..=secs(40)).contains(&ended.elapsed()), "{:?}", ended.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_answered_408() {
    let edge = Edge::new(vec![echo_in_memory()]).await;
    let (mut caller, _) = edge.call(None);
    let began = Instant::now();

    caller.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nhello").await;

    let answer = caller.until("ADIT-3011").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(began.elapsed(), secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_dribbles_is_answered_408_for_all_its_progress() {
    let edge = Edge::new(vec![echo_in_memory()]).await;
    let (mut caller, _) = edge.call(None);
    let began = Instant::now();

    caller.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100\r\n\r\n").await;
    // An octet each 7 s never lets it wait for 30 s at once, and buys 10 ms.
    let (mut heard, mut dribbled) = ([0; 13], 0);
    while dribbled < 100 {
        tokio::select! {
            read = caller.stream.read_exact(&mut heard) => {
                read.unwrap();
                break;
            }
            () = tokio::time::sleep(secs(7)) => {}
        }
        caller.stream.write_all(b"x").await.unwrap();
        dribbled += 1;
    }

    assert_eq!((heard, dribbled), (*b"HTTP/1.1 408 ", 4));
    assert_eq!(began.elapsed(), secs(30) + 4 * ms(10));
}

#[tokio::test(start_paused = true)]
async fn a_body_may_take_its_time_when_the_upstream_has_answered() {
    let upstream = in_memory(|mut peer, _| async move {
        peer.head().await;
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        peer.until("la").await;
        tokio::time::sleep(secs(40)).await;
        peer.until("te\r\n0\r\n\r\n").await;
        peer.send("2\r\nok\r\n0\r\n\r\n").await;
    });
    let edge = Edge::new(vec![upstream]).await;
    let (mut caller, _) = edge.call(None);

    caller.send("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    caller.until("\r\n\r\n").await;
    caller.send("4\r\nla").await;
    tokio::time::sleep(secs(50)).await;
    caller.send("te\r\n0\r\n\r\n").await;

    caller.until("ok\r\n0\r\n\r\n").await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_read_is_cut_off() {
    let upstream = in_memory(|mut peer, _| async move {
        peer.head().await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
        while peer.stream.write_all(&[0; 65536]).await.is_ok() {}
    });
    let edge = Edge::new(vec![upstream]).await;
    let (mut caller, cut) = edge.call(None);
    let began = Instant::now();

    caller.send(GET).await;
    caller.head().await;

    edge.is_empty().await;
    assert!((secs(30)..secs(31)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert!(cut.load(std::sync::atomic::Ordering::SeqCst), "what waits for it is thrown away");
    assert_eq!(edge.reached("stall_timeout"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_whose_agent_is_away_is_waited_for() {
    let upstream = in_memory(|mut peer, _| async move {
        let head = peer.head().await.unwrap_or_default();
        peer.body(&head).await;
        tokio::time::sleep(secs(40)).await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    });
    let mut limits = HttpLimits::default();
    limits.response_timeout = secs(10);
    let edge = Edge::with(vec![FakeMember { away_since: Some(Instant::now()), ..upstream }], limits, None).await;
    let ((mut caller, _), (mut other, _)) = (edge.call(None), edge.call(None));

    caller.send(GET).await;
    other.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi").await;

    assert_eq!(status(&caller.until("\r\n\r\nok").await), "200");
    assert_eq!(status(&other.until("\r\n\r\nok").await), "200");
}

#[tokio::test(start_paused = true)]
async fn draining_closes_idle_connections_and_lets_answers_finish() {
    let upstream = || {
        in_memory(|mut peer, _| async move {
            while peer.head().await.is_some() {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").await;
                tokio::time::sleep(secs(1)).await;
                peer.send("lf").await;
            }
        })
    };
    let edge = Edge::new(vec![upstream(), upstream()]).await;
    let ((mut idle, _), (mut within, _), (mut before, _)) = (edge.call(None), edge.call(None), edge.call(None));
    idle.send(GET).await;
    idle.until("half").await;
    within.send(GET).await;
    within.until("ha").await;
    before.send(GET).await;
    tokio::time::sleep(ms(10)).await;

    edge.phase.send(Phase::Draining).unwrap();

    assert_eq!(idle.rest().await, "");
    assert_eq!(within.rest().await, "lf");
    let answer = before.rest().await;
    assert!(answer.ends_with("half"), "{answer}");
    edge.is_empty().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_begins_while_draining_says_close() {
    let upstream = in_memory(|mut peer, _| async move {
        peer.head().await;
        tokio::time::sleep(secs(10)).await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    });
    let edge = Edge::new(vec![upstream]).await;
    let (mut caller, _) = edge.call(None);
    caller.send(GET).await;
    tokio::time::sleep(secs(3)).await;

    edge.phase.send(Phase::Draining).unwrap();

    let answer = caller.rest().await;
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("ok"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn ending_cuts_what_is_left() {
    let upstream = in_memory(|mut peer, _| async move {
        peer.head().await;
        peer.rest().await;
    });
    let edge = Edge::new(vec![upstream]).await;
    let (mut caller, _) = edge.call(None);
    caller.send(GET).await;
    tokio::time::sleep(secs(3)).await;

    edge.phase.send(Phase::Ending).unwrap();

    assert_eq!(caller.rest().await, "");
    edge.is_empty().await;
}

#[tokio::test(start_paused = true)]
async fn pooled_connections_grow_old() {
    let edge = Edge::new(vec![echo_in_memory()]).await;
    let (mut caller, _) = edge.call(None);

    caller.send(GET).await;
    caller.until("adit\r\n\r\n").await;
    tokio::time::sleep(secs(1)).await;
    let young = edge.http.pooled();
    tokio::time::sleep(secs(80)).await;

    assert_eq!((young, edge.http.pooled()), (1, 0));
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
