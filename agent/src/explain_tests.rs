use std::path::Path;

use super::*;
use crate::{
    config::{Overrides, document},
    remote::Kept,
};

const CONFIGURATION: &str = "\
version: 1
agent:
  connect_url: connect.example.com
  authtoken: hunter2
  remote_management: { stop: true, restart: true }
endpoints:
  - name: crm
    url: https://crm.example.com
    upstream: { url: 'http://crm.corp:8080' }
  - name: db
    url: tls://db.example.com
    upstream: { url: 'tcp://localhost:5432' }
";

const POLICY: &str = "\
version: 1
expires: 2030-01-01T00:00:00Z
commands: { stop: true }
allow:
  - name: crm
    endpoints: ['https://crm.example.com']
    hosts: ['*.corp']
    addresses: [10.0.0.0/8]
    ports: [8080]
    protocols: [http]
    hours: [mon-fri 08:00-18:00 +01:00]
    max_connections: 5
";

/// A Monday at noon.
const NOON: i64 = 1_795_435_200;

fn told(configuration: &str, policy: Option<&str>) -> Explanation {
    told_beside(configuration, policy, &Ok(None))
}

fn told_beside(configuration: &str, policy: Option<&str>, remote: &Result<Option<Document>, String>) -> Explanation {
    let text = crate::config::Text { text: configuration.to_owned(), mode: Some(0o600) };
    let config = Config::parse(&["0.yml".into()], &[text], &Overrides::default()).unwrap();
    let policy = policy.map(|text| Policy::parse(Path::new("policy.yml"), text).unwrap());
    let policy = policy.as_ref().map(|policy| (policy, Path::new("/etc/adit/policy.yml"), "0123abcd"));
    explain(
        &config,
        &Situation {
            policy,
            frozen: None,
            state: Some(Path::new("/var/lib/adit")),
            remote,
            elsewhere: None,
            now: NOON,
        },
    )
}

