//! An edge without sessions: members are sockets on loopback, or in memory where time is virtual, and each says whether it is
//! accepted.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use adit_core::{Code, TlsInfo, UpstreamProtocol};
use adit_network::{
    Caller, EndpointName, Fault, NameMap, NamePattern, Phase,
    admission::Source,
    config::EndpointKind,
    endpoints::Settings,
    http::{Backend, Cut, HttpEdge, HttpLimits, Member, Note, Upstream, serve},
    router::{Key, Outcome, Scheme},
};
use adit_policy::{document::Document, engine::Policy};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, timeout},
};

/// How a member answers a new connection.
#[derive(Clone, Copy, Debug)]
pub enum Word {
    Accepts,
    Refuses(Code),
    /// After a while, in which much can be written.
    RefusesLate(Code),
    Silent,
}

#[derive(Clone, Debug)]
pub struct FakeMember {
    pub id: u64,
    pub address: SocketAddr,
    /// Reached in memory in place of the address.
    pub memory: Option<mpsc::UnboundedSender<DuplexStream>>,
    /// In memory the end of its connections is a reset.
    pub breaks: bool,
    pub word: Word,
    pub protocol: UpstreamProtocol,
    pub opened: Arc<AtomicUsize>,
    /// Its agent is away all the time from then on.
    pub away_since: Option<Instant>,
}

#[derive(Default)]
pub struct FakeBackend {
    endpoints: Mutex<NameMap<Arc<u64>>>,
    members: Mutex<HashMap<u64, Vec<FakeMember>>>,
    pub notes: Mutex<Vec<Note>>,
    /// All callers are one source.
    pub source: Arc<Source>,
    /// How it went with members.
    pub reports: Mutex<Vec<(u64, Outcome)>>,
    /// Nothing may be sent again to another member.
    pub spent: AtomicBool,
    /// What the configuration says of endpoints, by their keys.
    pub settings: Mutex<HashMap<u64, Arc<Settings>>>,
    /// Endpoints that rules may forward to, by their URLs.
    pub internal: Mutex<HashMap<String, u64>>,
}

impl Backend for FakeBackend {
    type Key = u64;
    type Member = FakeMember;

    fn find(&self, _: Scheme, name: &EndpointName) -> Result<Arc<u64>, Fault> {
        self.endpoints.lock().find(name).cloned().ok_or(Fault::EndpointUnknown)
    }

    fn is_under_terms(&self, _: &Caller, _: &EndpointName) -> bool {
        true
    }

    async fn choose(&self, key: &u64, tried: &[u64]) -> Result<FakeMember, Fault> {
        let members = self.members.lock();
        members[key].iter().find(|member| !tried.contains(&member.id)).cloned().ok_or(Fault::NoAgent)
    }

    fn settings(&self, key: &u64) -> Option<Arc<Settings>> {
        self.settings.lock().get(key).cloned()
    }

    fn forward(&self, account: i64, url: &str) -> Result<(Arc<u64>, bool), Fault> {
        let key = self.internal.lock().get(url).copied().filter(|_| account == ACCOUNT).ok_or(Fault::ForwardUnknown)?;
        let live = self.settings.lock().contains_key(&key) || self.members.lock().contains_key(&key);
        Ok((Arc::new(key), live))
    }

    fn report(&self, _: &u64, member: &FakeMember, outcome: Outcome) {
        self.reports.lock().push((member.id, outcome));
    }

    fn may_retry(&self, _: &FakeMember, _: Code) -> bool {
        !self.spent.load(Ordering::SeqCst)
    }

    fn source(&self, _: &Caller) -> Arc<Source> {
        Arc::clone(&self.source)
    }

    fn note(&self, note: Note) {
        self.notes.lock().push(note);
    }
}

impl Member for FakeMember {
    type Id = u64;
    type Io = FakeIo;

    fn id(&self) -> u64 {
        self.id
    }

    fn protocol(&self) -> UpstreamProtocol {
        self.protocol
    }

