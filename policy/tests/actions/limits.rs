//! How much is let through: `rate-limit`, `circuit-breaker`.

use core::time::Duration;
use std::sync::Arc;

use adit_policy::{
    document::Document,
    engine::{Outcome, Policy},
};
use http::StatusCode;

use super::{
    REQUEST, request, short,
    support::{Caller, policy},
};

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

/// Calls an upstream that does not answer, until calls are refused.
fn trip(caller: &mut Caller, policy: &Arc<Policy>) {
    let (outcome, run) = caller.run(policy, REQUEST);
    assert_eq!(short(outcome), "continue");
    run.into_carried().conclude(None, caller.now().instant);
    assert_eq!(short(caller.run(policy, REQUEST).0), "refuse 503 Tripped after 30");
}

const BREAKER: &str = "{type: circuit-breaker, config: {volume_threshold: 1, tripped_duration: 30s, enforce: true}}";
