//! URLs of servers, and what redirects make of them.

use core::fmt::Write as _;

use http::{Uri, uri::Authority};

/// Reads an absolute URL of `http` or `https`; what stands after `#` is for nobody.
pub(super) fn parse(text: &str) -> Option<Uri> {
    let text = text.split('#').next().unwrap_or_default();
    let uri: Uri = text.parse().ok()?;
    let scheme = uri.scheme_str()?;
    let host = uri.authority().map(Authority::host).unwrap_or_default();
    (matches!(scheme, "http" | "https") && !host.is_empty()).then_some(uri)
}

/// Adds parameters to the query.
pub(super) fn with_query(uri: &Uri, parameters: &[(&str, String)]) -> Option<Uri> {
    let mut text = uri.to_string();
    let mut mark = if uri.query().is_some() { '&' } else { '?' };
    for (name, value) in parameters {
        text.push(mark);
        escape(&mut text, name);
        text.push('=');
        escape(&mut text, value);
        mark = '&';
    }
    text.parse().ok()
}

fn escape(out: &mut String, text: &str) {
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            let _ = write!(out, "%{octet:02X}");
        }
    }
}

/// Returns where a redirect leads (RFC 3986, section 5.2).
pub(super) fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    if let Some(uri) = parse(location) {
        return Some(uri);
    }
    let scheme = base.scheme_str()?;
    if let Some(rest) = location.strip_prefix("//") {
        return parse(&format!("{scheme}://{rest}"));
    }
    let authority = base.authority()?;
    let (path, query) = match location.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (location, None),
    };
    if path.split('/').next().is_some_and(|first| first.contains(':')) {
        return None; // another scheme
    }
    let whole = match path {
        "" => base.path().to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("{}/{path}", base.path().rsplit_once('/').map_or("", |(folder, _)| folder)),
    };
    let query = query.or_else(|| base.query().filter(|_| path.is_empty()));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    parse(&format!("{scheme}://{authority}{}{query}", without_dots(&whole)))
}

fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let mut last = false;
    for part in path.split('/').skip(1) {
        last = matches!(part, "." | "..");
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let slash = if last && !parts.is_empty() { "/" } else { "" };
    format!("/{}{slash}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_where_its_location_says() {
        let base = parse("https://a.example:8443/one/two?x").unwrap();
        for (location, expected) in [
            ("http://b.example/", Some("http://b.example/")),
            ("https://b.example/a#b", Some("https://b.example/a")),
            ("//b.example/a", Some("https://b.example/a")),
            ("/a/./b/../c", Some("https://a.example:8443/a/c")),
            ("/../../a/..", Some("https://a.example:8443/")),
            ("/a/b/..", Some("https://a.example:8443/a/")),
            ("three?y", Some("https://a.example:8443/one/three?y")),
            ("?y", Some("https://a.example:8443/one/two?y")),
            ("", Some("https://a.example:8443/one/two?x")),
            ("file:///etc/passwd", None),
            ("javascript:x", None),
            ("http:///x", None),
            ("http://", None),
            ("/a b", None),
        ] {
            assert_eq!(join(&base, location).map(|uri| uri.to_string()).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn parameters_are_escaped() {
        let uri = with_query(&parse("http://a.example/b?c=d").unwrap(), &[("e&", "f=#".into()), ("g", "ä".into())]);
        assert_eq!(uri.unwrap(), "http://a.example/b?c=d&e%26=f%3D%23&g=%C3%A4");
        let uri = with_query(&parse("http://a.example").unwrap(), &[("x", String::new())]);
        assert_eq!(uri.unwrap(), "http://a.example/?x=");
    }
}
