//! Connections through a running agent: every way that they begin, end and fail.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use core::time::Duration;
use std::{io, sync::Arc};

use adit_core::Code;
use adit_tokio::{Stream, code_of};
use proxy_header::{ParseConfig, ProxyHeader};
use socket2::SockRef;
use support::{Network, PATIENCE, Rules, Running, Seen, endpoint, folder, write_config};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const URL: &str = "tcp://:5432";

struct Tunnel {
    network: Network,
    upstream: TcpListener,
    agent: Running,
}

impl Tunnel {
    async fn new(options: &str) -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = upstream.local_addr().unwrap().port();
        let (network, agent) = start(&format!("url: 'tcp://127.0.0.1:{port}'{options}"), "").await;
        Self { network, upstream, agent }
    }

    /// Opens a connection; returns both ends.
    async fn connect(&self) -> (Stream, TcpStream) {
        let stream = self.network.open(URL);
        let (socket, _) = timeout(PATIENCE, self.upstream.accept()).await.unwrap().unwrap();
        stream.accepted().await.unwrap();
        (stream, socket)
    }
}

async fn start(upstream: &str, agent: &str) -> (Network, Running) {
    let mut network = Network::start(Rules::default()).await;
    let folder = folder();
    let file = write_config(&folder, &network, agent, &endpoint("db", URL, upstream));
    let agent = Running::start(&file);
    network.wait_for(&Seen::Bound(URL.into())).await;
    (network, agent)
}

