//! Actions on bodies, and `http-request`: what they are configured with, and what they want.

mod support;

use core::{net::IpAddr, time::Duration};

use adit_policy::{
    body::{Wish, for_answer, for_request},
    document::Document,
    engine::{Answer, Ask, Carried, Fetch, FetchError, Outcome, Run, Step, Why},
    environment::Phase,
};
use support::{Caller, policy};

/// What becomes of a request's body.
fn sent(actions: &str, text: &str) -> String {
    let mut caller = Caller::new("POST", "https://a.example/").header("x-to", "given").header("content-length", "9");
    let policy = policy(&format!("on_http_request: [{{actions: [{actions}]}}]"));
    let (outcome, mut run) = caller.run(&policy, Phase::HttpRequest);
    assert!(matches!(outcome, Outcome::Continue), "{outcome:?}");
    let mut pipeline = for_request(run.take_transforms(), &mut caller.request.headers).expect("whole");
    assert!(!caller.request.headers.contains_key("content-length"));
    let mut out = Vec::new();
    pipeline.push(text.as_bytes(), &mut out).and_then(|()| pipeline.finish(&mut out)).expect("a small text");
    String::from_utf8(out).expect("text")
}

/// What a caller gets of an answer's body, and its coding.
fn got(document: &str, kind: &str, text: &str) -> (String, Option<String>) {
    let mut caller = Caller::new("GET", "https://a.example/").header("accept-encoding", "gzip");
    caller.respond(200);
    let response = caller.response.as_mut().expect("an answer");
    response.headers.insert("content-type", kind.parse().expect("a value"));
    let (outcome, mut run) = caller.run(&policy(document), Phase::HttpResponse);
    assert!(matches!(outcome, Outcome::Continue), "{outcome:?}");
    let response = caller.response.as_mut().expect("an answer");
    let (method, accepted) = (&caller.request.method, &caller.request.headers);
    let mut pipeline =
        for_answer(run.take_transforms(), method, response.status, accepted, &mut response.headers).expect("whole");
    let mut out = Vec::new();
    pipeline.push(text.as_bytes(), &mut out).and_then(|()| pipeline.finish(&mut out)).expect("a small text");
    let coding = response.headers.get("content-encoding").map(|value| value.to_str().expect("text").to_owned());
    (String::from_utf8_lossy(&out).into_owned(), coding)
}

