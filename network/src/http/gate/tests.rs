use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { size: 4096, fields: 20, target: 1024 };

#[test]
fn what_has_one_reading_passes_to_its_end() {
    for request in GOOD {
        let (passed, stop) = read(&[request.as_bytes(), b"NEXT"].concat(), usize::MAX);

        assert_eq!(passed, request.len(), "{request:?}");
        assert!(matches!(stop, Stop::End { .. }), "{request:?}: {stop:?}");
    }
}

#[test]
fn what_has_two_readings_is_refused_before_anything_of_it_passes() {
    for request in BAD_HEADS {
        let (passed, stop) = read(request.as_bytes(), usize::MAX);

        assert_eq!((passed, stop), (0, refused(Fault::RequestMalformed, true)), "{request:?}");
    }
}

#[test]
fn a_bad_chunk_stops_the_body_at_the_fault() {
    for body in BAD_CHUNKS {
        let request = format!("{CHUNKED}{body}");

        let (passed, stop) = read(request.as_bytes(), usize::MAX);

        assert_eq!(stop, refused(Fault::RequestMalformed, false), "{body:?}");
        assert!((CHUNKED.len()..request.len()).contains(&passed), "{body:?}");
    }
}

#[test]
fn faults_that_have_their_own_name_get_it() {
    for (request, fault) in [
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Fault::HttpVersion),
        ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", Fault::HttpVersion),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Fault::HttpVersion),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Fault::MethodRefused),
    ] {
        assert_eq!(read(request.as_bytes(), usize::MAX), (0, refused(fault, true)), "{request:?}");
    }
}

#[test]
fn limits_hold_one_octet_and_one_field_further() {
    let head = |fill: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(fill));
    let exact = LIMITS.size - head(0).len();
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a:\r\n".repeat(count - 1));
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 1));

    for (inside, beyond, fault) in [
        (head(exact), head(exact + 1), Fault::HeaderTooLarge),
        (fields(LIMITS.fields), fields(LIMITS.fields + 1), Fault::HeaderTooLarge),
        (target(LIMITS.target), target(LIMITS.target + 1), Fault::TargetTooLong),
    ] {
        assert_eq!(read(inside.as_bytes(), usize::MAX), (inside.len(), Stop::End { upgrade: false }));
        assert_eq!(read(beyond.as_bytes(), usize::MAX), (0, refused(fault, true)));
    }
}

#[test]
fn a_head_without_end_is_refused_at_the_limit() {
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(LIMITS.size));

    assert_eq!(read(endless.as_bytes(), 100), (0, refused(Fault::HeaderTooLarge, true)));
}

#[test]
fn only_an_upgrade_that_both_fields_ask_for_leaves_the_rest_undecided() {
    let request = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    for (lines, upgrade) in [
        ("Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n", true),
        ("Upgrade: websocket\r\n", false),
        ("Connection: upgrade\r\n", false),
    ] {
        assert_eq!(read(request(lines).as_bytes(), usize::MAX).1, Stop::End { upgrade }, "{lines:?}");
    }
    let old = "GET / HTTP/1.0\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    assert_eq!(read(old.as_bytes(), usize::MAX).1, Stop::End { upgrade: false });
}

#[test]
fn after_an_accepted_upgrade_everything_passes_and_after_a_refused_one_http_goes_on() {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    let gate = || {
        let mut gate = Gate::new(LIMITS);
        gate.handle_input(request);
        gate
    };
    let (mut accepted, mut declined) = (gate(), gate());

    accepted.open();
    declined.begin();

    assert_eq!(accepted.handle_input(b"\0\r\n\xff"), Progress { pass: 4, stop: Stop::More });
    assert_eq!(declined.handle_input(b"\0\n"), Progress { pass: 0, stop: refused(Fault::RequestMalformed, true) });
}

