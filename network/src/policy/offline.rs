//! A policy evaluated without a network: what `adit-network policy test` shows.
//!
//! The request is a JSON object. Everything but `request.target` may be left out.
//!
//! ```json
//! {
//!   "endpoint": "https://acme.example.com",
//!   "client": "192.0.2.7:40000",
//!   "server": "192.0.2.1:443",
//!   "tls": {"version": "1.3", "cipher_suite": "", "sni": "acme.example.com", "alpn": "h2"},
//!   "time": 1767225600,
//!   "request": {"method": "GET", "target": "/admin?x=1", "version": "HTTP/1.1",
//!               "headers": {"accept": "text/html", "cookie": ["a=1", "b=2"]}, "body": ""},
//!   "response": {"status": 200, "headers": {"content-type": "text/plain"}},
//!   "keys": {"https://issuer.example/jwks.json": {"keys": []}},
//!   "fetched": {"https://api.example/": {"status": 200, "headers": {}, "body": "{}"}},
//!   "unreachable": ["https://crm.internal"]
//! }
//! ```
//!
//! `keys` and `fetched` are what the world would answer; what is not there is answered as by a world that cannot be reached. Without
//! `request` only the rules of the connection are evaluated, and those of the answer only with `response` or when a rule answers.

use core::net::SocketAddr;
use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Instant};

use adit_policy::{
    auth::jwt::KeySet,
    cel::Timestamp,
    engine::{Answer, Ask, Carried, FetchError, Keys, Now, Outcome, Policy, Run, Step, Subject, Unavailable},
    environment::{Connection, Phase, Tls},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{World, fault, is_over_budget, json, normal};
use crate::{
    Fault,
    config::EndpointKind,
    endpoints::Settings,
    http::clean_request,
    router::{Internal, Key},
};

/// What a policy is evaluated for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Scene {
    endpoint: String,
    client: SocketAddr,
    server: SocketAddr,
    tls: Option<SceneTls>,
    time: i64,
    request: Option<SceneRequest>,
    response: Option<SceneResponse>,
    keys: BTreeMap<String, Value>,
    fetched: BTreeMap<String, SceneResponse>,
    unreachable: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SceneTls {
    version: String,
    cipher_suite: String,
    sni: String,
    alpn: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SceneRequest {
    #[serde(default = "get")]
    method: String,
    target: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    headers: BTreeMap<String, Values>,
    #[serde(default)]
    body: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SceneResponse {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, Values>,
    #[serde(default)]
    body: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            endpoint: "https://endpoint.example".to_owned(),
            client: SocketAddr::from(([192, 0, 2, 7], 40_000)),
            server: SocketAddr::from(([192, 0, 2, 1], 443)),
            tls: None,
            time: 1_767_225_600,
            request: None,
            response: None,
            keys: BTreeMap::new(),
            fetched: BTreeMap::new(),
            unreachable: Vec::new(),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Shown {
    /// What the caller meets.
    pub outcome: End,
    /// The stable code, where the network answers itself.
    pub code: Option<&'static str>,
    /// The internal endpoint that serves it.
    pub forward: Option<String>,
    /// The verdict of each rule and action, in their order.
    pub verdicts: Vec<String>,
    /// What `log` has told.
    pub logs: Vec<Value>,
    /// What the upstream gets.
    pub request: Option<ShownRequest>,
    /// What the caller gets, as far as it is known.
    pub response: Option<ShownResponse>,
}

/// What the caller meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum End {
    /// It is served.
    Allowed,
    /// A rule answers.
    Answered,
    /// It is refused.
    Refused,
    /// The connection is closed.
    Closed,
}

/// A request as the upstream gets it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ShownRequest {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
}

/// An answer as the caller gets it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ShownResponse {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body, when a rule gave it.
    pub body: Option<String>,
}

/// Evaluates a policy.
///
/// # Errors
/// What is wrong with the scene.
pub async fn show(policy: &Arc<Policy>, scene: &Scene) -> Result<Shown, String> {
    let key = match Internal::parse(&scene.endpoint) {
        Some(internal) => Key::Internal(0, internal),
        None => Key::parse(&scene.endpoint).ok_or("endpoint: no URL of an endpoint, as https://acme.example.com")?,
    };
    let settings = Settings::new(key, 0, EndpointKind::Cloud, Arc::default());
    let time = Timestamp::new(scene.time, 0).ok_or("time: out of range")?;
    let tls = scene.tls.clone().map(|tls| {
        let SceneTls { version, cipher_suite, sni, alpn } = tls;
        let mut facts = Tls::default();
        (facts.version, facts.cipher_suite, facts.sni, facts.alpn) = (version, cipher_suite, sni, alpn);
        facts
    });
    let connection = Connection::new(scene.client, scene.server, time, tls);
    let mut stage = Stage {
        policy,
        scene,
        now: Now { time, instant: Instant::now() },
        world: World::default(),
        shown: Shown {
            outcome: End::Allowed,
            code: None,
            forward: None,
            verdicts: Vec::new(),
            logs: Vec::new(),
            request: None,
            response: None,
        },
    };
    stage.play(&settings, &connection).await?;
    Ok(stage.shown)
}

struct Stage<'a> {
    policy: &'a Arc<Policy>,
    scene: &'a Scene,
    now: Now,
    world: World,
    shown: Shown,
}

