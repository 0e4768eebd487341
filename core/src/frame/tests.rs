use alloc::{vec, vec::Vec};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{BindId, Bound, Open};

#[test]
fn a_frame_that_lies_whole_in_the_input_is_handed_out_where_it_lies() {
    let octets = written(&[Encoded::data(stream(5), Bytes::from_static(b"hello"))]);
    let mut decoder = Decoder::new(100);

    let mut input = octets.as_slice();
    let found = decoder.next(&mut input).expect("valid").expect("whole");

    assert_eq!(octets, [0, 0, 5, 0x11, 0, 0, 0, 5, b'h', b'e', b'l', b'l', b'o']);
    assert_eq!(found.header, Header { length: 5, kind: RawKind::Known(Kind::Data), stream: 5 });
    assert_eq!(found.payload.as_ptr_range().end, octets.as_ptr_range().end, "the payload was copied");
    assert_eq!(decoder.allocated(), 0);
}

#[test]
fn every_constructor_writes_the_octets_of_its_type() {
    let (id, eight) = (stream(0x0102_0304), [1, 2, 3, 4, 5, 6, 7, 8]);
    let number = u64::from_be_bytes(eight);
    let with = |head: [u8; 8], tail: &[u8]| [&head, tail].concat();
    let cases = [
        (Encoded::ping(eight), with([0, 0, 8, 0x04, 0, 0, 0, 0], &eight)),
        (Encoded::pong(eight), with([0, 0, 8, 0x05, 0, 0, 0, 0], &eight)),
        (Encoded::ack(number), with([0, 0, 8, 0x06, 0, 0, 0, 0], &eight)),
        (Encoded::open(id, &Open::default()), with([0, 0, 0, 0x10, 1, 2, 3, 4], &[])),
        (Encoded::data(id, Bytes::from_static(b"x")), with([0, 0, 1, 0x11, 1, 2, 3, 4], b"x")),
        (Encoded::fin(id, number), with([0, 0, 8, 0x12, 1, 2, 3, 4], &eight)),
        (Encoded::reset(id, Code(0x0102_0304)), with([0, 0, 4, 0x13, 1, 2, 3, 4], &[1, 2, 3, 4])),
        (Encoded::stop(id, Code(0x0102_0304)), with([0, 0, 4, 0x14, 1, 2, 3, 4], &[1, 2, 3, 4])),
        (Encoded::credit(id, number), with([0, 0, 8, 0x15, 1, 2, 3, 4], &eight)),
        (Encoded::blocked(id, number), with([0, 0, 8, 0x16, 1, 2, 3, 4], &eight)),
        (Encoded::accept(id), with([0, 0, 0, 0x17, 1, 2, 3, 4], &[])),
        (Encoded::streams(number), with([0, 0, 8, 0x28, 0, 0, 0, 0], &eight)),
        (
            Encoded::message(
                Kind::Bound,
                &Bound { id: BindId(7), url: "tcp://:1".into(), tls_end: crate::TlsEnd::Unsaid },
            ),
            with([0, 0, 12, 0x21, 0, 0, 0, 0], b"\x08\x07\x12\x08tcp://:1"),
        ),
    ];
    for (frame, octets) in cases {
        assert_eq!(written(core::slice::from_ref(&frame)), octets);
        assert_eq!(frame.len(), octets.len());
        assert_eq!(Some(&frame.header()[..]), octets.get(..8));
        assert_eq!(frame.is_counted(), frame.kind().number() >= 0x10, "{:?}", frame.kind());
    }
    assert!(size_of::<Encoded>() <= 56, "retention keeps many of them: {}", size_of::<Encoded>());
}

