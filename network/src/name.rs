//! Names of endpoints: the one type and the one matcher for SNI, Host, `:authority`, binds, ACLs and certificates (V28).

use core::{borrow::Borrow, fmt, ops::Deref};
use std::{collections::HashMap, sync::Arc};

/// The host name of an endpoint in its one form: lower-case ASCII, no trailing dot, no port.
///
/// Labels are letters, digits and inner hyphens, 63 octets at most; the name has 253 at most. A name in another script is
/// taken in its punycode form only (`xn--…`). Addresses are no names: neither IPv6 literals nor anything whose last label is
/// a number, which some parsers read as IPv4.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointName(Arc<str>);

impl EndpointName {
    /// Reads a bare name; upper case is lowered and one trailing dot is dropped.
    ///
    /// # Errors
    /// What is wrong with it, the first fault from the left.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        check(text)?;
        if text.bytes().any(|octet| octet.is_ascii_uppercase()) {
            return Ok(Self(text.to_ascii_lowercase().into()));
        }
        Ok(Self(text.into()))
    }

    /// Reads the name out of `name` or `name:port`, as Host and `:authority` have it; the port is checked and dropped.
    ///
    /// # Errors
    /// [`NameError::Port`] when the port is empty or no number up to 65535; else as [`Self::parse`]. A userinfo is never
    /// accepted, because `@` is no letter of a name.
    pub fn from_authority(text: &str) -> Result<Self, NameError> {
        Self::parse(host_of(text)?)
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the names above this one, the nearest first: of `a.b.example`, `b.example` and `example`.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('.').map(|(dot, _)| &self.0[dot + 1..])
    }

    /// Tells whether the name is `internal` or below it: no public endpoint, whoever asks for it.
    pub fn is_internal(&self) -> bool {
        &*self.0 == INTERNAL || is_below(&self.0, INTERNAL)
    }

    /// Tells whether `authority` (with or without port, in any case) is this name, without allocating.
    pub fn is_authority(&self, authority: &str) -> bool {
        host_of(authority).is_ok_and(|host| host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case(&self.0))
    }
}

impl Borrow<str> for EndpointName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Deref for EndpointName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an endpoint, an ACL rule or a certificate covers: one name, or every name below one.
///
/// `*.example.com` stands for one label **or more**: it matches `a.example.com` and `a.b.example.com`, never `example.com`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamePattern {
    /// `crm.example.com`.
    Exact(EndpointName),
    /// `*.example.com`; the name is `example.com`.
    Below(EndpointName),
}

impl NamePattern {
    /// Reads `crm.example.com` or `*.example.com`; a star elsewhere, or for part of a label, is no pattern.
    ///
    /// # Errors
    /// As [`EndpointName::parse`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix("*.") {
            Some(parent) => EndpointName::parse(parent).map(Self::Below),
            None => EndpointName::parse(text).map(Self::Exact),
        }
    }

    /// Tells whether the pattern stands for `name`.
    pub fn matches(&self, name: &EndpointName) -> bool {
        match self {
            Self::Exact(own) => own == name,
            Self::Below(parent) => is_below(name, parent), // spec: BIND-011
        }
    }

    /// Tells whether everything that `other` stands for is covered, as an ACL asks: `*.a.example` is covered by `*.example`.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(name)) => self.matches(name),
            (Self::Exact(_), Self::Below(_)) => false,
            (Self::Below(own), Self::Below(parent)) => own == parent || is_below(parent, own),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Below(parent) => write!(f, "*.{parent}"),
        }
    }
}

/// What is known by pattern: an exact name beats every wildcard, and the longest wildcard beats the shorter ones.
#[derive(Clone, Debug)]
pub struct NameMap<T> {
    exact: HashMap<EndpointName, T>,
    below: HashMap<EndpointName, T>,
}

impl<T> Default for NameMap<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), below: HashMap::new() }
    }
}

impl<T> NameMap<T> {
    /// Puts a value in, and returns the one that stood there.
    pub fn insert(&mut self, pattern: NamePattern, value: T) -> Option<T> {
        match pattern {
            NamePattern::Exact(name) => self.exact.insert(name, value),
            NamePattern::Below(parent) => self.below.insert(parent, value),
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, pattern: &NamePattern) -> Option<T> {
        match pattern {
            NamePattern::Exact(name) => self.exact.remove(name),
            NamePattern::Below(parent) => self.below.remove(parent),
        }
    }

    /// Returns the value that stands for `name`.
    pub fn find(&self, name: &EndpointName) -> Option<&T> {
        self.exact.get(name).or_else(|| self.above(name))
    }

    /// Returns the value of the nearest wildcard that the name, or the wildcard below it, is inside of.
    pub fn above(&self, name: &EndpointName) -> Option<&T> {
        if self.below.is_empty() { None } else { name.parents().find_map(|parent| self.below.get(parent)) }
    }

    /// Returns the value of exactly this name, whatever wildcard is above it.
    pub fn exact(&self, name: &str) -> Option<&T> {
        self.exact.get(name)
    }

    /// Returns the value of the wildcard right below this name.
    pub fn below(&self, parent: &str) -> Option<&T> {
        self.below.get(parent)
    }

    /// Returns every pattern with its value, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (NamePattern, &T)> {
        let exact = self.exact.iter().map(|(name, value)| (NamePattern::Exact(name.clone()), value));
        exact.chain(self.below.iter().map(|(name, value)| (NamePattern::Below(name.clone()), value)))
    }