    fn away(&self) -> Duration {
        self.away_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn open(&self, _: &Caller, _: &str) -> Result<FakeIo, Code> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let stream = match &self.memory {
            None => {
                let stream = std::net::TcpStream::connect(self.address).map_err(|_| Code::REFUSED)?;
                let ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
                Line::Socket(ready.and_then(|()| TcpStream::from_std(stream)).map_err(|_| Code::INTERNAL)?)
            }
            Some(upstream) => {
                let (near, far) = duplex(MEMORY);
                upstream.send(far).map_err(|_| Code::REFUSED)?;
                Line::Memory(near)
            }
        };
        Ok(FakeIo {
            stream,
            breaks: self.breaks,
            word: self.word,
            late: Box::pin(tokio::time::sleep(Duration::from_millis(40))),
        })
    }
}

pub enum Line {
    Socket(TcpStream),
    Memory(DuplexStream),
}

pub struct FakeIo {
    stream: Line,
    breaks: bool,
    word: Word,
    late: Pin<Box<tokio::time::Sleep>>,
}

impl Upstream for FakeIo {
    fn poll_accepted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Code>> {
        match self.word {
            Word::Accepts => Poll::Ready(Ok(())),
            Word::Refuses(code) => Poll::Ready(Err(code)),
            Word::RefusesLate(code) => self.late.as_mut().poll(cx).map(|()| Err(code)),
            Word::Silent => Poll::Pending,
        }
    }

    fn abort(&mut self, _: Code) {
        if let Line::Socket(stream) = &self.stream {
            let _ = stream.set_zero_linger();
        }
    }

    fn code_of(_: &io::Error) -> Option<Code> {
        None
    }
}

impl AsyncRead for FakeIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Line::Socket(stream) => Pin::new(stream).poll_read(cx, buf),
            Line::Memory(stream) => {
                let before = buf.filled().len();
                ready!(Pin::new(stream).poll_read(cx, buf))?;
                let ended = buf.filled().len() == before;
                Poll::Ready(if ended && self.breaks { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) })
            }
        }
    }
}

impl AsyncWrite for FakeIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Line::Socket(stream) => Pin::new(stream).poll_write(cx, data),
            Line::Memory(stream) => Pin::new(stream).poll_write(cx, data),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Line::Socket(stream) => Pin::new(stream).poll_flush(cx),
            Line::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Line::Socket(stream) => Pin::new(stream).poll_shutdown(cx),
            Line::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// An edge with one listener.
pub struct Edge {
    pub address: SocketAddr,
    pub backend: Arc<FakeBackend>,
    pub http: Arc<HttpEdge<FakeBackend>>,
    pub phase: watch::Sender<Phase>,
    /// Connections that are being served.
    pub open: Arc<AtomicUsize>,
}

impl Edge {
    /// An edge whose endpoint `a.example` is served by `members`; `*.wild.example` and `other.example` too, each its own.
    pub async fn new(members: Vec<FakeMember>) -> Self {
        Self::with(members, HttpLimits::default(), None).await
    }

    pub async fn with(members: Vec<FakeMember>, limits: HttpLimits, tls: Option<(TlsInfo, &'static str)>) -> Self {
        let backend = Arc::new(FakeBackend::default());
        for (key, name) in ["a.example", "*.wild.example", "other.example"].into_iter().enumerate() {
            backend.endpoints.lock().insert(NamePattern::parse(name).unwrap(), Arc::new(key as u64));
            backend.members.lock().insert(key as u64, members.clone());
        }
        let http = Arc::new(HttpEdge::new(Arc::clone(&backend), limits));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (phase, watching) = watch::channel(Phase::Serving);
        let open = Arc::new(AtomicUsize::new(0));
        let (edge, counted) = (Arc::clone(&http), Arc::clone(&open));
        tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let caller = caller(peer, address, tls.clone());
                counted.fetch_add(1, Ordering::SeqCst);
                let (counted, serving) =
                    (Arc::clone(&counted), serve(stream, caller, Arc::clone(&edge), watching.clone()));
                tokio::spawn(async move {
                    serving.await;
                    counted.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, backend, http, phase, open }
    }

    /// Returns a caller's end of a connection in memory, and whether the other end was cut. Its application protocol is `alpn`,
    /// if it came by TLS.
    pub fn call(&self, alpn: Option<&str>) -> (Peer<DuplexStream>, Arc<AtomicBool>) {
        let (near, far) = duplex(MEMORY);
        let cut = Arc::new(AtomicBool::new(false));
        let caller = caller(self.address, self.address, alpn.map(|alpn| (tls(alpn), "a.example")));
        let io = Cuttable { io: far, cut: Arc::clone(&cut) };
        let (serving, open) =
            (serve(io, caller, Arc::clone(&self.http), self.phase.subscribe()), Arc::clone(&self.open));
        open.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            serving.await;
            open.fetch_sub(1, Ordering::SeqCst);
        });
        (Peer { stream: near, seen: Vec::new() }, cut)
    }

