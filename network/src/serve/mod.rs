//! The life of the process: start everything, watch the database and the signals, drain, end.

mod descriptors;
mod endpoints;
mod panics;
mod probes;
mod reload;
mod watch;

use core::{net::SocketAddr, num::NonZeroUsize, time::Duration};
use std::{
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

use crate::{
    Edge, Fault, NamePattern, Phase,
    admin::{self, AdminState, Readiness},
    certificates::{self, CertificateError, Certificates, Kept, KeptError, Loaded, Register, acme::Issuer},
    config::Config,
    crl,
    endpoints::Draft,
    fetch::Fetcher,
    http::HttpEdge,
    ingress::{Admitted, Commands, Entrances, Ingress, Sessions, Unnoted},
    log::LogHandle,
    policy::{PolicyFault, World},
    pressure,
    public::{Ports, Public, Terminator},
    random,
    router::Key,
    seeing::Seeing,
    store::{Kind, Store, StoreError, Vault},
    tls::{self, TermsTable, TrustError},
};

/// Why the network could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A certificate cannot be used.
    #[error("a certificate cannot be used: {0}")]
    Certificate(#[from] CertificateError),
    /// The database cannot be used.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Policies are not valid.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Policy(Vec<PolicyFault>),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({what}): {error}")]
    Listen {
        /// The key of the configuration.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// A certificate of the database cannot be used.
    #[error("{0}")]
    Kept(#[from] KeptError),
    /// The access log cannot be opened.
    #[error("the access log (log.access.to) cannot be opened: {0}")]
    AccessLog(io::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] TrustError),
    /// Something else in the operating system.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The network, started.
struct Network {
    edge: Arc<Edge>,
    http: Arc<HttpEdge<Edge>>,
    ingress: Arc<Ingress>,
    readiness: Arc<Readiness>,
    bound: Bound,
}

/// Where everything listens.
#[derive(Debug, Default)]
struct Bound {
    http: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    ingress: Vec<SocketAddr>,
    crl: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
}

/// Serves until a signal ends it: SIGTERM and SIGINT drain, a second one ends at once, SIGHUP reloads from `path`. With
/// `ready`, one JSON line on standard output tells the addresses once everything listens.
///
/// # Errors
/// [`ServeError`]: nothing was served.
pub async fn run(config: Config, path: &Path, ready: bool, log: LogHandle) -> Result<(), ServeError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut signals = Signals::new()?;
    descriptors::prepare(&config.limits);
    let network = start(&config, &provider).await?;
    info!(node = %config.node, region = %config.region, "the network serves");
    if ready {
        announce(&network.bound, &config)?;
    }
    let watch = tokio::spawn(watch::run(Arc::clone(&network.ingress), Arc::clone(&network.readiness)));
    let (stop, stopped) = oneshot::channel();
    let post = tokio::spawn(Arc::clone(&network.ingress).correspond(stopped));
    let probes = tokio::spawn(probes::run(Arc::clone(&network.edge)));
    let pressure = tokio::spawn(pressure::watch(Arc::clone(&network.edge)));
    let mut current = config;
    while signals.next().await == Wish::Reload {
        network.edge.seeing.load().reopen(); // whatever becomes of the rest: logrotate waits for it
        current = reload::reload(&provider, &network.http, &network.ingress, path, current, &log).await;
    }
    drain(&network, &mut signals, current.drain_deadline).await;
    network.edge.seeing.load_full().flush().await;
    drop(stop);
    // Without it the other nodes find out by themselves.
    let _ = tokio::time::timeout(FAREWELL, post).await;
    watch.abort();
    pressure.abort();
    probes.abort();
    Ok(())
}

async fn start(config: &Config, provider: &Arc<CryptoProvider>) -> Result<Network, ServeError> {
    // Certificates are signed with the provider that the process has chosen.
    let _ = CryptoProvider::install_default(provider.as_ref().clone());
    let draft = Draft::read(config, None).map_err(ServeError::Policy)?;
    let certificates = Arc::new(read_certificates(config)?);
    let store = Arc::new(Store::open(&config.database).await?);
    let (vault, issuer) = unlock(config, &store, &certificates).await?;
    let mut edge = Edge::new(config.limits, Arc::clone(&certificates));
    let fetcher = Fetcher::new(&config.policy_fetch, config.limits, Arc::clone(&edge.metrics))?;
    edge.world = Arc::new(World::new(fetcher));
    let edge = Arc::new(edge);
    edge.world.reach(&edge);
    edge.revocation.load(&store).await?;
    receive(&edge, config, &draft, provider);
    edge.metrics.store_up.set(1);
    edge.metrics.traffic.set_most(config.limits.labelled_endpoints);
    let seeing = Seeing::start(config, &edge.metrics).map_err(ServeError::AccessLog)?;
    edge.seeing.store(Arc::new(seeing));
    panics::watch(&edge.metrics);
    for endpoint in store.endpoints().await? {
        if let Some(key) = Key::parse(&endpoint) {
            edge.router.write().remember(key);
        }
    }
    let http = Arc::new(HttpEdge::new(Arc::clone(&edge), (&config.limits).into()));
    let tls = Arc::new(Terminator::new(certificates, &config.domains, Arc::clone(provider))?);
    let public = Public { edge: Arc::clone(&edge), http: Arc::clone(&http), tls };
    let mut bound = Bound::default();
    for address in &config.http {
        bound.http.push(listening("http.listen", *address, public.listen_http(*address))?);
    }
    for address in &config.https {
        bound.https.push(listening("https.listen", *address, public.listen_tls(*address))?);
    }
    let entrances = Entrances {
        domains: config.domains.clone(),
        http: bound.http.first().map(SocketAddr::port),
        https: bound.https.first().map(SocketAddr::port),
        ports: config.tcp.as_ref().map(|tcp| tcp.ports.clone()).unwrap_or_default(),
        tcp: config.tcp.as_ref().map(|tcp| Ports::new(tcp.address, public.clone())),
    };
    let ingress = Arc::new(Ingress {
        edge: Arc::clone(&edge),
        http: Arc::clone(&http),
        store,
        sessions: Arc::new(Sessions::default()),
        entrances,
        region: config.region.clone(),
        node: config.node.clone(),
        run: identity(),
        commands: Commands::default(),
        unnoted: Unnoted::default(),
        admitted: ArcSwap::from_pointee(Admitted::new(&config.ingress.custom)),
        heartbeat: ArcSwap::from_pointee(config.heartbeat),
        protocol: protocol(config),
    });
    let endpoints = endpoints::prepare(&ingress, draft).await?;
    endpoints::apply(&ingress, endpoints).await;
    tend(&ingress, vault, issuer);
    for address in &config.ingress.listen {
        bound.ingress.push(listening("ingress.listen", *address, ingress.listen(*address, provider))?);
    }
    let readiness = Arc::new(Readiness::default());
    readiness.set_ingress(true);
    readiness.set_database(true);
    bound.crl = give_list(config, &edge.certificates).await?;
    if let Some(address) = config.admin {
        bound.admin = Some(show(address, &edge, &readiness).await?);
    }
    Ok(Network { edge, http, ingress, readiness, bound })
}

/// Returns a name that no other run of the network has.
fn identity() -> String {
    let mut octets = [0; 16];
    random::fill(&mut octets);
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Reads the certificates; the first revocation list is signed where the configuration gives one out.
fn read_certificates(config: &Config) -> Result<Certificates, CertificateError> {
    if let (Some(crl), Some(folder)) = (&config.crl, &config.private_ca)
        && Register::begin(folder, crl.term)?
    {
        info!("the first revocation list of the private CA was signed");
    }
    let certificates = Certificates::new(Loaded::read(config)?);
    if let Err(error) = certificates.note_issued() {
        warn!(%error, "the register of the private CA cannot be written: the ingress's certificate cannot be revoked");
    }
    Ok(certificates)
}

/// Gives out the revocation list of the private CA on addresses of its own.
async fn give_list(config: &Config, certificates: &Arc<Certificates>) -> Result<Vec<SocketAddr>, ServeError> {
    let mut bound = Vec::new();
    for address in config.crl.iter().flat_map(|crl| &crl.listen) {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| ServeError::Listen { what: "crl.listen", address: *address, error })?;
        bound.push(listener.local_addr()?);
        tokio::spawn(crl::serve(listener, Arc::clone(certificates)));
    }
    Ok(bound)
}

/// Shows health and numbers to the operator.
async fn show(address: SocketAddr, edge: &Arc<Edge>, readiness: &Arc<Readiness>) -> Result<SocketAddr, ServeError> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| ServeError::Listen { what: "admin.listen", address, error })?;
    let bound = listener.local_addr()?;
    let (metrics, readiness, of) = (Arc::clone(&edge.metrics), Arc::clone(readiness), Arc::clone(edge));
    let endpoints = Box::new(move |url: Option<&str>| of.page(url));
    let state = Arc::new(AdminState { metrics, readiness, endpoints });
    tokio::spawn(admin::serve(listener, state, core::future::pending()));
    Ok(bound)
}

