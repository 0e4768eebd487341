//! A bound endpoint: a listener whose connections come through the uplink.

use alloc::{string::String, sync::Arc};
use core::{
    fmt,
    future::poll_fn,
    task::{Context, Poll},
};

use super::{Receiver, Runtime, Shared, Stream};
use adit_core::BindId;

/// An endpoint that an agent wishes for: a listener. Dropped, it is given up, and its streams may finish.
pub struct Endpoint<R> {
    id: BindId,
    streams: Receiver<Stream>,
    shared: Arc<Shared<R>>,
    cut: bool,
}

impl<R: Runtime> Endpoint<R> {
    pub(super) const fn new(id: BindId, streams: Receiver<Stream>, shared: Arc<Shared<R>>) -> Self {
        Self { id, streams, shared, cut: false }
    }

    /// Returns the number that events name it by.
    pub const fn id(&self) -> BindId {
        self.id
    }

    /// Waits for the next connection, whichever session it comes through; `None` when the uplink is over. Cancel-safe.
    ///
    /// The caller answers with [`Stream::accept`] once it has handed the connection on, or drops it.
    pub async fn accept(&mut self) -> Option<R::Stream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Like [`Self::accept`], for use in a poll function.
    pub fn poll_accept(&mut self, cx: &Context<'_>) -> Poll<Option<R::Stream>> {
        self.streams.poll_recv(cx).map(|stream| stream.map(Into::into))
    }

    /// Returns the endpoint as callers know it, once it has been bound.
    pub fn url(&self) -> Option<String> {
        self.shared.lock().places.get(&self.id)?.url.clone()
    }

    /// Gives the endpoint up. With `cut` its streams are reset, else they finish.
    pub fn unbind(mut self, cut: bool) {
        self.cut = cut;
    }
}

impl<R> fmt::Debug for Endpoint<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<R> Drop for Endpoint<R> {
    fn drop(&mut self) {
        let place = self.shared.act(|state, now| state.leave(self.id, self.cut, now));
        drop(place);
    }
}
