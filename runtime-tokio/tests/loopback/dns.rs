//! Names resolved by servers that are named, over real datagrams and streams.

use core::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    sync::Arc,
    thread,
};

use crate::rt::{
    adit::{ConnectError, ConnectOptions, Resolver, connect, resolve},
    run,
};

/// What a server answers to a question: its code, flags of truncation, and addresses of version 4.
type Says = fn(asked: usize) -> (u8, bool, Vec<[u8; 4]>);

/// A DNS server in threads of its own, which end with the process.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn start(says: Says) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
                let number = count.fetch_add(1, Ordering::Relaxed);
                let answer = answer(&buffer[..length], says(number));
                let mut forged = answer.clone();
                forged[0] ^= 1;
                let _ = udp.send_to(&forged, peer); // somebody who guessed wrong
                let _ = udp.send_to(&answer, peer);
            }
        });
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut question = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut question).unwrap();
                let (code, _, addresses) = says(usize::MAX);
                let answer = answer(&question, (code, false, addresses));
                let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                stream.write_all(&[&length[..], &answer].concat()).unwrap();
            }
        });
        Self { address, asked }
    }

    fn options(&self) -> ConnectOptions {
        options(vec![self.address])
    }
}

fn options(servers: Vec<SocketAddr>) -> ConnectOptions {
    let mut options = ConnectOptions::default();
    options.resolver = Some(Resolver::new(servers));
    options
}

fn answer(question: &[u8], (code, truncated, addresses): (u8, bool, Vec<[u8; 4]>)) -> Vec<u8> {
    let is_v4 = question[question.len() - 3] == 1;
    let addresses = if is_v4 { addresses } else { Vec::new() };
    let mut message = question.to_vec();
    message[2] = 0x81 | if truncated { 2 } else { 0 };
    message[3] = 0x80 | code;
    message[7] = u8::try_from(addresses.len()).unwrap();
    for address in addresses {
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        message.extend_from_slice(&address);
    }
    message
}

const HERE: [u8; 4] = [127, 0, 0, 1];

#[test]
fn a_name_has_the_addresses_that_the_server_says_each_time_anew() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Each attempt asks for both versions.
        let server = Server::start(|asked| (0, false, if asked < 2 { vec![[127, 0, 0, 9]] } else { vec![HERE] }));

        let error = connect("node.test", port, &server.options()).await.unwrap_err();
        assert_eq!(error, ConnectError::Refused { address: ([127, 0, 0, 9], port).into() });
        let stream = connect("node.test", port, &server.options()).await.unwrap();

        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        assert_eq!(server.asked.load(Ordering::Relaxed), 4);
    });
}

#[test]
fn an_answer_that_is_too_long_for_a_datagram_comes_over_tcp() {
    run(async {
        let server = Server::start(|asked| match asked {
            usize::MAX => (0, false, vec![HERE; 60]),
            _ => (0, true, Vec::new()),
        });

        let found = resolve("node.test", &server.options()).await.unwrap();

        assert!(!found.is_empty() && found.iter().all(|address| *address == IpAddr::from(HERE)), "{found:?}");
    });
}

#[test]
fn a_server_that_is_gone_silent_or_fails_gives_way_to_the_next() {
    run(async {
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let failing = Server::start(|_| (2, false, Vec::new()));
        let good = Server::start(|_| (0, false, vec![HERE]));
        let servers = vec![gone, failing.address, silent.local_addr().unwrap(), good.address];
        let mut options = options(servers);
        if let Some(resolver) = &mut options.resolver {
            resolver.patience = Duration::from_millis(200);
        }
        options.resolve_timeout = Duration::from_secs(20);

        assert_eq!(resolve("node.test", &options).await.unwrap(), [IpAddr::from(HERE)]);
    });
}

#[test]
fn the_first_server_comes_again_after_the_last_and_then_nobody() {
    run(async {
        let [one, other] = [(); 2].map(|()| Server::start(|_| (2, false, Vec::new())));
        let mut options = options(vec![one.address, other.address]);
        options.resolve_timeout = Duration::from_secs(60);
        if let Some(resolver) = &mut options.resolver {
            resolver.patience = Duration::from_secs(10);
        }

        let error = resolve("node.test", &options).await.unwrap_err();

        assert_eq!(error, ConnectError::Resolve { host: "node.test".into(), kind: ErrorKind::InvalidData });
        // Twice for each of two kinds of addresses, and no more.
        assert_eq!([one, other].map(|server| server.asked.load(Ordering::Relaxed)), [4, 4]);
    });
}

#[test]
fn a_name_that_does_not_exist_is_no_reason_to_ask_another_server() {
    run(async {
        let (first, second) = (Server::start(|_| (3, false, Vec::new())), Server::start(|_| (0, false, vec![HERE])));

        let error = resolve("node.test", &options(vec![first.address, second.address])).await.unwrap_err();

        assert_eq!(error, ConnectError::Resolve { host: "node.test".into(), kind: ErrorKind::NotFound });
        assert_eq!(second.asked.load(Ordering::Relaxed), 0);
        assert_eq!(resolve("node.test", &second.options()).await.unwrap(), [IpAddr::from(HERE)], "nothing is kept");
    });
}

#[test]
fn this_machine_has_a_name_whoever_is_asked() {
    run(async {
        let server = Server::start(|_| (3, false, Vec::new()));

        let found = resolve("localhost", &server.options()).await.unwrap();

        assert!(found.iter().all(|address| address.is_loopback()), "{found:?}");
        assert_eq!(server.asked.load(Ordering::Relaxed), 0);
    });
}
