//! Runs of the program `adit-conformance`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// One run of the program.
pub(crate) struct Run {
    pub(crate) output: Output,
    folder: PathBuf,
}

impl Run {
    pub(crate) fn json(&self) -> Value {
        let file = fs::read_to_string(self.folder.join("report.json"));
        let file = file.unwrap_or_else(|error| panic!("{error}: {}", text(&self.output.stderr)));
        serde_json::from_str(&file).expect("a report in JSON")
    }
}

/// Plays all scenarios with a shim that has no fault, and returns the report.
pub(crate) fn clean(role: &str, shim: &str) -> Value {
    // What is due comes as soon as it can: nobody waits for long where the machine is not busy.
    let arguments = ["--role", role, "--shim", shim, "--timeout", "20000"];
    let run = program(&format!("clean-{role}-{}", shim.len()), &arguments);
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

pub(crate) fn program(name: &str, arguments: &[&str]) -> Run {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("program-{name}"));
    fs::create_dir_all(&folder).expect("a folder");
    let (json, junit) = (folder.join("report.json"), folder.join("report.xml"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit-conformance"));
    let output = command.args(arguments).arg("--json").arg(&json).arg("--junit").arg(&junit).output();
    Run { output: output.expect("the program is there"), folder }
}

pub(crate) fn count(report: &Value, verdict: &str) -> u64 {
    report["summary"][verdict].as_u64().expect("a number")
}

pub(crate) fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
