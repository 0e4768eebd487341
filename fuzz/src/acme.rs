//! What an authority of certificates answers, from a directory to a chain: right, nearly right or noise.

use core::{future::Future, pin::Pin, time::Duration};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock},
    time::SystemTime,
};

use adit::{directory_answer, issued_chain};
use adit_acme::{Answer, Blame, Unproved, advice, asked, begin, identifier, obtain, prove, tame};
use adit_core::{Secret, escape};
use bytes::Bytes;
use http::{Method, Request, Response};
use instant_acme::{
    Account, AuthorizationHandle, BodyWrapper, BytesResponse, ChallengeType, Error, HttpClient, NewAccount, RetryPolicy,
};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::CertificateDer,
};

use crate::Choices;

/// An order ends, whatever is answered, and by whom it blames waits within bounds; what is issued is taken only if it is for the name and
/// the key. Advice makes sense. An authority that does everything right gives a certificate.
pub fn acme(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    match choices.below(4) {
        0 => pieces(&mut choices),
        1 => chain(&mut choices),
        _ => whole(&mut choices),
    }
}

/// An answer is the same however much of what follows it has come.
fn pieces(choices: &mut Choices<'_>) {
    let to_head = choices.coin();
    let mut octets = right(choices.one_of(PLACES), &mut Mind::default());
    Twist::of(choices).apply(&mut octets);
    octets.extend_from_slice(choices.rest());
    let read = |octets: &[u8]| directory_answer(octets, to_head, false).map(|answer| answer.map(parts));
    let all = read(&octets);
    for end in (0..octets.len()).step_by(octets.len() / 50 + 1) {
        match read(&octets[..end]) {
            Ok(None) => {}
            told => assert_eq!(told, all, "after {end} octets"),
        }
    }
    if let Ok(Some(answer)) = directory_answer(&octets, to_head, true) {
        believed(answer);
    }
}

fn parts(answer: Response<Bytes>) -> (u16, String, Bytes) {
    (answer.status().as_u16(), format!("{:?}", answer.headers()), answer.body().clone())
}

/// What is believed of an answer: a wait that is a number, and nothing else is changed.
fn believed(answer: Response<Bytes>) -> Option<(Response<Bytes>, Option<Duration>)> {
    let now = SystemTime::now();
    let wait = asked(&answer, now);
    assert!(answer.body().len() <= 1 << 20);
    let (status, body) = (answer.status(), answer.body().clone());
    let answer = tame(answer, now).ok()?;
    assert_eq!((answer.status(), answer.body()), (status, &body));
    for value in answer.headers().get_all("retry-after") {
        assert!(value.to_str().is_ok_and(|text| text.parse::<u32>().is_ok()), "{value:?}");
    }
    Some((answer, wait))
}

/// A chain of anybody is not taken for another name or another key.
fn chain(choices: &mut Choices<'_>) {
    let held = held();
    let mut text = choices.one_of(&[held.chain.as_str(), held.other.as_str(), ""]).as_bytes().to_vec();
    if choices.coin() {
        text.extend_from_slice(choices.one_of(&[held.chain.as_str(), held.other.as_str(), "\n# a word\n"]).as_bytes());
    }
    Twist::damage(choices).apply(&mut text);
    let text = String::from_utf8_lossy(&text);
    taken(&text);
}

/// Takes what was issued, as the agent does.
fn taken(chain: &str) {
    let (held, provider) = (held(), provider());
    let told = issued_chain(chain, &held.key, NAME, provider);
    if let Err(problem) = &told {
        assert!(!problem.chars().any(char::is_control), "{problem:?}");
    }
    // Whatever follows it, the first certificate is what counts, and it belongs to one key.
    assert!(told.is_err() || chain.contains("-----BEGIN CERTIFICATE-----"));
    assert!(told.is_err() || issued_chain(chain, &held.key, "b.example", provider).is_err());
    assert!(issued_chain(chain, &held.foreign, NAME, provider).is_err());
}

