//! The program `adit-conformance` against implementations that it starts.

mod runs;

use std::path::Path;

use runs::{clean, count, program, text};

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