#[test]
fn the_fields_of_fixed_payloads_are_read_back() {
    let mut decoder = Decoder::new(100);
    let octets = written(&[
        Encoded::ping(*b"12345678"),
        Encoded::ack(MAX_OFFSET),
        Encoded::ack(MAX_OFFSET + 1),
        Encoded::stop(stream(3), Code::CANCELLED),
    ]);
    let mut input = octets.as_slice();
    let mut next = || decoder.next(&mut input).expect("valid").expect("whole").payload.to_vec();
    let payloads = [next(), next(), next(), next()];
    let [ping, ack, beyond, stop] = payloads
        .each_ref()
        .map(|payload| Frame { header: Header { length: 0, kind: RawKind::Known(Kind::Ping), stream: 0 }, payload });

    assert_eq!(ping.token(), *b"12345678");
    assert_eq!(ack.offset(), Ok(MAX_OFFSET));
    assert_eq!(beyond.offset(), Err(Violation::OffsetRange));
    assert_eq!(stop.code(), Code::CANCELLED);
}

#[test]
fn a_frame_longer_than_the_limit_is_refused_from_its_header() {
    assert_eq!(Header::parse(header(101, Kind::Data.number(), 1), 100), Err(Violation::FrameTooLong));
    assert!(Header::parse(header(100, Kind::Data.number(), 1), 100).is_ok());
    assert_eq!(Header::parse(header(101, 0x80, 1), 100), Err(Violation::FrameTooLong));
}

#[test]
fn a_fixed_length_is_neither_undercut_nor_exceeded() {
    for kind in Kind::ALL {
        let Some(fixed) = kind.fixed_length() else { continue };
        let parse = |length| Header::parse(header(length, kind.number(), u32::from(kind.of_stream())), 100);

        assert!(parse(fixed).is_ok(), "{kind:?}");
        for wrong in [fixed + 1, fixed.wrapping_sub(1), 0, 100] {
            if wrong <= 100 && wrong != fixed {
                assert_eq!(parse(wrong), Err(Violation::FrameLength), "{kind:?} with {wrong} octets");
            }
        }
    }
}

#[test]
fn frames_of_a_stream_name_one_and_others_do_not() {
    for kind in Kind::ALL {
        let length = kind.fixed_length().unwrap_or(1);
        let parse = |stream| Header::parse(header(length, kind.number(), stream), 100).map(|header| header.stream);

        let parsed = Header::parse(header(length, kind.number(), u32::from(kind.of_stream()) * 9), 100);
        assert_eq!(parsed.map(|header| header.stream_id()), Ok(kind.of_stream().then(|| stream(9))), "{kind:?}");
        let (with, without) = (parse(9), parse(0));
        if kind.of_stream() {
            assert_eq!((with, without), (Ok(9), Err(Violation::FrameStream)), "{kind:?}");
        } else {
            assert_eq!((with, without), (Err(Violation::FrameStream), Ok(0)), "{kind:?}");
        }
    }
}

#[test]
fn the_reserved_bit_is_ignored() {
    let mut octets = header(8, Kind::Fin.number(), 3);
    octets[4] |= 0x80;

    assert_eq!(Header::parse(octets, 100), Header::parse(header(8, Kind::Fin.number(), 3), 100));
    octets[3] = Kind::Ping.number();
    octets[7] = 0;
    assert!(Header::parse(octets, 100).is_ok(), "the reserved bit is no stream number");
}

#[test]
fn every_number_is_a_type_an_extension_or_a_violation() {
    for number in 0..=u8::MAX {
        let found = Header::parse(header(0, number, 0), 100).map(|header| (header.kind, header.kind.is_counted()));
        match (number, Kind::from_number(number)) {
            (0xc0..=0xff, _) => assert_eq!(found, Ok((RawKind::Extension(number), false))),
            (0x80..=0xbf, _) => assert_eq!(found, Ok((RawKind::Extension(number), true))),
            (_, None) => assert_eq!(found, Err(Violation::UnknownType), "{number:#04x}"),
            (_, Some(kind)) => assert_eq!(kind.number(), number),
        }
    }
}

