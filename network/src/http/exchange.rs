//! The body of a request on its way to the upstream.

use core::{
    fmt,
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};
use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::{HttpLimits, allowance::Allowance, fields, link::Fate, transform::Change};

/// A request's body, held so that it can be sent again as long as nothing of it was taken.
#[derive(Debug)]
pub(crate) struct Exchange {
    body: Mutex<Option<Incoming>>,
    /// What was read before anything was sent, for rules that look at it.
    ahead: Mutex<VecDeque<Frame<Bytes>>>,
    /// What rules make of it on its way.
    change: Mutex<Option<Change>>,
    /// Rules broke the body off.
    cut: AtomicBool,
    /// What was sent, as far as it can be sent again. Locked while something of the body is taken.
    kept: Mutex<Kept>,
    /// Something of the body was taken and not kept: the request cannot be repeated.
    consumed: AtomicBool,
    /// The body waits for the upstream's 100.
    held: AtomicBool,
    /// The caller broke the body off.
    broken: AtomicBool,
    over: AtomicBool,
    attempt: AtomicU32,
    sender: AtomicWaker,
    born: Instant,
    /// Milliseconds after `born` when something of the body last went on.
    moved: AtomicU64,
    /// How long the caller may let it wait.
    allowance: Mutex<Allowance>,
    /// Octets of the body that came.
    received: AtomicU64,
}

impl Exchange {
    /// `held` makes the body wait for [`Self::release`].
    pub(super) fn new(body: Incoming, held: bool, limits: &HttpLimits) -> Self {
        Self {
            body: Mutex::new(Some(body)),
            ahead: Mutex::default(),
            change: Mutex::default(),
            cut: AtomicBool::new(false),
            kept: Mutex::default(),
            consumed: AtomicBool::new(false),
            held: AtomicBool::new(held),
            broken: AtomicBool::new(false),
            over: AtomicBool::new(false),
            attempt: AtomicU32::new(0),
            sender: AtomicWaker::new(),
            born: Instant::now(),
            moved: AtomicU64::new(0),
            allowance: Mutex::new(Allowance::new(limits)),
            received: AtomicU64::new(0),
        }
    }

    /// Reads the whole body, if it has no more than `most` octets; it is sent all the same. Nothing: it is longer, or broken.
    pub(crate) async fn read_ahead(&self, most: usize) -> Option<Vec<u8>> {
        self.release();
        let mut whole = Vec::new();
        for frame in self.ahead.lock().iter() {
            whole.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
        while whole.len() <= most {
            match core::future::poll_fn(|cx| self.poll_incoming(cx)).await {
                None => return Some(whole),
                Some(Err(_)) => return None,
                Some(Ok(frame)) => {
                    whole.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                    self.ahead.lock().push_back(frame);
                }
            }
        }
        None
    }

    /// Lets the body go through a change.
    pub(super) fn change(&self, change: Change) {
        *self.change.lock() = Some(change);
    }

    /// Tells whether rules broke the body off.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Keeps what is sent from here on, if that is no more than `most` octets, so that it can be sent again; nothing of a body
    /// that rules change on its way.
    pub(super) fn keep(&self, most: usize) {
        if self.change.lock().is_none() {
            self.kept.lock().most = most;
        }
    }

    /// Keeps nothing any more.
    pub(super) fn forget(&self) {
        *self.kept.lock() = Kept::default();
    }

    /// Returns the body for the next attempt; those given out before end.
    pub(super) fn body(self: &Arc<Self>, fate: Arc<Fate>, paced: bool) -> RequestBody {
        let mut kept = self.kept.lock();
        let attempt = self.attempt.fetch_add(1, Ordering::AcqRel) + 1;
        let mut ahead = self.ahead.lock();
        kept.give_back(&mut ahead);
        let plain = ahead.is_empty() && self.change.lock().is_none();
        let whole = if plain { self.body.lock().as_ref().map(Body::size_hint) } else { None };
        let size = whole.unwrap_or_default();
        self.rest();
        drop((kept, ahead));
        RequestBody { sent: Some(Sent { exchange: Arc::clone(self), fate, attempt, size, paced }) }
    }

    pub(super) fn is_consumed(&self) -> bool {
        self.consumed.load(Ordering::Acquire)
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Returns how many octets of the body came.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Returns when something of the body last went on.
    pub(super) fn moved(&self) -> Instant {
        self.born + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    /// Returns when the caller has let the body wait for too long, if it is the caller that is waited for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.allowance.lock().due()
    }

    /// Returns how long the caller may let the body wait at the least from here on, if it is not waited for already.
    pub(super) fn patience(&self) -> Duration {
        self.allowance.lock().left()
    }

    /// Notes that it is not the caller that is waited for.
    fn rest(&self) {
        self.allowance.lock().rest();
    }

    /// Lets the body go.
    pub(super) fn release(&self) {
        if self.held.swap(false, Ordering::AcqRel) {
            self.sender.wake();
        }
    }

    /// Ends the exchange: the answer is over. Returns the body if something of it is left.
    pub(super) fn finish(&self) -> Option<Incoming> {
        self.over.store(true, Ordering::Release);
        let left = self.body.lock().take().filter(|body| !body.is_end_stream());
        self.sender.wake();
        left
    }

    fn poll_frame(&self, attempt: u32, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        let mut kept = self.kept.lock();
        if attempt != self.attempt.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err(BodyBroken)));
        }
        self.sender.register(cx.waker());
        if self.over.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err(BodyBroken)));
        }
        if self.held.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let mut change = self.change.lock();
        let Some(change) = change.as_mut() else { return self.poll_next(&mut kept, cx) };
        let frame = ready!(change.poll_frame(cx, |cx| self.poll_next(&mut kept, cx)));
        if matches!(frame, Some(Err(_))) && !self.is_broken() {
            self.cut.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn poll_next(&self, kept: &mut Kept, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        let ahead = self.ahead.lock().pop_front();
        let frame = match ahead {
            Some(frame) => Some(Ok(frame)),
            None => ready!(self.poll_incoming(cx)),
        };
        if let Some(Ok(frame)) = &frame
            && !kept.take(frame)
        {
            self.consumed.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        let mut slot = self.body.lock();
        let Some(body) = slot.as_mut() else { return Poll::Ready(None) };
        let frame = Pin::new(&mut *body).poll_frame(cx);
        let now = Instant::now();
        let Poll::Ready(frame) = frame else {
            self.allowance.lock().wait(now);
            return Poll::Pending;
        };
        let octets =
            frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref).map_or(0, Bytes::len);
        self.allowance.lock().earn(octets, now);
        let moved = u64::try_from(now.duration_since(self.born).as_millis()).unwrap_or(u64::MAX);
        self.moved.store(moved, Ordering::Relaxed);
        self.received.fetch_add(octets as u64, Ordering::Relaxed);
        match frame {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(match frame.into_trailers() {
                Ok(mut trailers) => {
                    fields::clean_trailers(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(frame) => frame,
            }))),
            Some(Err(_)) => {
                *slot = None;
                self.broken.store(true, Ordering::Release);
                Poll::Ready(Some(Err(BodyBroken)))
            }
            None => {
                *slot = None;
                Poll::Ready(None)
            }
        }
    }
}

