//! The table of verdicts, and what a text that is no policy is told.

use std::path::Path;

use super::*;
use crate::config::Address;

fn parse(text: &str) -> Result<Policy, Vec<ConfigFault>> {
    Policy::parse(Path::new("/etc/adit/policy.yml"), text)
}

const WHOLE: &str = "\
version: 1
expires: 2030-01-01T00:00:00Z
max_connections: 100
capture: true
commands: { restart: true, configuration: true }
allow:
  - name: crm
    endpoints: ['https://crm.example.com', 'https://*.crm.example.com']
    hosts: [crm.corp, '*.crm.corp']
    addresses: [10.0.0.0/8, 'fd00::/8']
    ports: [443, 8000-8099]
    protocols: [https]
    hours: [mon-fri 08:00-18:00 +01:00]
    expires: 2027-01-01T00:00:00+01:00
    max_connections: 10
    connections_per_second: 5
    bytes_per_second: 10MB
    total_bytes: 1GiB
  - name: here
    endpoints: ['tcp://:5000-5999']
    hosts: [localhost, 'unix:/run/db.sock', 192.0.2.0/24]
    ports: [5432]
    protocols: [tcp]
";

/// Monday, 2026-11-23, noon.
const NOON: i64 = 1_795_435_200;

fn crm() -> (Address, Facts<'static>) {
    (Address::Tcp { host: "crm.corp".into(), port: 443 }, facts())
}

fn facts() -> Facts<'static> {
    static NOWHERE: Address = Address::Unix(std::path::PathBuf::new());
    Facts {
        endpoint: "https://crm.example.com",
        upstream: &NOWHERE,
        protocol: Protocol::Https,
        address: None,
        now: NOON,
        latest: i64::MIN,
        whole: Usage::default(),
        rules: &[],
    }
}

fn verdict(facts: &Facts<'_>) -> (Option<usize>, Option<Reason>, Option<String>) {
    match parse(WHOLE).unwrap().judge(facts) {
        Verdict::Allowed { rule } => (Some(rule), None, None),
        Verdict::Refused(refusal) => (None, Some(refusal.reason), refusal.rule),
    }
}

#[test]
fn a_whole_policy_is_read() {
    let policy = parse(WHOLE).unwrap();

    assert_eq!((policy.rules.len(), policy.capture, policy.bounds.limits.connections), (2, true, Some(100)));
    let commands = Commands { restart: true, configuration: true, ..Commands::default() };
    assert_eq!(policy.commands, commands);
    let limits = policy.rules[0].bounds.limits;
    assert_eq!((limits.connections, limits.connections_per_second), (Some(10), Some(5)));
    assert_eq!((limits.bytes_per_second, limits.total_bytes), (Some(10_000_000), Some(1 << 30)));
}

#[test]
fn what_is_not_said_is_not_allowed() {
    let policy = parse("version: 1\n").unwrap();

    assert_eq!(policy, Policy::default());
    assert!(!policy.capture && policy.commands == Commands::default());
    let (upstream, facts) = crm();
    assert!(matches!(
        policy.judge(&Facts { upstream: &upstream, ..facts }),
        Verdict::Refused(Refusal { reason: Reason::Endpoint, rule: None, .. })
    ));
}

