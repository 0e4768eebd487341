//! Follows what an upstream answers: which request each answer is to, where it ends, and whether HTTP ends with it.

use std::collections::VecDeque;

use crate::http1::{Follows, Lines, Rest};

/// The answers of one connection. What cannot be followed is given up, never guessed.
#[derive(Debug)]
pub(super) struct Answers {
    side: Side,
    /// Requests whose answer is not over, in their order.
    waiting: VecDeque<Asked>,
    is_lost: bool,
    has_ended: bool,
}

/// What must be known of a request to follow its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// It asks for another protocol.
    pub(super) switches: bool,
    /// Its caller waits for leave to send the body.
    pub(super) expects: bool,
}

/// Methods whose answers are not like others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Head,
    Connect,
    Other,
}

/// What an upstream says to a request for another protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The connection speaks something else from here on.
    Switched,
    /// It is a request like others.
    Stays,
}

#[derive(Debug)]
enum Side {
    /// In a head, or between two answers.
    Head(Lines),
    Body(Rest),
}

impl Answers {
    pub(super) fn new() -> Self {
        let (side, waiting) = (Side::Head(Lines::default()), VecDeque::new());
        Self { side, waiting, is_lost: false, has_ended: false }
    }

    /// A request goes to the upstream.
    pub(super) fn ask(&mut self, asked: Asked) {
        if !self.is_lost {
            self.waiting.push_back(asked);
        }
    }

    /// Takes octets of the upstream; returns its verdict, if there is one. Behind [`Verdict::Switched`] nothing is followed.
    pub(super) fn handle(&mut self, mut octets: &[u8]) -> Option<Verdict> {
        let mut verdict = None;
        while !octets.is_empty() && !self.is_lost {
            let Some((taken, said)) = self.step(octets) else {
                self.is_lost = true;
                break;
            };
            verdict = said.or(verdict);
            if verdict == Some(Verdict::Switched) {
                break;
            }
            octets = octets.get(taken..).unwrap_or_default();
        }
        verdict
    }

    /// The upstream says no more.
    pub(super) fn handle_end(&mut self) {
        self.has_ended = true;
    }

    /// Returns whether somebody waits for leave to send a body, and may have it at this very place; it is asked once.
    pub(super) fn take_expecting(&mut self) -> bool {
        let is_between = self.is_between();
        let Some(first) = self.waiting.front_mut().filter(|first| first.expects && is_between) else { return false };
        first.expects = false;
        true
    }

    /// Returns whether an answer of ours would not be taken for a part of another.
    pub(super) const fn is_between(&self) -> bool {
        match &self.side {
            Side::Head(lines) => lines.is_empty() && !self.is_lost,
            Side::Body(_) => false,
        }
    }

    /// Returns how many answers are not over.
    pub(super) fn outstanding(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether it is not known any more where answers end.
    pub(super) const fn is_lost(&self) -> bool {
        self.is_lost
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes a part; nothing when it cannot be followed.
    fn step(&mut self, octets: &[u8]) -> Option<(usize, Option<Verdict>)> {
        match &mut self.side {
            Side::Head(lines) => {
                let (taken, is_over) = lines.take(octets, MAX_HEAD).ok()?;
                if !is_over {
                    return Some((taken, None));
                }
                let head = core::mem::take(lines);
                let first = self.waiting.front_mut()?; // an answer that nobody waits for is none
                let (status, follows) = read(head.octets(), first.method)?;
                let verdict = match follows {
                    Follows::Another => {
                        first.expects &= status != 100;
                        None
                    }
                    Follows::Other if first.switches => Some(Verdict::Switched),
                    Follows::Other => return None,
                    Follows::Body(rest) => {
                        first.expects = false;
                        let verdict = first.switches.then_some(Verdict::Stays);
                        self.side = Side::Body(rest);
                        if rest.is_over() {
                            self.over();
                        }
                        verdict
                    }
                };
                Some((taken, verdict))
            }
            Side::Body(rest) => {
                let (taken, is_over) = rest.take(octets, |_| {}).ok()?;
                if is_over {
                    self.over();
                }
                Some((taken, None))
            }
        }
    }

    fn over(&mut self) {
        self.side = Side::Head(Lines::default());
        self.waiting.pop_front();
    }
}

/// Reads the head of an answer; returns its status and what follows it.
fn read(octets: &[u8], method: Method) -> Option<(u16, Follows)> {
    let mut room = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut room);
    if !matches!(head.parse(octets), Ok(httparse::Status::Complete(length)) if length == octets.len()) {
        return None;
    }
    let status = head.code?;
    let method = match method {
        Method::Head => "HEAD",
        Method::Connect => "CONNECT",
        Method::Other => "",
    };
    let is_chunked = head.headers.iter().any(|header| header.name.eq_ignore_ascii_case("transfer-encoding"));
    if head.version == Some(0) && is_chunked {
        return None; // who knows that version alone takes it for a body without a length
    }
    Some((status, Follows::of(status, method, head.headers).ok()?))
}

/// A head of an answer that is longer is not followed, in octets.
const MAX_HEAD: usize = 256 << 10;
/// One that has more fields is not followed.
const MAX_FIELDS: usize = 256;
