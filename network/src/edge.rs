//! What the public side knows: endpoints, limits, certificates, numbers, and how a connection gets to an agent.

use core::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use std::sync::Arc;

use adit_core::{AgentId, BindId, Code, Open, OpenError, TlsInfo, UpstreamProtocol};
use adit_policy::environment::Connection;
use adit_tokio::{NetworkSession, Stream};
use arc_swap::ArcSwap;
use parking_lot::RwLock;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};
use tracing::{info, warn};

use crate::{
    EndpointName, Fault,
    admission::Admission,
    certificates::Certificates,
    config::{Limits, ProxyProtocol},
    departures::Departures,
    endpoints::{Endpoints, Settings},
    metrics::Metrics,
    policy::{World, wall},
    pressure::{Pressure, Step},
    router::{
        Change, Chosen, Found, Full, Internal, Key, Lease, MemberId, Outcome, Pending, Router, Rules, Scheme, Watch,
    },
    seeing::{Numbers, Seeing},
    tls::{Identity, Ledger, Offer, Terms, TermsTable},
    withheld::Withholdings,
};

/// Shared by everything that serves callers.
#[derive(Debug)]
pub struct Edge {
    /// Who serves what.
    pub router: RwLock<Router<NetworkSession>>,
    /// Why endpoints are away. Changed under the lock of the table.
    pub departures: Departures,
    /// What agents do not ask for, and why.
    pub withheld: Withholdings,
    /// What may grow how far; a reload replaces it.
    pub limits: ArcSwap<Limits>,
    /// Which proxies in front of the network say who calls; a reload replaces it.
    pub proxies: ArcSwap<ProxyProtocol>,
    /// The endpoints whose TLS ends under terms of their own; a reload replaces it.
    pub terms: ArcSwap<TermsTable>,
    /// What is known of revocation lists.
    pub revocation: Arc<Ledger>,
    /// Which name has which certificate.
    pub certificates: Arc<Certificates>,
    /// What the configuration says of endpoints; a reload replaces it.
    pub endpoints: ArcSwap<Endpoints>,
    /// What rules ask.
    pub world: Arc<World>,
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// Where it goes that is told of requests and connections.
    pub seeing: ArcSwap<Seeing>,
    /// Who may come in.
    pub admission: Arc<Admission>,
    /// What is refused for want of memory.
    pub pressure: Pressure,
    phase: watch::Sender<Phase>,
    /// Rung when an endpoint was bound or an agent is back, for connections that are held.
    arrivals: Notify,
    held: AtomicUsize,
}

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything is served.
    Serving,
    /// What is open may finish; answers carry `Connection: close`, HTTP/2 gets GOAWAY.
    Draining,
    /// What is open ends now.
    Ending,
}

/// One connection of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The caller's address; an IPv4 address is one, never mapped (V67).
    pub address: SocketAddr,
    /// The address that the caller dialed.
    pub local: SocketAddr,
    /// How the caller came: HTTP or HTTPS.
    pub scheme: Scheme,
    /// What TLS said, if the network terminated it.
    pub tls: Option<TlsInfo>,
    /// The name that TLS asked for.
    pub name: Option<EndpointName>,
    /// The terms under which TLS ended, where the endpoint has its own.
    pub terms: Option<Arc<Terms>>,
    /// Who the caller is by its certificate.
    pub identity: Option<Arc<Identity>>,
}

impl Caller {
    /// A caller of whom only the addresses are known.
    pub const fn plain(address: SocketAddr, local: SocketAddr, scheme: Scheme) -> Self {
        Self { address, local, scheme, tls: None, name: None, terms: None, identity: None }
    }
}

/// A stream to an agent. Dropping it frees its place.
#[derive(Debug)]
pub struct Carried {
    /// The stream; bytes may be written before it is accepted.
    pub stream: Stream,
    /// Who got it.
    pub member: MemberId,
    /// Whose session it is.
    pub agent: AgentId,
    /// The session that carries the stream.
    pub session: NetworkSession,
    /// What the upstream speaks.
    pub upstream: UpstreamProtocol,
    /// Keeps it counted.
    pub lease: Lease,
    /// Is told how it goes.
    pub watch: Watch,
    /// Keeps it counted among those that no upstream has taken yet.
    pub pending: Pending,
}

