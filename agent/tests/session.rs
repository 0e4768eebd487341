//! The session of a running agent: refused, commanded, reloaded, ended.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use core::time::Duration;

use adit::{
    Outcome, SessionState,
    errors::{Exit, Fault},
};
use adit_core::{Cause, Code, Command};
use rcgen::CertificateParams;
use support::{Authority, Network, PATIENCE, Rules, Running, Seen, endpoint, folder, load, provider, write_config};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};

const A: &str = "tcp://:1001";
const B: &str = "tcp://:1002";

fn two() -> String {
    endpoint("a", A, "url: 1") + &endpoint("b", B, "url: 2")
}

async fn failure(rules: Rules) -> Fault {
    let network = Network::start(rules).await;
    let file = write_config(&folder(), &network, "", &endpoint("a", A, "url: 1"));
    let Outcome::Failed(error) = Running::start(&file).outcome().await else { panic!("it goes on") };
    error.fault
}

#[tokio::test]
async fn a_token_that_was_never_valid_ends_the_agent_for_good() {
    let fault = failure(Rules { token: b"another", ..Rules::default() }).await;

    assert_eq!((fault, fault.entry().exit), (Fault::Credentials, Exit::Refused));
}

#[tokio::test]
async fn a_token_that_is_revoked_ends_the_agent_for_good() {
    let mut network = Network::start(Rules::default()).await;
    let file = write_config(&folder(), &network, "", &endpoint("a", A, "url: 1"));
    let agent = Running::start(&file);
    network.wait_for(&Seen::Bound(A.into())).await;

    network.session().close(Code::REVOKED, "");

    let Outcome::Failed(error) = agent.outcome().await else { panic!("it goes on") };
    assert_eq!((error.fault, error.fault.entry().exit), (Fault::Revoked, Exit::Refused));
}

#[tokio::test]
async fn one_refused_endpoint_harms_no_other_and_says_who_must_act() {
    let bind = |url: &str| if url == B { Err(Code::FORBIDDEN) } else { Ok(()) };
    let mut network = Network::start(Rules { bind, ..Rules::default() }).await;
    let agent = Running::start(&write_config(&folder(), &network, "", &two()));
    network.wait_for(&Seen::Rejected(B.into())).await;

    let board =
        until(&agent, |board| board.endpoints.iter().all(|state| state.bound || !state.problem.is_empty())).await;

    assert_eq!(board.session, SessionState::Online);
    assert!(board.endpoints[0].bound);
    assert!(!board.endpoints[1].bound);
    assert!(board.endpoints[1].problem.starts_with("ADIT-2003"), "{:?}", board.endpoints[1]);
    assert!(board.endpoints[1].problem.ends_with("To act: vendor"), "{:?}", board.endpoints[1]);
}

#[tokio::test]
async fn an_endpoint_whose_roots_cannot_be_read_is_not_bound_and_the_others_are() {
    let mut network = Network::start(Rules::default()).await;
    let endpoints = endpoint("a", A, "url: 'tls://localhost:1', ca: missing.pem") + &endpoint("b", B, "url: 2");
    let agent = Running::start(&write_config(&folder(), &network, "", &endpoints));
    network.wait_for(&Seen::Bound(B.into())).await;

    let board = until(&agent, |board| board.endpoints[1].bound).await;

    assert!(board.endpoints[0].problem.starts_with("ADIT-1004"), "{:?}", board.endpoints[0]);
}

/// CMD-001
#[tokio::test]
async fn every_remote_command_is_refused_unless_the_configuration_allows_it() {
    let mut network = Network::start(Rules::default()).await;
    let agent = Running::start(&write_config(&folder(), &network, "", &two()));
    network.wait_for(&Seen::Bound(B.into())).await;

    for (command, answer) in [
        (Command::Stop, Code::FORBIDDEN),
        (Command::Restart, Code::FORBIDDEN),
        (Command::Update, Code::FORBIDDEN),
        (Command::Configuration, Code::FORBIDDEN),
        (Command::Unknown(99), Code::UNKNOWN),
    ] {
        network.command(command);
        assert_eq!(network.next().await, Seen::Answer(answer));
    }
    assert_eq!(agent.status.board().session, SessionState::Online);
}

/// CRL-004, CRL-005
#[tokio::test]
async fn a_list_that_the_network_tells_is_held_to_what_others_are_and_ends_the_session_that_it_speaks_against() {
    let (mut network, foreign) = (certified(7).await, Authority::new("Somebody else"));
    let agent = Running::start(&write_config(&folder(), &network, "", &two()));
    network.wait_for(&Seen::Bound(B.into())).await;
    let revocation = |agent: &Running| agent.status.board().revocation;

    for bad in [foreign.list(1, &[7]), b"no list".to_vec(), network.authority.list(1, &[7])[..99].to_vec(), Vec::new()]
    {
        tell(&mut network, bad).await;
        assert!(revocation(&agent).starts_with("not asked"), "{}", revocation(&agent));
    }
    let both = [network.authority.list(5, &[]), foreign.list(9, &[7])].concat();
    tell(&mut network, both).await;
    let board = until(&agent, |board| board.revocation.contains("number 0x05")).await;
    assert!(board.revocation.contains("from the session at "), "{}", board.revocation);
    let older = network.authority.list(4, &[7]);
    tell(&mut network, older).await;
    assert_eq!(agent.status.board().session, SessionState::Online, "an older list says nothing");

    network.session().tell_revocations(&network.authority.list(6, &[7]).into()).unwrap();

    network.wait_for(&Seen::Closed).await;
    assert!(matches!(network.session().cause(), Some(Cause::Remote(close)) if close.code == Code::UNTRUSTED));
    let board = until(&agent, |board| !board.disconnects.is_empty()).await;
    let why = &board.disconnects.back().unwrap().reason;
    assert!(why.contains("ADIT-1111") && why.contains("(from the session)"), "{why}");
}

