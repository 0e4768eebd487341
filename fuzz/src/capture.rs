//! Requests over HTTP/1 as the agent reads along: any octets in either direction, talks that are right, and talks that are nearly so.

use std::{sync::Arc, time::Instant};

use adit::capture::{Exchange, Follower, Limits, Lost, MARK, Redact, Request};

use crate::Choices;

/// Whatever is said, it does not matter in what pieces; what is kept has its bounds, and no value that is not to be kept. A talk
/// that is right is told as it was; a request that can be asked again asks the same.
pub fn capture(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let limits = Limits { head: choices.one_of(&[16_384, 256, 64]), body: choices.one_of(&[1_024, 16, 0]) };
    let talks: Vec<Talk> = (0..choices.between(1, 6)).map(|_| Talk::made(&mut choices)).collect();
    let mut said: Vec<(bool, Vec<u8>)> = Vec::new();
    for talk in &talks {
        said.extend([(true, talk.request()), (false, talk.answer())]);
    }
    let is_right = limits.head > 256 && choices.coin();
    if !is_right {
        damage(&mut said, &mut choices);
    }
    let ends = choices.coin();
    let (exchanges, lost) = follow(&said, limits, usize::MAX, ends);
    for piece in [1, 7] {
        assert_eq!(follow(&said, limits, piece, ends), (exchanges.clone(), lost));
    }
    for exchange in &exchanges {
        is_bounded(exchange, limits);
        is_asked_again(&exchange.request, limits);
    }
    if is_right {
        assert_eq!((exchanges.len(), lost), (talks.len(), None));
        for (talk, exchange) in talks.iter().zip(&exchanges) {
            talk.is_told_by(exchange, limits);
        }
    }
}

type Told = (Vec<Exchange>, Option<Lost>);

fn follow(said: &[(bool, Vec<u8>)], limits: Limits, piece: usize, ends: bool) -> Told {
    let now = *START.get_or_init(Instant::now);
    let mut follower = Follower::new(limits, Arc::new(Redact::new(["pin"])));
    let most = 16 * (limits.head + limits.body) + 4 * 200 * 64 + 4 * 1_024;
    for (is_up, octets) in said {
        for part in octets.chunks(piece.min(octets.len()).max(1)) {
            if *is_up {
                follower.handle_up(part, now)
            } else {
                follower.handle_down(part, now)
            }
            assert!(follower.weight() <= most, "{} of {most}", follower.weight());
        }
    }
    let lost = follower.lost();
    if ends {
        follower.handle_down_end(now);
        follower.handle_end(now);
        assert_eq!(follower.weight(), 0);
    }
    (core::iter::from_fn(|| follower.poll_exchange()).collect(), lost)
}

fn is_bounded(exchange: &Exchange, limits: Limits) {
    let answer = exchange.answer.as_ref();
    for body in [Some(&exchange.request.body), answer.map(|answer| &answer.body)].into_iter().flatten() {
        assert!(body.kept.len() <= limits.body && body.kept.len() as u64 <= body.octets);
    }
    let fields = exchange.request.fields.iter().chain(answer.iter().flat_map(|answer| &answer.fields));
    for field in fields {
        let hidden = ["authorization", "cookie", "set-cookie", "proxy-authorization", "pin"];
        assert!(field.value.is_none() || !hidden.contains(&&*field.name.to_ascii_lowercase()));
        assert!(field.value.as_ref().is_none_or(|value| value.len() <= 2 * limits.head));
    }
}

fn is_asked_again(request: &Request, limits: Limits) {
    if request.fields.len() > 90 {
        return; // with those that are added it might have more than are read
    }
    let Ok((octets, omitted)) = request.again(7) else { return };
    let limits = Limits { head: limits.head + 1_024, body: limits.body };
    let answer = b"HTTP/1.1 204 No\r\n\r\n".to_vec();
    let (again, lost) = follow(&[(true, octets), (false, answer)], limits, usize::MAX, false);
    assert_eq!((again.len(), lost), (1, None), "{request:?}");
    let again = &again[0].request;
    assert_eq!((&again.method, &again.target, &again.body), (&request.method, &request.target, &request.body));
    let marks: Vec<_> = again.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(MARK)).collect();
    assert!(marks.len() == 1 && marks[0].value.as_deref() == Some(b"7"));
    assert!(again.fields.iter().all(|field| field.value.is_some() && !omitted.contains(&field.name)));
}

