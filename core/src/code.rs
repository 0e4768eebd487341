//! Codes on the wire, and what a peer can do wrong.

use core::fmt;

/// A reason as it stands on the wire: u32 in ranges, so that an unknown code still says what it concerns.
///
/// `0x000…` protocol, `0x100…` session, `0x200…` stream, from `0x1000` on the application's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u32);

/// What a [`Code`] concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeClass {
    /// A rule of the protocol was broken: the session ends.
    Protocol,
    /// The session or one of its binds.
    Session,
    /// One stream.
    Stream,
    /// The application's own meaning.
    Application,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal;)+) => {
        impl Code {
            $($(#[doc = $doc])+ pub const $name: Self = Self($value);)+

            /// Every code this version knows, by number and name.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self($value), stringify!($name)),)+];
        }
    };
}

codes! {
    /// Nothing is wrong: an orderly end.
    NO_ERROR = 0x000;
    /// A frame came that its state does not allow.
    PROTOCOL = 0x001;
    /// A frame is longer or shorter than its type allows.
    FRAME_SIZE = 0x002;
    /// A message is not well formed.
    MESSAGE = 0x003;
    /// More was sent than was granted.
    FLOW_CONTROL = 0x004;
    /// More streams were opened than were granted.
    STREAM_LIMIT = 0x005;
    /// A frame came for a direction that has ended.
    STREAM_CLOSED = 0x006;
    /// The final offset disagrees with what was sent.
    FINAL_SIZE = 0x007;
    /// More was acknowledged than was sent.
    ACK_RANGE = 0x008;
    /// Work without purpose beyond the limit.
    EXCESSIVE = 0x009;
    /// The handshake took too long.
    HANDSHAKE_TIMEOUT = 0x00a;
    /// The side that says so failed by its own fault.
    INTERNAL = 0x00b;
    /// The peer was silent beyond the tolerance.
    DEAD = 0x00c;

    /// No common version.
    VERSION = 0x100;
    /// The credentials are not valid.
    CREDENTIALS = 0x101;
    /// The credentials were valid and are no longer.
    REVOKED = 0x102;
    /// A limit of the account or of the node is reached.
    LIMIT = 0x103;
    /// The ACL does not allow it.
    FORBIDDEN = 0x104;
    /// The endpoint is bound by another agent.
    IN_USE = 0x105;
    /// The name or address is not one that can be bound.
    BAD_NAME = 0x106;
    /// A newer session of the same agent took over.
    REPLACED = 0x107;
    /// The node stops; another will answer.
    SHUTDOWN = 0x108;
    /// There is no such session to resume.
    RESUME_UNKNOWN = 0x109;
    /// The resume window has passed.
    RESUME_EXPIRED = 0x10a;
    /// The kind of request is not known.
    UNKNOWN = 0x10b;
    /// The request is known and not possible here.
    UNSUPPORTED = 0x10c;
    /// The bind was given up by the agent.
    UNBOUND = 0x10d;
    /// The node is too busy: again later.
    BUSY = 0x10e;
    /// The customer has closed everything: the agent comes back when they open it again.
    FROZEN = 0x10f;
    /// The network's certificate is not good any more: it was revoked, or nobody says that it was not.
    UNTRUSTED = 0x110;
    /// The customer's own policy does not allow the endpoint, or not any more.
    DISALLOWED = 0x111;
    /// The agent's configuration does not have the endpoint any more, or has another in its place.
    CONFIGURATION = 0x112;
    /// The agent has no certificate for the endpoint that it can use.
    CERTIFICATE = 0x113;
    /// The document of a command is not one that the agent takes: a fault in it.
    DOCUMENT = 0x114;

    /// The stream was not processed at all: safe to try elsewhere.
    REFUSED = 0x200;
    /// The application does not want the stream any more.
    CANCELLED = 0x201;
    /// The application failed.
    APPLICATION = 0x202;
    /// The upstream refused the connection.
    UPSTREAM_REFUSED = 0x203;
    /// The upstream did not answer in time.
    UPSTREAM_TIMEOUT = 0x204;
    /// The upstream's address cannot be resolved or reached.
    UPSTREAM_UNREACHABLE = 0x205;
    /// The TLS handshake with the upstream failed.
    UPSTREAM_TLS = 0x206;
    /// The far connection was reset.
    CONNECTION_RESET = 0x207;
    /// The session that carried the stream is lost.
    SESSION_LOST = 0x208;
    /// The drain ended before the stream did.
    DRAIN_TIMEOUT = 0x209;
    /// The customer's own policy does not allow the connection.
    POLICY = 0x20a;
}

impl Code {
    /// Returns what the code concerns, known or not.
    pub const fn class(self) -> CodeClass {
        match self.0 {
            0x000..=0x0ff => CodeClass::Protocol,
            0x100..=0x1ff => CodeClass::Session,
            0x200..=0x2ff => CodeClass::Stream,
            _ => CodeClass::Application, // spec: CODE-001
        }
    }

    /// Returns whether a refusal with this code ends the session that was asked for, so that asking again is vain.
    pub(crate) const fn ends_session(self) -> bool {
        matches!(
            self,
            Self::RESUME_UNKNOWN
                | Self::RESUME_EXPIRED
                | Self::CREDENTIALS
                | Self::REVOKED
                | Self::FORBIDDEN
                | Self::VERSION
        )
    }

    /// Returns the name in the specification, if this version knows it.
    pub fn name(self) -> Option<&'static str> {
        Self::ALL.iter().find(|(code, _)| *code == self).map(|(_, name)| *name)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#05x}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! violations {
    ($($(#[doc = $doc:literal])+ $name:ident => $code:ident, $clause:literal, $text:literal;)+) => {
        /// A rule that the peer broke: one variant a clause.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Violation {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Violation {
            /// Every violation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Returns the code that tells the peer.
            pub const fn code(self) -> Code {
                match self { $(Self::$name => Code::$code,)+ }
            }

            /// Returns the clause of the specification that was broken.
            pub const fn clause(self) -> &'static str {
                match self { $(Self::$name => $clause,)+ }
            }

            const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

violations! {
    /// The first frame was not the one the handshake begins with.
    FirstFrame => PROTOCOL, "PRE-001", "the first frame is not HELLO";
    /// The network sent something else before it answered the handshake.
    BeforeWelcome => PROTOCOL, "PRE-002", "a frame came before WELCOME or REFUSE";
    /// The network chose a version that was not offered.
    VersionNotOffered => VERSION, "PRE-003", "the version in WELCOME was not offered";
    /// A handshake message came again.
    SecondHandshake => PROTOCOL, "PRE-005", "a handshake message came a second time";
    /// More octets than allowed came before authentication.
    HandshakeTooLong => FRAME_SIZE, "PRE-006", "too many octets before authentication";
    /// A frame is longer than the advertised maximum.
    FrameTooLong => FRAME_SIZE, "FRAME-003", "a frame is longer than the maximum";
    /// A frame does not have the length of its type.
    FrameLength => FRAME_SIZE, "FRAME-004", "a frame does not have the length of its type";
    /// The type is unknown and not in the extension range.
    UnknownType => PROTOCOL, "FRAME-007", "unknown frame type";
    /// A frame of the session names a stream, or one of a stream names none.
    FrameStream => PROTOCOL, "FRAME-008", "a frame type and its stream number do not fit";
    /// A message cannot be decoded.
    Message => MESSAGE, "MSG-001", "a message is not well formed";
    /// A text or list in a message is too long.
    MessageTooLong => MESSAGE, "MSG-004", "a field of a message is too long";
    /// A limit that no implementation can work with.
    LimitRange => MESSAGE, "MSG-005", "a limit is out of its range";
    /// A message of a side that may not send it.
    WrongSide => PROTOCOL, "MSG-006", "this side may not send this message";
    /// The stream number belongs to the other side.
    StreamParity => PROTOCOL, "STREAM-001", "a stream number of the wrong parity";
    /// The stream number is not higher than those before.
    StreamOrder => PROTOCOL, "STREAM-002", "a stream number that is not new";
    /// More streams than granted.
    StreamLimit => STREAM_LIMIT, "STREAM-004", "more streams than were granted";
    /// The metadata of an OPEN is too long.
    OpenTooLong => MESSAGE, "STREAM-006", "the metadata of OPEN is too long";
    /// A frame for a stream that was never opened.
    StreamIdle => PROTOCOL, "STREAM-007", "a frame for a stream that was never opened";
    /// DATA or FIN in a direction that has ended.
    StreamEnded => STREAM_CLOSED, "STREAM-009", "a frame after the end of its direction";
    /// DATA without octets.
    EmptyData => PROTOCOL, "STREAM-012", "DATA without octets";
    /// ACCEPT from the side that opened the stream.
    AcceptByOpener => PROTOCOL, "STREAM-013", "ACCEPT from the side that opened the stream";
    /// FIN does not state what was sent.
    FinalOffset => FINAL_SIZE, "END-002", "the final offset is not what was sent";
    /// DATA beyond the announced offset.
    BeyondCredit => FLOW_CONTROL, "CREDIT-002", "DATA beyond the announced offset";
    /// An offset or count out of range.
    OffsetRange => FLOW_CONTROL, "CREDIT-004", "an offset beyond 2^62-1";
    /// Pings in excess.
    PingFlood => EXCESSIVE, "HB-011", "too many PINGs";
    /// Pongs that answer nothing, in excess.
    PongFlood => EXCESSIVE, "HB-007", "too many PONGs that answer nothing";
    /// The acknowledgement covers what was never sent.
    AckRange => ACK_RANGE, "RES-002", "ACK beyond what was sent";
    /// The network resumed another session than was asked for, or one whose frames do not fit.
    ResumeAnswer => PROTOCOL, "RES-015", "WELCOME does not fit what the agent asked to resume";
    /// A second GOAWAY raised the last stream.
    GoAwayRaised => PROTOCOL, "GO-002", "GOAWAY raised the last stream";
    /// A bind number that is in use.
    BindReused => PROTOCOL, "BIND-008", "a bind number that is in use";
    /// Too many binds without an answer.
    BindFlood => EXCESSIVE, "BIND-007", "too many binds without an answer";
    /// Too many commands without an answer.
    CommandFlood => EXCESSIVE, "CMD-003", "too many commands without an answer";
    /// Harmless oddities in excess.
    Oddities => EXCESSIVE, "LIM-003", "too many harmless oddities";
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text(), self.clause())
    }
}

impl core::error::Error for Violation {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{collections::BTreeSet, format};

    #[test]
    fn no_two_codes_share_a_number() {
        let numbers: BTreeSet<_> = Code::ALL.iter().map(|(code, _)| code.0).collect();

        assert_eq!(numbers.len(), Code::ALL.len());
    }

    #[test]
    fn an_unknown_code_keeps_the_meaning_of_its_range() {
        assert_eq!(Code(0x0fe).class(), CodeClass::Protocol);
        assert_eq!(Code(0x1fe).class(), CodeClass::Session);
        assert_eq!(Code(0x2fe).class(), CodeClass::Stream);
        assert_eq!(Code(0x9999).class(), CodeClass::Application);
        assert_eq!(format!("{}", Code(0x2fe)), "0x2fe");
        assert_eq!(format!("{:?} {:?}", Code::BUSY, Code(0x2fe)), "BUSY 0x2fe", "a log names what is known");
    }

    #[test]
    fn every_violation_has_a_protocol_code_or_says_version() {
        for violation in Violation::ALL {
            let code = violation.code();
            assert!(code.class() == CodeClass::Protocol || code == Code::VERSION, "{violation}");
        }
    }
}
