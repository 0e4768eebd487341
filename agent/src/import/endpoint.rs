//! `endpoints` of form 3, and what the older forms share with it: URLs, upstreams, TLS that ends at the agent.

use adit_core::TlsEnd;

use super::{
    Extra, Level, Made,
    options::{bounded, located},
    policy::{GIVE, Rules},
    theirs::{Item, Map},
    write::Out,
};
use crate::config::{Address, Kind, values};

/// Reads one item of `endpoints`.
pub(super) fn read(mut map: Map<'_>, made: &mut Made<'_>) {
    let named = map.take("name");
    let wanted = named.as_ref().and_then(Item::text).unwrap_or_else(|| "endpoint".to_owned());
    let name = made.name(&wanted);
    match &named {
        Some(item) if name == wanted => item.carried(),
        Some(item) => item.note(Level::Changed, &format!("named `{name}`"), RENAMED),
        None => map.note(Level::Changed, &format!("has no name: named `{name}`"), RENAMED),
    }
    if let Some(item) = map.take("bindings") {
        let left_out = match item.texts().iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] | ["public"] => None,
            ["internal"] if internal(&map) => None,
            ["internal"] => Some(
                "callers are to come from inside alone, and its URL does not end in .internal: the endpoint is left out",
            ),
            _ => Some("callers are to come from a cluster of Kubernetes: the endpoint is left out"),
        };
        if let Some(problem) = left_out {
            let remedy =
                "Bind https://NAME.internal or tcp://NAME.internal:PORT, which only policies of the account lead to";
            map.note(Level::None, problem, remedy);
            return;
        }
        item.carried();
    }
    let urls = map.take("url");
    let (mut addresses, mut kind) = (Vec::new(), Kind::Http);
    match &urls {
        None => addresses.push(("https://".to_owned(), Kind::Http)),
        Some(item) => {
            let texts = item.texts();
            for text in if texts.is_empty() { vec![String::new()] } else { texts } {
                addresses.extend(public(item, &text, "https", made));
            }
        }
    }
    if let Some((_, found)) = addresses.first() {
        kind = *found;
    }
    let mut unprotected = Vec::new();
    let termination =
        map.take("agent_tls_termination").map(|item| termination(item.map(), &name, &mut unprotected, made));
    let Some(upstream) = upstream_section(&mut map, kind, termination.is_some()) else {
        map.note(Level::None, LEFT_OUT, "Write it by hand, with an upstream.url");
        return;
    };
    if termination.is_some() && addresses.iter().any(|(url, _)| !TlsEnd::Agent.fits(url)) {
        let remedy = "Make it a public https:// or tls:// endpoint with a name, or remove agent_tls_termination";
        map.note(Level::None, "TLS of such an endpoint cannot end at the agent: it is left out", remedy);
        return;
    }
    let mut rules = Rules::default();
    policies(&mut map, kind, &name, &mut rules, &mut unprotected, made);
    let rest = common(&mut map);
    map.finish_protected(&mut unprotected);
    rules.keep(&name, made);
    for (at, (url, _)) in addresses.into_iter().enumerate() {
        let name = if at == 0 { name.clone() } else { made.name(&name) };
        let mut entries = vec![("name".to_owned(), Out::Text(name)), ("url".to_owned(), Out::Text(url))];
        entries.push(("upstream".to_owned(), upstream.clone()));
        entries.extend(termination.clone().map(|termination| ("agent_tls_termination".to_owned(), termination)));
        entries.extend(rest.clone());
        made.push(entries, unprotected.clone());
    }
}

/// Returns whether the endpoint's URL is one that only policies lead to.
fn internal(map: &Map<'_>) -> bool {
    map.peek("url").is_some_and(|url| {
        let host = url.split_once("://").map_or(url, |(_, host)| host);
        host.split([':', '/']).next().is_some_and(|host| host.ends_with(".internal"))
    })
}

fn upstream_section(map: &mut Map<'_>, kind: Kind, ends_here: bool) -> Option<Out> {
    let mut below = map.take("upstream")?.map();
    let url = below.take("url").and_then(|item| upstream(&item, kind, ends_here));
    if url.as_ref().is_some_and(|url| url.starts_with("https://") || url.starts_with("tls://")) {
        below.note(Level::Decide, UNVERIFIED, VERIFY);
    }
    let mut entries = Vec::new();
    if let Some(item) = below.take("protocol") {
        protocol(&item, &mut entries);
    }
    if let Some(item) = below.take("proxy_protocol") {
        proxy_protocol(&item, &mut entries);
    }
    below.finish();
    entries.insert(0, ("url".to_owned(), Out::Text(url?)));
    Some(Out::Map(entries))
}

pub(super) fn protocol(item: &Item<'_>, entries: &mut Vec<(String, Out)>) {
    match item.text().as_deref() {
        Some(known @ ("http1" | "http2")) => {
            item.carried();
            entries.push(("protocol".to_owned(), Out::text(known)));
        }
        Some("") => item.carried(),
        None => {}
        Some(_) => item.note(Level::None, "not a protocol", "Say upstream.protocol: http1 or http2"),
    }
}

