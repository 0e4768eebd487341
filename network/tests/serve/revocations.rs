//! Revocation lists inside sessions: who is told, when, and of what.

use std::fs;

use adit_tls::split_lists;
use adit_tokio::{
    UplinkEvent,
    proto::{
        Secret,
        frame::{Encoded, Kind, RawKind},
    },
};
use rcgen::{CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, date_time_ymd};

use crate::{
    resume::hello,
    support::{Agent, Network, until},
    wire::{Wire, first},
};

/// CRL-001, CRL-006
#[tokio::test]
async fn every_agent_is_told_of_a_list_that_has_changed_and_only_then() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agents = [agent(&network, &token, 1).await, agent(&network, &token, 2).await];

    network.run(&["ca", "crl"]);
    let (path, list) = (network.folder.join("ca/ca.crl"), listed(&network));
    for agent in &mut agents {
        assert_eq!(told(agent).await, list);
    }
    until("both are counted", || network.metric(SENT) == 2).await;

    fs::remove_file(&path).unwrap();
    fs::write(&path, &list).unwrap(); // DER for PEM
    let read = || network.log().matches("the revocation lists for agents have changed").count();
    until("the same is read again", || read() == 2).await;
    network.run(&["ca", "crl"]);
    for agent in &mut agents {
        assert_eq!(told(agent).await, listed(&network), "the same again is nothing new");
    }
    until("both are counted", || network.metric(SENT) == 4).await;
}

/// CRL-001
#[tokio::test]
async fn a_list_that_fits_no_frame_is_not_sent_and_that_is_said() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = agent(&network, &token, 1).await;

    let list = long_list(&network);
    assert!((16_377..48 << 10).contains(&list.len()), "{}", list.len());
    fs::write(network.folder.join("ca/ca.crl"), list).unwrap();
    until("it is counted", || network.metric("adit_revocations_told_total{reason=\"too_long\"}") == 1).await;
    until("it is said", || network.log().contains("too long for a frame that agents take")).await;

    network.run(&["ca", "crl"]);
    let next = told(&mut agent).await;
    assert_eq!((next, network.metric(SENT)), (listed(&network), 1));
}

/// CRL-006
#[tokio::test]
async fn who_was_shown_an_older_list_in_the_handshake_is_told_as_soon_as_the_session_begins() {
    let network = Network::start("");
    let (_, token) = network.token(&[]);
    let mut wire = Wire::dial(&network).await;
    wire.shake().await;
    network.run(&["ca", "crl"]);
    // Whoever was there then has been told.
    until("all are told", || network.log().contains("agents were told of the new revocation lists")).await;

    wire.say(&Encoded::message(Kind::Hello, &first(hello(&token, 1)))).await;

    assert_eq!(heard(&mut wire).await.0, Kind::Welcome);
    assert_eq!(heard(&mut wire).await, (Kind::Revocations, listed(&network)));

    // Who comes later was shown it.
    let mut late = Wire::dial(&network).await;
    late.say(&Encoded::message(Kind::Hello, &first(hello(&token, 2)))).await;
    assert_eq!(heard(&mut late).await.0, Kind::Welcome);
    late.say(&Encoded::ping([7; 8])).await;
    assert_eq!(heard(&mut late).await.0, Kind::Pong);
}

async fn agent(network: &Network, token: &Secret, number: u8) -> Agent {
    let mut agent = network.agent(token, number);
    let connected = |event: &UplinkEvent| matches!(event, UplinkEvent::Connected { .. }).then_some(());
    agent.until("a session", connected).await;
    agent
}

/// Returns the lists that an agent is told next.
async fn told(agent: &mut Agent) -> Vec<u8> {
    let lists = |event: &UplinkEvent| match event {
        UplinkEvent::Revocations { lists, .. } => Some(lists.to_vec()),
        _ => None,
    };
    agent.until("revocation lists", lists).await
}

/// Returns the next frame, but for questions whether the agent lives.
async fn heard(wire: &mut Wire) -> (Kind, Vec<u8>) {
    loop {
        match wire.hear().await.expect("a frame") {
            (RawKind::Known(Kind::Ping), _) => {}
            (RawKind::Known(kind), payload) => return (kind, payload),
            (RawKind::Extension(number), _) => panic!("{number}"),
        }
    }
}

/// Returns the list of the network's authority, DER.
fn listed(network: &Network) -> Vec<u8> {
    let lists = split_lists(fs::read(network.folder.join("ca/ca.crl")).unwrap()).unwrap();
    lists.iter().flat_map(|list| list.to_vec()).collect()
}

/// A list of the network's authority that a handshake has room for and a frame has not.
fn long_list(network: &Network) -> Vec<u8> {
    let read = |name: &str| fs::read_to_string(network.folder.join("ca").join(name)).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), KeyPair::from_pem(&read("ca.key")).unwrap()).unwrap();
    let revoked = |serial: u64| RevokedCertParams {
        serial_number: (serial + (1 << 40)).into(),
        revocation_time: date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2040, 1, 1),
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: (0..800).map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&issuer).unwrap().der().to_vec()
}

const SENT: &str = "adit_revocations_told_total{reason=\"sent\"}";
