//! The endpoints of a running agent: which are asked for, which wait, and why.

use core::{sync::atomic::AtomicU64, time::Duration};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use adit_core::{Bind, BindId, Code, Unbind, Withheld, escape};
use adit_tokio::{Uplink, UplinkEvent};
use rustls::crypto::CryptoProvider;
use tokio::{
    sync::{Semaphore, oneshot},
    time::Instant,
};

use super::{
    Agent, Doors, Patience,
    carry::{Limits, Service, serve},
    farewell::Farewell,
};
use crate::{
    acme::{Desk, Keeper},
    audit::Draft,
    capture::{Sight, Store},
    config::EndpointConfig,
    errors::{Error, Fault},
    policy::{Guard, Protocol, Reason, Target, Tie},
    status::{EndpointState, Status},
    termination::Termination,
    upstream::Upstream,
};

/// The endpoints that are asked for, each served by a task of its own.
pub(super) struct Places {
    uplink: Uplink,
    provider: Arc<CryptoProvider>,
    status: Arc<Status>,
    limits: Arc<Limits>,
    guard: Arc<Guard>,
    store: Option<Arc<Store>>,
    doors: Arc<Doors>,
    running: BTreeMap<String, Running>,
    pub(super) names: BTreeMap<BindId, String>,
    /// The names of those that the vendor has sent.
    pub(super) remote: BTreeSet<String>,
    /// The names of those that the vendor has sent and the customer does not take any more.
    pub(super) withdrawn: BTreeSet<String>,
    /// Whether the agent ends: nothing more is asked for, and what is not wanted any more is given up all the same.
    pub(super) ending: bool,
    /// Where certificates are ordered.
    desk: Arc<Desk>,
    /// Endpoints whose certificate could not be used when that was tried last.
    waiting: Vec<EndpointConfig>,
    tried: Instant,
    /// What the network was told of endpoints that are not asked for, by URL.
    withheld: BTreeMap<String, Code>,
}

struct Running {
    config: EndpointConfig,
    id: BindId,
    /// Whether the vendor has sent it.
    remote: bool,
    /// By which its connections are cut.
    tie: Arc<Tie>,
    /// Dropped, nobody is taken in any more; connections may finish.
    _stop: oneshot::Sender<()>,
}

