//! What the audit log is told of connections.

use core::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use std::{sync::Arc, time::Instant};

use adit_core::{Code, Open};

use crate::{
    audit::{Record, caller_of},
    policy::{Guard, Moved, Reason, Refusal, Target, Ticket},
    relay::Ending,
    termination::Caller,
    upstream::Failure,
};

/// A connection that was written down.
pub(super) struct Entry {
    /// The record of its beginning.
    number: Option<u64>,
    since: Instant,
    moved: Arc<Moved>,
    address: Option<IpAddr>,
    /// Who the caller is by its certificate, and the fingerprint.
    identity: Option<(String, String)>,
}

/// How a connection ended: a word, and what there is to say of it.
pub(super) struct End {
    word: &'static str,
    detail: Option<String>,
    denied: Option<Denied>,
}

/// A connection that was allowed by what was known when it came, and not by what showed then.
struct Denied {
    reason: &'static str,
    rule: Option<String>,
    told: Code,
    /// What would have been dialed.
    address: Option<IpAddr>,
}

impl Entry {
    /// Writes that a connection begins, where there is a log, and waits until that is so.
    pub(super) async fn begin(
        (guard, name, target): (&Guard, &str, &Target),
        open: Option<&Open>,
        ticket: &Ticket,
    ) -> Result<Option<Self>, Refusal> {
        if !guard.is_audited() {
            return Ok(None);
        }
        let (rule, _) = ticket.facts();
        let known = open.map(|open| open.endpoint.as_str()).filter(|url| !url.is_empty());
        let record = || {
            let record = Record::new("connection").text("decision", "allowed").text("endpoint", name);
            let record = record.text("url", known.unwrap_or(&target.endpoint));
            let record = record.text("target", &target.upstream.to_string()).text("protocol", target.protocol.word());
            let record = record.maybe("rule", rule.as_deref());
            // Nobody calls: somebody here has a request sent again.
            if open.is_none() { record.flag("replay", true) } else { caller_of(record, open) }
        };
        let number = guard.begin(record).await?;
        let (since, moved) = (Instant::now(), ticket.moved());
        Ok(Some(Self { number, since, moved, address: None, identity: None }))
    }

    /// The upstream was reached.
    pub(super) fn reached(&mut self, ticket: &Ticket, caller: Option<&Caller>) {
        (_, self.address) = ticket.facts();
        let identity = caller.and_then(|caller| caller.identity.as_ref()).filter(|identity| identity.verified);
        self.identity = identity.map(|identity| (identity.common_name.clone(), identity.sha256.clone()));
    }

    /// Writes that it has ended.
    pub(super) async fn end(self, guard: &Guard, name: &str, end: End) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (up, down) = self.moved.both();
        let record = || {
            let mut record = Record::new("end").text("endpoint", name);
            if let Some(number) = self.number {
                record = record.number("begin", number);
            }
            let denied = end.denied.as_ref();
            let address = denied.and_then(|denied| denied.address).or(self.address).map(|address| address.to_string());
            record = record.maybe("address", address.as_deref()).number("up", up).number("down", down);
            record = record.number("millis", millis).text("ending", end.word).maybe("detail", end.detail.as_deref());
            if let Some(denied) = denied {
                record = record.text("decision", "refused").text("reason", denied.reason);
                record = record.maybe("rule", denied.rule.as_deref()).text("told", &denied.told.to_string());
            }
            let identity = self.identity.as_ref();
            record = record.maybe("identity", identity.map(|(name, _)| name.as_str()));
            record.maybe("identity_sha256", identity.map(|(_, print)| print.as_str()))
        };
        guard.end(record).await;
    }
}

impl End {
    /// Both directions ended in order.
    pub(super) const fn complete() -> Self {
        Self { word: "complete", detail: None, denied: None }
    }

    /// It was never carried.
    pub(super) const fn before(detail: String) -> Self {
        Self { word: "not carried", detail: Some(detail), denied: None }
    }

    /// It was never carried, because the policy does not allow it any more, or not there.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        let (reason, told) = (refusal.reason.word(), refusal.reason.code());
        let denied = Denied { reason, rule: refusal.rule.clone(), told, address: None };
        Self { denied: Some(denied), ..Self::before(refusal.to_string()) }
    }
}

impl From<&Failure> for End {
    /// The upstream was not reached.
    fn from(failure: &Failure) -> Self {
        let Failure { code, error, refusal, address } = failure;
        let end = Self::before(error.to_string());
        let denied = match (refusal, address) {
            (Some(refusal), _) => {
                let (reason, told) = (refusal.reason.word(), refusal.reason.code());
                Some(Denied { reason, rule: refusal.rule.clone(), told, address: *address })
            }
            (None, Some(_)) => Some(Denied { reason: "forbidden", rule: None, told: *code, address: *address }),
            (None, None) => None,
        };
        Self { denied, ..end }
    }
}

impl From<&Ending> for End {
    fn from(ending: &Ending) -> Self {
        let (word, detail) = match ending {
            Ending::Complete => ("complete", None),
            Ending::Caller(code) => ("caller gone", Some(code.to_string())),
            Ending::Truncated => ("caller gone", Some("in the middle of its TLS".to_owned())),
            Ending::Upstream => ("upstream reset", None),
            Ending::Refused(why) => ("request refused", Some(why.to_string())),
            Ending::Cut => ("cut", Some("whom to believe has changed".to_owned())),
            Ending::Revoked(refusal) => ("revoked", Some(format!("{}: {refusal}", refusal.reason.word()))),
        };
        Self { word, detail, denied: None }
    }
}

/// Connections that were refused for one reason: each second has one record, however many there are.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Those that no record has counted yet.
    waiting: AtomicU64,
}

impl Tally {
    /// Counts one, and writes it: at once, or with the others of its second.
    pub(super) fn refused(self: &Arc<Self>, guard: &Arc<Guard>, refused: &Refused<'_>) {
        if !guard.is_audited() || self.waiting.fetch_add(1, Ordering::Relaxed) > 0 {
            return; // who was first writes them all
        }
        guard.note(|| refused.record(1));
        let (tally, guard, last) = (Arc::clone(self), Arc::clone(guard), refused.record(0));
        tokio::spawn(async move {
            tokio::time::sleep(SECOND).await;
            let others = tally.waiting.swap(0, Ordering::Relaxed).saturating_sub(1);
            if others > 0 {
                guard.note(|| last.number("more", others));
            }
        });
    }
}

/// A connection that was refused.
pub(super) struct Refused<'a> {
    pub(super) name: &'a str,
    pub(super) target: &'a Target,
    pub(super) caller: Option<SocketAddr>,
    pub(super) refusal: &'a Refusal,
}

impl Refused<'_> {
    fn record(&self, count: u64) -> Record {
        let record = Record::new("refused").text("decision", "refused").text("endpoint", self.name);
        let record = record.text("url", &self.target.endpoint).text("target", &self.target.upstream.to_string());
        let record = record.text("reason", self.refusal.reason.word()).maybe("rule", self.refusal.rule.as_deref());
        let record =
            record.text("detail", &self.refusal.to_string()).text("told", &self.refusal.reason.code().to_string());
        if count == 0 {
            return record; // of several callers
        }
        let caller = self.caller.map(|caller| caller.to_string());
        record.maybe("caller", caller.as_deref())
    }
}

/// So many kinds of refusals are told apart.
pub(super) const REASONS: usize = Reason::ALL.len();
const SECOND: Duration = Duration::from_secs(1);
