//! What `redirect` and `url-rewrite` make of a URL.
//!
//! A pattern is looked for in the whole URL (`https://a.example/b?c`), and each match is replaced. Without a pattern, the whole is
//! replaced. What comes out is a URL of `http` or `https`: a path alone is one of the same authority. Characters that no URL has are
//! escaped.

use core::fmt::Write;

use http::Uri;

use super::Config;
use crate::{
    cel::{Pattern, Value},
    document::{Node, Template},
    engine::{Failure, Turn},
};

/// A pattern and what replaces its matches.
#[derive(Debug)]
pub(super) struct Location {
    from: Option<From>,
    to: Template,
}

/// A pattern: made once, or of a text that is rendered for each request.
#[derive(Debug)]
enum From {
    Pattern(Pattern),
    Text(Template),
}

/// What has become of a URL.
pub(super) struct Located {
    /// The URL, absolute.
    pub(super) uri: Uri,
    /// What stands after its `#`, with it; no server gets it.
    pub(super) fragment: String,
    /// Whether it is another one.
    pub(super) changed: bool,
}

impl Location {
    pub(super) fn read<'n>(
        config: &mut Config<'_, '_, 'n>,
        from: Option<&'n Node>,
        to: Option<&'n Node>,
    ) -> Option<Self> {
        let from = from.map(|node| {
            let template = config.template("from", node)?;
            Some(match template.constant() {
                Some(text) => From::Pattern(config.pattern("from", node, text)?),
                None => From::Text(template),
            })
        });
        let to = config.required("to", to)?;
        let to = config.template("to", to);
        match from {
            Some(None) => None,
            Some(from) => Some(Self { from, to: to? }),
            None => Some(Self { from: None, to: to? }),
        }
    }

    /// Returns what becomes of the URL of the request, and tells it.
    pub(super) fn locate(&self, turn: &mut Turn<'_, '_>, action: &'static str) -> Result<Located, Failure> {
        let to = turn.render(&self.to)?;
        let text = match &self.from {
            Some(From::Text(template)) => Some(turn.render(template)?),
            Some(From::Pattern(_)) | None => None,
        };
        let request = turn.facts.request().ok_or(Failure::Url)?;
        let (scheme, authority, url) = (request.head().scheme, request.head().authority, request.url());
        let (made, matches) = match (&self.from, text) {
            (Some(From::Pattern(pattern)), _) => pattern.replace(url, &to, turn.budget),
            (_, Some(text)) => {
                Pattern::made(&text, turn.budget).and_then(|pattern| pattern.replace(url, &to, turn.budget))
            }
            (_, None) => Ok((to, vec![url.to_owned()])),
        }
        .map_err(Failure::of)?;
        let changed = made != url;
        let (whole, fragment) = made.split_at(made.find('#').unwrap_or(made.len()));
        let uri = absolute(whole, scheme, authority)?;
        let fragment = fragment.strip_prefix('#').map(|text| format!("#{}", escaped(text))).unwrap_or_default();
        if turn.tells() {
            let matches = turn.list(matches.into_iter().map(Value::from).collect())?;
            turn.tell(action, [("matches", matches), ("url", Value::from(format!("{uri}{fragment}")))])?;
        }
        Ok(Located { uri, fragment, changed })
    }
}

/// Returns a URL with its scheme and authority. One that lost its authority, as `https:///a` or `/a`, keeps the one it had.
fn absolute(url: &str, scheme: &str, authority: &str) -> Result<Uri, Failure> {
    let url = escaped(url);
    let rest = ["https://", "http://"].iter().find_map(|begin| url.strip_prefix(begin));
    let whole = match rest {
        Some(rest) if rest.starts_with('/') => format!("{scheme}://{authority}{rest}"),
        Some(_) => url,
        None if url.starts_with('/') => format!("{scheme}://{authority}{url}"),
        None => return Err(Failure::Url),
    };
    let uri: Uri = whole.parse().map_err(|_| Failure::Url)?;
    let climbs =
        uri.path().split('/').any(|part| matches!(&*part.to_ascii_lowercase().replace("%2e", "."), "." | ".."));
    if climbs { Err(Failure::Url) } else { Ok(uri) }
}

/// Escapes what no URL has (RFC 3986, section 2): a caller may have sent it in what was rendered.
fn escaped(url: &str) -> String {
    let mut whole = String::with_capacity(url.len());
    for octet in url.bytes() {
        match octet {
            b'!' | b'$'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~' => whole.push(char::from(octet)),
            _ => _ = write!(whole, "%{octet:02X}"),
        }
    }
    whole
}
