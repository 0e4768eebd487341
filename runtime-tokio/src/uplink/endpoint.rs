//! A bound endpoint: a listener whose connections come through the uplink.

use core::task::{Context, Poll};
use std::sync::Arc;

use adit_core::BindId;
use tokio::sync::mpsc;

use super::Shared;
use crate::Stream;

/// An endpoint that an agent wishes for: a listener. Dropped, it is given up, and its streams may finish.
#[derive(Debug)]
pub struct Endpoint {
    id: BindId,
    streams: mpsc::UnboundedReceiver<Stream>,
    shared: Arc<Shared>,
    cut: bool,
}

impl Endpoint {
    pub(super) fn new(id: BindId, streams: mpsc::UnboundedReceiver<Stream>, shared: Arc<Shared>) -> Self {
        Self { id, streams, shared, cut: false }
    }

    /// Returns the number that events name it by.
    pub const fn id(&self) -> BindId {
        self.id
    }

    /// Waits for the next connection, whichever session it comes through; `None` when the uplink is over. Cancel-safe.
    ///
    /// The caller answers with [`Stream::accept`] once it has handed the connection on, or drops it.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }

    /// Like [`Self::accept`], for use in a poll function.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Stream>> {
        self.streams.poll_recv(cx)
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

impl Drop for Endpoint {
    fn drop(&mut self) {
        let place = self.shared.act(|state, now| {
            state.core.unbind(self.id, self.cut, now);
            state.places.remove(&self.id)
        });
        drop(place);
    }
}

#[cfg(feature = "axum")]
mod serve {
    use core::net::SocketAddr;
    use std::io;

    use axum::{
        extract::connect_info::Connected,
        serve::{IncomingStream, Listener},
    };

    use super::Endpoint;
    use crate::Stream;

    /// Who is connected, as the network says.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Caller {
        /// The caller's address, if the network told it.
        pub address: Option<SocketAddr>,
    }

    impl Listener for Endpoint {
        type Io = Stream;
        type Addr = Caller;

        async fn accept(&mut self) -> (Stream, Caller) {
            match Self::accept(self).await {
                Some(stream) => {
                    stream.accept();
                    let address = stream.open().and_then(|open| open.caller);
                    (stream, Caller { address })
                }
                // A listener cannot end; whoever serves ends by its own signal.
                None => core::future::pending().await,
            }
        }

        fn local_addr(&self) -> io::Result<Caller> {
            Ok(Caller { address: None })
        }
    }

    impl Connected<IncomingStream<'_, Endpoint>> for Caller {
        fn connect_info(stream: IncomingStream<'_, Endpoint>) -> Self {
            *stream.remote_addr()
        }
    }
}

#[cfg(feature = "axum")]
pub use serve::Caller;
