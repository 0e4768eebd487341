//! Documents of endpoints that a vendor sends: any text, and documents that are nearly right.

use adit::{
    Address,
    config::{EndpointConfig, UpstreamTrust},
    sent_endpoints,
};

use crate::Choices;

/// Any text is a document or has faults. One that is read is read the same each time; it names no file of the machine but the sockets that a
/// policy names, switches no check off, and has few endpoints, each of its own name; no fault moves a cursor.
pub fn remote(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let text = if choices.coin() { made(&mut choices) } else { String::from_utf8_lossy(choices.rest()).into_owned() };
    let read = sent_endpoints(&text);
    assert_eq!(read, sent_endpoints(&text), "{text}");
    let endpoints: Vec<EndpointConfig> = match read {
        Ok(endpoints) => endpoints,
        Err(faults) => {
            assert!(!faults.is_empty(), "{text}");
            return;
        }
    };
    assert!(endpoints.len() <= 64, "{text}");
    for (at, endpoint) in endpoints.iter().enumerate() {
        assert!(endpoint.termination.is_none(), "{text}");
        assert!(matches!(endpoint.upstream.tls, None | Some(UpstreamTrust::Host)), "{text}");
        assert!(endpoints.iter().skip(at + 1).all(|other| other.name != endpoint.name), "{text}");
        assert!(endpoint.url.len() <= 512 && endpoint.metadata.len() <= 4_096, "{text}");
        let is_whole = match &endpoint.upstream.address {
            Address::Unix(path) => path.is_absolute(),
            Address::Tcp { host, port } => !host.is_empty() && *port != 0,
        };
        assert!(is_whole, "{text}");
    }
}

/// Makes a document that is right but for what the choices put in.
fn made(choices: &mut Choices<'_>) -> String {
    let mut text = String::from(choices.one_of(HEADS));
    text.push_str("endpoints:\n");
    for number in 0..choices.below(5) {
        let name = if choices.coin() { format!("e{number}") } else { "same".to_owned() };
        text.push_str(&format!("  - name: {name}\n    url: {}\n", choices.one_of(URLS)));
        if choices.coin() {
            text.push_str(&format!("    {}\n", choices.one_of(KEYS)));
        }
        text.push_str(&format!("    upstream:\n      url: {}\n", choices.one_of(UPSTREAMS)));
        if choices.coin() {
            text.push_str(&format!("      {}\n", choices.one_of(BELOW)));
        }
    }
    if choices.below(4) == 3 {
        text.push_str(choices.one_of(TAILS));
    }
    text
}

const HEADS: &[&str] = &[
    "version: 1\n",
    "version: 2\n",
    "",
    "version: 1\nagent: { authtoken: x }\n",
    "version: 1\nx: &x { ca: /etc/shadow }\n",
    "version: 1\nlog: /etc/cron.d/x\n",
];
const URLS: &[&str] = &[
    "https://a.example.com",
    "tcp://:5432",
    "tls://a.example.com",
    "https://",
    "x",
    "'tcp://a:1'",
    "&u https://b.example.com",
];
const KEYS: &[&str] = &[
    "pooling_enabled: true",
    "metadata: m",
    "description: |\n      d",
    "agent_tls_termination: { server_private_key: /etc/ssl/key.pem }",
    "agent_tls_termination:",
    "\"agent_tls_termination\": {}",
    "<<: { agent_tls_termination: {} }",
    "policy: x",
];
const UPSTREAMS: &[&str] = &[
    "8080",
    "http://crm.corp",
    "https://crm.corp:8443",
    "tls://db:5432",
    "unix:/run/a.sock",
    "unix:a",
    "'[::1]:22'",
    "ftp://x",
];
const BELOW: &[&str] = &[
    "ca: /etc/shadow",
    "insecure: true",
    "insecure: false",
    "<<: *x",
    "<<: { insecure: true }",
    "? ca\n      : x",
    "'ca': x",
    "!!str ca: x",
    "protocol: http2",
    "proxy_protocol: 2",
    "connect_timeout: 2s",
];
const TAILS: &[&str] = &["---\nagent: {}\n", "...\n", "agent:\n", "endpoints: []\n", "\u{feff}", "# end\n"];