#[test]
fn only_an_upgrade_opens_the_gate() {
    let mut gate = Gate::new(LIMITS);
    gate.handle_input(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");

    gate.open();

    assert_eq!(gate.handle_input(b"\0"), Progress { pass: 0, stop: Stop::End { upgrade: false } });
}

proptest! {
    #[test]
    fn the_cuts_do_not_matter(pick in any::<prop::sample::Index>(), cut in 1_usize..40, noise in ".{0,8}", at in any::<prop::sample::Index>()) {
        let mut all: Vec<String> = GOOD.iter().chain(BAD_HEADS).map(ToString::to_string).collect();
        all.extend(BAD_CHUNKS.iter().map(|body| format!("{CHUNKED}{body}")));
        let mut octets = all[pick.index(all.len())].clone().into_bytes();
        let at = at.index(octets.len() + 1);
        octets.splice(at..at, noise.bytes());

        prop_assert_eq!(read(&octets, cut), read(&octets, usize::MAX));
    }

    #[test]
    fn nothing_makes_it_panic(octets in prop::collection::vec(any::<u8>(), 0..200), cut in 1_usize..20) {
        prop_assert_eq!(read(&octets, cut), read(&octets, usize::MAX));
    }
}

/// Reads one request in pieces of at most `cut` octets; returns how much passed in all and the last word.
fn read(octets: &[u8], cut: usize) -> (usize, Stop) {
    let mut gate = Gate::new(LIMITS);
    let (mut passed, mut shown) = (0, 0_usize);
    loop {
        shown = shown.saturating_add(cut).min(octets.len());
        let progress = gate.handle_input(&octets[passed..shown]);
        passed += progress.pass;
        if progress.stop != Stop::More || shown == octets.len() {
            return (passed, progress.stop);
        }
    }
}

fn refused(fault: Fault, at_head: bool) -> Stop {
    Stop::Refused { fault, at_head }
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

const GOOD: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    "GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET HTTP://A:80/x HTTP/1.1\r\nhost: a:80\r\n\r\n",
    "GET http://a?q HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /?a=%00&b={c}|\"d\"^\\ HTTP/1.1\r\nHost:\ta \t\r\nX-Empty:\r\nX: \x7e\u{fc} \t y\r\n\r\n",
    "p!#$%&'*+-.^_`|~ST / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~: x\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\ncontent-length:\t0 \r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:chunked\r\n\r\n00A;x=\"y z\"\r\n0123456789\r\n0;q\r\nX: y\r\n\r\n",
];

const BAD_HEADS: &[&str] = &[
    // line ends
    "GET / HTTP/1.1\nHost: a\n\n",
    "GET / HTTP/1.1\r\nHost: a\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\r\n\r\n",
    "GET / HTTP/1.1\rHost: a\r\n\r\n",
    "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    // folding, names, white space, CTL
    "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n",
    "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 5\r\n\r\nhello",
    "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX y: z\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX(y): z\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX\u{e9}: z\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX\0: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: \x0b\r\n\r\n",
    // the request line
    "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "GET / http/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.10\r\nHost: a\r\n\r\n",
    "GET / HTTP/11\r\nHost: a\r\n\r\n",
    "GET /\r\nHost: a\r\n\r\n",
    "GET\r\nHost: a\r\n\r\n",
    "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /<x> HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
    // Host
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
    "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
    // lengths
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 05\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
];

const BAD_CHUNKS: &[&str] = &[
    "x\r\n",
    "\r\nhello",
    ";x\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "5 ;x\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\rhello\r\n0\r\n\r\n",
    "5\r\r\nhello\r\n0\r\n\r\n",
    "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "5;\0\r\nhello\r\n0\r\n\r\n",
    "5\r\nhelloX\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "1000000000000000\r\n",
    "10000000000000005\r\nhello\r\n",
    "0\r\nX : y\r\n\r\n",
    "0\r\n X: y\r\n\r\n",
    "0\r\nX: y\n\r\n",
    "0\r\n\nGET / HTTP/1.1\r\n",
    "0\n\r\n",
];