#[test]
fn it_says_who_reaches_what_who_reads_it_and_what_is_refused_by_which_rule() {
    let text = told(CONFIGURATION, Some(POLICY)).text();

    for line in [
        "  dials        connect.example.com:443; the agent itself listens to no network",
        "  file         /etc/adit/policy.yml, version 0123abcd; what no rule allows is refused",
        "  as a whole   until 2030-01-01 00:00:00 UTC",
        "  rule         `crm`: from https://crm.example.com to *.corp; ports 8080; only at 10.0.0.0/8; speaking http; at mon-fri 08:00-18:00 +01:00; at most 5 connections at once",
        "Endpoint crm\n  callers      come in at https://crm.example.com\n  leads to     crm.corp:8080 (http)\n  read by      the vendor: TLS of callers ends at the network. Nobody between callers, network and agent\n",
        "  allowed      by rule `crm`; at mon-fri 08:00-18:00 +01:00; at most 5 connections at once",
        "  read by      the upstream alone: TLS of callers passes through untouched. Not the vendor, nor this machine",
        "  refused      no rule is for the endpoint tls://db.example.com",
        "  stop         accepted: it ends the agent",
        "  restart      refused: commands.restart of the policy is not true",
        "  update       refused: remote_management.update of the configuration is not true",
        "  authtoken    in 0.yml or the environment, until it is taken out",
        "  audit log    /var/lib/adit/audit: sessions, binds, commands",
        "The last 64 files, each of 16384 KiB or 7 days; while it cannot be written new connections are refused",
        "  totals       none: no rule has total_bytes",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn it_says_whether_requests_are_captured_where_they_are_and_for_how_long() {
    let asks = CONFIGURATION
        .replace("endpoints:", "  local: { address: '127.0.0.1:4040', capture: { requests: 50 } }\nendpoints:");
    let allows = format!("{POLICY}capture: true\n");
    let told = |configuration: &str, policy: Option<&str>| {
        let explanation = told(configuration, policy);
        (explanation.text(), explanation.json()["capture"].clone())
    };

    let (text, on) = told(&asks, Some(&allows));
    for line in [
        "dials        connect.example.com:443; the agent itself listens at 127.0.0.1:4040 alone, to programs of this machine",
        "socket       beside what the agent keeps, for its own user and root: how the agent is, who is connected, its log",
        "address      127.0.0.1:4040, for whoever can read the file of its token",
        "capture      on: the last 50 requests over HTTP can be read and sent again there",
        "traffic      the last 50 requests over HTTP and their answers, in memory alone",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert_eq!(on, true);
    let expired = allows.replace("2030", "2020");
    for (configuration, policy, line) in [
        (&*asks, Some(POLICY), "off: the policy does not say `capture: true`, or has expired"),
        (&*asks, Some(&*expired), "off: the policy does not say `capture: true`, or has expired"),
        (&*asks, None, "off: only a policy can allow it, and there is none"),
        (CONFIGURATION, Some(&*allows), "off: agent.local.capture.requests of the configuration is 0"),
    ] {
        let (text, on) = told(configuration, policy);
        assert!(text.contains(line) && text.contains("traffic      never written down"), "{line}\n{text}");
        assert_eq!(on, false);
    }
}

#[test]
fn without_a_policy_it_says_that_nothing_of_the_customer_holds_the_configuration_back() {
    let text = told(CONFIGURATION, None).text();

    assert!(text.contains("there is none: the agent carries whatever its configuration names"), "{text}");
    assert!(text.contains("  audit log    there is none: a policy asks for it"), "{text}");
    assert!(text.contains("  stop         accepted") && text.contains("  restart      accepted"), "{text}");
}

#[test]
fn programs_are_told_the_same() {
    let value = told(CONFIGURATION, Some(POLICY)).json();

    assert_eq!((&value["endpoints"][0]["rule"], &value["endpoints"][0]["tls_end"]), (&"crm".into(), &"network".into()));
    assert_eq!(
        (&value["endpoints"][1]["allowed"], &value["endpoints"][1]["reason"]),
        (&false.into(), &"endpoint".into())
    );
    assert_eq!((&value["commands"]["stop"], &value["commands"]["restart"]), (&true.into(), &false.into()));
    assert_eq!((&value["capture"], &value["policy"]["version"]), (&false.into(), &"0123abcd".into()));
    assert_eq!(statements(&value.to_string()), Some(told(CONFIGURATION, Some(POLICY)).statements));
}

#[test]
fn what_has_changed_stands_beside_what_it_was() {
    let old = told(CONFIGURATION, Some(POLICY)).statements;
    let new = told(&CONFIGURATION.replace("crm.corp:8080", "hr.corp:9090"), Some(POLICY)).statements;

    assert_eq!(
        differences_text(&differences(&old, &new)),
        "- Endpoint crm, leads to: crm.corp:8080 (http)\n\
         + Endpoint crm, leads to: hr.corp:9090 (http)\n\
         - Endpoint crm, allowed: by rule `crm`; at mon-fri 08:00-18:00 +01:00; at most 5 connections at once\n\
         + Endpoint crm, refused: rule `crm`: the port of hr.corp:9090 is none of 8080\n"
    );
    assert_eq!(differences_text(&differences(&old, &old)), "nothing has changed\n");
}

#[test]
fn it_says_where_new_versions_come_from_and_what_happens_unasked() {
    let key = "RWSw/Ftq9sAsstwFr3Inb8cDRVIAerhEZ0C6wuAXvtEpWct+eYv1U1QF";
    let update = format!("  update: {{ url: 'https://releases.example.com', public_key: {key} }}\nendpoints:\n");
    let with = CONFIGURATION.replace("endpoints:\n", &update);
    let installs = POLICY.replace("allow:\n", "updates: { check: true, install: true }\nallow:\n");
    for (configuration, policy, expected) in [
        (CONFIGURATION, None, "nowhere: the configuration names no place"),
        (&with, None, "they are looked for at the start, and none is installed"),
        (&with, Some(POLICY), "nothing: none is looked for"),
        (&with, Some(&installs), "they are looked for at the start and installed"),
    ] {
        let text = told(configuration, policy).text();
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn it_says_what_goes_through_the_proxy() {
    let with = |agent: &str| {
        let proxied =
            format!("  connect_url: connect.example.com\n  proxy_url: http://u:s3cret@proxy.corp:3128\n{agent}");
        told(&CONFIGURATION.replace("  connect_url: connect.example.com\n", &proxied), None).text()
    };
    const KEY: &str = "RWSw/Ftq9sAsstwFr3Inb8cDRVIAerhEZ0C6wuAXvtEpWct+eYv1U1QF";
    let update = format!("  update: {{ url: 'https://releases.example/adit', public_key: {KEY} }}\n");

    let text = with(&format!("  crl_url: http://crl.example/ca.crl\n{update}"));
    for line in [
        "proxy        through http://proxy.corp:3128 (agent.proxy_url), which resolves its name",
        "fetched from http://crl.example/ca.crl through http://proxy.corp:3128, looked",
        "come from    https://releases.example/adit through http://proxy.corp:3128, by the vendor's signature alone",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("s3cret"), "{text}");
    assert!(with("").contains("where its certificate says, through the proxy if there is one for it"));
}

#[test]
fn it_says_from_whom_certificates_are_ordered_and_whether_the_policy_lets_it() {
    let configuration = "endpoints:\n  - name: crm\n    url: https://crm.example.com\n    upstream: { url: '1' }\n    \
                         agent_tls_termination: { acme: { accept_terms: true, directory: 'https://ca.corp/dir' } }\n";
    let told = |policy: Option<&str>| {
        let config = crate::testing::config(configuration);
        let policy = policy.map(|text| Policy::parse(Path::new("policy.yml"), text).unwrap());
        let policy = policy.as_ref().map(|policy| (policy, Path::new("/etc/adit/policy.yml"), "0123abcd"));
        explain(
            &config,
            &Situation { policy, frozen: None, state: None, remote: &Ok(None), elsewhere: None, now: NOON },
        )
    };

    let alone = told(None);
    assert!(alone.text().contains("  certificate  ordered by the agent from https://ca.corp/dir,"), "{}", alone.text());
    assert!(alone.text().contains("stays in /var/lib/adit/acme/crm.example.com.pem"), "{}", alone.text());
    assert_eq!(alone.json()["endpoints"][0]["acme"]["allowed"], true);
    let refused = told(Some("version: 1\n"));
    assert!(
        refused.text().contains(
            "not ordered from https://ca.corp/dir: the policy as a whole: acme.hosts does not have ca.corp:443"
        ),
        "{}",
        refused.text()
    );
    assert_eq!(refused.json()["endpoints"][0]["acme"]["allowed"], false);
    let allowed = told(Some("version: 1\nacme: { hosts: ca.corp }\n"));
    assert!(allowed.text().contains("certificates may be ordered from ca.corp"), "{}", allowed.text());
    assert_eq!(allowed.json()["endpoints"][0]["acme"]["allowed"], true);
}

#[test]
fn it_says_what_the_vendor_has_sent_and_whether_that_is_in_force() {
    let text = "version: 1\nendpoints:\n  - { name: erp, url: 'https://crm.example.com', upstream: { url: 'http://erp.corp:8080' } }\n";
    let kept = Kept { document: text.to_owned(), print: "ab12".to_owned(), said: "by ops".to_owned(), taken: NOON };
    let sent = Ok(Some(Document { kept, sent: document(text).unwrap() }));
    let takes = CONFIGURATION
        .replace("restart: true }", "restart: true, configuration: true }")
        .replace("https://crm.example.com", "https://own.example.com");
    let allows = POLICY.replace("stop: true }", "stop: true, configuration: true }");
    let text = |configuration: &str, policy: Option<&str>| told_beside(configuration, policy, &sent).text();

    let told = text(&takes, Some(&allows));
    for line in [
        "Endpoint erp\n  from         the vendor, who has sent it by a command\n  callers      come in at https://crm.example.com",
        "  allowed      by rule `crm`",
        "  document     1 endpoints, taken at 2026-11-23 12:00:00 UTC, SHA-256 ab12; the vendor said `by ops`",
        "  in force     beside the endpoints of the configuration, within the policy",
        "  configuration accepted: it has the endpoints that the vendor sends",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    for (configuration, policy, line) in [
        (&*takes, Some(POLICY), "not in force commands.configuration of the policy is not true"),
        (
            CONFIGURATION,
            Some(&*allows),
            "not in force remote_management.configuration of the configuration is not true",
        ),
        (&*takes, None, "not in force there is no policy: without one"),
        (&*takes, None, "configuration refused: there is no policy: without one"),
    ] {
        let told = text(configuration, policy);
        assert!(told.contains(line) && !told.contains("Endpoint erp"), "{line}\n{told}");
    }
    let over = allows.replace("expires: 2030", "expires: 2020");
    let told = text(&takes, Some(&over));
    assert!(
        told.contains("  kept         callers are refused: the policy: ") && !told.contains("in force  "),
        "{told}"
    );
    let text_of = crate::config::Text { text: takes.clone(), mode: Some(0o600) };
    let config = Config::parse(&["0.yml".into()], &[text_of], &Overrides::default()).unwrap();
    let elsewhere = Some("the agent has one elsewhere");
    let told = explain(
        &config,
        &Situation { policy: None, frozen: None, state: None, remote: &Ok(None), elsewhere, now: NOON },
    );
    let told = told.text();
    assert!(told.contains("  not here     the agent has one elsewhere"), "{told}");
    let clash = takes.replace("name: crm", "name: erp");
    assert!(text(&clash, Some(&allows)).contains("in force     without erp, which the configuration has itself"));
    let value = told_beside(&takes, Some(&allows), &sent).json();
    assert_eq!((&value["endpoints"][2]["remote"], &value["remote"]["sha256"]), (&true.into(), &"ab12".into()));
    let problem = told_beside(&takes, Some(&allows), &Err("it is not as it was written".to_owned())).text();
    assert!(
        problem.contains("not believed it is not as it was written: an agent of this user has none of it in force"),
        "{problem}"
    );
}
