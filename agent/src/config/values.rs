//! How single values are written: times, numbers, addresses, endpoints.

use core::time::Duration;

use adit_tokio::Target;
use tracing_subscriber::filter::Targets;

/// Reads a time with its unit: `500ms`, `10s`, `1.5s`, `2m`, `1h`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3_600),
        _ => return None,
    };
    let factor: f64 = number.parse().ok()?;
    (factor <= 1e6).then(|| unit.mul_f64(factor))
}

/// Reads a count, which may be written `10_000`.
pub(crate) fn count(text: &str) -> Option<usize> {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    digits.parse().ok()
}

/// Reads `true` or `false`.
pub(crate) fn flag(text: &str) -> Option<bool> {
    text.parse().ok()
}

/// Reads where a network listens for agents: `host`, `host:port`, `[::1]:port`; port 443 unless said otherwise.
pub(crate) fn target(text: &str) -> Option<Target> {
    let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("tls://")).unwrap_or(text);
    let (host, port) = host_port(text.strip_suffix('/').unwrap_or(text))?;
    Some(Target { host, port: port.unwrap_or(443) })
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port`; the host comes without brackets.
pub(crate) fn host_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<core::net::Ipv6Addr>().ok()?;
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let is_name = !host.is_empty() && host.len() <= 253 && (text.starts_with('[') || host.bytes().all(fine));
    let port = match port {
        Some(port) => Some(self::port(port)?),
        None => None,
    };
    is_name.then(|| (host.to_owned(), port))
}

/// Reads a port that can be dialed.
pub(crate) fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|port| *port != 0)
}

/// Reads what to log: a level, or levels by module.
pub(crate) fn log_filter(text: &str) -> Option<Targets> {
    let levels = ["error", "warn", "info", "debug", "trace", "off"];
    let word = |part: &str| {
        let (module, level) = part.split_once('=').unwrap_or(("all", part));
        !module.is_empty() && !module.contains('[') && levels.contains(&level)
    };
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    parts.iter().all(|part| word(part)).then(|| parts.join(",").parse().ok()).flatten()
}

/// What an endpoint carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTP, with or without TLS on the public side.
    Http,
    /// TLS that the network passes through.
    Tls,
    /// TCP.
    Tcp,
}

/// Writes an endpoint's URL as the network wants it; without a scheme it is one of `kind`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn endpoint_url(text: &str, kind: Option<Kind>) -> Result<(String, Kind), &'static str> {
    let (scheme, rest) = match (text.split_once("://"), kind) {
        (Some((scheme, rest)), _) => (scheme.to_ascii_lowercase(), rest),
        (None, Some(Kind::Http)) => ("https".to_owned(), text),
        (None, Some(Kind::Tls)) => ("tls".to_owned(), text),
        (None, Some(Kind::Tcp)) => ("tcp".to_owned(), text),
        (None, None) => return Err("has no scheme: begin it with https://, http://, tls:// or tcp://"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let found = match scheme.as_str() {
        "http" | "https" => Kind::Http,
        "tls" => Kind::Tls,
        "tcp" => Kind::Tcp,
        _ => return Err("has an unknown scheme: https, http, tls and tcp are known"),
    };
    if kind.is_some_and(|kind| kind != found) {
        return Err("is not of the kind that was asked for");
    }
    if found == Kind::Tcp {
        let at = rest.rsplit_once(':').map_or(rest, |(_, port)| port);
        let port = port(at).ok_or("names no port: write tcp://:5432")?;
        let host = rest.rsplit_once(':').map_or("", |(host, _)| host);
        if !host.is_empty() && !is_host(host) {
            return Err(NO_HOST);
        }
        return Ok((format!("tcp://{host}:{port}"), found));
    }
    if rest.contains(['/', '?', '#', '@', ':', ' ']) {
        return Err("is more than a name: a port, path, query or user cannot be bound");
    }
    if !rest.is_empty() && !is_host(rest.strip_prefix("*.").unwrap_or(rest)) {
        return Err(NO_HOST);
    }
    Ok((format!("{scheme}://{rest}"), found))
}

/// Returns whether nothing stands there that a host name or an address does not have.
fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return address.parse::<core::net::Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
}

const NO_HOST: &str = "is no host name: write letters, digits, `-`, `_` and `.`, with `*.` before it for all below one";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_needs_its_unit() {
        let ms = Duration::from_millis;
        for (text, time) in [("500ms", ms(500)), ("10s", ms(10_000)), ("1.5s", ms(1_500)), ("2m", ms(120_000))] {
            assert_eq!(duration(text), Some(time), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1d", "..s", "1e3s", "99999999h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_target_is_a_host_and_a_port() {
        let target = |host: &str, port| Some(Target { host: host.into(), port });
        assert_eq!(super::target("localhost:4443"), target("localhost", 4443));
        assert_eq!(super::target("connect.example.com"), target("connect.example.com", 443));
        assert_eq!(super::target("https://connect.example.com/"), target("connect.example.com", 443));
        assert_eq!(super::target("[::1]:4443"), target("::1", 4443));
        for text in ["", ":4443", "a:0", "a:70000", "a:+1", "a b", "a/b", "::1", "[::1", "http://a"] {
            assert_eq!(super::target(text), None, "{text}");
        }
    }

    #[test]
    fn an_endpoint_is_written_as_the_network_wants_it() {
        let table = [
            ("crm.example.com", Some(Kind::Http), "https://crm.example.com"),
            ("http://crm.example.com/", Some(Kind::Http), "http://crm.example.com"),
            ("HTTPS://*.example.com", None, "https://*.example.com"),
            ("db.example.com", Some(Kind::Tls), "tls://db.example.com"),
            ("5432", Some(Kind::Tcp), "tcp://:5432"),
            (":5432", Some(Kind::Tcp), "tcp://:5432"),
            ("tcp://db.example.com:5432", None, "tcp://db.example.com:5432"),
        ];
        for (text, kind, url) in table {
            assert_eq!(endpoint_url(text, kind).map(|(url, _)| url), Ok(url.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_bound_is_told_at_once() {
        for (text, kind) in [
            ("crm.example.com", None),
            ("ftp://a.com", None),
            ("tcp://", None),
            ("tcp://db", None),
            ("https://a.com:444", None),
            ("https://u@a.com", None),
            ("https://a.com/x", None),
            ("tcp://:1", Some(Kind::Http)),
            ("https://a\u{1b}[2J.com", None),
            ("https://a\nb.com", None),
            ("https://b\u{fc}cher.com", None),
            ("https://a..com", None),
            ("https://.", None),
            ("https://a.*.com", None),
            ("https://[::1", None),
            ("tcp://a\u{7}:1", None),
        ] {
            assert!(endpoint_url(text, kind).is_err(), "{text}");
        }
    }

    #[test]
    fn a_filter_is_a_level_or_levels_by_module() {
        for text in ["info", "debug", "info,adit=trace", " warn , adit::relay=debug", "off"] {
            assert!(log_filter(text).is_some(), "{text}");
        }
        for text in
            ["", "loud", "info,", "adit=loud", "=info", "adit=1", "adit=info=info", "adit[{x}]=info", "adit[span]=info"]
        {
            assert!(log_filter(text).is_none(), "{text}");
        }
    }
}