#[test]
fn every_condition_of_a_rule_must_hold_and_the_refusal_names_the_first_that_does_not() {
    let (upstream, fine) = crm();
    let fine = Facts { upstream: &upstream, ..fine };
    let tcp = |host: &str, port| Address::Tcp { host: host.into(), port };
    let (elsewhere, port, below) = (tcp("hr.corp", 443), tcp("crm.corp", 444), tcp("eu.crm.corp", 8_099));
    let address = |text: &str| Some(text.parse().unwrap());
    let usage = |usage: Usage| [usage];
    let (full, spent) =
        (usage(Usage { connections: 10, ..Usage::default() }), usage(Usage { bytes: 1 << 30, ..Usage::default() }));
    let hurried = usage(Usage { hurried: true, ..Usage::default() });
    let crm = || Some("crm".to_owned());
    for (what, facts, expected) in [
        ("fits", fine, (Some(0), None, None)),
        (
            "fits below",
            Facts { upstream: &below, endpoint: "https://a.crm.example.com/", ..fine },
            (Some(0), None, None),
        ),
        ("at its address", Facts { address: address("10.1.2.3"), ..fine }, (Some(0), None, None)),
        ("at its other address", Facts { address: address("fd00::1"), ..fine }, (Some(0), None, None)),
        ("endpoint", Facts { endpoint: "https://hr.example.com", ..fine }, (None, Some(Reason::Endpoint), None)),
        ("wider endpoint", Facts { endpoint: "https://*.example.com", ..fine }, (None, Some(Reason::Endpoint), None)),
        ("host", Facts { upstream: &elsewhere, ..fine }, (None, Some(Reason::Host), crm())),
        ("port", Facts { upstream: &port, ..fine }, (None, Some(Reason::Port), crm())),
        ("protocol", Facts { protocol: Protocol::Http, ..fine }, (None, Some(Reason::Protocol), crm())),
        ("address", Facts { address: address("192.0.2.1"), ..fine }, (None, Some(Reason::Address), crm())),
        ("loopback", Facts { address: address("127.0.0.1"), ..fine }, (None, Some(Reason::Address), crm())),
        ("hours", Facts { now: NOON + 6 * 3_600, ..fine }, (None, Some(Reason::Hours), crm())),
        ("rule expired", Facts { now: 1_798_758_000, ..fine }, (None, Some(Reason::Expired), crm())),
        (
            "rule expired, by a clock set back",
            Facts { latest: 1_798_758_000, ..fine },
            (None, Some(Reason::Expired), crm()),
        ),
        ("all expired", Facts { now: 1_893_456_000, ..fine }, (None, Some(Reason::Expired), None)),
        ("connections", Facts { rules: &full, ..fine }, (None, Some(Reason::Connections), crm())),
        ("bytes", Facts { rules: &spent, ..fine }, (None, Some(Reason::Bytes), crm())),
        ("rate", Facts { rules: &hurried, ..fine }, (None, Some(Reason::Rate), crm())),
        (
            "all connections",
            Facts { whole: Usage { connections: 100, ..Usage::default() }, ..fine },
            (None, Some(Reason::Connections), None),
        ),
    ] {
        assert_eq!(verdict(&facts), expected, "{what}");
    }
}

#[test]
fn a_name_without_addresses_is_loopback_alone_and_an_address_is_itself() {
    let tcp = |host: &str| Address::Tcp { host: host.into(), port: 5432 };
    let (localhost, literal) = (tcp("localhost"), tcp("192.0.2.7"));
    let socket = Address::Unix("/run/db.sock".into());
    let base = Facts { endpoint: "tcp://:5100", protocol: Protocol::Tcp, ..facts() };
    let here = Some("here".to_owned());
    for (upstream, address, expected) in [
        (&localhost, "127.0.0.1", (Some(1), None, None)),
        (&localhost, "::1", (Some(1), None, None)),
        (&localhost, "10.0.0.1", (None, Some(Reason::Address), here.clone())),
        (&literal, "192.0.2.7", (Some(1), None, None)),
        (&literal, "127.0.0.1", (None, Some(Reason::Address), here)),
    ] {
        let address = Some(address.parse().unwrap());
        assert_eq!(verdict(&Facts { upstream, address, ..base }), expected, "{upstream} {address:?}");
    }
    assert_eq!(verdict(&Facts { upstream: &socket, ..base }), (Some(1), None, None));
}

#[test]
fn every_fault_has_its_line_column_and_remedy_and_nothing_is_read_in_part() {
    let text = "\
version: 2
expires: tomorrow
allow:
  - name: a
    endpoints: [crm.example.com]
    hosts: [crm.corp]
    ports: [0]
    protocols: [ftp]
    max_conections: 5
  - name: a
    total_bytes: 5 apples
captur: true
";

    let told: Vec<_> = parse(text).unwrap_err().iter().map(ToString::to_string).collect();

    let at = |line: &str| told.iter().any(|fault| fault.starts_with(&format!("/etc/adit/policy.yml:{line}")));
    for line in [
        "1:10: version: version `2` is not known. ",
        "2:10: expires: `tomorrow` is not a time such as",
        "5:17: allow[0].endpoints: `crm.example.com` is not an endpoint such as",
        "7:13: allow[0].ports: `0` is not a port such as",
        "8:17: allow[0].protocols: `ftp` is not http, https, tcp or tls. ",
        "4:5: allow[0].addresses: a name needs the addresses",
        "9:5: allow[0].max_conections: unknown key. Did you mean `max_connections`?",
        "10:11: allow[1].name: there are two rules `a`",
        "10:5: allow[1].endpoints: ",
        "10:5: allow[1].hosts: ",
        "11:18: allow[1].total_bytes: `5 apples` is not a number of octets",
        "12:1: captur: unknown key. Did you mean `capture`?",
    ] {
        assert!(at(line), "{line}\n{}", told.join("\n"));
    }
    assert_eq!(parse("").unwrap_err().len(), 1, "a file that was cut to nothing is no policy");
    assert_eq!(parse("version: [").unwrap_err().len(), 1);
    assert!(parse("- version: 1\n").is_err());
}

