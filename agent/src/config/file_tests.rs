use core::sync::atomic::{AtomicBool, Ordering};
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use super::*;
use crate::{
    config::{
        Config, Overrides, Token,
        section::{Context, Section},
        token, yaml,
    },
    errors::Error,
    policy::Found,
    testing::folder,
};

/// A host with a secret of its own, and an agent's folder with a token and the configuration.
fn host(name: &str) -> PathBuf {
    let host = folder(name).canonicalize().unwrap();
    for below in ["ssh", "adit"] {
        fs::create_dir(host.join(below)).unwrap();
    }
    for (path, text) in [("ssh/id", "the host's own"), ("adit/token", "t0k3n")] {
        write(&host.join(path), text);
    }
    host
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn load(host: &Path, agent: &str, overrides: &Overrides) -> Config {
    let file = host.join("adit/adit.yml");
    write(&file, &format!("version: 1\nagent:\n{agent}"));
    Config::load(&[file], overrides).unwrap()
}

fn guard(policy: &str) -> Arc<Guard> {
    let guard = Guard::new();
    let text = format!("version: 1\n{policy}");
    guard.set(Found { policy: Policy::parse(Path::new("policy.yml"), &text).unwrap(), text }, "one".into());
    guard
}

/// Reads the token that a configuration names.
fn read(host: &Path, agent: &str, policy: &str) -> Result<Secret, Error> {
    let config = load(host, agent, &Overrides::default());
    config.under(&guard(policy));
    token(&config.agent.token)
}

#[test]
fn no_file_of_the_host_is_sent_as_a_token_once_there_is_a_policy() {
    let host = host("file-token");
    symlink(host.join("ssh/id"), host.join("adit/link")).unwrap();
    symlink(host.join("ssh"), host.join("adit/way")).unwrap();
    symlink("token", host.join("adit/other")).unwrap();

    for (named, fine) in [
        (host.join("adit/token").display().to_string(), true),
        ("token".to_owned(), true),
        ("other".to_owned(), true),
        (host.join("ssh/id").display().to_string(), false),
        ("../ssh/id".to_owned(), false),
        ("link".to_owned(), false),
        ("way/id".to_owned(), false),
    ] {
        let key = format!("  authtoken_file: {named}\n");
        let read = read(&host, &key, "");
        match read {
            Ok(token) => assert!(fine && token == Secret::new(*b"t0k3n"), "{named}"),
            Err(error) => {
                let text = error.to_string();
                let real = host.join("ssh/id").display().to_string();
                assert!(!fine && text.contains("ADIT-1412") && text.contains(&real), "{named}: {text}");
            }
        }
        // Said before anything is opened, with the place of the key.
        let config = load(&host, &key, &Overrides::default());
        let [known] = config.named.as_slice() else { panic!("one file: {:?}", config.named) };
        let fault = known.fault(&guard("").policy().unwrap());
        assert_eq!(fault.is_none(), fine, "{named}");
        if let Some(fault) = fault {
            let place = format!("{}:3:19: agent.authtoken_file: ADIT-1412", host.join("adit/adit.yml").display());
            assert!(fault.to_string().starts_with(&place), "{fault}");
        }
    }
}

#[test]
fn a_list_of_the_policy_holds_as_it_is_written() {
    let host = host("file-listed");
    let named = |path: &str| format!("  authtoken_file: {}\n", host.join(path).display());
    let listed = |path: &str| format!("files: ['{}']\n", host.join(path).display());

    assert!(read(&host, &named("ssh/id"), &listed("ssh")).is_ok());
    assert!(read(&host, &named("ssh/id"), &listed("ssh/id")).is_ok());
    assert!(read(&host, &named("adit/token"), &listed("ssh")).is_err(), "in the place of what is usual");
    assert!(read(&host, &named("ssh/none"), &listed("ssh")).unwrap_err().to_string().contains("No such file"));
}

#[test]
fn a_listed_link_may_lead_elsewhere_after_a_renewal_unless_others_decide_about_it() {
    let host = host("file-renewed");
    let (live, archive) = (host.join("live"), host.join("archive"));
    fs::create_dir(&live).unwrap();
    fs::create_dir(&archive).unwrap();
    let key = format!("  authtoken_file: {}\n", live.join("token").display());
    for number in ["first", "second"] {
        write(&archive.join(number), number);
        symlink(archive.join(number), live.join("draft")).unwrap();
        fs::rename(live.join("draft"), live.join("token")).unwrap();
        for item in [live.join("token"), live.clone()] {
            let policy = format!("files: ['{}']\n", item.display());
            assert_eq!(read(&host, &key, &policy), Ok(Secret::new(number.as_bytes())), "{policy}");
        }
    }

    fs::set_permissions(&live, fs::Permissions::from_mode(0o777)).unwrap();

    for item in [live.join("token"), live.clone()] {
        let refused = read(&host, &key, &format!("files: ['{}']\n", item.display())).unwrap_err();
        assert!(refused.to_string().contains("ADIT-1412"), "{refused}");
    }
    assert!(read(&host, &key, &format!("files: ['{}']\n", archive.display())).is_ok(), "where it really is");
}

#[test]
fn what_the_customer_names_on_the_command_line_is_the_customers_word() {
    let host = host("file-flag");
    let mut overrides = Overrides::default();
    overrides.flag("authtoken_file", "--authtoken-file", Some(host.join("ssh/id").display().to_string()));

    let config = load(&host, "  authtoken_file: token\n", &overrides);
    config.under(&guard(""));

    assert_eq!(token(&config.agent.token), Ok(Secret::new(*b"the host's own")));
    let Token::File(file) = &config.agent.token else { panic!("a file") };
    assert_eq!((file.is_of_configuration(), file.refusal(&Policy::default())), (false, None));
}

#[test]
fn a_policy_that_comes_later_holds_for_the_next_reading() {
    let host = host("file-later");
    let config = load(&host, "  authtoken_file: ../ssh/id\n", &Overrides::default());
    let guard = Guard::new();
    config.under(&guard);
    assert!(token(&config.agent.token).is_ok(), "without a policy the configuration's word is enough");

    let policy = Policy::default();
    guard.set(Found { policy, text: String::new() }, "one".into());

    assert!(token(&config.agent.token).unwrap_err().to_string().contains("ADIT-1412"));
}

#[test]
fn every_key_that_names_a_file_is_asked_about() {
    let text = "\
version: 1
agent:
  connect_cas: /x/1
  proxy_url: https://proxy:1
  proxy_cas: /x/2
  authtoken_file: /x/3
  update: { url: 'https://a.example', public_key: RWSw/Ftq9sAsstwFr3Inb8cDRVIAerhEZ0C6wuAXvtEpWct+eYv1U1QF, ca: /x/4 }
  local: { token_file: /x/5 }
endpoints:
  - name: a
    url: https://a.example.com
    upstream: { url: 'https://a.corp', ca: /x/6 }
    agent_tls_termination:
      server_certificate: /x/7
      server_private_key: /x/8
      mutual_tls_certificate_authorities: [/x/9, /x/10]
      mutual_tls_crl: [/x/11, /x/12]
      mutual_tls_crl_issuers: /x/13
  - name: b
    url: https://b.example.com
    upstream: { url: 1 }
    agent_tls_termination: { acme: { accept_terms: true, ca: /x/14, eab: { key_id: k, hmac_key_file: /x/15 } } }
  - name: c
    url: https://c.example.com
    upstream: { url: 1 }
    agent_tls_termination:
";
    let config = crate::testing::config(text);
    let told: Vec<_> = config.named().map(|named| (named.key.as_str(), named.file.display().to_string())).collect();

    let mut paths: Vec<_> = told.iter().map(|(_, path)| path.clone()).collect();
    paths.sort_by_key(|path| (path.len(), path.clone()));
    let mut expected: Vec<_> = (1..=15).map(|number| format!("/x/{number}")).collect();
    expected.extend(["c.key".to_owned(), "c.pem".to_owned()]);
    expected.sort_by_key(|path| (path.len(), path.clone()));
    assert_eq!(paths, expected);
    assert!(told.contains(&("endpoints[0].agent_tls_termination.mutual_tls_crl", "/x/12".to_owned())), "{told:?}");
    let policy = Policy::parse(Path::new("policy.yml"), "version: 1\nfiles: /y\n").unwrap();
    assert!(config.named().all(|named| named.fault(&policy).is_some()));
}

#[test]
fn what_a_document_names_that_is_no_file_is_not_the_customers_word() {
    let (host, overrides) = (host("file-document"), Overrides::default());
    let context = Context::new(&[], &overrides);
    let tree = yaml::parse(0, &format!("ca: '{}'\n", host.join("adit/token").display())).unwrap();

    let (file, _) = Section::new(&context, String::new(), Some(tree)).file("ca").unwrap();

    assert!(file.is_of_configuration() && file.refusal(&Policy::default()).is_some(), "nothing is beside it");
}

/// Somebody who may write the folder swaps what is judged for what is wanted, as often as can be.
#[test]
fn a_link_that_is_put_in_place_between_judgement_and_opening_leads_nowhere() {
    let host = host("file-race");
    let way = host.join("adit/way");
    let (ours, theirs) = (host.join("adit/ours"), host.join("adit/theirs"));
    fs::create_dir(&ours).unwrap();
    write(&ours.join("id"), "t0k3n");
    symlink(host.join("ssh"), &theirs).unwrap();
    fs::rename(&ours, &way).unwrap();
    let config = load(&host, "  authtoken_file: way/id\n", &Overrides::default());
    config.under(&guard(""));
    let done = AtomicBool::new(false);

    let read = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let swapped = fs::rename(&way, &ours).and_then(|()| fs::rename(&theirs, &way));
                let back = fs::rename(&way, &theirs).and_then(|()| fs::rename(&ours, &way));
                assert!(swapped.is_ok() && back.is_ok());
            }
        });
        let read: Vec<_> = (0..2_000).map(|_| token(&config.agent.token)).collect();
        done.store(true, Ordering::Relaxed);
        read
    });

    let own = read.iter().filter(|token| **token == Ok(Secret::new(*b"t0k3n"))).count();
    let others = read.iter().filter(|token| token.as_ref().is_ok_and(|token| *token != Secret::new(*b"t0k3n")));
    assert_eq!(others.count(), 0);
    assert!(own > 0, "none was read at all");
}
