//! How a phase ends.

use core::fmt;
use std::borrow::Cow;

use http::HeaderMap;

use super::FetchError;
use crate::{
    body::BadPattern,
    cel::{Error, Fault, Position},
};

/// How a phase ends.
#[derive(Debug)]
pub enum Outcome {
    /// No rule ended it: serve, with what was changed.
    Continue,
    /// Answer so. The rules of the response follow, unless this is their outcome.
    Respond(Box<http::Response<Vec<u8>>>),
    /// Refuse. No rules follow. A connection without a request is closed.
    Refuse(Refusal),
    /// Close the connection without an answer.
    Close,
    /// Serve by an internal endpoint of the same account.
    Forward {
        /// Its URL: a scheme, a host that ends in `.internal`, a port if one was given.
        url: String,
        /// Whether the rules go on when it cannot be reached: [`Answer::Unreachable`](super::Answer::Unreachable).
        fallback: bool,
    },
}

/// An answer that refuses: a status, headers, and no body of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The status, from 400 to 599.
    pub status: u16,
    /// Headers, as `retry-after`.
    pub headers: HeaderMap,
    /// Why, for whom it is told to.
    pub why: Why,
    /// What was wrong, for whom reads the log: nothing of a secret or of what was sent.
    pub reason: Option<Cow<'static, str>>,
}

impl Refusal {
    pub(crate) fn new(status: u16, why: Why) -> Self {
        Self { status, headers: HeaderMap::new(), why, reason: None }
    }

    pub(crate) fn because(self, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }
}

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// `deny`.
    Denied,
    /// `restrict-ips`: the address may not call.
    Restricted,
    /// `rate-limit`: too many requests of one key.
    Limited,
    /// `circuit-breaker`: the upstream fails too often.
    Tripped,
    /// `basic-auth`, `jwt-validation`, `verify-webhook`: who calls was not shown.
    Unknown,
    /// `basic-auth`: it was wrong too often.
    Throttled,
    /// What had to be asked to find out who calls has no answer.
    Unavailable,
    /// It could not be decided.
    Failed(Failure),
}

/// Why an action or a rule could not be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// An expression has no value, or costs more than is left of the budget.
    Expression(Error),
    /// A condition is no bool.
    NoBool,
    /// What was rendered has a control character and was to be a header.
    Header,
    /// A status that is none.
    Status,
    /// A pattern that cannot be used.
    Pattern(BadPattern),
    /// A field of events that is none.
    Field,
    /// More replacements in one body than are kept.
    Replacements,
    /// What was rendered is no URL, or not one that is asked for.
    Url,
    /// What was rendered is no address and no network.
    Network,
    /// `http-request` has no answer, and the rules are not to go on without.
    Fetch(FetchError),
}

impl Failure {
    /// Returns what failed in an action, and in no place of an expression.
    pub(crate) fn of(fault: Fault) -> Self {
        Self::Expression(Error { at: Position { line: 1, column: 1 }, fault })
    }

    /// Returns whether the budget of the phase is the reason.
    pub fn is_limit(&self) -> bool {
        match self {
            Self::Expression(error) => error.fault.is_limit(),
            Self::NoBool
            | Self::Header
            | Self::Status
            | Self::Pattern(_)
            | Self::Field
            | Self::Replacements
            | Self::Url
            | Self::Network
            | Self::Fetch(_) => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expression(error) => error.fmt(f),
            Self::NoBool => f.write_str("a condition is no bool"),
            Self::Header => f.write_str("a header would have a control character"),
            Self::Status => f.write_str("no such status"),
            Self::Url => f.write_str("no URL of the kind that is asked for"),
            Self::Network => f.write_str("no IP address and no network"),
            Self::Pattern(bad) => bad.fmt(f),
            Self::Field => f.write_str("no such field of events"),
            Self::Replacements => f.write_str("too many replacements in one body"),
            Self::Fetch(error) => write!(f, "no answer: {}", error.message()),
        }
    }
}

impl core::error::Error for Failure {}
