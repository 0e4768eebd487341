//! Questions and answers: HTTP/1, one of each on a connection, so that nothing can follow a question unseen.

use adit_core::Secret;
use serde_json::{Value, json};

use crate::errors::{Error, Fault};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    /// Each `Host` there is.
    pub(super) hosts: Vec<String>,
    /// Whether a page of a browser asks.
    pub(super) has_origin: bool,
    /// Behind `Bearer`.
    pub(super) token: Option<Secret>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Asked {
    /// Reads a head that has come as a whole.
    ///
    /// # Errors
    /// The answer to what is no question.
    pub(super) fn read(octets: &[u8]) -> Result<Self, Answer> {
        let malformed = || Answer::refusal(400, Fault::LocalRequest, "not a request of HTTP/1");
        let mut room = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut head = httparse::Request::new(&mut room);
        if !matches!(head.parse(octets), Ok(httparse::Status::Complete(length)) if length == octets.len()) {
            return Err(malformed());
        }
        let (Some(method), Some(target)) = (head.method, head.path) else { return Err(malformed()) };
        let mut asked = Self {
            method: match method {
                "GET" => Method::Get,
                "POST" => Method::Post,
                _ => return Err(Answer::refusal(405, Fault::LocalRequest, "only GET and POST are understood")),
            },
            path: String::new(),
            query: Vec::new(),
            hosts: Vec::new(),
            has_origin: false,
            token: None,
        };
        if !target.starts_with('/') {
            return Err(malformed());
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        path.clone_into(&mut asked.path);
        let pairs = query.split('&').filter_map(|part| part.split_once('='));
        asked.query = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        for header in head.headers.iter() {
            asked.field(header.name, header.value.trim_ascii())?;
        }
        Ok(asked)
    }

    fn field(&mut self, name: &str, value: &[u8]) -> Result<(), Answer> {
        match name.to_ascii_lowercase().as_str() {
            "host" => self.hosts.push(String::from_utf8_lossy(value).to_ascii_lowercase()),
            "origin" => self.has_origin = true,
            "authorization" => {
                let given = value.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
                self.token = given.map(|(_, token)| Secret::new(token.trim_ascii()));
            }
            "content-length" if value == b"0" => {}
            "content-length" | "transfer-encoding" => {
                return Err(Answer::refusal(413, Fault::LocalRequest, "no question has a body"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the number at `name`, or `default`; at most `most`.
    ///
    /// # Errors
    /// The answer to what is no number.
    pub(super) fn number(&self, name: &str, default: Option<u64>, most: u64) -> Result<Option<u64>, Answer> {
        let Some((_, text)) = self.query.iter().find(|(known, _)| known == name) else { return Ok(default) };
        let number: Result<u64, _> = text.parse();
        let wrong = |_| Answer::refusal(400, Fault::LocalRequest, &format!("`{name}` is not a number"));
        number.map(|number| Some(number.min(most))).map_err(wrong)
    }
}

impl Answer {
    pub(super) const fn fine(body: Value) -> Self {
        Self { status: 200, body }
    }

    pub(super) fn refusal(status: u16, fault: Fault, detail: &str) -> Self {
        Self::error(status, &Error::new(fault, detail.to_owned()))
    }

    pub(super) fn error(status: u16, error: &Error) -> Self {
        let entry = error.fault.entry();
        let body = json!({ "error": {
            "code": error.fault.code(), "title": entry.title, "detail": error.detail, "remedy": entry.remedy,
        } });
        Self { status, body }
    }

    /// Returns the octets of it.
    pub(super) fn octets(&self) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            409 => "Conflict",
            413 => "Content Too Large",
            421 => "Misdirected Request",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            502 => "Bad Gateway",
            _ => "Error",
        };
        let body = self.body.to_string();
        let more = if self.status == 401 { "www-authenticate: Bearer\r\n" } else { "" };
        // Nothing of it is for a cache or a page of a browser.
        format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
             x-content-type-options: nosniff\r\nconnection: close\r\n{more}\r\n{body}\n",
            self.status,
            body.len() + 1
        )
        .into_bytes()
    }
}

/// A head has no more fields.
const MAX_FIELDS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Asked, u16> {
        Asked::read(text.as_bytes()).map_err(|answer| answer.status)
    }

    #[test]
    fn a_question_is_read_with_all_that_matters() {
        let text = "GET /v1/logs?after=7&wait=20&x HTTP/1.1\r\nHost: LOCALHOST:1\r\norigin: null\r\nAuthorization: bearer abc \r\n\r\n";

        let asked = read(text).unwrap();

        assert_eq!((asked.method, asked.path.as_str(), asked.has_origin), (Method::Get, "/v1/logs", true));
        assert_eq!(
            (asked.hosts.as_slice(), asked.token.clone()),
            (&["localhost:1".to_owned()][..], Some(Secret::new("abc")))
        );
        assert_eq!((asked.number("after", None, 100), asked.number("wait", None, 9)), (Ok(Some(7)), Ok(Some(9))));
        assert_eq!((asked.number("limit", Some(3), 9), asked.number("none", None, 9)), (Ok(Some(3)), Ok(None)));
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let fields = "a: b\r\n".repeat(33);
        for (text, status) in [
            ("\r\n\r\n".to_owned(), 400),
            ("GET http://a/v1/status HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("GET * HTTP/1.1\r\n\r\n".to_owned(), 400),
            (format!("GET / HTTP/1.1\r\n{fields}\r\n"), 400),
            ("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("DELETE / HTTP/1.1\r\n\r\n".to_owned(), 405),
            ("POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\n".to_owned(), 413),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(), 413),
        ] {
            assert_eq!(read(&text), Err(status), "{text}");
        }
        let wrong = read("GET /?after=-1 HTTP/1.1\r\n\r\n").unwrap().number("after", None, 9);
        assert_eq!(wrong.map_err(|answer| answer.status), Err(400));
    }

    #[test]
    fn an_answer_says_that_nobody_keeps_it_and_that_the_connection_ends() {
        let text = String::from_utf8(Answer::refusal(401, Fault::LocalForbidden, "no token").octets()).unwrap();

        for line in
            ["HTTP/1.1 401 Unauthorized", "cache-control: no-store", "connection: close", "www-authenticate: Bearer"]
        {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.contains("\"code\":\"ADIT-1473\"") && text.ends_with("}\n"), "{text}");
    }
}
