//! `tunnels` of forms 1 and 2, which form 3 still has.

use adit_core::TlsEnd;

use super::{
    Level, Made,
    endpoint::{UNVERIFIED, VERIFY, common, pair, policies, protocol, proxy_protocol, public, upstream},
    policy::{Rules, switches},
    theirs::{Item, Map},
    write::Out,
};
use crate::config::Kind;

/// Reads one tunnel.
pub(super) fn read(item: Item<'_>, made: &mut Made<'_>) {
    let wanted = item.path.strip_prefix("tunnels.").unwrap_or(&item.path).to_owned();
    let mut map = item.map();
    let name = made.name(&wanted);
    if name != wanted {
        let remedy = "A name has letters, digits, `-`, `_` and `.`, and is given once; `adit start NAME` takes it";
        map.note(Level::Changed, &format!("named `{name}`"), remedy);
    }
    if map.has("labels") {
        let remedy = "Write an endpoint with a url; several agents share one with pooling_enabled";
        map.note(Level::None, "labels lead to an edge, which there is not: the tunnel is left out", remedy);
        return;
    }
    let Some(kind) = kind(&mut map) else { return };
    let (crt, key) = (map.take("crt"), map.take("key"));
    let ends_here = crt.is_some() && key.is_some();
    let mut unprotected = Vec::new();
    if !terminates(&mut map, kind, ends_here, &mut unprotected) {
        return;
    }
    let leads = map.take("addr").and_then(|item| upstream(&item, kind, ends_here));
    let urls = urls(&mut map, kind, leads.as_deref(), made);
    let Some(leads) = leads else {
        map.note(Level::None, LEFT_OUT, "Write it by hand, with an upstream.url");
        return;
    };
    if ends_here && urls.iter().any(|url| !TlsEnd::Agent.fits(url)) {
        let remedy = "Make it an https:// or tls:// endpoint, or write it without certificate and key";
        map.note(Level::None, "TLS of such an endpoint cannot end at the agent: the tunnel is left out", remedy);
        return;
    }
    let upstream = upstream_of(&mut map, &leads);
    let authorities = map.take("mutual_tls_cas");
    let termination = if ends_here {
        Some(pair(crt, key, authorities, &name, made))
    } else {
        for item in [crt, key].into_iter().flatten() {
            item.note(Level::None, "of certificate and key only one is there", "Name both in agent_tls_termination");
        }
        if let Some(item) = authorities {
            let remedy = "Let the network ask for certificates: terminate-tls in its policy, or client_certificates; or end TLS here: agent_tls_termination";
            item.note(Level::Protection, "ngrok asked callers for certificates of these authorities", remedy);
            unprotected.push("mutual_tls_cas".to_owned());
        }
        None
    };
    let mut rules = Rules::default();
    switches(&mut map, &name, &leads, &mut rules, &mut unprotected);
    policies(&mut map, kind, &name, &mut rules, &mut unprotected, made);
    let rest = common(&mut map);
    inspection(&mut map);
    map.finish_protected(&mut unprotected);
    rules.keep(&name, made);
    for (at, url) in urls.into_iter().enumerate() {
        let name = if at == 0 { name.clone() } else { made.name(&name) };
        let mut entries = vec![("name".to_owned(), Out::Text(name)), ("url".to_owned(), Out::Text(url))];
        entries.push(("upstream".to_owned(), upstream.clone()));
        entries.extend(termination.clone().map(|termination| ("agent_tls_termination".to_owned(), termination)));
        entries.extend(rest.clone());
        made.push(entries, unprotected.clone());
    }
}

fn kind(map: &mut Map<'_>) -> Option<Kind> {
    let Some(item) = map.take("proto") else {
        map.note(Level::None, "has no proto: the tunnel is left out", "Say what it carries by the scheme of a url");
        return None;
    };
    let kind = match item.text()?.as_str() {
        "http" | "https" => Kind::Http,
        "tcp" => Kind::Tcp,
        "tls" => Kind::Tls,
        _ => {
            map.note(Level::None, "carries what is not known: the tunnel is left out", "http, tcp and tls are carried");
            return None;
        }
    };
    item.carried();
    Some(kind)
}

/// Takes where TLS ends; returns whether the tunnel goes on.
fn terminates(map: &mut Map<'_>, kind: Kind, ends_here: bool, unprotected: &mut Vec<String>) -> bool {
    let Some(item) = map.take("terminate_at") else { return true };
    match (item.text().as_deref(), kind) {
        (Some("edge"), Kind::Tls) => {
            map.note(
                Level::None,
                "TLS ended at ngrok: the tunnel is left out",
                "Write it as https://, or ask the vendor to end TLS; or end it here: agent_tls_termination",
            );
            return false;
        }
        (Some("agent"), _) if !ends_here => {
            item.note(
                Level::Protection,
                "TLS is to end at the agent, and there is no certificate with its key",
                "Name both in agent_tls_termination",
            );
            unprotected.push("terminate_at".to_owned());
        }
        _ => item.carried(),
    }
    true
}

