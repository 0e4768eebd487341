//! An uplink against a network over loopback, with real sockets and real TLS.

use core::{net::SocketAddr, time::Duration};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use adit_core::{
    AgentId, Bind, BindId, Cause, Code, Command, Config, GiveUp, Hello, Open, ReconnectPolicy, Refusal, Secret,
    SessionId, Unbind, UpstreamProtocol, Withheld, side,
};
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};

use crate::rt::{
    AsyncReadExt, AsyncWriteExt,
    adit::{
        ConnectOptions, DialError, Endpoint, Event, Events, Incoming, Intake, ListenOptions, NetworkSession,
        SetupError, Stream, Target, Uplink, UplinkEvent, UplinkEvents, UplinkOptions, accept, client_config, listen,
        server_config,
    },
    octet, run, spawn, start, timeout,
};

#[test]
fn a_caller_reaches_what_serves_an_endpoint() {
    run(async {
        let mut network = Network::new();
        let (uplink, mut events) = Uplink::start(network.options());
        let mut endpoint = uplink.bind(wish("https://one.example"));

        let mut session = network.session().await;
        session.bound(&[&endpoint]).await;
        assert!(matches!(next(&mut events).await, UplinkEvent::Dialing { lane: 0, attempt: 1, target: 0 }));
        assert!(matches!(next(&mut events).await, UplinkEvent::Connected { remote, .. } if remote == network.address));
        assert!(matches!(next(&mut events).await, UplinkEvent::Bound { id, .. } if id == endpoint.id()));
        assert_eq!(endpoint.url().as_deref(), Some("https://one.example/"));

        let mut near = session.open(endpoint.id());
        let mut far = within(endpoint.accept()).await.unwrap();
        far.accept();
        within(near.accepted()).await.unwrap();
        assert_eq!(exchange(&mut near, &mut far, "hello").await, "hello");
        assert_eq!(uplink.open_streams(), 1);
        assert!(uplink.rtt().is_some() || uplink.stats().len() == 1);
    });
}

#[test]
fn after_a_lost_session_there_is_another_with_the_same_endpoints() {
    run(async {
        let mut network = Network::new();
        let (uplink, mut events) = Uplink::start(network.options());
        let mut endpoint = uplink.bind(wish("https://one.example"));
        let mut first = network.session().await;
        first.bound(&[&endpoint]).await;
        let _near = first.open(endpoint.id());
        let mut lost = within(endpoint.accept()).await.unwrap();

        first.session.close(Code::INTERNAL, "a bad day");

        assert!(within(octet(&mut lost)).await.is_err(), "a stream of a lost session is broken, not complete");
        let disconnected = find(&mut events, |event| matches!(event, UplinkEvent::Disconnected { .. })).await;
        let UplinkEvent::Disconnected { lane: 0, cause: Cause::Remote(close), retry_in: Some(_) } = disconnected else {
            panic!("{disconnected:?}")
        };
        assert_eq!((close.code, close.text.as_str()), (Code::INTERNAL, "a bad day"));
        let mut second = network.session().await;
        second.bound(&[&endpoint]).await;
        let mut near = second.open(endpoint.id());
        let mut far = within(endpoint.accept()).await.unwrap();
        assert_eq!(exchange(&mut near, &mut far, "again").await, "again");
    });
}

#[test]
fn a_draining_network_is_left_without_a_gap_and_old_streams_finish() {
    run(async {
        let mut network = Network::new();
        let (uplink, mut events) = Uplink::start(network.options());
        let mut endpoint = uplink.bind(wish("https://one.example"));
        let mut old = network.session().await;
        old.bound(&[&endpoint]).await;
        let mut old_near = old.open(endpoint.id());
        let mut old_far = within(endpoint.accept()).await.unwrap();

        old.session.drain(Code::SHUTDOWN, None, "");
        let mut new = network.session().await;
        new.bound(&[&endpoint]).await;

        find(&mut events, |event| matches!(event, UplinkEvent::Draining { .. })).await;
        let mut near = new.open(endpoint.id());
        let mut far = within(endpoint.accept()).await.unwrap();
        assert_eq!(exchange(&mut near, &mut far, "new").await, "new");
        assert_eq!(exchange(&mut old_near, &mut old_far, "old").await, "old");
        drop((old_near, old_far));
        assert_eq!(within(old.session.closed()).await, Cause::Local(Code::NO_ERROR));
        assert_eq!(new.session.cause(), None);
    });
}

