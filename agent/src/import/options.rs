//! The options of the agent itself: `agent` of form 3, the root of the older ones.

use core::{net::IpAddr, time::Duration};

use adit_tokio::Proxy;

use super::{
    Level, Options,
    theirs::{Item, Map},
    write::Out,
};

/// Reads them, and returns the keys of `agent`.
pub(super) fn read(map: &mut Map<'_>, options: &Options) -> Vec<(String, Out)> {
    let mut agent = Vec::new();
    if let Some(url) = &options.connect_url {
        agent.push(("connect_url".to_owned(), Out::text(url)));
    }
    roots(map, &mut agent);
    token(map, options, &mut agent);
    heartbeat(map, &mut agent);
    log(map, &mut agent);
    if let Some(item) = map.take("metadata") {
        bounded(&item, "metadata", 4_096, &mut agent);
    }
    remote_management(map);
    proxy(map, options, &mut agent);
    resolvers(map, &mut agent);
    for (key, level, problem, remedy) in TABLE {
        if let Some(item) = map.take(key) {
            item.note(*level, problem, remedy);
        }
    }
    agent
}

/// Takes a text that may be too long.
pub(super) fn bounded(item: &Item<'_>, key: &str, most: usize, entries: &mut Vec<(String, Out)>) {
    let Some(text) = item.text() else { return };
    if text.len() <= most {
        item.carried();
        entries.push((key.to_owned(), Out::Text(text)));
    } else {
        let problem = format!("longer than the {most} octets that are carried");
        item.note(Level::None, &problem, "Write something shorter");
    }
}

/// Says what a path means here.
pub(super) fn located(item: &Item<'_>, path: &str) {
    if path.starts_with('/') {
        item.carried();
    } else {
        let problem = "carried: a path is relative to this agent's file, not to where it is started";
        item.note(Level::Changed, problem, "Write it from the root");
    }
}

fn roots(map: &mut Map<'_>, agent: &mut Vec<(String, Out)>) {
    let Some(item) = map.take_any(&["connect_cas", "root_cas"]) else { return };
    match item.text().as_deref() {
        Some("trusted") => {
            let remedy = "Put the vendor's roots into agent.connect_ca_pem, or name their file in agent.connect_cas; without, the store of this machine decides";
            item.note(Level::Decide, "ngrok's own root is not the vendor's", remedy);
        }
        Some("host") => {
            item.carried();
            agent.push(("connect_cas".to_owned(), Out::text("host")));
        }
        Some(path) => {
            let remedy = "If it is the root of an inspecting proxy, add the vendor's root to it; if it is not, name the vendor's. A path is relative to this agent's file";
            item.note(Level::Changed, "carried as agent.connect_cas: only what that file trusts is trusted", remedy);
            agent.push(("connect_cas".to_owned(), Out::text(path)));
        }
        None => {}
    }
}

fn token(map: &mut Map<'_>, options: &Options, agent: &mut Vec<(String, Out)>) {
    let Some(item) = map.take("authtoken") else { return };
    let Some(text) = item.text() else { return };
    if !options.keep_authtoken {
        let remedy = "Put the vendor's token there: adit config add-authtoken";
        item.note(Level::Decide, "a credential for ngrok's network, not carried", remedy);
    } else if text.is_empty() || text.len() > 512 || text.chars().any(char::is_control) {
        item.note(Level::Decide, "not a token", "Put the vendor's token there: adit config add-authtoken");
    } else {
        item.note(Level::Changed, "carried, as was asked", "Make sure that it is a token of the vendor's network");
        agent.push(("authtoken".to_owned(), Out::Text(text)));
    }
}

fn heartbeat(map: &mut Map<'_>, agent: &mut Vec<(String, Out)>) {
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
    let mut interval = Duration::from_secs(10);
    if let Some(asked) = map.take("heartbeat_interval").and_then(|item| time(&item, second, hour)) {
        interval = asked;
        agent.push(("heartbeat_interval".to_owned(), shown(asked)));
    }
    let least = interval / 2;
    if let Some(tolerance) = map.take("heartbeat_tolerance").and_then(|item| time(&item, least, hour)) {
        agent.push(("heartbeat_tolerance".to_owned(), shown(tolerance)));
    }
}

