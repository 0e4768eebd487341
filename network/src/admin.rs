//! Health, readiness and metrics for the operator, over HTTP on an address of its own.

use core::{
    convert::Infallible,
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::metrics::Metrics;

/// What the pages show.
pub struct AdminState {
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// Whether traffic should come here.
    pub readiness: Arc<Readiness>,
    /// The endpoints.
    pub endpoints: Box<Pages>,
}

/// Tells of all endpoints or of one, and whether what is asked for is ready; none when there is no such endpoint.
pub type Pages = dyn Fn(Option<&str>) -> Option<(bool, serde_json::Value)> + Send + Sync;

/// Whether traffic should come here, and if not, why.
#[derive(Debug, Default)]
pub struct Readiness {
    draining: AtomicBool,
    ingress: AtomicBool,
    database: AtomicBool,
}

impl Readiness {
    /// Notes whether the process only finishes what is open.
    pub fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }

    /// Notes whether agents can connect.
    pub fn set_ingress(&self, up: bool) {
        self.ingress.store(up, Ordering::Relaxed);
    }

    /// Notes whether the database answers. Without it tunnels stay, so that it alone does not make the process unready.
    pub fn set_database(&self, up: bool) {
        self.database.store(up, Ordering::Relaxed);
    }

    /// Returns whether traffic should come here, and everything that is not as it should be.
    fn report(&self) -> (bool, Vec<&'static str>) {
        let facts = [
            (!self.draining.load(Ordering::Relaxed), true, "draining"),
            (self.ingress.load(Ordering::Relaxed), true, "ingress not listening"),
            (self.database.load(Ordering::Relaxed), false, "database not answering: no new sessions or binds"),
        ];
        let ready = facts.iter().all(|(fine, needed, _)| *fine || !needed);
        (ready, facts.into_iter().filter(|(fine, ..)| !fine).map(|(.., reason)| reason).collect())
    }
}

/// Serves the pages until `shutdown`.
pub async fn serve(listener: TcpListener, state: Arc<AdminState>, shutdown: impl Future<Output = ()> + Send) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut shutdown = core::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| core::future::ready(Ok::<_, Infallible>(answer(&request, &state))));
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(false);
            // A caller that goes away is nobody to tell.
            let _ = tokio::time::timeout(CONNECTION, builder.serve_connection(TokioIo::new(socket), service)).await;
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, state: &AdminState) -> Response<Full<Bytes>> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let only = hosts.next().filter(|_| hosts.next().is_none());
    let host = only.and_then(|host| host.to_str().ok());
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    page(request.method(), target, host, state)
}

fn page(method: &Method, target: &str, host: Option<&str>, state: &AdminState) -> Response<Full<Bytes>> {
    if !host.is_some_and(is_literal) {
        // A name could have been made to lead here by somebody's page (V48).
        return text(StatusCode::MISDIRECTED_REQUEST, "ask for this by address, not by name\n");
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => {
            let (ready, reasons) = state.readiness.report();
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let body = serde_json::json!({ "ready": ready, "reasons": reasons });
            typed(status, "application/json", format!("{body}\n"))
        }
        "/readyz/endpoints" => endpoints(query, state),
        "/metrics" => match state.metrics.text() {
            Ok(metrics) => typed(StatusCode::OK, METRICS, metrics),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"),
        },
        _ => text(StatusCode::NOT_FOUND, "/healthz, /readyz, /readyz/endpoints and /metrics are here\n"),
    }
}

/// Tells of all endpoints, or of the one that the query names, whose state is the status.
fn endpoints(query: &str, state: &AdminState) -> Response<Full<Bytes>> {
    let url = query.split('&').find_map(|pair| pair.strip_prefix("endpoint=")).map(decode);
    match (state.endpoints)(url.as_deref()) {
        Some((true, page)) => typed(StatusCode::OK, "application/json", format!("{page}\n")),
        Some((false, page)) => typed(StatusCode::SERVICE_UNAVAILABLE, "application/json", format!("{page}\n")),
        None => text(StatusCode::NOT_FOUND, "no such endpoint\n"),
    }
}

