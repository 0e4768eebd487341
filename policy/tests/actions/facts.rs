//! What later rules, the upstream and the log are told: headers, variables, values.

use adit_policy::{engine::Outcome, environment::Phase};
use http::HeaderValue;

use super::{
    REQUEST, outcome, short,
    support::{Caller, policy},
};

#[test]
fn log_tells_values_and_set_vars_keeps_their_types() {
    let policy = policy(
        r#"
on_http_request:
  - actions:
      - {type: set-vars, config: {vars: [{a: [1, 2]}, {b: "${vars.a.map(x, x * 2)}"}, {a: "${size(vars.b)}"}]}}
      - {type: log, config: {metadata: {a: "${vars.a}", b: "${vars.b}", c: {d: "${vars.a}!"}, e: null}}}
      - {type: log, config: {metadata: {again: "${actions.ngrok.log.metadata.a + 1}"}}}
"#,
    );

    let (outcome, mut run) = Caller::new("GET", "https://a.example/").run(&policy, REQUEST);

    assert!(matches!(outcome, Outcome::Continue));
    assert_eq!(
        format!("{:?}", run.take_logs()),
        r#"[[("a", Int(2)), ("b", List([Int(2), Int(4)])), ("c", Map({String("d"): String("2!")})), ("e", Null)], [("again", Int(3))]]"#
    );
    assert!(run.take_logs().is_empty());
}

#[test]
fn a_header_is_found_in_whatever_case_it_is_written() {
    let mut caller = Caller::new("GET", "https://a.example/").header("x-api-version", "2");
    caller.respond(200);
    caller.response.as_mut().unwrap().headers.insert("content-type", HeaderValue::from_static("text/html"));
    for (phase, expression) in [
        (
            REQUEST,
            "'2' in req.headers['X-Api-Version'] && 'X-API-VERSION' in req.headers && has(req.headers['X-Api-Version'])",
        ),
        (
            REQUEST,
            "!('X-None' in req.headers) && req.headers.all(name, name == name.lower()) && !('x-Cookie' in req.cookies)",
        ),
        (Phase::HttpResponse, "res.headers['Content-Type'] == ['text/html']"),
    ] {
        let text = format!(
            "{}: [{{expressions: [\"!({expression})\"], actions: [{{type: restrict-ips, config: {{allow: []}}}}]}}]",
            phase.name()
        );
        assert_eq!(short(caller.run(&policy(&text), phase).0), "continue", "{expression}");
    }
}

#[test]
fn headers_of_an_answer_are_removed() {
    let mut caller = Caller::new("GET", "https://a.example/").header("server", "a");
    caller.respond(200);
    caller.response.as_mut().unwrap().headers.insert("server", HeaderValue::from_static("b"));

    let told = outcome(&mut caller, Phase::HttpResponse, "remove-headers, config: {headers: [Server, x-none]}");

    assert_eq!(told, "continue");
    assert!(caller.response.as_ref().unwrap().headers.is_empty());
    assert_eq!(caller.request.headers["server"], "a");
}

#[test]
fn headers_that_were_added_and_removed_are_told() {
    let policy = policy(
        "on_http_request:
  - actions:
      - {type: add-headers, config: {headers: {X-A: '${req.method}'}}}
      - {type: remove-headers, config: {headers: [X-B]}}
  - expressions: [\"actions.ngrok.add_headers.headers_added == {'x-a': 'GET'} && actions.ngrok.remove_headers.headers_removed == ['x-b']\"]
    actions: [{type: close-connection}]",
    );
    assert_eq!(short(Caller::new("GET", "https://a.example/").run(&policy, REQUEST).0), "close");
}

#[test]
fn a_request_that_names_no_authority_is_known_by_its_host() {
    for (url, told) in [("/a", "https://b.example/a"), ("http://c.example/a", "http://c.example/a")] {
        let mut caller = Caller::new("GET", url).header("host", "b.example");
        let policy = policy(&format!(
            "on_http_request: [{{expressions: [\"string(req.url) == '{told}'\"], actions: [{{type: close-connection}}]}}]"
        ));
        assert_eq!(short(caller.run(&policy, REQUEST).0), "close", "{url}");
    }
}
