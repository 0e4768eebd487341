//! Frames apart from any session.

use adit_core::{
    FRAME, StreamId,
    frame::{Decoder, Encoded},
};
use bytes::Bytes;

/// Octets that hold frames, one after another.
#[derive(Debug)]
pub struct Frames {
    /// The frames as they stand on the wire.
    pub octets: Vec<u8>,
    /// How many there are.
    pub count: u64,
}

impl Frames {
    /// Returns DATA frames of `length` octets each, as many as fit in `octets`.
    ///
    /// # Panics
    /// When `length` is zero.
    pub fn data(length: usize, octets: usize) -> Self {
        let frame = Encoded::data(stream(), Bytes::from(vec![7; length]));
        Self::repeat(&frame, octets / frame.len())
    }

    /// Returns CREDIT frames, as many as fit in `octets`.
    pub fn credit(octets: usize) -> Self {
        let frame = Encoded::credit(stream(), 1 << 40);
        Self::repeat(&frame, octets / frame.len())
    }

    fn repeat(frame: &Encoded, count: usize) -> Self {
        let mut octets = Vec::with_capacity(frame.len() * count);
        for _ in 0..count {
            frame.write(&mut octets);
        }
        Self { octets, count: count as u64 }
    }
}

/// Decodes `octets` that arrive in pieces of `piece`; returns how many frames there were and the octets of their payloads.
///
/// # Panics
/// When they do not hold valid frames.
pub fn decode(decoder: &mut Decoder, octets: &[u8], piece: usize) -> (u64, u64) {
    let (mut count, mut length) = (0, 0);
    for mut input in octets.chunks(piece) {
        while let Some(frame) = decoder.next(&mut input).expect("the frames are valid") {
            count += 1;
            length += frame.payload.len() as u64;
        }
    }
    (count, length)
}

/// Encodes `count` DATA frames that share `data` into `out`, which is emptied before it grows beyond [`crate::BLOCK`].
pub fn encode(data: &Bytes, count: u64, out: &mut Vec<u8>) {
    for _ in 0..count {
        if out.len() + data.len() > crate::BLOCK {
            out.clear();
        }
        Encoded::data(stream(), data.clone()).write(out);
    }
}

/// Returns a decoder with the default limit.
pub const fn decoder() -> Decoder {
    Decoder::new(FRAME)
}

fn stream() -> StreamId {
    StreamId::new(2).expect("not zero")
}
