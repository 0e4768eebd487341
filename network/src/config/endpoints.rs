//! Section `endpoints`: endpoints that are set here, and settings of what agents bind.

use core::time::Duration;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{
    Config, health,
    section::{Scalar, Section},
    short_name, values,
};
use crate::{
    EndpointName, NamePattern,
    router::{Internal, Key, Scheme, Wish},
    tls::{Authorities, ClientCertificates, ClientMode, Depth, EndpointTls, Revocation, TlsVersion},
};

/// One item of `endpoints`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointConfig {
    /// `url`.
    pub url: EndpointUrl,
    /// `account`: the name of the account that it belongs to.
    pub account: String,
    /// `type`.
    pub kind: EndpointKind,
    /// `policy`: the file with its rules.
    pub policy: Option<PathBuf>,
    /// `health`: when its members are turned away, and how their upstreams are asked.
    pub health: health::Health,
    /// `tls` and `client_certificates`: how TLS ends, where the network ends it.
    pub tls: EndpointTls,
}

/// What an endpoint of the configuration is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointUrl {
    /// Callers reach it.
    Public(Key),
    /// Only policies of its account do.
    Internal(Internal),
}

/// Who serves an endpoint of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointKind {
    /// `cloud`: nobody binds it; its policy answers or forwards.
    Cloud,
    /// `agent`: an agent of the account binds it; these are its settings.
    Agent,
}

/// An item, and where its URL stands.
pub(super) struct Item {
    endpoint: EndpointConfig,
    at: Scalar,
    section: String,
}

impl EndpointUrl {
    /// Returns the endpoint, once the account is known.
    pub fn key(&self, account: i64) -> Key {
        match self {
            Self::Public(key) => key.clone(),
            Self::Internal(internal) => Key::Internal(account, internal.clone()),
        }
    }

    fn is_http(&self) -> bool {
        match self {
            Self::Public(Key::Name(scheme, _)) => *scheme != Scheme::Tls,
            Self::Public(Key::Port(_) | Key::Internal(..)) => false,
            Self::Internal(internal) => internal.is_http(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match Wish::parse(text)? {
            Wish::Exact(Key::Port(0)) | Wish::AnyName(_) => None,
            Wish::Exact(key) => Some(Self::Public(key)),
            Wish::Internal(internal) => Some(Self::Internal(internal)),
        }
    }
}

impl core::fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Public(key) => key.fmt(f),
            Self::Internal(internal) => internal.fmt(f),
        }
    }
}

/// Reads one item; nothing when something of it is missing.
pub(super) fn item(mut section: Section<'_>, folder: &Path) -> Option<Item> {
    let url = section.scalar("url");
    let account = section.value("account", None, "the name of an account, at most 64 letters", |text| {
        short_name(text).filter(|name| name.len() <= 64).map(Some)
    });
    let kind = section.value("type", EndpointKind::Cloud, "cloud or agent", |text| match text {
        "cloud" => Some(EndpointKind::Cloud),
        "agent" => Some(EndpointKind::Agent),
        _ => None,
    });
    let policy = section.value("policy", None, "a path", |text| (!text.is_empty()).then(|| Some(folder.join(text))));
    let tls = tls(&mut section, folder);
    if url.is_none() || account.is_none() {
        section.missing("url", "an endpoint needs url and account", "Add what is missing");
    }
    let parsed = url.as_ref().and_then(|url| EndpointUrl::parse(&url.text));
    if let (Some(url), None) = (&url, &parsed) {
        let remedy = "Write https://NAME, http://NAME, tls://NAME, tcp://:PORT, or tcp://NAME:PORT below internal";
        section.reject("url", url, &format!("`{}` cannot be an endpoint", url.text.escape_debug()), remedy);
    }
    if let (Some(url), EndpointKind::Cloud, None) = (&url, kind, &policy) {
        section.reject("url", url, "a cloud endpoint without a policy answers nothing", "Set policy, or type: agent");
    }
    if let (Some(at), Some(url)) = (&url, &parsed)
        && tls != EndpointTls::default()
        && !matches!(url, EndpointUrl::Public(Key::Name(Scheme::Https, _)))
    {
        let problem = "TLS of such an endpoint does not end at the network: it has neither tls nor client_certificates";
        section.reject("url", at, problem, "Remove them, or make it https://NAME");
    }
    if let (EndpointKind::Cloud, true, Some(url)) = (kind, section.has("health"), &url) {
        section.reject("health", url, "a cloud endpoint has no members", "Set it at the endpoint that agents bind");
    }
    let http = parsed.as_ref().is_some_and(EndpointUrl::is_http);
    let health = if section.has("health") { health::read(section.section("health"), http) } else { Default::default() };
    let path = section.path().to_owned();
    section.finish();
    let endpoint = EndpointConfig { url: parsed?, account: account?, kind, policy, health, tls };
    Some(Item { endpoint, at: url?, section: path })
}