#[test]
fn the_body_of_a_request_is_replaced() {
    for (replacements, text, expected) in [
        (r#"{from: "a+", to: b}"#, "aaca", "bcb"),
        (r#"{from: "a+"}"#, "aaca", "c"),
        (r#"{from: a, to: b}, {from: b, to: c}"#, "ab", "cc"),
        (r#"{from: 'key=(\w+)', to: "key=<$1>"}"#, "key=x&", "key=<x>&"),
        (r#"{from: "${'a' + 'b'}", to: "${getReqHeader('x-to')[0]}"}"#, "xaby", "xgiveny"),
    ] {
        let action = format!("{{type: request-body-find-replace, config: {{replacements: [{replacements}]}}}}");
        assert_eq!(sent(&action, text), expected, "{replacements}");
    }
}

#[test]
fn the_body_of_an_answer_is_replaced_and_its_events_are() {
    let all = "on_http_response: [{actions: [{type: response-body-find-replace, config: {replacements: [{from: a, to: b}]}}]}]";
    assert_eq!(got(all, "text/html", "banana"), ("bbnbnb".into(), None));

    let events = "on_event_stream_message: [{expressions: ['res.status_code == 200'], actions: [{type: sse-find-replace, \
                  config: {replacements: [{from: a, to: b}, {field: retry, from: '\\d+', to: '5'}, {field: \"${'da' + 'ta'}\", from: b, to: c}]}}]}]";
    let stream = "data: a\nretry: 10\n\nevent: a\n\n";
    assert_eq!(got(events, "text/event-stream", stream), ("data: c\nretry: 5\n\nevent: a\n\n".into(), None));
    assert_eq!(got(events, "text/plain", stream), (stream.into(), None));
}

#[test]
fn rules_of_events_are_for_streams_of_events_alone() {
    // Without `x` the expression has no value, and what has none refuses.
    let document = "on_event_stream_message: [{expressions: [\"res.headers['x'][0] == ''\"], \
                    actions: [{type: sse-find-replace, config: {replacements: [{from: a}]}}]}]";
    for (kind, refused) in [("text/plain", false), ("text/event-stream", true)] {
        let mut caller = Caller::new("GET", "https://a.example/");
        caller.respond(200);
        let response = caller.response.as_mut().expect("an answer");
        response.headers.insert("content-type", kind.parse().expect("a value"));
        let (outcome, _) = caller.run(&policy(document), Phase::HttpResponse);
        assert_eq!(matches!(outcome, Outcome::Refuse(_)), refused, "{kind}");
    }
}

#[test]
fn an_answer_is_compressed_as_the_action_says() {
    let compress = |config: &str| {
        let document = format!("on_http_response: [{{actions: [{{type: compress-response, config: {config}}}]}}]");
        got(&document, "text/html", "banana").1
    };
    assert_eq!(compress("{}").as_deref(), Some("gzip"));
    assert_eq!(compress("{algorithms: [gzip, br, deflate, compress]}").as_deref(), Some("gzip"));
    assert_eq!(compress("{algorithms: [br]}"), None);
    assert_eq!(compress("{algorithms: [compress]}"), None);
    assert_eq!(compress("{content_types: [application/json]}"), None);
    assert_eq!(compress("{content_types: ['text/*']}").as_deref(), Some("gzip"));
}

#[test]
fn what_a_compression_will_do_is_told() {
    let told = "on_http_response:
  - actions: [{type: compress-response}]
  - expressions: [\"actions.ngrok.compress.negotiated_algorithm == 'gzip'\", '!actions.ngrok.compress.already_compressed']
    actions: [{type: custom-response, config: {status_code: 201}}]";
    let mut caller = Caller::new("GET", "https://a.example/").header("accept-encoding", "gzip");
    caller.respond(200);
    let (outcome, _) = caller.run(&policy(told), Phase::HttpResponse);
    assert!(matches!(outcome, Outcome::Respond(_)), "{outcome:?}");
    caller.respond(200);
    caller.response.as_mut().expect("an answer").headers.insert("content-encoding", "br".parse().expect("a value"));
    let already = told.replace("== 'gzip'", "== ''").replace("'!actions", "'actions");
    let (outcome, _) = caller.run(&policy(&already), Phase::HttpResponse);
    assert!(matches!(outcome, Outcome::Respond(_)), "{outcome:?}");
}

#[test]
fn what_cannot_be_replaced_is_refused() {
    for (replacements, why) in [
        (
            r#"{from: "${getReqHeader('x-to')[0]}"}"#,
            "the pattern also matches where there is nothing; write `+` for `*`",
        ),
        (r#"{from: "${getReqHeader('x-none')[0]}"}"#, "1:23: index out of range"),
    ] {
        let mut caller = Caller::new("POST", "https://a.example/").header("x-to", "a*");
        let document = format!(
            "on_http_request: [{{actions: [{{type: request-body-find-replace, config: {{replacements: [{replacements}]}}}}]}}]"
        );
        let (outcome, _) = caller.run(&policy(&document), Phase::HttpRequest);
        let Outcome::Refuse(refusal) = outcome else { panic!("{outcome:?}") };
        let Why::Failed(failure) = refusal.why else { panic!("{:?}", refusal.why) };
        assert_eq!((refusal.status, failure.to_string().as_str()), (500, why));
    }
    // Each keeps what may be a match: so many and no more.
    let action =
        "{type: request-body-find-replace, config: {replacements: [".to_owned() + &"{from: a},".repeat(16) + "]}}";
    assert_eq!(sent(&[&*action; 2].join(","), "a"), "");
    let mut caller = Caller::new("POST", "https://a.example/");
    let one = "{type: request-body-find-replace, config: {replacements: [{from: a}]}}";
    let document = format!("on_http_request: [{{actions: [{action}, {action}, {one}]}}]");
    let (outcome, _) = caller.run(&policy(&document), Phase::HttpRequest);
    assert!(matches!(&outcome, Outcome::Refuse(refusal) if refusal.status == 500), "{outcome:?}");
}

#[test]
fn a_policy_tells_whether_an_upstream_is_asked_for_what_can_be_searched() {
    for (document, replaces) in [
        (
            "on_http_response: [{actions: [{type: response-body-find-replace, config: {replacements: [{from: a}]}}]}]",
            true,
        ),
        ("on_event_stream_message: [{actions: [{type: sse-find-replace, config: {replacements: [{from: a}]}}]}]", true),
        (
            "on_http_request: [{actions: [{type: request-body-find-replace, config: {replacements: [{from: a}]}}]}]",
            false,
        ),
        ("on_http_response: [{actions: [{type: compress-response}]}]", false),
    ] {
        assert_eq!(policy(document).replaces_in_answers(), replaces, "{document}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let response = |action: &str| format!("on_http_response: [{{actions: [{action}]}}]");
    let request = |action: &str| format!("on_http_request: [{{actions: [{action}]}}]");
    let events = |action: &str| format!("on_event_stream_message: [{{actions: [{action}]}}]");
    for (document, expected) in [
        (response("{type: response-body-find-replace}"), "no `replacements`"),
        (response("{type: response-body-find-replace, config: {replacements: []}}"), "no replacement"),
        (response("{type: response-body-find-replace, config: {replacements: [{to: a}]}}"), "no `from`"),
        (response("{type: response-body-find-replace, config: {replacements: [{from: '('}]}}"), "unclosed group"),
        (
            response("{type: response-body-find-replace, config: {replacements: [{from: a*}]}}"),
            "where there is nothing",
        ),
        (
            response("{type: response-body-find-replace, config: {replacements: [{from: a, field: data}]}}"),
            "only events",
        ),
        (response("{type: response-body-find-replace, config: {replacements: [{from: a, with: b}]}}"), "unknown key"),
        (
            request("{type: response-body-find-replace, config: {replacements: [{from: a}]}}"),
            "not available in on_http_request. Move it to on_http_response",
        ),
        (
            response("{type: sse-find-replace, config: {replacements: [{from: a}]}}"),
            "Move it to on_event_stream_message",
        ),
        (events("{type: sse-find-replace, config: {replacements: [{from: a, field: id}]}}"), "no field"),
        (events("{type: deny}"), "not available in on_event_stream_message"),
        (response("{type: compress-response, config: {algorithms: [zstd]}}"), "unknown algorithm"),
        (response("{type: compress-response, config: {algorithms: [gzip, gzip]}}"), "there already"),
        (request("{type: compress-response}"), "Move it to on_http_response"),
        (request("{type: http-request}"), "no `url`"),
        (request("{type: http-request, config: {url: /a}}"), "no URL of a server"),
        (request("{type: http-request, config: {url: 'ftp://a/'}}"), "no URL of a server"),
        (request("{type: http-request, config: {url: 'http://a/', method: TRACE}}"), "unknown method"),
        (request("{type: http-request, config: {url: 'http://a/', timeout: 31s}}"), "out of range"),
        (request("{type: http-request, config: {url: 'http://a/', max_redirects: 101}}"), "out of range"),
        (request("{type: http-request, config: {url: 'http://a/', on_error: stop}}"), "`continue` or `halt`"),
        (
            request("{type: http-request, config: {url: 'http://a/', retry_condition: attempts}}"),
            "a condition is a bool",
        ),
        (request("{type: http-request, config: {url: 'http://a/', retry_condition: \"req.method == ''\"}}"), "req"),
        (request("{type: http-request, config: {url: 'http://a/', query_params: [{key: a}]}}"), "`key` and `value`"),
        (request("{type: http-request, config: {url: 'http://a/', headers: {te: a}}}"), "no policy changes"),
    ] {
        let problems = Document::parse(&document).map(drop).expect_err(&document);
        let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|it| it.contains(expected)), "{document}: {told:?}");
    }
}

/// A run that asks, and what it asked.
struct Asking {
    caller: Caller,
    run: Run,
}

impl Asking {
    fn new(config: &str) -> (Self, Fetch) {
        let document = format!("
on_http_request:
  - actions: [{{type: http-request, config: {{{config}}}}}]
  - expressions: [\"actions.ngrok.http_request.error.code != ''\"]
    actions: [{{type: custom-response, config: {{status_code: 299, body: \"${{actions.ngrok.http_request.error.code}} after ${{size(actions.ngrok.http_request.attempts)}}\"}}}}]
  - expressions: [\"actions.ngrok.http_request.res.status_code == 200\"]
    actions:
      - type: custom-response
        config:
          status_code: 200
          body: \"${{actions.ngrok.http_request.res.body}} of ${{actions.ngrok.http_request.res.resolved_ip}} after ${{size(actions.ngrok.http_request.attempts)}}, ${{actions.ngrok.http_request.res.header['x'][0]}}, ${{actions.ngrok.http_request.req.url}}\"
");
        let mut caller = Caller::new("POST", "https://a.example/?q").header("x-user", "you & me");
        let mut run = policy(&document).begin(Phase::HttpRequest, Carried::default());
        match caller.step(&mut run) {
            Step::Ask(Ask::Fetch(fetch)) => (Self { caller, run }, *fetch),
            step @ (Step::Ask(_) | Step::Done(_)) => panic!("{step:?}"),
        }
    }

    /// Answers, and returns what comes next.
    fn answer(&mut self, answer: Result<http::Response<Vec<u8>>, FetchError>) -> Next {
        match self.caller.answer(&mut self.run, Some(Answer::Fetched(answer))) {
            Step::Ask(Ask::Fetch(fetch)) => Next::Asked(fetch),
            Step::Done(Outcome::Respond(answer)) => Next::Told(String::from_utf8(answer.into_body()).expect("text")),
            Step::Done(Outcome::Refuse(refusal)) => Next::Told(format!("refused with {}", refusal.status)),
            Step::Done(Outcome::Continue) => Next::Told(String::new()),
            step @ (Step::Ask(_) | Step::Done(_)) => panic!("{step:?}"),
        }
    }
}

/// What comes after an answer.
#[derive(Debug)]
enum Next {
    Asked(Box<Fetch>),
    /// What the caller gets; no text when the rules just end.
    Told(String),
}

impl Next {
    fn asked(self) -> Fetch {
        match self {
            Self::Asked(fetch) => *fetch,
            Self::Told(text) => panic!("{text}"),
        }
    }

    fn told(self) -> String {
        match self {
            Self::Told(text) => text,
            Self::Asked(fetch) => panic!("{fetch:?}"),
        }
    }
}

fn response(status: u16, headers: &[(&str, &str)], body: &str) -> http::Response<Vec<u8>> {
    let builder = http::Response::builder().status(status);
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    let address: IpAddr = "198.51.100.7".parse().expect("an address");
    builder.extension(address).body(body.as_bytes().to_vec()).expect("an answer")
}

#[test]
fn a_request_is_asked_for_as_it_is_configured_and_its_answer_is_told() {
    let (mut asking, fetch) = Asking::new(
        r#"url: "http://${'b'}.example/c?d", method: post, query_params: [{key: e, value: "${getReqHeader('x-user')[0]}"}, {key: f, value: 1}],
           headers: {X-A: "${req.method}"}, body: "from ${conn.client_ip}", timeout: 5s"#,
    );
    let request = &fetch.request;
    assert_eq!(
        (request.method().as_str(), request.uri().to_string().as_str()),
        ("POST", "http://b.example/c?d&e=you%20%26%20me&f=1")
    );
    assert_eq!(
        (request.headers()["x-a"].as_bytes(), request.headers()["x-forwarded-for"].as_bytes()),
        (&b"POST"[..], &b"192.0.2.7"[..])
    );
    assert_eq!(
        (&request.body()[..], fetch.timeout, fetch.most),
        (&b"from 192.0.2.7"[..], Duration::from_secs(5), 256 << 10)
    );

    let told = asking.answer(Ok(response(200, &[("x", "y")], "hello"))).told();
    assert_eq!(told, "hello of 198.51.100.7 after 1, y, http://b.example/c?d&e=you%20%26%20me&f=1");
}

#[test]
fn without_an_answer_the_rules_go_on_or_end() {
    for (error, code, status) in [
        (FetchError::Forbidden, "forbidden", 502),
        (FetchError::Unreachable, "unreachable", 502),
        (FetchError::Timeout, "timeout", 504),
        (FetchError::TooLarge, "too_large", 502),
    ] {
        let (mut asking, _) = Asking::new("url: 'http://b.example/'");
        assert_eq!(asking.answer(Err(error)).told(), format!("{code} after 1"));
        let (mut asking, _) = Asking::new("url: 'http://b.example/', on_error: halt");
        assert_eq!(asking.answer(Err(error)).told(), format!("refused with {status}"));
    }
    let (mut asking, _) = Asking::new("url: 'http://b.example/', on_error: halt");
    assert_eq!(asking.answer(Ok(response(500, &[], ""))).told(), "", "a status is no failure");
}

#[test]
fn a_redirect_is_asked_for_again_without_secrets_for_another_place() {
    let config = "url: 'https://b.example/one', method: POST, body: x, headers: {authorization: secret, x-a: b}, max_redirects: 2";
    let to = |status, location: &str| Ok(response(status, &[("location", location)], ""));

    let (mut asking, _) = Asking::new(config);
    let next = asking.answer(to(307, "/two")).asked().request;
    assert_eq!(
        (next.uri().to_string().as_str(), next.method().as_str(), &next.body()[..]),
        ("https://b.example/two", "POST", &b"x"[..])
    );
    assert_eq!(next.headers()["authorization"], "secret");
    let next = asking.answer(to(302, "http://169.254.169.254/")).asked().request;
    assert_eq!(
        (next.uri().to_string().as_str(), next.method().as_str(), &next.body()[..]),
        ("http://169.254.169.254/", "GET", &b""[..])
    );
    assert!(!next.headers().contains_key("authorization") && next.headers().contains_key("x-a"));
    assert_eq!(asking.answer(to(301, "/three")).told(), "redirected after 1");

    let (mut asking, _) = Asking::new(config);
    assert_eq!(asking.answer(to(301, "file:///etc/passwd")).told(), "redirected after 1");
    let (mut asking, _) = Asking::new("url: 'http://b.example/', max_redirects: 0");
    assert_eq!(asking.answer(to(301, "/two")).told(), "");
}

#[test]
fn it_is_tried_again_so_often_and_no_more() {
    let config = "url: 'http://b.example/', timeout: 10s, retry_condition: last_attempt.res.statusCode == 500 || last_attempt.error != ''";
    let failed = || Ok(response(500, &[], ""));

    let (mut asking, _) = Asking::new(config);
    for _ in 0..3 {
        asking.caller.pass(Duration::from_secs(1));
        asking.answer(failed()).asked();
    }
    assert_eq!(asking.answer(failed()).told(), "");

    let (mut asking, _) = Asking::new(config);
    asking.caller.pass(Duration::from_secs(4));
    let again = asking.answer(failed()).asked();
    assert_eq!(again.timeout, Duration::from_secs(6), "what is left");
    let told = asking.answer(Ok(response(200, &[("x", "y")], "ok"))).told();
    assert_eq!(told, "ok of 198.51.100.7 after 2, y, http://b.example/");

    let (mut asking, _) = Asking::new(config);
    asking.caller.pass(Duration::from_secs(10));
    assert_eq!(asking.answer(Err(FetchError::Timeout)).told(), "timeout after 1");
}

#[test]
fn wishes_are_taken_once() {
    let mut caller = Caller::new("POST", "https://a.example/");
    let policy = policy(
        "on_http_request: [{actions: [{type: request-body-find-replace, config: {replacements: [{from: a}]}}]}]",
    );
    let (_, mut run) = caller.run(&policy, Phase::HttpRequest);
    assert!(matches!(run.take_transforms()[..], [Wish::Replace(_)]));
    assert!(run.take_transforms().is_empty());
}

#[test]
fn an_action_on_a_body_is_told_by_its_name() {
    for (phase, name) in [("request", "request_body"), ("response", "response_body")] {
        let action = format!("{}-find-replace", name.replace('_', "-"));
        let document = format!(
            "on_http_{phase}:
  - actions: [{{type: {action}, config: {{replacements: [{{from: a}}]}}}}]
  - expressions: ['actions.ngrok.{name}_find_replace.replacements == []']
    actions: [{{type: custom-response}}]"
        );
        let mut caller = Caller::new("GET", "https://a.example/");
        caller.respond(200);
        let phase = if phase == "request" { Phase::HttpRequest } else { Phase::HttpResponse };
        let (outcome, _) = caller.run(&policy(&document), phase);
        assert!(matches!(outcome, Outcome::Respond(_)), "{action}: {outcome:?}");
    }
}

#[test]
fn patterns_that_are_made_for_each_request_cost_their_time() {
    let replacements = "{from: \"${'a' + 'b'}\"}, ".repeat(12);
    let document = format!(
        "on_http_request: [{{actions: [{{type: request-body-find-replace, config: {{replacements: [{replacements}]}}}}]}}]"
    );
    let (outcome, _) = Caller::new("POST", "https://a.example/").run(&policy(&document), Phase::HttpRequest);
    let Outcome::Refuse(refusal) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(&refusal.why, Why::Failed(failure) if failure.is_limit()), "{refusal:?}");
}

#[test]
fn a_parameter_is_no_longer_than_it_may_be() {
    for (length, is_asked) in [(8192, true), (8193, false)] {
        let document = "on_http_request: [{actions: [{type: http-request, config: {url: 'http://b.example/', query_params: [{key: a, value: \"${getReqHeader('x-long')[0]}\"}]}}]}]";
        let mut caller = Caller::new("GET", "https://a.example/").header("x-long", &"a".repeat(length));
        let mut run = policy(document).begin(Phase::HttpRequest, Carried::default());
        let step = caller.step(&mut run);
        assert_eq!(matches!(step, Step::Ask(_)), is_asked, "{length}: {step:?}");
        assert_eq!(matches!(step, Step::Done(Outcome::Refuse(_))), !is_asked);
    }
}

#[test]
fn a_redirect_keeps_the_method_that_it_does_not_change() {
    for (status, method, expected) in
        [(303, "PUT", "GET"), (302, "PUT", "PUT"), (302, "POST", "GET"), (307, "POST", "POST"), (308, "PUT", "PUT")]
    {
        let (mut asking, _) = Asking::new(&format!("url: 'http://b.example/', method: {method}, body: x"));
        let next = asking.answer(Ok(response(status, &[("location", "/two")], ""))).asked().request;
        let body: &[u8] = if expected == "GET" { b"" } else { b"x" };
        assert_eq!((next.method().as_str(), &next.body()[..]), (expected, body), "{status} {method}");
    }
}

#[test]
fn what_is_tried_again_begins_where_it_began() {
    let config = "url: 'http://b.example/one', max_redirects: 2, retry_condition: last_attempt.res.statusCode == 500";
    let (mut asking, _) = Asking::new(config);
    let mut to = |location: &str| asking.answer(Ok(response(307, &[("location", location)], ""))).asked().request;
    assert_eq!(to("/two").uri().path(), "/two");
    assert_eq!(to("/three").uri().path(), "/three");
    let again = asking.answer(Ok(response(500, &[], ""))).asked().request;
    assert_eq!(again.uri().path(), "/one");
    // The redirects of the first attempt do not count against the second one's.
    let mut to = |location: &str| asking.answer(Ok(response(307, &[("location", location)], ""))).asked().request;
    assert_eq!(to("/two").uri().path(), "/two");
    assert_eq!(to("/three").uri().path(), "/three");
}

#[test]
fn a_condition_of_another_attempt_that_costs_too_much_refuses() {
    let all = "[1,2,3,4,5,6,7,8,9,10]";
    let costly = format!(
        "{all}.all(a, {all}.all(b, {all}.all(c, {all}.all(d, {all}.all(e, a + b + c + d + e > attempts - 5)))))"
    );
    let document = format!(
        "on_http_request: [{{actions: [{{type: http-request, config: {{url: 'http://b.example/', retry_condition: '{costly}'}}}}]}}]"
    );
    let mut caller = Caller::new("GET", "https://a.example/");
    let mut run = policy(&document).begin(Phase::HttpRequest, Carried::default());
    assert!(matches!(caller.step(&mut run), Step::Ask(Ask::Fetch(_))));
    let step = caller.answer(&mut run, Some(Answer::Fetched(Ok(response(500, &[], "")))));
    let Step::Done(Outcome::Refuse(refusal)) = step else { panic!("{step:?}") };
    assert!(matches!(&refusal.why, Why::Failed(failure) if failure.is_limit()), "{refusal:?}");
}