async fn refused(upstream: &str) -> Code {
    let (network, _agent) = start(upstream, "").await;
    let stream = network.open(URL);
    timeout(PATIENCE, stream.accepted()).await.unwrap().unwrap_err()
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_direction_ends_by_itself() {
    let tunnel = Tunnel::new("").await;
    let (mut stream, mut socket) = tunnel.connect().await;

    stream.write_all(b"question").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut question = Vec::new();
    socket.read_to_end(&mut question).await.unwrap();
    socket.write_all(b"answer after the end of the question").await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();

    assert_eq!((&question[..], &answer[..]), (&b"question"[..], &b"answer after the end of the question"[..]));
}

#[tokio::test]
async fn the_upstream_may_end_first_and_still_listen() {
    let tunnel = Tunnel::new("").await;
    let (mut stream, mut socket) = tunnel.connect().await;

    socket.write_all(b"banner").await.unwrap();
    socket.shutdown().await.unwrap();
    let mut banner = Vec::new();
    stream.read_to_end(&mut banner).await.unwrap();
    stream.write_all(b"thanks").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut thanks = Vec::new();
    socket.read_to_end(&mut thanks).await.unwrap();

    assert_eq!((&banner[..], &thanks[..]), (&b"banner"[..], &b"thanks"[..]));
}

/// BIND-016
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transfer_arrives_whole_in_both_directions_at_once() {
    let tunnel = Tunnel::new("").await;
    let (stream, socket) = tunnel.connect().await;
    let data: Arc<Vec<u8>> =
        Arc::new((0..16_u32 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect());

    let (mut stream_in, mut stream_out) = tokio::io::split(stream);
    let (mut socket_in, mut socket_out) = socket.into_split();
    let up = Arc::clone(&data);
    let down = Arc::clone(&data);
    let send_up = tokio::spawn(async move { stream_out.write_all(&up).await.and(stream_out.shutdown().await) });
    let send_down = tokio::spawn(async move { socket_out.write_all(&down).await.and(socket_out.shutdown().await) });
    let got_up = tokio::spawn(async move {
        let mut got = Vec::new();
        socket_in.read_to_end(&mut got).await.map(|_| got)
    });
    let mut got_down = Vec::new();
    stream_in.read_to_end(&mut got_down).await.unwrap();

    send_up.await.unwrap().unwrap();
    send_down.await.unwrap().unwrap();
    assert!(got_down == *data && got_up.await.unwrap().unwrap() == *data);
}

/// END-007
#[tokio::test]
async fn a_caller_that_resets_is_a_reset_for_the_upstream() {
    let tunnel = Tunnel::new("").await;
    let (mut stream, mut socket) = tunnel.connect().await;
    stream.write_all(b"x").await.unwrap();
    socket.read_exact(&mut [0]).await.unwrap();

    stream.abort(Code::CONNECTION_RESET);

    let error = timeout(PATIENCE, socket.read(&mut [0])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

/// END-007
#[tokio::test]
async fn an_upstream_that_resets_is_a_reset_for_the_caller() {
    let tunnel = Tunnel::new("").await;
    let (mut stream, mut socket) = tunnel.connect().await;
    stream.write_all(b"x").await.unwrap();
    socket.read_exact(&mut [0]).await.unwrap();

    SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);

    let error = timeout(PATIENCE, stream.read(&mut [0])).await.unwrap().unwrap_err();
    assert_eq!(code_of(&error), Some(Code::CONNECTION_RESET));
}

#[tokio::test]
async fn a_caller_that_wants_no_more_of_a_silent_upstream_ends_it_within_a_moment() {
    let tunnel = Tunnel::new("").await;
    let (mut stream, mut socket) = tunnel.connect().await;
    stream.write_all(b"subscribe").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut request = Vec::new();
    socket.read_to_end(&mut request).await.unwrap();

    drop(stream); // half-closed already: what is left to say is that nothing more is read

    timeout(Duration::from_secs(3), wait_until_idle(&tunnel.agent)).await.unwrap();
    let error = async {
        loop {
            if let Err(error) = socket.write_all(b"event").await {
                return error;
            }
        }
    };
    let kind = timeout(PATIENCE, error).await.unwrap().kind();
    assert!(matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{kind}");
}

/// CODE-005
#[tokio::test]
async fn what_fails_before_the_upstream_has_its_own_code() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(refused(&format!("url: 'tcp://{unused}'")).await, Code::UPSTREAM_REFUSED);
    assert_eq!(refused(&format!("url: 'tcp://{}:1'", support::unresolvable())).await, Code::UPSTREAM_UNREACHABLE);
    assert_eq!(refused("url: 'unix:/nowhere/at/all.sock'").await, Code::UPSTREAM_UNREACHABLE);
    assert_eq!(refused("url: 'tcp://169.254.169.254:80'").await, Code::POLICY);
}

/// CODE-005
#[tokio::test]
async fn an_upstream_that_does_not_answer_the_handshake_times_out() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();

    assert_eq!(refused(&format!("url: 'tls://{address}', connect_timeout: 200ms")).await, Code::UPSTREAM_TIMEOUT);
}

/// ADDR-003
#[tokio::test]
async fn the_upstream_is_that_of_the_configuration_whatever_the_network_names() {
    let tunnel = Tunnel::new("").await;
    let decoy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = decoy.local_addr().unwrap();

    let stream = tunnel.network.open_as(URL, |open| {
        open.endpoint = format!("tcp://{address}");
        open.local = Some(address);
    });

    timeout(PATIENCE, tunnel.upstream.accept()).await.unwrap().unwrap();
    stream.accepted().await.unwrap();
    decoy.into_std().unwrap().accept().expect_err("nobody comes");
}

#[tokio::test]
async fn a_unix_socket_is_an_upstream() {
    let path = folder().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let (network, _agent) = start(&format!("url: 'unix:{}'", path.display()), "").await;
    let mut stream = network.open(URL);
    let (mut socket, _) = listener.accept().await.unwrap();

    stream.write_all(b"ping").await.unwrap();
    let mut four = [0; 4];
    socket.read_exact(&mut four).await.unwrap();
    socket.write_all(b"pong").await.unwrap();
    drop(socket);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();

    assert_eq!((&four, &answer[..]), (b"ping", &b"pong"[..]));
}

#[tokio::test]
async fn the_upstream_is_told_who_calls_before_anything_else() {
    let tunnel = Tunnel::new(", proxy_protocol: 1").await;
    let (_stream, mut socket) = tunnel.connect().await;
    let expected = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n";
    let mut line = vec![0; expected.len()];
    timeout(PATIENCE, socket.read_exact(&mut line)).await.unwrap().unwrap();

    assert_eq!(line, expected);
}

#[tokio::test]
async fn the_binary_header_names_caller_and_endpoint() {
    let tunnel = Tunnel::new(", proxy_protocol: 2").await;
    let (mut stream, mut socket) = tunnel.connect().await;
    stream.write_all(b"data").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    socket.read_to_end(&mut all).await.unwrap();

    let (header, length) = ProxyHeader::parse(&all, ParseConfig::default()).unwrap();

    assert_eq!(header.proxied_address().unwrap().source, "192.0.2.7:50000".parse().unwrap());
    assert!(header.tlvs().any(|tlv| tlv == Ok(proxy_header::Tlv::Custom(0xe0, URL.as_bytes().into()))));
    assert_eq!(&all[length..], b"data");
}

#[tokio::test]
async fn an_upstream_in_tls_is_verified_unless_the_owner_says_otherwise() {
    let authority = support::Authority::new("upstream authority");
    let (certificate, key) = authority.issue(&["localhost"], |_| {});
    let tls = rustls::ServerConfig::builder_with_provider(support::provider()).with_safe_default_protocol_versions();
    let tls = tls.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut socket) = acceptor.accept(socket).await else { return };
                let _ = socket.write_all(b"secret").await;
                let _ = socket.shutdown().await;
            });
        }
    });
    let ca = folder().join("up.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let url = format!("url: 'tls://localhost:{port}'");

    for trusted in [format!("{url}, ca: '{}'", ca.display()), format!("{url}, insecure: true")] {
        let (network, _agent) = start(&trusted, "").await;
        let mut answer = Vec::new();
        timeout(PATIENCE, network.open(URL).read_to_end(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, b"secret", "{trusted}");
    }
    let other = folder().join("other.pem");
    std::fs::write(&other, support::Authority::new("another").pem()).unwrap();
    assert_eq!(refused(&format!("{url}, ca: '{}'", other.display())).await, Code::UPSTREAM_TLS);
}

/// CODE-005
#[tokio::test]
async fn connections_beyond_the_limit_are_refused_and_the_others_go_on() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("url: 'tcp://{}'", upstream.local_addr().unwrap());
    let (network, agent) = start(&url, "  max_connections: 2\n").await;

    let (mut first, second) = (network.open(URL), network.open(URL));
    first.accepted().await.unwrap();
    second.accepted().await.unwrap();
    assert_eq!(network.open(URL).accepted().await, Err(Code::LIMIT));

    let (mut socket, _) = upstream.accept().await.unwrap();
    let (second_socket, _) = upstream.accept().await.unwrap();
    first.write_all(b"x").await.unwrap();
    socket.read_exact(&mut [0]).await.unwrap();
    drop((first, second, socket, second_socket));
    wait_until_idle(&agent).await;
    assert_eq!(network.open(URL).accepted().await, Ok(()));
}

