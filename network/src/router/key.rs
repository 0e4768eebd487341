//! What an endpoint is called, and how an agent's URL says it.

use core::fmt;

use crate::NamePattern;

/// How callers speak to an endpoint that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS that the network terminates.
    Https,
    /// TLS that the agent or its upstream terminates.
    Tls,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// By name.
    Name(Scheme, NamePattern),
    /// By TCP port.
    Port(u16),
}

/// An endpoint as an agent wishes for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// This one.
    Exact(Key),
    /// `https://` without a name: one that the network makes up below its first domain.
    AnyName(Scheme),
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 3] = [Self::Http, Self::Https, Self::Tls];

    /// Returns the scheme as URLs have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tls => "tls",
        }
    }
}

impl Wish {
    /// Reads an agent's URL: `https://crm.example.com`, `tls://*.example.com`, `tcp://:5432`, `tcp://host:5432`, `https://`.
    ///
    /// A path, a user, a query or a port beside a name are refused: what is not understood is not bound.
    pub fn parse(url: &str) -> Option<Self> {
        // spec: BIND-010
        let (scheme, rest) = url.split_once("://")?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if scheme.eq_ignore_ascii_case("tcp") {
            let (_, port) = rest.rsplit_once(':')?;
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            return Some(Self::Exact(Key::Port(digits.then(|| port.parse().ok()).flatten()?)));
        }
        let scheme = Scheme::ALL.into_iter().find(|known| scheme.eq_ignore_ascii_case(known.word()))?;
        if rest.is_empty() {
            return Some(Self::AnyName(scheme));
        }
        NamePattern::parse(rest).ok().map(|name| Self::Exact(Key::Name(scheme, name)))
    }
}

impl Key {
    /// Reads what [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        match Wish::parse(text)? {
            Wish::Exact(key) => Some(key),
            Wish::AnyName(_) => None,
        }
    }

    /// Returns what belongs to an account: the name whatever the scheme, or the port.
    pub fn owned(&self) -> String {
        match self {
            Self::Name(_, name) => name.to_string(),
            Self::Port(port) => format!("tcp:{port}"),
        }
    }
}

impl Key {
    /// Returns the wildcards that the name is inside of, the nearest first.
    pub fn above(&self) -> Vec<String> {
        match self {
            Self::Name(_, NamePattern::Exact(base) | NamePattern::Below(base)) => {
                base.parents().map(|parent| format!("*.{parent}")).collect()
            }
            Self::Port(_) => Vec::new(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(scheme, name) => write!(f, "{}://{name}", scheme.word()),
            Self::Port(port) => write!(f, "tcp://:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BIND-010
    #[test]
    fn an_url_names_a_scheme_and_a_name_or_a_port() {
        let name = |scheme, name| Some(Wish::Exact(Key::Name(scheme, NamePattern::parse(name).unwrap())));
        let table = [
            ("https://crm.example.com", name(Scheme::Https, "crm.example.com")),
            ("HTTPS://CRM.Example.com/", name(Scheme::Https, "crm.example.com")),
            ("http://*.example.com", name(Scheme::Http, "*.example.com")),
            ("tls://db.example.com", name(Scheme::Tls, "db.example.com")),
            ("tcp://:5432", Some(Wish::Exact(Key::Port(5432)))),
            ("tcp://db.example.com:5432", Some(Wish::Exact(Key::Port(5432)))),
            ("https://", Some(Wish::AnyName(Scheme::Https))),
        ];
        for (url, wish) in table {
            assert_eq!(Wish::parse(url), wish, "{url}");
        }
    }

    /// BIND-010
    #[test]
    fn what_is_not_understood_is_not_bound() {
        let wrong =
            ["", "crm.example.com", "ftp://a.com", "tcp://", "tcp://:", "tcp://:+1", "tcp://:65536", "tcp://db"];
        let more = [
            "https://a.com:444",
            "https://a.com/x",
            "https://u@a.com",
            "https://a.com?x",
            "https://a .com",
            "https://\n",
        ];
        for url in wrong.into_iter().chain(more) {
            assert_eq!(Wish::parse(url), None, "{url:?}");
        }
    }

    #[test]
    fn a_key_is_read_as_it_is_written() {
        for text in ["https://crm.example.com", "tls://*.example.com", "tcp://:5432"] {
            assert_eq!(Key::parse(text).map(|key| key.to_string()).as_deref(), Some(text));
        }
    }
}