#[test]
fn a_refused_bind_is_asked_for_again_and_harms_no_other() {
    run(async {
        let mut network = Network::new();
        let (uplink, mut events) = Uplink::start(network.options());
        let (good, bad) = (uplink.bind(wish("https://good.example")), uplink.bind(wish("https://bad.example")));
        let mut session = network.session().await;

        for _ in 0..2 {
            let Event::Bind(request) = session.next().await else { panic!("no bind") };
            match request.bind().id == bad.id() {
                true => session.session.reject(request, refusal(Code::IN_USE, Some(Duration::ZERO))),
                false => session.session.bound(request, "https://good.example/"),
            }
        }

        let rejected = find(&mut events, |event| matches!(event, UplinkEvent::Rejected { .. })).await;
        assert!(matches!(rejected, UplinkEvent::Rejected { id, .. } if id == bad.id()));
        session.bound(&[&bad]).await;
        let bound = find(&mut events, |event| matches!(event, UplinkEvent::Bound { id, .. } if *id == bad.id())).await;
        assert!(matches!(bound, UplinkEvent::Bound { url, .. } if url == "https://bad.example/"));
        assert_eq!(good.url().as_deref(), Some("https://good.example/"));
    });
}

#[test]
fn what_is_given_up_is_told_to_the_network() {
    run(async {
        let mut network = Network::new();
        let (uplink, _events) = Uplink::start(network.options());
        let (one, two) = (uplink.bind(wish("https://one.example")), uplink.bind(wish("https://two.example")));
        let (first, second) = (one.id(), two.id());
        let mut session = network.session().await;
        session.bound(&[&one, &two]).await;

        drop(one);
        assert!(matches!(session.next().await, Event::Unbind(unbind) if unbind == Unbind::new(first)));
        two.unbind_because(true, Code::DISALLOWED, "no rule is for it");
        let Event::Unbind(unbind) = session.next().await else { panic!("not given up") };
        let expected = Unbind::new(second).cutting(true).because(Code::DISALLOWED, "no rule is for it");
        assert_eq!(unbind, expected);
    });
}

/// BIND-022
#[test]
fn what_is_not_asked_for_is_told_in_the_first_session_and_anew_in_the_next() {
    run(async {
        let mut network = Network::new();
        let (uplink, _events) = Uplink::start(UplinkOptions { sessions: 2, ..network.options() });
        let mut sessions = BTreeMap::new();
        for _ in 0..2 {
            let (hello, session) = network.greeted().await;
            sessions.insert(hello.lane, session);
        }
        let hint = Withheld { code: Code::DISALLOWED, ..Withheld::taken_back("https://one.example") };

        uplink.withhold(hint.clone());
        let _endpoint = uplink.bind(wish("https://two.example"));

        let is_hint = |event| matches!(event, Event::Withheld(told) if told == hint);
        let is_bind = |event| matches!(event, Event::Bind(request) if request.bind().url == "https://two.example");
        let [first, second] = [0, 1].map(|lane| sessions.remove(&lane).unwrap());
        let (mut first, mut second) = (first, second);
        assert!(is_hint(first.next().await) && is_bind(first.next().await));
        assert!(is_bind(second.next().await), "it is said of the agent, once");
        first.session.close(Code::INTERNAL, "");
        let (hello, mut again) = network.greeted().await;
        assert!(hello.lane == 0 && is_hint(again.next().await) && is_bind(again.next().await));
    });
}

/// AUTH-002
#[test]
fn refused_credentials_are_said_aloud_and_not_shown_again_in_a_hurry() {
    run(async {
        let mut network = Network::new();
        let (_uplink, mut events) = Uplink::start(network.options());

        network.incoming().await.refuse(refusal(Code::CREDENTIALS, Some(Duration::from_secs(1))));

        let failed = find(&mut events, |event| matches!(event, UplinkEvent::DialFailed { .. })).await;
        let UplinkEvent::DialFailed { error: DialError::Setup(SetupError::Closed(cause)), retry_in, .. } = failed
        else {
            panic!("{failed:?}")
        };
        assert!(matches!(cause, Cause::Refused(refusal) if refusal.code == Code::CREDENTIALS));
        assert!(retry_in.unwrap() > Duration::from_secs(29));
    });
}

