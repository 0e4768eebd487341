//! What an endpoint is called, and how an agent's URL says it.

use core::fmt;

use crate::{EndpointName, NamePattern};

/// How callers speak to an endpoint that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS that the network terminates.
    Https,
    /// TLS that the agent or its upstream terminates, HTTP inside or not.
    Tls,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// By name.
    Name(Scheme, NamePattern),
    /// By TCP port.
    Port(u16),
    /// Of this account alone: no caller finds it, policies of the account's other endpoints forward to it.
    Internal(i64, Internal),
}

/// What an account calls an endpoint that only its own policies find: a name below `.internal`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Internal {
    /// `https://crm.internal`, and so for `http` and `tls`.
    Name(Scheme, EndpointName),
    /// `tcp://db.internal:5432`.
    Port(EndpointName, u16),
}

/// An endpoint as an agent wishes for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// This one.
    Exact(Key),
    /// `https://` without a name: one that the network makes up below its first domain.
    AnyName(Scheme),
    /// One of the agent's account alone.
    Internal(Internal),
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
            let (host, port) = rest.rsplit_once(':')?;
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            let port = digits.then(|| port.parse().ok()).flatten()?;
            return match EndpointName::parse(host) {
                Ok(name) if name.is_internal() => internal_port(name, port).map(Self::Internal),
                Err(_) if looks_internal(host) => None, // not to be taken for a public port
                Ok(_) | Err(_) => Some(Self::Exact(Key::Port(port))),
            };
        }
        let scheme = Scheme::ALL.into_iter().find(|known| scheme.eq_ignore_ascii_case(known.word()))?;
        if rest.is_empty() {
            return Some(Self::AnyName(scheme));
        }
        match NamePattern::parse(rest).ok()? {
            NamePattern::Exact(name) if name.is_internal() => internal_name(scheme, name).map(Self::Internal),
            NamePattern::Below(name) if name.is_internal() => None, // spec: BIND-017
            name @ (NamePattern::Exact(_) | NamePattern::Below(_)) => Some(Self::Exact(Key::Name(scheme, name))),
        }
    }

    /// Returns the scheme, where a name goes with it that callers say.
    pub const fn scheme(&self) -> Option<Scheme> {
        match self {
            Self::Exact(Key::Name(scheme, _)) | Self::AnyName(scheme) => Some(*scheme),
            Self::Exact(Key::Port(_) | Key::Internal(..)) | Self::Internal(_) => None,
        }
    }

    /// Returns what is bound where the network does not end TLS: `https` passes through as `tls` does.
    #[must_use]
    pub fn passed_through(self) -> Self {
        match self {
            Self::Exact(Key::Name(Scheme::Https, name)) => Self::Exact(Key::Name(Scheme::Tls, name)),
            Self::AnyName(Scheme::Https) => Self::AnyName(Scheme::Tls),
            other @ (Self::Exact(_) | Self::AnyName(_) | Self::Internal(_)) => other,
        }
    }
}

impl Internal {
    /// Reads an internal endpoint's URL. The usual port may stand beside a name: `https://crm.internal:443`.
    pub fn parse(url: &str) -> Option<Self> {
        let bare = [("http://", ":80"), ("https://", ":443"), ("tls://", ":443")].iter().find_map(|(scheme, port)| {
            url.strip_suffix('/').unwrap_or(url).strip_suffix(port).filter(|bare| bare.starts_with(scheme))
        });
        match Wish::parse(bare.unwrap_or(url))? {
            Wish::Internal(internal) => Some(internal),
            Wish::Exact(_) | Wish::AnyName(_) => None,
        }
    }

    /// Returns whether requests are carried there; else octets are.
    pub const fn is_http(&self) -> bool {
        matches!(self, Self::Name(Scheme::Http | Scheme::Https, _))
    }

    /// Returns the name.
    pub const fn name(&self) -> &EndpointName {
        let (Self::Name(_, name) | Self::Port(name, _)) = self;
        name
    }
}

impl fmt::Display for Internal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(scheme, name) => write!(f, "{}://{name}", scheme.word()),
            Self::Port(name, port) => write!(f, "tcp://{name}:{port}"),
        }
    }
}