async fn wait_until_idle(agent: &Running) {
    let idle = async {
        while agent.status.live() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, idle).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_does_not_answer_keeps_nobody_from_another() {
    // It takes connections and never says anything in TLS.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let mut network = Network::start(Rules::default()).await;
    let endpoints = format!(
        "{}{}",
        endpoint("silent", "tcp://:1001", &format!("url: 'tls://127.0.0.1:{}', insecure: true", port(&silent))),
        endpoint("db", URL, &format!("url: 'tcp://127.0.0.1:{}'", port(&upstream)))
    );
    let _agent = Running::start(&write_config(&folder(), &network, "", &endpoints));
    network.wait_for(&Seen::Bound("tcp://:1001".into())).await;
    network.wait_for(&Seen::Bound(URL.into())).await;

    let held: Vec<_> = (0..600).map(|_| network.open("tcp://:1001")).collect();
    let mut silenced = Vec::new();
    while silenced.len() < 512 {
        silenced.push(timeout(PATIENCE, silent.accept()).await.unwrap().unwrap()); // so many may be dialed at once
    }
    let stream = network.open(URL);

    let accepted = timeout(Duration::from_secs(5), stream.accepted()).await;
    assert_eq!(accepted.expect("within half of what one dial may take"), Ok(()));
    drop((held, silenced));
}