/// A network whose certificate has a serial number.
async fn certified(serial: u64) -> Network {
    let authority = Authority::new("Ours");
    let named = |params: &mut CertificateParams| params.serial_number = Some(serial.into());
    let (certificate, key) = authority.issue(&["localhost"], named);
    let tls = adit_tokio::server_config(vec![certificate], key, provider()).unwrap();
    Network::with(Rules::default(), authority, tls.into()).await
}

/// Tells lists, and waits until the agent has looked at them: what is asked after them is answered after them.
async fn tell(network: &mut Network, lists: Vec<u8>) {
    network.session().tell_revocations(&lists.into()).unwrap();
    network.command(Command::Unknown(99));
    network.wait_for(&Seen::Answer(Code::UNKNOWN)).await;
}

/// CMD-004
#[tokio::test]
async fn commands_that_are_allowed_are_obeyed() {
    for (key, command, code, outcome) in [
        ("stop", Command::Stop, Code::NO_ERROR, Some(Outcome::Ended)),
        ("restart", Command::Restart, Code::NO_ERROR, Some(Outcome::Restart)),
        ("update", Command::Update, Code::UNSUPPORTED, None),
    ] {
        let mut network = Network::start(Rules::default()).await;
        let allowed = format!("  remote_management: {{ {key}: true }}\n");
        let agent = Running::start(&write_config(&folder(), &network, &allowed, &two()));
        network.wait_for(&Seen::Bound(B.into())).await;

        network.command(command);

        network.wait_for(&Seen::Answer(code)).await;
        match outcome {
            Some(outcome) => assert_eq!(agent.outcome().await, outcome),
            None => assert_eq!(agent.status.board().session, SessionState::Online),
        }
    }
}

#[tokio::test]
async fn an_agent_that_is_asked_to_end_lets_its_connections_finish() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("url: 'tcp://{}'", upstream.local_addr().unwrap());
    let mut network = Network::start(Rules::default()).await;
    let agent = Running::start(&write_config(&folder(), &network, "", &endpoint("a", A, &url)));
    network.wait_for(&Seen::Bound(A.into())).await;
    let mut stream = network.open(A);
    let (mut socket, _) = upstream.accept().await.unwrap();
    stream.accepted().await.unwrap();

    let ending = agent.stop();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!ending.is_finished());
    socket.write_all(b"the rest").await.unwrap();
    drop(socket);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    stream.shutdown().await.unwrap();

    assert_eq!(rest, b"the rest");
    assert_eq!(timeout(PATIENCE, ending).await.unwrap().unwrap(), Outcome::Ended);
}

#[tokio::test]
async fn a_configuration_read_again_changes_what_it_must_and_drops_no_connection() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("url: 'tcp://{}'", upstream.local_addr().unwrap());
    let mut network = Network::start(Rules::default()).await;
    let folder = folder();
    let file = write_config(&folder, &network, "", &(endpoint("a", A, &url) + &endpoint("b", B, &url)));
    let agent = Running::start(&file);
    for _ in 0..2 {
        while !matches!(network.next().await, Seen::Bound(_)) {}
    }
    let (mut kept, mut given_up) = (network.open(A), network.open(B));
    let (_first, _) = upstream.accept().await.unwrap();
    let (_second, _) = upstream.accept().await.unwrap();

    let again = endpoint("a", A, &url) + &endpoint("c", "tcp://:1003", &url);
    agent.reload.send(load(&write_config(&folder, &network, "", &again))).await.unwrap();

    let mut seen = [network.next().await, network.next().await];
    seen.sort_by_key(|seen| matches!(seen, Seen::Bound(_)));
    assert_eq!(seen, [Seen::Unbound(B.into(), Code::CONFIGURATION), Seen::Bound("tcp://:1003".into())]);
    kept.write_all(b"x").await.unwrap();
    given_up.write_all(b"x").await.unwrap();
    let names: Vec<_> = agent.status.board().endpoints.into_iter().map(|state| state.name).collect();
    assert_eq!(names, ["a", "c"]);
}

