//! The customer's own policy beside a running agent: what is refused, what ends, what the vendor is told.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use core::time::Duration;
use std::{fs, path::PathBuf};

use adit::policy::{Freezer, Watch, Watching};
use adit_core::{Code, Command};
use adit_tokio::{Stream, code_of};
use support::{Network, PATIENCE, Rules, Running, Seen, endpoint, folder, provider, write_config, write_private};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

const A: &str = "tcp://:1001";
const B: &str = "tcp://:1002";

/// An agent with a policy, an upstream, and the file of the policy.
struct Site {
    network: Network,
    agent: Running,
    upstream: TcpListener,
    policy: PathBuf,
    watch: Watch,
    _watching: Watching,
}

impl Site {
    /// Starts with a rule for `endpoints`, with more lines of it; the rest of the policy is `rest`.
    async fn start(endpoints: &str, more: &str, rest: &str) -> Self {
        Self::start_with(Rules::default(), endpoints, more, rest).await
    }

    async fn start_with(rules: Rules, endpoints: &str, more: &str, rest: &str) -> Self {
        Self::start_in(None, rules, endpoints, more, rest).await
    }

    /// The same with an audit log in the state folder.
    async fn start_in(state: Option<PathBuf>, rules: Rules, endpoints: &str, more: &str, rest: &str) -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = upstream.local_addr().unwrap().port();
        let network = Network::start(rules).await;
        let folder = folder();
        let url = format!("url: 'tcp://localhost:{port}'");
        let management = "  remote_management: { stop: true, restart: true }\n";
        let file = write_config(&folder, &network, management, &(endpoint("a", A, &url) + &endpoint("b", B, &url)));
        let policy = folder.join("policy.yml");
        write_private(&policy, &rule(endpoints, port, more, rest));
        let freezer = Freezer::new([folder]);
        let mut watch = Watch::open(None, Some(file.clone()), freezer, provider()).unwrap();
        if state.is_some() {
            watch.keep(state).unwrap();
        }
        let watching = watch.start().unwrap();
        let agent = Running::start_under(&file, Some(watch.guard()));
        Self { network, agent, upstream, policy, watch, _watching: watching }
    }

    fn rewrite(&self, endpoints: &str, more: &str) {
        let port = self.upstream.local_addr().unwrap().port();
        write_private(&self.policy, &rule(endpoints, port, more, ""));
    }

    async fn connect(&self, url: &str) -> (Stream, TcpStream) {
        let stream = self.network.open(url);
        let (socket, _) = timeout(PATIENCE, self.upstream.accept()).await.unwrap().unwrap();
        stream.accepted().await.unwrap();
        (stream, socket)
    }

    async fn refused(&self, url: &str) -> Code {
        timeout(PATIENCE, self.network.open(url).accepted()).await.unwrap().unwrap_err()
    }
}

fn rule(endpoints: &str, port: u16, more: &str, rest: &str) -> String {
    format!(
        "version: 1\n{rest}allow:\n  - name: mine\n    endpoints: [{endpoints}]\n    hosts: [localhost]\n    ports: [{port}]\n    \
         protocols: [tcp]\n{more}"
    )
}

/// Waits for the board to be so.
async fn board(agent: &Running, is: impl Fn(&adit::Board) -> bool) -> adit::Board {
    let look = async {
        loop {
            let board = agent.status.board();
            if is(&board) {
                return board;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, look).await.unwrap()
}

/// Waits for the end of a stream that is being read, within a second; returns its code.
async fn ended(stream: &mut Stream) -> Option<Code> {
    let begun = Instant::now();
    let end = async {
        let mut buffer = [0; 4_096];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return code_of(&error),
            }
        }
    };
    let code = timeout(PATIENCE, end).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    code
}

#[tokio::test]
async fn an_endpoint_that_no_rule_is_for_is_never_asked_for_and_the_board_says_why() {
    let mut site = Site::start(&format!("'{B}'"), "", "").await;
    site.network.wait_for(&Seen::Bound(B.into())).await;
    let (_stream, _socket) = site.connect(B).await;

    let board = site.agent.status.board();

    assert!(board.endpoints[0].problem.starts_with("ADIT-1402") && board.endpoints[0].problem.contains(A), "{board:?}");
    assert_eq!((board.endpoints[0].bound, board.endpoints[1].bound), (false, true));
    assert!(site.network.seen.try_recv().is_err(), "nothing was asked for beside it");
}

