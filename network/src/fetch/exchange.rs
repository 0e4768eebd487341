//! One request and its answer over a connection, both bounded.

use core::future::Future;

use adit_policy::body::{Algorithm, Inflater};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};

use super::FetchFault;

/// Begins HTTP/1.1 on a stream.
pub(super) async fn http1<S>(stream: S) -> Result<(http1::SendRequest<Full<Bytes>>, Driver), FetchFault>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEADER).max_headers(MAX_FIELDS);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|_| FetchFault::Broken)?;
    Ok((sender, Driver::new(connection)))
}

/// Sends a request, and reads the whole answer.
pub(super) async fn ask(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    most: usize,
) -> Result<Response<Bytes>, FetchFault> {
    let answer = sender.send_request(request).await.map_err(|_| FetchFault::Broken)?;
    read(answer, most).await
}

/// Begins HTTP/2 on a stream, sends a request, and reads the whole answer.
pub(super) async fn http2<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    most: usize,
) -> Result<Response<Bytes>, FetchFault>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_header_list_size(u32::try_from(MAX_HEADER).unwrap_or(u32::MAX));
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|_| FetchFault::Broken)?;
    let _driver = Driver::new(connection);
    let answer = sender.send_request(request).await.map_err(|_| FetchFault::Broken)?;
    read(answer, most).await
}

async fn read(answer: Response<Incoming>, most: usize) -> Result<Response<Bytes>, FetchFault> {
    let (mut parts, mut body) = answer.into_parts();
    // The parser stops when its buffer is full, which a last read may overshoot.
    if parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() >= MAX_HEADER {
        return Err(FetchFault::Broken);
    }
    if http_body::Body::size_hint(&body).lower() > most as u64 {
        return Err(FetchFault::TooLarge);
    }
    let mut inflater = match parts.headers.get(header::CONTENT_ENCODING) {
        None => None,
        Some(coding) if coding == "identity" => None,
        Some(coding) => {
            let known = coding.to_str().ok().and_then(Algorithm::named).ok_or(FetchFault::Broken)?;
            Some(Inflater::new(known))
        }
    };
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| FetchFault::Broken)?;
        let Ok(data) = frame.into_data() else { continue };
        match &mut inflater {
            Some(inflater) => inflater.push(&data, &mut whole).map_err(|_| FetchFault::Broken)?,
            None => whole.extend_from_slice(&data),
        }
        if whole.len() > most {
            return Err(FetchFault::TooLarge);
        }
    }
    if let Some(inflater) = &mut inflater {
        inflater.finish(&mut whole).map_err(|_| FetchFault::Broken)?;
        parts.headers.remove(header::CONTENT_ENCODING);
        parts.headers.remove(header::CONTENT_LENGTH);
        if whole.len() > most {
            return Err(FetchFault::TooLarge);
        }
    }
    parts.extensions.clear();
    Ok(Response::from_parts(parts, whole.into()))
}

/// Drives a connection until dropped.
#[derive(Debug)]
pub(super) struct Driver(JoinHandle<()>);

impl Driver {
    fn new<C, E>(connection: C) -> Self
    where
        C: Future<Output = Result<(), E>> + Send + 'static,
        E: Send + 'static,
    {
        Self(tokio::spawn(async move {
            let _ = connection.await; // what went wrong, the answer tells
        }))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Octets of an answer's header.
pub(super) const MAX_HEADER: usize = 64 << 10;
/// Fields of an answer's header.
pub(super) const MAX_FIELDS: usize = 100;