impl Edge {
    /// Returns an edge that serves nothing yet.
    pub fn new(limits: Limits, certificates: Arc<Certificates>) -> Self {
        let metrics = Arc::new(Metrics::new());
        Self {
            router: RwLock::default(),
            departures: Departures::default(),
            withheld: Withholdings::new(metrics.withheld.clone()),
            limits: ArcSwap::from_pointee(limits),
            proxies: ArcSwap::default(),
            terms: ArcSwap::default(),
            revocation: Arc::default(),
            certificates,
            endpoints: ArcSwap::default(),
            world: Arc::default(),
            metrics,
            seeing: ArcSwap::default(),
            admission: Arc::default(),
            pressure: Pressure::default(),
            phase: watch::Sender::new(Phase::Serving),
            arrivals: Notify::new(),
            held: AtomicUsize::new(0),
        }
    }

    /// Finds the endpoint of a name.
    ///
    /// # Errors
    /// [`Fault::EndpointUnknown`]. An endpoint that nobody serves at the moment is found: opening says [`Fault::NoAgent`].
    pub fn find_name(&self, scheme: Scheme, name: &EndpointName) -> Result<Arc<Key>, Fault> {
        found(self.router.read().find_name(scheme, name))
    }

    /// Finds the endpoints of a name that have TLS: the one whose TLS passes through, and the one whose TLS ends here.
    pub fn find_tls(&self, name: &EndpointName) -> [Found; 2] {
        let router = self.router.read();
        [Scheme::Tls, Scheme::Https].map(|scheme| router.find_name(scheme, name))
    }

    /// Returns whether what TLS has agreed on with the caller holds for this name: the terms in force for it are those, and a
    /// certificate that was good is not revoked since.
    pub fn is_under_terms(&self, caller: &Caller, name: &EndpointName) -> bool {
        let connection = || Connection::new(caller.address, caller.local, wall(), None);
        match (self.terms.load().find(name).settle(connection), &caller.terms) {
            (Offer::Default, None) => true,
            (Offer::Own(terms), Some(agreed)) => {
                Arc::ptr_eq(&terms, agreed) && terms.stands(caller.identity.as_deref())
            }
            (Offer::Default, Some(_)) | (Offer::Own(_), None) | (Offer::Stopped | Offer::Choice(_), _) => false,
        }
    }

    /// Finds the endpoint of a TCP port.
    ///
    /// # Errors
    /// [`Fault::EndpointUnknown`].
    pub fn find_port(&self, port: u16) -> Result<Arc<Key>, Fault> {
        found(self.router.read().find_port(port))
    }

    /// Returns what the configuration says of an endpoint.
    pub fn settings(&self, key: &Key) -> Option<Arc<Settings>> {
        self.endpoints.load().find(key).cloned()
    }

    /// Finds what a rule of the account forwards to, and whether it is served at this moment. `http` tells what is carried.
    ///
    /// # Errors
    /// [`Fault::ForwardUnknown`] when there is no such endpoint, or one that carries something else.
    pub fn forward(&self, account: i64, url: &str, http: bool) -> Result<(Arc<Key>, bool), Fault> {
        let internal = Internal::parse(url).ok_or(Fault::ForwardUnknown)?;
        if internal.is_http() != http {
            return Err(Fault::ForwardUnknown);
        }
        match self.router.read().find_internal(account, &internal) {
            Found::Live(key) => Ok((key, true)),
            Found::Idle(key) => Ok((key, false)),
            Found::Unknown => Err(Fault::ForwardUnknown),
        }
    }

    /// Returns the numbers of an endpoint.
    pub fn numbers(&self, key: &Key) -> Numbers {
        self.metrics.traffic.of(key, || self.router.read().owner(key))
    }

    /// Returns true when somebody serves the TCP port at this moment.
    pub fn serves_port(&self, port: u16) -> bool {
        matches!(self.router.read().find_port(port), Found::Live(_))
    }

