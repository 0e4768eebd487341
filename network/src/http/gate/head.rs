//! The head of a request: its line, its fields, and the framing of the body that they announce.

use core::ops::Range;

use memchr::memchr;

use super::HeadLimits;
use crate::Fault;

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none; the request may ask for an upgrade.
    None {
        /// Both `Upgrade` and `Connection: upgrade` stand in an HTTP/1.1 request.
        upgrade: bool,
    },
    Length(u64),
    Chunked,
}

/// A head as far as it was read: whole lines only.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Octets of the lines that were read.
    read: usize,
    /// Octets that hold no end of a line yet.
    searched: usize,
    fields: usize,
    line: Option<Line>,
    leading_empty_line: bool,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    connection_upgrade: bool,
}

#[derive(Debug)]
struct Line {
    is_11: bool,
    /// The authority of a target in absolute form.
    authority: Option<Range<usize>>,
}

impl Head {
    /// Reads the lines that are whole; `input` begins with the head. Returns the head's length when it is complete.
    pub(super) fn read(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Option<(usize, Framing)>, Fault> {
        loop {
            let from = self.read.max(self.searched);
            let Some(end) = memchr(b'\n', &input[from..]).map(|found| from + found) else {
                self.searched = input.len();
                return if input.len() > limits.size { Err(Fault::HeaderTooLarge) } else { Ok(None) };
            };
            if end >= limits.size {
                return Err(Fault::HeaderTooLarge);
            }
            let start = self.read;
            let line = input[start..end].strip_suffix(b"\r").ok_or(Fault::RequestMalformed)?; // a bare LF
            self.read = end + 1;
            if self.line.is_none() {
                if line.is_empty() && !self.leading_empty_line {
                    self.leading_empty_line = true; // RFC 9112 §2.2 allows one before the request line
                    continue;
                }
                self.line = Some(request_line(line, start, limits)?);
            } else if line.is_empty() {
                return self.framing(input).map(|framing| Some((self.read, framing)));
            } else {
                self.fields += 1;
                if self.fields > limits.fields {
                    return Err(Fault::HeaderTooLarge);
                }
                self.field(line, start)?;
            }
        }
    }

    fn field(&mut self, line: &[u8], start: usize) -> Result<(), Fault> {
        let (name, value) = field_line(line)?;
        let taken = match name.len() {
            2 if name.eq_ignore_ascii_case(b"te") => true,
            4 if name.eq_ignore_ascii_case(b"host") => {
                let from = start + (line.len() - value.len());
                self.host.replace(from..from + value.len()).is_none()
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade = true;
                true
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection_upgrade |=
                    value.split(|octet| *octet == b',').any(|token| trim(token).eq_ignore_ascii_case(b"upgrade"));
                true
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.length.replace(content_length(trim(value))?).is_none()
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let first = !core::mem::replace(&mut self.chunked, true);
                first && trim(value).eq_ignore_ascii_case(b"chunked")
            }
            _ => true,
        };
        if taken { Ok(()) } else { Err(Fault::RequestMalformed) }
    }

    fn framing(&self, input: &[u8]) -> Result<Framing, Fault> {
        let (Some(line), Some(host)) = (&self.line, &self.host) else { return Err(Fault::RequestMalformed) };
        let host = trim(&input[host.clone()]);
        let agrees = line.authority.as_ref().is_none_or(|range| input[range.clone()].eq_ignore_ascii_case(host));
        if host.is_empty() || !agrees || (self.chunked && (self.length.is_some() || !line.is_11)) {
            return Err(Fault::RequestMalformed);
        }
        Ok(match self.length {
            _ if self.chunked => Framing::Chunked,
            Some(length) if length > 0 => Framing::Length(length),
            Some(_) | None => Framing::None { upgrade: line.is_11 && self.upgrade && self.connection_upgrade },
        })
    }
}

/// Reads a field line and returns its name and its value, which may have white space around it.
pub(super) fn field_line(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    // A line that begins with white space (obs-fold) has an empty name; white space before the colon is no name's octet.
    let colon = line.iter().position(|octet| !is_token(*octet)).ok_or(Fault::RequestMalformed)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if line[colon] != b':' || name.is_empty() || !value.iter().all(|octet| is_value(*octet)) {
        return Err(Fault::RequestMalformed);
    }
    Ok((name, value))
}

fn request_line(line: &[u8], start: usize, limits: &HeadLimits) -> Result<Line, Fault> {
    let malformed = Fault::RequestMalformed;
    let method_end = memchr(b' ', line).ok_or(malformed)?;
    let rest = &line[method_end + 1..];
    let target_end = memchr(b' ', rest).ok_or(malformed)?;
    let (method, target, version) = (&line[..method_end], &rest[..target_end], &rest[target_end + 1..]);
    if method.is_empty() || !method.iter().all(|octet| is_token(*octet)) {
        return Err(malformed);
    }
    let is_11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(Fault::HttpVersion);
        }
        _ => return Err(malformed),
    };
    if target.is_empty() || !target.iter().all(|octet| is_target(*octet)) {
        return Err(malformed);
    }
    if target.len() > limits.target {
        return Err(Fault::TargetTooLong);
    }
    if method == b"CONNECT" {
        return Err(Fault::MethodRefused); // V65: its framing is a tunnel's, so nothing after it can be read
    }
    let authority = match target[0] {
        b'/' => None,
        b'*' if target.len() == 1 && method == b"OPTIONS" => None,
        _ => Some(absolute_authority(target).ok_or(malformed)?),
    };
    let offset = start + method_end + 1;
    Ok(Line { is_11, authority: authority.map(|range| range.start + offset..range.end + offset) })
}

/// Returns where the authority stands in a target in absolute form.
fn absolute_authority(target: &[u8]) -> Option<Range<usize>> {
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))?
        .len();
    let end =
        target[scheme..].iter().position(|octet| matches!(octet, b'/' | b'?')).map_or(target.len(), |at| scheme + at);
    // The parser behind the gate takes what `http::Uri` takes; anything else would be answered without our words.
    let parses = end > scheme && http::Uri::try_from(target).is_ok();
    parses.then_some(scheme..end)
}

fn content_length(value: &[u8]) -> Result<u64, Fault> {
    let plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit) && (value[0] != b'0' || value.len() == 1);
    let length = core::str::from_utf8(value).ok().filter(|_| plain).and_then(|text| text.parse::<u64>().ok());
    length.filter(|length| *length <= MAX_LENGTH).ok_or(Fault::RequestMalformed)
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

const fn is_token(octet: u8) -> bool {
    CLASS[octet as usize] & TOKEN != 0
}

const fn is_value(octet: u8) -> bool {
    CLASS[octet as usize] & VALUE != 0
}

const fn is_target(octet: u8) -> bool {
    CLASS[octet as usize] & TARGET != 0
}

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;

/// RFC 9110 §5.6.2 tokens; field values without CTL; targets without SP, CTL, fragment and what no URI has.
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 255")]
        let letter = octet as u8;
        let token = letter.is_ascii_alphanumeric()
            || matches!(letter, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
        let value = matches!(letter, b'\t' | b' '..=b'~' | 0x80..);
        let target = matches!(letter, b'!'..=b'~') && !matches!(letter, b'#' | b'<' | b'>' | b'`');
        class[octet] = (token as u8 * TOKEN) | (value as u8 * VALUE) | (target as u8 * TARGET);
        octet += 1;
    }
    class
};

/// What fits every parser's signed number.
const MAX_LENGTH: u64 = i64::MAX as u64;
