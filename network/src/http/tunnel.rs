//! Leaving HTTP: `Upgrade` in HTTP/1.1 and extended CONNECT in HTTP/2 (RFC 8441).

use core::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use std::{io, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, request, response};
use hyper::{ext::Protocol, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    task::JoinHandle,
    time::{Sleep, sleep},
};

use super::{
    Member, Note, fields,
    fields::has_token,
    link::Link,
    peek::Rewound,
    record::{Notes, Record},
    send::Outgoing,
    streams::Watch,
};
use crate::{Fault, admission::Underway};

/// How a request asks to leave HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// `Upgrade: …` with `Connection: upgrade`.
    Upgrade(HeaderValue),
    /// `:protocol`.
    Extended(HeaderValue),
}

/// Returns how the request asks to leave HTTP, if it does by the letter: as the gate sees it, and not for h2c, which would
/// take the requests that follow out of our sight (V53).
pub(super) fn wish(parts: &request::Parts, protocol: Option<Protocol>, whole: bool) -> Option<Leave> {
    if let Some(protocol) = protocol {
        return HeaderValue::from_str(protocol.as_str()).ok().map(Leave::Extended);
    }
    let mut values = parts.headers.get_all(header::UPGRADE).iter();
    let (value, more) = (values.next()?, values.next());
    let connection = parts.headers.get_all(header::CONNECTION).iter().any(|value| has_token(value, "upgrade"));
    let asked = parts.version == Version::HTTP_11 && whole && connection && more.is_none();
    (asked && !has_token(value, "h2c")).then(|| Leave::Upgrade(value.clone()))
}

impl Leave {
    /// Puts the wish into the request for the upstream.
    pub(super) fn ask(&self, outgoing: &mut Outgoing) {
        let (Self::Upgrade(protocol) | Self::Extended(protocol)) = self;
        outgoing.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        outgoing.headers.insert(header::UPGRADE, protocol.clone());
        if let Self::Extended(protocol) = self {
            outgoing.method = Method::GET;
            if protocol.as_bytes().eq_ignore_ascii_case(b"websocket") {
                outgoing.headers.insert(header::SEC_WEBSOCKET_KEY, websocket_key());
            }
        }
    }

    /// Checks that the upstream goes where the caller asked to go.
    ///
    /// # Errors
    /// [`Fault::UpstreamProtocol`].
    pub(super) fn check(&self, answer: &HeaderMap) -> Result<(), Fault> {
        let (Self::Upgrade(asked) | Self::Extended(asked)) = self;
        let mut values = answer.get_all(header::UPGRADE).iter();
        match (values.next().map(HeaderValue::to_str), values.next()) {
            (Some(Ok(granted)), None) if has_token(asked, granted.trim()) => Ok(()),
            (_, _) => Err(Fault::UpstreamProtocol),
        }
    }

    /// Makes the upstream's 101 the answer for the caller.
    pub(super) fn answer(&self, head: &mut response::Parts) {
        let granted = head.headers.get(header::UPGRADE).cloned();
        head.headers.remove(header::CONTENT_LENGTH);
        // Without a length nothing in it can be wrong.
        let _ = fields::clean_answer(&mut head.headers);
        match (self, granted) {
            (Self::Upgrade(_), Some(granted)) => {
                head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                head.headers.insert(header::UPGRADE, granted);
                head.version = Version::HTTP_11;
            }
            (Self::Extended(_) | Self::Upgrade(_), _) => {
                head.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
                head.status = StatusCode::OK;
            }
        }
    }
}

/// What a tunnel holds until it is over, and what it tells.
pub(super) struct Tunnel<M> {
    pub(super) member: Option<M>,
    pub(super) underway: Option<Underway>,
    pub(super) record: Option<Box<Record>>,
    /// The stream of HTTP/2 that the caller's end is. The whole of an HTTP/1 connection is watched already.
    pub(super) watch: Option<Arc<Watch>>,
    pub(super) stall_timeout: Duration,
    pub(super) notes: Notes,
}

impl<M: Member> Tunnel<M> {
    /// Carries octets both ways until both directions have ended; each ends by itself.
    pub(super) fn start(self, caller: OnUpgrade, upstream: OnUpgrade) -> JoinHandle<()> {
        let Self { member, underway, record, watch, stall_timeout, notes } = self;
        tokio::spawn(async move {
            let _busy = (member, underway);
            let Ok(upstream) = upstream.await else { return };
            let Ok(parts) = upstream.downcast::<TokioIo<Link<M::Io>>>() else { return };
            let mut upstream = Rewound { first: parts.read_buf.to_vec(), io: parts.io.into_inner() };
            let Ok(caller) = caller.await else { return };
            let most = watch.as_ref().map(|_| stall_timeout);
            let mut caller = Taken { io: TokioIo::new(caller), most, stall: None };
            let carried = copy_bidirectional_with_sizes(&mut caller, &mut upstream, PIECE, PIECE).await;
            match carried {
                Ok((received, sent)) => {
                    if let Some(mut record) = record {
                        (record.received, record.sent) = (received, sent);
                        record.finish(true);
                    }
                }
                Err(_) => {
                    if caller.is_stalled() {
                        notes.note(Note::Limit("stall_timeout"));
                    }
                    if let Some(watch) = &watch {
                        watch.break_off();
                    }
                    upstream.io.abort(adit_core::Code::CANCELLED);
                }
            }
        })
    }
}

/// The caller's end, which fails when it takes nothing for too long.
struct Taken<IO> {
    io: IO,
    most: Option<Duration>,
    stall: Option<Pin<Box<Sleep>>>,
}

impl<IO> Taken<IO> {
    fn is_stalled(&self) -> bool {
        self.stall.as_ref().is_some_and(|stall| stall.is_elapsed())
    }

    fn written<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let Some(most) = self.most.filter(|_| written.is_pending()) else {
            self.stall = None;
            return written;
        };
        ready!(self.stall.get_or_insert_with(|| Box::pin(sleep(most))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Taken<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Taken<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, data);
        self.written(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.written(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.io).poll_shutdown(cx);
        self.written(closed, cx)
    }
}

fn websocket_key() -> HeaderValue {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut nonce = [0; 18];
    // A nonce against caches, not a secret: zeros would do, should there be no randomness.
    let _ = aws_lc_rs::rand::fill(&mut nonce[..16]);
    let mut key = Vec::with_capacity(24);
    for triple in nonce.chunks(3) {
        let bits = triple.iter().fold(0_usize, |bits, octet| bits << 8 | usize::from(*octet));
        key.extend([18, 12, 6, 0].map(|shift| DIGITS[bits >> shift & 63]));
    }
    key.truncate(22);
    key.extend_from_slice(b"==");
    HeaderValue::from_bytes(&key).unwrap_or_else(|_| HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="))
}

const PIECE: usize = 8 << 10;
