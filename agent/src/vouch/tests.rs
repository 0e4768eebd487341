use proptest::prelude::*;

use super::*;

const FIELDS: [(&str, &str); 2] = [("x-client-cert-verified", "true"), ("client-cert", ":AA==:")];
const TOLD: &str = "x-client-cert-verified: true\r\nclient-cert: :AA==:\r\n\r\n";

/// A caller and an upstream that talk through a voucher.
struct Talk {
    voucher: Voucher,
    /// What the upstream has got.
    up: Vec<u8>,
    /// What the caller has got.
    down: Vec<u8>,
    last: Step,
}

impl Talk {
    fn new() -> Self {
        Self { voucher: Voucher::new(FIELDS), up: Vec::new(), down: Vec::new(), last: Step::More }
    }

    fn sends(&mut self, octets: impl AsRef<[u8]>) -> &mut Self {
        let octets = octets.as_ref();
        self.advance();
        if self.last == Step::More && !octets.is_empty() {
            self.voucher.handle_up(Bytes::copy_from_slice(octets));
        }
        self.advance();
        self.hears()
    }

    fn answers(&mut self, octets: impl AsRef<[u8]>) -> &mut Self {
        self.voucher.handle_down(octets.as_ref());
        self.down.extend_from_slice(octets.as_ref());
        self.advance();
        self.hears()
    }

    fn advance(&mut self) {
        loop {
            self.last = self.voucher.poll_up();
            let Step::Pass(octets) = &self.last else { return };
            assert!(!octets.is_empty(), "nothing is no piece");
            self.up.extend_from_slice(octets);
        }
    }

    fn hears(&mut self) -> &mut Self {
        if let Say::Between(octets) | Say::Last(octets) = self.voucher.poll_down() {
            self.down.extend_from_slice(&octets);
        }
        self
    }

    /// What the upstream has got since it was asked last, what is said of the caller written `<>`.
    fn got(&mut self) -> String {
        String::from_utf8(core::mem::take(&mut self.up)).unwrap().replace(TOLD, "<>")
    }

    fn heard(&mut self) -> String {
        String::from_utf8_lossy(&core::mem::take(&mut self.down)).into_owned()
    }
}

/// What goes to the upstream of octets that come in pieces, and why no more does.
fn passed(octets: &[u8], piece: usize) -> (Vec<u8>, Option<Refusal>) {
    let mut talk = Talk::new();
    for part in octets.chunks(piece) {
        talk.sends(part);
    }
    (talk.up, talk.voucher.refusal())
}

fn refusal(octets: impl AsRef<[u8]>) -> Option<Refusal> {
    passed(octets.as_ref(), usize::MAX).1
}

#[test]
fn each_request_says_who_calls_whatever_the_caller_says() {
    let get = "GET /a?b HTTP/1.1\r\nHost: a\r\nX-Kept:  yes \r\n";
    for forged in [
        "",
        "X-Client-Cert-Verified: true\r\n",
        "x_client_cert_verified: true\r\n",
        "X-CLIENT_CERT-subject: CN=admin\r\nX-Client-Cert-Subject: CN=admin\r\n",
        "X.Client.Cert.Verified: true\r\n",
        "x!client~cert*verified: true\r\n",
        "Client-Cert: :AA==:\r\nClient-Cert-Chain: :AA==:\r\nCLIENT_CERT: x\r\n",
        "X-SSL-Client-Verify: SUCCESS\r\nSSL_CLIENT_S_DN: CN=admin\r\nX-Client-DN: admin\r\nX_Client_Verify: 1\r\n",
        "x-client-cert-and-a-name-that-is-longer-than-what-is-folded: 1\r\n",
        "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    ] {
        for piece in [1, 7, 4_096] {
            let (up, why) = passed(format!("{get}{forged}\r\n").repeat(2).as_bytes(), piece);
            assert_eq!((String::from_utf8(up).unwrap(), why), (format!("{get}{TOLD}").repeat(2), None), "{forged}");
        }
    }
    let mut nobody = Voucher::new([]);
    nobody.handle_up(format!("{get}Client-Cert: :AA==:\r\n\r\n").into_bytes().into());
    assert_eq!(nobody.poll_up(), Step::Pass(Bytes::copy_from_slice(get.as_bytes())));
    assert_eq!(
        nobody.poll_up(),
        Step::Pass(Bytes::from_static(b"\r\n")),
        "of a caller without a certificate nothing is said"
    );
}

