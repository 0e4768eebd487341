//! What a rule names: endpoints, hosts, addresses, ports.

use core::{fmt, net::IpAddr};
use std::path::PathBuf;

use crate::config::{Address, values::port};

/// Which endpoints a rule is for: `https://crm.example.com`, `https://*.example.com`, `tcp://:5000-5999`, `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPattern {
    /// `None` for every endpoint there is.
    shape: Option<(Scheme, Names, Option<Ports>)>,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    Tls,
    Tcp,
}

impl Scheme {
    fn parse(text: &str) -> Option<Self> {
        [("http", Self::Http), ("https", Self::Https), ("tls", Self::Tls), ("tcp", Self::Tcp)]
            .into_iter()
            .find_map(|(word, scheme)| text.eq_ignore_ascii_case(word).then_some(scheme))
    }
}

impl EndpointPattern {
    /// Reads a pattern; nothing when it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self { shape: None, text: text.to_owned() });
        }
        let (scheme, rest) = text.split_once("://")?;
        let scheme = Scheme::parse(scheme)?;
        let (names, ports) = match (scheme, rest.rsplit_once(':')) {
            (Scheme::Tcp, Some((host, ports))) => {
                (if host.is_empty() { Names::Any } else { Names::parse(host)? }, Some(Ports::parse(ports)?))
            }
            (Scheme::Tcp, None) if rest == "*" => (Names::Any, None),
            (Scheme::Tcp, None) => return None,
            (_, _) => (Names::parse(rest)?, None),
        };
        Some(Self { shape: Some((scheme, names, ports)), text: text.to_owned() })
    }

    /// Returns whether every endpoint that a URL stands for is one of these: a wildcard is covered by one that is as wide,
    /// and a name that is left to the network by `*` alone.
    pub(crate) fn covers(&self, url: &str) -> bool {
        let Some((scheme, names, ports)) = &self.shape else { return true };
        let Some((word, rest)) = url.split_once("://") else { return false };
        if Scheme::parse(word) != Some(*scheme) {
            return false;
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, number) = rest.rsplit_once(':').map_or((rest, None), |(host, number)| (host, port(number)));
        match scheme {
            Scheme::Tcp => {
                // Who is below internal is reached by its name alone: a rule for public ports does not mean it.
                let internal = Names::Below("internal".to_owned()).have(host);
                let named = if *names == Names::Any { !internal || ports.is_none() } else { names.have(host) };
                named && ports.as_ref().is_none_or(|ports| number.is_some_and(|number| ports.have(number)))
            }
            Scheme::Http | Scheme::Https | Scheme::Tls => names.have(host),
        }
    }
}

impl fmt::Display for EndpointPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Names: one, all below one, or any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Any,
    Below(String),
    One(String),
}

impl Names {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let below = text.strip_prefix("*.");
        let name = plain(below.unwrap_or(text));
        let label = |label: &str| {
            let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            (1..=63).contains(&label.len()) && label.bytes().all(fine)
        };
        let is_name = name.len() <= 253 && name.split('.').all(label);
        is_name.then(|| if below.is_some() { Self::Below(name) } else { Self::One(name) })
    }

    pub(super) fn have(&self, name: &str) -> bool {
        let name = plain(name);
        match self {
            Self::Any => true,
            Self::Below(above) => {
                name.strip_suffix(above.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            Self::One(one) => name == *one,
        }
    }
}

/// Returns the one form of a name.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Which upstreams a rule is for, as the configuration writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    shape: Host,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Names(Names),
    /// Addresses that are written as such.
    Addresses(Range),
    Unix(PathBuf),
}

