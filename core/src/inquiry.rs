//! A question to a network that says nothing about who asks: does it speak this protocol, and in which versions?

use alloc::{string::String, vec::Vec};

use crate::{
    AgentId, Cause, Close, Code, Config, Duration, FRAME, Hello, Message as _, Refusal, Secret, VERSION, Violation,
    frame::{Decoder, Encoded, Frame, Kind, RawKind},
};

/// Asks whoever is at the other end of a secured transport whether it is a network of this protocol: a HELLO that lists no version and
/// shows no token, which a network must refuse, and say which versions it speaks.
///
/// It has no clock: who waits for the answer decides for how long.
#[derive(Debug)]
pub struct Inquiry {
    decoder: Decoder,
    question: Option<Encoded>,
    answer: Option<Result<Vec<u32>, Cause>>,
}

impl Inquiry {
    /// Returns a question that waits to be sent.
    pub fn new() -> Self {
        let config = Config::agent();
        let hello = Hello {
            versions: Vec::new(), // spec: PRE-012
            agent: AgentId([0; 16]),
            incarnation: 0,
            token: Secret::new([]),
            software: String::new(),
            metadata: String::new(),
            heartbeat: config.heartbeat,
            limits: config.limits(),
            resume: None,
            resume_window: Duration::ZERO,
            lane: 0,
        };
        let question = Some(Encoded::message(Kind::Hello, &hello));
        Self { decoder: Decoder::new(FRAME), question, answer: None }
    }

    /// Takes octets that the transport delivered, in any pieces. What follows the answer is not looked at.
    pub fn handle_input(&mut self, mut input: &[u8]) {
        if self.answer.is_some() {
            return;
        }
        self.answer = match self.decoder.next(&mut input) {
            Ok(Some(frame)) => Some(answer(&frame)),
            Ok(None) => None,
            Err(violation) => Some(Err(Cause::Violation(violation))),
        };
    }

    /// Takes the end of the transport's input.
    pub fn handle_eof(&mut self, clean: bool) {
        self.answer.get_or_insert(Err(Cause::Eof { clean }));
    }

    /// Returns the question, once.
    pub fn poll_transmit(&mut self) -> Option<Encoded> {
        self.question.take()
    }

    /// Returns the versions that the network speaks, [`VERSION`] among them, once it has answered.
    ///
    /// # Errors
    /// [`Cause::Refused`]: a network that speaks other versions, or refuses for another reason; [`Cause::Remote`]: one that ends the
    /// link; [`Cause::Violation`], [`Cause::Eof`]: what answers is no network of this protocol.
    pub const fn answer(&self) -> Option<&Result<Vec<u32>, Cause>> {
        self.answer.as_ref()
    }
}

impl Default for Inquiry {
    fn default() -> Self {
        Self::new()
    }
}

fn answer(frame: &Frame<'_>) -> Result<Vec<u32>, Cause> {
    match frame.header.kind {
        RawKind::Known(Kind::Refuse) => {
            let refusal = Refusal::decode(frame.payload).map_err(Cause::Violation)?;
            let versions = versions(&refusal.text);
            let spoken = refusal.code == Code::VERSION && versions.contains(&VERSION);
            if spoken { Ok(versions) } else { Err(Cause::Refused(refusal)) }
        }
        RawKind::Known(Kind::Close) => Err(Close::decode(frame.payload).map_or_else(Cause::Violation, Cause::Remote)),
        // No version was offered that it could name.
        RawKind::Known(Kind::Welcome) => Err(Cause::Violation(Violation::VersionNotOffered)),
        RawKind::Known(_) | RawKind::Extension(_) => Err(Cause::Violation(Violation::BeforeWelcome)),
    }
}

/// Returns the numbers in a refusal's text.
fn versions(text: &str) -> Vec<u32> {
    let numbers = text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok());
    numbers.take(MAX_VERSIONS).collect()
}

