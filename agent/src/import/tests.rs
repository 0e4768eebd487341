//! Configurations as people have them, what is made of them, and what is told.

use std::{fs, path::PathBuf};

use proptest::prelude::*;

use super::*;
use crate::config::{
    Config, Overrides, Text,
    yaml::{Node, Value},
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

/// The examples, by their names.
fn examples() -> Vec<(String, String)> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut examples: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    examples.sort();
    examples
}

fn made(text: &str, options: &Options) -> Imported {
    import(Path::new("ngrok.yml"), text, options).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"))
}

/// Every way of asking.
fn ways() -> Vec<Options> {
    let with = |domain: bool, flag: bool| Options {
        connect_url: domain.then(|| "connect.vendor.example:443".to_owned()),
        domain: domain.then(|| "vendor.example".to_owned()),
        secrets: flag,
        keep_authtoken: flag,
        expose: flag,
    };
    vec![with(false, false), with(true, false), with(false, true), with(true, true)]
}

fn check(text: &str) -> Result<Config, Vec<ConfigFault>> {
    Config::parse(
        &["/etc/adit/adit.yml".into()],
        &[Text { text: text.to_owned(), mode: Some(0o600) }],
        &Overrides::default(),
    )
}

/// The whole of what is told and made, as the files beside the examples have it.
fn shown(made: &Imported) -> String {
    let notes: String = made.notes.iter().map(|note| format!("{}: {note}\n", note.level.word())).collect();
    let extras: String = made.extras.iter().map(|extra| format!("--- {}\n{}", extra.name, extra.text)).collect();
    format!("{notes}--- carried\n{}\n--- adit.yml\n{}{extras}", made.carried.join("\n"), made.text)
}

#[test]
fn what_is_made_of_each_example_passes_the_check() {
    assert!(examples().len() > 20);
    for (name, text) in examples() {
        for options in ways() {
            let made = made(&text, &options);
            assert!(check(&made.text).is_ok(), "{name} {options:?}: {:?}\n{}", check(&made.text), made.text);
        }
    }
}

#[test]
fn what_is_made_and_told_of_each_example_is_what_was_looked_at() {
    let mut differ = Vec::new();
    for (name, text) in examples() {
        let (file, shown) = (folder().join(format!("{name}.txt")), shown(&made(&text, &ways()[1])));
        if std::env::var_os("ADIT_BLESS").is_some() {
            fs::write(&file, &shown).unwrap();
        }
        if fs::read_to_string(&file).unwrap_or_default() != shown {
            differ.push(format!("{name}:\n{shown}"));
        }
    }
    assert!(differ.is_empty(), "look at them, and write them down with ADIT_BLESS=1:\n{}", differ.join("\n"));
}

#[test]
fn every_key_of_each_example_comes_along_or_is_named() {
    for (name, text) in examples() {
        let (root, _) = yaml::parse_with_types(0, &text).unwrap();
        for options in ways() {
            let lost = lost(&root, &made(&text, &options));
            assert!(lost.is_empty(), "{name}: {lost:?}");
        }
    }
}

#[test]
fn no_secret_is_told_and_none_is_carried_unasked() {
    for (name, text) in examples() {
        for options in ways() {
            let made = made(&text, &options);
            let told: String = made.notes.iter().map(ToString::to_string).chain(made.carried.clone()).collect();
            assert!(!told.contains("s3cret"), "{name}: {told}");
            assert!(options.secrets || !made.text.contains("s3cret"), "{name}: {}", made.text);
            assert_eq!(made.text.contains("authtoken"), options.keep_authtoken && text.contains("authtoken"), "{name}");
        }
    }
}

