//! The file of a policy.

use core::fmt;
use std::path::{Path, PathBuf};

use adit_policy::{
    actions::Action,
    document::{Document, MAX_OCTETS},
    environment::Phase,
};

use crate::bounded;

/// What is wrong with the file of a policy: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFault {
    /// The file.
    pub file: PathBuf,
    /// The line, from one; zero when the whole is meant.
    pub line: u64,
    /// The column, from one; zero when the whole is meant.
    pub column: u64,
    /// The key, as `on_http_request[0].actions[1].type`; empty when the whole is meant.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl PolicyFault {
    /// A fault of the whole file.
    pub fn whole(file: &Path, problem: String, remedy: &str) -> Self {
        let key = String::new();
        Self { file: file.to_owned(), line: 0, column: 0, key, problem, remedy: remedy.to_owned() }
    }
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line != 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        let colon = if self.key.is_empty() { "" } else { ": " };
        write!(f, " {}{colon}{}. {}", self.key, self.problem, self.remedy)
    }
}

impl core::error::Error for PolicyFault {}

/// Reads the file of a policy, and returns its text as well.
///
/// # Errors
/// All that is wrong with it.
pub fn load(path: &Path) -> Result<(String, Document), Vec<PolicyFault>> {
    let (text, mode) = read(path).map_err(|fault| vec![fault])?;
    match Document::parse(&text) {
        Ok(document) if mode & 0o037 != 0 && holds_key(&document) => {
            let problem = "it holds a private key, and others may read or change it".to_owned();
            Err(vec![PolicyFault::whole(path, problem, "Run chmod 600 on it")]) // V46
        }
        Ok(document) => Ok((text, document)),
        Err(problems) => Err(problems
            .into_iter()
            .map(|problem| PolicyFault {
                file: path.to_owned(),
                line: problem.line,
                column: problem.column,
                key: problem.key,
                problem: problem.what,
                remedy: problem.remedy,
            })
            .collect()),
    }
}

/// Returns whether there is a key in a policy: then its file is as secret as that of a key.
fn holds_key(document: &Document) -> bool {
    let actions = document.rules(Phase::TcpConnect).iter().flat_map(|rule| &rule.actions);
    actions.into_iter().any(|action| matches!(action, Action::TerminateTls(way) if way.identity.is_some()))
}

fn read(path: &Path) -> Result<(String, u32), PolicyFault> {
    let failed = |error: std::io::Error| {
        PolicyFault::whole(path, format!("cannot be read: {error}"), "Check the file and its rights")
    };
    let contents = bounded::read(path, MAX_OCTETS).map_err(failed)?;
    if contents.mode & 0o002 != 0 {
        return Err(PolicyFault::whole(path, "everybody may write it".to_owned(), "Run chmod o-w on it")); // V46
    }
    let mode = contents.mode;
    Ok((contents.text().map_err(failed)?, mode))
}
