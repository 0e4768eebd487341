//! TLS between two sides that speak it, and the links above it.

use std::{
    io::IoSlice,
    sync::{Arc, OnceLock},
};

use adit_core::{
    Config, Event, Instant, Link, Loss, Open, ReadError, Role, SessionId, Side,
    side::{Agent, Network},
    testing::a_hello,
    tls::{Tls, client_config, server_config},
};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};

use crate::{Choices, model::pattern};

/// Any pieces give the same session; one octet that is another, and nothing from there on is taken.
pub fn tls(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    match choices.number::<u8>() % 4 {
        0 => stranger(&mut choices),
        _ => session(&mut choices),
    }
}

/// Returns both sides of a new connection.
pub(crate) fn pair() -> (Tls, Tls) {
    static CONFIGS: OnceLock<(Arc<ClientConfig>, Arc<ServerConfig>)> = OnceLock::new();
    let (client, server) = CONFIGS.get_or_init(configs);
    let name = "network.test".try_into().expect("a name");
    let client = Tls::client(Arc::clone(client), name).expect("a configuration that fits");
    (client, Tls::server(Arc::clone(server)).expect("a configuration that fits"))
}

/// Octets of anybody, at either side.
fn stranger(choices: &mut Choices<'_>) {
    let (mut client, mut server) = pair();
    let side = if choices.coin() { &mut client } else { &mut server };
    while !choices.is_over() {
        let count = choices.between(1, 300);
        let result = side.read(choices.octets(count), |plain| panic!("{plain:?} before a handshake"));
        if result.is_err() {
            break;
        }
        assert!(side.is_handshaking());
    }
    let mut alert = Vec::new();
    while side.wants_write() {
        assert!(side.write_to(&mut alert).is_ok_and(|count| count > 0));
    }
    assert!(!side.has_alpn());
}

/// Two links, octet by octet as the choices say.
fn session(choices: &mut Choices<'_>) {
    let (client, server) = pair();
    let mut agent = End::new(client, Link::<Agent>::new(Config::agent(), a_hello(), 1, NOW));
    let mut network = End::new(server, Link::<Network>::new(Config::network(), 2, NOW));
    let length = choices.size(40_000);
    let mut tamper = choices.maybe(|choices| choices.size(6_000));
    let (mut stream, mut harmed) = (None, false);
    loop {
        agent.say();
        network.say();
        network.consent();
        if network.link.is_established() && agent.link.is_established() && stream.is_none() {
            stream = Some(network.write(length));
            network.say();
        }
        let up = if choices.coin() { !agent.out.is_empty() } else { network.out.is_empty() };
        let count = if choices.is_over() { usize::MAX } else { 1 + choices.size(3_000) };
        let mut piece = if up { agent.take(count) } else { network.take(count) };
        if piece.is_empty() || agent.failed || network.failed {
            break;
        }
        if let Some(after) = tamper {
            if let Some(octet) = piece.get_mut(after) {
                *octet ^= 1 << choices.below(8);
                harmed = stream.is_some(); // parts of a handshake are not protected, and mean nothing
            }
            tamper = after.checked_sub(piece.len());
        }
        if up {
            network.hear(&piece);
        } else {
            agent.hear(&piece);
        }
    }
    assert!(network.sealed.starts_with(&agent.opened), "what arrives is what was sent");
    assert!(agent.sealed.starts_with(&network.opened), "what arrives is what was sent");
    let whole = (agent.opened.len(), network.opened.len()) == (network.sealed.len(), agent.sealed.len());
    assert!(!harmed || !whole, "an octet that is another was not noticed");
    if let Some(id) = stream.filter(|_| whole) {
        let session = agent.link.session_mut().expect("established");
        let mut read = 0;
        while let Ok(Some(chunk)) = session.read(id, usize::MAX) {
            assert!(chunk == pattern(id.number(), Role::Network, read, chunk.len()), "L4");
            read += chunk.len();
        }
        assert_eq!((read, session.read(id, 1)), (length, Ok(None)), "L4");
    }
}

/// One side: its link, its TLS, and what it wrote that is on its way.
struct End<S: Side> {
    tls: Tls,
    link: Link<S>,
    out: Vec<u8>,
    sealed: Vec<u8>,
    opened: Vec<u8>,
    failed: bool,
}

impl<S: Side> End<S> {
    fn new(tls: Tls, link: Link<S>) -> Self {
        Self { tls, link, out: Vec::new(), sealed: Vec::new(), opened: Vec::new(), failed: false }
    }

    fn say(&mut self) {
        if !self.tls.is_handshaking() && !self.failed {
            let mut written = 0;
            while let Some(frame) = self.link.poll_transmit(NOW) {
                self.tls.seal(&[IoSlice::new(frame.header()), IoSlice::new(frame.payload())]);
                frame.write(&mut self.sealed);
                written += frame.len();
            }
            self.link.handle_written(written, 0, NOW);
        }
        while self.tls.wants_write() {
            assert!(self.tls.write_to(&mut self.out).is_ok_and(|count| count > 0));
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.out.drain(..count.min(self.out.len())).collect()
    }

    fn hear(&mut self, cipher: &[u8]) {
        let (link, opened) = (&mut self.link, &mut self.opened);
        let result = self.tls.read(cipher, |plain| {
            opened.extend_from_slice(plain);
            link.handle_input(plain, NOW);
        });
        if result.is_err() {
            self.failed = true;
            self.link.handle_loss(Loss::Tls, NOW);
        }
    }
}

impl End<Network> {
    fn consent(&mut self) {
        while let Some(event) = self.link.poll_event() {
            if let Event::Hello(request) = event {
                let welcome = request.welcome(SessionId([7; 16]), "local", "node-1");
                self.link.accept(request, welcome, NOW);
            }
        }
    }

    /// Opens a stream and writes so many octets to it.
    fn write(&mut self, length: usize) -> adit_core::StreamId {
        let session = self.link.session_mut().expect("established");
        let id = session.open(Open::default()).expect("the first");
        let mut octets = pattern(id.number(), Role::Network, 0, length);
        assert_eq!(session.write(id, &mut octets), Ok(length));
        assert_eq!((session.finish(id), session.read(id, 1)), (Ok(()), Err(ReadError::Blocked)));
        id
    }
}

fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    // Signatures of this kind have one length, so that the same choices always mean the same octets.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let params = rcgen::CertificateParams::new(vec![String::from("network.test")]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("a root");
    let client = client_config(roots, Arc::clone(&provider)).expect("TLS 1.3");
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let server = server_config(vec![certificate.der().clone()], key, provider).expect("a key that fits");
    (Arc::new(client), Arc::new(server))
}

const NOW: Instant = Instant::from_nanos(1_000_000_000);
