//! `adit http|tcp|tls|start`: the agent as a process.

use core::num::NonZeroUsize;
use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    sync::Arc,
};

use adit_core::{Secret, TlsEnd, UpstreamProtocol};
use rustls::crypto::CryptoProvider;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot, watch},
};

use super::{
    Failure,
    arguments::{Global, One, Start},
    configuration::{files, governed, load, overrides},
    policy, update,
};
use crate::{
    agent::{Agent, Outcome, Wish},
    capture::Store,
    config::{
        AgentConfig, ClientCertificates, ClientMode, Config, EndpointConfig, Kind, LogOutput, NamedFile, Overrides,
        ProxyVersion, RemoteManagement, TerminationConfig, TlsVersion, UpstreamTrust, endpoint_without_file, nearest,
        token,
    },
    errors::{Error, Exit, Fault},
    identity::state_folder,
    local::{self, Local, Place, Sources},
    log::{self, Recent},
    notify::Notifier,
    policy::Watch,
    remote::{Desk, Keeping, RemoteFile},
    view,
};

/// Runs one endpoint that the command line describes.
pub(super) fn one(global: &Global, kind: Kind, one: &One, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let freezer = policy::freezer_on_signal(global)?;
    let endpoint = endpoint(kind, one)?;
    let mut files = files(global);
    // Only a file that was named has to exist.
    files.retain(|file| !global.config.is_empty() || std::env::var_os("ADIT_CONFIG").is_some() || file.exists());
    let mut config = load(&files, &overrides(global))?;
    config.endpoints = vec![endpoint];
    let (shown, recent) = start_log(&config.agent, None)?;
    let mut watch = policy::open_with(global, freezer, provider)?;
    watch.keep(state_folder())?;
    let _watching = watch.start()?;
    let config = governed(config, &watch).inspect_err(|_| watch.close())?;
    let token = token(&config.agent.token)?;
    let store = Store::new(&config.agent.local.capture, watch.guard());
    let place = Place { config: config.agent.local.clone(), name: std::process::id().to_string() };
    let view = Shown { shown, recent, store: Arc::clone(&store), place, provider: Arc::clone(provider) };
    // Without a lasting name: two commands in two terminals share a configuration and are two agents.
    let mut agent =
        Agent::new(config, token, Arc::clone(provider))?.impatient().with_guard(watch.guard()).with_store(store);
    if let Some(folder) = state_folder() {
        agent = agent.keeping_lists(folder);
    }
    let outcome = drive(agent, &view);
    watch.close();
    match outcome? {
        Some(Outcome::Failed(error)) => Err(error.into()),
        Some(Outcome::Ended | Outcome::Restart) => Ok(Exit::Fine),
        None => Ok(Exit::Interrupted),
    }
}

fn endpoint(kind: Kind, one: &One) -> Result<EndpointConfig, Failure> {
    let mut endpoint = endpoint_without_file(kind, one.url.as_deref(), &one.upstream, one.crt.is_some())
        .map_err(|problem| Failure::usage(&problem))?;
    endpoint.pooling = one.pooling;
    endpoint.metadata = one.metadata.clone().unwrap_or_default();
    endpoint.description = one.description.clone().unwrap_or_default();
    endpoint.upstream.proxy_protocol = one.proxy_protocol.as_deref().and_then(ProxyVersion::parse);
    if one.upstream_protocol.as_deref() == Some("http2") {
        endpoint.upstream.protocol = UpstreamProtocol::Http2;
    }
    let trust = match (&one.upstream_ca, one.upstream_insecure) {
        (Some(path), _) => Some(UpstreamTrust::File(path.clone().into())),
        (None, true) => Some(UpstreamTrust::DangerAnybody),
        (None, false) => None,
    };
    endpoint.termination = termination(&endpoint, one)?;
    match (&mut endpoint.upstream.tls, trust) {
        (Some(tls), Some(trust)) => *tls = trust,
        (None, Some(_)) => {
            return Err(Failure::usage("the upstream is not spoken to in TLS: write https:// or tls:// before it"));
        }
        (_, None) => {}
    }
    Ok(endpoint)
}

