//! From an upstream's address to a connected socket.

use core::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use std::{
    io,
    net::ToSocketAddrs as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use adit_core::{Code, UpstreamProtocol};
use adit_tokio::SocketOptions;
use rustls::{crypto::CryptoProvider, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    sync::{Mutex as AsyncMutex, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::Socket;
use crate::{
    config::{Address, EndpointConfig, Kind, UpstreamConfig, is_forbidden},
    errors::{Error, Fault},
    policy::{Refusal, Ticket},
    trust,
};

/// One upstream, ready to be dialed.
pub(crate) struct Upstream {
    config: UpstreamConfig,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    socket: SocketOptions,
    resolved: Arc<Mutex<Resolved>>,
    /// Whose turn it is to ask what the name means.
    asking: Arc<AsyncMutex<()>>,
    lookups: &'static Semaphore,
    provider: Arc<CryptoProvider>,
    names: Arc<Names>,
}

/// What the name meant when that was asked last, and when nobody could say.
#[derive(Debug, Default)]
struct Resolved {
    known: Option<(Instant, Arc<[SocketAddr]>)>,
    failed: Option<Instant>,
}

/// Who says what a name means.
enum Names {
    /// The resolver of this machine.
    System,
    /// One answer after the other.
    #[cfg(test)]
    Scripted(Mutex<std::collections::VecDeque<Vec<SocketAddr>>>),
    /// None before it is told to; counts how often it is asked.
    #[cfg(test)]
    Slow(Arc<core::sync::atomic::AtomicUsize>, Mutex<std::sync::mpsc::Receiver<()>>),
}

impl Names {
    /// Asks; blocks for as long as the resolver takes.
    fn lookup(&self, host: &str, port: u16) -> io::Result<Arc<[SocketAddr]>> {
        match self {
            Self::System => Ok((host, port).to_socket_addrs()?.take(MAX_ADDRESSES).collect()),
            #[cfg(test)]
            Self::Scripted(answers) => {
                let next = answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                next.map(Into::into).ok_or_else(|| io::ErrorKind::NotFound.into())
            }
            #[cfg(test)]
            Self::Slow(asked, answer) => {
                asked.fetch_add(1, core::sync::atomic::Ordering::SeqCst);
                let _ = answer.lock().unwrap_or_else(PoisonError::into_inner).recv();
                Err(io::ErrorKind::NotFound.into())
            }
        }
    }
}

/// Why an upstream was not reached: for the network, and for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) error: Error,
    /// What of the customer's own policy refuses, where that is the reason.
    pub(crate) refusal: Option<Refusal>,
    /// The address that is not to be dialed, by the policy or by anybody.
    pub(crate) address: Option<IpAddr>,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let error = Error::new(Fault::PolicyRefused, refusal.to_string());
        Self { code: refusal.reason.code(), error, refusal: Some(refusal), address: None }
    }
}

impl Upstream {
    /// Prepares to dial; reads the roots that the upstream's certificate must be from.
    ///
    /// # Errors
    /// [`Fault::RootsUnusable`], or a host that cannot be the name of a certificate.
    pub(crate) fn new(endpoint: &EndpointConfig, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let config = endpoint.upstream.clone();
        let tls = match (&config.tls, config.address.host()) {
            (Some(trusted), Some(host)) => {
                let is_http = endpoint.kind == Kind::Http || endpoint.kind == Kind::Tls && config.is_http;
                let alpn = match config.protocol {
                    _ if !is_http => None,
                    UpstreamProtocol::Http1 => Some(&b"http/1.1"[..]),
                    UpstreamProtocol::Http2 => Some(&b"h2"[..]),
                };
                let client = trust::upstream_tls(trusted, alpn, provider)?;
                let name = ServerName::try_from(host.to_owned());
                let name = name.map_err(|error| Error::new(Fault::UpstreamTls, format!("{host}: {error}")))?;
                Some((TlsConnector::from(client), name))
            }
            _ => None,
        };
        let mut socket = SocketOptions::default();
        socket.notsent_lowat = None; // nothing overtakes within one connection
        Ok(Self {
            config,
            tls,
            socket,
            resolved: Arc::default(),
            asking: Arc::default(),
            lookups: &LOOKUPS,
            provider: Arc::clone(provider),
            names: Arc::new(Names::System),
        })
    }

    /// Returns what the owner wrote about it.
    pub(crate) const fn config(&self) -> &UpstreamConfig {
        &self.config
    }

    /// Connects, within the upstream's connect timeout, which a wait for one of `turns` is part of.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn connect(&self, turns: &Semaphore, ticket: &Ticket) -> Result<Socket, Failure> {
        let limit = self.config.connect_timeout;
        let connecting = async {
            let _turn = turns.acquire().await;
            self.connect_now(ticket).await
        };
        timeout(limit, connecting).await.unwrap_or_else(|_| {
            self.forget();
            Err(self.fail(Fault::UpstreamTimeout, &format!("no connection within {limit:?}")))
        })
    }

    async fn connect_now(&self, ticket: &Ticket) -> Result<Socket, Failure> {
        let tcp = match &self.config.address {
            Address::Unix(path) => return self.connect_unix(path).await,
            Address::Tcp { host, port } => self.connect_tcp(host, *port, ticket).await?,
        };
        let Some((connector, name)) = &self.tls else { return Ok(Socket::Tcp(tcp)) };
        match connector.connect(name.clone(), tcp).await {
            Ok(tls) if self.speaks(&tls) => Ok(Socket::Tls(Box::new(tls))),
            Ok(_) => Err(self.fail(Fault::UpstreamTls, "it does not speak HTTP/2 over TLS")),
            Err(error) => Err(self.tls_failure(&error)),
        }
    }

    /// Returns whether the upstream agreed on HTTP/2 where that is wanted: it cannot be told from bytes.
    fn speaks(&self, tls: &tokio_rustls::client::TlsStream<TcpStream>) -> bool {
        let wanted = self.config.protocol == UpstreamProtocol::Http2;
        !wanted || tls.get_ref().1.alpn_protocol() == Some(b"h2")
    }

    #[cfg(unix)]
    async fn connect_unix(&self, path: &Path) -> Result<Socket, Failure> {
        match tokio::net::UnixStream::connect(path).await {
            Ok(stream) => Ok(Socket::Unix(stream)),
            Err(error) => Err(self.io_failure(&error)),
        }
    }

    #[cfg(not(unix))]
    async fn connect_unix(&self, _: &Path) -> Result<Socket, Failure> {
        Err(self.fail(Fault::UpstreamUnreachable, "this system has no Unix sockets"))
    }

    async fn connect_tcp(&self, host: &str, port: u16, ticket: &Ticket) -> Result<TcpStream, Failure> {
        let addresses = self.resolve(host, port).await?;
        let mut telling = None;
        let each = self.config.connect_timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        for address in addresses.iter() {
            // What the name says may change between two looks: the address that is dialed is the one that is checked.
            if is_forbidden(address.ip()) {
                telling.get_or_insert_with(|| Failure {
                    address: Some(address.ip()),
                    ..self.fail(Fault::UpstreamForbidden, &address.ip().to_string())
                });
                continue;
            }
            if let Err(refusal) = ticket.settle(address.ip()) {
                telling.get_or_insert_with(|| Failure { address: Some(address.ip()), ..refusal.into() });
                continue;
            }
            let attempt = timeout(each, TcpStream::connect(address)).await;
            match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => {
                    self.socket.apply(&stream).map_err(|error| self.io_failure(&error))?;
                    return Ok(stream);
                }
                Err(error) => telling = Some(self.io_failure(&error)),
            }
        }
        self.forget();
        Err(telling.unwrap_or_else(|| self.fail(Fault::UpstreamUnreachable, "the name has no address")))
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<Arc<[SocketAddr]>, Failure> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Arc::new([SocketAddr::new(address, port)]));
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(Arc::new([(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]));
        }
        if let Some(known) = self.known() {
            return Ok(known);
        }
        self.ask(host, port).await
    }

    /// Asks what the name means, once for all who wait: a resolver that hangs must not hold a thread for each caller.
    async fn ask(&self, host: &str, port: u16) -> Result<Arc<[SocketAddr]>, Failure> {
        let unknown = || self.fail(Fault::UpstreamUnreachable, "the name cannot be resolved");
        let since = Instant::now();
        let turn = Arc::clone(&self.asking).lock_owned().await;
        if let Some(known) = self.known() {
            return Ok(known);
        }
        if self.cache().failed.is_some_and(|failed| failed >= since) {
            return Err(unknown());
        }
        let Ok(Ok(place)) = timeout(PLACE, self.lookups.acquire()).await else {
            let detail = format!("{MAX_LOOKUPS} names are being resolved, and this machine's resolver does not answer");
            return Err(self.fail(Fault::UpstreamUnreachable, &detail));
        };
        let (names, resolved, host) = (Arc::clone(&self.names), Arc::clone(&self.resolved), host.to_owned());
        // Turn and place last until the resolver has answered: nothing stops it when whoever asked has gone.
        let asked = tokio::task::spawn_blocking(move || {
            let found = names.lookup(&host, port);
            let mut resolved = resolved.lock().unwrap_or_else(PoisonError::into_inner);
            match &found {
                Ok(addresses) => resolved.known = Some((Instant::now(), Arc::clone(addresses))),
                Err(_) => resolved.failed = Some(Instant::now()),
            }
            drop((turn, place));
            found
        });
        match asked.await {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(_)) | Err(_) => Err(unknown()),
        }
    }

    /// Returns what the name resolved to a moment ago: thousands of connections a second do not ask again.
    fn known(&self) -> Option<Arc<[SocketAddr]>> {
        let cache = self.cache();
        let known = cache.known.as_ref().filter(|(at, _)| at.elapsed() < KNOWN_FOR);
        known.map(|(_, addresses)| Arc::clone(addresses))
    }

    fn forget(&self) {
        self.cache().known = None;
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Resolved> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tls_failure(&self, error: &io::Error) -> Failure {
        let inner = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        let Some(inner) = inner else { return self.fail(Fault::UpstreamTls, &error.to_string()) };
        let told = trust::explain_tls(inner, None, &self.provider);
        self.fail(Fault::UpstreamTls, &told.detail)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of IO errors are many and grow")]
    fn io_failure(&self, error: &io::Error) -> Failure {
        let fault = match error.kind() {
            io::ErrorKind::ConnectionRefused => Fault::UpstreamRefused,
            io::ErrorKind::TimedOut => Fault::UpstreamTimeout,
            _ if is_exhausted(error) => Fault::TooManyConnections,
            _ => Fault::UpstreamUnreachable,
        };
        self.fail(fault, &error.to_string())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are not about upstreams")]
    fn fail(&self, fault: Fault, detail: &str) -> Failure {
        let code = match fault {
            Fault::UpstreamRefused => Code::UPSTREAM_REFUSED, // spec: CODE-005
            Fault::UpstreamTimeout => Code::UPSTREAM_TIMEOUT,
            Fault::UpstreamTls => Code::UPSTREAM_TLS,
            Fault::UpstreamForbidden => Code::POLICY,
            Fault::TooManyConnections => Code::LIMIT,
            _ => Code::UPSTREAM_UNREACHABLE,
        };
        Failure {
            code,
            error: Error::new(fault, format!("{}: {detail}", self.config.address)),
            refusal: None,
            address: None,
        }
    }
}

/// Returns whether the process or the system has no more files or ports.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | EADDRNOTAVAIL))
}

const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
const EADDRNOTAVAIL: i32 = 99;
/// How long what a name resolved to is used again.
const KNOWN_FOR: Duration = Duration::from_secs(5);
/// Names that are being resolved at once, of all upstreams together: each holds a thread of those that others need as well.
const MAX_LOOKUPS: usize = 64;
static LOOKUPS: Semaphore = Semaphore::const_new(MAX_LOOKUPS);
/// How long a name waits for one of those to be answered.
const PLACE: Duration = Duration::from_secs(2);
/// More addresses of one name than these are not tried.
const MAX_ADDRESSES: usize = 8;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustls::crypto::aws_lc_rs;
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        config::endpoint_without_file,
        policy::{Found, Guard, Policy, Protocol, Target},
    };

    /// V78
    #[tokio::test]
    async fn a_name_that_moves_between_two_connections_is_refused_where_it_has_moved_to() {
        // It would answer at either address.
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let at = |last: u8| SocketAddr::from(([127, 0, 0, last], port));
        let upstream = scripted(port, [vec![at(1)], vec![at(2)], vec![at(2), at(1)], vec![at(2)]]);
        let guard = guarded(port);
        let connect = async || {
            upstream.forget(); // as when what was known is too old
            let ticket = guard.admit(target(&upstream)).unwrap();
            let connected = upstream.connect(&Semaphore::new(1), &ticket).await;
            connected.map(drop).map_err(|failure| {
                assert_eq!(failure.address, Some(at(2).ip()), "what was refused is known");
                (failure.code, failure.error.to_string())
            })
        };

        assert_eq!(connect().await, Ok(()));
        let refused = connect().await.unwrap_err();
        assert_eq!(refused.0, Code::POLICY);
        assert!(
            refused.1.contains("moving.corp") && refused.1.contains("is at 127.0.0.2, which is not in 127.0.0.1"),
            "{refused:?}"
        );
        assert_eq!(connect().await, Ok(()), "of two addresses the one that is allowed is dialed");
        assert_eq!(connect().await.unwrap_err().0, Code::POLICY);
        let seen = [listener.accept().await.unwrap().0, listener.accept().await.unwrap().0];
        assert!(seen.iter().all(|socket| socket.local_addr().unwrap() == at(1)));
        assert!(
            timeout(Duration::from_millis(50), listener.accept()).await.is_err(),
            "the other address was never dialed"
        );
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_holds_one_thread_however_many_ask() {
        let (asked, (answer, answers)) =
            (Arc::<core::sync::atomic::AtomicUsize>::default(), std::sync::mpsc::channel());
        let mut upstream = scripted(1, Default::default());
        upstream.names = Arc::new(Names::Slow(Arc::clone(&asked), Mutex::new(answers)));
        upstream.config.connect_timeout = Duration::from_millis(50);
        let (upstream, turns) = (Arc::new(upstream), Arc::new(Semaphore::new(1_000)));
        let guard = guarded(1);

        let callers: Vec<_> = (0..700)
            .map(|_| {
                let (upstream, turns, target) = (Arc::clone(&upstream), Arc::clone(&turns), target(&upstream));
                let ticket = guard.admit(target).unwrap();
                tokio::spawn(async move { upstream.connect(&turns, &ticket).await.map(drop).unwrap_err().code })
            })
            .collect();
        for caller in callers {
            assert_eq!(caller.await.unwrap(), Code::UPSTREAM_TIMEOUT);
        }

        assert_eq!(asked.load(core::sync::atomic::Ordering::SeqCst), 1);
        drop(answer);
    }

    #[tokio::test]
    async fn one_name_too_many_is_refused_with_the_reason() {
        let mut upstream = scripted(1, Default::default());
        upstream.lookups = Box::leak(Box::new(Semaphore::new(0)));
        let ticket = guarded(1).admit(target(&upstream)).unwrap();

        let failure = upstream.connect(&Semaphore::new(1), &ticket).await.map(drop).unwrap_err();

        assert_eq!(failure.code, Code::UPSTREAM_UNREACHABLE);
        assert!(failure.error.to_string().contains("64 names are being resolved"), "{:?}", failure.error);
    }

    fn scripted(port: u16, answers: [Vec<SocketAddr>; 4]) -> Upstream {
        let endpoint =
            endpoint_without_file(Kind::Tcp, Some("tcp://:1"), &format!("moving.corp:{port}"), false).unwrap();
        let upstream = Upstream::new(&endpoint, &Arc::new(aws_lc_rs::default_provider())).unwrap();
        Upstream { names: Arc::new(Names::Scripted(Mutex::new(answers.into()))), ..upstream }
    }

    fn guarded(port: u16) -> Arc<Guard> {
        let text = format!(
            "version: 1\nallow:\n  - {{ name: a, endpoints: ['*'], hosts: [moving.corp], addresses: [127.0.0.1], ports: [{port}], protocols: [tcp] }}\n"
        );
        let policy = Policy::parse(Path::new("policy.yml"), &text).unwrap();
        let guard = Guard::new();
        guard.set(Found { policy, text }, "one".into());
        guard
    }

    fn target(upstream: &Upstream) -> Arc<Target> {
        let address = upstream.config.address.clone();
        Arc::new(Target { endpoint: "tcp://:1".into(), upstream: address, protocol: Protocol::Tcp })
    }
}