#[test]
fn a_version_that_is_not_spoken_ends_it() {
    run(async {
        let mut network = Network::new();
        let (uplink, mut events) = Uplink::start(network.options());
        let mut endpoint = uplink.bind(wish("https://one.example"));

        network.incoming().await.refuse(refusal(Code::VERSION, None));

        let last = find(&mut events, |event| matches!(event, UplinkEvent::GaveUp { .. })).await;
        assert!(matches!(last, UplinkEvent::GaveUp { reason: GiveUp::Refused }));
        assert!(within(endpoint.accept()).await.is_none());
        assert!(within(uplink.bind(wish("https://late.example")).accept()).await.is_none());
        within(uplink.shutdown(Duration::from_secs(9))).await;
    });
}

#[test]
fn a_certificate_that_is_not_trusted_is_said_to_be_that() {
    run(async {
        let mut network = Network::new();
        let mut options = network.options();
        spawn(async move { network.intake.next().await });
        options.tls = Network::new().options().tls;
        let (_uplink, mut events) = Uplink::start(options);

        let failed = find(&mut events, |event| matches!(event, UplinkEvent::DialFailed { .. })).await;
        let UplinkEvent::DialFailed { error: DialError::Setup(SetupError::Tls(error)), retry_in: Some(_), .. } = failed
        else {
            panic!("{failed:?}")
        };
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error:?}");
    });
}

#[test]
fn when_one_target_fails_the_next_is_dialed() {
    run(async {
        let mut network = Network::new();
        let mut options = network.options();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        options.targets.insert(0, Target { host: "127.0.0.1".into(), port: nobody.port() });
        let (_uplink, mut events) = Uplink::start(options);

        let _session = network.session().await;

        assert!(matches!(next(&mut events).await, UplinkEvent::Dialing { target: 0, .. }));
        assert!(matches!(
            next(&mut events).await,
            UplinkEvent::DialFailed { target: 0, error: DialError::Connect(_), .. }
        ));
        assert!(matches!(next(&mut events).await, UplinkEvent::Dialing { target: 1, .. }));
        assert!(matches!(next(&mut events).await, UplinkEvent::Connected { .. }));
    });
}

#[test]
fn a_shutdown_lets_streams_finish() {
    run(async {
        let mut network = Network::new();
        let (uplink, mut events) = Uplink::start(network.options());
        let mut endpoint = uplink.bind(wish("https://one.example"));
        let mut session = network.session().await;
        session.bound(&[&endpoint]).await;
        let mut near = session.open(endpoint.id());
        let mut far = within(endpoint.accept()).await.unwrap();

        let ending = start({
            let uplink = uplink.clone();
            async move { uplink.shutdown(Duration::from_secs(20)).await }
        });
        assert!(matches!(session.next().await, Event::GoAway(_)));
        assert_eq!(exchange(&mut near, &mut far, "the last word").await, "the last word");
        drop((near, far));

        within(ending).await;
        let last = find(&mut events, |event| matches!(event, UplinkEvent::GaveUp { .. })).await;
        assert!(matches!(last, UplinkEvent::GaveUp { reason: GiveUp::Shutdown }));
        assert!(within(events.next()).await.is_none());
        assert!(matches!(session.next().await, Event::Closed(Cause::Remote(close)) if close.code == Code::NO_ERROR));
        assert!(within(endpoint.accept()).await.is_none());
    });
}

#[test]
fn a_shutdown_ends_in_time_whatever_streams_do() {
    run(async {
        let mut network = Network::new();
        let (uplink, _events) = Uplink::start(network.options());
        let mut endpoint = uplink.bind(wish("https://one.example"));
        let mut session = network.session().await;
        session.bound(&[&endpoint]).await;
        let mut near = session.open(endpoint.id());
        let _far = within(endpoint.accept()).await.unwrap();

        within(uplink.shutdown(Duration::from_millis(50))).await;

        assert!(within(octet(&mut near)).await.is_err());
        assert!(
            matches!(within(session.session.closed()).await, Cause::Remote(close) if close.code == Code::DRAIN_TIMEOUT)
        );
    });
}