impl Stage<'_> {
    async fn play(&mut self, settings: &Settings, connection: &Connection) -> Result<(), String> {
        let facts = settings.facts();
        let mut subject = Subject::new(connection, facts);
        let (outcome, carried) = self.phase(Phase::TcpConnect, Carried::default(), &mut subject).await;
        if !matches!(self.after(outcome), After::Serve) {
            self.shown.outcome = End::Closed; // there is nobody to answer
            self.shown.response = None;
            return Ok(());
        }
        let Some(asked) = &self.scene.request else { return Ok(()) };
        let mut request = request(asked, &self.scene.endpoint, connection)?;
        let Ok(path) = normal(request.uri.path()).map(Cow::into_owned) else {
            self.refuse(Fault::PathAmbiguous, 400);
            return Ok(());
        };
        let query = request.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        request.uri = format!("{path}{query}").parse().map_err(|_| "request.target: no path")?;
        let mut subject = Subject::new(connection, facts).with_request(&mut request, self.now.time);
        let (outcome, carried) = self.phase(Phase::HttpRequest, carried, &mut subject).await;
        let given = self.scene.response.as_ref().map(response).transpose()?;
        let (head, mut body) = match self.after(outcome) {
            After::Serve => {
                self.shown.request = Some(ShownRequest {
                    method: request.method.to_string(),
                    target: request.uri.path_and_query().map_or_else(String::new, ToString::to_string),
                    headers: pairs(&request.headers),
                });
                (given.map(|answer| answer.into_parts().0), None)
            }
            After::Answer(head, body) => (Some(head), Some(body)),
            After::End => return Ok(()),
        };
        let Some(mut head) = head else { return Ok(()) };
        let subject = Subject::new(connection, facts).with_request(&mut request, self.now.time);
        let outcome = self.phase(Phase::HttpResponse, carried, &mut subject.with_response(&mut head)).await.0;
        match self.after(outcome) {
            After::Serve => {}
            After::Answer(other, text) => (head, body) = (other, Some(text)),
            After::End => return Ok(()),
        }
        self.shown.response = Some(ShownResponse {
            status: head.status.as_u16(),
            headers: pairs(&head.headers),
            body: body.map(|body| String::from_utf8_lossy(&body).into_owned()),
        });
        Ok(())
    }

    /// Takes what came of a phase.
    fn after(&mut self, outcome: Outcome) -> After {
        match outcome {
            Outcome::Continue => After::Serve,
            Outcome::Forward { url, .. } => {
                self.shown.forward = Some(url);
                After::Serve
            }
            Outcome::Respond(answer) => {
                self.shown.outcome = End::Answered;
                let (head, body) = answer.into_parts();
                After::Answer(head, body)
            }
            Outcome::Refuse(refusal) => {
                self.refuse(fault(&refusal), refusal.status);
                After::End
            }
            Outcome::Close => {
                self.shown.outcome = End::Closed;
                After::End
            }
        }
    }

    /// Runs one phase to its end, with the world that the scene has.
    async fn phase(&mut self, phase: Phase, carried: Carried, subject: &mut Subject<'_>) -> (Outcome, Carried) {
        let mut run = self.policy.begin(phase, carried);
        let mut answer = None;
        let outcome = loop {
            answer = Some(match run.step(subject, self.now, answer.take()) {
                Step::Done(Outcome::Forward { url, fallback: true }) if self.scene.unreachable.contains(&url) => {
                    Answer::Unreachable
                }
                Step::Done(outcome) => break outcome,
                Step::Ask(ask) => self.answer(ask).await,
            });
        };
        self.take(&mut run);
        if let Outcome::Refuse(refusal) = &outcome
            && is_over_budget(refusal)
        {
            self.shown.verdicts.push(format!("{}: over budget", phase.name()));
        }
        (outcome, run.into_carried())
    }

    fn take(&mut self, run: &mut Run) {
        self.shown.verdicts.extend(run.trace().lines(self.policy));
        self.shown.logs.extend(run.take_logs().into_iter().map(json));
    }

    async fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Body { most } => {
                let body = self.scene.request.as_ref().map(|request| request.body.as_bytes().to_vec());
                Answer::Body(Some(body.unwrap_or_default()).filter(|body| body.len() <= most))
            }
            Ask::Keys { urls, fresh } => {
                let given = urls.iter().filter_map(|url| self.scene.keys.get(url));
                let sets: Vec<_> =
                    given.filter_map(|keys| KeySet::parse(keys.to_string().as_bytes()).ok().map(Arc::new)).collect();
                Answer::Keys(if sets.is_empty() { Err(Unavailable) } else { Ok(Keys { sets, fresh }) })
            }
            Ask::Fetch(fetch) => {
                let found = self.scene.fetched.get(&fetch.request.uri().to_string());
                let found = found.and_then(|found| response(found).ok()).ok_or(FetchError::Unreachable);
                Answer::Fetched(found.map(|found| found.map(String::into_bytes)))
            }
            ask @ Ask::Password { .. } => self.world.answer(0, ask).await,
        }
    }

    fn refuse(&mut self, fault: Fault, status: u16) {
        self.shown.outcome = End::Refused;
        self.shown.code = Some(fault.code());
        self.shown.response = Some(ShownResponse { status, headers: Vec::new(), body: None });
    }
}