/// Opens what is encrypted in the database, and makes ready who orders certificates.
async fn unlock(
    config: &Config,
    store: &Arc<Store>,
    certificates: &Certificates,
) -> Result<(Option<Arc<Vault>>, Option<Arc<Issuer>>), ServeError> {
    let vault = config.secrets.as_ref().map(Vault::load).transpose().map_err(StoreError::from)?.map(Arc::new);
    store.check_secrets(vault.as_deref()).await?;
    let Some(vault) = vault else { return Ok((None, None)) };
    certificates.set_own(Kept::all(store, &vault, Kind::Own).await?);
    let issuer = Issuer::new(config, store, &vault)?;
    if let Some(issuer) = &issuer {
        certificates.set_issuer(Arc::clone(issuer));
    }
    Ok((Some(vault), issuer))
}

/// Keeps the certificates up to date from here on.
fn tend(ingress: &Arc<Ingress>, vault: Option<Arc<Vault>>, issuer: Option<Arc<Issuer>>) {
    let (edge, kept, of) = (&ingress.edge, (Arc::clone(&ingress.store), vault), Arc::clone(ingress));
    let revoked = move || of.renew_sessions();
    let watch = certificates::watch::run(Arc::clone(&edge.certificates), Arc::clone(&edge.metrics), kept, revoked);
    tokio::spawn(watch);
    tokio::spawn(Arc::clone(ingress).tell_revocations());
    tokio::spawn(tls::watch_revocations(Arc::clone(edge), Arc::clone(&ingress.store)));
    tokio::spawn(tls::fetch_revocations(Arc::clone(edge)));
    if let Some(issuer) = issuer {
        tokio::spawn(issuer.run(Arc::clone(edge)));
    }
}

