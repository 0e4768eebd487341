//! What the application of the scenarios says to a BIND: see `scenarios/README.md`.

use std::collections::BTreeMap;

use crate::Registry;

/// The endpoints that a network of the scenarios has bound.
#[derive(Clone, Debug, Default)]
pub struct Bound(BTreeMap<u32, (String, u32)>);

impl Bound {
    /// Takes a BIND with its `tls_end`; returns the code of the refusal if it is refused.
    pub fn bind(&mut self, id: u32, url: &str, tls_end: u32) -> Option<u32> {
        let Some(name) = self.refusal(url, tls_end) else {
            self.0.insert(id, (url.to_owned(), tls_end));
            return None;
        };
        Some(Registry::load().code(name).unwrap_or(0))
    }

    /// Takes a bind out that is given up or taken back.
    pub fn unbind(&mut self, id: u32) {
        self.0.remove(&id);
    }

    fn refusal(&self, url: &str, tls_end: u32) -> Option<&'static str> {
        let (scheme, host) = split(url);
        if url.contains("refused") {
            return Some("FORBIDDEN");
        }
        if !is_possible(scheme, host) {
            return Some("BAD_NAME"); // spec: BIND-017
        }
        if !fits(scheme, host, tls_end) {
            return Some("UNSUPPORTED"); // spec: BIND-018
        }
        let is_other = |(url, end): &(String, u32)| {
            let (bound, name) = split(url);
            let same = name == host && is_tls(bound) && is_tls(scheme);
            same && end_of(bound, *end) != end_of(scheme, tls_end)
        };
        self.0.values().any(is_other).then_some("IN_USE") // spec: BIND-019
    }
}

fn split(url: &str) -> (&str, &str) {
    url.split_once("://").unwrap_or(("", url))
}

fn is_tls(scheme: &str) -> bool {
    scheme == "https" || scheme == "tls"
}

/// Returns where TLS ends; what says nothing ends where its scheme tells.
fn end_of(scheme: &str, tls_end: u32) -> u32 {
    match (scheme, tls_end) {
        ("https", 0) => NETWORK,
        ("tls", 0) => UPSTREAM,
        (_, end) => end,
    }
}

fn is_internal(host: &str) -> bool {
    host == "internal" || host.ends_with(".internal")
}

fn is_possible(scheme: &str, host: &str) -> bool {
    let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
    !is_internal(name)
        || name != "internal" && !name.starts_with("*.") && (scheme == "tcp") == (!port.is_empty() && port != "0")
}

fn fits(scheme: &str, host: &str, tls_end: u32) -> bool {
    match tls_end {
        0 => true,
        NETWORK => scheme == "https",
        AGENT => scheme == "tls" || scheme == "https" && !is_internal(host),
        _ => scheme == "tls",
    }
}

/// Values of `TlsEnd` in the schema.
const NETWORK: u32 = 1;
const AGENT: u32 = 2;
const UPSTREAM: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_does_not_stand_in_the_way() {
        let mut bound = Bound::default();
        let code = |name| Registry::load().code(name);
        assert_eq!(bound.bind(1, "tls://a.example", AGENT), None);
        assert_eq!(bound.bind(2, "https://a.example", AGENT), None, "one endpoint");
        assert_eq!(bound.bind(3, "https://a.example", 0), code("IN_USE"));
        assert_eq!(bound.bind(3, "https://b.example", NETWORK), None);
        [1, 2].into_iter().for_each(|id| bound.unbind(id));
        assert_eq!(bound.bind(4, "https://a.example", NETWORK), None);
        for url in
            ["https://internal", "https://*.internal", "tcp://internal:1", "tcp://a.internal:0", "https://a.internal:1"]
        {
            assert_eq!(bound.bind(5, url, 0), code("BAD_NAME"), "{url}");
        }
    }
}
