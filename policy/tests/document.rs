//! Documents that are policies, and what is told of those that are not.

use adit_policy::{
    actions::{Action, Deny, RestrictIps},
    cel::{Budget, Timestamp, Value},
    document::{Data, Document, MAX_OCTETS, MAX_PROBLEMS, MAX_RULES},
    environment::{Connection, Endpoint, Exchange, Phase},
};
use proptest::prelude::*;

const WHOLE: &str = r#"
on_tcp_connect:
  - actions:
      - type: restrict-ips
        config: {allow: [192.0.2.0/24], deny: [192.0.2.66]}
on_http_request:
  - name: admin
    expressions:
      - req.url.path.startsWith('/admin')
      - "!inCidrRange(conn.client_ip, '10.0.0.0/8')"
    actions:
      - type: set-vars
        config:
          vars:
            - who: ${conn.client_ip}:${conn.client_port}
      - type: log
        config: {metadata: {why: "admin {'a': '}'}"}}
      - type: deny
  - actions:
      - type: add-headers
        config: {headers: {X-From: "${conn.client_ip} ${{'}': 1}['}']} ${string(true)}"}}
      - type: remove-headers
        config: {headers: [X-Old]}
on_http_response:
  - expressions: ["res.status_code >= 500"]
    actions:
      - type: custom-response
        config: {status_code: 503, headers: {Retry-After: "5"}, body: "later\n"}
      - type: restrict-ips
        config: {enforce: false, allow: []}
"#;

#[test]
fn a_document_is_read_whole() {
    let document = Document::parse(WHOLE).unwrap();
    let shape = |phase| document.rules(phase).iter().map(|rule| (rule.expressions.len(), rule.actions.len())).collect();
    let shapes: [Vec<(usize, usize)>; 3] = Phase::ALL.map(shape);
    let rule = &document.rules(Phase::HttpRequest)[0];

    assert_eq!(shapes, [vec![(0, 1)], vec![(2, 3), (0, 2)], vec![(1, 2)]]);
    assert_eq!(rule.name.as_deref(), Some("admin"));
    let [Action::SetVars(set), Action::Log(log), Action::Deny(Deny { status: 403 })] = &*rule.actions else { panic!() };
    assert_eq!((&*set.vars[0].0, value(&set.vars[0].1)), ("who", "192.0.2.7:40000".into()));
    assert_eq!((&*log.metadata[0].0, value(&log.metadata[0].1)), ("why", "admin {'a': '}'}".into()));
    let [Action::AddHeaders(added), Action::RemoveHeaders(removed)] = &*document.rules(Phase::HttpRequest)[1].actions
    else {
        panic!()
    };
    let (name, template) = &added.headers[0];
    assert_eq!((name.as_str(), render(template)), ("x-from", "192.0.2.7 1 true".into()));
    assert_eq!(removed.headers, ["x-old"]);
    let [Action::CustomResponse(response), Action::RestrictIps(RestrictIps { enforce: false, .. })] =
        &*document.rules(Phase::HttpResponse)[0].actions
    else {
        panic!()
    };
    let (name, header) = &response.headers[0];
    assert_eq!((response.status, name.as_str(), header.constant()), (503, "retry-after", Some("5")));
    assert_eq!(response.body.constant(), Some("later\n"));
}

#[test]
fn values_are_of_the_type_that_is_written() {
    let text = r#"
on_tcp_connect:
  - actions:
      - type: set-vars
        config:
          vars:
            - {int: 7, double: 1.5, bool: true, none: null, text: "7", list: [1, a, [x]], map: {a: {b: "${conn.client_ip}!"}}}
            - {program: "${conn.client_port + 1}", port: "${conn.client_port}.", made: "${['a', conn.client_ip]}"}
"#;
    let document = Document::parse(text).unwrap();
    let [Action::SetVars(set)] = &*document.rules(Phase::TcpConnect)[0].actions else { panic!() };

    let found: Vec<_> = set.vars.iter().map(|(name, data)| format!("{name} {:?}", value(data))).collect();

    assert_eq!(
        found,
        [
            "int Int(7)",
            "double Double(1.5)",
            "bool Bool(true)",
            "none Null",
            r#"text String("7")"#,
            r#"list List([Int(1), String("a"), List([String("x")])])"#,
            r#"map Map({String("a"): Map({String("b"): String("192.0.2.7!")})})"#,
            "program Int(40001)",
            r#"port String("40000.")"#,
            r#"made List([String("a"), String("192.0.2.7")])"#,
        ]
    );
}

