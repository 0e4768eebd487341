use alloc::{borrow::ToOwned, string::String, vec::Vec};

use super::*;

fn proxy(url: &str) -> Proxy {
    Proxy::parse(url).expect("a proxy")
}

/// Talks to a proxy that says `parts`, one after each thing that it hears; returns what it heard, and what came of it.
fn talk(url: &str, host: &str, parts: &[&[u8]]) -> (Vec<u8>, Result<bool, ProxyError>) {
    let mut handshake = Handshake::new(&proxy(url), host, 443).expect("a destination");
    let mut heard = Vec::new();
    for part in parts {
        heard.extend(handshake.poll_output().unwrap_or_default());
        if let Err(error) = handshake.handle_input(part) {
            return (heard, Err(error));
        }
    }
    heard.extend(handshake.poll_output().unwrap_or_default());
    (heard, Ok(handshake.is_done()))
}

fn said(url: &str, answer: &[u8]) -> Result<bool, ProxyError> {
    talk(url, "node.example.com", &[answer]).1
}

#[test]
fn connect_asks_for_the_destination_and_tells_who_asks() {
    let ok = b"HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n";

    let (heard, done) = talk("http://u:p@proxy", "node.example.com", &[ok]);

    let request = "CONNECT node.example.com:443 HTTP/1.1\r\nHost: node.example.com:443\r\nUser-Agent: adit\r\nProxy-Authorization: Basic dTpw\r\n\r\n";
    assert_eq!((heard, done), (request.as_bytes().to_vec(), Ok(true)));
    let (heard, _) = talk("http://proxy", "2001:db8::1", &[ok]);
    assert!(heard.starts_with(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n"));
    assert!(!heard.windows(13).any(|part| part == b"Authorization"));
}

#[test]
fn an_answer_may_come_octet_by_octet_after_interim_ones_and_with_bare_line_feeds() {
    let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\nVia: a\n\n";
    let octets: Vec<&[u8]> = answer.chunks(1).collect();

    assert_eq!(talk("http://proxy", "a", &octets).1, Ok(true));
}

#[test]
fn each_refusal_of_an_http_proxy_is_told_as_what_it_is() {
    let text = |text: &str| text.to_owned();
    let wanted = b"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate:  Basic realm=\"x\"\r\n\r\n";
    let offered = text("Negotiate, Basic");
    assert_eq!(said("http://p", wanted), Err(ProxyError::CredentialsWanted { offered: offered.clone() }));
    assert_eq!(said("http://u:p@p", wanted), Err(ProxyError::CredentialsRefused { offered }));
    let refused = Err(ProxyError::CredentialsRefused { offered: String::new() });
    assert_eq!(said("http://u:p@p", b"HTTP/1.1 401 Unauthorized\r\n\r\n"), refused);
    for (answer, error) in [
        ("HTTP/1.1 403 Filtered\r\n\r\n", ProxyError::Forbidden { said: text("403 Filtered") }),
        ("HTTP/1.1 503 \r\n\r\n", ProxyError::Destination { said: text("503") }),
        ("HTTP/1.1 504\r\n\r\n", ProxyError::Destination { said: text("504") }),
        ("HTTP/1.1 302 Found\r\n\r\n", ProxyError::Refused { said: text("302 Found") }),
        ("HTTP/1.1 500 a\u{1b}[2Jb\r\n\r\n", ProxyError::Refused { said: text("500 a\\u{1b}[2Jb") }),
    ] {
        assert_eq!(said("http://p", answer.as_bytes()), Err(error), "{answer}");
    }
}

#[test]
fn what_is_not_an_http_proxy_is_told_by_what_it_seems_to_be() {
    for (answer, what) in [
        (&b"\x15\x03\x01\x00\x02\x02\x46"[..], "it speaks TLS"),
        (b"\x05\xff", "it speaks SOCKS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "it does not speak HTTP"),
        (b"HTTP/2 200\r\n\r\n", "it does not speak HTTP"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "its answer is not one of HTTP/1"),
        (b"HTTP/1.9 200 OK\r\n\r\n", "its answer is not one of HTTP/1"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "its answer is not one of HTTP/1"),
    ] {
        assert_eq!(said("http://p", answer), Err(ProxyError::NotAProxy { what }), "{answer:?}");
    }
    assert_eq!(said("http://p", b""), Err(ProxyError::Closed));
}

#[test]
fn a_proxy_that_says_too_much_is_refused_at_the_limit() {
    let ok = b"HTTP/1.1 200 OK\r\n\r\n";
    let early = [ok.as_slice(), b"x"].concat();
    assert_eq!(said("http://p", &early), Err(ProxyError::Early));
    assert_eq!(talk("http://p", "a", &[ok, b"x"]).1, Err(ProxyError::Early));

    let mut long = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    long.resize(MAX_REPLY - 4, b'x');
    assert_eq!(talk("http://p", "a", &[&long, b"\r\n\r\n"]).1, Ok(true));
    long.push(b'x');
    let endless = Err(ProxyError::NotAProxy { what: "its answer has no end" });
    assert_eq!(talk("http://p", "a", &[&long, b"xxxx"]).1, endless);
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(5);
    assert_eq!(said("http://p", &interim), Err(ProxyError::Refused { said: "100 Continue".to_owned() }));
}

#[test]
fn socks_sends_the_name_and_the_login_if_it_is_asked_for() {
    let reply = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x10\x00";
    let request = b"\x05\x01\x00\x03\x10node.example.com\x01\xbb";

    let (heard, done) = talk("socks5://p", "node.example.com", &[b"\x05\x00", reply]);
    assert_eq!((heard, done), ([b"\x05\x01\x00".as_slice(), request].concat(), Ok(true)));

    let (heard, done) = talk("socks5://u:pw@p", "node.example.com", &[b"\x05\x02", b"\x01\x00", reply]);
    let login = b"\x01\x01u\x02pw".as_slice();
    assert_eq!((heard, done), ([b"\x05\x02\x00\x02".as_slice(), login, request].concat(), Ok(true)));

    let (heard, done) = talk("socks5://u:pw@p", "192.0.2.1", &[b"\x05\x00", b"\x05\x00\x00\x03\x01a\x00\x00"]);
    assert_eq!(heard, [b"\x05\x02\x00\x02".as_slice(), b"\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb"].concat());
    assert_eq!(done, Ok(true), "who asks for no login gets none");
}

#[test]
fn a_socks_reply_may_come_octet_by_octet() {
    let all = b"\x05\x02\x01\x00\x05\x00\x00\x04aaaabbbbccccdddd\x10\x00";
    let octets: Vec<&[u8]> = all.chunks(1).collect();

    assert_eq!(talk("socks5://u:p@p", "a", &octets).1, Ok(true));
}

#[test]
fn each_refusal_of_a_socks_proxy_is_told_as_what_it_is() {
    let nothing = String::new;
    assert_eq!(said("socks5://p", b"\x05\xff"), Err(ProxyError::CredentialsWanted { offered: nothing() }));
    assert_eq!(said("socks5://u:p@p", b"\x05\xff"), Err(ProxyError::CredentialsRefused { offered: nothing() }));
    assert_eq!(said("socks5://u:p@p", b"\x05\x02\x01\x01"), Err(ProxyError::CredentialsRefused { offered: nothing() }));
    for (code, error) in [
        (1, ProxyError::Refused { said: "SOCKS reply 1, general failure".to_owned() }),
        (2, ProxyError::Forbidden { said: "SOCKS reply 2, not allowed by its rules".to_owned() }),
        (4, ProxyError::Destination { said: "SOCKS reply 4, host unreachable".to_owned() }),
        (5, ProxyError::Destination { said: "SOCKS reply 5, connection refused".to_owned() }),
        (200, ProxyError::Refused { said: "SOCKS reply 200, unknown".to_owned() }),
    ] {
        assert_eq!(said("socks5://p", &[5, 0, 5, code]), Err(error));
    }
    for (answer, what) in [
        (&b"HTTP/1.1 400"[..], "it speaks HTTP"),
        (b"\x00\x5b", "it speaks SOCKS 4"),
        (b"SSH-2.0", "it does not speak SOCKS 5"),
        (b"\x05\x02", "it chose what it was not offered"),
        (b"\x05\x01", "it chose what it was not offered"),
        (b"\x05\x00\x05\x00\x00\x09\x00", "its reply has an address of no known kind"),
    ] {
        assert_eq!(said("socks5://p", answer), Err(ProxyError::NotAProxy { what }), "{answer:?}");
    }
    assert_eq!(said("socks5://p", b"\x05\x00\x05\x00\x00\x01aaaappx"), Err(ProxyError::Early));
}

#[test]
fn what_cannot_be_written_in_a_request_is_not() {
    for host in ["", "a b", "a\r\nb", "a/b", "a@b", &"x".repeat(254)] {
        for url in ["http://p", "socks5://p"] {
            assert_eq!(Handshake::new(&proxy(url), host, 1).err(), Some(ProxyError::Name), "{host:?}");
        }
    }
    let long = ["socks5://u:", &"x".repeat(256), "@p"].concat();
    assert!(matches!(Handshake::new(&proxy(&long), "a", 1), Err(ProxyError::CredentialsRefused { .. })));
}
