//! `adit-network explain`: what was decided about a request, by its `ADIT-Request-Id`, from the access log.

use core::fmt::Write as _;
use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use adit_core::escape;
use clap::Args;
use serde_json::{Map, Value};

use super::{Failure, Output, print};
use crate::Fault;

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The id: the caller has it in the header ADIT-Request-Id of its answer, the upstream in that of the request.
    id: String,
    /// The access log, in JSON (log.access.to, or standard error with log.format: json). May be given several times.
    #[arg(long = "log", required = true)]
    logs: Vec<PathBuf>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(explain: &Explain) -> Result<(), Failure> {
    let mut found = Vec::new();
    for path in &explain.logs {
        let failed = |error| Failure { exit: 1, text: format!("{}: {error}", path.display()) };
        find(path, &explain.id, &mut found).map_err(failed)?;
    }
    if found.is_empty() {
        let detail = format!("no request {} in the logs given", escape(&explain.id));
        return Err(Failure::known(1, Fault::NotFound, &detail));
    }
    found.iter().try_for_each(|entry| match explain.output {
        Output::Json => print(&format!("{}\n", Value::Object(entry.clone()))),
        Output::Text => print(&text(entry)),
    })
}

/// Reads a log line by line; what is longer than a line can be is passed over.
fn find(path: &Path, id: &str, found: &mut Vec<Map<String, Value>>) -> std::io::Result<()> {
    let mut log = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut log).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if !line.windows(id.len().max(1)).any(|part| part == id.as_bytes()) {
            continue;
        }
        if let Ok(Value::Object(entry)) = serde_json::from_slice(&line)
            && entry.get("request_id").and_then(Value::as_str) == Some(id)
        {
            found.push(entry);
        }
    }
}

/// Tells it to a person.
fn text(entry: &Map<String, Value>) -> String {
    let word = |name: &str| match entry.get(name) {
        Some(Value::String(text)) => escape(text).to_string(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let mut told = String::new();
    let mut say = |line: &str| {
        // A `String` takes every text.
        let _ = writeln!(told, "{line}");
    };
    say(&format!("request {}: {} {} to {}", word("request_id"), word("method"), word("path"), word("endpoint")));
    say(&format!("  ended {} with {} after {} us", word("time"), word("status"), word("total_micros")));
    for name in ["account", "host", "agent", "address", "trace_id", "retries", "upstream_micros"] {
        if entry.contains_key(name) {
            say(&format!("  {name}: {}", word(name)));
        }
    }
    if let Some(Value::Bool(false)) = entry.get("whole") {
        say("  the answer was broken off");
    }
    let rules = entry.get("verdicts").and_then(Value::as_array);
    say(if rules.is_some() { "  what rules decided, in order:" } else { "  no rule had a part in it" });
    for verdict in rules.into_iter().flatten().filter_map(Value::as_str) {
        say(&format!("    {}", escape(verdict)));
    }
    if let Some(fault) = Fault::ALL.iter().find(|fault| entry.get("code").and_then(Value::as_str) == Some(fault.code()))
    {
        let about = fault.entry();
        say(&format!("  {}: {}", fault.code(), about.title));
        say(&format!("    {} To act: {}. {}", about.explanation, about.actor.word(), about.remedy));
    }
    told
}

/// Octets of a line, more than any entry has.
const MAX_LINE: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_told_with_its_rules_and_what_to_do() {
        let path = std::env::temp_dir().join(format!("adit-explain-{}.log", std::process::id()));
        let line = r#"{"message":"request","request_id":"ab12","method":"GET","endpoint":"https://a.example","status":403,"code":"ADIT-3002","verdicts":["on_http_request[0] a\u001b[31m: deny: refused with 403"],"time":"t","total_micros":5}"#;
        let log = format!(
            "not json ab12\n{{\"other\":\"ab12\"}}\n{}\n{line}\n{}\n",
            "x".repeat(200_000),
            line.replace("ab12", "ab13")
        );
        std::fs::write(&path, log).unwrap();
        let mut found = Vec::new();

        find(&path, "ab12", &mut found).unwrap();

        std::fs::remove_file(&path).unwrap();
        assert_eq!(found.len(), 1);
        let told = text(&found[0]);
        assert!(told.contains("GET  to https://a.example") && told.contains("with 403 after 5 us"), "{told}");
        assert!(told.contains("deny: refused with 403") && told.contains(Fault::NoAgent.entry().remedy), "{told}");
        assert!(!told.contains('\u{1b}'), "{told:?}");
    }
}
