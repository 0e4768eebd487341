//! HTTP CONNECT (RFC 9110, section 9.3.6) with Basic credentials (RFC 7617).

use alloc::{format, string::String, vec::Vec};

use super::{Authority, Buffers, Credentials, ProxyError, handshake::Step, harmless};

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Http {
    authenticated: bool,
    interim: u8,
}

impl Http {
    pub(super) fn new(host: &str, port: u16, credentials: Option<&Credentials>, output: &mut Vec<u8>) -> Self {
        let authority = Authority(host, port);
        output.extend_from_slice(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").as_bytes());
        output.extend_from_slice(b"User-Agent: adit\r\n");
        if let Some(credentials) = credentials {
            authorize(credentials, output);
        }
        output.extend_from_slice(b"\r\n");
        Self { authenticated: credentials.is_some(), interim: 0 }
    }

    /// Reads one head, if it is there.
    pub(super) fn step(&mut self, buffers: &mut Buffers) -> Result<Step, ProxyError> {
        let input = &mut buffers.input;
        let start = input.get(..START.len()).unwrap_or(input);
        if !START.starts_with(start) {
            let what = match start.first() {
                Some(&TLS_RECORD) => "it speaks TLS",
                Some(5) => "it speaks SOCKS",
                _ => "it does not speak HTTP",
            };
            return Err(ProxyError::NotAProxy { what });
        }
        let Some(end) = end_of_head(input) else { return Ok(Step::More) };
        let head: Vec<u8> = input.drain(..end).collect();
        let (status, reason, fields) = self::head(&head)?;
        match status {
            100..=199 if self.interim < MAX_INTERIM => {
                self.interim += 1;
                return Ok(Step::Again);
            }
            // Whatever it says of a body: there is none.
            200..=299 => return Ok(Step::Done),
            _ => {}
        }
        let said = match harmless(reason) {
            reason if reason.is_empty() => format!("{status}"),
            reason => format!("{status} {reason}"),
        };
        Err(match status {
            // 401 is not meant for proxies, and some use it for a password that is wrong.
            401 | 407 => unknown(self.authenticated, fields),
            403 | 405 | 451 => ProxyError::Forbidden { said },
            502..=504 => ProxyError::Destination { said },
            _ => ProxyError::Refused { said },
        })
    }
}

/// Appends the field that says who asks.
pub(super) fn authorize(Credentials { user, password }: &Credentials, output: &mut Vec<u8>) {
    let mut pair = user.as_bytes().to_vec();
    pair.push(b':');
    pair.extend_from_slice(password.expose());
    output.extend_from_slice(b"Proxy-Authorization: Basic ");
    base64(&pair, output);
    output.extend_from_slice(b"\r\n");
    pair.fill(0);
}

/// Takes a head apart: status, reason, and the lines of the fields, up to the empty one.
pub(super) fn head(octets: &[u8]) -> Result<(u16, &[u8], impl Iterator<Item = &[u8]>), ProxyError> {
    let mut lines = octets.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (status, reason) = status(lines.next().unwrap_or_default())?;
    Ok((status, reason, lines.take_while(|line| !line.is_empty())))
}

/// Says that the proxy does not know who asks, and what the fields offer.
pub(super) fn unknown<'a>(was_told: bool, fields: impl Iterator<Item = &'a [u8]>) -> ProxyError {
    let offered = offered(fields);
    if was_told { ProxyError::CredentialsRefused { offered } } else { ProxyError::CredentialsWanted { offered } }
}

/// Returns where the empty line ends.
fn end_of_head(input: &[u8]) -> Option<usize> {
    let mut line = 0;
    for (at, octet) in input.iter().enumerate() {
        if *octet != b'\n' {
            continue;
        }
        if matches!(input.get(line..at), Some(b"" | b"\r")) {
            return Some(at + 1);
        }
        line = at + 1;
    }
    None
}

/// Reads `HTTP/1.1 200 Connection established`.
fn status(line: &[u8]) -> Result<(u16, &[u8]), ProxyError> {
    let wrong = ProxyError::NotAProxy { what: "its answer is not one of HTTP/1" };
    let mut parts = line.splitn(3, |b| *b == b' ');
    let (Some(version), Some(code)) = (parts.next(), parts.next()) else { return Err(wrong) };
    let is_version = matches!(version, b"HTTP/1.0" | b"HTTP/1.1");
    let [hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = code else { return Err(wrong) };
    let digit = |octet: &u8| u16::from(octet - b'0');
    let status = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
    if is_version { Ok((status, parts.next().unwrap_or_default())) } else { Err(wrong) }
}

/// Returns the schemes of authentication that the fields offer, as `Basic, Negotiate`.
fn offered<'a>(fields: impl Iterator<Item = &'a [u8]>) -> String {
    let mut offered: Vec<String> = Vec::new();
    for field in fields {
        let Some(colon) = field.iter().position(|b| *b == b':') else { continue };
        let (name, value) = field.split_at(colon);
        if !name.eq_ignore_ascii_case(b"proxy-authenticate") || offered.len() >= MAX_OFFERED {
            continue;
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let scheme = value.split(|b| matches!(b, b' ' | b',')).next().unwrap_or_default();
        let scheme = harmless(scheme);
        if !scheme.is_empty() && !offered.contains(&scheme) {
            offered.push(scheme);
        }
    }
    offered.join(", ")
}

/// Writes octets in base 64 (RFC 4648).
fn base64(octets: &[u8], output: &mut Vec<u8>) {
    for chunk in octets.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, octet| group << 8 | u32::from(*octet)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = (group >> (18 - 6 * place)) & 63;
            let digit = DIGITS.get(digit as usize).copied().unwrap_or(b'=');
            output.push(if place <= chunk.len() { digit } else { b'=' });
        }
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const START: &[u8] = b"HTTP/1.";
/// The first octet of an alert or a handshake of TLS.
const TLS_RECORD: u8 = 21;
/// Interim answers that are passed over.
const MAX_INTERIM: u8 = 4;
/// Schemes that are told.
const MAX_OFFERED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_64_is_that_of_the_standard() {
        for (octets, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
            (b"\xff\xfe\xfd", "//79"),
            (b"Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ] {
            let mut output = Vec::new();
            base64(octets, &mut output);
            assert_eq!(output, text.as_bytes());
        }
    }
}
