//! A network made of the runtime alone, certificates, and configurations, for tests of the whole agent.
#![allow(dead_code, reason = "each test program needs a part of it")]

use core::{net::SocketAddr, sync::atomic::AtomicU64, sync::atomic::Ordering, time::Duration};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use adit::{
    Agent, Outcome, Status,
    config::{Config, Overrides, token},
    policy::Guard,
};
use adit_core::{Code, Command, Open, Refusal, SessionId};
use adit_tokio::{Event, NetworkSession, Stream};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, RevokedCertParams, SerialNumber,
};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{net::TcpListener, sync::mpsc, sync::oneshot, task::JoinHandle, time::timeout};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A name that no resolver has to be asked about: its first part is longer than a name allows.
pub(crate) fn unresolvable() -> String {
    format!("{}.invalid", "x".repeat(64))
}

/// Makes a fresh folder.
pub(crate) fn folder() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("adit-it-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a folder");
    path
}

/// An authority of one test.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn issue(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("good names");
        params.distinguished_name.push(DnType::CommonName, "network node");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// A revocation list of now, in DER, that revokes serial numbers.
    pub(crate) fn list(&self, number: u64, serials: &[u64]) -> Vec<u8> {
        let now = std::time::SystemTime::now();
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + Duration::from_secs(86_400)).into(),
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).expect("a list").der().to_vec()
    }

    pub(crate) fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let (certificate, key) = self.issue(names, |_| {});
        Arc::new(adit_tokio::server_config(vec![certificate], key, provider()).expect("a configuration"))
    }
}

/// How the network answers.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) token: &'static [u8],
    /// [`Code::NO_ERROR`] leaves a bind without an answer.
    pub(crate) bind: fn(&str) -> Result<(), Code>,
    /// What is bound where it is not what was asked for.
    pub(crate) renames: fn(&str) -> Option<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { token: b"t0k3n", bind: |_| Ok(()), renames: |_| None }
    }
}

/// A network that tells what happens.
pub(crate) struct Network {
    pub(crate) address: SocketAddr,
    pub(crate) authority: Authority,
    pub(crate) seen: mpsc::UnboundedReceiver<Seen>,
    sessions: Arc<Mutex<Vec<NetworkSession>>>,
    binds: Arc<Mutex<Vec<(String, adit_core::BindId)>>>,
    words: Arc<Mutex<String>>,
    withheld: Arc<Mutex<Vec<adit_core::Withheld>>>,
    task: JoinHandle<()>,
}

/// What a network has seen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Session(adit_core::AgentId),
    Bound(String),
    Rejected(String),
    Ignored(String),
    Unbound(String, Code),
    Answer(Code),
    Closed,
}

impl Network {
    pub(crate) async fn start(rules: Rules) -> Self {
        let authority = Authority::new("Adit test authority");
        let tls = authority.server(&["localhost", "127.0.0.1"]);
        Self::with(rules, authority, tls).await
    }

