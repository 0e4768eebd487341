//! Control messages: what the frames that are not data say.
//!
//! On the wire a message is a protocol buffer (`conformance/spec/adit.proto`). A field that is not known is skipped, a
//! field that is absent has its default; limits on texts and lists are checked while decoding, before anything is kept.

mod codec;
mod wire;

use alloc::{format, string::String, vec::Vec};
use core::net::SocketAddr;

use crate::{AgentId, BindId, Code, Duration, Secret, SessionId};

pub use wire::Message;

/// The version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;

/// How a side finds out that its link is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The time between two questions.
    pub interval: Duration,
    /// How long silence is tolerated after a question was written.
    pub tolerance: Duration,
}

/// What a side is willing to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest frame payload, in octets.
    pub frame: u32,
    /// The credit that each new stream has before any is announced, in octets.
    pub window: u32,
    /// The number of streams that the peer may open before more are granted.
    pub streams: u32,
}

/// The first frame of a link, from the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The versions that the agent speaks, best first. At most 16.
    pub versions: Vec<u32>,
    /// The agent's lasting name.
    pub agent: AgentId,
    /// The same in all sessions of one run of the agent, another after the next start.
    pub incarnation: u64,
    /// The authtoken. At most 512 octets.
    pub token: Secret,
    /// Name and version of the program, its system and machine. At most 256 octets.
    pub software: String,
    /// Text of the agent's owner. At most 4,096 octets.
    pub metadata: String,
    /// The heartbeat that the agent asks for.
    pub heartbeat: Heartbeat,
    /// What the agent is willing to receive.
    pub limits: Limits,
    /// The session to go on with, if any.
    pub resume: Option<Resume>,
    /// How long the agent wants its session kept without a link; zero for an agent that never resumes.
    pub resume_window: Duration,
    /// The session's place among those that one run of the agent holds, from 0: below [`LANES`].
    pub lane: u8,
}

/// The sessions that one run of an agent may hold: 8 (AUTH-008).
pub const LANES: u8 = 8;

/// A request to go on with a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The session.
    pub session: SessionId,
    /// The secret that the last WELCOME gave.
    pub secret: Secret,
    /// How many counted frames the agent has processed.
    pub received: u64,
    /// How many times the agent has asked to resume the session, this time included.
    pub attempt: u64,
}

/// The network's consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version that the session speaks.
    pub version: u32,
    /// The session's name.
    pub session: SessionId,
    /// The heartbeat in force on both sides.
    pub heartbeat: Heartbeat,
    /// What the network is willing to receive.
    pub limits: Limits,
    /// The region of the node. At most 64 octets.
    pub region: String,
    /// The name of the node. At most 253 octets.
    pub node: String,
    /// The permission to resume, if the network gives it.
    pub resume: Option<ResumeOffer>,
    /// In answer to a resume: how many counted frames the network has processed.
    pub resumed: Option<u64>,
}

/// The permission to resume the session once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeOffer {
    /// The secret to show. 16 to 64 octets.
    pub secret: Secret,
    /// How long the session is kept without a link.
    pub window: Duration,
}

/// A no: to a handshake, to a bind, or taking a bind back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub code: Code,
    /// When to ask again, if that makes sense. At most 300 s count.
    pub retry_after: Option<Duration>,
    /// For humans; escaped before it is shown. At most 1,024 octets.
    pub text: String,
}

/// The end of a session, said by one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Why.
    pub code: Code,
    /// For humans; escaped before it is shown. At most 1,024 octets.
    pub text: String,
}

/// An announcement: streams above `last` will not be processed, those up to it finish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAway {
    /// The highest stream of the receiver that will be processed, zero for none.
    pub last: u32,
    /// Why.
    pub code: Code,
    /// When to come back, if not at once. At most 300 s count.
    pub retry_after: Option<Duration>,
    /// For humans; escaped before it is shown. At most 1,024 octets.
    pub text: String,
}

