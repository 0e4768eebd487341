//! What an operator asks of agents by `adit-network command`, and which agents `adit-network agents` lists.

use core::time::Duration;

use adit_tokio::{
    CommandReply, UplinkEvent,
    proto::{Code, Command},
};

use sqlx::Row as _;

use super::support::{Agent, Done, Network, echo, until};

/// CMD-002, CMD-004
#[tokio::test]
async fn each_answer_of_an_agent_has_its_words_its_exit_code_and_its_number() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    echo(agent.bind("tcp://:0", false), b"");
    let url = format!("tcp://:{}", agent.bound_port().await);
    until("the agent to be listed with its endpoint", || network.run(&["agents"]).contains(&url)).await;

    for (verb, code, exit, word, result) in [
        ("stop", Code::NO_ERROR, 0, "obeys", "obeyed"),
        ("restart", Code::FORBIDDEN, 4, "ADIT-1510", "FORBIDDEN"),
        ("update", Code::UNKNOWN, 5, "ADIT-1511", "UNKNOWN"),
        ("update", Code::UNSUPPORTED, 6, "ADIT-1512", "UNSUPPORTED"),
        ("update", Code::BUSY, 7, "ADIT-1513", "BUSY"),
        ("update", Code::INTERNAL, 12, "ADIT-1518", "INTERNAL"),
        ("update", Code(0x0dea_d000), 12, "0xdead000", "OTHER"),
    ] {
        let said = "\u{1b}[2Jbecause\nof that";
        let (done, heard) =
            asked(&network, &mut agent, &[&url, verb, "--text", "ticket 4711"], |reply| reply.answer(code, said)).await;

        assert_eq!((done.exit, done.out.as_str()), (exit, ""), "{verb} {code}: {}", done.err);
        assert!(done.err.contains(word) && !done.err.contains('\u{1b}'), "{verb} {code}: {}", done.err);
        let [(command, text)] = heard.as_slice() else { panic!("{verb}: {heard:?}") };
        let expected = [("stop", Command::Stop), ("restart", Command::Restart), ("update", Command::Update)];
        assert!(expected.contains(&(verb, *command)) && text == "ticket 4711");
        let metric = format!("adit_commands_total{{command=\"{verb}\",result=\"{result}\"}}");
        assert_eq!(network.metric(&metric), 1, "{metric}");
    }

    let json = ["restart", "--output", "json"];
    let (done, _) = asked(&network, &mut agent, &[&"01".repeat(16), json[0], json[1], json[2]], |reply| {
        reply.answer(Code::FORBIDDEN, "no")
    })
    .await;
    let shown: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(
        (done.exit, &shown["state"], &shown["code"], &shown["answer"]),
        (4, &"answered".into(), &"FORBIDDEN".into(), &"no".into())
    );
    let log = network.log();
    assert!(log.contains("a command was handed over") && log.contains("ticket 4711") && log.contains("uid"), "{log}");
    assert!(!log.contains('\u{1b}'), "V94: {log}");
}

#[tokio::test]
async fn an_agent_that_does_not_answer_is_asked_once_and_nobody_knows_what_came_of_it() {
    let network = Network::start("");
    let (_, token) = network.token(&[]);
    let mut agent = listed(&network, &token, 1).await;
    let mut kept = Vec::new();

    let (done, heard) = asked(&network, &mut agent, &["0101", "stop", "--wait", "1s"], |reply| kept.push(reply)).await;
    assert_eq!((done.exit, heard.len()), (11, 1), "{}", done.err);
    assert!(done.err.contains("ADIT-1517") && done.err.contains("did not answer in time"), "{}", done.err);
    drop(kept);
}

#[tokio::test]
async fn a_session_that_ends_without_an_answer_is_told_at_once() {
    let network = Network::start("limits: {resume_window: 0}\n");
    let (_, token) = network.token(&[]);
    let mut agent = listed(&network, &token, 1).await;
    let mut kept = Vec::new();

    let asking = network.command(&["0101", "restart", "--wait", "1h"]);
    while kept.is_empty() {
        if let UplinkEvent::Command { reply, .. } = agent.events.next().await.unwrap() {
            kept.push(reply);
        }
    }
    agent.uplink.close(Code::NO_ERROR, "").await;

    let done = asking.await.unwrap();
    assert_eq!(done.exit, 11, "{}", done.err);
    assert!(done.err.contains("the session ended before the agent answered"), "{}", done.err);
    assert_eq!(network.metric("adit_commands_total{command=\"restart\",result=\"lost\"}"), 1);
}