impl Key {
    /// Reads what [`Self::stored`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((account, url)) = text.split_once('/').filter(|(account, _)| !account.ends_with(':')) {
            return Some(Self::Internal(account.parse().ok()?, Internal::parse(url)?));
        }
        match Wish::parse(text)? {
            Wish::Exact(key) => Some(key),
            Wish::AnyName(_) | Wish::Internal(_) => None,
        }
    }

    /// Returns what no other endpoint is called: the URL, and of an internal one the account as well.
    pub fn stored(&self) -> String {
        match self {
            Self::Name(..) | Self::Port(_) => self.to_string(),
            Self::Internal(account, internal) => format!("{account}/{internal}"),
        }
    }

    /// Returns what belongs to an account: the name whatever the scheme, or the port.
    pub fn owned(&self) -> String {
        match self {
            Self::Name(_, name) => name.to_string(),
            Self::Port(port) => format!("tcp:{port}"),
            Self::Internal(account, internal) => format!("{account}/{}", internal.name()),
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
            Self::Port(_) | Self::Internal(..) => Vec::new(),
        }
    }
}

impl Key {
    /// Returns whether what is carried there is TLS that ends further on.
    pub const fn passes_tls(&self) -> bool {
        matches!(self, Self::Name(Scheme::Tls, _) | Self::Internal(_, Internal::Name(Scheme::Tls, _)))
    }

    /// Returns the endpoint of the same name whose TLS ends elsewhere, if there is TLS.
    pub fn with_other_tls(&self) -> Option<Self> {
        match self {
            Self::Name(Scheme::Https, name) => Some(Self::Name(Scheme::Tls, name.clone())),
            Self::Name(Scheme::Tls, name) => Some(Self::Name(Scheme::Https, name.clone())),
            Self::Name(Scheme::Http, _) | Self::Port(_) | Self::Internal(..) => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(scheme, name) => write!(f, "{}://{name}", scheme.word()),
            Self::Port(port) => write!(f, "tcp://:{port}"),
            Self::Internal(_, internal) => internal.fmt(f),
        }
    }
}

fn internal_name(scheme: Scheme, name: EndpointName) -> Option<Internal> {
    (name.as_str() != "internal").then_some(Internal::Name(scheme, name))
}

fn internal_port(name: EndpointName, port: u16) -> Option<Internal> {
    (name.as_str() != "internal" && port != 0).then_some(Internal::Port(name, port))
}

fn looks_internal(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.rsplit(['.', '@']).next().is_some_and(|last| last.eq_ignore_ascii_case("internal"))
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

    /// BIND-017
    #[test]
    fn a_name_below_internal_is_an_endpoint_of_the_account_and_never_a_public_one() {
        let crm = EndpointName::parse("crm.internal").unwrap();
        for (url, internal) in [
            ("https://crm.internal", Internal::Name(Scheme::Https, crm.clone())),
            ("http://CRM.Internal./", Internal::Name(Scheme::Http, crm.clone())),
            ("tls://crm.internal", Internal::Name(Scheme::Tls, crm.clone())),
            ("tcp://CRM.internal.:5432", Internal::Port(crm, 5432)),
        ] {
            assert_eq!(Wish::parse(url), Some(Wish::Internal(internal)), "{url}");
        }
        let wrong = ["https://*.internal", "https://*.a.internal", "https://internal", "tcp://internal:1"];
        let more = ["tcp://crm.internal:0", "tcp://a_b.internal:1", "tcp://u@INTERNAL:1", "tcp://.internal.:1"];
        for url in wrong.into_iter().chain(more).chain(["https://crm.internal:443"]) {
            assert_eq!(Wish::parse(url), None, "{url}");
        }
    }

    #[test]
    fn a_forward_may_name_the_usual_port() {
        for url in ["https://crm.internal:443", "https://crm.internal:443/", "https://crm.internal"] {
            assert_eq!(Internal::parse(url).map(|it| it.to_string()).as_deref(), Some("https://crm.internal"));
        }
        for url in
            ["https://crm.internal:80", "http://crm.internal:443", "https://crm.example.com", "tcp://:5432", "https://"]
        {
            assert_eq!(Internal::parse(url), None, "{url}");
        }
    }

    #[test]
    fn a_key_is_read_as_it_is_stored() {
        for text in ["https://crm.example.com", "tls://*.example.com", "tcp://:5432", "7/tcp://db.internal:5432"] {
            assert_eq!(Key::parse(text).map(|key| key.stored()).as_deref(), Some(text));
        }
        for text in ["https://crm.internal", "x/https://crm.internal", "7/https://crm.example.com", "7/"] {
            assert_eq!(Key::parse(text), None, "{text}");
        }
    }
}
