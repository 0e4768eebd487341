//! The same proxy over real sessions: TLS, streams and the network's own edge.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use adit_core::{
    AgentId, BindId, Code, Config, Heartbeat, Hello, Limits, Secret, SessionId, UpstreamProtocol, tls::ALPN,
};
use adit_network::{
    Caller, Edge, Phase,
    certificates::{Certificates, Loaded},
    config::{self, Config as NetworkConfig},
    http::{HttpEdge, HttpLimits, serve},
    router::{BindWish, Key, Origin, Scheme},
};
use adit_tokio::{AgentSession, Event, NetworkSession, Stream, accept, connect_over};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::support::{FakeMember, Peer, echo, soon};

#[tokio::test]
async fn requests_share_a_stream_to_the_upstream() {
    let mut network = Network::new().await;
    let _agent = network.join(1, Agent::Carries(echo().await)).await;
    let mut caller = network.connect().await;

    for _ in 0..3 {
        caller.send(GET).await;
        assert!(caller.until("adit\r\n").await.contains("x-forwarded-for: 127.0.0.1\r\n"));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }

    assert_eq!(network.edge.metrics.streams.get(), 1);
}

#[tokio::test]
async fn a_stream_that_the_agent_cannot_hand_over_goes_to_another_agent_or_says_why() {
    let mut network = Network::new().await;
    let _one = network.join(1, Agent::Refuses(Code::UPSTREAM_REFUSED)).await;

    let refused = network.talk(POST).await;
    let _other = network.join(2, Agent::Carries(echo().await)).await;
    let carried = network.talk(POST).await;

    assert!(refused.contains("HTTP/1.1 502 ") && refused.contains("ADIT-3003"), "{refused}");
    assert!(carried.contains("HTTP/1.1 200 OK\r\n") && carried.ends_with("hello"), "{carried}");
}

#[tokio::test]
async fn an_agent_that_is_lost_breaks_the_answer() {
    let mut network = Network::new().await;
    let (streams, mut opened) = mpsc::unbounded_channel();
    let agent = network.join(1, Agent::Hands(streams)).await;
    let mut caller = network.connect().await;
    caller.send(GET).await;
    let mut stream = soon(opened.recv()).await.unwrap();
    stream.accept();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await.unwrap();
    caller.until("hello").await;

    agent.close(Code::SHUTDOWN, "");

    assert_eq!(caller.rest().await, "");
    assert!(network.talk(GET).await.contains("HTTP/1.1 50"));
}

