//! The agents' side: who may have a session, and what it may bind.

mod bind;
mod commands;
mod hints;
mod names;
mod presence;
mod revocations;
mod sessions;

use core::{net::SocketAddr, time::Duration};
use std::{io, sync::Arc, time::Instant};

use adit_core::{AgentId, Cause, Code, Config, Heartbeat, Refusal, ResumeOffer, Secret, SessionId, Unbind, side};
use adit_tokio::{Event, Events, Incoming, Intake, ListenOptions, NetworkSession, SetupError, accept, listen};
use arc_swap::ArcSwap;
use rustls::{
    AlertDescription, Error as TlsError, ServerConfig, crypto::CryptoProvider, server::NoServerSessionStorage,
    version::TLS13,
};
use tracing::{debug, info, warn};

use crate::{
    Edge, EndpointName, Fault, Phase,
    certificates::{Certificates, ForAgents},
    config::{HeartbeatRange, IngressName, PortRange},
    departures::{Departure, shown},
    http::HttpEdge,
    metrics::{Counted, ReasonLabel},
    pressure::Step,
    public::Ports,
    router::{Ended, Origin},
    store::{Identity, Store},
    withheld::Pace,
};

pub use commands::Commands;
pub use names::Admitted;
pub use presence::Unnoted;
use revocations::Came;
pub use sessions::{About, Member, Place, Sessions};

/// What sessions are given and bound to.
pub struct Ingress {
    /// Endpoints, limits and numbers.
    pub edge: Arc<Edge>,
    /// What keeps connections to upstreams for the next request.
    pub http: Arc<HttpEdge<Edge>>,
    /// Accounts, tokens and names.
    pub store: Arc<Store>,
    /// The sessions that live.
    pub sessions: Arc<Sessions>,
    /// What may be bound, and under which URL callers know it.
    pub entrances: Entrances,
    /// The region, told to agents.
    pub region: String,
    /// The node, told to agents.
    pub node: String,
    /// This run of the node, which the database tells apart from others of the same name.
    pub run: String,
    /// What agents were asked to do.
    pub commands: Commands,
    /// The sessions of which the database does not know how they are.
    pub unnoted: Unnoted,
    /// Whose credentials are good at which name.
    pub admitted: ArcSwap<Admitted>,
    /// What heartbeat agents may ask for.
    pub heartbeat: ArcSwap<HeartbeatRange>,
    /// The protocol's limits.
    pub protocol: Config,
}

/// The ways in that callers have.
#[derive(Default)]
pub struct Entrances {
    /// The domains below which names may be bound; empty allows every name that an ACL allows.
    pub domains: Vec<EndpointName>,
    /// The port of HTTP.
    pub http: Option<u16>,
    /// The port of HTTPS and TLS.
    pub https: Option<u16>,
    /// The TCP ports that may be bound.
    pub ports: Vec<PortRange>,
    /// The TCP ports that are open.
    pub tcp: Option<Ports>,
}

impl Ingress {
    /// Accepts agents until the network drains; returns the address.
    ///
    /// # Errors
    /// The address cannot be listened on, or the provider does not know TLS 1.3.
    pub fn listen(self: &Arc<Self>, address: SocketAddr, provider: &Arc<CryptoProvider>) -> io::Result<SocketAddr> {
        let limits = self.edge.limits.load_full();
        let mut options = ListenOptions::default();
        options.handshake_timeout = limits.handshake_timeout;
        options.half_open = limits.ingress_handshakes; // spec: LIM-006
        let listener = listen(address, &options)?;
        let address = listener.local_addr()?;
        let tls = server_config(Arc::clone(&self.edge.certificates), Arc::clone(provider)).map_err(io::Error::other)?;
        let (tls, ingress) = (Arc::new(tls), Arc::clone(self));
        let mut intake = Intake::new(listener, options, {
            let ingress = Arc::clone(&ingress);
            move |socket, peer| shake(Arc::clone(&ingress), socket, peer, Arc::clone(&tls))
        });
        tokio::spawn(async move {
            // Agents are told that the node stops; only when everything ends, nobody is heard.
            let mut phase = ingress.edge.phase();
            loop {
                tokio::select! {
                    biased;
                    _ = phase.wait_for(|phase| *phase == Phase::Ending) => return,
                    next = intake.next() => match next {
                        Some((incoming, came)) => drop(tokio::spawn(Arc::clone(&ingress).admit(incoming, came))),
                        None => return,
                    },
                }
            }
        });
        Ok(address)
    }