/// A whole order, from the account to the certificate, and the question when to renew it.
fn whole(choices: &mut Choices<'_>) {
    let (kept, renews) = (choices.coin(), choices.coin());
    let mut twists = VecDeque::new();
    while !choices.is_over() && twists.len() < REQUESTS {
        twists.push_back(Twist::of(choices));
    }
    let is_right = twists.iter().all(|twist| matches!(twist, Twist::None));
    let authority = Authority(Arc::new(Mutex::new(Mind { twists, ..Mind::default() })));
    let run = order(authority.clone(), kept, renews);
    let told = RUNTIME.with(|runtime| runtime.block_on(run));
    match told {
        Ok(chain) => taken(&chain),
        Err(error) => {
            assert!(!is_right, "{error}");
            let wait = authority.0.lock().expect("nobody panicked").asked;
            let blame = Blame::of(&error, wait);
            assert!(wait.is_none() || matches!(blame, Blame::Limit(_)), "{error}: {blame:?}");
            assert!((60..=7 * 86_400).contains(&blame.wait(1, 0.5)));
            assert!(!escape(&error.to_string()).to_string().chars().any(char::is_control));
        }
    }
}

async fn order(authority: Authority, kept: bool, renews: bool) -> Result<String, Error> {
    let builder = Account::builder_with_http(Box::new(authority));
    let account = if kept {
        builder.from_credentials(serde_json::from_str(&held().credentials).expect("an account")).await?
    } else {
        let new = NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
        builder.create(&new, format!("{BASE}/dir"), None).await?.0
    };
    let replaced = identifier(&held().certificate).expect("it has one");
    if renews {
        match advice(&account, &replaced).await {
            Ok(advice) => {
                assert!(advice.window.is_none_or(|(from, to)| from < to) && (60..=86_400).contains(&advice.again));
                assert!(advice.explanation.is_none_or(|text| !text.chars().any(char::is_control)));
            }
            Err(error) => drop(Blame::of(&error, None)),
        }
    }
    let mut order = begin(&account, NAME, renews.then_some(replaced), |_| {}).await?;
    prove(&mut order, &mut Shown, &POLLS).await.map_err(|unproved| match unproved {
        Unproved::Answer(error) | Unproved::Error(error) => error,
        Unproved::Challenge(problem) => problem.into(),
        Unproved::Authorization | Unproved::Silence => Error::Str("invalid"),
    })?;
    obtain(&mut order, b"a request", &POLLS).await
}

struct Shown;

impl Answer for Shown {
    type Failure = Error;

    async fn answer(&mut self, mut authorization: AuthorizationHandle<'_>) -> Result<(), Error> {
        let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
        let mut challenge = challenge.ok_or(Error::Str("not offered"))?;
        assert_eq!(challenge.key_authorization().digest().as_ref().len(), 32);
        challenge.set_ready().await
    }
}

/// An authority that answers at once, right or as it is told to.
#[derive(Clone)]
struct Authority(Arc<Mutex<Mind>>);

#[derive(Default)]
struct Mind {
    twists: VecDeque<Twist>,
    requests: usize,
    answered: bool,
    finalized: bool,
    asked: Option<Duration>,
}

impl HttpClient for Authority {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let mut mind = self.0.lock().expect("nobody panicked");
        mind.requests += 1;
        if mind.requests > REQUESTS {
            return Box::pin(core::future::ready(Err(Error::Other("nobody is there".into()))));
        }
        let mut octets = right(request.uri().path(), &mut mind);
        mind.twists.pop_front().unwrap_or(Twist::None).apply(&mut octets);
        let answer = directory_answer(&octets, request.method() == Method::HEAD, true);
        let told = match answer.map(|answer| answer.and_then(believed)) {
            Ok(Some((answer, wait))) => {
                mind.asked = wait.or(mind.asked);
                let (parts, body) = answer.into_parts();
                Ok(BytesResponse { parts, body: Box::new(body) })
            }
            Ok(None) => Err(Error::Other("of no use".into())),
            Err(problem) => Err(Error::Other(problem.into())),
        };
        Box::pin(core::future::ready(told))
    }
}

