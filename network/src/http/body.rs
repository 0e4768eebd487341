//! The body of an answer on its way to the caller.

use core::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use std::sync::Arc;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    caller::Talk,
    exchange::{BodyBroken, Exchange, drain},
    fields,
    pool::Return,
    record::Record,
    streams::Watch,
    transform::Change,
};
use crate::admission::Underway;

/// The body of an answer: ours, or the upstream's.
pub(super) struct AnswerBody<M> {
    source: Source,
    /// What was cut off to keep an HTTP/2 stream's share small.
    rest: Bytes,
    whole: bool,
    /// What rules make of it on its way.
    change: Option<Box<Change>>,
    end: End<M>,
}

#[derive(Debug)]
enum Source {
    Empty,
    Ours(Bytes),
    Upstream { body: Incoming, http2: bool },
}

/// What has to be seen to when an answer is over.
pub(super) struct End<M> {
    /// Gives the connection back to the pool; without it the connection closes.
    pub(super) back: Option<Return>,
    /// The request's body, which ends with the answer.
    pub(super) exchange: Option<Arc<Exchange>>,
    /// The HTTP/1 connection that the answer goes to.
    pub(super) talk: Option<Arc<Talk>>,
    /// The HTTP/2 stream that the answer goes to.
    pub(super) watch: Option<Arc<Watch>>,
    /// Octets of an unread body that are thrown away.
    pub(super) drain: usize,
    /// What is noted about the request.
    pub(super) record: Option<Box<Record>>,
    /// Who serves it: counts as busy until the end.
    pub(super) member: Option<M>,
    /// Counts it among those of its source.
    pub(super) underway: Option<Underway>,
}

impl<M> Default for End<M> {
    fn default() -> Self {
        Self {
            back: None,
            exchange: None,
            talk: None,
            watch: None,
            drain: 0,
            record: None,
            member: None,
            underway: None,
        }
    }
}

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        let (body, http2) = match self {
            Self::Empty => return Poll::Ready(None),
            Self::Ours(text) => {
                let text = core::mem::take(text);
                return Poll::Ready((!text.is_empty()).then(|| Ok(Frame::data(text))));
            }
            Self::Upstream { body, http2 } => (body, *http2),
        };
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(match frame.into_trailers() {
                Ok(mut trailers) => {
                    fields::clean_trailers(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(frame) => frame,
            }))),
            // A reset without an error ends the body for hyper, but it is no end: the rest is missing.
            None if http2 && !body.is_end_stream() => Poll::Ready(Some(Err(BodyBroken))),
            None => Poll::Ready(None),
            Some(Err(_)) => Poll::Ready(Some(Err(BodyBroken))),
        }
    }
}

impl<M> AnswerBody<M> {
    pub(super) fn empty(end: End<M>) -> Self {
        Self { source: Source::Empty, rest: Bytes::new(), whole: true, change: None, end }
    }

    pub(super) fn ours(text: Bytes, end: End<M>) -> Self {
        Self { source: Source::Ours(text), rest: Bytes::new(), whole: false, change: None, end }
    }

    pub(super) fn upstream(body: Incoming, http2: bool, change: Option<Box<Change>>, end: End<M>) -> Self {
        Self { source: Source::Upstream { body, http2 }, rest: Bytes::new(), whole: false, change, end }
    }

    fn is_over(&self) -> bool {
        if let Some(change) = &self.change {
            return self.rest.is_empty() && change.is_over();
        }
        self.rest.is_empty()
            && match &self.source {
                Source::Empty => true,
                Source::Ours(text) => text.is_empty(),
                Source::Upstream { body, .. } => body.is_end_stream(),
            }
    }

    /// Hands data out, in pieces that are small where the transport cannot tell how far it came.
    fn hand_out(&mut self, mut data: Bytes) -> Bytes {
        if let Some(watch) = &self.end.watch {
            if data.len() > PIECE {
                self.rest = data.split_off(PIECE);
            }
            watch.handed_out();
        }
        if let Some(record) = &mut self.end.record {
            record.sent += data.len() as u64;
        }
        data
    }
}

impl<M: Unpin> Body for AnswerBody<M> {
    type Data = Bytes;
    type Error = BodyBroken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        let this = self.get_mut();
        if let Some(watch) = &this.end.watch {
            watch.asked();
        }
        if !this.rest.is_empty() {
            let rest = core::mem::take(&mut this.rest);
            return Poll::Ready(Some(Ok(Frame::data(this.hand_out(rest)))));
        }
        if this.end.talk.as_ref().is_some_and(|talk| talk.is_blocked()) {
            return Poll::Pending; // the parser asks again when it has written
        }
        let source = &mut this.source;
        let polled = match &mut this.change {
            Some(change) => change.poll_frame(cx, |cx| source.poll_frame(cx)),
            None => source.poll_frame(cx),
        };
        match ready!(polled) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Poll::Ready(Some(Ok(Frame::data(this.hand_out(data))))),
                Err(frame) => {
                    this.whole = true;
                    Poll::Ready(Some(Ok(frame)))
                }
            },
            None => {
                this.whole = true;
                Poll::Ready(None)
            }
            Some(Err(broken)) => {
                if let Some(watch) = &this.end.watch {
                    watch.done(); // the upstream's fault or that of rules, not the caller's
                }
                Poll::Ready(Some(Err(broken)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        if self.change.is_some() {
            return SizeHint::default();
        }
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Ours(text) => SizeHint::with_exact(text.len() as u64),
            Source::Upstream { body, .. } => body.size_hint(),
        }
    }
}

impl<M> Drop for AnswerBody<M> {
    fn drop(&mut self) {
        let whole = self.whole || self.is_over();
        let exchange = self.end.exchange.take();
        if let (Some(exchange), Some(record)) = (&exchange, &mut self.end.record) {
            record.received = exchange.received();
        }
        let left = exchange.and_then(|exchange| exchange.finish());
        if let Some(back) = self.end.back.take()
            && whole
            && left.is_none()
        {
            back.give();
        }
        if let Some(body) = left {
            if let Some(talk) = &self.end.talk {
                talk.linger();
                drain(body, self.end.drain);
            } else if whole {
                // A body that is let go resets its stream, and there are callers that lose an answer to a reset that comes
                // while they are about to send.
                drain(body, self.end.drain);
            }
        }
        if let Some(talk) = &self.end.talk {
            talk.finish();
        }
        if let Some(watch) = &self.end.watch
            && whole
        {
            watch.done();
        }
        if let Some(record) = self.end.record.take() {
            record.finish(whole);
        }
    }
}

/// As large as an HTTP/2 frame is without asking.
const PIECE: usize = 16 << 10;
