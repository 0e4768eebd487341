//! What arrives where.

use std::sync::atomic::Ordering;

use adit_network::http::HttpLimits;

use crate::support::*;

#[tokio::test]
async fn a_request_arrives_with_our_words_about_the_caller_and_without_its_own() {
    let edge = Edge::new(vec![echo().await]).await;
    let mut caller = edge.connect().await;
    let port = edge.address.port();

    caller
        .send(
            "GET /x?y=%2e HTTP/1.1\r\nHost: A.Example:81\r\nX-Forwarded-For: 6.6.6.6\r\nx_real_ip: 6.6.6.6\r\n\
             Forwarded: for=6.6.6.6\r\nConnection: x-forwarded-for, x-hop\r\nX-Hop: 1\r\nX-Kept: yes\r\n\r\n",
        )
        .await;
    let answer = caller.until("proto=http\r\n").await;

    for line in [
        "GET /x?y=%2e HTTP/1.1\r\n",
        "host: A.Example:81\r\n",
        "x-kept: yes\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-forwarded-host: A.Example:81\r\n",
        "x-forwarded-proto: http\r\n",
        &format!("x-forwarded-port: {port}\r\n"),
        "forwarded: for=127.0.0.1;host=\"A.Example:81\";proto=http\r\n",
    ] {
        assert!(answer.contains(line), "{line:?} in {answer}");
    }
    assert!(!answer.contains("6.6.6.6") && !answer.contains("x-hop"), "{answer}");
}

#[tokio::test]
async fn connections_to_the_upstream_are_used_again() {
    let upstream = echo().await;
    let edge = Edge::new(vec![upstream.clone()]).await;
    let mut caller = edge.connect().await;

    for _ in 0..5 {
        caller.send(GET).await;
        caller.until("adit\r\n\r\n").await;
        tokio::task::yield_now().await;
    }
    let mut second = edge.connect().await;
    second.send(GET).await;
    second.until("adit\r\n\r\n").await;

    assert!(upstream.opened.load(Ordering::SeqCst) <= 2, "{:?}", upstream.opened);
}

