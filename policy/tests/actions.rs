//! Each action: what passes it, and what it refuses.

mod support;

use core::time::Duration;
use std::sync::Arc;

use adit_policy::{
    document::Document,
    engine::{Answer, Carried, Failure, Outcome, Policy, Refusal, Step, Why},
    environment::Phase,
};
use http::{HeaderValue, StatusCode};
use support::{Caller, policy};

const REQUEST: Phase = Phase::HttpRequest;

/// Returns the outcome of one action of a request, in short.
fn request(caller: &mut Caller, action: &str) -> String {
    outcome(caller, REQUEST, action)
}

fn outcome(caller: &mut Caller, phase: Phase, action: &str) -> String {
    let policy = policy(&format!("{}: [{{actions: [{{type: {action}}}]}}]", phase.name()));
    short(caller.run(&policy, phase).0)
}

fn short(outcome: Outcome) -> String {
    match outcome {
        Outcome::Continue => "continue".into(),
        Outcome::Close => "close".into(),
        Outcome::Forward { url, fallback } => format!("forward {url}{}", if fallback { " or go on" } else { "" }),
        Outcome::Refuse(Refusal { status, headers, why, reason: _ }) => {
            let after = headers.get("retry-after").map(|after| format!(" after {}", text(after)));
            format!("refuse {status} {why:?}{}", after.unwrap_or_default())
        }
        Outcome::Respond(response) => {
            let headers: Vec<_> =
                response.headers().iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
            format!("respond {} {headers:?} {}", response.status().as_u16(), String::from_utf8_lossy(response.body()))
        }
    }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

#[test]
fn deny_and_close_connection_end_the_phase() {
    let mut caller = Caller::new("GET", "https://a.example/");
    for (phase, action, told) in [
        (Phase::TcpConnect, "deny", "refuse 403 Denied"),
        (REQUEST, "deny", "refuse 403 Denied"),
        (REQUEST, "deny, config: {status_code: 599}", "refuse 599 Denied"),
        (Phase::TcpConnect, "close-connection", "close"),
        (REQUEST, "close-connection", "close"),
    ] {
        assert_eq!(outcome(&mut caller, phase, action), told, "{action}");
    }
}

#[test]
fn restrict_ips_serves_who_is_allowed_and_not_denied() {
    for (ip, config, told) in [
        ("192.0.2.7", "{allow: [192.0.2.0/24]}", "continue"),
        ("::ffff:192.0.2.7", "{allow: [192.0.2.0/24]}", "continue"),
        ("192.0.2.7", "{allow: [198.51.100.0/24]}", "refuse 403 Restricted"),
        ("192.0.2.7", "{allow: []}", "refuse 403 Restricted"),
        ("192.0.2.7", "{allow: [192.0.2.0/24], deny: [192.0.2.7]}", "refuse 403 Restricted"),
        ("192.0.2.7", "{allow: [0.0.0.0/0], deny: [192.0.2.0/24], enforce: false}", "continue"),
        ("2001:db8::7", "{allow: [0.0.0.0/0, '::/0'], deny: [0.0.0.0/0]}", "continue"),
        ("2001:db8::7", "{allow: [0.0.0.0/0]}", "refuse 403 Restricted"),
        ("2001:db8::7", "{allow: ['::/0'], deny: ['::/0']}", "refuse 403 Restricted"),
        ("::ffff:10.1.2.3", "{allow: [10.0.0.0/8], deny: [10.1.0.0/16]}", "refuse 403 Restricted"),
        // What expressions name is read like what is written out.
        ("192.0.2.7", "{allow: ['${conn.client_ip}/24']}", "continue"),
        ("192.0.2.7", "{allow: ['${conn.server_ip}', 198.51.100.0/24]}", "refuse 403 Restricted"),
        ("192.0.2.7", "{allow: [192.0.2.0/24], deny: ['${conn.client_ip}']}", "refuse 403 Restricted"),
        ("192.0.2.7", "{allow: [192.0.2.0/24], deny: ['${conn.server_ip}']}", "continue"),
        ("192.0.2.7", "{allow: [192.0.2.0/24], deny: ['${conn.server_region}']}", "refuse 500 Failed(Network)"),
    ] {
        // What a header says never matters.
        let mut caller = Caller::new("GET", "https://a.example/").from(ip).header("x-forwarded-for", "192.0.2.99");
        for phase in Phase::ALL {
            caller.respond(200);
            assert_eq!(outcome(&mut caller, phase, &format!("restrict-ips, config: {config}")), told, "{ip} {config}");
        }
    }
}

#[test]
fn restrict_ips_reads_so_many_networks_each_time_and_no_more() {
    for (count, reads) in [(64, true), (65, false)] {
        let networks = "'${conn.client_ip}', ".repeat(count);
        let text = format!("on_tcp_connect: [{{actions: [{{type: restrict-ips, config: {{allow: [{networks}]}}}}]}}]");
        assert_eq!(Document::parse(&text).is_ok(), reads, "{count}");
    }
}

#[test]
fn restrict_ips_tells_what_it_would_do_and_why() {
    let text = "\
on_http_request:
  - actions:
      - {type: restrict-ips, config: {enforce: false, allow: [192.0.0.0/8, 192.0.2.0/24, '::/0'], deny: [192.0.2.64/26]}}
      - {type: custom-response, config: {body: \"${actions.ngrok.restrict_ips.action} ${actions.ngrok.restrict_ips.matched_cidr} ${actions.ngrok.restrict_ips.error.code}.\"}}
";
    let policy = policy(text);
    for (ip, told) in [
        ("192.0.2.7", "allow 192.0.2.0/24 ."),
        ("192.9.2.7", "allow 192.0.0.0/8 ."),
        ("::ffff:192.0.2.66", "deny 192.0.2.64/26 ."),
        ("2001:db8::1", "allow ::/0 ."),
        ("10.0.0.1", "deny  ."),
    ] {
        let outcome = Caller::new("GET", "https://a.example/").from(ip).run(&policy, REQUEST).0;
        let Outcome::Respond(response) = outcome else { panic!("{outcome:?}") };
        assert_eq!(String::from_utf8_lossy(response.body()), told, "{ip}");
    }
}

#[test]
fn custom_response_answers_with_what_it_renders() {
    let mut caller = Caller::new("GET", "https://a.example/a?q=%0Ax&b=%3Cb%3E");
    for (config, told) in [
        ("{}", r#"respond 200 [] "#),
        ("{status_code: 404, body: none}", r#"respond 404 ["content-type: text/plain; charset=utf-8"] none"#),
        ("{body: '<!DOCTYPE HTML>'}", r#"respond 200 ["content-type: text/html; charset=utf-8"] <!DOCTYPE HTML>"#),
        ("{body: '<html lang=en>'}", r#"respond 200 ["content-type: text/html; charset=utf-8"] <html lang=en>"#),
        ("{body: ' <HTML>'}", r#"respond 200 ["content-type: text/html; charset=utf-8"]  <HTML>"#),
        ("{body: '[1]'}", r#"respond 200 ["content-type: application/json"] [1]"#),
        (
            "{body: '{\"ip\": \"${conn.client_ip}\"}'}",
            r#"respond 200 ["content-type: application/json"] {"ip": "192.0.2.7"}"#,
        ),
        (
            "{body: \"${req.url.query_params['b'][0]}\"}",
            r#"respond 200 ["content-type: text/plain; charset=utf-8"] <b>"#,
        ),
        (
            "{headers: {content-type: a/b, X-A: true, x-a: 7}, body: b}",
            r#"respond 200 ["content-type: a/b", "x-a: true", "x-a: 7"] b"#,
        ),
        ("{headers: {x-a: \"${req.url.query_params['q'][0]}\"}}", "refuse 500 Failed(Header)"),
    ] {
        assert_eq!(request(&mut caller, &format!("custom-response, config: {config}")), told, "{config}");
    }
}

#[test]
fn redirect_sends_elsewhere_and_goes_on_where_nothing_changes() {
    for (url, config, told) in [
        ("/old/x", "{from: /old/, to: /new/}", "302 https://a.example/new/x"),
        ("/a", "{from: /old/, to: /new/}", "continue"),
        ("/a", "{to: 'https://b.example/c#d e'}", "302 https://b.example/c#d%20e"),
        ("/a?x=1", "{to: '/b?from=${req.url.query}', status_code: 308}", "308 https://a.example/b?from=x=1"),
        ("/p/7", "{from: '^(https?)://[^/]+/p/(.*)$', to: '$1://b.example/q/$2'}", "302 https://b.example/q/7"),
        (
            "/p/7",
            "{from: '^${req.url.scheme}://${req.url.authority}/p/', to: 'http://b.example:8080/'}",
            "302 http://b.example:8080/7",
        ),
        // What a caller sent stays in the path: it cannot name another authority or add a header.
        ("//evil.example/x", "{to: '${req.url.path}'}", "302 https://a.example//evil.example/x"),
        (
            "/a?to=%0d%0aset-cookie:x",
            "{to: \"/b${req.url.query_params['to'][0]}\"}",
            "302 https://a.example/b%0D%0Aset-cookie:x",
        ),
        ("/a", "{to: 'javascript:alert(1)'}", "refuse 500 Failed(Url)"),
        ("/a", "{to: ''}", "refuse 500 Failed(Url)"),
        ("/a", "{from: '${req.url.path}(', to: b}", "refuse 500 Failed(Expression("),
    ] {
        let mut caller = Caller::new("GET", &format!("https://a.example{url}"));
        let found = request(&mut caller, &format!("redirect, config: {config}"));
        let found = found.replace("respond ", "").replace("[\"location: ", "").replace("\"] ", "");
        assert!(found == told || (told.ends_with('(') && found.starts_with(told)), "{url} {config}: {found}");
    }
    let mut caller = Caller::new("GET", "https://a.example/a");
    assert_eq!(
        request(&mut caller, "redirect, config: {to: /b, headers: {x-redirected: true}}"),
        r#"respond 302 ["location: https://a.example/b", "x-redirected: true"] "#
    );
}

#[test]
fn url_rewrite_changes_what_later_rules_and_the_upstream_see() {
    for (url, config, told) in [
        ("/products", "{from: /products, to: /products.php}", Ok("https://a.example/products.php")),
        (
            "/products/12?a=b",
            "{from: '/products/?(\\d+)?', to: '/p.php?id=$1&'}",
            Ok("https://a.example/p.php?id=12&?a=b"),
        ),
        (
            "/products/",
            "{from: '${req.url.authority}/products/?([.*]+)?', to: '/products.php?query=$1'}",
            Ok("https://a.example/products.php?query="),
        ),
        ("/a", "{to: '/b c'}", Ok("https://a.example/b%20c")),
        ("/a", "{from: a.example, to: 'b.example:81'}", Ok("https://b.example:81/a")),
        ("/x/x", "{from: /x, to: '/${req.method}'}", Ok("https://a.example/GET/GET")),
        ("/a", "{from: none, to: b}", Ok("https://a.example/a")),
        // Nobody climbs out of what the rules have seen.
        ("/.x", "{from: '/\\.x', to: '/b/%2E./c'}", Err(Failure::Url)),
        ("/a", "{to: 'ftp://a.example/'}", Err(Failure::Url)),
        ("/a", "{to: 'https://'}", Err(Failure::Url)),
    ] {
        let policy = policy(&format!(
            "on_http_request:\n  - actions: [{{type: url-rewrite, config: {config}}}]\n  - {{expressions: [\"actions.ngrok.url_rewrite.url == req.url && req.url.host != 'b.example' || req.headers['host'][0] == 'b.example:81'\"], actions: [{{type: close-connection}}]}}"
        ));
        let mut caller = Caller::new("GET", &format!("https://a.example{url}"));
        match (caller.run(&policy, REQUEST).0, told) {
            (Outcome::Close, Ok(told)) => assert_eq!(caller.request.uri.to_string(), told, "{config}"),
            (Outcome::Refuse(refusal), Err(failure)) => assert_eq!(refusal.why, Why::Failed(failure), "{config}"),
            (outcome, _) => panic!("{config}: {outcome:?}"),
        }
    }
}

#[test]
fn forward_internal_names_an_internal_endpoint_and_nothing_else() {
    let mut caller = Caller::new("GET", "https://a.example/crm").header("x-to", "evil.example/x.internal");
    for (config, told) in [
        ("{url: https://crm.internal}", "forward https://crm.internal"),
        ("{url: 'http://CRM.internal:8080/', on_error: continue}", "forward http://crm.internal:8080 or go on"),
        ("{url: 'https://${req.url.path.substring(1)}.internal', on_error: halt}", "forward https://crm.internal"),
        ("{url: 'https://${req.headers[\"x-to\"][0]}'}", "refuse 500 Failed(Url)"),
        ("{url: 'https://x@${req.url.path.substring(1)}.internal'}", "refuse 500 Failed(Url)"),
        ("{url: '${req.url.path}'}", "refuse 500 Failed(Url)"),
        ("{url: 'https://crm.internal?${req.method}'}", "refuse 500 Failed(Url)"),
        ("{url: 'https://crm.internal/${req.method}'}", "refuse 500 Failed(Url)"),
        ("{url: 'tcp://${req.url.path.substring(1)}.internal'}", "refuse 500 Failed(Url)"),
        ("{url: 'https://crm.internal:${string(0)}'}", "refuse 500 Failed(Url)"),
        ("{url: 'https://crm.internal:${string(8)}'}", "forward https://crm.internal:8"),
        ("{url: \"https://crm.internal:${''}\"}", "refuse 500 Failed(Url)"),
        ("{url: 'https://-${req.url.path.substring(1)}.internal'}", "refuse 500 Failed(Url)"),
        ("{url: 'https://${req.url.path.substring(1)}-.internal'}", "refuse 500 Failed(Url)"),
    ] {
        assert_eq!(request(&mut caller, &format!("forward-internal, config: {config}")), told, "{config}");
    }
    for url in ["tcp://db.internal:5432", "tls://db.internal"] {
        let told = outcome(&mut caller, Phase::TcpConnect, &format!("forward-internal, config: {{url: '{url}'}}"));
        assert_eq!(told, format!("forward {url}"));
    }
}

#[test]
fn the_name_of_an_internal_endpoint_is_no_longer_than_a_name_may_be() {
    let label = |length: usize| "a".repeat(length);
    let whole = |rest: usize| [label(63), label(63), label(63), label(rest)].join(".");
    for (name, is_name) in [(label(63), true), (label(64), false), (whole(52), true), (whole(53), false)] {
        let action = format!("forward-internal, config: {{url: \"https://${{'{name}'}}.internal\"}}");
        let told = request(&mut Caller::new("GET", "https://a.example/"), &action);
        let expected =
            if is_name { format!("forward https://{name}.internal") } else { "refuse 500 Failed(Url)".into() };
        assert_eq!(told, expected);
    }
}

#[test]
fn rules_go_on_after_a_forward_that_fails_when_they_are_to() {
    let policy = policy(
        "on_http_request: [{actions: [{type: forward-internal, config: {url: https://a.internal, on_error: continue}}, {type: custom-response, config: {status_code: 503}}]}]",
    );
    let mut caller = Caller::new("GET", "https://a.example/");
    let mut run = policy.begin(REQUEST, Carried::default());

    let first = caller.step(&mut run);
    let second = caller.answer(&mut run, Some(Answer::Unreachable));

    assert!(matches!(first, Step::Done(Outcome::Forward { fallback: true, .. })));
    assert!(matches!(second, Step::Done(Outcome::Respond(response)) if response.status() == 503));
}

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
fn rate_limit_lets_a_capacity_through_in_any_window() {
    let policy = policy(
        "on_http_request: [{actions: [{type: rate-limit, config: {name: a, algorithm: sliding_window, capacity: 3, rate: 60s, bucket_key: [conn.client_ip, \"getReqHeader('x-key')\"]}}]}]",
    );
    let mut caller = Caller::new("GET", "https://a.example/").header("x-key", "a");
    let call = |caller: &mut Caller| short(caller.run(&policy, REQUEST).0);

    assert_eq!([(); 3].map(|()| call(&mut caller)), ["continue"; 3]);
    assert_eq!(call(&mut caller), "refuse 429 Limited after 66");
    assert_eq!(call(&mut Caller::new("GET", "https://a.example/").header("x-key", "b")), "continue");
    caller.pass(Duration::from_secs(65));
    assert_eq!(call(&mut caller), "refuse 429 Limited after 1");
    caller.pass(Duration::from_secs(1));
    assert_eq!([(); 3].map(|()| call(&mut caller)), ["continue"; 3]);
    assert_eq!(call(&mut caller), "refuse 429 Limited after 66");
}

#[test]
fn rate_limit_fills_a_bucket_evenly() {
    let policy = policy(
        "on_http_request: [{actions: [{type: rate-limit, config: {algorithm: token_bucket, capacity: 6, rate: 60s, bucket_key: [\"'all'\"]}}]}]",
    );
    let mut caller = Caller::new("GET", "https://a.example/");
    let call = |caller: &mut Caller| short(caller.run(&policy, REQUEST).0);

    assert_eq!([(); 6].map(|()| call(&mut caller)), ["continue"; 6]);
    assert_eq!(call(&mut caller), "refuse 429 Limited after 10");
    caller.pass(Duration::from_secs(9));
    assert_eq!(call(&mut caller), "refuse 429 Limited after 1");
    caller.pass(Duration::from_secs(11));
    assert_eq!([(); 2].map(|()| call(&mut caller)), ["continue"; 2]);
    assert_eq!(call(&mut caller), "refuse 429 Limited after 10");
}

#[test]
fn rate_limit_that_is_not_enforced_only_tells() {
    let policy = policy(
        r#"
on_http_request:
  - actions: [{type: rate-limit, config: {enforce: false, algorithm: sliding_window, capacity: 1, rate: 60s, bucket_key: [req.host, req.method]}}]
  - expressions: ["actions.ngrok.rate_limit.limited"]
    actions: [{type: custom-response, config: {status_code: 429, body: "${actions.ngrok.rate_limit.bucket_key}"}}]
"#,
    );
    let mut caller = Caller::new("GET", "https://a.example/");

    assert_eq!(short(caller.run(&policy, REQUEST).0), "continue");
    assert_eq!(
        short(caller.run(&policy, REQUEST).0),
        r#"respond 429 ["content-type: text/plain; charset=utf-8"] "a.example","GET""#
    );
}

#[test]
fn a_key_that_cannot_be_told_is_refused() {
    let limit = "rate-limit, config: {algorithm: token_bucket, capacity: 1, rate: 60s, bucket_key: [\"req.headers['x-key'][0]\"]}";
    let told = request(&mut Caller::new("GET", "https://a.example/"), limit);
    assert!(told.starts_with("refuse 500 Failed(Expression("), "{told}");
}

#[test]
fn what_is_counted_goes_on_in_a_document_that_limits_alike() {
    let text = |capacity: u32| {
        format!(
            "on_http_request: [{{actions: [{{type: rate-limit, config: {{algorithm: sliding_window, capacity: {capacity}, rate: 60s, bucket_key: [conn.client_ip]}}}}]}}]"
        )
    };
    let old = policy(&text(1));
    let mut caller = Caller::new("GET", "https://a.example/");
    caller.run(&old, REQUEST);
    for (capacity, told) in [(1, "refuse 429 Limited after 66"), (2, "continue")] {
        let document = Document::parse(&text(capacity)).unwrap();
        let new = Arc::new(Policy::succeed(document, &old));
        assert_eq!(short(caller.run(&new, REQUEST).0), told);
    }
}

#[test]
fn what_is_counted_goes_on_for_each_of_two_that_are_alike_and_not_for_another_name() {
    let limit = |name: &str| {
        format!(
            "{{type: rate-limit, config: {{name: '{name}', algorithm: sliding_window, capacity: 2, rate: 60s, bucket_key: [conn.client_ip]}}}}"
        )
    };
    let two = format!("on_http_request: [{{actions: [{}, {}]}}]", limit("a"), limit("a"));
    let named = |name: &str| format!("on_http_request: [{{actions: [{}]}}]", limit(name));
    let succeed = |text: &str, old: &Policy| Arc::new(Policy::succeed(Document::parse(text).unwrap(), old));
    let mut caller = Caller::new("GET", "https://a.example/");

    let old = policy(&two);
    caller.run(&old, REQUEST);
    let new = succeed(&two, &old);
    assert_eq!(short(caller.run(&new, REQUEST).0), "continue");
    assert_eq!(short(caller.run(&new, REQUEST).0), "refuse 429 Limited after 66");
    assert_eq!(short(caller.run(&succeed(&named("a"), &new), REQUEST).0), "refuse 429 Limited after 66");
    assert_eq!(short(caller.run(&succeed(&named("b"), &new), REQUEST).0), "continue");
}

const BREAKER: &str = "{type: circuit-breaker, config: {volume_threshold: 1, tripped_duration: 30s, enforce: true}}";

/// Calls an upstream that does not answer, until calls are refused.
fn trip(caller: &mut Caller, policy: &Arc<Policy>) {
    let (outcome, run) = caller.run(policy, REQUEST);
    assert_eq!(short(outcome), "continue");
    run.into_carried().conclude(None, caller.now().instant);
    assert_eq!(short(caller.run(policy, REQUEST).0), "refuse 503 Tripped after 30");
}

#[test]
fn what_was_called_before_the_breaker_tripped_neither_closes_it_nor_keeps_it_open() {
    let policy = policy(&format!("on_http_request: [{{actions: [{BREAKER}]}}]"));
    let mut caller = Caller::new("GET", "https://a.example/");
    let [well, badly] = [(); 2].map(|()| caller.run(&policy, REQUEST).1.into_carried());

    trip(&mut caller, &policy);
    for (mut before, status) in [(well, Some(StatusCode::OK)), (badly, None)] {
        caller.pass(Duration::from_secs(10));
        before.conclude(status, caller.now().instant);
        assert!(short(caller.run(&policy, REQUEST).0).starts_with("refuse 503 Tripped after "));
    }

    caller.pass(Duration::from_secs(10));
    assert_eq!(short(caller.run(&policy, REQUEST).0), "continue");
}

#[test]
fn a_breaker_goes_on_in_a_document_that_breaks_alike() {
    let other = BREAKER.replace("30s", "31s");
    let told_only = BREAKER.replace("true", "false");
    for (actions, told) in [
        (BREAKER.to_owned(), "refuse 503 Tripped after 30"),
        (other, "continue"),
        (format!("{told_only}, {BREAKER}"), "refuse 503 Tripped after 30"),
    ] {
        let old = policy(&format!("on_http_request: [{{actions: [{BREAKER}]}}]"));
        let mut caller = Caller::new("GET", "https://a.example/");
        trip(&mut caller, &old);
        let document = Document::parse(&format!("on_http_request: [{{actions: [{actions}]}}]")).unwrap();
        assert_eq!(short(caller.run(&Arc::new(Policy::succeed(document, &old)), REQUEST).0), told, "{actions}");
    }
}

#[test]
fn circuit_breaker_refuses_while_the_upstream_fails_and_tries_again() {
    let policy = policy(
        "on_http_request: [{actions: [{type: circuit-breaker, config: {error_threshold: 0.5, volume_threshold: 4, window_duration: 10s, tripped_duration: 30s}}]}]",
    );
    let mut caller = Caller::new("GET", "https://a.example/");
    let call = |caller: &mut Caller, status: Option<u16>| {
        let (outcome, run) = caller.run(&policy, REQUEST);
        let status = status.map(|status| StatusCode::from_u16(status).unwrap());
        run.into_carried().conclude(status, caller.now().instant);
        short(outcome)
    };

    // Fewer than are asked for, however they fail; a status of the caller's making is no failure.
    for status in [Some(500), None, Some(404), Some(200)] {
        assert_eq!(call(&mut caller, status), "continue");
    }
    assert_eq!(call(&mut caller, Some(200)), "refuse 503 Tripped after 30");
    caller.pass(Duration::from_secs(29));
    assert_eq!(call(&mut caller, Some(200)), "refuse 503 Tripped after 1");
    caller.pass(Duration::from_secs(1));
    // One is let through; it fails.
    assert_eq!(call(&mut caller, Some(503)), "continue");
    assert_eq!(call(&mut caller, Some(200)), "refuse 503 Tripped after 30");
    caller.pass(Duration::from_secs(30));
    // One is let through; nothing comes of it, and after as long another one may try.
    assert_eq!(short(caller.run(&policy, REQUEST).0), "continue");
    assert_eq!(call(&mut caller, None), "refuse 503 Tripped after 30");
    caller.pass(Duration::from_secs(30));
    assert_eq!(call(&mut caller, Some(200)), "continue");
    // It closes, and nothing of before counts.
    for status in [None, None, Some(200), Some(200)] {
        assert_eq!(call(&mut caller, status), "continue");
        caller.pass(Duration::from_secs(11));
    }
    assert_eq!(call(&mut caller, Some(200)), "continue");
}

#[test]
fn circuit_breaker_as_its_form_shows_it() {
    let mut caller = Caller::new("GET", "https://a.example/");
    for (enforce, told) in [(true, "refuse 503 Tripped after 120"), (false, "continue")] {
        let policy = policy(&format!(
            "on_http_request: [{{actions: [{{type: circuit-breaker, config: {{error_threshold: 0, volume_threshold: 1, window_duration: 60s, tripped_duration: 2m, enforce: {enforce}}}}}]}}]"
        ));
        let (outcome, run) = caller.run(&policy, REQUEST);
        run.into_carried().conclude(Some(StatusCode::OK), caller.now().instant);
        assert!(matches!(outcome, Outcome::Continue));
        assert_eq!(short(caller.run(&policy, REQUEST).0), told);
    }
}

#[test]
fn terminate_tls_says_how_and_the_last_one_counts() {
    let policy = policy(
        r#"
on_tcp_connect:
  - actions: [{type: terminate-tls, config: {min_version: 1.3, max_version: "1.3"}}]
  - expressions: ["conn.client_port == 40000"]
    actions:
      - type: terminate-tls
        config:
          mutual_tls_verification_strategy: require-any
          server_private_key: "-----BEGIN PRIVATE KEY-----\nsecret"
          server_certificate: "-----BEGIN CERTIFICATE-----\n"
          mutual_tls_certificate_authorities: ["-----BEGIN CERTIFICATE-----\n"]
  - {expressions: ["conn.client_port == 1"], actions: [{type: terminate-tls}]}
"#,
    );

    let (outcome, run) = Caller::new("GET", "https://a.example/").run(&policy, Phase::TcpConnect);

    assert!(matches!(outcome, Outcome::Continue));
    let told = format!("{:?}", run.tls().unwrap());
    assert_eq!(
        told,
        r#"TerminateTls { min_version: Tls12, max_version: Tls13, identity: Some(Identity { certificate: "-----BEGIN CERTIFICATE-----\n", .. }), authorities: ["-----BEGIN CERTIFICATE-----\n"], verification: RequireAny }"#
    );
    assert_eq!(policy.tls().count(), 3);
    assert!(policy.tls_depends());
    let always = support::policy("on_tcp_connect: [{actions: [{type: terminate-tls}]}]");
    assert!(!always.tls_depends() && always.tls().count() == 1);
}

#[test]
fn what_is_configured_wrongly_is_refused_with_a_remedy() {
    for (phase, action, told) in WRONG {
        let text = format!("{}: [{{actions: [{{type: {action}}}]}}]", phase.name());
        let problems = Document::parse(&text).map(|_| ()).unwrap_err();
        let found = problems[0].to_string();
        assert!(found.contains(&format!("actions[0].{told}")), "{action}: {found}");
    }
}

/// Actions, and what is told of each.
const WRONG: &[(Phase, &str, &str)] = &[
    (
        REQUEST,
        "deny, config: {status_code: 200}",
        "config.status_code: 200 is no such status. Write one from 400 to 599",
    ),
    (
        REQUEST,
        "add-headers, config: {headers: {content-length: 1}}",
        "config.headers.content-length: `content-length` says how a message is sent, which no policy changes. Remove it",
    ),
    (
        REQUEST,
        "remove-headers, config: {headers: [Transfer-Encoding]}",
        "config.headers[0]: `transfer-encoding` says how a message is sent, which no policy changes. Remove it",
    ),
    (REQUEST, "redirect, config: {from: a}", "config: no `to`. Add it"),
    (
        REQUEST,
        "redirect, config: {to: b, status_code: 200}",
        "config.status_code: 200 is out of range. Write one from 300 to 399",
    ),
    (REQUEST, "redirect, config: {from: '(', to: b}", "config.from: no regular expression"),
    (REQUEST, "url-rewrite, config: {from: '(?=a)', to: b}", "config.from: no regular expression"),
    (REQUEST, "forward-internal", "config: no `url`. Add it"),
    (
        REQUEST,
        "forward-internal, config: {url: https://a.example}",
        "config.url: `https://a.example` is no internal endpoint. Write it as `https://crm.internal`",
    ),
    (
        REQUEST,
        "forward-internal, config: {url: tcp://a.internal}",
        "config.url: `tcp://a.internal` is no internal endpoint. Write it as `https://crm.internal`",
    ),
    (
        REQUEST,
        "forward-internal, config: {url: https://a.internal/b}",
        "config.url: `https://a.internal/b` is no internal endpoint. Write it as `https://crm.internal`",
    ),
    (
        REQUEST,
        "forward-internal, config: {url: https://a.internal.}",
        "config.url: `https://a.internal.` is no internal endpoint. Write it as `https://crm.internal`",
    ),
    (
        REQUEST,
        "forward-internal, config: {url: https://.internal}",
        "config.url: `https://.internal` is no internal endpoint. Write it as `https://crm.internal`",
    ),
    (
        Phase::TcpConnect,
        "forward-internal, config: {url: https://a.internal}",
        "config.url: `https://a.internal` is no internal endpoint. Write it as `tcp://db.internal:5432`",
    ),
    (
        REQUEST,
        "forward-internal, config: {url: https://a.internal, on_error: retry}",
        "config.on_error: `retry` is none of what there is. Write `halt` or `continue`",
    ),
    (
        REQUEST,
        "rate-limit, config: {algorithm: sliding_window, rate: 60s, bucket_key: [req.host]}",
        "config: no `capacity`. Add it",
    ),
    (
        REQUEST,
        "rate-limit, config: {algorithm: leaky, capacity: 1, rate: 60s, bucket_key: [req.host]}",
        "config.algorithm: `leaky` is none of what there is. Write `sliding_window` or `token_bucket`",
    ),
    (
        REQUEST,
        "rate-limit, config: {algorithm: token_bucket, capacity: 0, rate: 60s, bucket_key: [req.host]}",
        "config.capacity: 0 is out of range. Write one from 1 to 2000000000",
    ),
    (
        REQUEST,
        "rate-limit, config: {algorithm: token_bucket, capacity: 1, rate: 25h, bucket_key: [req.host]}",
        "config.rate: `25h` is out of range. Write one from `1s` to `24h`",
    ),
    (
        REQUEST,
        "rate-limit, config: {algorithm: token_bucket, capacity: 1, rate: 1m, bucket_key: []}",
        "config.bucket_key: no key. Write `'all'` in quotes within quotes for one bucket for all",
    ),
    (
        REQUEST,
        "rate-limit, config: {algorithm: token_bucket, capacity: 1, rate: 1m, bucket_key: [req.hots]}",
        "config.bucket_key[0]: unknown attribute `req.hots`. did you mean `req.host`?",
    ),
    (
        REQUEST,
        "circuit-breaker, config: {error_threshold: 1.5}",
        "config.error_threshold: no part of the whole. Write one from 0 to 1, as 0.25",
    ),
    (
        REQUEST,
        "circuit-breaker, config: {tripped_duration: 3m}",
        "config.tripped_duration: `3m` is out of range. Write one from `1s` to `2m`",
    ),
    (
        REQUEST,
        "circuit-breaker, config: {window_duration: ten}",
        "config.window_duration: `ten` is no span of time. Write one from `1s` to `2m`",
    ),
    (
        Phase::TcpConnect,
        "terminate-tls, config: {min_version: '1.1'}",
        "config.min_version: TLS 1.0 and 1.1 are not spoken (RFC 8996). Write `\"1.2\"` or `\"1.3\"`",
    ),
    (
        Phase::TcpConnect,
        "terminate-tls, config: {min_version: 1.3, max_version: 1.2}",
        "config: `min_version` is newer than `max_version`. Exchange them",
    ),
    (
        Phase::TcpConnect,
        "terminate-tls, config: {server_certificate: a}",
        "config: a certificate and its key belong together. Add the other one",
    ),
    (
        Phase::TcpConnect,
        "terminate-tls, config: {mutual_tls_certificate_authorities: [ca_123]}",
        "config.mutual_tls_certificate_authorities[0]: not PEM. Write it here from `-----BEGIN` to its end, below `|-`",
    ),
    (
        Phase::TcpConnect,
        "terminate-tls, config: {mutual_tls_certificate_authorities: []}",
        "config.mutual_tls_certificate_authorities: no authority. Add the certificate of one, or remove the key",
    ),
];

#[test]
fn what_the_older_form_said_means_the_same() {
    let mut caller = Caller::new("GET", "https://a.example/");
    for (action, told) in [
        (
            "custom-response, config: {status_code: 404, content: none}",
            r#"respond 404 ["content-type: text/plain; charset=utf-8"] none"#,
        ),
        ("forward-internal, config: {url: 'https://crm.internal', binding: internal}", "forward https://crm.internal"),
    ] {
        assert_eq!(request(&mut caller, action), told);
    }
    for (action, told) in [
        ("custom-response, config: {body: a, content: b}", "the body is there twice"),
        (
            "forward-internal, config: {url: 'https://crm.internal', binding: public}",
            "`public` is none of what there is",
        ),
    ] {
        let problems = Document::parse(&format!("on_http_request: [{{actions: [{{type: {action}}}]}}]")).unwrap_err();
        assert_eq!(problems.iter().map(|problem| &*problem.what).collect::<Vec<_>>(), [told]);
    }
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
fn what_is_configured_is_read_up_to_its_bounds_and_not_beyond() {
    let entries = |count: usize| (0..count).map(|at| format!("a{at}: b,")).collect::<String>();
    let query =
        |key: &str| format!("http-request, config: {{url: 'http://a/', query_params: [{{key: '{key}', value: b}}]}}");
    for (action, is_read) in [
        ("redirect, config: {to: /a, status_code: 399}".to_owned(), true),
        ("redirect, config: {to: /a, status_code: 400}".into(), false),
        ("deny, config: {status_code: 599}".into(), true),
        ("deny, config: {status_code: 600}".into(), false),
        (format!("log, config: {{metadata: {{{}}}}}", entries(64)), true),
        (format!("log, config: {{metadata: {{{}}}}}", entries(65)), false),
        (format!("http-request, config: {{url: 'http://a/', headers: {{{}}}}}", entries(10)), true),
        (format!("http-request, config: {{url: 'http://a/', headers: {{{}}}}}", entries(11)), false),
        (query(&"k".repeat(128)), true),
        (query(&"k".repeat(129)), false),
        (query(""), false),
    ] {
        let document = Document::parse(&format!("on_http_request: [{{actions: [{{type: {action}}}]}}]"));
        assert_eq!(document.is_ok(), is_read, "{action}");
    }
}

#[test]
fn one_mistake_is_told_once() {
    let limit = "rate-limit, config: {algorithm: token_bucket, capacity: 1, rate: 60s, bucket_key: 7}";
    let problems = Document::parse(&format!("on_http_request: [{{actions: [{{type: {limit}}}]}}]")).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn a_key_is_told_from_a_certificate() {
    let certificate = "'-----BEGIN CERTIFICATE-----'";
    let text = format!(
        "on_tcp_connect: [{{actions: [{{type: terminate-tls, config: {{server_private_key: {certificate}, server_certificate: {certificate}}}}}]}}]"
    );
    let problems = Document::parse(&text).unwrap_err();
    assert!(problems[0].to_string().contains("config.server_private_key: not PEM"), "{problems:?}");
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
