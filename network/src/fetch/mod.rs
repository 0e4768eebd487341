//! Requests that a policy sends to other servers: bounded, and only where a policy may reach (V78).
//!
//! A name is resolved once, every address is judged, and the very address that was judged is dialed: a name that answers otherwise the next
//! time gains nothing. Redirects are not followed: who follows one asks again. No proxy is taken from the environment. A connection
//! may serve other requests of the same account after one (`idle`).

mod exchange;
mod idle;
mod reach;
#[cfg(test)]
mod tests;

use core::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};
use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, OnceLock},
};

use adit_core::UpstreamProtocol;
use adit_policy::auth::jwt::Terms;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, Response, Uri, header, uri::Scheme};
use http_body_util::Full;
use parking_lot::{Mutex, RwLock};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;

use self::{
    exchange::Driver,
    idle::{Connection, Idle, Whose},
    reach::Reach,
};
use crate::{
    bounded,
    certificates::CertificateError,
    config::{FetchRules, Limits},
    metrics::{Metrics, ReasonLabel},
};

/// Sends the requests of policies.
#[derive(Debug)]
pub struct Fetcher {
    rules: RwLock<Arc<Rules>>,
    under_way: Mutex<HashMap<i64, usize>>,
    metrics: Arc<Metrics>,
    resolver: Resolver,
    idle: Arc<Idle>,
}

/// Rules that may come into force.
#[derive(Debug)]
pub struct Prepared(Arc<Rules>);

/// What is in force for a request that begins.
struct Rules {
    reach: Reach,
    limits: Limits,
    /// Authorities from the configuration.
    roots: Option<RootCertStore>,
    /// Made when it is first needed: the authorities of a host are many.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl core::fmt::Debug for Rules {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Rules").field("reach", &self.reach).finish_non_exhaustive()
    }
}

type Resolve = dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Finds the addresses of a name.
struct Resolver(Box<Resolve>);

impl core::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Resolver")
    }
}

/// How far a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How long it may take in all; never longer than `limits.fetch_timeout`.
    pub timeout: Duration,
    /// The most octets of its answer's body, inflated; never more than `limits.fetch_size`.
    pub most: usize,
}

/// An answer, and who gave it.
#[derive(Debug)]
pub struct Fetched {
    /// The answer, with its whole body, of no coding.
    pub response: Response<Bytes>,
    /// The address that was dialed.
    pub address: IpAddr,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FetchFault {
    /// It is not one that a policy may send.
    #[error("a policy may not send a request there")]
    Forbidden,
    /// Too many are under way.
    #[error("too many requests of policies are under way")]
    Busy,
    /// The name is not known.
    #[error("the name has no address")]
    Unresolved,
    /// There is no connection.
    #[error("there is no connection to the server")]
    Unreachable,
    /// The server is not who it should be, or does not speak TLS.
    #[error("there is no secure connection to the server")]
    Tls,
    /// The answer is none, or broke off.
    #[error("the server gave no whole answer")]
    Broken,
    /// It took too long.
    #[error("the answer took too long")]
    Timeout,
    /// The answer is larger than is allowed.
    #[error("response size exceeded")]
    TooLarge,
}

impl FetchFault {
    fn reason(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Busy => "busy",
            Self::Unresolved => "unresolved",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
        }
    }
}

