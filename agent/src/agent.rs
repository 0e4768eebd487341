//! The running agent: one uplink, its endpoints, and what both tell.

mod account;
mod carry;
mod embed;
mod events;
mod replay;

use core::{
    future::Future,
    pin::{Pin, pin},
    sync::atomic::AtomicU64,
    time::Duration,
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use adit_core::{Bind, BindId, Code, Secret, escape};
use adit_tokio::{Uplink, UplinkEvent, UplinkOptions};
use rustls::{crypto::CryptoProvider, pki_types::ServerName};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{
    audit::Draft,
    capture::{Sight, Store},
    config::{Config, EndpointConfig},
    errors::{Error, Fault},
    identity,
    policy::{Guard, Protocol, Reason, Target},
    route::Route,
    status::{EndpointState, SessionState, Status},
    termination::Termination,
    trust::{NetworkTls, Way},
    upstream::Upstream,
};

pub use embed::Detached;

use carry::{Limits, Service, serve};
use events::{Memory, Next};

pub(crate) use events::Wish;
pub(crate) use replay::{Doors, ReplayError};

/// An agent that is ready to run.
pub struct Agent {
    config: Config,
    token: Secret,
    provider: Arc<CryptoProvider>,
    tls: NetworkTls,
    route: Route,
    status: Arc<Status>,
    patience: Patience,
    reloads: Option<mpsc::Receiver<Config>>,
    state: Option<PathBuf>,
    guard: Arc<Guard>,
    store: Option<Arc<Store>>,
    doors: Arc<Doors>,
    updates: Option<mpsc::Sender<Wish>>,
}

/// What to do about a network that does not answer, or not as hoped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// Go on trying: somebody will put it right.
    Service,
    /// Give up at the first try: somebody sits before it and wants to know.
    Command,
}

/// How an agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was asked to, here or by a remote command that its configuration allows.
    Ended,
    /// A remote command that its configuration allows asks for a new start.
    Restart,
    /// It cannot go on.
    Failed(Error),
}

impl Agent {
    /// Prepares an agent with one endpoint a configured one. Cryptography is `provider`'s; nothing is installed for the process.
    ///
    /// # Errors
    /// [`Fault::NetworkUnknown`], [`Fault::RootsUnusable`].
    pub fn new(config: Config, token: Secret, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        if config.agent.targets.is_empty() {
            return Err(Error::from(Fault::NetworkUnknown));
        }
        let tls = NetworkTls::new(&config.agent, &provider)?;
        let route = Route::new(&config.agent, &provider)?;
        let status = Arc::default();
        let (patience, guard) = (Patience::Service, Guard::new());
        let (reloads, state, store, doors) = (None, None, None, Arc::default());
        let updates = None;
        Ok(Self { config, token, provider, tls, route, status, patience, reloads, state, guard, store, doors, updates })
    }

    /// Gives up at the first failure, for a person who waits for it.
    #[must_use]
    pub const fn impatient(mut self) -> Self {
        self.patience = Patience::Command;
        self
    }

    /// Takes over endpoints of configurations that come later; the section `agent` stays as it is.
    #[must_use]
    pub fn with_reloads(mut self, reloads: mpsc::Receiver<Config>) -> Self {
        self.reloads = Some(reloads);
        self
    }

    /// Keeps the agent's name in `folder`: started again, it takes over from its own ghost at once.
    #[must_use]
    pub fn with_state(mut self, folder: PathBuf) -> Self {
        self.state = Some(folder);
        self
    }

    /// Keeps the last good revocation lists in `folder`, and believes none that is older, over restarts too.
    #[must_use]
    pub fn keeping_lists(self, folder: PathBuf) -> Self {
        self.tls.revocation.keep_in(folder);
        self
    }

    /// Does what `guard` allows at most, at every moment; without it, what the configuration says.
    #[must_use]
    pub fn with_guard(mut self, guard: Arc<Guard>) -> Self {
        self.guard = guard;
        self
    }

