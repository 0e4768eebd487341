//! Why an endpoint is away, as the network's operator sees it.

use adit_tokio::proto::{Code, Withheld};

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

/// BIND-021, BIND-024, MSG-007
#[tokio::test]
async fn what_an_agent_does_not_ask_for_is_shown_with_its_reason_and_binds_nothing() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let mut agent = network.agent(&token, 1);
    let probe = agent.bind("tcp://:0", false);
    let port = agent.bound_port().await;
    probe.unbind(true);
    let url = format!("tcp://:{port}");
    let page = || network.admin(&format!("/readyz/endpoints?endpoint={url}"));
    let gauge = || network.metric("adit_endpoints_withheld{code=\"DISALLOWED\"}");
    until("the port to be free", || network.metric("adit_binds") == 0).await;

    agent.uplink.withhold(withheld(&url, "\u{1b}[2Jno rule\nlevel=error \u{202e}"));
    until("the page to say why", || page().contains("\"withheld\"")).await;

    let told = page();
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    let text = r#""text":"\\u{1b}[2Jno rule\\u{a}level=error \\u{202e}""#;
    for part in
        ["\"gone\":1", "\"members\":[]", "\"since\":\"2", "\"code\":\"DISALLOWED\"", "\"agent\":\"01010101", text]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!((gauge(), network.metric("adit_binds")), (1, 0));
    until("it to be logged", || network.log().contains("an endpoint is withheld")).await;
    let log = network.log();
    assert!(!log.contains('\u{1b}') && !log.lines().any(|line| line.starts_with("level=error")), "V94: {log}");

    let _again = agent.bind(&url, false);
    agent.bound_port().await;
    until("the page to be as ever", || page().starts_with("HTTP/1.1 200") && !page().contains("\"withheld\"")).await;
    assert_eq!(gauge(), 0);
}

/// BIND-022, BIND-024
#[tokio::test]
async fn what_is_withheld_is_forgotten_with_the_session() {
    let network = Network::start("");
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let agent = network.agent(&token, 1);
    let gauge = || network.metric("adit_endpoints_withheld{code=\"DISALLOWED\"}");
    agent.uplink.withhold(withheld("tcp://:4711", ""));
    until("it to be counted", || gauge() == 1).await;

    agent.uplink.close(Code::FROZEN, "").await;

    until("it to be forgotten", || gauge() == 0).await;
    assert!(network.admin("/readyz/endpoints?endpoint=tcp://:4711").starts_with("HTTP/1.1 404"));
}

/// BIND-024
#[tokio::test]
async fn what_is_withheld_of_an_endpoint_that_is_not_the_accounts_is_shown_nowhere() {
    let network = Network::start("");
    let (_, token) = network.token_of("other", &["bind:tcp:0-65535"]);
    let mut owner = network.agent(&token, 1);
    let _endpoint = owner.bind("tcp://:0", false);
    let port = owner.bound_port().await;
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let (liar, gauge) = (network.agent(&token, 2), || network.metric("adit_endpoints_withheld{code=\"DISALLOWED\"}"));
    let elsewhere = format!("/readyz/endpoints?endpoint=tcp://:{port}");

    // What is said last is taken last: when it is shown, all before has been decided.
    for url in
        [&*format!("tcp://:{port}"), "https://not-allowed.example", "https://", "tcp://:0", "gopher://a", "tcp://:4711"]
    {
        liar.uplink.withhold(withheld(url, "a lie"));
    }
    until("what is its own to be shown", || network.admin("/readyz/endpoints").contains("tcp://:4711")).await;

    assert_eq!(gauge(), 1);
    let told = network.admin(&elsewhere);
    assert!(told.starts_with("HTTP/1.1 200") && !told.contains("withheld"), "{told}");
    assert!(!network.admin("/readyz/endpoints").contains("not-allowed.example"));
}

fn withheld(url: &str, text: &str) -> Withheld {
    Withheld { code: Code::DISALLOWED, text: text.to_owned(), ..Withheld::taken_back(url) }
}

/// BIND-024
#[tokio::test]
async fn what_is_withheld_of_an_endpoint_that_another_account_binds_later_is_forgotten() {
    let network = Network::start("");
    let (_, token) = network.token_of("other", &["bind:tcp:0-65535"]);
    let mut owner = network.agent(&token, 1);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (_, token) = network.token(&["bind:tcp:0-65535"]);
    let first = network.agent(&token, 2);
    first.uplink.withhold(withheld(&format!("tcp://:{port}"), ""));
    let gauge = || network.metric("adit_endpoints_withheld{code=\"DISALLOWED\"}");
    until("it to be shown", || gauge() == 1).await;

    let _endpoint = owner.bind(&format!("tcp://:{port}"), false);
    owner.bound_port().await;

    assert_eq!(gauge(), 0);
}
