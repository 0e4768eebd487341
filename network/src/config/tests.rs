use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn a_small_configuration_is_complete_with_its_defaults() {
    let config = parse(SMALL).unwrap();

    assert_eq!(config.ingress.listen, ["127.0.0.1:8443".parse().unwrap()]);
    assert_eq!(config.https, ["127.0.0.1:443".parse().unwrap(), "[::1]:443".parse().unwrap()]);
    assert_eq!(config.database, Path::new("/etc/adit/adit.db"));
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.drain_deadline, Duration::from_secs(30));
    assert_eq!(config.admin, None);
}

#[test]
fn the_documentation_has_every_limit_and_its_example_is_valid() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let page = fs::read_to_string(path).unwrap();
    for (name, about) in Limits::DOCUMENTED {
        let row = format!("| `{name}` |{about} |\n");
        assert!(page.contains(&row), "docs/operations.md has no {row}");
    }
    let example = page.split_once("```yaml\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    let config = parse(example).unwrap();
    assert_eq!((config.limits, config.heartbeat.interval_min), (Limits::default(), Duration::from_secs(1)));
    assert_eq!(config.drain_deadline, Duration::from_secs(30));
}

#[test]
fn every_limit_names_the_metric_or_the_code_that_counts_it() {
    use super::limits::{SEEN, Seen};

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("../docs/observability.md")).unwrap();
    let operations = fs::read_to_string(root.join("../docs/operations.md")).unwrap();
    let source = sources(&root.join("src"));
    assert_eq!(SEEN.iter().map(|(name, _)| *name).collect::<Vec<_>>(), Limits::NAMES);
    for (name, seen) in SEEN {
        let row = format!("| `{name}` | {} |\n", seen.text(name));
        assert!(page.contains(&row), "docs/observability.md has no {row}");
        let quoted = format!("(\"{name}\")");
        match seen {
            // Passed on to `Metrics::limit`, in one step or two.
            Seen::Counted => {
                assert!(
                    ["limit", "Limit", "Full", "Err"].iter().any(|by| source.contains(&format!("{by}{quoted}")))
                        || [format!(",\"{name}\")"), format!("(\"{name}\",Fault::")]
                            .iter()
                            .any(|pair| source.contains(pair)),
                    "{name}"
                )
            }
            Seen::Code(code) => assert!(crate::Fault::ALL.iter().any(|fault| fault.code() == *code), "{name}"),
            Seen::Metric(metric) => {
                let row = format!("| `{}", metric.split('{').next().unwrap());
                assert!(operations.contains(&row), "docs/operations.md has no {row}");
            }
            Seen::Quiet(_) => {}
        }
    }
}

/// Returns what the programs are made of, without white space.
fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.push_str(&sources(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            all.extend(code.split_whitespace());
        }
    }
    all
}

#[test]
fn what_the_operator_sees_is_read_and_names_nobody_by_default() {
    let config = parse(SMALL).unwrap();
    assert_eq!((&config.log.access, config.telemetry), (&Logged::default(), None));
    assert!(!config.log.access.path && !config.log.access.query && !config.log.access.user_agent);
    assert_eq!(config.log.access.address, AddressForm::Truncated);

    let text = "log: {access: {to: access.log, address: full, path: true, query: true, user_agent: true}}\n\
                opentelemetry: {endpoint: 'http://[::1]:4318', sample: 0.5, headers: {X-Key: s3cret}}\n";
    let config = parse(&format!("{SMALL}{text}")).unwrap();
    assert_eq!(config.log.access.to, AccessTo::File("/etc/adit/access.log".into()));
    assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
    assert_eq!(config.telemetry.unwrap().headers[0].1, "s3cret");

    for bad in ["{endpoint: 'https://a:1'}", "{endpoint: 'http://u:p@a:1'}", "{endpoint: 'http://'}", "{sample: 0.5}"] {
        let faults = parse(&format!("{SMALL}opentelemetry: {bad}\n")).unwrap_err();
        assert!(faults.iter().any(|fault| fault.key == "opentelemetry.endpoint"), "{bad}: {faults:?}");
    }
    let faults =
        parse(&format!("{SMALL}opentelemetry: {{endpoint: 'http://a:1', sample: 2, headers: {{'a b': 's3cret'}}}}\n"))
            .unwrap_err();
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["opentelemetry.sample", "opentelemetry.headers"]);
    assert!(!format!("{faults:?}").contains("s3cret"), "{faults:?}");
}

