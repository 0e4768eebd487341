//! Frames: eight octets of header, then the payload.
//!
//! `length: u24 | type: u8 | stream: u32`, big-endian; the top bit of `stream` is reserved.

mod decode;
mod encode;

use crate::{Code, MAX_OFFSET, StreamId, Violation};

pub use decode::Decoder;
pub use encode::Encoded;

/// The length of a header, in octets.
pub const HEADER: usize = 8;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal, $class:ident, $length:expr;)+) => {
        /// The type of a frame, with the number that it has on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[doc = $doc])+ $name = $value,)+
        }

        impl Kind {
            /// Every type.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Returns the number on the wire.
            pub const fn number(self) -> u8 {
                match self { $(Self::$name => $value,)+ }
            }

            /// Returns the type with this number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($value => Some(Self::$name),)+ _ => None }
            }

            /// Returns the name in the specification.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// Returns the length of the payload in octets, where the type fixes it.
            pub const fn fixed_length(self) -> Option<u32> {
                match self { $(Self::$name => $length,)+ }
            }

            const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)+ }
            }
        }
    };
}

kinds! {
    /// The agent's first frame.
    Hello = 0x00, Link, None;
    /// The network's consent.
    Welcome = 0x01, Link, None;
    /// The network's no.
    Refuse = 0x02, Link, None;
    /// A question whether the peer lives: 8 octets to send back.
    Ping = 0x04, Link, Some(8);
    /// The answer: the 8 octets of the question.
    Pong = 0x05, Link, Some(8);
    /// How many counted frames were processed.
    Ack = 0x06, Link, Some(8);
    /// The last frame of a session.
    Close = 0x07, Link, None;

    /// A new stream.
    Open = 0x10, Stream, None;
    /// Octets of a stream.
    Data = 0x11, Stream, None;
    /// The sender's direction is complete: its final offset.
    Fin = 0x12, Stream, Some(8);
    /// The sender's direction is abandoned: a code.
    Reset = 0x13, Stream, Some(4);
    /// A request to abandon the receiver's direction: a code.
    Stop = 0x14, Stream, Some(4);
    /// The offset up to which the receiver may send.
    Credit = 0x15, Stream, Some(8);
    /// The offset at which the sender waits for credit.
    Blocked = 0x16, Stream, Some(8);
    /// The acceptor handed the stream to its destination.
    Accept = 0x17, Stream, Some(0);

    /// A wish for an endpoint.
    Bind = 0x20, Session, None;
    /// A bind is in force.
    Bound = 0x21, Session, None;
    /// A bind is refused.
    Rejected = 0x22, Session, None;
    /// The agent gives a bind up.
    Unbind = 0x23, Session, None;
    /// A bind that was in force has ended.
    Unbound = 0x24, Session, None;
    /// A remote command.
    Command = 0x25, Session, None;
    /// The answer to a remote command.
    CommandResult = 0x26, Session, None;
    /// The sender will go: no new streams.
    GoAway = 0x27, Session, None;
    /// The number of streams that the receiver may open in all.
    Streams = 0x28, Session, Some(8);
    /// What the agent's configuration names and the agent does not ask for.
    Withheld = 0x29, Session, None;
    /// Revocation lists of the authority that issued the network's certificate.
    Revocations = 0x2a, Session, None;
}

impl Kind {
    /// Returns whether the frame is acknowledged and retained.
    pub const fn is_counted(self) -> bool {
        !self.is_link()
    }

    /// Returns whether the frame concerns one link only: it is not counted and not sent again.
    pub const fn is_link(self) -> bool {
        matches!(self.class(), Class::Link)
    }

    /// Returns whether the frame names a stream.
    pub const fn of_stream(self) -> bool {
        matches!(self.class(), Class::Stream)
    }
}

enum Class {
    Link,
    Stream,
    Session,
}

/// The type of a frame that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawKind {
    /// A type of this version.
    Known(Kind),
    /// A type from the extension range: ignored.
    Extension(u8),
}

