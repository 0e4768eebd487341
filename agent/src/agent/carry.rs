//! From a stream of the network to an upstream: admitted, dialed, relayed.

use core::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use std::sync::Arc;

use adit_core::{Code, Open};
use adit_tokio::{Endpoint, Stream};
use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};
use tokio_rustls::server::TlsStream;

use super::account::{End, Entry, REASONS, Refused, Tally};
use crate::{
    capture::{Sight, Store, Tee},
    errors::{Error, Fault},
    policy::{Guard, Reason, Refusal, Target, Ticket, Tie},
    relay::{Cut, Ending, Front, Onlooker, relay},
    status::{Counted, Status},
    termination::{Accepted, Caller, Termination},
    upstream::{Failure, Socket, Upstream, header},
    vouch::{Refusal as BadRequest, Voucher},
};

/// One endpoint, as its connections see it.
pub(super) struct Service {
    pub(super) name: String,
    pub(super) guard: Arc<Guard>,
    /// What it is to the policy, as it was asked for.
    pub(super) target: Arc<Target>,
    /// By which its connections are cut.
    pub(super) tie: Arc<Tie>,
    pub(super) upstream: Upstream,
    /// Dials under way: an upstream that does not answer keeps nobody from another.
    pub(super) dials: Semaphore,
    /// Where TLS of callers ends here.
    pub(super) termination: Option<Arc<Termination>>,
    pub(super) limits: Arc<Limits>,
    pub(super) status: Arc<Status>,
    /// Where requests are kept, and whether any can be seen.
    pub(super) capture: (Option<Arc<Store>>, Sight),
    /// When a failure was logged last, in milliseconds since `start`, plus one.
    pub(super) told: AtomicU64,
    /// The same of refusals by the policy, each reason for itself: no flood of one hides another.
    pub(super) refusals: [AtomicU64; Reason::ALL.len()],
    /// What of them the audit log was not told yet.
    pub(super) tallies: [Arc<Tally>; REASONS],
    pub(super) start: std::time::Instant,
}

/// What callers may make grow, of all endpoints together.
pub(super) struct Limits {
    pub(super) connections: Arc<Semaphore>,
    /// Handshakes with callers under way.
    pub(super) handshakes: Semaphore,
}

/// Takes connections until the uplink is over or the endpoint is given up.
pub(super) async fn serve(mut endpoint: Endpoint, service: Arc<Service>, mut stopped: oneshot::Receiver<()>) {
    loop {
        let stream = tokio::select! {
            biased;
            _ = &mut stopped => return,
            stream = endpoint.accept() => stream,
        };
        let Some(stream) = stream else { return };
        let Ok(permit) = Arc::clone(&service.limits.connections).try_acquire_owned() else {
            service.tell(&service.told, || {
                tracing::warn!(name = service.name, "too many connections: one is refused");
            });
            stream.abort(Code::LIMIT);
            continue;
        };
        let ticket = match service.guard.admit_tied(service.target(endpoint.url()), &service.tie) {
            Ok(ticket) => ticket,
            Err(refusal) => {
                service.refused(&refusal, stream.open().and_then(|open| open.caller));
                stream.abort(refusal.reason.code());
                continue;
            }
        };
        let caller = stream.open().and_then(|open| open.caller);
        let counted = service.status.connection(&service.name, caller, service.target.upstream.to_string());
        tokio::spawn(carry(stream, Arc::clone(&service), ticket, (permit, counted)));
    }
}