#[test]
fn every_fault_is_reported_at_once_with_its_line_and_key() {
    let text = "\
ingress:
  listen: localhost:8443
  certificate: a.pem
http:
  listen: 0.0.0.0:80
  lsiten: 0.0.0.0:81
limits:
  connections: many
  hold: 10
log:
  format: xml
";

    let faults = parse(text).unwrap_err();

    let found: Vec<_> = faults.iter().map(|fault| (fault.line, fault.key.as_str())).collect();
    let expected = [
        (None, "ingress.listen"),
        (None, "ingress.key"),
        (Some(2), "ingress.listen"),
        (Some(6), "http.lsiten"),
        (Some(8), "limits.connections"),
        (Some(9), "limits.hold"),
        (Some(11), "log.format"),
    ];
    assert_eq!(found, expected);
    assert_eq!(faults[3].remedy, "Did you mean `listen`?");
    assert_eq!(
        faults[4].to_string().split(". ").next(),
        Some("line 8, column 16: limits.connections: `many` is not a count from 1 to 10,000,000")
    );
}

#[test]
fn the_environment_comes_before_the_file_and_a_typo_in_it_is_a_fault() {
    let variables = |pairs: &[(&str, &str)]| {
        let owned = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::parse(SMALL, Path::new("/etc/adit"), owned.collect())
    };

    let config = variables(&[("ADIT_NETWORK_HTTPS_LISTEN", "0.0.0.0:1,0.0.0.0:2"), ("ADIT_NETWORK_LIMITS_HOLD", "2s")]);
    let faults = variables(&[("ADIT_NETWORK_LIMIT_HOLD", "2s")]).unwrap_err();

    let config = config.unwrap();
    assert_eq!(config.https, ["0.0.0.0:1".parse().unwrap(), "0.0.0.0:2".parse().unwrap()]);
    assert_eq!(config.limits.hold, Duration::from_secs(2));
    assert_eq!(faults.len(), 1, "V45: {faults:?}");
    assert_eq!(faults[0].remedy, "Did you mean `ADIT_NETWORK_LIMITS_HOLD`?");
}

#[test]
fn the_admin_listener_stays_on_loopback_unless_danger_is_asked_for() {
    let admin = |lines: &str| parse(&format!("{SMALL}admin:\n  listen: 0.0.0.0:9090\n{lines}"));

    assert_eq!(admin("").unwrap_err()[0].key, "admin.listen");
    assert!(admin("  danger_listen_beyond_loopback: true\n").is_ok());
}

#[test]
fn trusted_proxies_are_networks_of_their_listener_and_never_everybody() {
    let text = "\
ingress: {listen: '127.0.0.1:1'}
private_ca: /ca
http:
  listen: 127.0.0.1:2
  proxy_protocol: {trusted: [10.0.0.0/8, '::ffff:192.0.2.0/120', '2001:db8::1']}
https:
  listen: 127.0.0.1:3
tcp:
  address: 127.0.0.1
  ports: 5000
  proxy_protocol: {trusted: 192.0.2.7}
";
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();

    let proxies = parse(text).unwrap().proxies;
    let faults = parse(&text.replace("10.0.0.0/8", "0.0.0.0/0").replace("192.0.2.7", "proxy.example")).unwrap_err();

    assert_eq!(proxies.http, networks(&["10.0.0.0/8", "192.0.2.0/24", "2001:db8::1/128"]), "V67");
    assert_eq!((proxies.https, proxies.tcp), (Vec::new(), networks(&["192.0.2.7/32"])));
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["http.proxy_protocol.trusted", "tcp.proxy_protocol.trusted"]);
}

