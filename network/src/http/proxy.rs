//! From a request to its answer.

use core::convert::Infallible;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, request::Parts};
use http_body::Body as _;
use hyper::{body::Incoming, ext::Protocol, upgrade::OnUpgrade};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::{
    Backend, HttpEdge, HttpLimits, Note,
    answer::answer,
    body::{AnswerBody, End},
    caller::Talk,
    exchange::Exchange,
    fields::{self, Named, Spoken},
    pool::{Return, Sender},
    record::{Notes, Record},
    send::{Outgoing, Sent},
    streams::Watch,
    tunnel::{self, Leave},
};
use crate::{Caller, Fault};

/// One connection of a caller, as its requests see it.
pub(super) struct Connection<B: Backend> {
    pub(super) edge: Arc<HttpEdge<B>>,
    pub(super) limits: Arc<HttpLimits>,
    pub(super) caller: Arc<Caller>,
    /// Of HTTP/1 only.
    pub(super) talk: Option<Arc<Talk>>,
    spoken: Spoken,
    /// The Host of the last request: callers rarely change it.
    named: Mutex<Option<Arc<Named>>>,
    notes: Notes,
    /// The upgrade that an HTTP/1 connection has become.
    pub(super) tunnel: Mutex<Option<JoinHandle<()>>>,
}

/// A request that may be served.
struct Accepted<B: Backend> {
    key: Arc<B::Key>,
    named: Arc<Named>,
    leave: Option<Leave>,
    expects: bool,
}

type Answer<B> = Response<AnswerBody<<B as Backend>::Member>>;

impl<B: Backend> Connection<B> {
    pub(super) fn new(edge: Arc<HttpEdge<B>>, caller: Caller, talk: Option<Arc<Talk>>) -> Self {
        let backend = Arc::clone(&edge.backend);
        let notes = Notes(Arc::new(move |note| backend.note(note)));
        let (limits, spoken) = (edge.limits.load_full(), Spoken::new(&caller));
        tracing::debug!(peer = %caller.address, local = %caller.local, scheme = caller.scheme.word(), "caller");
        Self {
            edge,
            limits,
            caller: Arc::new(caller),
            talk,
            spoken,
            named: Mutex::new(None),
            notes,
            tunnel: Mutex::new(None),
        }
    }

    /// Answers a request; it never fails, and dropped it cancels what it began.
    pub(super) async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer<B>, Infallible> {
        #[cfg(test)]
        crate::injection::strike(crate::injection::Place::Request);
        let (mut parts, body) = request.into_parts();
        let mut end = End {
            talk: self.talk.clone(),
            watch: if self.talk.is_none() { Watch::current() } else { None },
            drain: self.limits.drain_size,
            record: Some(Record::begin(self.notes.clone(), parts.method.clone())),
            ..End::default()
        };
        let whole = body.is_end_stream();
        let accepted = match self.accept(&mut parts, whole) {
            Ok(accepted) => accepted,
            Err(fault) => {
                end.exchange = (!whole).then(|| Arc::new(Exchange::new(body, true)));
                return Ok(refuse(fault, &parts.method, &parts.headers, end));
            }
        };
        if let Some(record) = &mut end.record {
            record.found(&accepted.named.name);
        }
        end.exchange = (!whole).then(|| Arc::new(Exchange::new(body, accepted.expects)));
        let accept: HeaderMap =
            parts.headers.get(header::ACCEPT).map(|accept| (header::ACCEPT, accept.clone())).into_iter().collect();
        let method = parts.method.clone();
        let mut answer = match self.carry(parts, accepted, &mut end).await {
            Ok(answer) => answer.map(|body| body.unwrap_or_else(|| AnswerBody::empty(core::mem::take(&mut end)))),
            Err(fault) => refuse(fault, &method, &accept, end),
        };
        if self.talk.as_ref().is_some_and(|talk| talk.drains()) && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(answer)
    }

