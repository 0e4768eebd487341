//! Sessions over any tokio transport.

use std::sync::Arc;

use adit_core::{Config, Hello, Welcome, side};
use adit_runtime as shared;
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{AgentSession, Events, Incoming, Io, SetupError};

/// Secures a connection that an agent made and waits for its HELLO. The handshake timeout of `config` bounds all of it.
///
/// # Errors
/// [`SetupError`]: the connection is closed.
pub async fn accept<T>(io: T, tls: Arc<ServerConfig>, config: Config, seed: u64) -> Result<Incoming, SetupError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    shared::accept(Io(io), tls, config, seed).await
}

/// Secures a connection to the network and asks for a session. The handshake timeout of `config` bounds all of it.
///
/// # Errors
/// [`SetupError`]: the connection is closed.
pub async fn connect_over<T>(
    io: T,
    tls: (Arc<ClientConfig>, ServerName<'static>),
    config: Config,
    hello: Hello,
    seed: u64,
) -> Result<(AgentSession, Events<side::Agent>, Welcome), SetupError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    shared::connect_over(Io(io), tls, config, hello, seed).await
}
