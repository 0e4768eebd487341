use std::path::PathBuf;

use super::{load::Text, *};

fn parse(text: &str) -> Result<Config, Vec<ConfigFault>> {
    parse_with(&[text], &Overrides::default())
}

fn parse_with(texts: &[&str], overrides: &Overrides) -> Result<Config, Vec<ConfigFault>> {
    let files: Vec<_> = (0..texts.len()).map(|at| PathBuf::from(format!("/etc/adit/{at}.yml"))).collect();
    let text = |text: &&str| Text { text: (*text).to_owned(), mode: Some(0o600) };
    Config::parse(&files, &texts.iter().map(text).collect::<Vec<_>>(), overrides)
}

fn told(faults: Result<Config, Vec<ConfigFault>>) -> Vec<String> {
    faults.unwrap_err().iter().map(ToString::to_string).collect()
}

fn environment(pairs: &[(&str, &str)]) -> Overrides {
    let environment = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Overrides { environment, ..Overrides::default() }
}

const WHOLE: &str = "\
version: 1
agent:
  connect_url: [connect.example.com, '[::1]:4443']
  connect_cas: ca.pem
  authtoken: t0k3n
  heartbeat_interval: 5s
  heartbeat_tolerance: 7s
  resume_window: 0s
  sessions: 8
  metadata: '{\"site\": 4}'
  log: agent.log
  log_level: debug
  log_format: json
  remote_management:
    stop: true
endpoints:
  - name: crm
    url: https://crm.example.com
    upstream:
      url: https://localhost:3000
      protocol: http2
      proxy_protocol: 2
      ca: crm.pem
    pooling_enabled: true
    metadata: m
    description: d
  - name: db
    url: tcp://:5432
    upstream:
      url: unix:/run/db.sock
";

#[test]
fn a_whole_configuration_is_read() {
    let Config { agent, endpoints, .. } = parse(WHOLE).unwrap();

    let target = |host: &str, port| Target { host: host.into(), port };
    assert_eq!(agent.targets, [target("connect.example.com", 443), target("::1", 4443)]);
    assert_eq!(agent.roots, Roots::File("/etc/adit/ca.pem".into()));
    assert_eq!(agent.token, Token::Given(Secret::new(*b"t0k3n")));
    let secs = Duration::from_secs;
    assert_eq!(agent.heartbeat, Heartbeat { interval: secs(5), tolerance: secs(7) });
    assert_eq!((agent.resume_window, agent.sessions), (secs(0), 8));
    assert_eq!(agent.metadata, "{\"site\": 4}");
    assert_eq!((agent.log, agent.log_level.as_str()), (LogOutput::File("/etc/adit/agent.log".into()), "debug"));
    assert_eq!(agent.log_format, Some(LogFormat::Json));
    assert_eq!(agent.remote_management, RemoteManagement { stop: true, ..RemoteManagement::default() });
    let [crm, db] = endpoints.as_slice() else { panic!("two endpoints") };
    assert_eq!((crm.name.as_str(), crm.url.as_str(), crm.pooling), ("crm", "https://crm.example.com", true));
    let upstream = &crm.upstream;
    assert_eq!(upstream.address, Address::Tcp { host: "localhost".into(), port: 3000 });
    assert_eq!(upstream.tls, Some(UpstreamTrust::File("/etc/adit/crm.pem".into())));
    assert_eq!((upstream.protocol, upstream.proxy_protocol), (UpstreamProtocol::Http2, Some(ProxyVersion::V2)));
    assert_eq!((db.kind, db.pooling, &db.upstream.tls), (Kind::Tcp, false, &None));
}

#[test]
fn what_is_not_said_is_safe() {
    let agent = parse("version: 1\n").unwrap().agent;

    assert_eq!(agent.remote_management, RemoteManagement::default());
    assert_eq!((agent.roots, agent.token), (Roots::Host, Token::Missing));
    let secs = Duration::from_secs;
    assert_eq!(agent.heartbeat, Heartbeat { interval: secs(10), tolerance: secs(15) });
    assert_eq!((agent.resume_window, agent.sessions), (secs(30), 1));
}

