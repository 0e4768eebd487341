//! The way to a server: a TCP connection, or what a proxy made of one.

use alloc::{
    boxed::Box,
    string::{String, ToString as _},
    sync::Arc,
    vec,
};
use core::{
    future::poll_fn,
    net::SocketAddr,
    task::{Context, Poll},
};
use std::io::{self, IoSlice};

use rustls::pki_types::ServerName;

use super::{Forward, Handshake, Proxy, ProxyError, ProxyProtocol, covered::Covered};
use crate::{
    ConnectError, ConnectOptions, Runtime, Step,
    connect::{connect_told, peer},
    steps::Steps,
    timer::within,
};
use adit_core::driver::Transport;

/// A connection to a server, through a proxy where one is needed; nothing is secured yet.
#[derive(Debug)]
pub struct Path<T>(Inner<T>);

#[derive(Debug)]
enum Inner<T> {
    Plain(T),
    /// In TLS with a proxy.
    Covered(Box<Covered<T>>),
}

/// Connects to `host`, a name or an address, at `port`, through the proxy if there is one for it, as an
/// [`Uplink`](crate::Uplink) does: whatever is said then is said to the server. The name is resolved at the proxy.
///
/// # Errors
/// [`ConnectError`]; what concerns a proxy is [`ConnectError::Proxy`].
pub async fn reach<R: Runtime>(
    host: &str,
    port: u16,
    options: &ConnectOptions,
) -> Result<Path<R::Socket>, ConnectError> {
    Ok(reach_told::<R>(host, port, options, &Steps::default()).await?.0)
}

/// Connects for one request in plain HTTP: to the server, or to a proxy that takes such requests for others and is told of
/// itself by the [`Forward`].
///
/// Such a proxy is not asked for a way: many give CONNECT to port 443 alone, and expect the whole URL of what is not TLS
/// (RFC 9112, section 3.2.2). SOCKS opens a way as for anything.
///
/// # Errors
/// [`ConnectError`]; what concerns a proxy is [`ConnectError::Proxy`].
pub async fn reach_http<R: Runtime>(
    host: &str,
    port: u16,
    options: &ConnectOptions,
) -> Result<(Path<R::Socket>, Option<Forward>), ConnectError> {
    let steps = Steps::default();
    let takes_requests = |proxy: &&Proxy| proxy.protocol != ProxyProtocol::Socks5 && proxy.carries(host, port);
    let Some(proxy) = options.proxy.as_ref().filter(takes_requests) else {
        return Ok((reach_told::<R>(host, port, options, &steps).await?.0, None));
    };
    let (path, _) = through::<R>(proxy, None, options, &steps).await?;
    Ok((path, Some(Forward::new(proxy))))
}

/// Connects to the network, through the proxy if there is one for it; tells the address that was dialed, and notes the steps.
///
/// # Errors
/// [`ConnectError`]; what concerns a proxy is [`ConnectError::Proxy`].
pub(crate) async fn reach_told<R: Runtime>(
    host: &str,
    port: u16,
    options: &ConnectOptions,
    steps: &Steps,
) -> Result<(Path<R::Socket>, SocketAddr), ConnectError> {
    match options.proxy.as_ref().filter(|proxy| proxy.carries(host, port)) {
        Some(proxy) => through::<R>(proxy, Some((host, port)), options, steps).await,
        None => {
            let tcp = connect_told::<R>(host, port, options, steps).await?;
            let remote = peer::<R>(&tcp).ok_or(ConnectError::Timeout)?;
            Ok((Path(Inner::Plain(R::Socket::from(tcp))), remote))
        }
    }
}

/// Connects to a proxy, and asks it for a way to `wanted` unless it is spoken to itself.
async fn through<R: Runtime>(
    proxy: &Proxy,
    wanted: Option<(&str, u16)>,
    options: &ConnectOptions,
    steps: &Steps,
) -> Result<(Path<R::Socket>, SocketAddr), ConnectError> {
    let failed = |error| ConnectError::Proxy { proxy: proxy.to_string(), error };
    let dialed = connect_told::<R>(&proxy.host, proxy.port, options, steps).await;
    let tcp = dialed.map_err(|error| failed(ProxyError::Unreachable(Box::new(error))))?;
    let remote = peer::<R>(&tcp).ok_or_else(|| failed(ProxyError::Closed))?;
    steps.begin(Step::Proxy);
    // As long as connecting may take, once more: now it is the proxy that connects.
    let opened = within::<R, _>(options.timeout, open(R::Socket::from(tcp), proxy, wanted)).await;
    let path = opened.unwrap_or(Err(ProxyError::Silent)).map_err(failed)?;
    steps.done(proxy.to_string());
    Ok((path, remote))
}

/// Agrees on TLS with the proxy if it speaks that, and asks it for the way that is wanted.
async fn open<T: Transport>(io: T, proxy: &Proxy, wanted: Option<(&str, u16)>) -> Result<Path<T>, ProxyError> {
    let handshake = wanted.map(|(host, port)| Handshake::new(proxy, host, port)).transpose()?;
    let mut path = match (proxy.protocol, &proxy.tls) {
        (ProxyProtocol::Http | ProxyProtocol::Socks5, _) => Path(Inner::Plain(io)),
        (ProxyProtocol::Https, Some(tls)) => {
            let name = ServerName::try_from(proxy.host.as_str()).map(|name| name.to_owned());
            let name = name.map_err(|error| ProxyError::Tls(rustls::Error::General(error.to_string())))?;
            Path(Inner::Covered(Box::new(Box::pin(Covered::secure(io, Arc::clone(tls), name)).await?)))
        }
        (ProxyProtocol::Https, None) => {
            return Err(ProxyError::Tls(rustls::Error::General(String::from("nobody says whom it must be"))));
        }
    };
    let Some(mut handshake) = handshake else { return Ok(path) };
    let failed = |error: io::Error| ProxyError::Io(error.kind());
    let mut scratch = vec![0; SCRATCH];
    loop {
        while let Some(mut octets) = handshake.poll_output() {
            let written = write(&mut path, &octets).await;
            octets.fill(0); // a password may be among them
            written.map_err(failed)?;
        }
        if handshake.is_done() {
            return Ok(path);
        }
        let count = poll_fn(|cx| path.poll_read(cx, &mut scratch)).await.map_err(failed)?;
        handshake.handle_input(scratch.get(..count).unwrap_or_default())?;
    }
}

async fn write(io: &mut impl Transport, mut octets: &[u8]) -> io::Result<()> {
    while !octets.is_empty() {
        match poll_fn(|cx| io.poll_write(cx, &[IoSlice::new(octets)])).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => octets = octets.get(count..).unwrap_or_default(),
        }
    }
    Ok(())
}

impl<T: Transport> Path<T> {
    /// Writes what waits within TLS with a proxy, if anything does.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Inner::Plain(_) => Poll::Ready(Ok(())),
            Inner::Covered(io) => io.poll_flush(cx),
        }
    }
}

impl<T: Transport> Transport for Path<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Inner::Plain(io) => io.poll_read(cx, buffer),
            Inner::Covered(io) => io.poll_read(cx, buffer),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Inner::Plain(io) => io.poll_write(cx, buffers),
            Inner::Covered(io) => io.poll_write(cx, buffers),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Inner::Plain(io) => io.poll_close(cx),
            Inner::Covered(io) => io.poll_close(cx),
        }
    }

    fn abort(&mut self) {
        match &mut self.0 {
            Inner::Plain(io) => io.abort(),
            Inner::Covered(io) => io.abort(),
        }
    }
}

/// Octets that are read of a proxy at once.
const SCRATCH: usize = 2 << 10;
