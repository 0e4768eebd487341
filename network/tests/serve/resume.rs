//! Sessions that lost their agent, and what becomes of them.

use core::time::Duration;
use std::{net::Shutdown, sync::Arc, time::Instant};

use adit_tokio::{
    AgentSession, Event, Events, SetupError, Stream, connect_over,
    proto::{
        AgentId, Bind, BindId, Cause, Close, Code, Config, Heartbeat, Hello, Limits, Message as _, Refusal, Resume,
        Secret, SessionId, UpstreamProtocol, Welcome,
        frame::{Encoded, Kind, RawKind},
        side,
    },
};
use futures_util::future::{join_all, select_all};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    PATIENCE,
    support::{Network, until},
    wire::{Wire, first},
};

#[tokio::test]
async fn a_connection_survives_the_loss_of_the_agents_and_no_octet_is_lost() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let (mut agent, port) = Agent::bound(&network, &token, 1, false).await;
    let mut caller = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    caller.write_all(b"before").await.unwrap();
    let mut stream = agent.stream().await;
    assert_eq!(exactly(&mut stream, 6).await, b"before");

    agent.lose(&network).await;
    caller.write_all(b" between").await.unwrap();
    stream.write_all(b"answer").await.unwrap();
    agent.resume(&network, agent.hello()).await.unwrap();

    assert_eq!(exactly(&mut stream, 8).await, b" between");
    assert_eq!(exactly(&mut caller, 6).await, b"answer");
    assert!(network.admin("/metrics").contains("adit_sessions_resumed_total 1"));
    let log = network.log();
    assert!(log.contains("a session was resumed") && log.contains("a session waits for its agent"), "{log}");
}

/// RES-010, RES-013, RES-007: one answer for every reason, and the session is as it was.
#[tokio::test]
async fn another_agent_or_token_resumes_nothing_and_harms_nothing() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let (_, other) = network.token(&["bind:tcp:0-65535"]);
    let (mut agent, port) = Agent::bound(&network, &token, 1, false).await;
    let mut caller = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut stream = agent.stream().await;
    agent.lose(&network).await;

    for hello in [Hello { token: other.clone(), ..agent.hello() }, Hello { agent: AgentId([2; 16]), ..agent.hello() }] {
        assert_eq!(refused(&network, &agent, hello).await, Code::RESUME_UNKNOWN);
    }
    agent.resume(&network, agent.hello()).await.unwrap();

    caller.write_all(b"still here").await.unwrap();
    assert_eq!(exactly(&mut stream, 10).await, b"still here");

    // To this one nothing has been said: the count is right too, and all that is wrong is who asks.
    let mut fresh = Agent::join(&network, &token, 3).await;
    fresh.lose(&network).await;
    for hello in [Hello { token: other, ..fresh.hello() }, Hello { agent: AgentId([2; 16]), ..fresh.hello() }] {
        assert_eq!(refused(&network, &fresh, hello).await, Code::RESUME_UNKNOWN);
    }
    fresh.resume(&network, fresh.hello()).await.unwrap();
}

/// SEC-002, AUTH-001: of what HELLO names nothing is looked up before the token.
#[tokio::test]
async fn who_is_not_known_learns_nothing_of_sessions() {
    let network = Network::start("");
    let (_, token) = network.token(&[]);
    let mut agent = Agent::join(&network, &token, 1).await;
    let stranger = Hello { token: Secret::new(*b"adit_x"), ..agent.hello() };

    let known = refused(&network, &agent, stranger.clone()).await;
    agent.welcome.session = SessionId([0xee; 16]);
    let unknown = refused(&network, &agent, stranger).await;

    assert_eq!((known, unknown), (Code::CREDENTIALS, Code::CREDENTIALS));
}