    /// Decides whether a request may be served at all, and by which endpoint.
    fn accept(&self, parts: &mut Parts, whole: bool) -> Result<Accepted<B>, Fault> {
        if let Some(fault) = self.talk.as_ref().and_then(|talk| talk.take_refused()) {
            return Err(fault);
        }
        let http2 = self.talk.is_none();
        if http2 {
            check_http2(parts, &self.limits)?;
        }
        let protocol = parts.extensions.remove::<Protocol>();
        if parts.method == Method::TRACE || (parts.method == Method::CONNECT && protocol.is_none()) {
            return Err(Fault::MethodRefused); // V65
        }
        let named = self.name(parts)?;
        let key = self.find(&named)?;
        let expects = match parts.headers.get(header::EXPECT) {
            None => false,
            Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
                !whole && parts.version != Version::HTTP_10
            }
            Some(_) => return Err(Fault::Expectation),
        };
        let leave = tunnel::wish(parts, protocol, whole);
        Ok(Accepted { key, named, leave, expects })
    }

    /// Returns the name that the request is for; HTTP/1 has one Host, which the gate has compared with the target.
    fn name(&self, parts: &Parts) -> Result<Arc<Named>, Fault> {
        let host = parts.headers.get(header::HOST);
        let authority = parts.uri.authority();
        let last = self.named.lock().clone();
        if let Some(last) = last
            && host.is_none_or(|host| *host == last.authority)
            && (host.is_some() || authority.is_some())
            && authority.is_none_or(|authority| authority.as_str().as_bytes() == last.authority.as_bytes())
        {
            return Ok(last);
        }
        let text = match (host, authority) {
            (Some(host), _) => host.clone(),
            (None, Some(authority)) => {
                HeaderValue::from_str(authority.as_str()).map_err(|_| Fault::RequestMalformed)?
            }
            (None, None) => return Err(Fault::RequestMalformed),
        };
        let named = Arc::new(self.spoken.named(&self.caller, text)?);
        *self.named.lock() = Some(Arc::clone(&named));
        Ok(named)
    }

    /// Finds the endpoint; a caller that came by TLS asks for the same endpoint in both places (V28).
    fn find(&self, named: &Named) -> Result<Arc<B::Key>, Fault> {
        let (backend, scheme) = (&self.edge.backend, self.caller.scheme);
        let key = backend.find(scheme, &named.name);
        match &self.caller.name {
            Some(sni) if *sni != named.name => match (backend.find(scheme, sni), key) {
                (Ok(of_sni), Ok(of_host)) if of_sni == of_host => Ok(of_host),
                (_, _) => Err(Fault::Misdirected),
            },
            Some(_) | None => key,
        }
    }

    /// Sends the request to the upstream and makes its answer ours. `None` stands for an empty body.
    async fn carry(
        &self,
        parts: Parts,
        accepted: Accepted<B>,
        end: &mut End<B::Member>,
    ) -> Result<Response<Option<AnswerBody<B::Member>>>, Fault> {
        let Accepted { key, named, leave, .. } = accepted;
        let upgrade = parts.extensions.get::<OnUpgrade>().cloned();
        let outgoing = self.outgoing(parts, &named, leave.as_ref(), end);
        let Sent { answer, connection, shelf, member } = self.send(&key, &named, outgoing, end).await?;
        if let Some(talk) = &self.talk {
            talk.answering();
            core::future::poll_fn(|cx| talk.poll_hints_written(cx)).await;
        }
        end.member = Some(member);
        if let Some(exchange) = &end.exchange
            && answer.status().as_u16() < 400
        {
            exchange.release(); // an upstream may begin its answer without a 100 and read the body all the same
        }
        let (mut head, body) = answer.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(leave), Some(upgrade)) = (leave, upgrade) else { return Err(Fault::UpstreamProtocol) };
            leave.check(&head.headers)?;
            connection.fate.settle();
            let upstream = head.extensions.remove::<OnUpgrade>().ok_or(Fault::UpstreamProtocol)?;
            leave.answer(&mut head);
            if let Some(talk) = &self.talk {
                talk.decide_upgrade(true);
            }
            if let Some(watch) = &end.watch {
                watch.done();
            }
            self.status(head.status, end);
            let tunnel = tunnel::start::<B>(upgrade, upstream, end.member.take());
            if self.talk.is_some() {
                *self.tunnel.lock() = Some(tunnel);
            }
            return Ok(Response::from_parts(head, None));
        }
        fields::clean_answer(&mut head.headers)?;
        announce_grpc_trailers(&mut head.headers);
        head.extensions.remove::<OnUpgrade>();
        head.version = Version::HTTP_11;
        self.status(head.status, end);
        let http2 = matches!(connection.sender, Sender::Http2 { .. });
        end.back = Some(Return::new(shelf, connection));
        let body = AnswerBody::upstream(body, http2, core::mem::take(end));
        Ok(Response::from_parts(head, Some(body)))
    }

    /// Makes the request that the upstream gets: the caller's, without what was for us, with our own words.
    fn outgoing(&self, parts: Parts, named: &Named, leave: Option<&Leave>, end: &End<B::Member>) -> Outgoing {
        let Parts { method, uri, mut headers, version, .. } = parts;
        let expects = headers.contains_key(header::EXPECT) && end.exchange.is_some() && version != Version::HTTP_10;
        let leisurely = is_grpc(&headers);
        let trailers = fields::clean_request(&mut headers);
        self.spoken.say(named, &mut headers);
        let uri = match uri.into_parts().path_and_query {
            Some(path) => Uri::from(path),
            None => Uri::from_static("/"),
        };
        let mut outgoing = Outgoing { method, uri, headers, trailers, expects, leaves: leave.is_some(), leisurely };
        if let Some(leave) = leave {
            leave.ask(&mut outgoing);
        }
        outgoing
    }

    fn status(&self, status: StatusCode, end: &mut End<B::Member>) {
        if let Some(record) = &mut end.record {
            record.status = status;
        }
    }
}

