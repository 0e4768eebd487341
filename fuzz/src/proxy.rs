//! What a proxy says before the way is open, and how its URL and `NO_PROXY` may be written.

use adit_runtime::{Bypass, Proxy, ProxyError, sans_io::Handshake};

use crate::Choices;

/// Any octets of a proxy open the way or refuse it, in the same way however they are cut; what is asked of it is one request and
/// tells the password in no error. Any text is a URL or not, and any list says of each host whether it is excepted.
pub fn proxy(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    if choices.below(4) == 3 {
        texts(&String::from_utf8_lossy(choices.rest()));
        return;
    }
    let proxy = Proxy::parse(choices.one_of(URLS)).expect("one of ours");
    let (host, port) = (choices.one_of(HOSTS), choices.one_of(&[1, 443, u16::MAX]));
    let Ok(handshake) = Handshake::new(&proxy, host, port) else { return };
    let good = choices.one_of(GOOD);
    let said = [&good[..choices.below(good.len() + 1)], choices.rest()].concat();

    let whole = talk(handshake, &said, said.len());
    for chunk in [1, 7] {
        let again = talk(Handshake::new(&proxy, host, port).expect("as before"), &said, chunk);
        assert_eq!(whole.1, again.1, "{said:?}");
        // What is refused may have been refused before everything was asked.
        assert!(whole.1.is_err() || whole.0 == again.0, "{said:?}");
    }
    if let Err(error) = &whole.1 {
        let text = error.to_string();
        assert!(text.len() < 2_000 && !text.contains("s3cret") && !text.chars().any(char::is_control), "{text}");
    }
    let asked = String::from_utf8_lossy(&whole.0);
    if asked.starts_with("CONNECT ") {
        assert!(asked.ends_with("\r\n\r\n") && asked.matches("\r\n\r\n").count() == 1, "{asked}");
    }
}

/// Lets the proxy say everything in pieces; returns what it was told, and whether the way is open.
fn talk(mut handshake: Handshake, said: &[u8], chunk: usize) -> (Vec<u8>, Result<bool, ProxyError>) {
    let mut told = Vec::new();
    for piece in said.chunks(chunk.max(1)) {
        told.extend(handshake.poll_output().unwrap_or_default());
        if let Err(error) = handshake.handle_input(piece) {
            return (told, Err(error));
        }
    }
    told.extend(handshake.poll_output().unwrap_or_default());
    (told, Ok(handshake.is_done()))
}

fn texts(text: &str) {
    if let Ok(proxy) = Proxy::parse(text) {
        let shown = proxy.to_string();
        assert!(!shown.contains('@') && shown.bytes().all(|octet| octet.is_ascii_graphic()), "{shown}");
        let again = Proxy::parse(&shown).expect("what is shown can be read");
        assert_eq!((again.protocol, &again.host, again.port), (proxy.protocol, &proxy.host, proxy.port));
    }
    let bypass = Bypass::parse(text);
    for host in HOSTS {
        let covered = bypass.covers(host, 443);
        assert_eq!(covered, bypass.covers(&host.to_ascii_uppercase(), 443), "{text}");
        assert!(
            Bypass::parse(&format!("{text},*")).covers(host, 443) || text.split([',', ' ', '\t', ';']).count() >= 1_024
        );
        assert!(!covered || bypass.clone().and_loopback().covers(host, 443), "{text}");
    }
}

const URLS: &[&str] = &[
    "http://p:1",
    "http://u:s3cret@p:1",
    "https://u:s3cret@p",
    "socks5://p",
    "socks5://u:s3cret@p:1",
    "socks5://[::1]",
];

const HOSTS: &[&str] = &["node.example.com", "192.0.2.1", "::1", "[2001:db8::1]", "localhost", "a\r\nb", "x.", ""];

const GOOD: &[&[u8]] = &[
    b"",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.0 100 Continue\n\nHTTP/1.1 204 x\r\nA: b\r\n\r\n",
    b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\nProxy-Authenticate: Negotiate\r\n\r\n",
    b"HTTP/1.1 503 \x1b[2J\r\n\r\n",
    b"\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50",
    b"\x05\x02\x01\x00\x05\x00\x00\x03\x04name\x00\x50",
    b"\x05\x02\x01\x00\x05\x00\x00\x04aaaabbbbccccdddd\x00\x50",
    b"\x05\x00\x05\x02",
    b"\x05\xff",
];
