//! TLS as the state machine that it is: ciphertext in, plaintext out, and the other way round. rustls 0.23, buffered.

mod config;

use alloc::{borrow::ToOwned, string::String, sync::Arc};
use std::io::{self, BufRead, IoSlice, Write};

use rustls::{
    ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, ServerName},
};

pub use config::{client_config, danger_client_config, server_config};

/// The application protocol that both sides must agree on.
pub const ALPN: &[u8] = b"adit/1";

/// One TLS connection without a transport.
#[derive(Debug)]
pub struct Tls {
    connection: Connection,
    peer_closed: bool,
}

/// What a handshake said of the peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The certificate that it showed: the network's, at the agent.
    pub certificate: Option<CertificateDer<'static>>,
    /// The name that it asked for (SNI): the agent's wish, at the network.
    pub name: Option<String>,
}

impl Tls {
    /// Starts the dialing side.
    ///
    /// # Errors
    /// What rustls finds wrong with the configuration.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, rustls::Error> {
        ClientConnection::new(config, name).map(|connection| Self::new(connection.into()))
    }

    /// Starts the listening side.
    ///
    /// # Errors
    /// What rustls finds wrong with the configuration.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        ServerConnection::new(config).map(|connection| Self::new(connection.into()))
    }

    fn new(mut connection: Connection) -> Self {
        // What waits is bounded by the caller, who seals at most one batch before it is written.
        connection.set_buffer_limit(None);
        Self { connection, peer_closed: false }
    }

    /// Takes ciphertext that arrived and hands every piece of plaintext in it to `plain`.
    ///
    /// # Errors
    /// What rustls finds wrong; an alert for the peer may wait to be written.
    pub fn read(&mut self, mut cipher: &[u8], mut plain: impl FnMut(&[u8])) -> Result<(), rustls::Error> {
        while !cipher.is_empty() && !self.peer_closed {
            let before = cipher.len();
            if self.connection.read_tls(&mut cipher).is_err() || cipher.len() == before {
                return Err(rustls::Error::General("no progress on input".into()));
            }
            let state = self.connection.process_new_packets()?;
            self.peer_closed = state.peer_has_closed();
            let readable = state.plaintext_bytes_to_read() > 0;
            // What came in one read with the end of a handshake is no more ours than the handshake was.
            if readable && self.has_alpn() {
                let mut reader = self.connection.reader();
                while let Ok(chunk) = reader.fill_buf() {
                    let length = chunk.len();
                    if length == 0 {
                        break;
                    }
                    plain(chunk);
                    reader.consume(length);
                }
            }
        }
        Ok(())
    }

    /// Encrypts the parts as if they stood in one piece. At most 16,384 octets together make one record.
    pub fn seal(&mut self, parts: &[IoSlice<'_>]) {
        let wanted: usize = parts.iter().map(|part| part.len()).sum();
        let sealed = self.connection.writer().write_vectored(parts);
        debug_assert_eq!(sealed.ok(), Some(wanted), "the buffer has no limit");
    }

    /// Returns whether ciphertext waits to be written.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Writes ciphertext to `io` once.
    ///
    /// # Errors
    /// What `io` returns.
    pub fn write_to(&mut self, io: &mut dyn Write) -> io::Result<usize> {
        self.connection.write_tls(io)
    }

    /// Tells the peer that nothing more will be sent.
    pub fn close(&mut self) {
        self.connection.send_close_notify();
    }

    /// Returns whether the handshake is not complete.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Returns whether the peer has said that nothing more will come.
    pub const fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Returns whether both sides agreed on [`ALPN`].
    pub fn has_alpn(&self) -> bool {
        self.connection.alpn_protocol() == Some(ALPN) // spec: TLS-002
    }

    /// Returns what a completed handshake said of the peer.
    pub fn peer(&self) -> Peer {
        let certificate = self.connection.peer_certificates().and_then(<[_]>::first);
        let name = match &self.connection {
            Connection::Server(connection) => connection.server_name().map(ToOwned::to_owned),
            Connection::Client(_) => None,
        };
        Peer { certificate: certificate.map(|certificate| certificate.clone().into_owned()), name }
    }

    /// Returns the underlying connection, for what it knows of the peer.
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }
}

#[cfg(test)]
mod tests;
