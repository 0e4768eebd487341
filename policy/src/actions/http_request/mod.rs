//! `http-request`: asks another server, and tells its answer to the rules that follow.
//!
//! Who runs the rules sends it, and only where a policy may reach. A redirect is a request of its own, judged like the first. A status is
//! no failure: rules look at it. Without an answer, `on_error: continue` goes on, and `halt` refuses with 502, or 504 when it took too
//! long.

mod attempt;
mod url;

use core::time::Duration;
use std::{sync::LazyLock, time::Instant};

use http::{HeaderName, HeaderValue, Method, Uri, header};

pub(crate) use self::attempt::Attempt;
use self::attempt::{Seen, Told};
use super::{Action, Config, REQUEST, RESPONSE, Type};
use crate::{
    cel::{Environment, Program, Type as Of, Value},
    document::{Node, Template},
    engine::{Answer, Ask, Effect, Failure, Fetch, FetchError, Outcome, Refusal, Turn, Why},
};

/// Asks another server.
#[derive(Debug)]
pub struct HttpRequest {
    url: Template,
    method: Method,
    query: Vec<(String, Template)>,
    headers: Vec<(HeaderName, Template)>,
    body: Template,
    redirects: u32,
    timeout: Duration,
    /// When it is tried again.
    retry: Option<Program>,
    /// Whether the rules end when there is no answer.
    halts: bool,
}

/// What is kept while the world is asked.
#[derive(Debug)]
pub(crate) struct Fetching {
    began: Instant,
    asked: Instant,
    redirected: u32,
    /// What was asked before the first redirect.
    first: Option<http::Request<Vec<u8>>>,
    /// What is asked, as the last redirect has it.
    request: http::Request<Vec<u8>>,
    attempts: Vec<Attempt>,
}

pub(super) const TYPE: Type = Type { name: "http-request", phases: &[REQUEST, RESPONSE], read };

/// How often it is tried again.
const MAX_RETRIES: usize = 3;
const MAX_QUERY: usize = 32;
const MAX_KEY: usize = 128;
const MAX_VALUE: usize = 8_192;
const MAX_HEADERS: usize = 10;
/// The most octets of an answer's body.
const MAX_BODY: usize = 256 << 10;
const TIMEOUT: Duration = Duration::from_secs(3);

const METHODS: [Method; 6] = [Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE, Method::OPTIONS];

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [url, method, query, headers, body, redirects, timeout, retry, on_error] = config.map([
        "url",
        "method",
        "query_params",
        "headers",
        "body",
        "max_redirects",
        "timeout",
        "retry_condition",
        "on_error",
    ])?;
    let url_node = config.required("url", url)?;
    let url = config.template("url", url_node)?;
    if url.constant().is_some_and(|text| url::parse(text).is_none()) {
        config.problem("url", url_node, "no URL of a server", "Write it as in `https://auth.example/check`");
    }
    let method = match method {
        None => Method::GET,
        Some(node) => {
            let text = config.text("method", node)?;
            let Some(method) = METHODS.into_iter().find(|it| it.as_str() == text.to_ascii_uppercase()) else {
                config.problem("method", node, "unknown method", "There is GET, PUT, POST, PATCH, DELETE, OPTIONS");
                return None;
            };
            method
        }
    };
    let query = query.map_or_else(|| Some(Vec::new()), |node| read_query(config, node))?;
    let headers = match headers {
        None => Vec::new(),
        Some(node) => {
            let headers = config.headers("headers", node)?;
            if headers.len() > MAX_HEADERS {
                let what = format!("{} headers, and {MAX_HEADERS} are allowed", headers.len());
                config.problem("headers", node, what, "Remove some");
            }
            headers
        }
    };
    let body = body.map_or_else(|| Some(Template::default()), |node| config.template("body", node))?;
    let redirects = redirects.map_or(Some(10), |node| config.int("max_redirects", node, 0, 100))?;
    let timeout = timeout.map_or(Some(TIMEOUT), |node| config.duration("timeout", node, "1s", "30s"))?;
    let retry = match retry {
        None => None,
        Some(node) => Some(config.condition("retry_condition", node, &ENVIRONMENT)?),
    };
    let halts = on_error.map_or(Some(0), |node| config.choice("on_error", node, &["continue", "halt"]))? == 1;
    let redirects = u32::try_from(redirects).unwrap_or(0);
    Some(Action::HttpRequest(Box::new(HttpRequest {
        url,
        method,
        query,
        headers,
        body,
        redirects,
        timeout,
        retry,
        halts,
    })))
}

