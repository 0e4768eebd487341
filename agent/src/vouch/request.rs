//! A request's head, read by the letter of RFC 9112 and written anew without what only the agent says.

use super::{
    Refusal,
    answers::{Asked, Method},
};
use crate::http1::{Lines, Rest, length};

/// A head as it goes to the upstream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its lines, without the empty one.
    pub(super) octets: Vec<u8>,
    pub(super) asked: Asked,
    /// What follows it.
    pub(super) rest: Rest,
}

/// What the fields say that matters here.
#[derive(Default)]
struct Facts {
    lengths: Vec<u64>,
    codings: usize,
    hosts: usize,
    expects: bool,
    upgrades: bool,
    /// What is asked for is HTTP or what it is carried in: requests that nobody would look at.
    upgrades_to_http: bool,
}

impl Head {
    /// Reads a head.
    ///
    /// # Errors
    /// It is not by the letter, or can be read in two ways.
    pub(super) fn read(lines: &Lines) -> Result<Self, Refusal> {
        let mut fields = lines.iter();
        let first = fields.next().ok_or(Refusal::Malformed)?;
        let (method, version) = request_line(first)?;
        let mut facts = Facts::default();
        let mut parsed = Vec::new();
        for line in fields {
            if parsed.len() >= MAX_FIELDS {
                return Err(Refusal::TooLarge);
            }
            let (name, value) = field(line)?;
            facts.note(name, value)?;
            parsed.push((name, value, line));
        }
        if facts.hosts > 1 || (version == 1 && facts.hosts == 0) {
            return Err(Refusal::Malformed);
        }
        let rest = facts.rest(version)?;
        if method == Method::Connect && rest != Rest::Length(0) {
            return Err(Refusal::Malformed);
        }
        let switches = method == Method::Connect || (facts.upgrades && !facts.upgrades_to_http);
        let mut octets = Vec::with_capacity(lines.octets().len());
        push(&mut octets, first);
        for (name, value, line) in parsed {
            match Folded::new(name).as_slice() {
                b"expect" | b"http2-settings" => {}
                b"upgrade" if facts.upgrades_to_http => {}
                b"connection" => connection(value, line, &mut octets),
                folded if is_ours(folded) => {}
                _ => push(&mut octets, line),
            }
        }
        let expects = facts.expects && version == 1 && rest != Rest::Length(0);
        Ok(Self { octets, asked: Asked { method, switches, expects }, rest })
    }
}

/// Writes what trails a body anew, without what only the agent says, and without what has no place there.
///
/// # Errors
/// It is not by the letter.
pub(super) fn trailer(lines: &Lines) -> Result<Vec<u8>, Refusal> {
    let mut octets = Vec::with_capacity(lines.octets().len());
    for (at, line) in lines.iter().enumerate() {
        if at >= MAX_FIELDS {
            return Err(Refusal::TooLarge);
        }
        let folded = Folded::new(field(line)?.0);
        let folded = folded.as_slice();
        if !is_ours(folded) && !NOT_IN_TRAILERS.contains(&folded) {
            push(&mut octets, line);
        }
    }
    octets.extend_from_slice(b"\r\n");
    Ok(octets)
}

impl Facts {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        match Folded::new(name).as_slice() {
            b"content-length" => {
                exactly(name, b"content-length")?;
                self.lengths.push(length(value).ok_or(Refusal::Malformed)?);
            }
            b"transfer-encoding" => {
                exactly(name, b"transfer-encoding")?;
                self.codings += 1;
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::Malformed);
                }
            }
            b"host" => self.hosts += 1,
            b"expect" if value.eq_ignore_ascii_case(b"100-continue") => self.expects = true,
            b"expect" => return Err(Refusal::Expectation),
            b"upgrade" => {
                self.upgrades = true;
                self.upgrades_to_http |= upgrades_to_http(value)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn rest(&self, version: u8) -> Result<Rest, Refusal> {
        match (self.lengths.as_slice(), self.codings) {
            ([], 0) => Ok(Rest::Length(0)),
            ([length], 0) => Ok(Rest::Length(*length)),
            ([], 1) if version == 1 => Ok(Rest::CHUNKS),
            (_, _) => Err(Refusal::Malformed),
        }
    }
}

/// Returns whether one of the protocols that are asked for is HTTP, or what it is carried in.
fn upgrades_to_http(value: &[u8]) -> Result<bool, Refusal> {
    let mut is_http = false;
    for protocol in value.split(|octet| *octet == b',').map(<[u8]>::trim_ascii) {
        let name = protocol.split(|octet| *octet == b'/').next().unwrap_or_default();
        if protocol.is_empty() || !protocol.iter().all(|octet| is_token(*octet) || *octet == b'/') {
            return Err(Refusal::Malformed);
        }
        is_http |= HTTP.iter().any(|known| name.eq_ignore_ascii_case(known));
    }
    Ok(is_http)
}