    pub(crate) async fn with(rules: Rules, authority: Authority, tls: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (tell, seen) = mpsc::unbounded_channel();
        let sessions = Arc::<Mutex<Vec<NetworkSession>>>::default();
        let binds = Arc::<Mutex<Vec<_>>>::default();
        let words = Arc::<Mutex<String>>::default();
        let withheld = Arc::<Mutex<Vec<_>>>::default();
        let shared = (Arc::clone(&sessions), Arc::clone(&binds), Arc::clone(&words), Arc::clone(&withheld));
        let task = tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                tokio::spawn(serve(io, Arc::clone(&tls), rules.clone(), tell.clone(), shared.clone()));
            }
        });
        Self { address, authority, seen, sessions, binds, words, withheld, task }
    }

    pub(crate) async fn next(&mut self) -> Seen {
        timeout(PATIENCE, self.seen.recv()).await.expect("in time").expect("the network lives")
    }

    /// Waits for something, whatever comes before.
    pub(crate) async fn wait_for(&mut self, wanted: &Seen) {
        while self.next().await != *wanted {}
    }

    /// Waits until an endpoint is bound, or has been.
    pub(crate) async fn has_bound(&self, url: &str) {
        let look = async {
            while !self.binds.lock().expect("not poisoned").iter().any(|(bound, _)| bound == url) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, look).await.expect("in time");
    }

    /// Waits until so many hints have come, of what is not asked for; takes them, each URL with its code and text.
    pub(crate) async fn withheld(&self, count: usize) -> Vec<(String, Code, String)> {
        let look = async {
            while self.withheld.lock().expect("not poisoned").len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, look).await.expect("in time");
        let told = core::mem::take(&mut *self.withheld.lock().expect("not poisoned"));
        told.into_iter().map(|hint| (hint.url, hint.code, hint.text)).collect()
    }

    pub(crate) fn session(&self) -> NetworkSession {
        self.sessions.lock().expect("not poisoned").last().expect("a session").clone()
    }

    pub(crate) fn open(&self, url: &str) -> Stream {
        self.open_as(url, |_| {})
    }

    /// Opens a stream of which the network tells something else.
    pub(crate) fn open_as(&self, url: &str, tell: impl FnOnce(&mut Open)) -> Stream {
        let binds = self.binds.lock().expect("not poisoned");
        let (_, id) = binds.iter().rev().find(|(bound, _)| bound == url).expect("bound");
        let mut open = Open {
            bind: Some(*id),
            caller: Some("192.0.2.7:50000".parse().expect("an address")),
            local: Some("198.51.100.1:443".parse().expect("an address")),
            endpoint: url.to_owned(),
            ..Open::default()
        };
        tell(&mut open);
        self.session().open(open).expect("a stream")
    }

    /// The words of the answer to a command that was seen last.
    pub(crate) fn told(&self) -> String {
        self.words.lock().expect("not poisoned").clone()
    }

    pub(crate) fn command(&self, command: Command) {
        self.session().command(command, "please").expect("sent");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Shared = (
    Arc<Mutex<Vec<NetworkSession>>>,
    Arc<Mutex<Vec<(String, adit_core::BindId)>>>,
    Arc<Mutex<String>>,
    Arc<Mutex<Vec<adit_core::Withheld>>>,
);

async fn serve(
    io: tokio::net::TcpStream,
    tls: Arc<ServerConfig>,
    rules: Rules,
    tell: mpsc::UnboundedSender<Seen>,
    (sessions, binds, words, withheld): Shared,
) {
    let refusal = |code| Refusal { code, retry_after: None, text: String::new() };
    let Ok(incoming) = adit_tokio::accept(io, tls, adit_core::Config::network(), 7).await else { return };
    if incoming.hello().token.expose() != rules.token {
        return incoming.refuse(refusal(Code::CREDENTIALS));
    }
    let _ = tell.send(Seen::Session(incoming.hello().agent));
    let welcome = incoming.welcome(SessionId([1; 16]), "test", "n1");
    let (session, mut events) = incoming.accept(welcome);
    sessions.lock().expect("not poisoned").push(session.clone());
    while let Some(event) = events.next().await {
        let seen = match event {
            Event::Bind(request) => {
                let url = request.bind().url.clone();
                match (rules.bind)(&url) {
                    Ok(()) => {
                        binds.lock().expect("not poisoned").push((url.clone(), request.bind().id));
                        session.bound(request, &(rules.renames)(&url).unwrap_or_else(|| url.clone()));
                        Seen::Bound(url)
                    }
                    Err(Code::NO_ERROR) => Seen::Ignored(url),
                    Err(code) => {
                        session.reject(request, refusal(code));
                        Seen::Rejected(url)
                    }
                }
            }
            Event::Unbind(unbind) => {
                let mut binds = binds.lock().expect("not poisoned");
                let at = binds.iter().position(|(_, id)| *id == unbind.id);
                Seen::Unbound(at.map(|at| binds.remove(at).0).unwrap_or_default(), unbind.code)
            }
            Event::CommandResult(result) => {
                *words.lock().expect("not poisoned") = result.text;
                Seen::Answer(result.code)
            }
            Event::Closed(_) => Seen::Closed,
            Event::Withheld(news) => {
                withheld.lock().expect("not poisoned").push(news);
                continue;
            }
            Event::Opened(_)
            | Event::Bound(_)
            | Event::Rejected(_)
            | Event::Unbound(_)
            | Event::Command(_)
            | Event::Revocations(_)
            | Event::Suspended(_)
            | Event::Resumed(_)
            | Event::GoAway(_) => {
                continue;
            }
        };
        let _ = tell.send(seen);
    }
}

/// Writes an agent's configuration; `endpoints` is YAML.
pub(crate) fn write_config(folder: &Path, network: &Network, agent: &str, endpoints: &str) -> PathBuf {
    let file = folder.join("adit.yml");
    fs::write(folder.join("ca.pem"), network.authority.pem()).expect("written");
    let text = format!(
        "version: 1\nagent:\n  connect_url: localhost:{}\n  connect_cas: ca.pem\n  authtoken: t0k3n\n{agent}endpoints:\n{endpoints}",
        network.address.port()
    );
    write_private(&file, &text);
    file
}

pub(crate) fn write_private(file: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;

    fs::write(file, text).expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("set");
}

pub(crate) fn load(file: &Path) -> Config {
    Config::load(&[file.to_owned()], &Overrides::default()).expect("valid")
}

pub(crate) fn endpoint(name: &str, url: &str, upstream: &str) -> String {
    format!("  - name: {name}\n    url: {url}\n    upstream: {{ {upstream} }}\n")
}

/// An agent that runs in this process.
pub(crate) struct Running {
    pub(crate) status: Arc<Status>,
    pub(crate) reload: mpsc::Sender<Config>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Outcome>,
}

impl Running {
    pub(crate) fn start(file: &Path) -> Self {
        Self::start_under(file, None)
    }

    /// Starts an agent that asks a guard.
    pub(crate) fn start_under(file: &Path, guard: Option<Arc<Guard>>) -> Self {
        let config = load(file);
        let secret = token(&config.agent.token).expect("a token");
        let (reload, reloads) = mpsc::channel(1);
        let agent = Agent::new(config, secret, provider()).expect("ready").with_reloads(reloads);
        let agent = agent.with_state(file.with_file_name("state"));
        let agent = if let Some(guard) = guard { agent.with_guard(guard) } else { agent };
        let status = agent.status();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(agent.run(async move {
            // Dropped, it is not asked to stop.
            if stopped.await.is_err() {
                core::future::pending::<()>().await;
            }
        }));
        Self { status, reload, stop, task }
    }

    pub(crate) fn stop(self) -> JoinHandle<Outcome> {
        self.stop.send(()).expect("it runs");
        self.task
    }

    pub(crate) async fn outcome(self) -> Outcome {
        let Self { task, stop: _stop, reload: _reload, .. } = self;
        timeout(PATIENCE, task).await.expect("in time").expect("no panic")
    }
}
