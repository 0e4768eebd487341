//! TLS of callers: the name in a complete ClientHello decides who ends it.

use core::{
    cmp::Ordering,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};
use std::{io, sync::Arc};

use adit_core::TlsInfo;
use adit_policy::environment::Connection;
use rustls::{
    CertificateError, HandshakeKind, ServerConfig,
    crypto::CryptoProvider,
    server::{Acceptor, ServerConnection},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, error::Elapsed, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Public, Visitor,
    carry::{Entered, carry},
    challenge,
    line::{Line, Shared},
};
use crate::{
    Caller, Edge, EndpointName, NamePattern,
    certificates::{ByName, Certificates},
    http::{self, Rewound},
    metrics::ReasonLabel,
    policy::wall,
    router::{Found, Key, Scheme},
    tls::{EndpointTls, Ledger, Maker, Offer, TrustError},
};

/// TLS as callers meet it: certificates by name, HTTP/2 and HTTP/1.1.
#[derive(Debug)]
pub struct Terminator {
    /// For endpoints without terms of their own.
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    /// The domains below which callers are answered whether or not a name was ever bound.
    domains: Vec<NamePattern>,
    under_way: AtomicUsize,
}

impl Terminator {
    /// Returns a terminator with these certificates, for the endpoints of these domains.
    ///
    /// # Errors
    /// The provider does not know TLS 1.2 and 1.3.
    pub fn new(
        certificates: Arc<Certificates>,
        domains: &[EndpointName],
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TrustError> {
        let maker = Self::maker(&certificates, provider, Arc::default());
        let config = maker.terms(EndpointTls::default(), None)?.server();
        let domains = domains.iter().cloned().map(NamePattern::Below).collect();
        Ok(Self { config, certificates, domains, under_way: AtomicUsize::new(0) })
    }

    /// Returns what makes terms for endpoints that have these certificates.
    pub fn maker(certificates: &Arc<Certificates>, provider: Arc<CryptoProvider>, ledger: Arc<Ledger>) -> Maker {
        Maker::new(provider, Arc::new(ByName(Arc::clone(certificates))), ledger)
    }

    /// Returns whether a name that no endpoint has is answered all the same, so that its caller hears what is wrong. The
    /// private CA signs for no name that anybody makes up.
    fn answers(&self, name: &EndpointName) -> bool {
        self.certificates.is_ready(name)
            || (self.domains.iter().any(|domain| domain.matches(name)) && self.certificates.has_private_ca())
    }
}

/// What a ClientHello says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Hello {
    name: Option<EndpointName>,
    /// The first application protocol that is offered.
    alpn: String,
}

/// Who ends TLS.
enum Ends {
    Network,
    /// The network too, and what it says is carried on as it is: a `tls://` endpoint whose policy says so.
    Carried(Arc<Key>),
    /// The agent or its upstream.
    Further(Arc<Key>),
}

/// Serves one caller of the TLS listener.
pub(super) async fn serve(public: Public, mut visitor: Visitor) {
    let limits = public.edge.limits.load_full();
    let Some(place) = Place::take(&public.tls, limits.handshakes) else {
        public.edge.metrics.limit("handshakes");
        return;
    };
    let until = Instant::now() + limits.handshake_timeout;
    let hello = timeout_at(until, read_hello(&mut visitor.socket)).await;
    let hello = hello.inspect_err(|_| public.edge.metrics.limit("handshake_timeout"));
    let Ok(Ok((hello, octets))) = hello else {
        return failed(&public, "no_hello");
    };
    if let Some(certified) = challenged(&public, &hello) {
        let answering = challenge::answer(Rewound { first: octets, io: visitor.socket }, certified);
        return drop(timeout_at(until, answering).await);
    }
    let Some((ends, name)) = hello.name.and_then(|name| Some((choose(&public, &name)?, name))) else {
        return unknown(&public, &mut visitor, until).await;
    };
    let offer = match &ends {
        Ends::Further(key) => {
            drop(place);
            let tls = TlsInfo { sni: name.to_string(), alpn: hello.alpn, ..TlsInfo::default() };
            return Box::pin(pass(public.edge, visitor, Arc::clone(key), tls, octets)).await;
        }
        Ends::Network => {
            let connection = || Connection::new(visitor.address, visitor.local, wall(), None);
            public.edge.terms.load().find(&name).settle(connection)
        }
        Ends::Carried(key) => public.edge.terms.load().find_carried(key).unwrap_or(Offer::Stopped),
    };
    let brings_one = matches!(&offer, Offer::Own(terms) if terms.has_certificate());
    if !brings_one && !matches!(timeout_at(until, has_certificate(&public, &ends, &name)).await, Ok(true)) {
        return unknown(&public, &mut visitor, until).await;
    }
    let (config, terms) = match offer {
        Offer::Default => (Arc::clone(&public.tls.config), None),
        Offer::Own(terms) => (terms.server(), Some(terms)),
        Offer::Stopped | Offer::Choice(_) => {
            failed(&public, "stopped");
            return drop(timeout_at(until, visitor.socket.write_all(INTERNAL_ERROR)).await); // V30
        }
    };
    let Visitor { socket, address, local, room } = visitor;
    let told = |connection: &ServerConnection, scheme| {
        let tls = Some(facts(connection, &name));
        let identity = terms.as_ref().and_then(|terms| terms.identity(connection)).map(Arc::new);
        Caller { address, local, scheme, tls, name: Some(name.clone()), terms: terms.clone(), identity }
    };
    match ends {
        Ends::Carried(key) => {
            let io = Rewound { first: octets, io: Shared::new(socket) };
            let Some(stream) = shake(&public, config, io, until).await else { return };
            drop(place);
            let caller = told(stream.get_ref().1, Scheme::Tls);
            let entered = Entered { line: Line::secured(stream), caller, room, first: Vec::new() };
            Box::pin(carry(public.edge, entered, key)).await;
        }
        Ends::Network | Ends::Further(_) => {
            let Some(stream) = shake(&public, config, Rewound { first: octets, io: socket }, until).await else {
                return;
            };
            drop(place);
            let caller = told(stream.get_ref().1, Scheme::Https);
            let phase = public.edge.phase();
            Box::pin(http::serve(stream, caller, public.http, phase)).await;
            drop(room);
        }
    }
}