/// Reads how TLS ends.
fn tls(item: &mut Section<'_>, folder: &Path) -> EndpointTls {
    let mut section = item.section("tls");
    let min = section.value("min_version", TlsVersion::V12, "1.2 or 1.3", TlsVersion::parse);
    let max = section.value("max_version", TlsVersion::V13, "1.2 or 1.3", TlsVersion::parse);
    if min > max {
        section.missing("min_version", "higher than max_version", "Make it lower");
    }
    section.finish();
    let asked = item.has("client_certificates");
    let mut section = item.section("client_certificates");
    let mode = section.value("mode", None, "request, require or verify", |text| ClientMode::parse(text).map(Some));
    let files = section.values("ca", "a path", |text| (!text.is_empty()).then(|| folder.join(text)));
    if asked && mode.is_none() {
        section.missing("mode", "nothing says what is asked of callers", "Set it to request, require or verify");
    }
    let revocation = revocation(&mut section, folder);
    if (mode == Some(ClientMode::Verify) || revocation.is_some()) && files.is_empty() {
        section.missing("ca", "nobody is named whose certificates are believed", "Set the file with the authorities");
    }
    section.finish();
    let authorities = files.into_iter().map(Authorities::File).collect();
    let clients = mode.map(|mode| ClientCertificates { mode, authorities });
    EndpointTls { min, max, clients, revocation, ..EndpointTls::default() }
}

/// Reads how revocation is checked, if it is.
fn revocation(clients: &mut Section<'_>, folder: &Path) -> Option<Revocation> {
    let rest = ["crl_issuers", "crl_depth", "crl_grace"].into_iter().find(|key| clients.has(key));
    let path = |text: &str| (!text.is_empty()).then(|| folder.join(text));
    let files = clients.values("crl", "a path", path);
    let urls = clients.values("crl_url", "a URL that begins with http:// or https://", url);
    let issuers = clients.values("crl_issuers", "a path", path);
    let depth = clients.value("crl_depth", Depth::Chain, "chain or end-entity", Depth::parse);
    let grace = clients.value("crl_grace", Duration::ZERO, "a time of at most 720h", |text| {
        values::duration(text).filter(|grace| *grace <= MAX_GRACE)
    });
    if files.len() + urls.len() > MAX_LISTS {
        let remedy = "Put lists into one file: PEM takes several";
        clients.missing("crl", &format!("more than {MAX_LISTS} files and URLs of lists"), remedy);
    }
    if files.is_empty() && urls.is_empty() {
        if let Some(key) = rest {
            clients.missing(key, "no revocation list is named", "Set crl or crl_url, or remove this");
        }
        return None;
    }
    Some(Revocation { files, urls, issuers, depth, grace })
}

/// Reads where a list is fetched.
fn url(text: &str) -> Option<String> {
    let url: http::Uri = text.parse().ok()?;
    let known = matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty());
    (known && !text.contains('@')).then(|| text.to_owned())
}

