//! HTTP/2 on either side.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use adit_core::UpstreamProtocol;
use adit_network::{
    Phase,
    http::{HttpLimits, Note},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::SendRequest,
    ext::Protocol,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::support::*;

pub type Body = BoxBody<Bytes, Infallible>;

/// BIND-016
#[tokio::test]
async fn an_http_2_caller_reaches_an_http_1_upstream() {
    let edge = alpn_h2(vec![echo().await], HttpLimits::default()).await;
    let mut caller = caller(&edge).await;
    let mut request = get("/x?y");
    request.headers_mut().append("cookie", HeaderValue::from_static("a=1"));
    request.headers_mut().append("cookie", HeaderValue::from_static("b=2"));
    request.headers_mut().append("x-forwarded-for", HeaderValue::from_static("6.6.6.6"));

    let text = text(caller.send_request(request).await.unwrap()).await;

    for line in ["GET /x?y HTTP/1.1\r\n", "host: a.example\r\n", "cookie: a=1; b=2\r\n", "x-forwarded-proto: https\r\n"]
    {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("6.6.6.6"), "{text}");
}

#[tokio::test]
async fn prior_knowledge_is_heard_in_plain_text() {
    let edge = Edge::new(vec![echo().await]).await;

    let answer = caller(&edge).await.send_request(get("/")).await.unwrap();

    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
}

#[tokio::test]
async fn a_body_goes_through_with_and_without_a_length() {
    let edge = alpn_h2(vec![echo().await], HttpLimits::default()).await;
    let mut caller = caller(&edge).await;
    let (sender, body) = streaming();

    let sized = caller.send_request(post(Full::new(Bytes::from("hello")).boxed())).await.unwrap();
    assert!(text(sized).await.ends_with("hello"));
    let answer = caller.send_request(post(body));
    sender.send(Frame::data(Bytes::from("streamed"))).unwrap();
    drop(sender);

    let text = text(answer.await.unwrap()).await;
    assert!(text.contains("transfer-encoding: chunked\r\n") && text.contains("8\r\nstreamed\r\n"), "{text}");
}

#[tokio::test]
async fn grpc_goes_through_in_both_directions_with_its_trailers() {
    let upstream = upstream2(|mut request: Request<Incoming>| async move {
        assert_eq!((request.version(), request.headers()["te"].as_bytes()), (Version::HTTP_2, &b"trailers"[..]));
        assert_eq!(request.uri().authority().unwrap(), "a.example");
        assert!(!request.headers().contains_key("host"));
        let (sender, body) = streaming();
        tokio::spawn(async move {
            while let Some(Ok(frame)) = request.body_mut().frame().await {
                let Ok(data) = frame.into_data() else { continue };
                sender.send(Frame::data(data)).unwrap();
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            sender.send(Frame::trailers(trailers)).unwrap();
        });
        Response::builder().header("content-type", "application/grpc").body(body).unwrap()
    })
    .await;
    let edge = alpn_h2(vec![upstream], HttpLimits::default()).await;
    let mut caller = caller(&edge).await;
    let (sender, body) = streaming();
    let mut request = post(body);
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));

    let mut answer = soon(caller.send_request(request)).await.unwrap();
    for message in ["one", "two", "three"] {
        sender.send(Frame::data(Bytes::from(message))).unwrap();
        let frame = soon(answer.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), message);
    }
    drop(sender);

    let trailers = soon(answer.body_mut().frame()).await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

