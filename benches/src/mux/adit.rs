//! Adit over tokio.

use core::time::Duration;
use std::io;

use adit_core::{Config, Open, ResumeOffer, Secret, SessionId, tls::ALPN};
use adit_tokio::{Event, NetworkSession, SocketOptions, accept, connect_over};
use bytes::Bytes;

use super::{Dialer, Stream, serve};
use crate::{loopback, pair::hello, secure::Credentials};

/// The network's end.
#[derive(Clone, Debug)]
pub struct Adit(NetworkSession);

/// Joins two ends over loopback, with TLS and the default options of sockets; `resumable` says whether both keep what is not acknowledged.
///
/// # Errors
/// When they cannot be joined.
pub async fn over_loopback(resumable: bool) -> io::Result<Adit> {
    let Credentials { client, server } = Credentials::new(ALPN);
    let (dialed, accepted) = loopback::sockets().await?;
    let options = SocketOptions::link();
    options.apply(&dialed)?;
    options.apply(&accepted)?;
    let network = tokio::spawn(async move {
        let incoming = accept(accepted, server, Config::network(), 1).await.map_err(io::Error::other)?;
        let mut welcome = incoming.welcome(SessionId([3; 16]), "local", "node-1");
        let offer = ResumeOffer { secret: Secret::new([9; 16]), window: Duration::from_secs(30) };
        welcome.resume = resumable.then_some(offer);
        io::Result::Ok(incoming.accept(welcome))
    });
    let tls = (client, Credentials::name());
    let agent = connect_over(dialed, tls, Config::agent(), hello(), 2).await;
    let (agent, mut events, _) = agent.map_err(io::Error::other)?;
    tokio::spawn(async move {
        let _agent = agent;
        while let Some(event) = events.next().await {
            if let Event::Opened(stream) = event {
                tokio::spawn(serve(stream));
            }
        }
    });
    let (network, mut events) = network.await??;
    tokio::spawn(async move { while events.next().await.is_some() {} });
    Ok(Adit(network))
}

impl Dialer for Adit {
    type Stream = adit_tokio::Stream;

    async fn open(&self) -> io::Result<Self::Stream> {
        self.0.open(Open::default()).map_err(io::Error::other)
    }
}

impl Stream for adit_tokio::Stream {
    async fn send(&mut self, mut data: Bytes) -> io::Result<()> {
        self.write_bytes(&mut data).await
    }

    async fn receive(&mut self) -> io::Result<Option<Bytes>> {
        self.read_bytes(usize::MAX).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        (**self).finish()
    }
}