#[test]
fn every_fault_is_told_with_its_line_column_key_and_remedy() {
    let text = "\
version: 2
agent:
  connect_url: a:b
  heartbeat_interval: 10
  log_levle: info
endpoints:
  - name: web
    url: web.example.com
    upstream:
      url: ftp://a
  - name: web
    url: tcp://:1
    upstream:
      url: http://a
      insecure: true
";

    assert_eq!(
        told(parse(text)),
        [
            "/etc/adit/0.yml:1:10: version: version `2` is not known. Write `version: 1`, or update the agent",
            "/etc/adit/0.yml:3:16: agent.connect_url: `a:b` is not host:port. Write it as connect.example.com:443",
            "/etc/adit/0.yml:4:23: agent.heartbeat_interval: `10` is not a time from 1s to 1h. Correct it",
            "/etc/adit/0.yml:5:3: agent.log_levle: unknown key. Did you mean `log_level`?",
            "/etc/adit/0.yml:8:10: endpoints[0].url: `web.example.com` has no scheme: begin it with https://, http://, \
             tls:// or tcp://. Write `https://crm.example.com` or `tcp://:5432`",
            "/etc/adit/0.yml:10:12: endpoints[0].upstream.url: `ftp://a` has an unknown scheme: http, https, tcp, tls \
             and unix are known. Write 8080, host:port, http://host:port or unix:/path",
            "/etc/adit/0.yml:15:17: endpoints[1].upstream.insecure: the upstream is not spoken to in TLS. Write \
             https:// or tls://, or remove it",
        ]
    );
}

#[test]
fn no_fewer_than_one_session_and_no_more_than_eight_are_held() {
    for sessions in ["0", "9", "256", "two"] {
        assert_eq!(
            told(parse(&format!("version: 1\nagent:\n  sessions: {sessions}\n"))),
            [format!("/etc/adit/0.yml:3:13: agent.sessions: `{sessions}` is not a number from 1 to 8. Correct it")]
        );
    }
}

#[test]
fn two_endpoints_of_one_name_are_a_fault() {
    let one = "  - name: a\n    url: tcp://:1\n    upstream: { url: 80 }\n";

    let faults = told(parse(&format!("endpoints:\n{one}{one}")));

    assert_eq!(
        faults,
        ["/etc/adit/0.yml:5:11: endpoints[1].name: there are two endpoints `a`. Give each its own name"]
    );
}

#[test]
fn a_later_file_wins_and_endpoints_are_replaced_by_name() {
    let first = "agent:\n  log_level: warn\n  metadata: one\nendpoints:\n  - { name: a, url: 'tcp://:1', upstream: { url: 1 } }\n  - { name: b, url: 'tcp://:2', upstream: { url: 2 } }\n";
    let second = "agent:\n  metadata: two\nendpoints:\n  - { name: a, url: 'tcp://:3', upstream: { url: 3 } }\n";

    let config = parse_with(&[first, second], &Overrides::default()).unwrap();

    assert_eq!((config.agent.log_level.as_str(), config.agent.metadata.as_str()), ("warn", "two"));
    let urls: Vec<_> =
        config.endpoints.iter().map(|endpoint| (endpoint.name.as_str(), endpoint.url.as_str())).collect();
    assert_eq!(urls, [("b", "tcp://:2"), ("a", "tcp://:3")]);
}

#[test]
fn flags_outrank_the_environment_and_the_environment_the_file() {
    let text =
        "agent:\n  connect_url: file:1\n  log_level: warn\n  metadata: file\n  remote_management: { stop: true }\n";
    let mut overrides = environment(&[
        ("ADIT_CONNECT_URL", "variable:2"),
        ("ADIT_LOG_LEVEL", "debug"),
        ("ADIT_REMOTE_MANAGEMENT_STOP", "false"),
        ("ADIT_METADATA", ""),
    ]);
    overrides.flag("connect_url", "--connect-url", Some("flag:3".into()));

    let agent = parse_with(&[text], &overrides).unwrap().agent;

    assert_eq!(agent.targets, [Target { host: "flag".into(), port: 3 }]);
    assert_eq!((agent.log_level.as_str(), agent.metadata.as_str()), ("debug", "file"));
    assert!(!agent.remote_management.stop);
}