/// Returns how TLS ends here, if it does.
fn termination(endpoint: &EndpointConfig, one: &One) -> Result<Option<TerminationConfig>, Failure> {
    let (Some(certificate), Some(key)) = (&one.crt, &one.key) else { return Ok(None) };
    if !TlsEnd::Agent.fits(&endpoint.url) {
        return Err(Failure::usage(
            "--crt: TLS of such an endpoint cannot end here; give it an https:// or tls:// URL",
        ));
    }
    let is_http = endpoint.kind == Kind::Http || endpoint.upstream.is_http;
    let authority = one.mutual_tls_cas.clone().map(NamedFile::from);
    Ok(Some(TerminationConfig {
        certificate: certificate.clone().into(),
        key: key.clone().into(),
        min_version: TlsVersion::V12,
        max_version: TlsVersion::V13,
        clients: authority.map(|file| ClientCertificates { mode: ClientMode::Verify, authorities: vec![file] }),
        revocation: None,
        identity_headers: false,
        http: is_http.then_some(endpoint.upstream.protocol),
        acme: None,
    }))
}

/// Runs endpoints of the configuration.
pub(super) fn start(global: &Global, start: &Start, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let freezer = policy::freezer_on_signal(global)?;
    let source =
        Source { files: files(global), overrides: overrides(global), names: (!start.all).then(|| start.names.clone()) };
    let trial = update::begin(freezer.frozen().is_some())?;
    let config = source.load()?;
    let (shown, recent) = start_log(&config.agent, start.service.as_deref())?;
    // Over restarts that the vendor asks for, so that nothing is counted anew.
    let mut watch = policy::open_with(global, freezer, provider)?;
    watch.keep(state_folder())?;
    let _watching = watch.start()?;
    let config = governed(config, &watch).inspect_err(|_| watch.close())?;
    let token = token(&config.agent.token)?;
    let versions = update::Service::new(trial, &config.agent, provider);
    let store = Store::new(&config.agent.local.capture, watch.guard());
    let place = Place { config: config.agent.local.clone(), name: local::name_of(&config.files, provider) };
    let view = Shown { shown, recent, store, place, provider: Arc::clone(provider) };
    let exit = run_again(&source, config, (&token, &view, &versions), &watch, provider);
    watch.close();
    match exit {
        Ok(Exit::Fine) if versions.is_replaced() => Err(update::start_anew()),
        exit => exit,
    }
}

/// Runs agents one after the other, for as long as the vendor asks for another start.
fn run_again(
    source: &Source,
    mut config: Config,
    (token, view, versions): (&Secret, &Shown, &update::Service),
    watch: &Watch,
    provider: &Arc<CryptoProvider>,
) -> Result<Exit, Failure> {
    let notifier = Notifier::from_environment().map(Arc::new);
    let (word, last_word) = watch::channel(config.agent.remote_management);
    loop {
        let ((sender, reloads), (updates, asked)) = (mpsc::channel(1), mpsc::channel(1));
        let mut agent = Agent::new(config.clone(), token.clone(), Arc::clone(provider))?.with_reloads(reloads);
        agent = agent.with_guard(watch.guard()).with_store(Arc::clone(&view.store)).with_updates(updates);
        if let Some(folder) = state_folder() {
            agent = agent.keeping_lists(folder.clone()).with_state(folder);
        }
        let mut keeping = None;
        if let Some(file) = source.remote(provider) {
            let (found, desk, keeper) = Desk::open(file);
            agent = agent.with_remote(found, desk);
            keeping = Some(keeper);
        }
        let reload = Reload { source: source.clone(), sender, notifier: notifier.clone(), word: word.clone() };
        match drive_reloading(agent, view, (watch.clone(), keeping), reload, (versions.clone(), asked))? {
            Some(Outcome::Ended) => return Ok(Exit::Fine),
            Some(Outcome::Failed(error)) => return Err(error.into()),
            None => return Ok(Exit::Interrupted),
            Some(Outcome::Restart) => match source.load_again().and_then(|config| governed(config, watch)) {
                Ok(again) => config = again,
                Err(failure) => {
                    // What was taken back meanwhile is not allowed again by what the vendor asks for.
                    let allowed = &mut config.agent.remote_management;
                    *allowed = allowed.intersect(*last_word.borrow());
                    tracing::error!(error = failure.text, "configuration not taken: the last one stays");
                }
            },
        }
    }
}