/// Returns the certificate that a CA asks for, if it is one that asks.
fn challenged(public: &Public, hello: &Hello) -> Option<Arc<CertifiedKey>> {
    let name = hello.name.as_ref().filter(|_| hello.alpn == challenge::PROTOCOL)?;
    public.tls.certificates.challenge_tls(name)
}

/// Carries TLS that ends further on.
async fn pass(edge: Arc<Edge>, visitor: Visitor, key: Arc<Key>, tls: TlsInfo, first: Vec<u8>) {
    let Visitor { socket, address, local, room } = visitor;
    let caller = Caller { tls: Some(tls), ..Caller::plain(address, local, Scheme::Tls) };
    carry(edge, Entered { line: Line::plain(socket), caller, room, first }, key).await;
}

/// Refuses a caller without a name, or with one that nobody has: no certificate fits (V27).
async fn unknown(public: &Public, visitor: &mut Visitor, until: Instant) {
    failed(public, "unknown_name");
    drop(timeout_at(until, visitor.socket.write_all(UNRECOGNIZED_NAME)).await);
}

/// Shakes hands, and counts what came of it.
async fn shake<IO: AsyncRead + AsyncWrite + Unpin>(
    public: &Public,
    config: Arc<ServerConfig>,
    io: IO,
    until: Instant,
) -> Option<TlsStream<IO>> {
    let accepted = timeout_at(until, TlsAcceptor::from(config).accept(io)).await;
    let accepted = accepted.inspect_err(|_| public.edge.metrics.limit("handshake_timeout"));
    match shaken(accepted) {
        Ok(stream) => {
            let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            public.edge.metrics.handshake(resumed);
            Some(stream)
        }
        Err(reason) => {
            failed(public, reason);
            None
        }
    }
}

fn failed(public: &Public, reason: &'static str) {
    public.edge.metrics.tls.failures.get_or_create(&ReasonLabel { reason }).inc();
}

/// Returns the outcome of a handshake, or in a word why there is none.
fn shaken<IO>(outcome: Result<io::Result<TlsStream<IO>>, Elapsed>) -> Result<TlsStream<IO>, &'static str> {
    let error = match outcome {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => error,
        Err(_) => return Err("timeout"),
    };
    Err(match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::Revoked)) => "revoked",
        Some(
            rustls::Error::InvalidCertificate(
                CertificateError::UnknownRevocationStatus | CertificateError::ExpiredRevocationListContext { .. },
            )
            | rustls::Error::InvalidCertRevocationList(_),
        ) => "revocation_unknown",
        Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)) => "client_certificate",
        Some(_) => "handshake",
        None => "connection",
    })
}

/// Decides who ends TLS for a name.
fn choose(public: &Public, name: &EndpointName) -> Option<Ends> {
    match passed_through(public.edge.find_tls(name)) {
        Some(Some(key)) if public.edge.terms.load().find_carried(&key).is_some() => Some(Ends::Carried(key)),
        Some(Some(key)) => Some(Ends::Further(key)),
        Some(None) => Some(Ends::Network),
        None => public.tls.answers(name).then_some(Ends::Network),
    }
}

/// Returns the endpoint whose TLS passes through, or `Some(None)` where TLS ends here, or nothing where nobody has the name.
///
/// The nearer endpoint goes before the farther, then the one that is served before the one that only was. Where both are alike
/// TLS passes through: that an agent is away, or once had the name otherwise, is no reason to read what callers send (BIND-019).
fn passed_through([through, here]: [Found; 2]) -> Option<Option<Arc<Key>>> {
    let split = |found| match found {
        Found::Live(key) => Some((key, true)),
        Found::Idle(key) => Some((key, false)),
        Found::Unknown => None,
    };
    match (split(through), split(here)) {
        (None, None) => None,
        (Some((key, _)), None) => Some(Some(key)),
        (None, Some(_)) => Some(None),
        (Some((key, live)), Some((other, other_live))) => {
            let farther = nearness(&key).cmp(&nearness(&other)).then(live.cmp(&other_live)) == Ordering::Less;
            Some((!farther).then_some(key))
        }
    }
}

