//! From a tree to a configuration: every key, its default and its range.

use core::time::Duration;

use adit_core::{Heartbeat, LANES, Secret, TlsEnd, UpstreamProtocol};

use super::{
    Address, AgentConfig, Channel, Cover, CrlConfig, CrlMode, EndpointConfig, KeyPrint, Kind, ListUrl, LogFormat,
    LogOutput, Named, ProxyVersion, Reach, ReleaseUrl, Releases, RemoteManagement, Roots, Token, UpstreamConfig,
    UpstreamTrust, local,
    releases::is_key,
    route,
    section::{Context, Scalar, Section},
    termination,
    values::{self, count, duration, endpoint_url, flag, log_filter},
    yaml::Node,
};

/// Reads everything; faults are the context's.
pub(crate) fn config(context: &Context<'_>, tree: Node) -> (AgentConfig, Vec<EndpointConfig>, Vec<Named>) {
    let mut root = Section::new(context, String::new(), Some(tree));
    match root.scalar("version") {
        Some(version) if version.text != "1" => {
            let problem = format!("version `{}` is not known", version.text.escape_debug());
            root.reject("version", &version, &problem, "Write `version: 1`, or update the agent");
        }
        Some(_) | None => {}
    }
    let agent = agent(root.section("agent"));
    let named = context.take_named();
    let mut endpoints: Vec<EndpointConfig> = Vec::new();
    for section in root.sections("endpoints") {
        let read = endpoint(section, &endpoints, Author::Customer);
        let named = context.take_named();
        endpoints.extend(read.map(|endpoint| EndpointConfig { named, ..endpoint }));
    }
    root.finish();
    (agent, endpoints, named)
}

fn agent(mut section: Section<'_, '_>) -> AgentConfig {
    let mut targets = Vec::new();
    for scalar in section.scalars("connect_url") {
        match values::target(&scalar.text) {
            Some(target) => targets.push(target),
            None => {
                let problem = format!("`{}` is not host:port", scalar.text.escape_debug());
                section.reject("connect_url", &scalar, &problem, "Write it as connect.example.com:443");
            }
        }
    }
    let config = AgentConfig {
        targets,
        server_name: section.scalar("server_name").map(|scalar| scalar.text),
        roots: roots(&mut section),
        resolvers: route::resolvers(&mut section),
        proxy: route::proxy(&mut section),
        network_keys: network_keys(&mut section),
        crl: crl(&mut section),
        token: token(&mut section),
        heartbeat: heartbeat(&mut section),
        resume_window: section.value("resume_window", Duration::from_secs(30), "a time from 0s to 1h", |text| {
            duration(text).filter(|window| *window <= Duration::from_secs(3_600))
        }),
        sessions: section.value("sessions", 1, "a number from 1 to 8", |text| {
            text.parse().ok().filter(|sessions| (1..=LANES).contains(sessions))
        }),
        metadata: text(&mut section, "metadata", MAX_METADATA),
        log: log(&mut section),
        log_level: log_level(&mut section),
        log_format: section.value("log_format", None, "term, logfmt or json", |text| log_format(text).map(Some)),
        remote_management: remote_management(section.section("remote_management")),
        update: releases(section.section("update")),
        max_connections: section.value("max_connections", 10_000, "a number of at least 1", |text| {
            count(text).filter(|count| (1..=1_000_000).contains(count))
        }),
        drain_timeout: section.value("drain_timeout", Duration::from_secs(30), "a time such as 30s", duration),
        local: local::read(section.section("local")),
    };
    section.finish();
    config
}

fn roots(section: &mut Section<'_, '_>) -> Roots {
    let bundled = section.scalar("connect_ca_pem");
    let Some(cas) = section.scalar("connect_cas") else {
        return bundled.map_or(Roots::Host, |pem| Roots::Bundled(pem.text));
    };
    let remedy = "Remove one of the two";
    match (cas.text.as_str(), bundled) {
        ("trusted", Some(pem)) => return Roots::Bundled(pem.text),
        ("trusted", None) => {
            let remedy = "Give the vendor's roots in connect_ca_pem, or a PEM file in connect_cas";
            section.reject("connect_cas", &cas, "`trusted` needs roots that came with the configuration", remedy);
        }
        ("host", None) => {}
        ("host", Some(pem)) => section.reject("connect_ca_pem", &pem, "not used while connect_cas is host", remedy),
        (_, Some(pem)) => section.reject("connect_ca_pem", &pem, "not used while connect_cas names a file", remedy),
        (_, None) => return Roots::File(section.file_of("connect_cas", &cas)),
    }
    Roots::Host
}

