//! Sending a request to an upstream: on which connection, for how long, and when again.

use core::{
    pin::{Pin, pin},
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
    time::Duration,
};
use std::sync::Arc;

use adit_core::{Code, UpstreamProtocol};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, uri};
use hyper::{body::Incoming, client::conn::TrySendError, ext::on_informational};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Backend, HttpLimits, Member, Note,
    body::End,
    caller::Talk,
    exchange::{Exchange, RequestBody},
    fields,
    link::Fate,
    pool::{self, Sender, Shelf},
    proxy::Connection,
};
use crate::{Fault, patience::LOOK, router::Outcome};

/// A request as the upstream is to get it, whatever it speaks.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    /// The host, as the caller wrote it or a rule.
    pub(super) authority: HeaderValue,
    /// Path and query.
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    /// The caller takes trailers.
    pub(super) trailers: bool,
    /// The caller waits for 100 before it sends the body.
    pub(super) expects: bool,
    /// It asks to leave HTTP, which is done over HTTP/1.1 whatever the upstream speaks.
    pub(super) leaves: bool,
    /// gRPC: a stream of messages may rest for as long as it likes.
    pub(super) leisurely: bool,
}

/// The answer, and what it came by.
pub(super) struct Sent<M> {
    pub(super) answer: Response<Incoming>,
    pub(super) connection: pool::Connection,
    pub(super) shelf: Arc<Shelf>,
    pub(super) member: M,
}

/// Why an attempt came to nothing, and what comes next.
struct Failed {
    fault: Fault,
    /// The code of the connection, where it had one.
    code: Option<Code>,
    next: Next,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The same member, on a connection that nobody used before.
    Fresh,
    /// Another member.
    Other,
    Stop,
}

impl<B: Backend> Connection<B> {
    /// Sends the request until somebody answers it, as far as it may be repeated.
    pub(super) async fn send(
        &self,
        key: &B::Key,
        endpoint: &str,
        outgoing: Outgoing,
        end: &mut End<B::Member>,
    ) -> Result<Sent<B::Member>, Fault> {
        let (backend, mut tried) = (&self.edge.backend, Vec::new());
        let (mut fresh, mut last, asked) = (false, None::<Failed>, Instant::now());
        let exchange = end.exchange.as_ref();
        if let Some(exchange) = exchange.filter(|_| outgoing.method.is_idempotent()) {
            exchange.keep(self.limits.replay_size);
        }
        for _ in 0..MAX_ATTEMPTS {
            let member = match backend.choose(key, &tried).await {
                Ok(member) => member,
                Err(fault) => return Err(last.map_or(fault, |failed| failed.fault)),
            };
            if let Some(failed) = &last {
                let code = failed.code.unwrap_or(Code::CONNECTION_RESET);
                if failed.next == Next::Other && !backend.may_retry(&member, code) {
                    return Err(failed.fault);
                }
                backend.note(Note::Retried);
                if let Some(record) = &mut end.record {
                    record.retries += 1;
                }
            }
            let shelf = self.edge.pool.shelf(member.id());
            let failed = match self.connect(&member, &shelf, endpoint, outgoing.leaves, fresh).await {
                Ok(connection) => match self.attempt(connection, &member, &outgoing, end).await {
                    Ok((answer, connection)) => {
                        if let Some(exchange) = exchange {
                            exchange.forget();
                        }
                        if let Some(record) = &mut end.record {
                            record.served(asked, member.agent());
                        }
                        let failed = answer.status().is_server_error();
                        backend.report(key, &member, if failed { Outcome::Error } else { Outcome::Fine });
                        return Ok(Sent { answer, connection, shelf, member });
                    }
                    Err(failed) => failed,
                },
                Err(code) => Failed { fault: Fault::of_stream(code), code: Some(code), next: Next::Other },
            };
            // A connection that lay idle for too long tells nothing.
            if failed.next != Next::Fresh && failed.fault.is_of_member() {
                backend.report(key, &member, Outcome::Failed);
            }
            match failed.next {
                Next::Fresh => fresh = true,
                Next::Other => tried.push(member.id()),
                Next::Stop => return Err(failed.fault),
            }
            last = Some(failed);
        }
        Err(last.map_or(Fault::NoAgent, |failed| failed.fault))
    }

