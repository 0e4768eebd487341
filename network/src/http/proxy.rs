//! From a request to its answer.

use core::{convert::Infallible, future::pending};
use std::sync::{Arc, OnceLock};

use adit_policy::{body::ask_for_whole, environment::Connection as Facts};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, request::Parts, response,
};
use http_body::Body as _;
use hyper::{body::Incoming, ext::Protocol, upgrade::OnUpgrade};
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinHandle};

use super::{
    Backend, HttpEdge, HttpLimits, Note,
    answer::Refused,
    body::{AnswerBody, End},
    caller::Talk,
    exchange::Exchange,
    fields::{self, Named, Spoken},
    govern::{Admitted, Failed, Governance, Ruled},
    identity::{REQUEST_ID, RequestId},
    pool::{self, Return, Sender},
    record::{Notes, Record},
    send::{Outgoing, Sent},
    streams::Watch,
    tunnel::{self, Leave, Tunnel},
};
use crate::{
    Caller, Fault,
    admission::{Source, Underway},
    router::Scheme,
};

/// One connection of a caller, as its requests see it.
pub(super) struct Connection<B: Backend> {
    pub(super) edge: Arc<HttpEdge<B>>,
    pub(super) limits: Arc<HttpLimits>,
    pub(super) caller: Arc<Caller>,
    /// Of HTTP/1 only.
    pub(super) talk: Option<Arc<Talk>>,
    spoken: Spoken,
    source: Arc<Source>,
    /// The Host of the last request: callers rarely change it.
    named: Mutex<Option<Arc<Named>>>,
    pub(super) notes: Notes,
    /// The upgrade that an HTTP/1 connection has become.
    pub(super) tunnel: Mutex<Option<JoinHandle<()>>>,
    /// What rules know of the connection, once one asks.
    pub(super) facts: OnceLock<Facts>,
    /// What rules said of the connection, by endpoint.
    pub(super) admitted: Mutex<Vec<Admitted>>,
    /// Rung when a rule closes the connection.
    closed: Arc<Notify>,
}

/// A request that may be served.
struct Accepted<B: Backend> {
    key: Arc<B::Key>,
    named: Arc<Named>,
    leave: Option<Leave>,
    expects: bool,
    underway: Underway,
}

/// A request as the upstream is to get it, before rules have seen it.
struct Prepared {
    parts: Parts,
    trailers: bool,
    expects: bool,
    leisurely: bool,
}

type Answer<B> = Response<AnswerBody<<B as Backend>::Member>>;

impl<B: Backend> Connection<B> {
    pub(super) fn new(edge: Arc<HttpEdge<B>>, caller: Caller, talk: Option<Arc<Talk>>, closed: Arc<Notify>) -> Self {
        let backend = Arc::clone(&edge.backend);
        let seeing = backend.seeing();
        let notes = Notes { take: Arc::new(move |note| backend.note(note)), seeing };
        let (limits, spoken) = (edge.limits.load_full(), Spoken::new(&caller));
        let source = edge.backend.source(&caller);
        tracing::debug!(peer = %caller.address, local = %caller.local, scheme = caller.scheme.word(), "caller");
        Self {
            edge,
            limits,
            caller: Arc::new(caller),
            talk,
            spoken,
            source,
            named: Mutex::new(None),
            notes,
            tunnel: Mutex::new(None),
            facts: OnceLock::new(),
            admitted: Mutex::default(),
            closed,
        }
    }

    /// Answers a request; it never fails, and dropped it cancels what it began.
    pub(super) async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer<B>, Infallible> {
        let id = RequestId::new();
        // What it keeps is large, and whoever serves the connection moves it about.
        let mut answer = Box::pin(self.answered(request, id)).await;
        answer.headers_mut().insert(REQUEST_ID, id.value());
        Ok(answer)
    }

