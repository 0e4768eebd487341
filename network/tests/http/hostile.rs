//! HTTP/2 callers that mean harm, frame by frame (V1 to V7, V52).

use std::{sync::atomic::Ordering, time::Duration};

use adit_core::UpstreamProtocol;
use adit_network::http::HttpLimits;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{frames::*, support::*};

#[tokio::test]
async fn fields_that_would_change_the_request_downstream_never_get_there() {
    let upstream = echo().await;
    let edge = edge(&upstream).await;
    let good = [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/")];
    for bad in [
        &[("transfer-encoding", "chunked")][..],
        &[("connection", "close")],
        &[("keep-alive", "x")],
        &[("proxy-connection", "x")],
        &[("upgrade", "x")],
        &[("te", "gzip")],
        &[("x", "a\r\nHost: b")],
        &[("x", "a\nb")],
        &[("x", "a\0b")],
        &[("x\r\ny", "z")],
        &[("x y", "z")],
        &[("X-Upper", "z")],
        &[("x:", "z")],
        &[("", "z")],
        &[(":path", "/other")],
        &[(":unknown", "z")],
        &[("content-length", "1"), ("content-length", "2")],
        &[("content-length", "+1")],
        &[("content-length", "1, 1")],
        &[("content-length", "x")],
        &[("host", "b.example")],
    ] {
        let block = block(&[&good[..], bad].concat());

        let answer = refused(&edge, &[frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)]).await;

        assert!(answer, "{bad:?}");
    }
    for path in ["/ HTTP/1.1\r\nHost: b\r\n\r\n", "/a b", "/\0", "", "no-slash", "/\r\n"] {
        let block = block(&[&good[..3], &[(":path", path)]].concat());

        let answer = refused(&edge, &[frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)]).await;

        assert!(answer, "{path:?}");
    }
    assert_eq!(upstream.opened.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_body_that_is_not_of_its_length_is_never_whole_upstream() {
    let (whole, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let upstream = upstream(move |mut peer, _| {
        let whole = whole.clone();
        async move {
            let Some(head) = peer.head().await else { return };
            let length =
                head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse::<usize>().unwrap();
            let rest = peer.rest().await;
            whole.send(rest.len() >= length).unwrap();
        }
    })
    .await;
    let edge = edge(&upstream).await;
    for data in ["abc", "abcdefg"] {
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "a.example"),
            (":path", "/"),
            ("content-length", "5"),
        ];

        let mut caller = hello(&edge).await;
        caller.send(frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        caller.send(frame(DATA, END_STREAM, 1, data.as_bytes())).await;

        assert!(!soon(seen.recv()).await.unwrap(), "{data}");
    }
}

#[tokio::test]
async fn continuations_without_end_close_the_connection() {
    let edge = edge(&echo().await).await;
    let mut caller = hello(&edge).await;

    caller.send(frame(HEADERS, 0, 1, &block(GET))).await;
    let flood = async {
        loop {
            let piece = frame(CONTINUATION, 0, 1, &block(&[("x", "y")]));
            if caller.stream.write_all(&piece.repeat(100)).await.is_err() {
                return;
            }
        }
    };

    soon(flood).await;
}

#[tokio::test]
async fn a_bomb_of_indexed_fields_and_one_of_crumbs_are_refused_by_count() {
    let upstream = echo().await;
    let edge = edge(&upstream).await;
    for name in ["x-bomb", "cookie"] {
        let mut caller = hello(&edge).await;
        let mut bomb = block(GET);
        bomb.extend_from_slice(&[0x40, short(name)]); // literal with indexing: entry 62 of the table
        bomb.extend_from_slice(name.as_bytes());
        bomb.extend_from_slice(&[1, b'v']);
        bomb.extend(std::iter::repeat_n(0x80 | 62, 4000));

        caller.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)).await;

        let octets = until_frame(&mut caller, |kind, _, _| kind == DATA || kind == RST_STREAM || kind == GOAWAY).await;
        assert!(String::from_utf8_lossy(&octets).contains("ADIT-3009"), "{name}");
    }
    assert_eq!(upstream.opened.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn whoever_makes_us_reset_is_shown_the_door_and_each_request_is_cancelled() {
    let (gone, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let upstream = upstream(move |mut peer, _| {
        let gone = gone.clone();
        async move {
            peer.head().await;
            peer.rest().await;
            gone.send(()).unwrap();
        }
    })
    .await;
    let mut limits = HttpLimits::default();
    (limits.reset_burst, limits.reset_rate) = (10, 0);
    let edge = Edge::with(vec![upstream.clone()], limits, Some((tls("h2"), "a.example"))).await;
    let mut caller = hello(&edge).await;

    let flood = async {
        for number in 0_u32.. {
            let stream = 1 + 2 * number;
            let open = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(GET));
            let overflow = frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]);
            if caller.stream.write_all(&open).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            if caller.stream.write_all(&overflow).await.is_err() {
                return;
            }
        }
    };
    soon(flood).await;

    let opened = upstream.opened.load(Ordering::SeqCst);
    assert!(opened < 200, "{opened}");
    for _ in 0..opened {
        soon(seen.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn floods_that_carry_nothing_end_or_cost_nothing() {
    let edge = edge(&echo().await).await;
    let fields = [(":method", "POST"), (":scheme", "https"), (":authority", "a.example"), (":path", "/")];
    for (first, again) in [
        (Vec::new(), frame(PING, 0, 0, &[0; 8])),
        (Vec::new(), frame(SETTINGS, 0, 0, &[])),
        (frame(HEADERS, END_HEADERS, 1, &block(&fields)), frame(DATA, 0, 1, &[])),
    ] {
        let mut caller = hello(&edge).await;
        caller.send(first).await;
        let flood = again.repeat(1000);

        // The caller does not read. Whether it is closed or not listened to: it gets no further than buffers reach.
        let mut sent = 0;
        while let Ok(Ok(())) = timeout(Duration::from_millis(300), caller.stream.write_all(&flood)).await {
            sent += flood.len();
            assert!(sent < 64 << 20, "{sent} octets of frames of type {} were listened to", again[3]);
        }
    }
}

#[tokio::test]
async fn an_http_2_upstream_that_resets_without_an_error_has_not_finished() {
    let upstream = upstream(|mut peer, _| async move {
        peer.until("SM\r\n\r\n").await;
        peer.send(frame(SETTINGS, 0, 0, &[])).await;
        until_frame(&mut peer, |kind, _, _| kind == HEADERS).await;
        peer.send(frame(HEADERS, END_HEADERS, 1, &[0x88])).await; // :status 200
        peer.send(frame(DATA, 0, 1, b"hello")).await;
        tokio::time::sleep(Duration::from_millis(30)).await; // a reset at once would take the octets along
        peer.send(frame(RST_STREAM, 0, 1, &[0; 4])).await;
        peer.rest().await;
    })
    .await;
    let edge = Edge::new(vec![FakeMember { protocol: UpstreamProtocol::Http2, ..upstream }]).await;

    let answer = edge.talk("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;

    assert!(answer.ends_with("5\r\nhello\r\n"), "{answer}");
}

async fn edge(upstream: &FakeMember) -> Edge {
    Edge::with(vec![upstream.clone()], HttpLimits::default(), Some((tls("h2"), "a.example"))).await
}

async fn hello(edge: &Edge) -> Peer {
    let mut caller = edge.connect().await;
    caller.send(PREFACE).await;
    caller.send(frame(SETTINGS, 0, 0, &[])).await;
    caller
}

/// Tells whether frames are answered by a reset, by GOAWAY or by a status of 400.
async fn refused(edge: &Edge, frames: &[Vec<u8>]) -> bool {
    let mut caller = hello(edge).await;
    for frame in frames {
        caller.send(frame).await;
    }
    let octets = until_frame(&mut caller, |kind, _, stream| {
        stream == 1 && (kind == DATA || kind == RST_STREAM) || kind == GOAWAY
    })
    .await;
    let text = String::from_utf8_lossy(&octets);
    text.contains("ADIT-3008") || !text.contains("HTTP")
}
