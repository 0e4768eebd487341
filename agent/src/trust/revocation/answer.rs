//! What a server of lists answers: taken whole or not at all.

use super::MAX_LIST;

/// Returns the body of a whole answer.
pub(crate) fn body(answer: &[u8]) -> Result<&[u8], String> {
    let head_end = answer.windows(4).take(MAX_HEAD).position(|window| window == b"\r\n\r\n");
    let head_end = head_end.ok_or("the answer is not one of HTTP, or cut off")?;
    let (head, rest) = answer.split_at_checked(head_end).ok_or("cut off")?;
    let body = rest.get(4..).unwrap_or_default();
    let head = core::str::from_utf8(head).map_err(|_| "the head of the answer is not text")?;
    let mut lines = head.split("\r\n");
    let mut status = lines.next().unwrap_or_default().splitn(3, ' ');
    let is_http = status.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let code = status.next().unwrap_or_default();
    if !is_http || code.len() != 3 {
        return Err("the answer is not one of HTTP".to_owned());
    }
    if code != "200" {
        return Err(format!("the answer is {}", code.escape_debug())); // a redirect too, and a proxy's word
    }
    if body.len() > MAX_LIST {
        return Err(format!("the list is longer than {MAX_LIST} octets"));
    }
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("the answer is in pieces, which was not asked for".to_owned());
        }
        if name.eq_ignore_ascii_case("content-length") && value.parse() != Ok(body.len()) {
            return Err("the answer is cut off".to_owned());
        }
    }
    Ok(body)
}

/// The head of an answer is not longer, in octets.
pub(super) const MAX_HEAD: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_whole_or_not_at_all() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Ok("abc")),
            ("HTTP/1.0 200 OK\r\n\r\nabc", Ok("abc")),
            ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabc", Err("cut off")),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabc", Err("cut off")),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Err("in pieces")),
            ("HTTP/1.1 301 Moved\r\nLocation: /b\r\n\r\n", Err("answer is 301")),
            ("HTTP/1.1 404 Not Found\r\n\r\n", Err("answer is 404")),
            ("HTTP/1.1 200 OK\r\n", Err("cut off")),
            ("SSH-2.0-x\r\n\r\n", Err("not one of HTTP")),
            ("", Err("cut off")),
        ] {
            match (body(answer.as_bytes()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected.as_bytes()),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, _) => panic!("{answer:?}: {found:?}"),
            }
        }
        let long = [b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), vec![0; MAX_LIST + 1]].concat();
        assert!(body(&long).unwrap_err().contains("longer"));
        assert!(body(&long[..long.len() - 1]).is_ok());
    }
}