/// A policy that is loosened later has to find the agent there, at its start as after a thaw.
#[tokio::test]
async fn an_agent_that_may_bind_nothing_waits_for_another_policy() {
    let mut site = Site::start("'tcp://:9'", "", "").await;
    board(&site.agent, |board| board.session == adit::SessionState::Online).await;
    site.watch.freezer().freeze("by a test").unwrap();
    board(&site.agent, |board| board.session == adit::SessionState::Frozen).await;
    site.watch.freezer().thaw().unwrap();
    let board = board(&site.agent, |board| board.session == adit::SessionState::Online).await;
    assert!(board.endpoints.iter().all(|state| !state.bound && state.problem.starts_with("ADIT-1402")), "{board:?}");

    site.rewrite(&format!("'{A}'"), "");

    site.network.wait_for(&Seen::Bound(A.into())).await;
    site.connect(A).await;
}

#[tokio::test]
async fn a_configuration_of_which_nothing_can_be_bound_takes_nothing_away() {
    let mut site = Site::start(&format!("'{A}'"), "", "").await;
    site.network.wait_for(&Seen::Bound(A.into())).await;
    let (mut stream, mut socket) = site.connect(A).await;
    let (folder, upstream) = (site.policy.parent().unwrap().to_owned(), "url: 'tcp://localhost:1'");
    let load = |text: &str| support::load(&write_config(&folder, &site.network, "", text));

    site.agent.reload.send(load(&endpoint("b", B, upstream))).await.unwrap();
    // What comes next is looked at when that is decided.
    site.agent.reload.send(load(&endpoint("b", B, upstream))).await.unwrap();
    site.agent.reload.reserve_many(1).await.map(drop).unwrap();

    socket.write_all(b"x").await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    site.connect(A).await;
    let board = site.agent.status.board();
    assert!(board.endpoints.iter().any(|state| state.name == "a" && state.bound), "{board:?}");
}

#[tokio::test]
async fn what_a_rule_does_not_fit_is_refused_by_code_and_the_endpoint_stays() {
    let mut site = Site::start("'*'", "    expires: 2020-01-01T00:00:00Z\n", "").await;
    site.network.wait_for(&Seen::Bound(A.into())).await;

    assert_eq!(site.refused(A).await, Code::POLICY);
    assert!(site.agent.status.board().endpoints[0].refusal.contains("rule `mine`: expired at 2020"));
}

