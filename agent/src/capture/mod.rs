//! The last requests over HTTP, for whoever runs the agent: only where the customer's own policy allows it and the configuration asks
//! for it; in memory alone, bounded, and gone at once when the policy says so.
//!
//! The agent carries octets. [`Follower`] reads along, without changing or delaying anything; it is pure, and fuzzed.

mod follow;
mod message;
mod redact;
mod show;
mod store;

pub use follow::{Exchange, Follower};
pub use message::{Answer, Body, Field, MARK, Request, Unrepeatable};
pub use redact::{REDACTED, Redact};

pub(crate) use show::base64;
pub(crate) use store::{Record, Store, Tee};

use adit_core::{TlsEnd, UpstreamProtocol};

use crate::{
    config::{EndpointConfig, Kind},
    http1::{Ambiguous, BadChunk},
};

/// How much is kept of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A head that is longer, in octets, is not read, nor what follows it on its connection.
    pub head: usize,
    /// Octets of a body beyond these are counted and not kept.
    pub body: usize,
}

/// Why a connection is followed no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It is over.
    Over,
    /// What comes is not HTTP/1.
    NotHttp,
    /// A head is longer than the limit.
    HeadTooLong,
    /// Where a message ends can be read in two ways.
    Ambiguous,
    /// A body of chunks has something else in it.
    Chunks,
    /// An answer came to which there is no request.
    Unasked,
    /// More requests wait for their answers than are followed.
    TooMany,
    /// It speaks something else than HTTP from here on.
    Upgraded,
    /// All that is under way takes too much memory.
    Memory,
}

impl From<Ambiguous> for Lost {
    fn from(_: Ambiguous) -> Self {
        Self::Ambiguous
    }
}

impl From<BadChunk> for Lost {
    fn from(_: BadChunk) -> Self {
        Self::Chunks
    }
}

/// What can be seen of an endpoint's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Requests and answers.
    Http1,
    /// Nothing: it is HTTP/2.
    Http2,
    /// Nothing: TLS passes through.
    Tls,
    /// Nothing: it is not said to be HTTP.
    Octets,
}

impl Sight {
    /// Returns what can be seen at an endpoint.
    pub(crate) fn of(endpoint: &EndpointConfig) -> Self {
        let is_http = endpoint.kind == Kind::Http || endpoint.upstream.is_http;
        match (endpoint.tls_end(), endpoint.upstream.protocol) {
            (TlsEnd::Upstream, _) => Self::Tls,
            _ if !is_http => Self::Octets,
            (_, UpstreamProtocol::Http1) => Self::Http1,
            (_, UpstreamProtocol::Http2) => Self::Http2,
        }
    }

    /// Returns why nothing is seen, where nothing is.
    pub(crate) const fn blind(self) -> Option<&'static str> {
        match self {
            Self::Http1 => None,
            Self::Http2 => Some("HTTP/2 to the upstream: nothing is seen of it"),
            Self::Tls => Some("TLS passes through to the upstream: there is nothing to see"),
            Self::Octets => Some("octets that are not said to be HTTP: nothing is read of them"),
        }
    }
}
