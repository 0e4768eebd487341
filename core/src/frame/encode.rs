//! Frames on their way out.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{HEADER, Kind};
use crate::{Code, Message, Open, StreamId};

/// A frame ready to be sent, cheap to clone: what is retained until it is acknowledged shares the octets that were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    kind: Kind,
    header: [u8; HEADER],
    payload: Payload,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Payload {
    None,
    Four([u8; 4]),
    Eight([u8; 8]),
    Shared(Bytes),
}

impl Encoded {
    /// Returns a question with 8 octets to be sent back.
    pub fn ping(token: [u8; 8]) -> Self {
        Self::new(Kind::Ping, 0, Payload::Eight(token))
    }

    /// Returns the answer to a question.
    pub fn pong(token: [u8; 8]) -> Self {
        Self::new(Kind::Pong, 0, Payload::Eight(token))
    }

    /// Returns the acknowledgement of all counted frames up to `count`.
    pub fn ack(count: u64) -> Self {
        Self::new(Kind::Ack, 0, Payload::Eight(count.to_be_bytes()))
    }

    /// Returns the beginning of a stream.
    pub fn open(stream: StreamId, open: &Open) -> Self {
        Self::new(Kind::Open, stream.number(), encode(open))
    }

    /// Returns octets of a stream: at least one, at most the peer's limit for frames.
    pub fn data(stream: StreamId, data: Bytes) -> Self {
        debug_assert!(!data.is_empty(), "DATA carries octets");
        Self::new(Kind::Data, stream.number(), Payload::Shared(data))
    }

    /// Returns the end of this side's direction, after `offset` octets.
    pub fn fin(stream: StreamId, offset: u64) -> Self {
        Self::new(Kind::Fin, stream.number(), Payload::Eight(offset.to_be_bytes()))
    }

    /// Returns the abandonment of this side's direction.
    pub fn reset(stream: StreamId, code: Code) -> Self {
        Self::new(Kind::Reset, stream.number(), Payload::Four(code.0.to_be_bytes()))
    }

    /// Returns the request to abandon the peer's direction.
    pub fn stop(stream: StreamId, code: Code) -> Self {
        Self::new(Kind::Stop, stream.number(), Payload::Four(code.0.to_be_bytes()))
    }

    /// Returns the permission to send up to `offset`.
    pub fn credit(stream: StreamId, offset: u64) -> Self {
        Self::new(Kind::Credit, stream.number(), Payload::Eight(offset.to_be_bytes()))
    }

    /// Returns the notice that this side waits for credit at `offset`.
    pub fn blocked(stream: StreamId, offset: u64) -> Self {
        Self::new(Kind::Blocked, stream.number(), Payload::Eight(offset.to_be_bytes()))
    }

    /// Returns the notice that the stream was handed to its destination.
    pub fn accept(stream: StreamId) -> Self {
        Self::new(Kind::Accept, stream.number(), Payload::None)
    }

    /// Returns the permission to open `count` streams in all.
    pub fn streams(count: u64) -> Self {
        Self::new(Kind::Streams, 0, Payload::Eight(count.to_be_bytes()))
    }

    /// Returns revocation lists: at most the peer's limit for frames.
    pub fn revocations(lists: Bytes) -> Self {
        Self::new(Kind::Revocations, 0, Payload::Shared(lists))
    }

    /// Returns a message of the link or the session; `kind` is the type that carries this message.
    pub fn message(kind: Kind, message: &impl Message) -> Self {
        debug_assert!(!kind.of_stream() && kind.fixed_length().is_none(), "{kind:?} carries no message");
        Self::new(kind, 0, encode(message))
    }

    /// Returns the header as it is sent.
    pub const fn header(&self) -> &[u8; HEADER] {
        &self.header
    }

    /// Returns the payload as it is sent.
    pub fn payload(&self) -> &[u8] {
        match &self.payload {
            Payload::None => &[],
            Payload::Four(octets) => octets,
            Payload::Eight(octets) => octets,
            Payload::Shared(octets) => octets,
        }
    }

    /// Returns the type.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns whether the frame is retained until it is acknowledged.
    pub const fn is_counted(&self) -> bool {
        self.kind.is_counted()
    }

    /// Returns the octets of header and payload together; never zero.
    #[expect(clippy::len_without_is_empty, reason = "a frame has at least its header")]
    pub fn len(&self) -> usize {
        HEADER + self.payload().len()
    }

    /// Appends header and payload to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header);
        out.extend_from_slice(self.payload());
    }

    fn new(kind: Kind, stream: u32, payload: Payload) -> Self {
        let mut frame = Self { kind, header: [0; HEADER], payload };
        let length = frame.payload().len();
        debug_assert!(length <= LENGTH_MAX, "a payload fits the length field");
        let [.., l0, l1, l2] = (length as u64).to_be_bytes();
        let [s0, s1, s2, s3] = stream.to_be_bytes();
        frame.header = [l0, l1, l2, kind.number(), s0, s1, s2, s3];
        frame
    }
}

fn encode(message: &impl Message) -> Payload {
    let mut out = Vec::new();
    message.encode(&mut out);
    Payload::Shared(out.into())
}

/// What three octets can say.
const LENGTH_MAX: usize = (1 << 24) - 1;