/// PRE-010
#[tokio::test]
async fn no_session_and_no_secret_comes_twice() {
    let network = Network::start("");
    let (_, token) = network.token(&[]);
    let mut seen = std::collections::BTreeSet::new();

    for number in 0..8 {
        let agent = Agent::join(&network, &token, number).await;
        assert!(seen.insert(agent.welcome.session.0.to_vec()), "a session came twice");
        assert!(seen.insert(agent.welcome.resume.unwrap().secret.expose().to_vec()), "a secret came twice");
    }
}

/// Asks with the secret of an agent, as one who has stolen it; returns the code of the refusal.
async fn refused(network: &Network, agent: &Agent, hello: Hello) -> Code {
    let offer = agent.welcome.resume.as_ref().unwrap();
    let resume = Some(Resume { session: agent.welcome.session, secret: offer.secret.clone(), received: 0, attempt: 1 });
    let mut wire = Wire::dial(network).await;
    wire.say(&Encoded::message(Kind::Hello, &Hello { resume, ..first(hello) })).await;
    let (kind, payload) = wire.hear().await.expect("an answer");
    assert_eq!(kind, RawKind::Known(Kind::Refuse));
    Refusal::decode(&payload).unwrap().code
}

/// RES-006, RES-008: a secret is good until its use is confirmed, so several may be let in; the session goes on over one (V23).
#[tokio::test]
async fn of_sockets_that_race_with_one_secret_exactly_one_goes_on_and_the_others_learn_it() {
    let network = Network::start("");
    let (_, token) = network.token(&[]);
    for number in 1..=4 {
        let mut agent = Agent::join(&network, &token, number).await;
        agent.lose(&network).await;
        let (session, offer) = (agent.welcome.session, agent.welcome.resume.clone().unwrap());
        let resume = Some(Resume { session, secret: offer.secret, received: 0, attempt: 1 });
        let hello = Encoded::message(Kind::Hello, &Hello { resume, ..first(agent.hello()) });
        let mut racing = join_all((0..6).map(|_| Wire::dial(&network))).await;

        join_all(racing.iter_mut().map(|wire| wire.say(&hello))).await;

        while racing.len() > 1 {
            let next = select_all(racing.iter_mut().map(|wire| Box::pin(wire.hear())));
            let (heard, at, _) = timeout(PATIENCE, next).await.expect("all but one end");
            if heard.is_none() {
                let told = core::mem::take(&mut racing.remove(at).frames);
                let told: Vec<_> = told.iter().map(|(kind, payload)| (*kind, &payload[..])).collect();
                match told[..] {
                    [(RawKind::Known(Kind::Refuse), refusal)] => {
                        assert_eq!(Refusal::decode(refusal).unwrap().code, Code::RESUME_UNKNOWN);
                    }
                    [.., (RawKind::Known(Kind::Close), close)] => {
                        assert_eq!(Close::decode(close).unwrap().code, Code::REPLACED);
                    }
                    _ => panic!("ended without a word: {told:?}"),
                }
            }
        }
        racing[0].say(&Encoded::ping(*b"a living")).await;
        let pong = (RawKind::Known(Kind::Pong), b"a living".to_vec());
        while racing[0].hear().await.expect("one goes on") != pong {}
        assert_eq!(racing[0].frames[0].0, RawKind::Known(Kind::Welcome));
        assert_eq!(network.metric("adit_sessions"), u64::from(number));
        drop(racing);
    }
}

/// RES-010
#[tokio::test]
async fn a_token_that_was_revoked_meanwhile_resumes_nothing() {
    let network = Network::start("");
    let (id, token) = network.token(&["bind:tcp:0-65535"]);
    let (mut agent, port) = Agent::bound(&network, &token, 1, false).await;
    let mut caller = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let _stream = agent.stream().await;
    agent.lose(&network).await;

    network.run(&["token", "revoke", &id]);

    let error = agent.resume(&network, agent.hello()).await.unwrap_err();
    assert!(
        matches!(&error, SetupError::Closed(Cause::Refused(refusal)) if refusal.code == Code::CREDENTIALS),
        "{error}"
    );
    let ended = timeout(PATIENCE, caller.read(&mut [0])).await.unwrap();
    assert!(ended.is_err(), "a connection that stands is reset");
}

