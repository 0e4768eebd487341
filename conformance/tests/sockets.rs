//! Every scenario that needs no passing of time, against `adit-tokio` over TLS on loopback sockets.

mod common;

use core::time::Duration;
use std::{
    io,
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use adit_conformance::{Hope, Player, Scenario, Side, Step, Subject};
use adit_core::{
    Bind, BindId, Code, CommandResult, Config, Heartbeat, Hello, Limits, Open, Refusal, Secret, SessionId,
    UpstreamProtocol, tls::ALPN,
};
use adit_tokio::{Event, Incoming, Stream, accept, code_of, connect_over};
use common::{configured, scenarios};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs,
    pki_types::PrivateKeyDer,
};

#[test]
fn every_scenario_without_time_goes_as_it_says() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (tls, player) = (tls(), Player::new());
    let scenarios: Vec<Scenario> = scenarios().into_iter().filter(is_played).collect();
    assert!(scenarios.len() > 100, "{} scenarios are left", scenarios.len());

    let play = |scenario: &Scenario| {
        let config = configured(scenario);
        match scenario.side {
            Side::Network => player.play(scenario, &mut network(&runtime, &tls, config)),
            Side::Agent => player.play(scenario, &mut agent(&runtime, &tls, config)),
        }
    };
    let failures: Vec<String> = thread::scope(|scope| {
        let parts = scenarios.chunks(scenarios.len().div_ceil(PLAYERS));
        let players: Vec<_> = parts
            .map(|part| {
                scope.spawn(move || part.iter().filter_map(|scenario| play(scenario).err()).collect::<Vec<_>>())
            })
            .collect();
        players.into_iter().flat_map(|player| player.join().expect("no panic")).collect()
    });
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

/// A scenario in which time passes takes as long as it says; one about turns needs an application without tasks.
fn is_played(scenario: &Scenario) -> bool {
    let waits = scenario.steps.iter().any(|step| matches!(step, Step::Wait(_) | Step::Redial | Step::Resume(_)));
    !waits && !scenario.what.contains("take turns")
}

/// The far end of a socket on which a subject is.
struct Wire<T> {
    stream: T,
    socket: TcpStream,
    closed: bool,
}

impl<T: io::Read + io::Write> Subject for Wire<T> {
    fn hear(&mut self, octets: &[u8]) {
        // What the subject does not take because it has closed shows in what it said.
        let _ = self.stream.write_all(octets).and_then(|()| self.stream.flush());
    }

    fn say(&mut self) -> Vec<u8> {
        self.receive(Duration::from_millis(1))
    }

    fn wait(&mut self, millis: u64) -> Vec<u8> {
        thread::sleep(Duration::from_millis(millis));
        self.say()
    }

