//! Clauses, the code that cites them, and what tests them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use adit_conformance::{Digests, Place, PlaceRole, citations, clauses, is_clause, members, places, report};
use adit_core::Violation;
use serde_json::Value;

#[test]
fn every_clause_that_is_cited_exists() {
    let clauses = clauses();
    for Place { name, clauses: cited, .. } in places() {
        cited.iter().for_each(|id| assert!(clauses.contains_key(id), "{name}: there is no {id}"));
    }
    for file in files("conformance/spec", &["md", "proto"]) {
        citations(&file)
            .iter()
            .for_each(|id| assert!(clauses.contains_key(*id), "the specification: there is no {id}"));
    }
}

#[test]
fn a_citation_in_the_code_has_the_form_of_a_clause() {
    for member in members().iter().filter(|member| *member != "conformance") {
        for file in files(&format!("{member}/src"), &["rs"]) {
            for line in file.lines().filter(|line| line.contains("// spec: ")) {
                let cited = line.split("// spec: ").nth(1).and_then(|rest| rest.split([' ', ',']).next());
                assert!(cited.is_some_and(is_clause), "{member}: {line}");
            }
        }
    }
}

#[test]
fn every_violation_is_raised_somewhere() {
    let core: String = files("core/src", &["rs"]).into_iter().filter(|file| !file.contains("violations! {")).collect();
    for violation in Violation::ALL {
        assert!(core.contains(&format!("Violation::{violation:?}")), "{violation:?} is never raised");
    }
}

#[test]
fn what_must_be_has_an_identifier() {
    for file in files("conformance/spec", &["md"]).iter().filter(|file| !file.contains("RFC 2119")) {
        for paragraph in file.split("\n\n") {
            let text = paragraph.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
            let id = text.strip_prefix("**").and_then(|rest| rest.split("**").next());
            let must = ["MUST", "SHOULD", " MAY "].iter().find(|word| paragraph.contains(**word));
            assert!(must.is_none() || id.is_some_and(is_clause), "{paragraph}");
        }
    }
}

/// A clause that no code cites stands in `uncited.json` with the reason: it binds who writes an application, or says what
/// words mean.
#[test]
fn every_clause_is_cited_by_code_or_listed_with_a_reason() {
    let listed = list("conformance/uncited.json");
    let cited = cited_by(&[PlaceRole::Code]);

    for id in clauses().keys() {
        assert!(cited.contains(id) || listed.contains_key(id), "no code cites {id}, and uncited.json does not say why");
        assert!(!(cited.contains(id) && listed.contains_key(id)), "code cites {id}: take it off uncited.json");
    }
    listed.keys().for_each(|id| assert!(clauses().contains_key(id), "uncited.json: there is no {id}"));
}

/// A clause that nothing shows stands in `open.json` with the reason; one that a test, scenario or vector shows does not.
#[test]
fn every_clause_is_tested_or_listed_as_open() {
    let open = list("conformance/open.json");
    let shown = cited_by(&[PlaceRole::Test, PlaceRole::Case]);

    for id in clauses().keys() {
        assert!(shown.contains(id) || open.contains_key(id), "nothing tests {id}, and open.json does not say so");
        assert!(!(shown.contains(id) && open.contains_key(id)), "{id} is tested: take it off open.json");
    }
    open.keys().for_each(|id| assert!(clauses().contains_key(id), "open.json: there is no {id}"));
}

/// A clause that no fault breaks stands in `unbroken.json` with the reason.
#[test]
fn every_clause_is_broken_on_purpose_or_listed_with_a_reason() {
    let faults = fs::read_to_string(root().join("conformance/breakages/breakages.json")).expect("readable");
    let faults: Vec<Value> = serde_json::from_str(&faults).expect("breakages.json is well formed");
    let broken: BTreeSet<&str> = faults.iter().filter_map(|fault| fault["clause"].as_str()).collect();
    for fault in &faults {
        let (file, old) = (fault["file"].as_str().unwrap_or_default(), fault["old"].as_str().unwrap_or_default());
        let code = fs::read_to_string(root().join(file)).unwrap_or_default();
        assert_eq!(code.matches(old).count(), 1, "{}: its text does not stand once in {file}: {old}", fault["clause"]);
    }
    let unbroken = list("conformance/breakages/unbroken.json");

    for id in clauses().keys() {
        let (broken, listed) = (broken.contains(id.as_str()), unbroken.contains_key(id));
        assert!(broken || listed, "no fault breaks {id}, and unbroken.json does not say why");
        assert!(!(broken && listed), "a fault breaks {id}: take it off unbroken.json");
    }
    let named = broken.into_iter().chain(unbroken.keys().map(String::as_str));
    named.for_each(|id| assert!(clauses().contains_key(id), "breakages: there is no {id}"));
}

/// The text of a clause and what shows it change together, or somebody has looked at both.
#[test]
fn every_clause_says_what_it_said_when_its_tests_were_looked_at() {
    let now = Digests::of(&clauses(), &places());
    let then = Digests::load();

    let changed = report(&then.changed(&now));
    assert!(changed.is_empty(), "{changed}Then: cargo run -p adit-conformance --example renew-digests");
    for id in then.0.keys() {
        assert!(now.0.contains_key(id), "digests.json: there is no {id}: a number that is given up is not used again");
    }
}

fn cited_by(roles: &[PlaceRole]) -> BTreeSet<String> {
    places().into_iter().filter(|place| roles.contains(&place.role)).flat_map(|place| place.clauses).collect()
}

fn list(file: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join(file)).expect("readable");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The contents of all files in a folder.
fn files(folder: &str, extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)) {
                found.push(fs::read_to_string(&path).expect("readable"));
            }
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