    /// Lets requests be kept in `store`, which must ask the agent's own guard.
    pub(crate) fn with_store(mut self, store: Arc<Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Returns the configuration that it began with.
    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns who says what is allowed.
    pub(crate) fn guard(&self) -> Arc<Guard> {
        Arc::clone(&self.guard)
    }

    /// Returns the endpoints whose requests can be sent again.
    pub(crate) fn doors(&self) -> Arc<Doors> {
        Arc::clone(&self.doors)
    }

    /// Hands the vendor's wish for a newer version to whoever can fulfil it; without, it is answered that this cannot be done.
    #[must_use]
    pub(crate) fn with_updates(mut self, updates: mpsc::Sender<Wish>) -> Self {
        self.updates = Some(updates);
        self
    }

    /// Returns what is known of the agent while it runs.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Runs until `shutdown` is ready and open connections have finished, or until it cannot go on.
    ///
    /// Dropped, it ends at once and connections are cut.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Outcome {
        let mut shutdown = pin!(shutdown);
        loop {
            if !self.thawed(shutdown.as_mut()).await {
                return Outcome::Ended;
            }
            match self.serve(shutdown.as_mut()).await {
                Some(outcome) => return outcome,
                None => continue, // frozen
            }
        }
    }

    /// Waits while everything is closed; returns whether it goes on.
    async fn thawed(&mut self, mut shutdown: Pin<&mut impl Future<Output = ()>>) -> bool {
        let mut changes = self.guard.changes();
        loop {
            changes.borrow_and_update();
            let frozen = self.guard.frozen();
            let is_frozen = frozen.is_some();
            self.status.change(|board| {
                board.session = if is_frozen { SessionState::Frozen } else { SessionState::Connecting };
                board.frozen = frozen;
                for endpoint in &mut board.endpoints {
                    endpoint.bound = false;
                }
            });
            if !is_frozen {
                return true;
            }
            tokio::select! {
                () = &mut shutdown => return false,
                Ok(()) = changes.changed() => {}
                Some(config) = next_config(&mut self.reloads) => self.config.endpoints = config.endpoints,
            }
        }
    }

