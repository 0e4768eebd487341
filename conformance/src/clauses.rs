//! The numbered clauses of the specification.

use std::collections::BTreeMap;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// The file in `spec/` that it stands in.
    pub file: &'static str,
    /// What it says, on one line.
    pub text: String,
}

impl Clause {
    /// Returns the codes that the clause names for those who break it.
    pub fn codes(&self) -> Vec<&str> {
        let after = self.text.split("V `").skip(1).chain(self.text.split("S `").skip(1));
        after.filter_map(|rest| rest.split_once('`').map(|(code, _)| code)).collect()
    }
}

/// Returns every clause by its identifier.
///
/// # Panics
/// When an identifier is given twice: the specification is broken.
pub fn clauses() -> BTreeMap<String, Clause> {
    let mut found = BTreeMap::new();
    for (file, content) in FILES {
        for paragraph in content.split("\n\n") {
            let paragraph: String =
                paragraph.lines().skip_while(|line| line.starts_with('#')).flat_map(|line| [line, " "]).collect();
            let Some((id, text)) = paragraph.trim_start().strip_prefix("**").and_then(|rest| rest.split_once("** "))
            else {
                continue;
            };
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(is_clause(id), "{file}: {id} is no identifier");
            let before = found.insert(id.to_owned(), Clause { file, text });
            assert!(before.is_none(), "{file}: {id} is given twice");
        }
    }
    found
}

/// Returns the identifiers of clauses that `text` mentions, in order.
pub fn citations(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|word| is_clause(word)).collect()
}

/// Returns whether `word` has the form of an identifier: `FRAME-003`.
pub fn is_clause(word: &str) -> bool {
    word.split_once('-').is_some_and(|(area, number)| {
        AREAS.contains(&area) && number.len() == 3 && number.bytes().all(|octet| octet.is_ascii_digit())
    })
}

const AREAS: &[&str] = &[
    "TLS", "PRE", "FRAME", "MSG", "STREAM", "END", "CREDIT", "HB", "RES", "GO", "AUTH", "BIND", "CMD", "CRL", "ADDR",
    "LIM", "CODE", "TIME", "SEC",
];

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../spec/", $name))),)+];
    };
}

files![
    "transport.md",
    "frames.md",
    "messages.md",
    "streams.md",
    "credit.md",
    "heartbeat.md",
    "resume.md",
    "ending.md",
    "session.md",
    "limits.md",
    "security.md",
];