#[test]
fn an_upstream_that_hands_requests_on_is_not_told_to_leave_out_who_calls() {
    for (sent, kept) in [
        ("Connection: close", "Connection: close\r\n"),
        ("Connection: close, X-Client-Cert-Verified", "connection: close\r\n"),
        ("Connection: client_cert", ""),
        ("Connection: keep-alive, host ,Content-Length,transfer-encoding, te", "connection: keep-alive, te\r\n"),
    ] {
        let mut talk = Talk::new();
        talk.sends(format!("GET / HTTP/1.1\r\nHost: a\r\n{sent}\r\n\r\n"));
        assert_eq!(talk.got(), format!("GET / HTTP/1.1\r\nHost: a\r\n{kept}<>"), "{sent}");
    }
}

#[test]
fn bodies_pass_as_they_are_and_the_next_request_is_found_behind_them() {
    let length =
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 42\r\n\r\nGET / HTTP/1.1\r\nClient-Cert: :in a body:\r\n";
    let chunks = "POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n\
                  3;a=\"b\"\r\nGET\r\n0A \r\n0123456789\r\n000\r\n\r\n";
    let next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    let octets = format!("{length}{chunks}\r\n{next}");
    for piece in 1..octets.len() {
        let (up, why) = passed(octets.as_bytes(), piece);
        let up = String::from_utf8(up).unwrap().replace(TOLD, "\r\n");
        assert_eq!((up, why), (format!("{length}{chunks}{next}"), None));
    }
}