    fn cut(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn more(&mut self, hope: Hope) -> Vec<u8> {
        self.receive(match hope {
            Hope::Something => Duration::from_secs(5),
            Hope::Nothing => Duration::from_millis(30),
        })
    }
}

impl<T: io::Read> Wire<T> {
    /// Returns what arrives, at the latest after `patience`.
    fn receive(&mut self, patience: Duration) -> Vec<u8> {
        let mut buffer = vec![0; 128 << 10];
        self.socket.set_read_timeout(Some(patience)).expect("a socket takes a timeout");
        match self.stream.read(&mut buffer) {
            Ok(0) => self.closed = true,
            Ok(count) => {
                buffer.truncate(count);
                return buffer;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => self.closed = true,
        }
        Vec::new()
    }
}

fn network(
    runtime: &tokio::runtime::Runtime,
    tls: &(Arc<ClientConfig>, Arc<ServerConfig>),
    config: Config,
) -> Wire<StreamOwned<ClientConnection, TcpStream>> {
    let (near, far) = sockets();
    let server = Arc::clone(&tls.1);
    runtime.spawn(async move {
        let io = tokio::net::TcpStream::from_std(far).expect("a socket");
        if let Ok(incoming) = accept(io, server, config, 1).await {
            serve(incoming).await;
        }
    });
    let name = "network.test".try_into().expect("a name");
    let connection = ClientConnection::new(Arc::clone(&tls.0), name).expect("a client");
    let socket = near.try_clone().expect("a socket");
    Wire { stream: StreamOwned::new(connection, near), socket, closed: false }
}

fn agent(
    runtime: &tokio::runtime::Runtime,
    tls: &(Arc<ClientConfig>, Arc<ServerConfig>),
    config: Config,
) -> Wire<StreamOwned<ServerConnection, TcpStream>> {
    let (near, far) = sockets();
    let client = Arc::clone(&tls.0);
    runtime.spawn(async move {
        let io = tokio::net::TcpStream::from_std(far).expect("a socket");
        let name = "network.test".try_into().expect("a name");
        let Ok((session, mut events, _)) = connect_over(io, (client, name), config, hello(), 1).await else { return };
        session.bind(&bind()).expect("the first");
        while let Some(event) = events.next().await {
            if let Event::Command(request) = event {
                session.answer(&CommandResult { id: request.id, code: Code::FORBIDDEN, text: String::new() });
            } else if let Event::Opened(stream) = event {
                tokio::spawn(echo(stream));
            }
        }
    });
    let connection = ServerConnection::new(Arc::clone(&tls.1)).expect("a server");
    let socket = near.try_clone().expect("a socket");
    Wire { stream: StreamOwned::new(connection, near), socket, closed: false }
}

/// The application of a network; see `scenarios/README.md`.
async fn serve(incoming: Incoming) {
    if incoming.hello().token.expose() == b"no" {
        return incoming.refuse(refusal(Code::CREDENTIALS));
    }
    let welcome = incoming.welcome(SessionId([7; 16]), "", "");
    let (session, mut events) = incoming.accept(welcome);
    let mut silent = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Bind(request) = event {
            let (id, url) = (request.bind().id, request.bind().url.clone());
            if url.contains("silent") {
                silent.push(request);
            } else if url.contains("refused") {
                session.reject(request, refusal(Code::FORBIDDEN));
            } else {
                session.bound(request, &url);
            }
            if url.contains("call")
                && let Ok(stream) = session.open(Open { bind: Some(id), ..Open::default() })
            {
                tokio::spawn(echo(stream));
            }
        } else if let Event::Unbind(_) = event {
            session.drain(Code::SHUTDOWN, None, "");
        } else if let Event::Opened(stream) = event {
            tokio::spawn(echo(stream));
        }
    }
}

async fn echo(mut stream: Stream) {
    match stream.open().map(|open| open.endpoint.as_str()) {
        Some("drop") => return,
        Some("deaf") => core::future::pending().await,
        Some("sink") => {
            stream.accept();
            core::future::pending().await
        }
        Some(_) => stream.accept(),
        None => {}
    }
    loop {
        match stream.read_bytes(4_096).await {
            Ok(Some(mut chunk)) => {
                if stream.write_bytes(&mut chunk).await.is_err() {
                    return;
                }
            }
            Ok(None) => {
                let _ = stream.finish();
                return;
            }
            Err(error) => return stream.reset(code_of(&error).unwrap_or(Code::INTERNAL)),
        }
    }
}

fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (far, _) = listener.accept().expect("a connection");
    far.set_nonblocking(true).expect("a socket");
    near.set_nodelay(true).expect("a socket");
    (near, far)
}

fn tls() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let issued = rcgen::generate_simple_self_signed(["network.test".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).expect("a root");
    let mut client = adit_tokio::client_config(roots, Arc::clone(&provider)).expect("TLS 1.3");
    client.alpn_protocols = vec![ALPN.to_vec()];
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .expect("a key that fits");
    server.alpn_protocols = vec![ALPN.to_vec()];
    (Arc::new(client), Arc::new(server))
}

fn hello() -> Hello {
    Hello {
        versions: vec![],
        agent: adit_core::AgentId([1; 16]),
        incarnation: 1,
        token: Secret::new(*b"token"),
        software: String::new(),
        metadata: String::new(),
        heartbeat: Heartbeat { interval: Duration::ZERO, tolerance: Duration::ZERO },
        limits: Limits { frame: 0, window: 0, streams: 0 },
        resume: None,
        resume_window: Duration::ZERO,
    }
}

fn bind() -> Bind {
    Bind {
        id: BindId(1),
        url: "tcp://:1".to_owned(),
        pooling: false,
        upstream_protocol: UpstreamProtocol::Http1,
        name: String::new(),
        description: String::new(),
        metadata: String::new(),
    }
}

fn refusal(code: Code) -> Refusal {
    Refusal { code, retry_after: None, text: String::new() }
}

const PLAYERS: usize = 8;