#[tokio::test]
async fn an_endpoint_that_takes_the_name_of_another_is_not_bound_before_the_network_says_so() {
    let rules = Rules { bind: |url| if url == B { Err(Code::NO_ERROR) } else { Ok(()) }, ..Rules::default() };
    let mut network = Network::start(rules).await;
    let folder = folder();
    let file = write_config(&folder, &network, "  sessions: 2\n", &endpoint("a", A, "url: 1"));
    let agent = Running::start(&file);
    for _ in 0..2 {
        network.wait_for(&Seen::Bound(A.into())).await;
    }
    until(&agent, |board| board.sessions == (2, 2) && board.endpoints[0].bound).await;

    let again = write_config(&folder, &network, "  sessions: 2\n", &endpoint("a", B, "url: 1"));
    agent.reload.send(load(&again)).await.unwrap();
    for _ in 0..2 {
        network.wait_for(&Seen::Ignored(B.into())).await;
    }
    network.session().close(Code::INTERNAL, "");
    network.wait_for(&Seen::Ignored(B.into())).await; // it is back: the board was drawn anew more than once

    let board = until(&agent, |board| board.sessions == (2, 2)).await;
    assert_eq!((board.endpoints[0].url.as_str(), board.endpoints[0].bound), (B, false));
}

/// AUTH-006
#[tokio::test]
async fn a_restarted_agent_keeps_its_name_and_another_configuration_has_another() {
    let mut network = Network::start(Rules::default()).await;
    let (one, other) = (folder(), folder());
    let file = write_config(&one, &network, "", &two());
    let mut names = Vec::new();
    for file in [&file, &file, &write_config(&other, &network, "", &two())] {
        let agent = Running::start(file);
        let name = loop {
            if let Seen::Session(name) = network.next().await {
                break name;
            }
        };
        names.push(name);
        timeout(PATIENCE, agent.stop()).await.unwrap().unwrap();
    }

    assert_eq!(names[0], names[1]);
    assert_ne!(names[0], names[2]);
}

#[tokio::test]
async fn a_lost_session_is_made_again_with_its_endpoints() {
    let mut network = Network::start(Rules::default()).await;
    let agent = Running::start(&write_config(&folder(), &network, "", &endpoint("a", A, "url: 1")));
    network.wait_for(&Seen::Bound(A.into())).await;

    network.session().close(Code::INTERNAL, "");

    network.wait_for(&Seen::Closed).await;
    network.wait_for(&Seen::Bound(A.into())).await;
    until(&agent, |board| board.session == SessionState::Online && board.endpoints[0].bound).await;
}

async fn until(agent: &Running, wanted: impl Fn(&adit::Board) -> bool) -> adit::Board {
    let look = async {
        loop {
            let board = agent.status.board();
            if wanted(&board) {
                return board;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, look).await.unwrap()
}

#[tokio::test]
async fn each_step_of_connecting_the_heartbeat_in_force_and_each_disconnect_are_known() {
    let mut network = Network::start(Rules::default()).await;
    let more = "  heartbeat_interval: 20s\n  heartbeat_tolerance: 12s\n";
    let agent = Running::start(&write_config(&folder(), &network, more, &endpoint("a", A, "url: 1")));
    assert_eq!(agent.status.board().dead_after(), None, "nothing is agreed upon");
    network.wait_for(&Seen::Bound(A.into())).await;

    let board = until(&agent, |board| board.attempt.is_some()).await;

    let attempt = board.attempt.as_ref().unwrap();
    let steps: Vec<_> = attempt.steps.iter().map(|step| (step.step, step.outcome.word())).collect();
    assert_eq!(steps, [("dns", "ok"), ("tcp", "ok"), ("tls", "ok"), ("session", "ok")]);
    assert!(attempt.steps[0].detail.contains("127.0.0.1"), "{attempt:?}");
    assert_eq!(attempt.steps[1].detail, network.address.to_string());
    assert_eq!(
        (attempt.network.as_str(), attempt.error.as_str()),
        (&*format!("localhost:{}", network.address.port()), "")
    );
    assert_eq!(board.dead_after(), Some(Duration::from_secs(32)));
    assert!(board.disconnects.is_empty());

    network.session().close(Code::INTERNAL, "a bad day");
    let board = until(&agent, |board| !board.disconnects.is_empty()).await;

    assert_eq!((board.disconnects[0].lane, board.disconnects[0].kept), (0, false));
    assert_eq!(board.disconnects[0].reason, "ADIT-2012: network cannot check tokens at present: a bad day");
}

#[tokio::test]
async fn the_step_that_failed_is_the_last_and_says_why() {
    let network = Network::start(Rules { token: b"another", ..Rules::default() }).await;
    let file = write_config(&folder(), &network, "", &endpoint("a", A, "url: 1"));
    let agent = Running::start(&file);
    let status = std::sync::Arc::clone(&agent.status);
    assert!(matches!(agent.outcome().await, Outcome::Failed(_)));

    let attempt = status.board().attempt.unwrap();

    let steps: Vec<_> = attempt.steps.iter().map(|step| (step.step, step.outcome.word())).collect();
    assert_eq!(steps, [("dns", "ok"), ("tcp", "ok"), ("tls", "ok"), ("session", "failed")]);
    assert!(attempt.error.starts_with("ADIT-2001: authtoken not valid"), "{attempt:?}");
    assert_eq!(attempt.steps[3].detail, attempt.error);
}
