//! The library in a program whose executor is smol's.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use adit::{Agent, Outcome};
use adit_core::Secret;
use support::{Network, Rules, Seen, endpoint, folder, load, provider, write_config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const URL: &str = "tcp://:5432";

#[test]
fn a_program_of_smol_runs_an_agent_and_ends_it() {
    let network = tokio::runtime::Runtime::new().unwrap();
    let (mut told, agent, upstream) = prepare(&network);
    smol::block_on(async {
        let mut detached = agent.detach().unwrap();
        let answer = smol::unblock(move || {
            let served = thread::spawn(move || {
                let (mut tcp, _) = upstream.accept().unwrap();
                let mut question = [0; 8];
                tcp.read_exact(&mut question).unwrap();
                tcp.write_all(b"answer").unwrap();
                question
            });
            let answer = network.block_on(async {
                told.wait_for(&Seen::Bound(URL.into())).await;
                let mut stream = told.open(URL);
                stream.write_all(b"question").await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                answer
            });
            assert_eq!(&served.join().unwrap(), b"question");
            (answer, network, told)
        })
        .await;
        assert_eq!(answer.0, "answer");

        detached.shutdown();
        detached.shutdown();

        assert_eq!(detached.await, Outcome::Ended);
    });
}

#[test]
fn an_agent_that_is_dropped_ends() {
    let network = tokio::runtime::Runtime::new().unwrap();
    let (mut told, agent, _upstream) = prepare(&network);
    let detached = agent.detach().unwrap();
    network.block_on(told.wait_for(&Seen::Bound(URL.into())));
    let session = told.session();

    drop(detached);

    network.block_on(async { tokio::time::timeout(support::PATIENCE, session.closed()).await.unwrap() });
}

/// A network, and an agent for it that carries one endpoint to a listener.
fn prepare(network: &tokio::runtime::Runtime) -> (Network, Agent, TcpListener) {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = upstream.local_addr().unwrap().port();
    let told = network.block_on(Network::start(Rules::default()));
    let folder = folder();
    let file = write_config(&folder, &told, "", &endpoint("db", URL, &format!("url: 'tcp://127.0.0.1:{port}'")));
    let agent = Agent::new(load(&file), Secret::new(*b"t0k3n"), provider()).unwrap();
    (told, agent, upstream)
}