#[test]
fn what_was_protected_does_not_run_before_somebody_says_so() {
    let text = fs::read_to_string(folder().join("v2-protected.yml")).unwrap();

    let closed = made(&text, &Options::default());
    let open = made(&text, &Options { expose: true, ..Options::default() });

    assert!(check(&closed.text).unwrap().endpoints.is_empty());
    assert_eq!(check(&open.text).unwrap().endpoints.len(), 3);
    let uncommented: String = closed
        .text
        .lines()
        .map(|line| {
            format!("{}\n", line.strip_prefix("#  ").map_or_else(|| line.to_owned(), |line| format!("  {line}")))
        })
        .collect();
    assert_eq!(check(&uncommented).unwrap().endpoints, check(&open.text).unwrap().endpoints, "{uncommented}");
    assert!(
        closed
            .notes
            .iter()
            .any(|note| note.level == Level::Protection && note.key == "tunnels.google.oauth" && note.line > 0)
    );
}

#[test]
fn what_is_no_configuration_of_theirs_is_refused_with_its_place() {
    for (text, expected) in [
        ("a: [", "ngrok.yml:"),
        ("version: 4\nagent: {}\n", "ngrok.yml:1:10: version: a version that is not known"),
        ("", "ngrok.yml: no configuration of an ngrok agent"),
        ("version: '3'\nservices: {web: {image: x}}\n", "ngrok.yml:1:1: no configuration of an ngrok agent"),
        ("- a\n", "ngrok.yml:1:1: not a section of keys"),
        ("version: 3\nagent: 7\n", "ngrok.yml:2:8: agent: not a section of keys"),
        ("version: 3\nendpoints: {a: 1}\n", "ngrok.yml:2:12: endpoints: not a list"),
        ("version: 2\ntunnels:\n  a:\n    proto: [x]\n", "ngrok.yml:4:12: tunnels.a.proto: not a single value"),
        ("version: 2\nheartbeat_interval: soon\n", "ngrok.yml:2:21: heartbeat_interval: not a time"),
    ] {
        let faults = import(Path::new("ngrok.yml"), text, &Options::default()).unwrap_err();
        assert!(faults[0].to_string().starts_with(expected), "{text}: {}", faults[0]);
    }
}

#[test]
fn a_policy_keeps_the_types_of_its_values() {
    let text = "version: 3\nendpoints:\n  - name: a\n    url: https://a.example.com\n    upstream: {url: 1}\n    traffic_policy:\n      on_http_request:\n        - actions:\n            - {type: custom-response, config: {status_code: 200, body: \"200\", x: true, w: 'true', z: null}}\n";

    let made = made(text, &Options::default());

    let shown: String = made.extras[0].text.lines().map(|line| format!("{}\n", line.trim())).collect();
    let config = "status_code: 200\nbody: \"200\"\nx: true\nw: \"true\"\nz: null\n";
    assert!(shown.contains(config), "{shown}");
}

/// Returns the keys of theirs that neither came along nor are named.
fn lost(root: &Node, made: &Imported) -> Vec<String> {
    let mut leaves = Vec::new();
    leaf_paths("", &root.value, &mut leaves);
    leaves.retain(|leaf| {
        let below = |key: &str| {
            !key.is_empty()
                && leaf.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        // What stands for a whole endpoint says so; a name that is written otherwise does not stand for its keys.
        let noted =
            made.notes.iter().any(|note| below(&note.key) && (note.key == *leaf || !note.problem.starts_with("named")));
        !noted && !made.carried.iter().any(|key| below(key))
    });
    leaves
}

fn leaf_paths(path: &str, value: &Value, leaves: &mut Vec<String>) {
    let key = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Null => {}
        Value::Text(_) => leaves.push(path.to_owned()),
        Value::List(items) => {
            for (at, item) in items.iter().enumerate() {
                leaf_paths(&format!("{path}[{at}]"), &item.value, leaves);
            }
        }
        Value::Map(entries) => entries.iter().for_each(|(name, _, node)| leaf_paths(&key(name), &node.value, leaves)),
    }
}

/// A value that may stand at a key of theirs.
fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("8080".to_owned()),
        Just("''".to_owned()),
        Just("https://host.example.com:8443/path".to_owned()),
        Just("localhost:80".to_owned()),
        Just("tcp://1.tcp.ngrok.io:999".to_owned()),
        Just("x.ngrok.app".to_owned()),
        Just("[a, b]".to_owned()),
        Just("{provider: x, secret: y, allow: [q], add: ['a: b']}".to_owned()),
        Just("10s".to_owned()),
        Just("http2".to_owned()),
        Just("'2'".to_owned()),
        "[ -~]{0,12}".prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
        "\\PC{0,8}".prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
    ]
}

