//! `terminate-tls`.

use adit_policy::{document::Document, engine::Outcome, environment::Phase};

use super::support::{Caller, policy};

#[test]
fn terminate_tls_says_how_and_the_last_one_counts() {
    let policy = policy(
        r#"
on_tcp_connect:
  - actions: [{type: terminate-tls, config: {min_version: 1.3, max_version: "1.3"}}]
  - expressions: ["conn.client_port == 40000"]
    actions:
      - type: terminate-tls
        config:
          mutual_tls_verification_strategy: require-any
          server_private_key: "-----BEGIN PRIVATE KEY-----\nsecret"
          server_certificate: "-----BEGIN CERTIFICATE-----\n"
          mutual_tls_certificate_authorities: ["-----BEGIN CERTIFICATE-----\n"]
  - {expressions: ["conn.client_port == 1"], actions: [{type: terminate-tls}]}
"#,
    );

    let (outcome, run) = Caller::new("GET", "https://a.example/").run(&policy, Phase::TcpConnect);

    assert!(matches!(outcome, Outcome::Continue));
    let told = format!("{:?}", run.tls().unwrap());
    assert_eq!(
        told,
        r#"TerminateTls { min_version: Tls12, max_version: Tls13, identity: Some(Identity { certificate: "-----BEGIN CERTIFICATE-----\n", .. }), authorities: ["-----BEGIN CERTIFICATE-----\n"], verification: RequireAny }"#
    );
    assert_eq!(policy.tls().count(), 3);
    assert!(policy.tls_depends());
    let always = super::support::policy("on_tcp_connect: [{actions: [{type: terminate-tls}]}]");
    assert!(!always.tls_depends() && always.tls().count() == 1);
}

#[test]
fn a_key_is_told_from_a_certificate() {
    let certificate = "'-----BEGIN CERTIFICATE-----'";
    let text = format!(
        "on_tcp_connect: [{{actions: [{{type: terminate-tls, config: {{server_private_key: {certificate}, server_certificate: {certificate}}}}}]}}]"
    );
    let problems = Document::parse(&text).unwrap_err();
    assert!(problems[0].to_string().contains("config.server_private_key: not PEM"), "{problems:?}");
}