    /// Decides whether an agent gets a session, and serves it.
    async fn admit(self: Arc<Self>, incoming: Incoming, came: Came) {
        let identity = match self.authenticate(&incoming).await {
            // spec: SEC-002, before anything that HELLO names
            Ok(identity) => identity,
            Err(Denied { fault, code, retry_after, elsewhere }) => {
                let (agent, asked) = (incoming.hello().agent, incoming.peer());
                // Before anything is noted, which takes longer for one reason than for another.
                incoming.refuse(refusal(fault, code, retry_after));
                self.edge.metrics.refuse(fault);
                info!(code = fault.code(), %agent, "an agent was refused");
                debug!(peer = %came.peer, "the agent's address");
                if let Some(identity) = elsewhere {
                    self.note_elsewhere(asked.as_ref().and_then(|peer| peer.name.as_deref()), &identity);
                }
                return;
            }
        };
        if incoming.hello().resume.is_some() {
            // spec: RES-010, after the token
            return self.resume(incoming, &identity, came);
        }
        let Some(id) = random().map(SessionId) else {
            // spec: PRE-010
            self.edge.metrics.refuse(Fault::Busy);
            return incoming.refuse(refusal(Fault::Busy, Code::INTERNAL, None));
        };
        let hello = incoming.hello();
        let about = About::new(hello, came.peer);
        let software = hello.software.clone();
        let origin =
            Origin { account: identity.account, agent: hello.agent, incarnation: hello.incarnation, lane: hello.lane };
        let mut welcome = incoming.welcome(id, &self.region, &self.node);
        welcome.heartbeat = clamp(welcome.heartbeat, **self.heartbeat.load());
        welcome.resume = self.offer();
        let Identity { token, acl, name, .. } = identity;
        self.edge.metrics.traffic.name(origin.account, &name);
        let member = Member { token: token.clone(), account: name, origin, acl, about };
        if self.edge.pressure.refuses(Step::Sessions) {
            self.edge.metrics.limit("memory");
            self.edge.metrics.refuse(Fault::TooManySessions);
            return incoming.refuse(refusal(Fault::TooManySessions, Code::LIMIT, Some(Duration::from_secs(30))));
        }
        let limits = self.edge.limits.load_full();
        // Decided and counted in one step, so that many at a time cannot pass a limit together.
        let place = match self.sessions.enter(id, member, &limits) {
            Ok(place) => place,
            Err(limit) => {
                // spec: AUTH-004
                self.edge.metrics.limit(limit);
                self.edge.metrics.refuse(Fault::TooManySessions);
                return incoming.refuse(refusal(Fault::TooManySessions, Code::LIMIT, Some(Duration::from_secs(30))));
            }
        };
        self.sessions.release(&origin); // spec: AUTH-005, and not before it is certain that it begins
        let (session, events) = incoming.accept(welcome);
        self.sessions.begin(id, session.clone());
        self.catch_up(id, &session, came);
        self.edge.router.write().session_began(id, origin);
        self.unnoted.add(id);
        self.edge.metrics.sessions_began.inc();
        let mut leaving = Leaving { ingress: &self, session: (origin.agent, id), cause: Cause::Local(Code::INTERNAL) };
        let counted = Counted::count(&self.edge.metrics.sessions);
        info!(session = %id, agent = %origin.agent, lane = origin.lane, token, software = %adit_core::escape(&software), "a session began");
        if self.edge.is_draining() {
            session.drain(Code::SHUTDOWN, None, "the node stops");
        }
        let cause = self.serve((origin.agent, id), &session, events).await;
        leaving.cause.clone_from(&cause);
        if cause == Cause::ResumeExpired {
            self.edge.metrics.sessions_expired.inc();
        }
        drop((place, counted));
        info!(session = %id, %cause, "a session ended");
    }