/// CODE-005
#[tokio::test]
async fn beyond_max_connections_the_code_lets_another_agent_serve() {
    let mut site = Site::start("'*'", "    max_connections: 1\n", "").await;
    site.network.wait_for(&Seen::Bound(A.into())).await;
    let (stream, socket) = site.connect(A).await;

    assert_eq!(site.refused(A).await, Code::LIMIT);
    drop((stream, socket));
    let again = async {
        while site.network.open(A).accepted().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test]
async fn an_upstream_that_is_where_the_rule_does_not_allow_is_not_dialed() {
    let mut network = Network::start(Rules::default()).await;
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = upstream.local_addr().unwrap().port();
    let folder = folder();
    let file = write_config(&folder, &network, "", &endpoint("a", A, &format!("url: 'tcp://127.0.0.1:{port}'")));
    for (addresses, allowed) in [("10.0.0.0/8", false), ("127.0.0.0/8, '::1'", true)] {
        let text = format!(
            "version: 1\nallow:\n  - name: mine\n    endpoints: ['*']\n    hosts: ['*']\n    addresses: [{addresses}]\n    ports: [{port}]\n    \
             protocols: [tcp]\n"
        );
        write_private(&folder.join("policy.yml"), &text);
        let watch = Watch::open(None, Some(file.clone()), Freezer::new([folder.clone()]), provider()).unwrap();
        let agent = Running::start_under(&file, Some(watch.guard()));
        network.wait_for(&Seen::Bound(A.into())).await;

        let accepted = timeout(PATIENCE, network.open(A).accepted()).await.unwrap();

        assert_eq!(accepted, if allowed { Ok(()) } else { Err(Code::POLICY) }, "{addresses}");
        timeout(PATIENCE, agent.stop()).await.unwrap().unwrap();
        if !allowed {
            assert!(timeout(Duration::from_millis(50), upstream.accept()).await.is_err(), "nobody was dialed");
        }
    }
}

#[tokio::test]
async fn a_policy_that_is_tightened_in_mid_transfer_ends_it_and_gives_the_endpoint_up() {
    let mut site = Site::start("'*'", "", "").await;
    for _ in 0..2 {
        while !matches!(site.network.next().await, Seen::Bound(_)) {}
    }
    let (mut cut, mut cut_socket) = site.connect(A).await;
    let (mut kept, mut kept_socket) = site.connect(B).await;
    let flood = tokio::spawn(async move { while cut_socket.write_all(&[7; 65_536]).await.is_ok() {} });
    cut.read_exact(&mut [0; 1_000]).await.unwrap();

    site.rewrite(&format!("'{B}'"), "");

    assert_eq!(ended(&mut cut).await, Some(Code::POLICY));
    timeout(PATIENCE, flood).await.unwrap().unwrap();
    site.network.wait_for(&Seen::Unbound(A.into(), Code::DISALLOWED)).await;
    kept_socket.write_all(b"x").await.unwrap();
    kept.read_exact(&mut [0]).await.unwrap();

    site.rewrite("'*'", "");
    site.network.wait_for(&Seen::Bound(A.into())).await;
    site.connect(A).await;
}

#[tokio::test]
async fn a_policy_that_is_not_valid_or_gone_changes_nothing() {
    let mut site = Site::start("'*'", "    max_connections: 1\n", "").await;
    site.network.wait_for(&Seen::Bound(A.into())).await;
    let (mut stream, mut socket) = site.connect(A).await;
    let version = site.watch.guard().version();

    for spoil in
        [&(|file: &PathBuf| fs::write(file, "version: 1\nallow: [\n").unwrap()) as &dyn Fn(&PathBuf), &|file| {
            fs::remove_file(file).unwrap()
        }]
    {
        spoil(&site.policy);
        site.watch.look(true);
        assert_eq!(site.watch.guard().version(), version);
        assert_eq!(site.refused(A).await, Code::LIMIT);
    }
    socket.write_all(b"x").await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
}

/// CMD-001
#[tokio::test]
async fn a_command_needs_both_configuration_and_policy() {
    let mut site = Site::start("'*'", "", "commands: { restart: true, update: true }\n").await;
    site.network.wait_for(&Seen::Bound(A.into())).await;

    for command in [Command::Stop, Command::Update] {
        site.network.command(command);
        site.network.wait_for(&Seen::Answer(Code::FORBIDDEN)).await;
    }
    site.network.command(Command::Restart);
    site.network.wait_for(&Seen::Answer(Code::NO_ERROR)).await;
    assert_eq!(site.agent.outcome().await, adit::Outcome::Restart);
}

#[tokio::test]
async fn a_total_that_is_used_up_ends_everything_under_its_rule() {
    let mut site = Site::start("'*'", "    total_bytes: 100kB\n", "").await;
    site.network.wait_for(&Seen::Bound(A.into())).await;
    let (mut idle, _idle_socket) = site.connect(A).await;
    let (mut stream, mut socket) = site.connect(A).await;
    let flood = tokio::spawn(async move { while socket.write_all(&[7; 4_096]).await.is_ok() {} });

    assert_eq!(ended(&mut stream).await, Some(Code::POLICY));
    assert_eq!(ended(&mut idle).await, Some(Code::POLICY));
    timeout(PATIENCE, flood).await.unwrap().unwrap();
    assert_eq!(site.refused(A).await, Code::POLICY);
}

#[tokio::test]
async fn octets_come_at_the_rate_of_the_rule() {
    let mut site = Site::start("'*'", "    bytes_per_second: 200kB\n", "").await;
    site.network.wait_for(&Seen::Bound(A.into())).await;
    let (mut stream, mut socket) = site.connect(A).await;
    tokio::spawn(async move { while socket.write_all(&[7; 4_096]).await.is_ok() {} });
    let begun = Instant::now();

    stream.read_exact(&mut [0; 120_000]).await.unwrap();

    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(400), "{took:?}");
}