/// Takes a time, brought between two others.
fn time(item: &Item<'_>, least: Duration, most: Duration) -> Option<Duration> {
    let text = item.text()?;
    let Some(asked) = duration(&text) else {
        item.refuse("not a time such as 10s or 1m30s");
        return None;
    };
    let taken = asked.clamp(least, most);
    if taken == asked {
        item.carried();
    } else {
        let problem = format!("brought to {taken:?}: it is from {least:?} to {most:?} here");
        item.note(Level::Changed, &problem, "Nothing, if that will do");
    }
    Some(taken)
}

fn shown(time: Duration) -> Out {
    let (seconds, rest) = (time.as_secs(), time.subsec_millis());
    Out::Text(if rest == 0 { format!("{seconds}s") } else { format!("{}ms", time.as_millis()) })
}

/// Reads a time as Go writes it: `10s`, `1m30s`, `1.5h`, to the millisecond.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok().filter(|number| *number < 1e9)?;
        sum = sum.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
        rest = next;
    }
    (!text.is_empty()).then(|| Duration::from_millis(u64::try_from(sum.as_millis()).unwrap_or(u64::MAX)))
}

fn log(map: &mut Map<'_>, agent: &mut Vec<(String, Out)>) {
    if let Some(item) = map.take("log") {
        match item.text().as_deref() {
            Some("false") => {
                item.carried();
                agent.push(("log".to_owned(), Out::text("off")));
            }
            Some(known @ ("stdout" | "stderr")) => {
                item.carried();
                agent.push(("log".to_owned(), Out::text(known)));
            }
            Some("" | "true") | None => {
                item.note(Level::None, "names no file", "Say agent.log: stderr, stdout, off or a file")
            }
            Some(path) => {
                located(&item, path);
                agent.push(("log".to_owned(), Out::text(path)));
            }
        }
    }
    if let Some(item) = map.take("log_level") {
        match item.text().as_deref() {
            Some("crit") => {
                item.note(Level::Changed, "written as error: there is no level above it", "Nothing, if that will do");
                agent.push(("log_level".to_owned(), Out::text("error")));
            }
            Some(known @ ("error" | "warn" | "info" | "debug")) => {
                item.carried();
                agent.push(("log_level".to_owned(), Out::text(known)));
            }
            Some(_) => item.note(Level::None, "not a level", "Say agent.log_level: error, warn, info, debug or trace"),
            None => {}
        }
    }
    if let Some(item) = map.take("log_format") {
        match item.text().as_deref() {
            Some(known @ ("term" | "logfmt" | "json")) => {
                item.carried();
                agent.push(("log_format".to_owned(), Out::text(known)));
            }
            Some(_) => item.note(Level::None, "not a form", "Say agent.log_format: term, logfmt or json"),
            None => {}
        }
    }
}

fn proxy(map: &mut Map<'_>, options: &Options, agent: &mut Vec<(String, Out)>) {
    for key in ["proxy_url", "http_proxy", "socks5_proxy"] {
        let Some(item) = map.take(key) else { continue };
        let Some(url) = item.text() else { continue };
        if url.is_empty() || url == "false" {
            item.carried();
        } else if Proxy::parse(&url).is_err() {
            item.note(
                Level::None,
                "not a proxy's URL",
                "Set agent.proxy_url: http://, https:// or socks5:// and host:port",
            );
        } else if agent.iter().any(|(key, _)| key == "proxy_url") {
            item.note(
                Level::None,
                "there is one way to the network: another proxy is carried",
                "Choose one: agent.proxy_url",
            );
        } else if url.contains('@') && !options.secrets {
            item.note(
                Level::Decide,
                "holds a password: carried with --out alone",
                "Set agent.proxy_url, or import with --out FILE",
            );
        } else {
            item.carried();
            agent.push(("proxy_url".to_owned(), Out::Text(url)));
        }
    }
}

