//! The accept loop over loopback: peers that fail, peers that are silent, and a process without descriptors.

use core::{net::SocketAddr, time::Duration};
use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
};

use crate::rt::{
    AsyncReadExt, AsyncWriteExt, TcpStream,
    adit::{Intake, ListenOptions, listen},
    dial, octet, run, start, timeout, unblock,
};

/// SEC-001
#[test]
fn handshakes_run_aside_and_one_that_fails_harms_no_other() {
    run(async {
        let (mut intake, address) = intake(ListenOptions::default());
        let silent = dial(address).await;
        let (_broken, _panicking) = (say(address, b'x').await, say(address, b'p').await);
        let _good = say(address, b'g').await;

        let outcome = intake.next().await;

        assert_eq!(outcome, Some(b'g'));
        while intake.stats().failed < 2 {
            assert!(timeout(Duration::from_millis(10), intake.next()).await.is_none());
        }
        let _again = say(address, b'g').await;
        assert_eq!(intake.next().await, Some(b'g'));
        let stats = intake.stats();
        assert_eq!((stats.accepted, stats.completed, stats.failed), (5, 2, 2));
        assert_eq!(intake.half_open(), 1);
        drop(silent);
    });
}

#[test]
fn a_silent_peer_is_closed_at_the_deadline() {
    run(async {
        let mut options = ListenOptions::default();
        options.handshake_timeout = Duration::from_millis(50);
        let (mut intake, address) = intake(options);
        let mut silent = dial(address).await;

        let next = start(async move { (intake.next().await, intake.stats()) });
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        let _good = say(address, b'g').await;

        let (outcome, stats) = next.await;
        assert_eq!((outcome, stats.expired), (Some(b'g'), 1));
    });
}

/// LIM-006
#[test]
fn beyond_the_cap_the_oldest_half_open_connection_gives_way() {
    run(async {
        let mut options = ListenOptions::default();
        options.half_open = 2;
        let (mut intake, address) = intake(options);
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(dial(address).await);
        }
        let _good = say(address, b'g').await;

        assert_eq!(intake.next().await, Some(b'g'));

        assert_eq!((intake.stats().shed, intake.half_open()), (2, 1));
        for old in &mut silent[..2] {
            assert_eq!(old.read(&mut [0]).await.unwrap(), 0);
        }
    });
}

#[test]
fn a_shutdown_completes_what_is_under_way_and_accepts_no_more() {
    run(async {
        let (mut intake, address) = intake(ListenOptions::default());
        let _first = say(address, b'g').await;
        let mut slow = dial(address).await;
        assert_eq!(intake.next().await, Some(b'g'));
        while intake.half_open() == 0 {
            assert!(timeout(Duration::from_millis(10), intake.next()).await.is_none());
        }

        intake.shutdown();
        slow.write_all(b"s").await.unwrap();

        assert_eq!(intake.next().await, Some(b's'));
        assert_eq!(intake.next().await, None);
        assert!(std::net::TcpStream::connect(address).is_err());
    });
}

#[test]
fn the_unspecified_address_of_ipv6_takes_ipv4_too() {
    run(async {
        let Ok(listener) = listen("[::]:0".parse().unwrap(), &ListenOptions::default()) else { return };
        let port = listener.local_addr().unwrap().port();

        for address in [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port))] {
            std::net::TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        }
    });
}

/// In a process of its own, because descriptors are counted by process.
#[test]
#[cfg(target_os = "linux")]
fn the_loop_survives_a_process_without_descriptors() {
    let mut child = Command::new("prlimit")
        .arg("--nofile=64:64")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "listen::a_process_that_runs_out_of_descriptors", "--nocapture", "--quiet"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("prlimit of util-linux");
    let (mut orders, mut answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    let mut answer = |key: &str| {
        let line = answers
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| line.split_once(key).map(|(_, rest)| rest.trim().to_owned()));
        line.expect(key)
    };
    let address: SocketAddr = answer("listening:").parse().unwrap();

    answer("exhausted");
    for _ in 0..3 {
        let mut turned_away = std::net::TcpStream::connect(address).unwrap();
        turned_away.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert!(matches!(turned_away.read(&mut [0]), Ok(0) | Err(_)), "closed, not silent");
    }
    orders.write_all(b"free\n").unwrap();
    answer("freed");
    let mut served = std::net::TcpStream::connect(address).unwrap();
    served.write_all(b"g").unwrap();

    assert_eq!(answer("served:"), "103 turned away: 3");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_process_that_runs_out_of_descriptors() {
    if std::env::var_os(CHILD).is_none() {
        return; // run by the test above
    }
    run(async {
        let (mut intake, address) = intake(ListenOptions::default());
        println!("\nlistening: {address}");
        let mut hoard: Vec<File> = core::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        let freed = unblock(move || {
            println!("\nexhausted");
            std::io::stdin().read_line(&mut String::new()).unwrap();
            hoard.clear();
            println!("\nfreed");
        });
        let served = intake.next().await.expect("a connection");
        println!("\nserved: {served} turned away: {}", intake.stats().turned_away);
        freed.await;
    });
}

const CHILD: &str = "ADIT_TEST_WITHOUT_DESCRIPTORS";

/// An intake whose handshake is one octet: `x` fails, `p` panics, anything else completes.
fn intake(options: ListenOptions) -> (Intake<u8>, SocketAddr) {
    let listener = listen("127.0.0.1:0".parse().unwrap(), &options).unwrap();
    let address = listener.local_addr().unwrap();
    let intake = Intake::new(listener, options, |mut stream, _| async move {
        match octet(&mut stream).await.ok()? {
            b'x' => None,
            b'p' => panic!("a handshake that panics"),
            octet => Some(octet),
        }
    });
    (intake, address)
}

async fn say(address: SocketAddr, octet: u8) -> TcpStream {
    let mut stream = dial(address).await;
    stream.write_all(&[octet]).await.unwrap();
    stream
}
