//! The customer's own policy: any text, and documents that are nearly right; anything that may want to be carried.

use std::path::Path;

use adit::{
    Address,
    policy::{Facts, Files, Policy, Protocol, Reading, Reason, Usage, Verdict},
};

use crate::Choices;

/// Any text is a policy or has faults with places. One that is read decides each case in one way; a rule more never refuses, a
/// rule less, an hour less or more use never allows; what is allowed is allowed by the rule that is named, alone too.
pub fn customer(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let text = if choices.coin() { made(&mut choices) } else { String::from_utf8_lossy(choices.rest()).into_owned() };
    let policy = match Policy::parse(Path::new("policy.yml"), &text) {
        Ok(policy) => policy,
        Err(faults) => {
            assert!(!faults.is_empty(), "{text}");
            let lines = text.split(['\n', '\r']).count() as u64 + 1; // YAML ends a line at each of them
            assert!(faults.iter().all(|fault| fault.line.is_none_or(|line| line <= lines)), "{text}");
            return;
        }
    };
    files(&policy, &mut choices, &text);
    let upstream = upstream(&mut choices);
    let usage = [(); 4].map(|()| used(&mut choices));
    let address = [None, Some("10.1.2.3"), Some("::ffff:10.1.2.3"), Some("fd00::1"), Some("127.0.0.1")];
    let facts = Facts {
        endpoint: choices.one_of(ENDPOINTS),
        upstream: &upstream,
        protocol: choices.one_of(&Protocol::ALL),
        address: choices.one_of(&address).and_then(|address| address.parse().ok()),
        now: choices.one_of(&[0, 1_795_435_200, 4_000_000_000, i64::MAX, i64::MIN]),
        latest: i64::MIN,
        whole: used(&mut choices),
        rules: &usage,
    };
    let verdict = policy.judge(&facts);
    assert_eq!(verdict, policy.judge(&facts), "{text}");
    match &verdict {
        Verdict::Allowed { rule } => allowed(&policy, *rule, &facts, &text),
        Verdict::Refused(refusal) => {
            assert!(refusal.reason != Reason::Frozen && !refusal.detail.is_empty(), "{text}");
            let known = |name: &String| policy.rules.iter().any(|rule| rule.name == *name);
            assert!(refusal.rule.as_ref().is_none_or(known), "{text}");
            refused(&policy, &facts, &text);
        }
    }
}

/// Where nothing is listed, no secret of the host is read whatever names it; a list has what it says and all below, and no way back out.
fn files(policy: &Policy, choices: &mut Choices<'_>, text: &str) {
    let wild = String::from_utf8_lossy(choices.octets(12)).into_owned();
    let real = match choices.below(3) {
        0 => choices.one_of(PATHS).to_owned(),
        1 => format!("{}/{wild}", choices.one_of(PATHS)),
        _ => wild,
    };
    let real = Path::new(&real);
    let beside = choices.one_of(&["/", "/etc", "/root", "/home/ann", "/etc/adit", ""]);
    let named = choices.coin().then(|| Path::new(choices.one_of(PATHS)));
    let reading = Reading {
        named,
        real,
        beside: Some(Path::new(beside)),
        credentials: Some(Path::new("/run/credentials/adit.service")),
        resolve: |path| path.to_owned(),
    };
    let verdict = policy.reads(&reading);
    assert_eq!(verdict, policy.reads(&reading), "{text}");
    let steps = |path: &Path| path.components().any(|part| part == std::path::Component::ParentDir);
    let stepped = steps(real) || real.is_relative();
    assert!(!stepped || verdict.is_err(), "{}: {text}", real.display());
    match &policy.files {
        Files::Usual => {
            let secret = SECRETS.iter().any(|secret| real.starts_with(secret));
            let trusted = named.is_some_and(|named| named.starts_with("/etc/ssl/certs"));
            assert!(!secret || trusted || verdict.is_err(), "{} beside {beside}", real.display());
        }
        Files::Listed(paths) => {
            let named = named.filter(|named| !steps(named));
            let below =
                paths.iter().any(|path| real.starts_with(path) || named.is_some_and(|named| named.starts_with(path)));
            assert_eq!(verdict.is_ok(), below && !stepped, "{}: {text}", real.display());
        }
    }
    assert!(verdict.is_ok() || verdict.is_err_and(|refusal| refusal.reason == Reason::File), "{text}");
}

fn is_allowed(policy: &Policy, facts: &Facts<'_>) -> bool {
    matches!(policy.judge(facts), Verdict::Allowed { .. })
}

fn allowed(policy: &Policy, rule: usize, facts: &Facts<'_>, text: &str) {
    let mut alone = policy.clone();
    alone.rules.truncate(rule + 1);
    alone.rules.drain(..rule);
    let usage = [facts.rules.get(rule).copied().unwrap_or_default()];
    assert!(is_allowed(&alone, &Facts { rules: &usage, ..*facts }), "{text}");
    alone.rules.clear();
    assert!(!is_allowed(&alone, facts), "{text}");
    let mut expired = policy.clone();
    expired.bounds.expires = Some(facts.now);
    assert!(!is_allowed(&expired, facts), "{text}");
    assert!(is_allowed(policy, &Facts { whole: Usage::default(), rules: &[], ..*facts }), "{text}");
}

