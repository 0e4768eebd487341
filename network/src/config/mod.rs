//! The network's configuration: a YAML file, and `ADIT_NETWORK_*` in the environment before it.
//!
//! Reading is pure; every fault is found in one go. Only the file named is read, never one found by searching (V46).

mod acme;
mod endpoints;
mod health;
mod limits;
mod section;
mod seeing;
mod values;
mod yaml;

use core::{net::IpAddr, net::SocketAddr, time::Duration};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use section::{Context, Item, PREFIX, Section};

use crate::{EndpointName, NamePattern, bounded};

pub use acme::{Acme, Challenge, Eab, EabKey, SecretKeys};
pub use endpoints::{EndpointConfig, EndpointKind, EndpointUrl};
pub use health::{Health, Probe};
pub use limits::Limits;
pub use section::ConfigFault;
pub use seeing::{AccessTo, AddressForm, Logged, Telemetry};
pub use values::PortRange;
pub(crate) use values::{duration, network};

/// Everything that the network is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// `node`: the name of the process among its like; told to agents.
    pub node: String,
    /// `region`: where it is; told to agents.
    pub region: String,
    /// `domains`: the names below which endpoints may be bound; empty allows every name that an ACL allows.
    pub domains: Vec<EndpointName>,
    /// `ingress`: where agents connect.
    pub ingress: Ingress,
    /// `http.listen`: where callers speak HTTP.
    pub http: Vec<SocketAddr>,
    /// `https.listen`: where callers speak TLS; `tls://` endpoints are passed through there.
    pub https: Vec<SocketAddr>,
    /// `tcp`: where `tcp://` endpoints listen.
    pub tcp: Option<Tcp>,
    /// `proxy_protocol.trusted` of `http`, `https` and `tcp`: the proxies in front that say who calls.
    pub proxies: ProxyProtocol,
    /// `admin.listen`: health and metrics.
    pub admin: Option<SocketAddr>,
    /// `database.path`: accounts and tokens.
    pub database: PathBuf,
    /// `private_ca`: the folder of the private CA, which issues for every bound name without a certificate of its own.
    pub private_ca: Option<PathBuf>,
    /// `crl`: where the private CA's revocation list is given out.
    pub crl: Option<Crl>,
    /// `certificates`: certificates from files.
    pub certificates: Vec<CertificateFiles>,
    /// `endpoints`: endpoints that are set here, and settings of what agents bind.
    pub endpoints: Vec<EndpointConfig>,
    /// `secrets`: what opens the keys, certificates and accounts in the database.
    pub secrets: Option<SecretKeys>,
    /// `acme`: where certificates are ordered.
    pub acme: Option<Acme>,
    /// `limits`: what callers and agents may make grow.
    pub limits: Limits,
    /// `policy_fetch`: where the requests of policies may go.
    pub policy_fetch: FetchRules,
    /// `heartbeat`: what agents may ask for.
    pub heartbeat: HeartbeatRange,
    /// `log`: what is logged, and how.
    pub log: Log,
    /// `opentelemetry`: where spans go.
    pub telemetry: Option<Telemetry>,
    /// `drain_deadline`: how long open streams may take after SIGTERM, 30 s.
    pub drain_deadline: Duration,
}

/// Where agents connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// `listen`.
    pub listen: Vec<SocketAddr>,
    /// `certificate` and `key`; without them the private CA issues.
    pub files: Option<(PathBuf, PathBuf)>,
    /// `names`: the names and addresses of the ingress: the private CA puts them into its certificate; without files and
    /// private CA, certificates for them come from the database.
    pub names: Vec<String>,
    /// Items of `names` with keys of their own: names with a certificate, and the accounts that are admitted there.
    pub custom: Vec<IngressName>,
    /// `crl`: files with revocation lists of who issued `certificate` and those of names; agents are given them in the handshake.
    pub crl: Vec<PathBuf>,
}

/// A name of the ingress of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressName {
    /// `name`: what agents connect to.
    pub name: EndpointName,
    /// `certificate` and `key`; without them the private CA issues, or the database has one.
    pub files: Option<(PathBuf, PathBuf)>,
    /// `accounts`: whose credentials are good there; empty for everybody's.
    pub accounts: Vec<String>,
}

