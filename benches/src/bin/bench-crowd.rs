//! A crowd of agents in one process, for a network that is watched from outside.
//!
//! `bench-crowd sessions|uplinks HOST:PORT CA.pem COUNT DOMAIN`, with the authtoken in `ADIT_TOKEN`. `sessions` are bare ones that
//! nobody brings back; `uplinks` come back by themselves, each with one endpoint below the domain. Each thing that happens is
//! a line of JSON. Goes on until it is killed.

use core::{error::Error, fmt::Display, time::Duration};
use std::{
    env,
    io::{Write as _, stdout},
    sync::Arc,
    time::SystemTime,
};

use adit_tokio::{
    AgentSession, ConnectOptions, Events, Target, Uplink, UplinkEvent, UplinkEvents, UplinkOptions, client_config,
    connect, connect_over,
    proto::{AgentId, Bind, BindId, Config, Hello, ReconnectPolicy, Secret, UpstreamProtocol, side::Agent},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Fallible<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [mode, target, ca, count, domain] = arguments.as_slice() else { return Err(USAGE.into()) };
    let (host, port) = target.rsplit_once(':').ok_or(USAGE)?;
    let crowd = Arc::new(Crowd {
        target: Target { host: host.into(), port: port.parse()? },
        tls: trust(ca)?,
        token: env::var("ADIT_TOKEN")?,
        domain: domain.clone(),
    });
    let count = count.parse()?;
    // One thread: the network has the other core to itself.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match mode.as_str() {
            "sessions" => sessions(crowd, count).await,
            "uplinks" => uplinks(crowd, count).await,
            _ => Err(USAGE.into()),
        }
    })
}

/// Whom to connect to, and as whom.
struct Crowd {
    target: Target,
    tls: Arc<ClientConfig>,
    token: String,
    domain: String,
}

async fn sessions(crowd: Arc<Crowd>, count: u64) -> Fallible<()> {
    let mut tasks = begin(&crowd, count, |crowd, number, place| async move {
        let session = open(&crowd, number).await;
        drop(place);
        session
    })
    .await?;
    let mut held = Vec::new();
    while let Some(session) = tasks.join_next().await {
        held.push(session??);
    }
    say(0, "all");
    let mut watch = JoinSet::new();
    for (number, (session, mut events)) in (0..).zip(held) {
        watch.spawn(async move {
            while events.next().await.is_some() {}
            say(number, "lost");
            drop(session);
        });
    }
    core::future::pending().await
}

/// Starts a task for each agent. So many as have not given their places back come at once.
async fn begin<F>(
    crowd: &Arc<Crowd>,
    count: u64,
    task: impl Fn(Arc<Crowd>, u64, OwnedSemaphorePermit) -> F,
) -> Fallible<JoinSet<F::Output>>
where
    F: Future<Output: Send> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let place = Arc::clone(&places).acquire_owned().await?;
        tasks.spawn(task(Arc::clone(crowd), number, place));
    }
    Ok(tasks)
}

async fn open(crowd: &Crowd, number: u64) -> Fallible<(AgentSession, Events<Agent>)> {
    let stream = connect(&crowd.target.host, crowd.target.port, &ConnectOptions::default()).await?;
    let config = Config::agent();
    let hello = Hello {
        versions: Vec::new(), // what the link speaks
        agent: name(number),
        incarnation: 1,
        lane: 0,
        token: Secret::new(crowd.token.clone()),
        software: "bench-crowd".into(),
        metadata: String::new(),
        heartbeat: config.heartbeat,
        limits: config.limits(),
        resume: None,
        resume_window: config.resume_window,
    };
    let tls = (Arc::clone(&crowd.tls), ServerName::try_from(crowd.target.host.clone())?);
    let (session, events, _) = connect_over(stream, tls, config, hello, number).await?;
    Ok((session, events))
}

async fn uplinks(crowd: Arc<Crowd>, count: u64) -> Fallible<()> {
    let _tasks = begin(&crowd, count, |crowd, number, place| async move {
        let (_uplink, mut events) = start(&crowd, number);
        let mut place = Some(place);
        while let Some(event) = events.next().await {
            let Some(word) = word(&event) else { continue };
            say(number, word);
            if matches!(event, UplinkEvent::Bound { .. }) {
                place = None;
            }
        }
        drop(place);
    })
    .await?;
    core::future::pending().await
}

fn start(crowd: &Crowd, number: u64) -> (Uplink, UplinkEvents) {
    let (uplink, events) = Uplink::start(UplinkOptions {
        targets: vec![crowd.target.clone()],
        tls: Arc::clone(&crowd.tls),
        server_name: None,
        config: Config::agent(),
        token: Secret::new(crowd.token.clone()),
        agent: name(number),
        software: "bench-crowd".into(),
        metadata: String::new(),
        connect: ConnectOptions::default(),
        reconnect: ReconnectPolicy::default(),
        sessions: 1,
    });
    let endpoint = uplink.bind(Bind {
        id: BindId(0),
        url: format!("http://a{number}.{}", crowd.domain),
        pooling: false,
        upstream_protocol: UpstreamProtocol::Http1,
        name: "crowd".into(),
        description: String::new(),
        metadata: String::new(),
        tls_end: Default::default(),
    });
    // Whoever calls is let go.
    tokio::spawn(async move {
        let mut endpoint = endpoint;
        while endpoint.accept().await.is_some() {}
    });
    (uplink, events)
}

/// Returns what an event is called, if it is of interest.
const fn word(event: &UplinkEvent) -> Option<&'static str> {
    match event {
        UplinkEvent::Bound { .. } => Some("bound"),
        UplinkEvent::Suspended { .. } => Some("suspended"),
        UplinkEvent::Resumed { .. } => Some("resumed"),
        UplinkEvent::Disconnected { .. } => Some("lost"),
        UplinkEvent::DialFailed { .. } => Some("failed"),
        UplinkEvent::Rejected { .. } | UplinkEvent::Unbound { .. } => Some("refused"),
        UplinkEvent::GaveUp { .. } => Some("gave up"),
        UplinkEvent::Dialing { .. }
        | UplinkEvent::Connected { .. }
        | UplinkEvent::Draining { .. }
        | UplinkEvent::Command { .. }
        | UplinkEvent::Revocations { .. } => None,
    }
}

fn say(number: u64, word: impl Display) {
    let at = SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO).as_secs_f64();
    // Who reads has gone: so does this process, soon.
    let _ = writeln!(stdout(), "{{\"agent\":{number},\"event\":\"{word}\",\"at\":{at:.3}}}");
}

fn name(number: u64) -> AgentId {
    let mut agent = [0; 16];
    agent[..8].copy_from_slice(&number.to_be_bytes());
    AgentId(agent)
}

fn trust(ca: &str) -> Fallible<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    Ok(Arc::new(client_config(roots, Arc::new(rustls::crypto::aws_lc_rs::default_provider()))?))
}

/// Agents that come for the first time at once.
const AT_ONCE: usize = 64;

const USAGE: &str = "usage: bench-crowd sessions|uplinks HOST:PORT CA.pem COUNT DOMAIN";