#[test]
fn a_fault_from_elsewhere_names_the_variable_or_flag() {
    let mut overrides = environment(&[("ADIT_LOG_FORMAT", "xml")]);
    overrides.flag("log_level", "--log-level", Some("loud".into()));

    let faults = told(parse_with(&["version: 1\n"], &overrides));

    assert!(
        faults.contains(&"ADIT_LOG_FORMAT: agent.log_format: `xml` is not term, logfmt or json. Correct it".into())
    );
    assert!(faults.iter().any(|fault| fault.starts_with("--log-level: agent.log_level: `loud` is not")));
}

#[test]
fn the_token_of_the_environment_outranks_the_file_and_two_are_a_fault() {
    let file = "agent:\n  authtoken_file: secret\n";
    assert_eq!(parse(file).unwrap().agent.token, Token::File("/etc/adit/secret".into()));

    let outranked = parse_with(&[file], &environment(&[("ADIT_AUTHTOKEN", "t")])).unwrap();
    assert_eq!(outranked.agent.token, Token::Given(Secret::new(*b"t")));

    let outranked = parse_with(&["agent:\n  authtoken: t\n"], &environment(&[("ADIT_AUTHTOKEN_FILE", "-")])).unwrap();
    assert_eq!(outranked.agent.token, Token::StandardInput);

    let faults = told(parse("agent:\n  authtoken: t\n  authtoken_file: f\n"));
    assert_eq!(
        faults,
        ["/etc/adit/0.yml:3:19: agent.authtoken_file: there is an authtoken as well. Remove one of the two"]
    );
}