fn network_keys(section: &mut Section<'_, '_>) -> Vec<KeyPrint> {
    let mut keys = Vec::new();
    for scalar in section.scalars("network_key") {
        match KeyPrint::parse(&scalar.text) {
            Some(key) if keys.len() < MAX_KEYS => keys.push(key),
            Some(_) => section.reject("network_key", &scalar, "more than 8 keys", "Remove those that are out of use"),
            None => {
                let problem = format!("`{}` is not the SHA-256 of a key", scalar.text.escape_debug());
                let remedy = "Write sha256: and 44 letters of base64 or 64 hexadecimal digits, as `adit-network ca show` prints it";
                section.reject("network_key", &scalar, &problem, remedy);
            }
        }
    }
    keys
}

fn crl(section: &mut Section<'_, '_>) -> CrlConfig {
    let mode = section.value("crl", CrlMode::PreferStapled, "require, prefer-stapled or off", |text| match text {
        "require" => Some(CrlMode::Require),
        "prefer-stapled" => Some(CrlMode::PreferStapled),
        "off" | "false" => Some(CrlMode::Off), // YAML takes off for false
        _ => None,
    });
    let url = section.value("crl_url", None, "a URL such as http://crl.example.com/ca.crl", |text| {
        ListUrl::parse(text).map(|_| Some(text.to_owned()))
    });
    let refresh = section.value("crl_refresh", Duration::from_secs(3_600), "a time from 1s to 24h", |text| {
        duration(text).filter(|time| (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(time))
    });
    CrlConfig { mode, url, refresh }
}

fn token(section: &mut Section<'_, '_>) -> Token {
    let given = section.scalar("authtoken");
    let file = section.scalar("authtoken_file");
    match (given, file) {
        (None, None) => Token::Missing,
        (Some(given), file) if file.as_ref().is_none_or(|file| given.outranks(file)) => {
            if given.text.is_empty() || given.text.len() > MAX_TOKEN || given.text.chars().any(char::is_control) {
                section.reject("authtoken", &given, "not a token", "Copy the whole token that the vendor gave you");
            }
            Token::Given(Secret::new(given.text.into_bytes()))
        }
        (Some(given), Some(file)) if !file.outranks(&given) => {
            section.reject("authtoken_file", &file, "there is an authtoken as well", "Remove one of the two");
            Token::Missing
        }
        (_, Some(file)) if file.text == "-" => Token::StandardInput,
        (_, Some(file)) => Token::File(section.file_of("authtoken_file", &file)),
        (Some(_), None) => Token::Missing,
    }
}

fn heartbeat(section: &mut Section<'_, '_>) -> Heartbeat {
    let hour = Duration::from_secs(3_600);
    let interval = section.value("heartbeat_interval", Duration::from_secs(10), "a time from 1s to 1h", |text| {
        duration(text).filter(|interval| (Duration::from_secs(1)..=hour).contains(interval))
    });
    let expected = "a time from half of heartbeat_interval to 1h";
    let default = Duration::from_secs(15).max(interval / 2);
    let tolerance = section.value("heartbeat_tolerance", default, expected, |text| {
        duration(text).filter(|tolerance| (interval / 2..=hour).contains(tolerance))
    });
    Heartbeat { interval, tolerance }
}

fn log(section: &mut Section<'_, '_>) -> LogOutput {
    let Some((path, scalar)) = section.path("log") else { return LogOutput::Auto };
    match scalar.text.as_str() {
        "stderr" | "true" => LogOutput::Stderr,
        "stdout" => LogOutput::Stdout,
        "off" | "false" => LogOutput::Off,
        _ => LogOutput::File(path),
    }
}

fn log_level(section: &mut Section<'_, '_>) -> String {
    let expected = "error, warn, info, debug, trace or a filter such as info,adit=debug";
    section.value("log_level", "info".to_owned(), expected, |text| log_filter(text).map(|_| text.to_owned()))
}

fn log_format(text: &str) -> Option<LogFormat> {
    match text {
        "term" => Some(LogFormat::Term),
        "logfmt" => Some(LogFormat::Logfmt),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

fn remote_management(mut section: Section<'_, '_>) -> RemoteManagement {
    let allowed = RemoteManagement {
        stop: section.value("stop", false, "true or false", flag),
        restart: section.value("restart", false, "true or false", flag),
        update: section.value("update", false, "true or false", flag),
        configuration: section.value("configuration", false, "true or false", flag),
    };
    section.finish();
    allowed
}

fn releases(mut section: Section<'_, '_>) -> Option<Releases> {
    let url = section.scalar("url");
    if let Some(scalar) = url.as_ref().filter(|scalar| !ReleaseUrl::is_folder(&scalar.text)) {
        let remedy = "Write the folder of the releases: https://releases.example.com/adit";
        section.reject("url", scalar, "not a place over HTTPS", remedy);
    }
    let scalars = section.scalars("public_key");
    let (asked, mut keys) = (!scalars.is_empty(), Vec::new());
    for scalar in scalars {
        if is_key(&scalar.text) {
            keys.push(scalar.text);
        } else {
            let remedy = "Write the second line of the vendor's minisign.pub: 56 characters that begin with RW";
            section.reject("public_key", &scalar, "not a public key of minisign", remedy);
        }
    }
    if url.is_some() && !asked {
        section.missing("public_key", "nothing says who signs releases", "Write the vendor's key, of its minisign.pub");
    }
    if url.is_none() && asked {
        section.missing("url", "nothing says where releases are", "Write `url: https://releases.example.com/adit`");
    }
    let channel = section.value("channel", Channel::Stable, "stable or beta", Channel::parse);
    let ca = section.file("ca").map(|(file, _)| file);
    let check = section.value("check", true, "true or false", flag);
    let trial = section.value("trial", Duration::from_secs(120), "a time from 10s to 1h", |text| {
        duration(text).filter(|time| (Duration::from_secs(10)..=Duration::from_secs(3_600)).contains(time))
    });
    section.finish();
    Some(Releases { url: url?.text, keys, channel, ca, check, trial })
}

/// Who has written what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Author {
    /// Whoever may say everything.
    Customer,
    /// Whoever may name no file of this machine, and switch no check off.
    Vendor,
}

impl Author {
    /// Returns whether two names are one: the customer may tell names apart by their case, for nobody else says them.
    fn takes_for_one(self, name: &str, other: &str) -> bool {
        match self {
            Self::Customer => name == other,
            Self::Vendor => name.eq_ignore_ascii_case(other),
        }
    }

    /// Takes out what this author may not say, with a fault.
    fn bar(self, section: &mut Section<'_, '_>, keys: &[&'static str]) {
        if self == Self::Vendor {
            for key in keys {
                section.bar(key, "only the customer says this", "Remove it: it belongs into the agent's own file");
            }
        }
    }
}

/// Reads an endpoint beside those `before` it.
pub(super) fn endpoint(
    mut section: Section<'_, '_>,
    before: &[EndpointConfig],
    author: Author,
) -> Option<EndpointConfig> {
    author.bar(&mut section, &["agent_tls_termination"]);
    let name = section.scalar("name");
    match &name {
        None => section.missing("name", "an endpoint needs a name", "Give it one that says what it is"),
        Some(scalar) if !is_name(&scalar.text) => {
            let remedy = "Use letters, digits, `-`, `_` and `.`, at most 253 of them";
            section.reject("name", scalar, &format!("`{}` is not a name", scalar.text.escape_debug()), remedy);
        }
        Some(scalar) if before.iter().any(|other| author.takes_for_one(&other.name, &scalar.text)) => {
            let problem = format!("there are two endpoints `{}`", scalar.text);
            section.reject("name", scalar, &problem, "Give each its own name");
        }
        Some(_) => {}
    }
    let url = section.scalar("url");
    let asked = asked(&section, url.as_ref());
    if let (Author::Vendor, Some(scalar), Some((asked, _))) = (author, &url, &asked)
        && let Some(other) = before.iter().find(|other| Reach::is_one(&other.url, asked))
    {
        section.reject("url", scalar, &format!("endpoint `{}` has this URL", other.name), "Give each its own URL");
    }
    let kind = asked.as_ref().map_or(Kind::Tcp, |(_, kind)| *kind);
    let ends_here = section.has("agent_tls_termination");
    let pooling = section.value("pooling_enabled", false, "true or false", flag);
    let below = section.section("upstream");
    let upstream = upstream(below, kind, ends_here, author);
    let termination = ends_here.then(|| {
        let http = upstream.as_ref().filter(|upstream| kind == Kind::Http || upstream.is_http);
        let named = name.as_ref().map_or("endpoint", |name| &name.text).to_owned();
        let of = termination::Of { name: &named, url: asked.as_ref().map(|(url, _)| url.as_str()), pooling };
        termination::read(section.section("agent_tls_termination"), &of, http.map(|upstream| upstream.protocol))
    });
    if let (true, Some(scalar), Some((asked, _))) = (ends_here, &url, &asked)
        && !TlsEnd::Agent.fits(asked)
    {
        let remedy =
            "Make it a public https:// or tls:// endpoint, or tls:// below internal; or remove agent_tls_termination";
        section.reject("url", scalar, "TLS of such an endpoint cannot end at the agent", remedy);
    }
    let metadata = text(&mut section, "metadata", MAX_METADATA);
    let description = text(&mut section, "description", MAX_DESCRIPTION);
    section.finish();
    let ((url, kind), name) = (asked?, name?.text);
    Some(EndpointConfig {
        name,
        url,
        kind,
        upstream: upstream?,
        termination,
        pooling,
        metadata,
        description,
        named: Vec::new(),
    })
}

/// Reads the URL that callers use.
fn asked(section: &Section<'_, '_>, url: Option<&Scalar>) -> Option<(String, Kind)> {
    let Some(scalar) = url else {
        let remedy = "Write `url: https://crm.example.com` or `url: tcp://:5432`";
        section.missing("url", "an endpoint needs a URL", remedy);
        return None;
    };
    match endpoint_url(&scalar.text, None) {
        Ok(asked) if asked.0.len() <= MAX_URL => return Some(asked),
        Ok(_) => section.reject("url", scalar, "too long", "An endpoint's URL has at most 512 octets"),
        Err(problem) => {
            let problem = format!("`{}` {problem}", scalar.text.escape_debug());
            section.reject("url", scalar, &problem, "Write `https://crm.example.com` or `tcp://:5432`");
        }
    }
    None
}

fn upstream(mut section: Section<'_, '_>, kind: Kind, ends_here: bool, author: Author) -> Option<UpstreamConfig> {
    author.bar(&mut section, &["ca", "insecure"]);
    let url = section.scalar("url");
    let found = match &url {
        None => {
            section.missing("url", "an upstream needs a URL", "Write `url: http://localhost:8080` below `upstream`");
            None
        }
        Some(scalar) => match Address::parse(&scalar.text) {
            Ok((_, Cover::Tls)) if kind == Kind::Tls && !ends_here => {
                let remedy = "Write tcp:// before host and port, or let TLS end here: agent_tls_termination";
                section.reject("url", scalar, "a tls:// endpoint passes the caller's own TLS through", remedy);
                None
            }
            Ok(found) => Some(found),
            Err(problem) => {
                let problem = format!("`{}` {problem}", scalar.text.escape_debug());
                section.reject("url", scalar, &problem, "Write 8080, host:port, http://host:port or unix:/path");
                None
            }
        },
    };
    let protocol = section.value("protocol", UpstreamProtocol::Http1, "http1 or http2", |text| match text {
        "http1" => Some(UpstreamProtocol::Http1),
        "http2" => Some(UpstreamProtocol::Http2),
        _ => None,
    });
    let proxy_protocol = section.value("proxy_protocol", None, "1 or 2", |text| ProxyVersion::parse(text).map(Some));
    let trust = trust(&mut section);
    let expected = "a time from 1ms to 10m";
    let connect_timeout = section.value("connect_timeout", CONNECT_TIMEOUT, expected, |text| {
        duration(text).filter(|time| (Duration::from_millis(1)..=Duration::from_secs(600)).contains(time))
    });
    let covered = found.as_ref().is_none_or(|(_, cover)| *cover == Cover::Tls);
    if let Some((key, scalar, _)) = trust.as_ref().filter(|_| !covered) {
        section.reject(key, scalar, "the upstream is not spoken to in TLS", "Write https:// or tls://, or remove it");
    }
    section.finish();
    let (address, cover) = found?;
    let tls = (cover == Cover::Tls).then(|| trust.map_or(UpstreamTrust::Host, |(.., trust)| trust));
    let is_http = url.is_some_and(|url| Address::is_http(&url.text));
    Some(UpstreamConfig { address, tls, is_http, protocol, proxy_protocol, connect_timeout })
}

fn trust(section: &mut Section<'_, '_>) -> Option<(&'static str, Scalar, UpstreamTrust)> {
    let ca = section.file("ca");
    let insecure = section.scalar("insecure");
    let anybody = match &insecure {
        Some(scalar) => flag(&scalar.text).unwrap_or_else(|| {
            section.reject("insecure", scalar, "neither true nor false", "Correct it");
            false
        }),
        None => false,
    };
    match (ca, insecure.filter(|_| anybody)) {
        (Some((_, ca)), Some(_)) => {
            section.reject("ca", &ca, "`insecure` asks for no check at all", "Remove one of the two");
            None
        }
        (Some((file, ca)), None) => Some(("ca", ca, UpstreamTrust::File(file))),
        (None, Some(scalar)) => Some(("insecure", scalar, UpstreamTrust::DangerAnybody)),
        (None, None) => None,
    }
}

/// Returns an endpoint that the command line describes alone.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn endpoint_without_file(
    kind: Kind,
    url: Option<&str>,
    upstream: &str,
    ends_here: bool,
) -> Result<EndpointConfig, String> {
    let url = match (url, kind) {
        (Some(url), _) => endpoint_url(url, Some(kind)).map_err(|problem| format!("--url: `{url}` {problem}"))?.0,
        (None, Kind::Http) => "https://".to_owned(), // the network makes a name up
        (None, Kind::Tls) => "tls://".to_owned(),
        (None, Kind::Tcp) => return Err("--url: a TCP endpoint needs a port: --url tcp://:5432".to_owned()),
    };
    let (address, cover) = Address::parse(upstream).map_err(|problem| format!("`{upstream}` {problem}"))?;
    if kind == Kind::Tls && cover == Cover::Tls && !ends_here {
        return Err("a tls endpoint passes the caller's own TLS through: write tcp:// before host and port".to_owned());
    }
    Ok(EndpointConfig {
        name: "default".to_owned(),
        url,
        kind,
        upstream: UpstreamConfig {
            address,
            tls: (cover == Cover::Tls).then_some(UpstreamTrust::Host),
            is_http: Address::is_http(upstream),
            protocol: UpstreamProtocol::Http1,
            proxy_protocol: None,
            connect_timeout: CONNECT_TIMEOUT,
        },
        termination: None,
        pooling: false,
        metadata: String::new(),
        description: String::new(),
        named: Vec::new(),
    })
}

fn text(section: &mut Section<'_, '_>, key: &'static str, most: usize) -> String {
    let expected = format!("a text of at most {most} octets");
    section.value(key, String::new(), &expected, |text| (text.len() <= most).then(|| text.to_owned()))
}

fn is_name(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= 253 && text.chars().all(fine)
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What the protocol carries at most, in octets.
const MAX_METADATA: usize = 4_096;
const MAX_DESCRIPTION: usize = 1_024;
const MAX_URL: usize = 512;
const MAX_TOKEN: usize = 512;
/// Keys of the network that an agent may be bound to: the one in use, and those of a change.
const MAX_KEYS: usize = 8;