/// Replaces escapes; what is none stays.
fn decode(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut octets = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        match piece.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(octet) => {
                octets.push(octet);
                octets.extend_from_slice(piece.get(2..).unwrap_or_default().as_bytes());
            }
            None => {
                octets.push(b'%');
                octets.extend_from_slice(piece.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// Returns whether a `Host` is an address or `localhost`, with or without a port.
fn is_literal(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) => (name, port),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    port_fits && (name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", body.to_owned())
}

fn typed(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    fn state() -> AdminState {
        let endpoints = |url: Option<&str>| match url {
            None => Some((true, serde_json::json!({ "ready": 1 }))),
            Some("https://a.example") => Some((true, serde_json::json!({ "ready": 1 }))),
            Some("tcp://:5000") => Some((false, serde_json::json!({ "ready": 0 }))),
            Some(_) => None,
        };
        AdminState { metrics: Arc::new(Metrics::new()), readiness: Arc::default(), endpoints: Box::new(endpoints) }
    }

    fn status(state: &AdminState, method: &Method, path: &str, host: &str) -> u16 {
        page(method, path, Some(host), state).status().as_u16()
    }

    #[test]
    fn readiness_waits_for_the_ingress_and_ends_with_the_drain() {
        let state = state();
        let ready = || status(&state, &Method::GET, "/readyz", "127.0.0.1:9000");

        assert_eq!(ready(), 503);
        state.readiness.set_ingress(true);
        assert_eq!(ready(), 200, "a database that does not answer takes no tunnel away");
        state.readiness.set_draining(true);
        assert_eq!(ready(), 503);
    }

    #[test]
    fn only_what_is_there_is_answered_and_only_to_get() {
        let state = state();
        let table = [
            (Method::GET, "/healthz", 200),
            (Method::HEAD, "/healthz", 200),
            (Method::GET, "/metrics", 200),
            (Method::GET, "/readyz/endpoints", 200),
            (Method::GET, "/readyz/endpoints?endpoint=https://a.example", 200),
            (Method::GET, "/readyz/endpoints?x=%&endpoint=tcp%3a%2f%2F:5000", 503),
            (Method::GET, "/readyz/endpoints?endpoint=%fftcp://:5000%", 404),
            (Method::GET, "/", 404),
            (Method::POST, "/healthz", 405),
            (Method::DELETE, "/metrics", 405),
        ];
        for (method, path, expected) in table {
            assert_eq!(status(&state, &method, path, "127.0.0.1"), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_name_that_leads_here_is_not_served() {
        let state = state();
        for host in ["127.0.0.1", "127.0.0.1:9000", "[::1]:9000", "localhost:9000"] {
            assert_eq!(status(&state, &Method::GET, "/healthz", host), 200, "{host}");
        }
        for host in ["rebound.example", "localhost.example", "127.0.0.1.example", "[::1].example", "127.0.0.1:x", ""] {
            assert_eq!(status(&state, &Method::GET, "/healthz", host), 421, "{host}");
        }
        assert_eq!(page(&Method::GET, "/healthz", None, &state).status().as_u16(), 421);
    }

    #[tokio::test]
    async fn over_a_socket_one_host_is_asked_for() {
        let admin = Admin::start().await;

        let (status, body) = admin.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n").await;
        assert_eq!((status, body.ends_with("# EOF\n")), (200, true), "{body}");
        assert_eq!(admin.ask("HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n").await, (200, String::new()));
        assert_eq!(admin.ask("GET /metrics HTTP/1.1\r\n").await.0, 421);
        assert_eq!(admin.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: rebound.example\r\n").await.0, 421);
    }

    #[tokio::test]
    async fn a_crowd_holds_no_more_than_the_places_and_gives_them_back() {
        let admin = Admin::start().await;
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            held.push(TcpStream::connect(admin.address).await.unwrap());
        }
        let mut refused = TcpStream::connect(admin.address).await.unwrap();
        assert_eq!(refused.read(&mut [0]).await.unwrap_or(0), 0);

        held.clear();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(admin.ask("GET /healthz HTTP/1.1\r\nHost: localhost\r\n").await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_does_not_end_ends_the_connection() {
        let admin = Admin::start().await;
        let mut stream = TcpStream::connect(admin.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: local").await.unwrap();

        let mut answer = Vec::new();
        let read = tokio::time::timeout(HEADER_TIMEOUT * 2, stream.read_to_end(&mut answer)).await;

        assert!(read.is_ok() && !answer.starts_with(b"HTTP/1.1 200"));
    }

    struct Admin {
        address: SocketAddr,
        _task: tokio::task::JoinHandle<()>,
    }

    impl Admin {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            Self { address, _task: tokio::spawn(serve(listener, Arc::new(state()), core::future::pending())) }
        }

        async fn ask(&self, head: &str) -> (u16, String) {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head[9..12].parse().unwrap(), body.to_owned())
        }
    }
}
