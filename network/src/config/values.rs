//! How single values are written: times, sizes, numbers, ports, addresses.

use core::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;

/// Reads a time with its unit: `500ms`, `10s`, `2m`, `1h`; `0` alone needs none.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Reads a number of octets: `65536`, `64KiB`, `1MiB`.
pub(crate) fn size(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: usize = number.parse().ok()?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Reads a count, which may be written `10_000`.
pub(crate) fn count(text: &str) -> Option<usize> {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    digits.parse().ok()
}

/// Reads `address:port`; a name is not an address.
pub(crate) fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

/// Reads a network, `10.0.0.0/8`, or an address, which is a network of one. IPv4 written as IPv6 is IPv4 (V67).
pub(crate) fn network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    let mapped = network.addr().to_canonical();
    match network.prefix_len().checked_sub(96) {
        Some(prefix) if mapped.is_ipv4() && !network.addr().is_ipv4() => IpNet::new(mapped, prefix).ok(),
        _ => Some(network),
    }
}

/// Reads `true` or `false`.
pub(crate) fn flag(text: &str) -> Option<bool> {
    text.parse().ok()
}

/// Ports from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl PortRange {
    /// Reads `5432` or `5000-5099`.
    pub fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        // `parse` alone would take a plus sign.
        let port = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let range = Self { first: port(first)?, last: port(last)? };
        (range.first <= range.last).then_some(range)
    }

    /// Returns true when the port is inside.
    pub const fn contains(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_needs_its_unit() {
        assert_eq!(duration("1500ms"), Some(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(duration("0"), Some(Duration::ZERO));
        for wrong in ["", "10", "s", "-1s", "1.5s", "1 s", "99999999999999999999h", "1d"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_size_is_in_octets_or_binary_units() {
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("12"), Some(12));
        assert_eq!(size("1TiB"), Some(1 << 40));
        for wrong in ["", "KiB", "1KB", "-1", "99999999999GiB", "1e3"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_octal_looking_address_is_refused() {
        assert_eq!(address("0177.0.0.1:80"), None); // V67
        assert_eq!(address("localhost:80"), None);
        assert!(address("127.0.0.1:80").is_some());
        assert!(address("[::1]:80").is_some());
    }

    #[test]
    fn a_port_range_runs_upwards() {
        assert_eq!(PortRange::parse("5432"), Some(PortRange { first: 5432, last: 5432 }));
        assert!(PortRange::parse("5000-5099").is_some_and(|range| range.contains(5099) && !range.contains(5100)));
        for wrong in ["", "-", "2-1", "1-65536", "+1", "1-", "a"] {
            assert_eq!(PortRange::parse(wrong), None, "{wrong}");
        }
    }
}