/// BIND-016
#[tokio::test]
async fn an_http_1_caller_reaches_an_http_2_upstream_on_one_connection() {
    let upstream = upstream2(|request: Request<Incoming>| async move {
        assert_eq!(request.uri().scheme_str(), Some("http"));
        let whole = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(Full::new(whole).boxed())
    })
    .await;
    let edge = Edge::new(vec![upstream.clone()]).await;

    for _ in 0..3 {
        let answer = edge
            .talk("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\nhello")
            .await;
        assert!(answer.contains("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
    }

    assert_eq!(upstream.opened.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_reset() {
    for broken in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let edge = alpn_h2(vec![says(broken, true).await], HttpLimits::default()).await;
        let answer = caller(&edge).await.send_request(get("/")).await.unwrap();

        assert!(soon(answer.into_body().collect()).await.is_err());
    }
}

#[tokio::test]
async fn a_reset_cancels_the_request_at_the_upstream() {
    let (gone, mut seen) = mpsc::unbounded_channel();
    let upstream = upstream(move |mut peer, _| {
        let gone = gone.clone();
        async move {
            peer.head().await;
            peer.rest().await;
            gone.send(()).unwrap();
        }
    })
    .await;
    let edge = alpn_h2(vec![upstream], HttpLimits::default()).await;
    let mut caller = caller(&edge).await;

    let _ = tokio::time::timeout(ms(50), caller.send_request(get("/"))).await;

    soon(seen.recv()).await.unwrap();
}

#[tokio::test]
async fn refusals_are_answered_and_the_connection_goes_on() {
    let edge = alpn_h2(vec![echo().await], HttpLimits::default()).await;
    let mut caller = caller(&edge).await;
    let many = (0..101).map(|_| ("cookie", "c=1")).collect::<Vec<_>>();
    for (fields, uri, status) in [
        (&many[..], "https://a.example/", 431),
        (&[("content-length", "0"), ("content-length", "0")], "https://a.example/", 400),
        (&[("host", "b.example")], "https://a.example/", 400),
        (&[("host", "a.example"), ("host", "a.example")], "https://a.example/", 400),
        (&[("expect", "x")], "https://a.example/", 417),
        (&[], "https://[::1]/", 400),
        (&[], "https://other.example/", 421),
        (&[], "https://unknown.example/", 421),
        (&[], "https://a.example/", 200),
    ] {
        let mut request = get("/");
        *request.uri_mut() = uri.parse().unwrap();
        for (name, value) in fields {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }

        let answer = caller.send_request(request).await.unwrap();

        assert_eq!(answer.status(), status, "{fields:?} {uri}");
        answer.into_body().collect().await.unwrap();
    }
    for method in [Method::CONNECT, Method::TRACE] {
        let mut request = get("/");
        if method == Method::CONNECT {
            *request.uri_mut() = "a.example:443".parse().unwrap();
        }
        *request.method_mut() = method;
        assert_eq!(caller.send_request(request).await.unwrap().status(), 405);
    }
}

#[tokio::test]
async fn a_refusal_to_head_has_no_body() {
    let edge = alpn_h2(vec![], HttpLimits::default()).await;
    let mut request = get("/");
    *request.method_mut() = Method::HEAD;

    let answer = caller(&edge).await.send_request(request).await.unwrap();

    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("content-length"));
    assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn a_refusal_does_not_reset_what_a_caller_is_about_to_send() {
    let mut limits = HttpLimits::default();
    limits.drain_size = 1_000;
    let edge = alpn_h2(vec![], limits).await;
    let mut caller = caller(&edge).await;
    let (sender, body) = streaming();

    let answer = caller.send_request(post(body)).await.unwrap();
    assert_eq!(answer.status(), 503);
    text(answer).await;
    // Had the first been reset, that would have arrived before this answer.
    text(caller.send_request(get("/")).await.unwrap()).await;
    assert!(!sender.is_closed());

    // More than is thrown away is not listened to.
    sender.send(Frame::data(Bytes::from_static(&[0; 1_000]))).unwrap();
    text(caller.send_request(get("/")).await.unwrap()).await;
    assert!(!sender.is_closed());
    sender.send(Frame::data(Bytes::from_static(b"x"))).unwrap();
    soon(sender.closed()).await;
}

#[tokio::test]
async fn an_http2_upstream_whose_agent_is_away_keeps_its_connection() {
    let (arrived, mut arrival) = tokio::sync::watch::channel(false);
    let upstream = upstream2(move |_| {
        arrived.send_replace(true);
        async { Response::new(Full::from("after all").boxed()) }
    })
    .await;
    // What the upstream says after the request has come is held back for as long as an agent may be away.
    let (listener, target) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), upstream.address);
    let line = FakeMember { address: listener.local_addr().unwrap(), ..upstream };
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(target).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
            _ = arrival.wait_for(|arrived| *arrived) => {}
        }
        tokio::time::sleep(ms(500)).await;
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    let mut limits = HttpLimits::default();
    (limits.ping_interval, limits.ping_timeout) = (ms(50), ms(50));
    let edge = Edge::with(vec![line], limits, None).await;

    let answer = edge.talk("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await;

    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("after all"), "{answer}");
}