#[tokio::test]
async fn each_request_of_a_connection_has_its_own_host() {
    let edge = Edge::new(vec![echo().await]).await;
    let mut caller = edge.connect().await;

    for (host, line) in [("a.example", "200 OK"), ("b.example", "404 Not Found"), ("A.example", "200 OK")] {
        caller.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let head = caller.head().await.unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {line}\r\n")), "{host}: {head}");
        assert_eq!(caller.body(&head).await.contains(&format!("x-forwarded-host: {host}\r\n")), line == "200 OK");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let edge = Edge::new(vec![echo().await]).await;

    let answer = edge
        .talk([GET1, &GET1.replace("/1 ", "/2 "), &GET1.replace("/1 ", "/3 ").replace("\r\n\r\n", CLOSE)].concat())
        .await;

    let at = |text| answer.find(text).unwrap_or_else(|| panic!("{text} in {answer}"));
    assert!(at("GET /1 ") < at("GET /2 ") && at("GET /2 ") < at("GET /3 "), "{answer}");
}

#[tokio::test]
async fn bodies_arrive_whole_with_either_framing() {
    let edge = Edge::new(vec![echo().await]).await;

    let sized = edge.talk(format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5{CLOSE}hello")).await;
    let chunked = edge
        .talk(format!("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked{CLOSE}2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"))
        .await;

    assert!(sized.contains("content-length: 5\r\n") && sized.ends_with("\r\n\r\nhello"), "{sized}");
    assert!(chunked.contains("transfer-encoding: chunked\r\n"), "{chunked}");
    let body = chunked.rsplit("\r\n\r\n").nth(1).unwrap();
    assert!(chunked.ends_with("0\r\n\r\n") && body.contains("he") && body.contains("llo"), "{chunked}");
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    for (method, answer) in [
        ("HEAD", &b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"[..]),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
    ] {
        let upstream = says(answer, false).await;
        let edge = Edge::new(vec![upstream.clone()]).await;
        let mut caller = edge.connect().await;
        for _ in 0..2 {
            caller.send(format!("{method} / HTTP/1.1\r\nHost: a.example\r\n\r\n")).await;
            let head = caller.head().await.unwrap();
            assert_eq!(head.contains("content-length: 1000"), method == "HEAD", "{head}");
            assert!(!head.contains("chunked"), "{head}");
        }
        assert!(caller.is_silent().await);
    }
}

#[tokio::test]
async fn an_http_1_0_caller_gets_a_body_it_understands() {
    let upstream = says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false).await;
    let edge = Edge::new(vec![upstream]).await;

    let answer = edge.talk("GET / HTTP/1.0\r\nHost: a.example\r\n\r\n").await;

    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(!answer.contains("chunked"), "{answer}");
}

#[tokio::test]
async fn trailers_are_carried_in_both_directions() {
    let upstream = upstream(|mut peer, _| async move {
        let head = peer.head().await.unwrap();
        assert!(head.contains("te: trailers\r\n") && head.contains("trailer: x-sum, x-forwarded-for\r\n"), "{head}");
        let body = peer.until("\r\n\r\n").await;
        assert!(body.contains("x-sum: 1\r\n"), "{body}");
        assert!(!body.contains("x-forwarded-for"), "{body}");
        peer.send(
            "HTTP/1.1 200 OK\r\nTrailer: x-end\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-end: 2\r\n\r\n",
        )
        .await;
    })
    .await;
    let edge = Edge::new(vec![upstream]).await;
    let mut caller = edge.connect().await;

    caller
        .send(
            "POST / HTTP/1.1\r\nHost: a.example\r\nTE: trailers\r\nConnection: te\r\nTrailer: x-sum, x-forwarded-for\r\n\
             Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 1\r\nx-forwarded-for: 6.6.6.6\r\n\r\n",
        )
        .await;

    let answer = caller.until("x-end: 2\r\n\r\n").await;
    assert!(answer.contains("2\r\nok\r\n0\r\n"), "{answer}");
}

#[tokio::test]
async fn trailers_that_the_caller_did_not_ask_for_end_the_body_all_the_same() {
    let upstream =
        says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-end: 2\r\n\r\n", false).await;
    let edge = Edge::new(vec![upstream]).await;
    let mut caller = edge.connect().await;

    caller.send(GET).await;

    assert!(caller.until("0\r\n\r\n").await.ends_with("2\r\nok\r\n0\r\n\r\n"));
}

#[tokio::test]
async fn each_piece_of_an_answer_is_passed_on_at_once() {
    let upstream = upstream(|mut peer, _| async move {
        peer.head().await.unwrap();
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
        while let Ok(()) = peer.stream.readable().await {
            peer.until("next").await;
            peer.send("data: x\n\n").await;
        }
    })
    .await;
    let edge = Edge::new(vec![upstream]).await;
    let mut caller = edge.connect().await;

    // The body goes the other way piece by piece too.
    caller.send("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    caller.until("\r\n\r\n").await;
    for _ in 0..3 {
        caller.send("4\r\nnext\r\n").await;
        caller.until("data: x\n\n").await;
    }
}

#[tokio::test]
async fn continue_comes_from_the_upstream_and_the_body_waits_for_it() {
    let upstream = upstream(|mut peer, _| async move {
        let head = peer.head().await.unwrap();
        assert!(head.contains("expect: 100-continue\r\n"), "{head}");
        assert!(peer.is_silent().await);
        peer.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(peer.body(&head).await, "hello");
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    let edge = Edge::new(vec![upstream]).await;
    let mut caller = edge.connect().await;

    caller.send("PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(caller.head().await.unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    caller.send("hello").await;

    assert!(caller.until("\r\n\r\nok").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn an_upstream_that_answers_without_100_still_gets_the_body() {
    let upstream = upstream(|mut peer, _| async move {
        let head = peer.head().await.unwrap();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
        let body = peer.body(&head).await;
        peer.send(body).await;
    })
    .await;
    let edge = Edge::new(vec![upstream]).await;
    let mut caller = edge.connect().await;

    caller.send("PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    caller.head().await.unwrap();
    caller.send("hello").await;

    caller.until("hello").await;
}

#[tokio::test]
async fn an_upstream_that_wants_no_body_is_heard_before_it_is_sent() {
    let upstream = says_before_body(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").await;
    let edge = Edge::new(vec![upstream]).await;
    let mut caller = edge.connect().await;

    caller.send("PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 500000\r\nExpect: 100-continue\r\n\r\n").await;

    let answer = caller.rest().await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && !answer.contains("100 Continue"), "{answer}");
}

#[tokio::test]
async fn early_hints_come_before_the_answer() {
    let upstream = upstream(|mut peer, _| async move {
        while peer.head().await.is_some() {
            peer.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
            peer.until("go").await;
            peer.send(
                "HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            )
            .await;
        }
    })
    .await;
    let edge = Edge::new(vec![upstream]).await;
    let mut caller = edge.connect().await;

    for _ in 0..2 {
        caller.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\n").await;
        assert_eq!(caller.head().await.unwrap(), "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
        caller.send("go").await;
        assert_eq!(caller.head().await.unwrap(), "HTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\n");
        assert!(caller.until("\r\n\r\nok").await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
}

#[tokio::test]
async fn nothing_is_read_from_the_upstream_that_the_caller_has_no_room_for() {
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&sent);
    let upstream = upstream(move |mut peer, _| {
        let sent = std::sync::Arc::clone(&counter);
        async move {
            peer.head().await.unwrap();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
            loop {
                peer.send(vec![0; 65536]).await;
                sent.fetch_add(65536, Ordering::SeqCst);
            }
        }
    })
    .await;
    let edge = Edge::new(vec![upstream]).await;
    let mut caller = edge.connect().await;
    caller.send(GET).await;
    caller.head().await.unwrap();

    let mut last = usize::MAX;
    while sent.load(Ordering::SeqCst) != last {
        last = sent.load(Ordering::SeqCst);
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    }

    // Two pairs of socket buffers hold up to 6 MiB each on loopback; ours are a small part of the rest.
    assert!(last < 24 << 20, "{last}");
}

#[tokio::test]
async fn bulk_goes_through_in_both_directions_unchanged() {
    let upstream = upstream(|mut peer, _| async move {
        let head = peer.head().await.unwrap();
        assert!(head.contains("content-length: 20000000\r\n"), "{head}");
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let mut room = vec![0; 100_000];
        let mut left = 20_000_000;
        while left > 0 {
            let count = if peer.seen.is_empty() {
                tokio::io::AsyncReadExt::read(&mut peer.stream, &mut room).await.unwrap()
            } else {
                let seen = std::mem::take(&mut peer.seen);
                room[..seen.len()].copy_from_slice(&seen);
                seen.len()
            };
            left -= count;
            peer.send(format!("{count:x}\r\n")).await;
            peer.send(&room[..count]).await;
            peer.send("\r\n").await;
        }
        peer.send("0\r\n\r\n").await;
    })
    .await;
    let edge = Edge::new(vec![upstream]).await;
    let octets: Vec<u8> =
        (0_u32..20_000_000).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let (mut reading, mut writing) = edge.connect().await.stream.into_split();
    let sent = octets.clone();
    tokio::spawn(async move {
        let head = "POST / HTTP/1.0\r\nHost: a.example\r\nContent-Length: 20000000\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut writing, head.as_bytes()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut writing, &sent).await.unwrap();
        std::future::pending::<()>().await;
    });

    let mut answer = Vec::new();
    let reading = tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut answer);
    tokio::time::timeout(std::time::Duration::from_secs(20), reading).await.unwrap().unwrap();

    assert!(answer.ends_with(&octets), "{}", answer.len());
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_the_request_at_once() {
    let (gone, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let upstream = upstream(move |mut peer, _| {
        let gone = gone.clone();
        async move {
            let head = peer.head().await.unwrap();
            if head.starts_with("GET /body") {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
            }
            peer.rest().await;
            gone.send(()).unwrap();
        }
    })
    .await;
    let edge = Edge::new(vec![upstream]).await;

    let mut before = edge.connect().await;
    before.send(GET).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    drop(before);
    soon(seen.recv()).await.unwrap();
    let mut within = edge.connect().await;
    within.send("GET /body HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    within.until("hello").await;
    drop(within);
    soon(seen.recv()).await.unwrap();
}

#[tokio::test]
async fn a_small_unread_body_is_thrown_away_and_a_large_one_closes() {
    let upstream = says_before_body(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let edge = Edge::new(vec![upstream, echo().await]).await;
    let post = |length: usize| format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\n\r\n");
    let mut small = edge.connect().await;
    let mut large = edge.connect().await;

    small.send(post(1000)).await;
    small.until("\r\n\r\nno").await;
    small.send("x".repeat(1000)).await;
    small.send(GET).await;
    large.send(post(1_000_000)).await;
    large.send("GET /poison HTTP/1.1\r\nHost: a.example\r\n\r\n").await;

    small.until("\r\n\r\nno").await;
    let answer = large.rest().await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

/// An upstream that answers as soon as it has the head.
async fn says_before_body(answer: &'static [u8]) -> FakeMember {
    upstream(move |mut peer, _| async move {
        peer.head().await.unwrap();
        peer.send(answer).await;
        peer.rest().await;
    })
    .await
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
const GET1: &str = "GET /1 HTTP/1.1\r\nHost: a.example\r\n\r\n";
const CLOSE: &str = "\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn host_and_sni_select_the_same_endpoint_or_the_request_is_misdirected() {
    let upstream = echo().await;
    for (sni, host, status_wanted) in [
        ("a.example", "a.example", "200"),
        ("a.example", "A.EXAMPLE.:443", "200"),
        ("a.example", "other.example", "421"),
        ("a.example", "x.wild.example", "421"),
        ("a.example", "unknown.example", "421"),
        ("x.wild.example", "y.wild.example", "200"),
        ("x.wild.example", "a.example", "421"),
        ("unknown.example", "a.example", "421"),
    ] {
        let edge = Edge::with(vec![upstream.clone()], HttpLimits::default(), Some((tls("http/1.1"), sni))).await;

        let answer = edge.talk(format!("GET / HTTP/1.1\r\nHost: {host}{CLOSE}")).await;

        assert_eq!(status(&answer), status_wanted, "{sni} {host}: {answer}");
        assert_eq!(answer.contains("ADIT-3007"), status_wanted == "421");
    }
}