    /// Decides whether an agent goes on with its session. Every no is the same, whatever was wrong.
    fn resume(&self, incoming: Incoming, identity: &Identity, came: Came) {
        let hello = incoming.hello();
        let (agent, id) = (hello.agent, hello.resume.as_ref().map(|resume| resume.session).unwrap_or_default());
        let mut welcome = incoming.welcome(id, &self.region, &self.node);
        welcome.heartbeat = clamp(welcome.heartbeat, **self.heartbeat.load());
        welcome.resume = self.offer();
        let member = self.sessions.member(id);
        // spec: RES-013
        let same = member.is_some_and(|member| {
            (member.origin.account, member.origin.agent, &member.token) == (identity.account, agent, &identity.token)
        });
        let session = self.sessions.get(id).filter(|_| same);
        let resumed = match &session {
            Some(session) => incoming.resume(session, welcome),
            None => Err(incoming),
        };
        if let Err(incoming) = resumed {
            self.edge.metrics.refuse(Fault::SessionUnknown);
            info!(%agent, session = %id, code = Fault::SessionUnknown.code(), "a session was not resumed");
            return incoming.refuse(refusal(Fault::SessionUnknown, Code::RESUME_UNKNOWN, None));
        }
        self.sessions.moved(id, came.peer);
        if let Some(session) = &session {
            self.note(id, session);
            self.catch_up(id, session, came);
        }
        self.edge.arrived();
        self.edge.metrics.sessions_resumed.inc();
        info!(session = %id, %agent, "a session was resumed");
        self.recheck(&identity.token, &identity.acl);
        if self.edge.is_draining()
            && let Some(session) = session
        {
            session.drain(Code::SHUTDOWN, None, "the node stops");
        }
    }

    /// Returns the permission to resume, unless the configuration gives none.
    fn offer(&self) -> Option<ResumeOffer> {
        let window = self.edge.limits.load().resume_window;
        if window.is_zero() {
            return None;
        }
        Some(ResumeOffer { secret: Secret::new(random::<32>()?), window }) // spec: PRE-010
    }

    /// Takes note that a session waits for its agent, unless that is over already. A node that drains waits for nobody.
    fn park(&self, id: SessionId, session: &NetworkSession, cause: &Cause) {
        if self.edge.is_draining() {
            return session.close(Code::SHUTDOWN, "the node stops");
        }
        if self.note(id, session) {
            info!(session = %id, %cause, "a session waits for its agent");
        }
    }

    /// Notes everywhere whether a session waits for its agent, as it is now, and returns that. Under one lock: it may be
    /// resumed and lost again at any moment, and each time somebody says so.
    fn note(&self, id: SessionId, session: &NetworkSession) -> bool {
        let mut router = self.edge.router.write();
        let parked = session.is_parked();
        let members = router.session_parked(id, parked);
        if parked {
            for _ in 0..self.sessions.park(id, self.edge.limits.load().parked_sessions) {
                self.edge.metrics.limit("parked_sessions");
            }
        } else {
            self.sessions.unpark(id);
        }
        drop(router);
        self.unnoted.add(id);
        if parked {
            self.http.forget(&members);
        }
        parked
    }

    /// Finds out who shows a token, and whether that account is admitted at the name that was asked for. Credentials that are good elsewhere
    /// are refused as those are that are good nowhere: by the same octets, after the same work.
    async fn authenticate(&self, incoming: &Incoming) -> Result<Identity, Denied> {
        if self.edge.is_draining() {
            return Err(Denied::new(Fault::Stopping, Code::SHUTDOWN, Duration::from_secs(1)));
        }
        let found = match self.store.authenticate(&incoming.hello().token).await {
            Ok(found) => found,
            Err(error) => {
                warn!(%error, "tokens cannot be checked");
                self.edge.metrics.store_up.set(0);
                return Err(Denied::new(Fault::ControlDegraded, Code::BUSY, Duration::from_secs(5)));
            }
        };
        let peer = incoming.peer();
        let name = peer.as_ref().and_then(|peer| peer.name.as_deref());
        let account = found.as_ref().map_or("", |identity| identity.name.as_str());
        let is_admitted = self.admitted.load().admits(name, account); // of nobody too
        match found {
            Some(identity) if is_admitted => Ok(identity),
            elsewhere => Err(Denied {
                elsewhere,
                ..Denied::new(Fault::Credentials, Code::CREDENTIALS, CREDENTIALS_RETRY) // spec: AUTH-001
            }),
        }
    }

    /// Tells the vendor, and nobody else, that somebody showed credentials that are good at another name.
    fn note_elsewhere(&self, ingress: Option<&str>, identity: &Identity) {
        self.edge.metrics.ingress_errors.get_or_create(&ReasonLabel { reason: "account" }).inc();
        let (ingress, account, token) = (ingress.unwrap_or_default(), &identity.name, &identity.token);
        warn!(
            ingress,
            account, token, "credentials were shown at a name of the ingress that does not admit their account"
        );
    }

