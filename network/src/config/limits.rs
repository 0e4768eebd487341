//! The limits: a name, a default and a stated answer for everything that callers or agents can make grow.

use core::time::Duration;

use adit_policy::auth::jwt::{FRESH, PAUSE, STALE};

use super::{section::Section, values};

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $read:path, $expected:literal, $range:expr;)+) => {
        /// What callers and agents may make grow: section `limits`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Limits {
            pub(super) fn read(mut section: Section<'_>) -> Self {
                let default = Self::default();
                let limits = Self {
                    $($name: section.value(stringify!($name), default.$name, $expected, |text| {
                        $read(text).filter(|value| ($range).contains(value))
                    }),)+
                };
                section.finish();
                limits
            }

            /// Returns the names, in the order of the documentation.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)+];

            /// The names with what is written about them, as the documentation has it.
            #[cfg(test)]
            pub(super) const DOCUMENTED: &'static [(&'static str, &'static str)] =
                &[$((stringify!($name), concat!($($doc),+)),)+];
        }
    };
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

limits! {
    /// Public connections in all, 50,000; more are closed at once, without an answer.
    connections: usize = 50_000, values::count, "a count from 1 to 10,000,000", 1..=10_000_000;
    /// Public connections of one endpoint, 20,000.
    connections_per_endpoint: usize = 20_000, values::count, "a count from 1 to 10,000,000", 1..=10_000_000;
    /// Connections and requests to all endpoints of one account, 50,000; more are refused with ADIT-3010.
    connections_per_account: usize = 50_000, values::count, "a count from 1 to 10,000,000", 1..=10_000_000;
    /// Public connections of one source address (IPv6: /64), 10,000: the callers of a vendor are often its own servers.
    connections_per_source: usize = 10_000, values::count, "a count from 1 to 10,000,000", 1..=10_000_000;
    /// Requests of one source address (IPv6: /64) under way, over all its connections, 10,000; more are answered 429, ADIT-3041.
    requests_per_source: usize = 10_000, values::count, "a count from 1 to 10,000,000", 1..=10_000_000;
    /// Connections carried by one agent session, 16,384, which is also the number of its streams.
    connections_per_agent: usize = 16_384, values::count, "a count from 1 to 1,048,576", 1..=1_048_576;
    /// Agent sessions in all, 10,000; more are refused with ADIT-2006.
    sessions: usize = 10_000, values::count, "a count from 1 to 1,000,000", 1..=1_000_000;
    /// Agent sessions of one account, 5,000.
    sessions_per_account: usize = 5_000, values::count, "a count from 1 to 1,000,000", 1..=1_000_000;
    /// Agent sessions of one token, 1,000.
    sessions_per_token: usize = 1_000, values::count, "a count from 1 to 1,000,000", 1..=1_000_000;
    /// Endpoints that one session may bind, 1,000; more are refused with ADIT-2007.
    binds_per_session: usize = 1_000, values::count, "a count from 1 to 100,000", 1..=100_000;
    /// Endpoints that one account may own, bound or bound within 30 days, 10,000.
    endpoints_per_account: usize = 10_000, values::count, "a count from 1 to 1,000,000", 1..=1_000_000;
    /// Streams that one agent may open towards the network, 16; the network offers no service of that kind.
    streams_from_agent: usize = 16, values::count, "a count from 1 to 16,384", 1..=16_384;
    /// The TLS handshake of a caller or agent, 10 s.
    handshake_timeout: Duration = secs(10), values::duration, "a time from 1s to 5m", secs(1)..=secs(300);
    /// TLS handshakes of callers under way, 2,000; more wait for nothing: the connection is closed.
    handshakes: usize = 2_000, values::count, "a count from 1 to 1,000,000", 1..=1_000_000;
    /// TLS handshakes of agents under way, 2,000.
    ingress_handshakes: usize = 2_000, values::count, "a count from 1 to 1,000,000", 1..=1_000_000;
    /// The whole header of a request, from its first octet, 10 s (408, ADIT-3011).
    header_timeout: Duration = secs(10), values::duration, "a time from 1s to 10m", secs(1)..=secs(600);
    /// The octets of a request's header, 1 MiB (431, ADIT-3009).
    header_size: usize = 1 << 20, values::size, "a size from 4KiB to 16MiB", (4 << 10)..=(16 << 20);
    /// The fields of a request's header, 100 (431, ADIT-3009).
    header_fields: usize = 100, values::count, "a count from 10 to 1,000", 10..=1_000;
    /// The octets of a request's target, 32 KiB (414, ADIT-3019).
    target_size: usize = 32 << 10, values::size, "a size from 1KiB to 1MiB", (1 << 10)..=(1 << 20);
    /// How long a caller may keep a request's body waiting, 30 s (408, ADIT-3011): a budget of each body that `body_rate` refills.
    body_timeout: Duration = secs(30), values::duration, "a time from 1s to 1h", secs(1)..=secs(3_600);
    /// The octets of a body that buy a second of waiting, 100. 0: any octet buys all of `body_timeout`.
    body_rate: usize = 100, values::count, "a count from 0 to 1,000,000", 0..=1_000_000;
    /// A caller's HTTP connection without a request, 60 s; then it is closed.
    idle_timeout: Duration = secs(60), values::duration, "a time from 1s to 1h", secs(1)..=secs(3_600);
    /// Data that a caller does not take, without any progress, 30 s; then its connection, or its stream of HTTP/2, is reset.
    stall_timeout: Duration = secs(30), values::duration, "a time from 1s to 1h", secs(1)..=secs(3_600);
    /// An HTTP/2 caller's concurrent requests on one connection, 128.
    requests_per_connection: usize = 128, values::count, "a count from 1 to 10,000", 1..=10_000;
    /// Requests of an HTTP/2 connection that may end in a reset before their answer, 100, and a third as many each second.
    resets_per_connection: usize = 100, values::count, "a count from 10 to 100,000", 10..=100_000;
    /// After how long an HTTP/2 connection with open requests is asked whether it lives, 30 s.
    ping_interval: Duration = secs(30), values::duration, "a time from 1s to 1h", secs(1)..=secs(3_600);
    /// How long it may take to answer that, 20 s; then it is closed.
    ping_timeout: Duration = secs(20), values::duration, "a time from 1s to 1h", secs(1)..=secs(3_600);
    /// An upstream that neither accepts nor refuses a connection, 15 s (504, ADIT-3004), without the time in which its agent is lost.
    accept_timeout: Duration = secs(15), values::duration, "a time from 1s to 5m", secs(1)..=secs(300);
    /// An upstream that does not begin its answer after it has the whole request, 10 min (504, ADIT-3004), counted in the same way.
    response_timeout: Duration = secs(600), values::duration, "a time from 1s to 24h", secs(1)..=secs(86_400);
    /// The octets of an answer's header, 1 MiB (502, ADIT-3005).
    answer_size: usize = 1 << 20, values::size, "a size from 4KiB to 16MiB", (4 << 10)..=(16 << 20);
    /// The fields of an answer's header, 100 (502, ADIT-3005).
    answer_fields: usize = 100, values::count, "a count from 10 to 1,000", 10..=1_000;
    /// Connections to upstreams without a request that each bind keeps for the next, 256; more are closed.
    upstream_connections: usize = 256, values::count, "a count from 0 to 10,000", 0..=10_000;
    /// How long such a connection is kept, 60 s.
    upstream_idle_timeout: Duration = secs(60), values::duration, "a time from 1s to 1h", secs(1)..=secs(3_600);
    /// The first octets of a caller kept to repeat them to another agent, 64 KiB.
    replay_size: usize = 64 << 10, values::size, "a size from 0 to 1MiB", 0..=(1 << 20);
    /// How long a connection waits for an agent when none is online, 0 (not at all).
    hold: Duration = Duration::ZERO, values::duration, "a time from 0 to 1m", secs(0)..=secs(60);
    /// Connections that may wait so, 1,000.
    held_connections: usize = 1_000, values::count, "a count from 1 to 100,000", 1..=100_000;
    /// How long a session is kept, and its connections wait, when the agent is lost, 30 s; agents may ask for less. 0: it ends.
    resume_window: Duration = secs(30), values::duration, "a time from 0 to 1h", secs(0)..=secs(3_600);
    /// How long a new connection waits for an agent that is lost and may come back, 10 s; then ADIT-3002.
    hold_parked: Duration = secs(10), values::duration, "a time from 0 to 1m", secs(0)..=secs(60);
    /// Sessions that wait for their agents, 10,000; one more, and the account with most of them loses the one that waited longest.
    parked_sessions: usize = 10_000, values::count, "a count from 1 to 1,000,000", 1..=1_000_000;
    /// Octets that such sessions keep together, 1 GiB; above, the account that keeps most loses those that waited longest.
    parked_size: usize = 1 << 30, values::size, "a size from 1MiB to 1TiB", (1 << 20)..=(1 << 40);
    /// Requests of policies to other servers under way, 256; more are not sent.
    fetches: usize = 256, values::count, "a count from 1 to 100,000", 1..=100_000;
    /// Such requests of one account, 64.
    fetches_per_account: usize = 64, values::count, "a count from 1 to 100,000", 1..=100_000;
    /// The whole of such a request, from the look-up of its name to the last octet of its answer, 30 s; an action may allow less.
    fetch_timeout: Duration = secs(30), values::duration, "a time from 1s to 5m", secs(1)..=secs(300);
    /// The octets of its answer's body, inflated, 256 KiB; its header may have 64 KiB.
    fetch_size: usize = 256 << 10, values::size, "a size from 1KiB to 16MiB", (1 << 10)..=(16 << 20);
    /// How long the keys of an issuer are used before they are asked for again, 15 minutes.
    keys_refresh: Duration = FRESH, values::duration, "a time from 1s to 24h", secs(1)..=secs(86_400);
    /// How long they are used when the issuer cannot be asked, 6 hours; then nobody passes.
    keys_outage: Duration = STALE, values::duration, "a time from 1s to 168h", secs(1)..=secs(604_800);
    /// The least time between two requests for the keys of one address, 1 minute.
    keys_pause: Duration = PAUSE, values::duration, "a time from 1s to 1h", secs(1)..=secs(3_600);
    /// Bodies in which policies replace at once, 2,000, each with up to 256 KiB for each replacement; more are refused with ADIT-3038.
    replaced_bodies: usize = 2_000, values::count, "a count from 1 to 1,000,000", 1..=1_000_000;
    /// Answers that policies compress at once, 1,000, each with up to 2 MiB; more go out as they are.
    compressed_bodies: usize = 1_000, values::count, "a count from 1 to 1,000,000", 1..=1_000_000;
    /// Endpoints, and accounts, with labels of their own in the metrics, 1,000 each; the others are counted together, as `other`.
    labelled_endpoints: usize = 1_000, values::count, "a count from 0 to 100,000", 0..=100_000;
    /// Resident memory of the process, 0: what its control group allows. From 85 % new requests are refused (503, ADIT-3040),
    /// from 92 % new agents (ADIT-2006), from 97 % callers' connections are closed at once; what is open goes on.
    memory: usize = 0, values::size, "a size from 64MiB to 1PiB, or 0", 0..=(1 << 50);
}