    async fn answered(&self, request: Request<Incoming>, id: RequestId) -> Answer<B> {
        #[cfg(test)]
        crate::injection::strike(crate::injection::Place::Request);
        let (mut parts, body) = request.into_parts();
        let mut end = End {
            talk: self.talk.clone(),
            watch: if self.talk.is_none() { Watch::current() } else { None },
            drain: self.limits.drain_size,
            record: Some(Box::new(Record::begin(&self.notes, id, &self.caller, &parts))),
            ..End::default()
        };
        let whole = body.is_end_stream();
        let accepted = match self.accept(&mut parts, whole) {
            Ok(accepted) => accepted,
            Err(Instead::Document(document)) => {
                end.exchange = (!whole).then(|| Arc::new(Exchange::new(body, true, &self.limits)));
                return given(document, &parts.method, end);
            }
            Err(Instead::Refused(fault)) => {
                end.exchange = (!whole).then(|| Arc::new(Exchange::new(body, true, &self.limits)));
                return refuse(fault.into(), &parts.method, &parts.headers, end);
            }
        };
        if let Some(record) = &mut end.record {
            let backend = &self.edge.backend;
            record.found(&accepted.named.name, backend.url(&accepted.key), backend.numbers(&accepted.key));
        }
        end.exchange = (!whole).then(|| Arc::new(Exchange::new(body, accepted.expects, &self.limits)));
        let accept: HeaderMap =
            parts.headers.get(header::ACCEPT).map(|accept| (header::ACCEPT, accept.clone())).into_iter().collect();
        let method = parts.method.clone();
        let mut answer = match self.carry(parts, accepted, &mut end, id).await {
            Ok(answer) => answer.map(|body| body.unwrap_or_else(|| AnswerBody::empty(core::mem::take(&mut end)))),
            Err(Failed::Refused(refused)) => {
                self.note_refusal(&refused);
                refuse(*refused, &method, &accept, end)
            }
            Err(Failed::Closed) => {
                if let Some(record) = &mut end.record {
                    record.refuse(Fault::PolicyDenied);
                }
                drop(end);
                self.closed.notify_one();
                return pending().await; // the connection is dropped, and this with it
            }
        };
        if self.talk.as_ref().is_some_and(|talk| talk.drains()) && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    /// Decides whether a request may be served at all, and by which endpoint.
    fn accept(&self, parts: &mut Parts, whole: bool) -> Result<Accepted<B>, Instead> {
        if let Some(fault) = self.talk.as_ref().and_then(|talk| talk.take_refused()) {
            return Err(fault.into());
        }
        let Some(underway) = self.source.begin(self.limits.requests_per_source) else {
            self.edge.backend.note(Note::Limit("requests_per_source"));
            return Err(Fault::TooManyRequests.into());
        };
        let http2 = self.talk.is_none();
        if http2 {
            check_http2(parts, &self.limits)?;
        }
        let protocol = parts.extensions.remove::<Protocol>();
        if parts.method == Method::TRACE || (parts.method == Method::CONNECT && protocol.is_none()) {
            return Err(Fault::MethodRefused.into()); // V65
        }
        let named = self.name(parts)?;
        if self.caller.scheme == Scheme::Http
            && matches!(parts.method, Method::GET | Method::HEAD)
            && let Some(document) = self.edge.backend.document(&named.name, parts.uri.path())
        {
            return Err(Instead::Document(document));
        }
        let key = self.find(&named)?;
        let expects = match parts.headers.get(header::EXPECT) {
            None => false,
            Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
                !whole && parts.version != Version::HTTP_10
            }
            Some(_) => return Err(Fault::Expectation.into()),
        };
        let leave = tunnel::wish(parts, protocol, whole);
        Ok(Accepted { key, named, leave, expects, underway })
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
        // A name with other terms, or terms that have changed: the caller makes a connection under those.
        if self.caller.name.is_some() && !backend.is_under_terms(&self.caller, &named.name) {
            return Err(Fault::Misdirected);
        }
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
        id: RequestId,
    ) -> Result<Response<Option<AnswerBody<B::Member>>>, Failed> {
        let Accepted { mut key, named, leave, underway, .. } = accepted;
        end.underway = Some(underway);
        let upgrade = parts.extensions.get::<OnUpgrade>().cloned();
        let mut prepared = self.prepare(parts, &named, leave.as_ref(), end, id);
        let mut governance = None;
        if let Some(settings) = self.edge.backend.settings(&key) {
            prepared.parts.headers.insert(header::HOST, named.authority.clone());
            let governing = self.govern(key, settings, &mut prepared.parts, end.exchange.as_ref(), &mut end.record);
            let (ruled, governed) = Box::pin(governing).await?;
            let governed = governance.insert(governed);
            match ruled {
                Ruled::Serve(serving) => key = serving,
                Ruled::Answer(answer) => {
                    return self.answer_by_rule(*answer, governed, &prepared.parts.method, end).await;
                }
            }
        }
        if governance.as_ref().is_some_and(Governance::replaces) {
            ask_for_whole(&mut prepared.parts.headers);
        }
        let endpoint = governance.as_ref().and_then(|governance| governance.forwarded.as_deref());
        let outgoing = outgoing(prepared, &named, governance.is_some(), leave.as_ref());
        let method = outgoing.method.clone();
        let sent = self.send(&key, endpoint.unwrap_or(&named.name), outgoing, end).await;
        if let Some(governance) = &mut governance {
            governance.conclude(sent.as_ref().ok().map(|sent| sent.answer.status()));
        }
        let Sent { answer, connection, shelf, member } = sent?;
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
        let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
        if switches {
            leave.as_ref().ok_or(Fault::UpstreamProtocol)?.check(&head.headers)?;
        } else {
            fields::clean_answer(&mut head.headers)?;
            announce_grpc_trailers(&mut head.headers);
            head.extensions.remove::<OnUpgrade>();
            head.version = Version::HTTP_11;
        }
        let mut change = None;
        if let Some(governance) = &mut governance {
            let governing = self.govern_answer(governance, &mut head, &mut end.record);
            let mut ruled = Box::pin(governing).await?;
            if let Some(text) = ruled.text(None)? {
                drop(body); // the upstream's connection goes with it
                self.status(head.status, end);
                return Ok(ours(Response::from_parts(head, text), &method, end));
            }
            change = ruled.change(body.is_end_stream(), self.notes.clone());
        }
        if let (true, Some(leave)) = (switches, leave) {
            self.leave(&leave, upgrade.ok_or(Fault::UpstreamProtocol)?, &connection, &mut head, end)?;
            return Ok(Response::from_parts(head, None));
        }
        self.status(head.status, end);
        let http2 = matches!(connection.sender, Sender::Http2 { .. });
        end.back = Some(Return::new(shelf, connection));
        let body = AnswerBody::upstream(body, http2, change, core::mem::take(end));
        Ok(Response::from_parts(head, Some(body)))
    }