/// Where the private CA's revocation list is given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    /// `listen`: plain HTTP for the list alone.
    pub listen: Vec<SocketAddr>,
    /// `url`: what certificates that the private CA issues say, and where it is given out at `http.listen` too.
    pub url: Option<String>,
    /// `days`: for how long the first list is valid, 7.
    pub term: Duration,
}

/// Where `tcp://` endpoints listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// `address`.
    pub address: IpAddr,
    /// `ports`: what may be bound; 0 lets the system choose.
    pub ports: Vec<PortRange>,
}

/// The peers that say who calls, by listener: they must begin each connection with a header of the PROXY protocol, and nobody
/// else's is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Of `http`.
    pub http: Vec<IpNet>,
    /// Of `https`, where `tls://` endpoints are served too.
    pub https: Vec<IpNet>,
    /// Of `tcp`.
    pub tcp: Vec<IpNet>,
}

/// A certificate from files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// `names`: `crm.example.com` or `*.example.com`.
    pub names: Vec<NamePattern>,
    /// `certificate`: the chain, PEM.
    pub certificate: PathBuf,
    /// `key`: PEM.
    pub key: PathBuf,
}

/// Where the requests of policies may go: to public addresses, and to what is allowed here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchRules {
    /// `allow`: networks that may be reached although they are not public.
    pub allow: Vec<IpNet>,
    /// `ca`: the authorities that servers are verified with, PEM; those of the host when it is not given.
    pub ca: Option<PathBuf>,
}

/// What heartbeat agents may ask for; the protocol itself allows 1 s to 1 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatRange {
    /// `interval_min`, 1 s.
    pub interval_min: Duration,
    /// `interval_max`, 1 h.
    pub interval_max: Duration,
    /// `tolerance_max`, 1 h.
    pub tolerance_max: Duration,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `level`: error, warn, info, debug, trace, or a filter such as `info,adit_network=debug`.
    pub level: String,
    /// `format`.
    pub format: LogFormat,
    /// `access`: a line for each request and connection.
    pub access: Logged,
}

/// The form of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// `key=value`.
    Logfmt,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads the file and the process's environment.
    ///
    /// # Errors
    /// Every fault, in the order of the lines.
    pub fn load(path: &Path) -> Result<Self, Vec<ConfigFault>> {
        // The key is the agent's, the file the command line's.
        let is_ours =
            |name: &str| name.starts_with(PREFIX) && !["ADIT_NETWORK_CONFIG", "ADIT_NETWORK_KEY"].contains(&name);
        let environment = std::env::vars().filter(|(name, _)| is_ours(name)).collect();
        let text = read_file(path).map_err(|(problem, remedy)| vec![whole_file(problem, remedy)])?;
        Self::parse(&text, path.parent().unwrap_or_else(|| Path::new("")), environment)
    }

    /// Reads a text; relative paths are below `folder`.
    ///
    /// # Errors
    /// Every fault, in the order of the lines.
    pub fn parse(text: &str, folder: &Path, environment: BTreeMap<String, String>) -> Result<Self, Vec<ConfigFault>> {
        let root = yaml::parse(text).map_err(|(place, problem)| {
            let remedy = "Correct the YAML there".to_owned();
            let (line, column) = (Some(place.line), Some(place.column));
            vec![ConfigFault { key: String::new(), line, column, variable: None, problem, remedy }]
        })?;
        let context = Context::new(environment);
        let config = read(Section::new(&context, String::new(), Some(root)), folder);
        let faults = context.finish();
        if faults.is_empty() { Ok(config) } else { Err(faults) }
    }
}