    /// Opens a stream to the agent with least to do that serves `key` and is not in `tried`, and adds it there.
    ///
    /// Returns as soon as the stream is open on this side. Before anything of the caller was taken by an upstream,
    /// `Stream::accepted` may say that it was not handed over; then the next call tries the next agent.
    ///
    /// # Errors
    /// [`Fault::NoAgent`], [`Fault::TooManyConnections`], [`Fault::MembersBusy`] or [`Fault::Overloaded`].
    pub async fn open(&self, key: &Key, open: &Open, tried: &mut Vec<MemberId>) -> Result<Carried, Fault> {
        let most = self.admits(key)?;
        match self.try_open(key, open, tried, most) {
            Err(Fault::NoAgent) => match self.hold(key, tried) {
                Some(hold) => self.held(key, open, tried, most, hold).await,
                None => Err(Fault::NoAgent),
            },
            result => result,
        }
    }

    /// Chooses the agent with least to do that serves `key` and is not in `tried`, for streams that the caller opens itself.
    ///
    /// # Errors
    /// [`Fault::NoAgent`], [`Fault::TooManyConnections`], [`Fault::MembersBusy`] or [`Fault::Overloaded`].
    pub async fn choose(&self, key: &Key, tried: &[MemberId]) -> Result<Chosen<NetworkSession>, Fault> {
        let most = self.admits(key)?;
        let chosen = self.try_choose(key, tried, most);
        if !matches!(chosen, Err(Fault::NoAgent)) {
            return chosen;
        }
        let Some(hold) = self.hold(key, tried) else { return chosen };
        let _place = self.hold_place()?;
        let until = Instant::now() + hold;
        loop {
            let arrival = self.arrivals.notified();
            match self.try_choose(key, tried, most) {
                Err(Fault::NoAgent) if self.hold(key, &[]).is_some() => {}
                result => return result,
            }
            if timeout_at(until, arrival).await.is_err() {
                return Err(Fault::NoAgent);
            }
        }
    }

    /// Decides whether one more connection to the endpoint may be; returns how many a session may carry.
    fn admits(&self, key: &Key) -> Result<usize, Fault> {
        if self.pressure.refuses(Step::Requests) {
            self.metrics.limit("memory");
            return Err(Fault::Overloaded);
        }
        let limits = self.limits.load();
        let (of_endpoint, of_account) = self.router.read().open(key);
        if of_endpoint >= limits.connections_per_endpoint {
            self.metrics.limit("connections_per_endpoint");
            return Err(Fault::TooManyConnections);
        }
        if of_account >= limits.connections_per_account {
            self.metrics.limit("connections_per_account");
            return Err(Fault::TooManyConnections);
        }
        Ok(limits.connections_per_agent)
    }

    /// Returns how long a connection for which no agent is there waits for one, if at all.
    fn hold(&self, key: &Key, tried: &[MemberId]) -> Option<Duration> {
        let limits = self.limits.load();
        let parked = self.router.read().has_parked(key);
        let hold = if parked { limits.hold.max(limits.hold_parked) } else { limits.hold };
        (tried.is_empty() && hold > Duration::ZERO).then_some(hold)
    }

    /// Tells those who wait for an agent that an endpoint was bound, that an agent is back, or that it will not come back.
    pub fn arrived(&self) {
        self.arrivals.notify_waiters();
        self.certificates.wake();
    }

    /// Returns how members of an endpoint are judged.
    pub fn rules(&self, key: &Key) -> Rules {
        self.endpoints.load().find(key).map_or_else(Rules::default, |settings| settings.health.rules)
    }

    /// Takes in how it went with a member.
    pub fn report(&self, key: &Key, watch: &Watch, outcome: Outcome) {
        if let Some(change) = watch.report(outcome, &self.rules(key), now()) {
            self.changed(key, watch.member(), change);
        }
    }

    /// Returns whether what a member did not take may go to another one: so often that an overload grows by little. What agents
    /// hand back because they leave costs no upstream anything.
    pub fn may_retry(&self, watch: &Watch, code: Code) -> bool {
        let leaves =
            matches!(code, Code::REFUSED | Code::UNBOUND | Code::SHUTDOWN | Code::REPLACED | Code::SESSION_LOST);
        let may = leaves || watch.may_retry(now());
        if !may {
            self.metrics.limit("retries");
        }
        may
    }

