//! Documents of rules, and how they are run: any text, and documents that are nearly right; callers who send anything.

use core::time::Duration;
use std::{sync::Arc, time::Instant};

use adit_policy::{
    cel::Timestamp,
    document::{Document, MAX_PROBLEMS},
    engine::{Answer, Ask, Carried, Now, Outcome, Policy, Run, Step, Subject, Unavailable},
    environment::{Connection, Endpoint, Phase},
};
use http::{HeaderName, HeaderValue, Request, Response, Uri, request, response};

use crate::Choices;

/// Any text is a document or has problems. A document ends each phase after few questions, the same way each time; what it changes
/// and answers can be sent as it is, and a forward stays inside.
pub fn policy(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let text = if choices.coin() { made(&mut choices) } else { String::from_utf8_lossy(choices.rest()).into_owned() };
    let parsed = || Document::parse(&text);
    if let Err(problems) = parsed() {
        assert!((1..=MAX_PROBLEMS).contains(&problems.len()), "{text}");
        assert!(problems.iter().all(|problem| problem.line <= text.split(['\n', '\r']).count() as u64 + 1), "{text}");
        return;
    }
    let caller = Caller::new(&mut choices);
    let start = Instant::now();
    let [one, two] = [(); 2].map(|()| {
        let policy = Arc::new(Policy::new(parsed().unwrap_or_default()));
        caller.clone().runs(&policy, start)
    });
    assert_eq!(one, two, "{text}");
}

/// What a caller sends, and what the upstream answers.
#[derive(Clone, Debug)]
struct Caller {
    client: &'static str,
    request: request::Parts,
    response: response::Parts,
    answers: Vec<u8>,
    seed: u64,
}

impl Caller {
    fn new(choices: &mut Choices<'_>) -> Self {
        let target = format!("{}{}", choices.one_of(TARGETS), piece(choices));
        let uri: Uri = target.parse().unwrap_or_else(|_| Uri::from_static("https://a.example/"));
        let (mut request, ()) = Request::new(()).into_parts();
        request.uri = uri;
        let (mut response, ()) = Response::new(()).into_parts();
        response.status = http::StatusCode::from_u16(choices.one_of(&[200, 404, 500])).unwrap_or_default();
        for _ in 0..choices.below(6) {
            let name = HeaderName::from_static(choices.one_of(HEADERS));
            let Ok(value) = HeaderValue::from_bytes(piece(choices).as_bytes()) else { continue };
            let headers = if choices.coin() { &mut request.headers } else { &mut response.headers };
            headers.append(name, value);
        }
        let client = choices.one_of(&["192.0.2.7:1", "[::ffff:10.0.0.1]:80", "[2001:db8::1]:65535"]);
        let seed = choices.number();
        Self { client, request, response, answers: choices.octets(8).to_vec(), seed }
    }

    /// Runs all phases, the first two twice, and returns all that came of it.
    fn runs(mut self, policy: &Arc<Policy>, start: Instant) -> String {
        let mut told = String::new();
        let mut carried = Carried::default();
        for (at, phase) in
            [Phase::TcpConnect, Phase::HttpRequest, Phase::HttpRequest, Phase::HttpResponse].into_iter().enumerate()
        {
            let passed = Duration::from_secs(20 * at as u64);
            let now = Now { time: Timestamp::new(1_000_000_000, 0).unwrap_or_default(), instant: start + passed };
            let run = self.run(policy, (phase, carried), now, &mut told);
            carried = run.into_carried();
            carried.conclude(Some(self.response.status), now.instant);
        }
        format!("{told}{:?}{:?}", self.request, self.response)
    }

    fn run(&mut self, policy: &Arc<Policy>, (phase, carried): (Phase, Carried), now: Now, told: &mut String) -> Run {
        let client = self.client.parse().expect("an address");
        let connection = Connection::new(client, "192.0.2.1:443".parse().expect("an address"), now.time, None);
        let endpoint = Endpoint { id: "ep", protocol: "https", host: "a.example", port: 443 };
        let mut subject = Subject::new(&connection, endpoint).with_seed(self.seed);
        if phase != Phase::TcpConnect {
            subject = subject.with_request(&mut self.request, now.time);
        }
        if phase == Phase::HttpResponse {
            subject = subject.with_response(&mut self.response);
        }
        let mut run = policy.begin(phase, carried);
        let mut answer = None;
        for asked in 0.. {
            assert!(asked < 4 * 256, "it asks without an end");
            match run.step(&mut subject, now, answer.take()) {
                Step::Ask(ask) => answer = Some(answered(&ask, self.answers.get(asked).copied().unwrap_or(0))),
                Step::Done(Outcome::Forward { url, fallback }) => {
                    check_forward(&url);
                    if !fallback {
                        break;
                    }
                    answer = Some(Answer::Unreachable);
                }
                Step::Done(outcome) => {
                    check(&outcome);
                    told.push_str(&format!("{outcome:?}"));
                    break;
                }
            }
        }
        let rules = policy.document().rules(phase).len();
        assert!(run.trace().entries().iter().all(|entry| entry.rule < rules));
        let logs = run.take_logs();
        told.push_str(&format!("{:?}{logs:?}", run.trace()));
        run
    }
}

fn answered(ask: &Ask, choice: u8) -> Answer {
    match ask {
        Ask::Fetch(_) => Answer::Fetched(Ok(Response::new(vec![choice; 3]))),
        Ask::Keys { .. } => Answer::Keys(Err(Unavailable)),
        Ask::Password { .. } => Answer::Password(Ok(choice % 2 == 1)),
        Ask::Body { most } => Answer::Body((choice % 2 == 1).then(|| vec![choice; (*most).min(16)])),
    }
}

