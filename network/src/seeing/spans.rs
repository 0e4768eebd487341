//! Spans to an OpenTelemetry collector: OTLP over HTTP in JSON (<https://opentelemetry.io/docs/specs/otlp/>). What waits is bounded;
//! a collector that is slow, or gone, loses spans, which are counted, and never holds a request.

use core::time::Duration;
use std::{io, time::SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request as HttpRequest, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::{counter::Counter, family::Family};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::{info, warn};

use super::{Trace, access::Entry};
use crate::{
    config::{Logged, Telemetry},
    metrics::ReasonLabel,
};

/// Where spans go.
#[derive(Debug)]
pub struct Exporter {
    sender: mpsc::Sender<Message>,
    results: Results,
}

/// What came of spans: exported, dropped (too many waited), refused (by the collector), failed (no collector).
type Results = Family<ReasonLabel, Counter>;

enum Message {
    Span(Box<Value>),
    Flush(oneshot::Sender<()>),
}

impl Exporter {
    /// Starts the task that sends. Must be called inside a runtime.
    pub fn start(telemetry: &Telemetry, node: &str, results: Results) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let resource = json!({ "attributes": [
            text("service.name", "adit-network"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", node),
        ] });
        let collector = Collector {
            authority: telemetry.endpoint.authority().map_or_else(String::new, ToString::to_string),
            host: telemetry.endpoint.host().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
            port: telemetry.endpoint.port_u16().unwrap_or(80),
            path: format!("{}/v1/traces", telemetry.endpoint.path().trim_end_matches('/')),
            headers: telemetry.headers.clone(),
            resource,
        };
        tokio::spawn(run(collector, receiver, results.clone()));
        Self { sender, results }
    }

    /// Takes a span, or counts it as dropped when too many wait.
    pub(super) fn export(&self, span: Value) {
        if self.sender.try_send(Message::Span(Box::new(span))).is_err() {
            count(&self.results, "dropped", 1);
        }
    }

    /// Waits until what was taken so far is sent, but not for long.
    pub async fn flush(&self) {
        let (done, sent) = oneshot::channel();
        if self.sender.try_send(Message::Flush(done)).is_ok() {
            let _ = timeout(FAREWELL, sent).await;
        }
    }
}

/// Returns the span of an entry; the log's switches hold for it, too.
pub(super) fn span(entry: &Entry, trace: Trace, logged: &Logged) -> Option<Value> {
    let request = entry.request.as_ref()?;
    let nanos =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos().to_string();
    let version = match request.version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    let scheme = entry.caller.scheme.word();
    let mut attributes = vec![
        text("http.request.method", request.method.as_str()),
        number("http.response.status_code", request.status.into()),
        text("url.scheme", scheme),
        text("network.protocol.version", version),
        text("adit.request_id", &request.id),
        number("http.request.body.size", entry.received),
        number("http.response.body.size", entry.sent),
    ];
    let address = super::access::address(entry.caller.address.ip(), logged.address);
    let path = logged.path.then(|| request.uri.path());
    let agent = entry.agent.map(|agent| agent.to_string());
    let others = [
        ("server.address", request.host.as_deref()),
        ("client.address", address.as_deref()),
        ("url.path", path),
        ("adit.endpoint", entry.endpoint.as_deref()),
        ("adit.account", entry.account.as_deref()),
        ("adit.agent", agent.as_deref()),
        ("adit.code", entry.fault.map(crate::Fault::code)),
    ];
    attributes.extend(others.into_iter().filter_map(|(name, value)| value.map(|value| text(name, value))));
    let mut span = json!({
        "traceId": trace.trace.to_string(),
        "spanId": trace.span.to_string(),
        "name": method_name(&request.method),
        "kind": SERVER,
        "startTimeUnixNano": nanos(entry.ended.checked_sub(entry.total).unwrap_or(entry.ended)),
        "endTimeUnixNano": nanos(entry.ended),
        "attributes": attributes,
        "status": if request.status >= 500 || !entry.whole { json!({ "code": ERROR }) } else { json!({}) },
    });
    if let (Some(parent), Some(span)) = (trace.parent, span.as_object_mut()) {
        span.insert("parentSpanId".to_owned(), parent.to_string().into());
    }
    Some(span)
}

/// A name is one of few: callers make methods up.
fn method_name(method: &Method) -> &str {
    const KNOWN: [Method; 8] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::CONNECT,
    ];
    if KNOWN.contains(method) { method.as_str() } else { "HTTP" }
}

