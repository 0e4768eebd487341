//! A message of HTTP/1 as it is kept: its head read, values that let somebody in left out, its body up to a limit.

use super::{Limits, Lost, Redact};
use crate::http1::{Follows, Rest, framing, tokens};

/// A request as it went to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The method.
    pub method: String,
    /// The target, without values that are not kept.
    pub target: String,
    /// Whether values of the target were left out.
    pub is_target_redacted: bool,
    /// The number behind `HTTP/1.`.
    pub version: u8,
    /// The fields, in their order.
    pub fields: Vec<Field>,
    /// The body.
    pub body: Body,
}

/// An answer as it came from an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The number behind `HTTP/1.`.
    pub version: u8,
    /// The status.
    pub status: u16,
    /// The words behind it.
    pub reason: String,
    /// The fields, in their order.
    pub fields: Vec<Field>,
    /// The body.
    pub body: Body,
}

/// A field of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name, as it was written.
    pub name: String,
    /// The value; nothing where it is not kept.
    pub value: Option<Vec<u8>>,
}

/// A body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// How many octets of content there were.
    pub octets: u64,
    /// The first of them.
    pub kept: Vec<u8>,
    /// Whether it came to its end.
    pub is_whole: bool,
}

/// Why a request cannot be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrepeatable {
    /// Not all of its body was kept, or came.
    Cut,
    /// Values of its target were not kept.
    Redacted,
    /// It asks for something else than HTTP.
    Upgrade,
}

impl Unrepeatable {
    /// Returns why, for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Cut => "its body was not kept as a whole: raise agent.local.capture.body",
            Self::Redacted => "values of its target were not kept",
            Self::Upgrade => "it asked for another protocol",
        }
    }
}

impl Request {
    /// Returns the octets that ask the same again, marked as request number `id` sent again; and the names of the fields that
    /// are left out because their values were not kept.
    ///
    /// # Errors
    /// [`Unrepeatable`].
    pub fn again(&self, id: u64) -> Result<(Vec<u8>, Vec<String>), Unrepeatable> {
        let named = |name: &str| self.fields.iter().any(|field| field.name.eq_ignore_ascii_case(name));
        if self.method.eq_ignore_ascii_case("CONNECT") || named("upgrade") {
            return Err(Unrepeatable::Upgrade);
        }
        if self.is_target_redacted {
            return Err(Unrepeatable::Redacted);
        }
        if self.body.is_cut() {
            return Err(Unrepeatable::Cut);
        }
        let mut octets = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let mut omitted = Vec::new();
        for field in &self.fields {
            if self.is_of_one_hop(&field.name) {
                continue;
            }
            let Some(value) = &field.value else {
                omitted.push(field.name.clone());
                continue;
            };
            for part in [field.name.as_bytes(), b": ", value, b"\r\n"] {
                octets.extend_from_slice(part);
            }
        }
        if !self.body.kept.is_empty() || matches!(&*self.method, "POST" | "PUT" | "PATCH") {
            octets.extend_from_slice(format!("content-length: {}\r\n", self.body.kept.len()).as_bytes());
        }
        octets.extend_from_slice(format!("{MARK}: {id}\r\nconnection: close\r\n\r\n").as_bytes());
        octets.extend_from_slice(&self.body.kept);
        Ok((octets, omitted))
    }

    /// Returns whether a field was about the connection that the request came on, or is written anew.
    fn is_of_one_hop(&self, name: &str) -> bool {
        let connection = self.fields.iter().filter(|field| field.name.eq_ignore_ascii_case("connection"));
        let mut tokens = connection.flat_map(|field| tokens(field.value.as_deref().unwrap_or_default()));
        ONE_HOP.iter().any(|known| name.eq_ignore_ascii_case(known))
            || tokens.any(|token| token.eq_ignore_ascii_case(name))
    }

    /// Reads a head; returns what follows it.
    pub(super) fn read(octets: &[u8], redact: &Redact) -> Result<(Self, Rest), Lost> {
        let mut room = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut head = httparse::Request::new(&mut room);
        if !matches!(head.parse(octets), Ok(httparse::Status::Complete(length)) if length == octets.len()) {
            return Err(Lost::NotHttp);
        }
        let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
            return Err(Lost::NotHttp);
        };
        let rest = match framing(head.headers)? {
            Some(Rest::End) => return Err(Lost::Ambiguous), // a request cannot end with its connection
            Some(rest) => rest,
            None => Rest::Length(0),
        };
        let (target, is_target_redacted) = redact.query(target);
        let method = method.to_owned();
        let fields = fields(head.headers, redact);
        Ok((Self { method, target, is_target_redacted, version, fields, body: Body::default() }, rest))
    }
}