/// As many as HELLO may list.
const MAX_VERSIONS: usize = 16;

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::{Heartbeat, Limits, SessionId, Welcome};

    fn asked(frames: &[Encoded]) -> Option<Result<Vec<u32>, Cause>> {
        let mut octets = Vec::new();
        frames.iter().for_each(|frame| frame.write(&mut octets));
        let (mut whole, mut pieces) = (Inquiry::new(), Inquiry::new());
        whole.handle_input(&octets);
        octets.iter().for_each(|octet| pieces.handle_input(core::slice::from_ref(octet)));
        assert_eq!(whole.answer(), pieces.answer(), "in any pieces");
        whole.answer
    }

    fn refusal(code: Code, text: &str) -> Refusal {
        Refusal { code, retry_after: None, text: text.into() }
    }

    #[test]
    fn the_question_names_nobody_and_is_asked_once() {
        let mut inquiry = Inquiry::new();

        let question = inquiry.poll_transmit().unwrap();

        let hello = Hello::decode(question.payload()).unwrap();
        assert_eq!((question.kind(), &*hello.versions, hello.token.expose()), (Kind::Hello, &[][..], &[][..]));
        assert_eq!((hello.agent, hello.software, hello.metadata), (AgentId([0; 16]), String::new(), String::new()));
        assert_eq!((inquiry.poll_transmit(), inquiry.answer()), (None, None));
    }

    #[test]
    fn a_network_that_speaks_our_version_among_others_is_one() {
        for (text, expected) in [
            ("this network speaks version 1", vec![1]),
            ("versions 3, 2 and 1.", vec![3, 2, 1]),
            ("1", vec![1]),
            ("99999999999999999999 1", vec![1]),
        ] {
            let answer = Encoded::message(Kind::Refuse, &refusal(Code::VERSION, text));
            assert_eq!(asked(&[answer]), Some(Ok(expected)), "{text}");
        }
        let many = "1 ".repeat(500);
        let answer = Encoded::message(Kind::Refuse, &refusal(Code::VERSION, &many));
        assert_eq!(asked(&[answer]).unwrap().unwrap().len(), MAX_VERSIONS);
    }

    #[test]
    fn a_network_of_other_versions_or_that_refuses_otherwise_says_so_itself() {
        for (code, text) in [
            (Code::VERSION, "this network speaks version 2"),
            (Code::VERSION, "version 11"),
            (Code::VERSION, "this network says nothing"),
            (Code::BUSY, "version 1"),
            (Code::CREDENTIALS, ""),
        ] {
            let answer = Encoded::message(Kind::Refuse, &refusal(code, text));
            assert_eq!(asked(&[answer]), Some(Err(Cause::Refused(refusal(code, text)))), "{text}");
        }
        let close = Close { code: Code::SHUTDOWN, text: "bye".into() };
        let answer = Encoded::message(Kind::Close, &close);
        assert_eq!(asked(&[answer]), Some(Err(Cause::Remote(close))));
    }

    #[test]
    fn whatever_else_answers_is_no_network() {
        let heartbeat = Heartbeat { interval: Duration::ZERO, tolerance: Duration::ZERO };
        let limits = Limits { frame: FRAME, window: 0, streams: 0 };
        let welcome = Welcome {
            version: VERSION,
            session: SessionId([1; 16]),
            heartbeat,
            limits,
            region: String::new(),
            node: String::new(),
            resume: None,
            resumed: None,
        };
        let violated = |violation| Some(Err(Cause::Violation(violation)));
        assert_eq!(asked(&[Encoded::message(Kind::Welcome, &welcome)]), violated(Violation::VersionNotOffered));
        assert_eq!(asked(&[Encoded::ping([0; 8])]), violated(Violation::BeforeWelcome));
        let mut echoed = Inquiry::new();
        let question = echoed.poll_transmit().unwrap();
        assert_eq!(asked(&[question]), violated(Violation::BeforeWelcome), "an echo");

        for octets in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"SSH-2.0-server\r\n", &[0, 0, 0, 0xc0, 0, 0, 0, 0]] {
            let mut inquiry = Inquiry::new();
            inquiry.handle_input(octets);
            inquiry.handle_input(octets);
            assert!(matches!(inquiry.answer(), Some(Err(Cause::Violation(_)))), "{octets:?}: {inquiry:?}");
        }
        let mut inquiry = Inquiry::new();
        inquiry.handle_input(&[0, 0]);
        inquiry.handle_eof(true);
        inquiry.handle_eof(false);
        assert_eq!(inquiry.answer(), Some(&Err(Cause::Eof { clean: true })));
    }
}
