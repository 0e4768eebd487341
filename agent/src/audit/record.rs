//! One record: a line of JSON that begins with the hash of the one before it and ends with its own.

use core::{fmt, str::FromStr};
use std::io::Write as _;

use adit_core::escape;
use rustls::crypto::{
    CryptoProvider,
    hash::{Hash, HashAlgorithm},
};
use serde_json::Value;

use super::Misfit;
use crate::clock;

/// A SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print([u8; 32]);

/// What hashes.
#[derive(Clone, Copy)]
pub struct Hasher(&'static dyn Hash);

/// A record's place in the chain: its number, from one, and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The number.
    pub seq: u64,
    /// The hash of all of the line that comes before it.
    pub print: Print,
}

/// When something was written: by the wall clock in microseconds since 1970, and by a clock that never goes back, in microseconds since
/// the agent began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Microseconds since 1970.
    pub wall: u64,
    /// Microseconds since the agent began.
    pub passed: u64,
}

/// What is to be written: a kind, and what there is to say of it. All of it is bounded, whoever made it up.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    kind: &'static str,
    fields: Vec<(&'static str, Value)>,
}

/// What every record says, as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its place.
    pub link: Link,
    /// The hash of the record before it.
    pub previous: Print,
    /// The wall clock, as `2026-11-29T04:30:00.123456Z`.
    pub time: &'a str,
    /// The kind.
    pub kind: &'a str,
}

impl Print {
    /// What the first record of a chain names.
    pub const NONE: Self = Self([0; 32]);
}

impl fmt::Display for Print {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl FromStr for Print {
    type Err = ();

    /// Reads 64 hexadecimal digits, without capitals.
    fn from_str(text: &str) -> Result<Self, ()> {
        let is_fine = text.len() == 64 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let mut octets = [0; 32];
        for (at, octet) in octets.iter_mut().enumerate() {
            let pair = text.get(2 * at..2 * at + 2).filter(|_| is_fine).ok_or(())?;
            *octet = u8::from_str_radix(pair, 16).map_err(|_| ())?;
        }
        Ok(Self(octets))
    }
}

impl Hasher {
    /// Returns the SHA-256 of a provider; nothing where it has none.
    pub fn of(provider: &CryptoProvider) -> Option<Self> {
        let suites = provider.cipher_suites.iter().filter_map(|suite| suite.tls13());
        let mut hashes = suites.map(|suite| suite.common.hash_provider);
        hashes.find(|hash| hash.algorithm() == HashAlgorithm::SHA256).map(Self)
    }

    /// Hashes.
    pub fn hash(self, octets: &[u8]) -> Print {
        let output = self.0.hash(octets);
        Print(output.as_ref().try_into().unwrap_or([0; 32])) // SHA-256 has 32 octets
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

impl Link {
    /// The place before the first record.
    pub const START: Self = Self { seq: 0, print: Print::NONE };
}

impl Record {
    /// Returns a record without fields.
    #[must_use]
    pub const fn new(kind: &'static str) -> Self {
        Self { kind, fields: Vec::new() }
    }

    /// Adds a text that anybody may have written: made harmless, and cut to 512 octets.
    #[must_use]
    pub fn text(self, name: &'static str, text: &str) -> Self {
        self.value(name, Value::from(clipped(text)))
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, name: &'static str, number: u64) -> Self {
        self.value(name, Value::from(number))
    }

    /// Adds a yes or no.
    #[must_use]
    pub fn flag(self, name: &'static str, flag: bool) -> Self {
        self.value(name, Value::from(flag))
    }

    /// Adds a text if there is one.
    #[must_use]
    pub fn maybe(self, name: &'static str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(name, text),
            None => self,
        }
    }

    /// Returns a text that it has.
    pub(super) fn word(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.as_str())
    }

