//! The network's own edge behind the proxy: agents and their sessions.

use core::{
    task::{Context, Poll},
    time::Duration,
};
use std::{io, sync::Arc};

use adit_core::{AgentId, Code, Open, OpenError, UpstreamProtocol};
use adit_tokio::{NetworkSession, Stream, code_of};
use bytes::Bytes;

use super::{Backend, Member, Note, Upstream};
use crate::{
    Caller, Edge, EndpointName, Fault,
    admission::Source,
    crl::PKIX_CRL,
    endpoints::Settings,
    metrics::{CodeLabel, ReasonLabel},
    router::{Chosen, Key, MemberId, Outcome, Pending, Scheme},
    seeing::{Numbers, Seeing},
};

impl Backend for Edge {
    type Key = Key;
    type Member = Chosen<NetworkSession>;

    fn find(&self, scheme: Scheme, name: &EndpointName) -> Result<Arc<Key>, Fault> {
        self.find_name(scheme, name)
    }

    fn is_under_terms(&self, caller: &Caller, name: &EndpointName) -> bool {
        self.is_under_terms(caller, name)
    }

    async fn choose(&self, key: &Key, tried: &[MemberId]) -> Result<Self::Member, Fault> {
        self.choose(key, tried).await
    }

    fn settings(&self, key: &Key) -> Option<Arc<Settings>> {
        self.settings(key)
    }

    fn forward(&self, account: i64, url: &str) -> Result<(Arc<Key>, bool), Fault> {
        self.forward(account, url, true)
    }

    fn url(&self, key: &Key) -> String {
        key.to_string()
    }

    fn report(&self, key: &Key, member: &Self::Member, outcome: Outcome) {
        self.report(key, &member.watch, outcome);
    }

    fn may_retry(&self, member: &Self::Member, code: Code) -> bool {
        self.may_retry(&member.watch, code)
    }

    fn document(&self, name: &EndpointName, path: &str) -> Option<(Bytes, &'static str)> {
        let answer = self.certificates.challenge_http(name, path);
        let answer = answer.map(|text| (Bytes::from(text), "application/octet-stream"));
        answer.or_else(|| Some((self.certificates.published(name, path)?, PKIX_CRL)))
    }

    fn source(&self, caller: &Caller) -> Arc<Source> {
        self.admission.source(caller.address.ip())
    }

    fn seeing(&self) -> Option<Arc<Seeing>> {
        Some(self.seeing.load_full())
    }

    fn numbers(&self, key: &Key) -> Option<Numbers> {
        Some(self.numbers(key))
    }

    fn note(&self, note: Note) {
        match note {
            Note::Refused(fault) => {
                self.metrics.refused.get_or_create(&CodeLabel { code: fault.code() }).inc();
            }
            Note::Retried => {
                self.metrics.retries.inc();
            }
            Note::Opened => {
                self.metrics.streams.inc();
            }
            Note::ResetFlood => self.metrics.limit("resets_per_connection"),
            Note::BodyBroken(broken) => {
                self.metrics.bodies_broken.get_or_create(&ReasonLabel { reason: broken.name() }).inc();
            }
            Note::Limit(limit) => self.metrics.limit(limit),
            Note::OverBudget => self.metrics.limit("policy_budget"),
            Note::Began | Note::Ended { .. } => {}
        }
    }
}

impl Member for Chosen<NetworkSession> {
    type Id = MemberId;
    type Io = Stream;

    fn id(&self) -> MemberId {
        self.member
    }

    fn agent(&self) -> Option<AgentId> {
        Some(self.agent)
    }

    fn protocol(&self) -> UpstreamProtocol {
        self.upstream
    }

    fn pending(&self) -> Pending {
        self.watch.pending()
    }

    fn away(&self) -> Duration {
        self.handle.waited()
    }

    fn open(&self, caller: &Caller, endpoint: &str) -> Result<Stream, Code> {
        let open = Open { bind: Some(self.bind), ..caller.open(endpoint.to_owned()) };
        // A session that drains or is over takes its binds along in a moment.
        let why = |error| if error == OpenError::Limit { Code::STREAM_LIMIT } else { Code::SHUTDOWN };
        self.handle.open(open).map_err(why)
    }
}

impl Upstream for Stream {
    fn poll_accepted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Code>> {
        (**self).poll_accepted(cx)
    }

    fn abort(&mut self, code: Code) {
        (**self).abort(code);
    }

    fn code_of(error: &io::Error) -> Option<Code> {
        code_of(error)
    }
}
