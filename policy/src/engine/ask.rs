//! What the engine asks the world, and what the world answers.

use core::time::Duration;
use std::sync::Arc;

use crate::auth::{basic::Check, jwt::KeySet};

/// What the engine needs to know before it can go on.
#[derive(Debug)]
pub enum Ask {
    /// The answer to a request: [`Answer::Fetched`].
    Fetch(Box<Fetch>),
    /// The keys of issuers: [`Answer::Keys`]. [`KeyCache`](crate::auth::jwt::KeyCache) says when they are fetched.
    Keys {
        /// Where they are: addresses of `https`.
        urls: Vec<String>,
        /// Whether those that were kept do not do: they did not have a key that was looked for.
        fresh: bool,
    },
    /// Whether a password has a hash, which is costly to say: [`Answer::Password`].
    Password {
        /// What is to be run, on a thread that serves nobody else.
        check: Check,
    },
    /// The whole body of the request, which goes to the upstream all the same: [`Answer::Body`].
    Body {
        /// The most octets that are to be kept.
        most: usize,
    },
}

/// A request to a server that a policy names.
#[derive(Debug)]
pub struct Fetch {
    /// The request, with an absolute URI.
    pub request: http::Request<Vec<u8>>,
    /// How long it may take.
    pub timeout: Duration,
    /// The most octets of the body of its answer.
    pub most: usize,
}

/// What an [`Ask`] came to.
#[derive(Debug)]
pub enum Answer {
    /// The answer to a request, with the address of the server among its extensions.
    Fetched(Result<http::Response<Vec<u8>>, FetchError>),
    /// The keys.
    Keys(Result<Keys, Unavailable>),
    /// Whether the password has the hash.
    Password(Result<bool, Unavailable>),
    /// The body, or nothing when it has more octets than may be kept.
    Body(Option<Vec<u8>>),
    /// The endpoint of [`Outcome::Forward`](super::Outcome::Forward) could not be reached, and nothing was sent to it.
    Unreachable,
}

/// What there is of the keys that were asked for.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The sets of those addresses that could be asked, in their order.
    pub sets: Vec<Arc<KeySet>>,
    /// Whether fresh ones were asked for.
    pub fresh: bool,
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The address is one to which no policy may send a request.
    Forbidden,
    /// There was no connection, or it broke.
    Unreachable,
    /// It took too long.
    Timeout,
    /// The answer has more octets than asked for.
    TooLarge,
    /// It was redirected more often than allowed, or to nowhere.
    Redirected,
}

impl FetchError {
    /// Returns its code, as `actions.ngrok.http_request.error.code` has it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Redirected => "redirected",
        }
    }

    /// Returns what it means.
    pub fn message(self) -> &'static str {
        match self {
            Self::Forbidden => "a policy may not send a request there",
            Self::Unreachable => "the server could not be reached, or gave no whole answer",
            Self::Timeout => "the answer took too long",
            Self::TooLarge => "response size exceeded",
            Self::Redirected => "redirected too often, or to nowhere",
        }
    }
}

/// There is no answer, and none that was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;