    /// Tells the operator what changed about a member.
    pub(crate) fn changed(&self, key: &Key, member: MemberId, change: Change) {
        self.metrics.member_change(change);
        match change {
            Change::Away(span) => {
                let seconds = span.as_secs_f32();
                warn!(endpoint = %key, ?member, seconds, "a member fails on and on: others serve for a while");
            }
            Change::Back => info!(endpoint = %key, ?member, "a member serves again"),
            Change::Unwell => warn!(endpoint = %key, ?member, "probes find a member not well: others serve"),
            Change::Well => info!(endpoint = %key, ?member, "probes find a member well"),
        }
    }

    /// Returns true when another agent could serve the endpoint.
    pub fn has_other(&self, key: &Key, tried: &[MemberId]) -> bool {
        self.router.read().has_other(key, tried)
    }

    /// Returns the phase, and can wait for the next.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Returns whether what is open may only finish.
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Enters a phase; there is no way back.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let later = phase > *current;
            *current = phase.max(*current);
            later
        });
    }

    fn try_open(&self, key: &Key, open: &Open, tried: &mut Vec<MemberId>, most: usize) -> Result<Carried, Fault> {
        loop {
            let Chosen { member, agent, bind, upstream, handle, lease, watch } = self.try_choose(key, tried, most)?;
            tried.push(member);
            match handle.open(with_bind(open, bind)) {
                Ok(stream) => {
                    self.metrics.streams.inc();
                    let pending = watch.pending();
                    return Ok(Carried { stream, member, agent, session: handle, upstream, lease, watch, pending });
                }
                Err(OpenError::Limit) => self.metrics.limit("streams"),
                Err(_) => {} // the session is ending: its bind is about to go
            }
        }
    }

    fn try_choose(&self, key: &Key, tried: &[MemberId], most: usize) -> Result<Chosen<NetworkSession>, Fault> {
        let (router, rules) = (self.router.read(), self.rules(key));
        if let Some(chosen) = router.choose(key, tried, most, &rules, now()) {
            return Ok(chosen);
        }
        let (limit, fault) = match router.why_full(key, tried, most, &rules) {
            None => return Err(Fault::NoAgent),
            Some(Full::Session) => ("connections_per_agent", Fault::TooManyConnections),
            Some(Full::Outstanding) => ("outstanding_per_member", Fault::MembersBusy),
            Some(Full::Pending) => ("pending_per_member", Fault::MembersBusy),
        };
        self.metrics.limit(limit);
        Err(fault)
    }

    fn hold_place(&self) -> Result<Held<'_>, Fault> {
        Held::take(&self.held, self.limits.load().held_connections).ok_or_else(|| {
            self.metrics.limit("held_connections");
            Fault::NoAgent
        })
    }

    async fn held(
        &self,
        key: &Key,
        open: &Open,
        tried: &mut Vec<MemberId>,
        most: usize,
        hold: Duration,
    ) -> Result<Carried, Fault> {
        let _place = self.hold_place()?;
        let until = Instant::now() + hold;
        loop {
            let arrival = self.arrivals.notified();
            match self.try_open(key, open, tried, most) {
                Err(Fault::NoAgent) if self.hold(key, &[]).is_some() => {}
                result => return result,
            }
            if timeout_at(until, arrival).await.is_err() {
                return Err(Fault::NoAgent);
            }
        }
    }
}

impl Caller {
    /// Returns what the agent is told about the connection.
    pub fn open(&self, endpoint: String) -> Open {
        Open { bind: None, caller: Some(self.address), local: Some(self.local), tls: self.tls.clone(), endpoint }
    }
}

/// A place among the connections that wait for an agent.
struct Held<'a>(&'a AtomicUsize);

impl<'a> Held<'a> {
    fn take(held: &'a AtomicUsize, most: usize) -> Option<Self> {
        let place = Self(held);
        (held.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn found(found: Found) -> Result<Arc<Key>, Fault> {
    match found {
        Found::Live(key) | Found::Idle(key) => Ok(key),
        Found::Unknown => Err(Fault::EndpointUnknown),
    }
}

/// Returns the time, which tests may stop.
pub(crate) fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn with_bind(open: &Open, bind: BindId) -> Open {
    Open { bind: Some(bind), ..open.clone() }
}