    /// Holds sessions and carries connections; returns nothing when everything is to be closed.
    async fn serve(&mut self, mut shutdown: Pin<&mut impl Future<Output = ()>>) -> Option<Outcome> {
        let options = match self.options() {
            Ok(options) => options,
            Err(error) => return Some(Outcome::Failed(error)),
        };
        let mut changes = self.guard.changes();
        if self.guard.frozen().is_some() {
            return None; // since it was looked at last
        }
        let (uplink, mut events) = Uplink::start(options);
        let _watching = self.watch_revocation(&uplink); // until it is dropped
        let mut places = Places::new(uplink.clone(), self);
        if let Err(error) = places.update(&self.config.endpoints, self.patience) {
            return Some(Outcome::Failed(error));
        }
        let mut memory = Memory::new(self);
        self.tell_route();
        let mut ending = None;
        let mut clock = interval(Duration::from_secs(1));
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                () = &mut shutdown, if ending.is_none() => Next::End(Outcome::Ended),
                Ok(()) = changes.changed() => self.changed(&mut places),
                event = events.next() => match event {
                    Some(event) => {
                        // What the policy does not have was never bound: it is given up, and that is written down alone.
                        match places.overbound(&event) {
                            Some(refused) => {
                                places.give_up(refused);
                                Next::Continue
                            }
                            None => memory.handle(event, &places.names),
                        }
                    }
                    None => Next::Over(None),
                },
                _ = clock.tick() => {
                    self.status.measured(uplink.rtt());
                    if ending.is_none() {
                        places.retry();
                    }
                    Next::Continue
                }
                Some(config) = next_config(&mut self.reloads), if ending.is_none() => {
                    self.reload(config, &mut places);
                    Next::Continue
                }
            };
            match next {
                Next::Continue => {}
                Next::Freeze => {
                    drop(places);
                    self.close(&uplink).await;
                    return ending; // an agent that was asked to end does not wait to be thawed
                }
                Next::End(outcome) if ending.is_none() => {
                    self.drain(uplink.clone());
                    ending = Some(outcome);
                }
                Next::End(_) => {}
                Next::Fail(error) => return Some(Outcome::Failed(error)),
                Next::Over(last) => {
                    self.settle(SETTLE).await;
                    let failed = || Outcome::Failed(last.unwrap_or_else(|| Fault::Internal.into()));
                    return Some(ending.unwrap_or_else(failed));
                }
            }
        }
    }

    /// Keeps revocation lists new, and ends the sessions that they speak against.
    fn watch_revocation(&self, uplink: &Uplink) -> JoinSet<()> {
        let name = self.config.agent.server_name.clone().and_then(|name| ServerName::try_from(name).ok());
        let (targets, route) = (self.config.agent.targets.clone(), self.route.clone());
        let way = Way { targets, route, name, tls: Arc::clone(&self.tls.config) };
        let mut watching = JoinSet::new();
        watching.spawn(Arc::clone(&self.tls.revocation).run(uplink.clone(), way, self.status()));
        watching
    }

    /// Lets open connections finish.
    fn drain(&self, uplink: Uplink) {
        tracing::info!(connections = self.status.live(), "ending: open connections may finish");
        self.status.change(|board| board.session = SessionState::Draining);
        let drain = self.config.agent.drain_timeout;
        tokio::spawn(async move { uplink.shutdown(drain).await });
    }

    /// Closes the sessions, once the connections have said why they end.
    async fn close(&self, uplink: &Uplink) {
        self.settle(CLOSING).await;
        let closed = uplink.close(Code::FROZEN, "the customer has frozen this agent");
        let _ = timeout(CLOSING, closed).await; // it ends with its last handle
    }

    /// What is allowed has changed.
    fn changed(&self, places: &mut Places) -> Next {
        if self.guard.frozen().is_some() {
            return Next::Freeze;
        }
        // What fails has been told; what was asked for before may be allowed again.
        let _ = places.update(&self.config.endpoints, Patience::Service);
        Next::Continue
    }

    /// Lets what has come reach the upstreams after the session is over.
    async fn settle(&self, most: Duration) {
        let deadline = Instant::now() + most;
        while self.status.live() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn options(&self) -> Result<UplinkOptions, Error> {
        let agent = &self.config.agent;
        let mut config = adit_core::Config::agent();
        config.heartbeat = agent.heartbeat;
        config.resume_window = agent.resume_window;
        let server_name = match &agent.server_name {
            Some(name) => Some(
                ServerName::try_from(name.clone())
                    .map_err(|error| Error::new(Fault::ConfigInvalid, format!("agent.server_name: {error}")))?,
            ),
            None => None,
        };
        Ok(UplinkOptions {
            targets: agent.targets.clone(),
            tls: Arc::clone(&self.tls.config),
            server_name,
            config,
            token: self.token.clone(),
            agent: self.identity(),
            software: concat!("adit/", env!("CARGO_PKG_VERSION")).to_owned(),
            metadata: agent.metadata.clone(),
            connect: self.route.connect.clone(),
            reconnect: adit_core::ReconnectPolicy::default(),
            sessions: agent.sessions,
        })
    }

    /// Says by which way the network is reached, where that is not the plain one.
    fn tell_route(&self) {
        let resolvers: Vec<_> = self.config.agent.resolvers.iter().map(ToString::to_string).collect();
        if !resolvers.is_empty() {
            tracing::info!(servers = resolvers.join(", "), "names are resolved by these servers");
        }
        let Some(found) = &self.config.agent.proxy else { return };
        for target in &self.config.agent.targets {
            let (proxy, from, network) =
                (found.proxy.to_string(), found.source, format!("{}:{}", target.host, target.port));
            if found.proxy.carries(&target.host, target.port) {
                tracing::info!(network, proxy, from, "the network is reached through a proxy");
            } else {
                tracing::info!(
                    network,
                    proxy,
                    from,
                    "the network is reached without the proxy: NO_PROXY, or this machine"
                );
            }
        }
    }

    fn identity(&self) -> adit_core::AgentId {
        let Some(folder) = &self.state else { return identity::random(&self.provider) };
        let files = self.config.files.iter().map(|file| std::fs::canonicalize(file).unwrap_or_else(|_| file.clone()));
        let mut key: Vec<String> = files.map(|file| file.display().to_string()).collect();
        key.extend(self.config.endpoints.iter().map(|endpoint| endpoint.name.clone()));
        identity::lasting(&key.join("\n"), folder, &self.provider) // spec: AUTH-006
    }

    fn reload(&mut self, config: Config, places: &mut Places) {
        match places.update(&config.endpoints, Patience::Service) {
            Ok(()) => {
                tracing::info!("configuration read again: endpoints are as it says; `agent` needs a new start");
                let endpoints = config.endpoints.len() as u64;
                self.guard.note(|| Draft::configuration("taken").number("endpoints", endpoints));
                self.config.endpoints = config.endpoints;
            }
            Err(error) => {
                self.guard.note(|| Draft::configuration("not taken").text("why", &error.to_string()));
                tracing::error!(%error, "configuration read again and not taken");
            }
        }
    }
}

impl core::fmt::Debug for Agent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Agent").field("config", &self.config).finish_non_exhaustive()
    }
}

async fn next_config(reloads: &mut Option<mpsc::Receiver<Config>>) -> Option<Config> {
    match reloads {
        Some(reloads) => reloads.recv().await,
        None => core::future::pending().await,
    }
}

