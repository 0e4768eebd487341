//! Follows the messages of one connection from its octets: a pure machine over both directions, bounded in what it keeps.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use super::{
    Limits, Lost, Redact,
    message::{Answer, Request, weight},
};
use crate::http1::{Follows, Rest};

/// Follows the requests and answers of one connection. What cannot be followed any more is given up, never guessed.
#[derive(Debug)]
pub struct Follower {
    limits: Limits,
    redact: Arc<Redact>,
    up: Side,
    down: Side,
    /// Requests whose exchange is not over, in their order.
    waiting: VecDeque<Progress>,
    over: VecDeque<Exchange>,
    lost: Option<Lost>,
}

/// A request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchange {
    /// The request.
    pub request: Request,
    /// The answer, if one came.
    pub answer: Option<Answer>,
    /// When the head of the request had come.
    pub begun: Instant,
    /// When the head of the answer had come.
    pub answered: Option<Instant>,
    /// When it was over.
    pub ended: Instant,
}

#[derive(Debug)]
struct Progress {
    request: Request,
    answer: Option<Answer>,
    begun: Instant,
    answered: Option<Instant>,
}

/// Where one direction is.
#[derive(Debug)]
enum Side {
    /// In a head, or between two messages.
    Head(Head),
    Body(Rest),
}

impl Default for Side {
    fn default() -> Self {
        Self::Head(Head::default())
    }
}

/// A head as far as it has come.
#[derive(Debug, Default)]
struct Head {
    octets: Vec<u8>,
    /// Whether anything of the line has come.
    has_text: bool,
}

impl Follower {
    /// Begins with the first octet of a connection.
    pub fn new(limits: Limits, redact: Arc<Redact>) -> Self {
        let (up, down) = (Side::default(), Side::default());
        Self { limits, redact, up, down, waiting: VecDeque::new(), over: VecDeque::new(), lost: None }
    }

    /// Takes octets that go to the upstream.
    pub fn handle_up(&mut self, octets: &[u8], now: Instant) {
        if self.lost.is_none()
            && let Err(lost) = self.up(octets, now)
        {
            self.lose(lost, now);
        }
    }

    /// Takes octets that come from the upstream.
    pub fn handle_down(&mut self, octets: &[u8], now: Instant) {
        if self.lost.is_none()
            && let Err(lost) = self.down(octets, now)
        {
            self.lose(lost, now);
        }
    }

    /// The upstream says no more: an answer without a length is over.
    pub fn handle_down_end(&mut self, now: Instant) {
        if let (None, Side::Body(Rest::End)) = (self.lost, &self.down) {
            self.answer_over(now);
        }
    }

    /// The connection is over: what is under way is told as far as it came.
    pub fn handle_end(&mut self, now: Instant) {
        self.lose(Lost::Over, now);
    }

    /// Gives up; what is under way is told as far as it came, unless there is no memory for it.
    pub fn lose(&mut self, lost: Lost, now: Instant) {
        (self.up, self.down) = (Side::default(), Side::default());
        let under_way = core::mem::take(&mut self.waiting);
        if lost != Lost::Memory {
            self.over.extend(under_way.into_iter().map(|progress| progress.end(now)));
        }
        self.lost = self.lost.or(Some(lost));
    }

    /// Returns an exchange that is over, in the order of the requests.
    pub fn poll_exchange(&mut self) -> Option<Exchange> {
        self.over.pop_front()
    }

    /// Returns why it follows no more, if it does not.
    pub const fn lost(&self) -> Option<Lost> {
        self.lost
    }

    /// Returns how many octets of memory what is under way takes, about.
    pub fn weight(&self) -> usize {
        let side = |side: &Side| match side {
            Side::Head(head) => head.octets.capacity(),
            Side::Body(_) => 0,
        };
        side(&self.up) + side(&self.down) + self.waiting.iter().map(Progress::weight).sum::<usize>()
    }

    fn up(&mut self, mut octets: &[u8], now: Instant) -> Result<(), Lost> {
        while !octets.is_empty() {
            let taken = match &mut self.up {
                Side::Head(head) => {
                    let (taken, is_over) = head.take(octets, self.limits.head)?;
                    if is_over {
                        let (request, rest) = Request::read(&head.octets, &self.redact)?;
                        self.begin(request, rest, now)?;
                    }
                    taken
                }
                Side::Body(rest) => {
                    let Some(progress) = self.waiting.back_mut() else { return Err(Lost::Unasked) };
                    let (taken, is_over) = rest.take(octets, |part| progress.request.body.put(part, &self.limits))?;
                    if is_over {
                        self.request_over(now);
                    }
                    taken
                }
            };
            octets = octets.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn begin(&mut self, request: Request, rest: Rest, now: Instant) -> Result<(), Lost> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(Lost::TooMany);
        }
        self.waiting.push_back(Progress { request, answer: None, begun: now, answered: None });
        self.up = Side::Body(rest);
        if rest.is_over() {
            self.request_over(now);
        }
        Ok(())
    }