impl RawKind {
    /// Returns whether the frame is acknowledged.
    pub const fn is_counted(self) -> bool {
        match self {
            Self::Known(kind) => kind.is_counted(),
            Self::Extension(number) => number < 0xc0, // spec: FRAME-006
        }
    }

    const fn new(number: u8) -> Result<Self, Violation> {
        match Kind::from_number(number) {
            Some(kind) => Ok(Self::Known(kind)),
            None if number >= 0x80 => Ok(Self::Extension(number)),
            None => Err(Violation::UnknownType), // spec: FRAME-007
        }
    }
}

/// The header of a frame that was received, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The length of the payload, in octets.
    pub length: u32,
    /// The type.
    pub kind: RawKind,
    /// The stream, zero for none; the reserved bit is gone.
    pub stream: u32,
}

impl Header {
    /// Returns the header that `octets` hold, if a frame that begins so can be valid when `limit` is the longest payload.
    ///
    /// # Errors
    /// The first rule that the header breaks: type, length, stream.
    pub fn parse(octets: [u8; HEADER], limit: u32) -> Result<Self, Violation> {
        let [l0, l1, l2, kind, s0, s1, s2, s3] = octets; // spec: FRAME-001
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]); // spec: FRAME-005
        let kind = RawKind::new(kind)?; // spec: FRAME-011
        if length > limit {
            return Err(Violation::FrameTooLong); // spec: FRAME-003
        }
        if let RawKind::Known(kind) = kind {
            check(kind, length, stream)?;
        }
        Ok(Self { length, kind, stream })
    }

    /// Returns the stream that the frame names, if any.
    pub const fn stream_id(&self) -> Option<StreamId> {
        StreamId::new(self.stream)
    }
}

fn check(kind: Kind, length: u32, stream: u32) -> Result<(), Violation> {
    if kind.fixed_length().is_some_and(|fixed| fixed != length) {
        return Err(Violation::FrameLength); // spec: FRAME-004
    }
    if kind.of_stream() != (stream != 0) {
        return Err(Violation::FrameStream); // spec: FRAME-008
    }
    if kind == Kind::Data && length == 0 {
        return Err(Violation::EmptyData); // spec: STREAM-012
    }
    if kind == Kind::Open && length > OPEN_MAX {
        return Err(Violation::OpenTooLong); // spec: STREAM-006
    }
    Ok(())
}

/// A frame that was received whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The header.
    pub header: Header,
    /// The payload; empty for an extension, whose octets were thrown away.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Returns the payload of PING or PONG.
    pub fn token(&self) -> [u8; 8] {
        debug_assert_eq!(self.payload.len(), 8, "the header fixed the length");
        self.payload.first_chunk().copied().unwrap_or_default()
    }

    /// Returns the offset or count of ACK, FIN, CREDIT, BLOCKED or STREAMS.
    ///
    /// # Errors
    /// [`Violation::OffsetRange`] when it is higher than [`MAX_OFFSET`].
    pub fn offset(&self) -> Result<u64, Violation> {
        let offset = u64::from_be_bytes(self.token());
        if offset > MAX_OFFSET { Err(Violation::OffsetRange) } else { Ok(offset) } // spec: CREDIT-004
    }

    /// Returns the code of RESET or STOP.
    pub fn code(&self) -> Code {
        debug_assert_eq!(self.payload.len(), 4, "the header fixed the length");
        Code(u32::from_be_bytes(self.payload.first_chunk().copied().unwrap_or_default()))
    }
}

/// Returns the number that a payload of exactly four octets is.
pub(crate) fn be_u32(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}

/// Returns the number that a payload of exactly eight octets is.
pub(crate) fn be_u64(payload: &[u8]) -> Option<u64> {
    payload.try_into().ok().map(u64::from_be_bytes)
}

/// The longest payload of OPEN, in octets.
const OPEN_MAX: u32 = 4_096;

#[cfg(test)]
mod tests;