    /// Takes over which accounts each name admits, and ends the sessions of those that a name does not admit any more.
    pub(crate) fn admit_to_names(&self, names: &[IngressName]) {
        let admitted = Admitted::new(names);
        for (id, session) in self.sessions.all() {
            let (Some(member), Some(peer)) = (self.sessions.member(id), session.peer()) else { continue };
            if !admitted.admits(peer.name.as_deref(), &member.account) {
                info!(session = %id, account = member.account, "a name of the ingress does not admit the account any more");
                let entry = Fault::Credentials.entry();
                session.close(Code::CREDENTIALS, &format!("{}: {}", Fault::Credentials.code(), entry.explanation));
            }
        }
        self.admitted.store(Arc::new(admitted));
    }

    /// Lets every agent make its next session before this one ends: the certificate that they came in under was revoked.
    pub(crate) fn renew_sessions(&self) {
        for (id, session) in self.sessions.all() {
            let leaving = self.edge.router.write().session_drains(id);
            self.http.forget(&leaving);
            session.drain(Code::SHUTDOWN, None, "the network's certificate was revoked and replaced");
        }
    }

    async fn serve(
        &self,
        (agent, id): (AgentId, SessionId),
        session: &NetworkSession,
        mut events: Events<side::Network>,
    ) -> Cause {
        let mut pace = Pace::new(Instant::now());
        while let Some(event) = events.next().await {
            match event {
                Event::Withheld(withheld) => self.withheld((agent, id), &withheld, &mut pace).await,
                Event::Bind(request) => self.bind(id, session, request).await,
                Event::Unbind(unbind) => self.given_up((agent, id), &unbind),
                Event::CommandResult(result) => self.commands.answered(id, result),
                Event::GoAway(goaway) => {
                    info!(session = %id, code = %goaway.code, "the agent drains");
                    let leaving = self.edge.router.write().session_drains(id);
                    self.http.forget(&leaving);
                }
                Event::Opened(stream) => stream.abort(Code::REFUSED), // the network serves nothing to agents
                Event::Closed(cause) => return cause,
                Event::Suspended(cause) => self.park(id, session, &cause),
                Event::Resumed(_)
                | Event::Bound(_)
                | Event::Rejected(_)
                | Event::Unbound(_)
                | Event::Command(_)
                | Event::Revocations(_) => {}
            }
        }
        session.closed().await
    }

    /// Takes out what an agent gives up, and keeps what it says of the reason for who asks why nobody is there.
    fn given_up(&self, (agent, id): (AgentId, SessionId), unbind: &Unbind) {
        let (number, code, text) = (unbind.id.0, unbind.code, shown(&unbind.text));
        let mut router = self.edge.router.write();
        let Some(ended) = router.unbind(id, unbind.id) else {
            drop(router);
            debug!(session = %id, bind = number, %code, text, "a bind was given up that is not in force");
            return;
        };
        self.edge.departures.note(&ended.key, Departure::given_up(unbind, (agent, id)));
        drop(router);
        self.unnoted.add(id);
        self.edge.metrics.unbind(code);
        let endpoint = &ended.key;
        info!(session = %id, %agent, bind = number, %endpoint, %code, text, "an endpoint was given up"); // spec: BIND-020
        self.ended([ended]);
    }

    fn leave(&self, (agent, id): (AgentId, SessionId), cause: &Cause) {
        let mut router = self.edge.router.write();
        let ended = router.session_ended(id);
        for Ended { key, .. } in &ended {
            self.edge.departures.note(key, Departure::session_ended(cause, (agent, id)));
        }
        drop(router);
        self.commands.gone(id);
        self.unnoted.add(id);
        self.edge.withheld.retain(id, |_| false); // spec: BIND-022
        self.ended(ended);
        self.edge.arrived(); // nobody waits any longer for an agent that does not come back
    }
}

/// An agent gets no session.
struct Denied {
    fault: Fault,
    code: Code,
    retry_after: Option<Duration>,
    /// Whose credentials it showed, where they are good at another name.
    elsewhere: Option<Identity>,
}

impl Denied {
    const fn new(fault: Fault, code: Code, retry_after: Duration) -> Self {
        Self { fault, code, retry_after: Some(retry_after), elsewhere: None }
    }
}