#[test]
fn a_body_is_not_copied() {
    let mut voucher = Voucher::new(FIELDS);
    voucher.handle_up(Bytes::from_static(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n"));
    while voucher.poll_up() != Step::More {}
    let body = Bytes::from(vec![7; 65_536]);

    voucher.handle_up(body.clone());

    let Step::Pass(passed) = voucher.poll_up() else { panic!("a body passes") };
    assert_eq!((passed.as_ptr(), passed.len()), (body.as_ptr(), body.len()));
}

#[test]
fn what_trails_a_body_says_nothing_of_the_caller_nor_of_the_message() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";
    let sent = "0\r\nx-sum: 1\r\nX_Client_Cert_Verified: true\r\nContent-Length: 7\r\nhost: b\r\nx-more: 2\r\n\r\n";
    for piece in [1, 5, 4_096] {
        let (up, why) = passed(format!("{head}\r\n{sent}").as_bytes(), piece);
        let kept = format!("{head}{TOLD}0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n");
        assert_eq!((String::from_utf8(up).unwrap(), why), (kept, None));
    }
    for bad in ["x-sum: 1\n\r\n", " folded: 1\r\n\r\n", "no colon\r\n\r\n", &"x: 1\r\n".repeat(101)] {
        let why = refusal(format!("{head}\r\n0\r\n{bad}\r\n"));
        assert!(matches!(why, Some(Refusal::Malformed | Refusal::TooLarge)), "{bad}");
    }
    assert_eq!(refusal(format!("{head}\r\n0\r\nx: {}\r\n\r\n", "y".repeat(8 << 10))), Some(Refusal::TooLarge));
}

#[test]
fn what_can_be_read_in_two_ways_is_refused_and_nothing_behind_it_passes() {
    let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    let chunked = |body: &str| with("Transfer-Encoding: chunked") + body;
    let bad = [
        with("Content-Length: 5\r\nTransfer-Encoding: chunked"),
        with("Content-Length: 5\r\nContent-Length: 5"),
        with("Content-Length: 5, 5"),
        with("Content-Length: +5"),
        with("Content-Length: 0x5"),
        with("Content-Length: 5 5"),
        with("Content-Length:"),
        with("Content-Length: 99999999999999999999"),
        with("Content_Length: 5"),
        with("Transfer.Encoding: chunked"),
        with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        with("Transfer-Encoding: gzip, chunked"),
        with("Transfer-Encoding: chunked, identity"),
        with("Transfer-Encoding: xchunked"),
        with("Transfer-Encoding:\u{b}chunked"),
        with("Transfer-Encoding : chunked"),
        with(" folded: 1"),
        with("a: 1\r\n\tfolded"),
        with("a: 1\rb: 2"),
        with("a: 1\nb: 2"),
        with("a: \0"),
        with("a\0: 1"),
        with("no colon"),
        with(": no name"),
        with("n\u{e4}me: 1"),
        with("Host: b"),
        with("Upgrade: web socket"),
        with("Upgrade: \u{e4}, h2c"),
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET / a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n".to_owned(),
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /\r\n\r\n".to_owned(),
        "GET /\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET / http/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\nHost: a\n\n".to_owned(),
        "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx".to_owned(),
        chunked("5\nhello\r\n0\r\n\r\n"),
        chunked("5\r\nhello0\r\n\r\n"),
        chunked("5;a\nb\r\nhello\r\n0\r\n\r\n"),
        chunked("5 5\r\nhello\r\n0\r\n\r\n"),
        chunked("0x5\r\nhello\r\n0\r\n\r\n"),
        chunked("-5\r\nhello\r\n0\r\n\r\n"),
        chunked("\r\n0\r\n\r\n"),
        chunked("ffffffffffffffff1\r\nhello"),
    ];
    for octets in bad {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        for piece in [1, 3, 4_096] {
            let (up, why) = passed(format!("{octets}{smuggled}").as_bytes(), piece);
            assert_eq!(why, Some(Refusal::Malformed), "{octets:?}");
            assert!(!String::from_utf8_lossy(&up).contains("smuggled"), "{octets:?}");
        }
    }
}

#[test]
fn what_is_too_much_of_another_version_or_expected_otherwise_is_refused_by_its_own_status() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n";
    let fields = |count: usize| format!("{get}{}\r\n", "a: 1\r\n".repeat(count));
    let long = |size: usize| format!("{get}a: {}\r\n\r\n", "x".repeat(size));
    let fits = MAX_HEAD - get.len() - "a: \r\n\r\n".len();
    assert_eq!((refusal(fields(99)), refusal(fields(100))), (None, Some(Refusal::TooLarge)));
    assert_eq!((refusal(long(fits)), refusal(long(fits + 1))), (None, Some(Refusal::TooLarge)));
    for (octets, why, status) in [
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), Refusal::Version, "505"),
        (format!("{get}Expect: 200-ok\r\n\r\n"), Refusal::Expectation, "417"),
        (format!("{get}Expect: y 100-continue\r\n\r\n"), Refusal::Expectation, "417"),
        (fields(100), Refusal::TooLarge, "431"),
        ("\u{16}\u{3}\u{1}\n".to_owned(), Refusal::Malformed, "400"),
    ] {
        let mut talk = Talk::new();
        talk.sends(octets);
        assert_eq!(talk.voucher.refusal(), Some(why));
        assert!(talk.heard().starts_with(&format!("HTTP/1.1 {status} ")), "{why}");
        assert_eq!((talk.got(), talk.voucher.poll_down()), (String::new(), Say::Nothing), "it is said once");
    }
}

