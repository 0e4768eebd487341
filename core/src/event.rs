//! What a link and its session tell the application.

use core::fmt;

use crate::{
    Bind, BindRefusal, Bound, Close, Code, CommandRequest, CommandResult, Duration, GoAway, Hello, Refusal, StreamId,
    Unbind, VERSION, Violation, Welcome, Withheld, config::clamp_heartbeat,
};
use crate::{Config, SessionId};
use alloc::string::String;
use bytes::Bytes;

/// Something that happened. Each is told once; [`Event::Closed`] is the last of a link.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "the large ones are few and moved once")]
pub enum Event {
    /// Network: an agent asks for a session. Answer with `accept` or `refuse`.
    Hello(AuthRequest),
    /// Agent: the network has consented; the session is there.
    Established(Welcome),
    /// Network: the agent wishes for an endpoint. Answer with `bound` or `reject`.
    Bind(BindRequest),
    /// Network: the agent gave a bind up.
    Unbind(Unbind),
    /// Network: the agent says of an endpoint why it does not ask for it, or that this is over (BIND-021).
    Withheld(Withheld),
    /// Network: the agent answered a remote command.
    CommandResult(CommandResult),
    /// Agent: a bind is in force.
    Bound(Bound),
    /// Agent: a bind was refused.
    Rejected(BindRefusal),
    /// Agent: a bind that was in force was taken back.
    Unbound(BindRefusal),
    /// Agent: the network asks for something. Answer with `answer`.
    Command(CommandRequest),
    /// Agent: the network handed out revocation lists, of the authority that issued its certificate as it says. Nothing of them
    /// was looked at: they are octets of the peer.
    Revocations(Bytes),
    /// The peer opened a stream.
    Opened(StreamId),
    /// The peer handed a stream to its destination, or refused to: ask `acceptance`.
    Accepted(StreamId),
    /// A read that was blocked will give something: data, the end, or an error.
    Readable(StreamId),
    /// A write that was blocked will take something, or fail.
    Writable(StreamId),
    /// The peer announced that it will end the session; no more streams can be opened.
    GoAway(GoAway),
    /// The link is over, and the session waits for the next one: streams stall, and what is written waits.
    Suspended(Cause),
    /// Agent: the network has consented to go on with the session.
    Resumed(Welcome),
    /// The session is over, and with it every stream.
    Closed(Cause),
}

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This side closed it.
    Local(Code),
    /// The peer closed it.
    Remote(Close),
    /// Agent: the network refused the session.
    Refused(Refusal),
    /// The peer broke a rule.
    Violation(Violation),
    /// The peer was silent for longer than tolerated.
    Dead {
        /// Since the last octet that was heard.
        silent_for: Duration,
    },
    /// The transport took nothing for longer than tolerated.
    Stalled {
        /// Since the last octet that was taken.
        stuck_for: Duration,
    },
    /// The handshake was not complete in time.
    HandshakeTimeout,
    /// The transport ended without a CLOSE.
    Eof {
        /// Whether TLS was closed in order.
        clean: bool,
    },
    /// The transport failed.
    Transport(Loss),
    /// The peer acknowledged nothing for three tolerances.
    Unacknowledged,
    /// No link came within the time for which the session was kept.
    ResumeExpired,
}

/// How a transport failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The connection was reset.
    Reset,
    /// The network or the host gave up.
    TimedOut,
    /// The octets are not TLS, or TLS failed.
    Tls,
    /// Something else in the operating system.
    Other,
}