fn read(mut root: Section<'_>, folder: &Path) -> Config {
    let path = |text: &str| (!text.is_empty()).then(|| folder.join(text));
    root.value("version", (), "a version this program reads (1)", |text| (text == "1").then_some(()));
    let private_ca = root.value("private_ca", None, "a folder", |text| path(text).map(Some));
    let crl = crl(&mut root, private_ca.is_some());
    let certificates = root.sections("certificates").into_iter().map(|item| certificate(item, folder)).collect();
    let items: Vec<_> =
        root.sections("endpoints").into_iter().filter_map(|item| endpoints::item(item, folder)).collect();
    let secrets = acme::secrets(root.section("secrets"), folder);
    let has_acme = root.has("acme");
    // What gives out certificates without a file being named.
    let sources = Sources { private_ca: private_ca.is_some(), store: secrets.is_some() };
    let (http, http_proxies) = listen(root.section("http"));
    let (https, https_proxies) = listen(root.section("https"));
    let (tcp, tcp_proxies) = tcp(&mut root);
    let mut config = Config {
        node: root.value("node", host_name(), "a name of at most 253 letters", short_name),
        region: root.value("region", "default".to_owned(), "a name of at most 64 letters", |text| {
            short_name(text).filter(|name| name.len() <= 64)
        }),
        domains: root.values("domains", "a domain such as example.com", domain),
        ingress: ingress(root.section("ingress"), folder, sources),
        http,
        https,
        tcp,
        proxies: ProxyProtocol { http: http_proxies, https: https_proxies, tcp: tcp_proxies },
        admin: admin(root.section("admin")),
        database: folder.join("adit.db"),
        private_ca,
        crl,
        certificates,
        endpoints: Vec::new(),
        secrets,
        acme: None,
        limits: Limits::read(root.section("limits")),
        policy_fetch: policy_fetch(root.section("policy_fetch"), folder),
        heartbeat: heartbeat(root.section("heartbeat")),
        log: log(root.section("log"), folder),
        telemetry: seeing::telemetry(&mut root),
        drain_deadline: root.value("drain_deadline", Duration::from_secs(30), "a time of at most 1h", |text| {
            duration(text).filter(|time| *time <= Duration::from_secs(3_600))
        }),
    };
    let mut database = root.section("database");
    config.database = database.value("path", config.database, "a path", path);
    database.finish();
    config.endpoints = endpoints::check(&root, items, &config);
    let listening = acme::Listening { http: !config.http.is_empty(), https: !config.https.is_empty() };
    config.acme = acme::acme(root.section("acme"), has_acme, config.secrets.is_some(), listening, folder);
    let has_source = sources.private_ca || sources.store;
    if !config.https.is_empty() && !has_source && config.certificates.is_empty() {
        let remedy = "List certificates, or set private_ca, or secrets with acme or `adit-network certificates add`";
        root.missing("certificates", "https has no certificate", remedy);
    }
    if config.http.is_empty() && config.https.is_empty() && config.tcp.is_none() {
        root.missing("http", "callers have no way in", "Set http.listen, https.listen or tcp");
    }
    root.finish();
    config
}

/// Where certificates come from that no file of the configuration holds.
#[derive(Clone, Copy)]
struct Sources {
    private_ca: bool,
    /// The database: ordered by ACME or put in by command.
    store: bool,
}

fn ingress(mut section: Section<'_>, folder: &Path, sources: Sources) -> Ingress {
    let listen = section.values("listen", ADDRESS, values::address);
    if listen.is_empty() {
        section.missing("listen", "agents have no way in", "Set ingress.listen, for example to 0.0.0.0:8443");
    }
    let certificate = section.value("certificate", None, "a path", |text| Some(Some(folder.join(text))));
    let key = section.value("key", None, "a path", |text| Some(Some(folder.join(text))));
    let mut names = Vec::new();
    let mut custom: Vec<IngressName> = Vec::new();
    for item in section.items("names") {
        match item {
            Item::Scalar(scalar) => match short_name(&scalar.text) {
                Some(name) => names.push(name),
                None => section.reject("names", &scalar, "not a name or address", "Correct it"),
            },
            Item::Section(item) => custom.extend(ingress_name(item, folder, sources, &custom)),
        }
    }
    let crl = section.values("crl", "a path", |text| (!text.is_empty()).then(|| folder.join(text)));
    let files = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => {
            if !sources.private_ca && (!sources.store || names.is_empty()) {
                let remedy = "Set certificate and key, or private_ca, or secrets and ingress.names";
                section.missing("certificate", "the ingress has no certificate", remedy);
            }
            None
        }
        (Some(_), None) | (None, Some(_)) => {
            section.missing("key", "certificate and key belong together", "Set both or neither");
            None
        }
    };
    section.finish();
    Ingress { listen, files, names, custom, crl }
}

