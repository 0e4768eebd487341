//! Named values, of which a name may have several: headers, parameters of a query, cookies.

use core::ops::Range;
use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, header};

use super::cookies::set_cookie;
use crate::cel::{Budget, List, Map, MapSource, Value};

/// Named values, found by name in the logarithm of their number; the values of one name are in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    /// Whether a name is found in whatever case it is written: those of headers, which are in lower case here.
    caseless: bool,
    /// Each name once, sorted, and which values it has.
    names: Vec<(Cow<'a, str>, Range<usize>)>,
    values: Vec<Value<'a>>,
}

impl<'a> Fields<'a> {
    /// Takes headers. Octets of a value that are not UTF-8 are seen as U+FFFD, so that a header is seen whatever it has.
    pub(super) fn headers(headers: &'a HeaderMap) -> Self {
        let text = |value: &'a HeaderValue| string(String::from_utf8_lossy(value.as_bytes()));
        let fields = Self::new(headers.iter().map(|(name, value)| (Cow::Borrowed(name.as_str()), text(value))));
        Self { caseless: true, ..fields }
    }

    /// Takes the parameters of a query, decoded. An escape that is none stays as it is written.
    pub(super) fn query(query: &'a str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self::new(pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), string(decoded(value)))
        }))
    }

    /// Takes the cookies that a response sets; of equal names, that of the longest path first.
    pub(super) fn set_cookies(headers: &'a HeaderMap) -> Self {
        let read = |value: &HeaderValue| set_cookie(&String::from_utf8_lossy(value.as_bytes()));
        let mut cookies: Vec<_> = headers.get_all(header::SET_COOKIE).iter().filter_map(read).collect();
        cookies.sort_by_key(|(_, path, _)| core::cmp::Reverse(*path));
        Self::new(cookies.into_iter().map(|(name, _, cookie)| (Cow::Owned(name), cookie)))
    }

    /// Takes the cookies of a request.
    pub(super) fn cookies(headers: &'a HeaderMap) -> Self {
        let mut cookies = Vec::new();
        for header in headers.get_all(header::COOKIE) {
            match String::from_utf8_lossy(header.as_bytes()) {
                Cow::Borrowed(text) => {
                    cookies.extend(pairs(text).map(|(name, value)| (Cow::Borrowed(name), cookie(name, value))));
                }
                Cow::Owned(text) => cookies.extend(pairs(&text).map(|(name, value)| {
                    let made = cookie(String::from(name), String::from(value));
                    (Cow::Owned(name.into()), made)
                })),
            }
        }
        Self::new(cookies)
    }

    fn new(pairs: impl IntoIterator<Item = (Cow<'a, str>, Value<'a>)>) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_by(|(one, _), (other, _)| one.cmp(other)); // stable: the values of a name stay in order
        let (names, values) = (Vec::with_capacity(pairs.len()), Vec::with_capacity(pairs.len()));
        let mut fields = Self { caseless: false, names, values };
        for (name, value) in pairs {
            let at = fields.values.len();
            match fields.names.last_mut() {
                Some((last, range)) if *last == name => range.end = at + 1,
                _ => fields.names.push((name, at..at + 1)),
            }
            fields.values.push(value);
        }
        fields
    }

    pub(super) fn value(&self) -> Value<'_> {
        Value::Map(Map::Source(self))
    }

    /// Returns the values of a name.
    fn of(&self, name: &str) -> &[Value<'a>] {
        let at = self.names.binary_search_by(|(other, _)| (**other).cmp(name)).ok();
        let range = at.and_then(|at| self.names.get(at)).map_or(0..0, |(_, range)| range.clone());
        self.values.get(range).unwrap_or_default()
    }

    /// Returns the first value of a name; empty when there is none.
    pub(super) fn first(&self, name: &str) -> Value<'_> {
        self.text(name).unwrap_or_default().into()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.of(name).first().and_then(Value::as_str)
    }

    /// Returns the type of the content, without its parameters; empty when it is not told.
    pub(super) fn media_type(&self) -> Value<'_> {
        let whole = self.text("content-type").unwrap_or_default();
        whole.split(';').next().unwrap_or_default().trim().into()
    }

    /// Returns the parameters of the type of the content, names in lower case. Of two alike the first counts.
    pub(super) fn media_parameters(&self) -> Value<'_> {
        let whole = self.text("content-type").unwrap_or_default();
        let mut entries: Vec<(Value<'_>, Value<'_>)> = Vec::new();
        for (name, value) in whole.split(';').skip(1).filter_map(|part| part.split_once('=')) {
            let name = Value::from(name.trim().to_ascii_lowercase());
            if !entries.iter().any(|(other, _)| *other == name) {
                entries.push((name, value.trim().trim_matches('"').into()));
            }
        }
        // Of a header that the edge has bounded.
        Value::map(entries, &mut Budget::new(u64::MAX, u64::MAX)).unwrap_or(Value::Map(Map::Borrowed(&[])))
    }

    /// Returns the elements of a header that is a list.
    pub(super) fn elements(&self, name: &str) -> Value<'_> {
        let texts = self.of(name).iter().filter_map(Value::as_str);
        let elements = texts.flat_map(|text| text.split(',')).map(str::trim).filter(|it| !it.is_empty());
        let elements = elements.map(Value::from).collect();
        Value::list(elements, &mut Budget::new(u64::MAX, u64::MAX)).unwrap_or(Value::List(List::Borrowed(&[])))
    }

    /// Returns the length of the content, if it is told.
    pub(super) fn content_length(&self) -> Option<Value<'_>> {
        let digits = self.text("content-length")?.trim();
        digits.bytes().all(|octet| octet.is_ascii_digit()).then(|| digits.parse().ok().map(Value::Int))?
    }
}

