use alloc::vec::Vec;

use bytes::Bytes;

use super::*;

#[test]
fn a_frame_that_was_encoded_is_decoded_from_where_it_lies() {
    let frame = Encoded::data(stream(5), Bytes::from_static(b"hello"));
    let mut octets = Vec::new();
    frame.write(&mut octets);

    let mut input = octets.as_slice();
    let mut decoder = Decoder::new(100);
    let found = decoder.next(&mut input).expect("valid").expect("whole");

    let (header, payload) = (found.header, found.payload.as_ptr_range());

    assert_eq!(octets, [0, 0, 5, 0x11, 0, 0, 0, 5, b'h', b'e', b'l', b'l', b'o']);
    assert_eq!(header, Header { length: 5, kind: RawKind::Known(Kind::Data), stream: 5 });
    assert_eq!(payload.end, octets.as_ptr_range().end, "the payload was copied");
    assert_eq!(decoder.next(&mut input), Ok(None));
    assert_eq!(decoder.allocated(), 0);
}

fn stream(number: u32) -> StreamId {
    StreamId::new(number).expect("not zero")
}