    fn request_over(&mut self, now: Instant) {
        self.up = Side::default();
        if let Some(progress) = self.waiting.back_mut() {
            progress.request.body.is_whole = true;
        }
        self.settle(now);
    }

    fn down(&mut self, mut octets: &[u8], now: Instant) -> Result<(), Lost> {
        while !octets.is_empty() {
            let taken = match &mut self.down {
                Side::Head(head) => {
                    let (taken, is_over) = head.take(octets, self.limits.head)?;
                    if is_over {
                        // An answer that nobody waits for, or a second one, is none.
                        let Some(first) = self.waiting.front_mut().filter(|first| first.answer.is_none()) else {
                            return Err(Lost::Unasked);
                        };
                        let (answer, follows) = Answer::read(&head.octets, &first.request.method, &self.redact)?;
                        *head = Head::default();
                        self.answer(answer, follows, now)?;
                    }
                    taken
                }
                Side::Body(rest) => {
                    let answer = self.waiting.front_mut().and_then(|first| first.answer.as_mut());
                    let Some(answer) = answer else { return Err(Lost::Unasked) };
                    let (taken, is_over) = rest.take(octets, |part| answer.body.put(part, &self.limits))?;
                    if is_over {
                        self.answer_over(now);
                    }
                    taken
                }
            };
            octets = octets.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn answer(&mut self, mut answer: Answer, follows: Follows, now: Instant) -> Result<(), Lost> {
        let Some(first) = self.waiting.front_mut() else { return Err(Lost::Unasked) };
        match follows {
            Follows::Another => {}
            Follows::Other => {
                answer.body.is_whole = true;
                (first.answer, first.answered) = (Some(answer), Some(now));
                return Err(Lost::Upgraded);
            }
            Follows::Body(rest) => {
                (first.answer, first.answered) = (Some(answer), Some(now));
                self.down = Side::Body(rest);
                if rest.is_over() {
                    self.answer_over(now);
                }
            }
        }
        Ok(())
    }

    fn answer_over(&mut self, now: Instant) {
        self.down = Side::default();
        if let Some(answer) = self.waiting.front_mut().and_then(|first| first.answer.as_mut()) {
            answer.body.is_whole = true;
        }
        self.settle(now);
    }

    /// Takes out the exchanges whose both halves are over.
    fn settle(&mut self, now: Instant) {
        while let Some(first) = self.waiting.pop_front() {
            let is_over =
                first.request.body.is_whole && first.answer.as_ref().is_some_and(|answer| answer.body.is_whole);
            if !is_over {
                self.waiting.push_front(first);
                return;
            }
            self.over.push_back(first.end(now));
        }
    }
}

impl Exchange {
    /// Returns how many octets of memory it takes, about.
    pub fn weight(&self) -> usize {
        pair_weight(&self.request, self.answer.as_ref())
    }

    /// Returns whether both halves came to their end.
    pub fn is_whole(&self) -> bool {
        self.request.body.is_whole && self.answer.as_ref().is_some_and(|answer| answer.body.is_whole)
    }
}

impl Progress {
    fn end(self, now: Instant) -> Exchange {
        let Self { mut request, mut answer, begun, answered } = self;
        request.body.kept.shrink_to_fit();
        if let Some(answer) = &mut answer {
            answer.body.kept.shrink_to_fit();
        }
        Exchange { request, answer, begun, answered, ended: now }
    }

    fn weight(&self) -> usize {
        pair_weight(&self.request, self.answer.as_ref())
    }
}

fn pair_weight(request: &Request, answer: Option<&Answer>) -> usize {
    let answer = answer.map_or(0, |answer| answer.reason.len() + weight(&answer.fields, &answer.body));
    request.method.len() + request.target.len() + weight(&request.fields, &request.body) + answer + EACH
}

impl Head {
    /// Takes octets up to the empty line that ends a head; returns how many, and whether it has come.
    fn take(&mut self, octets: &[u8], most: usize) -> Result<(usize, bool), Lost> {
        for (at, octet) in octets.iter().enumerate() {
            if self.octets.is_empty() && matches!(octet, b'\r' | b'\n') {
                continue; // lines before the first are passed over
            }
            if self.octets.len() >= most {
                return Err(Lost::HeadTooLong);
            }
            self.octets.push(*octet);
            match octet {
                b'\n' if !self.has_text => return Ok((at + 1, true)),
                b'\n' => self.has_text = false,
                b'\r' => {}
                _ => self.has_text = true,
            }
        }
        Ok((octets.len(), false))
    }
}

/// Requests of one connection that wait for their answers; more are not followed.
const MAX_WAITING: usize = 4;
/// What an exchange costs beside its text, in octets.
const EACH: usize = 256;

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