/// Returns the answer that is right.
fn right(path: &str, mind: &mut Mind) -> Vec<u8> {
    let place = format!("\"finalize\": \"{BASE}/finalize\", \"authorizations\": [\"{BASE}/authz\"]");
    let replaces = identifier(&held().certificate).expect("it has one");
    let state = |state: &str| {
        format!("{{\"status\": \"{state}\", {place}, \"replaces\": \"{replaces}\", \"certificate\": \"{BASE}/cert\"}}")
    };
    let (status, more, body) = match path {
        "/dir" => ("200 OK", "", directory()),
        "/nonce" => ("200 OK", "", String::new()),
        "/account" => {
            ("201 Created", "Location: https://ca.example/account/1\r\n", "{\"status\": \"valid\"}".to_owned())
        }
        "/new" => ("201 Created", "Location: https://ca.example/order\r\n", state("pending")),
        "/authz" => {
            let status = if mind.answered { "valid" } else { "pending" };
            let challenge = format!(
                "{{\"type\": \"tls-alpn-01\", \"url\": \"{BASE}/challenge\", \"token\": \"t0k3n\", \"status\": \"{status}\"}}"
            );
            let name = format!("{{\"type\": \"dns\", \"value\": \"{NAME}\"}}");
            let body = format!("{{\"status\": \"{status}\", \"identifier\": {name}, \"challenges\": [{challenge}]}}");
            ("200 OK", "", body)
        }
        "/challenge" => {
            mind.answered = true;
            let url = format!("{BASE}/challenge");
            let body = format!(
                "{{\"type\": \"tls-alpn-01\", \"url\": \"{url}\", \"token\": \"t\", \"status\": \"processing\"}}"
            );
            ("200 OK", "", body)
        }
        "/order" if mind.finalized => ("200 OK", "Retry-After: 0\r\n", state("valid")),
        "/order" if mind.answered => ("200 OK", "Retry-After: 0\r\n", state("ready")),
        "/order" => ("200 OK", "", state("pending")),
        "/finalize" => {
            mind.finalized = true;
            ("200 OK", "", state("processing"))
        }
        "/cert" => ("200 OK", "Content-Type: application/pem-certificate-chain\r\n", held().chain.clone()),
        path if path.starts_with("/ari/") => {
            let window = "{\"start\": \"2030-01-01T00:00:00Z\", \"end\": \"2030-01-02T00:00:00Z\"}";
            let body = format!("{{\"suggestedWindow\": {window}, \"explanationURL\": \"https://ca.example/why\"}}");
            ("200 OK", "Retry-After: 21600\r\n", body)
        }
        _ => ("404 Not Found", "", "{\"type\": \"about:blank\", \"status\": 404}".to_owned()),
    };
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nReplay-Nonce: n0nce\r\n{more}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

fn directory() -> String {
    format!(
        "{{\"newNonce\": \"{BASE}/nonce\", \"newAccount\": \"{BASE}/account\", \"newOrder\": \"{BASE}/new\", \
         \"renewalInfo\": \"{BASE}/ari\", \"meta\": {{}}}}"
    )
}

/// How an answer is other than right.
enum Twist {
    None,
    /// It is this.
    Whole(Vec<u8>),
    /// One text in its body is another.
    Text(&'static str, &'static str),
    /// A line more in its head.
    Line(String),
    /// Octets that are changed, lost or put in.
    Octets(Vec<(usize, u8, Vec<u8>)>),
}

impl Twist {
    fn of(choices: &mut Choices<'_>) -> Self {
        match choices.below(8) {
            0 | 1 => Self::None,
            2 => {
                let kind = choices.one_of(&[
                    "badNonce",
                    "rateLimited",
                    "malformed",
                    "alreadyReplaced",
                    "accountDoesNotExist",
                    "serverInternal",
                    "\\u001b[2J",
                ]);
                let status = choices.one_of(&["400 No", "403 No", "409 No", "429 No", "500 No", "503 No", "200 OK"]);
                let wait = choices.one_of(WAITS);
                let more =
                    choices.one_of(&["", ", \"subproblems\": [{}]", ", \"status\": 429", ", \"detail\": \"\\u0007\""]);
                let body = format!("{{\"type\": \"urn:ietf:params:acme:error:{kind}\"{more}}}");
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status}\r\nReplay-Nonce: n\r\nRetry-After: {wait}\r\nContent-Length: {length}");
                Self::Whole(format!("{head}\r\n\r\n{body}").into_bytes())
            }
            3 => Self::Line(format!("Retry-After: {}\r\n", choices.one_of(WAITS))),
            4 => Self::Line(choices.one_of(LINES).to_owned()),
            5 => {
                let (old, new) = choices.one_of(TEXTS);
                Self::Text(old, new)
            }
            6 => Self::damage(choices),
            _ => {
                let size = choices.size(200);
                Self::Whole(choices.octets(size).to_vec())
            }
        }
    }

    fn damage(choices: &mut Choices<'_>) -> Self {
        let one = |choices: &mut Choices<'_>| (choices.below(2_000), choices.number(), choices.octets(5).to_vec());
        Self::Octets((0..choices.below(4)).map(|_| one(choices)).collect())
    }

    fn apply(self, octets: &mut Vec<u8>) {
        match self {
            Self::None => {}
            Self::Whole(whole) => *octets = whole,
            Self::Line(line) => {
                let at = octets.iter().position(|octet| *octet == b'\n').map_or(0, |at| at + 1);
                octets.splice(at..at, line.into_bytes());
            }
            Self::Text(old, new) => {
                let text = String::from_utf8_lossy(octets).replacen(old, new, 1);
                // The length that is said fits what is said.
                let text = match text.split_once("\r\n\r\n") {
                    Some((head, body)) => {
                        let lines = head.split("\r\n").filter(|line| !line.starts_with("Content-Length"));
                        let head = lines.collect::<Vec<_>>().join("\r\n");
                        format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                    }
                    None => text,
                };
                *octets = text.into_bytes();
            }
            Self::Octets(changes) => {
                for (place, kind, new) in changes {
                    let at = place % octets.len().max(1);
                    match kind % 3 {
                        0 => octets.truncate(at),
                        1 => octets.splice(at..at, new).for_each(drop),
                        _ => octets.iter_mut().skip(at).zip(new).for_each(|(old, new)| *old ^= new),
                    }
                }
            }
        }
    }
}