/// Reads the first line: what must be known of the method, and the number behind `HTTP/1.`.
fn request_line(line: &[u8]) -> Result<(Method, u8), Refusal> {
    let mut parts = line.split(|octet| *octet == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Malformed);
    };
    let is_seen = |octet: u8| octet > b' ' && octet != 0x7f;
    let is_target = !target.is_empty() && target.iter().copied().all(is_seen) && core::str::from_utf8(target).is_ok();
    if method.is_empty() || !method.iter().copied().all(is_token) || !is_target {
        return Err(Refusal::Malformed);
    }
    let version = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(Refusal::Version),
        _ => return Err(Refusal::Malformed),
    };
    let method = match method {
        b"HEAD" => Method::Head,
        b"CONNECT" => Method::Connect,
        _ => Method::Other,
    };
    Ok((method, version))
}

/// Reads a field: its name, and its value without the blanks around it. A line that goes on with the one before it has no name.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let colon = line.iter().position(|octet| *octet == b':').ok_or(Refusal::Malformed)?;
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    let is_value = |octet: u8| matches!(octet, b'\t' | b' '..=b'~' | 0x80..);
    if name.is_empty() || !name.iter().copied().all(is_token) || !value.iter().copied().all(is_value) {
        return Err(Refusal::Malformed);
    }
    Ok((name, value.trim_ascii()))
}

/// Writes `Connection` without fields that are not for the caller to take away: an upstream that hands requests on would.
fn connection(value: &[u8], line: &[u8], octets: &mut Vec<u8>) {
    let is_kept = |token: &&[u8]| {
        let folded = Folded::new(token.trim_ascii());
        !is_ours(folded.as_slice()) && !FRAMING.contains(&folded.as_slice())
    };
    let tokens = || value.split(|octet| *octet == b',');
    if tokens().all(|token| is_kept(&token)) {
        return push(octets, line);
    }
    let kept: Vec<_> = tokens().filter(is_kept).collect();
    if !kept.is_empty() {
        octets.extend_from_slice(b"connection: ");
        push(octets, kept.join(&b',').trim_ascii());
    }
}

fn push(octets: &mut Vec<u8>, line: &[u8]) {
    octets.extend_from_slice(line);
    octets.extend_from_slice(b"\r\n");
}

/// A name as the least careful upstream reads it: CGI and its heirs tell no sign from another.
struct Folded {
    octets: [u8; FOLDED],
    length: usize,
}

impl Folded {
    /// Folds as much of a name as matters: what is known is shorter.
    fn new(name: &[u8]) -> Self {
        let mut octets = [0; FOLDED];
        for (folded, octet) in octets.iter_mut().zip(name) {
            *folded = if octet.is_ascii_alphanumeric() { octet.to_ascii_lowercase() } else { b'-' };
        }
        Self { octets, length: name.len().min(FOLDED) }
    }

    fn as_slice(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }
}

/// Returns whether a folded name is one by which upstreams are told who calls.
fn is_ours(folded: &[u8]) -> bool {
    PREFIXES.iter().any(|prefix| folded.starts_with(prefix)) || NAMES.contains(&folded)
}

/// A name that frames the message is written as such, or an upstream may take it for one where another does not.
fn exactly(name: &[u8], known: &[u8]) -> Result<(), Refusal> {
    if name.eq_ignore_ascii_case(known) { Ok(()) } else { Err(Refusal::Malformed) }
}

fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

/// What names begin with by which upstreams are told who calls: the network's and the agent's, and those of other proxies.
const PREFIXES: &[&[u8]] = &[b"client-cert", b"x-client-cert", b"x-ssl-client", b"ssl-client"];
const NAMES: &[&[u8]] = &[b"x-client-dn", b"x-client-verify"];
/// What frames or routes a message.
const FRAMING: &[&[u8]] = &[b"host", b"content-length", b"transfer-encoding"];
const NOT_IN_TRAILERS: &[&[u8]] =
    &[b"host", b"content-length", b"transfer-encoding", b"connection", b"te", b"trailer", b"expect", b"upgrade"];
/// Protocols in which requests go on, past whoever looks at them.
const HTTP: &[&[u8]] = &[b"http", b"h2c", b"h2", b"h3", b"tls"];
/// So much of a name is folded, in octets; each name that is known is shorter.
const FOLDED: usize = 24;
/// A head has no more fields.
const MAX_FIELDS: usize = 100;