pub(super) fn proxy_protocol(item: &Item<'_>, entries: &mut Vec<(String, Out)>) {
    match item.text().as_deref() {
        Some(known @ ("1" | "2")) => {
            item.carried();
            entries.push(("proxy_protocol".to_owned(), Out::Plain(known.to_owned())));
        }
        Some("" | "0" | "false") => item.carried(),
        Some(_) => item.note(Level::None, "not a version of the PROXY protocol", "Say upstream.proxy_protocol: 1 or 2"),
        None => {}
    }
}

/// Takes what every endpoint may have.
pub(super) fn common(map: &mut Map<'_>) -> Vec<(String, Out)> {
    let mut entries = Vec::new();
    if let Some(item) = map.take("pooling_enabled") {
        match item.text().as_deref() {
            Some(known @ ("true" | "false")) => {
                item.carried();
                entries.push(("pooling_enabled".to_owned(), Out::Plain(known.to_owned())));
            }
            Some(_) => item.note(Level::None, "neither true nor false", "Say pooling_enabled: true, if it is shared"),
            None => {}
        }
    }
    if let Some(item) = map.take("metadata") {
        bounded(&item, "metadata", 4_096, &mut entries);
    }
    if let Some(item) = map.take("description") {
        bounded(&item, "description", 1_024, &mut entries);
    }
    entries
}

/// Takes the policies that stand there, into a file of their own.
pub(super) fn policies(
    map: &mut Map<'_>,
    kind: Kind,
    name: &str,
    rules: &mut Rules,
    unprotected: &mut Vec<String>,
    made: &Made<'_>,
) {
    for key in ["traffic_policy", "policy"] {
        let Some(item) = map.take(key) else { continue };
        let problem = format!("written to {name}.policy.yml: a policy is the network's");
        item.note(Level::Protection, &problem, GIVE);
        unprotected.push(key.to_owned());
        if !rules.take(&item.node, kind, &made.typed) {
            item.note(Level::None, "not a policy in its form", "Write it by hand, see docs/policy.md");
        }
    }
    for key in ["traffic_policy_file", "policy_file", "traffic_policy_url"] {
        if let Some(item) = map.take(key) {
            item.note(Level::Protection, "not carried: a policy is the network's", GIVE);
            unprotected.push(key.to_owned());
        }
    }
}

