//! The program `adit-conformance` against implementations that it starts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

#[test]
fn the_reference_network_fails_nothing() {
    let report = clean("network", &reference());

    assert!(count(&report, "passed") > 100, "{}", report["summary"]);
    assert!(count(&report, "not_implemented") < 5, "{}", report["summary"]);
}

#[test]
fn the_reference_agent_fails_nothing() {
    let report = clean("agent", &reference());

    assert!(count(&report, "passed") > 15, "{}", report["summary"]);
    assert_eq!(count(&report, "not_implemented"), 0, "{}", report["summary"]);
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

/// One run of the program.
struct Run {
    output: Output,
    folder: PathBuf,
}

impl Run {
    fn json(&self) -> Value {
        let file = fs::read_to_string(self.folder.join("report.json"));
        let file = file.unwrap_or_else(|error| panic!("{error}: {}", text(&self.output.stderr)));
        serde_json::from_str(&file).expect("a report in JSON")
    }
}

/// Plays all scenarios with a shim that has no fault, and returns the report.
fn clean(role: &str, shim: &str) -> Value {
    let run = program(&format!("clean-{role}-{}", shim.len()), &["--role", role, "--shim", shim]);
    assert_eq!(run.output.status.code(), Some(0), "{}", text(&run.output.stdout));
    let report = run.json();
    assert_eq!(count(&report, "failed"), 0);
    assert_eq!(report["role"], role);
    same_in_junit(&report, &run.folder.join("report.xml"));
    report
}

/// What stands in the report for JUnit's readers, as one of them reads it.
fn same_in_junit(report: &Value, file: &Path) {
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/junit.py");
    let output = Command::new("python3").arg(reader).arg(file).output().expect("python3 is there");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(read["failed"], report["summary"]["failed"]);
    assert_eq!(read["passed"], report["summary"]["passed"]);
    assert_eq!(read["skipped"], count(report, "skipped") + count(report, "not_implemented"));
}

fn program(name: &str, arguments: &[&str]) -> Run {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("program-{name}"));
    fs::create_dir_all(&folder).expect("a folder");
    let (json, junit) = (folder.join("report.json"), folder.join("report.xml"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit-conformance"));
    let output = command.args(arguments).arg("--json").arg(&json).arg("--junit").arg(&junit).output();
    Run { output: output.expect("the program is there"), folder }
}

/// The shim around this repository's own implementation.
fn reference() -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_adit-conformance"));
    let file = program.with_file_name("examples").join("reference");
    assert!(file.exists(), "cargo build -p adit-conformance --all-features --examples makes {}", file.display());
    format!("'{}'", file.display())
}

fn count(report: &Value, verdict: &str) -> u64 {
    report["summary"][verdict].as_u64().expect("a number")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
