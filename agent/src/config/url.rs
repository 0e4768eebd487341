//! URLs of what the agent fetches: lists of revoked certificates, and releases.

use super::values::host_port;

/// Where a list of revoked certificates is, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListUrl {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What is asked for there.
    pub(crate) target: String,
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
        let (host, port) = host_port(authority)?;
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Some(Self { host, port: port.unwrap_or(80), target })
    }

    /// Returns the host and the port.
    pub(crate) fn place(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

/// Where releases are, or one file of them, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReleaseUrl {
    /// Host and port as written.
    pub(crate) authority: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

impl ReleaseUrl {
    /// Reads `https://HOST[:PORT]/PATH`; port 443 unless said otherwise.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("https://")?;
        let (authority, path) =
            rest.split_once('/').map_or((rest, String::new()), |(authority, path)| (authority, path.to_owned()));
        let (host, port) = host_port(authority)?;
        let plain = |c: char| c.is_ascii_graphic() && c != '#';
        (path.len() <= 4_096 && path.chars().all(plain)).then(|| Self {
            authority: authority.to_owned(),
            host,
            port: port.unwrap_or(443),
            path: format!("/{path}"),
        })
    }

    /// Returns the host and the port of a place.
    pub(crate) fn host_and_port(text: &str) -> Option<(String, u16)> {
        Self::parse(text).map(|place| (place.host, place.port))
    }

    /// Returns whether releases may be at a place: a folder over HTTPS without user, query or fragment.
    pub(crate) fn is_folder(text: &str) -> bool {
        !text.contains(['?', '@', '#']) && Self::parse(text).is_some()
    }
}

const MAX_URL: usize = 2_048;

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
    fn a_place_is_reached_over_tls_alone() {
        let found = ReleaseUrl::parse("https://a.example.com:8443/b/c?d").unwrap();
        assert_eq!((found.authority.as_str(), found.port, found.path.as_str()), ("a.example.com:8443", 8443, "/b/c?d"));
        for url in
            ["http://a/", "https://", "https://a:0/", "https://u@a/", "https://a/b c", "https://a/\r\nx", "ftp://a"]
        {
            assert_eq!(ReleaseUrl::parse(url), None, "{url}");
        }
        assert!(
            ReleaseUrl::is_folder("https://a.example.com/adit")
                && !ReleaseUrl::is_folder("https://a.example.com/adit?x=1")
        );
    }
}