/// Takes a session out of the table when it is over, however its task ends: a panic harms no other session (V98).
struct Leaving<'a> {
    ingress: &'a Ingress,
    session: (AgentId, SessionId),
    cause: Cause,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.ingress.leave(self.session, &self.cause); // spec: SEC-001
    }
}

/// Returns an agent's link once it has said who it is.
async fn shake(
    ingress: Arc<Ingress>,
    socket: tokio::net::TcpStream,
    peer: SocketAddr,
    tls: Arc<ServerConfig>,
) -> Option<(Incoming, Came)> {
    let came = Came { peer, edition: *ingress.edge.certificates.edition().borrow() };
    let mut seed = [0; 8];
    aws_lc_rs::rand::fill(&mut seed).ok()?;
    match accept(socket, tls, ingress.protocol.clone(), u64::from_ne_bytes(seed)).await {
        Ok(incoming) => Some((incoming, came)),
        Err(error) => {
            #[expect(clippy::wildcard_enum_match_arm, reason = "what is new is a failed handshake")]
            let reason = match &error {
                SetupError::Tls(TlsError::AlertReceived(alert)) => match distrust(*alert) {
                    Some(reason) => {
                        warn!(?alert, reason, "an agent does not accept the network's certificate");
                        reason
                    }
                    None => "tls",
                },
                SetupError::Tls(_) => "tls",
                // Agents look for a newer revocation list so, and a balancer whether somebody is there.
                SetupError::Closed(Cause::Eof { clean: true }) => "left",
                // spec: PRE-012, somebody asked for the versions: `adit diagnose`
                SetupError::Closed(Cause::Local(Code::NO_ERROR)) => "asked",
                SetupError::Closed(Cause::Local(Code::VERSION)) => "version",
                SetupError::NotAdit => "protocol",
                SetupError::Io(_) => "connection",
                _ => "handshake",
            };
            ingress.edge.metrics.ingress_errors.get_or_create(&ReasonLabel { reason }).inc();
            debug!(%peer, %error, "an agent's handshake came to nothing");
            None
        }
    }
}

/// Returns what an agent has against the certificate that it was shown, if that is what an alert says.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other alerts are about something else")]
const fn distrust(alert: AlertDescription) -> Option<&'static str> {
    match alert {
        AlertDescription::CertificateRevoked => Some("revoked"),
        AlertDescription::CertificateExpired => Some("expired"),
        AlertDescription::AccessDenied => Some("pinned"), // it is bound to another key
        AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            Some("distrusted")
        }
        _ => None,
    }
}

/// Returns the refusal that tells an agent what a fault is, with its stable code.
fn refusal(fault: Fault, code: Code, retry_after: Option<Duration>) -> Refusal {
    let entry = fault.entry();
    Refusal { code, retry_after, text: format!("{}: {} {}", fault.code(), entry.explanation, entry.remedy) }
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut octets = [0; N];
    aws_lc_rs::rand::fill(&mut octets).ok()?;
    Some(octets)
}

fn clamp(asked: Heartbeat, range: HeartbeatRange) -> Heartbeat {
    let interval = asked.interval.clamp(range.interval_min, range.interval_max);
    let most = range.tolerance_max.max(interval / 2);
    Heartbeat { interval, tolerance: asked.tolerance.clamp(interval / 2, most) }
}

fn server_config(
    certificates: Arc<Certificates>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?; // spec: TLS-001
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(ForAgents(certificates)));
    config.alpn_protocols = vec![b"adit/1".to_vec()]; // spec: TLS-002
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0; // spec: TLS-003
    Ok(config)
}

const CREDENTIALS_RETRY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_held_to_the_range_of_the_configuration() {
        let secs = Duration::from_secs;
        let range = HeartbeatRange { interval_min: secs(5), interval_max: secs(60), tolerance_max: secs(90) };
        let held = |interval, tolerance| {
            let Heartbeat { interval, tolerance } =
                clamp(Heartbeat { interval: secs(interval), tolerance: secs(tolerance) }, range);
            (interval, tolerance)
        };

        assert_eq!(held(10, 15), (secs(10), secs(15)));
        assert_eq!(held(1, 1), (secs(5), Duration::from_millis(2_500)));
        assert_eq!(held(600, 600), (secs(60), secs(90)));
    }
}
