//! From a name to a connected socket: resolved anew each time, addresses raced (RFC 8305), all within a deadline.

use alloc::{
    boxed::Box,
    collections::VecDeque,
    string::{String, ToString},
    vec::Vec,
};
use core::{
    fmt,
    future::{Future, poll_fn},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use std::io;

use super::{Proxy, ProxyError, Resolver, Runtime, Sleep, SocketOptions, Step, steps::Steps, timer::within};
use adit_core::Retry;

/// How to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// The time that resolving the name may take: 5 s.
    pub resolve_timeout: Duration,
    /// The head start of an address over the next one: 250 ms.
    pub stagger: Duration,
    /// The time that everything may take: 10 s.
    pub timeout: Duration,
    /// After how long an address that has not answered is tried once more, beside: not at all. On a path that comes back,
    /// a new attempt is answered sooner than one whose retransmissions have become rare.
    pub again: Option<Duration>,
    /// Which of the addresses of a name is tried first, those before it last: 0, the one that the resolver prefers. Counted
    /// round within each family. Sessions of one agent begin at different ones.
    pub first: usize,
    /// What the socket is set to.
    pub socket: SocketOptions,
    /// Whom to ask for addresses, names of proxies included: the resolver of this machine. Either is asked anew each time.
    pub resolver: Option<Resolver>,
    /// The proxy through which an [`Uplink`](crate::Uplink) dials, and [`reach`](crate::reach): none. [`connect`] itself makes a TCP
    /// connection, whatever stands here.
    pub proxy: Option<Proxy>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            resolve_timeout: Duration::from_secs(5),
            stagger: Duration::from_millis(250),
            timeout: Duration::from_secs(10),
            again: None,
            first: 0,
            socket: SocketOptions::link(),
            resolver: None,
            proxy: None,
        }
    }
}

/// Connects to `host`, a name or an address, at `port`. When the future is dropped, every attempt under way is.
///
/// # Errors
/// [`ConnectError`]; of several addresses that failed, what the most telling one said.
pub async fn connect<R: Runtime>(host: &str, port: u16, options: &ConnectOptions) -> Result<R::Tcp, ConnectError> {
    connect_told::<R>(host, port, options, &Steps::default()).await
}

/// Like [`connect`], and notes the steps.
pub(super) async fn connect_told<R: Runtime>(
    host: &str,
    port: u16,
    options: &ConnectOptions,
    steps: &Steps,
) -> Result<R::Tcp, ConnectError> {
    let attempt = dial::<R>(host, port, options, steps);
    within::<R, _>(options.timeout, attempt).await.unwrap_or(Err(ConnectError::Timeout))
}

async fn dial<R: Runtime>(
    host: &str,
    port: u16,
    options: &ConnectOptions,
    steps: &Steps,
) -> Result<R::Tcp, ConnectError> {
    let addresses = addresses::<R>(host, port, options, steps).await?;
    let again = options.again;
    let dial = move |address| async move {
        match again {
            Some(after) => dial_again::<R>(address, after).await,
            None => R::dial(address).await,
        }
    };
    steps.begin(Step::Connect);
    let tcp = race::<R, _, _>(addresses, options.stagger, dial).await?;
    let address = peer::<R>(&tcp).unwrap_or_else(|| SocketAddr::from(([0; 4], port)));
    options.socket.apply(R::socket(&tcp)).map_err(|error| ConnectError::from_io(&error, address))?;
    steps.done(address.to_string());
    Ok(tcp)
}

/// Returns whom a socket is connected to.
pub(super) fn peer<R: Runtime>(tcp: &R::Tcp) -> Option<SocketAddr> {
    R::socket(tcp).peer_addr().ok()?.as_socket()
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name cannot be resolved.
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        kind: io::ErrorKind,
    },
    /// The name has no address.
    NoAddress {
        /// The name.
        host: String,
    },
    /// Nobody listens there.
    Refused {
        /// Where.
        address: SocketAddr,
    },
    /// There is no way there.
    Unreachable {
        /// Where.
        address: SocketAddr,
    },
    /// There was no answer in time.
    Timeout,
    /// The operating system said something else.
    Io {
        /// Where.
        address: SocketAddr,
        /// What.
        kind: io::ErrorKind,
    },
    /// The proxy did not open the way.
    Proxy {
        /// Its URL, without credentials.
        proxy: String,
        /// Why.
        error: ProxyError,
    },
}

impl ConnectError {
    /// Returns when to try again: networks come back, names are corrected, certificates are replaced.
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Refused { .. } => Retry::Soon,
            Self::Resolve { .. }
            | Self::NoAddress { .. }
            | Self::Unreachable { .. }
            | Self::Timeout
            | Self::Io { .. }
            | Self::Proxy { .. } => Retry::Backoff,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of IO errors are many and grow")]
    fn from_io(error: &io::Error, address: SocketAddr) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { address },
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
                Self::Unreachable { address }
            }
            io::ErrorKind::TimedOut => Self::Timeout,
            kind => Self::Io { address, kind },
        }
    }

    /// Returns how much the error says: an address that refuses is more telling than one without a route.
    const fn weight(&self) -> u8 {
        match self {
            Self::Refused { .. } => 4,
            Self::Io { .. } => 3,
            Self::Timeout => 2,
            Self::Unreachable { .. } => 1,
            Self::Resolve { .. } | Self::NoAddress { .. } | Self::Proxy { .. } => 0,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { host, kind: io::ErrorKind::TimedOut } => write!(f, "resolving {host} took too long"),
            Self::Resolve { host, kind: io::ErrorKind::NotFound } => {
                write!(f, "{host} does not exist, or has no address")
            }
            Self::Resolve { host, .. } => write!(f, "{host} cannot be resolved"),
            Self::NoAddress { host } => write!(f, "{host} has no address"),
            Self::Refused { address } => write!(f, "{address} refused the connection"),
            Self::Unreachable { address } => write!(f, "{address} cannot be reached"),
            Self::Timeout => f.write_str("no connection in time"),
            Self::Io { address, kind } => write!(f, "connecting to {address}: {kind}"),
            Self::Proxy { proxy, error } => write!(f, "{proxy}: {error}"),
        }
    }
}

