//! The strict reading of HTTP/1 that stands in front of the parser (V51, V54, V59).
//!
//! Two parsers that disagree about where a request ends are how requests are smuggled. The gate reads the framing by the
//! letter, lets through what has one reading only, and refuses the rest. It copies nothing and keeps no octet: the owner
//! shows it what has come since the last octet that passed, and it says how much of that may pass. However the octets are
//! cut into pieces, the same ones pass and the same fault is found.

mod chunked;
mod head;

use chunked::Chunked;
use head::Head;

use crate::Fault;

/// What the gate allows a head to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadLimits {
    /// Octets of a head, and of a trailer section.
    pub(crate) size: usize,
    /// Fields of a head, and of a trailer section.
    pub(crate) fields: usize,
    /// Octets of the request's target.
    pub(crate) target: usize,
}

/// The reading of one connection, request after request.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: HeadLimits,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Between requests, or within a head that has not passed.
    Head(Head),
    /// Within a body of known length.
    Length {
        left: u64,
        upgrade: bool,
    },
    Chunked(Chunked),
    /// The request has passed whole.
    End {
        upgrade: bool,
    },
    /// An accepted upgrade: octets are no longer HTTP.
    Opaque,
    Refused {
        fault: Fault,
        at_head: bool,
    },
}

/// How far the gate came in what it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Octets from the front that may pass.
    pub(crate) pass: usize,
    /// Why no more.
    pub(crate) stop: Stop,
}

/// Why the gate stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// What is left is incomplete: to be shown again when there is more.
    More,
    /// The request has passed whole; what is left waits for [`Gate::begin`], or for the word about an upgrade.
    End {
        /// The request asks to leave HTTP; what follows has no reading until it is known whether that came to be.
        upgrade: bool,
    },
    /// The rest is refused. `at_head` tells that nothing of this request has passed.
    Refused {
        /// What is wrong.
        fault: Fault,
        /// Whether the fault was found before anything of the request passed.
        at_head: bool,
    },
}

/// Where the connection is, for whoever keeps the timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Within a head, or before it.
    Head,
    /// Within a body.
    Body,
    /// After a request.
    Rest,
    /// Outside HTTP, after an upgrade.
    Open,
}

impl Gate {
    pub(crate) fn new(limits: HeadLimits) -> Self {
        Self { limits, state: State::Head(Head::default()) }
    }

    /// Reads on in `input`, which begins after the last octet that passed.
    pub(crate) fn handle_input(&mut self, input: &[u8]) -> Progress {
        let mut pass = 0;
        loop {
            let rest = &input[pass..];
            let (taken, next) = match &mut self.state {
                State::Head(head) => match head.read(rest, &self.limits) {
                    Ok(None) => return Progress { pass, stop: Stop::More },
                    Ok(Some((taken, body))) => (taken, State::after_head(body)),
                    Err(fault) => (0, State::Refused { fault, at_head: true }),
                },
                State::Length { left, upgrade } => {
                    let taken = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    *left -= taken as u64;
                    if *left > 0 {
                        return Progress { pass: pass + taken, stop: Stop::More };
                    }
                    (taken, State::End { upgrade: *upgrade })
                }
                State::Chunked(chunked) => match chunked.read(rest, &self.limits) {
                    Ok((taken, false)) => return Progress { pass: pass + taken, stop: Stop::More },
                    Ok((taken, true)) => (taken, State::End { upgrade: false }),
                    Err((taken, fault)) => (taken, State::Refused { fault, at_head: false }),
                },
                State::End { upgrade } => return Progress { pass, stop: Stop::End { upgrade: *upgrade } },
                State::Opaque => return Progress { pass: input.len(), stop: Stop::More },
                State::Refused { fault, at_head } => {
                    return Progress { pass, stop: Stop::Refused { fault: *fault, at_head: *at_head } };
                }
            };
            pass += taken;
            self.state = next;
        }
    }

    /// Opens the gate for the next request; nothing happens within a request.
    pub(crate) fn begin(&mut self) {
        if matches!(self.state, State::End { .. }) {
            self.state = State::Head(Head::default());
        }
    }

    /// Lets everything pass from here on: the upgrade that the last request asked for was accepted.
    pub(crate) fn open(&mut self) {
        if matches!(self.state, State::End { upgrade: true }) {
            self.state = State::Opaque;
        }
    }

    /// Returns where the connection is.
    pub(crate) fn phase(&self) -> Phase {
        match &self.state {
            State::Head(_) => Phase::Head,
            State::Length { .. } | State::Chunked(_) => Phase::Body,
            State::End { .. } | State::Refused { .. } => Phase::Rest,
            State::Opaque => Phase::Open,
        }
    }
}

impl State {
    fn after_head(body: head::Framing) -> Self {
        match body {
            head::Framing::None { upgrade } => Self::End { upgrade },
            head::Framing::Length(left) => Self::Length { left, upgrade: false },
            head::Framing::Chunked => Self::Chunked(Chunked::default()),
        }
    }
}

#[cfg(test)]
mod tests;