#[test]
fn lists_have_an_end() {
    let many = |count: usize| vec!["80"; count].join(", ");
    let rule = |ports: &str| {
        format!(
            "version: 1\nallow:\n  - {{ name: a, endpoints: ['*'], hosts: [localhost], protocols: [tcp], ports: [{ports}] }}\n"
        )
    };
    assert!(parse(&rule(&many(256))).is_ok());
    assert_eq!(parse(&rule(&many(257))).unwrap_err().len(), 1);

    let rules = |count: usize| {
        let rule = |at| format!("  - {{ name: r{at}, endpoints: [], hosts: [], protocols: [] }}\n");
        format!("version: 1\nallow:\n{}", (0..count).map(rule).collect::<String>())
    };
    assert!(parse(&rules(256)).is_ok());
    assert_eq!(parse(&rules(257)).unwrap_err().len(), 1);
}

#[test]
fn the_vendor_is_told_by_a_code_and_the_customer_by_a_word_of_its_own() {
    let words: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
    assert_eq!(words.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        let limit = matches!(reason, Reason::Connections | Reason::Rate | Reason::Audit);
        assert_eq!(reason.code(), if limit { adit_core::Code::LIMIT } else { adit_core::Code::POLICY }, "{reason:?}");
    }
}

#[test]
fn the_policy_in_the_documentation_is_valid() {
    let page = include_str!("../../../docs/agent-policy.md");
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();

    assert_eq!(parse(text).unwrap().rules.len(), 2);
    for reason in Reason::ALL {
        assert!(page.contains(&format!("| `{}` |", reason.word())), "{reason:?}");
    }
}

#[test]
fn there_is_a_log_unless_the_policy_says_otherwise_and_its_bounds_are_checked() {
    use crate::audit::{OnFailure, SyncWhen};

    let audit = |text: &str| parse(&format!("version: 1\naudit: {text}\n")).map(|policy| policy.audit);
    assert_eq!(parse(WHOLE).unwrap().audit, Settings::default());
    assert!(Settings::default().enabled);
    let all = "{ path: log, on_failure: continue, sync: each, max_size: 1MiB, max_age: 2d, keep: 3 }";
    let wanted = Settings {
        enabled: true,
        path: Some("/etc/adit/log".into()),
        on_failure: OnFailure::Continue,
        sync: SyncWhen::Each,
        max_size: 1 << 20,
        max_age: core::time::Duration::from_secs(172_800),
        keep: 3,
    };
    assert_eq!(audit(all), Ok(wanted));
    assert!(!audit("{ enabled: false }").unwrap().enabled);
    for wrong in [
        "{ keep: 1 }",
        "{ max_size: 1kB }",
        "{ max_age: 1s }",
        "{ on_failure: ignore }",
        "{ sync: never }",
        "{ path: / }",
    ] {
        assert_eq!(audit(wrong).unwrap_err().len(), 1, "{wrong}");
    }
}

#[test]
fn a_bound_with_nothing_behind_it_is_a_fault_and_not_without_bounds() {
    for key in ["expires", "hours", "max_connections", "connections_per_second", "bytes_per_second", "total_bytes"] {
        for nothing in ["", "~", "''", "','", "[]"] {
            let rule = WHOLE.replace("    max_connections: 10\n", "").replace("    total_bytes: 1GiB\n", "");
            let rule = rule.replace("    bytes_per_second: 10MB\n", "").replace("    connections_per_second: 5\n", "");
            let rule = rule.replace("    hours: [mon-fri 08:00-18:00 +01:00]\n", "");
            let rule = rule.replace("    expires: 2027-01-01T00:00:00+01:00\n", "");
            let whole = rule.replace("expires: 2030-01-01T00:00:00Z\nmax_connections: 100\n", "");
            for text in [format!("{rule}    {key}: {nothing}\n"), format!("{key}: {nothing}\n{whole}")] {
                let faults = parse(&text).expect_err(&text);
                let told = "nothing stands behind it. Write a value, or remove the key";
                assert!(faults.iter().any(|fault| fault.to_string().contains(told)), "{text}: {faults:?}");
            }
        }
    }
}
