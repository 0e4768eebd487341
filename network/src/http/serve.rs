//! One caller's connection, from its first octet to its end.

use core::{pin::pin, sync::atomic::Ordering, time::Duration};
use std::sync::Arc;

use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    sync::{Notify, watch},
    time::timeout,
};

use super::{
    Backend, HttpEdge, HttpLimits, Note,
    caller::{CallerIo, Talk},
    cut::{Cut, Guarded},
    peek::{Rewound, Spoken, peek},
    pool::HYPER_FIELDS,
    proxy::Connection,
    streams::Streams,
};
use crate::{Caller, edge::Phase};

/// Serves one connection of a caller until it ends. Dropped, it cancels whatever it has under way.
///
/// `io` is plain, TLS already taken off; the ALPN in `caller.tls` says what is spoken, and without one the first octets do.
/// Draining closes the connection after the answers that are under way; ending cuts it.
pub async fn serve<IO, B>(mut io: IO, caller: Caller, edge: Arc<HttpEdge<B>>, mut phase: watch::Receiver<Phase>)
where
    IO: AsyncRead + AsyncWrite + Cut + Send + Unpin + 'static,
    B: Backend,
{
    let limits = edge.limits.load_full();
    let (spoken, first) = match &caller.tls {
        Some(tls) if tls.alpn == "h2" => (Spoken::Http2, Vec::new()),
        Some(_) => (Spoken::Http1, Vec::new()),
        None => match peek(&mut io, limits.header_timeout).await {
            Some(peeked) => peeked,
            None => return,
        },
    };
    let ending = {
        let mut phase = phase.clone();
        async move { drop(phase.wait_for(|phase| *phase == Phase::Ending).await) }
    };
    let closed = Arc::new(Notify::new());
    let serving = async {
        let closed = Arc::clone(&closed);
        match spoken {
            Spoken::Http1 => serve_http1(io, first, caller, (edge, closed), &mut phase).await,
            Spoken::Http2 => serve_http2(Rewound { first, io }, caller, (edge, closed), &limits, &mut phase).await,
        }
    };
    tokio::select! {
        () = serving => {}
        () = ending => {}
        () = closed.notified() => {} // a rule says so
    }
}

async fn serve_http1<IO, B>(
    io: IO,
    first: Vec<u8>,
    caller: Caller,
    (edge, closed): (Arc<HttpEdge<B>>, Arc<Notify>),
    phase: &mut watch::Receiver<Phase>,
) where
    IO: AsyncRead + AsyncWrite + Cut + Send + Unpin + 'static,
    B: Backend,
{
    let talk = Arc::new(Talk::new());
    let connection = Arc::new(Connection::new(edge, caller, Some(Arc::clone(&talk)), closed));
    let limits = Arc::clone(&connection.limits);
    let io = CallerIo::new(io, first, Arc::clone(&talk), Arc::clone(&limits), connection.notes.clone());
    let mut builder = http1::Builder::new();
    // The gate has the limits and the timers; the parser only needs room for what passes it.
    builder.header_read_timeout(None).max_buf_size(limits.header_size + SLACK);
    if limits.header_fields != HYPER_FIELDS {
        builder.max_headers(limits.header_fields);
    }
    let handler = Arc::clone(&connection);
    let service = service_fn(move |request: Request<Incoming>| Arc::clone(&handler).handle(request));
    let mut serving = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
    let ended = tokio::select! {
        _ = &mut serving => true,
        _ = phase.wait_for(|phase| *phase >= Phase::Draining) => false,
    };
    if !ended {
        talk.drain();
        let _ = (&mut serving).await;
    }
    let tunnel = connection.tunnel.lock().take();
    if let Some(tunnel) = tunnel {
        let _ = tunnel.await;
    } else if talk.lingers()
        && let Some(parts) = serving.into_parts()
    {
        linger(parts.io.into_inner().into_inner()).await;
    }
}

async fn serve_http2<IO, B>(
    io: IO,
    caller: Caller,
    (edge, closed): (Arc<HttpEdge<B>>, Arc<Notify>),
    limits: &HttpLimits,
    phase: &mut watch::Receiver<Phase>,
) where
    IO: AsyncRead + AsyncWrite + Cut + Send + Unpin + 'static,
    B: Backend,
{
    let backend = Arc::clone(&edge.backend);
    let connection = Arc::new(Connection::new(edge, caller, None, closed));
    let streams = Streams::new(limits, connection.notes.clone());
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.requests_per_connection)
        .max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout)
        .enable_connect_protocol();
    let service = service_fn(move |request: Request<Incoming>| Arc::clone(&connection).handle(request));
    let (io, cut) = Guarded::new(io);
    let over = |ended: hyper::Result<()>| {
        let silent = ended.is_err_and(|error| error.is_timeout()); // a ping was not answered
        if silent {
            backend.note(Note::Limit("ping_timeout"));
        }
        cut.store(silent, Ordering::Relaxed);
    };
    let mut serving = pin!(builder.serve_connection(TokioIo::new(io), service));
    let flooded = tokio::select! {
        ended = serving.as_mut() => return over(ended),
        () = streams.flooded() => true,
        () = streams.idle(limits.idle_timeout) => false,
        _ = phase.wait_for(|phase| *phase >= Phase::Draining) => false,
    };
    serving.as_mut().graceful_shutdown();
    if flooded {
        backend.note(Note::ResetFlood);
        let _ = timeout(FAREWELL, serving).await;
        return;
    }
    tokio::select! {
        ended = serving.as_mut() => over(ended),
        () = streams.flooded() => {}
    }
}

/// Reads for a little while, so that a caller that is still sending gets to read our answer: closing a socket with unread
/// octets resets it, and a reset takes the answer away.
async fn linger<IO: AsyncRead + Unpin>(mut io: IO) {
    let mut room = [0; 4096];
    let reading = async {
        let mut left = LINGER_SIZE;
        while let Ok(count @ 1..) = io.read(&mut room).await {
            left = left.saturating_sub(count);
            if left == 0 {
                return;
            }
        }
    };
    let _ = timeout(LINGER_TIME, reading).await;
}

/// Room for what a body has in flight behind a head of full size.
const SLACK: usize = 64 << 10;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Small, so that a caller that takes nothing is seen by what it was handed.
const SEND_BUFFER: usize = 64 << 10;
const PENDING_RESETS: usize = 20;
const LOCAL_RESETS: usize = 100;
const FAREWELL: Duration = Duration::from_secs(1);
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_SIZE: usize = 1 << 20;
