//! What is answered in the place of the upstream, and which upstream is asked: `custom-response`, `redirect`, `url-rewrite`, `forward-internal`.

use adit_policy::{
    engine::{Answer, Carried, Failure, Outcome, Step, Why},
    environment::Phase,
};

use super::{
    REQUEST, outcome, request,
    support::{Caller, policy},
};

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