/// The endpoints that are asked for, each served by a task of its own.
struct Places {
    uplink: Uplink,
    provider: Arc<CryptoProvider>,
    status: Arc<Status>,
    limits: Arc<Limits>,
    guard: Arc<Guard>,
    store: Option<Arc<Store>>,
    doors: Arc<Doors>,
    running: BTreeMap<String, Running>,
    names: BTreeMap<BindId, String>,
    /// Endpoints whose certificate could not be used when that was tried last.
    waiting: Vec<EndpointConfig>,
    tried: Instant,
}

struct Running {
    config: EndpointConfig,
    id: BindId,
    /// Dropped, the endpoint is given up, and its connections may finish.
    _stop: oneshot::Sender<()>,
}

impl Places {
    fn new(uplink: Uplink, agent: &Agent) -> Self {
        let limits = Limits {
            connections: Arc::new(Semaphore::new(agent.config.agent.max_connections)),
            handshakes: Semaphore::new(MAX_HANDSHAKES),
        };
        Self {
            uplink,
            provider: Arc::clone(&agent.provider),
            status: agent.status(),
            limits: Arc::new(limits),
            guard: Arc::clone(&agent.guard),
            store: agent.store.clone(),
            doors: Arc::clone(&agent.doors),
            running: BTreeMap::new(),
            names: BTreeMap::new(),
            waiting: Vec::new(),
            tried: Instant::now(),
        }
    }

    /// Tries again what waits for its certificate: it may have been installed since.
    fn retry(&mut self) {
        if self.waiting.is_empty() || self.tried.elapsed() < RETRY {
            return;
        }
        self.tried = Instant::now();
        for endpoint in core::mem::take(&mut self.waiting) {
            if self.start(&endpoint).is_err() {
                self.waiting.push(endpoint); // it was said when it was tried first
                continue;
            }
            self.status.change(|board| {
                if let Some(state) = board.endpoints.iter_mut().find(|state| state.name == endpoint.name) {
                    state.problem.clear();
                }
            });
        }
    }

