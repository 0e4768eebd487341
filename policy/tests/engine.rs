//! Rules as they are run: their order, what one sees of another, and what comes of what cannot be decided.

mod support;

use adit_policy::{
    engine::{Outcome, Step, Why},
    environment::Phase,
};
use support::{Caller, policy};

#[test]
fn rules_and_actions_run_in_their_order_and_see_what_was_changed_before() {
    let mut caller = Caller::new("GET", "https://a.example/a");
    let policy = policy(
        r#"
on_http_request:
  - name: first
    actions:
      - {type: set-vars, config: {vars: [{one: "${conn.client_ip}"}, {two: "${vars.one}!"}]}}
      - {type: add-headers, config: {headers: {x-one: "${vars.two}", X-One: again}}}
  - expressions: ["req.headers['x-one'] == ['192.0.2.7!', 'again']"]
    actions:
      - {type: remove-headers, config: {headers: [X-One, x-none]}}
      - {type: add-headers, config: {headers: {x-two: "${string(hasReqHeader('x-one'))}", host: b.example}}}
  - {expressions: ["req.method == 'POST'"], actions: [{type: deny}]}
  - {name: last, expressions: ["req.headers['x-two'][0] == 'false'"], actions: [{type: deny, config: {status_code: 404}}]}
  - actions: [{type: deny}]
"#,
    );

    let (outcome, run) = caller.run(&policy, Phase::HttpRequest);

    let Outcome::Refuse(refusal) = outcome else { panic!("{outcome:?}") };
    assert_eq!((refusal.status, refusal.why), (404, Why::Denied));
    assert!(!caller.request.headers.contains_key("x-one"));
    assert_eq!(caller.request.headers["host"], "b.example");
    assert_eq!(
        run.trace().lines(&policy).collect::<Vec<_>>(),
        [
            "on_http_request[0] first: matched",
            "on_http_request[0] first: set-vars: done",
            "on_http_request[0] first: add-headers: done",
            "on_http_request[1]: matched",
            "on_http_request[1]: remove-headers: done",
            "on_http_request[1]: add-headers: done",
            "on_http_request[2]: not matched",
            "on_http_request[3] last: matched",
            "on_http_request[3] last: deny: refused with 404",
        ]
    );
    let fired: Vec<_> = run.trace().lines(&policy).filter(|line| !line.ends_with(": not matched")).collect();
    assert_eq!(run.trace().fired(&policy).collect::<Vec<_>>(), fired);
}

#[test]
fn what_cannot_be_decided_refuses_unless_the_rule_only_tells() {
    for (text, told) in [
        (
            "on_http_request: [{expressions: [\"req.headers['x-none'][0] == ''\"], actions: [{type: add-headers, config: {headers: {a: b}}}]}]",
            Some("on_http_request[0]: failed: 1:12: no such key"),
        ),
        (
            "on_http_request: [{actions: [{type: add-headers, config: {headers: {a: \"${vars.none}\"}}}]}]",
            Some("on_http_request[0]: add-headers: failed: 1:6: no such key"),
        ),
        (
            "on_http_request: [{actions: [{type: add-headers, config: {headers: {a: \"${req.url.query_params['q'][0]}\"}}}]}]",
            Some("on_http_request[0]: add-headers: failed: a header would have a control character"),
        ),
        (
            // What is no control character of ASCII is one, too.
            "on_http_request: [{actions: [{type: add-headers, config: {headers: {a: \"${req.url.query_params['c'][0]}\"}}}]}]",
            Some("on_http_request[0]: add-headers: failed: a header would have a control character"),
        ),
        (
            "on_http_request: [{expressions: [vars.none], actions: [{type: log, config: {metadata: {a: b}}}, {type: add-headers, config: {headers: {a: b}}}]}]",
            Some("on_http_request[0]: failed: 1:6: no such key"),
        ),
        ("on_http_request: [{expressions: [\"vars.none\"], actions: [{type: log, config: {metadata: {a: b}}}]}]", None),
        (
            "on_http_request: [{actions: [{type: log, config: {metadata: {a: \"${vars.none}\"}}}, {type: log, config: {metadata: {a: b}}}]}]",
            None,
        ),
        (
            "on_http_request: [{actions: [{type: remove-headers, config: {headers: [a]}}, {type: log, config: {metadata: {a: \"${vars.none}\"}}}]}]",
            None,
        ),
    ] {
        let policy = policy(text);
        let mut caller = Caller::new("GET", "https://a.example/a?q=%0d%0aset-cookie:%20x&c=%C2%85");
        let (outcome, run) = caller.run(&policy, Phase::HttpRequest);

        match told {
            None => assert!(matches!(outcome, Outcome::Continue), "{text}"),
            Some(told) => {
                let Outcome::Refuse(refusal) = outcome else { panic!("{text}: {outcome:?}") };
                assert!(refusal.status == 500 && matches!(refusal.why, Why::Failed(_)), "{text}: {refusal:?}");
                assert_eq!(run.trace().lines(&policy).last().as_deref(), Some(told), "{text}");
                assert!(caller.request.headers.is_empty(), "{text}");
            }
        }
    }
}

