//! Policies on a request's way: rules of the endpoint before an upstream is chosen, and of its answer before that goes out.
//!
//! Rules of `on_tcp_connect` run at the first request for an endpoint on a connection, and what came of them holds for the others.

use std::sync::Arc;

use adit_policy::{
    body::{Pipeline, Wish, for_answer, for_request},
    engine::{Answer, Carried, Outcome, Policy, Refusal, Subject},
    environment::{Connection as Facts, Phase},
};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Uri, header, request, response, uri::PathAndQuery};

use super::{
    Backend, Note,
    answer::Refused,
    exchange::Exchange,
    proxy::Connection,
    record::{Notes, Record},
    transform::{self, Change, Held},
};
use crate::{
    Fault,
    endpoints::Settings,
    policy::{self, Ambiguous},
};

/// What rules made of a request.
pub(super) enum Ruled<K> {
    /// It is served by this endpoint. What goes to the upstream is in the parts.
    Serve(Arc<K>),
    /// It is answered so.
    Answer(Box<Response<Vec<u8>>>),
}

/// What rules made of an answer.
#[derive(Debug, Default)]
pub(super) struct RuledAnswer {
    /// What is answered in place of the upstream.
    text: Option<Bytes>,
    /// What is done to the body.
    pipeline: Pipeline,
    held: Vec<Held>,
}

impl RuledAnswer {
    /// Returns the text that is answered in place of the upstream or of `other`, changed as rules say.
    ///
    /// # Errors
    /// [`Fault::AnswerUnsearched`].
    pub(super) fn text(&mut self, other: Option<Bytes>) -> Result<Option<Bytes>, Fault> {
        let Some(text) = self.text.take().or(other) else { return Ok(None) };
        let pipeline = core::mem::take(&mut self.pipeline);
        if pipeline.is_empty() {
            return Ok(Some(text));
        }
        transform::whole(pipeline, &text).map(Some).map_err(|_| Fault::AnswerUnsearched)
    }

    /// Returns what is done to the body of an upstream, which may be `empty`.
    pub(super) fn change(self, empty: bool, notes: Notes) -> Option<Box<Change>> {
        let nothing = self.pipeline.is_empty() || (empty && !self.pipeline.compresses());
        (!nothing).then(|| Box::new(Change::new(self.pipeline, self.held, notes)))
    }
}

/// Why a request is not served.
#[derive(Debug)]
pub(super) enum Failed {
    /// It is answered by a refusal.
    Refused(Box<Refused>),
    /// The connection is closed without an answer.
    Closed,
}

/// The policies that a request went through, the outermost first.
#[derive(Debug, Default)]
pub(super) struct Governance {
    stages: Vec<Stage>,
    /// The endpoint that it was forwarded to, as the agent knows it.
    pub(super) forwarded: Option<String>,
    /// The request as it goes to the upstream, when rules look at the answer.
    request: Option<request::Parts>,
}

#[derive(Debug)]
struct Stage {
    settings: Arc<Settings>,
    policy: Arc<Policy>,
    carried: Carried,
}

/// What came of the rules of `on_tcp_connect` for one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    settings: Arc<Settings>,
    /// Nothing when the connection is to be closed.
    passed: Option<Passed>,
}

#[derive(Clone, Debug)]
struct Passed {
    carried: Carried,
    /// Where requests go for which no rule says anything else.
    forward: Option<String>,
}

impl<B: Backend> Connection<B> {
    /// Runs the rules for a request, of its endpoint and of every one that it is forwarded to.
    pub(super) async fn govern(
        &self,
        mut key: Arc<B::Key>,
        first: Arc<Settings>,
        parts: &mut request::Parts,
        exchange: Option<&Arc<Exchange>>,
        record: &mut Option<Box<Record>>,
    ) -> Result<(Ruled<B::Key>, Governance), Failed> {
        let (mut governance, mut settings) = (Governance::default(), first);
        for _ in 0..=policy::MAX_FORWARDS {
            let next = match settings.policy.clone() {
                None => None,
                Some(policy) => {
                    let passed = self.connected(&settings, &policy, record).await.ok_or(Failed::Closed)?;
                    if settings.sees_requests() {
                        normalize(parts)?;
                    }
                    let stage = Stage { settings: Arc::clone(&settings), policy, carried: passed.carried };
                    governance.stages.push(stage);
                    let Some(stage) = governance.stages.last_mut() else { return Err(Fault::Internal.into()) };
                    match self.request(stage, parts, exchange, record).await? {
                        Next::Serve => match passed.forward {
                            Some(url) => Some(self.edge.backend.forward(settings.account, &url)?.0),
                            None => None,
                        },
                        Next::Forward(key) => Some(key),
                        Next::Answer(answer) => {
                            governance.keep(parts);
                            return Ok((Ruled::Answer(answer), governance));
                        }
                    }
                }
            };
            match next {
                Some(next) => key = next,
                None if settings.is_cloud() => return Err(Fault::NoAnswer.into()),
                None => {
                    governance.keep(parts);
                    return Ok((Ruled::Serve(key), governance));
                }
            }
            governance.forwarded = Some(self.edge.backend.url(&key));
            match self.edge.backend.settings(&key) {
                Some(next) => settings = next,
                None => {
                    governance.keep(parts);
                    return Ok((Ruled::Serve(key), governance));
                }
            }
        }
        Err(Fault::ForwardLoop.into())
    }