    /// Takes a connection off the shelf or opens one.
    async fn connect(
        &self,
        member: &B::Member,
        shelf: &Shelf,
        endpoint: &str,
        leaves: bool,
        fresh: bool,
    ) -> Result<pool::Connection, Code> {
        let shared = member.protocol() == UpstreamProtocol::Http2 && !leaves; // spec: BIND-016
        let waiting = if fresh || leaves {
            None
        } else if shared {
            shelf.share()
        } else {
            shelf.take()
        };
        if let Some(connection) = waiting {
            return Ok(connection);
        }
        let io = member.open(&self.caller, endpoint)?;
        let pending = member.pending();
        self.edge.backend.note(Note::Opened);
        let connected =
            if shared { shelf.connect_shared(io, &self.limits).await } else { Shelf::connect(io, &self.limits).await };
        connected.inspect(|connection| connection.fate.count(pending)).map_err(|_| Code::SESSION_LOST)
    }

    /// Sends the request once.
    async fn attempt(
        &self,
        mut connection: pool::Connection,
        member: &B::Member,
        outgoing: &Outgoing,
        end: &End<B::Member>,
    ) -> Result<(Response<Incoming>, pool::Connection), Failed> {
        let fate = Arc::clone(&connection.fate);
        let exchange = end.exchange.as_ref();
        let paced = matches!(connection.sender, Sender::Http1(_));
        let body = exchange.map_or_else(RequestBody::empty, |exchange| exchange.body(Arc::clone(&fate), paced));
        let answer = match &mut connection.sender {
            Sender::Http1(sender) => {
                fate.begin();
                let mut request = outgoing.http1(body);
                self.watch_informational(&mut request, exchange, &fate);
                let sending = sender.try_send_request(request);
                self.wait(pin!(sending), member, &fate, exchange, outgoing.leisurely).await
            }
            Sender::Http2 { sender, .. } => {
                if let Some(exchange) = exchange {
                    exchange.release();
                }
                let sending = sender.try_send_request(outgoing.http2(&self.caller, body));
                self.wait(pin!(sending), member, &fate, exchange, outgoing.leisurely).await
            }
        };
        match answer {
            Ok(answer) => Ok((answer, connection)),
            Err(error) => Err(self.judge(error, &connection, &outgoing.method, exchange)),
        }
    }

    /// Passes 1xx on: 100 lets the body go, 103 goes to HTTP/1.1 callers.
    fn watch_informational(
        &self,
        request: &mut Request<RequestBody>,
        exchange: Option<&Arc<Exchange>>,
        fate: &Arc<Fate>,
    ) {
        let (exchange, talk, fate) = (exchange.cloned(), self.talk.clone(), Arc::clone(fate));
        let (count, most) = (AtomicUsize::new(0), self.limits.informational);
        on_informational(request, move |head| {
            if count.fetch_add(1, Ordering::Relaxed) >= most {
                fate.chatter();
            } else if head.status() == StatusCode::CONTINUE {
                if let Some(exchange) = &exchange {
                    exchange.release();
                }
            } else if head.status() == StatusCode::EARLY_HINTS
                && let Some(talk) = &talk
            {
                hint(talk, head.headers());
            }
        });
    }

    async fn wait<S>(
        &self,
        mut sending: Pin<&mut S>,
        member: &B::Member,
        fate: &Fate,
        exchange: Option<&Arc<Exchange>>,
        leisurely: bool,
    ) -> Result<Response<Incoming>, Error>
    where
        S: Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>>,
    {
        let patience = Patience {
            started: Instant::now(),
            before: member.away(),
            away: &|| member.away(),
            limits: &self.limits,
            // gRPC is spoken with HTTP/2 upstreams only: elsewhere its name is no excuse.
            times_body: self.talk.is_none() && !(leisurely && member.protocol() == UpstreamProtocol::Http2),
        };
        let mut sleep = pin!(sleep_until(patience.look(fate, exchange)));
        core::future::poll_fn(|cx| {
            if fate.poll_chatter(cx).is_ready() {
                return Poll::Ready(Err(Error::Failed(Fault::UpstreamProtocol)));
            }
            if let Poll::Ready(answer) = sending.as_mut().poll(cx) {
                return Poll::Ready(answer.map_err(|mut failed| {
                    let unsent = failed.take_message().is_some();
                    Error::Sending { unsent, error: failed.into_error() }
                }));
            }
            patience.poll(sleep.as_mut(), fate, exchange, cx)
        })
        .await
    }

