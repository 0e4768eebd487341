//! Three accounts, one of them hostile: limits are reached one after the other, from the agent outwards, each with its name, and
//! the others are served (V20).

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use adit_tokio::UplinkEvent;

use crate::{
    PATIENCE, refused,
    support::{Agent, Network, echo, until},
};

#[tokio::test]
async fn what_one_account_takes_is_bounded_by_session_account_and_node_and_the_others_are_served() {
    let network = Network::start(
        "limits: {connections_per_agent: 4, connections_per_account: 6, connections: 24, sessions_per_account: 2, sessions: 5}\n",
    );
    let reached = |limit: &str| network.metric(&format!("adit_limits_reached_total{{limit=\"{limit}\"}}"));
    let [hostile, one, other] = ["hostile", "one", "other"].map(|account| Account::new(&network, account));
    let ((one, port_one), (other, port_other)) = (one.serve(&network, 11).await, other.serve(&network, 21).await);
    let served = async || answers(port_one).await && answers(port_other).await;

    // One session carries as much as it may.
    let (first, port) = hostile.serve(&network, 1).await;
    let mut held = hold(port, 5).await;
    assert_eq!((held.len(), reached("connections_per_agent"), reached("connections_per_account")), (4, 1, 0));
    assert!(served().await);

    // A second session brings more, up to what the account may have.
    let second = hostile.join(&network, 2, port).await;
    held.extend(hold(port, 5).await);
    assert_eq!((held.len(), reached("connections_per_account"), reached("connections")), (6, 3, 0));
    assert!(served().await);

    // A third one is not let in, though the node has room for it: the others' agents may come.
    let mut third = network.agent(&hostile.token, 3);
    let refusal = third.until("refused", refused).await;
    assert_eq!(refusal.code, adit_tokio::proto::Code::LIMIT);
    assert_eq!((reached("sessions_per_account") > 0, reached("sessions")), (true, 0));
    drop(third);

    // What no endpoint has taken yet counts on the node alone: there everybody is refused, and what is open goes on.
    let mut open = connect(port_one).await.expect("there is room");
    assert!(is_greeted(&mut open).await && is_answered(&mut open).await);
    let idle = hold_idle(&network).await;
    assert!(reached("connections") > 0 && !answers(port_other).await);
    assert!(is_answered(&mut open).await);
    drop(idle);
    until("there is room again", || network.metric("adit_connections{listener=\"Http\"}") == 0).await;
    assert!(served().await);
    drop((held, first, second, one, other));
}

struct Account {
    token: adit_tokio::proto::Secret,
}

impl Account {
    fn new(network: &Network, name: &str) -> Self {
        Self { token: network.token_of(name, &["bind:tcp:0-65535"]).1 }
    }

    /// Starts an agent that echoes on a port of its own.
    async fn serve(&self, network: &Network, number: u8) -> (Agent, u16) {
        let mut agent = network.agent(&self.token, number);
        echo(agent.bind("tcp://:0", true), GREETING);
        let port = agent.bound_port().await;
        (agent, port)
    }

    /// Starts another agent for a port.
    async fn join(&self, network: &Network, number: u8, port: u16) -> Agent {
        let mut agent = network.agent(&self.token, number);
        echo(agent.bind(&format!("tcp://:{port}"), true), GREETING);
        agent.until("bound", |event| matches!(event, UplinkEvent::Bound { .. }).then_some(())).await;
        agent
    }
}

/// Connects; nothing if it is refused, which may be before the connection is seen to be open.
async fn connect(port: u16) -> Option<TcpStream> {
    TcpStream::connect(("127.0.0.1", port)).await.ok()
}

/// Returns whether a connection is carried.
async fn is_greeted(caller: &mut TcpStream) -> bool {
    let mut greeting = [0; GREETING.len()];
    timeout(PATIENCE, caller.read_exact(&mut greeting)).await.expect("served or refused").is_ok()
}

async fn is_answered(caller: &mut TcpStream) -> bool {
    let mut octet = [0];
    caller.write_all(b"x").await.is_ok() && timeout(PATIENCE, caller.read_exact(&mut octet)).await.unwrap().is_ok()
}

async fn answers(port: u16) -> bool {
    match connect(port).await {
        Some(mut caller) => is_greeted(&mut caller).await,
        None => false,
    }
}

/// Opens so many connections, one after the other; returns those that are carried.
async fn hold(port: u16, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        if let Some(mut caller) = connect(port).await
            && is_greeted(&mut caller).await
        {
            held.push(caller);
        }
    }
    held
}

/// Opens connections that ask for nothing until the node takes no more.
async fn hold_idle(network: &Network) -> Vec<TcpStream> {
    let mut idle = Vec::new();
    while network.metric("adit_limits_reached_total{limit=\"connections\"}") == 0 {
        assert!(idle.len() < 100, "the node takes all");
        // One more than the node takes may be refused before it is seen to be open.
        idle.extend(TcpStream::connect(network.address("http")).await.ok());
    }
    idle
}

const GREETING: &[u8] = b"hello";
