//! A usual condition allocates nothing, and no expression allocates more than it was charged for.

mod common;

use std::alloc::System;

use adit_policy::{
    cel::{Budget, Timestamp, parse},
    environment::{Connection, Endpoint, Exchange, Head, Phase},
};
use common::{Request, environment};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test, because the count is of the whole process.
#[test]
fn memory_is_paid_for() {
    a_usual_condition_allocates_nothing();
    a_usual_condition_of_a_request_allocates_nothing();
    no_expression_allocates_more_than_it_was_charged_for();
}

fn a_usual_condition_allocates_nothing() {
    for text in [
        "conn.client_ip == '1.2.3.4' && req.headers['x'].startsWith('a')",
        "req.url.path.matches('^/a/[a-z]+$') || 'y' in req.headers",
        "conn.client_ip in ['10.0.0.1', '10.0.0.2', '1.2.3.4']",
        "req.accepts.exists(it, it.substring(0, 4) == 'text') && time.now > timestamp('2000-01-01T00:00:00Z')",
        "has(res.status_code) ? res.status_code >= 500 : any == 7",
        "req.headers.nope == '' || true",
    ] {
        let program = environment().compile(text).expect(text);
        let request = Request::default();
        let mut budget = Budget::default();
        _ = program.evaluate(&request, &mut budget); // the first match with a pattern makes its tables
        let region = Region::new(GLOBAL);

        let outcome = program.evaluate(&request, &mut budget);

        assert_eq!(region.change().allocations, 0, "{text}");
        assert_eq!(outcome.map(|value| value.as_bool()), Ok(Some(true)), "{text}");
    }
}

fn a_usual_condition_of_a_request_allocates_nothing() {
    let at = Timestamp::new(0, 0).expect("in range");
    let connection = Connection::new(
        "192.0.2.7:1".parse().expect("an address"),
        "192.0.2.1:443".parse().expect("an address"),
        at,
        None,
    );
    let endpoint = Endpoint { id: "ep", protocol: "http", host: "a.example", port: 80 };
    let headers = common::headers(&[("x-team", b"one"), ("cookie", b"id=7")]);
    let head = Head {
        method: "GET",
        scheme: "http",
        authority: "a.example",
        path: "/a",
        query: "x=1",
        version: "HTTP/1.1",
        headers: &headers,
        received: at,
    };
    let exchange = Exchange::new(&connection, endpoint, at).with_request(head);
    for text in [
        "inCidrRanges(conn.client_ip, ['10.0.0.0/8', '192.0.2.0/24']) && conn.client_ip == '192.0.2.7'",
        "inCidrRange(conn.client_ip, conn.client_ip)",
        "hasReqHeader('X-Team') && getReqHeader('X-Team')[0] == 'one' && 'one' in req.headers['x-team']",
        "hasQueryParam('x') && getReqCookie('id').value == '7' && req.url.startsWith('http://a.example/a')",
    ] {
        let program = Phase::HttpRequest.environment().compile(text).expect(text);
        let mut budget = Budget::default();
        _ = program.evaluate(&exchange, &mut budget); // the first to ask has the query, the cookies and the URL made
        let region = Region::new(GLOBAL);

        let outcome = program.evaluate(&exchange, &mut budget);

        assert_eq!(region.change().allocations, 0, "{text}");
        assert_eq!(outcome.map(|value| value.as_bool()), Ok(Some(true)), "{text}");
    }
}

fn no_expression_allocates_more_than_it_was_charged_for() {
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(&expression(), |text| {
        let Ok(program) = environment().compile(&text) else { return Ok(()) };
        let request = Request::default();
        let mut budget = Budget::new(20_000, 1 << 16);
        let region = Region::new(GLOBAL);
        _ = program.evaluate(&request, &mut budget);
        let allocated = region.change().bytes_allocated as u64;
        // A vector that grows is moved, for at most three times its room; small texts have a header each.
        let (steps, octets) = (20_000 - budget.steps(), (1 << 16) - budget.octets());
        prop_assert!(allocated <= 4 * octets + 64 * steps, "{text}: {allocated} for {steps} steps and {octets} octets");
        Ok(())
    });
    assert_eq!(outcome, Ok(()));
}

/// Returns expressions, most of which compile.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "conn.client_ip",
        "req.url.path",
        "req.headers",
        "req.accepts",
        "any",
        "x",
        "1",
        "2u",
        "1.5",
        "'a'",
        "'b,c'",
        "true",
        "null",
        "[1, 2]",
        "{'a': 1}",
        "time.now",
        "b'x'",
        "''",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            (two.clone(), prop::sample::select(vec!["+", "==", "<", "&&", "||", "in", "-", "*"]))
                .prop_map(|((a, b), op)| format!("(dyn({a}) {op} dyn({b}))")),
            two.clone().prop_map(|(a, b)| format!("dyn({a}).replace('', string(dyn({b})))")),
            two.clone().prop_map(|(a, b)| format!("dyn({a}).map(x, dyn({b}))")),
            two.clone().prop_map(|(a, b)| format!("dyn({a}).filter(x, dyn({b}))")),
            two.clone().prop_map(|(a, b)| format!("'%s %s'.format([{a}, {b}])")),
            two.clone().prop_map(|(a, b)| format!("{{string(dyn({a})): {b}}}")),
            two.prop_map(|(a, b)| format!("dyn({a}).split(dyn({b}))")),
            inner.clone().prop_map(|a| format!("'%s'.format([{a}]).split('').join('--').upperAscii().reverse()")),
            inner.clone().prop_map(|a| format!("strings.quote(string(dyn({a})))")),
            inner.clone().prop_map(|a| format!("base64.encode(bytes(string(dyn({a}))))")),
            vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(", "))),
        ]
    })
    .prop_filter("parses", |text| parse(text).is_ok())
}