/// Where the configuration is from, and what of it is run.
#[derive(Clone, Debug)]
struct Source {
    files: Vec<PathBuf>,
    overrides: Overrides,
    names: Option<Vec<String>>,
}

impl Source {
    /// Returns where it is kept what the vendor sends: to an agent that has all endpoints of its configuration.
    fn remote(&self, provider: &CryptoProvider) -> Option<RemoteFile> {
        let state = state_folder().filter(|_| self.names.is_none())?;
        RemoteFile::of(&self.files, &state, provider)
    }

    /// Reads what an agent begins with.
    fn load(&self) -> Result<Config, Failure> {
        let config = self.load_again()?;
        // The vendor may send some, where the customer lets it.
        if config.endpoints.is_empty() && !(self.names.is_none() && config.agent.remote_management.configuration) {
            return Err(Error::no_endpoints().into());
        }
        Ok(config)
    }

    /// Reads what an agent goes on with: whether it may be without endpoints is for the agent, which knows what it has of the vendor.
    fn load_again(&self) -> Result<Config, Failure> {
        let mut config = load(&self.files, &self.overrides)?;
        let known: Vec<_> = config.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
        if let Some(names) = &self.names {
            if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
                let hint = nearest(unknown, known.iter().map(String::as_str), "");
                let detail = format!("`{}`. {hint}", unknown.escape_debug());
                return Err(Error::new(Fault::EndpointUnknown, detail.trim_end().to_owned()).into());
            }
            config.endpoints.retain(|endpoint| names.contains(&endpoint.name));
        }
        Ok(config)
    }
}

/// What shows how the agent is: on its terminal, and to whoever asks.
struct Shown {
    shown: bool,
    recent: Arc<Recent>,
    store: Arc<Store>,
    place: Place,
    provider: Arc<CryptoProvider>,
}

/// Starts the log; returns whether the state is shown on the terminal, and what keeps the last lines.
fn start_log(agent: &AgentConfig, service: Option<&str>) -> Result<(bool, Arc<Recent>), Failure> {
    let free = match agent.log {
        LogOutput::Auto => agent.log_format.is_none(),
        LogOutput::Off | LogOutput::File(_) => true,
        LogOutput::Stderr | LogOutput::Stdout => false,
    };
    let shown = free && io::stdout().is_terminal();
    let recent = log::start(agent, shown, service)?;
    raise_file_limit();
    Ok((shown, recent))
}

/// Returns the runtime of the process: workers on half of the cores, or as many as `TOKIO_WORKER_THREADS` says. The
/// upstream that is beside the agent needs the others, and so does the kernel.
pub(super) fn runtime() -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        builder.worker_threads((cores / 2).max(1));
    }
    builder.enable_all().build()
}

/// Runs an agent to its end; `None` when it was interrupted.
fn drive(agent: Agent, shown: &Shown) -> Result<Option<Outcome>, Failure> {
    let runtime = runtime()?;
    let outcome = runtime.block_on(until_interrupted(agent, shown, None, core::future::pending()));
    runtime.shutdown_background();
    outcome
}

/// What is read again, who is given it, and who is told.
struct Reload {
    source: Source,
    sender: mpsc::Sender<Config>,
    notifier: Option<Arc<Notifier>>,
    /// What the last one that could be read lets the vendor ask for.
    word: watch::Sender<RemoteManagement>,
}

