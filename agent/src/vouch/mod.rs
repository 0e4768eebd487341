//! Who a caller is by its certificate, said in the head of each of its requests over HTTP/1, and by nobody else.
//!
//! The agent carries octets. Where an endpoint asks for it, a [`Voucher`] stands between the caller and the upstream: it follows each
//! request to its very end, takes out of its head and trailers what only the agent says, in every spelling, and puts in what it knows
//! of the caller. Bodies pass as they are, not copied and not kept. A request that could be read in two ways is refused, and its
//! connection ends: what is behind it must not become a request that nobody has looked at. It is pure, and fuzzed.

mod answers;
mod request;

use core::fmt;

use bytes::{Buf as _, Bytes};

use crate::http1::{Lines, LinesError, Reached, Rest};

use answers::{Answers, Verdict};
use request::Head;

/// Stands between one caller and its upstream.
#[derive(Debug)]
pub struct Voucher {
    /// What is said of the caller, and the empty line that ends a head.
    fields: Bytes,
    /// What has come of the caller and waits to be looked at.
    input: Bytes,
    up: Up,
    /// What goes to the upstream before anything else.
    next: Option<Bytes>,
    answers: Answers,
    /// Which head, or trailer, is coming.
    number: u64,
    /// What the upstream says to a request for another protocol whose body is not over.
    verdict: Option<Verdict>,
    refused: Option<Refused>,
    is_released: bool,
}

/// What the caller's direction does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These octets go to the upstream.
    Pass(Bytes),
    /// There are none: the caller has to send more.
    More,
    /// Nothing more of the caller is looked at until the upstream has answered.
    Held,
    /// Nothing more goes to the upstream: it has ended while its answer was waited for.
    Over,
    /// Nothing more goes to the upstream: whatever comes is thrown away.
    Refused,
}

/// What is said to the caller by the agent itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    /// Nothing: the upstream has the word.
    Nothing,
    /// These octets, before what the upstream says next.
    Between(Bytes),
    /// These octets, and then the end; none where they would be taken for an answer to another request.
    Last(Bytes),
    /// The connection breaks off: it is not known what the upstream has said.
    Cut,
}

/// Why the requests of a connection end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It is not by the letter of RFC 9112, or could be read in two ways: 400.
    Malformed,
    /// A head has more octets or fields than it may: 431.
    TooLarge,
    /// A head did not come in its time: 408.
    Late,
    /// It asks for something else than a body that is waited for: 417.
    Expectation,
    /// It is of another version of HTTP: 505.
    Version,
    /// What the upstream answers cannot be followed, and it has to be: the connection breaks off.
    Answers,
}

/// Where the caller's direction is.
#[derive(Debug)]
enum Up {
    /// In a head, or between two requests.
    Head(Lines),
    /// In a body; whether its request asks for another protocol.
    Body(Rest, bool),
    /// Behind a body of chunks.
    Trailer(Lines, bool),
    /// Behind a request for another protocol.
    Held,
    /// In another protocol.
    Other,
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    why: Refusal,
    /// Whether the upstream has had a part of the request.
    is_begun: bool,
    is_said: bool,
}

impl Voucher {
    /// Begins with the first octet of a connection. `fields` are names and values that can stand in a head; where there are none,
    /// nothing is known of the caller, and nothing is said.
    pub fn new<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = String::new();
        for (name, value) in fields {
            debug_assert!(!name.is_empty() && !value.contains(['\r', '\n']), "a field is one line");
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");
        Self {
            fields: text.into(),
            input: Bytes::new(),
            up: Up::Head(Lines::default()),
            next: None,
            answers: Answers::new(),
            number: 0,
            verdict: None,
            refused: None,
            is_released: false,
        }
    }

    /// Takes what the caller sent. Only after [`Step::More`]: what waits is not more than one such piece.
    pub fn handle_up(&mut self, octets: Bytes) {
        debug_assert!(self.input.is_empty(), "one piece after the other");
        self.input = octets;
    }