    /// Returns the value of exactly this pattern.
    pub fn get(&self, pattern: &NamePattern) -> Option<&T> {
        match pattern {
            NamePattern::Exact(name) => self.exact.get(name),
            NamePattern::Below(parent) => self.below.get(parent),
        }
    }

    /// Returns the value of exactly this pattern, to change it.
    pub fn get_mut(&mut self, pattern: &NamePattern) -> Option<&mut T> {
        match pattern {
            NamePattern::Exact(name) => self.exact.get_mut(name),
            NamePattern::Below(parent) => self.below.get_mut(parent),
        }
    }

    /// Returns every value, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.below.values())
    }
}

/// Why a text is not the name of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// There is nothing, or a label is empty.
    Empty,
    /// The name is longer than 253 octets, or a label longer than 63.
    TooLong,
    /// An octet that is neither letter, digit, hyphen nor dot; names in other scripts are given in punycode.
    Letter,
    /// A label begins or ends with a hyphen.
    Hyphen,
    /// An IPv4 or IPv6 address.
    Address,
    /// The port is no number up to 65535.
    Port,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a name or one of its labels is empty",
            Self::TooLong => "a name has at most 253 octets, a label at most 63",
            Self::Letter => "a name is made of letters, digits, hyphens and dots; other scripts as punycode (xn--)",
            Self::Hyphen => "a label neither begins nor ends with a hyphen",
            Self::Address => "an address is not a name",
            Self::Port => "a port is a number up to 65535",
        })
    }
}

impl core::error::Error for NameError {}

fn check(text: &str) -> Result<(), NameError> {
    if text.starts_with('[') || text.contains(':') {
        return Err(NameError::Address);
    }
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong);
    }
    let mut last = "";
    for label in text.split('.') {
        check_label(label)?;
        last = label;
    }
    // WHATWG "ends in a number": 127.1, 0x7f.1 and 2130706433 are addresses to many parsers.
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let numeric = last.bytes().all(|octet| octet.is_ascii_digit());
    if numeric || hex.is_some_and(|digits| digits.bytes().all(|octet| octet.is_ascii_hexdigit())) {
        return Err(NameError::Address);
    }
    Ok(())
}

