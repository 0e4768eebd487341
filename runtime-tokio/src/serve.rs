//! A bound endpoint as axum serves it.

use core::net::SocketAddr;
use std::io;

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};

use crate::{Endpoint, Stream};

/// An endpoint that `axum::serve` takes.
#[derive(Debug)]
pub struct Serve(pub Endpoint);

/// Who is connected, as the network says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The caller's address, if the network told it.
    pub address: Option<SocketAddr>,
}

impl Listener for Serve {
    type Io = Stream;
    type Addr = Caller;

    async fn accept(&mut self) -> (Stream, Caller) {
        match self.0.accept().await {
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

impl Connected<IncomingStream<'_, Serve>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Serve>) -> Self {
        *stream.remote_addr()
    }
}