    /// Waits until no connection is served.
    pub async fn is_empty(&self) {
        soon(async {
            while self.open.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Returns how often a limit was reached.
    pub fn reached(&self, limit: &'static str) -> usize {
        self.backend.notes.lock().iter().filter(|note| **note == Note::Limit(limit)).count()
    }

    /// Gives an endpoint a policy; keys are those of [`Self::new`], others are internal.
    pub fn govern(&self, key: u64, url: &str, kind: EndpointKind, policy: &str) {
        let document = Document::parse(policy).unwrap_or_else(|problems| panic!("{problems:?}"));
        let mut settings = Settings::new(Key::parse(url).unwrap(), ACCOUNT, kind, Arc::default());
        settings.policy = Some(Arc::new(Policy::new(document)));
        self.backend.settings.lock().insert(key, Arc::new(settings));
    }

    /// Adds an endpoint that rules may forward to.
    pub fn internal(&self, key: u64, url: &str, members: Vec<FakeMember>) {
        self.backend.internal.lock().insert(url.to_owned(), key);
        if !members.is_empty() {
            self.backend.members.lock().insert(key, members);
        }
    }

    pub async fn connect(&self) -> Peer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream, seen: Vec::new() }
    }

    /// Sends octets on a new connection and reads until the connection ends.
    pub async fn talk(&self, octets: impl AsRef<[u8]>) -> String {
        let mut peer = self.connect().await;
        peer.send(octets).await;
        peer.rest().await
    }
}

/// Whose the endpoints are.
pub const ACCOUNT: i64 = 7;

/// One end of a connection, with everything that was read kept.
pub struct Peer<IO = TcpStream> {
    pub stream: IO,
    pub seen: Vec<u8>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Peer<IO> {
    pub async fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.stream.write_all(octets.as_ref()).await.unwrap();
    }

    /// Reads until `text` has been seen; returns what came up to its end, and forgets that.
    pub async fn until(&mut self, text: &str) -> String {
        let mut searched = 0;
        loop {
            if let Some(at) = find(&self.seen[searched..], text.as_bytes()) {
                let taken: Vec<u8> = self.seen.drain(..searched + at + text.len()).collect();
                return String::from_utf8_lossy(&taken).into_owned();
            }
            searched = self.seen.len().saturating_sub(text.len());
            let mut room = [0; 4096];
            let count = soon(self.stream.read(&mut room)).await.unwrap_or(0);
            assert!(count > 0, "ended before {text:?}: {:?}", String::from_utf8_lossy(&self.seen));
            self.seen.extend_from_slice(&room[..count]);
        }
    }

    /// Reads to the end, which may be a reset.
    pub async fn rest(&mut self) -> String {
        let mut room = vec![0; 65536];
        loop {
            match soon(self.stream.read(&mut room)).await {
                Ok(0) | Err(_) => break,
                Ok(count) => self.seen.extend_from_slice(&room[..count]),
            }
        }
        String::from_utf8_lossy(&std::mem::take(&mut self.seen)).into_owned()
    }

    /// Returns true when nothing comes for a while.
    pub async fn is_silent(&mut self) -> bool {
        timeout(Duration::from_millis(80), self.stream.read_u8()).await.is_err()
    }
}

/// Starts an upstream: each connection is given to `serve` with its number.
pub async fn upstream<F, S>(serve: S) -> FakeMember
where
    S: Fn(Peer, usize) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(serve(Peer { stream, seen: Vec::new() }, number));
        }
    });
    member(address)
}