/// A host below `.internal`, and nothing that another reader could take for something else.
fn check_forward(url: &str) {
    let uri: Uri = url.parse().expect("a URL");
    let host = uri.host().expect("a host");
    assert!(host.ends_with(".internal") && host.len() > ".internal".len(), "{url}");
    assert!(matches!(uri.path(), "" | "/") && uri.query().is_none() && !url.contains('@'), "{url}");
}

fn check(outcome: &Outcome) {
    let headers = match outcome {
        Outcome::Respond(response) => {
            assert!(response.status().as_u16() < 600);
            response.headers()
        }
        Outcome::Refuse(refusal) => {
            assert!((400..600).contains(&refusal.status), "{refusal:?}");
            &refusal.headers
        }
        Outcome::Continue | Outcome::Close | Outcome::Forward { .. } => return,
    };
    let broken =
        |value: &HeaderValue| value.as_bytes().iter().any(|octet| (*octet < 0x20 && *octet != b'\t') || *octet == 0x7f);
    assert!(!headers.values().any(broken), "{headers:?}");
}

/// Writes a document of a few rules, each of a few parts.
fn made(choices: &mut Choices<'_>) -> String {
    let mut text = String::new();
    for phase in Phase::ALL {
        if choices.coin() {
            continue;
        }
        text.push_str(&format!("{}:\n", phase.name()));
        for _ in 0..=choices.below(4) {
            let expressions: Vec<_> =
                (0..choices.below(3)).map(|_| format!("\"{}\"", choices.one_of(CONDITIONS))).collect();
            let actions: Vec<_> =
                (0..=choices.below(3)).map(|_| format!("{{type: {}}}", choices.one_of(ACTIONS))).collect();
            text.push_str(&format!(
                "  - {{expressions: [{}], actions: [{}]}}\n",
                expressions.join(", "),
                actions.join(", ")
            ));
        }
    }
    text
}

/// Returns a piece of what a caller sends.
fn piece(choices: &mut Choices<'_>) -> String {
    if choices.coin() { choices.one_of(PIECES).into() } else { String::from_utf8_lossy(choices.octets(6)).into_owned() }
}

const TARGETS: &[&str] =
    &["https://a.example/", "/a?b=", "https://a.example/a/../b", "http://u:p@[::1]:8/x", "//b.example/"];
const PIECES: &[&str] =
    &["", "a", "%0d%0aset-cookie:x", "?q=1&q=2", "%2e%2e/", "é", "x.internal", "Basic YTpi", "a=1; b", "{\"a\":1}"];
const HEADERS: &[&str] =
    &["host", "cookie", "authorization", "x-a", "content-type", "set-cookie", "content-length", "accept-encoding"];

const CONDITIONS: &[&str] = &[
    "true",
    "req.method == 'GET'",
    "req.url.path.startsWith('/a')",
    "hasReqHeader('x-a')",
    "req.headers['x-a'][0] == 'a'",
    "res.status_code >= 400",
    "inCidrRange(conn.client_ip, '10.0.0.0/8')",
    "vars.a == 'a'",
    "actions.ngrok.rate_limit.limited",
    "rand.double() < 0.5",
    "json.decode(getReqHeader('x-a')[0]).a == 1",
    "lists.range(200).all(x, lists.range(200).all(y, x + y >= conn.client_port - 70000))",
];

const ACTIONS: &[&str] = &[
    "deny",
    "deny, config: {status_code: 404}",
    "close-connection",
    "restrict-ips, config: {allow: [0.0.0.0/0], deny: [10.0.0.0/8]}",
    "restrict-ips, config: {allow: ['::/0'], enforce: false}",
    "add-headers, config: {headers: {x-a: '${req.url.query}', host: '${req.host}'}}",
    "add-headers, config: {headers: {x-b: '${queryString.decode(req.url.query).b}'}}",
    "remove-headers, config: {headers: [x-a, cookie]}",
    "custom-response, config: {status_code: 200, body: '${req.url}', headers: {x-a: \"${getReqHeader('x-a')[0]}\"}}",
    "redirect, config: {from: a, to: '${req.url.path}'}",
    "redirect, config: {to: \"${getReqHeader('x-a')[0]}\"}",
    "url-rewrite, config: {from: '${req.url.query}', to: '$0${req.url.path}'}",
    "url-rewrite, config: {to: \"/${url.unescape(req.url.path)}\"}",
    "set-vars, config: {vars: [{a: '${conn.client_ip}'}, {a: {b: [1, 2.5, '${vars.a}']}}]}",
    "set-vars, config: {vars: [{a: '${vars.a + vars.a}'}]}",
    "log, config: {metadata: {a: '${vars.a}'}}",
    "rate-limit, config: {algorithm: sliding_window, capacity: 1, rate: 60s, bucket_key: [conn.client_ip]}",
    "rate-limit, config: {algorithm: token_bucket, capacity: 2, rate: 10s, bucket_key: [\"getReqHeader('x-a')\"], enforce: false}",
    "circuit-breaker, config: {error_threshold: 0, volume_threshold: 1}",
    "forward-internal, config: {url: https://a.internal, on_error: continue}",
    "forward-internal, config: {url: \"https://${getReqHeader('x-a')[0]}.internal\"}",
    "forward-internal, config: {url: \"https://${getReqHeader('x-a')[0]}\"}",
    "terminate-tls, config: {min_version: '1.3'}",
    "basic-auth, config: {credentials: ['a:password']}",
    "verify-webhook, config: {provider: github, secret: secret}",
];