/// Says whom to believe about callers, and under which terms TLS ends: an endpoint without its authorities is stopped, and the
/// others are served (V30).
fn receive(edge: &Edge, config: &Config, draft: &Draft, provider: &Arc<CryptoProvider>) {
    edge.proxies.store(Arc::new(config.proxies.clone()));
    let (terms, faults) = terms(draft, edge, Arc::clone(provider));
    for (name, fault) in faults {
        let code = Fault::CertificateInvalid.code();
        error!(%name, %fault, code, "the endpoint is stopped: its authorities cannot be used");
    }
    edge.terms.store(Arc::new(terms));
}

/// Makes the terms of the endpoints whose TLS ends here; what has not changed stays.
fn terms(draft: &Draft, edge: &Edge, provider: Arc<CryptoProvider>) -> (TermsTable, Vec<(NamePattern, TrustError)>) {
    let maker = Terminator::maker(&edge.certificates, provider, Arc::clone(&edge.revocation));
    TermsTable::read(&maker, draft.tls(), &edge.terms.load())
}

/// Returns the limits of the protocol that follow from the configuration.
fn protocol(config: &Config) -> adit_core::Config {
    let mut protocol = adit_core::Config::network();
    protocol.streams = u32::try_from(config.limits.streams_from_agent).unwrap_or(u32::MAX);
    protocol.open_streams = u32::try_from(config.limits.connections_per_agent).unwrap_or(u32::MAX);
    protocol.binds = u32::try_from(config.limits.binds_per_session).unwrap_or(u32::MAX).saturating_add(1);
    protocol.handshake_timeout = config.limits.handshake_timeout;
    protocol.resume_window = Duration::from_secs(3_600); // what is offered is held to the limits in force
    protocol.drain_timeout = config.drain_deadline.max(Duration::from_millis(1));
    protocol
}

fn listening(
    what: &'static str,
    address: SocketAddr,
    result: io::Result<SocketAddr>,
) -> Result<SocketAddr, ServeError> {
    result.map_err(|error| ServeError::Listen { what, address, error })
}

fn announce(bound: &Bound, config: &Config) -> io::Result<()> {
    let texts = |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    let line = serde_json::json!({
        "ready": true,
        "http": texts(&bound.http).first(),
        "https": texts(&bound.https).first(),
        "ingress": texts(&bound.ingress).first(),
        "tcp": config.tcp.as_ref().map(|tcp| tcp.address.to_string()),
        "admin": bound.admin.map(|address| address.to_string()),
        "listening": { "http": texts(&bound.http), "https": texts(&bound.https), "ingress": texts(&bound.ingress), "crl": texts(&bound.crl) },
    });
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Refuses what is new, lets finish what is open until the deadline, then ends it.
async fn drain(network: &Network, signals: &mut Signals, most: Duration) {
    info!(seconds = most.as_secs(), "the network drains");
    network.readiness.set_draining(true);
    network.edge.enter(Phase::Draining);
    network.ingress.sessions.drain();
    let until = Instant::now() + most;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            biased;
            wish = signals.next() => if wish == Wish::Stop {
                warn!("a second signal: what is open ends now");
                break;
            },
            () = sleep_until(until) => {
                warn!(connections = network.edge.admission.total(), "the drain took too long: what is open ends now");
                break;
            }
            _ = look.tick() => if network.edge.admission.total() == 0 {
                break;
            },
        }
    }
    network.edge.enter(Phase::Ending);
    network.ingress.sessions.close();
    let farewell = Instant::now() + FAREWELL;
    while network.ingress.sessions.count() > 0 && Instant::now() < farewell {
        look.tick().await;
    }
    info!("the network has stopped");
}

/// Returns the runtime of the process: workers on half of the cores, or as many as `TOKIO_WORKER_THREADS` says.
///
/// The kernel's share of carrying octets is as large as ours. Measured on two cores with everything on them: one worker
/// in network and agent carries 1.1 to 1.7 times as much as two, at 0.74 to 0.85 of the processor time.
///
/// # Errors
/// The threads cannot be made.
pub fn runtime() -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        builder.worker_threads((cores / 2).max(1));
    }
    builder.enable_all().build()
}

/// What a signal asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }
}

/// How often a drain looks whether everything has finished.
const LOOK: Duration = Duration::from_millis(50);
/// The time that agents have to hear that the node stops.
const FAREWELL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