/// Starts an upstream in memory.
pub fn in_memory<F, S>(serve: S) -> FakeMember
where
    S: Fn(Peer<DuplexStream>, usize) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (upstream, mut connections) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 0.. {
            let Some(stream) = connections.recv().await else { return };
            tokio::spawn(serve(Peer { stream, seen: Vec::new() }, number));
        }
    });
    FakeMember { memory: Some(upstream), ..member(([127, 0, 0, 1], 0).into()) }
}

/// An upstream that answers every request with what it got, head and body, as text.
pub async fn echo() -> FakeMember {
    upstream(|peer, _| echoing(peer)).await
}

/// The same in memory.
pub fn echo_in_memory() -> FakeMember {
    in_memory(|peer, _| echoing(peer))
}

async fn echoing<IO: AsyncRead + AsyncWrite + Unpin>(mut peer: Peer<IO>) {
    while let Some(head) = peer.head().await {
        let body = peer.body(&head).await;
        let text = format!("{head}{body}");
        let length = text.len();
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}")).await;
    }
}

/// An upstream that answers every request with these octets and closes if `closes`.
pub async fn says(answer: &'static [u8], closes: bool) -> FakeMember {
    upstream(move |mut peer, _| async move {
        while let Some(head) = peer.head().await {
            peer.body(&head).await;
            peer.send(answer).await;
            if closes {
                return;
            }
        }
    })
    .await
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Peer<IO> {
    /// Reads a head; `None` at the end of the connection.
    pub async fn head(&mut self) -> Option<String> {
        let mut searched = 0;
        while find(&self.seen[searched..], b"\r\n\r\n").is_none() {
            searched = self.seen.len().saturating_sub(4);
            let mut room = [0; 4096];
            match self.stream.read(&mut room).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.seen.extend_from_slice(&room[..count]),
            }
        }
        Some(self.until("\r\n\r\n").await)
    }

    /// Reads the body that a head announces, chunks as they are.
    pub async fn body(&mut self, head: &str) -> String {
        let head = head.to_ascii_lowercase();
        if head.contains("transfer-encoding: chunked") {
            return self.until("0\r\n\r\n").await;
        }
        let length =
            head.split("content-length: ").nth(1).map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
        while self.seen.len() < length {
            let mut room = [0; 4096];
            let count = soon(self.stream.read(&mut room)).await.unwrap();
            assert!(count > 0);
            self.seen.extend_from_slice(&room[..count]);
        }
        String::from_utf8(self.seen.drain(..length).collect()).unwrap()
    }
}

pub fn member(address: SocketAddr) -> FakeMember {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let id = NEXT.fetch_add(1, Ordering::SeqCst) as u64;
    FakeMember {
        id,
        address,
        memory: None,
        breaks: false,
        word: Word::Accepts,
        protocol: UpstreamProtocol::Http1,
        opened: Arc::default(),
        away_since: None,
    }
}

fn caller(address: SocketAddr, local: SocketAddr, tls: Option<(TlsInfo, &'static str)>) -> Caller {
    let (tls, name) = tls.unzip();
    Caller {
        address,
        local,
        scheme: if tls.is_some() { Scheme::Https } else { Scheme::Http },
        tls,
        name: name.map(|name| EndpointName::parse(name).unwrap()),
        terms: None,
        identity: None,
    }
}

/// The network's end of a connection in memory.
struct Cuttable {
    io: DuplexStream,
    cut: Arc<AtomicBool>,
}

impl Cut for Cuttable {
    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Octets that a connection in memory holds in each direction.
const MEMORY: usize = 64 << 10;

pub fn tls(alpn: &str) -> TlsInfo {
    TlsInfo { sni: "a.example".into(), alpn: alpn.into(), version: "TLSv1.3".into(), cipher: String::new() }
}

/// Only a test that fails waits for long: a machine that has much else to do may be slow.
pub async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(60), future).await.expect("it takes too long")
}

pub fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn find(octets: &[u8], text: &[u8]) -> Option<usize> {
    octets.windows(text.len()).position(|window| window == text)
}