impl Answer {
    /// Reads the head of an answer to a request with `method`.
    pub(super) fn read(octets: &[u8], method: &str, redact: &Redact) -> Result<(Self, Follows), Lost> {
        let mut room = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut head = httparse::Response::new(&mut room);
        if !matches!(head.parse(octets), Ok(httparse::Status::Complete(length)) if length == octets.len()) {
            return Err(Lost::NotHttp);
        }
        let (Some(status), Some(version)) = (head.code, head.version) else { return Err(Lost::NotHttp) };
        let follows = Follows::of(status, method, head.headers)?;
        let reason = head.reason.unwrap_or_default().to_owned();
        let fields = fields(head.headers, redact);
        Ok((Self { version, status, reason, fields, body: Body::default() }, follows))
    }
}

impl Body {
    /// Returns whether less is kept than there was, or than was to come.
    pub const fn is_cut(&self) -> bool {
        !self.is_whole || (self.kept.len() as u64) < self.octets
    }

    pub(super) fn put(&mut self, content: &[u8], limits: &Limits) {
        self.octets = self.octets.saturating_add(content.len() as u64);
        let room = limits.body.saturating_sub(self.kept.len()).min(content.len());
        self.kept.extend_from_slice(content.get(..room).unwrap_or_default());
    }
}

/// Returns how many octets of memory fields and a body are, about.
pub(super) fn weight(fields: &[Field], body: &Body) -> usize {
    let field = |field: &Field| EACH_FIELD + field.name.len() + field.value.as_ref().map_or(0, Vec::len);
    fields.iter().map(field).sum::<usize>() + body.kept.capacity()
}

fn fields(headers: &[httparse::Header<'_>], redact: &Redact) -> Vec<Field> {
    let field = |header: &httparse::Header<'_>| {
        let value = match core::str::from_utf8(header.value) {
            _ if redact.hides(header.name) => None,
            Ok(text) if ADDRESSES.iter().any(|name| header.name.eq_ignore_ascii_case(name)) => {
                Some(redact.query(text).0.into_bytes())
            }
            Ok(_) | Err(_) => Some(header.value.to_vec()),
        };
        Field { name: header.name.to_owned(), value }
    };
    headers.iter().map(field).collect()
}

/// The field that tells an upstream that a request was sent again, and which.
pub const MARK: &str = "x-adit-replay";
/// Fields of one connection, and those that are written anew.
const ONE_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "content-length",
    "expect",
    MARK,
];
/// Fields that hold addresses, whose queries may hold what is not kept.
const ADDRESSES: &[&str] = &["referer", "location", "content-location"];
/// A head has no more fields.
const MAX_FIELDS: usize = 100;
/// What a field costs beside its text, in octets.
const EACH_FIELD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Request {
        let (mut request, rest) = Request::read(text.as_bytes(), &Redact::new([])).unwrap();
        request.body.is_whole = rest.is_over();
        request
    }

    #[test]
    fn a_request_is_asked_again_without_what_was_not_kept_and_with_its_mark() {
        let text = "POST /a?x=1 HTTP/1.1\r\nHost: a\r\nauthorization: Bearer s3cret\r\nConnection: close, X-Hop\r\nx-hop: 1\r\n\
                    Transfer-Encoding: chunked\r\nX-Adit-Replay: 9\r\n\r\n";
        let mut request = request(text);
        request.body = Body { octets: 2, kept: b"hi".to_vec(), is_whole: true };

        let (octets, omitted) = request.again(7).unwrap();

        assert_eq!(
            String::from_utf8(octets).unwrap(),
            "POST /a?x=1 HTTP/1.1\r\nHost: a\r\ncontent-length: 2\r\nx-adit-replay: 7\r\nconnection: close\r\n\r\nhi"
        );
        assert_eq!(omitted, ["authorization"]);
        assert!(!format!("{request:?}").contains("s3cret"), "it is not even in memory");
    }

    #[test]
    fn what_was_not_kept_as_a_whole_is_not_asked_again() {
        let get = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
        let cut = Body { octets: 9, kept: b"hi".to_vec(), is_whole: true };
        let broken = Body { octets: 2, kept: b"hi".to_vec(), is_whole: false };
        for body in [cut, broken] {
            assert_eq!(Request { body, ..request(get) }.again(1), Err(Unrepeatable::Cut));
        }
        assert_eq!(request("GET /?token=x HTTP/1.1\r\n\r\n").again(1), Err(Unrepeatable::Redacted));
        assert_eq!(request("GET / HTTP/1.1\r\nupgrade: websocket\r\n\r\n").again(1), Err(Unrepeatable::Upgrade));
        assert!(request(get).again(1).is_ok());
    }

    #[test]
    fn a_length_that_can_be_read_in_two_ways_is_lost() {
        for fields in [
            "content-length: 1\r\ntransfer-encoding: chunked",
            "content-length: 1\r\ncontent-length: 2",
            "content-length: +1",
            "content-length:",
            "content-length: 99999999999999999999",
            "transfer-encoding: chunked, gzip",
        ] {
            let text = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
            assert_eq!(Request::read(text.as_bytes(), &Redact::new([])), Err(Lost::Ambiguous), "{fields}");
        }
    }
}
