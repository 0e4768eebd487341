//! HTTP/2, frame by frame.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use crate::support::*;

/// Reads frames until one fits, or the end; returns what came.
pub async fn until_frame<IO: AsyncRead + AsyncWrite + Unpin>(
    peer: &mut Peer<IO>,
    fits: impl Fn(u8, u8, u32) -> bool,
) -> Vec<u8> {
    let mut at = 0;
    loop {
        while let Some(head) = peer.seen.get(at..at + 9) {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if peer.seen.len() < at + 9 + length {
                break;
            }
            at += 9 + length;
            if fits(kind, flags, stream) {
                return peer.seen.drain(..at).collect();
            }
        }
        let mut room = [0; 4096];
        match soon(peer.stream.read(&mut room)).await {
            Ok(0) | Err(_) => return std::mem::take(&mut peer.seen),
            Ok(count) => peer.seen.extend_from_slice(&room[..count]),
        }
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A length that fits the seven bits of a literal.
pub fn short(text: &str) -> u8 {
    u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap()
}

/// Fields as literals without an index.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.extend_from_slice(&[0, short(name)]);
        block.extend_from_slice(name.as_bytes());
        block.push(short(value));
        block.extend_from_slice(value.as_bytes());
    }
    block
}

pub const GET: &[(&str, &str)] =
    &[(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/")];

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// What a caller says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