#[test]
fn a_shutdown_while_a_network_keeps_silent_ends_at_once() {
    run(async {
        let network = Network::new(); // the kernel accepts, nobody answers
        let (uplink, mut events) = Uplink::start(network.options());
        assert!(matches!(next(&mut events).await, UplinkEvent::Dialing { .. }));

        within(uplink.shutdown(Duration::from_secs(60))).await;

        let abandoned = next(&mut events).await;
        assert!(matches!(abandoned, UplinkEvent::DialFailed { error: DialError::Abandoned, retry_in: None, .. }));
        assert!(matches!(next(&mut events).await, UplinkEvent::GaveUp { reason: GiveUp::Shutdown }));
    });
}

#[test]
fn an_uplink_that_is_dropped_ends() {
    run(async {
        let mut network = Network::new();
        let (uplink, _events) = Uplink::start(network.options());
        let mut endpoint = uplink.bind(wish("https://one.example"));
        let session = network.session().await;

        drop(uplink);

        assert!(matches!(within(session.session.closed()).await, Cause::Remote(_)));
        assert!(within(endpoint.accept()).await.is_none());
    });
}

#[test]
fn when_the_way_to_the_network_changes_a_new_session_takes_over() {
    run(async {
        let mut network = Network::new();
        let (uplink, _events) = Uplink::start(network.options());
        let mut endpoint = uplink.bind(wish("https://one.example"));
        let mut old = network.session().await;
        old.bound(&[&endpoint]).await;
        let mut old_near = old.open(endpoint.id());
        let mut old_far = within(endpoint.accept()).await.unwrap();

        uplink.reconnect_now();
        let mut new = network.session().await;
        new.bound(&[&endpoint]).await;

        assert!(matches!(old.next().await, Event::GoAway(_)));
        assert_eq!(exchange(&mut old_near, &mut old_far, "old").await, "old");
        let mut near = new.open(endpoint.id());
        let mut far = within(endpoint.accept()).await.unwrap();
        assert_eq!(exchange(&mut near, &mut far, "new").await, "new");
    });
}

#[test]
fn a_remote_command_is_told_and_answered() {
    run(async {
        let mut network = Network::new();
        let (_uplink, mut events) = Uplink::start(network.options());
        let mut session = network.session().await;

        let id = session.session.command(Command::Restart, "please").unwrap();
        let event = find(&mut events, |event| matches!(event, UplinkEvent::Command { .. })).await;
        let UplinkEvent::Command { command: Command::Restart, text, reply, .. } = event else { panic!("{event:?}") };
        assert_eq!(text, "please");
        reply.answer(Code::FORBIDDEN, "not allowed here");

        let Event::CommandResult(result) = session.next().await else { panic!("no answer") };
        assert_eq!((result.id, result.code, result.text.as_str()), (id, Code::FORBIDDEN, "not allowed here"));
    });
}

#[test]
fn revocation_lists_are_told_with_the_session_that_they_came_on() {
    run(async {
        let mut network = Network::new();
        let (_uplink, mut events) = Uplink::start(network.options());
        let session = network.session().await;

        session.session.tell_revocations(&"lists".into()).unwrap();
        let event = find(&mut events, |event| matches!(event, UplinkEvent::Revocations { .. })).await;
        assert!(matches!(event, UplinkEvent::Revocations { lane: 0, lists } if lists == "lists"));
    });
}

#[test]
fn a_remote_command_that_nobody_attends_to_is_refused() {
    run(async {
        let mut network = Network::new();
        let (_uplink, events) = Uplink::start(network.options());
        let mut session = network.session().await;
        drop(events);

        for _ in 0..3 {
            let id = session.session.command(Command::Stop, "").unwrap();
            let Event::CommandResult(result) = session.next().await else { panic!("no answer") };
            assert_eq!((result.id, result.code), (id, Code::FORBIDDEN));
        }
    });
}

