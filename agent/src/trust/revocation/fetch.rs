//! Fetches a list by plain HTTP: what is fetched is signed, and that is what counts. One request a connection, bounded in every way.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::io;

use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, lookup_host},
};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{DistributionPointName, GeneralName, ParsedExtension},
    prelude::FromDer as _,
};

use super::MAX_LIST;
use crate::upstream::is_forbidden;

/// Where a list is, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListUrl {
    host: String,
    port: u16,
    target: String,
}

impl ListUrl {
    /// Reads `http://HOST[:PORT]/PATH`; port 80 unless said otherwise.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fine = text.len() <= MAX_URL && text.bytes().all(|octet| octet.is_ascii_graphic());
        let rest = text.strip_prefix("http://").filter(|_| fine)?;
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (authority, target) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at_checked(at)?,
            None => (rest, "/"),
        };
        let (host, port) = crate::config::values::host_port(authority)?;
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Some(Self { host, port: port.unwrap_or(80), target })
    }

    /// Returns the host and the port.
    pub(crate) fn place(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Fetches it. `names_itself` is a certificate's own word for where to go: that is public, or one of `hosts`.
    pub(super) async fn get(&self, names_itself: bool, hosts: &[String]) -> Result<Vec<u8>, String> {
        let found = lookup_host((self.host.as_str(), self.port)).await;
        let found = found.map_err(|error| format!("{} cannot be resolved: {error}", self.host))?;
        let is_ours = hosts.iter().any(|host| host.eq_ignore_ascii_case(&self.host));
        let may = |address: &SocketAddr| {
            let ip = address.ip().to_canonical();
            !names_itself || !is_forbidden(ip) && (is_ours || is_public(ip))
        };
        let addresses: Vec<_> = found.filter(may).take(MAX_ADDRESSES).collect();
        let mut last =
            format!("{} has no address that a certificate may send this agent to; set agent.crl_url", self.host);
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(socket) => return self.ask(socket).await,
                Err(error) => last = format!("{address}: {error}"),
            }
        }
        Err(last)
    }

    async fn ask(&self, mut socket: TcpStream) -> Result<Vec<u8>, String> {
        let failed = |error: io::Error| error.to_string();
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let host = if self.port == 80 { host } else { format!("{host}:{}", self.port) };
        // HTTP/1.0: the answer ends with the connection, and comes in one piece.
        let request = format!(
            "GET {} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: adit/{}\r\nAccept: application/pkix-crl\r\nConnection: close\r\n\r\n",
            self.target,
            env!("CARGO_PKG_VERSION"),
        );
        socket.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut octets = Vec::new();
        let most = (MAX_HEAD + MAX_LIST + 1) as u64;
        socket.take(most).read_to_end(&mut octets).await.map_err(failed)?;
        body(&octets).map(<[u8]>::to_vec)
    }
}

/// Returns the body of a whole answer.
pub(crate) fn body(answer: &[u8]) -> Result<&[u8], String> {
    let head_end = answer.windows(4).take(MAX_HEAD).position(|window| window == b"\r\n\r\n");
    let head_end = head_end.ok_or("the answer is not one of HTTP, or cut off")?;
    let (head, rest) = answer.split_at_checked(head_end).ok_or("cut off")?;
    let body = rest.get(4..).unwrap_or_default();
    let head = core::str::from_utf8(head).map_err(|_| "the head of the answer is not text")?;
    let mut lines = head.split("\r\n");
    let mut status = lines.next().unwrap_or_default().splitn(3, ' ');
    let is_http = status.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let code = status.next().unwrap_or_default();
    if !is_http || code.len() != 3 {
        return Err("the answer is not one of HTTP".to_owned());
    }
    if code != "200" {
        return Err(format!("the server answers {}", code.escape_debug())); // a redirect too
    }
    if body.len() > MAX_LIST {
        return Err(format!("the list is longer than {MAX_LIST} octets"));
    }
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("the answer is in pieces, which was not asked for".to_owned());
        }
        if name.eq_ignore_ascii_case("content-length") && value.parse() != Ok(body.len()) {
            return Err("the answer is cut off".to_owned());
        }
    }
    Ok(body)
}