/// HTTP/2 has no gate: its framing is unambiguous, but its fields become HTTP/1 (V52).
fn check_http2(parts: &Parts, limits: &HttpLimits) -> Result<(), Fault> {
    let fields = &parts.headers;
    let size: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    if fields.len() > limits.header_fields || size > limits.header_size {
        return Err(Fault::HeaderTooLarge); // crumbs counted one by one (V4)
    }
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().len() > limits.target_size) {
        return Err(Fault::TargetTooLong);
    }
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    let digits = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.iter().all(u8::is_ascii_digit)
            && (1..=18).contains(&value.len())
            && (value[0] != b'0' || value.len() == 1)
    };
    let length = lengths.next().is_none_or(digits) && lengths.next().is_none();
    let mut hosts = fields.get_all(header::HOST).iter();
    let host = hosts.next();
    let agrees = match (host, parts.uri.authority()) {
        (Some(host), Some(authority)) => host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()),
        (None, None) => false,
        (Some(_), None) | (None, Some(_)) => true,
    };
    if length && agrees && hosts.next().is_none() { Ok(()) } else { Err(Fault::RequestMalformed) }
}

/// hyper sends trailers over HTTP/1 only when they are announced; gRPC never announces its own.
fn announce_grpc_trailers(fields: &mut HeaderMap) {
    if is_grpc(fields) && !fields.contains_key(header::TRAILER) {
        let names = "grpc-status, grpc-message, grpc-status-details-bin";
        fields.insert(header::TRAILER, HeaderValue::from_static(names));
    }
}

fn is_grpc(fields: &HeaderMap) -> bool {
    fields.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn refuse<M>(fault: Fault, method: &Method, request: &HeaderMap, mut end: End<M>) -> Response<AnswerBody<M>> {
    let mut answer = answer(fault, request);
    if method == Method::HEAD {
        let length = HeaderValue::from(answer.body().len());
        answer.headers_mut().insert(header::CONTENT_LENGTH, length);
        answer.body_mut().clear();
    }
    if let Some(record) = &mut end.record {
        record.status = answer.status();
        record.fault = Some(fault);
        record.note(Note::Refused(fault));
    }
    answer.map(|text| AnswerBody::ours(text, end))
}