/// What a new stream is for. The whole message is at most 4,096 octets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// The bind that the stream belongs to.
    pub bind: Option<BindId>,
    /// The address of the caller.
    pub caller: Option<SocketAddr>,
    /// The address that the caller dialed.
    pub local: Option<SocketAddr>,
    /// What TLS said between caller and network, if the caller spoke TLS.
    pub tls: Option<TlsInfo>,
    /// The endpoint's URL as the caller knows it. At most 512 octets.
    pub endpoint: String,
}

/// Facts of a caller's TLS connection. Each text is at most 255 octets; empty when not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// The server name that the caller asked for.
    pub sni: String,
    /// The application protocol.
    pub alpn: String,
    /// The version, as `TLSv1.3`.
    pub version: String,
    /// The cipher suite; empty when the network passed TLS through.
    pub cipher: String,
}

/// A wish for an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The agent's number for it.
    pub id: BindId,
    /// The endpoint: `https://crm.example.com`, `https://*.example.com`, `tls://…`, `tcp://:5432`. At most 512 octets.
    pub url: String,
    /// Whether other agents may bind the same endpoint.
    pub pooling: bool,
    /// What the upstream speaks, for endpoints where the network speaks HTTP.
    pub upstream_protocol: UpstreamProtocol,
    /// The endpoint's name in the agent's configuration. At most 253 octets.
    pub name: String,
    /// For humans. At most 1,024 octets.
    pub description: String,
    /// Text of the agent's owner. At most 4,096 octets.
    pub metadata: String,
    /// Where TLS of callers ends (BIND-018).
    pub tls_end: TlsEnd,
}

impl ResumeOffer {
    /// Returns how long a side that wants `wanted` at most keeps the session; `None` when that is no time at all.
    pub(crate) fn within(&self, wanted: Duration) -> Option<Duration> {
        Some(self.window.min(wanted)).filter(|window| *window > Duration::ZERO) // spec: RES-016
    }
}

impl Bind {
    /// Returns whether the URL leaves something to the network: the name, or the port of TCP (BIND-012).
    pub fn leaves_open(&self) -> bool {
        self.chosen("://").is_some()
    }

    /// Returns the URL that asks for what the network chose, `bound`, if this one leaves something to the network (BIND-012).
    pub fn chosen(&self, bound: &str) -> Option<String> {
        let ((scheme, wish), (_, bound)) = (self.url.split_once("://")?, bound.split_once("://")?);
        let bound = bound.trim_end_matches('/');
        let (host, port) = bound.rsplit_once(':').unwrap_or((bound, ""));
        if scheme.eq_ignore_ascii_case("tcp") {
            let (_, wished) = wish.trim_end_matches('/').rsplit_once(':')?;
            let open = !wished.is_empty() && wished.bytes().all(|digit| digit == b'0');
            return open.then(|| format!("{scheme}://:{port}"));
        }
        wish.trim_end_matches('/').is_empty().then(|| format!("{scheme}://{host}"))
    }
}

/// What HTTP the network speaks towards the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// Where TLS of an endpoint's callers ends, and so who can read what they send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsEnd {
    /// Nothing is said: there is no TLS, or the side does not know of the field.
    #[default]
    Unsaid,
    /// At the network.
    Network,
    /// At the agent: the network carries octets that it cannot read.
    Agent,
    /// At the upstream: neither network nor agent can read them.
    Upstream,
}

impl TlsEnd {
    /// Returns where TLS ends by the URL alone: `https` at the network, `tls` at the upstream.
    pub fn of(url: &str) -> Self {
        match url.split_once("://") {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => Self::Network,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("tls") => Self::Upstream,
            Some(_) | None => Self::Unsaid,
        }
    }

    /// Returns whether TLS of an endpoint with this URL can end there. A URL of no scheme that is known fits anything: it is
    /// refused for itself.
    pub fn fits(self, url: &str) -> bool {
        let Some((scheme, rest)) = url.split_once("://") else { return true };
        let is = |known: &str| scheme.eq_ignore_ascii_case(known);
        // No caller of its own has such an endpoint (BIND-017), so there is no TLS but the network's.
        let internal = || {
            let host = rest.strip_suffix('/').unwrap_or(rest);
            let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
            last.eq_ignore_ascii_case("internal")
        };
        match self {
            Self::Unsaid => true,
            Self::Network => !(is("http") || is("tls") || is("tcp")),
            Self::Agent => !(is("http") || is("tcp") || is("https") && internal()),
            Self::Upstream => !(is("http") || is("tcp") || is("https")),
        }
    }

