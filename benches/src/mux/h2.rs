//! The crate `h2` as a multiplexer, tuned: windows of 4 MiB a stream and 16 MiB in all, frames of 64 KiB.

use core::future::poll_fn;
use std::io;

use bytes::Bytes;
use h2::{
    RecvStream, SendStream, client,
    client::{ResponseFuture, SendRequest},
    server,
};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Dialer, Stream, serve};
use crate::loopback;

/// The end that sends requests.
#[derive(Clone, Debug)]
pub struct H2(SendRequest<Bytes>);

/// One request and its answer.
#[derive(Debug)]
pub struct Exchange {
    send: SendStream<Bytes>,
    receive: Receive,
}

#[derive(Debug)]
enum Receive {
    Head(ResponseFuture),
    Body(RecvStream),
}

/// Joins two ends over loopback, with TLS.
///
/// # Errors
/// When they cannot be joined.
pub async fn over_loopback() -> io::Result<H2> {
    let (dialed, accepted) = loopback::secured(b"h2").await?;
    join(dialed, accepted).await
}

/// Joins two ends in memory.
///
/// # Errors
/// When they cannot be joined.
pub async fn in_memory() -> io::Result<H2> {
    let (dialed, accepted) = tokio::io::duplex(crate::PIPE);
    join(dialed, accepted).await
}

async fn join<T>(dialed: T, accepted: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> io::Result<H2>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        let mut builder = server::Builder::new();
        builder.initial_window_size(STREAM).initial_connection_window_size(SESSION).max_frame_size(FRAME);
        builder.max_send_buffer_size(BUFFER);
        let Ok(mut connection) = builder.handshake::<_, Bytes>(accepted).await else { return };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let Ok(send) = respond.send_response(Response::new(()), false) else { continue };
            tokio::spawn(serve(Exchange { send, receive: Receive::Body(request.into_body()) }));
        }
    });
    let mut builder = client::Builder::new();
    builder.initial_window_size(STREAM).initial_connection_window_size(SESSION).max_frame_size(FRAME);
    builder.max_send_buffer_size(BUFFER).initial_max_send_streams(1_000);
    let (requests, connection) = builder.handshake(dialed).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(H2(requests))
}

impl Dialer for H2 {
    type Stream = Exchange;

    async fn open(&self) -> io::Result<Exchange> {
        let mut requests = self.0.clone().ready().await.map_err(io::Error::other)?;
        let request = Request::post("https://network.test/").body(()).map_err(io::Error::other)?;
        let (head, send) = requests.send_request(request, false).map_err(io::Error::other)?;
        Ok(Exchange { send, receive: Receive::Head(head) })
    }
}

impl Stream for Exchange {
    async fn send(&mut self, mut data: Bytes) -> io::Result<()> {
        while !data.is_empty() {
            self.send.reserve_capacity(data.len());
            let room = poll_fn(|cx| self.send.poll_capacity(cx)).await.ok_or(io::ErrorKind::BrokenPipe)?;
            let piece = data.split_to(room.map_err(io::Error::other)?.min(data.len()));
            self.send.send_data(piece, false).map_err(io::Error::other)?;
        }
        Ok(())
    }

    async fn receive(&mut self) -> io::Result<Option<Bytes>> {
        if let Receive::Head(head) = &mut self.receive {
            let body = head.await.map_err(io::Error::other)?.into_body();
            self.receive = Receive::Body(body);
        }
        let Receive::Body(body) = &mut self.receive else { return Ok(None) };
        let Some(data) = body.data().await.transpose().map_err(io::Error::other)? else { return Ok(None) };
        body.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
        Ok(Some(data))
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.send.send_data(Bytes::new(), true).map_err(io::Error::other)
    }
}

const STREAM: u32 = 4 << 20;
const SESSION: u32 = 16 << 20;
const FRAME: u32 = 64 << 10;
const BUFFER: usize = 1 << 20;