impl Cause {
    /// Returns the code that streams of the session end with.
    pub const fn stream_code(&self) -> Code {
        match self {
            Self::Remote(Close { code: Code::DRAIN_TIMEOUT, .. }) | Self::Local(Code::DRAIN_TIMEOUT) => {
                Code::DRAIN_TIMEOUT // spec: GO-005
            }
            Self::Remote(Close { code: Code::REVOKED, .. }) | Self::Local(Code::REVOKED) => Code::REVOKED,
            Self::ResumeExpired => Code::RESUME_EXPIRED, // spec: RES-011
            Self::Local(_)
            | Self::Remote(_)
            | Self::Refused(_)
            | Self::Violation(_)
            | Self::Dead { .. }
            | Self::Stalled { .. }
            | Self::HandshakeTimeout
            | Self::Eof { .. }
            | Self::Transport(_)
            | Self::Unacknowledged => Code::SESSION_LOST, // spec: CODE-006
        }
    }

    /// Returns whether only the link is lost, so that the session can go on over another.
    pub const fn is_loss(&self) -> bool {
        match self {
            Self::Dead { .. }
            | Self::Stalled { .. }
            | Self::HandshakeTimeout
            | Self::Eof { .. }
            | Self::Transport(_)
            | Self::Unacknowledged => true,
            Self::Refused(refusal) => !refusal.code.ends_session(),
            Self::Local(_) | Self::Remote(_) | Self::Violation(_) | Self::ResumeExpired => false, // spec: RES-019
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(code) => write!(f, "closed by this side: {code}"),
            Self::Remote(close) if close.text.is_empty() => write!(f, "closed by the peer: {}", close.code),
            Self::Remote(close) => write!(f, "closed by the peer: {}: {}", close.code, crate::escape(&close.text)),
            Self::Refused(refusal) if refusal.text.is_empty() => write!(f, "refused: {}", refusal.code),
            Self::Refused(refusal) => write!(f, "refused: {}: {}", refusal.code, crate::escape(&refusal.text)),
            Self::Violation(violation) => write!(f, "the peer broke the protocol: {violation}"),
            Self::Dead { silent_for } => write!(f, "the peer was silent for {silent_for:?}"),
            Self::Stalled { stuck_for } => write!(f, "the connection took nothing for {stuck_for:?}"),
            Self::HandshakeTimeout => f.write_str("the handshake was not complete in time"),
            Self::Eof { clean: true } => f.write_str("the peer ended the connection"),
            Self::Eof { clean: false } => f.write_str("the connection was cut"),
            Self::Transport(loss) => write!(f, "the connection failed: {loss}"),
            Self::Unacknowledged => f.write_str("the peer acknowledged nothing"),
            Self::ResumeExpired => f.write_str("no connection came in time to resume the session"),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "connection reset",
            Self::TimedOut => "timed out",
            Self::Tls => "TLS failed",
            Self::Other => "input or output error",
        })
    }
}

/// An agent's request for a session: answered at most once, whenever the application likes.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a request that is not answered is refused when the handshake times out"]
pub struct AuthRequest {
    pub(crate) hello: Hello,
    pub(crate) welcome: Welcome,
    window: Duration,
}

impl AuthRequest {
    pub(crate) fn new(hello: Hello, config: &Config) -> Self {
        let welcome = Welcome {
            version: VERSION,
            session: SessionId::default(),
            heartbeat: clamp_heartbeat(hello.heartbeat),
            limits: config.limits(),
            region: String::new(),
            node: String::new(),
            resume: None,
            resumed: None,
        };
        let window = hello.resume_window.min(config.resume_window);
        Self { hello, welcome, window }
    }

    /// Returns what the agent said.
    pub const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Returns how long the session may be kept without a link: the least of what both sides want. Zero when one of them
    /// wants no resumption; an offer is then not made, whatever the consent says.
    pub const fn resume_window(&self) -> Duration {
        self.window
    }

    /// Takes out of a consent an offer that one side does not want, and holds its window to what both want.
    pub(crate) fn bound_offer(&self, welcome: &mut Welcome) {
        welcome.resume = welcome.resume.take().filter(|_| self.window > Duration::ZERO); // spec: RES-016
        if let Some(offer) = &mut welcome.resume {
            offer.window = offer.window.min(self.window);
        }
    }

