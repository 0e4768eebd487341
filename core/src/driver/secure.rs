//! TLS before there is a link: to learn that somebody answers, and who, before anything is said.

use alloc::vec;
use core::{
    future::poll_fn,
    task::{Context, Poll, ready},
};
use std::io::{self, IoSlice};

use super::{Failure, Transport, task::Writer};
use crate::{Inquiry, tls::Tls};

/// Agrees on TLS over a connection; what is left to do is the link's. Cancelled, it leaves both where they are.
///
/// # Errors
/// [`Failure`]: the connection is of no use.
pub async fn secure(io: &mut impl Transport, tls: &mut Tls) -> Result<(), Failure> {
    let mut scratch = vec![0; SCRATCH];
    poll_fn(|cx| poll_secure(io, tls, &mut scratch, cx)).await?;
    if tls.has_alpn() { Ok(()) } else { Err(Failure::NotAdit) }
}

/// Asks whoever is at the other end of a secured connection which versions it speaks, and returns once there is an answer. Nothing is said
/// about who asks; afterwards the connection is of no other use.
///
/// # Errors
/// [`Failure`]: nothing was answered.
pub async fn ask(io: &mut impl Transport, tls: &mut Tls) -> Result<Inquiry, Failure> {
    let mut inquiry = Inquiry::new();
    while let Some(frame) = inquiry.poll_transmit() {
        tls.seal(&[IoSlice::new(frame.header()), IoSlice::new(frame.payload())]);
    }
    let mut scratch = vec![0; SCRATCH];
    poll_fn(|cx| poll_ask(io, tls, &mut inquiry, &mut scratch, cx)).await?;
    Ok(inquiry)
}

fn poll_secure(
    io: &mut impl Transport,
    tls: &mut Tls,
    scratch: &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<Result<(), Failure>> {
    loop {
        write(io, tls, cx)?;
        if !tls.is_handshaking() {
            return Poll::Ready(Ok(())); // what is left to be written goes out with what comes next
        }
        match ready!(io.poll_read(cx, scratch)).map_err(Failure::Io)? {
            0 => return Poll::Ready(Err(Failure::Io(io::ErrorKind::UnexpectedEof.into()))),
            count => {
                let mut early = false;
                let result = tls.read(scratch.get(..count).unwrap_or(&[]), |_| early = true);
                result.map_err(Failure::Tls)?;
                if early {
                    // spec: PRE-002, nothing was asked
                    let error = io::Error::new(io::ErrorKind::InvalidData, "the peer speaks before it is spoken to");
                    return Poll::Ready(Err(Failure::Io(error)));
                }
            }
        }
    }
}

fn poll_ask(
    io: &mut impl Transport,
    tls: &mut Tls,
    inquiry: &mut Inquiry,
    scratch: &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<Result<(), Failure>> {
    loop {
        write(io, tls, cx)?;
        match ready!(io.poll_read(cx, scratch)).map_err(Failure::Io)? {
            0 => inquiry.handle_eof(tls.peer_closed()),
            count => {
                let cipher = scratch.get(..count).unwrap_or(&[]);
                tls.read(cipher, |plain| inquiry.handle_input(plain)).map_err(Failure::Tls)?;
                if tls.peer_closed() {
                    inquiry.handle_eof(true);
                }
            }
        }
        if inquiry.answer().is_some() {
            return Poll::Ready(Ok(()));
        }
    }
}

/// Writes what the transport takes.
fn write(io: &mut impl Transport, tls: &mut Tls, cx: &mut Context<'_>) -> Result<(), Failure> {
    while tls.wants_write() {
        let mut writer = Writer { io, cx, blocked: false };
        match tls.write_to(&mut writer) {
            Ok(0) => return Err(Failure::Io(io::ErrorKind::WriteZero.into())),
            Ok(_) => {}
            Err(_) if writer.blocked => return Ok(()),
            Err(error) => return Err(Failure::Io(error)),
        }
    }
    Ok(())
}

/// A server's part of a handshake is a few kilobytes.
const SCRATCH: usize = 8 << 10;