    /// Takes what the upstream sent, which goes to the caller as it is.
    pub fn handle_down(&mut self, octets: &[u8]) {
        if matches!(self.up, Up::Other) {
            return;
        }
        let was_blocked = self.is_blocked();
        match (self.answers.handle(octets), &self.up) {
            (None, _) => {}
            (Some(Verdict::Switched), Up::Held) => self.up = Up::Other,
            (Some(Verdict::Switched), _) => self.refuse(Refusal::Answers, true),
            (Some(Verdict::Stays), Up::Held) => self.up = Up::Head(Lines::default()),
            (Some(verdict @ Verdict::Stays), _) => self.verdict = Some(verdict),
        }
        if self.answers.is_lost() && matches!(self.up, Up::Held) {
            self.refuse(Refusal::Answers, true);
        }
        self.is_released |= was_blocked && !self.is_blocked();
    }

    /// The upstream says no more.
    pub fn handle_down_end(&mut self) {
        self.answers.handle_end();
        self.is_released |= self.is_blocked();
    }

    /// A head has taken longer than it may.
    pub fn handle_late(&mut self) {
        if self.partial().is_some() {
            self.refuse(Refusal::Late, matches!(self.up, Up::Trailer(..)));
        }
    }

    /// Returns what the caller's direction does next.
    pub fn poll_up(&mut self) -> Step {
        loop {
            if let Some(octets) = self.next.take() {
                return Step::Pass(octets);
            }
            if self.is_blocked() {
                return if self.answers.has_ended() { Step::Over } else { Step::Held };
            }
            if matches!(self.up, Up::Refused) {
                self.input = Bytes::new();
                return Step::Refused;
            }
            if self.input.is_empty() {
                return Step::More;
            }
            match self.step() {
                Ok(Some(octets)) => return Step::Pass(octets),
                Ok(None) => {}
                Err((why, is_begun)) => self.refuse(why, is_begun),
            }
        }
    }

    /// Returns what is said to the caller at the end of what the upstream has sent so far.
    pub fn poll_down(&mut self) -> Say {
        let Some(refused) = self.refused.filter(|refused| !refused.is_said) else {
            let continues = self.refused.is_none() && self.answers.take_expecting();
            return if continues { Say::Between(Bytes::from_static(CONTINUE)) } else { Say::Nothing };
        };
        let own = usize::from(refused.is_begun);
        if refused.why == Refusal::Answers || self.answers.is_lost() {
            return Say::Cut;
        }
        if !self.answers.is_between() || self.answers.outstanding() > own {
            return Say::Nothing;
        }
        self.refused = Some(Refused { is_said: true, ..refused });
        let is_answered = self.answers.outstanding() < own;
        Say::Last(if is_answered { Bytes::new() } else { refused.why.answer() })
    }

    /// Returns, once, whether what was held of the caller's direction goes on.
    pub fn poll_released(&mut self) -> bool {
        core::mem::take(&mut self.is_released)
    }

    /// Returns the number of the head, or trailer, of which a part has come, but not all. The next one has another.
    pub fn partial(&self) -> Option<u64> {
        match &self.up {
            Up::Head(lines) => (!lines.is_empty()).then_some(self.number),
            Up::Trailer(..) => Some(self.number),
            Up::Body(..) | Up::Held | Up::Other | Up::Refused => None,
        }
    }