/// What comes after a phase.
enum After {
    Serve,
    Answer(http::response::Parts, Vec<u8>),
    End,
}

impl Shown {
    /// Returns it for a person.
    pub fn text(&self) -> String {
        let mut text: Vec<_> = self.verdicts.clone();
        text.extend(self.logs.iter().map(|told| format!("log: {told}")));
        let line = |(name, value): &(String, String)| format!("  {name}: {value}");
        if let Some(request) = &self.request {
            text.push(format!("request: {} {}", request.method, request.target));
            text.extend(request.headers.iter().map(line));
        }
        if let Some(response) = &self.response {
            text.push(format!("response: {}", response.status));
            text.extend(response.headers.iter().map(line));
            text.extend(response.body.iter().map(|body| format!("  {body}")));
        }
        let end = match (self.outcome, &self.forward) {
            (End::Allowed, Some(url)) => format!("allowed, forwarded to {url}"),
            (End::Allowed, None) => "allowed".to_owned(),
            (End::Answered, _) => "answered by a rule".to_owned(),
            (End::Refused, _) => format!("refused, {}", self.code.unwrap_or_default()),
            (End::Closed, _) => "connection closed".to_owned(),
        };
        text.push(format!("outcome: {end}"));
        // What callers send may be in it.
        text.iter().map(|line| format!("{}\n", adit_core::escape(line))).collect()
    }

    /// Returns whether the caller gets what it asks for, or what a rule gives in its place.
    pub fn is_served(&self) -> bool {
        match self.outcome {
            End::Allowed => true,
            End::Answered => self.response.as_ref().is_some_and(|response| response.status < 400),
            End::Refused | End::Closed => false,
        }
    }
}

fn request(asked: &SceneRequest, endpoint: &str, connection: &Connection) -> Result<http::request::Parts, String> {
    let wrong = |what: &str| format!("request.{what}: not of HTTP");
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = asked.method.parse().map_err(|_| wrong("method"))?;
    parts.uri = asked.target.parse().map_err(|_| wrong("target"))?;
    parts.version = match &*asked.version {
        "" | "HTTP/1.1" => http::Version::HTTP_11,
        "HTTP/1.0" => http::Version::HTTP_10,
        "HTTP/2.0" => http::Version::HTTP_2,
        _ => return Err(wrong("version")),
    };
    parts.headers = headers(&asked.headers).ok_or_else(|| wrong("headers"))?;
    clean_request(&mut parts.headers);
    let name = endpoint.split_once("://").map_or(endpoint, |(_, name)| name).trim_end_matches('/');
    for (field, value) in [(header::HOST, name), (FORWARDED_FOR, &connection.client().to_string())] {
        let value = HeaderValue::from_str(value).map_err(|_| wrong("headers"))?;
        parts.headers.entry(field).or_insert(value);
    }
    Ok(parts)
}