#[test]
fn empty_data_and_an_open_beyond_its_limit_are_refused() {
    assert_eq!(Header::parse(header(0, Kind::Data.number(), 1), 100), Err(Violation::EmptyData));
    assert!(Header::parse(header(1, Kind::Data.number(), 1), 100).is_ok());
    assert_eq!(Header::parse(header(4_097, Kind::Open.number(), 1), 9_000), Err(Violation::OpenTooLong));
    assert!(Header::parse(header(4_096, Kind::Open.number(), 1), 9_000).is_ok());
}

#[test]
fn the_payload_of_an_extension_is_thrown_away_and_the_frame_reported() {
    let mut octets = header(500, 0x81, 7).to_vec();
    octets.extend([0xff; 500]);
    octets.extend(written(&[Encoded::accept(stream(2))]));
    let mut decoder = Decoder::new(1_000);

    let found = transcript(&mut decoder, octets.chunks(3));

    assert_eq!(
        found,
        [Told(RawKind::Extension(0x81), 7, vec![]), Told(RawKind::Known(Kind::Accept), 2, vec![])].map(Ok)
    );
    assert_eq!(decoder.allocated(), 0);
}

/// FRAME-009
#[test]
fn a_promise_of_length_allocates_nothing() {
    let mut decoder = Decoder::new(1 << 20);
    let mut octets = header(1 << 20, Kind::Data.number(), 1).to_vec();
    octets.extend([0; 10]);

    let found = transcript(&mut decoder, [octets.as_slice()].into_iter());

    assert_eq!(found, []);
    assert!(decoder.allocated() <= 10 + 4_096, "{} octets allocated for 10", decoder.allocated());
}

/// FRAME-009
#[test]
fn the_buffer_follows_what_has_arrived_and_is_given_back_at_a_pause() {
    let length = 60_000;
    let mut octets = header(length, Kind::Data.number(), 1).to_vec();
    octets.resize(8 + length as usize, 1);
    let mut decoder = Decoder::new(length);

    for (count, octet) in octets.iter().enumerate() {
        let mut input = core::slice::from_ref(octet);
        while decoder.next(&mut input).expect("valid").is_some() {}
        assert!(decoder.allocated() <= count + 4_097, "{} allocated after {count}", decoder.allocated());
    }

    assert_eq!(decoder.allocated(), 0);
    assert!(decoder.is_between_frames());
}

/// FRAME-009
#[test]
fn large_pieces_grow_the_buffer_by_no_more_than_themselves() {
    let mut decoder = Decoder::new(60_000);
    let octets = [header(60_000, Kind::Data.number(), 1).as_slice(), &[1; 30_000]].concat();

    let (head, payload) = octets.split_at(8);
    for mut piece in core::iter::once(head).chain(payload.chunks(10_000)) {
        assert_eq!(decoder.next(&mut piece), Ok(None));
    }

    assert_eq!(decoder.allocated(), 30_000);
}

#[test]
fn an_input_that_ends_within_a_frame_does_not_end_between_two() {
    let mut decoder = Decoder::new(100);
    let octets = written(&[Encoded::data(stream(5), Bytes::from_static(b"hello"))]);

    for count in 1..=octets.len() {
        let mut input = &octets[count - 1..count];
        assert_eq!(decoder.next(&mut input).map(|found| found.is_some()), Ok(count == octets.len()));
        assert_eq!(decoder.is_between_frames(), count == octets.len(), "after {count}");
    }
}

#[test]
fn after_a_violation_nothing_more_is_taken() {
    let mut octets = header(7, Kind::Ping.number(), 0).to_vec();
    octets.extend(written(&[Encoded::ping([0; 8])]));
    let mut decoder = Decoder::new(100);

    let mut input = octets.as_slice();
    assert_eq!(decoder.next(&mut input), Err(Violation::FrameLength));
    let left = input.len();
    assert_eq!(decoder.next(&mut input), Err(Violation::FrameLength));
    assert_eq!(input.len(), left);
}