    /// Returns the word for it: `network`, `agent`, `upstream`, or nothing.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unsaid => "",
            Self::Network => "network",
            Self::Agent => "agent",
            Self::Upstream => "upstream",
        }
    }
}

/// A bind is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The agent's number for it.
    pub id: BindId,
    /// The endpoint as callers know it. At most 512 octets.
    pub url: String,
    /// Where TLS of callers ends, as BIND said it; nothing from a network that does not know of it.
    pub tls_end: TlsEnd,
}

/// The agent gives a bind up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbind {
    /// The agent's number for it.
    pub id: BindId,
    /// Whether live streams are reset at once; else they finish.
    pub cut: bool,
    /// Why; [`Code::NO_ERROR`] where the agent says nothing of it.
    pub code: Code,
    /// Why, for humans. At most 1,024 octets.
    pub text: String,
}

impl Unbind {
    /// Gives a bind up and says nothing of the reason; live streams finish.
    pub const fn new(id: BindId) -> Self {
        Self { id, cut: false, code: Code::NO_ERROR, text: String::new() }
    }

    /// Resets live streams at once, if `cut`.
    #[must_use]
    pub const fn cutting(mut self, cut: bool) -> Self {
        self.cut = cut;
        self
    }

    /// Says why (BIND-020). A longer text than fits is cut where it is sent.
    #[must_use]
    pub fn because(mut self, code: Code, text: impl Into<String>) -> Self {
        (self.code, self.text) = (code, text.into());
        self
    }
}

/// An endpoint that the agent's configuration names and that the agent does not ask for: a hint, which binds nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// The endpoint as BIND would name it. At most 512 octets.
    pub url: String,
    /// Why; [`Code::NO_ERROR`] where it is withheld no more.
    pub code: Code,
    /// Why, for humans. At most 1,024 octets.
    pub text: String,
    /// Where TLS of callers would end, as BIND would say it.
    pub tls_end: TlsEnd,
}

impl Withheld {
    /// Takes back that an endpoint is withheld.
    pub fn taken_back(url: impl Into<String>) -> Self {
        Self { url: url.into(), code: Code::NO_ERROR, text: String::new(), tls_end: TlsEnd::Unsaid }
    }
}

/// A no to one bind: REJECTED in answer to BIND, UNBOUND for one that was in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindRefusal {
    /// The agent's number for it.
    pub id: BindId,
    /// Why.
    pub refusal: Refusal,
}

/// A remote command: a request that the agent may refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRequest {
    /// The network's number for it.
    pub id: u32,
    /// What is asked.
    pub command: Command,
    /// For the agent's log. At most 1,024 octets.
    pub text: String,
    /// What [`Command::Configuration`] asks to put in force; empty with any other. At most [`DOCUMENT`] octets.
    pub document: String,
}

impl CommandRequest {
    /// Asks for something that needs no document.
    pub const fn new(id: u32, command: Command) -> Self {
        Self { id, command, text: String::new(), document: String::new() }
    }
}

/// The longest document of a remote command, in octets: with everything else it fits in the smallest frame (CMD-006).
pub const DOCUMENT: usize = 6_144;

/// What a remote command asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// End the program.
    Stop,
    /// Start the program anew.
    Restart,
    /// Replace the program by a newer version.
    Update,
    /// Put a document of endpoints in force.
    Configuration,
    /// A command that this version does not know.
    Unknown(u32),
}

/// The answer to a remote command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandResult {
    /// The network's number for it.
    pub id: u32,
    /// [`Code::NO_ERROR`], or why not.
    pub code: Code,
    /// For humans. At most 1,024 octets.
    pub text: String,
}

#[cfg(test)]
mod tests;
