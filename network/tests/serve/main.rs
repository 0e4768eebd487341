//! The program as it is built: agents and callers on real sockets, signals, commands.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test waits for one event among many")]

mod accounts;
mod commands;
mod departures;
mod idle;
mod resume;
mod revocations;
mod strangers;
mod support;
mod vanish;
mod wire;

use core::time::Duration;
use std::{fs, sync::Arc, time::Instant};

use adit_tokio::{
    DialError, Endpoint, SetupError, UplinkEvent, code_of,
    proto::{Cause, Code, Refusal, Secret},
};
use rustix::process::Signal;
use rustls::{AlertDescription, ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs, version::TLS12};
use support::{Network, echo, mode, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

/// BIND-012, END-007
#[tokio::test]
async fn a_caller_reaches_an_upstream_and_each_direction_ends_by_itself() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    echo(agent.bind("tcp://:0", false), b"hello ");
    let mut caller = connect(agent.bound_port().await).await;

    caller.write_all(b"caller").await.unwrap();
    caller.shutdown().await.unwrap();

    let mut heard = Vec::new();
    caller.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"hello caller");
}

/// ADDR-001, ADDR-002
#[tokio::test]
async fn a_stream_says_who_calls_which_address_and_which_endpoint() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    let mut endpoint = agent.bind("tcp://:0", false);
    let port = agent.bound_port().await;
    let caller = connect(port).await;

    let stream = timeout(PATIENCE, endpoint.accept()).await.expect("in time").unwrap();

    let open = stream.open().unwrap();
    assert_eq!((open.caller, open.local), (caller.local_addr().ok(), caller.peer_addr().ok()));
    assert_eq!(open.endpoint, format!("tcp://:{port}"));
}

/// BIND-004
#[tokio::test]
async fn an_endpoint_that_is_cut_resets_its_callers() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    let mut endpoint = agent.bind("tcp://:0", false);
    let mut caller = connect(agent.bound_port().await).await;
    let mut stream = endpoint.accept().await.unwrap();
    stream.accept();
    stream.write_all(b"x").await.unwrap();
    caller.read_exact(&mut [0]).await.unwrap();

    endpoint.unbind(true);

    assert!(caller.read(&mut [0]).await.is_err(), "it is reset, not ended in order");
    assert!(stream.read(&mut [0]).await.is_err());
}

/// AUTH-003
#[tokio::test]
async fn a_revoked_token_ends_its_sessions_within_a_second() {
    let network = Network::start("");
    let (id, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    echo(agent.bind("tcp://:0", false), b"x");
    let mut caller = connect(agent.bound_port().await).await;
    caller.read_exact(&mut [0]).await.unwrap();

    network.run(&["token", "revoke", &id]);
    let revoked = Instant::now();

    assert!(caller.read(&mut [0]).await.is_err(), "a connection that stands is reset");
    let cause = agent.until("the end", disconnected).await;
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    assert!(matches!(cause, Cause::Remote(close) if close.code == Code::REVOKED));
}

/// AUTH-007
#[tokio::test]
async fn rules_that_are_taken_away_end_what_they_allowed() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    echo(agent.bind("tcp://:0", false), b"x");
    let mut caller = connect(agent.bound_port().await).await;
    caller.read_exact(&mut [0]).await.unwrap();

    let database = format!("sqlite://{}", network.folder.join("adit.db").display());
    let pool = sqlx::SqlitePool::connect(&database).await.unwrap();
    sqlx::query("DELETE FROM rules").execute(&pool).await.unwrap();

    let ended = timeout(PATIENCE, caller.read(&mut [0])).await.expect("in time");
    assert!(ended.is_err(), "a connection that stands is reset");
    let code = agent.until("a refusal", rejected).await;
    assert_eq!(code, Code::FORBIDDEN);
}