#[test]
fn any_two_pieces_give_the_frames_of_the_whole() {
    let octets = sample();
    let whole = transcript(&mut Decoder::new(9_000), [octets.as_slice()].into_iter());

    for at in 0..=octets.len() {
        let (one, other) = octets.split_at(at);
        assert_eq!(transcript(&mut Decoder::new(9_000), [one, other].into_iter()), whole, "cut at {at}");
    }
    for size in 1..40 {
        assert_eq!(transcript(&mut Decoder::new(9_000), octets.chunks(size)), whole, "pieces of {size}");
    }
    assert_eq!(whole.len(), 8);
}

proptest! {
    #[test]
    fn any_pieces_of_any_octets_give_the_same(
        octets in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            prop::collection::vec(likely_frame(), 0..8).prop_map(|frames| frames.concat()),
        ],
        sizes in prop::collection::vec(1usize..40, 1..50),
    ) {
        let whole = transcript(&mut Decoder::new(64), [octets.as_slice()].into_iter());

        let (mut rest, mut pieces) = (octets.as_slice(), Vec::new());
        for size in sizes.iter().cycle() {
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let mut decoder = Decoder::new(64);
        prop_assert_eq!(transcript(&mut decoder, pieces.into_iter()), whole);
        prop_assert!(decoder.allocated() <= octets.len() + 4_096);
    }
}

/// A frame whose header is plausible and now and then wrong.
fn likely_frame() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![9 => prop::sample::select(Kind::ALL).prop_map(Kind::number), 1 => any::<u8>()];
    let id = prop_oneof![9 => Just(None), 1 => any::<u32>().prop_map(Some)];
    (number, id, prop::option::weighted(0.1, 0u32..70), 0u32..30).prop_map(|(number, id, wrong, some)| {
        let kind = Kind::from_number(number);
        let length = wrong.or_else(|| kind.and_then(Kind::fixed_length)).unwrap_or(some);
        let id = id.unwrap_or_else(|| kind.is_some_and(Kind::of_stream).into());
        let mut frame = header(length, number, id).to_vec();
        frame.resize(8 + length as usize, number);
        frame
    })
}

fn sample() -> Vec<u8> {
    let mut octets = written(&[
        Encoded::ping([7; 8]),
        Encoded::open(stream(2), &Open { endpoint: "https://a.example".into(), ..Open::default() }),
        Encoded::data(stream(2), Bytes::from(vec![9; 50])),
        Encoded::accept(stream(2)),
        Encoded::fin(stream(2), 50),
    ]);
    octets.extend(header(20, 0xc5, 0));
    octets.extend([1; 20]);
    octets.extend(written(&[Encoded::streams(4)]));
    octets.extend(header(1, 0x3f, 0)); // the violation at the end
    octets
}

/// A frame as the decoder told it.
#[derive(Debug, PartialEq)]
struct Told(RawKind, u32, Vec<u8>);

/// Everything that a decoder says about these pieces.
fn transcript<'a>(decoder: &mut Decoder, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Result<Told, Violation>> {
    let mut found = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(frame)) => found.push(Ok(Told(frame.header.kind, frame.header.stream, frame.payload.to_vec()))),
                Err(violation) => {
                    found.push(Err(violation));
                    return found;
                }
            }
        }
        assert!(piece.is_empty(), "input was left");
    }
    found
}

fn written(frames: &[Encoded]) -> Vec<u8> {
    let mut out = Vec::new();
    frames.iter().for_each(|frame| frame.write(&mut out));
    out
}

fn header(length: u32, number: u8, stream: u32) -> [u8; 8] {
    let ([_, l0, l1, l2], [s0, s1, s2, s3]) = (length.to_be_bytes(), stream.to_be_bytes());
    [l0, l1, l2, number, s0, s1, s2, s3]
}

fn stream(number: u32) -> StreamId {
    StreamId::new(number).expect("not zero")
}
