//! Asks an upstream whether it is well.

use core::{future::pending, pin::pin};
use std::io;

use adit_core::UpstreamProtocol;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::Upstream;

/// Waits until the upstream has the connection.
pub(crate) async fn connect<Io: Upstream>(mut io: Io) -> io::Result<()> {
    let taken = core::future::poll_fn(|cx| io.poll_accepted(cx)).await;
    taken.map_err(|_| io::ErrorKind::ConnectionRefused.into())
}

/// Asks for `path` and returns the status of the answer. What else the answer says is not read.
pub(crate) async fn ask<Io: Upstream>(
    io: Io,
    protocol: UpstreamProtocol,
    host: &str,
    path: &str,
) -> io::Result<StatusCode> {
    let io = TokioIo::new(io);
    let mut request = Request::new(Empty::<Bytes>::new());
    let fields = request.headers_mut();
    fields.insert(header::USER_AGENT, HeaderValue::from_static("adit-probe"));
    fields.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    if protocol == UpstreamProtocol::Http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
        *request.uri_mut() = format!("http://{host}{path}").parse().map_err(io::Error::other)?;
        return driven(sender.send_request(request), connection).await;
    }
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD);
    let (mut sender, connection) = builder.handshake(io).await.map_err(io::Error::other)?;
    request.headers_mut().insert(header::HOST, HeaderValue::from_str(host).map_err(io::Error::other)?);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    *request.uri_mut() = path.parse().map_err(io::Error::other)?;
    driven(sender.send_request(request), connection).await
}

/// Waits for an answer while its connection goes on.
async fn driven<B>(
    answer: impl Future<Output = hyper::Result<http::Response<B>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> io::Result<StatusCode> {
    let connection = pin!(async {
        // The answer tells how it ended.
        let _ = connection.await;
        pending::<()>().await;
    });
    tokio::select! {
        biased;
        answer = answer => answer.map(|answer| answer.status()).map_err(io::Error::other),
        () = connection => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

/// The octets of an answer's head.
const HEAD: usize = 64 << 10;
