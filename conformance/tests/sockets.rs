//! Every scenario that needs no passing of time, against `adit-tokio` over TLS on loopback sockets.

#[path = "../examples/reference/app.rs"]
mod app;
mod common;

use std::{
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use adit_conformance::{
    Player, Scenario, Side, Step, Verdict,
    identity::{Identity, client},
    socket::{Patience, Wire},
};
use adit_core::Config;
use adit_tokio::{accept, connect_over};
use app::Desk;
use common::{configured, scenarios};
use rustls::{ClientConfig, ServerConfig};
use tokio::{runtime::Runtime, sync::mpsc::unbounded_channel};

#[test]
fn every_scenario_without_time_goes_as_it_says() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (tls, player) = (tls(), Player::new());
    let scenarios: Vec<Scenario> = scenarios().into_iter().filter(is_played).collect();
    assert!(scenarios.len() > 100, "{} scenarios are left", scenarios.len());

    let play = |scenario: &Scenario| {
        let config = configured(scenario);
        let mut wire = match scenario.side {
            Side::Network => network(&runtime, &tls, config),
            Side::Agent => agent(&runtime, &tls, config),
        };
        match player.judge(scenario, &mut wire) {
            Verdict::Failed(failure) => Some(format!("{} ({failure})", scenario.what)),
            Verdict::Passed | Verdict::NotImplemented(_) | Verdict::Skipped(_) => None,
        }
    };
    let failures: Vec<String> = thread::scope(|scope| {
        let parts = scenarios.chunks(scenarios.len().div_ceil(PLAYERS));
        let players: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().filter_map(play).collect::<Vec<_>>())).collect();
        players.into_iter().flat_map(|player| player.join().expect("no panic")).collect()
    });
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

/// A scenario in which time passes takes as long as it says; one of several links is played by the program's tests.
fn is_played(scenario: &Scenario) -> bool {
    !scenario.steps.iter().any(|step| matches!(step, Step::Wait(_) | Step::Redial | Step::Resume(_)))
}

fn network(runtime: &Runtime, tls: &(Arc<ClientConfig>, Arc<ServerConfig>), config: Config) -> Wire {
    let (near, far) = sockets();
    let server = Arc::clone(&tls.1);
    runtime.spawn(async move {
        let io = tokio::net::TcpStream::from_std(far).expect("a socket");
        if let Ok(incoming) = accept(io, server, config, 1).await {
            let (_more, agents) = unbounded_channel();
            app::network(incoming, agents, nobody()).await;
        }
    });
    let name = NAME.try_into().expect("a name");
    Wire::client(near, &tls.0, name, Patience::default()).expect("TLS")
}

fn agent(runtime: &Runtime, tls: &(Arc<ClientConfig>, Arc<ServerConfig>), config: Config) -> Wire {
    let (near, far) = sockets();
    let client = Arc::clone(&tls.0);
    runtime.spawn(async move {
        let io = tokio::net::TcpStream::from_std(far).expect("a socket");
        let name = NAME.try_into().expect("a name");
        let hello = app::hello("token", &config);
        let Ok((session, mut events, _)) = connect_over(io, (client, name), config, hello, 1).await else { return };
        app::agent(&session, &mut events, &mut nobody()).await;
    });
    Wire::server(near, &tls.1, Patience::default()).expect("TLS")
}

/// A desk that nobody sits at.
fn nobody() -> Desk {
    Desk::new(unbounded_channel().1, Arc::new(|_| {}))
}

fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (far, _) = listener.accept().expect("a connection");
    far.set_nonblocking(true).expect("a socket");
    (near, far)
}

fn tls() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let identity = Identity::issue(NAME).expect("a certificate");
    (client(Some(&identity.authority)).expect("a client"), identity.server().expect("a server"))
}

const NAME: &str = "network.test";
const PLAYERS: usize = 8;
