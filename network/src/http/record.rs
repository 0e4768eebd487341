//! What is noted about each request: one event of the log, and the numbers.

use core::fmt;
use std::sync::Arc;

use adit_policy::engine::{Policy, Run};
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::{Note, identity::RequestId};
use crate::{EndpointName, Fault, policy};

/// Where notes go.
#[derive(Clone)]
pub(super) struct Notes(pub(super) Arc<dyn Fn(Note) + Send + Sync>);

impl Notes {
    pub(super) fn note(&self, note: Note) {
        (self.0)(note);
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
    method: Method,
    endpoint: Option<EndpointName>,
    /// What came of each rule that had a part in it.
    verdicts: Vec<String>,
    pub(super) status: StatusCode,
    pub(super) fault: Option<Fault>,
    /// Octets of the answer's body that were handed to the caller's connection.
    pub(super) sent: u64,
}

impl Record {
    pub(super) fn begin(notes: Notes, id: RequestId, method: Method) -> Self {
        notes.note(Note::Began);
        let (started, status) = (Instant::now(), CALLER_GONE);
        let (endpoint, verdicts) = (None, Vec::new());
        Self { notes: Some(notes), id, started, method, endpoint, verdicts, status, fault: None, sent: 0 }
    }

    /// Takes what came of rules, and tells what they told.
    pub(super) fn rules(&mut self, run: &mut Run, policy: &Policy) {
        self.verdicts.extend(policy::verdicts(run, policy));
        for told in run.take_logs() {
            let endpoint = self.endpoint.as_deref().unwrap_or_default();
            tracing::info!(target: "adit_network::policy", request = %self.id, endpoint, metadata = %policy::json(told), "log");
        }
    }

    pub(super) fn found(&mut self, endpoint: &EndpointName) {
        self.endpoint = Some(endpoint.clone());
    }

    pub(super) fn note(&self, note: Note) {
        if let Some(notes) = &self.notes {
            notes.note(note);
        }
    }

    pub(super) fn finish(mut self, whole: bool) {
        self.end(whole);
    }

    fn end(&mut self, whole: bool) {
        let Some(notes) = self.notes.take() else { return };
        let status = self.status.as_u16();
        notes.note(Note::Ended { status, whole });
        // The path stays out: it is the customer's data, and queries carry secrets.
        tracing::info!(
            target: "adit_network::access",
            request = %self.id,
            endpoint = self.endpoint.as_deref().unwrap_or_default(),
            method = self.method.as_str(),
            status,
            code = self.fault.map(Fault::code),
            verdicts = policy::joined(&self.verdicts),
            sent = self.sent,
            whole,
            micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "request"
        );
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