#[tokio::test]
async fn an_upstream_that_resets_breaks_an_answer_without_a_length() {
    let mut network = Network::new().await;
    let (streams, mut opened) = mpsc::unbounded_channel();
    let _agent = network.join(1, Agent::Hands(streams)).await;
    let mut caller = network.connect().await;
    caller.send(GET).await;
    let mut stream = soon(opened.recv()).await.unwrap();
    stream.accept();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await.unwrap();
    caller.until("hello").await;

    stream.abort(Code::CONNECTION_RESET);

    let rest = caller.rest().await;
    assert!(!rest.contains("0\r\n\r\n"), "{rest:?}");
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_the_stream() {
    let mut network = Network::new().await;
    let (streams, mut opened) = mpsc::unbounded_channel();
    let _agent = network.join(1, Agent::Hands(streams)).await;
    let mut caller = network.connect().await;
    caller.send(GET).await;
    let mut stream = soon(opened.recv()).await.unwrap();
    stream.accept();
    let mut head = [0; 16];
    stream.read_exact(&mut head).await.unwrap();

    drop(caller);

    let error = soon(async {
        let mut room = [0; 1024];
        loop {
            match stream.read(&mut room).await {
                Err(error) => return error,
                Ok(count) => assert!(count > 0, "an orderly end"),
            }
        }
    })
    .await;
    assert_eq!(adit_tokio::code_of(&error), Some(Code::CANCELLED));
}

#[tokio::test]
async fn a_tunnel_ends_each_direction_by_itself() {
    let mut network = Network::new().await;
    let (streams, mut opened) = mpsc::unbounded_channel();
    let _agent = network.join(1, Agent::Hands(streams)).await;
    let mut caller = network.connect().await;
    caller.send("GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").await;
    let mut stream = soon(opened.recv()).await.unwrap();
    stream.accept();
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").await.unwrap();
    caller.until("\r\n\r\n").await;

    caller.send("last").await;
    caller.stream.shutdown().await.unwrap();
    let mut heard = String::new();
    soon(stream.read_to_string(&mut heard)).await.unwrap();
    stream.write_all(b"after").await.unwrap();
    stream.shutdown().await.unwrap();

    assert!(heard.ends_with("\r\n\r\nlast"), "{heard}");
    assert_eq!(caller.rest().await, "after");
}

/// What an agent does with a stream.
enum Agent {
    Carries(FakeMember),
    Refuses(Code),
    Hands(mpsc::UnboundedSender<Stream>),
}

struct Network {
    edge: Arc<Edge>,
    listener: std::net::SocketAddr,
    sessions: Vec<NetworkSession>,
}

impl Network {
    async fn new() -> Self {
        let edge = Arc::new(Edge::new(config::Limits::default(), Arc::new(certificates())));
        let http = Arc::new(HttpEdge::new(Arc::clone(&edge), HttpLimits::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let phase: tokio::sync::watch::Receiver<Phase> = edge.phase();
        tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                let caller = Caller {
                    address: peer,
                    local: address,
                    scheme: Scheme::Http,
                    tls: None,
                    name: None,
                    terms: None,
                    identity: None,
                };
                tokio::spawn(serve(stream, caller, Arc::clone(&http), phase.clone()));
            }
        });
        Self { edge, listener: address, sessions: Vec::new() }
    }

    /// Lets an agent join and bind `http://a.example`.
    async fn join(&mut self, number: u8, agent: Agent) -> AgentSession {
        let (client, server) = tls();
        let (one, other) = tokio::io::duplex(64 << 10);
        let id = SessionId([number; 16]);
        let network = async {
            let incoming = accept(other, server, Config::network(), 1).await.unwrap();
            let welcome = incoming.welcome(id, "local", "node");
            incoming.accept(welcome)
        };
        let name = "network.test".try_into().unwrap();
        let joining = connect_over(one, (client, name), Config::agent(), hello(), 2);
        let ((session, mut events), joined) = tokio::join!(network, joining);
        let (agent_session, mut agent_events, _) = joined.unwrap();
        tokio::spawn(async move { while events.next().await.is_some() {} });
        tokio::spawn(async move {
            while let Some(event) = agent_events.next().await {
                if let Event::Opened(stream) = event {
                    agent.take(stream);
                }
            }
        });
        let wish = BindWish {
            session: id,
            bind: BindId(1),
            pooling: true,
            upstream: UpstreamProtocol::Http1,
            tls_end: Default::default(),
            handle: session.clone(),
        };
        let mut router = self.edge.router.write();
        router.session_began(id, Origin { account: 1, agent: AgentId([number; 16]), incarnation: 1, lane: 0 });
        router.bind(Key::parse("http://a.example").unwrap(), wish).unwrap();
        self.sessions.push(session);
        agent_session
    }

    async fn connect(&self) -> Peer {
        Peer { stream: TcpStream::connect(self.listener).await.unwrap(), seen: Vec::new() }
    }

    async fn talk(&self, request: &str) -> String {
        let mut caller = self.connect().await;
        caller.send(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
        caller.rest().await
    }
}

impl Agent {
    fn take(&self, mut stream: Stream) {
        match self {
            Self::Refuses(code) => stream.abort(*code),
            Self::Hands(streams) => drop(streams.send(stream)),
            Self::Carries(upstream) => {
                let address = upstream.address;
                tokio::spawn(async move {
                    let mut upstream = TcpStream::connect(address).await.unwrap();
                    stream.accept();
                    let _ = copy_bidirectional(&mut stream, &mut upstream).await;
                });
            }
        }
    }
}

/// An ingress certificate from files, which the edge has and this test does not look at.
fn certificates() -> Certificates {
    let _ = aws_lc_rs::default_provider().install_default();
    let folder = tempfile();
    let issued = rcgen::generate_simple_self_signed(["network.test".to_owned()]).unwrap();
    std::fs::write(folder.join("c.pem"), issued.cert.pem()).unwrap();
    std::fs::write(folder.join("k.pem"), issued.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(folder.join("k.pem"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = "version: 1\ningress: { listen: '127.0.0.1:1', certificate: c.pem, key: k.pem }\nhttp: { listen: '127.0.0.1:1' }\n";
    let config = NetworkConfig::parse(text, &folder, BTreeMap::new()).unwrap();
    let loaded = Loaded::read(&config).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    Certificates::new(loaded)
}

fn tempfile() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("adit-http-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn tls() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let issued = rcgen::generate_simple_self_signed(["network.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![ALPN.to_vec()];
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = vec![ALPN.to_vec()];
    (Arc::new(client), Arc::new(server))
}

fn hello() -> Hello {
    Hello {
        versions: vec![],
        agent: AgentId([1; 16]),
        incarnation: 1,
        token: Secret::new(*b"token"),
        software: "test".into(),
        metadata: String::new(),
        heartbeat: Heartbeat { interval: Default::default(), tolerance: Default::default() },
        limits: Limits { frame: 0, window: 0, streams: 0 },
        resume: None,
        resume_window: core::time::Duration::ZERO,
        lane: 0,
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello";