impl MapSource for Fields<'_> {
    fn len(&self) -> usize {
        self.names.len()
    }

    fn get(&self, key: &Value<'_>) -> Option<Value<'_>> {
        let name = key.as_str()?;
        let values = if self.caseless && name.bytes().any(|octet| octet.is_ascii_uppercase()) {
            self.of(&name.to_ascii_lowercase())
        } else {
            self.of(name)
        };
        (!values.is_empty()).then_some(Value::List(List::Borrowed(values)))
    }

    fn key(&self, index: usize) -> Option<Value<'_>> {
        self.names.get(index).map(|(name, _)| (**name).into())
    }
}

fn string(text: Cow<'_, str>) -> Value<'_> {
    match text {
        Cow::Borrowed(text) => text.into(),
        Cow::Owned(text) => text.into(),
    }
}

/// Goes over the cookies of a header (RFC 6265, section 4.2), quotes around a value taken off.
fn pairs(header: &str) -> impl Iterator<Item = (&str, &str)> {
    header.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = value.trim();
        let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        (!name.trim().is_empty()).then_some((name.trim(), bare))
    })
}

fn cookie<'a>(name: impl Into<Value<'a>>, value: impl Into<Value<'a>>) -> Value<'a> {
    let entries = vec![("name".into(), name.into()), ("value".into(), value.into())];
    // Made once a request, from a header that the edge has bounded: no evaluation pays for it.
    Value::map(entries, &mut Budget::new(u64::MAX, u64::MAX)).unwrap_or(Value::Null)
}

/// Decodes escapes and `+`, as forms write them.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|octet| octet == b'%' || octet == b'+') {
        return text.into();
    }
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escape = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                digit(*high).zip(digit(*low)).map(|(high, low)| (high << 4 | low, after))
            }
            (b'+', after) => Some((b' ', after)),
            _ => None,
        };
        let (octet, after) = escape.unwrap_or((first, after));
        octets.push(octet);
        rest = after;
    }
    String::from_utf8_lossy(&octets).into_owned().into()
}

fn digit(octet: u8) -> Option<u8> {
    char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
