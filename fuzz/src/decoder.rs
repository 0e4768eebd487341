//! From octets to frames and back.

use adit_core::{
    Code, Open, StreamId, Violation,
    frame::{Decoder, Encoded, HEADER, Kind, RawKind},
};

use crate::{Choices, messages::damage};

/// Any octets in any pieces give the frames and the violation that a parser gives which sees all at once, and what was
/// decoded is encoded to the same octets.
pub fn decoder(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let limit = choices.one_of(&[16_376u32, 8_192, 100, 65_536]);
    let sizes: Vec<usize> = (0..choices.between(1, 6)).map(|_| 1 + choices.size(5_000)).collect();
    let octets = match choices.number::<u8>() % 3 {
        0 => choices.rest().to_vec(),
        way => {
            let mut octets = frames(&mut choices);
            if way == 2 {
                damage(&mut octets, &mut choices);
            }
            octets
        }
    };
    let expected = naive(&octets, limit);

    assert_eq!(decode(&octets, limit, &[usize::MAX]), expected);
    assert_eq!(decode(&octets, limit, &sizes), expected);
    expected.0.iter().for_each(Seen::encodes_to_itself);
}

/// A frame as it was seen.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    kind: RawKind,
    stream: u32,
    payload: Vec<u8>,
}

impl Seen {
    fn encodes_to_itself(&self) {
        let RawKind::Known(kind) = self.kind else { return };
        let (Some(encoded), mut octets) = (self.encoded(kind), Vec::new()) else { return };
        encoded.write(&mut octets);

        assert_eq!(octets.len(), encoded.len());
        assert_eq!(
            naive(&octets, u32::MAX).0,
            [Self { kind: self.kind, stream: self.stream, payload: self.payload.clone() }]
        );
    }

    /// The frame made anew; messages have laws of their own.
    fn encoded(&self, kind: Kind) -> Option<Encoded> {
        let eight = || <[u8; 8]>::try_from(&*self.payload).ok();
        let count = || eight().map(u64::from_be_bytes);
        let code = || <[u8; 4]>::try_from(&*self.payload).ok().map(|octets| Code(u32::from_be_bytes(octets)));
        let stream = StreamId::new(self.stream);
        match kind {
            Kind::Ping => eight().map(Encoded::ping),
            Kind::Pong => eight().map(Encoded::pong),
            Kind::Ack => count().map(Encoded::ack),
            Kind::Streams => count().map(Encoded::streams),
            Kind::Data => stream.map(|stream| Encoded::data(stream, self.payload.clone().into())),
            Kind::Fin => stream.zip(count()).map(|(stream, offset)| Encoded::fin(stream, offset)),
            Kind::Credit => stream.zip(count()).map(|(stream, offset)| Encoded::credit(stream, offset)),
            Kind::Blocked => stream.zip(count()).map(|(stream, offset)| Encoded::blocked(stream, offset)),
            Kind::Reset => stream.zip(code()).map(|(stream, code)| Encoded::reset(stream, code)),
            Kind::Stop => stream.zip(code()).map(|(stream, code)| Encoded::stop(stream, code)),
            Kind::Accept => stream.map(Encoded::accept),
            Kind::Open
            | Kind::Hello
            | Kind::Welcome
            | Kind::Refuse
            | Kind::Close
            | Kind::Bind
            | Kind::Bound
            | Kind::Rejected
            | Kind::Unbind
            | Kind::Unbound
            | Kind::Command
            | Kind::CommandResult
            | Kind::Revocations
            | Kind::GoAway
            | Kind::Withheld => None,
        }
    }
}

/// Decodes in pieces of these sizes, over and over.
fn decode(mut octets: &[u8], limit: u32, sizes: &[usize]) -> (Vec<Seen>, Option<Violation>) {
    let (mut decoder, mut seen) = (Decoder::new(limit), Vec::new());
    for size in sizes.iter().cycle() {
        let (mut piece, rest) = octets.split_at(octets.len().min(*size));
        octets = rest;
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(frame)) => {
                    seen.push(Seen {
                        kind: frame.header.kind,
                        stream: frame.header.stream,
                        payload: frame.payload.to_vec(),
                    });
                    accessors(&frame);
                }
                Ok(None) => break,
                Err(violation) => {
                    assert_eq!(decoder.next(&mut [7; 20].as_slice()), Err(violation), "a decoder that failed stays so");
                    assert_eq!(decoder.allocated(), 0);
                    return (seen, Some(violation));
                }
            }
        }
        assert!(piece.is_empty(), "all is taken");
        assert!(decoder.allocated() <= limit as usize, "FRAME-009");
        if octets.is_empty() {
            break;
        }
    }
    if decoder.is_between_frames() {
        assert_eq!(decoder.allocated(), 0, "a pause gives the buffer back");
    }
    (seen, None)
}

