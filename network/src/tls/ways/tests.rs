use core::fmt::Write as _;

use adit_policy::document::Document;

use super::*;
use crate::{
    NamePattern,
    tls::{
        ClientMode, TermsTable, TlsVersion,
        tests::{Authority, Shown, asking, maker, shake},
    },
};

#[test]
fn a_policy_says_how_tls_ends_where_it_can_be_done_and_is_refused_where_it_cannot() {
    let asks = authorities(&Authority::new("Acme CA"));
    let with = |rules: &str, place| EndpointTls::default().with_policy(Some(&policy(rules)), place);
    let usual = |rules: &str| with(rules, Place::Here).unwrap().usual;

    let verify = usual(&rule("", &asks));
    let any = usual(&rule("", &format!("{asks}        mutual_tls_verification_strategy: require-any\n")));
    let modern = usual(&rule("", "        min_version: \"1.3\"\n"));
    let last = usual(&format!("{}{}", rule("", &asks), rule("", "        max_version: \"1.2\"\n")));

    assert_eq!(verify.clients.as_ref().map(|clients| clients.mode), Some(ClientMode::Verify));
    assert!(maker().terms(verify, None).is_ok());
    assert_eq!(any.clients.map(|clients| clients.mode), Some(ClientMode::Require));
    assert_eq!(modern, EndpointTls { min: TlsVersion::V13, ..EndpointTls::default() });
    assert_eq!(last, EndpointTls { max: TlsVersion::V12, ..EndpointTls::default() }, "the last one counts");
    assert!(with(&rule("", &asks), Place::Further).is_err(), "TLS does not end here");
    let carried = with(&rule("", &asks), Place::Carried).unwrap();
    assert!(carried.is_of_octets() && carried.usual.clients.is_some());
    assert!(
        !with("  - actions: [{type: deny}]\n", Place::Carried).unwrap().is_of_octets(),
        "without the action TLS passes through"
    );
    assert!(
        with(&rule("conn.client_ip == '192.0.2.7'", &asks), Place::Carried).is_err(),
        "TLS for some and not for others"
    );
    for needs in [
        "conn.tls.version == '1.3'",
        "has(conn.tls.client.subject)",
        "[1].exists(x, vars['a'] == x)",
        "actions.ngrok.log.metadata.size() > 0",
    ] {
        let error = with(&rule(needs, &asks), Place::Here).err();
        assert!(error.is_some_and(|(problem, _)| problem.contains("before the handshake")), "{needs}");
    }
    let configured = asking(ClientMode::Request, Vec::new());
    assert!(configured.with_policy(Some(&policy(&rule("", &asks))), Place::Here).is_err(), "both");
    assert_eq!(configured.with_policy(None, Place::Here).unwrap().usual, configured);
}

#[test]
fn rules_choose_for_each_caller_before_the_handshake_and_where_they_cannot_nobody_is_served() {
    let asks = authorities(&Authority::new("Acme CA"));
    let old = rule("conn.client_ip == '192.0.2.7'", "        max_version: \"1.2\"\n");
    let inside = rule("conn.client_ip.startsWith('192.0.2.')", &asks);
    let broken = rule("[1, 2][conn.client_port] == 1", &asks);
    let table = table(&format!("{inside}{old}{broken}"));
    let offer = |address: &str| {
        let address = address.parse().unwrap();
        let connection = move || Connection::new(address, address, wall(), None);
        table.find(&crate::EndpointName::parse("a.example").unwrap()).settle(connection)
    };
    let max = |offer: Offer| match offer {
        Offer::Own(terms) => Some(terms.settings.max),
        Offer::Default | Offer::Choice(_) | Offer::Stopped => None,
    };

    assert_eq!(max(offer("192.0.2.7:1")), Some(TlsVersion::V12), "the last that is true");
    assert_eq!(max(offer("192.0.2.8:1")), Some(TlsVersion::V13));
    assert_eq!(offer("198.51.100.1:1"), Offer::Default);
    assert_eq!(offer("192.0.2.7:1"), offer("192.0.2.7:1"), "the same caller, the same terms");
    assert_eq!(offer("192.0.2.7:2"), Offer::Stopped, "there is no third element: nobody can say");
}

#[test]
fn a_policy_may_bring_a_certificate_and_its_key_is_shown_nowhere() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (own, other) = (Authority::new("Acme CA").issue("a.example"), Authority::new("Other CA").issue("a.example"));
    let key = pem("PRIVATE KEY", other_key(&own));
    let brings = |shown: &Shown, key: &str| {
        let certificate = pem("CERTIFICATE", &shown.0);
        format!(
            "        server_certificate: |\n{}        server_private_key: |\n{}",
            indented(&certificate),
            indented(key)
        )
    };

    let ways = EndpointTls::default().with_policy(Some(&policy(&rule("", &brings(&own, &key)))), Place::Here).unwrap();
    assert!(ways.has_certificate());
    let terms = maker().terms(ways.usual.clone(), None).unwrap();
    assert!(terms.has_certificate());
    let server = shake(&terms, None).unwrap();
    assert!(!server.is_handshaking());
    let foreign =
        EndpointTls::default().with_policy(Some(&policy(&rule("", &brings(&other, &key)))), Place::Here).unwrap();
    let error = maker().terms(foreign.usual, None).err().unwrap().to_string();
    assert!(error.contains("do not belong together"), "{error}");

    let secret: String = key.lines().nth(1).unwrap().to_owned();
    let mut told = format!("{ways:?} {terms:?} {error}");
    for wrong in
        ["        min_version: \"1.3\"\n", "        server_private_ky: x\n", "        max_version: 9\n", "    }\n"]
    {
        let text = format!("on_tcp_connect:\n{}{wrong}", rule("", &brings(&own, &key)));
        let problems = Document::parse(&text).map(|document| format!("{document:?}"));
        let problems = problems.unwrap_or_else(|problems| problems.iter().map(ToString::to_string).collect());
        write!(told, "{problems}").unwrap();
    }
    assert!(!told.contains(&secret), "{told}");
}

fn other_key(shown: &Shown) -> &[u8] {
    shown.1.secret_der()
}

/// The table with the endpoint `a.example` under these rules.
fn table(rules: &str) -> TermsTable {
    let ways = EndpointTls::default().with_policy(Some(&policy(rules)), Place::Here).unwrap();
    let wanted = [(NamePattern::parse("a.example").unwrap(), ways)];
    let (table, faults) = TermsTable::read(&maker(), wanted, &TermsTable::default());
    assert!(faults.is_empty(), "{faults:?}");
    table
}

fn policy(rules: &str) -> Arc<Policy> {
    Arc::new(Policy::new(Document::parse(&format!("on_tcp_connect:\n{rules}")).unwrap()))
}

fn rule(expression: &str, config: &str) -> String {
    let expressions =
        if expression.is_empty() { String::new() } else { format!("expressions: [\"{expression}\"]\n    ") };
    format!("  - {expressions}actions:\n    - type: terminate-tls\n      config:\n{config}")
}

fn authorities(authority: &Authority) -> String {
    let pem = authority.pem.trim_end().replace('\n', "\n          ");
    format!("        mutual_tls_certificate_authorities:\n        - |\n          {pem}\n")
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| core::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("          {line}\n")).collect()
}
