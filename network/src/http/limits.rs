//! The limits of HTTP, each with its default and what happens when it is reached.

use core::time::Duration;

use super::gate::HeadLimits;
use crate::config::Limits;

/// What a caller or an upstream may make grow.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpLimits {
    /// The whole head of a request from its first octet, and the first octet of a connection: 10 s. Then 408 (ADIT-3011),
    /// or the connection is closed when nothing came.
    pub header_timeout: Duration,
    /// Octets of a head: 1 MiB. Then 431 (ADIT-3009).
    pub header_size: usize,
    /// Fields of a head, cookie crumbs of HTTP/2 counted one by one: 100. Then 431 (ADIT-3009).
    pub header_fields: usize,
    /// Octets of a target: 32 KiB. Then 414 (ADIT-3019).
    pub target_size: usize,
    /// How long the caller may keep a body waiting before the upstream has answered: 30 s, as a budget of each body that
    /// [`Self::body_rate`] refills. gRPC to HTTP/2 upstreams is left alone, because its streams may rest. Then 408 (ADIT-3011).
    pub body_timeout: Duration,
    /// Octets that buy a second of waiting: 100. At 0 every octet refills the whole budget.
    pub body_rate: u32,
    /// A connection without a request: 60 s. Then it is closed; HTTP/2 gets GOAWAY.
    pub idle_timeout: Duration,
    /// Data that the caller does not take: 30 s without any progress. Then the connection or HTTP/2 stream is reset.
    pub stall_timeout: Duration,
    /// Concurrent requests on an HTTP/2 connection: 128. More are refused by the protocol.
    pub requests_per_connection: u32,
    /// Requests of one source (IPv6: /64) under way, over all its connections: 10,000. Then 429 (ADIT-3041).
    pub requests_per_source: usize,
    /// Requests of an HTTP/2 connection that may end in a reset before their answer is out: 100, refilled at
    /// [`Self::reset_rate`]. Then GOAWAY and close (V1, V2).
    pub reset_burst: u32,
    /// Resets a second that refill [`Self::reset_burst`]: 33.
    pub reset_rate: u32,
    /// How often an HTTP/2 caller is asked whether it is alive: 30 s.
    pub ping_interval: Duration,
    /// How long it may take to answer: 20 s. Then the connection is closed.
    pub ping_timeout: Duration,
    /// How long an HTTP/2 upstream may take to answer that: [`Self::ping_timeout`] and, because its agent may be away for so long,
    /// the resume window. Then the connection is closed.
    pub upstream_ping_timeout: Duration,
    /// An upstream that neither takes nor refuses a connection: 15 s. Then 504 (ADIT-3004).
    pub accept_timeout: Duration,
    /// An upstream that does not begin its answer: 10 min after it took the last of the body. Then 504 (ADIT-3004).
    pub response_timeout: Duration,
    /// How long the body waits for the upstream's 100 before it is sent all the same: 1 s.
    pub continue_timeout: Duration,
    /// 1xx answers before the final one: 10. Then 502 (ADIT-3005).
    pub informational: usize,
    /// Octets and fields of an answer's head: 1 MiB and 100. Then 502 (ADIT-3005).
    pub answer_size: usize,
    /// See [`Self::answer_size`].
    pub answer_fields: usize,
    /// Idle connections kept for a member: 256. More are closed.
    pub pool_idle: usize,
    /// How long one is kept: 60 s.
    pub pool_idle_timeout: Duration,
    /// Bodies in which rules replace at once: 2,000. Then 503 (ADIT-3038).
    pub replaced_bodies: usize,
    /// Answers that rules compress at once: 1,000. More go out as they are.
    pub compressed_bodies: usize,
    /// Octets of an unread body that are thrown away to keep a connection: 64 KiB. Then it is closed.
    pub drain_size: usize,
    /// Octets of a body that are kept to send them to another member, where the method allows it: 64 KiB. A longer body is sent
    /// once.
    pub replay_size: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self::from(&Limits::default())
    }
}

impl From<&Limits> for HttpLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            header_timeout: limits.header_timeout,
            header_size: limits.header_size,
            header_fields: limits.header_fields,
            target_size: limits.target_size,
            body_timeout: limits.body_timeout,
            body_rate: number(limits.body_rate),
            idle_timeout: limits.idle_timeout,
            stall_timeout: limits.stall_timeout,
            requests_per_connection: number(limits.requests_per_connection),
            requests_per_source: limits.requests_per_source,
            reset_burst: number(limits.resets_per_connection),
            reset_rate: number(limits.resets_per_connection / 3),
            ping_interval: limits.ping_interval,
            ping_timeout: limits.ping_timeout,
            upstream_ping_timeout: limits.ping_timeout.saturating_add(limits.resume_window),
            accept_timeout: limits.accept_timeout,
            response_timeout: limits.response_timeout,
            continue_timeout: Duration::from_secs(1),
            informational: 10,
            answer_size: limits.answer_size,
            answer_fields: limits.answer_fields,
            pool_idle: limits.upstream_connections,
            pool_idle_timeout: limits.upstream_idle_timeout,
            replaced_bodies: limits.replaced_bodies,
            compressed_bodies: limits.compressed_bodies,
            drain_size: 64 << 10,
            replay_size: limits.replay_size,
        }
    }
}

impl HttpLimits {
    pub(super) fn head(&self) -> HeadLimits {
        HeadLimits { size: self.header_size, fields: self.header_fields, target: self.target_size }
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_sets_is_what_holds() {
        let secs = Duration::from_secs;
        let mut set = Limits::default();
        (set.target_size, set.body_rate, set.resets_per_connection) = (1, 2, 12);
        (set.ping_interval, set.ping_timeout, set.response_timeout) = (secs(5), secs(6), secs(7));
        (set.answer_size, set.answer_fields, set.resume_window) = (8, 9, secs(12));
        (set.upstream_connections, set.upstream_idle_timeout) = (10, secs(11));
        (set.replaced_bodies, set.compressed_bodies) = (13, 14);

        let held = HttpLimits::from(&set);

        assert_eq!((held.target_size, held.body_rate, held.reset_burst, held.reset_rate), (1, 2, 12, 4));
        assert_eq!((held.ping_interval, held.ping_timeout, held.response_timeout), (secs(5), secs(6), secs(7)));
        assert_eq!(held.upstream_ping_timeout, secs(18), "an agent may be away");
        assert_eq!((held.answer_size, held.answer_fields), (8, 9));
        assert_eq!((held.pool_idle, held.pool_idle_timeout), (10, secs(11)));
        assert_eq!((held.replaced_bodies, held.compressed_bodies), (13, 14));
    }
}
