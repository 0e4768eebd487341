//! Who cites a clause: the code that enforces it, and the tests, scenarios and vectors that show it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::citations;

/// One place that cites clauses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name: `core/tests/rules.rs: a_rule_holds`, or `conformance/scenarios/credit.json: what is shown`.
    pub name: String,
    /// The clauses, each once, in order.
    pub clauses: Vec<String>,
    /// What stands there.
    pub text: String,
    /// Whether it shows the clauses, or enforces them.
    pub role: PlaceRole,
}

/// What a place is to the clauses that it cites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceRole {
    /// Code of the product.
    Code,
    /// A test in the tree.
    Test,
    /// A scenario or a vector.
    Case,
}

/// Returns every place in the tree that cites a clause.
///
/// # Panics
/// When a file of the tree cannot be read.
pub fn places() -> Vec<Place> {
    let mut found = Vec::new();
    for folder in ["conformance/scenarios", "conformance/vectors"] {
        for file in files(&root().join(folder), &["json"]) {
            cases(&name(&file), &read(&file), &mut found);
        }
    }
    for member in members() {
        for file in files(&root().join(&member), &["rs", "py"]) {
            code(&name(&file), &read(&file), member != "conformance", &mut found);
        }
    }
    found.retain(|place| !place.clauses.is_empty());
    found
}

/// Returns the folders that the tree's code is in: every crate of the workspace, and the tests of the programs.
///
/// # Panics
/// When the workspace does not list its crates on one line.
pub fn members() -> Vec<String> {
    let manifest = read(&root().join("Cargo.toml"));
    let list =
        manifest.lines().find_map(|line| line.strip_prefix("members = [")).expect("the workspace lists its crates");
    let mut found: Vec<String> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    found.push("tests".to_owned());
    found
}

/// Takes each function of a file for a place.
fn code(file: &str, text: &str, is_product: bool, found: &mut Vec<Place>) {
    let mut tests = file.ends_with("tests.rs") || file.split('/').any(|part| part == "tests");
    let lines: Vec<&str> = text.lines().collect();
    let mut start = 0;
    let mut item = String::new();
    for end in 0..=lines.len() {
        let named = lines.get(end).map_or(Some(""), |line| function(line));
        let Some(next) = named else { continue };
        let above = lines.get(start..end).unwrap_or_default().iter().rev().take_while(|line| belongs_to_next(line));
        let next_start = if end < lines.len() { end - above.count().min(end - start) } else { end };
        let body = lines.get(start..next_start).unwrap_or_default();
        let (of_code, of_test) =
            body.split_at(body.iter().position(|line| *line == "mod tests {").unwrap_or(body.len()));
        for (part, role) in [(of_code, tests), (of_test, true)] {
            let cited = |line: &&&str| role || line.contains("spec: ");
            let cites: String = part.iter().filter(cited).flat_map(|line| [line, "\n"]).collect();
            let role = if role { PlaceRole::Test } else { PlaceRole::Code };
            if role == PlaceRole::Test || is_product {
                found.push(Place {
                    name: format!("{file}: {item}"),
                    clauses: owned(&cites),
                    text: part.join("\n"),
                    role,
                });
            }
        }
        tests |= !of_test.is_empty();
        next.clone_into(&mut item);
        start = next_start;
    }
}

/// Takes each object of a list, or of the lists in an object, for a place.
fn cases(file: &str, text: &str, found: &mut Vec<Place>) {
    let json: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let lists: Vec<&Value> = json.as_object().map_or_else(|| vec![&json], |map| map.values().collect());
    for case in lists.into_iter().filter_map(Value::as_array).flatten() {
        let what = case.get("what").and_then(Value::as_str).unwrap_or_default();
        let message = case.get("message").and_then(Value::as_str).map(|message| format!("{message}, "));
        let cited = [case.get("clause"), case.get("clauses")].into_iter().flatten().map(Value::to_string);
        found.push(Place {
            name: format!("{file}: {}{what}", message.unwrap_or_default()),
            clauses: owned(&cited.collect::<String>()),
            text: case.to_string(),
            role: PlaceRole::Case,
        });
    }
}

/// Returns the name of the function that begins on a line of Rust or Python.
fn function(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "fn" | "def" => return words.next()?.split(['(', '<']).next(),
            "pub" | "async" | "const" | "pub(crate)" | "pub(super)" => {}
            _ => return None,
        }
    }
    None
}

fn belongs_to_next(line: &str) -> bool {
    let line = line.trim_start();
    ["//", "#[", "@", "# "].iter().any(|mark| line.starts_with(mark))
}

fn owned(text: &str) -> Vec<String> {
    let mut found: Vec<String> = citations(text).into_iter().map(str::to_owned).collect();
    found.sort();
    found.dedup();
    found
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

fn name(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_a_place_with_what_stands_above_it() {
        let text = "\
//! Of FRAME-001.
fn one() {
    two(); // spec: FRAME-002
}

/// See FRAME-003; the next line counts.
// spec: FRAME-004
#[must_use]
pub(crate) const fn two() {}

#[cfg(test)]
mod tests {
    /// FRAME-005
    #[test]
    fn three() {}
}
";
        let mut found = Vec::new();
        code("core/src/x.rs", text, true, &mut found);
        found.retain(|place| !place.clauses.is_empty());
        let found: Vec<_> =
            found.iter().map(|place| (place.name.as_str(), place.clauses.join(" "), place.role)).collect();

        assert_eq!(
            found,
            [
                ("core/src/x.rs: one", "FRAME-002".to_owned(), PlaceRole::Code),
                ("core/src/x.rs: two", "FRAME-004".to_owned(), PlaceRole::Code),
                ("core/src/x.rs: three", "FRAME-005".to_owned(), PlaceRole::Test),
            ]
        );
    }
}
