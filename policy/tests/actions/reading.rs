//! How actions are written, and what is told of mistakes.

use adit_policy::{document::Document, environment::Phase};

use super::{REQUEST, request, support::Caller};

#[test]
fn what_is_configured_wrongly_is_refused_with_a_remedy() {
    for (phase, action, told) in WRONG {
        let text = format!("{}: [{{actions: [{{type: {action}}}]}}]", phase.name());
        let problems = Document::parse(&text).map(|_| ()).unwrap_err();
        let found = problems[0].to_string();
        assert!(found.contains(&format!("actions[0].{told}")), "{action}: {found}");
    }
}

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
