//! Writes `spec/digests.json` anew: `cargo run -p adit-conformance --example renew-digests`.
//!
//! A clause whose text has changed while no test, scenario or vector that shows it has is not renewed: look at those first.
//! Where they still show what the clause says, name it: `-- --reviewed FRAME-001`.

use std::{fs, process::ExitCode};

use adit_conformance::{Digests, clauses, places, report};

fn main() -> ExitCode {
    let reviewed: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--reviewed").collect();
    let (then, now) = (Digests::load(), Digests::of(&clauses(), &places()));

    let mut unattended = then.unattended(&now);
    unattended.retain(|(id, _)| !reviewed.iter().any(|name| name == id));
    if !unattended.is_empty() {
        print!("{}", report(&unattended));
        println!("Change what shows them too, or say that it still does: --reviewed ID.");
        return ExitCode::FAILURE;
    }

    let json = serde_json::to_string_pretty(&now).expect("strings and maps");
    let written = fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/spec/digests.json"), json + "\n");
    written.expect("the folder is there");
    println!("{} clauses, {} of them changed", now.0.len(), then.changed(&now).len());
    ExitCode::SUCCESS
}