#[tokio::test]
async fn what_an_agent_was_asked_while_it_was_away_never_reaches_it_later() {
    let network = Network::start("");
    let (_, token) = network.token(&[]);
    let id = "01".repeat(16);
    let agent = listed(&network, &token, 1).await;
    agent.uplink.close(Code::NO_ERROR, "").await;
    until("the agent to be away", || network.run(&["agents"]).is_empty()).await;
    assert!(network.run(&["agents", "--all"]).contains("away"));

    let unknown = network.command(&["0101", "stop"]).await.unwrap();
    assert_eq!(unknown.exit, 8, "by its whole id only: {}", unknown.err);
    let done = network.command(&[&id, "stop", "--wait", "1s"]).await.unwrap();
    assert_eq!(done.exit, 10, "{}", done.err);
    assert!(done.err.contains("ADIT-1516"), "{}", done.err);
    assert_eq!(network.metric("adit_commands_total{command=\"stop\",result=\"expired\"}"), 1);

    // It comes back in time for the next.
    let asking = network.command(&[&id, "restart", "--wait", "1m"]);
    let mut agent = network.agent(&token, 1);
    let heard = agent
        .until("the command", |event| match event {
            UplinkEvent::Command { command, .. } => Some(*command),
            _ => None,
        })
        .await;
    assert_eq!(heard, Command::Restart);
    assert_eq!(asking.await.unwrap().exit, 4, "an answer that is dropped refuses");
}

#[tokio::test]
async fn of_two_networks_on_one_database_one_hands_a_command_over_and_only_once() {
    let first = Network::start("");
    let database = first.folder.join("adit.db");
    let second = Network::start(&format!("database: {{path: '{}'}}\n", database.display()));
    let (_, token) = first.token(&[]);
    let mut agents = [first.agent(&token, 1), second.agent(&token, 1)];
    until("both sessions to be known", || first.run(&["agents", "--output", "json"]).contains("\"sessions\":2")).await;

    let mut heard = 0;
    for _ in 0..4 {
        let mut asking = first.command(&["0101", "restart"]);
        let [one, other] = &mut agents;
        let done = loop {
            let event = tokio::select! {
                done = &mut asking => break done.unwrap(),
                event = one.events.next() => event,
                event = other.events.next() => event,
            };
            if let Some(UplinkEvent::Command { reply, .. }) = event {
                heard += 1;
                reply.answer(Code::NO_ERROR, "");
            }
        };
        assert_eq!(done.exit, 0, "{}", done.err);
    }

    let metric = "adit_commands_total{command=\"restart\",result=\"obeyed\"}";
    assert_eq!((heard, first.metric(metric) + second.metric(metric)), (4, 4));
}

/// CMD-006
#[tokio::test]
async fn a_document_reaches_the_agent_whole_or_not_at_all() {
    let network = Network::start("");
    let (_, token) = network.token(&[]);
    let mut agent = listed(&network, &token, 1).await;
    let file = network.folder.join("document.yml");
    let path = file.to_str().unwrap();

    std::fs::write(&file, "ä".repeat(3_073)).unwrap();
    let refused = network.command(&["0101", "configuration", path]).await.unwrap();
    assert_eq!(refused.exit, 1, "{}", refused.err);
    assert!(refused.err.contains("larger than the 6144 octets"), "{}", refused.err);

    let document = "ä".repeat(3_072);
    std::fs::write(&file, &document).unwrap();
    let text = "x".repeat(1_024);
    let mut asking = network.command(&["0101", "configuration", path, "--text", &text]);
    let done = loop {
        tokio::select! {
            done = &mut asking => break done.unwrap(),
            event = agent.events.next() => if let UplinkEvent::Command { command, text: said, document: sent, reply } = event.unwrap() {
                assert_eq!((command, said == text, sent == document), (Command::Configuration, true, true));
                reply.answer(Code::DOCUMENT, "line 1: no endpoint");
            },
        }
    };
    assert_eq!(done.exit, 13, "{}", done.err);
    assert!(done.err.contains("ADIT-1519") && done.err.contains("line 1: no endpoint"), "{}", done.err);
}