#[tokio::test]
async fn a_new_connection_waits_for_the_agent_and_another_agent_of_the_pool_takes_it_at_once() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let (mut agent, port) = Agent::bound(&network, &token, 1, true).await;
    agent.lose(&network).await;

    let mut held = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    held.write_all(b"held").await.unwrap();
    agent.resume(&network, agent.hello()).await.unwrap();
    let mut stream = agent.stream().await;
    assert_eq!(exactly(&mut stream, 4).await, b"held");

    agent.lose(&network).await;
    let mut other = Agent::join(&network, &token, 2).await;
    other.bind(&format!("tcp://:{port}"), true).await;
    let mut caller = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    caller.write_all(b"taken").await.unwrap();
    assert_eq!(exactly(&mut other.stream().await, 5).await, b"taken");
}

#[tokio::test]
async fn a_connection_that_waits_to_be_handed_over_waits_longer_when_the_agent_is_away() {
    let network = Network::start("limits: {accept_timeout: 1s}\n");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let (mut agent, port) = Agent::bound(&network, &token, 1, false).await;
    let mut caller = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    caller.write_all(b"hello").await.unwrap();
    let mut stream = agent.opened().await;
    agent.lose(&network).await;
    let lost = Instant::now();
    until("longer than an upstream may take", || lost.elapsed() > Duration::from_millis(1_500)).await;

    agent.resume(&network, agent.hello()).await.unwrap();
    stream.accept();

    assert_eq!(exactly(&mut stream, 5).await, b"hello");
    stream.write_all(b"world").await.unwrap();
    assert_eq!(exactly(&mut caller, 5).await, b"world");
}

#[tokio::test]
async fn a_connection_for_which_no_agent_comes_back_is_told_so() {
    let network = Network::start("limits: {hold_parked: 100ms}\n");
    let (_, token) = network.token(&["bind:web.example.com"]);
    let mut agent = Agent::join(&network, &token, 1).await;
    agent.bind("http://web.example.com", false).await;
    agent.lose(&network).await;

    let mut caller = TcpStream::connect(network.address("http")).await.unwrap();
    caller.write_all(b"GET / HTTP/1.1\r\nHost: web.example.com\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, caller.read_to_string(&mut answer)).await.unwrap().unwrap();

    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.to_lowercase().contains("retry-after: 5") && answer.contains("ADIT-3002"), "{answer}");
}

#[tokio::test]
async fn nobody_waits_longer_for_an_agent_than_its_session_does() {
    let network = Network::start("limits: {hold_parked: 60s}\n");
    let (_, token) = network.token(&["bind:web.example.com"]);
    let mut agent = Agent::join_for(&network, &token, 1, Duration::from_secs(1)).await;
    agent.bind("http://web.example.com", false).await;
    agent.lose(&network).await;

    let mut caller = TcpStream::connect(network.address("http")).await.unwrap();
    caller.write_all(b"GET / HTTP/1.1\r\nHost: web.example.com\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, caller.read_to_string(&mut answer)).await.expect("long before 60 s").unwrap();

    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("ADIT-3002"), "{answer}");
    assert!(network.admin("/metrics").contains("adit_sessions_expired_total 1"));
}

/// AUTH-005
#[tokio::test]
async fn a_new_session_of_the_same_agent_ends_the_one_that_waits_for_it() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let (mut agent, port) = Agent::bound(&network, &token, 1, false).await;
    let mut caller = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let _stream = agent.stream().await;
    agent.lose(&network).await;

    let mut next = Agent::join(&network, &token, 1).await;

    assert!(timeout(PATIENCE, caller.read(&mut [0])).await.unwrap().is_err(), "its connections are reset");
    next.bind(&format!("tcp://:{port}"), false).await;
    assert_eq!(agent.try_to_resume(&network, agent.hello()).await, Code::RESUME_UNKNOWN);
}

