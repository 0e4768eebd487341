//! What is reached without the proxy: the list of `NO_PROXY`.

use alloc::{string::String, vec::Vec};
use core::net::IpAddr;

/// Destinations that are reached without a proxy. An empty list has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bypass {
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    who: Who,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Everybody,
    /// This name, unless only what is below it is meant, and all below it.
    Name {
        name: String,
        below_only: bool,
    },
    /// Addresses whose first so many bits are these.
    Range {
        address: IpAddr,
        bits: u8,
    },
    /// `localhost`, what is below it, and loopback addresses.
    Loopback,
}

impl Bypass {
    /// Reads a list as it stands in `NO_PROXY`: items with commas or spaces between them.
    ///
    /// `*` is everything. `example.com` is that name and all below it, `.example.com` and `*.example.com` all below it.
    /// `192.0.2.1`, `2001:db8::1` and `192.0.2.0/24` are addresses; names are not resolved for them. `:8443` at the end means that
    /// port only. What cannot be read covers nothing, as others do it: the list is shared with other programs.
    #[must_use]
    pub fn parse(list: &str) -> Self {
        let items = list.split([',', ' ', '\t', ';']).take(MAX_ITEMS).filter_map(|item| Item::parse(item.trim()));
        Self { items: items.collect() }
    }

    /// Reaches this machine itself without the proxy as well.
    #[must_use]
    pub fn and_loopback(mut self) -> Self {
        self.items.push(Item { who: Who::Loopback, port: None });
        self
    }

    /// Returns whether `host` at `port` is reached without the proxy. A name is compared as it is written.
    pub fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        let address = address.map(|address| address.to_canonical());
        self.items.iter().any(|item| item.port.is_none_or(|only| only == port) && item.who.covers(&host, address))
    }
}

impl Item {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        if let Some(who) = Who::parse(text) {
            return Some(Self { who, port: None });
        }
        let (host, port) = text.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = digits.then(|| port.parse().ok()).flatten()?;
        Some(Self { who: Who::parse(bare)?, port: Some(port) })
    }
}

impl Who {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everybody);
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let (address, bits) = match bare.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (bare, None),
        };
        if let Ok(address) = address.parse::<IpAddr>() {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(most), |bits| bits.parse().ok()).filter(|bits| *bits <= most)?;
            let short = address.to_canonical();
            // A range of addresses of version 4 may be written as one of version 6.
            let is_short = short.is_ipv4() && address.is_ipv6() && bits >= 96;
            return Some(if is_short {
                Self::Range { address: short, bits: bits - 96 }
            } else {
                Self::Range { address, bits }
            });
        }
        let (name, below_only) = match bare.strip_prefix("*.").or_else(|| bare.strip_prefix('.')) {
            Some(name) => (name, true),
            None => (bare, false),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let is_name = !name.is_empty() && name.bytes().all(fine);
        is_name.then(|| Self::Name { name: name.to_ascii_lowercase(), below_only })
    }

    /// Compares with a host in small letters, and its address if it is one.
    fn covers(&self, host: &str, address: Option<IpAddr>) -> bool {
        match self {
            Self::Everybody => true,
            Self::Name { name, below_only } => {
                let below = host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
                below || !below_only && host == name
            }
            Self::Range { address: range, bits } => address.is_some_and(|address| same_bits(*range, address, *bits)),
            Self::Loopback => {
                host == "localhost"
                    || host.ends_with(".localhost")
                    || address.is_some_and(|address| address.is_loopback())
            }
        }
    }
}

fn same_bits(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let bits = u32::from(bits);
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits,
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Items that are read.
const MAX_ITEMS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_item_covers_what_it_says_and_nothing_else() {
        for (list, host, port, covered) in [
            ("", "a.example.com", 443, false),
            ("*", "a.example.com", 443, true),
            ("example.com", "example.com", 443, true),
            ("example.com", "A.Example.COM.", 443, true),
            ("example.com", "notexample.com", 443, false),
            (".example.com", "a.example.com", 443, true),
            (".example.com", "example.com", 443, false),
            ("*.example.com", "a.b.example.com", 443, true),
            ("*.example.com", "example.com", 443, false),
            ("other, example.com:8443", "example.com", 8443, true),
            ("example.com:8443", "example.com", 443, false),
            ("192.0.2.0/24", "192.0.2.77", 443, true),
            ("192.0.2.0/24", "192.0.3.1", 443, false),
            ("192.0.2.0/24", "::ffff:192.0.2.1", 443, true),
            ("::ffff:192.0.2.0/120", "192.0.2.1", 443, true),
            ("192.0.2.1", "192.0.2.1", 443, true),
            ("192.0.2.1:80", "192.0.2.1", 443, false),
            ("2001:db8::/32", "[2001:db8:1::1]", 443, true),
            ("[2001:db8::1]:443", "2001:db8::1", 443, true),
            ("[2001:db8::1]:443", "2001:db8::1", 444, false),
            ("0.0.0.0/0", "2001:db8::1", 443, false),
            ("0.0.0.0/0", "example.com", 443, false),
            ("192.0.2.0/33,10.0.0.0/x,a/b,:80,[x", "192.0.2.1", 80, false),
            ("a b\tc", "c", 1, true),
            ("localhost", "127.0.0.1", 1, false),
        ] {
            assert_eq!(Bypass::parse(list).covers(host, port), covered, "{list} {host}:{port}");
        }
    }

    #[test]
    fn this_machine_is_reached_without_a_proxy_where_that_is_wanted() {
        let bypass = Bypass::parse("").and_loopback();

        for host in ["localhost", "a.localhost", "127.0.0.9", "[::1]", "::ffff:127.0.0.1"] {
            assert!(bypass.covers(host, 1), "{host}");
            assert!(!Bypass::default().covers(host, 1), "{host}");
        }
        assert!(!bypass.covers("localhost.example.com", 1));
    }
}
