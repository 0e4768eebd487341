//! An answer over HTTP/1.1, taken whole and within bounds, or not at all.

use bytes::Bytes;
use http::Response;

/// Reads an answer from its first octet; nothing while a part of it is to come. `is_over` when nothing more will.
///
/// # Errors
/// What is wrong with it.
pub(super) fn answer(octets: &[u8], to_head: bool, is_over: bool) -> Result<Option<Response<Bytes>>, String> {
    let mut rest = octets;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let length = match head.parse(rest) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Partial) if is_over => return Err("it ended within its head".to_owned()),
            Ok(httparse::Status::Partial) if rest.len() <= MAX_HEAD => return Ok(None),
            Ok(_) => return Err("its head is too long".to_owned()),
            Err(error) => return Err(format!("it is not HTTP: {error}")),
        };
        let body = rest.get(length..).unwrap_or_default();
        let status = head.code.unwrap_or_default();
        if (100..200).contains(&status) {
            rest = body; // there is more to come
            continue;
        }
        let length = if to_head || matches!(status, 204 | 304) { Length::Known(0) } else { Length::of(head.headers)? };
        let Some(body) = length.take(body, is_over)? else { return Ok(None) };
        let mut answer = Response::builder().status(status);
        for field in head.headers.iter() {
            answer = answer.header(field.name, field.value);
        }
        return answer.body(body).map(Some).map_err(|error| error.to_string());
    }
}

/// Reads what an authority's directory answers, for who fuzzes it.
///
/// # Errors
/// What is wrong with it, for people.
pub fn directory_answer(octets: &[u8], to_head: bool, is_over: bool) -> Result<Option<Response<Bytes>>, String> {
    answer(octets, to_head, is_over)
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Known(usize),
    Chunks,
    /// With the connection.
    End,
}

impl Length {
    fn of(fields: &[httparse::Header<'_>]) -> Result<Self, String> {
        let all = |name: &'static str| fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        let text = |field: &httparse::Header<'_>| String::from_utf8_lossy(field.value).trim().to_ascii_lowercase();
        if all("content-encoding").any(|field| text(field) != "identity") {
            return Err("it is in an encoding that was not asked for".to_owned());
        }
        let mut lengths = all("content-length").map(text);
        let codings: Vec<_> = all("transfer-encoding").map(text).collect();
        match (lengths.next(), codings.as_slice()) {
            (None, []) => Ok(Self::End),
            (None, [coding]) if coding == "chunked" => Ok(Self::Chunks),
            (Some(length), []) if lengths.all(|other| other == length) => {
                let plain = !length.is_empty() && length.bytes().all(|octet| octet.is_ascii_digit());
                let length = length.parse().ok().filter(|length| plain && *length <= MAX_BODY);
                length.map(Self::Known).ok_or_else(|| "its length is none, or too long".to_owned())
            }
            (..) => Err("how long it is, is said in two ways".to_owned()),
        }
    }

    /// Takes the body; nothing while a part of it is to come.
    fn take(self, octets: &[u8], is_over: bool) -> Result<Option<Bytes>, String> {
        let body = match self {
            Self::Known(length) => octets.get(..length).map(Bytes::copy_from_slice),
            Self::Chunks => chunks(octets)?,
            Self::End if octets.len() > MAX_BODY => return Err("it is too long".to_owned()),
            Self::End => is_over.then(|| Bytes::copy_from_slice(octets)),
        };
        if body.is_none() && is_over {
            return Err("it ended within its body".to_owned());
        }
        Ok(body)
    }
}

/// Joins chunks; nothing while one is to come.
fn chunks(mut octets: &[u8]) -> Result<Option<Bytes>, String> {
    let mut body = Vec::new();
    loop {
        let (begin, size) = match httparse::parse_chunk_size(octets) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) if octets.len() > MAX_HEAD => return Err("a chunk is not one".to_owned()),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err("a chunk is not one".to_owned()),
        };
        let size = usize::try_from(size).ok().filter(|size| body.len().saturating_add(*size) <= MAX_BODY);
        let size = size.ok_or("it is too long")?;
        octets = octets.get(begin..).unwrap_or_default();
        if size == 0 {
            // Fields may follow, and are of no use here; an empty line ends them.
            let ends = octets.starts_with(b"\r\n") || octets.windows(4).any(|window| window == b"\r\n\r\n");
            return match ends {
                true => Ok(Some(Bytes::from(body))),
                false if octets.len() > MAX_HEAD => Err("what follows its chunks is too long".to_owned()),
                false => Ok(None),
            };
        }
        let (Some(chunk), Some(end)) = (octets.get(..size), octets.get(size..size + 2)) else { return Ok(None) };
        if end != b"\r\n" {
            return Err("a chunk is longer than it says".to_owned());
        }
        body.extend_from_slice(chunk);
        octets = octets.get(size + 2..).unwrap_or_default();
    }
}