fn resolvers(map: &mut Map<'_>, agent: &mut Vec<(String, Out)>) {
    let Some(item) = map.take("dns_resolver_ips") else { return };
    let texts = item.texts();
    if texts.len() > 8 || texts.iter().any(|text| text.parse::<IpAddr>().is_err()) {
        item.note(Level::None, "not at most 8 addresses", "Set agent.dns_resolver_ips");
    } else {
        item.carried();
        agent.push(("dns_resolver_ips".to_owned(), Out::texts(texts)));
    }
}

fn remote_management(map: &mut Map<'_>) {
    let Some(item) = map.take("remote_management") else { return };
    if item.text().as_deref() == Some("false") {
        item.carried(); // nothing is allowed unless it is said
        return;
    }
    let remedy = "Allow what is wanted, one by one: agent.remote_management.stop, restart, update";
    item.note(Level::Decide, "not carried: no remote command is accepted unless its own key says so", remedy);
}

/// What there is not, or is found elsewhere.
const TABLE: &[(&str, Level, &str, &str)] = &[
    (
        "api_key",
        Level::None,
        "a credential for ngrok's interface, not carried",
        "Ask the vendor for one, if their network has an interface that you need",
    ),
    ("connect_url", Level::Decide, "ngrok's network, not carried", NETWORK),
    ("connect_urls", Level::Decide, "ngrok's network, not carried", NETWORK),
    ("server_addr", Level::Decide, "ngrok's network, not carried", NETWORK),
    ("region", Level::None, "the network that is dialed decides the region", NETWORK),
    (
        "connect_interface",
        Level::None,
        "the system chooses the interface",
        "Route the network's address over the interface that is wanted",
    ),
    (
        "connect_timeout",
        Level::None,
        "fixed here: each address is tried for a bounded time, and then the next",
        "Nothing",
    ),
    (
        "console_ui",
        Level::None,
        "the state is shown when standard output is a terminal and the log does not go there",
        "To have lines instead, set agent.log: stderr",
    ),
    ("console_ui_color", Level::None, "there is no colour to choose", "Nothing; NO_COLOR is respected"),
    (
        "compress_conn",
        Level::None,
        "the connection to the network is not compressed",
        "Nothing: what is carried compresses itself",
    ),
    (
        "trust_host_root_certs",
        Level::Changed,
        "not carried",
        "Set agent.connect_cas: host, if the store of this machine is to decide",
    ),
    (
        "crl_noverify",
        Level::None,
        "not carried: this agent decides about revocation by keys of its own",
        "Choose agent.crl: require, prefer-stapled or off",
    ),
    ("crl_url", Level::None, "ngrok's list of revoked certificates, not carried", "agent.crl_url names the vendor's"),
    (
        "inspect_db_size",
        Level::None,
        "nothing that is carried is kept",
        "Set agent.local.capture, if the customer's policy allows it: `adit requests`",
    ),
    (
        "local_storage",
        Level::None,
        "nothing that is carried is kept",
        "Set agent.local.capture, if the customer's policy allows it: `adit requests`",
    ),
    (
        "web_addr",
        Level::None,
        "no page is served on a port of this machine",
        "`adit status` asks the agent; over TCP, with a token: agent.local.address",
    ),
    ("web_allow_hosts", Level::None, "no page is served on a port of this machine", "Nothing"),
    ("update", Level::None, UPDATE, UPDATE_REMEDY),
    ("update_check", Level::None, UPDATE, UPDATE_REMEDY),
    ("update_channel", Level::None, UPDATE, UPDATE_REMEDY),
];

const NETWORK: &str =
    "Import with --connect-url HOST:PORT, or set agent.connect_url to where the vendor's network listens";
const UPDATE: &str = "not carried: where new versions are, and who signs them, is for the vendor to say";
const UPDATE_REMEDY: &str =
    "Ask the vendor for agent.update; `updates` in the customer's policy says what happens unasked";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_theirs_is_understood() {
        let ms = Duration::from_millis;
        for (text, time) in [
            ("10s", ms(10_000)),
            ("1m30s", ms(90_000)),
            ("1.5h", ms(5_400_000)),
            ("500ms", ms(500)),
            ("1h0m0s", ms(3_600_000)),
            ("0", ms(0)),
        ] {
            assert_eq!(duration(text), Some(time), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1d", "1..s", "1s5"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