/// Returns how near an endpoint is to a name that it has: itself, or by how many labels of it.
fn nearness(key: &Key) -> (bool, usize) {
    match key {
        Key::Name(_, NamePattern::Exact(_)) => (true, 0),
        Key::Name(_, NamePattern::Below(base)) => (false, base.as_str().len()),
        Key::Port(_) | Key::Internal(..) => (false, 0),
    }
}

/// Returns whether a name has a certificate, which may be under way.
async fn has_certificate(public: &Public, ends: &Ends, name: &EndpointName) -> bool {
    if public.tls.certificates.is_ready(name) {
        return true;
    }
    let held = match ends {
        Ends::Carried(key) => Some(Arc::clone(key)),
        Ends::Network | Ends::Further(_) => public.edge.find_name(Scheme::Https, name).ok(),
    };
    let pattern = held.as_deref().and_then(|key| match key {
        Key::Name(_, pattern) => Some(pattern),
        Key::Port(_) | Key::Internal(..) => None,
    });
    public.tls.certificates.wait(name, pattern).await
}

/// Reads until the ClientHello is complete, however it is cut, and returns what was read.
async fn read_hello(socket: &mut TcpStream) -> io::Result<(Hello, Vec<u8>)> {
    let (mut octets, mut acceptor) = (Vec::new(), Acceptor::default());
    loop {
        let before = octets.len();
        if before >= MAX_HELLO || socket.read_buf(&mut octets).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut fresh = octets.get(before..).unwrap_or_default();
        while !fresh.is_empty() {
            acceptor.read_tls(&mut fresh)?;
            let accepted = match acceptor.accept() {
                Ok(accepted) => accepted,
                Err((error, mut alert)) => {
                    let mut answer = Vec::new();
                    alert.write_all(&mut answer)?;
                    socket.write_all(&answer).await?;
                    return Err(io::Error::other(error));
                }
            };
            if let Some(accepted) = accepted {
                let hello = accepted.client_hello();
                let first = hello.alpn().and_then(|mut offers| offers.next()).unwrap_or_default();
                let name = hello.server_name().and_then(|name| EndpointName::parse(name).ok());
                return Ok((Hello { name, alpn: String::from_utf8_lossy(first).into_owned() }, octets));
            }
        }
    }
}

/// Returns what agents, upstreams and policies learn of the caller's TLS.
fn facts(connection: &ServerConnection, name: &EndpointName) -> TlsInfo {
    let version = connection.protocol_version().and_then(|version| version.as_str());
    let cipher = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    TlsInfo {
        sni: name.to_string(),
        alpn: connection.alpn_protocol().map(|alpn| String::from_utf8_lossy(alpn).into_owned()).unwrap_or_default(),
        version: version.unwrap_or_default().replace('_', "."),
        cipher: cipher.unwrap_or_default().to_owned(),
    }
}

/// A place among the handshakes under way.
struct Place<'a>(&'a Terminator);

impl<'a> Place<'a> {
    fn take(terminator: &'a Terminator, most: usize) -> Option<Self> {
        let place = Self(terminator);
        (terminator.under_way.fetch_add(1, Relaxed) < most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

/// The longest ClientHello that is read, in octets.
const MAX_HELLO: usize = 64 << 10;
/// A fatal alert, internal_error (RFC 8446 §6.2), in a record of its own.
const INTERNAL_ERROR: &[u8] = &[21, 3, 3, 0, 2, 2, 80];
/// A fatal alert, unrecognized_name (RFC 6066 §3), in a record of its own.
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

#[cfg(test)]
mod tests {
    use super::*;

    /// BIND-019: the network ends no TLS because an agent is away, or once had the name otherwise.
    #[test]
    fn the_nearer_endpoint_ends_tls_then_the_one_that_is_served_and_never_the_network_in_doubt() {
        let key = |text: &str| Arc::new(Key::parse(text).unwrap());
        let live = |text: &str| Found::Live(key(text));
        let idle = |text: &str| Found::Idle(key(text));
        let (tls, https) = ("tls://a.b.example", "https://a.b.example");
        let (wild, far) = ("https://*.b.example", "tls://*.example");
        for (through, here, expected) in [
            (Found::Unknown, Found::Unknown, None),
            (idle(tls), Found::Unknown, Some(true)),
            (Found::Unknown, idle(https), Some(false)),
            (live(tls), idle(https), Some(true)),
            (idle(tls), live(https), Some(false)),
            (idle(tls), idle(https), Some(true)),
            (live(tls), live(https), Some(true)),
            (idle(tls), live(wild), Some(true)),
            (live(far), idle(https), Some(false)),
            (live(far), idle(wild), Some(false)),
        ] {
            let found = passed_through([through.clone(), here.clone()]);
            assert_eq!(found.map(|key| key.is_some()), expected, "{through:?} {here:?}");
        }
    }
}