/// AUTH-004, AUTH-005
#[tokio::test]
async fn an_agent_that_is_refused_a_new_session_keeps_the_one_that_waits_for_it() {
    let network = Network::start("limits: {sessions_per_token: 1}\n");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let (_, full) = network.token(&[]);
    let (mut agent, port) = Agent::bound(&network, &token, 1, false).await;
    let mut caller = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut stream = agent.stream().await;
    agent.lose(&network).await;
    let _other = Agent::join(&network, &full, 2).await;

    let refused = Agent::try_to_join(&network, &full, 1, WINDOW).await.err();
    agent.resume(&network, agent.hello()).await.unwrap();

    assert!(
        matches!(&refused, Some(SetupError::Closed(Cause::Refused(refusal))) if refusal.code == Code::LIMIT),
        "{refused:?}"
    );
    caller.write_all(b"still here").await.unwrap();
    assert_eq!(exactly(&mut stream, 10).await, b"still here");
}

/// AUTH-004, AUTH-005
#[tokio::test]
async fn a_session_that_waits_for_its_agent_takes_no_place_from_its_next_one() {
    let network = Network::start("limits: {sessions_per_token: 1}\n");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let (mut agent, port) = Agent::bound(&network, &token, 1, false).await;
    agent.lose(&network).await;

    let mut next = Agent::join(&network, &token, 1).await;

    next.bind(&format!("tcp://:{port}"), false).await;
}

#[tokio::test]
async fn so_many_sessions_wait_and_the_one_that_waited_longest_makes_room() {
    let network = Network::start("limits: {parked_sessions: 1}\n");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let (mut first, _) = Agent::bound(&network, &token, 1, false).await;
    let (mut second, _) = Agent::bound(&network, &token, 2, false).await;
    first.lose(&network).await;
    second.lose(&network).await;

    assert_eq!(first.try_to_resume(&network, first.hello()).await, Code::RESUME_UNKNOWN);
    second.resume(&network, second.hello()).await.unwrap();
}

#[tokio::test]
async fn a_node_that_drains_waits_for_nobody() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let (mut agent, port) = Agent::bound(&network, &token, 1, false).await;
    let mut caller = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let _stream = agent.stream().await;
    network.signal(rustix::process::Signal::TERM);
    loop {
        match agent.next().await {
            Event::GoAway(_) => break,
            other => drop(other),
        }
    }

    agent.cut();

    let ended = timeout(Duration::from_secs(5), caller.read(&mut [0])).await.expect("before the drain's deadline");
    assert!(ended.is_err(), "a connection that stands is reset");
}

#[tokio::test]
async fn a_network_that_grants_no_window_keeps_nothing() {
    let network = Network::start("limits: {resume_window: 0s}\n");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let (mut agent, port) = Agent::bound(&network, &token, 1, false).await;
    assert_eq!(agent.welcome.resume, None);
    let mut caller = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let _stream = agent.stream().await;

    agent.cut();

    assert!(timeout(PATIENCE, caller.read(&mut [0])).await.unwrap().is_err());
}

/// An agent of which the test holds the socket.
struct Agent {
    session: AgentSession,
    events: Events<side::Agent>,
    welcome: Welcome,
    socket: std::net::TcpStream,
    tls: (Arc<ClientConfig>, ServerName<'static>),
    hello: Hello,
}

impl Agent {
    async fn join(network: &Network, token: &Secret, number: u8) -> Self {
        Self::join_for(network, token, number, WINDOW).await
    }

    /// Joins with a session that is kept for `window`.
    async fn join_for(network: &Network, token: &Secret, number: u8, window: Duration) -> Self {
        Self::try_to_join(network, token, number, window).await.unwrap()
    }

    async fn try_to_join(network: &Network, token: &Secret, number: u8, window: Duration) -> Result<Self, SetupError> {
        let mut config = Config::agent();
        config.resume_window = window;
        let tls = (network.tls(), ServerName::try_from("127.0.0.1").unwrap());
        let hello = hello(token, number);
        let (io, socket) = dial(network).await;
        let (session, events, welcome) = connect_over(io, tls.clone(), config, hello.clone(), 1).await?;
        Ok(Self { session, events, welcome, socket, tls, hello })
    }