/// Lets something be other than it should: octets changed, lost, or put in; directions swapped; nothing but noise.
fn damage(said: &mut Vec<(bool, Vec<u8>)>, choices: &mut Choices<'_>) {
    for _ in 0..choices.below(4) {
        let at = choices.below(said.len());
        let (is_up, octets) = &mut said[at];
        let place = choices.below(octets.len().max(1));
        match choices.below(5) {
            0 => octets.truncate(place),
            1 => *is_up = !*is_up,
            2 => octets.splice(place..place, choices.octets(9).iter().copied()).for_each(drop),
            3 => octets.iter_mut().skip(place).take(1).for_each(|octet| *octet ^= choices.number::<u8>()),
            _ => *octets = choices.octets(64).to_vec(),
        }
    }
    if choices.coin() {
        said.push((choices.coin(), choices.rest().to_vec()));
    }
}

/// A request and its answer, as they are meant.
#[derive(Debug)]
struct Talk {
    method: &'static str,
    target: String,
    body: Vec<u8>,
    status: u16,
    content: Vec<u8>,
    is_chunked: [bool; 2],
    /// Before the answer.
    continues: bool,
}

impl Talk {
    fn made(choices: &mut Choices<'_>) -> Self {
        let method = choices.one_of(&["GET", "POST", "HEAD", "PUT"]);
        let status = choices.one_of(&[200, 204, 304, 404, 500]);
        let mut content = |size: usize| {
            let size = choices.size(size);
            choices.octets(size).to_vec()
        };
        let (body, answer) = (content(40), content(40));
        let has_content = method != "HEAD" && !matches!(status, 204 | 304);
        Self {
            method,
            target: format!("/{}", choices.below(1_000)),
            body,
            status,
            content: if has_content { answer } else { Vec::new() },
            is_chunked: [choices.coin(), choices.coin()],
            continues: choices.coin(),
        }
    }

    fn request(&self) -> Vec<u8> {
        let first = format!("{} {} HTTP/1.1\r\nhost: a\r\ncookie: s3cret\r\n", self.method, self.target);
        message(first, &self.body, self.is_chunked[0])
    }

    fn answer(&self) -> Vec<u8> {
        let mut octets = if self.continues { b"HTTP/1.1 100 Continue\r\n\r\n".to_vec() } else { Vec::new() };
        let first = format!("HTTP/1.1 {} Words\r\nset-cookie: s3cret\r\n", self.status);
        if self.method == "HEAD" || matches!(self.status, 204 | 304) {
            octets.extend(format!("{first}content-length: 99\r\n\r\n").into_bytes());
        } else {
            octets.extend(message(first, &self.content, self.is_chunked[1]));
        }
        octets
    }

    fn is_told_by(&self, exchange: &Exchange, limits: Limits) {
        let answer = exchange.answer.as_ref().expect("each request has an answer");
        assert_eq!((&*exchange.request.method, &exchange.request.target), (self.method, &self.target));
        assert_eq!((answer.status, exchange.is_whole()), (self.status, true));
        for (body, meant) in [(&exchange.request.body, &self.body), (&answer.body, &self.content)] {
            assert_eq!((body.octets, &*body.kept), (meant.len() as u64, &meant[..meant.len().min(limits.body)]));
        }
    }
}

fn message(first: String, content: &[u8], is_chunked: bool) -> Vec<u8> {
    let mut octets = first.into_bytes();
    if !is_chunked {
        octets.extend(format!("content-length: {}\r\n\r\n", content.len()).into_bytes());
        octets.extend_from_slice(content);
        return octets;
    }
    octets.extend(b"transfer-encoding: chunked\r\n\r\n");
    for chunk in content.chunks(11) {
        octets.extend(format!("{:X};x=1\r\n", chunk.len()).into_bytes());
        octets.extend([chunk, b"\r\n"].concat());
    }
    octets.extend(b"0\r\nx-sum: 1\r\n\r\n");
    octets
}

/// One moment for all: when something happened is not what this is about.
static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