fn drive_reloading(
    agent: Agent,
    shown: &Shown,
    (watch, keeping): (Watch, Option<Keeping>),
    reload: Reload,
    (versions, asked): (update::Service, mpsc::Receiver<Wish>),
) -> Result<Option<Outcome>, Failure> {
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let notifier = reload.notifier.clone();
        tokio::spawn(reload_on_signal(reload, watch.clone()));
        if let Some(keeping) = keeping {
            tokio::spawn(keeping.run());
        }
        tokio::spawn(versions.clone().look_after(agent.status(), watch.guard(), asked));
        until_interrupted(agent, shown, notifier, versions.again()).await
    });
    runtime.shutdown_background();
    outcome
}

/// Runs an agent until it ends, is interrupted, or is to be started `again`.
async fn until_interrupted(
    agent: Agent,
    shown: &Shown,
    notifier: Option<Arc<Notifier>>,
    again: impl Future<Output = ()>,
) -> Result<Option<Outcome>, Failure> {
    let status = agent.status();
    let telling = notifier.clone().map(|notifier| tokio::spawn(notifier.tell(Arc::clone(&status))));
    let sources = Sources::of(&agent, Arc::clone(&shown.store), Arc::clone(&shown.recent));
    let (end, ended) = oneshot::channel();
    let mut signals = Signals::new()?;
    let local = Local::start(shown.place.clone(), Arc::new(sources), Arc::clone(&shown.provider));
    let view = shown.shown.then(|| tokio::spawn(view::show(status)));
    let run = agent.run(async move {
        let _ = ended.await; // gone without a word means the same
    });
    let mut run = core::pin::pin!(run);
    let mut stays = false;
    let first = tokio::select! {
        outcome = &mut run => Some(outcome),
        () = signals.next() => None,
        () = again => {
            stays = true; // the process goes on as another program: systemd is not told that it ends
            None
        }
    };
    let outcome = match first {
        Some(outcome) => Some(outcome),
        None => {
            if let Some(notifier) = notifier.as_ref().filter(|_| !stays) {
                notifier.stopping();
            }
            let _ = end.send(()); // it waits for that
            tokio::select! {
                outcome = &mut run => Some(outcome),
                () = signals.next() => None,
            }
        }
    };
    for task in view.into_iter().chain(telling) {
        task.abort();
    }
    local.stop().await;
    Ok(outcome)
}

/// SIGINT and SIGTERM.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

/// What a service of Windows is told in place of a signal.
#[cfg(not(unix))]
static STOP: tokio::sync::Notify = tokio::sync::Notify::const_new();

/// Ends what runs, as SIGTERM does elsewhere.
#[cfg(windows)]
pub(super) fn stop() {
    STOP.notify_one();
}

#[cfg(not(unix))]
impl Signals {
    const fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = STOP.notified() => {}
        }
    }
}

#[cfg(unix)]
async fn reload_on_signal(reload: Reload, policy: Watch) {
    use tokio::signal::unix::{SignalKind, signal};

    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        policy.read_again();
        if let Some(notifier) = &reload.notifier {
            notifier.reloading();
        }
        let source = reload.source.clone();
        let loaded = tokio::task::spawn_blocking(move || source.load_again()).await;
        let problem = match loaded {
            Ok(Ok(config)) => {
                reload.word.send_replace(config.agent.remote_management);
                if reload.sender.send(config).await.is_err() {
                    return;
                }
                None
            }
            Ok(Err(failure)) => Some(failure.text),
            Err(_) => Some(Fault::Internal.to_string()),
        };
        if let Some(error) = &problem {
            tracing::error!(error, "configuration not taken: the last one stays");
        }
        if let Some(notifier) = &reload.notifier {
            notifier.reloaded(problem.as_deref());
        }
    }
}

#[cfg(not(unix))]
async fn reload_on_signal(_: Reload, _: Watch) {}

/// Asks for as many open files as the system gives: each connection is one.
#[cfg(unix)]
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        tracing::debug!("the limit of open files stays as it is");
    }
}

#[cfg(not(unix))]
const fn raise_file_limit() {}