#[test]
fn a_stream_for_nothing_that_is_bound_is_refused() {
    run(async {
        let mut network = Network::new();
        let (_uplink, _events) = Uplink::start(network.options());
        let session = network.session().await;

        let stream = session.open(BindId(77));

        assert_eq!(within(stream.accepted()).await, Err(Code::REFUSED));
    });
}

/// AUTH-008
#[test]
fn several_sessions_serve_an_endpoint_and_one_that_is_lost_takes_nothing_from_the_others() {
    run(async {
        let mut network = Network::new();
        let (uplink, mut events) = Uplink::start(UplinkOptions { sessions: 3, ..network.options() });
        let mut endpoint = uplink.bind(wish("https://one.example"));
        let mut sessions = BTreeMap::new();
        let mut incarnations = BTreeSet::new();
        for _ in 0..3 {
            let (hello, mut session) = network.greeted().await;
            session.bound(&[&endpoint]).await;
            incarnations.insert(hello.incarnation);
            sessions.insert(hello.lane, session);
        }
        assert_eq!((sessions.keys().copied().collect::<Vec<_>>(), incarnations.len()), (vec![0, 1, 2], 1));

        let mut streams = Vec::new();
        for session in sessions.values() {
            let mut near = session.open(endpoint.id());
            let mut far = within(endpoint.accept()).await.unwrap();
            assert_eq!(exchange(&mut near, &mut far, "hello").await, "hello");
            streams.push((near, far));
        }
        assert_eq!((uplink.stats().len(), uplink.open_streams()), (3, 3));

        sessions[&1].session.close(Code::INTERNAL, "");
        find(&mut events, |event| matches!(event, UplinkEvent::Disconnected { lane: 1, .. })).await;
        let (_, mut lost) = streams.remove(1);
        assert!(within(octet(&mut lost)).await.is_err());
        for (near, far) in &mut streams {
            assert_eq!(exchange(near, far, "still here").await, "still here");
        }
        let (hello, mut again) = network.greeted().await;
        assert_eq!((hello.lane, incarnations.contains(&hello.incarnation)), (1, true));
        again.bound(&[&endpoint]).await;
        drop(endpoint);
        for session in sessions.iter_mut().filter(|(lane, _)| **lane != 1).map(|(_, session)| session) {
            assert!(matches!(session.next().await, Event::Unbind(_)), "given up everywhere");
        }
        assert!(matches!(again.next().await, Event::Unbind(_)));
    });
}

/// BIND-012
#[test]
fn what_the_network_chose_is_asked_for_in_all_sessions_and_later_until_it_is_refused() {
    run(async {
        let mut network = Network::new();
        let (uplink, _events) = Uplink::start(UplinkOptions { sessions: 2, ..network.options() });
        let _endpoint = uplink.bind(wish("https://"));
        let mut sessions = BTreeMap::new();
        for _ in 0..2 {
            let (hello, session) = network.greeted().await;
            sessions.insert(hello.lane, session);
        }
        sessions.get_mut(&0).unwrap().answer("https://", Ok("https://chosen.example:8443")).await;
        sessions.get_mut(&1).unwrap().answer("https://chosen.example", Ok("https://chosen.example:8443")).await;

        sessions[&0].session.close(Code::INTERNAL, "");
        let (_, mut first) = network.greeted().await;
        first.answer("https://chosen.example", Err(Code::IN_USE)).await;
        first.answer("https://", Ok("https://other.example:8443")).await;
        let second = sessions.get_mut(&1).unwrap();
        let mut seen = [second.next().await, second.next().await];
        seen.sort_by_key(|event| matches!(event, Event::Unbind(_)));
        assert!(matches!(&seen[0], Event::Bind(request) if request.bind().url == "https://other.example"));
        assert!(matches!(seen[1], Event::Unbind(_)));
    });
}

/// A network that accepts agents on a port of loopback.
pub(super) struct Network {
    intake: Intake<Incoming>,
    pub(super) address: SocketAddr,
    roots: RootCertStore,
}

/// The network's end of a session.
pub(super) struct Served {
    session: NetworkSession,
    events: Events<side::Network>,
    opened: VecDeque<Event>,
}