fn refused(policy: &Policy, facts: &Facts<'_>, text: &str) {
    for kept in 0..policy.rules.len() {
        let mut fewer = policy.clone();
        fewer.rules.swap(0, kept);
        fewer.rules.truncate(1);
        let usage = [facts.rules.get(kept).copied().unwrap_or_default()];
        assert!(!is_allowed(&fewer, &Facts { rules: &usage, ..*facts }), "{text}");
    }
}

fn used(choices: &mut Choices<'_>) -> Usage {
    let numbers = [0, 1, 9, 1 << 20, u64::MAX];
    Usage { connections: choices.one_of(&numbers), bytes: choices.one_of(&numbers), hurried: choices.coin() }
}

fn upstream(choices: &mut Choices<'_>) -> Address {
    if choices.below(4) == 3 {
        return Address::Unix(choices.one_of(&["/run/db.sock", "/run/../run/db.sock", "/"]).into());
    }
    Address::Tcp { host: choices.one_of(HOSTS).to_owned(), port: choices.one_of(&[1, 443, 8_050, 65_535]) }
}

/// Makes a document that is right but for what the choices put in.
fn made(choices: &mut Choices<'_>) -> String {
    let mut text = "version: 1\n".to_owned();
    bounds(choices, "", &mut text);
    if choices.coin() {
        let items: Vec<_> = (0..=choices.below(2)).map(|_| format!("'{}'", choices.one_of(PATHS))).collect();
        text.push_str(&format!("files: [{}]\n", items.join(", ")));
    }
    text.push_str("allow:\n");
    for number in 0..choices.below(4) {
        text.push_str(&format!("  - name: r{number}\n"));
        for (key, values) in [
            ("endpoints", ENDPOINT_PATTERNS),
            ("hosts", HOST_PATTERNS),
            ("addresses", RANGES),
            ("ports", &["443", "8000-8099", "1-65535", "0"]),
            ("protocols", &["http", "https", "tcp", "tls"]),
        ] {
            let items: Vec<_> = (0..=choices.below(3)).map(|_| format!("'{}'", choices.one_of(values))).collect();
            text.push_str(&format!("    {key}: [{}]\n", items.join(", ")));
        }
        bounds(choices, "    ", &mut text);
    }
    if choices.below(8) == 7 {
        text.push_str(&String::from_utf8_lossy(choices.octets(16)));
    }
    text
}

fn bounds(choices: &mut Choices<'_>, indent: &str, text: &mut String) {
    let hours = &["mon-fri 08:00-18:00 +01:00", "daily 22:00-06:00", "sun 00:00-24:00 -14:00", "mon"];
    let expires = &["2026-12-31T18:00:00Z", "9999-12-31T23:59:59Z", "2026-02-30T00:00:00Z"];
    let numbers = &["1", "10", "1MiB", "18446744073709551615", "0"];
    for (key, values) in [
        ("hours", &hours[..]),
        ("expires", expires),
        ("max_connections", numbers),
        ("connections_per_second", numbers),
        ("bytes_per_second", numbers),
        ("total_bytes", numbers),
    ] {
        if choices.below(4) == 3 {
            text.push_str(&format!("{indent}{key}: {}\n", choices.one_of(values)));
        }
    }
}

const ENDPOINTS: &[&str] = &[
    "https://a.example.com",
    "https://*.example.com",
    "https://",
    "http://A.example.com./",
    "tls://a.example.com:443",
    "tcp://:5000",
    "tcp://a.internal:5000",
    "tcp://",
    "",
    "://:",
];

const ENDPOINT_PATTERNS: &[&str] = &[
    "*",
    "https://*",
    "https://a.example.com",
    "https://*.example.com",
    "http://a.example.com",
    "tls://*.com",
    "tcp://:5000-5999",
    "tcp://a.internal:5000",
    "tcp://*",
    "tcp://",
];

const PATHS: &[&str] = &[
    "/etc/adit/token",
    "/etc/adit/..data/token",
    "/etc/adit/../shadow",
    "/etc/shadow",
    "/root/.ssh/id",
    "/home/ann/.netrc",
    "/run/secrets/token",
    "/run/secrets/kubernetes.io/serviceaccount/token",
    "/etc/ssl/certs",
    "/",
    "",
    "token",
];

const SECRETS: &[&str] = &["/etc/shadow", "/root", "/home/ann", "/run/secrets/kubernetes.io", "/etc/ssl/private"];

const HOSTS: &[&str] = &["a.corp", "A.CORP.", "localhost", "10.1.2.3", "::1", "0x7f.1", "", "*.corp"];

const HOST_PATTERNS: &[&str] =
    &["*", "a.corp", "*.corp", "localhost", "10.0.0.0/8", "::1", "unix:/run/db.sock", "::ffff:10.0.0.0/104", "a/b"];

const RANGES: &[&str] = &["0.0.0.0/0", "::/0", "10.0.0.0/8", "127.0.0.1", "::ffff:0:0/96", "fd00::/8", "10.0.0.0/33"];