impl Fetcher {
    /// Returns one with these rules.
    ///
    /// # Errors
    /// The file of authorities cannot be used.
    pub fn new(rules: &FetchRules, limits: Limits, metrics: Arc<Metrics>) -> Result<Self, CertificateError> {
        let resolve = |name: String, port: u16| -> BoxFuture<'static, _> {
            Box::pin(async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) })
        };
        let rules = RwLock::new(Arc::new(Rules::new(rules, limits)?));
        let resolver = Resolver(Box::new(resolve));
        Ok(Self { rules, under_way: Mutex::default(), metrics, resolver, idle: Arc::default() })
    }

    /// Reads rules that may come into force.
    ///
    /// # Errors
    /// The file of authorities cannot be used.
    pub fn prepare(rules: &FetchRules, limits: Limits) -> Result<Prepared, CertificateError> {
        Ok(Prepared(Arc::new(Rules::new(rules, limits)?)))
    }

    /// Replaces the rules for requests that begin from here on.
    pub fn replace(&self, prepared: Prepared) {
        *self.rules.write() = prepared.0;
    }

    /// Returns how long the keys of issuers are used.
    pub(crate) fn terms(&self) -> Terms {
        let limits = self.rules.read().limits;
        Terms { fresh: limits.keys_refresh, stale: limits.keys_outage, pause: limits.keys_pause }
    }

    /// Sends a request for an account, and returns the whole answer. Dropped, it is over.
    ///
    /// # Errors
    /// [`FetchFault`].
    pub async fn fetch(&self, account: i64, request: Request<Bytes>, bounds: Bounds) -> Result<Fetched, FetchFault> {
        let rules = Arc::clone(&self.rules.read());
        let most = bounds.most.min(rules.limits.fetch_size);
        self.within(account, bounds, &rules.limits, self.send(&rules, account, request, most)).await
    }

    /// Sends a request of the network itself, where those of policies may go too; `bounds` alone bound its answer.
    ///
    /// # Errors
    /// [`FetchFault`].
    pub async fn fetch_own(&self, request: Request<Bytes>, bounds: Bounds) -> Result<Fetched, FetchFault> {
        let rules = Arc::clone(&self.rules.read());
        self.within(NOBODY, bounds, &rules.limits, self.send(&rules, NOBODY, request, bounds.most)).await
    }

    /// Sends a request over a connection that `connect` makes, which comes with the protocol that it speaks and with what keeps it.
    ///
    /// # Errors
    /// [`FetchFault`].
    pub(crate) async fn fetch_over<S, L>(
        &self,
        account: i64,
        request: Request<Bytes>,
        bounds: Bounds,
        connect: impl Future<Output = Result<(S, UpstreamProtocol, L), FetchFault>>,
    ) -> Result<Response<Bytes>, FetchFault>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = self.rules.read().limits;
        let most = bounds.most.min(limits.fetch_size);
        let sent = async {
            let target = Target::of(request.uri())?;
            let (stream, protocol, _kept) = connect.await?;
            match protocol {
                UpstreamProtocol::Http1 => {
                    let mut request = prepare(request, &target)?;
                    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                    let (mut sender, _driver) = exchange::http1(stream).await?;
                    exchange::ask(&mut sender, request, most).await
                }
                UpstreamProtocol::Http2 => exchange::http2(stream, prepare_http2(request), most).await,
            }
        };
        self.within(account, bounds, &limits, sent).await
    }

    /// Does something within the limits, and counts it.
    async fn within<T>(
        &self,
        account: i64,
        bounds: Bounds,
        limits: &Limits,
        work: impl Future<Output = Result<T, FetchFault>>,
    ) -> Result<T, FetchFault> {
        let result = match self.admit(account, limits) {
            Some(_admitted) => {
                let until = Instant::now() + bounds.timeout.min(limits.fetch_timeout);
                timeout_at(until, pin!(work)).await.unwrap_or(Err(FetchFault::Timeout))
            }
            None => Err(FetchFault::Busy),
        };
        let reason = result.as_ref().map_or_else(|fault| fault.reason(), |_| "answered");
        self.metrics.fetches.get_or_create(&ReasonLabel { reason }).inc();
        result
    }

    fn admit(&self, account: i64, limits: &Limits) -> Option<Admitted<'_>> {
        let mut under_way = self.under_way.lock();
        let all: usize = under_way.values().sum();
        let of_account = under_way.get(&account).copied().unwrap_or(0);
        for (reached, limit) in
            [(of_account >= limits.fetches_per_account, "fetches_per_account"), (all >= limits.fetches, "fetches")]
        {
            if reached {
                self.metrics.limit(limit);
                return None;
            }
        }
        *under_way.entry(account).or_default() += 1;
        Some(Admitted { fetcher: self, account })
    }

    async fn send(
        &self,
        rules: &Arc<Rules>,
        account: i64,
        request: Request<Bytes>,
        most: usize,
    ) -> Result<Fetched, FetchFault> {
        let target = Target::of(request.uri())?;
        if is_internal(request.uri()) {
            return Err(FetchFault::Forbidden);
        }
        let request = prepare(request, &target)?;
        let whose = Whose { account, secure: target.secure, host: target.host.clone(), port: target.port };
        // A server may close a connection just when it is used again. Then the request is sent once more, which does no harm if it is idempotent.
        if request.method().is_idempotent()
            && let Some(mut connection) = self.idle.take(&whose, rules)
        {
            match exchange::ask(&mut connection.sender, request.clone(), most).await {
                Err(FetchFault::Broken) => {}
                Err(fault) => return Err(fault),
                Ok(response) => return Ok(self.answered(whose, connection, response).await),
            }
        }
        let mut connection = self.dial(rules, &target).await?;
        let response = exchange::ask(&mut connection.sender, request, most).await?;
        Ok(self.answered(whose, connection, response).await)
    }

    async fn answered(&self, whose: Whose, connection: Connection, response: Response<Bytes>) -> Fetched {
        let address = connection.address;
        self.idle.keep(whose, connection).await;
        Fetched { response, address }
    }

    /// Opens a connection to the first address of a server that is permitted and answers.
    async fn dial(&self, rules: &Arc<Rules>, target: &Target) -> Result<Connection, FetchFault> {
        let addresses = self.resolve(target).await?;
        let mut permitted = addresses.into_iter().filter(|address| rules.reach.permits(address.ip())).peekable();
        if permitted.peek().is_none() {
            return Err(FetchFault::Forbidden);
        }
        let mut permitted = permitted.take(MAX_ADDRESSES).peekable();
        while let Some(address) = permitted.next() {
            // One that drops what it gets does not take the time of the others.
            let patience = if permitted.peek().is_some() { CONNECT_TIME } else { FOREVER };
            let Ok(Ok(tcp)) = timeout(patience, TcpStream::connect(address)).await else { continue };
            let (sender, driver) = if target.secure {
                let name = ServerName::try_from(target.host.clone()).map_err(|_| FetchFault::Forbidden)?;
                let connector = TlsConnector::from(rules.tls()?);
                let tls = connector.connect(name, tcp).await.map_err(|error| {
                    tracing::debug!(%error, host = target.host, "a policy's request");
                    FetchFault::Tls
                })?;
                exchange::http1(tls).await?
            } else {
                exchange::http1(tcp).await?
            };
            let (address, rules) = (address.ip().to_canonical(), Arc::clone(rules));
            return Ok(Connection { sender, address, rules, _driver: driver });
        }
        Err(FetchFault::Unreachable)
    }

    async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, FetchFault> {
        if let Ok(address) = target.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address.to_canonical(), target.port)]);
        }
        match (self.resolver.0)(target.host.clone(), target.port).await {
            Ok(addresses) if !addresses.is_empty() => Ok(addresses),
            Ok(_) | Err(_) => Err(FetchFault::Unresolved),
        }
    }
}

