//! The program `adit-conformance` against implementations that it starts.

mod runs;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use adit_conformance::identity::Identity;
use runs::{clean, count, program, text};
use serde_json::Value;

#[test]
fn a_network_on_tokio_fails_nothing() {
    network(&reference(""));
}

#[test]
fn a_network_on_smol_fails_nothing() {
    network(&reference("--smol"));
}

#[test]
fn an_agent_on_tokio_fails_nothing() {
    agent(&reference(""));
}

#[test]
fn an_agent_on_smol_fails_nothing() {
    agent(&reference("--smol"));
}

#[test]
fn a_network_that_listens_is_played_without_a_shim() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("program-listening");
    let network = Listening::start(&folder);

    let authority = folder.join("ca.pem");
    let trusted = ["--role", "network", "--target", &network.address, "--server-name", NAME, "--ca"];
    let run = program("target", &[&trusted[..], &[authority.to_str().expect("UTF-8")]].concat());
    assert_eq!(run.output.status.code(), Some(0), "{}", text(&run.output.stdout));
    let report = run.json();
    assert!(count(&report, "passed") > 130, "{}", report["summary"]);
    assert!(count(&report, "skipped") > 10, "what needs other limits: {}", report["summary"]);
    assert_eq!(report["clauses"]["CMD-004"]["not_implemented"], 2, "acts without a shim");

    let anyone = ["--role", "network", "--target", &network.address, "--insecure", "--only", "streams/*parity*"];
    assert_eq!(program("insecure", &anyone).output.status.code(), Some(0));
    let stranger = ["--role", "network", "--target", &network.address, "--ca", STRANGER, "--only", "streams/*parity*"];
    let run = program("stranger", &stranger);
    assert_eq!(run.output.status.code(), Some(1), "its certificate is of nobody that is trusted");
    assert_eq!(run.json()["scenarios"][0]["step"], 0);
}

#[test]
fn a_shim_lets_a_network_listen_where_the_target_is() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let shim = reference("");
    let arguments = ["--role", "network", "--target", &free.to_string(), "--shim", &shim];
    let run = program("target-and-shim", &[&arguments[..], &["--clause", "BIND-013", "--clause", "LIM-003"]].concat());

    assert_eq!(run.output.status.code(), Some(0), "{}", text(&run.output.stdout));
    let report = run.json();
    assert!(count(&report, "passed") > 2, "{}", text(&run.output.stdout));
    assert_eq!(count(&report, "skipped") + count(&report, "not_implemented"), 0, "limits and acts are the shim's");
}

#[test]
fn what_an_application_of_its_own_refuses_is_not_implemented() {
    let only = ["--only", "session/a number is free again after REJECTED", "--only", "session/each BIND*"];
    let strict = ["--role", "network", "--shim", &format!("python3 '{PEER}' --bug refuses-binds")];
    let run = program("refused-strictly", &[&strict[..], &only].concat());
    assert_eq!(run.output.status.code(), Some(1), "{}", text(&run.output.stdout));

    let run = program("refused", &[&strict[..], &only, &["--own-application"]].concat());

    assert_eq!(run.output.status.code(), Some(0), "{}", text(&run.output.stdout));
    assert_eq!(run.json()["clauses"]["BIND-005"]["not_implemented"], 1);
}

#[test]
fn an_agent_that_never_dials_fails_and_the_program_says_so() {
    let run = program("silent", &["--role", "agent", "--shim", "true", "--only", "streams/*parity*"]);

    assert_eq!(run.output.status.code(), Some(1));
    let report = run.json();
    assert_eq!(count(&report, "failed"), 1);
    assert_eq!(report["scenarios"][0]["got"], "the shim has ended");
    assert!(
        text(&run.output.stdout).contains("failed: streams/a stream of the wrong parity"),
        "{}",
        text(&run.output.stdout)
    );
}

#[test]
fn what_a_shim_says_it_cannot_do_is_not_implemented() {
    let shim = r#"echo '{"not_implemented": "streams"}'"#;
    let run = program("unable", &["--role", "network", "--shim", shim, "--only", "streams/*parity*"]);

    assert_eq!(run.output.status.code(), Some(0));
    let report = run.json();
    assert_eq!(count(&report, "not_implemented"), 1);
    assert_eq!(report["scenarios"][0]["why"], "streams");
    assert_eq!(report["clauses"]["STREAM-001"]["not_implemented"], 1);
}

#[test]
fn what_cannot_be_played_is_a_fault_of_the_caller() {
    for arguments in [
        &["--role", "agent"] as &[&str],
        &["--role", "network"],
        &["--role", "agent", "--target", "127.0.0.1:1", "--shim", "true"],
        &["--role", "network", "--target", "127.0.0.1:1"],
        &["--role", "network", "--target", "nowhere", "--insecure"],
        &["--role", "network", "--shim", "true", "--only", "no such scenario"],
        &["--role", "network", "--shim", "true", "--clause", "NONE-001"],
        &["--role", "nobody", "--shim", "true"],
    ] {
        let run = program("usage", arguments);
        assert_eq!(run.output.status.code(), Some(2), "{arguments:?}: {}", text(&run.output.stdout));
        assert!(!run.output.stderr.is_empty(), "{arguments:?}");
    }
}

/// FRAME-013, over sockets.
#[test]
fn every_frame_in_every_state_is_a_matter_of_asking() {
    for role in ["network", "agent"] {
        let arguments = ["--role", role, "--shim", &reference(""), "--states", "--only", "states/*"];
        let run = program(&format!("states-{role}"), &arguments);
        assert_eq!(run.output.status.code(), Some(0), "{}", text(&run.output.stdout));
        assert!(count(&run.json(), "passed") > 200, "{}", run.json()["summary"]);
    }
}

/// A network that was started before the program.
struct Listening {
    child: Child,
    address: String,
}

impl Listening {
    fn start(folder: &Path) -> Self {
        let identity = Identity::issue(NAME).expect("a certificate");
        fs::create_dir_all(folder).expect("a folder");
        let write = |name: &str, content: &str| {
            fs::write(folder.join(name), content).expect("a file");
            folder.join(name)
        };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {}", reference(""))]);
        command.env("ADIT_ROLE", "network").env("ADIT_ADDRESS", "127.0.0.1:0").env("ADIT_LIMITS", "{}");
        command.env("ADIT_CERTIFICATE", write("certificate.pem", &identity.certificate));
        command.env("ADIT_KEY", write("key.pem", &identity.key));
        write("ca.pem", &identity.authority);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the shim starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let ready: Value = serde_json::from_str(&line).expect("JSON");
        Self { child, address: ready["ready"]["address"].as_str().expect("an address").to_owned() }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }
}

fn network(shim: &str) {
    let report = clean("network", shim);

    assert!(count(&report, "passed") > 150, "{}", report["summary"]);
    assert!(count(&report, "not_implemented") < 5, "{}", report["summary"]);
}

fn agent(shim: &str) {
    let report = clean("agent", shim);

    assert!(count(&report, "passed") > 25, "{}", report["summary"]);
    assert_eq!(count(&report, "not_implemented"), 0, "{}", report["summary"]);
}

/// The shim around this repository's own implementation.
fn reference(options: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_adit-conformance"));
    let file = program.with_file_name("examples").join("reference");
    assert!(file.exists(), "cargo build -p adit-conformance --all-features --examples makes {}", file.display());
    format!("'{}' {options}", file.display())
}

const NAME: &str = "network.test";
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peer/peer.py");
/// An authority that has issued nothing here.
const STRANGER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/runs/stranger.pem");