impl core::error::Error for ConnectError {}

async fn addresses<R: Runtime>(
    host: &str,
    port: u16,
    options: &ConnectOptions,
    steps: &Steps,
) -> Result<VecDeque<SocketAddr>, ConnectError> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(VecDeque::from([SocketAddr::new(address, port)]));
    }
    steps.begin(Step::Resolve);
    let failed = |kind| ConnectError::Resolve { host: host.into(), kind };
    let asking = async {
        match &options.resolver {
            None => R::resolve(host.to_string(), port).await.map_err(|error| error.kind()),
            Some(resolver) => {
                let found = resolver.resolve::<R>(host).await?;
                Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
            }
        }
    };
    let found = within::<R, _>(options.resolve_timeout, asking).await;
    let found = found.unwrap_or(Err(io::ErrorKind::TimedOut)).map_err(failed)?;
    let addresses = interleave(found.into_iter(), options.first);
    if addresses.is_empty() {
        return Err(ConnectError::NoAddress { host: host.into() });
    }
    let named: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    steps.done(named.join(", "));
    Ok(addresses)
}

/// Returns the addresses of a name or an address, as [`connect`] would try them.
///
/// # Errors
/// [`ConnectError::Resolve`], [`ConnectError::NoAddress`].
pub async fn resolve<R: Runtime>(host: &str, options: &ConnectOptions) -> Result<Vec<IpAddr>, ConnectError> {
    let found = addresses::<R>(host, 0, options, &Steps::default()).await?;
    Ok(found.into_iter().map(|address| address.ip()).collect())
}

/// Orders addresses by turns of family, beginning with the one that the resolver prefers, and in it with address `start`.
fn interleave(found: impl Iterator<Item = SocketAddr>, start: usize) -> VecDeque<SocketAddr> {
    let found: Vec<_> = found.take(MAX_ADDRESSES).collect();
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        found.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    for family in [&mut first, &mut second] {
        let start = start % family.len().max(1);
        family.rotate_left(start);
    }
    let mut ordered = VecDeque::new();
    while let Some(address) = first.pop_front() {
        ordered.push_back(address);
        ordered.extend(second.pop_front());
    }
    ordered.extend(second);
    ordered
}

/// Starts one attempt after the other, the next as soon as the last had its head start or any has failed; the first
/// success ends the others.
async fn race<R, T, F>(
    mut addresses: VecDeque<SocketAddr>,
    stagger: Duration,
    dial: impl Fn(SocketAddr) -> F,
) -> Result<T, ConnectError>
where
    R: Runtime,
    F: Future<Output = io::Result<T>>,
{
    let mut attempts: Vec<(SocketAddr, Pin<Box<F>>)> = Vec::new();
    let mut telling: Option<ConnectError> = None;
    let mut head_start: Option<R::Sleep> = None;
    poll_fn(|cx| {
        loop {
            let mut connected = None;
            attempts.retain_mut(|(address, attempt)| match attempt.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(Ok(tcp)) => {
                    connected.get_or_insert(tcp);
                    false
                }
                Poll::Ready(Err(error)) => {
                    let error = ConnectError::from_io(&error, *address);
                    if telling.as_ref().is_none_or(|telling| error.weight() > telling.weight()) {
                        telling = Some(error);
                    }
                    head_start = None;
                    false
                }
            });
            if let Some(tcp) = connected {
                return Poll::Ready(Ok(tcp));
            }
            if addresses.is_empty() && attempts.is_empty() {
                return Poll::Ready(Err(telling.take().unwrap_or(ConnectError::Timeout)));
            }
            if addresses.is_empty() || head_start.as_mut().is_some_and(|sleep| Pin::new(sleep).poll(cx).is_pending()) {
                return Poll::Pending;
            }
            if let Some(address) = addresses.pop_front() {
                attempts.push((address, Box::pin(dial(address))));
            }
            head_start = Some(R::Sleep::start(stagger));
        }
    })
    .await
}

/// Dials, and once more after each `after` without an answer; the first answer counts.
async fn dial_again<R: Runtime>(address: SocketAddr, after: Duration) -> io::Result<R::Tcp> {
    let mut attempts = Vec::from([Box::pin(R::dial(address))]);
    let mut sleep = R::Sleep::start(after);
    poll_fn(|cx: &mut Context<'_>| {
        loop {
            if let Some(answer) = attempts.iter_mut().find_map(|attempt| match attempt.as_mut().poll(cx) {
                Poll::Ready(answer) => Some(answer),
                Poll::Pending => None,
            }) {
                return Poll::Ready(answer);
            }
            if attempts.len() >= MAX_TOGETHER || Pin::new(&mut sleep).poll(cx).is_pending() {
                return Poll::Pending;
            }
            attempts.push(Box::pin(R::dial(address)));
            sleep.restart(after);
        }
    })
    .await
}

/// Attempts at one address that wait for an answer at the same time.
const MAX_TOGETHER: usize = 10;

/// More addresses of one name than this are not tried in one attempt.
const MAX_ADDRESSES: usize = 32;

#[cfg(test)]
mod tests;