    /// Runs the rules for the connection, once for each endpoint; nothing when it is to be closed.
    async fn connected(
        &self,
        settings: &Arc<Settings>,
        policy: &Arc<Policy>,
        record: &mut Option<Box<Record>>,
    ) -> Option<Passed> {
        if !policy.has(Phase::TcpConnect) {
            return Some(Passed { carried: Carried::default(), forward: None });
        }
        let known = self.admitted.lock().iter().find(|it| Arc::ptr_eq(&it.settings, settings)).cloned();
        if let Some(known) = known {
            return known.passed;
        }
        let mut subject = Subject::new(self.facts(), settings.facts());
        let begin = (Phase::TcpConnect, Carried::default());
        let (mut outcome, mut run) = policy::run(policy, settings, begin, &mut subject, None).await;
        let forward = loop {
            match outcome {
                Outcome::Continue => break Some(None),
                Outcome::Refuse(_) | Outcome::Close | Outcome::Respond(_) => break None,
                Outcome::Forward { url, fallback } => match self.edge.backend.forward(settings.account, &url) {
                    Ok((_, live)) if live || !fallback => break Some(Some(url)),
                    Ok(_) | Err(_) if fallback => {
                        let answer = Some(Answer::Unreachable);
                        outcome = policy::go_on(&mut run, settings, &mut subject, None, answer).await;
                    }
                    Ok(_) | Err(_) => break None,
                },
            }
        };
        if let Some(record) = record {
            record.rules(&mut run, policy);
        }
        let carried = run.into_carried();
        let passed = forward.map(|forward| Passed { carried, forward });
        let mut admitted = self.admitted.lock();
        if admitted.len() >= MAX_ADMITTED {
            admitted.remove(0);
        }
        admitted.push(Admitted { settings: Arc::clone(settings), passed: passed.clone() });
        passed
    }

    async fn request(
        &self,
        stage: &mut Stage,
        parts: &mut request::Parts,
        exchange: Option<&Arc<Exchange>>,
        record: &mut Option<Box<Record>>,
    ) -> Result<Next<B::Key>, Failed> {
        let Stage { settings, policy, carried } = stage;
        if !policy.has(Phase::HttpRequest) {
            return Ok(Next::Serve);
        }
        let mut subject = Subject::new(self.facts(), settings.facts()).with_request(parts, policy::wall());
        let begin = (Phase::HttpRequest, core::mem::take(carried));
        let body = exchange.map(|exchange| &**exchange);
        let (mut outcome, mut run) = policy::run(policy, settings, begin, &mut subject, body).await;
        let next = loop {
            match outcome {
                Outcome::Continue => break Ok(Next::Serve),
                Outcome::Respond(answer) => break Ok(Next::Answer(answer)),
                Outcome::Refuse(refusal) => break Err(refused(refusal)),
                Outcome::Close => break Err(Failed::Closed),
                Outcome::Forward { url, fallback } => match self.edge.backend.forward(settings.account, &url) {
                    Ok((key, live)) if live || !fallback => break Ok(Next::Forward(key)),
                    Err(fault) if !fallback => break Err(fault.into()),
                    Ok(_) | Err(_) => {
                        let answer = Some(Answer::Unreachable);
                        outcome = policy::go_on(&mut run, settings, &mut subject, body, answer).await;
                    }
                },
            }
        };
        if let Some(record) = record {
            record.rules(&mut run, policy);
        }
        let wishes = run.take_transforms();
        if let Some(exchange) = exchange
            && !wishes.is_empty()
        {
            let pipeline = for_request(wishes, &mut parts.headers).map_err(|_| Fault::BodyUnsearched)?;
            let held = self.hold_replaced()?;
            exchange.change(Change::new(pipeline, vec![held], self.notes.clone()));
        }
        *carried = run.into_carried();
        next
    }