impl Places {
    pub(super) fn new(uplink: Uplink, agent: &Agent) -> Self {
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
            remote: BTreeSet::new(),
            withdrawn: BTreeSet::new(),
            ending: false,
            desk: Desk::new(agent.route.clone(), Arc::clone(&agent.guard), Arc::clone(&agent.provider), agent.status()),
            waiting: Vec::new(),
            tried: Instant::now(),
            withheld: BTreeMap::new(),
        }
    }

    /// Tries again what waits for its certificate: it may have been installed since.
    pub(super) fn retry(&mut self) {
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
                    state.told.clear();
                }
            });
        }
    }

    /// Gives up what is gone or has changed, and asks for what is new. Others are not touched. What the policy does not allow waits for
    /// another policy.
    ///
    /// # Errors
    /// When nothing is left to do or to wait for, or anything is wrong for a command.
    pub(super) fn update(&mut self, wanted: &[EndpointConfig], patience: Patience) -> Result<(), Error> {
        let plan = self.plan(wanted);
        let failed = plan.failed();
        let waits = plan.is_of_use() || plan.faults().any(is_refusal);
        self.carry_out(wanted, plan);
        match failed {
            Some(error) if !waits || patience == Patience::Command => Err(error),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes over another configuration, unless nothing could be bound of it.
    ///
    /// # Errors
    /// What is wrong; nothing was given up.
    pub(super) fn replace(&mut self, wanted: &[EndpointConfig]) -> Result<(), Error> {
        let plan = self.plan(wanted);
        if let (false, Some(error)) = (plan.is_of_use(), plan.failed()) {
            return Err(error);
        }
        self.carry_out(wanted, plan);
        Ok(())
    }

    /// Returns whether an endpoint is asked for as it is.
    pub(super) fn has(&self, endpoint: &EndpointConfig) -> bool {
        self.running.get(&endpoint.name).is_some_and(|running| running.config == *endpoint)
    }

    /// Finds out whether endpoints could be served.
    ///
    /// # Errors
    /// The place among them of the first that cannot, and why.
    pub(super) fn try_all<'e>(&self, wanted: impl Iterator<Item = &'e EndpointConfig>) -> Result<(), (usize, Error)> {
        for (at, endpoint) in wanted.enumerate() {
            self.prepare(endpoint).map_err(|error| (at, error))?;
        }
        Ok(())
    }

    /// Finds out what of a configuration can be bound, and gives nothing up for it.
    fn plan(&self, wanted: &[EndpointConfig]) -> Plan {
        let stay =
            |running: &&Running| wanted.contains(&running.config) && !is_barred(&self.guard, &running.config, None);
        let stays: BTreeSet<String> =
            self.running.values().filter(stay).map(|running| running.config.name.clone()).collect();
        let mut ready = BTreeMap::new();
        let new = wanted.iter().filter(|endpoint| !self.ending && !stays.contains(&endpoint.name));
        for endpoint in new {
            let prepared = self.prepare(endpoint);
            if let Err(error) = &prepared {
                tracing::error!(name = endpoint.name, %error, remedy = error.fault.entry().remedy, "endpoint not possible");
            }
            ready.insert(endpoint.name.clone(), prepared);
        }
        Plan { stays, ready }
    }

    fn carry_out(&mut self, wanted: &[EndpointConfig], mut plan: Plan) {
        self.leave(wanted, &plan);
        self.waiting.clear();
        let (mut states, mut faults) = (Vec::new(), Vec::new());
        for endpoint in wanted {
            let mut state = EndpointState {
                name: endpoint.name.clone(),
                url: endpoint.url.clone(),
                upstream: endpoint.upstream.address.to_string(),
                tls: endpoint.tls_end(),
                bound: false,
                problem: String::new(),
                told: String::new(),
                refusal: String::new(),
                certificate: None,
                remote: false,
            };
            match plan.ready.remove(&endpoint.name) {
                Some(Ok(ready)) => self.bind(endpoint, ready),
                Some(Err(error)) => {
                    let why = Farewell::of(error.fault);
                    (state.problem, state.told) = (error.to_string(), why.code().to_string());
                    faults.push((endpoint, why));
                    if error.fault == Fault::CertificateUnusable {
                        self.waiting.push(endpoint.clone());
                    }
                }
                None => {
                    let Some(running) = self.running.get_mut(&endpoint.name) else { continue }; // the agent ends
                    running.remote = self.remote.contains(&endpoint.name);
                    let board = self.status.board();
                    state = board.endpoints.into_iter().find(|known| known.name == endpoint.name).unwrap_or(state);
                }
            }
            state.refusal = self.refusal(endpoint);
            state.remote = self.remote.contains(&endpoint.name);
            states.push(state);
        }
        self.withhold(&faults);
        self.status.change(|board| board.endpoints = states);
    }

    /// Tells the network which endpoints are not asked for, and takes back what it was told of others. An endpoint that another
    /// part of the configuration serves is not withheld.
    fn withhold(&mut self, faults: &[(&EndpointConfig, Farewell)]) {
        let before = core::mem::take(&mut self.withheld);
        for (endpoint, why) in faults {
            if self.running.values().any(|running| running.config.url == endpoint.url) {
                continue;
            }
            if before.get(&endpoint.url) != Some(&why.code()) {
                self.say_withheld(endpoint, *why);
            }
            self.withheld.insert(endpoint.url.clone(), why.code());
        }
        for url in before.into_keys().filter(|url| !self.withheld.contains_key(url)) {
            self.uplink.withhold(Withheld::taken_back(url));
        }
    }

    fn say_withheld(&self, endpoint: &EndpointConfig, why: Farewell) {
        let (name, url, code) = (&endpoint.name, endpoint.url.clone(), why.code());
        self.guard.note(|| {
            let record = Draft::bind("withheld", name).text("url", &url);
            record.text("why", why.text()).text("told", &code.to_string())
        });
        tracing::info!(name, why = why.text(), told = %code, "endpoint not asked for: the network is told");
        self.uplink.withhold(Withheld { url, code, text: why.text().to_owned(), tls_end: endpoint.tls_end() });
    }

    /// Gives up what does not stay, and says why.
    fn leave(&mut self, wanted: &[EndpointConfig], plan: &Plan) {
        for (name, running) in core::mem::take(&mut self.running) {
            if plan.stays.contains(&name) {
                self.running.insert(name, running);
                continue;
            }
            let why = self.parting(&running, wanted, plan);
            self.part(&running, why);
        }
    }

    fn part(&mut self, running: &Running, why: Farewell) {
        let name = &running.config.name;
        self.names.remove(&running.id);
        self.doors.close(name);
        self.guard.note(|| {
            let record = Draft::bind("given up", name).text("url", &running.config.url);
            record.text("why", why.text()).text("told", &why.code().to_string())
        });
        tracing::info!(name, why = why.text(), told = %why.code(), "endpoint given up");
        self.say(running, why);
    }

    /// Tells the network: before anything is asked for anew, which might be the same URL.
    fn say(&self, running: &Running, why: Farewell) {
        // What is open may finish; but not what the vendor has sent: it would outlast the customer's word for it. That is cut here, too: a
        // session that drains does not hear of it, and the network need not do as it is told.
        if running.remote {
            self.guard.cut(&running.tie, why.text());
        }
        self.uplink.give_up(&Unbind::new(running.id).cutting(running.remote).because(why.code(), why.text()));
    }

    /// Returns why an endpoint does not stay as it is.
    fn parting(&self, running: &Running, wanted: &[EndpointConfig], plan: &Plan) -> Farewell {
        let name = &running.config.name;
        let is_wanted = wanted.iter().any(|endpoint| endpoint.name == *name);
        if !is_wanted && self.withdrawn.contains(name) {
            return Farewell::Withdrawn;
        }
        let fault = plan.ready.get(name).and_then(|prepared| prepared.as_ref().err()).map(|error| error.fault);
        if is_barred(&self.guard, &running.config, None) || fault.is_some_and(is_refusal) {
            return Farewell::Disallowed;
        }
        if !is_wanted {
            return Farewell::Removed;
        }
        // With any fault it is not asked for anew.
        if fault == Some(Fault::CertificateUnusable) { Farewell::Certificate } else { Farewell::Changed }
    }

    /// Gives everything up, and says why.
    pub(super) fn close(mut self, why: Farewell) {
        for running in core::mem::take(&mut self.running).into_values() {
            self.say(&running, why);
        }
    }

    /// Tells what of the policy refuses every connection of an endpoint that is bound; nothing if it may be used.
    fn refusal(&self, endpoint: &EndpointConfig) -> String {
        let Err(refusal) = self.guard.endpoint(endpoint, None) else { return String::new() };
        if self.running.contains_key(&endpoint.name) {
            let (rule, reason) = (refusal.rule.as_deref(), refusal.reason.word());
            let error = refusal.fault();
            tracing::warn!(name = endpoint.name, %error, rule, reason, detail = %refusal, "callers of the endpoint are refused");
        }
        format!("{}: {refusal}", refusal.fault())
    }

    /// Returns the endpoint of which the network says that it has bound more, or something else, than the policy has.
    pub(super) fn overbound(&self, event: &UplinkEvent) -> Option<(BindId, String)> {
        let UplinkEvent::Bound { id, url, .. } = event else { return None };
        let running = self.running.values().find(|running| running.id == *id)?;
        is_barred(&self.guard, &running.config, Some(url)).then(|| (*id, url.clone()))
    }

    pub(super) fn give_up(&mut self, (id, url): (BindId, String)) {
        let name = self.names.remove(&id).unwrap_or_default();
        let why = Farewell::BoundOtherwise;
        let left = self.running.remove(&name);
        if let Some(running) = &left {
            self.say(running, why);
        }
        self.doors.close(&name);
        let (error, url) = (Fault::PolicyRefused, escape(&url).to_string());
        self.guard.note(|| {
            let record = Draft::bind("given up", &name).text("decision", "refused").text("url", &url);
            record.text("why", "the network bound what no rule is for").text("told", &why.code().to_string())
        });
        let (reason, told) = (Reason::Endpoint.word(), why.code());
        tracing::error!(name, %error, url, reason, %told, "the network bound what no rule is for: given up");
        if let Some(Running { config, .. }) = left {
            self.say_withheld(&config, Farewell::Disallowed);
            self.withheld.insert(config.url, Code::DISALLOWED);
        }
        self.status.change(|board| {
            if let Some(state) = board.endpoints.iter_mut().find(|state| state.name == name) {
                (state.bound, state.problem) = (false, format!("{error}: the network bound {url}"));
                state.told = told.to_string();
            }
        });
    }

    fn start(&mut self, endpoint: &EndpointConfig) -> Result<(), Error> {
        let ready = self.prepare(endpoint)?;
        self.bind(endpoint, ready);
        Ok(())
    }

    /// Does what may fail before an endpoint is asked for.
    fn prepare(&self, endpoint: &EndpointConfig) -> Result<Ready, Error> {
        if let Err(refusal) = self.guard.endpoint(endpoint, None)
            && refusal.bars()
        {
            self.guard.note(|| {
                let record = Draft::bind("not asked for", &endpoint.name).text("decision", "refused");
                record.text("url", &endpoint.url).text("why", &refusal.to_string())
            });
            return Err(Error::new(refusal.fault(), refusal.to_string()));
        }
        let upstream = Upstream::new(endpoint, &self.provider)?;
        Ok(Ready { upstream, termination: Termination::new(endpoint, &self.provider)? })
    }

    /// Asks for an endpoint, and serves it.
    fn bind(&mut self, endpoint: &EndpointConfig, Ready { upstream, termination }: Ready) {
        if let Some(termination) = &termination {
            termination.tell();
            tokio::spawn(Termination::watch(Arc::downgrade(termination)));
            if let Some(keeper) = Keeper::new(endpoint, termination, &self.desk) {
                tokio::spawn(keeper.run());
            }
        }
        if endpoint.upstream.tls == Some(crate::config::UpstreamTrust::DangerAnybody) {
            tracing::warn!(name = endpoint.name, "the upstream's certificate is not checked: `insecure` is set");
        }
        self.withheld.remove(&endpoint.url); // the bind takes it back
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
        let tie = Arc::<Tie>::default();
        let service = Service {
            name: endpoint.name.clone(),
            guard: Arc::clone(&self.guard),
            target: Arc::new(target),
            tie: Arc::clone(&tie),
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
        let remote = self.remote.contains(&endpoint.name);
        let running = Running { config: endpoint.clone(), id: bound.id(), remote, tie, _stop: stop };
        self.running.insert(endpoint.name.clone(), running);
        let service = Arc::new(service);
        self.doors.open(&service);
        tokio::spawn(serve(bound, service, stopped));
    }
}

/// What becomes of a configuration.
struct Plan {
    /// What is bound and stays as it is.
    stays: BTreeSet<String>,
    /// What is new, by name.
    ready: BTreeMap<String, Result<Ready, Error>>,
}

/// An endpoint of which all is there that it needs.
struct Ready {
    upstream: Upstream,
    termination: Option<Arc<Termination>>,
}

impl Plan {
    /// Returns whether anything of it is or can be bound, if only once its certificate has come.
    fn is_of_use(&self) -> bool {
        let is_possible = |prepared: &Result<Ready, Error>| match prepared {
            Ok(_) => true,
            Err(error) => error.fault == Fault::CertificateUnusable,
        };
        !self.stays.is_empty() || self.ready.values().any(is_possible)
    }

    fn faults(&self) -> impl Iterator<Item = Fault> {
        self.ready.values().filter_map(|prepared| prepared.as_ref().err()).map(|error| error.fault)
    }

    /// Returns the last that is wrong.
    fn failed(&self) -> Option<Error> {
        self.ready.values().rev().find_map(|prepared| prepared.as_ref().err()).cloned()
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.doors.close_all();
    }
}

/// Returns whether no rule is for the endpoint, or it names a file that it may not: then it is not to be bound. Whatever else a rule lacks is told to each caller.
fn is_barred(guard: &Guard, endpoint: &EndpointConfig, url: Option<&str>) -> bool {
    guard.endpoint(endpoint, url).is_err_and(|refusal| refusal.bars())
}

/// Returns whether another policy is to be waited for.
pub(super) fn is_refusal(fault: Fault) -> bool {
    matches!(fault, Fault::PolicyRefused | Fault::FileRefused)
}

/// Connections to one upstream that are made at once: more would only wait in the kernel.
const MAX_DIALS: usize = 512;
/// Handshakes with callers under way at once, of all endpoints together; others wait for their turn.
const MAX_HANDSHAKES: usize = 1_024;
/// How often an endpoint is tried again whose certificate cannot be used.
const RETRY: Duration = Duration::from_secs(5);
