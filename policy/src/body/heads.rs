//! What heads say of bodies, and what they must say of bodies that are changed.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::negotiate::{Algorithm, negotiate};

/// Why a body cannot be searched. It is refused: who replaces something wants it gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is of a coding that is not inflated, or of several.
    Coding,
    /// It is a part of something: what is looked for may be cut in two.
    Partial,
}

/// Says in the head of a request that its body is another one. Returns how the body is to be inflated first.
///
/// # Errors
/// [`Refused`]; the head stays as it is.
pub fn request_to_replace(headers: &mut HeaderMap) -> Result<Option<Algorithm>, Refused> {
    let coding = coding(headers)?;
    if headers.contains_key(header::CONTENT_RANGE) {
        return Err(Refused::Partial);
    }
    forget(headers);
    headers.remove(header::CONTENT_ENCODING);
    Ok(coding)
}

/// Says in the head of an answer that its body is another one. Returns how the body is to be inflated first, if there is one.
///
/// # Errors
/// [`Refused`]; the head stays as it is.
pub fn answer_to_replace(
    method: &Method,
    status: StatusCode,
    headers: &mut HeaderMap,
) -> Result<Option<Algorithm>, Refused> {
    if status == StatusCode::PARTIAL_CONTENT || headers.contains_key(header::CONTENT_RANGE) {
        return Err(Refused::Partial);
    }
    if !has_content(method, status) && method != Method::HEAD {
        weaken(headers);
        return Ok(None);
    }
    let coding = coding(headers)?;
    forget(headers);
    headers.remove(header::CONTENT_ENCODING);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    Ok(coding)
}

/// Returns whether the content is a stream of events.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|kind| kind.eq_ignore_ascii_case("text/event-stream"))
}

/// What `compress-response` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// The codings that may be chosen, the one first that is preferred where the caller prefers none.
    pub algorithms: Vec<Algorithm>,
    /// The types of content that are compressed; as `text/*` all of a kind, and as `*+json` all of a suffix.
    pub content_types: Vec<String>,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            algorithms: vec![Algorithm::Gzip, Algorithm::Deflate, Algorithm::Brotli],
            content_types: COMPRESSIBLE.iter().map(|it| String::from(*it)).collect(),
        }
    }
}

/// What is worth it, when nothing else is said. What is compressed already is not.
const COMPRESSIBLE: &[&str] = &[
    "text/*",
    "application/json",
    "application/javascript",
    "application/x-javascript",
    "application/xml",
    "application/x-ndjson",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "font/ttf",
    "font/otf",
    "image/svg+xml",
    "image/x-icon",
    "image/bmp",
    "*+json",
    "*+xml",
    "*+text",
];

/// An answer shorter than this gains nothing.
const WORTH: u64 = 256;

/// Decides whether an answer is compressed for a caller that accepts `accepted`, and says so in its head.
pub fn answer_to_compress(
    compression: &Compression,
    method: &Method,
    status: StatusCode,
    accepted: &HeaderMap,
    headers: &mut HeaderMap,
) -> Option<Algorithm> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let worth = length.is_none_or(|length| length >= WORTH);
    let partial = status == StatusCode::PARTIAL_CONTENT || headers.contains_key(header::CONTENT_RANGE);
    let kind = media_type(headers).is_some_and(|kind| compression.content_types.iter().any(|it| fits(it, kind)));
    let encoded = headers.get_all(header::CONTENT_ENCODING).iter().any(|value| value != "identity");
    if !has_content(method, status) || partial || !worth || !kind || encoded || is_kept(headers) {
        return None;
    }
    // A cache must know it also when this caller accepts none.
    vary(headers);
    let accepted = accepted.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let algorithm = negotiate(accepted, &compression.algorithms)?;
    forget(headers);
    headers.remove(header::ACCEPT_RANGES);
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(algorithm.name()));
    Some(algorithm)
}

/// Returns whether an answer has content.
fn has_content(method: &Method, status: StatusCode) -> bool {
    let none = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
    method != Method::HEAD && !status.is_informational() && !none.contains(&status)
}

/// Returns the one coding of a body; nothing when it has none.
fn coding(headers: &HeaderMap) -> Result<Option<Algorithm>, Refused> {
    let mut codings = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let text = value.to_str().map_err(|_| Refused::Coding)?;
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        codings.extend(names.filter(|name| !name.eq_ignore_ascii_case("identity")));
    }
    match &*codings {
        [] => Ok(None),
        [one] => Algorithm::named(one).map(Some).ok_or(Refused::Coding),
        [_, _, ..] => Err(Refused::Coding),
    }
}

/// Removes what is true only of the body that was.
fn forget(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    for name in ["content-md5", "digest", "content-digest", "repr-digest"] {
        headers.remove(HeaderName::from_static(name));
    }
    weaken(headers);
}

/// Makes the tag of an answer a weak one: what it names is no longer the same octet for octet (RFC 9110, section 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG) else { return };
    if tag.as_bytes().starts_with(b"W/") {
        return;
    }
    let weak = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat());
    match weak {
        Ok(weak) if tag.as_bytes().starts_with(b"\"") => headers.insert(header::ETAG, weak),
        _ => headers.remove(header::ETAG),
    };
}

/// Returns whether an upstream forbids to change the content.
fn is_kept(headers: &HeaderMap) -> bool {
    let directives = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    directives.flat_map(|value| value.split(',')).any(|it| it.trim().eq_ignore_ascii_case("no-transform"))
}

fn vary(headers: &mut HeaderMap) {
    let there = headers.get_all(header::VARY).iter().filter_map(|value| value.to_str().ok());
    let says = |name: &str| name.trim() == "*" || name.trim().eq_ignore_ascii_case("accept-encoding");
    if !there.flat_map(|value| value.split(',')).any(says) {
        headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

fn fits(pattern: &str, kind: &str) -> bool {
    let (pattern, kind) = (pattern.as_bytes(), kind.as_bytes());
    match (pattern, pattern.split_last()) {
        ([b'*', suffix @ ..], _) => {
            kind.len().checked_sub(suffix.len()).is_some_and(|at| kind[at..].eq_ignore_ascii_case(suffix))
        }
        (_, Some((b'*', prefix))) => kind.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix)),
        _ => pattern.eq_ignore_ascii_case(kind),
    }
}
