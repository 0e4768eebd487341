//! The network in this process, and panics in its tasks.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test waits for one event among many")]

use std::{env, fs, path::PathBuf, process};

use adit_core::{AgentId, Bind, BindId, ReconnectPolicy, Secret, UpstreamProtocol};
use adit_tokio::{ConnectOptions, Endpoint, Target, Uplink, UplinkEvent, UplinkEvents, UplinkOptions, client_config};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::*;
use crate::{
    certificates::{PrivateCa, certificate_path},
    injection::{Place, arm},
    store::{Acl, Rule},
};

/// V98, SEC-001
#[tokio::test]
async fn a_panic_in_one_task_ends_what_it_served_and_nothing_else() {
    let served = Served::start().await;
    let mut neighbour = served.agent(1).await;
    let port = neighbour.bound_port("tcp://:0").await;
    let mut kept = call(port).await;
    let mut victim = served.agent(2).await;

    arm(Place::Session);
    victim.bind("http://a.test");
    victim.until(|event| matches!(event, UplinkEvent::Suspended { .. } | UplinkEvent::Disconnected { .. })).await;
    victim.until(|event| matches!(event, UplinkEvent::Bound { .. })).await;
    assert_eq!(served.network.ingress.sessions.count(), 2, "nothing of the session that panicked is left");

    arm(Place::Caller);
    assert!(echo_of(&mut call(port).await).await.is_none());
    assert!(echo_of(&mut call(port).await).await.is_some());

    arm(Place::Request);
    assert_eq!(served.ask().await, "");
    assert!(served.ask().await.starts_with("HTTP/1.1 200"));

    assert!(echo_of(&mut kept).await.is_some(), "who was there before goes on");
    assert_eq!(served.network.edge.metrics.panics.get(), 3);
    served.until_only_kept_is_counted().await;
}

struct Served {
    folder: PathBuf,
    network: Network,
    token: Secret,
}

impl Served {
    async fn start() -> Self {
        let folder = env::temp_dir().join(format!("adit-panics-{}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let config = Config::parse(CONFIG, &folder, [].into()).expect("a configuration");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let _ = CryptoProvider::install_default(provider.as_ref().clone()); // the authority signs with it
        PrivateCa::init(&folder.join("ca"), "test").expect("an authority");
        let network = start(&config, &provider).await.expect("a network");
        let rules = ["bind:a.test", "bind:tcp:0-65535"].map(|rule| Rule::parse(rule).expect("a rule"));
        let token =
            network.ingress.store.create_token("acme", &Acl::new(rules.to_vec()), "").await.expect("a token").token;
        Self { folder, network, token }
    }

    async fn agent(&self, number: u8) -> Agent {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(certificate_path(&self.folder.join("ca")));
        roots.add(authority.expect("a certificate")).expect("an authority");
        let ingress = self.network.bound.ingress[0];
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (uplink, events) = Uplink::start(UplinkOptions {
            targets: vec![Target { host: ingress.ip().to_string(), port: ingress.port() }],
            tls: Arc::new(client_config(roots, provider).expect("a configuration")),
            server_name: None,
            config: adit_core::Config::agent(),
            token: self.token.clone(),
            agent: AgentId([number; 16]),
            software: "test".to_owned(),
            metadata: String::new(),
            connect: ConnectOptions::default(),
            reconnect: ReconnectPolicy::default(),
            sessions: 1,
        });
        let mut agent = Agent { uplink, events };
        agent.until(|event| matches!(event, UplinkEvent::Connected { .. })).await;
        agent
    }

    /// Asks for `/` of the endpoint by HTTP; returns what comes.
    async fn ask(&self) -> String {
        let mut socket = TcpStream::connect(self.network.bound.http[0]).await.expect("a connection");
        socket.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").await.expect("it takes that");
        let mut answer = String::new();
        let _ = timeout(PATIENCE, socket.read_to_string(&mut answer)).await.expect("in time"); // reset or not
        answer
    }

    /// What a task that panicked held is given back.
    async fn until_only_kept_is_counted(&self) {
        let freed = async {
            while self.network.edge.admission.total() != 1 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, freed).await.expect("the connection that was kept is the only one that counts");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

struct Agent {
    uplink: Uplink,
    events: UplinkEvents,
}

impl Agent {
    fn bind(&self, url: &str) {
        let endpoint = self.uplink.bind(Bind {
            id: BindId(0),
            url: url.to_owned(),
            pooling: false,
            upstream_protocol: UpstreamProtocol::Http1,
            name: String::new(),
            description: String::new(),
            metadata: String::new(),
            tls_end: Default::default(),
        });
        tokio::spawn(serve_all(endpoint));
    }

    async fn bound_port(&mut self, url: &str) -> u16 {
        self.bind(url);
        let bound = self.until(|event| matches!(event, UplinkEvent::Bound { .. })).await;
        match bound {
            UplinkEvent::Bound { url, .. } => {
                url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
            }
            _ => unreachable!("it is bound"),
        }
    }

    async fn until(&mut self, is_it: impl Fn(&UplinkEvent) -> bool) -> UplinkEvent {
        loop {
            let event = timeout(PATIENCE, self.events.next()).await.expect("in time").expect("it goes on");
            if is_it(&event) {
                return event;
            }
        }
    }
}

/// Answers what is said first, in one way or the other, and goes on as an echo.
async fn serve_all(mut endpoint: Endpoint) {
    while let Some(mut stream) = endpoint.accept().await {
        tokio::spawn(async move {
            stream.accept();
            let mut room = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut room).await {
                let heard = &room[..count];
                let answer = if heard.starts_with(b"GET") { ANSWER } else { heard };
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn call(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.expect("a connection")
}

/// Returns what comes back for an octet, unless the connection is gone.
async fn echo_of(caller: &mut TcpStream) -> Option<u8> {
    caller.write_all(b"x").await.ok()?;
    timeout(PATIENCE, caller.read_u8()).await.expect("in time").ok()
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(20);
const CONFIG: &str = "\
version: 1
node: test
private_ca: ca
ingress: {listen: '127.0.0.1:0'}
http: {listen: '127.0.0.1:0'}
tcp: {address: 127.0.0.1, ports: [0-65535]}
";