#[test]
fn json_is_read_too_and_nothing_is_a_policy_without_rules() {
    let text =
        r#"{"on_http_request": [{"expressions": [], "actions": [{"type": "deny", "config": {"status_code": 404}}]}]}"#;

    let document = Document::parse(text).unwrap();

    assert!(matches!(*document.rules(Phase::HttpRequest)[0].actions, [Action::Deny(Deny { status: 404 })]));
    for text in ["", "{}", "on_http_request:\n", "on_tcp_connect: []\n"] {
        assert!(Document::parse(text).unwrap().rules(Phase::HttpRequest).is_empty(), "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_a_remedy() {
    for (text, told) in WRONG {
        let problems = Document::parse(text).map(|_| ()).unwrap_err();
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(found, *told, "{text}");
    }
}

#[test]
fn a_document_is_bounded() {
    let first = |text: &str| Document::parse(text).map(|_| ()).unwrap_err()[0].to_string();
    let rules = |count| format!("on_http_request:\n{}", "- {actions: [{type: deny}]}\n".repeat(count));
    let wrong =
        "x: {}\n".to_owned() + "on_http_request:\n" + &"- {actions: [{type: nope}, {type: nope}]}\n".repeat(MAX_RULES);

    assert!(Document::parse(&rules(MAX_RULES)).is_ok());
    assert!(first(&rules(MAX_RULES + 1)).contains("257 elements, and 256 are allowed"));
    assert!(first(&" ".repeat(MAX_OCTETS + 1)).contains("and 4194304 are allowed"));
    assert_eq!(Document::parse(&wrong).map(|_| ()).unwrap_err().len(), MAX_PROBLEMS);
    assert!(Document::parse(&"[".repeat(100_000)).is_err());
    assert!(Document::parse(&format!("on_http_request: {}{}", "[".repeat(1_000), "]".repeat(1_000))).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any text is a document or has problems, few and short.
    #[test]
    fn any_text_is_a_document_or_has_problems(
        text in prop_oneof![
            "\\PC{0,200}",
            prop::collection::vec((0..WHOLE.len(), prop_oneof![Just('\n'), Just('{'), Just('"'), Just('$'), Just(':'), any::<char>()]), 1..4)
                .prop_map(|edits| {
                    let mut text: Vec<char> = WHOLE.chars().collect();
                    for (at, c) in edits {
                        text[at] = c;
                    }
                    text.into_iter().collect::<String>()
                }),
        ],
    ) {
        let problems = Document::parse(&text).err();
        let lines = text.lines().count() as u64 + 1;
        for problem in problems.iter().flatten() {
            prop_assert!(problem.line <= lines && problem.what.chars().count() <= 512, "{problem}");
        }
        prop_assert!(problems.is_none_or(|problems| (1..=MAX_PROBLEMS).contains(&problems.len())));
    }
}

fn render(template: &adit_policy::document::Template) -> String {
    with_facts(|facts| template.render(facts, &mut Budget::default()).expect("a text"))
}

fn value(data: &Data) -> Value<'static> {
    with_facts(|facts| data.evaluate(facts, &mut Budget::default()).expect("a value"))
}

fn with_facts<T>(work: impl Fn(&Exchange<'_>) -> T) -> T {
    let start = Timestamp::new(0, 0).expect("in range");
    let [client, server] = ["192.0.2.7:40000", "192.0.2.1:443"].map(|text| text.parse().expect("an address"));
    let connection = Connection::new(client, server, start, None);
    let endpoint = Endpoint { id: "ep", protocol: "https", host: "a.example", port: 443 };
    work(&Exchange::new(&connection, endpoint, start))
}

/// Documents, and all that is told of each.
const WRONG: &[(&str, &[&str])] = &[
    (
        "inbound:\n  - actions: []\n",
        &["line 1, column 1: inbound: the older form of a policy. Write `on_http_request`"] as &[&str],
    ),
    (
        "on_http_requst: []\n",
        &["line 1, column 1: on_http_requst: unknown key. Did you mean `on_http_request`?"] as &[&str],
    ),
    (
        "on_http_request:\n  - expressions: [\"req.method = 'GET'\"]\n    actions: [{type: deny}]\n",
        &["line 2, column 31: on_http_request[0].expressions[0]: unexpected character '='. to compare, write `==`"]
            as &[&str],
    ),
    (
        "on_http_request:\n  - expressions:\n      - conn.client_ib == '1'\n      - 'req.method'\n      - true\n      - |\n        true &&\n          req.methud == 'GET'\n    actions: [{type: deny}]\n",
        &[
            "line 3, column 14: on_http_request[0].expressions[0]: unknown attribute `conn.client_ib`. did you mean `conn.client_ip`?",
            "line 4, column 9: on_http_request[0].expressions[1]: the expression is of type string, and a condition is a bool. Compare it with something",
            "line 5, column 9: on_http_request[0].expressions[2]: a truth where a string is asked for. Write it in quotes",
            "line 8, column 15: on_http_request[0].expressions[3]: unknown attribute `req.methud`. did you mean `req.method`?",
        ] as &[&str],
    ),
    (
        "on_http_request:\n  - expressions: [res.status_code == 200]\n    actions: [{type: deny}]\n",
        &[
            "line 2, column 23: on_http_request[0].expressions[0]: unknown attribute `res.status_code`. Correct the expression",
        ] as &[&str],
    ),
    (
        "on_tcp_connect:\n  - actions:\n      - type: add-headers\n      - type: saml\n      - type: denny\n      - {}\n",
        &[
            "line 3, column 15: on_tcp_connect[0].actions[0].type: `add-headers` is not available in on_tcp_connect. Move it to on_http_request or on_http_response",
            "line 4, column 15: on_tcp_connect[0].actions[1].type: `saml` is not available yet. docs/policy.md has the actions there are",
            "line 5, column 15: on_tcp_connect[0].actions[2].type: unknown type of action. Did you mean `deny`?",
            "line 6, column 9: on_tcp_connect[0].actions[3]: an action without a type. Add `type: deny`, or another",
        ] as &[&str],
    ),
    (
        "on_http_request:\n  - name: 7\n    actions: []\n",
        &[
            "line 2, column 5: on_http_request[0]: a rule without actions. Add `actions`, each with a `type`",
            "line 2, column 11: on_http_request[0].name: a number where a string is asked for. Write it in quotes",
        ] as &[&str],
    ),
    (
        "on_http_request:\n  - actions:\n      - type: deny\n        config: {status_code: '404'}\n      - type: deny\n        config: {status: 404}\n      - type: deny\n        config: {status_code: 200}\n      - type: close-connection\n        config: {now: true}\n",
        &[
            "line 4, column 31: on_http_request[0].actions[0].config.status_code: a string where a whole number is asked for. Write it without quotes",
            "line 6, column 18: on_http_request[0].actions[1].config.status: unknown key. There is `status_code`",
            "line 8, column 31: on_http_request[0].actions[2].config.status_code: 200 is no such status. Write one from 400 to 599",
            "line 10, column 18: on_http_request[0].actions[3].config.now: unknown key. There is no key here; remove it",
        ] as &[&str],
    ),
    (
        "on_http_request:\n  - actions:\n      - type: restrict-ips\n        config: {allow: [10.0.0.0/33, 10.0.0.1]}\n      - type: restrict-ips\n      - type: restrict-ips\n        config: {allow: [], deny: ten, ip_policies: [a]}\n",
        &[
            "line 4, column 26: on_http_request[0].actions[0].config.allow[0]: the prefix of `10.0.0.0/33` is no number from 0 to 32. Correct it",
            "line 5, column 9: on_http_request[0].actions[1].config: no `allow`, so that nobody may call. Add `allow: [0.0.0.0/0, \"::/0\"]` for all but who is denied",
            "line 7, column 35: on_http_request[0].actions[2].config.deny: a string where a list is asked for. Begin each element with a dash",
            "line 7, column 53: on_http_request[0].actions[2].config.ip_policies: not available: there is no store of such policies. List the networks under `allow` and `deny`",
        ] as &[&str],
    ),
    (
        "on_http_request:\n  - actions:\n      - type: add-headers\n        config: {headers: {'x y': a, x-b: \"a\\nb\", x-c: 1.10, x-d: 'is ${conn.client_ipp}', x-e: '${', x-f: '${vars}'}}\n      - type: remove-headers\n      - type: custom-response\n      - type: set-vars\n        config: {vars: {a: b}}\n      - type: log\n        config: {metadata: {}}\n",
        &[
            "line 4, column 28: on_http_request[0].actions[0].config.headers.x y: no name of a header. Write it as in `x-api-key`",
            "line 4, column 38: on_http_request[0].actions[0].config.headers.x-b: a control character in a header. Write it on one line",
            "line 4, column 56: on_http_request[0].actions[0].config.headers.x-c: a number where a string is asked for. Write it in quotes",
            "line 4, column 78: on_http_request[0].actions[0].config.headers.x-d: unknown attribute `conn.client_ipp`. did you mean `conn.client_ip`?",
            "line 4, column 100: on_http_request[0].actions[0].config.headers.x-e: an expression without an end. Close it with `}`",
            "line 4, column 111: on_http_request[0].actions[0].config.headers.x-f: a value of type map(string, dyn) cannot be written into a text. Make it a string, as by `list.join(', ')` or `base64.encode(bytes)`",
            "line 5, column 9: on_http_request[0].actions[1].config: no `headers`. Add it",
            "line 8, column 24: on_http_request[0].actions[3].config.vars: a map where a list is asked for. Begin each element with a dash",
            "line 10, column 28: on_http_request[0].actions[4].config.metadata: 0 entries. Write from 1 to 64",
        ] as &[&str],
    ),
    ("on_http_request: [a\n", &["line 1, column 18: unclosed bracket '['. Write YAML or JSON"]),
    ("- a\n", &["line 1, column 1: a list where a map is asked for. Write `key: value` below it, indented"] as &[&str]),
    (
        "on_tcp_connect: []\non_tcp_connect: []\n",
        &["line 2, column 1: duplicate mapping key: on_tcp_connect. Write YAML or JSON"] as &[&str],
    ),
    // A list that was forgotten is not one that was not given: it would let anybody pass.
    (
        "on_tcp_connect:\n  - actions:\n      - type: restrict-ips\n        config:\n          allow:\n          deny: [10.0.0.1]\n  - expressions:\n    actions: [{type: deny, config: }]\n",
        &[
            "line 5, column 16: on_tcp_connect[0].actions[0].config.allow: nothing where a list is asked for. Begin each element with a dash",
            "line 7, column 16: on_tcp_connect[1].expressions: nothing where a list is asked for. Begin each element with a dash",
        ],
    ),
];

/// Small texts make large patterns: what they take is bounded for an expression and for a document.
#[test]
fn patterns_take_no_more_room_than_a_document_has() {
    let large = r"'a'.matches(r'^\w+@?\w*$') && req.url.path.matches(r'^\w+@?\w*$')";
    let many = [large; 5].join(" && ");
    let rule = |expression: &str| {
        format!("  - expressions: [\"{}\"]\n    actions: [{{type: deny}}]\n", expression.replace('\\', "\\\\"))
    };

    let problems = Document::parse(&format!("on_http_request:\n{}", rule(&many))).unwrap_err();
    assert!(
        problems[0].what.contains("the patterns of the expression take more than 1048576 octets"),
        "{}",
        problems[0]
    );

    let fits = format!("on_http_request:\n{}", rule(large).repeat(32));
    assert!(Document::parse(&fits).is_ok());
    let problems = Document::parse(&format!("{fits}{}", rule(large))).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].what.contains("patterns take more than 16777216 octets"), "{}", problems[0]);
}