    /// Joins and binds a port.
    async fn bound(network: &Network, token: &Secret, number: u8, pooling: bool) -> (Self, u16) {
        let mut agent = Self::join(network, token, number).await;
        let url = agent.bind("tcp://:0", pooling).await;
        (agent, url.rsplit_once(':').unwrap().1.parse().unwrap())
    }

    async fn bind(&mut self, url: &str, pooling: bool) -> String {
        let bind = Bind {
            id: BindId(1),
            url: url.to_owned(),
            pooling,
            upstream_protocol: UpstreamProtocol::Http1,
            name: String::new(),
            description: String::new(),
            metadata: String::new(),
            tls_end: Default::default(),
        };
        self.session.bind(&bind).unwrap();
        match self.next().await {
            Event::Bound(bound) => bound.url,
            other => panic!("{other:?}"),
        }
    }

    async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.events.next()).await.expect("in time").expect("more")
    }

    async fn stream(&mut self) -> Stream {
        let stream = self.opened().await;
        stream.accept();
        stream
    }

    /// Returns the next stream, which is not accepted.
    async fn opened(&mut self) -> Stream {
        loop {
            match self.next().await {
                Event::Opened(stream) => return stream,
                Event::Suspended(_) | Event::Resumed(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn hello(&self) -> Hello {
        self.hello.clone()
    }

    /// Cuts the connection at both ends.
    fn cut(&self) {
        self.socket.shutdown(Shutdown::Both).unwrap();
    }

    /// Cuts the connection and waits until both sides know.
    async fn lose(&mut self, network: &Network) {
        let parked = || network.log().matches("a session waits for its agent").count();
        let before = parked();
        self.cut();
        self.until_suspended().await;
        until("the network knows", || parked() > before).await;
    }

    async fn until_suspended(&mut self) {
        loop {
            match self.next().await {
                Event::Suspended(_) => return,
                Event::Resumed(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn resume(&mut self, network: &Network, hello: Hello) -> Result<(), SetupError> {
        let (io, socket) = dial(network).await;
        self.socket = socket;
        self.session.resume_over(adit_tokio::Io(io), self.tls.clone(), Config::agent(), hello, 2).await
    }

    /// Tries to resume in vain; returns the code of the refusal.
    async fn try_to_resume(&mut self, network: &Network, hello: Hello) -> Code {
        match self.resume(network, hello).await {
            Err(SetupError::Closed(Cause::Refused(refusal))) => refusal.code,
            other => panic!("{other:?}"),
        }
    }
}

async fn dial(network: &Network) -> (TcpStream, std::net::TcpStream) {
    let io = TcpStream::connect(network.address("ingress")).await.unwrap();
    let std = io.into_std().unwrap();
    let socket = std.try_clone().unwrap();
    (TcpStream::from_std(std).unwrap(), socket)
}

pub(crate) fn hello(token: &Secret, number: u8) -> Hello {
    let heartbeat = Heartbeat { interval: Duration::from_secs(10), tolerance: Duration::from_secs(15) };
    Hello {
        versions: Vec::new(),
        agent: AgentId([number; 16]),
        incarnation: 1,
        token: token.clone(),
        software: String::from("test"),
        metadata: String::new(),
        heartbeat,
        limits: Limits { frame: 0, window: 0, streams: 0 },
        resume: None,
        resume_window: Duration::ZERO,
        lane: 0,
    }
}

async fn exactly(stream: &mut (impl tokio::io::AsyncRead + Unpin), count: usize) -> Vec<u8> {
    let mut octets = vec![0; count];
    timeout(PATIENCE, stream.read_exact(&mut octets)).await.expect("in time").unwrap();
    octets
}

const WINDOW: Duration = Duration::from_secs(30);
