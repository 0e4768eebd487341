//! A bound endpoint: a listener whose connections come through the uplink.

use alloc::{string::String, sync::Arc};
use core::{
    fmt,
    future::poll_fn,
    task::{Context, Poll},
};

use super::{Receiver, Runtime, Shared, Stream};
use adit_core::{BindId, Code, Unbind};

/// An endpoint that an agent wishes for: a listener. Dropped, it is given up, and its streams may finish.
pub struct Endpoint<R> {
    streams: Receiver<Stream>,
    shared: Arc<Shared<R>>,
    /// What is said when it is dropped.
    farewell: Unbind,
}

impl<R: Runtime> Endpoint<R> {
    pub(super) const fn new(id: BindId, streams: Receiver<Stream>, shared: Arc<Shared<R>>) -> Self {
        Self { streams, shared, farewell: Unbind::new(id) }
    }

    /// Returns the number that events name it by.
    pub const fn id(&self) -> BindId {
        self.farewell.id
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
        self.shared.lock().places.get(&self.farewell.id)?.url.clone()
    }

    /// Gives the endpoint up and says nothing of the reason. With `cut` its streams are reset, else they finish.
    pub fn unbind(mut self, cut: bool) {
        self.farewell.cut = cut;
    }

    /// Like [`Self::unbind`], and tells the network why (BIND-020), for those who run it: `code` is one of the session's range or
    /// from 0x1000 on of the application's own, `text` is cut at 1,024 octets.
    pub fn unbind_because(mut self, cut: bool, code: Code, text: &str) {
        let unbind = Unbind::new(self.farewell.id).cutting(cut).because(code, text);
        self.farewell = unbind;
    }
}

impl<R> fmt::Debug for Endpoint<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("id", &self.farewell.id).finish_non_exhaustive()
    }
}

impl<R> Drop for Endpoint<R> {
    fn drop(&mut self) {
        let place = self.shared.act(|state, now| state.leave(&self.farewell, now));
        drop(place);
    }
}
