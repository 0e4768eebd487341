//! The built program, agents of our own beside it, and callers on real sockets.

use core::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream as StdStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Instant,
};

use adit_tokio::{
    Endpoint, Stream, Target, Uplink, UplinkEvent, UplinkEvents, UplinkOptions, client_config,
    proto::{AgentId, Bind, BindId, Config, ReconnectPolicy, Secret, UpstreamProtocol},
};
use rustix::process::{Pid, Signal, kill_process};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
};

/// A network in a folder of its own.
pub(crate) struct Network {
    pub(crate) folder: PathBuf,
    child: Child,
    _stdout: BufReader<ChildStdout>,
    ready: serde_json::Value,
}

impl Network {
    /// Starts a network on ports that the system chooses; `more` is added to its configuration.
    pub(crate) fn start(more: &str) -> Self {
        Self::start_from(&format!("{BASE}{more}"))
    }

    /// Starts a network whose ingress has these names, in YAML.
    pub(crate) fn start_named(names: &str) -> Self {
        let base = "ingress: {listen: '127.0.0.1:0'";
        assert!(BASE.contains(base));
        Self::start_from(&BASE.replace(base, &format!("{base}, names: {names}")))
    }

    fn start_from(text: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("adit-serve-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("network.yml"), text).unwrap();
        run(&folder, &["ca", "init"]);
        let mut child = program(&folder, &["serve", "--ready"])
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{}", log(&folder)));
        Self { folder, child, _stdout: stdout, ready }
    }

    /// Makes a token; returns its id and itself.
    pub(crate) fn token(&self, rules: &[&str]) -> (String, Secret) {
        self.token_of("acme", rules)
    }

    /// Makes a token of an account.
    pub(crate) fn token_of(&self, account: &str, rules: &[&str]) -> (String, Secret) {
        let mut arguments = vec!["token", "create", "--account", account, "--output", "json"];
        rules.iter().for_each(|rule| arguments.extend(["--allow", *rule]));
        let made: serde_json::Value = serde_json::from_str(&run(&self.folder, &arguments)).unwrap();
        let text = |key: &str| made[key].as_str().unwrap().to_owned();
        (text("id"), Secret::new(text("token")))
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        run(&self.folder, arguments)
    }

    /// Starts the program that asks an agent for something.
    pub(crate) fn asking(&self, arguments: &[&str]) -> Child {
        program(&self.folder, &["command"]).args(arguments).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Opens the database beside the network.
    pub(crate) async fn database(&self) -> sqlx::SqlitePool {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.folder.join("adit.db"));
        sqlx::SqlitePool::connect_with(options).await.unwrap()
    }

    /// Asks an agent for something, by the program, beside what the test does.
    pub(crate) fn command(&self, arguments: &[&str]) -> JoinHandle<Done> {
        let mut command = program(&self.folder, &["command"]);
        command.args(arguments);
        tokio::task::spawn_blocking(move || {
            let done = command.output().unwrap();
            let text = |octets| String::from_utf8(octets).unwrap();
            Done { exit: done.status.code().unwrap(), out: text(done.stdout), err: text(done.stderr) }
        })
    }

    pub(crate) fn address(&self, what: &str) -> SocketAddr {
        self.ready[what].as_str().unwrap().parse().unwrap()
    }

    /// Returns the answer of the admin listener.
    pub(crate) fn admin(&self, path: &str) -> String {
        let mut socket = StdStream::connect(self.address("admin")).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Asks for `/` of a name over HTTPS; returns the answer, or what TLS says.
    pub(crate) fn answer_to(&self, name: &str) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.folder.join("ca/ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", name.to_str());
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(tls, StdStream::connect(self.address("https")).unwrap());
        let mut answer = String::new();
        match stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer)) {
            Ok(_) => answer,
            Err(error) => format!("{:?}", error.downcast::<rustls::Error>().unwrap()),
        }
    }

    /// Returns what an agent needs to trust the network.
    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.folder.join("ca/ca.pem")).unwrap()).unwrap();
        Arc::new(client_config(roots, Arc::new(rustls::crypto::aws_lc_rs::default_provider())).unwrap())
    }

    /// Returns the value of a metric without labels, or with these.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let page = self.admin("/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// Returns the resident memory of the program in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        log(&self.folder)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        until("the network ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// Starts an agent. `agent` is its lasting name.
    pub(crate) fn agent(&self, token: &Secret, agent: u8) -> Agent {
        let ingress = self.address("ingress");
        let (uplink, events) = Uplink::start(UplinkOptions {
            targets: vec![Target { host: ingress.ip().to_string(), port: ingress.port() }],
            tls: self.tls(),
            server_name: None,
            config: Config::agent(),
            token: token.clone(),
            agent: AgentId([agent; 16]),
            software: "test\u{1b}]0;owned\u{7}\nlevel=error forged=yes".to_owned(),
            metadata: String::new(),
            connect: adit_tokio::ConnectOptions::default(),
            reconnect: ReconnectPolicy::default(),
            sessions: 1,
        });
        Agent { uplink, events }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// An agent whose upstreams are in the test.
pub(crate) struct Agent {
    pub(crate) uplink: Uplink,
    pub(crate) events: UplinkEvents,
}

impl Agent {
    pub(crate) fn bind(&self, url: &str, pooling: bool) -> Endpoint {
        self.uplink.bind(Bind {
            id: BindId(0),
            url: url.to_owned(),
            pooling,
            upstream_protocol: UpstreamProtocol::Http1,
            name: String::new(),
            description: String::new(),
            metadata: String::new(),
            tls_end: Default::default(),
        })
    }

    /// Returns the first event that `pick` takes something out of.
    pub(crate) async fn until<T>(&mut self, what: &str, pick: impl Fn(&UplinkEvent) -> Option<T>) -> T {
        let waiting = async {
            while let Some(event) = self.events.next().await {
                if let Some(picked) = pick(&event) {
                    return picked;
                }
            }
            panic!("the agent ended before: {what}")
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("in vain: {what}"))
    }

    /// Waits for the next bind that is in force, and returns its port.
    pub(crate) async fn bound_port(&mut self) -> u16 {
        self.until("bound", |event| match event {
            UplinkEvent::Bound { url, .. } => Some(url.rsplit_once(':').unwrap().1.parse().unwrap()),
            UplinkEvent::Rejected { refusal, .. } => panic!("rejected: {refusal:?}"),
            _ => None,
        })
        .await
    }
}

/// Answers every stream of an endpoint with what comes, after `greeting`.
pub(crate) fn echo(mut endpoint: Endpoint, greeting: &'static [u8]) {
    tokio::spawn(async move {
        while let Some(stream) = endpoint.accept().await {
            tokio::spawn(echo_stream(stream, greeting));
        }
    });
}

async fn echo_stream(mut stream: Stream, greeting: &'static [u8]) {
    stream.accept();
    if stream.write_all(greeting).await.is_err() {
        return;
    }
    let mut octets = vec![0; 16 << 10];
    while let Ok(count @ 1..) = stream.read(&mut octets).await {
        if stream.write_all(&octets[..count]).await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

/// Waits until `fine`.
pub(crate) async fn until(what: &str, mut fine: impl FnMut() -> bool) {
    let began = Instant::now();
    while !fine() {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the states of the sockets with this local port, as the system numbers them, the listener's not among them.
pub(crate) fn sockets(port: u16) -> Vec<u8> {
    let rows = fs::read_to_string("/proc/net/tcp").unwrap();
    let state = |row: &str| {
        let mut columns = row.split_whitespace().skip(1);
        let (local, state) = (columns.next()?, columns.nth(1)?);
        let ours = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()? == port;
        u8::from_str_radix(state, 16).ok().filter(|state| ours && *state != LISTEN)
    };
    rows.lines().skip(1).filter_map(state).collect()
}

const LISTEN: u8 = 0x0a;

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit-network"));
    command.args(arguments).env("ADIT_NETWORK_CONFIG", folder.join("network.yml"));
    command
}

fn run(folder: &Path, arguments: &[&str]) -> String {
    let done = program(folder, arguments).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap()
}

/// Returns the mode of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

const PATIENCE: Duration = Duration::from_secs(20);
const BASE: &str = "\
version: 1
node: test
private_ca: ca
ingress: {listen: '127.0.0.1:0'}
http: {listen: '127.0.0.1:0'}
https: {listen: '127.0.0.1:0'}
tcp: {address: 127.0.0.1, ports: [0-65535]}
admin: {listen: '127.0.0.1:0'}
";