#[tokio::test]
async fn freezing_ends_all_within_a_second_says_why_and_lasts_until_it_is_thawed() {
    let mut site = Site::start("'*'", "", "").await;
    site.network.wait_for(&Seen::Bound(A.into())).await;
    let (mut stream, mut socket) = site.connect(A).await;
    let closed = site.network.session();

    site.watch.freezer().freeze("by a test").unwrap();

    assert_eq!(ended(&mut stream).await, Some(Code::POLICY));
    let error = timeout(PATIENCE, socket.read(&mut [0])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let cause = timeout(PATIENCE, closed.closed()).await.unwrap();
    assert_eq!(
        cause,
        adit_core::Cause::Remote(adit_core::Close {
            code: Code::FROZEN,
            text: "the customer has frozen this agent".into(),
        })
    );
    let board = board(&site.agent, |board| board.session == adit::SessionState::Frozen).await;
    assert!(board.frozen.unwrap().ends_with("by a test"));

    // An agent that is started now stays away as well.
    let file = site.policy.with_file_name("adit.yml");
    let watch = Watch::open(None, Some(file.clone()), site.watch.freezer().clone(), provider()).unwrap();
    let other = Running::start_under(&file, Some(watch.guard()));
    while site.network.seen.try_recv().is_ok() {}
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(site.network.seen.try_recv().is_err(), "nobody came");
    assert_eq!(timeout(PATIENCE, other.stop()).await.unwrap().unwrap(), adit::Outcome::Ended);

    site.watch.freezer().thaw().unwrap();
    site.network.wait_for(&Seen::Bound(A.into())).await;
    site.connect(A).await;
}

#[tokio::test]
async fn what_the_network_binds_beyond_the_policy_is_given_up() {
    let rules = Rules { renames: |url| (url == A).then(|| "tcp://:2222".to_owned()), ..Rules::default() };
    let state = folder();
    let mut site = Site::start_in(Some(state.clone()), rules, &format!("'{A}', '{B}'"), "", "").await;

    site.network.wait_for(&Seen::Unbound(A.into(), Code::DISALLOWED)).await;

    let board = board(&site.agent, |board| board.endpoints[0].problem.contains("the network bound tcp://:2222")).await;
    assert_eq!((board.endpoints[0].bound, board.endpoints[1].bound), (false, true));
    let watch = site.watch.clone();
    tokio::task::spawn_blocking(move || watch.close()).await.unwrap();
    let log = fs::read_to_string(state.join("audit").join("audit-00000000000000000001.jsonl")).unwrap();
    let told: Vec<_> =
        log.lines().filter(|line| line.contains("\"kind\":\"bind\"") && line.contains("\"a\"")).collect();
    let [given_up, withheld] = told.as_slice() else { panic!("{log}") };
    assert!(given_up.contains("\"decision\":\"refused\"") && given_up.contains(":2222"), "{log}");
    assert!(withheld.contains("\"event\":\"withheld\"") && withheld.contains("\"told\":\"DISALLOWED\""), "{log}");
    assert_eq!(site.network.withheld(1).await[0].0, A);
}

/// BIND-021: the network hears a code and the same words whatever is inside; the rule stays with the customer.
#[tokio::test]
async fn of_an_endpoint_that_no_rule_is_for_the_network_hears_why_until_one_is() {
    let mut site = Site::start(&format!("'{A}'"), "", "").await;
    site.network.wait_for(&Seen::Bound(A.into())).await;
    let disallowed =
        || (B.to_owned(), Code::DISALLOWED, "the customer's policy does not allow the endpoint".to_owned());
    assert_eq!(site.network.withheld(1).await, [disallowed()]);
    let seen = board(&site.agent, |board| board.endpoints.iter().any(|one| !one.told.is_empty())).await;
    let told: Vec<_> = seen.endpoints.iter().map(|one| (&*one.name, &*one.told)).collect();
    assert_eq!(told, [("a", ""), ("b", "DISALLOWED")]);

    site.rewrite(&format!("'{A}', '{B}'"), "");
    site.network.wait_for(&Seen::Bound(B.into())).await;
    assert_eq!(site.network.withheld(1).await, [(B.to_owned(), Code::NO_ERROR, String::new())]);
    board(&site.agent, |board| board.endpoints.iter().all(|one| one.bound && one.told.is_empty())).await;

    site.rewrite(&format!("'{A}'"), "");
    site.network.wait_for(&Seen::Unbound(B.into(), Code::DISALLOWED)).await;
    assert_eq!(site.network.withheld(1).await, [disallowed()]);
}
