//! Sessions that go on over other connections: real sockets, real TLS, and a relay that cuts, stalls and swallows.

use core::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};
use std::sync::{Arc, Mutex};

use adit_core::{
    AgentId, Bind, BindId, Cause, Code, Config, Open, ReconnectPolicy, Refusal, ResumeOffer, Rng, Secret, SessionId,
    UpstreamProtocol,
};
use async_channel::{Receiver, Sender, unbounded};
use rustls::{RootCertStore, crypto::aws_lc_rs, pki_types::PrivateKeyDer};

use crate::rt::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt,
    adit::{
        ConnectOptions, Endpoint, Event, Incoming, Intake, ListenOptions, NetworkSession, Stream, Target, Uplink,
        UplinkEvent, UplinkEvents, UplinkOptions, accept, client_config, code_of, listen, server_config,
    },
    bind, dial, join, octet, race, run, shutdown, spawn, split, timeout,
};

#[test]
fn a_hundred_cuts_lose_no_octet_in_either_direction() {
    run(async {
        const OCTETS: usize = 12 << 20;
        let network = Network::new(30);
        let relay = Relay::new(network.address, Some(128 << 10)).await;
        let mut options = network.options(relay.address);
        let millis = Duration::from_millis;
        (options.reconnect.floor, options.reconnect.base, options.reconnect.resume_cap) =
            (millis(1), millis(5), millis(10));
        let (uplink, mut events) = Uplink::start(options);
        let (session, _endpoint, near, far) = carried(&network, &uplink).await;
        let sums = within(Box::pin(async {
            join(join(pump(near, 1, 2, OCTETS), pump(far, 2, 1, OCTETS)), async {
                while relay.cuts.load(Ordering::Relaxed) < 100 {
                    let event = events.next().await.unwrap();
                    assert!(
                        !matches!(event, UplinkEvent::Disconnected { .. } | UplinkEvent::GaveUp { .. }),
                        "{event:?}"
                    );
                }
            })
            .await
            .0
        }))
        .await;

        assert_eq!((sums.0, sums.1), (true, true));
        assert!(relay.cuts.load(Ordering::Relaxed) >= 100);
        assert!(network.resumes.load(Ordering::Relaxed) >= 90, "{:?}", network.resumes);
        assert_eq!(session.session.cause(), None);
    });
}

#[test]
fn a_connection_that_swallows_everything_is_replaced_by_one_that_works() {
    run(async {
        let network = Network::new(30);
        let relay = Relay::new(network.address, None).await;
        let mut options = network.options(relay.address);
        options.config.heartbeat.interval = Duration::from_secs(1);
        options.config.heartbeat.tolerance = Duration::from_secs(1);
        let (uplink, mut events) = Uplink::start(options);
        let (_session, _endpoint, mut near, mut far) = carried(&network, &uplink).await;

        relay.swallows.store(true, Ordering::Relaxed);
        near.write_all(b"swallowed").await.unwrap();
        let suspended = find(&mut events, |event| matches!(event, UplinkEvent::Suspended { .. })).await;
        assert!(matches!(suspended, UplinkEvent::Suspended { cause: Cause::Dead { .. }, .. }), "{suspended:?}");
        relay.swallows.store(false, Ordering::Relaxed);
        find(&mut events, |event| matches!(event, UplinkEvent::Resumed { .. })).await;

        let mut received = [0; 9];
        within(far.read_exact(&mut received)).await.unwrap();
        assert_eq!(&received, b"swallowed");
    });
}

#[test]
fn without_a_connection_in_time_streams_end_with_a_code_that_says_so() {
    run(async {
        let network = Network::new(1);
        let relay = Relay::new(network.address, None).await;
        let (uplink, mut events) = Uplink::start(network.options(relay.address));
        let (session, _endpoint, mut near, mut far) = carried(&network, &uplink).await;

        relay.refuses.store(true, Ordering::Relaxed);
        relay.cut();

        let error = within(octet(&mut far)).await.unwrap_err();
        assert_eq!(code_of(&error), Some(Code::RESUME_EXPIRED));
        let error = within(octet(&mut near)).await.unwrap_err();
        assert_eq!(code_of(&error), Some(Code::RESUME_EXPIRED));
        assert_eq!(within(session.session.closed()).await, Cause::ResumeExpired);
        relay.refuses.store(false, Ordering::Relaxed);
        find(&mut events, |event| matches!(event, UplinkEvent::Connected { .. })).await;
    });
}