#[test]
fn a_refusal_waits_for_the_answers_before_it_and_is_never_taken_for_a_part_of_one() {
    let (get, ok) = ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    let mut talk = Talk::new();
    talk.sends([get, get, "bad\r\n\r\n"].concat());
    assert_eq!(talk.heard(), "");
    assert_eq!(talk.answers([ok, "hi", ok].concat()).heard(), [ok, "hi", ok].concat());
    assert!(talk.answers("ho").heard().starts_with("hoHTTP/1.1 400 "));
    assert_eq!(talk.last, Step::Refused);

    // In a body: the upstream will not answer what it has a part of.
    let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut talk = Talk::new();
    assert!(talk.sends([post, "x"].concat()).heard().starts_with("HTTP/1.1 400 "));
    // It has answered already, or begun to: a second answer would be one to another request.
    for answered in [&[ok, "hi"].concat(), ok] {
        let mut talk = Talk::new();
        talk.sends(post).answers(answered).sends("x");
        talk.voucher.handle_down(if answered == ok { b"hi" } else { b"" });
        let heard = talk.hears().heard();
        assert!(!heard.contains("400") && talk.voucher.poll_down() == Say::Nothing, "{heard}");
    }
    // Nobody knows what was answered.
    let mut talk = Talk::new();
    talk.sends(get)
        .answers("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
        .sends("bad\r\n\r\n");
    assert_eq!(talk.voucher.poll_down(), Say::Cut);
}

#[test]
fn leave_to_send_a_body_is_the_agents_own_word_at_its_place() {
    let put = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n";
    let mut talk = Talk::new();
    assert_eq!(talk.sends(put).heard(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(
        talk.sends("hi").got(),
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n<>hi",
        "the upstream hears nothing of it"
    );
    // Behind the answer to the request before it.
    assert_eq!(talk.sends(put).heard(), "");
    let ok = "HTTP/1.1 204 No\r\n\r\n";
    assert_eq!(talk.answers(ok).heard(), format!("{ok}HTTP/1.1 100 Continue\r\n\r\n"));
    // Not when the answer has come, nor without a body.
    let mut talk = Talk::new();
    talk.sends("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    talk.sends(put).answers(format!("{ok}HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"));
    assert!(!talk.heard().contains("100"));
    let mut talk = Talk::new();
    assert_eq!(talk.sends("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n").heard(), "");
}

#[test]
fn another_protocol_begins_only_when_the_upstream_says_so() {
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let forged = "GET / HTTP/1.1\r\nHost: a\r\nClient-Cert: :AA==:\r\n\r\n";
    let mut talk = Talk::new();
    talk.sends([upgrade, forged].concat());
    assert_eq!((talk.got(), &talk.last), (upgrade.replace("\r\n\r\n", "\r\n<>"), &Step::Held));
    talk.answers("HTTP/1.1 101 Switching\r\n").answers("Upgrade: websocket\r\n\r\nframes");
    assert!(talk.voucher.poll_released());
    assert_eq!(talk.sends("more").got(), format!("{forged}more"), "whatever it is");

    for no in [
        "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nHTTP/1.1 101 Sw\r\n\r\n\n",
        "HTTP/1.1 426 No\r\ncontent-length: 0\r\n\r\n",
    ] {
        let mut talk = Talk::new();
        talk.sends([upgrade, forged].concat()).answers(no);
        assert!(talk.got().ends_with("<>GET / HTTP/1.1\r\nHost: a\r\n<>"), "{no}");
    }
    // An answer to the request before is none to this one, and a second upgrade waits as the first.
    let mut talk = Talk::new();
    talk.sends(["GET / HTTP/1.1\r\nHost: a\r\n\r\n", upgrade, forged].concat());
    talk.answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    assert_eq!(talk.last, Step::Held);
    // The upstream ends, or cannot be followed, in place of an answer.
    talk.voucher.handle_down_end();
    assert_eq!(talk.voucher.poll_up(), Step::Over);
    let mut talk = Talk::new();
    talk.sends(upgrade).answers("nonsense\r\n\r\n");
    assert_eq!((talk.voucher.refusal(), talk.voucher.poll_down()), (Some(Refusal::Answers), Say::Cut));
}

#[test]
fn a_request_in_a_protocol_that_carries_requests_stays_one_of_this() {
    for upgrade in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "TLS/1.0", "h2c/x"] {
        let mut talk = Talk::new();
        talk.sends(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {upgrade}\r\n\r\n"));
        assert_eq!(
            (talk.got(), &talk.last),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n<>".to_owned(), &Step::More)
        );
        // It was not asked to.
        talk.answers("HTTP/1.1 101 Switching\r\n\r\n").sends("GET / HTTP/1.1\r\nClient-Cert: :AA==:\r\n\r\n");
        assert_eq!(talk.got(), "", "{upgrade}");
    }
}

#[test]
fn connect_is_a_tunnel_only_if_the_upstream_grants_it() {
    let connect = "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n";
    let mut talk = Talk::new();
    talk.sends(connect).answers("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").sends("any octets\n");
    assert!(talk.got().ends_with("<>any octets\n"));
    let mut talk = Talk::new();
    talk.sends(connect).answers("HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n").sends("any octets\n");
    assert_eq!(talk.voucher.refusal(), Some(Refusal::Malformed));
}

#[test]
fn a_body_of_an_upgrade_passes_before_its_answer_is_waited_for() {
    let head = "POST /exec HTTP/1.1\r\nHost: a\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n";
    let mut talk = Talk::new();
    talk.sends(head).answers("HTTP/1.1 409 No\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(talk.sends("hi").last, Step::More, "it was answered before the body was over");
    let mut talk = Talk::new();
    talk.sends(head).sends("hi");
    assert_eq!(talk.last, Step::Held);
    assert_eq!(talk.answers("HTTP/1.1 101 Yes\r\n\r\n").last, Step::More);
    let mut talk = Talk::new();
    talk.sends(head).answers("HTTP/1.1 101 Yes\r\n\r\n").sends("GET");
    assert_eq!((talk.voucher.refusal(), talk.voucher.poll_down()), (Some(Refusal::Answers), Say::Cut), "too early");
}

#[test]
fn requests_whose_answers_do_not_come_hold_up_those_behind_them() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut talk = Talk::new();
    talk.sends(get.repeat(34));
    assert_eq!((talk.got().matches("GET").count(), &talk.last), (32, &Step::Held));
    talk.answers("HTTP/1.1 204 No\r\n\r\n");
    assert!(talk.voucher.poll_released());
    assert_eq!(talk.got().matches("GET").count(), 1);
    // What is nonsense to us may be none to the caller: it is not waited for what is not followed.
    talk.answers("nonsense\r\n\r\n").sends("");
    assert_eq!((talk.got().matches("GET").count(), &talk.last), (1, &Step::More));
    assert_eq!(talk.sends(get.repeat(100)).got().matches("GET").count(), 100);
}

#[test]
fn a_head_that_does_not_come_in_time_is_refused_and_each_has_its_own_time() {
    let mut talk = Talk::new();
    assert_eq!(talk.voucher.partial(), None, "between requests there is time");
    talk.sends("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET");
    let first = talk.voucher.partial().unwrap();
    talk.answers("HTTP/1.1 204 No\r\n\r\n").sends(" / HTTP/1.1\r\nHost: a\r\n\r\nPOST");
    assert_ne!(talk.voucher.partial().unwrap(), first);
    talk.answers("HTTP/1.1 204 No\r\n\r\n");
    talk.heard();
    talk.voucher.handle_late();
    assert!(talk.hears().heard().starts_with("HTTP/1.1 408 "));
    let mut talk = Talk::new();
    talk.sends("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
    assert!(talk.voucher.partial().is_some());
}

type Fields = Vec<(String, Vec<u8>)>;

/// What httparse reads of a request.
fn parsed(octets: &[u8]) -> Option<(String, String, u8, Fields, usize)> {
    let mut room = [httparse::EMPTY_HEADER; 200];
    let mut head = httparse::Request::new(&mut room);
    let Ok(httparse::Status::Complete(length)) = head.parse(octets) else { return None };
    let fields = head.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
    Some((head.method?.to_owned(), head.path?.to_owned(), head.version?, fields, length))
}

fn is_taken_out(name: &str) -> bool {
    let folded: String =
        name.chars().map(|sign| if sign.is_ascii_alphanumeric() { sign.to_ascii_lowercase() } else { '-' }).collect();
    ["client-cert", "x-client-cert", "x-ssl-client", "ssl-client"].iter().any(|prefix| folded.starts_with(prefix))
        || ["x-client-dn", "x-client-verify", "expect", "http2-settings", "upgrade", "connection"].contains(&&*folded)
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        Just("Host".to_owned()),
        Just("Content-Length".to_owned()),
        Just("Transfer-Encoding".to_owned()),
        Just("Connection".to_owned()),
        Just("Upgrade".to_owned()),
        Just("Expect".to_owned()),
        "[Xx][-_.]client[-_]cert[-a-z]{0,9}",
        "[!-~]{1,12}",
    ];
    let value = prop_oneof![
        Just(b"chunked".to_vec()),
        Just(b"3".to_vec()),
        Just(b"100-continue".to_vec()),
        "[ -~\t]{0,12}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    let colon = prop_oneof![9 => Just(": "), 3 => Just(":"), 1 => Just(" :"), 1 => Just("")];
    let end = prop_oneof![20 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\n ")];
    (name, colon, value, end)
        .prop_map(|(name, colon, value, end)| [name.as_bytes(), colon.as_bytes(), &value, end.as_bytes()].concat())
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        9 => Just("GET /a HTTP/1.1\r\nhost: a\r\n".to_owned()),
        3 => Just("POST / HTTP/1.0\r\n".to_owned()),
        1 => "[ -~]{0,20}\r\n",
    ];
    let body = prop_oneof![Just(""), Just("abc"), Just("3\r\nabc\r\n0\r\nclient-cert: x\r\n\r\n")];
    (first, prop::collection::vec(line(), 0..6), body)
        .prop_map(|(first, lines, body)| [first.as_bytes(), &lines.concat(), b"\r\n", body.as_bytes()].concat())
}

proptest! {
    /// What passes is what another parser reads of it, with what is said of the caller and without what it says of itself.
    #[test]
    fn what_passes_is_read_by_others_as_it_was_meant(octets in message(), piece in 1_usize..40) {
        let (up, _) = passed(&octets, piece);
        let Some((method, target, version, fields, length)) = parsed(&up) else {
            prop_assert!(up.is_empty(), "what cannot be read does not pass");
            return Ok(());
        };
        let skipped = octets.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
        let meant = parsed(&octets[skipped..]).expect("what passes could be read");
        prop_assert_eq!((method, target, version), (meant.0, meant.1, meant.2));
        let told: Fields = FIELDS.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        let (own, ours) = fields.split_at(fields.len() - told.len());
        prop_assert_eq!(ours, told.as_slice());
        let kept = |fields: &[(String, Vec<u8>)]| -> Fields {
            fields.iter().filter(|(name, _)| !is_taken_out(name)).cloned().collect()
        };
        prop_assert_eq!(kept(own), kept(&meant.3));
        prop_assert!(own.iter().all(|(name, _)| !is_taken_out(name) || ["connection", "upgrade"].contains(&&*name.to_ascii_lowercase())));
        prop_assert!(octets.len() >= skipped + meant.4 && length <= up.len());
    }

    /// The pieces in which octets come change nothing, but how much of a body has passed before it turns out to be none.
    #[test]
    fn pieces_do_not_matter(octets in prop::collection::vec(message(), 1..4), piece in 1_usize..40) {
        let octets = octets.concat();
        let ((passed_whole, fault), (passed_piecewise, same)) = (passed(&octets, usize::MAX), passed(&octets, piece));
        prop_assert_eq!(&same, &fault);
        let ends = if fault.is_some() { passed_whole.len().min(passed_piecewise.len()) } else { passed_whole.len() };
        prop_assert_eq!(passed_piecewise.get(..ends), passed_whole.get(..ends));
        prop_assert!(fault.is_some() || passed_piecewise.len() == ends);
    }
}
