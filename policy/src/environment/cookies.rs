//! Cookies that a response sets (RFC 6265, section 5.2).

use crate::cel::{Budget, Duration, Timestamp, Value};

/// Returns the name of a cookie and all that its header says of it; nothing when it has no name.
pub(super) fn set_cookie(header: &str) -> Option<(String, usize, Value<'static>)> {
    let mut parts = header.split(';');
    let (name, value) = parts.next()?.split_once('=')?;
    let name = name.trim().to_owned();
    if name.is_empty() {
        return None;
    }
    let mut entries: Vec<(&str, Value<'static>)> =
        vec![("name", name.clone().into()), ("value", value.trim().trim_matches('"').to_owned().into())];
    let (mut domain, mut path, mut same_site) = (String::new(), String::new(), String::new());
    let (mut secure, mut http_only) = (false, false);
    let mut others: Vec<(String, String)> = Vec::new();
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let (key, value) = (key.trim(), value.trim());
        match &*key.to_ascii_lowercase() {
            "domain" => value.trim_start_matches('.').clone_into(&mut domain),
            "path" => value.clone_into(&mut path),
            "samesite" => value.clone_into(&mut same_site),
            "secure" => secure = true,
            "httponly" => http_only = true,
            "expires" => entries.extend(date(value).map(|time| ("expires", Value::Timestamp(time)))),
            "max-age" => {
                let nanos = value.parse::<i64>().ok().map(|seconds| seconds.saturating_mul(1_000_000_000));
                entries.extend(nanos.map(|nanos| ("max_age", Value::Duration(Duration::from_nanos(nanos)))));
            }
            "" => {}
            _ if others.iter().any(|(other, _)| other == key) => {}
            _ => others.push((key.to_owned(), value.to_owned())),
        }
    }
    // Of a key twice the last counts, as for browsers.
    let mut seen: Vec<(&str, Value<'static>)> = Vec::new();
    for entry in entries.into_iter().rev() {
        if !seen.iter().any(|(name, _)| *name == entry.0) {
            seen.push(entry);
        }
    }
    let length = path.len();
    seen.extend([
        ("domain", domain.into()),
        ("path", path.into()),
        ("same_site", same_site.into()),
        ("secure", Value::Bool(secure)),
        ("http_only", Value::Bool(http_only)),
    ]);
    // Made once a response, from a header that the edge has bounded: no evaluation pays for it.
    let mut free = Budget::new(u64::MAX, u64::MAX);
    let others = others.into_iter().map(|(key, value)| (Value::from(key), Value::from(value))).collect();
    seen.push(("unparsed_attributes", Value::map(others, &mut free).ok()?));
    let entries = seen.into_iter().map(|(key, value)| (Value::from(key), value)).collect();
    Some((name, length, Value::map(entries, &mut free).ok()?))
}

/// Reads a date as headers have it: `Wed, 09 Jun 2021 10:18:14 GMT`, with dashes perhaps.
fn date(text: &str) -> Option<Timestamp> {
    let (_, rest) = text.split_once(", ")?;
    let mut parts = rest.split([' ', '-']);
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let year = match (year.len(), year.parse::<u32>().ok()?) {
        (2, year @ 0..70) => 2_000 + year,
        (2, year) => 1_900 + year,
        (_, year) => year,
    };
    Timestamp::parse(&format!("{year:04}-{month:02}-{day:0>2}T{time}Z")).ok()
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