impl HostPattern {
    /// Reads a pattern; nothing when it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let shape = if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            (path.starts_with('/') && path.len() > 1).then(|| Host::Unix(path.into()))?
        } else if let Some(range) = Range::parse(text) {
            Host::Addresses(range)
        } else {
            Host::Names(Names::parse(text)?)
        };
        Some(Self { shape, text: text.to_owned() })
    }

    pub(super) fn covers(&self, upstream: &Address) -> bool {
        match (&self.shape, upstream) {
            (Host::Unix(path), Address::Unix(wanted)) => path == wanted,
            (Host::Names(names), Address::Tcp { host, .. }) => names.have(host),
            (Host::Addresses(range), Address::Tcp { host, .. }) => host.parse().is_ok_and(|host| range.has(host)),
            (Host::Unix(_), Address::Tcp { .. }) | (Host::Names(_) | Host::Addresses(_), Address::Unix(_)) => false,
        }
    }

    /// Returns whether addresses have to be said: what a name means is for whoever answers DNS to say. `localhost` is
    /// the agent's own word for loopback.
    pub(super) fn needs_addresses(&self) -> bool {
        match &self.shape {
            Host::Names(Names::One(name)) => name != LOCALHOST,
            Host::Names(Names::Any | Names::Below(_)) => true,
            Host::Addresses(_) | Host::Unix(_) => false,
        }
    }

    /// Returns whether it has ports and addresses.
    pub(super) const fn is_unix(&self) -> bool {
        matches!(self.shape, Host::Unix(_))
    }

    /// Returns whether an upstream that the pattern covers may have this address where the rule lists none.
    pub(super) fn means(&self, address: IpAddr) -> bool {
        match &self.shape {
            Host::Names(Names::One(name)) if name == LOCALHOST => address.to_canonical().is_loopback(),
            Host::Addresses(range) => range.has(address),
            Host::Names(_) | Host::Unix(_) => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An address or a network: `10.1.2.3`, `10.0.0.0/8`, `fd00::/8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    base: IpAddr,
    prefix: u32,
    text: String,
}

impl Range {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let base: IpAddr = address.parse().ok()?;
        let most: u32 = if base.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|bits| *bits <= most)?
            }
            Some(_) => return None,
        };
        let mapped = base.is_ipv6() && base.to_canonical().is_ipv4();
        // `::ffff:10.0.0.0/104` is `10.0.0.0/8`; one that is wider than all of IPv4 means nothing that can be dialed.
        let (base, prefix) = if mapped { (base.to_canonical(), prefix.checked_sub(96)?) } else { (base, prefix) };
        Some(Self { base, prefix, text: text.to_owned() })
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                (base.to_bits() ^ address.to_bits()).checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                (base.to_bits() ^ address.to_bits()).checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A port, or several in a row: `443`, `8000-8099`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        (first <= last).then_some(Self { first, last })
    }

    pub(super) const fn have(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { first, last } if first == last => write!(f, "{first}"),
            Self { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

/// The name that the agent resolves itself.
const LOCALHOST: &str = "localhost";

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, url: &str) -> bool {
        EndpointPattern::parse(pattern).unwrap().covers(url)
    }

    #[test]
    fn a_pattern_covers_the_endpoints_that_it_names_and_no_wider_one() {
        for (pattern, url) in [
            ("*", "https://a.example.com"),
            ("*", "tcp://:22"),
            ("https://a.example.com", "https://A.example.com./"),
            ("https://a.example.com", "https://a.example.com:8443"),
            ("https://*.example.com", "https://a.example.com"),
            ("https://*.example.com", "https://*.example.com"),
            ("https://*.example.com", "https://*.b.example.com"),
            ("https://*", "https://"),
            ("tls://db.example.com", "tls://db.example.com"),
            ("tcp://:5000-5002", "tcp://:5000"),
            ("tcp://:5000-5002", "tcp://edge.example.com:5002"),
            ("tcp://db.acme.internal:5432", "tcp://db.acme.internal:5432"),
            ("tcp://*", "tcp://db.acme.internal:5432"),
        ] {
            assert!(covers(pattern, url), "{pattern} {url}");
        }
        for (pattern, url) in [
            ("https://a.example.com", "http://a.example.com"),
            ("https://a.example.com", "https://b.example.com"),
            ("https://a.example.com", "https://*.example.com"),
            ("https://a.example.com", "https://"),
            ("https://*.example.com", "https://example.com"),
            ("https://*.example.com", "https://evilexample.com"),
            ("https://*.example.com", "https://.example.com"),
            ("https://*.b.example.com", "https://*.example.com"),
            ("https://*.example.com", "https://"),
            ("tcp://:5000-5002", "tcp://:5003"),
            ("tcp://:5000-5002", "tcp://"),
            ("tcp://:5432", "tcp://db.acme.internal:5432"),
            ("tcp://db.acme.internal:5432", "tcp://:5432"),
            ("https://*", "nonsense"),
        ] {
            assert!(!covers(pattern, url), "{pattern} {url}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "a.example.com",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://a:1",
            "tcp://a",
            "tcp://:0",
            "tcp://:9-8",
            "https://a.*",
            "https://*a",
        ] {
            assert!(EndpointPattern::parse(text).is_none(), "{text}");
        }
        for text in
            ["", "a b", "a..b", "*.", "10.0.0.0/33", "10.0.0.0/", "unix:", "unix:a", "a/b", "::1/129", "::ffff:0:0/95"]
        {
            assert!(HostPattern::parse(text).is_none(), "{text}");
        }
        for text in ["", "0", "70000", "2-1", "-", "1-", "a"] {
            assert!(Ports::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_host_is_covered_as_it_is_written() {
        let tcp = |host: &str| Address::Tcp { host: host.into(), port: 1 };
        let table = [
            ("crm.corp", tcp("CRM.corp."), true),
            ("crm.corp", tcp("db.corp"), false),
            ("*.corp", tcp("crm.corp"), true),
            ("*.corp", tcp("corp"), false),
            ("*.corp", tcp("evilcorp"), false),
            ("*", tcp("10.0.0.1"), true),
            ("10.0.0.0/8", tcp("10.9.9.9"), true),
            ("10.0.0.0/8", tcp("11.0.0.0"), false),
            ("10.0.0.0/8", tcp("ten.corp"), false),
            ("::1", tcp("::1"), true),
            ("unix:/run/app.sock", Address::Unix("/run/app.sock".into()), true),
            ("unix:/run/app.sock", Address::Unix("/run/../run/app.sock".into()), false),
            ("*", Address::Unix("/run/docker.sock".into()), false),
        ];
        for (pattern, upstream, is_covered) in table {
            assert_eq!(HostPattern::parse(pattern).unwrap().covers(&upstream), is_covered, "{pattern} {upstream}");
        }
    }

    #[test]
    fn a_network_holds_its_first_and_last_address_and_no_neighbour() {
        let has = |range: &str, address: &str| Range::parse(range).unwrap().has(address.parse().unwrap());
        for (range, address) in [
            ("10.0.0.0/8", "10.0.0.0"),
            ("10.1.2.3/8", "10.255.255.255"),
            ("10.0.0.0/8", "::ffff:10.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.1.2.3"),
            ("0.0.0.0/0", "255.255.255.255"),
            ("fd00::/8", "fdff::1"),
            ("::/0", "::1"),
        ] {
            assert!(has(range, address), "{range} {address}");
        }
        for (range, address) in [
            ("10.0.0.0/8", "9.255.255.255"),
            ("10.0.0.0/8", "11.0.0.0"),
            ("10.0.0.1", "10.0.0.2"),
            ("0.0.0.0/0", "::1"),
            ("::/0", "::ffff:10.0.0.1"),
            ("fd00::/8", "fe00::"),
        ] {
            assert!(!has(range, address), "{range} {address}");
        }
    }
}