    /// Returns a consent with the negotiated version, limits and heartbeat, to be completed with names.
    pub fn welcome(&self, session: SessionId, region: &str, node: &str) -> Welcome {
        Welcome { session, region: region.into(), node: node.into(), ..self.welcome.clone() }
    }
}

/// An agent's wish for an endpoint: answered exactly once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a bind must be answered"]
pub struct BindRequest {
    pub(crate) bind: Bind,
    pub(crate) serial: u64,
}

impl BindRequest {
    /// Returns what is wished for.
    pub const fn bind(&self) -> &Bind {
        &self.bind
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message as _;
    use alloc::string::ToString as _;

    #[test]
    fn a_consent_names_what_was_negotiated_and_where_the_agent_is() {
        let config = Config { resume_window: Duration::from_secs(30), ..Config::network() };
        for (wanted, granted) in [(0, 0), (29, 29), (31, 30)] {
            let hello = Hello::decode(b"\x12\x10aaaaaaaaaaaaaaaa").expect("valid");
            let hello = Hello { resume_window: Duration::from_secs(wanted), ..hello };
            let request = AuthRequest::new(hello, &config);

            assert_eq!(request.resume_window(), Duration::from_secs(granted));
            let welcome = request.welcome(SessionId([7; 16]), "eu", "node-1");
            assert_eq!((welcome.version, welcome.session), (VERSION, SessionId([7; 16])));
            assert_eq!((welcome.region.as_str(), welcome.node.as_str()), ("eu", "node-1"));
            assert_eq!(
                (welcome.limits, welcome.heartbeat),
                (config.limits(), clamp_heartbeat(request.hello().heartbeat))
            );
        }
    }

    #[test]
    fn a_cause_says_what_happened_and_what_the_peer_said_of_it() {
        let remote = |text: &str| Cause::Remote(Close { code: Code::SHUTDOWN, text: text.into() });
        let refused = |text: &str| Cause::Refused(Refusal { code: Code::BUSY, retry_after: None, text: text.into() });
        let causes = [
            (Cause::Local(Code::NO_ERROR), "closed by this side: NO_ERROR"),
            (remote(""), "closed by the peer: SHUTDOWN"),
            (remote("bye\n"), "closed by the peer: SHUTDOWN: bye\\u{a}"),
            (refused(""), "refused: BUSY"),
            (refused("later\n"), "refused: BUSY: later\\u{a}"),
            (Cause::Violation(Violation::PingFlood), "the peer broke the protocol: too many PINGs (HB-011)"),
            (Cause::Dead { silent_for: Duration::from_secs(15) }, "the peer was silent for 15s"),
            (Cause::Stalled { stuck_for: Duration::from_secs(15) }, "the connection took nothing for 15s"),
            (Cause::HandshakeTimeout, "the handshake was not complete in time"),
            (Cause::Eof { clean: true }, "the peer ended the connection"),
            (Cause::Eof { clean: false }, "the connection was cut"),
            (Cause::Transport(Loss::Reset), "the connection failed: connection reset"),
            (Cause::Unacknowledged, "the peer acknowledged nothing"),
            (Cause::ResumeExpired, "no connection came in time to resume the session"),
        ];

        for (cause, text) in causes {
            assert_eq!(cause.to_string(), text);
        }
    }

    /// CODE-006, GO-005, RES-011
    #[test]
    fn streams_end_with_the_code_that_the_session_ended_with_where_there_is_one_for_it() {
        let remote = |code| Cause::Remote(Close { code, text: String::new() }).stream_code();

        for code in [Code::DRAIN_TIMEOUT, Code::REVOKED] {
            assert_eq!((remote(code), Cause::Local(code).stream_code()), (code, code));
        }
        assert_eq!(
            (remote(Code::SHUTDOWN), Cause::HandshakeTimeout.stream_code()),
            (Code::SESSION_LOST, Code::SESSION_LOST)
        );
        assert_eq!(Cause::ResumeExpired.stream_code(), Code::RESUME_EXPIRED);
    }
}
