//! Clauses, the code that cites them, and what tests them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use adit_conformance::{FrameVectors, MessageVectors, citations, clauses};
use adit_core::Violation;

#[test]
fn every_clause_that_code_or_specification_cites_exists() {
    let clauses = clauses();
    let cited = sources().into_iter().chain(files(&root().join("conformance/spec"), &["md", "proto"]));
    for file in cited {
        for id in citations(&read(&file)) {
            assert!(clauses.contains_key(id), "{}: there is no {id}", file.display());
        }
    }
}

#[test]
fn every_clause_that_a_vector_names_exists() {
    let clauses = clauses();
    for id in in_vectors() {
        assert!(clauses.contains_key(&id), "{id}");
    }
}

#[test]
fn every_violation_is_raised_somewhere() {
    let core: String = files(&root().join("core/src"), &["rs"])
        .iter()
        .filter(|file| !file.ends_with("code.rs") && !file.ends_with("tests.rs"))
        .map(|file| read(file))
        .collect();
    for violation in Violation::ALL {
        assert!(core.contains(&format!("Violation::{violation:?}")), "{violation:?} is never raised");
    }
}

/// A clause that nothing tests stands in `open.json` with the reason; one that a vector or scenario tests does not.
#[test]
fn every_clause_is_tested_or_listed_as_open() {
    let open: BTreeMap<String, String> =
        serde_json::from_str(&read(&root().join("conformance/open.json"))).expect("open.json is well formed");
    let shown: BTreeSet<String> = in_vectors().into_iter().chain(in_scenarios()).collect();
    let tests = sources().into_iter().filter(|file| is_test(file));
    let mentioned: BTreeSet<String> = tests.flat_map(|file| owned(&read(&file))).chain(shown.clone()).collect();

    for id in clauses().keys() {
        assert!(mentioned.contains(id) || open.contains_key(id), "nothing tests {id}, and open.json does not say so");
        assert!(!(shown.contains(id) && open.contains_key(id)), "{id} is tested: take it off open.json");
    }
    for id in open.keys() {
        assert!(clauses().contains_key(id), "open.json: there is no {id}");
    }
}

fn in_vectors() -> Vec<String> {
    let (frames, messages) = (FrameVectors::load(), MessageVectors::load());
    let mut found: Vec<String> = frames.valid.into_iter().flat_map(|vector| vector.clauses).collect();
    found.extend(frames.invalid.into_iter().map(|vector| vector.clause));
    found.extend(messages.valid.into_iter().flat_map(|vector| vector.clauses));
    found.extend(messages.invalid.into_iter().map(|vector| vector.clause));
    found
}

fn in_scenarios() -> Vec<String> {
    files(&root().join("conformance/scenarios"), &["json"]).iter().flat_map(|file| owned(&read(file))).collect()
}

fn owned(text: &str) -> Vec<String> {
    citations(text).into_iter().map(str::to_owned).collect()
}

/// The code of the workspace.
fn sources() -> Vec<PathBuf> {
    let crates = ["core", "runtime-tokio", "network", "agent", "benches", "tests"];
    crates.iter().flat_map(|name| files(&root().join(name), &["rs", "py"])).collect()
}

fn is_test(file: &Path) -> bool {
    file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests")
}

fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, extensions));
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