/// AUTH-001, RES-014
#[tokio::test]
async fn a_wrong_token_is_refused_with_a_long_wait_and_never_written_down() {
    let network = Network::start("");
    let (_, token) = network.token(&[]);
    let mut wrong = token.expose().to_vec();
    wrong[40] ^= 1;

    for shown in [Secret::new(wrong), Secret::new(*b"adit_x"), Secret::new(*b"hunter2hunter2")] {
        let mut agent = network.agent(&shown, 1);
        let refusal = agent.until("a refusal", refused).await;
        assert_eq!(refusal.code, Code::CREDENTIALS);
        assert!(refusal.retry_after >= Some(Duration::from_secs(30)));
        assert!(refusal.text.starts_with("ADIT-2001"), "{}", refusal.text);
    }

    let log = network.log();
    let secret = String::from_utf8(token.expose().to_vec()).unwrap();
    let secret = secret.split('_').nth(2).unwrap();
    assert!(!log.contains(secret) && !log.contains("hunter2"), "V73: {log}");
    assert!(!network.admin("/metrics").contains(secret));
    assert_eq!(mode(&network.folder.join("adit.db")), 0o600);
}

/// MSG-007
#[tokio::test]
async fn the_text_of_an_agent_forges_no_line_of_the_log() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    echo(agent.bind("tcp://:0", false), b"");
    agent.bound_port().await;

    let log = network.log();
    assert!(log.contains("a session began"), "{log}");
    assert!(!log.contains('\u{1b}') && !log.contains('\u{7}'), "V94: {log}");
    assert!(!log.lines().any(|line| line.starts_with("level=error")), "V94: {log}");
}

/// AUTH-005, BIND-002, BIND-003
#[tokio::test]
async fn a_new_session_of_the_same_agent_takes_over_and_another_agent_is_refused() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut ghost = network.agent(&token, 1);
    let _endpoint = ghost.bind("tcp://:0", false);
    let port = ghost.bound_port().await;
    let url = format!("tcp://:{port}");

    let mut other = network.agent(&token, 2);
    let _refused = other.bind(&url, false);
    assert_eq!(other.until("a refusal", rejected).await, Code::IN_USE);
    let mut newer = network.agent(&token, 1);
    echo(newer.bind(&url, false), b"newer");

    assert_eq!(newer.bound_port().await, port, "V41");
    let cause = ghost.until("the end", disconnected).await;
    assert!(matches!(cause, Cause::Remote(close) if close.code == Code::REPLACED));
    let mut heard = [0; 5];
    connect(port).await.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"newer");
}

#[tokio::test]
async fn a_connection_that_one_agent_refuses_goes_to_another_with_all_that_was_said() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut refusing = network.agent(&token, 1);
    let mut refuser = refusing.bind("tcp://:0", true);
    let port = refusing.bound_port().await;
    tokio::spawn(async move {
        while let Some(stream) = refuser.accept().await {
            tokio::time::sleep(Duration::from_millis(20)).await; // until the caller has spoken
            stream.abort(Code::UPSTREAM_REFUSED);
        }
    });
    let mut serving = network.agent(&token, 2);
    echo(serving.bind(&format!("tcp://:{port}"), true), b"");
    serving.bound_port().await;

    for _ in 0..4 {
        let mut caller = connect(port).await;
        caller.write_all(b"said once").await.unwrap();
        caller.shutdown().await.unwrap();
        let mut heard = Vec::new();
        caller.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"said once");
    }
    assert!(network.admin("/metrics").contains("adit_retries_total"));
}

