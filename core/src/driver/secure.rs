//! TLS before there is a link: to learn that somebody answers, and who, before anything is said.

use alloc::vec;
use core::{
    future::poll_fn,
    task::{Context, Poll},
};
use std::io;

use super::{Failure, Transport, task::Writer};
use crate::tls::Tls;

/// Agrees on TLS over a connection; what is left to do is the link's. Cancelled, it leaves both where they are.
///
/// # Errors
/// [`Failure`]: the connection is of no use.
pub async fn secure(io: &mut impl Transport, tls: &mut Tls) -> Result<(), Failure> {
    let mut scratch = vec![0; SCRATCH];
    poll_fn(|cx| poll_secure(io, tls, &mut scratch, cx)).await?;
    if tls.has_alpn() { Ok(()) } else { Err(Failure::NotAdit) }
}

fn poll_secure(
    io: &mut impl Transport,
    tls: &mut Tls,
    scratch: &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<Result<(), Failure>> {
    loop {
        while tls.wants_write() {
            let mut writer = Writer { io, cx, blocked: false };
            match tls.write_to(&mut writer) {
                Ok(0) => return Poll::Ready(Err(Failure::Io(io::ErrorKind::WriteZero.into()))),
                Ok(_) => {}
                Err(_) if writer.blocked => break,
                Err(error) => return Poll::Ready(Err(Failure::Io(error))),
            }
        }
        if !tls.is_handshaking() {
            return Poll::Ready(Ok(())); // what is left to be written goes out with what comes next
        }
        match core::task::ready!(io.poll_read(cx, scratch)).map_err(Failure::Io)? {
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

/// A server's part of a handshake is a few kilobytes.
const SCRATCH: usize = 8 << 10;