/// What this side has: a key, the certificate that the authority issues for it, and an account.
struct Held {
    key: Secret,
    foreign: Secret,
    certificate: CertificateDer<'static>,
    chain: String,
    other: String,
    credentials: String,
}

fn held() -> &'static Held {
    static HELD: OnceLock<Held> = OnceLock::new();
    HELD.get_or_init(|| {
        let [key, foreign, authority] = [(); 3].map(|()| KeyPair::generate().expect("a key"));
        let issuer = Issuer::new(CertificateParams::default(), authority);
        let issue = |name: &str| {
            let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
            params.use_authority_key_identifier_extension = true;
            params.signed_by(&key, &issuer).expect("a certificate")
        };
        let (mine, other) = (issue(NAME), issue("b.example"));
        let octets = foreign.serialize_der();
        let account = base64_url(&octets);
        let id = "https://ca.example/account/1";
        let directory = format!("{BASE}/dir");
        Held {
            key: Secret::new(key.serialize_pem()),
            foreign: Secret::new(foreign.serialize_pem()),
            certificate: mine.der().clone(),
            chain: mine.pem(),
            other: other.pem(),
            credentials: format!("{{\"id\": \"{id}\", \"key_pkcs8\": \"{account}\", \"directory\": \"{directory}\"}}"),
        }
    })
}

fn base64_url(octets: &[u8]) -> String {
    adit_tls::base64(octets).replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned()
}

fn provider() -> &'static CryptoProvider {
    static PROVIDER: OnceLock<CryptoProvider> = OnceLock::new();
    PROVIDER.get_or_init(aws_lc_rs::default_provider)
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
}

/// Nothing is waited for: what is not there at once is asked for again.
const POLLS: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::ZERO).backoff(1.0).timeout(Duration::from_millis(500));
const BASE: &str = "https://ca.example";
const NAME: &str = "a.example";
/// An authority that is asked more often than this is gone.
const REQUESTS: usize = 30;
const PLACES: &[&str] =
    &["/dir", "/nonce", "/account", "/new", "/authz", "/challenge", "/order", "/cert", "/ari/x", "/"];
const WAITS: &[&str] = &[
    "0",
    "120",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "soon",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "",
];
const LINES: &[&str] = &[
    "Replay-Nonce: \u{e9}\r\n",
    "Location: nowhere\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Content-Encoding: gzip\r\n",
    "\r\n",
];
const TEXTS: &[(&str, &str)] = &[
    ("\"pending\"", "\"invalid\""),
    ("\"pending\"", "\"ready\""),
    ("\"pending\"", "\"valid\""),
    ("\"valid\"", "\"revoked\""),
    ("\"processing\"", "\"valid\""),
    ("\"ready\"", "\"pending\""),
    ("https://ca.example", ""),
    ("https://ca.example", "not a URL"),
    ("https://ca.example/nonce", "https://[/"),
    ("tls-alpn-01", "dns-01"),
    ("\"certificate\"", "\"c\""),
    ("\"token\"", "\"error\": {\"type\": \"urn:ietf:params:acme:error:dns\"}, \"token\""),
    ("\"status\"", "\"error\": {\"detail\": \"\\n\"}, \"status\""),
    ("2030-01-01", "2031-01-01"),
    ("2030-01-01", "-9999-01-01"),
    ("https://ca.example/why", "\\u001b]0;x"),
    ("[", "[[[["),
];
