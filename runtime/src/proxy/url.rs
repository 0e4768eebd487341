//! The URL of a proxy, as people write it.

use alloc::{borrow::ToOwned, string::String, vec::Vec};
use core::{fmt, net::Ipv6Addr};

use super::{Bypass, Credentials, Proxy, ProxyProtocol};
use adit_core::Secret;

/// What is wrong with the URL of a proxy. It repeats nothing of it, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyUrlError {
    /// The scheme is not known.
    Scheme,
    /// It is SOCKS 4, which knows no names of version 6, no passwords, and is not spoken.
    Socks4,
    /// The host is not a name or an address.
    Host,
    /// The port is not one.
    Port,
    /// User or password are not written as in a URL, or cannot be sent.
    Credentials,
    /// There is something after the port.
    Rest,
}

impl fmt::Display for ProxyUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "the scheme is not http, https or socks5",
            Self::Socks4 => "SOCKS 4 is not spoken; write socks5:// if the proxy knows that",
            Self::Host => "the host is not a name or an address",
            Self::Port => "the port is not one",
            Self::Credentials => "user or password are not written as in a URL: what is not a letter or digit is %XX",
            Self::Rest => "there is something after the port",
        })
    }
}

impl core::error::Error for ProxyUrlError {}

impl Proxy {
    /// Reads `http://user:password@host:port`, `https://…` or `socks5://…`. Without a scheme it is `http`; without a port 80, 443
    /// or 1080. `socks5h` is the same as `socks5`: names go to the proxy. User and password are percent-decoded.
    ///
    /// # Errors
    /// [`ProxyUrlError`].
    pub fn parse(url: &str) -> Result<Self, ProxyUrlError> {
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => ("http".to_owned(), url),
        };
        let (protocol, standard) = match scheme.as_str() {
            "http" => (ProxyProtocol::Http, 80),
            "https" => (ProxyProtocol::Https, 443),
            "socks5" | "socks5h" | "socks" => (ProxyProtocol::Socks5, 1080),
            "socks4" | "socks4a" => return Err(ProxyUrlError::Socks4),
            _ => return Err(ProxyUrlError::Scheme),
        };
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((pair, authority)) => (Some(credentials(pair)?), authority),
            None => (None, rest),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#']) {
            return Err(ProxyUrlError::Rest);
        }
        let (host, port) = split(authority)?;
        let port = match port {
            Some(port) => number(port).ok_or(ProxyUrlError::Port)?,
            None => standard,
        };
        Ok(Self { protocol, host, port, credentials, tls: None, bypass: Bypass::default() })
    }
}

fn split(authority: &str) -> Result<(String, Option<&str>), ProxyUrlError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(ProxyUrlError::Host)?;
        host.parse::<Ipv6Addr>().map_err(|_| ProxyUrlError::Host)?;
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(ProxyUrlError::Port)?) };
        return Ok((host.to_owned(), port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let is_name = !host.is_empty() && host.len() <= 253 && host.bytes().all(fine);
    if is_name { Ok((host.to_owned(), port)) } else { Err(ProxyUrlError::Host) }
}

fn number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|port| *port != 0)
}

fn credentials(pair: &str) -> Result<Credentials, ProxyUrlError> {
    let (user, password) = pair.split_once(':').unwrap_or((pair, ""));
    let user = String::from_utf8(decoded(user)?).map_err(|_| ProxyUrlError::Credentials)?;
    let password = Secret::new(decoded(password)?);
    // A colon in the user would be taken for the end of it.
    let fine = !user.is_empty() && !user.contains(':') && !user.chars().any(char::is_control);
    let fine = fine && user.len() + password.expose().len() <= MAX_CREDENTIALS;
    if fine { Ok(Credentials { user, password }) } else { Err(ProxyUrlError::Credentials) }
}

fn decoded(text: &str) -> Result<Vec<u8>, ProxyUrlError> {
    let mut octets = text.bytes();
    let mut decoded = Vec::new();
    while let Some(octet) = octets.next() {
        if octet != b'%' {
            decoded.push(octet);
            continue;
        }
        let digit = |octet: Option<u8>| octet.and_then(|octet| char::from(octet).to_digit(16));
        let (Some(high), Some(low)) = (digit(octets.next()), digit(octets.next())) else {
            return Err(ProxyUrlError::Credentials);
        };
        decoded.push(u8::try_from(high << 4 | low).map_err(|_| ProxyUrlError::Credentials)?);
    }
    Ok(decoded)
}

/// User and password are not longer together, in octets.
const MAX_CREDENTIALS: usize = 1_024;

#[cfg(test)]
mod tests {
    use alloc::{format, string::ToString};

    use super::*;

    #[test]
    fn a_proxy_is_read_as_people_write_it() {
        for (url, shown, pair) in [
            ("http://proxy.example.com:3128", "http://proxy.example.com:3128", None),
            ("proxy:8080", "http://proxy:8080", None),
            ("HTTP://proxy/", "http://proxy:80", None),
            ("https://proxy", "https://proxy:443", None),
            ("socks5://192.0.2.1", "socks5://192.0.2.1:1080", None),
            ("socks5h://[2001:db8::1]:1081", "socks5://[2001:db8::1]:1081", None),
            ("http://a:b@proxy", "http://proxy:80", Some(("a", "b"))),
            ("http://a%40x:p%3a%2F@b@proxy:1", "http://proxy:1", Some(("a@x", "p:/@b"))),
            ("http://only@proxy", "http://proxy:80", Some(("only", ""))),
        ] {
            let proxy = Proxy::parse(url).expect(url);
            assert_eq!(proxy.to_string(), shown);
            let pair = pair.map(|(user, password)| Credentials {
                user: user.to_owned(),
                password: Secret::new(password.as_bytes()),
            });
            assert_eq!(proxy.credentials, pair, "{url}");
            assert!(!format!("{proxy:?}").contains("p:/@b"), "{proxy:?}");
        }
    }

    #[test]
    fn what_is_not_a_proxy_is_refused_and_not_repeated() {
        for (url, error) in [
            ("", ProxyUrlError::Host),
            ("ftp://proxy", ProxyUrlError::Scheme),
            ("socks4://proxy", ProxyUrlError::Socks4),
            ("http://pro xy", ProxyUrlError::Host),
            ("http://[::1", ProxyUrlError::Host),
            ("http://proxy:", ProxyUrlError::Port),
            ("http://proxy:0", ProxyUrlError::Port),
            ("http://proxy:70000", ProxyUrlError::Port),
            ("http://proxy/path", ProxyUrlError::Rest),
            ("http://:secret@proxy", ProxyUrlError::Credentials),
            ("http://a%zz:secret@proxy", ProxyUrlError::Credentials),
            ("http://a%0d:secret@proxy", ProxyUrlError::Credentials),
            ("http://a%3ab:secret@proxy", ProxyUrlError::Credentials),
        ] {
            assert_eq!(Proxy::parse(url), Err(error), "{url}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
