//! Configurations of another agent: any text, and documents that are nearly right.

use adit::{ImportSample, import_sample};

use crate::Choices;

/// Any text is imported or has faults with places. What is made can be read or is refused as a whole; nothing of it is in force that
/// something protected there, unless that was asked for; no secret goes where others read it.
pub fn import(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let asked = choices.number::<u8>();
    let (mut text, mut protected) = (String::new(), Vec::new());
    if choices.coin() {
        made(&mut choices, &mut text, &mut protected);
    } else {
        text.push_str(&String::from_utf8_lossy(choices.rest()));
    }
    let lines = text.split(['\n', '\r']).count() as u64 + 1; // YAML ends a line at each of them
    let told = import_sample(&text, asked);
    assert_eq!(told, import_sample(&text, asked), "{text}");
    let ImportSample { text: ours, beside, notes, endpoints } = match told {
        Ok(imported) => imported,
        Err(places) => {
            assert!(!places.is_empty() && places.iter().flatten().all(|line| (1..=lines).contains(line)), "{text}");
            return;
        }
    };
    assert!(notes.iter().all(|(line, _)| *line <= lines), "{text}");
    // A terminal shows it.
    let fine = |c: char| !c.is_control() || c == '\n';
    assert!(
        ours.chars().all(fine) && notes.iter().all(|(_, said)| said.chars().all(fine)),
        "{text}\n{ours}\n{notes:?}"
    );
    assert!(beside.iter().all(|(name, _)| !name.contains(['/', '\\']) && !name.starts_with('.')), "{beside:?}");
    let (secrets, token, expose) = (asked & 4 != 0, asked & 8 != 0, asked & 16 != 0);
    assert!(token || !ours.contains("s3cret-token"), "{ours}");
    assert!(secrets || !ours.contains("s3cret-proxy"), "{ours}");
    let Ok(endpoints) = endpoints else { return }; // the command refuses it as a whole
    if !expose {
        for name in protected {
            let below = format!("{name}-");
            assert!(!endpoints.iter().any(|other| *other == name || other.starts_with(&below)), "{text}\n{ours}");
        }
    }
}

/// Makes a document that is right but for what the choices put in, and names the endpoints that something protects.
fn made(choices: &mut Choices<'_>, text: &mut String, protected: &mut Vec<String>) {
    let third = choices.coin();
    text.push_str(if third {
        "version: 3\nagent:\n  authtoken: s3cret-token\n"
    } else {
        "version: 2\nauthtoken: s3cret-token\n"
    });
    for _ in 0..choices.below(3) {
        let (indent, (key, values)) = (if third { "  " } else { "" }, choices.one_of(OPTIONS));
        text.push_str(&format!("{indent}{key}: {}\n", choices.one_of(values)));
    }
    text.push_str(if third && choices.coin() { "endpoints:\n" } else { "tunnels:\n" });
    let is_list = text.ends_with("endpoints:\n");
    for number in 0..choices.below(4) {
        let name = format!("t{number}");
        if is_list {
            text.push_str(&format!("  - name: {name}\n    url: {}\n", choices.one_of(URLS)));
            text.push_str(&format!("    upstream: {{ url: {} }}\n", choices.one_of(ADDRESSES)));
        } else {
            let proto = choices.one_of(&["http", "tcp", "tls", "https", "udp"]);
            text.push_str(&format!("  {name}:\n    proto: {proto}\n    addr: {}\n", choices.one_of(ADDRESSES)));
        }
        for _ in 0..choices.below(4) {
            let (key, values) = choices.one_of(KEYS);
            text.push_str(&format!("    {key}: {}\n", choices.one_of(values)));
        }
        if choices.coin() {
            let guards = if is_list { POLICIES } else { GUARDS };
            text.push_str(&format!("    {}\n", choices.one_of(guards)));
            protected.push(name);
        }
    }
    if choices.below(8) == 7 {
        text.push_str(&String::from_utf8_lossy(choices.octets(24)));
        protected.clear(); // a key that stands twice, or is another's
    }
}

/// Keys of the agent.
const OPTIONS: &[(&str, &[&str])] = &[
    ("region", &["eu", "[eu]", "\"\\e[2J\""]),
    ("log_level", &["debug", "crit", "5"]),
    ("heartbeat_interval", &["10s", "1h", "-1s", "x"]),
    ("proxy_url", &["http://u:s3cret-proxy@p:1", "socks5://p", "\"\\r\\n\""]),
    ("metadata", &["\"a\\u2028b\"", "!!float 1", "{a: 1}"]),
    ("dns_resolver_ips", &["[192.0.2.1]", "192.0.2.1", "[x]"]),
];

const URLS: &[&str] =
    &["https://a.example.com", "tcp://1.tcp.ngrok.io:5000", "a.example.com", "\"\"", "https://*.x.dev", "\"a\\rb\""];

const ADDRESSES: &[&str] =
    &["8080", "localhost:8080", "https://127.0.0.1:8443", "\"file:///srv\"", "\"\\n- name: evil\"", "http://h/path"];

/// Keys that protect nothing.
const KEYS: &[(&str, &[&str])] = &[
    ("schemes", &["[http, https]", "[https]", "http", "[ftp]"]),
    ("hostname", &["b.example.com", "[c.example.com, d.example.com]", "\"x\\n  - name: evil\""]),
    ("subdomain", &["tool", "\"a b\"", "!!int 7"]),
    ("host_header", &["rewrite", "preserve", "\"a\\rb\""]),
    ("metadata", &["\"line\\n  - name: evil\"", "\"\\u0085x\"", "7", "~"]),
    ("description", &["words: more", "'# x'", "\"\\t\""]),
    ("proxy_proto", &["1", "2", "3"]),
    ("compression", &["true", "false"]),
    ("circuit_breaker", &["0.5", "!!float \"0.5\"", "2"]),
    ("crt", &["/c.pem", "c.pem"]),
    ("key", &["/k.pem"]),
    ("inspect", &["true", "false"]),
];

/// What protects a tunnel.
const GUARDS: &[&str] = &[
    "basic_auth: ['u:s3cret-token']",
    "auth: 'u:s3cret-token'",
    "oauth: { provider: google }",
    "oidc: { issuer_url: 'https://i.example', client_id: a, client_secret: s3cret-token }",
    "ip_restriction: { allow_cidrs: [192.0.2.0/24] }",
    "allow_cidr: [192.0.2.0/24]",
    "verify_webhook: { provider: github, secret: s3cret-token }",
    "user_agent_filter: { deny: ['\\d'] }",
    "saml: { idp_metadata: x }",
];

/// What protects an endpoint.
const POLICIES: &[&str] = &[
    "traffic_policy: { on_http_request: [{ actions: [{ type: deny }] }] }",
    "traffic_policy: { on_http_request: [{ actions: [{ type: basic-auth, config: { credentials: ['u:s3cret-token'] } }] }] }",
    "traffic_policy: '{\"on_tcp_connect\": [{\"actions\": [{\"type\": \"restrict-ips\"}]}]}'",
    "traffic_policy_file: policy.yml",
];
