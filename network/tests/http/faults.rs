//! What callers hear when something fails, and what is tried again.

use std::sync::atomic::Ordering;

use adit_core::Code;
use adit_network::{
    Fault,
    http::{HttpLimits, Note},
    router::Outcome,
};

use crate::support::*;

#[tokio::test]
async fn each_failure_has_its_code() {
    for (word, line, adit) in [
        (Word::Refuses(Code::UPSTREAM_REFUSED), "502 Bad Gateway", "ADIT-3003"),
        (Word::Refuses(Code::UPSTREAM_TIMEOUT), "504 Gateway Timeout", "ADIT-3004"),
        (Word::Refuses(Code::UPSTREAM_UNREACHABLE), "502 Bad Gateway", "ADIT-3014"),
        (Word::Refuses(Code::UPSTREAM_TLS), "502 Bad Gateway", "ADIT-3015"),
        (Word::Refuses(Code::UNBOUND), "503 Service Unavailable", "ADIT-3002"),
    ] {
        let edge = Edge::new(vec![FakeMember { word, ..echo().await }]).await;

        let answer = edge.talk(GET_CLOSE).await;

        assert!(answer.starts_with(&format!("HTTP/1.1 {line}\r\n")), "{word:?}: {answer}");
        assert!(answer.contains(&format!("adit-error: {adit}\r\n")), "{word:?}: {answer}");
        assert_eq!(answer.contains("retry-after: 5\r\n"), adit == "ADIT-3002", "{answer}");
    }
}

#[tokio::test]
async fn no_agent_is_said_so() {
    let edge = Edge::new(vec![]).await;

    let answer =
        edge.talk("GET / HTTP/1.1\r\nHost: a.example\r\nAccept: application/json\r\nConnection: close\r\n\r\n").await;

    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 5\r\n"), "{answer}");
    assert!(answer.contains("\"actor\":\"customer\"") && answer.contains("\"code\":\"ADIT-3002\""), "{answer}");
    assert_eq!(edge.backend.notes.lock()[1], Note::Refused(Fault::NoAgent));
}

#[tokio::test]
async fn a_connection_that_was_not_handed_over_is_tried_on_another_agent_body_and_all() {
    let post = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    for word in [Word::Refuses(Code::UPSTREAM_REFUSED), Word::RefusesLate(Code::UPSTREAM_REFUSED)] {
        let unheard = upstream(|mut peer, _| async move { drop(peer.rest().await) }).await;
        let edge = Edge::new(vec![FakeMember { word, ..unheard }, echo().await]).await;

        let (get, post) = (edge.talk(GET_CLOSE).await, edge.talk(post).await);

        assert!(get.starts_with("HTTP/1.1 200 OK\r\n"), "{get}");
        assert!(post.starts_with("HTTP/1.1 200 OK\r\n") && post.ends_with("\r\n\r\nhello"), "{post}");
    }
}

const PUT: &str = "PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

/// An upstream that takes whole requests and closes.
async fn dies() -> FakeMember {
    upstream(|mut peer, _| async move {
        if let Some(head) = peer.head().await {
            peer.body(&head).await;
        }
    })
    .await
}