/// Writes where callers come in, as this agent does; `scheme` is that of a name alone.
pub(super) fn public(item: &Item<'_>, text: &str, scheme: &str, made: &Made<'_>) -> Option<(String, Kind)> {
    let text = text.trim();
    let (scheme, rest) = text
        .split_once("://")
        .map_or_else(|| (scheme.to_owned(), text), |(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    let host = ours(item, host, scheme == "tcp", made);
    let url = match (scheme.as_str(), port) {
        ("tcp", Some(port)) => format!("tcp://{host}:{port}"),
        ("tcp", None) => {
            item.note(
                Level::Decide,
                "names no port, and ngrok chose one: the endpoint is left out",
                "Bind one that the vendor opens: tcp://:5432",
            );
            return None;
        }
        ("https" | "tls", Some("443")) | ("http", Some("80")) | (_, None) => format!("{scheme}://{host}"),
        (_, Some(_)) => {
            item.note(Level::Changed, "carried without its port", "Callers come to the ports of the network");
            format!("{scheme}://{host}")
        }
    };
    match values::endpoint_url(&url, None) {
        Ok(found) if found.0.len() <= 512 => {
            item.carried();
            Some(found)
        }
        Ok(_) => {
            item.note(Level::None, "too long: the endpoint is left out", "An endpoint's URL has at most 512 octets");
            None
        }
        Err(problem) => {
            item.note(Level::None, &format!("{problem}: the endpoint is left out"), "Write it by hand");
            None
        }
    }
}

/// Returns the name that stands for one of theirs.
fn ours(item: &Item<'_>, host: &str, is_tcp: bool, made: &Made<'_>) -> String {
    let lower = host.to_ascii_lowercase();
    let below = DOMAINS.iter().find_map(|domain| lower.strip_suffix(domain)?.strip_suffix('.'));
    let Some(below) = below else { return host.to_owned() };
    if is_tcp {
        item.note(
            Level::Decide,
            "the address is ngrok's: carried as the port alone",
            "Make sure that the vendor opens that port to you, or bind another",
        );
        return String::new();
    }
    let label = match below.rsplit_once('.') {
        Some((label, region)) if REGIONS.contains(&region) => label,
        _ => below,
    };
    match &made.options.domain {
        Some(domain) => {
            item.note(
                Level::Changed,
                &format!("the domain is ngrok's: below {domain} here"),
                "Tell callers the new name",
            );
            format!("{label}.{domain}")
        }
        None => {
            item.note(
                Level::Decide,
                "the domain is ngrok's: no other network answers for it",
                "Choose a name that the vendor's network serves, or import with --domain DOMAIN",
            );
            host.to_owned()
        }
    }
}

/// Writes where an endpoint leads, as this agent does.
pub(super) fn upstream(item: &Item<'_>, kind: Kind, ends_here: bool) -> Option<String> {
    let text = item.text()?;
    let text = text.trim();
    if text.starts_with("file:") || text.starts_with("pipe:") || text.starts_with("\\\\") {
        item.note(
            Level::None,
            "no service, but files or a pipe: the endpoint is left out",
            "Let a server serve them, and name its port",
        );
        return None;
    }
    let mut url = text.to_owned();
    if let Some((scheme, rest)) = text.split_once("://")
        && scheme != "unix"
        && let Some((authority, path)) = rest.split_once('/')
    {
        url = format!("{scheme}://{authority}");
        if !path.is_empty() {
            item.note(
                Level::Changed,
                "carried without its path",
                "The path of a request is passed on as it is; rewrite it by url-rewrite in the network's policy",
            );
        }
    }
    if !url.contains("://")
        && values::port(&url).is_none()
        && values::host_port(&url).is_some_and(|(_, port)| port.is_none())
        && kind == Kind::Http
    {
        url = format!("http://{url}"); // ngrok takes port 80
    }
    let covered = url.starts_with("https://") || url.starts_with("tls://");
    if covered && kind == Kind::Tls && !ends_here {
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let with_port = values::host_port(rest).is_some_and(|(_, port)| port.is_some());
        url = format!("tcp://{rest}{}", if with_port { "" } else { ":443" });
        item.note(
            Level::Changed,
            "carried as tcp://: the caller's own TLS is passed through",
            "Nothing, if the service ends TLS",
        );
    } else if covered && kind != Kind::Http && !ends_here && url.starts_with("https://") {
        item.note(
            Level::Changed,
            "carried: TLS is put around what callers send",
            "Write tcp://, if callers bring their own",
        );
    }
    match Address::parse(&url) {
        Ok(_) => {
            item.carried();
            Some(url)
        }
        Err(problem) => {
            item.note(
                Level::None,
                &format!("{problem}: the endpoint is left out"),
                "Write upstream.url as 8080, host:port, http://host:port or unix:/path",
            );
            None
        }
    }
}

/// Takes how TLS ends at the agent.
fn termination(mut map: Map<'_>, name: &str, unprotected: &mut Vec<String>, made: &mut Made<'_>) -> Out {
    let certificate = map.take("server_certificate");
    let key = map.take("server_private_key");
    let authorities = map.take("mutual_tls_certificate_authorities");
    map.finish_protected(unprotected);
    pair(certificate, key, authorities, name, made)
}

/// Writes how TLS ends at the agent; what is PEM and no file's name is put into one.
pub(super) fn pair(
    certificate: Option<Item<'_>>,
    key: Option<Item<'_>>,
    authorities: Option<Item<'_>>,
    name: &str,
    made: &mut Made<'_>,
) -> Out {
    let mut entries = Vec::new();
    for (item, to, file) in [(certificate, "server_certificate", "pem"), (key, "server_private_key", "key")] {
        let Some(item) = item else { continue };
        let Some(text) = item.text() else { continue };
        let path = file_of(&item, text, &format!("{name}.{file}"), made);
        entries.push((to.to_owned(), Out::Text(path)));
    }
    if let Some(item) = authorities {
        let mut paths = Vec::new();
        for (at, text) in item.texts().into_iter().enumerate() {
            paths.push(file_of(&item, text, &format!("{name}-clients-{}.pem", at + 1), made));
        }
        if !paths.is_empty() {
            entries.push(("mutual_tls_certificate_authorities".to_owned(), Out::texts(paths)));
        }
    }
    Out::Map(entries)
}

/// Returns the name of a file; a text that is no name becomes one.
fn file_of(item: &Item<'_>, text: String, file: &str, made: &mut Made<'_>) -> String {
    if text.contains("-----BEGIN") {
        item.note(Level::Changed, &format!("written to {file}"), "Keep it readable by the agent alone, if it is a key");
        made.extras.push(Extra { name: file.to_owned(), text });
        return file.to_owned();
    }
    located(item, &text);
    text
}

pub(super) const UNVERIFIED: &str = "ngrok took any certificate of the upstream: it has to be valid here";
pub(super) const VERIFY: &str =
    "Name its authority in upstream.ca; `insecure: true` takes any certificate, and whoever is on the path";
const LEFT_OUT: &str = "leads nowhere that this agent knows: the endpoint is left out";
const RENAMED: &str = "A name has letters, digits, `-`, `_` and `.`, and is given once; `adit start NAME` takes it";
/// Domains that are ngrok's own.
const DOMAINS: &[&str] = &[
    "ngrok.io",
    "ngrok.com",
    "ngrok.app",
    "ngrok.dev",
    "ngrok.pizza",
    "ngrok.pub",
    "ngrok-free.app",
    "ngrok-free.dev",
    "ngrok-free.pizza",
];
/// Names of regions that older domains of theirs have below them.
const REGIONS: &[&str] = &["us", "eu", "ap", "au", "sa", "jp", "in", "us-cal-1"];
