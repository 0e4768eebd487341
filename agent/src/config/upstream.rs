//! An upstream as its owner writes it: where it is, and in which form it is told who calls.

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};
use std::path::PathBuf;

use super::values::{host_port, port};

/// Where an upstream listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host, by name or address, and a port.
    Tcp {
        /// The name, or the address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// Whether the upstream is spoken to in TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cover {
    Plain,
    Tls,
}

impl Address {
    /// Reads `8080`, `host:port`, `http://host`, `https://host:port`, `tcp://host:port`, `tls://host:port`, `unix:/path`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<(Self, Cover), &'static str> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let absolute = path.starts_with('/') && path.len() > 1;
            return if absolute {
                Ok((Self::Unix(PathBuf::from(path)), Cover::Plain))
            } else {
                Err("names no absolute path: write unix:/run/app.sock")
            };
        }
        if let Some(port) = port(text) {
            return Ok((Self::Tcp { host: "localhost".to_owned(), port }, Cover::Plain));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let (cover, default) = match scheme {
            "" | "tcp" => (Cover::Plain, None),
            "http" => (Cover::Plain, Some(80)),
            "https" => (Cover::Tls, Some(443)),
            "tls" => (Cover::Tls, None),
            _ => return Err("has an unknown scheme: http, https, tcp, tls and unix are known"),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err("is more than host and port: the path of a request is passed on as it is");
        }
        let (host, port) = host_port(rest).ok_or("is not a port, host:port or URL")?;
        let port = port.or(default).ok_or("has no port")?;
        Ok((Self::Tcp { host, port }, cover))
    }

    /// Returns whether an address that [`Self::parse`] reads says that HTTP is spoken there.
    pub(crate) fn is_http(text: &str) -> bool {
        text.starts_with("http://") || text.starts_with("https://")
    }

    /// Returns the name that the upstream's certificate must have.
    pub(crate) fn host(&self) -> Option<&str> {
        match self {
            Self::Tcp { host, .. } => Some(host),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The form of the header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text: addresses alone.
    V1,
    /// Binary: addresses, and what is known of endpoint and TLS.
    V2,
}

impl ProxyVersion {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "1" | "v1" => Some(Self::V1),
            "2" | "v2" => Some(Self::V2),
            _ => None,
        }
    }
}

/// Returns whether an address is never an upstream: link-local and the other places where clouds keep their credentials, and
/// multicast (V78); an IPv4 address also where it is written within one of IPv6.
pub(crate) fn is_forbidden(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() || METADATA.contains(&v4),
        IpAddr::V6(v6) => {
            let is_translated = translated(v6).is_some_and(|v4| is_forbidden(v4.into()));
            is_translated || v6.is_unicast_link_local() || v6.is_multicast() || METADATA_6.contains(&v6)
        }
    }
}

/// Returns the IPv4 address that a translator (NAT64) of the well-known prefix 64:ff9b::/96 reaches.
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, _, _] = address.segments() else { return None };
    let [.., a, b, c, d] = address.octets();
    Some(Ipv4Addr::new(a, b, c, d))
}

/// Where clouds keep credentials that is not link-local: of Alibaba, Azure, Oracle.
const METADATA: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// The same of Amazon and Google.
const METADATA_6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_written_in_many_ways() {
        let tcp = |host: &str, port| Address::Tcp { host: host.into(), port };
        let table = [
            ("8080", tcp("localhost", 8080), Cover::Plain),
            ("app:3000", tcp("app", 3000), Cover::Plain),
            ("http://app", tcp("app", 80), Cover::Plain),
            ("http://127.0.0.1:3000/", tcp("127.0.0.1", 3000), Cover::Plain),
            ("https://app.internal", tcp("app.internal", 443), Cover::Tls),
            ("tcp://[::1]:22", tcp("::1", 22), Cover::Plain),
            ("tls://db:5432", tcp("db", 5432), Cover::Tls),
            ("unix:/run/app.sock", Address::Unix("/run/app.sock".into()), Cover::Plain),
            ("unix:///run/app.sock", Address::Unix("/run/app.sock".into()), Cover::Plain),
        ];
        for (text, address, cover) in table {
            assert_eq!(Address::parse(text), Ok((address, cover)), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_upstream_is_refused() {
        for text in
            ["", "0", "70000", "app", "tcp://app", "ftp://a:1", "http://a/b", "http://u@a", "unix:", "unix:a", ":80"]
        {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_metadata_service_and_its_like_are_never_dialed() {
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "100.100.100.200",
            "::ffff:100.100.100.200",
            "168.63.129.16",
            "::ffff:168.63.129.16",
            "192.0.0.192",
            "::ffff:192.0.0.192",
            "64:ff9b::c000:c0",
            "fe80::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "224.0.0.1",
            "ff02::1",
        ] {
            assert!(is_forbidden(address.parse().unwrap()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.0.0.1",
            "::1",
            "fd00::1",
            "192.0.2.1",
            "100.100.100.201",
            "168.63.129.17",
            "192.0.0.191",
            "fd20:ce::253",
            "64:ff9b::7f00:1",
        ] {
            assert!(!is_forbidden(address.parse().unwrap()), "{address}");
        }
    }
}