#[test]
fn a_phase_has_one_budget_and_refuses_when_it_is_spent() {
    // Each rule costs far less than the budget; together they cost more. The last only tells, and is not passed over.
    let costly = "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, a + b + c > vars.n)))";
    let rules =
        format!("  - {{expressions: [\"{costly}\"], actions: [{{type: log, config: {{metadata: {{a: b}}}}}}]}}\n")
            .repeat(40);
    let policy =
        policy(&format!("on_http_request:\n  - actions: [{{type: set-vars, config: {{vars: [{{n: 0}}]}}}}]\n{rules}"));

    let (outcome, run) = Caller::new("GET", "https://a.example/").run(&policy, Phase::HttpRequest);

    let Outcome::Refuse(refusal) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(refusal.why, Why::Failed(failure) if failure.is_limit()));
    let last = run.trace().lines(&policy).last();
    assert!(last.is_some_and(|last| last.contains("over budget: ")));
}

#[test]
fn variables_last_a_phase_and_results_go_on_to_the_next() {
    let policy = policy(
        r#"
on_http_request:
  - actions:
      - {type: set-vars, config: {vars: [{one: 1}]}}
      - {type: restrict-ips, config: {enforce: false, allow: [198.51.100.0/24]}}
on_http_response:
  - expressions: ["!has(vars.one) && actions.ngrok.restrict_ips.action == 'deny' && actions.ngrok.restrict_ips.error.code == ''"]
    actions: [{type: add-headers, config: {headers: {x-seen: "${res.status_code}"}}}]
"#,
    );
    let mut caller = Caller::new("GET", "https://a.example/");
    caller.respond(404);

    let (outcome, run) = caller.run(&policy, Phase::HttpRequest);
    assert!(matches!(outcome, Outcome::Continue));
    let (outcome, _) = caller.go_on(&policy, Phase::HttpResponse, run.into_carried());

    assert!(matches!(outcome, Outcome::Continue));
    assert_eq!(caller.response.as_ref().unwrap().headers["x-seen"], "404");
}

#[test]
fn a_policy_without_rules_for_a_phase_goes_on() {
    let policy = policy("");
    let mut caller = Caller::new("GET", "https://a.example/");

    assert!(!policy.has(Phase::TcpConnect));
    assert!(matches!(
        caller.step(&mut policy.begin(Phase::TcpConnect, Default::default())),
        Step::Done(Outcome::Continue)
    ));
}

#[test]
fn a_log_that_is_over_the_budget_is_not_passed_over() {
    let policy = policy(
        "on_http_request: [{actions: [{type: log, config: {metadata: {a: \"${lists.range(size(req.method) * 30000)}\"}}}]}]",
    );

    let (outcome, _) = Caller::new("GET", "https://a.example/").run(&policy, Phase::HttpRequest);

    let Outcome::Refuse(refusal) = outcome else { panic!("{outcome:?}") };
    assert!(refusal.status == 500 && matches!(refusal.why, Why::Failed(failure) if failure.is_limit()));
}
