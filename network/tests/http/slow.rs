//! Callers that are slow over HTTP/2, or gone without a word. All in memory, where time is virtual.

use std::{cell::Cell, convert::Infallible, sync::atomic::Ordering, time::Duration};

use adit_core::UpstreamProtocol;
use adit_network::http::HttpLimits;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::{SendRequest, handshake},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
    time::{Instant, sleep},
};

use crate::{
    frames::*,
    http2::{Body, get, post, streaming},
    support::*,
};

#[tokio::test(start_paused = true)]
async fn over_http_2_each_body_has_its_own_time_whatever_octets_keep_coming_and_other_streams_go_on() {
    let (gone, mut cancelled) = mpsc::unbounded_channel();
    let upstream = in_memory(move |mut peer, _| {
        let gone = gone.clone();
        async move {
            let head = peer.head().await.unwrap();
            if head.starts_with("POST /slow") {
                gone.send(peer.rest().await).unwrap();
                return;
            }
            peer.body(&head).await;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    });
    let edge = Edge::new(vec![upstream]).await;
    let caller = caller(&edge).await;

    let slow = tokio::spawn(upload(caller.clone(), "/slow", 1, secs(20)));
    sleep(secs(10)).await;
    let later = tokio::spawn(upload(caller.clone(), "/slow", 1, secs(20)));
    let steady = tokio::spawn(upload(caller.clone(), "/", 2_000, secs(19)));

    for (slow, octets) in [(slow, 1), (later, 1)] {
        let (status, took) = slow.await.unwrap();
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
        // 30 s, and 10 ms for the octet that came.
        assert!((secs(30) + ms(10)..secs(31)).contains(&took), "{took:?}");
        let got = cancelled.recv().await.unwrap();
        assert_eq!(got.matches("1\r\nx\r\n").count(), octets, "cut, never complete: {got:?}");
        assert!(!got.ends_with("0\r\n\r\n"), "{got:?}");
    }
    let (status, took) = steady.await.unwrap();
    assert_eq!(status, StatusCode::OK, "after {took:?}");
    assert!(took >= 10 * secs(19), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn grpc_may_rest_where_its_upstream_speaks_http_2_and_not_otherwise() {
    let grpc = || {
        let (sender, body) = streaming();
        let mut request = post(body);
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc+proto"));
        sender.send(Frame::data(Bytes::from("hello"))).unwrap();
        (sender, request)
    };
    let deaf = in_memory(|mut peer, _| async move { drop(peer.rest().await) });
    let resting = in_memory(|peer, _| async move {
        let service = service_fn(|request: Request<Incoming>| async move {
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(http::Response::new(http_body_util::Empty::<Bytes>::new()))
        });
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(peer.stream), service).await;
    });
    let resting = FakeMember { protocol: UpstreamProtocol::Http2, ..resting };
    let (plain, edge) = (Edge::new(vec![deaf]).await, Edge::new(vec![resting]).await);

    let (_sender, request) = grpc();
    let answer = caller(&plain).await.send_request(request).await.unwrap();
    assert_eq!(
        (answer.status(), answer.headers()["adit-error"].as_bytes()),
        (StatusCode::REQUEST_TIMEOUT, &b"ADIT-3011"[..])
    );

    let (sender, request) = grpc();
    let answer = tokio::spawn(caller(&edge).await.send_request(request));
    sleep(secs(1_000)).await;
    drop(sender);
    assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_answers_no_ping_ends_and_its_requests_are_cancelled() {
    let (gone, mut cancelled) = mpsc::unbounded_channel();
    let edge = Edge::new(vec![unanswering(gone)]).await;
    let (mut silent, cut) = edge.call(Some("h2"));
    let began = Instant::now();

    silent.send([PREFACE, &frame(SETTINGS, 0, 0, &[]), &request(1), &request(3)].concat()).await;

    for _ in 0..2 {
        cancelled.recv().await.unwrap();
    }
    // Asked after `ping_interval`, and then given `ping_timeout`.
    assert!((secs(50)..secs(51)).contains(&began.elapsed()), "{:?}", began.elapsed());
    edge.is_empty().await;
    assert!(cut.load(Ordering::SeqCst), "what waits for it is thrown away");
    assert_eq!(edge.reached("ping_timeout"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_answers_pings_may_wait_for_an_answer() {
    let (gone, mut cancelled) = mpsc::unbounded_channel();
    let edge = Edge::new(vec![unanswering(gone)]).await;
    let (mut caller, cut) = edge.call(Some("h2"));
    caller.send([PREFACE, &frame(SETTINGS, 0, 0, &[]), &request(1)].concat()).await;

    for _ in 0..5 {
        let octets = until_frame(&mut caller, |kind, flags, _| kind == PING && flags == 0).await;
        let asked = octets.last_chunk::<8>().unwrap();
        sleep(secs(19)).await;
        caller.send(frame(PING, ACK, 0, asked)).await;
    }

    assert!(cancelled.try_recv().is_err() && !cut.load(Ordering::SeqCst));
    assert_eq!(edge.reached("ping_timeout"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_data_is_not_taken_is_reset_and_the_others_go_on() {
    let upstream = in_memory(|mut peer, _| async move {
        let head = peer.head().await.unwrap();
        if head.starts_with("GET /large") {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
            while peer.stream.write_all(&[0; 65536]).await.is_ok() {}
        } else {
            sleep(secs(80)).await;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    });
    let edge = Edge::with(vec![upstream], HttpLimits::default(), None).await;
    let mut caller = caller(&edge).await;
    let mut other = caller.clone();

    let stalled = caller.send_request(get("/large")).await.unwrap();
    let answer = other.send_request(get("/")).await.unwrap();

    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
    assert!(stalled.into_body().collect().await.is_err());
    assert_eq!(edge.reached("stall_timeout"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_over_http_2_whose_data_is_not_taken_is_reset_and_its_upstream_told() {
    let (gone, mut cancelled) = mpsc::unbounded_channel();
    let upstream = in_memory(move |mut peer, _| {
        let gone = gone.clone();
        async move {
            peer.head().await;
            peer.send(SWITCHING).await;
            while peer.stream.write_all(&[0; 65536]).await.is_ok() {}
            gone.send(()).unwrap();
        }
    });
    let edge = Edge::new(vec![upstream]).await;
    let (mut caller, _) = edge.call(Some("h2"));
    let began = Instant::now();

    caller.send(leave()).await;

    assert_eq!(end_of_stream(&mut caller).await, RST_STREAM, "never complete");
    cancelled.recv().await.unwrap();
    assert!((secs(30)..secs(31)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(edge.reached("stall_timeout"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_over_http_2_that_its_upstream_breaks_is_reset_and_one_that_it_ends_is_complete() {
    for (breaks, end) in [(true, RST_STREAM), (false, DATA)] {
        let upstream = in_memory(move |mut peer, _| async move {
            peer.head().await;
            peer.send(SWITCHING).await;
            peer.send("hello").await;
            sleep(secs(1)).await;
            if !breaks {
                peer.stream.shutdown().await.unwrap();
                peer.rest().await;
            }
        });
        let edge = Edge::new(vec![FakeMember { breaks, ..upstream }]).await;
        let (mut caller, _) = edge.call(Some("h2"));

        caller.send(leave()).await;

        assert_eq!(end_of_stream(&mut caller).await, end, "it breaks: {breaks}");
    }
}

/// Leaves HTTP by extended CONNECT.
fn leave() -> Vec<u8> {
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "a.example"),
        (":path", "/"),
    ];
    [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, END_HEADERS, 1, &block(&fields))].concat()
}

/// Returns the type of the frame that ends stream 1.
async fn end_of_stream(caller: &mut Peer<DuplexStream>) -> u8 {
    let end = Cell::new(u8::MAX);
    let ends = |kind, flags, stream| stream == 1 && (kind == RST_STREAM || kind == DATA && flags & END_STREAM != 0);
    until_frame(caller, |kind, flags, stream| {
        end.set(kind);
        ends(kind, flags, stream)
    })
    .await;
    end.get()
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";

/// Sends so many octets after each pause, ten times, until there is an answer; returns its status and how long it took.
async fn upload(mut caller: SendRequest<Body>, path: &str, octets: usize, pause: Duration) -> (StatusCode, Duration) {
    let began = Instant::now();
    let (sender, body) = streaming();
    let mut request = post(body);
    *request.uri_mut() = format!("https://a.example{path}").parse().unwrap();
    let sending = async move {
        for _ in 0..10 {
            sleep(pause).await;
            let _ = sender.send(Frame::data(Bytes::from("x".repeat(octets))));
        }
    };
    tokio::spawn(sending);
    let answer = caller.send_request(request).await.unwrap();
    (answer.status(), began.elapsed())
}

/// An upstream that takes requests and answers none, and says when one is over.
fn unanswering(gone: mpsc::UnboundedSender<()>) -> FakeMember {
    in_memory(move |mut peer, _| {
        let gone = gone.clone();
        async move {
            peer.head().await;
            while let Ok(1..) = peer.stream.read(&mut [0; 1024]).await {}
            gone.send(()).unwrap();
        }
    })
}

async fn caller(edge: &Edge) -> SendRequest<Body> {
    let (Peer { stream, .. }, _) = edge.call(Some("h2"));
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(GET))
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
