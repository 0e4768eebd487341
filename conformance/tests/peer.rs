//! The independent peer: without a fault nothing fails, and each of its faults is caught by the clauses that it breaks.

mod runs;

use core::sync::atomic::{AtomicUsize, Ordering};
use std::{collections::BTreeMap, fs, path::Path, thread};

use runs::{clean, count, program, text};
use serde::Deserialize;
use serde_json::Value;

#[test]
fn the_peer_as_a_network_fails_nothing() {
    let report = clean("network", &peer(""));

    assert!(count(&report, "passed") > 150, "{}", report["summary"]);
    assert!(count(&report, "not_implemented") < 5, "{}", report["summary"]);
}

#[test]
fn the_peer_as_an_agent_fails_nothing() {
    let report = clean("agent", &peer(""));

    assert!(count(&report, "passed") > 25, "{}", report["summary"]);
    assert_eq!(count(&report, "not_implemented"), 0, "{}", report["summary"]);
}

#[test]
fn resumption_that_is_not_offered_is_not_implemented_and_nothing_fails() {
    for role in ["network", "agent"] {
        let arguments = ["--role", role, "--shim", &peer("--without-resumption"), "--only", "resume/*"];
        let run = program(&format!("unresumed-{role}"), &arguments);
        assert_eq!(run.output.status.code(), Some(0), "{}", text(&run.output.stdout));
        let report = run.json();
        assert!(count(&report, "not_implemented") > 5, "{}", report["summary"]);
        assert_eq!(report["clauses"]["RES-005"]["passed"], 0);
    }
}

#[test]
fn what_only_should_be_is_not_implemented_without_it() {
    let arguments =
        ["--role", "network", "--shim", &peer("--without-hints"), "--only", "credit/*", "--longest", "6000"];
    let run = program("unhinted", &arguments);
    assert_eq!(run.output.status.code(), Some(0), "{}", text(&run.output.stdout));
    let report = run.json();
    assert_eq!(report["clauses"]["CREDIT-010"]["not_implemented"], 1);
    assert_eq!(report["clauses"]["CREDIT-012"]["not_implemented"], 0);
}

#[test]
fn each_fault_is_caught_by_a_clause_that_it_breaks() {
    catch(0);
}

#[test]
fn each_fault_is_caught_by_a_clause_that_it_breaks_second_quarter() {
    catch(1);
}

#[test]
fn each_fault_is_caught_by_a_clause_that_it_breaks_third_quarter() {
    catch(2);
}

#[test]
fn each_fault_is_caught_by_a_clause_that_it_breaks_fourth_quarter() {
    catch(3);
}

#[test]
fn every_fault_of_the_peer_is_listed() {
    let mut found = BTreeMap::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peer/adit");
    for file in fs::read_dir(folder).expect("the folder is there").flatten().map(|entry| entry.path()) {
        if file.extension().is_some_and(|extension| extension == "py") {
            let code = fs::read_to_string(&file).expect("readable");
            let names = code.split("bug(\"").skip(1).filter_map(|rest| rest.split_once('"'));
            found.extend(names.map(|(name, _)| (name.to_owned(), ())));
        }
    }
    assert!(found.keys().eq(bugs().keys()), "{:?}\n{:?}", found.keys(), bugs().keys());
    assert!(found.len() >= 15);
}

/// Switches on every fourth fault, one after the other.
fn catch(from: usize) {
    let bugs: Vec<(String, Bug)> = bugs().into_iter().skip(from).step_by(4).collect();
    let next = AtomicUsize::new(0);
    let uncaught: Vec<String> = thread::scope(|scope| {
        let worker = || {
            let mine = core::iter::from_fn(|| bugs.get(next.fetch_add(1, Ordering::Relaxed)));
            mine.filter_map(|(name, bug)| escape(name, bug)).collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    });
    assert!(uncaught.is_empty(), "{} of {} were not caught:\n{}", uncaught.len(), bugs.len(), uncaught.join("\n"));
}

/// A fault that can be switched on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bug {
    /// The side that has it.
    role: String,
    /// The clauses that it breaks.
    clauses: Vec<String>,
}

/// Returns how a fault escaped, if it did.
fn escape(name: &str, bug: &Bug) -> Option<String> {
    let shim = peer(&format!("--bug {name}"));
    let mut arguments = vec!["--role", &bug.role, "--shim", &shim, "--timeout", "1500", "--longest", "10500"];
    bug.clauses.iter().for_each(|id| arguments.extend(["--clause", id]));
    let run = program(&format!("bug-{name}"), &arguments);
    let report = run.json();
    let failed = report["scenarios"].as_array().into_iter().flatten().filter(|one| one["verdict"] == "failed");
    let mut named = failed.filter_map(|scenario| scenario["clauses"].as_array()).flatten().filter_map(Value::as_str);
    let caught = run.output.status.code() == Some(1) && named.any(|id| bug.clauses.iter().any(|clause| clause == id));
    (!caught).then(|| format!("{name} {:?}: {}", bug.clauses, report["summary"]))
}

fn bugs() -> BTreeMap<String, Bug> {
    serde_json::from_str(include_str!("../peer/bugs.json")).expect("bugs.json is well formed")
}

fn peer(options: &str) -> String {
    format!("python3 '{}/peer/peer.py' {options}", env!("CARGO_MANIFEST_DIR"))
}

const WORKERS: usize = 3;
