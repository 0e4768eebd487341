//! Why an endpoint is away, as the network's operator sees it.

use adit_tokio::proto::Code;

use super::support::{Network, until};

/// BIND-020, MSG-007
#[tokio::test]
async fn what_an_agent_says_of_an_endpoint_that_it_gives_up_is_shown_harmless_and_counted() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    let endpoint = agent.bind("tcp://:0", false);
    let port = agent.bound_port().await;
    let page = || network.admin(&format!("/readyz/endpoints?endpoint=tcp://:{port}"));
    assert!(page().starts_with("HTTP/1.1 200") && !page().contains("\"left\""), "{}", page());

    endpoint.unbind_because(false, Code::DISALLOWED, "\u{1b}[2Jno rule\nlevel=error \u{202e}");
    until("the page to say why", || page().contains("\"left\"")).await;

    let told = page();
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    for part in ["\"gone\":1", "\"how\":\"given up\"", "\"code\":\"DISALLOWED\"", "\"agent\":\"01010101"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let text = r#""text":"\\u{1b}[2Jno rule\\u{a}level=error \\u{202e}""#;
    assert!(told.contains(text), "{told}");
    until("it to be counted", || network.metric("adit_unbinds_total{code=\"DISALLOWED\"}") == 1).await;
    until("it to be logged", || network.log().contains("an endpoint was given up")).await;
    let log = network.log();
    assert!(!log.contains('\u{1b}') && !log.lines().any(|line| line.starts_with("level=error")), "V94: {log}");

    let _again = agent.bind(&format!("tcp://:{port}"), false);
    agent.bound_port().await;
    assert!(page().starts_with("HTTP/1.1 200") && !page().contains("\"left\""), "{}", page());
}

/// A code that nobody knows makes no label, and gives the endpoint up like any other.
#[tokio::test]
async fn a_reason_that_is_not_known_is_shown_by_its_number() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    let endpoint = agent.bind("tcp://:0", false);
    let port = agent.bound_port().await;

    endpoint.unbind_because(false, Code(0xdead_beef), "");

    let page = || network.admin(&format!("/readyz/endpoints?endpoint=tcp://:{port}"));
    until("the page to say why", || page().contains("\"code\":\"0xdeadbeef\"")).await;
    until("it to be counted", || network.metric("adit_unbinds_total{code=\"OTHER\"}") == 1).await;
}

/// An agent that goes as a whole says why by the end of its session.
#[tokio::test]
async fn the_end_of_a_session_says_why_its_endpoints_are_away() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    let _endpoint = agent.bind("tcp://:0", false);
    let port = agent.bound_port().await;

    agent.uplink.close(Code::FROZEN, "closed for an audit").await;

    let page = || network.admin(&format!("/readyz/endpoints?endpoint=tcp://:{port}"));
    until("the page to say why", || page().contains("\"left\"")).await;
    let told = page();
    for part in ["\"how\":\"session ended\"", "\"code\":\"FROZEN\"", "\"text\":\"closed for an audit\""] {
        assert!(told.contains(part), "{part}: {told}");
    }
}
