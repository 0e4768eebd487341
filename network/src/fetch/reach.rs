//! Which addresses a policy may reach.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Decides which addresses a policy may reach: public ones, and what the operator allows besides.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach {
    allow: Vec<IpNet>,
}

impl Reach {
    pub(super) fn new(allow: &[IpNet]) -> Self {
        Self { allow: allow.to_vec() }
    }

    /// Returns whether an address may be dialed. An address that stands for another one is judged by that.
    pub(super) fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        // What tells a cloud's secrets to whoever asks is never somebody's service.
        !METADATA.contains(&address) && (is_public(address) || self.allow.iter().any(|net| net.contains(&address)))
    }
}

/// Where clouds answer questions about a machine and its keys.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Returns whether an address is one of the internet at large (IANA's registries of special-purpose addresses).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    match address.octets() {
        [0 | 10 | 127 | 224.., ..] => false, // this host, private, loopback, multicast, reserved, broadcast
        [100, 64..=127, ..] => false,        // shared by customers of a carrier
        [169, 254, ..] => false,             // link-local
        [172, 16..=31, ..] => false,         // private
        [192, 168, ..] => false,             // private
        [192, 0, 0 | 2, _] => false,         // protocols, documentation
        [192, 88, 99, _] => false,           // relays of 6to4
        [198, 18 | 19, ..] => false,         // benchmarks
        [198, 51, 100, _] => false,          // documentation
        [203, 0, 113, _] => false,           // documentation
        [..] => true,
    }
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // A translator makes an IPv4 address of it.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [[a, b], [c, d]] = [high, low].map(u16::to_be_bytes);
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        [0x2001, 0..=0x1ff, ..] => false, // protocols: Teredo, benchmarks, ORCHID
        [0x2001, 0xdb8, ..] => false,     // documentation
        [0x2002, ..] => false,            // 6to4
        [0x3fff, 0..=0xfff, ..] => false, // documentation
        // What is not here is loopback, unique local, link-local, multicast, mapped, translated locally, or given to nobody.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_public_addresses_are_reached() {
        for text in PUBLIC.split_whitespace() {
            assert!(Reach::default().permits(address(text)), "{text}");
        }
        for text in OTHERS.split_whitespace() {
            assert!(!Reach::default().permits(address(text)), "{text}");
        }
    }

    #[test]
    fn what_is_allowed_is_reached_but_never_a_metadata_service() {
        let allow = ["127.0.0.0/8", "0.0.0.0/0", "fd00::/8"].map(|text| text.parse().unwrap());
        let reach = Reach::new(&allow);
        for text in ["127.0.0.1", "::ffff:127.0.0.1", "10.0.0.1", "fd00::1"] {
            assert!(reach.permits(address(text)), "{text}");
        }
        for text in ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200", "::1", "fe80::1"]
        {
            assert!(!reach.permits(address(text)), "{text}");
        }
    }

    const PUBLIC: &str = "
        1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0
        172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.88.98.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0
        198.51.99.0 203.0.112.0 223.255.255.255 ::ffff:1.1.1.1 2606:4700::1111 2001:200:: 2001:db7:: 2001:db9:: 2003::
        3fff:1000:: 64:ff9b::1.1.1.1";
    const OTHERS: &str = "
        0.0.0.0 0.1.2.3 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 127.255.255.255 169.254.0.0
        169.254.169.254 172.16.0.0 172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.0
        198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16 ::
        ::1 ::ffff:10.0.0.1 ::ffff:127.0.0.1 ::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254
        64:ff9b:1::1.1.1.1 100::1 2001::1 2001:2::1 2001:10::1 2001:1ff:: 2001:db8::1 2002:7f00:1:: 3fff::1
        3fff:fff:: 4000:: 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 1fff::";
}