#[test]
#[expect(clippy::wildcard_enum_match_arm, reason = "anything else is wrong")]
fn a_network_that_forgot_the_session_is_asked_once_and_a_new_one_follows_at_once() {
    run(async {
        let network = Network::new(30);
        let relay = Relay::new(network.address, None).await;
        let (uplink, mut events) = Uplink::start(network.options(relay.address));
        let (_session, _endpoint, _near, mut far) = carried(&network, &uplink).await;
        network.forgets.store(true, Ordering::Relaxed);

        relay.cut();

        let error = within(octet(&mut far)).await.unwrap_err();
        assert_eq!(code_of(&error), Some(Code::SESSION_LOST));
        find(&mut events, |event| matches!(event, UplinkEvent::Suspended { .. })).await;
        let (mut dials, mut told) = (0, 0);
        loop {
            match within(events.next()).await.unwrap() {
                UplinkEvent::Dialing { .. } => dials += 1,
                UplinkEvent::Disconnected { .. } => told += 1,
                UplinkEvent::DialFailed { retry_in, .. } => assert_eq!(retry_in, None, "the next dial is under way"),
                UplinkEvent::Connected { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((dials, told), (2, 1));
    });
}

#[test]
fn a_network_change_moves_the_session_while_the_old_connection_lives() {
    run(async {
        let network = Network::new(30);
        let relay = Relay::new(network.address, None).await;
        let (uplink, mut events) = Uplink::start(network.options(relay.address));
        let (_session, _endpoint, mut near, mut far) = carried(&network, &uplink).await;
        find(&mut events, |event| matches!(event, UplinkEvent::Connected { .. })).await;

        uplink.reconnect_now();
        find(&mut events, |event| matches!(event, UplinkEvent::Resumed { .. })).await;

        near.write_all(b"on").await.unwrap();
        let mut received = [0; 2];
        within(far.read_exact(&mut received)).await.unwrap();
        assert_eq!(network.resumes.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn an_agent_that_never_resumes_begins_anew() {
    run(async {
        let network = Network::new(30);
        let relay = Relay::new(network.address, None).await;
        let mut options = network.options(relay.address);
        options.config.resume_window = Duration::ZERO;
        let (uplink, mut events) = Uplink::start(options);
        let (_session, _endpoint, _near, mut far) = carried(&network, &uplink).await;

        relay.cut();

        let error = within(octet(&mut far)).await.unwrap_err();
        assert_eq!(code_of(&error), Some(Code::SESSION_LOST));
        find(&mut events, |event| matches!(event, UplinkEvent::Disconnected { .. })).await;
        assert_eq!(within(network.session()).await.session.cause(), None);
    });
}

/// TIME-008
#[test]
fn a_busy_connection_that_falls_silent_is_left_for_one_beside_it() {
    run(async {
        let network = Network::new(30);
        let relay = Relay::new(network.address, None).await;
        let (uplink, mut events) = Uplink::start(network.options(relay.address));
        let (_session, _endpoint, mut near, mut far) = carried(&network, &uplink).await;
        find(&mut events, |event| matches!(event, UplinkEvent::Connected { .. })).await;

        relay.swallow_those();
        near.write_all(b"swallowed").await.unwrap();
        far.write_all(b"as well").await.unwrap();
        let told = find(&mut events, |event| !matches!(event, UplinkEvent::Bound { .. })).await;

        assert!(matches!(told, UplinkEvent::Resumed { .. }), "long before the tolerance, and without a loss: {told:?}");
        let (mut one, mut other) = ([0; 9], [0; 7]);
        within(far.read_exact(&mut one)).await.unwrap();
        within(near.read_exact(&mut other)).await.unwrap();
        assert_eq!((&one, &other), (b"swallowed", b"as well"));
        assert_eq!(network.resumes.load(Ordering::Relaxed), 1);
    });
}

/// TIME-008
#[test]
fn a_peer_that_was_stopped_keeps_its_connection() {
    run(async {
        let network = Network::new(30);
        let relay = Relay::new(network.address, None).await;
        let (uplink, _events) = Uplink::start(network.options(relay.address));
        let (_session, _endpoint, mut near, mut far) = carried(&network, &uplink).await;

        relay.hold();
        far.write_all(b"held").await.unwrap();
        // A kernel takes the connection beside it, and nobody answers what is said there.
        while within(relay.held.recv()).await.unwrap() != 1 {}
        relay.release(0);
        let mut received = [0; 4];
        within(near.read_exact(&mut received)).await.unwrap();
        near.write_all(b"on").await.unwrap();
        within(far.read_exact(received.get_mut(..2).unwrap())).await.unwrap();
        relay.release(1);

        assert_eq!(within(relay.ended.recv()).await.unwrap(), 1, "the connection beside it is of no more use");
        assert_eq!(network.resumes.load(Ordering::Relaxed), 0);
    });
}

/// Carries one connection: the network's session, the endpoint, and both ends of a stream.
async fn carried(network: &Network, uplink: &Uplink) -> (Served, Endpoint, Stream, Stream) {
    let mut endpoint = uplink.bind(wish());
    let session = network.session().await;
    within(session.bound()).await;
    let near = session.open(endpoint.id());
    let far = within(endpoint.accept()).await.unwrap();
    (session, endpoint, near, far)
}

/// Writes its octets and reads the other's, both to the end; returns whether they were what the other wrote.
async fn pump(stream: Stream, mine: u64, theirs: u64, length: usize) -> bool {
    let (mut reads, mut writes) = stream.into_split();
    let write = async {
        let (mut rng, mut left) = (Rng::new(mine), length);
        while left > 0 {
            let chunk: Vec<u8> = (0..(8 << 10)).flat_map(|_| rng.next().to_be_bytes()).take(left).collect();
            left -= chunk.len();
            writes.write_all(&chunk).await.unwrap();
        }
        shutdown(&mut writes).await.unwrap();
    };
    let read = async {
        let (mut rng, mut left, mut same) = (Rng::new(theirs), length, true);
        let mut chunk = vec![0; 64 << 10];
        while left > 0 {
            let size = left.min(chunk.len());
            reads.read_exact(chunk.get_mut(..size).unwrap()).await.unwrap();
            let expected: Vec<u8> = (0..(8 << 10)).flat_map(|_| rng.next().to_be_bytes()).take(size).collect();
            same &= chunk.get(..size) == Some(&*expected);
            left -= size;
        }
        same && reads.read(&mut chunk).await.unwrap() == 0
    };
    join(write, read).await.1
}

/// A network that offers resumption and resumes.
struct Network {
    address: SocketAddr,
    roots: RootCertStore,
    sessions: Receiver<Served>,
    resumes: Arc<AtomicUsize>,
    forgets: Arc<AtomicBool>,
}

struct Served {
    session: NetworkSession,
    binds: Receiver<BindId>,
}

impl Served {
    async fn bound(&self) -> BindId {
        self.binds.recv().await.unwrap()
    }

    fn open(&self, bind: BindId) -> Stream {
        self.session.open(Open { bind: Some(bind), ..Open::default() }).unwrap()
    }
}

impl Network {
    /// Returns one that keeps sessions for so many seconds.
    fn new(window: u64) -> Self {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(issued.cert.der().clone()).unwrap();
        let key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = Arc::new(server_config(vec![issued.cert.der().clone()], key, provider).unwrap());
        let options = ListenOptions::default();
        let listener = listen("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let address = listener.local_addr().unwrap();
        let mut intake = Intake::new(listener, options, move |stream, _| {
            let tls = Arc::clone(&tls);
            async move { accept(stream, tls, Config::network(), 7).await.ok() }
        });
        let (tell, sessions) = unbounded();
        let resumes = Arc::new(AtomicUsize::new(0));
        let forgets = Arc::new(AtomicBool::new(false));
        let (count, forgetful) = (Arc::clone(&resumes), Arc::clone(&forgets));
        spawn(async move {
            let mut current: Option<NetworkSession> = None;
            let secrets = AtomicU64::new(1);
            while let Some(incoming) = intake.next().await {
                if forgetful.load(Ordering::Relaxed) {
                    current = None;
                }
                serve(incoming, &mut current, &secrets, window, &tell, &count);
            }
        });
        Self { address, roots, sessions, resumes, forgets }
    }

    async fn session(&self) -> Served {
        within(self.sessions.recv()).await.unwrap()
    }

    fn options(&self, through: SocketAddr) -> UplinkOptions {
        let provider = Arc::new(aws_lc_rs::default_provider());
        UplinkOptions {
            targets: vec![Target { host: "127.0.0.1".into(), port: through.port() }],
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
}

fn serve(
    incoming: Incoming,
    current: &mut Option<NetworkSession>,
    secrets: &AtomicU64,
    window: u64,
    tell: &Sender<Served>,
    resumes: &AtomicUsize,
) {
    let mut welcome = incoming.welcome(SessionId([3; 16]), "local", "node");
    let secret = [secrets.fetch_add(1, Ordering::Relaxed).to_be_bytes(); 2].concat();
    welcome.resume = Some(ResumeOffer { secret: Secret::new(secret), window: Duration::from_secs(window) });
    if incoming.hello().resume.is_some() {
        let unknown = Refusal { code: Code::RESUME_UNKNOWN, retry_after: None, text: String::new() };
        let Some(session) = current else { return incoming.refuse(unknown) };
        resumes.fetch_add(1, Ordering::Relaxed); // before the agent can know
        if let Err(incoming) = incoming.resume(session, welcome) {
            resumes.fetch_sub(1, Ordering::Relaxed);
            incoming.refuse(unknown);
        }
        return;
    }
    let (session, mut events) = incoming.accept(welcome);
    *current = Some(session.clone());
    let (bound, binds) = unbounded();
    let serves = session.clone();
    spawn(async move {
        while let Some(event) = events.next().await {
            if let Event::Bind(request) = event {
                let id = request.bind().id;
                serves.bound(request, "https://one.example/");
                bound.try_send(id).unwrap();
            }
        }
    });
    let _ = tell.try_send(Served { session, binds });
}

/// A relay between agent and network.
struct Relay {
    address: SocketAddr,
    swallows: Arc<AtomicBool>,
    refuses: Arc<AtomicBool>,
    cuts: Arc<AtomicUsize>,
    doors: Arc<Doors>,
    /// The connections that have something to pass on and may not, and those that are over.
    held: Receiver<usize>,
    ended: Receiver<usize>,
    /// What each connection waits for, beside octets.
    cut: Arc<Mutex<Vec<Sender<()>>>>,
}

/// What becomes of the octets of single connections, by their numbers.
struct Doors {
    count: AtomicUsize,
    /// Those below vanish.
    lost: AtomicUsize,
    /// Those that wait, each until its sender is dropped.
    gates: Mutex<Vec<Receiver<()>>>,
    keys: Mutex<Vec<Option<Sender<()>>>>,
    held: Sender<usize>,
    ended: Sender<usize>,
}

impl Relay {
    /// Returns one that cuts each connection after about so many octets.
    async fn new(to: SocketAddr, after: Option<u64>) -> Self {
        let listener = bind().await;
        let ((tell_held, held), (tell_ended, ended)) = (unbounded(), unbounded());
        let doors = Arc::new(Doors {
            count: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            gates: Mutex::default(),
            keys: Mutex::default(),
            held: tell_held,
            ended: tell_ended,
        });
        let relay = Self {
            doors: Arc::clone(&doors),
            held,
            ended,
            address: listener.local_addr().unwrap(),
            swallows: Arc::default(),
            refuses: Arc::default(),
            cuts: Arc::default(),
            cut: Arc::default(),
        };
        let (swallows, refuses) = (Arc::clone(&relay.swallows), Arc::clone(&relay.refuses));
        let (cuts, cut) = (Arc::clone(&relay.cuts), Arc::clone(&relay.cut));
        spawn(async move {
            let mut rng = Rng::new(11);
            while let Ok((near, _)) = listener.accept().await {
                if refuses.load(Ordering::Relaxed) {
                    continue;
                }
                let far = dial(to).await;
                let limit = after.map_or(u64::MAX, |after| rng.between(after / 8, after * 2));
                let (swallows, cuts) = (Arc::clone(&swallows), Arc::clone(&cuts));
                let (doors, number) = (Arc::clone(&doors), doors.count.fetch_add(1, Ordering::Relaxed));
                let (end, ended) = unbounded();
                cut.lock().unwrap().push(end);
                spawn(async move {
                    let left = AtomicU64::new(limit);
                    let ((near_read, near_write), (far_read, far_write)) = (split(near), split(far));
                    let up = carry(near_read, far_write, (&swallows, &doors, number), &left);
                    let down = carry(far_read, near_write, (&swallows, &doors, number), &left);
                    race(race(up, down), async { ended.recv().await.unwrap_or_default() }).await;
                    cuts.fetch_add(1, Ordering::Relaxed);
                    let _ = doors.ended.try_send(number);
                });
            }
        });
        relay
    }

    fn cut(&self) {
        self.cut.lock().unwrap().clear();
    }

    /// Swallows what comes on the connections that there are, and not on those that follow.
    fn swallow_those(&self) {
        self.doors.lost.store(self.doors.count.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Holds what comes on the first two connections until each is released.
    fn hold(&self) {
        let (keys, gates): (Vec<_>, Vec<_>) = [unbounded(), unbounded()].into_iter().unzip();
        *self.doors.keys.lock().unwrap() = keys.into_iter().map(Some).collect();
        *self.doors.gates.lock().unwrap() = gates;
    }

    fn release(&self, number: usize) {
        drop(self.doors.keys.lock().unwrap().get_mut(number).unwrap().take());
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    (swallows, doors, number): (&AtomicBool, &Doors, usize),
    left: &AtomicU64,
) {
    let mut octets = vec![0; 32 << 10];
    while let Ok(count @ 1..) = from.read(&mut octets).await {
        if swallows.load(Ordering::Relaxed) || number < doors.lost.load(Ordering::Relaxed) {
            continue;
        }
        let gate = doors.gates.lock().unwrap().get(number).cloned();
        if let Some(gate) = gate {
            let _ = doors.held.try_send(number);
            let _ = gate.recv().await; // until its other end is gone
        }
        let allowed = left.load(Ordering::Relaxed).min(count as u64);
        left.fetch_sub(allowed, Ordering::Relaxed);
        let part = octets.get(..usize::try_from(allowed).unwrap()).unwrap();
        if to.write_all(part).await.is_err() || allowed < count as u64 {
            return;
        }
    }
    if swallows.load(Ordering::Relaxed) {
        core::future::pending::<()>().await; // an end is swallowed too
    }
}

async fn find(events: &mut UplinkEvents, wanted: impl Fn(&UplinkEvent) -> bool) -> UplinkEvent {
    loop {
        let event = within(events.next()).await.unwrap();
        if wanted(&event) {
            return event;
        }
    }
}

/// Real sockets take real time; only a test that fails waits for long.
async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.expect("in time")
}

fn wish() -> Bind {
    Bind {
        id: BindId(0),
        url: "https://one.example".into(),
        pooling: false,
        upstream_protocol: UpstreamProtocol::Http1,
        name: String::new(),
        description: String::new(),
        metadata: String::new(),
        tls_end: Default::default(),
    }
}