    /// Runs the rules for an answer, of the innermost policy first; they may change it, or answer in its place.
    pub(super) async fn govern_answer(
        &self,
        governance: &mut Governance,
        head: &mut response::Parts,
        record: &mut Option<Box<Record>>,
    ) -> Result<RuledAnswer, Failed> {
        let Governance { stages, request, .. } = governance;
        let Some(request) = request else { return Ok(RuledAnswer::default()) };
        let mut ruled = RuledAnswer::default();
        for Stage { settings, policy, carried } in stages.iter_mut().rev() {
            if !policy.has(Phase::HttpResponse) {
                continue;
            }
            let subject = Subject::new(self.facts(), settings.facts());
            let mut subject = subject.with_request(request, policy::wall()).with_response(head);
            let begin = (Phase::HttpResponse, core::mem::take(carried));
            let (outcome, mut run) = policy::run(policy, settings, begin, &mut subject, None).await;
            if let Some(record) = record {
                record.rules(&mut run, policy);
            }
            match outcome {
                Outcome::Continue => {}
                Outcome::Respond(answer) => {
                    let (other, text) = (*answer).into_parts();
                    *head = other;
                    ruled = RuledAnswer { text: Some(Bytes::from(text)), ..RuledAnswer::default() };
                }
                Outcome::Refuse(refusal) => return Err(refused(refusal)),
                Outcome::Close => return Err(Failed::Closed),
                Outcome::Forward { .. } => return Err(Fault::PolicyFailed.into()),
            }
            let wishes = run.take_transforms();
            if !wishes.is_empty() {
                self.wish(wishes, request, head, &mut ruled)?;
            }
        }
        Ok(ruled)
    }

    /// Does what rules wish for the body of an answer.
    fn wish(
        &self,
        mut wishes: Vec<Wish>,
        request: &request::Parts,
        head: &mut response::Parts,
        ruled: &mut RuledAnswer,
    ) -> Result<(), Fault> {
        let compresses = |wish: &Wish| matches!(wish, Wish::Compress(_));
        if wishes.iter().any(compresses) {
            match self.edge.bodies.compress(self.limits.compressed_bodies) {
                Some(held) => ruled.held.push(held),
                None => {
                    self.edge.backend.note(Note::Limit("compressed_bodies"));
                    wishes.retain(|wish| !compresses(wish));
                }
            }
        }
        let (method, headers) = (&request.method, &request.headers);
        let more = for_answer(wishes, method, head.status, headers, &mut head.headers);
        let more = more.map_err(|_| Fault::AnswerUnsearched)?;
        if more.replaces() {
            ruled.held.push(self.hold_replaced()?);
        }
        ruled.pipeline.append(more);
        Ok(())
    }

    fn hold_replaced(&self) -> Result<Held, Fault> {
        let held = self.edge.bodies.replace(self.limits.replaced_bodies);
        held.ok_or_else(|| {
            self.edge.backend.note(Note::Limit("replaced_bodies"));
            Fault::TooManyBodies
        })
    }

    /// Returns what rules know of the connection.
    fn facts(&self) -> &Facts {
        self.facts.get_or_init(|| policy::connection(&self.caller))
    }

    /// Notes what a refusal of rules says about their cost.
    pub(super) fn note_refusal(&self, refused: &Refused) {
        if refused.over_budget {
            self.edge.backend.note(Note::OverBudget);
        }
    }
}

/// What comes after the rules of one policy.
enum Next<K> {
    Serve,
    Forward(Arc<K>),
    Answer(Box<Response<Vec<u8>>>),
}

impl Governance {
    /// Tells rules that count them how the call went.
    pub(super) fn conclude(&mut self, status: Option<StatusCode>) {
        let now = tokio::time::Instant::now().into_std();
        self.stages.iter_mut().for_each(|stage| stage.carried.conclude(status, now));
    }

    /// Returns whether rules replace in the answer, which must come whole and of no coding for that.
    pub(super) fn replaces(&self) -> bool {
        self.stages.iter().any(|stage| stage.policy.replaces_in_answers())
    }

    fn keep(&mut self, parts: &request::Parts) {
        if self.stages.iter().any(|stage| stage.policy.has(Phase::HttpResponse)) {
            let (mut kept, ()) = http::Request::new(()).into_parts();
            kept.method = parts.method.clone();
            kept.uri = parts.uri.clone();
            kept.version = parts.version;
            kept.headers = parts.headers.clone();
            self.request = Some(kept);
        }
    }
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::Refused(Box::new(fault.into()))
    }
}

fn refused(refusal: Refusal) -> Failed {
    let fault = policy::fault(&refusal);
    let over_budget = policy::is_over_budget(&refusal);
    let status = StatusCode::from_u16(refusal.status).ok();
    Failed::Refused(Box::new(Refused { fault, status, headers: refusal.headers, over_budget }))
}

/// Gives the target its one form.
fn normalize(parts: &mut request::Parts) -> Result<(), Fault> {
    let ambiguous = |_: Ambiguous| Fault::PathAmbiguous;
    let path = policy::normal(parts.uri.path()).map_err(ambiguous)?;
    if path == parts.uri.path() && parts.uri.authority().is_none() {
        return Ok(());
    }
    let target = match parts.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    let target = PathAndQuery::try_from(target).map_err(|_| Fault::PathAmbiguous)?;
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(header::HOST, host);
    }
    parts.uri = Uri::from(target);
    Ok(())
}

/// Endpoints for which a connection remembers what `on_tcp_connect` said; with more, the oldest is asked again.
const MAX_ADMITTED: usize = 32;