    /// Returns why nothing more of the caller goes to the upstream, if that is so.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refused.map(|refused| refused.why)
    }

    /// Looks at the next part; returns what of it goes to the upstream, or why it does not, and whether a part of it has gone.
    fn step(&mut self) -> Result<Option<Bytes>, (Refusal, bool)> {
        match &mut self.up {
            Up::Head(lines) => {
                let (taken, is_over) = lines.take(&self.input, MAX_HEAD).map_err(|error| (error.into(), false))?;
                self.input.advance(taken);
                if !is_over {
                    return Ok(None);
                }
                let lines = core::mem::take(lines);
                if lines.iter().next().is_none() {
                    return Ok(None); // an empty line before a request is none
                }
                let head = Head::read(&lines).map_err(|why| (why, false))?;
                self.number += 1;
                self.answers.ask(head.asked);
                // At once: its answer may come before anything is asked here again.
                if head.rest.is_over() {
                    self.request_over(head.asked.switches);
                } else {
                    self.up = Up::Body(head.rest, head.asked.switches);
                }
                self.next = Some(self.fields.clone());
                Ok(Some(head.octets.into()))
            }
            Up::Body(rest, switches) => {
                let (taken, reached) = rest.advance(&self.input, |_| {}).map_err(|_| (Refusal::Malformed, true))?;
                let (octets, switches) = (self.input.split_to(taken), *switches);
                match reached {
                    Reached::More => {}
                    Reached::Trailer => self.up = Up::Trailer(Lines::default(), switches),
                    Reached::End => self.request_over(switches),
                }
                Ok(Some(octets))
            }
            Up::Trailer(lines, switches) => {
                let (taken, is_over) = lines.take(&self.input, MAX_TRAILER).map_err(|error| (error.into(), true))?;
                self.input.advance(taken);
                if !is_over {
                    return Ok(None);
                }
                let octets = request::trailer(lines).map_err(|why| (why, true))?;
                let switches = *switches;
                self.number += 1;
                self.request_over(switches);
                Ok(Some(octets.into()))
            }
            Up::Other => Ok(Some(core::mem::take(&mut self.input))),
            Up::Held | Up::Refused => Ok(None),
        }
    }

    fn request_over(&mut self, switches: bool) {
        self.up = match (switches, self.verdict.take()) {
            (true, None) => Up::Held,
            (true | false, _) => Up::Head(Lines::default()),
        };
        if matches!(self.up, Up::Held) && self.answers.is_lost() {
            self.refuse(Refusal::Answers, true);
        }
    }

    /// Returns whether the upstream has the word before more of the caller is looked at.
    fn is_blocked(&self) -> bool {
        match &self.up {
            Up::Held => true,
            // Whoever cannot be followed is not waited for.
            Up::Head(lines) => {
                lines.is_empty() && self.answers.outstanding() >= MAX_OUTSTANDING && !self.answers.is_lost()
            }
            Up::Body(..) | Up::Trailer(..) | Up::Other | Up::Refused => false,
        }
    }

    fn refuse(&mut self, why: Refusal, is_begun: bool) {
        self.up = Up::Refused;
        self.refused.get_or_insert(Refused { why, is_begun, is_said: false });
    }
}

impl Refusal {
    /// Returns why, for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "a request is not by the letter of HTTP/1.1, or could be read in two ways",
            Self::TooLarge => "a request's header has more octets or fields than it may",
            Self::Late => "a request's header did not come in time",
            Self::Expectation => "a request expects something else than 100-continue",
            Self::Version => "a request is of another version of HTTP",
            Self::Answers => "what the upstream answers cannot be followed",
        }
    }

    /// Returns the answer to the caller.
    fn answer(self) -> Bytes {
        let status = match self {
            Self::Malformed => "400 Bad Request",
            Self::TooLarge => "431 Request Header Fields Too Large",
            Self::Late => "408 Request Timeout",
            Self::Expectation => "417 Expectation Failed",
            Self::Version => "505 HTTP Version Not Supported",
            Self::Answers => "502 Bad Gateway",
        };
        let (text, length) = (self.text(), self.text().len() + 1);
        let head = "content-type: text/plain\r\ncache-control: no-store\r\nconnection: close";
        format!("HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {length}\r\n\r\n{text}\n").into()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl From<LinesError> for Refusal {
    fn from(error: LinesError) -> Self {
        match error {
            LinesError::LineEnd => Self::Malformed,
            LinesError::TooLong => Self::TooLarge,
        }
    }
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// A head is not longer, in octets.
const MAX_HEAD: usize = 32 << 10;
/// What trails a body is not longer, in octets.
const MAX_TRAILER: usize = 8 << 10;
/// Requests of one connection whose answers are not over; the next one waits.
const MAX_OUTSTANDING: usize = 32;

#[cfg(test)]
mod tests;
