//! Every input that was ever worth keeping is run again, on any machine, without a fuzzer.

use std::{fs, path::Path};

use adit_fuzz::TARGETS;

#[test]
fn what_the_fuzzers_found_stays_lawful() {
    for (name, law) in TARGETS {
        for input in inputs("corpus", name).into_iter().chain(inputs("regressions", name)) {
            let octets = fs::read(&input).expect("readable");
            println!("{}", input.display()); // the last one that a failure shows is the culprit
            law(&octets);
        }
    }
}

#[test]
fn every_target_has_a_corpus_and_a_fuzzer() {
    let manifest = fs::read_to_string(root().join("targets/Cargo.toml")).expect("readable");
    for (name, _) in TARGETS {
        assert!(!inputs("corpus", name).is_empty(), "{name} has no corpus");
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"{name}.rs\"\n")), "{name} has no fuzzer");
        assert!(root().join(format!("targets/{name}.rs")).is_file(), "{name} has no fuzzer");
    }
    for kind in ["corpus", "regressions"] {
        for directory in fs::read_dir(root().join(kind)).expect("readable").map(|entry| entry.expect("readable")) {
            let name = directory.file_name();
            assert!(TARGETS.iter().any(|(target, _)| **target == *name), "{name:?} has no target");
        }
    }
}

#[test]
fn the_corpus_is_small() {
    let size: u64 = TARGETS
        .iter()
        .flat_map(|(name, _)| inputs("corpus", name))
        .map(|input| fs::metadata(input).expect("readable").len())
        .sum();

    assert!(size < 1 << 20, "{size} octets");
}

fn inputs(kind: &str, target: &str) -> Vec<std::path::PathBuf> {
    let Ok(directory) = fs::read_dir(root().join(kind).join(target)) else { return Vec::new() };
    let mut inputs: Vec<_> = directory.map(|entry| entry.expect("readable").path()).collect();
    inputs.sort();
    inputs
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