    fn judge(
        &self,
        error: Error,
        connection: &pool::Connection,
        method: &Method,
        exchange: Option<&Arc<Exchange>>,
    ) -> Failed {
        let fate = &connection.fate;
        let repeatable = exchange.is_none_or(|exchange| !exchange.is_consumed());
        let next = |may: bool, next| if may { next } else { Next::Stop };
        let code = fate.code();
        let failed = |fault, next| Failed { fault, code, next };
        let (unsent, error) = match error {
            Error::Sending { unsent, error } => (unsent, error),
            // An agent that did not say so in time may hand the request over at this very moment.
            Error::Failed(fault @ Fault::UpstreamTimeout) if !fate.is_accepted() && method.is_idempotent() => {
                return failed(fault, next(repeatable, Next::Other));
            }
            Error::Failed(fault) => return failed(fault, Next::Stop),
        };
        if exchange.is_some_and(|exchange| exchange.is_broken()) {
            let fault = self.talk.as_ref().and_then(|talk| talk.take_body_fault());
            return failed(fault.unwrap_or(Fault::RequestMalformed), Next::Stop);
        }
        if exchange.is_some_and(|exchange| exchange.is_cut()) {
            return failed(Fault::BodyBroken, Next::Stop);
        }
        let fault = match code {
            Some(code) => Fault::of_stream(code),
            None if error.is_parse() => Fault::UpstreamProtocol,
            None => Fault::UpstreamClosed,
        };
        if unsent && connection.used {
            return failed(fault, next(repeatable, Next::Fresh));
        }
        if !fate.is_accepted() && code.is_some_and(|code| unsent || is_refusal(code) || method.is_idempotent()) {
            return failed(fault, next(repeatable, Next::Other));
        }
        let silent = !fate.was_heard() || matches!(connection.sender, Sender::Http2 { .. });
        let died = silent && method.is_idempotent() && !error.is_parse();
        // An upstream closes idle connections when it likes, and the word may cross with a request.
        let again = if connection.used { Next::Fresh } else { Next::Other };
        failed(fault, next(died && repeatable, again))
    }
}

/// Why no answer came.
enum Error {
    Sending { unsent: bool, error: hyper::Error },
    Failed(Fault),
}

/// How long each side may take, step by step.
struct Patience<'a> {
    started: Instant,
    /// For how long the agent has been away in all, and had been when it started: meanwhile time stands still.
    away: &'a (dyn Fn() -> Duration + Sync),
    before: Duration,
    limits: &'a HttpLimits,
    /// The body is timed here; an HTTP/1 connection does it by itself.
    times_body: bool,
}

/// What is due next.
enum Due {
    /// The body goes without the upstream's 100, as soon as the upstream has the connection.
    Release(Instant),
    Fault(Instant, Fault),
    /// Nothing, but look again.
    Look(Instant),
}

impl Patience<'_> {
    fn due(&self, fate: &Fate, exchange: Option<&Arc<Exchange>>) -> Due {
        let limits = self.limits;
        let away = (self.away)().saturating_sub(self.before);
        let overdue = |since: Instant, most: Duration| Due::Fault(since + most + away, Fault::UpstreamTimeout);
        match (exchange, exchange.and_then(|exchange| exchange.due())) {
            (Some(exchange), _) if exchange.is_held() => Due::Release(self.started + limits.continue_timeout),
            _ if !fate.is_accepted() => overdue(self.started, limits.accept_timeout.min(limits.response_timeout)),
            (Some(_), Some(due)) if self.times_body => Due::Fault(due, Fault::HeaderTimeout),
            (Some(_), Some(_)) => Due::Look(Instant::now() + limits.response_timeout),
            (Some(exchange), None) => overdue(self.started.max(exchange.moved()), limits.response_timeout),
            (None, _) => overdue(self.started, limits.response_timeout),
        }
    }

    fn poll(
        &self,
        mut sleep: Pin<&mut Sleep>,
        fate: &Fate,
        exchange: Option<&Arc<Exchange>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Incoming>, Error>> {
        while sleep.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            match self.due(fate, exchange) {
                Due::Release(due) if due <= now => {
                    if let Some(exchange) = exchange {
                        exchange.release();
                    }
                }
                Due::Fault(due, fault) if due <= now => return Poll::Ready(Err(Error::Failed(fault))),
                Due::Release(_) | Due::Fault(..) | Due::Look(_) => {}
            }
            sleep.as_mut().reset(self.look(fate, exchange).max(now + LOOK));
        }
        Poll::Pending
    }

    /// Returns when to look again; what is due may change unseen, so with a body it is looked at as often as the caller's time
    /// may be over, give or take a thirtieth.
    fn look(&self, fate: &Fate, exchange: Option<&Arc<Exchange>>) -> Instant {
        let (Due::Release(due) | Due::Fault(due, _) | Due::Look(due)) = self.due(fate, exchange);
        let timeout = self.limits.body_timeout;
        let pause = match exchange {
            Some(exchange) if self.times_body => exchange.patience().max(timeout / 30),
            Some(_) => timeout,
            None => Duration::MAX,
        };
        due.min(Instant::now().checked_add(pause).unwrap_or(due))
    }
}