#[tokio::test]
async fn who_is_meant_is_one_agent_or_nobody_is_asked() {
    let network = Network::start("");
    let (_, acme) = network.token(&[]);
    let (_, token_of_globex) = network.token_of("globex", &[]);
    let mut agents = [network.agent(&acme, 1), network.agent(&token_of_globex, 1), network.agent(&acme, 2)];
    until("three agents", || network.run(&["agents"]).lines().count() == 3).await;

    for (arguments, exit, said) in [
        (&["0101", "stop"][..], 9, "ADIT-1515"),
        (&["0101", "stop", "--account", "nobody"], 8, "ADIT-1514"),
        (&["010", "stop"], 8, "no agent is called 010"),
        (&["0303", "stop"], 8, "ADIT-1514"),
        (&["0101", "format"], 2, "possible values"),
        (&["0101", "configuration"], 2, "FILE"),
        (&["0101", "stop", "file"], 2, "takes no FILE"),
        (&["0101", "configuration", "/nowhere"], 1, "cannot read /nowhere"),
        (&["0101", "stop", "--wait", "2h"], 2, "1s to 1h"),
    ] {
        let done = network.command(arguments).await.unwrap();
        assert_eq!(done.exit, exit, "{arguments:?}: {}", done.err);
        assert!(done.err.contains(said), "{arguments:?}: {}", done.err);
        let named = ["acme", "globex"].iter().filter(|account| done.err.contains(**account)).count();
        assert_eq!(named, if exit == 9 { 2 } else { 0 }, "the candidates: {}", done.err);
    }
    let [_, globex, _] = &mut agents;
    let (done, heard) =
        asked(&network, globex, &["0101", "stop", "--account", "globex"], |reply| reply.answer(Code::NO_ERROR, ""))
            .await;
    assert_eq!((done.exit, heard.len()), (0, 1), "{}", done.err);
    assert!(done.err.contains("of globex obeys"), "{}", done.err);

    // Of two with one id the one that is there is not meant because the other is away.
    globex.uplink.close(Code::NO_ERROR, "").await;
    until("one to be away", || network.run(&["agents"]).lines().count() == 2).await;
    let done = network.command(&[&"01".repeat(16), "stop"]).await.unwrap();
    assert!(done.exit == 9 && done.err.contains("acme") && done.err.contains("globex"), "{}", done.err);
    agents[1] = network.agent(&token_of_globex, 1);
    until("three agents again", || network.run(&["agents"]).lines().count() == 3).await;

    let page = network.run(&["agents", "--limit", "2", "--output", "json"]);
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let next = page["next"].as_str().unwrap();
    assert_eq!((page["agents"].as_array().unwrap().len(), next), (2, format!("acme/{}", "02".repeat(16)).as_str()));
    let rest = network.run(&["agents", "--after", next]);
    assert!(rest.lines().count() == 1 && rest.contains("globex"), "{rest}");
    assert!(!rest.contains('\u{1b}') && rest.contains("127.0.0.1:") && rest.contains("test\\u{1b}"), "{rest}");
}

#[tokio::test]
async fn what_is_interrupted_before_it_was_handed_over_is_withdrawn() {
    let network = Network::start("");
    let (_, token) = network.token(&[]);
    let agent = listed(&network, &token, 1).await;
    agent.uplink.close(Code::NO_ERROR, "").await;
    until("the agent to be away", || network.run(&["agents"]).is_empty()).await;

    let child = network.asking(&[&"01".repeat(16), "stop", "--wait", "1h"]);
    let database = network.database().await;
    let states = "SELECT state FROM commands";
    while sqlx::query(states).fetch_all(&database).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let done = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();

    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.code() == Some(10) && said.contains("withdrawn"), "{said}");
    let state: String = sqlx::query(states).fetch_one(&database).await.unwrap().get(0);
    assert_eq!(state, "expired");
}

#[tokio::test]
async fn a_network_that_another_took_for_dead_lists_its_agents_again() {
    let network = Network::start("");
    let (_, token) = network.token(&[]);
    let _agent = listed(&network, &token, 1).await;
    let database = network.database().await;

    sqlx::query("DELETE FROM nodes").execute(&database).await.unwrap();
    sqlx::query("UPDATE sessions SET gone = ?").bind(i64::MAX).execute(&database).await.unwrap();

    assert_eq!(network.run(&["agents"]), "");
    until("the agent to be listed again", || !network.run(&["agents"]).is_empty()).await;
}

/// Runs the command while the agent answers what it is asked; returns how it ends, and what the agent was asked.
async fn asked(
    network: &Network,
    agent: &mut Agent,
    arguments: &[&str],
    mut answer: impl FnMut(CommandReply),
) -> (Done, Vec<(Command, String)>) {
    let (mut asking, mut heard) = (network.command(arguments), Vec::new());
    loop {
        tokio::select! {
            done = &mut asking => return (done.unwrap(), heard),
            event = agent.events.next() => if let UplinkEvent::Command { command, text, reply, .. } = event.unwrap() {
                heard.push((command, text));
                answer(reply);
            },
            () = tokio::time::sleep(PATIENCE) => panic!("in vain: {arguments:?}"),
        }
    }
}

/// Starts an agent and waits until it is listed.
async fn listed(network: &Network, token: &adit_tokio::proto::Secret, agent: u8) -> Agent {
    let started = network.agent(token, agent);
    until("the agent to be listed", || network.run(&["agents"]).contains(&format!("{agent:02x}").repeat(16))).await;
    started
}

const PATIENCE: Duration = Duration::from_secs(30);