fn ingress_name(
    mut section: Section<'_>,
    folder: &Path,
    sources: Sources,
    before: &[IngressName],
) -> Option<IngressName> {
    let name = section.value("name", None, "a name such as acme.connect.example.com", |text| domain(text).map(Some));
    let certificate = section.value("certificate", None, "a path", |text| Some(Some(folder.join(text))));
    let key = section.value("key", None, "a path", |text| Some(Some(folder.join(text))));
    let accounts = section.values("accounts", "the name of an account", short_name);
    let files = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => {
            if !sources.private_ca && !sources.store {
                let remedy = "Set certificate and key, or private_ca, or secrets";
                section.missing("certificate", "the name has no certificate", remedy);
            }
            None
        }
        (Some(_), None) | (None, Some(_)) => {
            section.missing("key", "certificate and key belong together", "Set both or neither");
            None
        }
    };
    match &name {
        None => section.missing("name", "an item needs a name", "Add it"),
        Some(name) if before.iter().any(|other| other.name == *name) => {
            section.missing("name", "there are two items of this name", "Write one, with all its accounts");
        }
        Some(_) => {}
    }
    section.finish();
    Some(IngressName { name: name?, files, accounts })
}

fn crl(root: &mut Section<'_>, has_ca: bool) -> Option<Crl> {
    let present = root.has("crl");
    let mut section = root.section("crl");
    let listen = section.values("listen", ADDRESS, values::address);
    let url = section.value("url", None, "a URL such as http://crl.example.com/ca.crl", |text| {
        let uri: http::Uri = text.parse().ok()?;
        let plain = uri.scheme_str() == Some("http") && uri.host().is_some() && text.len() <= 512;
        plain.then(|| Some(text.to_owned()))
    });
    let days = section.value("days", 7, "a number of days from 1 to 365", |text| {
        text.parse().ok().filter(|days| (1..=365_u64).contains(days))
    });
    if present && !has_ca {
        root.missing("crl", "there is no private CA whose list it could be", "Set private_ca, or remove crl");
    }
    section.finish();
    present.then(|| Crl { listen, url, term: Duration::from_secs(days * 86_400) })
}

fn listen(mut section: Section<'_>) -> (Vec<SocketAddr>, Vec<IpNet>) {
    let addresses = section.values("listen", ADDRESS, values::address);
    let trusted = trusted(section.section("proxy_protocol"));
    section.finish();
    (addresses, trusted)
}

fn trusted(mut section: Section<'_>) -> Vec<IpNet> {
    let networks = section.values("trusted", "a network such as 10.0.0.0/8 or an address, and not everybody", |text| {
        network(text).filter(|network| network.prefix_len() > 0)
    });
    section.finish();
    networks
}

fn tcp(root: &mut Section<'_>) -> (Option<Tcp>, Vec<IpNet>) {
    let present = root.has("tcp");
    let mut section = root.section("tcp");
    let address =
        section.value("address", None, "an address such as 0.0.0.0 or ::", |text| text.parse().ok().map(Some));
    let ports = section.values("ports", "a port or a range such as 5000-5099", PortRange::parse);
    let tcp = match address {
        Some(address) if !ports.is_empty() => Some(Tcp { address, ports }),
        None if !present && ports.is_empty() => None,
        Some(_) | None => {
            section.missing("", "tcp needs an address and ports", "Set tcp.address and tcp.ports");
            None
        }
    };
    let trusted = trusted(section.section("proxy_protocol"));
    section.finish();
    (tcp, trusted)
}