fn text(key: &str, value: &str) -> Value {
    let end = value.floor_char_boundary(MAX_TEXT);
    json!({ "key": key, "value": { "stringValue": value.get(..end) } })
}

/// A number of 64 bits is a text in JSON, as protobuf has it.
fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

/// The far side.
struct Collector {
    authority: String,
    host: String,
    port: u16,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    resource: Value,
}

/// What came of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// The collector has it, but for so many spans that it refused.
    Taken { refused: u64 },
    /// Not now.
    Later(Option<Duration>),
    /// Never.
    Refused,
}

async fn run(collector: Collector, mut receiver: mpsc::Receiver<Message>, results: Results) {
    let mut up = true;
    while let Some(first) = receiver.recv().await {
        let (spans, flushed) = gather(first, &mut receiver).await;
        let all = spans.len() as u64;
        if all > 0 {
            let sent = collector.deliver(&spans, flushed.is_some()).await;
            match sent {
                Sent::Taken { refused } => {
                    count(&results, "exported", all.saturating_sub(refused));
                    count(&results, "refused", refused.min(all));
                }
                Sent::Later(_) => count(&results, "failed", all),
                Sent::Refused => count(&results, "refused", all),
            }
            let taken = matches!(sent, Sent::Taken { .. });
            match (up, taken) {
                (true, false) => warn!(collector = %collector.authority, "the collector takes no spans: they are lost"),
                (false, true) => info!(collector = %collector.authority, "the collector takes spans again"),
                (true, true) | (false, false) => {}
            }
            up = taken;
        }
        drop(flushed); // who waits for it hears that it is gone
    }
}

/// Gathers spans for a while, or as many as go at once, or until somebody waits for them.
async fn gather(first: Message, receiver: &mut mpsc::Receiver<Message>) -> (Vec<Value>, Option<oneshot::Sender<()>>) {
    let (until, mut spans, mut next) = (Instant::now() + PAUSE, Vec::new(), Some(first));
    while let Some(message) = next.take() {
        match message {
            Message::Span(span) => spans.push(*span),
            Message::Flush(done) => return (spans, Some(done)),
        }
        if spans.len() < BATCH {
            next = timeout_at(until, receiver.recv()).await.unwrap_or(None);
        }
    }
    (spans, None)
}

impl Collector {
    /// Sends a batch, again and again if the collector wants it later; once when there is no time.
    async fn deliver(&self, spans: &[Value], hurry: bool) -> Sent {
        let scope = json!({ "name": "adit-network", "version": env!("CARGO_PKG_VERSION") });
        let body = json!({ "resourceSpans": [{
            "resource": self.resource,
            "scopeSpans": [{ "scope": scope, "spans": spans }],
        }] });
        let body = Bytes::from(body.to_string());
        let mut pause = FIRST_PAUSE;
        let mut sent = Sent::Later(None);
        for attempt in 0..ATTEMPTS {
            sent = match timeout(TIMEOUT, self.send(body.clone())).await {
                Ok(Ok(sent)) => sent,
                Ok(Err(_)) | Err(_) => Sent::Later(None),
            };
            let Sent::Later(asked) = sent else { return sent };
            if hurry || attempt + 1 == ATTEMPTS {
                break;
            }
            sleep(asked.unwrap_or(pause).min(MAX_PAUSE)).await;
            pause *= 2;
        }
        sent
    }

    async fn send(&self, body: Bytes) -> io::Result<Sent> {
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(io::Error::other)?;
        let driver = Driver(tokio::spawn(connection));
        let mut request = HttpRequest::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::try_from(&self.path).map_err(io::Error::other)?;
        let fields = request.headers_mut();
        fields.extend(self.headers.iter().cloned());
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        fields
            .insert(header::USER_AGENT, HeaderValue::from_static(concat!("adit-network/", env!("CARGO_PKG_VERSION"))));
        fields.insert(header::HOST, HeaderValue::from_str(&self.authority).map_err(io::Error::other)?);
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        drop(driver);
        let asked = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(judge(head.status, asked.map(Duration::from_secs), &body))
    }
}