/// How an operator sees that a limit was reached.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// `adit_limits_reached_total{limit="…"}`, with its name.
    Counted,
    /// `adit_refused_total{code="…"}`.
    Code(&'static str),
    /// Another metric.
    Metric(&'static str),
    /// Not at all: nobody is refused anything.
    Quiet(&'static str),
}

#[cfg(test)]
impl Seen {
    pub(super) fn text(self, name: &str) -> String {
        match self {
            Self::Counted => format!("`adit_limits_reached_total{{limit=\"{name}\"}}`"),
            Self::Code(code) => format!("`adit_refused_total{{code=\"{code}\"}}`"),
            Self::Metric(metric) => format!("`{metric}`"),
            Self::Quiet(why) => format!("no metric: {why}"),
        }
    }
}

/// Every limit. docs/observability.md is kept equal by a test.
#[cfg(test)]
pub(super) const SEEN: &[(&str, Seen)] = &[
    ("connections", Seen::Counted),
    ("connections_per_endpoint", Seen::Counted),
    ("connections_per_account", Seen::Counted),
    ("connections_per_source", Seen::Counted),
    ("requests_per_source", Seen::Counted),
    ("connections_per_agent", Seen::Counted),
    ("sessions", Seen::Counted),
    ("sessions_per_account", Seen::Counted),
    ("sessions_per_token", Seen::Counted),
    ("binds_per_session", Seen::Counted),
    ("endpoints_per_account", Seen::Counted),
    ("streams_from_agent", Seen::Quiet("each such stream is refused on the wire, one or many")),
    ("handshake_timeout", Seen::Counted),
    ("handshakes", Seen::Counted),
    ("ingress_handshakes", Seen::Quiet("more agents wait in the listener's queue")),
    ("header_timeout", Seen::Code("ADIT-3011")),
    ("header_size", Seen::Code("ADIT-3009")),
    ("header_fields", Seen::Code("ADIT-3009")),
    ("target_size", Seen::Code("ADIT-3019")),
    ("body_timeout", Seen::Code("ADIT-3011")),
    ("body_rate", Seen::Code("ADIT-3011")),
    ("idle_timeout", Seen::Quiet("the usual end of a connection")),
    ("stall_timeout", Seen::Counted),
    ("requests_per_connection", Seen::Quiet("HTTP/2 tells callers the number, and refuses more by itself")),
    ("resets_per_connection", Seen::Counted),
    ("ping_interval", Seen::Quiet("a question, no refusal")),
    ("ping_timeout", Seen::Counted),
    ("accept_timeout", Seen::Code("ADIT-3004")),
    ("response_timeout", Seen::Code("ADIT-3004")),
    ("answer_size", Seen::Code("ADIT-3005")),
    ("answer_fields", Seen::Code("ADIT-3005")),
    ("upstream_connections", Seen::Quiet("more are closed after use")),
    ("upstream_idle_timeout", Seen::Quiet("closed when nobody used it")),
    ("replay_size", Seen::Quiet("nothing more is read before an agent has the connection")),
    ("hold", Seen::Code("ADIT-3002")),
    ("held_connections", Seen::Counted),
    ("resume_window", Seen::Metric("adit_sessions_expired_total")),
    ("hold_parked", Seen::Code("ADIT-3002")),
    ("parked_sessions", Seen::Counted),
    ("parked_size", Seen::Counted),
    ("fetches", Seen::Counted),
    ("fetches_per_account", Seen::Counted),
    ("fetch_timeout", Seen::Metric("adit_policy_fetches_total")),
    ("fetch_size", Seen::Metric("adit_policy_fetches_total")),
    ("keys_refresh", Seen::Metric("adit_policy_fetches_total")),
    ("keys_outage", Seen::Metric("adit_policy_fetches_total")),
    ("keys_pause", Seen::Metric("adit_policy_fetches_total")),
    ("replaced_bodies", Seen::Counted),
    ("compressed_bodies", Seen::Counted),
    ("labelled_endpoints", Seen::Metric("adit_endpoint_requests_total{account=\"other\",endpoint=\"other\"}")),
    ("memory", Seen::Counted),
];