impl Outgoing {
    fn http1(&self, body: RequestBody) -> Request<RequestBody> {
        let mut request = self.request(body);
        let empty = hyper::body::Body::is_end_stream(request.body());
        let fields = request.headers_mut();
        fields.insert(header::HOST, self.authority.clone());
        if self.trailers && !self.leaves {
            fields.insert(header::TE, HeaderValue::from_static("trailers"));
            fields.insert(header::CONNECTION, HeaderValue::from_static("te"));
        }
        if self.expects {
            fields.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
        }
        if !fields.contains_key(header::CONTENT_LENGTH) {
            if !empty {
                fields.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            } else if matches!(self.method, Method::POST | Method::PUT | Method::PATCH) {
                fields.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
        }
        fields::join_cookies(fields);
        request
    }

    fn http2(&self, caller: &crate::Caller, body: RequestBody) -> Request<RequestBody> {
        let mut request = self.request(body);
        *request.version_mut() = Version::HTTP_2;
        let fields = request.headers_mut();
        fields.remove(header::HOST);
        if self.trailers {
            fields.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        let authority = uri::Authority::try_from(self.authority.as_bytes());
        let mut parts = self.uri.clone().into_parts();
        if let Ok(authority) = authority {
            let secure = caller.scheme != crate::router::Scheme::Http;
            parts.scheme = Some(if secure { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
            parts.authority = Some(authority);
        }
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        request
    }

    fn request(&self, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Codes that say that nothing of the stream reached an upstream.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::REFUSED
            | Code::UPSTREAM_REFUSED
            | Code::UPSTREAM_TIMEOUT
            | Code::UPSTREAM_UNREACHABLE
            | Code::UPSTREAM_TLS
            | Code::UNBOUND
            | Code::STREAM_LIMIT
            | Code::LIMIT
            | Code::BUSY
            | Code::SHUTDOWN
            | Code::REPLACED
    )
}

/// Writes a 103 head for the caller.
fn hint(talk: &Talk, hints: &HeaderMap) {
    let mut hints = hints.clone();
    fields::clean_trailers(&mut hints);
    let mut head = b"HTTP/1.1 103 Early Hints\r\n".to_vec();
    for (name, value) in &hints {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    talk.hint(&head);
}

/// Connections tried for one request.
const MAX_ATTEMPTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upstream_whose_agent_is_away_has_that_time_on_top() {
        let (start, secs) = (Instant::now(), Duration::from_secs);
        let (limits, fate) = (HttpLimits::default(), Fate::default());
        let away = || start.elapsed().min(secs(30)).saturating_sub(secs(10));
        let patience = Patience { started: start, away: &away, before: secs(0), limits: &limits, times_body: false };
        let mut sleep = pin!(sleep_until(patience.look(&fate, None)));

        let outcome = core::future::poll_fn(|cx| patience.poll(sleep.as_mut(), &fate, None, cx)).await;

        assert!(matches!(outcome, Err(Error::Failed(Fault::UpstreamTimeout))));
        assert!((secs(35)..secs(35) + LOOK).contains(&start.elapsed()), "{:?}", start.elapsed());
    }
}