fn urls(map: &mut Map<'_>, kind: Kind, leads: Option<&str>, made: &Made<'_>) -> Vec<String> {
    let schemes = schemes(map, kind);
    let (first, mut urls) = (schemes.first().copied().unwrap_or("https"), Vec::new());
    if let Some(item) = map.take("remote_addr") {
        if let Some(text) = item.text() {
            urls.extend(public(&item, &text, "tcp", made).map(|(url, _)| url));
        }
        return urls;
    }
    let named = ["url", "domain", "hostname"].into_iter().find_map(|key| map.take(key));
    if let Some(item) = named {
        for text in item.texts() {
            // A whole URL says its scheme; a name is of each.
            let each = if text.contains("://") { vec![first] } else { schemes.clone() };
            urls.extend(each.into_iter().filter_map(|scheme| Some(public(&item, &text, scheme, made)?.0)));
        }
        return urls;
    }
    if let Some(item) = map.take("subdomain") {
        let Some(label) = item.text() else { return urls };
        let domain = made.options.domain.as_deref().unwrap_or(NO_DOMAIN);
        if made.options.domain.is_none() {
            let problem = format!("below which domain is not known: below {NO_DOMAIN}");
            item.note(
                Level::Decide,
                &problem,
                "Write the domain of the vendor's network, or import with --domain DOMAIN",
            );
        }
        let url = |scheme: &&str| Some(public(&item, &format!("{label}.{domain}"), scheme, made)?.0);
        return schemes.iter().filter_map(url).collect();
    }
    if kind == Kind::Tcp {
        let port =
            leads.and_then(|leads| leads.rsplit([':', '/']).next()?.parse::<u16>().ok()).filter(|port| *port > 0);
        let port = port.unwrap_or(10_000);
        let problem = format!("ngrok chose a port: {port} is written");
        map.note(Level::Decide, &problem, "Bind a port that the vendor opens to you");
        return vec![format!("tcp://:{port}")];
    }
    schemes.iter().map(|scheme| format!("{scheme}://")).collect() // the network makes a name up
}

fn schemes(map: &mut Map<'_>, kind: Kind) -> Vec<&'static str> {
    match kind {
        Kind::Tcp => return vec!["tcp"],
        Kind::Tls => return vec!["tls"],
        Kind::Http => {}
    }
    if let Some(item) = map.take("schemes") {
        let texts = item.texts();
        let known = ["https", "http"].into_iter().filter(|scheme| texts.iter().any(|text| text == scheme));
        let known: Vec<_> = known.collect();
        if known.len() == texts.len() && !known.is_empty() {
            item.carried();
            return known;
        }
        item.note(Level::None, "not a list of http and https", "https alone is written");
        return vec!["https"];
    }
    let Some(item) = map.take("bind_tls") else { return vec!["https"] };
    item.carried();
    match item.text().as_deref() {
        Some("false") => vec!["http"],
        Some("both") => vec!["https", "http"],
        _ => vec!["https"],
    }
}

fn upstream_of(map: &mut Map<'_>, leads: &str) -> Out {
    let mut entries = vec![("url".to_owned(), Out::text(leads))];
    if let Some(item) = map.take("app_protocol") {
        protocol(&item, &mut entries);
    }
    if let Some(item) = map.take("proxy_proto") {
        proxy_protocol(&item, &mut entries);
    }
    let covered = leads.starts_with("https://") || leads.starts_with("tls://");
    let checked = map.take("verify_upstream_tls");
    let authority = map.take("verify_upstream_tls_cas");
    match (&authority, &checked) {
        (Some(item), _) if covered => {
            item.note(
                Level::Changed,
                "carried as upstream.ca: a path is relative to this agent's file",
                "Write it from the root",
            );
            if let Some(path) = item.text() {
                entries.push(("ca".to_owned(), Out::Text(path)));
            }
        }
        (Some(item), _) => item.note(Level::None, "the upstream is not spoken to in TLS", "Nothing"),
        (None, Some(item)) if item.text().as_deref() == Some("true") => item.carried(),
        (None, _) if covered => map.note(Level::Decide, UNVERIFIED, VERIFY),
        (None, _) => {}
    }
    if let Some(item) = checked {
        item.carried(); // what follows from it is told above
    }
    Out::Map(entries)
}

fn inspection(map: &mut Map<'_>) {
    if let Some(item) = map.take("inspect") {
        if item.text().as_deref() == Some("false") {
            item.carried();
        } else {
            item.note(
                Level::None,
                "nothing that is carried is kept",
                "Set agent.local.capture, if the customer's policy allows it: `adit requests`",
            );
        }
    }
    for (key, problem, remedy) in [
        (
            "websocket_tcp_converter",
            "WebSockets are carried as they are",
            "Let the service speak WebSocket, or bind tcp://",
        ),
        ("forwards_to", "shown nowhere", "Say it in description"),
        ("force_new_session", "one agent has one name", "Nothing"),
    ] {
        if let Some(item) = map.take(key) {
            item.note(Level::None, problem, remedy);
        }
    }
}

const LEFT_OUT: &str = "leads nowhere that this agent knows: the tunnel is left out";
/// What stands for a domain that is not known.
const NO_DOMAIN: &str = "your-domain.example";