/// AUTH-004
#[tokio::test]
async fn a_session_beyond_the_limit_of_its_token_is_refused_with_a_time_to_wait() {
    let network = Network::start("limits: {sessions_per_token: 1}\n");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut first = network.agent(&token, 1);
    echo(first.bind("tcp://:0", false), b"x");
    let port = first.bound_port().await;

    let refusal = network.agent(&token, 2).until("a refusal", refused).await;

    assert_eq!(refusal.code, Code::LIMIT);
    assert!(refusal.retry_after > Some(Duration::ZERO), "{refusal:?}");
    connect(port).await.read_exact(&mut [0]).await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_of_a_source_are_closed_and_the_others_go_on() {
    let network = Network::start("limits: {connections_per_source: 2}\n");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    echo(agent.bind("tcp://:0", false), b"x");
    let port = agent.bound_port().await;
    let mut callers = [connect(port).await, connect(port).await];
    for caller in &mut callers {
        caller.read_exact(&mut [0]).await.unwrap();
    }

    let beyond = connect(port).await.read(&mut [0]).await;

    assert!(matches!(beyond, Ok(0) | Err(_)));
    for caller in &mut callers {
        caller.write_all(b"y").await.unwrap();
        caller.read_exact(&mut [0]).await.unwrap();
    }
    let metrics = network.admin("/metrics");
    assert!(metrics.contains("adit_limits_reached_total{limit=\"connections_per_source\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_reload_that_fails_changes_nothing_and_one_that_is_right_drops_nothing() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    echo(agent.bind("tcp://:0", false), b"x");
    let mut caller = connect(agent.bound_port().await).await;
    let path = network.folder.join("network.yml");
    let right = fs::read_to_string(&path).unwrap();
    let reloads = |reason: &str| network.admin("/metrics").contains(&format!("reloads_total{{reason=\"{reason}\"}} 1"));

    fs::write(&path, format!("{right}limits: {{connections: many}}\n")).unwrap();
    network.signal(Signal::HUP);
    until("refused", || reloads("refused")).await;
    fs::write(&path, format!("{right}limits: {{connections: 10}}\n")).unwrap();
    network.signal(Signal::HUP);
    until("done", || reloads("done")).await;

    assert!(network.log().contains("limits.connections"), "V95");
    caller.write_all(b"y").await.unwrap();
    caller.read_exact(&mut [0; 2]).await.unwrap();
}

#[tokio::test]
async fn a_drain_lets_finish_what_is_open_and_then_exits_with_0() {
    let mut network = Network::start("drain_deadline: 20s\n");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    echo(agent.bind("tcp://:0", false), b"x");
    let port = agent.bound_port().await;
    let mut caller = connect(port).await;
    caller.read_exact(&mut [0]).await.unwrap();

    network.signal(Signal::TERM);
    until("not ready", || network.admin("/readyz").starts_with("HTTP/1.1 503")).await;
    agent.until("draining", |event| matches!(event, UplinkEvent::Draining { .. }).then_some(())).await;
    caller.write_all(b"still here").await.unwrap();
    caller.shutdown().await.unwrap();
    let mut heard = Vec::new();
    caller.read_to_end(&mut heard).await.unwrap();

    assert_eq!(heard, b"still here", "V96");
    assert_eq!(network.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_a_drain_at_once() {
    let mut network = Network::start("drain_deadline: 1h\n");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    echo(agent.bind("tcp://:0", false), b"x");
    let mut caller = connect(agent.bound_port().await).await;
    caller.read_exact(&mut [0]).await.unwrap();

    network.signal(Signal::TERM);
    until("not ready", || network.admin("/readyz").starts_with("HTTP/1.1 503")).await;
    network.signal(Signal::TERM);

    assert_eq!(network.exit().await.code(), Some(0));
    assert!(caller.read(&mut [0]).await.is_err(), "broken, never complete");
}

#[tokio::test]
async fn a_name_that_is_not_served_and_a_hello_without_a_name_get_an_alert() {
    let network = Network::start("");

    // A ClientHello without extensions: TLS 1.2, one suite.
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    let mut caller = TcpStream::connect(network.address("https")).await.unwrap();
    caller.write_all(&hello).await.unwrap();
    let mut heard = Vec::new();
    let _ = caller.read_to_end(&mut heard).await;

    assert_eq!(heard.first(), Some(&21), "an alert: {heard:?}");
}

/// V27, V34
#[tokio::test(flavor = "multi_thread")]
async fn the_private_ca_signs_for_endpoints_and_below_the_domains_and_for_no_other_name() {
    let anywhere = Network::start("");
    let (_, token) = anywhere.token(&["bind:*.example.com"]);
    let mut agent = anywhere.agent(&token, 1);
    let _wild = refuse(agent.bind("https://*.wild.example.com", false));
    let bound = refuse(agent.bind("https://bound.example.com", false));
    for _ in 0..2 {
        agent.until("bound", |event| matches!(event, UplinkEvent::Bound { .. }).then_some(())).await;
    }
    let below = Network::start("domains: [example.com]\n");

    let unknown = "AlertReceived(UnrecognisedName)";
    for name in ["other.example.com", "example.com", "wild.example.com", "bound.example.com.evil.example"] {
        assert_eq!(anywhere.answer_to(name), unknown, "{name}");
    }
    for name in ["bound.example.com", "a.wild.example.com", "a.b.wild.example.com"] {
        assert!(anywhere.answer_to(name).starts_with("HTTP/1.1 502"), "{name}: its agent refuses");
    }
    for name in ["example.com", "other.example.org", "notexample.com"] {
        assert_eq!(below.answer_to(name), unknown, "{name}");
    }
    let answer = below.answer_to("other.example.com");
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("ADIT-3001"), "{answer}");

    bound.abort();
    until("nobody serves it", || anywhere.admin("/metrics").contains("adit_binds 1\n")).await;
    let answer = anywhere.answer_to("bound.example.com");
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("ADIT-3002"),
        "known, and nobody is online: {answer}"
    );
}

#[tokio::test]
async fn a_caller_that_resets_is_noticed_while_its_octets_wait_for_the_upstream() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    let mut endpoint = agent.bind("tcp://:0", false);
    let port = agent.bound_port().await;
    let callers = || network.admin("/metrics").contains("adit_connections{listener=\"Tcp\"} 0");
    for accepts in [true, false] {
        let mut caller = connect(port).await;
        caller.write_all(b"x").await.unwrap();
        let mut stream = endpoint.accept().await.unwrap();
        if accepts {
            stream.accept();
        }
        // Until it is taken nowhere any more.
        while let Ok(taken) = timeout(Duration::from_millis(500), caller.write(&[0; 64 << 10])).await {
            taken.unwrap();
        }

        caller.set_zero_linger().unwrap();
        drop(caller);

        until("the caller's place is free", callers).await;
        let mut octets = Vec::new();
        let error = stream.read_to_end(&mut octets).await.unwrap_err();
        assert_eq!(code_of(&error), Some(Code::CONNECTION_RESET), "accepted: {accepts}");
    }
}

#[tokio::test]
async fn a_caller_that_does_not_take_what_waits_for_it_is_cut_off() {
    let network = Network::start("limits: {stall_timeout: 1s}\n");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    let mut endpoint = agent.bind("tcp://:0", false);
    let port = agent.bound_port().await;
    let mut deaf = connect(port).await;
    let mut unheard = endpoint.accept().await.unwrap();
    unheard.accept();
    let mut quiet = connect(port).await;
    let mut silent = endpoint.accept().await.unwrap();
    silent.accept();

    let filling = async { while unheard.write_all(&[0; 64 << 10]).await.is_ok() {} };
    timeout(Duration::from_secs(20), filling).await.expect("long before that");

    let error = unheard.write_all(b"x").await.unwrap_err();
    assert_eq!(code_of(&error), Some(Code::CONNECTION_RESET));
    assert!(network.admin("/metrics").contains("adit_limits_reached_total{limit=\"stall_timeout\"} 1"));
    let mut taken = vec![0; 1 << 20];
    while let Ok(count) = deaf.read(&mut taken).await {
        assert!(count > 0, "broken, never complete");
    }
    quiet.write_all(b"y").await.unwrap();
    silent.read_exact(&mut [0]).await.unwrap();
}

/// Refuses every stream of an endpoint, which is given up when the task is.
fn refuse(mut endpoint: Endpoint) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(stream) = endpoint.accept().await {
            stream.abort(Code::UPSTREAM_REFUSED);
        }
    })
}

/// TLS-001
#[test]
fn an_agent_that_offers_tls_1_2_is_refused_by_an_alert() {
    let network = Network::start("");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS12]).unwrap();
    let mut config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = vec![b"adit/1".to_vec()];
    let mut tls = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut socket = std::net::TcpStream::connect(network.address("ingress")).unwrap();

    let error = tls.complete_io(&mut socket).unwrap_err();

    let told = error.get_ref().and_then(|error| error.downcast_ref());
    assert_eq!(told, Some(&rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)));
}

async fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.unwrap()
}

fn disconnected(event: &UplinkEvent) -> Option<Cause> {
    match event {
        UplinkEvent::Disconnected { cause, .. } => Some(cause.clone()),
        _ => None,
    }
}

fn refused(event: &UplinkEvent) -> Option<Refusal> {
    match event {
        UplinkEvent::DialFailed { error: DialError::Setup(SetupError::Closed(Cause::Refused(refusal))), .. } => {
            Some(refusal.clone())
        }
        _ => None,
    }
}

fn rejected(event: &UplinkEvent) -> Option<Code> {
    match event {
        UplinkEvent::Rejected { refusal, .. } => Some(refusal.code),
        _ => None,
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
