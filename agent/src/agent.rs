//! The running agent: one uplink, its endpoints, and what both tell.

mod account;
mod carry;
mod configure;
mod embed;
mod events;
mod farewell;
mod places;
mod replay;

use core::{
    future::Future,
    pin::{Pin, pin},
    time::Duration,
};
use std::{path::PathBuf, sync::Arc};

use adit_core::{Code, Secret};
use adit_tokio::{Uplink, UplinkOptions};
use rustls::{crypto::CryptoProvider, pki_types::ServerName};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{
    audit::Draft,
    capture::Store,
    config::Config,
    errors::{Error, Fault},
    identity,
    policy::Guard,
    route::Route,
    status::{SessionState, Status},
    trust::{NetworkTls, Way},
};

pub use embed::Detached;

use configure::Remote;
use events::{Memory, Next};
use farewell::Farewell;
use places::Places;

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
    remote: Option<Remote>,
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
        let (updates, remote) = (None, None);
        Ok(Self {
            config,
            token,
            provider,
            tls,
            route,
            status,
            patience,
            reloads,
            state,
            guard,
            store,
            doors,
            updates,
            remote,
        })
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

    /// Does what `guard` allows at most, at every moment; without it, what the configuration says. What the section `agent` names was
    /// read before: see [`Config::under`].
    #[must_use]
    pub fn with_guard(mut self, guard: Arc<Guard>) -> Self {
        self.config.under(&guard);
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
        let outcome = loop {
            if !self.thawed(shutdown.as_mut()).await {
                break Outcome::Ended;
            }
            match self.serve(shutdown.as_mut()).await {
                Some(outcome) => break outcome,
                None => continue, // frozen
            }
        };
        let revocation = Arc::clone(&self.tls.revocation);
        let _ = tokio::task::spawn_blocking(move || revocation.settle()).await;
        outcome
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
                Some(config) = next_config(&mut self.reloads) => {
                    config.under(&self.guard);
                    self.adopt(config);
                }
                Some(news) = Remote::next(&mut self.remote) => drop(self.heard(news)),
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
        if let Err(error) = self.settle(&mut places, self.patience) {
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
                Some(config) = next_config(&mut self.reloads) => self.reload(config, &mut places, &mut memory),
                Some(news) = Remote::next(&mut self.remote) => self.hear(news, &mut places),
            };
            match next {
                Next::Continue => {}
                Next::Configure(order) => self.configure(order, &places),
                Next::Freeze => {
                    places.close(Farewell::Frozen);
                    self.close(&uplink).await;
                    return ending; // an agent that was asked to end does not wait to be thawed
                }
                Next::End(outcome) if ending.is_none() => {
                    self.drain(uplink.clone());
                    places.ending = true;
                    ending = Some(outcome);
                }
                Next::End(_) => {}
                Next::Fail(error) => return Some(Outcome::Failed(error)),
                Next::Over(last) => {
                    self.finish(SETTLE).await;
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
        self.finish(CLOSING).await;
        let closed = uplink.close(Code::FROZEN, "the customer has frozen this agent");
        let _ = timeout(CLOSING, closed).await; // it ends with its last handle
    }

    /// What is allowed has changed.
    fn changed(&self, places: &mut Places) -> Next {
        if self.guard.frozen().is_some() {
            return Next::Freeze;
        }
        // What fails has been told; what was asked for before may be allowed again.
        let _ = self.settle(places, Patience::Service);
        Next::Continue
    }

    /// Lets what has come reach the upstreams after the session is over.
    async fn finish(&self, most: Duration) {
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

    fn reload(&mut self, config: Config, places: &mut Places, memory: &mut Memory) -> Next {
        config.under(&self.guard);
        let endpoints = config.endpoints.len() as u64;
        match self.replace(config, places) {
            Ok(()) => {
                tracing::info!(
                    "configuration read again: endpoints and remote_management are as it says; the rest of `agent` needs a new start"
                );
                self.guard.note(|| Draft::configuration("taken").number("endpoints", endpoints));
            }
            Err(error) => {
                self.guard.note(|| Draft::configuration("not taken").text("why", &error.to_string()));
                tracing::error!(%error, "configuration read again and not taken, but for what `remote_management` takes back");
            }
        }
        memory.allow(self.config.agent.remote_management);
        Next::Continue
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

/// How long connections may take to end when everything is closed, and the network to hear of it.
const CLOSING: Duration = Duration::from_millis(200);
/// How long what has come may take to reach the upstreams when the session is over.
const SETTLE: Duration = Duration::from_secs(2);