/// What a frame of a fixed length says is there whatever came.
fn accessors(frame: &adit_core::frame::Frame<'_>) {
    let RawKind::Known(kind) = frame.header.kind else { return };
    match kind.fixed_length() {
        Some(8) => {
            let number = u64::from_be_bytes(frame.token());
            let expected = if number < 1 << 62 { Ok(number) } else { Err(Violation::OffsetRange) };
            assert_eq!(frame.offset(), expected);
        }
        Some(4) => assert_eq!(frame.code().0.to_be_bytes(), *frame.payload),
        Some(_) | None => {}
    }
    assert_eq!(frame.header.stream_id().map(StreamId::number), Some(frame.header.stream).filter(|stream| *stream != 0));
}

/// The grammar, read over octets that are all there.
fn naive(mut octets: &[u8], limit: u32) -> (Vec<Seen>, Option<Violation>) {
    let mut seen = Vec::new();
    while let Some((&[l0, l1, l2, number, s0, s1, s2, s3], rest)) = octets.split_first_chunk::<HEADER>() {
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff;
        let kind = match Kind::from_number(number) {
            Some(kind) => RawKind::Known(kind),
            None if number >= 0x80 => RawKind::Extension(number),
            None => return (seen, Some(Violation::UnknownType)),
        };
        let violation = match kind {
            _ if length > limit => Some(Violation::FrameTooLong),
            RawKind::Extension(_) => None,
            RawKind::Known(kind) if kind.fixed_length().is_some_and(|fixed| fixed != length) => {
                Some(Violation::FrameLength)
            }
            RawKind::Known(_) if (0x10..0x20).contains(&number) != (stream != 0) => Some(Violation::FrameStream),
            RawKind::Known(Kind::Data) if length == 0 => Some(Violation::EmptyData),
            RawKind::Known(Kind::Open) if length > 4_096 => Some(Violation::OpenTooLong),
            RawKind::Known(_) => None,
        };
        if violation.is_some() {
            return (seen, violation);
        }
        let Some((payload, rest)) = rest.split_at_checked(length as usize) else { break };
        let payload = if let RawKind::Extension(_) = kind { Vec::new() } else { payload.to_vec() };
        seen.push(Seen { kind, stream, payload });
        octets = rest;
    }
    (seen, None)
}

/// Frames as a peer that keeps the grammar sends them.
fn frames(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut octets = Vec::new();
    for _ in 0..choices.between(1, 8) {
        let stream = StreamId::new(choices.number::<u32>() & 0x7fff_ffff).or(StreamId::new(1));
        let Some(stream) = stream else { continue };
        let frame = match choices.number::<u8>() % 14 {
            0 => Encoded::ping(choices.number()),
            1 => Encoded::pong(choices.number()),
            2 => Encoded::ack(choices.number()),
            3 => Encoded::streams(choices.number()),
            4 => Encoded::open(stream, &Open::default()),
            5 | 6 => Encoded::data(stream, vec![7; 1 + choices.size(20_000)].into()),
            7 => Encoded::fin(stream, choices.number()),
            8 => Encoded::reset(stream, Code(choices.number())),
            9 => Encoded::stop(stream, Code(choices.number())),
            10 => Encoded::credit(stream, choices.number()),
            11 => Encoded::blocked(stream, choices.number()),
            12 => Encoded::accept(stream),
            _ => {
                let payload = choices.octets(20);
                octets.extend(adit_core::testing::raw(0x80 | choices.number::<u8>(), choices.number(), payload));
                continue;
            }
        };
        frame.write(&mut octets);
    }
    octets
}