    /// Gives up what is gone or has changed, and asks for what is new. Others are not touched.
    ///
    /// # Errors
    /// When nothing is left to do, or anything is wrong for a command.
    fn update(&mut self, wanted: &[EndpointConfig], patience: Patience) -> Result<(), Error> {
        let (names, guard, doors) = (&mut self.names, &self.guard, &self.doors);
        self.running.retain(|_, running| {
            let stays = wanted.contains(&running.config) && !is_barred(guard, &running.config, None);
            if !stays {
                names.remove(&running.id);
                doors.close(&running.config.name);
                guard.note(|| Draft::bind("given up", &running.config.name).text("url", &running.config.url));
                tracing::info!(name = running.config.name, "endpoint given up");
            }
            stays
        });
        self.waiting.clear();
        let mut states = Vec::new();
        let mut failed = None;
        for endpoint in wanted {
            let mut state = EndpointState {
                name: endpoint.name.clone(),
                url: endpoint.url.clone(),
                upstream: endpoint.upstream.address.to_string(),
                tls: endpoint.tls_end(),
                bound: false,
                problem: String::new(),
                refusal: String::new(),
            };
            if self.running.contains_key(&endpoint.name) {
                let board = self.status.board();
                state = board.endpoints.into_iter().find(|known| known.name == endpoint.name).unwrap_or(state);
            } else if let Err(error) = self.start(endpoint) {
                tracing::error!(name = endpoint.name, %error, remedy = error.fault.entry().remedy, "endpoint not possible");
                state.problem = error.to_string();
                if error.fault == Fault::CertificateUnusable {
                    self.waiting.push(endpoint.clone());
                }
                failed = Some(error);
            }
            state.refusal = self.refusal(endpoint);
            states.push(state);
        }
        self.status.change(|board| board.endpoints = states);
        match failed {
            Some(error) if self.running.is_empty() && self.waiting.is_empty() || patience == Patience::Command => {
                Err(error)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Tells what of the policy refuses every connection of an endpoint that is bound; nothing if it may be used.
    fn refusal(&self, endpoint: &EndpointConfig) -> String {
        let Err(refusal) = self.guard.endpoint(endpoint, None) else { return String::new() };
        if self.running.contains_key(&endpoint.name) {
            let (rule, reason) = (refusal.rule.as_deref(), refusal.reason.word());
            let error = Fault::PolicyRefused;
            tracing::warn!(name = endpoint.name, %error, rule, reason, detail = %refusal, "callers of the endpoint are refused");
        }
        format!("{}: {refusal}", Fault::PolicyRefused)
    }

    /// Returns the endpoint of which the network says that it has bound more, or something else, than the policy has.
    fn overbound(&self, event: &UplinkEvent) -> Option<(BindId, String)> {
        let UplinkEvent::Bound { id, url, .. } = event else { return None };
        let running = self.running.values().find(|running| running.id == *id)?;
        is_barred(&self.guard, &running.config, Some(url)).then(|| (*id, url.clone()))
    }

    fn give_up(&mut self, (id, url): (BindId, String)) {
        self.running.retain(|_, running| running.id != id);
        let name = self.names.remove(&id).unwrap_or_default();
        self.doors.close(&name);
        let (error, url) = (Fault::PolicyRefused, escape(&url).to_string());
        self.guard.note(|| {
            let record = Draft::bind("given up", &name).text("decision", "refused").text("url", &url);
            record.text("why", "the network bound what no rule is for")
        });
        tracing::error!(name, %error, url, reason = Reason::Endpoint.word(), "the network bound what no rule is for: given up");
        self.status.change(|board| {
            if let Some(state) = board.endpoints.iter_mut().find(|state| state.name == name) {
                (state.bound, state.problem) = (false, format!("{error}: the network bound {url}"));
            }
        });
    }

    fn start(&mut self, endpoint: &EndpointConfig) -> Result<(), Error> {
        if let Err(refusal) = self.guard.endpoint(endpoint, None)
            && refusal.reason == Reason::Endpoint
        {
            self.guard.note(|| {
                let record = Draft::bind("not asked for", &endpoint.name).text("decision", "refused");
                record.text("url", &endpoint.url).text("why", &refusal.to_string())
            });
            return Err(Error::new(Fault::PolicyRefused, refusal.to_string()));
        }
        let upstream = Upstream::new(endpoint, &self.provider)?;
        let termination = Termination::new(endpoint, &self.provider)?;
        if let Some(termination) = &termination {
            termination.tell();
            tokio::spawn(Termination::watch(Arc::downgrade(termination)));
        }
        if endpoint.upstream.tls == Some(crate::config::UpstreamTrust::DangerAnybody) {
            tracing::warn!(name = endpoint.name, "the upstream's certificate is not checked: `insecure` is set");
        }
        let bound = self.uplink.bind(Bind {
            id: BindId(0),
            url: endpoint.url.clone(),
            pooling: endpoint.pooling,
            upstream_protocol: endpoint.upstream.protocol,
            name: endpoint.name.clone(),
            description: endpoint.description.clone(),
            metadata: endpoint.metadata.clone(),
            tls_end: endpoint.tls_end(),
        });
        let (stop, stopped) = oneshot::channel();
        let target = Target {
            endpoint: endpoint.url.clone(),
            upstream: endpoint.upstream.address.clone(),
            protocol: Protocol::of(endpoint),
        };
        let service = Service {
            name: endpoint.name.clone(),
            guard: Arc::clone(&self.guard),
            target: Arc::new(target),
            upstream,
            dials: Semaphore::new(MAX_DIALS),
            termination,
            limits: Arc::clone(&self.limits),
            status: Arc::clone(&self.status),
            capture: (self.store.clone(), Sight::of(endpoint)),
            told: AtomicU64::new(0),
            refusals: Default::default(),
            tallies: Default::default(),
            start: std::time::Instant::now(),
        };
        self.names.insert(bound.id(), endpoint.name.clone());
        self.running.insert(endpoint.name.clone(), Running { config: endpoint.clone(), id: bound.id(), _stop: stop });
        let service = Arc::new(service);
        self.doors.open(&service);
        tokio::spawn(serve(bound, service, stopped));
        Ok(())
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.doors.close_all();
    }
}

/// Returns whether no rule is for the endpoint: then it is not to be bound. Whatever else a rule lacks is told to each caller.
fn is_barred(guard: &Guard, endpoint: &EndpointConfig, url: Option<&str>) -> bool {
    guard.endpoint(endpoint, url).is_err_and(|refusal| refusal.reason == Reason::Endpoint)
}

/// How long connections may take to end when everything is closed, and the network to hear of it.
const CLOSING: Duration = Duration::from_millis(250);
/// Connections to one upstream that are made at once: more would only wait in the kernel.
const MAX_DIALS: usize = 512;
/// Handshakes with callers under way at once, of all endpoints together; others wait for their turn.
const MAX_HANDSHAKES: usize = 1_024;
/// How often an endpoint is tried again whose certificate cannot be used.
const RETRY: Duration = Duration::from_secs(5);
/// How long what has come may take to reach the upstreams when the session is over.
const SETTLE: Duration = Duration::from_secs(2);