#[test]
fn an_error_never_shows_the_token() {
    for text in [
        "agent:\n  authtoken: [hunter2]\n",
        "agent:\n  authtoken: hunter2\n  authtoken_file: f\n",
        "agent:\n  authtoken: \"hunter2\\n\"\n",
    ] {
        let faults = told(parse(text)).join("\n");
        assert!(!faults.contains("hunter2"), "{faults}");
    }
    let config = parse("agent:\n  authtoken: hunter2\n").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn trusted_needs_roots_that_came_with_the_configuration() {
    let bundled = parse("agent:\n  connect_cas: trusted\n  connect_ca_pem: |\n    PEM\n").unwrap();
    assert_eq!(bundled.agent.roots, Roots::Bundled("PEM\n".into()));

    for text in
        ["connect_cas: trusted", "connect_cas: host\n  connect_ca_pem: P", "connect_cas: f\n  connect_ca_pem: P"]
    {
        assert_eq!(told(parse(&format!("agent:\n  {text}\n"))).len(), 1, "{text}");
    }
}

#[cfg(unix)]
mod modes {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn load(name: &str, text: &str, mode: u32) -> Vec<String> {
        let file = crate::testing::folder(name).join("adit.yml");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        Config::load(&[file], &Overrides::default()).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_with_a_token_that_others_may_read_is_refused_with_the_remedy() {
        for mode in [0o640, 0o604, 0o660, 0o666] {
            let faults = load("mode-token", "agent:\n  authtoken: t\n", mode);
            let [fault] = faults.as_slice() else { panic!("one fault: {faults:?}") };
            assert!(fault.contains(&format!("mode 0{mode:o}")) && fault.contains("chmod 600"), "{fault}");
        }
        assert_eq!(load("mode-token", "agent:\n  authtoken: t\n", 0o600), [] as [String; 0]);
    }

    #[test]
    fn a_file_that_everybody_may_change_is_refused() {
        assert_eq!(load("mode-plain", "version: 1\n", 0o644), [] as [String; 0]);
        assert_eq!(load("mode-plain", "version: 1\n", 0o666).len(), 1);
    }

    #[test]
    fn a_token_file_holds_a_token_and_nobody_else_reads_it() {
        let file = crate::testing::folder("token-file").join("token");
        let read = |text: &str, mode| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            token(&Token::File(file.clone().into()))
        };

        assert_eq!(read("t0k3n\n", 0o600), Ok(Secret::new(*b"t0k3n")));
        assert_eq!(read("t0k3n", 0o440), Ok(Secret::new(*b"t0k3n")));
        for (text, mode) in
            [("t0k3n", 0o604), ("t0k3n", 0o620), ("", 0o600), ("a\nb", 0o600), (&"x".repeat(600), 0o600)]
        {
            let error = read(text, mode).unwrap_err();
            assert!(!error.to_string().contains("t0k3n"), "{error}");
        }
    }

    #[test]
    fn a_file_larger_than_the_limit_is_not_read() {
        let faults = load("large", &format!("# {}\n", "x".repeat(1 << 20)), 0o600);

        assert_eq!(faults.len(), 1);
        assert!(faults[0].contains("longer than 1048576 octets"), "{faults:?}");
    }
}

#[test]
fn the_configuration_in_the_documentation_is_valid() {
    let page = include_str!("../../../docs/agent.md");
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();

    let config = parse(&text.replace("authtoken: …", "authtoken: t")).unwrap();

    assert_eq!(config.endpoints.len(), 1);
    assert_eq!(config.agent.max_connections, 10_000);
}

const ENDS_HERE: &str = "\
endpoints:
  - name: crm
    url: https://crm.example.com
    upstream: { url: 'http://localhost:3000', protocol: http2 }
    agent_tls_termination:
      server_certificate: tls/crm.pem
      server_private_key: /run/secrets/crm.key
      min_version: 1.3
      mutual_tls_certificate_authorities: [one.pem, /etc/two.pem]
      mutual_tls_crl: [one.crl, /etc/two.crl]
      mutual_tls_crl_issuers: below.pem
  - name: db
    url: tls://db.example.com
    upstream: { url: 'tls://localhost:5433', ca: db.pem }
    agent_tls_termination:
  - name: any
    url: tls://any.internal
    upstream: { url: 'http://localhost:3001' }
    agent_tls_termination: { mutual_tls_verification_strategy: require-any }
  - name: passes
    url: tls://passes.example.com
    upstream: { url: 'tcp://localhost:5434' }
";

#[test]
fn where_tls_ends_follows_from_the_url_and_the_section() {
    let endpoints = parse(ENDS_HERE).unwrap().endpoints;
    let ends: Vec<_> = endpoints.iter().map(EndpointConfig::tls_end).collect();
    let termination = |at: usize| endpoints[at].termination.clone().unwrap();
    let asks = |mode, files: &[&str]| {
        let authorities = files.iter().map(|file| NamedFile::from(*file)).collect();
        Some(ClientCertificates { mode, authorities })
    };

    assert_eq!(ends, [TlsEnd::Agent, TlsEnd::Agent, TlsEnd::Agent, TlsEnd::Upstream]);
    assert_eq!(
        termination(0),
        TerminationConfig {
            certificate: "/etc/adit/tls/crm.pem".into(),
            key: "/run/secrets/crm.key".into(),
            min_version: TlsVersion::V13,
            max_version: TlsVersion::V13,
            clients: asks(ClientMode::Verify, &["/etc/adit/one.pem", "/etc/two.pem"]),
            revocation: Some(RevocationConfig {
                lists: vec!["/etc/adit/one.crl".into(), "/etc/two.crl".into()],
                issuers: vec!["/etc/adit/below.pem".into()],
            }),
            identity_headers: false,
            http: Some(UpstreamProtocol::Http2),
            acme: None,
        }
    );
    assert_eq!(
        termination(1),
        TerminationConfig {
            certificate: "/etc/adit/db.pem".into(),
            key: "/etc/adit/db.key".into(),
            min_version: TlsVersion::V12,
            max_version: TlsVersion::V13,
            clients: None,
            revocation: None,
            identity_headers: false,
            http: None,
            acme: None,
        },
        "beside the configuration, and no HTTP"
    );
    assert_eq!(endpoints[1].upstream.tls, Some(UpstreamTrust::File("/etc/adit/db.pem".into())));
    assert_eq!(
        (termination(2).clients, termination(2).http),
        (asks(ClientMode::Require, &[]), Some(UpstreamProtocol::Http1))
    );
}

#[test]
fn tls_that_cannot_end_here_is_told_with_what_to_do() {
    let endpoint = |url: &str, keys: &str| {
        let text = format!(
            "endpoints:\n  - name: e\n    url: {url}\n    upstream: {{ url: '8080' }}\n    agent_tls_termination: {{ {keys} }}\n"
        );
        told(parse(&text)).join("\n")
    };
    let strategy = "mutual_tls_verification_strategy: require-and-verify";
    let tells = "mutual_tls_identity_headers: true, mutual_tls_certificate_authorities: a.pem";
    let many = format!("mutual_tls_certificate_authorities: a.pem, mutual_tls_crl: [{}]", "a.crl, ".repeat(17));
    for (url, keys, expected) in [
        ("http://a.com", "", "cannot end at the agent"),
        ("tcp://:5432", "", "cannot end at the agent"),
        ("https://a.internal", "", "cannot end at the agent"),
        ("https://a.com", "min_version: 1.1", "`1.1` is not 1.2 or 1.3"),
        ("https://a.com", "min_version: 1.3, max_version: 1.2", "older than min_version"),
        ("https://a.com", strategy, "nobody is named whose certificates are believed"),
        ("https://a.com", "mutual_tls_verification_strategy: some", "`some` is not require-and-verify"),
        ("https://a.com", "mutual_tls_crl: a.crl", "nobody is named whose certificates could be revoked"),
        ("https://a.com", "mutual_tls_verification_strategy: request, mutual_tls_crl: a.crl", "nobody is named whose"),
        ("https://a.com", "mutual_tls_crl_issuers: a.pem", "no revocation list is named"),
        ("https://a.com", "mutual_tls_crl: []", "nothing stands behind it"),
        ("https://a.com", "mutual_tls_identity_headers: ''", "nothing stands behind it"),
        ("https://a.com", "mutual_tls_identity_headers: true", "callers are asked for no certificate"),
        ("tls://a.com", tells, "the upstream is not said to speak HTTP"),
        ("https://a.com", &many, "more than 16 files of lists"),
        ("https://a.com", "server_private_key: '-----BEGIN PRIVATE KEY-----'", "not the name of a file"),
        ("https://a.com", "certificate: a.pem", "unknown key"),
    ] {
        let faults = endpoint(url, keys);
        assert!(faults.contains(expected), "{url} {keys}: {faults}");
    }
    let http2 =
        ENDS_HERE.replace("      mutual_tls_crl:", "      mutual_tls_identity_headers: true\n      mutual_tls_crl:");
    assert!(told(parse(&http2)).join("\n").contains("the upstream speaks HTTP/2, in which requests are not looked at"));
}

#[test]
fn a_fault_quotes_no_password() {
    let told = told(parse(
        "version: 1\nagent:\n  connect_url: user:PW1@host\n  crl_url: https://user:P`W2@host/x\nendpoints:\n  - name: a\n    \
         url: ftp://user:PW3@a.example\n    upstream: {url: 'http://user:PW4@a@b:x'}\n",
    ));

    assert_eq!(told.len(), 4, "{told:?}");
    for fault in &told {
        assert!(fault.contains("…@") && !fault.contains("PW") && !fault.contains("W2"), "{fault}");
    }
}

#[test]
fn callers_must_not_be_left_unasked_by_a_list_of_nobody() {
    for nothing in ["[]", "", "''"] {
        let told = told(parse(&format!(
            "version: 1\nagent:\n  connect_url: a:1\nendpoints:\n  - name: a\n    url: https://a.example\n    upstream: {{url: 'http://a:1'}}\n    \
             agent_tls_termination:\n      mutual_tls_certificate_authorities: {nothing}\n",
        )));
        assert!(told.iter().any(|fault| fault.contains("nothing stands behind it")), "{nothing}: {told:?}");
    }
}