/// The beginning of a body that was sent already.
#[derive(Debug, Default)]
struct Kept {
    octets: Vec<u8>,
    trailers: Option<HeaderMap>,
    most: usize,
}

impl Kept {
    /// Takes a copy of what is sent; false when there is more than is kept: then nothing is.
    fn take(&mut self, frame: &Frame<Bytes>) -> bool {
        if self.most == 0 {
            return false;
        }
        if let Some(data) = frame.data_ref() {
            if self.most.saturating_sub(self.octets.len()) < data.len() {
                *self = Self::default();
                return false;
            }
            self.octets.extend_from_slice(data);
        }
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        true
    }

    /// Gives it back to be sent before all else.
    fn give_back(&mut self, ahead: &mut VecDeque<Frame<Bytes>>) {
        if let Some(trailers) = self.trailers.take() {
            ahead.push_front(Frame::trailers(trailers));
        }
        if !self.octets.is_empty() {
            ahead.push_front(Frame::data(core::mem::take(&mut self.octets).into()));
        }
    }
}

/// What is sent to the upstream: nothing, or the body of an exchange.
#[derive(Debug)]
pub(super) struct RequestBody {
    sent: Option<Sent>,
}

#[derive(Debug)]
struct Sent {
    exchange: Arc<Exchange>,
    fate: Arc<Fate>,
    attempt: u32,
    size: SizeHint,
    /// Waits while the connection does; HTTP/2 has a window for that.
    paced: bool,
}

impl RequestBody {
    pub(super) const fn empty() -> Self {
        Self { sent: None }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyBroken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        let Some(sent) = &self.sent else { return Poll::Ready(None) };
        // Until the upstream has the connection, the body can still go to another one.
        ready!(sent.fate.poll_accepted(cx));
        if sent.paced && sent.fate.is_blocked() {
            sent.exchange.rest();
            return Poll::Pending; // the parser asks again when it has written
        }
        sent.exchange.poll_frame(sent.attempt, cx)
    }

    fn is_end_stream(&self) -> bool {
        self.sent.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.sent.as_ref().map_or_else(|| SizeHint::with_exact(0), |sent| sent.size)
    }
}

/// The body will not be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BodyBroken;

impl fmt::Display for BodyBroken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body was broken off")
    }
}

impl core::error::Error for BodyBroken {}

/// Throws away what is left of a body, so that the connection can be used again; a longer one closes it (V55), or resets its
/// HTTP/2 stream.
pub(super) fn drain(mut body: Incoming, most: usize) {
    if body.size_hint().lower() > most as u64 {
        return;
    }
    tokio::spawn(timeout(DRAIN_TIME, async move {
        let mut left = most;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    }));
}

const DRAIN_TIME: Duration = Duration::from_secs(5);
