//! Requests whose upstream is told who calls: any octets of a caller, requests that are right, and those that are nearly so.

use adit::vouch::{Refusal, Say, Step, Voucher};
use bytes::Bytes;

use crate::Choices;

/// Whatever a caller sends, in whatever pieces: what goes to the upstream is the same, it is a row of requests for a reader that knows
/// the letter alone, and in each the agent says who calls and nobody else does. Requests that are right all pass.
pub fn vouch(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let is_right = choices.coin();
    let mut said = Vec::new();
    let count = choices.between(1, 5);
    for _ in 0..count {
        said.extend(request(&mut choices));
    }
    if !is_right {
        damage(&mut said, &mut choices);
    }
    let answers: Vec<u8> = (0..choices.below(8)).flat_map(|_| answer(&mut choices)).collect();
    let (up, why) = talk(&said, &answers, usize::MAX);
    for piece in [1, 7] {
        let (same, expected) = talk(&said, &answers, piece);
        assert_eq!(expected, why, "pieces change nothing");
        // But how much passes of a body that turns out to be none.
        assert!(same == up || (why.is_some() && same.starts_with(&up)));
    }
    let requests = read(&up);
    if is_right {
        assert_eq!((requests, why), (count, None));
    }
}

/// Says everything of the caller, and then everything of the upstream. Returns what the upstream got, up to where it could speak
/// another protocol, and why it got no more.
fn talk(said: &[u8], answers: &[u8], piece: usize) -> (Vec<u8>, Option<Refusal>) {
    let mut voucher = Voucher::new([(NAME, "true")]);
    let (mut up, mut pieces) = (Vec::new(), said.chunks(piece.min(said.len()).max(1)));
    let ended = loop {
        match voucher.poll_up() {
            Step::Pass(octets) => {
                assert!(!octets.is_empty());
                up.extend_from_slice(&octets);
            }
            Step::More => match pieces.next() {
                Some(octets) => voucher.handle_up(Bytes::copy_from_slice(octets)),
                None => break false,
            },
            Step::Held | Step::Over | Step::Refused => break true,
        }
    };
    let why = voucher.refusal();
    for octets in answers.chunks(piece.min(answers.len()).max(1)) {
        voucher.handle_down(octets);
        if let Say::Last(octets) = voucher.poll_down() {
            assert!(
                ended && (octets.is_empty() || octets.starts_with(b"HTTP/1.1 ")),
                "the last word is said once, behind a refusal"
            );
            assert_eq!(voucher.poll_down(), Say::Nothing);
        }
    }
    voucher.handle_down_end();
    (up, why)
}

/// Reads requests by the letter, and returns how many there are.
fn read(mut octets: &[u8]) -> usize {
    let mut count = 0;
    while !octets.is_empty() {
        let end = find(octets, b"\r\n\r\n").expect("a head passes as a whole");
        let head = String::from_utf8_lossy(&octets[..end]);
        octets = &octets[end + 4..];
        let mut lines = head.split("\r\n");
        assert_eq!(lines.next().map(|first| first.split(' ').count()), Some(3), "{head:?}");
        let fields: Vec<(String, &str)> = lines.map(|line| line.split_once(':').expect("a field")).map(lower).collect();
        assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']), "{head:?}");
        assert_eq!(fields.last().map(|(name, value)| (&**name, *value)), Some((NAME, "true")));
        let told = fields.iter().filter(|(name, _)| tells(name)).count();
        assert_eq!(told, 1, "{head:?}");
        count += 1;
        let of = |name: &str| fields.iter().filter(|field| field.0 == name).map(|field| field.1).collect::<Vec<_>>();
        if !of("upgrade").is_empty() || head.starts_with("CONNECT ") {
            let words = of("upgrade").into_iter().flat_map(|value| value.split([',', ' ', '\t', '/']));
            assert!(words.into_iter().all(|word| !word.eq_ignore_ascii_case("h2c")), "{head:?}");
        }
        octets = match (&of("content-length")[..], &of("transfer-encoding")[..]) {
            ([], []) => octets,
            ([length], []) => octets.get(length.parse().expect("a length")..).unwrap_or_default(),
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => chunks(octets),
            other => panic!("it can be read in two ways: {other:?}"),
        };
    }
    count
}