/// Checks the items against each other and against the rest of the configuration.
pub(super) fn check(root: &Section<'_>, items: Vec<Item>, config: &Config) -> Vec<EndpointConfig> {
    let (mut urls, mut owners) = (HashMap::new(), HashMap::<String, String>::new());
    for Item { endpoint, at, section } in &items {
        let reject = |problem: &str, remedy: &str| root.reject(&format!("{section}.url"), at, problem, remedy);
        let account = matches!(endpoint.url, EndpointUrl::Internal(_)).then_some(&endpoint.account);
        if let Some(first) = urls.insert((&endpoint.url, account), section) {
            reject(&format!("{} has this url already", first), "Remove one of the two");
        }
        let EndpointUrl::Public(key) = &endpoint.url else { continue };
        match owners.get(&key.owned()) {
            Some(owner) if *owner != endpoint.account => {
                reject("the name belongs to another account by an item above", "Give it to one account");
            }
            Some(_) => {}
            None => drop(owners.insert(key.owned(), endpoint.account.clone())),
        }
        if let Err((problem, remedy)) = served(key, endpoint.policy.is_some(), config) {
            reject(problem, remedy);
        }
    }
    items.into_iter().map(|item| item.endpoint).collect()
}

/// Returns whether callers can come to the endpoint at all, else what is wrong and what to do.
fn served(key: &Key, has_policy: bool, config: &Config) -> Result<(), (&'static str, &'static str)> {
    let (scheme, name) = match key {
        Key::Name(scheme, name) => (*scheme, name),
        Key::Port(port) => {
            let open = config.tcp.as_ref().is_some_and(|tcp| tcp.ports.iter().any(|range| range.contains(*port)));
            return if open { Ok(()) } else { Err(("the port is not among tcp.ports", "Add it there")) };
        }
        Key::Internal(..) => return Ok(()),
    };
    let below = |domain: &EndpointName| NamePattern::Below(domain.clone()).covers(name);
    if !config.domains.is_empty() && !config.domains.iter().any(below) {
        return Err(("the name is below none of `domains`", "Add its domain there, or choose another name"));
    }
    match scheme {
        Scheme::Http if config.http.is_empty() => Err(("nothing listens for HTTP", "Set http.listen")),
        Scheme::Https | Scheme::Tls if config.https.is_empty() => Err(("nothing listens for TLS", "Set https.listen")),
        // What a policy brings is known when it is read.
        Scheme::Https if !has_policy && !config.has_certificate(name) => {
            Err(("the name has no certificate", "List one under certificates, or set private_ca or acme"))
        }
        Scheme::Http | Scheme::Https | Scheme::Tls => Ok(()),
    }
}

impl Config {
    /// Returns whether something of the configuration gives the name a certificate.
    pub(crate) fn has_certificate(&self, name: &NamePattern) -> bool {
        self.private_ca.is_some()
            || self.secrets.is_some() // what is in the database is not known here
            || self.certificates.iter().flat_map(|files| &files.names).any(|pattern| pattern.covers(name))
    }
}

/// For so long after its end a list may be believed: 30 days.
const MAX_GRACE: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Files and URLs of revocation lists of one endpoint.
const MAX_LISTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigFault;

    const BASE: &str = "\
version: 1
domains: [example.com]
ingress: {listen: '127.0.0.1:1', certificate: i.pem, key: i.key}
https: {listen: '127.0.0.1:2'}
tcp: {address: 127.0.0.1, ports: [5000-5099]}
certificates:
  - {names: ['*.example.com'], certificate: e.pem, key: e.key}