fn admin(mut section: Section<'_>) -> Option<SocketAddr> {
    let danger = section.value("danger_listen_beyond_loopback", false, "true or false", values::flag);
    let scalar = section.scalar("listen");
    let address = scalar.as_ref().and_then(|scalar| values::address(&scalar.text));
    match (&scalar, address) {
        (Some(scalar), None) => section.reject("listen", scalar, &format!("not {ADDRESS}"), "Correct it"),
        (Some(scalar), Some(address)) if !address.ip().is_loopback() && !danger => section.reject(
            "listen",
            scalar,
            "health and metrics would be open to everybody",
            "Listen on 127.0.0.1 or ::1, or set danger_listen_beyond_loopback: true behind a firewall",
        ),
        (Some(_), Some(_)) | (None, _) => {}
    }
    section.finish();
    address
}

fn certificate(mut section: Section<'_>, folder: &Path) -> CertificateFiles {
    let path = |text: &str| (!text.is_empty()).then(|| folder.join(text));
    let files = CertificateFiles {
        names: section
            .values("names", "a name such as crm.example.com or *.example.com", |text| NamePattern::parse(text).ok()),
        certificate: section.value("certificate", PathBuf::new(), "a path", path),
        key: section.value("key", PathBuf::new(), "a path", path),
    };
    if files.names.is_empty() || files.certificate.as_os_str().is_empty() || files.key.as_os_str().is_empty() {
        section.missing("names", "an item needs names, certificate and key", "Add what is missing");
    }
    section.finish();
    files
}

fn policy_fetch(mut section: Section<'_>, folder: &Path) -> FetchRules {
    let rules = FetchRules {
        allow: section.values("allow", "an address or network such as 10.1.2.0/24", network),
        ca: section.value("ca", None, "a path", |text| (!text.is_empty()).then(|| Some(folder.join(text)))),
    };
    section.finish();
    rules
}

fn heartbeat(mut section: Section<'_>) -> HeartbeatRange {
    let hour = Duration::from_secs(3_600);
    let second = Duration::from_secs(1);
    let time = |text: &str| duration(text).filter(|time| (second..=hour).contains(time));
    let range = HeartbeatRange {
        interval_min: section.value("interval_min", second, "a time from 1s to 1h", time),
        interval_max: section.value("interval_max", hour, "a time from 1s to 1h", time),
        tolerance_max: section.value("tolerance_max", hour, "a time from 1s to 1h", time),
    };
    if range.interval_min > range.interval_max {
        section.missing("interval_min", "longer than interval_max", "Make it shorter");
    }
    section.finish();
    range
}

fn log(mut section: Section<'_>, folder: &Path) -> Log {
    let log = Log {
        level: section.value("level", "info".to_owned(), "a level (error, warn, info, debug, trace)", |text| {
            crate::log::is_filter(text).then(|| text.to_owned())
        }),
        format: section.value("format", LogFormat::Text, "text, logfmt or json", |text| match text {
            "text" => Some(LogFormat::Text),
            "logfmt" => Some(LogFormat::Logfmt),
            "json" => Some(LogFormat::Json),
            _ => None,
        }),
        access: seeing::access(section.section("access"), folder),
    };
    section.finish();
    log
}

/// Reads a name that is shown to others: short, printable ASCII.
fn short_name(text: &str) -> Option<String> {
    let fits = (1..=253).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| text.to_owned())
}

fn domain(text: &str) -> Option<EndpointName> {
    EndpointName::parse(text).ok()
}

fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .and_then(|name| short_name(name.trim()))
        .unwrap_or_else(|| "node".to_owned())
}

fn read_file(path: &Path) -> Result<String, (String, String)> {
    let failed = |error: io::Error| {
        let remedy = "Check --config, the file and its rights".to_owned();
        (format!("cannot read {}: {error}", path.display()), remedy)
    };
    let contents = bounded::read(path, MAX_FILE).map_err(failed)?;
    if contents.mode & 0o002 != 0 {
        return Err((format!("everybody may write {}", path.display()), "Run chmod o-w on it".to_owned())); // V46
    }
    contents.text().map_err(failed)
}

fn whole_file(problem: String, remedy: String) -> ConfigFault {
    ConfigFault { key: String::new(), line: None, column: None, variable: None, problem, remedy }
}

const MAX_FILE: usize = 1 << 20;
const ADDRESS: &str = "an address and port such as 0.0.0.0:8443 or [::]:8443";

#[cfg(test)]
mod tests;