#[tokio::test]
async fn extended_connect_becomes_an_upgrade() {
    let upstream = upstream(|mut peer, _| async move {
        let head = peer.head().await.unwrap();
        assert!(head.starts_with("GET /chat HTTP/1.1\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
        let key = head.split("sec-websocket-key: ").nth(1).unwrap().lines().next().unwrap();
        assert_eq!(key.len(), 24);
        peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nhello").await;
        peer.until("ping").await;
        peer.send("pong").await;
        assert_eq!(peer.rest().await, "");
        peer.send("bye").await;
    })
    .await;
    let edge = alpn_h2(vec![upstream], HttpLimits::default()).await;
    let mut request = get("/chat");
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    let mut caller = caller(&edge).await;
    tokio::time::sleep(ms(20)).await; // the caller learns from SETTINGS that it may

    let mut answer = soon(caller.send_request(request)).await.unwrap();

    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().contains_key("sec-websocket-accept"));
    let mut io = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    let mut room = [0; 5];
    io.read_exact(&mut room).await.unwrap();
    assert_eq!(&room, b"hello");
    io.write_all(b"ping").await.unwrap();
    io.read_exact(&mut room[..4]).await.unwrap();
    io.shutdown().await.unwrap();
    let mut rest = String::new();
    soon(io.read_to_string(&mut rest)).await.unwrap();
    assert_eq!((&room[..4], rest.as_str()), (&b"pong"[..], "bye"));
}

#[tokio::test]
async fn whoever_opens_and_resets_is_shown_the_door() {
    let upstream = upstream(|mut peer, _| async move { drop(peer.rest().await) }).await;
    let mut limits = HttpLimits::default();
    (limits.reset_burst, limits.reset_rate) = (5, 0);
    let edge = alpn_h2(vec![upstream.clone()], limits).await;
    let mut caller = caller(&edge).await;

    for _ in 0..50 {
        if tokio::time::timeout(ms(5), caller.send_request(get("/"))).await.is_ok() {
            break;
        }
    }

    tokio::time::sleep(ms(50)).await;
    assert!(caller.is_closed() || caller.send_request(get("/")).await.is_err());
    assert!(edge.backend.notes.lock().contains(&Note::ResetFlood));
    assert!(upstream.opened.load(std::sync::atomic::Ordering::SeqCst) <= 10);
}

#[tokio::test]
async fn draining_says_goaway_and_lets_requests_finish() {
    let upstream = upstream(|mut peer, _| async move {
        peer.head().await;
        tokio::time::sleep(ms(150)).await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    let edge = alpn_h2(vec![upstream], HttpLimits::default()).await;
    let mut caller = caller(&edge).await;
    let answer = caller.send_request(get("/"));
    tokio::time::sleep(ms(50)).await;

    edge.phase.send(Phase::Draining).unwrap();

    assert_eq!(text(answer.await.unwrap()).await, "ok");
    soon(async {
        while !caller.is_closed() {
            tokio::time::sleep(ms(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let mut limits = HttpLimits::default();
    limits.idle_timeout = ms(100);
    let edge = alpn_h2(vec![echo().await], limits).await;
    let mut caller = caller(&edge).await;
    text(caller.send_request(get("/")).await.unwrap()).await;

    soon(async {
        while !caller.is_closed() {
            tokio::time::sleep(ms(10)).await;
        }
    })
    .await;
}

async fn alpn_h2(members: Vec<FakeMember>, limits: HttpLimits) -> Edge {
    Edge::with(members, limits, Some((tls("h2"), "a.example"))).await
}

async fn caller(edge: &Edge) -> SendRequest<Body> {
    let stream = TcpStream::connect(edge.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// An upstream that speaks HTTP/2 with prior knowledge.
async fn upstream2<F, S>(serve: S) -> FakeMember
where
    S: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let serve = Arc::clone(&serve);
            let service = service_fn(move |request| {
                let answer = serve(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(async move { builder.serve_connection(TokioIo::new(stream), service).await });
        }
    });
    FakeMember { protocol: UpstreamProtocol::Http2, ..member(address) }
}

pub fn get(path: &str) -> Request<Body> {
    Request::get(format!("https://a.example{path}")).body(Empty::new().boxed()).unwrap()
}

pub fn post(body: Body) -> Request<Body> {
    Request::post("https://a.example/").body(body).unwrap()
}

pub fn streaming() -> (mpsc::UnboundedSender<Frame<Bytes>>, Body) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx).map(|frame| frame.map(Ok)));
    (sender, StreamBody::new(frames).boxed())
}

async fn text(answer: Response<Incoming>) -> String {
    let whole = soon(answer.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(whole.to_vec()).unwrap()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test]
async fn an_http_1_caller_gets_the_trailers_of_grpc() {
    let upstream = upstream2(|_| async move {
        let (sender, body) = streaming();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("7"));
        sender.send(Frame::data(Bytes::from("x"))).unwrap();
        sender.send(Frame::trailers(trailers)).unwrap();
        Response::builder().header("content-type", "application/grpc").body(body).unwrap()
    })
    .await;
    let edge = Edge::new(vec![upstream]).await;
    let mut caller = edge.connect().await;

    caller.send("GET / HTTP/1.1\r\nHost: a.example\r\nTE: trailers\r\nConnection: te\r\n\r\n").await;

    caller.until("0\r\ngrpc-status: 7\r\n\r\n").await;
}