    /// Leaves HTTP, as the caller asked and the upstream agrees to.
    fn leave(
        &self,
        leave: &Leave,
        upgrade: OnUpgrade,
        connection: &pool::Connection,
        head: &mut response::Parts,
        end: &mut End<B::Member>,
    ) -> Result<(), Fault> {
        connection.fate.settle();
        let upstream = head.extensions.remove::<OnUpgrade>().ok_or(Fault::UpstreamProtocol)?;
        leave.answer(head);
        if let Some(talk) = &self.talk {
            talk.decide_upgrade(true);
        }
        if let Some(watch) = &end.watch {
            watch.done();
        }
        self.status(head.status, end);
        let tunnel = Tunnel {
            member: end.member.take(),
            underway: end.underway.take(),
            record: end.record.take(),
            watch: end.watch.clone(),
            stall_timeout: self.limits.stall_timeout,
            notes: self.notes.clone(),
        };
        let tunnel = tunnel.start(upgrade, upstream);
        if self.talk.is_some() {
            *self.tunnel.lock() = Some(tunnel);
        }
        Ok(())
    }

    /// Answers in place of an upstream, as rules say.
    async fn answer_by_rule(
        &self,
        answer: Response<Vec<u8>>,
        governance: &mut Governance,
        method: &Method,
        end: &mut End<B::Member>,
    ) -> Result<Response<Option<AnswerBody<B::Member>>>, Failed> {
        let (mut head, text) = answer.into_parts();
        let mut ruled = Box::pin(self.govern_answer(governance, &mut head, &mut end.record)).await?;
        let text = ruled.text(Some(text.into()))?.unwrap_or_default();
        self.status(head.status, end);
        Ok(ours(Response::from_parts(head, text), method, end))
    }