#[tokio::test]
async fn what_may_be_repeated_goes_to_another_member_when_the_upstream_dies_before_its_answer_body_and_all() {
    let edge = Edge::new(vec![dies().await, echo().await]).await;

    for request in [GET_CLOSE, PUT, &PUT.replace("PUT", "DELETE")] {
        let answer = edge.talk(request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(request == GET_CLOSE || answer.ends_with("\r\n\r\nhello"), "{answer}");
    }
}

#[tokio::test]
async fn what_may_not_be_repeated_or_is_longer_than_what_is_kept_is_sent_once() {
    let good = echo().await;
    let mut limits = HttpLimits::default();
    limits.replay_size = 4;
    let edge = Edge::with(vec![dies().await, good.clone()], limits, None).await;

    for request in
        [PUT, &PUT.replace("PUT", "POST"), &PUT.replace("hello", "hi").replace(": 5", ": 2").replace("PUT", "POST")]
    {
        let answer = edge.talk(request).await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("ADIT-3006"), "{request}: {answer}");
    }
    assert_eq!(good.opened.load(Ordering::SeqCst), 0);
    let short = edge.talk(PUT.replace("hello", "hey!").replace(": 5", ": 4")).await;
    assert!(short.ends_with("\r\n\r\nhey!"), "{short}");
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_asked_for_again() {
    let good = echo().await;
    let half = says(b"HTTP/1.1 200 OK\r\nContent-Le", true).await;
    let edge = Edge::new(vec![half, good.clone()]).await;

    let answer = edge.talk(GET_CLOSE).await;

    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(good.opened.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn when_retries_are_spent_the_first_failure_is_the_answer() {
    let broken = FakeMember { word: Word::Refuses(Code::UPSTREAM_REFUSED), ..echo().await };
    let good = echo().await;
    let edge = Edge::new(vec![broken, good.clone()]).await;
    edge.backend.spent.store(true, Ordering::SeqCst);

    let answer = edge.talk(GET_CLOSE).await;

    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("ADIT-3003"), "{answer}");
    assert_eq!(good.opened.load(Ordering::SeqCst), 0);
    assert!(!edge.backend.notes.lock().contains(&Note::Retried));
}

#[tokio::test]
async fn how_it_went_with_a_member_is_told_once_for_each_attempt() {
    let refuses = |code| async move { FakeMember { word: Word::Refuses(code), ..echo().await } };
    for (member, outcomes) in [
        (echo().await, vec![Outcome::Fine]),
        (says(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", true).await, vec![Outcome::Error]),
        (says(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", true).await, vec![Outcome::Fine]),
        (says(b"SSH-2.0-server\r\n\r\n", true).await, vec![Outcome::Failed]),
        (dies().await, vec![Outcome::Failed]),
        (refuses(Code::UPSTREAM_REFUSED).await, vec![Outcome::Failed]),
        (refuses(Code::UPSTREAM_TLS).await, vec![Outcome::Failed]),
        (refuses(Code::UNBOUND).await, vec![]),
        (refuses(Code::LIMIT).await, vec![]),
        (refuses(Code::POLICY).await, vec![]),
    ] {
        let edge = Edge::new(vec![member.clone()]).await;

        let answer = edge.talk(GET_CLOSE).await;

        let reports: Vec<_> = edge.backend.reports.lock().iter().map(|(_, outcome)| *outcome).collect();
        assert_eq!(reports, outcomes, "{answer}");
    }
}

#[tokio::test]
async fn an_upstream_that_neither_takes_nor_refuses_is_a_timeout() {
    let silent =
        FakeMember { word: Word::Silent, ..upstream(|mut peer, _| async move { drop(peer.rest().await) }).await };
    let mut limits = HttpLimits::default();
    limits.accept_timeout = ms(50);
    let edge = Edge::with(vec![silent], limits, None).await;

    let answer = edge.talk(GET_CLOSE).await;

    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("ADIT-3004"), "{answer}");
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_a_timeout() {
    let silent = upstream(|mut peer, _| async move { drop(peer.rest().await) }).await;
    let mut limits = HttpLimits::default();
    limits.response_timeout = ms(50);
    let edge = Edge::with(vec![silent], limits, None).await;

    let answer = edge.talk(GET_CLOSE).await;

    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("ADIT-3004"), "{answer}");
}

#[tokio::test]
async fn an_idle_connection_that_died_is_replaced() {
    let upstream = upstream(|mut peer, number| async move {
        peer.head().await.unwrap();
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}")).await;
        if number == 0 {
            peer.head().await; // takes the next request and closes without a word
        } else {
            peer.rest().await;
        }
    })
    .await;
    let edge = Edge::new(vec![upstream.clone()]).await;
    let mut caller = edge.connect().await;
    caller.send(GET).await;
    caller.until("\r\n\r\n0").await;
    tokio::time::sleep(ms(20)).await;

    caller.send(GET).await;

    caller.until("\r\n\r\n1").await;
    assert_eq!(upstream.opened.load(Ordering::SeqCst), 2);
    assert!(edge.backend.notes.lock().contains(&Note::Retried));
}

#[tokio::test]
async fn what_may_not_be_repeated_is_not() {
    let upstream = upstream(|mut peer, number| async move {
        peer.head().await.unwrap();
        if number == 0 {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0").await;
            peer.head().await;
        }
    })
    .await;
    let edge = Edge::new(vec![upstream.clone()]).await;
    let mut caller = edge.connect().await;
    caller.send(GET).await;
    caller.until("\r\n\r\n0").await;
    tokio::time::sleep(ms(20)).await;

    caller.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n").await;

    assert!(caller.until("ADIT-3006").await.starts_with("HTTP/1.1 502 "));
    assert_eq!(upstream.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nothing_of_a_bad_answer_reaches_the_caller() {
    for (bad, adit) in [
        (&b"SSH-2.0-secret\r\n"[..], "ADIT-3005"),
        (b"HTTP/1.1 200 secret\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "ADIT-3005"),
        (b"HTTP/1.1 200 secret\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "ADIT-3005"),
        (b"HTTP/1.1 200 secret\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "ADIT-3005"),
        (b"HTTP/1.1 200 secret\r\nContent-Length: +1\r\n\r\nx", "ADIT-3005"),
        (b"HTTP/1.1 200 secret\r\nX: a\r\n b\r\n\r\n", "ADIT-3005"),
        (b"HTTP/1.1 200 secret\r\nX y: a\r\n\r\n", "ADIT-3005"),
        (b"HTTP/1.1 200 secret\r\nX: \0\r\n\r\n", "ADIT-3005"),
        (b"HTTP/1.1 20 secret\r\n\r\n", "ADIT-3005"),
        (b"HTTP/1.1 101 secret\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "ADIT-3005"),
        (b"HTTP/1.1 200 secret\r\nContent-Le", "ADIT-3006"),
        (CHATTER, "ADIT-3005"),
        (b"", "ADIT-3006"),
    ] {
        let edge = Edge::new(vec![says(bad, true).await]).await;

        let answer = edge.talk(GET_CLOSE).await;

        assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{bad:?}: {answer}");
        assert!(answer.contains(adit) && !answer.contains("secret"), "{bad:?}: {answer}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_complete() {
    for (broken, end) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"[..], "hello"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "5\r\nhello\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n", "5\r\nhello\r\n"),
    ] {
        let edge = Edge::new(vec![says(broken, true).await]).await;

        let answer = edge.talk(GET).await;

        assert!(answer.ends_with(end), "{answer}");
        let last = edge.backend.notes.lock().last().copied();
        assert_eq!(last, Some(Note::Ended { status: 200, whole: false }));
    }
}

#[tokio::test]
async fn an_answer_is_kept_apart_from_what_follows_it() {
    // An upstream that says more than its answer: the rest must not become the next caller's answer.
    let upstream = upstream(|mut peer, number| async move {
        while peer.head().await.is_some() {
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
            ))
            .await;
        }
    })
    .await;
    let edge = Edge::new(vec![upstream]).await;
    let mut caller = edge.connect().await;

    for _ in 0..3 {
        caller.send(GET).await;
        let head = caller.head().await.unwrap();
        assert!(head.contains("content-length: 1\r\n"), "{head}");
        caller.body(&head).await;
        tokio::time::sleep(ms(10)).await;
    }
}

fn ms(millis: u64) -> std::time::Duration {
    std::time::Duration::from_millis(millis)
}

const CHATTER: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
     HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
     HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
     HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 secret\r\n\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
const GET_CLOSE: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