fn check_label(label: &str) -> Result<(), NameError> {
    if label.is_empty() || label.eq_ignore_ascii_case("xn--") {
        return Err(NameError::Empty);
    }
    if !label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-') {
        return Err(NameError::Letter);
    }
    if label.len() > MAX_LABEL {
        return Err(NameError::TooLong);
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

fn host_of(authority: &str) -> Result<&str, NameError> {
    if authority.starts_with('[') {
        return Err(NameError::Address);
    }
    let Some((host, port)) = authority.split_once(':') else { return Ok(authority) };
    let digits = !port.is_empty() && port.bytes().all(|octet| octet.is_ascii_digit());
    if digits && port.parse::<u16>().is_ok() { Ok(host) } else { Err(NameError::Port) }
}

fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// The top level below which names belong to one account alone; ICANN keeps it free for such use.
const INTERNAL: &str = "internal";
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// BIND-011
    #[test]
    fn a_name_has_one_form() {
        for text in ["crm.example.com", "CRM.Example.COM", "crm.example.com.", "CRM.EXAMPLE.COM."] {
            assert_eq!(name(text).as_str(), "crm.example.com");
            assert!(name("crm.example.com").is_authority(text));
        }
        for text in ["crm.example.com:8080", "CRM.example.com.:1", "crm.example.com:65535"] {
            assert_eq!(EndpointName::from_authority(text), Ok(name("crm.example.com")));
            assert!(name("crm.example.com").is_authority(text));
        }
        assert!(!name("crm.example.com").is_authority("rm.example.com"));
        assert_eq!(name("xn--bcher-kva.example").as_str(), "xn--bcher-kva.example");
    }

    /// BIND-011
    #[test]
    fn what_is_not_a_name_is_refused_with_its_reason() {
        let (label, long) = ("a".repeat(64), format!("{}a.com", "a.".repeat(125)));
        for (text, error) in [
            ("", NameError::Empty),
            (".", NameError::Empty),
            ("a..b", NameError::Empty),
            (".a", NameError::Empty),
            ("a.b..", NameError::Empty),
            ("xn--.com", NameError::Empty),
            (&label, NameError::TooLong),
            (&long, NameError::TooLong),
            ("bücher.example", NameError::Letter),
            ("a_b.example", NameError::Letter),
            ("user@example.com", NameError::Letter),
            ("a b.example", NameError::Letter),
            ("*.example.com", NameError::Letter),
            ("a\0.example", NameError::Letter),
            ("-a.example", NameError::Hyphen),
            ("a-.example", NameError::Hyphen),
            ("127.0.0.1", NameError::Address),
            ("127.1.", NameError::Address),
            ("2130706433", NameError::Address),
            ("a.0x7f", NameError::Address),
            ("[::1]", NameError::Address),
            ("::1", NameError::Address),
        ] {
            assert_eq!(EndpointName::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn an_authority_is_a_name_and_perhaps_a_port() {
        for text in ["a.example:", "a.example:+1", "a.example:65536", "a.example:1:2", "a.example:0x1", "a.example: 1"]
        {
            assert_eq!(EndpointName::from_authority(text), Err(NameError::Port), "{text:?}");
        }
        assert_eq!(EndpointName::from_authority("[::1]:80"), Err(NameError::Address));
        assert_eq!(EndpointName::from_authority("u@a.example:80"), Err(NameError::Letter));
    }

    /// BIND-011
    #[test]
    fn a_wildcard_stands_for_one_label_or_more() {
        let pattern = pattern("*.Example.com");

        assert!(pattern.matches(&name("a.example.com")));
        assert!(pattern.matches(&name("a.b.example.com")));
        assert!(!pattern.matches(&name("example.com")));
        assert!(!pattern.matches(&name("aexample.com")));
        assert!(!pattern.matches(&name("a.example.com.evil.example")));
        assert_eq!(pattern.to_string(), "*.example.com");
        for text in ["*", "*example.com", "a.*.com", "*.*.com", "**.com"] {
            assert_eq!(NamePattern::parse(text), Err(NameError::Letter), "{text:?}");
        }
    }

    #[test]
    fn an_acl_covers_what_is_no_wider_than_itself() {
        let wide = pattern("*.example.com");

        for text in ["a.example.com", "*.example.com", "*.a.example.com", "a.b.example.com"] {
            assert!(wide.covers(&pattern(text)), "{text}");
        }
        for text in ["example.com", "*.com", "*.badexample.com", "a.example.org"] {
            assert!(!wide.covers(&pattern(text)), "{text}");
        }
        assert!(!pattern("a.example.com").covers(&wide));
    }

    /// BIND-011
    #[test]
    fn exact_beats_wildcard_and_the_longest_wildcard_wins() {
        let mut map = NameMap::default();
        for text in ["*.com", "*.example.com", "crm.example.com"] {
            map.insert(pattern(text), text);
        }

        let found = |text| map.find(&name(text)).copied();

        assert_eq!(found("crm.example.com"), Some("crm.example.com"));
        assert_eq!(found("x.example.com"), Some("*.example.com"));
        assert_eq!(found("a.crm.example.com"), Some("*.example.com"));
        assert_eq!(found("example.com"), Some("*.com"));
        assert_eq!(found("com"), None);
        assert_eq!(map.remove(&pattern("crm.example.com")), Some("crm.example.com"));
        assert_eq!(map.find(&name("crm.example.com")), Some(&"*.example.com"));
    }

    proptest! {
        #[test]
        fn reading_again_changes_nothing(text in "[a-zA-Z0-9.:*-]{0,40}") {
            if let Ok(name) = EndpointName::parse(&text) {
                prop_assert_eq!(EndpointName::parse(&name), Ok(name.clone()));
                prop_assert!(name.is_authority(&text));
            }
        }

        #[test]
        fn the_map_agrees_with_the_patterns(
            texts in proptest::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,3}", 0..6),
            asked in "[ab](\\.[ab]){0,4}",
        ) {
            let patterns: Vec<_> = texts.iter().map(|text| pattern(text)).collect();
            let mut map = NameMap::default();
            for pattern in &patterns {
                map.insert(pattern.clone(), pattern.clone());
            }
            let name = name(&asked);
            let best = patterns.iter().filter(|pattern| pattern.matches(&name)).max_by_key(|pattern| match pattern {
                NamePattern::Exact(_) => usize::MAX,
                NamePattern::Below(parent) => parent.len(),
            });
            prop_assert_eq!(map.find(&name), best);
        }
    }

    fn name(text: &str) -> EndpointName {
        EndpointName::parse(text).unwrap()
    }

    fn pattern(text: &str) -> NamePattern {
        NamePattern::parse(text).unwrap()
    }
}