const KEYS: &[&str] = &[
    "addr",
    "proto",
    "domain",
    "hostname",
    "subdomain",
    "schemes",
    "bind_tls",
    "url",
    "remote_addr",
    "crt",
    "key",
    "mutual_tls_cas",
    "terminate_at",
    "basic_auth",
    "auth",
    "oauth",
    "oidc",
    "host_header",
    "inspect",
    "metadata",
    "description",
    "pooling_enabled",
    "proxy_proto",
    "app_protocol",
    "verify_upstream_tls",
    "verify_upstream_tls_cas",
    "circuit_breaker",
    "compression",
    "ip_restriction",
    "request_header",
    "response_header",
    "verify_webhook",
    "user_agent_filter",
    "traffic_policy",
    "policy",
    "labels",
    "websocket_tcp_converter",
    "upstream",
    "agent_tls_termination",
    "bindings",
    "nonsense",
];

proptest! {
    /// Whatever stands in it: it is refused with its place, or what is made of it is valid and nothing is lost.
    #[test]
    fn whatever_is_read_is_refused_or_made_valid_with_nothing_lost(
        entries in prop::collection::btree_map(prop::sample::select(KEYS), values(), 0..9),
        proto in prop::sample::select(&["http", "tcp", "tls"][..]),
        way in 0_usize..4,
        form in 2_u8..4,
    ) {
        let mut text = format!("version: {form}\n");
        text.push_str(if form == 3 { "agent: {}\nendpoints:\n  -\n    name: 'a b'\n    upstream: {url: 9}\n" } else { "tunnels:\n  'a b':\n" });
        if form == 2 {
            text.push_str(&format!("    proto: {proto}\n    addr: 7\n"));
        }
        for (key, value) in entries.iter().filter(|(key, _)| !matches!(**key, "proto" | "addr") || form == 3).filter(|(key, _)| **key != "upstream" || form == 2) {
            text.push_str(&format!("    {key}: {value}\n"));
        }
        let options = &ways()[way];
        let Ok((root, _)) = yaml::parse_with_types(0, &text) else { return Ok(()) };
        match import(Path::new("ngrok.yml"), &text, options) {
            Ok(made) => {
                prop_assert!(check(&made.text).is_ok(), "{:?}\n{}\n{}", check(&made.text), text, made.text);
                let lost = lost(&root, &made);
                prop_assert!(lost.is_empty(), "{lost:?}\n{text}\n{}", shown(&made));
            }
            Err(faults) => prop_assert!(faults.iter().all(|fault| fault.line.is_some()), "{faults:?}"),
        }
    }
}

#[test]
fn an_endpoint_with_a_key_that_nobody_knows_does_not_come_into_force() {
    let known =
        "version: 3\nagent: {}\nendpoints:\n  - name: a\n    url: https://a.example.com\n    upstream: {url: 1}\n";
    let tunnel = "version: 2\ntunnels:\n  a:\n    proto: http\n    hostname: a.example.com\n    addr: 1\n";
    let pem = "    agent_tls_termination:\n      server_certificate: a.pem\n      server_private_key: a.key\n      clients: all\n";
    for (text, key) in [
        (format!("{known}    guard: {{x: 1}}\n"), "guard"),
        (format!("{known}{pem}"), "clients"),
        (format!("{tunnel}    guard: true\n"), "guard"),
    ] {
        let made = made(&text, &ways()[0]);
        assert!(made.notes.iter().any(|note| note.level == Level::Protection && note.key.ends_with(key)), "{made:?}");
        assert!(made.text.contains(&format!("protected by: {key} (not known).")), "{}", made.text);
        assert!(!made.text.lines().any(|line| line.trim_start().starts_with("- name")), "{}", made.text);
    }
}