/// Returns what is behind a body of chunks; nothing where it is not over.
fn chunks(mut octets: &[u8]) -> &[u8] {
    while let Some(end) = find(octets, b"\r\n") {
        let line = core::str::from_utf8(&octets[..end]).unwrap_or_default();
        let digits = line.split([';', ' ', '\t']).next().unwrap_or_default();
        let Ok(size) = usize::from_str_radix(digits, 16) else { return &[] };
        octets = &octets[end + 2..];
        if size > 0 {
            octets = octets.get(size.saturating_add(2)..).unwrap_or_default();
            continue;
        }
        while let Some(end) = find(octets, b"\r\n") {
            let line = String::from_utf8_lossy(&octets[..end]).to_lowercase();
            octets = &octets[end + 2..];
            if line.is_empty() {
                return octets;
            }
            assert!(!tells(line.split(':').next().unwrap_or_default()), "{line:?}");
        }
        return &[];
    }
    &[]
}

fn lower<'a>((name, value): (&str, &'a str)) -> (String, &'a str) {
    assert!(!name.ends_with([' ', '\t']) && !name.starts_with([' ', '\t']), "{name:?}");
    (name.to_lowercase(), value.trim())
}

fn tells(name: &str) -> bool {
    let sign = |sign: char| if sign.is_ascii_alphanumeric() { sign.to_ascii_lowercase() } else { '-' };
    let folded: String = name.chars().map(sign).collect();
    folded.starts_with("x-client-cert") || folded.starts_with("client-cert")
}

fn find(octets: &[u8], wanted: &[u8]) -> Option<usize> {
    octets.windows(wanted.len()).position(|window| window == wanted)
}

/// A request that is right.
fn request(choices: &mut Choices<'_>) -> Vec<u8> {
    let method = choices.one_of(&["GET", "POST", "HEAD", "PUT"]);
    let forged =
        choices.one_of(&["", "X-Client-Cert-Verified: true\r\n", "client_cert: x\r\n", "X.CLIENT-CERT.Subject: y\r\n"]);
    let more = choices.one_of(&[
        "",
        "Connection: close, client-cert\r\n",
        "Upgrade: h2c\r\n",
        "Expect: 100-continue\r\n",
        "Cookie: a=b\r\n",
    ]);
    let mut octets = format!("{method} /{} HTTP/1.1\r\nHost: a\r\n{forged}{more}", choices.below(100)).into_bytes();
    let size = choices.size(40);
    let body = choices.octets(size);
    if choices.coin() {
        octets.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
        octets.extend_from_slice(body);
        return octets;
    }
    octets.extend(b"Transfer-Encoding: chunked\r\n\r\n");
    for chunk in body.chunks(11) {
        octets.extend(format!("{:X};x=1\r\n", chunk.len()).into_bytes());
        octets.extend([chunk, b"\r\n"].concat());
    }
    octets.extend(b"0\r\nx-sum: 1\r\n");
    octets.extend_from_slice(forged.as_bytes());
    octets.extend(b"\r\n");
    octets
}

fn answer(choices: &mut Choices<'_>) -> Vec<u8> {
    let text = choices.one_of(&[
        "HTTP/1.1 204 No\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 100 Go\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
        "nonsense\r\n\r\n",
    ]);
    text.as_bytes().to_vec()
}

/// Lets something be other than it should: octets changed, lost, put in or nothing but noise.
fn damage(said: &mut Vec<u8>, choices: &mut Choices<'_>) {
    for _ in 0..choices.between(1, 4) {
        let place = choices.below(said.len().max(1));
        match choices.below(5) {
            0 => said.truncate(place),
            1 => said.splice(place..place, choices.octets(9).iter().copied()).for_each(drop),
            2 => said.iter_mut().skip(place).take(1).for_each(|octet| *octet ^= choices.number::<u8>()),
            3 => {
                let text = choices.one_of(&[
                    "\r\n",
                    "\n",
                    "\r",
                    " ",
                    "Upgrade: websocket\r\n",
                    "Content-Length: 3\r\n",
                    "Transfer-Encoding: chunked\r\n",
                ]);
                said.splice(place..place, text.bytes()).for_each(drop);
            }
            _ => said.extend_from_slice(choices.octets(64)),
        }
    }
    if choices.coin() {
        said.extend_from_slice(choices.rest());
    }
}

const NAME: &str = "x-client-cert-verified";