#[test]
fn a_configuration_that_everybody_may_write_is_refused() {
    let path = std::env::temp_dir().join(format!("adit-config-{}.yml", std::process::id()));
    fs::write(&path, SMALL).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();

    let open = Config::load(&path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let closed = Config::load(&path);

    fs::remove_file(&path).unwrap();
    assert!(open.unwrap_err()[0].problem.starts_with("everybody may write"), "V46");
    assert!(closed.is_ok());
}

#[test]
fn a_file_beyond_a_mebibyte_is_refused() {
    let path = std::env::temp_dir().join(format!("adit-large-{}.yml", std::process::id()));
    fs::write(&path, format!("{SMALL}#{}", "x".repeat(1 << 20))).unwrap();

    let faults = Config::load(&path).unwrap_err();

    fs::remove_file(&path).unwrap();
    assert!(faults[0].problem.ends_with("larger than the 1048576 octets that are read"), "{faults:?}");
}

#[test]
fn an_order_of_certificates_needs_a_directory_consent_a_key_and_a_challenge() {
    let keys = |text: &str| -> Vec<String> {
        let faults = parse(&format!("{SMALL}{text}")).unwrap_err();
        faults.into_iter().map(|fault| fault.key).collect()
    };

    assert_eq!(keys("acme: {contact: 'mailto:a@example.com'}\n"), ["acme.directory", "acme.accept_terms", "acme."]);
    let acme = "secrets: {key_file: key}\nacme:\n  directory: https://ca.example/dir\n  accept_terms: true\n";
    let with = |lines: &str| keys(&format!("{acme}{lines}"));
    assert_eq!(with("  challenges: [http-01]\n"), ["acme.challenges"]);
    assert_eq!(with("  challenges: [dns-01]\n"), ["acme.challenges"]);
    assert_eq!(with("  names: ['*.example.com']\n"), ["acme.dns_hook"]);
    assert_eq!(with("  dns_hook: [hook.sh]\n"), ["acme.dns_hook"]);
    assert_eq!(with("  eab: {key_id: kid}\n"), ["acme.eab.hmac_key_file"]);
    assert_eq!(with("  eab: {hmac_key: c2VjcmV0}\n"), ["acme.eab.hmac_key"]);
    let faults = parse(&format!("{SMALL}{acme}  contact: [someone]\n  direktory: x\n")).unwrap_err();
    let found: Vec<_> = faults.iter().map(|fault| (fault.line, fault.column, fault.key.as_str())).collect();
    assert_eq!(found, [(Some(11), Some(13), "acme.contact"), (Some(12), Some(3), "acme.direktory")]);
    let plain = acme.replace("https://", "http://");
    assert_eq!(parse(&format!("{SMALL}{plain}")).unwrap_err()[0].key, "acme.directory");

    let config = parse(&format!("{SMALL}{acme}")).unwrap();
    assert_eq!(config.acme.unwrap().directory, "https://ca.example/dir");
}

#[test]
fn a_secret_is_taken_from_the_environment_and_never_from_the_configuration() {
    let faults = parse(&format!("{SMALL}secrets: {{key: 0f0f0f}}\n")).unwrap_err();
    assert_eq!(faults[0].key, "secrets.key");
    assert!(!faults[0].to_string().contains("0f0f0f"), "{}", faults[0]);

    let variable = [("ADIT_NETWORK_SECRETS_KEY".to_owned(), "0f0f0f".to_owned())];
    let config = Config::parse(SMALL, Path::new("/etc/adit"), variable.into()).unwrap();
    assert!(matches!(config.secrets, Some(SecretKeys::Environment(_))));
    assert!(!format!("{config:?}").contains("0f0f0f"));
}

#[test]
fn no_text_makes_the_reader_panic() {
    for text in ["\0", "- a", "a: [", "&a *a", "? x", "ingress: 3", "certificates: {a: b}", "--- 1\n--- 2", "\u{feff}"]
    {
        assert!(parse(text).is_err(), "{text:?}");
    }
}

fn parse(text: &str) -> Result<Config, Vec<ConfigFault>> {
    Config::parse(text, Path::new("/etc/adit"), BTreeMap::new())
}

#[test]
fn names_of_the_ingress_and_the_list_of_the_private_ca_are_read_with_what_they_need() {
    let with = |ingress: &str, more: &str| {
        let ca = if more.contains("no ca") { "" } else { "private_ca: ca\n" };
        let files = "certificate: i.pem, key: i.key";
        parse(&format!(
            "{ca}http: {{listen: '127.0.0.1:1'}}\ningress: {{listen: '127.0.0.1:2', {files}, {ingress}}}\n{more}"
        ))
    };
    let keys = |ingress: &str, more: &str| {
        let faults = with(ingress, more).unwrap_err();
        faults.into_iter().map(|fault| fault.key).collect::<Vec<_>>()
    };

    let items = "names: [a.example, {name: B.example, accounts: [acme, globex]}, {name: c.example, certificate: c.pem, key: c.key}]";
    let config = with(items, "crl: {listen: '127.0.0.1:3', url: 'http://crl.example/ca.crl', days: 3}\n").unwrap();
    assert_eq!(config.ingress.names, ["a.example"]);
    let custom: Vec<_> =
        config.ingress.custom.iter().map(|it| (it.name.as_str(), it.accounts.len(), it.files.is_some())).collect();
    assert_eq!(custom, [("b.example", 2, false), ("c.example", 0, true)]);
    let crl = config.crl.unwrap();
    assert_eq!((crl.url.as_deref(), crl.term.as_secs()), (Some("http://crl.example/ca.crl"), 3 * 86_400));
    assert_eq!(with("names: {name: one.example}", "").unwrap().ingress.custom.len(), 1);

    assert_eq!(keys("names: [{name: a.example}, {name: a.example}]", ""), ["ingress.names[1].name"]);
    assert_eq!(keys("names: [{accounts: [acme]}]", ""), ["ingress.names[0].name"]);
    assert_eq!(keys("names: [{name: a.example, key: k}]", ""), ["ingress.names[0].key"]);
    assert_eq!(keys("names: [{name: a.example, account: acme}]", ""), ["ingress.names[0].account"]);
    assert_eq!(keys("names: [{name: a.example}]", "# no ca\n"), ["ingress.names[0].certificate"]);
    assert_eq!(keys("names: [a.example]", "crl: {url: 'https://crl.example/'}\n"), ["crl.url"]);
    assert_eq!(keys("names: [a.example]", "crl: {days: 0}\n"), ["crl.days"]);
    assert_eq!(keys("names: [a.example]", "crl: {days: 1} # no ca\n"), ["crl"]);
}

const SMALL: &str = "\
version: 1
private_ca: ca
ingress:
  listen: 127.0.0.1:8443
https:
  listen: [ '127.0.0.1:443', '[::1]:443' ]
";
