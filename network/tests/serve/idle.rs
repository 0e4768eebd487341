//! V26: octets that move no handshake on, at every place of it, on both listeners.

use core::{net::SocketAddr, time::Duration};
use std::{fs, sync::Arc, time::Instant};

use rustls::{
    ClientConfig, ClientConnection, NamedGroup, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::support::Network;

/// Records that are whole and move no handshake on.
const IDLE: [(&str, &[u8]); 6] = [
    ("close_notify", &[21, 3, 3, 0, 2, 1, 0]),
    ("a warning", &[21, 3, 3, 0, 2, 1, 90]),
    ("a fatal alert", &[21, 3, 3, 0, 2, 2, 40]),
    ("an empty handshake record", &[22, 3, 3, 0, 0]),
    ("empty data", &[23, 3, 3, 0, 0]),
    ("change_cipher_spec", &[20, 3, 3, 0, 1, 1]),
];

/// Who waits costs nothing, and waits for the deadline at the most: a loop would cost a second of processor each.
#[tokio::test(flavor = "multi_thread")]
async fn what_moves_no_handshake_on_ends_by_the_deadline_and_costs_next_to_nothing() {
    let network = Network::start("limits: {handshake_timeout: 1s}\n");
    for (listener, name, alpn) in [("https", "localhost", "h2"), ("ingress", "localhost", "adit/1")] {
        let (address, config) = (network.address(listener), client(&network, alpn));
        let first = said(&mut hello(&config, name));
        let (cpu, mut count, began) = (network.cpu(), 0, Instant::now());
        let mut running = JoinSet::new();
        // All of the ClientHello, octet by octet; then what follows it, which a handshake comes first for.
        for (flight, length) in [(0, first.len()), (1, 100)] {
            for cut in 0..=length {
                for (what, record) in IDLE {
                    let (config, record) = (Arc::clone(&config), record.repeat(100));
                    running.spawn(async move {
                        let ended = timeout(DEADLINE, call(address, &config, name, (flight, cut), &record)).await;
                        assert!(ended.is_ok(), "{what} after {cut} octets of flight {flight} of {listener}");
                    });
                    count += 1;
                    if running.len() >= TOGETHER {
                        running.join_next().await.unwrap().unwrap();
                    }
                }
            }
        }
        while let Some(done) = running.join_next().await {
            done.unwrap();
        }

        let cost = network.cpu() - cpu;
        assert!(cost < EACH * count, "{listener}: {cost:?} for {count} in {:?}", began.elapsed());
    }
    assert!(network.admin("/metrics").contains("adit_panics_total 0\n"));
}

/// Says a part of a handshake and then what leads nowhere, until the network has had enough.
async fn call(address: SocketAddr, config: &Arc<ClientConfig>, name: &'static str, at: (u32, usize), idle: &[u8]) {
    let (flight, cut) = at;
    let mut socket = TcpStream::connect(address).await.unwrap();
    let mut tls = hello(config, name);
    let mut flight_now = said(&mut tls);
    if flight == 1 {
        socket.write_all(&flight_now).await.unwrap();
        while tls.is_handshaking() {
            let mut octets = vec![0; 4_096];
            let Ok(count @ 1..) = socket.read(&mut octets).await else { return };
            tls.read_tls(&mut &octets[..count]).unwrap();
            if tls.process_new_packets().is_err() {
                return; // `localhost` has no certificate at this listener: an alert has come
            }
        }
        flight_now = said(&mut tls);
    }
    let cut = cut.min(flight_now.len());
    let octets = [&flight_now[..cut], idle].concat();
    // The network may have closed before it has read all.
    if socket.write_all(&octets).await.is_ok() {
        let _ = socket.read_to_end(&mut Vec::new()).await;
    }
}

fn hello(config: &Arc<ClientConfig>, name: &'static str) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), ServerName::try_from(name).unwrap()).unwrap()
}

fn said(tls: &mut ClientConnection) -> Vec<u8> {
    let mut octets = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut octets).unwrap();
    }
    octets
}

fn client(network: &Network, alpn: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(network.folder.join("ca/ca.pem")).unwrap()).unwrap();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519); // a short hello has fewer places
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    Arc::new(config)
}

impl Network {
    /// Returns the processor time that the process has had.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10) // USER_HZ is 100 on Linux
    }
}

/// A handshake may take 1 s; the rest is the machine's.
const DEADLINE: Duration = Duration::from_secs(15);
/// Half of a second's processor time would be a loop of half of a handshake's time.
const EACH: Duration = Duration::from_millis(30);
const TOGETHER: usize = 400;