endpoints:
";

    #[test]
    fn an_endpoint_says_how_tls_ends_where_the_network_ends_it() {
        let config = parse(
            "  - {url: 'https://a.example.com', account: acme, type: agent, tls: {min_version: '1.3'}}
  - {url: 'https://b.example.com', account: acme, type: agent, client_certificates: {mode: verify, ca: acme.pem}}
",
        )
        .unwrap();
        let [versions, clients] = &config.endpoints[..] else { panic!("{:?}", config.endpoints) };
        assert_eq!(versions.tls, EndpointTls { min: TlsVersion::V13, ..EndpointTls::default() });
        let authorities = vec![Authorities::File("/etc/adit/acme.pem".into())];
        let mode = ClientMode::Verify;
        assert_eq!(clients.tls.clients, Some(ClientCertificates { mode, authorities }));

        for (wrong, key) in [
            ("url: 'tls://a.example.com', client_certificates: {mode: request}", "endpoints[0].url"),
            ("url: 'tcp://:5000', tls: {min_version: '1.3'}", "endpoints[0].url"),
            (
                "url: 'https://a.example.com', client_certificates: {mode: verify}",
                "endpoints[0].client_certificates.ca",
            ),
            ("url: 'https://a.example.com', client_certificates: {}", "endpoints[0].client_certificates.mode"),
            ("url: 'https://a.example.com', client_certificates: {ca: a.pem}", "endpoints[0].client_certificates.mode"),
            ("url: 'https://a.example.com', tls: {min_version: '1.1'}", "endpoints[0].tls.min_version"),
            (
                "url: 'https://a.example.com', tls: {min_version: '1.3', max_version: '1.2'}",
                "endpoints[0].tls.min_version",
            ),
        ] {
            let faults = parse(&format!("  - {{{wrong}, account: acme, type: agent}}\n")).unwrap_err();
            assert_eq!(faults[0].key, key, "{wrong}: {faults:?}");
        }
    }

    #[test]
    fn revocation_lists_are_read_with_their_defaults_and_nothing_that_checks_nothing_is_taken() {
        let item = |more: &str| {
            format!(
                "  - {{url: 'https://a.example.com', account: acme, type: agent, client_certificates: {{mode: verify, {more}}}}}\n"
            )
        };
        let read = |more: &str| parse(&item(more)).map(|config| config.endpoints[0].tls.revocation.clone());

        let plain = read("ca: ca.pem, crl: [a.crl, /b.crl]").unwrap().unwrap();
        assert_eq!(plain.files, [PathBuf::from("/etc/adit/a.crl"), "/b.crl".into()]);
        assert_eq!((plain.depth, plain.grace), (Depth::Chain, Duration::ZERO));
        let all =
            "ca: ca.pem, crl_url: 'http://crl.example/a', crl_issuers: i.pem, crl_depth: end-entity, crl_grace: 24h";
        let all = read(all).unwrap().unwrap();
        assert_eq!((all.urls, all.depth), (vec!["http://crl.example/a".to_owned()], Depth::EndEntity));
        assert_eq!(all.grace, Duration::from_secs(86_400));
        assert_eq!(read("ca: ca.pem").unwrap(), None);
        for (wrong, key) in [
            ("crl: a.crl", "ca"),
            ("ca: ca.pem, crl_grace: 1h", "crl_grace"),
            ("ca: ca.pem, crl_issuers: i.pem", "crl_issuers"),
            ("ca: ca.pem, crl: a.crl, crl_grace: 721h", "crl_grace"),
            ("ca: ca.pem, crl: a.crl, crl_depth: leaf", "crl_depth"),
            ("ca: ca.pem, crl_url: 'file:///a.crl'", "crl_url"),
            ("ca: ca.pem, crl_url: 'http://user@crl.example/'", "crl_url"),
            (&format!("ca: ca.pem, crl: [{}]", "a.crl, ".repeat(17)), "crl"),
        ] {
            let faults = read(wrong).unwrap_err();
            assert_eq!(faults[0].key, format!("endpoints[0].client_certificates.{key}"), "{wrong}: {faults:?}");
        }
    }

    #[test]
    fn endpoints_are_read_with_their_defaults() {
        let config = parse(
            "  - {url: 'https://acme.example.com', account: acme, policy: policies/acme.yml}
  - {url: 'tcp://:5000', account: acme, type: agent}
  - {url: 'https://crm.internal', account: acme, type: agent}
  - {url: 'https://crm.internal', account: other, type: agent}
",
        )
        .unwrap();

        let [cloud, tcp, internal, _] = &config.endpoints[..] else { panic!("{:?}", config.endpoints) };
        assert_eq!((cloud.kind, &*cloud.account), (EndpointKind::Cloud, "acme"));
        assert_eq!(cloud.policy.as_deref(), Some(Path::new("/etc/adit/policies/acme.yml")));
        assert_eq!((tcp.kind, &tcp.policy), (EndpointKind::Agent, &None));
        assert_eq!(internal.url.key(7), Key::parse("7/https://crm.internal").unwrap());
    }

    #[test]
    fn what_could_never_work_is_a_fault_at_its_line() {
        for (items, line, problem) in [
            ("  - {account: acme}", None, "needs url and account"),
            ("  - {url: 'https://a.example.com', type: agent}", None, "needs url and account"),
            ("  - {url: 'https://a.example.com', account: a}", Some(9), "without a policy"),
            ("  - {url: 'https://a.example.com:444', account: a, type: agent}", Some(9), "cannot be an endpoint"),
            ("  - {url: 'https://', account: a, type: agent}", Some(9), "cannot be an endpoint"),
            ("  - {url: 'tcp://:0', account: a, type: agent}", Some(9), "cannot be an endpoint"),
            ("  - {url: 'https://*.internal', account: a, type: agent}", Some(9), "cannot be an endpoint"),
            ("  - {url: 'https://a.example.org', account: a, type: agent}", Some(9), "below none of `domains`"),
            ("  - {url: 'https://a.b.example.com', account: a, type: agent}", None, ""),
            ("  - {url: 'http://a.example.com', account: a, type: agent}", Some(9), "listens for HTTP"),
            ("  - {url: 'tcp://:4999', account: a, type: agent}", Some(9), "not among tcp.ports"),
            ("  - {url: 'tcp://:5001', account: a, policy: x, type: robot}", Some(9), "not cloud or agent"),
            ("  - {url: 'tcp://:5001', account: a, type: agent, polcy: x}", Some(9), "unknown key"),
            (
                "  - {url: 'tcp://:5001', account: a, type: agent}\n  - {url: 'tcp://x:5001/', account: a, type: agent}",
                Some(10),
                "endpoints[0] has this url already",
            ),
            (
                "  - {url: 'https://a.example.com', account: a, type: agent}\n  - {url: 'tls://a.example.com', account: b, type: agent}",
                Some(10),
                "another account",
            ),
        ] {
            let faults = parse(&format!("{items}\n")).err().unwrap_or_default();
            if problem.is_empty() {
                assert_eq!(faults, [], "{items}");
                continue;
            }
            let [fault] = &faults[..] else { panic!("{items}: {faults:?}") };
            assert!(fault.problem.contains(problem) && fault.line == line, "{items}: {fault:?}");
        }
    }

    #[test]
    fn an_https_endpoint_needs_a_certificate() {
        let text = BASE.replace("*.example.com", "b.example.com");
        let items = "  - {url: 'https://a.example.com', account: a, type: agent}\n";
        let read = |text: String| Config::parse(&text, Path::new("/etc/adit"), Default::default());

        let faults = read(format!("{text}{items}")).unwrap_err();

        assert_eq!(faults[0].problem, "the name has no certificate");
        assert!(read(format!("private_ca: ca\n{text}{items}")).is_ok());
    }

    fn parse(items: &str) -> Result<Config, Vec<ConfigFault>> {
        Config::parse(&format!("{BASE}{items}"), Path::new("/etc/adit"), Default::default())
    }
}
