//! What callers hear when something fails, and what is tried again.

use std::sync::atomic::Ordering;

use adit_core::Code;
use adit_network::{
    Fault,
    http::{HttpLimits, Note},
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