impl Network {
    pub(super) fn new() -> Self {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(issued.cert.der().clone()).unwrap();
        let key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls: Arc<ServerConfig> = Arc::new(server_config(vec![issued.cert.der().clone()], key, provider).unwrap());
        let options = ListenOptions::default();
        let listener = listen("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let address = listener.local_addr().unwrap();
        let intake = Intake::new(listener, options, move |stream, _| {
            let tls = Arc::clone(&tls);
            async move { accept(stream, tls, Config::network(), 7).await.ok() }
        });
        Self { intake, address, roots }
    }

    pub(super) fn options(&self) -> UplinkOptions {
        let provider = Arc::new(aws_lc_rs::default_provider());
        UplinkOptions {
            targets: vec![Target { host: "127.0.0.1".into(), port: self.address.port() }],
            tls: Arc::new(client_config(self.roots.clone(), provider).unwrap()),
            server_name: Some("localhost".try_into().unwrap()),
            config: Config::agent(),
            token: Secret::new(*b"token"),
            agent: AgentId([1; 16]),
            software: "test".into(),
            metadata: String::new(),
            connect: ConnectOptions::default(),
            reconnect: ReconnectPolicy::default(),
            sessions: 1,
        }
    }

    async fn incoming(&mut self) -> Incoming {
        within(self.intake.next()).await.unwrap()
    }

    pub(super) async fn session(&mut self) -> Served {
        self.greeted().await.1
    }

    /// Returns a session, and with what it was asked for.
    async fn greeted(&mut self) -> (Hello, Served) {
        let incoming = self.incoming().await;
        let hello = incoming.hello().clone();
        assert_eq!(hello.token, Secret::new(*b"token"));
        let welcome = incoming.welcome(SessionId([3; 16]), "local", "node");
        let (session, events) = incoming.accept(welcome);
        (hello, Served { session, events, opened: VecDeque::new() })
    }
}

impl Served {
    async fn next(&mut self) -> Event {
        match self.opened.pop_front() {
            Some(event) => event,
            None => within(self.events.next()).await.unwrap(),
        }
    }

    /// Puts the next binds in force, which must be these.
    pub(super) async fn bound(&mut self, endpoints: &[&Endpoint]) {
        for endpoint in endpoints {
            let Event::Bind(request) = self.next().await else { panic!("no bind") };
            assert_eq!(request.bind().id, endpoint.id());
            let url = format!("{}/", request.bind().url);
            self.session.bound(request, &url);
        }
    }

    /// Answers the next bind, which must ask for this.
    async fn answer(&mut self, asked: &str, answer: Result<&str, Code>) {
        let Event::Bind(request) = self.next().await else { panic!("no bind") };
        assert_eq!(request.bind().url, asked);
        match answer {
            Ok(url) => self.session.bound(request, url),
            Err(code) => self.session.reject(request, Refusal { code, retry_after: None, text: String::new() }),
        }
    }

    fn open(&self, bind: BindId) -> Stream {
        self.session.open(Open { bind: Some(bind), ..Open::default() }).unwrap()
    }
}

async fn exchange(one: &mut Stream, other: &mut Stream, text: &str) -> String {
    one.write_all(text.as_bytes()).await.unwrap();
    let mut received = vec![0; text.len()];
    within(other.read_exact(&mut received)).await.unwrap();
    other.write_all(&received).await.unwrap();
    within(one.read_exact(&mut received)).await.unwrap();
    String::from_utf8(received).unwrap()
}

async fn next(events: &mut UplinkEvents) -> UplinkEvent {
    within(events.next()).await.unwrap()
}

pub(super) async fn find(events: &mut UplinkEvents, wanted: impl Fn(&UplinkEvent) -> bool) -> UplinkEvent {
    loop {
        let event = next(events).await;
        if wanted(&event) {
            return event;
        }
    }
}

/// Real sockets take real time; only a test that fails waits for long.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("in time")
}

pub(super) fn wish(url: &str) -> Bind {
    Bind {
        id: BindId(0),
        url: url.into(),
        pooling: false,
        upstream_protocol: UpstreamProtocol::Http1,
        name: String::new(),
        description: String::new(),
        metadata: String::new(),
        tls_end: Default::default(),
    }
}

fn refusal(code: Code, retry_after: Option<Duration>) -> Refusal {
    Refusal { code, retry_after, text: String::new() }
}