    /// Returns the kind.
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// Appends the line to `out`: the record that comes after `after`. Returns its place.
    pub fn encode(&self, out: &mut Vec<u8>, after: Link, stamp: Stamp, hasher: Hasher) -> Link {
        let (begin, seq) = (out.len(), after.seq.saturating_add(1));
        let (time, passed, kind) = (clock::precise(stamp.wall), stamp.passed, self.kind);
        // Writing to memory does not fail.
        let _ = write!(
            out,
            "{PREVIOUS}{}\",\"seq\":{seq},\"time\":\"{time}\",\"passed\":{passed},\"kind\":\"{kind}\"",
            after.print
        );
        for (name, value) in &self.fields {
            let _ = write!(out, ",\"{name}\":{value}");
        }
        let print = hasher.hash(out.get(begin..).unwrap_or_default());
        let _ = writeln!(out, "{HASH}{print}\"}}");
        Link { seq, print }
    }

    fn value(mut self, name: &'static str, value: Value) -> Self {
        if self.fields.len() < MAX_FIELDS {
            self.fields.push((name, value));
        }
        self
    }
}

impl<'a> Header<'a> {
    /// Reads a line, without its end, and holds it against its own hash.
    ///
    /// # Errors
    /// [`Misfit::Long`], [`Misfit::Form`], [`Misfit::Hash`].
    pub fn read(line: &'a [u8], hasher: Hasher) -> Result<Self, Misfit> {
        if line.len() >= MAX_LINE {
            return Err(Misfit::Long);
        }
        let text = core::str::from_utf8(line).map_err(|_| Misfit::Form)?;
        let mut cursor = Cursor(text);
        let header = (|| {
            let previous = cursor.text(PREVIOUS, "\"")?.parse().ok()?;
            let seq = cursor.number(",\"seq\":")?;
            let time = cursor.text(",\"time\":\"", "\"").filter(|time| clock::parse_precise(time).is_some())?;
            cursor.number(",\"passed\":")?;
            let kind = cursor.text(",\"kind\":\"", "\"")?;
            let body = text.len().checked_sub(HASH.len() + 64 + END.len())?;
            let print = text.get(body..)?.strip_prefix(HASH)?.strip_suffix(END)?.parse().ok()?;
            Some((Self { link: Link { seq, print }, previous, time, kind }, body))
        })();
        let (header, body) = header.ok_or(Misfit::Form)?;
        if hasher.hash(line.get(..body).unwrap_or_default()) != header.link.print {
            return Err(Misfit::Hash);
        }
        // Who makes up a hash might make up what other programs cannot read.
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| Misfit::Form)?;
        Ok(header)
    }
}

struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn text(&mut self, before: &str, end: &str) -> Option<&'a str> {
        let (text, _) = self.0.strip_prefix(before)?.split_once(end)?;
        self.0 = self.0.get(before.len() + text.len() + end.len()..)?;
        Some(text)
    }

    fn number(&mut self, before: &str) -> Option<u64> {
        let rest = self.0.strip_prefix(before)?;
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, rest) = rest.split_at(end);
        self.0 = rest;
        let number: u64 = digits.parse().ok()?;
        (number.to_string() == digits).then_some(number)
    }
}

/// Makes a text harmless, and cuts it.
fn clipped(text: &str) -> String {
    let mut clipped = String::new();
    for c in text.chars() {
        let mut buffer = [0; 4];
        let shown = escape(c.encode_utf8(&mut buffer)).to_string();
        if clipped.len() + shown.len() > MAX_TEXT - '…'.len_utf8() {
            clipped.push('…');
            break;
        }
        clipped.push_str(&shown);
    }
    clipped
}

/// A line is not longer, its end included, in octets.
pub const MAX_LINE: usize = 16 << 10;
/// A text is not longer, in octets; in JSON at most twice as long.
const MAX_TEXT: usize = 512;
/// More fields are not written.
const MAX_FIELDS: usize = 15;
const PREVIOUS: &str = "{\"prev\":\"";
const HASH: &str = ",\"hash\":\"";
const END: &str = "\"}";

// What is written can be read: every text doubled, names, the header, the hash.
const _: () = assert!(MAX_FIELDS * (2 * MAX_TEXT + 32) + 512 < MAX_LINE);
