//! An agent whose every frame is the test's: it says what no agent of ours would, falls silent, or goes in its own way.

use core::time::Duration;
use std::io::{Read as _, Write as _};

use adit_tokio::proto::{
    Config, FRAME, Hello, VERSION,
    frame::{Decoder, Encoded, RawKind},
};
use rustls::{ClientConnection, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::Network;

/// One connection to the ingress.
pub(crate) struct Wire {
    pub(crate) io: TcpStream,
    /// Every frame that was heard.
    pub(crate) frames: Vec<(RawKind, Vec<u8>)>,
    tls: ClientConnection,
    decoder: Decoder,
    heard: Vec<u8>,
}

impl Wire {
    /// Connects; nothing is said.
    pub(crate) async fn dial(network: &Network) -> Self {
        Self::dial_as(network, "127.0.0.1").await
    }

    /// Connects and asks for the network by a name of its.
    pub(crate) async fn dial_as(network: &Network, name: &'static str) -> Self {
        let io = TcpStream::connect(network.address("ingress")).await.unwrap();
        let tls = ClientConnection::new(network.tls(), ServerName::try_from(name).unwrap()).unwrap();
        Self { io, frames: Vec::new(), tls, decoder: Decoder::new(FRAME), heard: Vec::new() }
    }

    /// Shakes hands; nothing is said.
    pub(crate) async fn shake(&mut self) {
        while self.tls.is_handshaking() {
            self.flush().await;
            let mut octets = vec![0; 16 << 10];
            let count = self.io.read(&mut octets).await.unwrap();
            assert!(count > 0, "the network has closed");
            let mut rest = &octets[..count];
            while !rest.is_empty() {
                self.tls.read_tls(&mut rest).unwrap();
                self.tls.process_new_packets().unwrap();
            }
        }
        self.flush().await;
    }

    /// Says a frame, or as much of it as goes out before the handshake is over: the rest follows with [`Self::hear`].
    pub(crate) async fn say(&mut self, frame: &Encoded) {
        let mut octets = Vec::new();
        frame.write(&mut octets);
        self.tls.writer().write_all(&octets).unwrap();
        self.flush().await;
    }

    /// Returns the next frame, nothing when the network has closed.
    pub(crate) async fn hear(&mut self) -> Option<(RawKind, Vec<u8>)> {
        loop {
            if let Some(frame) = self.decoded() {
                self.frames.push(frame.clone());
                return Some(frame);
            }
            self.flush().await;
            let mut octets = vec![0; 16 << 10];
            let count = self.io.read(&mut octets).await.unwrap_or(0);
            if count == 0 {
                return None;
            }
            let mut rest = &octets[..count];
            while !rest.is_empty() {
                self.tls.read_tls(&mut rest).unwrap();
                self.tls.process_new_packets().unwrap();
                let _ = self.tls.reader().read_to_end(&mut self.heard); // there is more to come
            }
        }
    }

    async fn flush(&mut self) {
        let mut octets = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut octets).unwrap();
        }
        let _ = self.io.write_all(&octets).await; // a network that is gone says so when it is read
    }

    fn decoded(&mut self) -> Option<(RawKind, Vec<u8>)> {
        let mut rest = &*self.heard;
        let frame = self.decoder.next(&mut rest).unwrap().map(|frame| (frame.header.kind, frame.payload.to_vec()));
        let left = rest.len();
        self.heard.drain(..self.heard.len() - left);
        frame
    }
}

/// Makes a hello complete for one who speaks the protocol without help.
pub(crate) fn first(hello: Hello) -> Hello {
    let limits = Config::agent().limits();
    Hello { versions: vec![VERSION], limits, resume_window: Duration::from_secs(30), ..hello }
}
