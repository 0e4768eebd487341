//! What is noted about each request: its line in the access log, its span, and the numbers.

use core::{fmt, time::Duration};
use std::{sync::Arc, time::SystemTime};

use adit_core::AgentId;
use adit_policy::engine::{Policy, Run};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header, request::Parts};
use tokio::time::Instant;

use super::{Note, identity::RequestId};
use crate::{
    Caller, EndpointName, Fault, policy,
    seeing::{Entry, Numbers, Open, Request, Seeing, Trace},
};

/// Where notes go.
#[derive(Clone)]
pub(super) struct Notes {
    pub(super) take: Arc<dyn Fn(Note) + Send + Sync>,
    pub(super) seeing: Option<Arc<Seeing>>,
}

impl Notes {
    pub(super) fn note(&self, note: Note) {
        (self.take)(note);
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notes")
    }
}

/// One request, from its head to the end of its answer. Dropped early it counts as broken off.
#[derive(Debug)]
pub(super) struct Record {
    notes: Option<Notes>,
    id: RequestId,
    started: Instant,
    caller: Arc<Caller>,
    method: Method,
    uri: Uri,
    version: Version,
    user_agent: Option<HeaderValue>,
    host: Option<EndpointName>,
    endpoint: Option<String>,
    numbers: Option<(Numbers, Open)>,
    agent: Option<AgentId>,
    trace: Option<Trace>,
    first: Option<Duration>,
    upstream: Option<Duration>,
    /// What came of each rule that had a part in it.
    verdicts: Vec<String>,
    pub(super) retries: u32,
    pub(super) status: StatusCode,
    fault: Option<Fault>,
    /// Octets of the request's body that came, or from the caller when HTTP was left.
    pub(super) received: u64,
    /// Octets of the answer's body that were handed to the caller's connection.
    pub(super) sent: u64,
}

impl Record {
    pub(super) fn begin(notes: &Notes, id: RequestId, caller: &Arc<Caller>, parts: &Parts) -> Self {
        notes.note(Note::Began);
        Self {
            notes: Some(notes.clone()),
            id,
            started: Instant::now(),
            caller: Arc::clone(caller),
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            user_agent: parts.headers.get(header::USER_AGENT).cloned(),
            host: None,
            endpoint: None,
            numbers: None,
            agent: None,
            trace: None,
            first: None,
            upstream: None,
            verdicts: Vec::new(),
            retries: 0,
            status: CALLER_GONE,
            fault: None,
            received: 0,
            sent: 0,
        }
    }

    /// Takes which endpoint the request is for.
    pub(super) fn found(&mut self, host: &EndpointName, endpoint: String, numbers: Option<Numbers>) {
        self.host = Some(host.clone());
        self.endpoint = Some(endpoint);
        self.numbers = numbers.map(|numbers| {
            let open = numbers.open();
            (numbers, open)
        });
    }

    /// Takes part in the trace that the request belongs to.
    pub(super) fn join(&mut self, fields: &mut HeaderMap) {
        let seeing = self.notes.as_ref().and_then(|notes| notes.seeing.as_ref());
        self.trace = seeing.and_then(|seeing| seeing.trace(fields));
    }

    /// Takes what came of rules, and tells what they told.
    pub(super) fn rules(&mut self, run: &mut Run, policy: &Policy) {
        self.verdicts.extend(policy::verdicts(run, policy));
        if let Some((numbers, _)) = &self.numbers {
            run.trace().actions(policy).for_each(|action| numbers.verdict(action));
        }
        for told in run.take_logs() {
            let endpoint = self.host.as_deref().unwrap_or_default();
            tracing::info!(target: "adit_network::policy", request = %self.id, endpoint, metadata = %policy::json(told), "log");
        }
    }

    /// Takes who answered, who was asked at `asked`.
    pub(super) fn served(&mut self, asked: Instant, agent: Option<AgentId>) {
        self.upstream = Some(asked.elapsed());
        self.agent = agent;
    }

    /// Takes the status of the answer, whose head goes out.
    pub(super) fn begins(&mut self, status: StatusCode) {
        self.first = Some(self.started.elapsed());
        self.status = status;
    }

    /// Takes why it is refused.
    pub(super) fn refuse(&mut self, fault: Fault) {
        self.fault = Some(fault);
        if let Some(notes) = &self.notes {
            notes.note(Note::Refused(fault));
        }
        if let Some((numbers, _)) = &self.numbers {
            numbers.refuse(fault);
        }
    }

    pub(super) fn finish(mut self, whole: bool) {
        self.end(whole);
    }

    fn end(&mut self, whole: bool) {
        let Some(notes) = self.notes.take() else { return };
        let (status, total) = (self.status.as_u16(), self.started.elapsed());
        notes.note(Note::Ended { status, whole });
        let numbers = self.numbers.take().map(|(numbers, _)| numbers);
        if let Some(numbers) = &numbers {
            numbers.request(status, total);
            numbers.octets(self.received, self.sent);
            numbers.retry(self.retries.into());
        }
        let Some(seeing) = notes.seeing else { return };
        seeing.finish(Entry {
            ended: SystemTime::now(),
            total,
            caller: Arc::clone(&self.caller),
            account: numbers.map(|numbers| Arc::clone(numbers.account())),
            endpoint: self.endpoint.take(),
            agent: self.agent,
            fault: self.fault,
            received: self.received,
            sent: self.sent,
            retries: self.retries,
            verdicts: core::mem::take(&mut self.verdicts),
            whole,
            request: Some(Request {
                id: self.id.to_string(),
                host: self.host.take().map(|host| host.to_string()),
                method: self.method.clone(),
                uri: self.uri.clone(),
                version: self.version,
                user_agent: self.user_agent.take(),
                status,
                first: self.first,
                upstream: self.upstream,
                trace: self.trace,
            }),
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// What is noted when the caller went away before an answer (the number that nginx made known).
const CALLER_GONE: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};
