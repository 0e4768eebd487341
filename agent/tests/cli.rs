//! The program: exit codes, what it prints, and what it never prints.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use support::{Network, Rules, Seen, endpoint, folder, write_config, write_private};

const URL: &str = "tcp://:1001";

fn adit(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    command.env_clear().env("HOME", home).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    told(adit(home, arguments).output().unwrap())
}

fn told(Output { status, stdout, stderr }: Output) -> (Option<i32>, String, String) {
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn each_exit_code_means_what_the_help_says() {
    let home = folder();
    let broken = home.join("broken.yml");
    write_private(&broken, "agent:\n  conect_url: x\n");
    let broken = broken.to_str().unwrap();

    assert_eq!(run(&home, &["version"]).0, Some(0));
    assert_eq!(run(&home, &["--help"]).0, Some(0));
    for usage in [&["start"][..], &["http"], &["nonsense"], &["tcp", "22"], &["http", "a", "--url", "ftp://x"]] {
        assert_eq!(run(&home, usage).0, Some(2), "{usage:?}");
    }
    for invalid in
        [&["config", "check", "--config", broken][..], &["start", "--all", "--config", broken], &["start", "--all"]]
    {
        assert_eq!(run(&home, invalid).0, Some(3), "{invalid:?}");
    }
    assert_eq!(run(&home, &["http", "8080", "--connect-url", "127.0.0.1:1"]).0, Some(3), "no token");
    let mut unreachable = adit(&home, &["http", "8080", "--connect-url", "127.0.0.1:1", "--connect-cas", "host"]);
    let ca = home.join("ca.pem");
    fs::write(&ca, support::Authority::new("a").pem()).unwrap();
    unreachable.env("ADIT_AUTHTOKEN", "t").env("ADIT_CONNECT_CAS", &ca).env("SSL_CERT_FILE", &ca);
    assert_eq!(told(unreachable.output().unwrap()).0, Some(5));
}

#[test]
fn the_check_names_file_line_column_and_key_for_people_and_programs() {
    let home = folder();
    let file = home.join("adit.yml");
    write_private(&file, "version: 1\nagent:\n  log_levle: info\n");
    let named = file.to_str().unwrap();

    let (exit, _, text) = run(&home, &["config", "check", "--config", named]);
    assert_eq!(exit, Some(3));
    assert!(
        text.starts_with(&format!("{named}:3:3: agent.log_levle: unknown key. Did you mean `log_level`?\n")),
        "{text}"
    );

    let (exit, text, _) = run(&home, &["config", "check", "--output", "json", "--config", named]);
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((exit, &parsed["valid"], &parsed["faults"][0]["line"]), (Some(3), &false.into(), &3.into()));

    write_private(&file, "version: 1\nagent:\n  connect_cas: missing.pem\n");
    let (exit, _, text) = run(&home, &["config", "check", "--config", named]);
    assert_eq!(exit, Some(3));
    assert!(text.contains("ADIT-1004") && text.contains("missing.pem"), "{text}");
}

#[test]
fn a_configuration_that_others_may_change_or_read_is_refused() {
    let home = folder();
    let file = home.join("adit.yml");
    write_private(&file, "version: 1\nagent:\n  authtoken: hunter2\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();

    let (exit, _, text) = run(&home, &["config", "check", "--config", file.to_str().unwrap()]);

    assert_eq!(exit, Some(3));
    assert!(text.contains("0666") && text.contains("chmod 600") && !text.contains("hunter2"), "{text}");
}

#[test]
fn only_the_named_file_is_read_never_one_in_the_working_directory() {
    let home = folder();
    write_private(&home.join("adit.yml"), "nonsense: [");

    let mut command = adit(&home, &["config", "path"]);
    let (exit, text, _) = told(command.current_dir(&home).output().unwrap());

    assert_eq!((exit, text.as_str()), (Some(0), format!("{}/.config/adit/adit.yml\n", home.display()).as_str()));
}

#[test]
fn a_token_is_read_from_standard_input_and_kept_where_only_the_owner_reads_it() {
    let home = folder();
    let mut child = adit(&home, &["config", "add-authtoken"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"t0k3n-of-the-vendor\n").unwrap();
    let (exit, out, err) = told(child.wait_with_output().unwrap());

    let file = home.join(".config/adit/adit.yml");
    assert_eq!(exit, Some(0), "{err}");
    assert!(!out.contains("t0k3n") && !err.contains("t0k3n"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&file).unwrap().contains("authtoken: \"t0k3n-of-the-vendor\""));
}

#[test]
fn a_name_that_is_not_configured_is_answered_with_one_that_is() {
    let home = folder();
    let file = home.join("adit.yml");
    write_private(
        &file,
        &format!(
            "version: 1\nagent:\n  connect_url: a\n  authtoken: t\nendpoints:\n{}",
            endpoint("web", URL, "url: 1")
        ),
    );

    let (exit, _, text) = run(&home, &["start", "wb", "--config", file.to_str().unwrap()]);

    assert_eq!(exit, Some(3));
    assert!(text.starts_with("ADIT-1005: no such endpoint: `wb`. Did you mean `web`?"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_agent_logs_in_a_pipe_and_never_its_token() {
    let mut network = Network::start(Rules::default()).await;
    let home = folder();
    let file = write_config(&home, &network, "", &endpoint("web", URL, "url: 1"));
    for format in ["json", "logfmt", "term"] {
        let named = file.to_str().unwrap();
        let arguments = ["start", "--all", "--config", named, "--log-format", format, "--log-level", "trace"];
        let mut child = adit(&home, &arguments).spawn().unwrap();
        network.wait_for(&Seen::Bound(URL.into())).await;
        let command_line = fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
        let begun = until_said(&mut child, "endpoint bound");
        let (exit, out, rest) = end(child, "TERM").await;
        let err = begun + &rest;

        assert_eq!((exit, out.as_str()), (Some(0), ""), "{err}");
        assert!(err.contains("endpoint bound") && err.contains(URL), "{err}");
        assert!(!err.contains("t0k3n") && !String::from_utf8_lossy(&command_line).contains("t0k3n"));
        assert!(!err.contains('\u{1b}'), "no colour in a pipe");
        if format == "json" {
            for line in err.lines() {
                let parsed: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(parsed["message"].is_string(), "{line}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vendor_s_wish_for_a_newer_version_is_looked_into_where_it_is_allowed_and_releases_are_known() {
    let mut network = Network::start(Rules::default()).await;
    let home = folder();
    fs::write(home.join("releases.pem"), support::Authority::new("releases").pem()).unwrap();
    let key = "RWSw/Ftq9sAsstwFr3Inb8cDRVIAerhEZ0C6wuAXvtEpWct+eYv1U1QF";
    let update = format!("{{ url: 'https://127.0.0.1:1', public_key: {key}, ca: releases.pem, check: false }}");
    let agent = format!("  remote_management: {{ update: true }}\n  update: {update}\n");
    let file = write_config(&home, &network, &agent, &endpoint("web", URL, "url: 1"));
    let mut child = adit(&home, &["start", "--all", "--config", file.to_str().unwrap()]).spawn().unwrap();
    network.wait_for(&Seen::Bound(URL.into())).await;

    network.command(adit_core::Command::Update);

    network.wait_for(&Seen::Answer(adit_core::Code::NO_ERROR)).await;
    let said = until_said(&mut child, "no update");
    assert!(said.contains("ADIT-1032") && said.contains("remote command obeyed"), "{said}");
    assert_eq!(end(child, "TERM").await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_at_once() {
    let mut network = Network::start(Rules::default()).await;
    let home = folder();
    let upstream = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("url: 'tcp://{}'", upstream.local_addr().unwrap());
    let file = write_config(&home, &network, "", &endpoint("web", URL, &url));
    let child = adit(&home, &["start", "--all", "--config", file.to_str().unwrap()]).spawn().unwrap();
    network.wait_for(&Seen::Bound(URL.into())).await;
    let stream = network.open(URL);
    let (_socket, _) = upstream.accept().await.unwrap();
    stream.accepted().await.unwrap();

    signal(&child, "INT");
    tokio::time::sleep(core::time::Duration::from_millis(300)).await;
    let (exit, ..) = end(child, "INT").await;

    assert_eq!(exit, Some(130));
}

/// Reads standard error up to a line with `text`, octet by octet: what follows stays in the pipe.
fn until_said(child: &mut Child, text: &str) -> String {
    let mut said = Vec::new();
    let pipe = child.stderr.as_mut().unwrap();
    let mut octet = [0];
    while pipe.read_exact(&mut octet).is_ok() {
        said.push(octet[0]);
        if octet == *b"\n" && String::from_utf8_lossy(&said).contains(text) {
            break;
        }
    }
    String::from_utf8(said).unwrap()
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

async fn end(child: Child, name: &str) -> (Option<i32>, String, String) {
    signal(&child, name);
    told(tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap())
}

#[test]
fn a_certificate_is_asked_for_with_a_key_that_stays_and_that_nobody_else_reads() {
    let home = folder();
    let file = home.join("adit.yml");
    write_private(
        &file,
        "endpoints:\n  - { name: crm, url: 'https://crm.example', upstream: { url: '8080' }, agent_tls_termination: {} }\n  - { name: plain, url: 'https://a.example', upstream: { url: '8080' } }\n",
    );
    let certificate =
        |arguments: &[&str]| run(&home, &[&["certificate"], arguments, &["--config", file.to_str().unwrap()]].concat());
    let files = || {
        let names = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };

    let (code, asked, _) = certificate(&["request", "crm"]);
    let (key, made) = (home.join("crm.key"), fs::read(home.join("crm.key")).unwrap());
    assert!(code == Some(0) && asked.starts_with("-----BEGIN CERTIFICATE REQUEST-----"), "{asked}");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(certificate(&["request", "crm"]).0, Some(0));
    assert_eq!(certificate(&["request", "crm", "--new-key"]).0, Some(0));
    assert_eq!(fs::read(&key).unwrap(), made, "no key is replaced in passing");
    assert_eq!(files(), ["adit.yml", "crm.key", "crm.key.next"]);

    fs::write(home.join("bad.pem"), "not a certificate").unwrap();
    let bad = home.join("bad.pem");
    for (arguments, told) in [
        (&["request", "crn"][..], "ADIT-1005"),
        (&["request", "plain"], "no agent_tls_termination"),
        (&["show", "crm"], "crm.pem"),
        (&["install", "crm", bad.to_str().unwrap()], "bad.pem: it holds 0 certificates"),
    ] {
        let (code, _, error) = certificate(arguments);
        assert!(code == Some(3) && error.contains(told), "{arguments:?}: {error}");
    }
    assert_eq!(files(), ["adit.yml", "bad.pem", "crm.key", "crm.key.next"], "nothing is left behind");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, error) = certificate(&["request", "crm"]);
    assert!(code == Some(3) && error.contains("chmod 600"), "{error}");
}