/// Ends the task of a connection with what uses it.
struct Driver(tokio::task::JoinHandle<hyper::Result<()>>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads the answer as OTLP has it: four statuses ask to try again, the other faults are for good.
fn judge(status: StatusCode, asked: Option<Duration>, body: &[u8]) -> Sent {
    match status.as_u16() {
        200..300 => {
            let answer: Value = serde_json::from_slice(body).unwrap_or_default();
            let refused = answer.get("partialSuccess").and_then(|partial| partial.get("rejectedSpans"));
            let refused = refused.and_then(|count| count.as_u64().or_else(|| count.as_str()?.parse().ok()));
            Sent::Taken { refused: refused.unwrap_or(0) }
        }
        429 | 502 | 503 | 504 => Sent::Later(asked),
        _ => Sent::Refused,
    }
}

fn count(results: &Results, reason: &'static str, spans: u64) {
    if spans > 0 {
        results.get_or_create(&ReasonLabel { reason }).inc_by(spans);
    }
}

const SERVER: u8 = 2;
const ERROR: u8 = 2;
/// Octets of one text.
const MAX_TEXT: usize = 1 << 10;
/// Spans that may wait: some 4 MiB.
const WAITING: usize = 2_048;
/// Spans that are sent at once.
const BATCH: usize = 512;
/// How long spans are gathered.
const PAUSE: Duration = Duration::from_secs(5);
/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 5;
/// The pause after the first attempt; each one after is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, whatever the collector asks for.
const MAX_PAUSE: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 64 << 10;
/// How long the end of the process waits for the last spans.
const FAREWELL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn answers_are_read_as_the_protocol_has_them() {
        let judged = |status, body: &str| judge(StatusCode::from_u16(status).unwrap(), None, body.as_bytes());
        assert_eq!(judged(200, ""), Sent::Taken { refused: 0 });
        assert_eq!(judged(200, r#"{"partialSuccess":{"rejectedSpans":"3"}}"#), Sent::Taken { refused: 3 });
        assert_eq!(judged(200, r#"{"partialSuccess":{"rejectedSpans":2}}"#), Sent::Taken { refused: 2 });
        for status in [429, 502, 503, 504] {
            assert_eq!(judged(status, ""), Sent::Later(None), "{status}");
        }
        for status in [301, 400, 401, 404, 500] {
            assert_eq!(judged(status, ""), Sent::Refused, "{status}");
        }
    }

    #[tokio::test]
    async fn a_batch_is_sent_again_when_the_collector_wants_it_later() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let telemetry = telemetry(listener.local_addr().unwrap().port());
        assert!(!format!("{telemetry:?}").contains("secret"), "{telemetry:?}");
        let results = Results::default();
        let exporter = Exporter::start(&telemetry, "node-1", results.clone());
        let fill = BATCH;
        for n in 0..fill {
            exporter.export(json!({ "spanId": n }));
        }

        let first = answer(&listener, "503 Busy\r\nRetry-After: 0").await;
        let second = answer(&listener, "200 OK").await;

        assert_eq!(first, second);
        let (head, body) = second.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /base/v1/traces HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("content-type: application/json\r\n") && head.contains("x-key: secret"), "{head}");
        let body: Value = serde_json::from_str(body).unwrap();
        let resource = &body["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][0]["key"], "service.name");
        assert_eq!(resource["resource"]["attributes"][2]["value"]["stringValue"], "node-1");
        assert_eq!(resource["scopeSpans"][0]["scope"]["name"], "adit-network");
        assert_eq!(resource["scopeSpans"][0]["spans"].as_array().map(Vec::len), Some(fill));
        exporter.flush().await;
        assert_eq!(counted(&results, "exported"), fill as u64);
    }

    #[tokio::test]
    async fn a_collector_that_answers_nothing_holds_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let results = Results::default();
        let exporter = Exporter::start(&telemetry(listener.local_addr().unwrap().port()), "node-1", results.clone());

        for n in 0..3 * WAITING {
            exporter.export(json!({ "spanId": n }));
        }

        assert_eq!(counted(&results, "dropped"), 2 * WAITING as u64);
    }

    fn telemetry(port: u16) -> Telemetry {
        let mut secret = HeaderValue::from_static("secret");
        secret.set_sensitive(true);
        Telemetry {
            endpoint: format!("http://127.0.0.1:{port}/base/").parse().unwrap(),
            sample: super::super::Sample::default(),
            headers: vec![(HeaderName::from_static("x-key"), secret)],
        }
    }

    fn counted(results: &Results, reason: &'static str) -> u64 {
        results.get_or_create(&ReasonLabel { reason }).get()
    }

    /// Takes one request and answers it.
    async fn answer(listener: &TcpListener, head: &str) -> String {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        loop {
            socket.read_buf(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                break;
            }
        }
        socket.write_all(format!("HTTP/1.1 {head}\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    }
}
