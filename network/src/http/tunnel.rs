//! Leaving HTTP: `Upgrade` in HTTP/1.1 and extended CONNECT in HTTP/2 (RFC 8441).

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, request, response};
use hyper::{ext::Protocol, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::{io::copy_bidirectional_with_sizes, task::JoinHandle};

use super::{Backend, Member, fields, fields::has_token, link::Link, peek::Rewound, record::Record, send::Outgoing};
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

/// Carries octets both ways until both directions have ended; each ends by itself.
pub(super) fn start<B: Backend>(
    caller: OnUpgrade,
    upstream: OnUpgrade,
    busy: (Option<B::Member>, Option<Underway>),
    record: Option<Box<Record>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let (_busy, mut record) = (busy, record);
        let Ok(upstream) = upstream.await else { return };
        let Ok(parts) = upstream.downcast::<TokioIo<Link<<B::Member as Member>::Io>>>() else { return };
        let mut upstream = Rewound { first: parts.read_buf.to_vec(), io: parts.io.into_inner() };
        let Ok(caller) = caller.await else { return };
        let mut caller = TokioIo::new(caller);
        match copy_bidirectional_with_sizes(&mut caller, &mut upstream, PIECE, PIECE).await {
            Ok((received, sent)) => {
                if let Some(mut record) = record.take() {
                    (record.received, record.sent) = (received, sent);
                    record.finish(true);
                }
            }
            Err(_) => upstream.io.abort(adit_core::Code::CANCELLED),
        }
    })
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
