//! The way to the network through a proxy: HTTP CONNECT, in TLS if wanted, and SOCKS 5. What is said is decided without IO.

mod bypass;
mod covered;
mod forward;
mod handshake;
mod http;
mod path;
mod socks;
mod url;

use alloc::{
    boxed::Box,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use core::fmt;

use rustls::ClientConfig;

use super::ConnectError;
use adit_core::{Secret, escape};

pub use bypass::Bypass;
pub use forward::Forward;
pub use handshake::Handshake;
pub(super) use path::reach_told;
pub use path::{Path, reach, reach_http};
pub use url::ProxyUrlError;

/// A proxy, whom it is for, and what it wants to know.
///
/// `Debug` and `Display` tell no credentials.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Proxy {
    /// What it speaks.
    pub protocol: ProxyProtocol,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User and password, as it is to get them.
    pub credentials: Option<Credentials>,
    /// Whom an `https` proxy must be; it is not spoken to without.
    pub tls: Option<Arc<ClientConfig>>,
    /// What is reached without it.
    pub bypass: Bypass,
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// HTTP CONNECT (RFC 9110).
    Http,
    /// HTTP CONNECT within TLS.
    Https,
    /// SOCKS 5 (RFC 1928); names are resolved at the proxy.
    Socks5,
}

impl ProxyProtocol {
    /// Returns the scheme of its URLs.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
        }
    }
}

/// Who one is for a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}

impl Proxy {
    /// Returns whether the way to `host` at `port` leads through the proxy.
    pub fn carries(&self, host: &str, port: u16) -> bool {
        !self.bypass.covers(host, port)
    }
}

/// Two are the same that lead the same way; TLS is the same when it is one configuration.
impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        let tls = match (&self.tls, &other.tls) {
            (Some(one), Some(another)) => Arc::ptr_eq(one, another),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let way = |proxy: &Self| (proxy.protocol, proxy.port);
        tls && way(self) == way(other)
            && self.host == other.host
            && self.credentials == other.credentials
            && self.bypass == other.bypass
    }
}

impl Eq for Proxy {}

/// Its URL, without credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.protocol.scheme(), Authority(&self.host, self.port))
    }
}

/// A host and a port as they stand in a request.
pub(crate) struct Authority<'a>(pub(crate) &'a str, pub(crate) u16);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') && !host.starts_with('[') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// Why a proxy did not open the way. What it said is short and harmless to print.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ProxyError {
    /// The proxy itself cannot be reached.
    Unreachable(Box<ConnectError>),
    /// There is no TLS with the proxy.
    Tls(rustls::Error),
    /// It wants to know who asks, and was not told; the ways that it offers.
    CredentialsWanted {
        /// As `Basic, Negotiate`; empty where it does not say.
        offered: String,
    },
    /// It does not know the user, or the password is another; the ways that it offers.
    CredentialsRefused {
        /// As `Basic`; empty where it does not say.
        offered: String,
    },
    /// Its rules do not allow the destination.
    Forbidden {
        /// What it said.
        said: String,
    },
    /// It could not reach the destination, or find its address.
    Destination {
        /// What it said.
        said: String,
    },
    /// It refuses for another reason.
    Refused {
        /// What it said.
        said: String,
    },
    /// What answers there is not such a proxy.
    NotAProxy {
        /// What it was.
        what: &'static str,
    },
    /// It closed the connection before it had answered.
    Closed,
    /// It did not answer in time.
    Silent,
    /// It sent something of the destination's before anything was asked of that.
    Early,
    /// The connection failed.
    Io(std::io::ErrorKind),
    /// The destination cannot be written in a request to such a proxy.
    Name,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offered = |f: &mut fmt::Formatter<'_>, text: &str, offered: &str| match offered {
            "" => f.write_str(text),
            offered => write!(f, "{text}; it offers {offered}"),
        };
        match self {
            Self::Unreachable(error) => write!(f, "it cannot be reached: {error}"),
            Self::Tls(error) => write!(f, "TLS with it failed: {error}"),
            Self::CredentialsWanted { offered: ways } => offered(f, "it wants a user and a password", ways),
            Self::CredentialsRefused { offered: ways } => offered(f, "it does not take the user or password", ways),
            Self::Forbidden { said } => write!(f, "its rules forbid it: {said}"),
            Self::Destination { said } => write!(f, "it cannot reach the destination: {said}"),
            Self::Refused { said } => write!(f, "it refused: {said}"),
            Self::NotAProxy { what } => write!(f, "what answers there is not such a proxy: {what}"),
            Self::Closed => f.write_str("it closed the connection without an answer"),
            Self::Silent => f.write_str("it did not answer in time"),
            Self::Early => f.write_str("it sent octets of the destination before any were asked for"),
            Self::Io(kind) => write!(f, "the connection to it failed: {kind}"),
            Self::Name => f.write_str("the destination cannot be written in a request to it"),
        }
    }
}

impl core::error::Error for ProxyError {}

/// Returns what a proxy said, short and in one line.
fn harmless(said: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(said).chars().take(MAX_SAID).collect();
    escape(text.trim()).to_string()
}

/// Characters of a proxy's own words that are told.
const MAX_SAID: usize = 120;

/// Octets that a proxy may say before the way is open.
pub(crate) const MAX_REPLY: usize = 16 << 10;

/// What is to be written, and what has come and is not understood yet.
#[derive(Debug, Default)]
struct Buffers {
    output: Vec<u8>,
    input: Vec<u8>,
}
