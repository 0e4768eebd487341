//! Policies on the way: what rules see is what the upstream gets.

use std::sync::atomic::Ordering;

use adit_network::{Fault, config::EndpointKind, http::Note};

use crate::support::*;

#[tokio::test]
async fn every_answer_and_what_the_upstream_gets_has_an_id_that_the_caller_cannot_give() {
    let edge = Edge::new(vec![echo().await]).await;
    let mut caller = edge.connect().await;
    let mut ids = Vec::new();

    for host in ["a.example", "unknown.example", "a.example"] {
        caller
            .send(format!(
                "GET / HTTP/1.1\r\nHost: {host}\r\nADIT-Request-Id: forged\r\nadit_request_id: forged\r\n\r\n"
            ))
            .await;
        let head = caller.head().await.unwrap();
        let body = caller.body(&head).await;
        let id = field(&head, "adit-request-id").to_owned();
        assert!(id.len() == 32 && id.bytes().all(|octet| octet.is_ascii_hexdigit()), "{head}");
        assert!(!body.contains("forged"), "{body}");
        if host == "a.example" {
            assert_eq!(field(&body, "adit-request-id"), id);
        }
        ids.push(id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
    let malformed = edge.talk("GET / HTTP/1.1\r\nHost : a.example\r\n\r\n").await;
    assert_eq!(field(&malformed, "adit-request-id").len(), 32, "{malformed}");
}

#[tokio::test]
async fn rules_change_what_the_upstream_gets_and_what_the_caller_hears() {
    let edge = governed(
        "
on_http_request:
  - expressions: [\"req.headers['x-a'] == ['1']\"]
    actions:
      - {type: add-headers, config: {headers: {x-from: \"${conn.client_ip} ${req.host} ${endpoint.protocol}\", host: other.example}}}
      - {type: remove-headers, config: {headers: [x-a]}}
on_http_response:
  - expressions: ['res.status_code == 200']
    actions: [{type: add-headers, config: {headers: {x-said: \"${req.method} ${req.url.path}\"}}}]
",
    )
    .await;

    let answer = edge.talk(CLOSING.replace("X: 1", "X-A: 1")).await;

    assert_eq!(status(&answer), "200");
    assert_eq!(field(&answer, "x-said"), "GET /x");
    assert_eq!(field(&answer, "x-from"), "127.0.0.1 a.example http");
    assert_eq!(field(&answer, "host"), "other.example");
    assert!(!answer.contains("x-a:"), "{answer}");
}

#[tokio::test]
async fn a_rule_that_refuses_is_answered_and_nothing_reaches_the_upstream() {
    let upstream = echo().await;
    let edge = Edge::new(vec![upstream.clone()]).await;
    edge.govern(
        0,
        URL,
        EndpointKind::Agent,
        "on_http_request: [{actions: [{type: deny, config: {status_code: 401}}]}]",
    );

    let answer = edge.talk(CLOSING).await;

    assert_eq!((status(&answer), field(&answer, "adit-error")), ("401", Fault::PolicyDenied.code()));
    assert_eq!(field(&answer, "adit-request-id").len(), 32);
    assert_eq!(upstream.opened.load(Ordering::SeqCst), 0);
    assert!(edge.backend.notes.lock().contains(&Note::Refused(Fault::PolicyDenied)));
    let other = edge.talk(CLOSING.replace("a.example", "other.example")).await;
    assert_eq!(status(&other), "200", "it is another endpoint's policy");
}

#[tokio::test]
async fn what_cannot_be_decided_is_refused() {
    let upstream = echo().await;
    let edge = Edge::new(vec![upstream.clone()]).await;
    edge.govern(
        0,
        URL,
        EndpointKind::Agent,
        "on_http_request: [{expressions: [\"req.headers['none'][0] == 'x'\"], actions: [{type: deny}]}]",
    );

    let answer = edge.talk(CLOSING).await;

    assert_eq!((status(&answer), field(&answer, "adit-error")), ("500", Fault::PolicyFailed.code()));
    assert_eq!(upstream.opened.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_rule_answers_in_place_of_the_upstream() {
    let edge = governed(
        "
on_http_request:
  - expressions: [\"req.url.path == '/x'\"]
    actions: [{type: custom-response, config: {status_code: 418, headers: {x-a: b}, body: \"for ${req.url.path}\"}}]
on_http_response:
  - actions: [{type: add-headers, config: {headers: {x-status: \"${res.status_code}\"}}}]
",
    )
    .await;

    let answer = edge.talk(CLOSING).await;
    assert_eq!((status(&answer), field(&answer, "x-a"), field(&answer, "x-status")), ("418", "b", "418"));
    assert_eq!((field(&answer, "content-length"), body(&answer)), ("6", "for /x"));

    let head = edge.talk(CLOSING.replace("GET", "HEAD")).await;
    assert_eq!((status(&head), field(&head, "content-length"), body(&head)), ("418", "6", ""));

    // The body that came with it is not taken for a request.
    let posted = edge
        .talk("POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nGET /GET /y HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(["HTTP/1.1 418 ", "HTTP/1.1 200 "].map(|line| posted.matches(line).count()), [1, 1], "{posted}");
}

#[tokio::test]
async fn a_rule_for_answers_takes_the_place_of_the_upstreams_and_its_connection_is_not_used_again() {
    let upstream = echo().await;
    let edge = Edge::new(vec![upstream.clone()]).await;
    let policy = "on_http_response: [{actions: [{type: custom-response, config: {status_code: 404, body: gone}}]}]";
    edge.govern(0, URL, EndpointKind::Agent, policy);
    let mut caller = edge.connect().await;

    for _ in 0..2 {
        caller.send(CLOSING.replace("Connection: close\r\n", "")).await;
        let head = caller.head().await.unwrap();
        assert_eq!((status(&head), caller.body(&head).await.as_str()), ("404", "gone"));
    }

    assert_eq!(upstream.opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_rule_closes_the_connection_without_an_answer() {
    for policy in [
        "on_http_request: [{actions: [{type: close-connection}]}]",
        "on_tcp_connect: [{actions: [{type: close-connection}]}]",
        "on_tcp_connect: [{actions: [{type: deny}]}]",
        "on_tcp_connect: [{actions: [{type: restrict-ips, config: {allow: [192.0.2.0/24]}}]}]",
    ] {
        let upstream = echo().await;
        let edge = Edge::new(vec![upstream.clone()]).await;
        edge.govern(0, URL, EndpointKind::Agent, policy);

        assert_eq!(edge.talk(CLOSING.replace("Connection: close\r\n", "")).await, "", "{policy}");

        assert_eq!(upstream.opened.load(Ordering::SeqCst), 0, "{policy}");
    }
}

#[tokio::test]
async fn rules_for_connections_run_once_for_each_and_hand_on_nothing_to_other_endpoints() {
    let edge = governed("on_tcp_connect: [{actions: [{type: restrict-ips, config: {allow: [127.0.0.1]}}]}]").await;
    let mut caller = edge.connect().await;

    for host in ["a.example", "other.example", "a.example"] {
        caller.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let head = caller.head().await.unwrap();
        assert_eq!(status(&head), "200", "{host}");
        caller.body(&head).await;
    }
}

#[tokio::test]
async fn rules_see_an_answer_that_leaves_http_and_may_take_its_place() {
    let says = says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n", false).await;
    let edge = Edge::new(vec![says]).await;
    let request = "GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    let rule =
        |action: &str| format!("on_http_response: [{{expressions: ['res.status_code == 101'], actions: [{action}]}}]");

    edge.govern(0, URL, EndpointKind::Agent, &rule("{type: add-headers, config: {headers: {x-seen: yes it is}}}"));
    let mut caller = edge.connect().await;
    caller.send(request).await;
    let head = caller.head().await.unwrap();
    assert_eq!((status(&head), field(&head, "x-seen"), field(&head, "upgrade")), ("101", "yes it is", "echo"));

    edge.govern(0, URL, EndpointKind::Agent, &rule("{type: custom-response, config: {status_code: 403, body: stay}}"));
    let mut caller = edge.connect().await;
    caller.send(request).await;
    let head = caller.head().await.unwrap();
    assert_eq!((status(&head), caller.body(&head).await.as_str()), ("403", "stay"));
}

#[tokio::test]
async fn a_cloud_endpoint_whose_rules_do_not_answer_says_so() {
    let edge = Edge::new(Vec::new()).await;
    edge.govern(0, URL, EndpointKind::Cloud, "on_http_request: [{expressions: ['false'], actions: [{type: deny}]}]");

    let answer = edge.talk(CLOSING).await;

    assert_eq!((status(&answer), field(&answer, "adit-error")), ("404", Fault::NoAnswer.code()));
}

#[tokio::test]
async fn a_request_is_forwarded_to_an_endpoint_of_the_account_whose_own_rules_hold_as_well() {
    let edge = Edge::new(Vec::new()).await;
    edge.internal(10, "https://crm.internal", vec![echo().await]);
    edge.internal(11, "https://inner.internal", Vec::new());
    edge.govern(
        0,
        URL,
        EndpointKind::Cloud,
        "
on_http_request:
  - actions:
      - {type: add-headers, config: {headers: {x-outer: '1'}}}
      - {type: forward-internal, config: {url: 'https://inner.internal'}}
on_http_response: [{actions: [{type: add-headers, config: {headers: {x-order: outer}}}]}]
",
    );
    edge.govern(
        11,
        "7/https://inner.internal",
        EndpointKind::Cloud,
        "
on_http_request:
  - expressions: [\"req.headers['x-outer'] == ['1']\"]
    actions: [{type: forward-internal, config: {url: 'https://crm.internal'}}]
on_http_response: [{actions: [{type: add-headers, config: {headers: {x-order: inner}}}]}]
",
    );

    let answer = edge.talk(CLOSING).await;

    assert_eq!((status(&answer), field(&answer, "x-outer"), field(&answer, "host")), ("200", "1", "a.example"));
    let orders: Vec<_> = answer.lines().filter(|line| line.starts_with("x-order")).collect();
    assert_eq!(orders, ["x-order: inner", "x-order: outer"]);
}

#[tokio::test]
async fn a_forward_to_nothing_is_told_and_one_in_a_circle_ends() {
    let edge = Edge::new(Vec::new()).await;
    let policy =
        |url: &str| format!("on_http_request: [{{actions: [{{type: forward-internal, config: {{url: '{url}'}}}}]}}]");
    edge.govern(0, URL, EndpointKind::Cloud, &policy("https://none.internal"));
    let unknown = edge.talk(CLOSING).await;
    assert_eq!((status(&unknown), field(&unknown, "adit-error")), ("502", Fault::ForwardUnknown.code()));

    edge.internal(10, "https://round.internal", Vec::new());
    edge.govern(0, URL, EndpointKind::Cloud, &policy("https://round.internal"));
    edge.govern(10, "7/https://round.internal", EndpointKind::Cloud, &policy("https://round.internal"));
    let circle = edge.talk(CLOSING).await;
    assert_eq!((status(&circle), field(&circle, "adit-error")), ("508", Fault::ForwardLoop.code()));
}

#[tokio::test]
async fn rules_go_on_where_a_forward_may_fail() {
    let edge = Edge::new(Vec::new()).await;
    edge.govern(
        0,
        URL,
        EndpointKind::Cloud,
        "
on_http_request:
  - actions:
      - {type: forward-internal, config: {url: 'https://none.internal', on_error: continue}}
      - {type: custom-response, config: {status_code: 503, body: closed for today}}
",
    );

    let answer = edge.talk(CLOSING).await;

    assert_eq!((status(&answer), body(&answer)), ("503", "closed for today"));
}

/// V58
#[tokio::test]
async fn no_spelling_of_a_path_gets_past_a_rule_for_it() {
    let upstream = echo().await;
    let edge = Edge::new(vec![upstream.clone()]).await;
    let rule = "on_http_request: [{expressions: [\"req.url.path.lowerAscii().startsWith('/admin')\"], actions: [{type: deny}]}]";
    edge.govern(0, URL, EndpointKind::Agent, rule);
    let mut spellings = 0;

    for path in [
        "/admin",
        "/admin/",
        "/admin?x",
        "/admin/x",
        "/Admin",
        "/ADMIN",
        "/%61dmin",
        "/%41dmin",
        "/adm%69n",
        "/%61%64%6d%69%6e",
        "//admin",
        "///admin",
        "/./admin",
        "/.//admin",
        "/%2e/admin",
        "/%2E/admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/%2E./admin",
        "/x/.%2e/admin",
        "/x//../admin",
        "/x/y/../../admin",
        "/admin/.",
        "/admin/x/..",
        "/admin//",
    ] {
        assert_eq!(status(&edge.talk(CLOSING.replace("/x", path)).await), "403", "{path}");
        spellings += 1;
    }
    for path in [
        "/../admin",
        "/%2e%2e/admin",
        "/x/../../admin",
        "/x%2fadmin",
        "/x%2F..%2Fadmin",
        "/x%5cadmin",
        "/x\\..\\admin",
        "/admin;x=1",
        "/x/..;/admin",
        "/admin%00",
        "/admin%0d%0ax",
        "/%2561dmin",
        "/%252e%252e/admin",
        "/%25%32e/admin",
        "/%u0061dmin",
        "/%c0%ae%c0%ae/admin",
        "/%c0%afadmin",
        "/%",
        "/%zz",
    ] {
        let answer = edge.talk(CLOSING.replace("/x", path)).await;
        assert_eq!(status(&answer), "400", "{path}: {answer}");
        spellings += 1;
    }
    assert!(spellings >= 40);
    assert_eq!(upstream.opened.load(Ordering::SeqCst), 0);

    // Others arrive in the form that the rule has seen.
    for (path, arrives) in [("/x/%2e/%41//b%2Dc?d=%2e", "GET /x/A/b-c?d=%2e "), ("/caf%c3%a9", "GET /caf%C3%A9 ")] {
        let answer = edge.talk(CLOSING.replace("/x", path)).await;
        assert!(body(&answer).starts_with(arrives), "{answer}");
    }
    // And where no policy looks, a path is the upstream's own affair.
    let free = edge.talk(CLOSING.replace("/x", "/x%2f;y//z").replace("a.example", "other.example")).await;
    assert!(body(&free).starts_with("GET /x%2f;y//z "), "{free}");
}

async fn governed(policy: &str) -> Edge {
    let edge = Edge::new(vec![echo().await]).await;
    edge.govern(0, URL, EndpointKind::Agent, policy);
    edge
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

const URL: &str = "http://a.example";
const CLOSING: &str = "GET /x HTTP/1.1\r\nHost: a.example\r\nX: 1\r\nConnection: close\r\n\r\n";