async fn carry(
    stream: Stream,
    service: Arc<Service>,
    ticket: Ticket,
    (permit, counted): (OwnedSemaphorePermit, Counted),
) {
    let vigil = service.termination.as_ref().and_then(Termination::vigil);
    // In boxes of their own, which are gone before the long part begins. Nothing is reached before it is written down.
    let about = (&*service.guard, service.name.as_str(), &*service.target);
    let begun = Box::pin(Entry::begin(about, stream.open(), &ticket)).await;
    let mut entry = match begun {
        Ok(entry) => entry,
        Err(refusal) => {
            service.refused(&refusal, stream.open().and_then(|open| open.caller));
            return stream.abort(refusal.reason.code());
        }
    };
    let (front, socket, caller) = match Box::pin(service.set_up(stream, &ticket)).await {
        Ok(ready) => ready,
        Err(end) => return service.ended(entry, end).await,
    };
    if let Some(entry) = &mut entry {
        entry.reached(&ticket, caller.as_ref());
    }
    let first = service.first(front.open(), caller.as_ref());
    let (chain, fields) = caller.map_or((None, None), |caller| (caller.chain, caller.fields));
    let voucher = fields.map(|fields| Voucher::new(fields.iter().map(|(name, value)| (*name, value.as_str()))));
    let (address, number) = (front.open().and_then(|open| open.caller), front.number());
    tracing::debug!(name = service.name, stream = number, caller = ?address, "connection carried");
    let cut = vigil.map(|vigil| -> Cut { Box::pin(vigil.end(chain)) });
    let onlooker = Onlooker { carried: Arc::clone(&counted.carried), tee: service.tee(address) };
    let ending = relay((front, voucher), socket, first, (cut, ticket), onlooker).await;
    let end = End::from(&ending);
    match ending {
        Ending::Complete => tracing::debug!(name = service.name, stream = number, "connection ended"),
        Ending::Caller(code) => tracing::debug!(name = service.name, stream = number, %code, "caller gone"),
        Ending::Truncated => {
            tracing::debug!(name = service.name, stream = number, "caller gone in the middle of its TLS")
        }
        Ending::Upstream => tracing::debug!(name = service.name, stream = number, "upstream reset the connection"),
        Ending::Cut => {
            tracing::debug!(name = service.name, stream = number, "whom to believe has changed: connection cut")
        }
        Ending::Revoked(refusal) => service.told_refused(&refusal, address),
        Ending::Refused(why) => service.request_refused(why, address),
    }
    service.ended(entry, end).await;
    drop((permit, counted));
}

impl Service {
    /// Reaches the upstream, and shakes hands with the caller where its TLS ends here.
    ///
    /// # Errors
    /// What becomes of the connection when one of them failed, which was told.
    async fn set_up(&self, stream: Stream, ticket: &Ticket) -> Result<(Front, Socket, Option<Caller>), End> {
        let Some(termination) = &self.termination else {
            let socket = self.dial(&stream, ticket).await?;
            stream.accept();
            return Ok((Front::Plain(stream), socket, None));
        };
        // Who has not shown yet who it is reaches nothing. Elsewhere the network may still try another agent.
        let early = if termination.comes_first() { None } else { Some(self.dial(&stream, ticket).await?) };
        stream.accept();
        let (tls, caller) = tokio::select! {
            biased;
            refusal = ticket.revoked() => {
                self.told_refused(&refusal, None);
                return Err(End::refused(&refusal));
            }
            done = self.shake(termination, stream) => done?,
        };
        let socket = match early {
            Some(socket) => socket,
            None => self.dial(tls.get_ref().0, ticket).await?,
        };
        Ok((Front::Tls(Box::new(tls)), socket, Some(caller)))
    }

    async fn dial(&self, stream: &Stream, ticket: &Ticket) -> Result<Socket, End> {
        let dialed = tokio::select! {
            biased;
            refusal = ticket.revoked() => Err(refusal.into()),
            dialed = self.upstream.connect(&self.dials, ticket) => dialed,
        };
        match dialed {
            Ok(socket) => Ok(socket), // spec: ADDR-003, whatever OPEN names
            Err(failure) => {
                self.failed(&failure, stream.open().and_then(|open| open.caller));
                stream.abort(failure.code);
                Err(End::from(&failure))
            }
        }
    }

    async fn shake(&self, termination: &Termination, stream: Stream) -> Result<(TlsStream<Stream>, Caller), End> {
        let deadline = Instant::now() + HANDSHAKE;
        let address = stream.open().and_then(|open| open.caller);
        let turn = timeout_at(deadline, self.limits.handshakes.acquire()).await;
        if turn.is_err() {
            self.tell(&self.told, || tracing::warn!(name = self.name, "too many handshakes: one is refused"));
            stream.abort(Code::LIMIT);
            return Err(End::before("too many handshakes".to_owned()));
        }
        match termination.accept(stream, deadline).await {
            Ok(Accepted::Caller(caller)) => Ok(*caller),
            Ok(Accepted::Authority) => {
                tracing::info!(name = self.name, caller = ?address, "a challenge of the authority was answered");
                Err(End::before("the certificate authority's question was answered".to_owned()))
            }
            Err(error) => {
                tracing::debug!(name = self.name, caller = ?address, %error, "not carried");
                self.tell(&self.told, || {
                    let remedy = error.fault.entry().remedy;
                    tracing::warn!(name = self.name, %error, remedy, "handshake with a caller failed");
                });
                Err(End::before(error.to_string()))
            }
        }
    }

