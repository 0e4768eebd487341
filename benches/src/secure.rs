//! Two ends of TLS joined in memory.

use std::{io::IoSlice, sync::Arc};

use adit_core::{
    frame::Encoded,
    tls::{ALPN, Tls},
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{PrivateKeyDer, ServerName},
    version::TLS13,
};

/// The configurations of both sides, with a certificate made for this run. The only cipher is AES-128-GCM, so that no
/// comparison is one of ciphers.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The dialing side.
    pub client: Arc<ClientConfig>,
    /// The listening side.
    pub server: Arc<ServerConfig>,
}

impl Credentials {
    /// Makes new ones for the application protocol `alpn`.
    ///
    /// # Panics
    /// When the cryptography refuses what is right.
    pub fn new(alpn: &[u8]) -> Self {
        let issued = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a name");
        let key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
        let provider: Arc<CryptoProvider> = Arc::new(provider);
        let mut roots = RootCertStore::empty();
        roots.add(issued.cert.der().clone()).expect("a certificate");
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let client = client.with_protocol_versions(&[&TLS13]).expect("the provider can");
        let mut client = client.with_root_certificates(roots).with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider);
        let server = server.with_protocol_versions(&[&TLS13]).expect("the provider can").with_no_client_auth();
        let mut server = server.with_single_cert(vec![issued.cert.der().clone()], key).expect("they fit");
        client.alpn_protocols = vec![alpn.to_vec()];
        server.alpn_protocols = vec![alpn.to_vec()];
        server.send_tls13_tickets = 0;
        Self { client: Arc::new(client), server: Arc::new(server) }
    }

    /// Returns the name in the certificate.
    ///
    /// # Panics
    /// Never.
    pub fn name() -> ServerName<'static> {
        ServerName::try_from(NAME).expect("a name")
    }
}

/// One side's end of a connection in memory.
#[derive(Debug)]
pub struct End {
    tls: Tls,
    cipher: Vec<u8>,
    small: Vec<u8>,
}

impl End {
    /// Joins two ends: the agent's, which dials, and the network's.
    ///
    /// # Panics
    /// When the handshake fails.
    pub fn pair() -> (Self, Self) {
        let credentials = Credentials::new(ALPN);
        let agent = Tls::client(credentials.client, Credentials::name()).expect("the configuration is right");
        let network = Tls::server(credentials.server).expect("the configuration is right");
        let (mut agent, mut network) = (Self::new(agent), Self::new(network));
        while agent.tls.is_handshaking() || network.tls.is_handshaking() {
            agent.deliver(&mut network, |_| ());
            network.deliver(&mut agent, |_| ());
        }
        (agent, network)
    }

    const fn new(tls: Tls) -> Self {
        Self { tls, cipher: Vec::new(), small: Vec::new() }
    }

    /// Encrypts one frame, as the driver does it: a large one fills its own record, small ones share one.
    pub fn seal(&mut self, frame: &Encoded) {
        if frame.len() > SMALL {
            self.flush();
            self.tls.seal(&[IoSlice::new(frame.header()), IoSlice::new(frame.payload())]);
            return;
        }
        if self.small.len() + frame.len() > RECORD {
            self.flush();
        }
        frame.write(&mut self.small);
    }

    /// Encrypts octets as they are.
    pub fn seal_octets(&mut self, octets: &[u8]) {
        self.tls.seal(&[IoSlice::new(octets)]);
    }

    /// Hands what was encrypted to `peer`, and to `plain` what that decrypts.
    ///
    /// # Panics
    /// When it cannot be decrypted.
    pub fn deliver(&mut self, peer: &mut Self, plain: impl FnMut(&[u8])) {
        self.flush();
        self.cipher.clear();
        while self.tls.wants_write() {
            self.tls.write_to(&mut self.cipher).expect("memory takes all");
        }
        peer.tls.read(&self.cipher, plain).expect("what was sealed can be opened");
    }

    /// Parts the connection from the buffers of its wire.
    pub fn part(self) -> Tls {
        self.tls
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.tls.seal(&[IoSlice::new(&self.small)]);
            self.small.clear();
        }
    }
}

const NAME: &str = "network.test";
const SMALL: usize = 4_096;
const RECORD: usize = 16_384;
