//! What the agent says of a network that is not what it should be, as its user sees it.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use core::time::Duration;
use std::{
    process::{Command, Output, Stdio},
    sync::Arc,
};

use rcgen::date_time_ymd;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use support::{Authority, Network, PATIENCE, Rules, folder, provider};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpListener,
    time::{sleep, timeout},
};

async fn with(authority: Authority, tls: Arc<ServerConfig>) -> (Network, String) {
    let network = Network::with(Rules::default(), authority, tls).await;
    let pem = network.authority.pem();
    (network, pem)
}

fn server((certificate, key): (CertificateDer<'static>, PrivateKeyDer<'static>)) -> Arc<ServerConfig> {
    Arc::new(adit_tokio::server_config(vec![certificate], key, provider()).unwrap())
}

/// Runs `adit tcp` until it gives up; one that does not is ended.
async fn said(address: &str, pem: &str) -> (Option<i32>, String) {
    let folder = folder();
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    command.env_clear().env("HOME", &folder).env("ADIT_AUTHTOKEN", "t0k3n");
    command.args(["tcp", "1", "--url", "tcp://:1001", "--log", "off", "--connect-url", address, "--connect-cas"]);
    command.arg(&ca);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let ends = async {
        while child.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(10)).await; // the pace of looking
        }
    };
    if timeout(PATIENCE, ends).await.is_err() {
        child.kill().unwrap();
    }
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// TLS-005, SEC-003
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_trusted_is_told_with_its_issuer_and_fingerprint() {
    let authority = Authority::new("Somebody else's authority");
    let (certificate, key) = authority.issue(&["localhost"], |_| {});
    let print = fingerprint(&certificate);
    let (network, _) = with(authority, server((certificate, key))).await;

    let (exit, text) = said(&format!("localhost:{}", network.address.port()), &Authority::new("Ours").pem()).await;

    assert_eq!(exit, Some(5));
    assert!(text.starts_with("ADIT-1105: network's certificate not trusted: "), "{text}");
    assert!(text.contains("issued by \"CN=Somebody else's authority\" for \"CN=network node\""), "{text}");
    assert!(text.contains(&print), "{text}");
    for remedy in ["may be inspecting", "trust its root", "bypass rule", "where nothing inspects"] {
        assert!(text.contains(remedy), "{text}");
    }
}

/// TLS-005, SEC-003
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_name_is_told_with_the_names_it_has() {
    let authority = Authority::new("Ours");
    let tls = authority.server(&["connect.example.com", "192.0.2.1"]);
    let (network, pem) = with(authority, tls).await;

    let (exit, text) = said(&format!("localhost:{}", network.address.port()), &pem).await;

    assert_eq!(exit, Some(5));
    let expected = "ADIT-1106: network's certificate is for another name: it is for connect.example.com, 192.0.2.1, and localhost was asked for";
    assert!(text.starts_with(expected), "{text}");
}

/// TLS-005, SEC-003
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_out_of_its_time_is_told_with_both_times() {
    for (from, until, expected) in [
        (
            date_time_ymd(2001, 1, 1),
            date_time_ymd(2002, 2, 3),
            "ADIT-1107: network's certificate has expired: valid until 2002-02-03 00:00:00 UTC, and this machine's clock says 2",
        ),
        (
            date_time_ymd(2390, 4, 5),
            date_time_ymd(2399, 1, 1),
            "ADIT-1108: network's certificate is not valid yet: valid from 2390-04-05 00:00:00 UTC, and this machine's clock says 2",
        ),
    ] {
        let authority = Authority::new("Ours");
        let tls =
            server(authority.issue(&["localhost"], |params| (params.not_before, params.not_after) = (from, until)));
        let (network, pem) = with(authority, tls).await;

        let (exit, text) = said(&format!("localhost:{}", network.address.port()), &pem).await;

        assert_eq!(exit, Some(5));
        assert!(text.starts_with(expected), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_an_adit_network_is_told_so() {
    let authority = Authority::new("Ours");
    let mut web = ServerConfig::clone(&authority.server(&["localhost"]));
    web.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (network, pem) = with(authority, Arc::new(web)).await;

    let (exit, text) = said(&format!("localhost:{}", network.address.port()), &pem).await;

    assert_eq!(exit, Some(5));
    assert!(text.starts_with("ADIT-1109: not an Adit network: it speaks TLS, but not the protocol adit/1"), "{text}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n").await;
        }
    });

    let (exit, text) = said(&format!("127.0.0.1:{port}"), &pem).await;

    assert_eq!(exit, Some(5));
    assert!(text.starts_with("ADIT-1109: not an Adit network: what it answers is not TLS"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_not_there_is_told_by_its_kind() {
    let pem = Authority::new("Ours").pem();
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();

    let (exit, text) = said(&unused.to_string(), &pem).await;
    assert_eq!((exit, text.starts_with("ADIT-1102")), (Some(5), true), "{text}");

    let (exit, text) = said(&format!("{}:443", support::unresolvable()), &pem).await;
    assert_eq!((exit, text.starts_with("ADIT-1101")), (Some(5), true), "{text}");
    assert!(text.contains(&support::unresolvable()), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roots_that_cannot_be_loaded_never_become_somebody_elses() {
    for (pem, expected) in [("", "holds no certificate"), ("-----BEGIN CERTIFICATE-----\nAAAA\n", "not PEM")] {
        let (exit, text) = said("localhost:1", pem).await;

        assert_eq!(exit, Some(3));
        assert!(text.starts_with("ADIT-1004") && text.contains(expected), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_command_ends_when_its_endpoint_is_refused() {
    let bind = |_: &str| Err(adit_core::Code::IN_USE);
    let network = Network::start(Rules { bind, ..Rules::default() }).await;

    let (exit, text) = said(&format!("localhost:{}", network.address.port()), &network.authority.pem()).await;

    assert_eq!(exit, Some(4));
    assert!(text.starts_with("ADIT-2004: endpoint in use by another agent"), "{text}");
}

fn fingerprint(certificate: &[u8]) -> String {
    let suites = provider().cipher_suites.iter().filter_map(|suite| suite.tls13()).collect::<Vec<_>>();
    let hash = suites.iter().map(|suite| suite.common.hash_provider);
    let hash = hash.clone().find(|hash| hash.algorithm() == rustls::crypto::hash::HashAlgorithm::SHA256).unwrap();
    hash.hash(certificate).as_ref().iter().map(|octet| format!("{octet:02X}")).collect::<Vec<_>>().join(":")
}
