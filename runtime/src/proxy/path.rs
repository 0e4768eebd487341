//! The way to the network: a TCP connection, or what a proxy made of one.

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

use super::{Handshake, Proxy, ProxyError, ProxyProtocol, covered::Covered};
use crate::{
    ConnectError, ConnectOptions, Runtime, Step,
    connect::{connect_told, peer},
    steps::Steps,
    timer::within,
};
use adit_core::driver::Transport;

/// A connection to the network that is not secured yet.
#[derive(Debug)]
pub(crate) enum Path<T> {
    Plain(T),
    /// In TLS with a proxy.
    Covered(Box<Covered<T>>),
}

/// Connects to the network, through the proxy if there is one for it; tells the address that was dialed.
///
/// # Errors
/// [`ConnectError`]; what concerns a proxy is [`ConnectError::Proxy`].
pub(crate) async fn reach<R: Runtime>(
    host: &str,
    port: u16,
    options: &ConnectOptions,
    steps: &Steps,
) -> Result<(Path<R::Socket>, SocketAddr), ConnectError> {
    let Some(proxy) = options.proxy.as_ref().filter(|proxy| proxy.carries(host, port)) else {
        let tcp = connect_told::<R>(host, port, options, steps).await?;
        let remote = peer::<R>(&tcp).ok_or(ConnectError::Timeout)?;
        return Ok((Path::Plain(R::Socket::from(tcp)), remote));
    };
    let failed = |error| ConnectError::Proxy { proxy: proxy.to_string(), error };
    let dialed = connect_told::<R>(&proxy.host, proxy.port, options, steps).await;
    let tcp = dialed.map_err(|error| failed(ProxyError::Unreachable(Box::new(error))))?;
    let remote = peer::<R>(&tcp).ok_or_else(|| failed(ProxyError::Closed))?;
    steps.begin(Step::Proxy);
    // As long as connecting may take, once more: now it is the proxy that connects.
    let opened = within::<R, _>(options.timeout, open(R::Socket::from(tcp), proxy, host, port)).await;
    let path = opened.unwrap_or(Err(ProxyError::Silent)).map_err(failed)?;
    steps.done(proxy.to_string());
    Ok((path, remote))
}

/// Asks the proxy for the way.
async fn open<T: Transport>(io: T, proxy: &Proxy, host: &str, port: u16) -> Result<Path<T>, ProxyError> {
    let mut handshake = Handshake::new(proxy, host, port)?;
    let mut path = match (proxy.protocol, &proxy.tls) {
        (ProxyProtocol::Http | ProxyProtocol::Socks5, _) => Path::Plain(io),
        (ProxyProtocol::Https, Some(tls)) => {
            let name = ServerName::try_from(proxy.host.as_str()).map(|name| name.to_owned());
            let name = name.map_err(|error| ProxyError::Tls(rustls::Error::General(error.to_string())))?;
            Path::Covered(Box::new(Box::pin(Covered::secure(io, Arc::clone(tls), name)).await?))
        }
        (ProxyProtocol::Https, None) => {
            return Err(ProxyError::Tls(rustls::Error::General(String::from("nobody says whom it must be"))));
        }
    };
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

impl<T: Transport> Transport for Path<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(io) => io.poll_read(cx, buffer),
            Self::Covered(io) => io.poll_read(cx, buffer),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(io) => io.poll_write(cx, buffers),
            Self::Covered(io) => io.poll_write(cx, buffers),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(io) => io.poll_close(cx),
            Self::Covered(io) => io.poll_close(cx),
        }
    }

    fn abort(&mut self) {
        match self {
            Self::Plain(io) => io.abort(),
            Self::Covered(io) => io.abort(),
        }
    }
}

/// Octets that are read of a proxy at once.
const SCRATCH: usize = 2 << 10;