    /// Makes the request that the upstream gets: the caller's, without what was for us, with our own words.
    fn prepare(
        &self,
        mut parts: Parts,
        named: &Named,
        leave: Option<&Leave>,
        end: &mut End<B::Member>,
        id: RequestId,
    ) -> Prepared {
        let headers = &mut parts.headers;
        let expects =
            headers.contains_key(header::EXPECT) && end.exchange.is_some() && parts.version != Version::HTTP_10;
        let leisurely = is_grpc(headers);
        let trailers = fields::clean_request(headers);
        headers.insert(REQUEST_ID, id.value());
        if let Some(record) = &mut end.record {
            record.join(headers);
        }
        self.spoken.say(named, headers);
        parts.uri = match parts.uri.into_parts().path_and_query {
            Some(path) => Uri::from(path),
            None => Uri::from_static("/"),
        };
        if let Some(Leave::Extended(_)) = leave {
            parts.method = Method::GET; // as the upstream gets it
        }
        Prepared { parts, trailers, expects, leisurely }
    }

    fn status(&self, status: StatusCode, end: &mut End<B::Member>) {
        if let Some(record) = &mut end.record {
            record.begins(status);
        }
    }
}

/// What comes of a request that no endpoint serves.
enum Instead {
    Refused(Fault),
    /// The network has the answer itself; of this type it is.
    Document((Bytes, &'static str)),
}

impl From<Fault> for Instead {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault)
    }
}

fn given<M>((octets, kind): (Bytes, &'static str), method: &Method, mut end: End<M>) -> Response<AnswerBody<M>> {
    let mut answer = Response::new(octets);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if method == Method::HEAD {
        let length = HeaderValue::from(answer.body().len());
        answer.headers_mut().insert(header::CONTENT_LENGTH, length);
        answer.body_mut().clear();
    }
    if let Some(record) = &mut end.record {
        record.status = answer.status();
    }
    answer.map(|text| AnswerBody::ours(text, end))
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

/// Puts a request together, with the host that rules have left it.
fn outgoing(prepared: Prepared, named: &Named, governed: bool, leave: Option<&Leave>) -> Outgoing {
    let Prepared { parts: Parts { method, uri, headers, .. }, trailers, expects, leisurely } = prepared;
    let host = if governed { headers.get(header::HOST).cloned() } else { None };
    let authority = host.unwrap_or_else(|| named.authority.clone());
    let leaves = leave.is_some();
    let mut outgoing = Outgoing { method, authority, uri, headers, trailers, expects, leaves, leisurely };
    if let Some(leave) = leave {
        leave.ask(&mut outgoing);
    }
    outgoing
}

/// Makes a text the answer. One that has no body has none, whatever a rule says.
fn ours<M>(answer: Response<Bytes>, method: &Method, end: &mut End<M>) -> Response<Option<AnswerBody<M>>> {
    let mut answer = answer;
    if matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        answer.body_mut().clear();
    }
    without_body_for_head(&mut answer, method);
    answer.map(|text| Some(AnswerBody::ours(text, core::mem::take(end))))
}

fn without_body_for_head(answer: &mut Response<Bytes>, method: &Method) {
    if method == Method::HEAD {
        let length = HeaderValue::from(answer.body().len());
        answer.headers_mut().insert(header::CONTENT_LENGTH, length);
        answer.body_mut().clear();
    }
}

fn refuse<M>(refused: Refused, method: &Method, request: &HeaderMap, mut end: End<M>) -> Response<AnswerBody<M>> {
    let fault = refused.fault;
    let mut answer = refused.answer(request);
    without_body_for_head(&mut answer, method);
    if let Some(record) = &mut end.record {
        record.status = answer.status();
        record.refuse(fault);
    }
    answer.map(|text| AnswerBody::ours(text, end))
}
