//! Requests that two parsers may read in two ways: refused by us, never seen by the upstream (V51, V53, V54, V59, V65).

use std::sync::atomic::Ordering;

use crate::support::*;

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_answered_400_and_never_sent_on() {
    let upstream = echo().await;
    let edge = Edge::new(vec![upstream.clone()]).await;

    for form in FORMS {
        let answer = edge.talk(form).await;

        assert_eq!(status(&answer), "400", "{form:?}: {answer}");
        assert!(answer.contains("ADIT-3008") && answer.contains("connection: close\r\n"), "{form:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{form:?}: {answer}");
    }

    assert_eq!(upstream.opened.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_good_request_before_a_bad_one_is_answered_first() {
    let edge = Edge::new(vec![echo().await]).await;

    let answer = edge.talk(format!("GET /good HTTP/1.1\r\nHost: a.example\r\n\r\n{}", FORMS[0])).await;

    let (good, bad) = (answer.find("HTTP/1.1 200").unwrap(), answer.find("HTTP/1.1 400").unwrap());
    assert!(good < bad && answer.contains("GET /good"), "{answer}");
}

#[tokio::test]
async fn a_bad_chunk_ends_the_request_and_the_connection() {
    let edge = Edge::new(vec![echo().await]).await;
    for chunks in ["2\r\nhiX", "x\r\n", "2 \r\nhi\r\n0\r\n\r\n", "2\nhi\n0\n\n", "0\r\nX : y\r\n\r\n"] {
        let head = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n";

        let answer = edge.talk(format!("{head}{chunks}GET /poison HTTP/1.1\r\nHost: a.example\r\n\r\n")).await;

        assert_eq!(status(&answer), "400", "{chunks:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{chunks:?}: {answer}");
        assert!(!answer.contains("poison"), "{answer}");
    }
}

#[tokio::test]
async fn other_refusals_have_their_own_answer() {
    let edge = Edge::new(vec![echo().await]).await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: a.example\r\n\r\n", "x".repeat(33_000));
    let large = format!("GET / HTTP/1.1\r\nHost: a.example\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{}\r\n", "a: b\r\n".repeat(100));
    for (request, code) in [
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", "405 Method Not Allowed ADIT-3012"),
        ("TRACE / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", "405 Method Not Allowed ADIT-3012"),
        ("GET / HTTP/3.0\r\nHost: a.example\r\n\r\n", "505 HTTP Version Not Supported ADIT-3020"),
        (
            "GET / HTTP/1.1\r\nHost: a.example\r\nExpect: x\r\nConnection: close\r\n\r\n",
            "417 Expectation Failed ADIT-3021",
        ),
        ("GET / HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\r\n", "404 Not Found ADIT-3001"),
        ("GET / HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n", "400 Bad Request ADIT-3008"),
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", "400 Bad Request ADIT-3008"),
        ("GET / HTTP/1.1\r\nHost: a.example:x\r\nConnection: close\r\n\r\n", "400 Bad Request ADIT-3008"),
        ("GET / HTTP/1.1\r\nHost: b\u{fc}cher.example\r\nConnection: close\r\n\r\n", "400 Bad Request ADIT-3008"),
        (&long, "414 URI Too Long ADIT-3019"),
        (&large, "431 Request Header Fields Too Large ADIT-3009"),
        (&many, "431 Request Header Fields Too Large ADIT-3009"),
    ] {
        let answer = edge.talk(request).await;

        let (line, adit) = code.rsplit_once(' ').unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {line}\r\n")), "{code}: {answer}");
        assert!(answer.contains(&format!("adit-error: {adit}\r\n")), "{code}: {answer}");
    }
}

#[tokio::test]
async fn a_head_of_nearly_a_mebibyte_arrives() {
    let edge = Edge::new(vec![echo().await]).await;
    let large =
        format!("GET / HTTP/1.1\r\nHost: a.example\r\nX: {}\r\nConnection: close\r\n\r\n", "x".repeat(1_000_000));

    let answer = edge.talk(&large).await;

    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.len() > 1_000_000, "{}", answer.len());
}

#[tokio::test]
async fn a_refused_browser_gets_a_page() {
    let edge = Edge::new(vec![echo().await]).await;

    let page = edge.talk("GET / HTTP/1.1\r\nAccept: text/html\r\nX : y\r\nHost: a.example\r\n\r\n").await;

    assert!(page.contains("content-type: text/html; charset=utf-8\r\n"), "{page}");
}

#[tokio::test]
async fn h2c_upgrade_is_taken_out_and_the_request_served() {
    let edge = Edge::new(vec![echo().await]).await;
    let mut caller = edge.connect().await;

    caller
        .send("GET /1 HTTP/1.1\r\nHost: a.example\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n\r\n")
        .await;
    let answer = caller.until("adit\r\n\r\n").await;
    caller.send("GET /2 HTTP/1.1\r\nHost: a.example\r\n\r\n").await;

    assert!(!answer.contains("h2c") && !answer.contains("http2-settings"), "{answer}");
    assert!(caller.until("adit\r\n\r\n").await.contains("GET /2 "));
}

const FORMS: &[&str] = &[
    "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
    "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5, 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: +5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5 x\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a.example\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a.example\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET / HTTP/1.1\nHost: a.example\n\n",
    "GET / HTTP/1.1\r\nHost: a.example\nX: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a.example\r\nX: a\rb\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a.example\r\nX: \0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a.example\r\nX y: z\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET http://u@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET  / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET /\x01 HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET / HTTP/1.1 HTTP/1.1\r\nHost: a.example\r\n\r\n",
];