fn response(given: &SceneResponse) -> Result<http::Response<String>, String> {
    let mut response = http::Response::new(given.body.clone());
    *response.status_mut() = http::StatusCode::from_u16(given.status).map_err(|_| "response.status: no status")?;
    *response.headers_mut() = headers(&given.headers).ok_or("response.headers: not of HTTP")?;
    Ok(response)
}

fn headers(given: &BTreeMap<String, Values>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, values) in given {
        let name: HeaderName = name.parse().ok()?;
        let values = match values {
            Values::One(value) => core::slice::from_ref(value),
            Values::Many(values) => values,
        };
        for value in values {
            headers.append(&name, HeaderValue::from_str(value).ok()?);
        }
    }
    Some(headers)
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn get() -> String {
    "GET".to_owned()
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests {
    use adit_policy::document::Document;

    use super::*;

    const POLICY: &str = "
on_tcp_connect:
  - actions: [{type: restrict-ips, config: {allow: [192.0.2.0/24]}}]
on_http_request:
  - name: admin
    expressions: [\"req.url.path.startsWith('/admin')\"]
    actions: [{type: deny, config: {status_code: 401}}]
  - expressions: [\"req.url.path == '/hello'\"]
    actions: [{type: custom-response, config: {body: \"hello ${conn.client_ip}\"}}]
  - actions: [{type: forward-internal, config: {url: 'https://crm.internal'}}]
on_http_response:
  - actions: [{type: add-headers, config: {headers: {x-a: b}}}]
";

    #[tokio::test]
    async fn each_verdict_is_shown_and_what_comes_of_it() {
        let refused = shown(r#"{"request": {"target": "/x/%2e%2e/admin?x"}}"#).await;
        assert_eq!((refused.outcome, refused.code), (End::Refused, Some("ADIT-3024")));
        let verdicts = ["on_http_request[0] admin: matched", "on_http_request[0] admin: deny: refused with 401"];
        assert_eq!(refused.verdicts[refused.verdicts.len() - 2..], verdicts);
        assert!(!refused.is_served());

        let answered = shown(r#"{"request": {"target": "/hello"}}"#).await;
        let response = answered.response.as_ref().unwrap();
        assert_eq!((answered.outcome, response.status), (End::Answered, 200));
        assert_eq!(response.body.as_deref(), Some("hello 192.0.2.7"));
        assert!(response.headers.contains(&("x-a".to_owned(), "b".to_owned())));

        let text = r#"{"request": {"target": "/%61", "headers": {"x-forwarded-for": "6.6.6.6"}}, "response": {"status": 204}}"#;
        let allowed = shown(text).await;
        assert_eq!((allowed.outcome, allowed.forward.as_deref()), (End::Allowed, Some("https://crm.internal")));
        let request = allowed.request.as_ref().unwrap();
        assert_eq!(request.target, "/a");
        assert!(request.headers.contains(&("x-forwarded-for".to_owned(), "192.0.2.7".to_owned())));
        assert!(
            allowed.text().ends_with("outcome: allowed, forwarded to https://crm.internal\n"),
            "{}",
            allowed.text()
        );

        let closed = shown(r#"{"client": "198.51.100.1:1", "request": {"target": "/"}}"#).await;
        assert_eq!((closed.outcome, closed.code), (End::Closed, Some("ADIT-3024")));
        let ambiguous = shown(r#"{"request": {"target": "/a%2fb"}}"#).await;
        assert_eq!((ambiguous.outcome, ambiguous.code), (End::Refused, Some("ADIT-3028")));
    }

    #[tokio::test]
    async fn a_scene_that_is_not_understood_is_refused() {
        for text in [r#"{"requst": {}}"#, r#"{"request": {}}"#, r#"{"client": "x"}"#, "7"] {
            assert!(serde_json::from_str::<Scene>(text).is_err(), "{text}");
        }
        for text in
            [r#"{"endpoint": "x"}"#, r#"{"request": {"target": "/", "method": "G T"}}"#, r#"{"time": 999999999999999}"#]
        {
            assert!(show(&policy(), &serde_json::from_str(text).unwrap()).await.is_err(), "{text}");
        }
    }

    async fn shown(text: &str) -> Shown {
        show(&policy(), &serde_json::from_str(text).unwrap()).await.unwrap()
    }

    fn policy() -> Arc<Policy> {
        Arc::new(Policy::new(Document::parse(POLICY).unwrap()))
    }
}