    /// Returns what goes to the upstream before all else.
    fn first(&self, open: Option<&Open>, caller: Option<&Caller>) -> Bytes {
        let Some(version) = self.upstream.config().proxy_protocol else { return Bytes::new() };
        let unknown = Open::default();
        header(version, open.unwrap_or(&unknown), caller)
    }

    /// Begins to read along, where there is something to see, it is asked for and the policy allows it.
    fn tee(&self, caller: Option<SocketAddr>) -> Option<Tee> {
        let (store, sight) = &self.capture;
        store.as_ref().filter(|_| sight.blind().is_none())?.tee(
            (&self.name, &self.target.upstream.to_string()),
            caller,
            None,
        )
    }

    /// Returns what a connection is to the policy: the endpoint is the one that the network says it has bound.
    pub(super) fn target(&self, bound: Option<String>) -> Arc<Target> {
        match bound {
            Some(url) if url != self.target.endpoint => Arc::new(Target { endpoint: url, ..(*self.target).clone() }),
            Some(_) | None => Arc::clone(&self.target),
        }
    }

    /// The policy refuses a connection of which nothing is written down yet.
    pub(super) fn refused(&self, refusal: &Refusal, caller: Option<SocketAddr>) {
        let at = Reason::ALL.iter().position(|known| *known == refusal.reason);
        if let Some(tally) = at.and_then(|at| self.tallies.get(at)) {
            tally.refused(&self.guard, &Refused { name: &self.name, target: &self.target, caller, refusal });
        }
        self.told_refused(refusal, caller);
    }

    pub(super) async fn ended(&self, entry: Option<Entry>, end: End) {
        if let Some(entry) = entry {
            Box::pin(entry.end(&self.guard, &self.name, end)).await;
        }
    }

    /// Tells that the policy refuses a connection, or allows it no longer.
    pub(super) fn told_refused(&self, refusal: &Refusal, caller: Option<SocketAddr>) {
        let error = if refusal.reason == Reason::Audit { Fault::AuditUnwritable } else { Fault::PolicyRefused };
        let (reason, rule) = (refusal.reason.word(), refusal.rule.as_deref());
        let told = refusal.reason.code();
        tracing::debug!(name = self.name, ?caller, %refusal, reason, %told, "refused by the policy");
        let at = Reason::ALL.iter().position(|known| *known == refusal.reason);
        let Some(last) = at.and_then(|at| self.refusals.get(at)) else { return };
        self.tell(last, || {
            let (remedy, detail) = (error.entry().remedy, refusal.to_string());
            let name = &self.name;
            tracing::warn!(name, %error, rule, reason, detail, %told, remedy, "connection refused by the policy");
        });
    }

    pub(super) fn failed(&self, failure: &Failure, caller: Option<SocketAddr>) {
        if let Some(refusal) = &failure.refusal {
            return self.told_refused(refusal, caller);
        }
        let error = &failure.error;
        tracing::debug!(name = self.name, ?caller, %error, "not carried");
        self.tell(&self.told, || {
            let remedy = error.fault.entry().remedy;
            tracing::warn!(name = self.name, %error, remedy, "upstream failed");
        });
    }

    /// A request of a caller was not carried.
    fn request_refused(&self, why: BadRequest, caller: Option<SocketAddr>) {
        let error = Error::new(Fault::CallerRequest, why.to_string());
        tracing::debug!(name = self.name, ?caller, %error, "request refused");
        self.tell(&self.told, || {
            let remedy = error.fault.entry().remedy;
            tracing::warn!(name = self.name, %error, remedy, "a request of a caller was refused");
        });
    }

    /// Logs at most once a second: callers decide how often this happens.
    fn tell(&self, told: &AtomicU64, tell: impl FnOnce()) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let last = told.load(Ordering::Relaxed);
        let due = last == 0 || last.saturating_add(1_000) <= now;
        if due && told.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tell();
        }
    }
}

/// How long a caller may take for a handshake that ends here, its wait for a turn included.
const HANDSHAKE: Duration = Duration::from_secs(10);