impl Rules {
    fn new(rules: &FetchRules, limits: Limits) -> Result<Self, CertificateError> {
        let roots = rules.ca.as_deref().map(read_roots).transpose()?;
        Ok(Self { reach: Reach::new(&rules.allow), limits, roots, tls: OnceLock::new() })
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, FetchFault> {
        if let Some(tls) = self.tls.get() {
            return Ok(Arc::clone(tls));
        }
        let roots = self.roots.clone().unwrap_or_else(|| {
            let mut roots = RootCertStore::empty();
            let (_, refused) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            tracing::debug!(roots = roots.len(), refused, "authorities of the host");
            roots
        });
        let provider = CryptoProvider::get_default().ok_or(FetchFault::Tls)?;
        let mut tls = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(|_| FetchFault::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(tls))))
    }
}

/// Counts until dropped.
struct Admitted<'f> {
    fetcher: &'f Fetcher,
    account: i64,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let mut under_way = self.fetcher.under_way.lock();
        if let Some(count) = under_way.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.account);
            }
        }
    }
}

/// Where a request goes.
struct Target {
    secure: bool,
    /// A name, or an address without brackets.
    host: String,
    port: u16,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, FetchFault> {
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(_) | None => return Err(FetchFault::Forbidden),
        };
        let authority = uri.authority().ok_or(FetchFault::Forbidden)?;
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if authority.as_str().contains('@') || host.is_empty() {
            return Err(FetchFault::Forbidden);
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { secure, host: host.to_owned(), port })
    }
}

/// Returns whether a name is one of an endpoint of an account, and never what some name server says of it.
pub(crate) fn is_internal(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    host == "internal" || host.ends_with(".internal")
}

/// Makes of a request with an absolute URI what goes over a connection.
fn prepare(request: Request<Bytes>, target: &Target) -> Result<Request<Full<Bytes>>, FetchFault> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().ok_or(FetchFault::Forbidden)?;
    let usual = authority.port_u16() == Some(if target.secure { 443 } else { 80 });
    let host = if usual { authority.host() } else { authority.as_str() };
    let host = HeaderValue::from_str(host).map_err(|_| FetchFault::Forbidden)?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse().map_err(|_| FetchFault::Forbidden)?;
    parts.version = http::Version::HTTP_11;
    for name in &HOP_BY_HOP {
        parts.headers.remove(name);
    }
    parts.headers.insert(header::HOST, host);
    parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    parts.headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("adit-network"));
    Ok(Request::from_parts(parts, Full::new(body)))
}

/// The same for HTTP/2, where the URI stays whole.
fn prepare_http2(request: Request<Bytes>) -> Request<Full<Bytes>> {
    let (mut parts, body) = request.into_parts();
    parts.version = http::Version::HTTP_2;
    for name in HOP_BY_HOP.iter().chain(&[header::HOST]) {
        parts.headers.remove(name);
    }
    parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    parts.headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("adit-network"));
    Request::from_parts(parts, Full::new(body))
}

/// What says how a message is sent, which is ours to say.
const HOP_BY_HOP: [HeaderName; 5] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::UPGRADE, header::TE];

fn read_roots(path: &Path) -> Result<RootCertStore, CertificateError> {
    let invalid = |problem: String| CertificateError::Invalid { path: path.to_owned(), problem };
    let contents = bounded::read(path, MAX_ROOTS);
    let contents = contents.map_err(|error| CertificateError::File { path: path.to_owned(), error })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&contents.octets) {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
    }
    if roots.is_empty() { Err(invalid("it holds no certificate".into())) } else { Ok(roots) }
}

/// No account has this number.
const NOBODY: i64 = 0;
/// Octets of a file of authorities.
const MAX_ROOTS: usize = 4 << 20;
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;
const CONNECT_TIME: Duration = Duration::from_secs(1);
/// Longer than any request.
const FOREVER: Duration = Duration::from_secs(3_600);