fn read_query<'n>(config: &mut Config<'_, '_, 'n>, node: &'n Node) -> Option<Vec<(String, Template)>> {
    let mut query = Vec::new();
    for (path, node) in config.list("query_params", node, MAX_QUERY)? {
        let [key, value] = config.item(&path, node, ["key", "value"])?;
        let (Some(key), Some(value)) = (key, value) else {
            config.problem(&path, node, "a parameter has `key` and `value`", "Add what is missing");
            continue;
        };
        let name = config.text(&format!("{path}.key"), key)?;
        if name.is_empty() || name.len() > MAX_KEY {
            let remedy = format!("Write from 1 to {MAX_KEY} octets");
            config.problem(&format!("{path}.key"), key, "no name of a parameter", remedy);
        }
        query.push((name.to_owned(), config.written(&format!("{path}.value"), value)?));
    }
    Some(query)
}

/// What `retry_condition` may name, in the order of [`Seen`].
static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let mut environment = Environment::standard();
    environment.attribute("attempts", Of::INT);
    environment.attribute("last_attempt", Of::map(Of::STRING, Of::Dyn));
    environment
});

impl HttpRequest {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        let Some(mut fetching) = turn.kept.take() else {
            let request = self.request(turn)?;
            let now = turn.now.instant;
            let (redirected, attempts) = (0, Vec::new());
            let fetching = Fetching { began: now, asked: now, redirected, first: None, request, attempts };
            return Ok(self.ask(turn, Box::new(fetching)));
        };
        let result = match turn.answer.take() {
            Some(Answer::Fetched(result)) => result,
            Some(Answer::Keys(_) | Answer::Password(_) | Answer::Body(_) | Answer::Unreachable) | None => {
                Err(FetchError::Unreachable)
            }
        };
        let result = match result {
            Ok(answer) => match self.redirect(&mut fetching, &answer) {
                Some(Ok(())) => return Ok(self.ask(turn, fetching)),
                Some(Err(error)) => Err(error),
                None => Ok(Told::of(answer)),
            },
            Err(error) => Err(error),
        };
        let milliseconds = turn.now.instant.saturating_duration_since(fetching.asked).as_millis();
        fetching.attempts.push(Attempt { milliseconds, result });
        if self.tries_again(turn, &fetching)? {
            if let Some(first) = fetching.first.take() {
                fetching.request = first;
            }
            fetching.redirected = 0;
            return Ok(self.ask(turn, fetching));
        }
        self.end(turn, &fetching)
    }

    /// Makes the request.
    fn request(&self, turn: &mut Turn<'_, '_>) -> Result<http::Request<Vec<u8>>, Failure> {
        let mut uri = url::parse(&turn.render(&self.url)?).ok_or(Failure::Url)?;
        let mut parameters = Vec::with_capacity(self.query.len());
        for (name, value) in &self.query {
            let value = turn.render(value)?;
            if value.len() > MAX_VALUE {
                return Err(Failure::Url);
            }
            parameters.push((&**name, value));
        }
        if !parameters.is_empty() {
            uri = url::with_query(&uri, &parameters).ok_or(Failure::Url)?;
        }
        let mut request = http::Request::new(turn.render(&self.body)?.into_bytes());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        for (name, value) in &self.headers {
            let value = turn.header(value)?;
            request.headers_mut().append(name.clone(), value);
        }
        let client = HeaderValue::try_from(turn.facts.connection.client().to_string());
        let client = client.map_err(|_| Failure::Header)?;
        request.headers_mut().insert(HeaderName::from_static("x-forwarded-for"), client);
        Ok(request)
    }

    /// Asks, if there is time left.
    fn ask(&self, turn: &mut Turn<'_, '_>, mut fetching: Box<Fetching>) -> Effect {
        fetching.asked = turn.now.instant;
        let spent = turn.now.instant.saturating_duration_since(fetching.began);
        let request = fetching.request.clone();
        let fetch = Fetch { request, timeout: self.timeout.saturating_sub(spent), most: MAX_BODY };
        *turn.kept = Some(fetching);
        Effect::Ask(Ask::Fetch(Box::new(fetch)))
    }

    /// Follows a redirect: what is asked next, or why it is not followed. Nothing for an answer that is none.
    fn redirect(&self, fetching: &mut Fetching, answer: &http::Response<Vec<u8>>) -> Option<Result<(), FetchError>> {
        let status = answer.status().as_u16();
        let redirects =
            matches!(status, 301 | 302 | 303 | 307 | 308) && answer.headers().contains_key(header::LOCATION);
        if !redirects || self.redirects == 0 {
            return None;
        }
        let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let next = location.and_then(|location| url::join(fetching.request.uri(), location));
        let Some(next) = next.filter(|_| fetching.redirected < self.redirects) else {
            return Some(Err(FetchError::Redirected));
        };
        fetching.redirected += 1;
        if fetching.first.is_none() {
            fetching.first = Some(fetching.request.clone());
        }
        let request = &mut fetching.request;
        // As browsers do: what was sent once is not sent to another place, unless that is asked for.
        if status == 303 || (matches!(status, 301 | 302) && *request.method() == Method::POST) {
            *request.method_mut() = Method::GET;
            request.body_mut().clear();
            request.headers_mut().remove(header::CONTENT_TYPE);
        }
        if origin(&next) != origin(request.uri()) {
            for secret in [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION] {
                request.headers_mut().remove(secret);
            }
        }
        *request.uri_mut() = next;
        Some(Ok(()))
    }

    fn tries_again(&self, turn: &mut Turn<'_, '_>, fetching: &Fetching) -> Result<bool, Failure> {
        let (Some(retry), Some(last)) = (&self.retry, fetching.attempts.last()) else { return Ok(false) };
        let spent = turn.now.instant.saturating_duration_since(fetching.began);
        if fetching.attempts.len() > MAX_RETRIES || spent >= self.timeout {
            return Ok(false);
        }
        let answer = last.answer(turn)?;
        let request = attempt::request(turn, &fetching.request)?;
        let error = last.result.as_ref().err().map_or("", |error| error.message());
        let last =
            vec![("req".to_owned(), request), ("res".to_owned(), answer), ("error".to_owned(), Value::from(error))];
        let attempts = i64::try_from(fetching.attempts.len()).unwrap_or(i64::MAX);
        let seen = Seen { attempts, last: turn.map(last)? };
        match retry.evaluate(&seen, turn.budget) {
            Ok(value) => Ok(value.as_bool() == Some(true)),
            Err(error) if error.fault.is_limit() => Err(Failure::Expression(error)),
            // A condition about an answer has no value where there is none.
            Err(_) => Ok(false),
        }
    }

    fn end(&self, turn: &mut Turn<'_, '_>, fetching: &Fetching) -> Result<Effect, Failure> {
        let Some(last) = fetching.attempts.last() else { return Ok(Effect::Next) };
        let error = last.result.as_ref().err().copied();
        if let Some(error) = error
            && self.halts
        {
            let status = if error == FetchError::Timeout { 504 } else { 502 };
            let refusal = Refusal::new(status, Why::Failed(Failure::Fetch(error)));
            return Ok(Effect::End(Outcome::Refuse(refusal)));
        }
        if turn.tells() {
            let mut attempts = Vec::with_capacity(fetching.attempts.len());
            for attempt in &fetching.attempts {
                attempts.push(attempt.listed(turn)?);
            }
            let attempts = turn.list(attempts)?;
            let request = attempt::request(turn, &fetching.request)?;
            let answer = last.answer(turn)?;
            let (code, message) = error.map_or(("", ""), |error| (error.code(), error.message()));
            let entries = [("attempts", attempts), ("req", request), ("res", answer)];
            turn.tell_error("http_request", entries, (code, message.to_owned()))?;
        }
        Ok(Effect::Next)
    }
}

fn origin(uri: &Uri) -> (Option<&str>, Option<&str>, Option<u16>) {
    (uri.scheme_str(), uri.host(), uri.port_u16())
}