/// Returns where a certificate says that its list is: by plain HTTP, a few at most.
pub(super) fn distribution_points(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let mut urls = Vec::new();
    for extension in parsed.extensions() {
        let ParsedExtension::CRLDistributionPoints(points) = extension.parsed_extension() else { continue };
        for point in points.points.iter() {
            let Some(DistributionPointName::FullName(names)) = &point.distribution_point else { continue };
            for name in names {
                if let GeneralName::URI(uri) = name
                    && ListUrl::parse(uri).is_some()
                    && urls.len() < super::MAX_URLS
                {
                    urls.push((*uri).to_owned());
                }
            }
        }
    }
    urls
}

/// Returns whether an address is not one of a network behind a door.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            let is_here = v4.is_loopback() || a == 0 || v4 == Ipv4Addr::BROADCAST;
            !(is_here || is_shared || v4.is_private() || v4.is_link_local() || v4.is_multicast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.is_multicast())
        }
    }
}

const MAX_URL: usize = 2_048;
const MAX_HEAD: usize = 16 << 10;
const MAX_ADDRESSES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_plain_http_and_nothing_else() {
        let url = |host: &str, port, target: &str| Some(ListUrl { host: host.into(), port, target: target.into() });
        for (text, expected) in [
            ("http://crl.example/ca.crl", url("crl.example", 80, "/ca.crl")),
            ("http://crl.example:8080?of=ca#part", url("crl.example", 8080, "/?of=ca")),
            ("http://[::1]:81/a/b", url("::1", 81, "/a/b")),
            ("http://crl.example", url("crl.example", 80, "/")),
            ("https://crl.example/ca.crl", None),
            ("ldap://crl.example/ca.crl", None),
            ("http://user@crl.example/", None),
            ("http://crl.example/a b", None),
            ("http://crl.example/a\r\nHost: other", None),
            ("http:///ca.crl", None),
        ] {
            assert_eq!(ListUrl::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn an_answer_is_taken_whole_or_not_at_all() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Ok("abc")),
            ("HTTP/1.0 200 OK\r\n\r\nabc", Ok("abc")),
            ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabc", Err("cut off")),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabc", Err("cut off")),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Err("in pieces")),
            ("HTTP/1.1 301 Moved\r\nLocation: /b\r\n\r\n", Err("answers 301")),
            ("HTTP/1.1 404 Not Found\r\n\r\n", Err("answers 404")),
            ("HTTP/1.1 200 OK\r\n", Err("cut off")),
            ("SSH-2.0-x\r\n\r\n", Err("not one of HTTP")),
            ("", Err("cut off")),
        ] {
            match (body(answer.as_bytes()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected.as_bytes()),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, _) => panic!("{answer:?}: {found:?}"),
            }
        }
        let long = [b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), vec![0; MAX_LIST + 1]].concat();
        assert!(body(&long).unwrap_err().contains("longer"));
        assert!(body(&long[..long.len() - 1]).is_ok());
    }

    #[tokio::test]
    async fn what_is_inside_is_asked_by_the_customer_s_word_or_where_the_network_is_and_not_by_a_certificate_s() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = ListUrl {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            target: "/".to_owned(),
        };
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.read(&mut [0; 512]).await;
                let _ = socket.write_all(b"HTTP/1.0 200 OK\r\n\r\nlist").await;
            }
        });

        let refused = url.get(true, &["192.0.2.1".to_owned()]).await.unwrap_err();
        assert!(refused.contains("no address that a certificate may send this agent to"), "{refused}");
        assert_eq!(url.get(true, &["127.0.0.1".to_owned()]).await.as_deref(), Ok(&b"list"[..]));
        assert_eq!(url.get(false, &[]).await.as_deref(), Ok(&b"list"[..]));
    }

    #[test]
    fn a_certificate_sends_the_agent_to_no_address_behind_a_door() {
        for (address, public) in [
            ("192.0.66.1", true),
            ("2001:4860::1", true),
            ("10.1.2.3", false),
            ("127.0.0.1", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("100.64.0.1", false),
            ("169.254.169.254", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("::1", false),
            ("fd00::1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }
}