/// Octets of a body at most.
const MAX_BODY: usize = 1 << 20;
/// Octets of a head at most, and of what is between chunks.
const MAX_HEAD: usize = 16 << 10;
const MAX_FIELDS: usize = 64;
/// Octets of an answer at most: its chunks may be small.
pub(super) const MAX_ANSWER: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(octets: &[u8]) -> Result<(u16, Vec<u8>), String> {
        let answer = answer(octets, false, true)?.ok_or("more")?;
        Ok((answer.status().as_u16(), answer.body().to_vec()))
    }

    #[test]
    fn an_answer_is_taken_whole_however_its_length_is_said() {
        for octets in [
            &b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello"[..],
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello and more",
            b"HTTP/1.1 201 Created\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
            b"HTTP/1.0 201 Created\r\n\r\nhello",
        ] {
            assert_eq!(whole(octets), Ok((201, b"hello".to_vec())), "{}", String::from_utf8_lossy(octets));
            for end in 0..octets.len() {
                let part = answer(&octets[..end], false, false);
                assert!(part.is_ok_and(|answer| answer.is_none_or(|answer| answer.body() == "hello")), "{end}");
            }
        }
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nReplay-Nonce: n\r\n\r\n";
        let answer = answer(head, true, false).unwrap().unwrap();
        assert_eq!((answer.headers()["replay-nonce"].as_bytes(), answer.body().len()), (&b"n"[..], 0));
    }

    #[test]
    fn what_is_cut_off_too_long_or_said_in_two_ways_is_not_taken() {
        let long = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", MAX_BODY + 1);
        let head = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(MAX_HEAD));
        let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(MAX_FIELDS + 1));
        let chunk = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", MAX_BODY + 1);
        for (octets, expected) in [
            ("", "ended within its head"),
            ("SSH-2.0-x\r\n\r\n", "not HTTP"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", "ended within its body"),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", "length is none"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\nhello", "two ways"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello", "two ways"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "two ways"),
            ("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", "encoding"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n", "longer than it says"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not one"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", "ended within"),
            (&long, "length is none, or too long"),
            (&head, "too long"),
            (&fields, "not HTTP"),
            (&chunk, "too long"),
        ] {
            let problem = whole(octets.as_bytes()).unwrap_err();
            assert!(problem.contains(expected), "{octets:.80}: {problem}");
        }
        let body = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'x'; MAX_BODY + 1]].concat();
        assert!(answer(&body, false, false).unwrap_err().contains("too long"), "without waiting for its end");
    }

    proptest! {
        #[test]
        fn any_octets_are_an_answer_or_none(octets: Vec<u8>, body: Vec<u8>, to_head: bool, is_over: bool) {
            let _ = answer(&octets, to_head, is_over);
            let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            chunked.extend_from_slice(&body);
            let _ = answer(&chunked, to_head, is_over);
        }
    }
}
