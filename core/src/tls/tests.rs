//! What makes no progress is an error or waits; it is never a loop (V26). Each call is counted by what it hands on and by the
//! octets that it leaves, so that a loop is one that never returns.

use alloc::{vec, vec::Vec};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{PrivateKeyDer, ServerName},
};

use super::*;

/// Records that are whole and move no handshake on: what they are, and what they are for.
const IDLE: [(&str, &[u8]); 6] = [
    ("close_notify", &[21, 3, 3, 0, 2, 1, 0]),
    ("a warning", &[21, 3, 3, 0, 2, 1, 90]),
    ("a fatal alert", &[21, 3, 3, 0, 2, 2, 40]),
    ("an empty handshake record", &[22, 3, 3, 0, 0]),
    ("empty data", &[23, 3, 3, 0, 0]),
    ("change_cipher_spec", &[20, 3, 3, 0, 1, 1]),
];
const REPEATED: usize = 1_000;

#[test]
fn what_comes_at_any_octet_of_a_handshake_moves_nothing_on_and_ends_it_or_waits() {
    let (client, server) = configs();
    let flights = flights(&client, &server);
    for (at, flight) in flights.iter().enumerate() {
        for cut in 0..=flight.len() {
            for (what, record) in IDLE {
                let mut pair = Pair::new(&client, &server);
                for _ in 0..at {
                    pair.exchange();
                }
                let whole = pair.next(at);
                let cut = cut.min(whole.len()); // signatures are of one octet more or less
                let idle = record.repeat(REPEATED);
                let tls = pair.reader(at);
                let mut handed = 0;

                // The core feeds what a read gives: in one piece, and in pieces.
                let began = tls.read(&whole[..cut], |plain| handed += plain.len());
                let moved =
                    began.and_then(|()| idle.chunks(7).try_for_each(|part| tls.read(part, |it| handed += it.len())));

                assert_eq!(handed, 0, "{what} after {cut} octets of flight {at} is no data");
                let is_over = moved.is_err() || tls.peer_closed();
                assert!(
                    is_over || tls.is_handshaking() || cut == whole.len(),
                    "{what} after {cut} octets of flight {at}"
                );
                let mut out = Vec::new();
                while tls.wants_write() {
                    let before = out.len();
                    assert!(
                        tls.write_to(&mut out).is_ok() && before < out.len(),
                        "what wants to be written is written"
                    );
                }
                assert!(out.len() < 20_000, "{what} makes us say {} octets", out.len());
            }
        }
    }
}

#[test]
fn after_close_notify_nothing_is_read_and_empty_data_has_an_end() {
    let (client, server) = configs();
    let mut pair = Pair::new(&client, &server);
    while pair.client.is_handshaking() || pair.server.is_handshaking() {
        pair.exchange();
    }
    pair.client.close();
    let mut last = drain(&mut pair.client);
    last.extend(b"not even a record".repeat(10_000));
    let mut handed = 0;

    assert_eq!(pair.server.read(&last, |plain| handed += plain.len()), Ok(()), "what follows the end is not looked at");

    assert!(pair.server.peer_closed());
    assert_eq!(handed, 0);
}

/// Both sides, and whose turn it is.
struct Pair {
    client: Tls,
    server: Tls,
    turn: usize,
}

impl Pair {
    fn new(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let client = Tls::client(Arc::clone(client), name).unwrap();
        Self { client, server: Tls::server(Arc::clone(server)).unwrap(), turn: 0 }
    }

    /// Lets one side say what it has to say, and the other hear it.
    fn exchange(&mut self) {
        let turn = self.turn;
        let flight = self.next(turn);
        self.reader(turn).read(&flight, |_| ()).unwrap();
        self.turn += 1;
    }

    fn next(&mut self, turn: usize) -> Vec<u8> {
        drain(if turn.is_multiple_of(2) { &mut self.client } else { &mut self.server })
    }

    fn reader(&mut self, turn: usize) -> &mut Tls {
        if turn.is_multiple_of(2) { &mut self.server } else { &mut self.client }
    }
}

/// Everything that a handshake says, flight by flight, the client's first.
fn flights(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Vec<Vec<u8>> {
    let (mut pair, mut flights) = (Pair::new(client, server), Vec::new());
    while pair.client.is_handshaking() || pair.server.is_handshaking() {
        let turn = flights.len();
        let flight = pair.next(turn);
        pair.reader(turn).read(&flight, |_| ()).unwrap();
        flights.push(flight);
    }
    assert_eq!(flights.len(), 3);
    flights
}

fn drain(tls: &mut Tls) -> Vec<u8> {
    let mut out = Vec::new();
    while tls.wants_write() {
        tls.write_to(&mut out).unwrap();
    }
    out
}

fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let mut provider = default_provider();
    provider.kx_groups.retain(|group| group.name() == rustls::NamedGroup::X25519); // a short handshake
    let provider = Arc::new(provider);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".into()]).unwrap().self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let server = server_config(vec![certificate.der().clone()], key, Arc::clone(&provider)).unwrap();
    (Arc::new(client_config(roots, provider).unwrap()), Arc::new(server))
}
