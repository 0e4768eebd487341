//! Callers behind a trusted proxy: their addresses come from the PROXY protocol, versions 1 and 2, never from a header of HTTP.
//!
//! Only the configured peers are heard, and they must speak it: who falls silent or says something else is not served. What
//! other peers send is taken as it is, a header of the PROXY protocol too.

use core::net::SocketAddr;
use std::io;

use ipnet::IpNet;
use memchr::memchr;
use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use super::{Entrance, canonical};
use crate::{Edge, metrics::ReasonLabel};

/// A connection, and between which addresses it is.
pub(super) struct Arrival {
    pub(super) socket: TcpStream,
    /// The caller.
    pub(super) address: SocketAddr,
    /// What the caller dialed.
    pub(super) local: SocketAddr,
}

/// Returns who comes, once a trusted proxy has said so.
pub(super) async fn arrive(
    edge: &Edge,
    entrance: Entrance,
    mut socket: TcpStream,
    peer: SocketAddr,
) -> Option<Arrival> {
    let address = canonical(peer);
    let local = socket.local_addr().map_or(address, canonical);
    let trusted = {
        let proxies = edge.proxies.load();
        let networks = match entrance {
            Entrance::Http => &proxies.http,
            Entrance::Https | Entrance::Tls => &proxies.https,
            Entrance::Tcp => &proxies.tcp,
        };
        is_trusted(networks, address)
    };
    if !trusted {
        return Some(Arrival { socket, address, local });
    }
    match read_header(&mut socket).await {
        Ok(Some((address, local))) => Some(Arrival { socket, address, local }),
        Ok(None) => Some(Arrival { socket, address, local }),
        Err(error) => {
            edge.metrics.accept_errors.get_or_create(&ReasonLabel { reason: "proxy_protocol" }).inc();
            tracing::debug!(%peer, %error, "a trusted proxy did not say who calls");
            None
        }
    }
}

fn is_trusted(networks: &[IpNet], address: SocketAddr) -> bool {
    networks.iter().any(|network| network.contains(&address.ip()))
}

/// Reads the header and not one octet more. Returns the caller's address and the one it dialed, or nothing for a connection
/// of the proxy itself (`LOCAL`, `UNKNOWN`).
async fn read_header(socket: &mut TcpStream) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    let mut header = vec![0; SHORTEST];
    socket.read_exact(&mut header).await?;
    if header.starts_with(SIGNATURE) {
        header.push(socket.read_u8().await?);
        let length = header.last_chunk().map_or(0, |octets| usize::from(u16::from_be_bytes(*octets)));
        if length > LONGEST {
            return Err(malformed());
        }
        let start = header.len();
        header.resize(start + length, 0);
        socket.read_exact(&mut header[start..]).await?;
    } else if header.starts_with(b"PROXY ") {
        read_line(socket, &mut header).await?;
    } else {
        return Err(malformed());
    }
    parse(&header)
}

/// Reads on to the end of the line.
async fn read_line(socket: &mut TcpStream, line: &mut Vec<u8>) -> io::Result<()> {
    while !line.ends_with(b"\n") {
        let mut ahead = [0; LONGEST_LINE];
        let seen = socket.peek(&mut ahead).await?;
        let take = memchr(b'\n', &ahead[..seen]).map_or(seen, |end| end + 1);
        if take == 0 || line.len() + take > LONGEST_LINE {
            return Err(malformed());
        }
        let start = line.len();
        line.resize(start + take, 0);
        socket.read_exact(&mut line[start..]).await?;
    }
    Ok(())
}

fn parse(header: &[u8]) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(header, config) {
        Ok((parsed, length)) if length == header.len() => match parsed.proxied_address() {
            None => Ok(None),
            Some(told) if told.protocol == Protocol::Stream => {
                Ok(Some((canonical(told.source), canonical(told.destination))))
            }
            Some(_) => Err(malformed()),
        },
        Ok(_) | Err(_) => Err(malformed()),
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a header of the PROXY protocol")
}

/// `PROXY UNKNOWN` and the end of the line; version 2 is longer.
const SHORTEST: usize = 15;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// What follows the first 16 octets of version 2: addresses and what a proxy says besides.
const LONGEST: usize = 4 << 10;
/// A line of version 1, its end included.
const LONGEST_LINE: usize = 107;

#[cfg(test)]
mod tests {
    use proxy_header::ProxiedAddress;

    use super::*;

    #[test]
    fn both_versions_say_who_calls() {
        let addresses = |source: &str, local: &str| Some((source.parse().unwrap(), local.parse().unwrap()));

        for (line, told) in [
            ("PROXY TCP4 192.0.2.1 203.0.113.1 5000 443\r\n", addresses("192.0.2.1:5000", "203.0.113.1:443")),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 5000 443\r\n", addresses("[2001:db8::1]:5000", "[2001:db8::2]:443")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:203.0.113.1 1 2\r\n", addresses("192.0.2.1:1", "203.0.113.1:2")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ::1 ::1 1 2\r\n", None),
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap(), told, "{line}");
        }
        let (source, local) = addresses("[::ffff:192.0.2.1]:5000", "[::ffff:203.0.113.1]:443").unwrap();
        let header = ProxyHeader::with_address(ProxiedAddress::stream(source, local));
        assert_eq!(parse(&version_2(&header)).unwrap(), addresses("192.0.2.1:5000", "203.0.113.1:443"), "V67");
        assert_eq!(parse(&version_2(&ProxyHeader::with_local())).unwrap(), None);
    }

    #[test]
    fn what_is_not_a_whole_header_is_refused() {
        let datagram = ProxiedAddress::datagram("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
        let stream =
            version_2(&ProxyHeader::with_address(ProxiedAddress::stream(datagram.source, datagram.destination)));
        let mut beyond = stream.clone();
        beyond.push(0);
        for octets in [
            &version_2(&ProxyHeader::with_address(datagram))[..],
            &stream[..stream.len() - 1],
            &beyond,
            b"PROXY TCP4 192.0.2.1 203.0.113.1 5000 443\n",
            b"PROXY TCP4 192.0.2.1 203.0.113.1 5000 70000\r\n",
            b"PROXY TCP4 localhost 203.0.113.1 5000 443\r\n",
            b"PROXY TCP5 192.0.2.1 203.0.113.1 5000 443\r\n",
            b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n",
            b"",
        ] {
            assert!(parse(octets).is_err(), "{octets:?}");
        }
    }

    #[test]
    fn who_is_trusted_is_a_matter_of_addresses_however_they_are_written() {
        let networks = ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let trusted = |peer: &str| is_trusted(&networks, canonical(peer.parse().unwrap()));

        assert!(trusted("10.1.2.3:1") && trusted("[::ffff:10.1.2.3]:1") && trusted("[2001:db8::1]:1"), "V67");
        assert!(!trusted("11.0.0.1:1") && !trusted("[2001:db9::1]:1"));
        assert!(!is_trusted(&[], canonical("10.1.2.3:1".parse().unwrap())));
    }

    fn version_2(header: &ProxyHeader<'_>) -> Vec<u8> {
        let mut octets = Vec::new();
        header.encode_v2(&mut octets).unwrap();
        octets
    }
}
