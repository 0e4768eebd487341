//! `adit-network policy`: looks at policies without a network.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use adit_policy::{document::Document, engine::Policy};
use clap::{Args, Subcommand};

use super::{Failure, Output, print};
use crate::{
    Fault,
    policy::{PolicyFault, Scene, load, show},
};

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Say what is wrong with a policy, at which line and column.
    Check(Check),
    /// Evaluate a policy for a request: exit code 0 when it is served, 1 when it is refused.
    Test(Test),
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The policy, YAML or JSON.
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Test {
    /// The policy, YAML or JSON.
    file: PathBuf,
    /// The request as JSON, as docs/operations.md says; `-` reads standard input.
    #[arg(long)]
    request: PathBuf,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs one of them.
pub(super) fn run(command: &PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Check(Check { file }) => {
            read(file)?;
            print(&format!("{} is valid\n", file.display()))
        }
        PolicyCommand::Test(test) => evaluate(test),
    }
}

fn evaluate(test: &Test) -> Result<(), Failure> {
    let policy = Arc::new(Policy::new(read(&test.file)?));
    let text = if test.request.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().take(MAX_SCENE).read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(&test.request)
    };
    let wrong = |problem: String| Failure { exit: 2, text: format!("{}: {problem}", test.request.display()) };
    let text = text.map_err(|error| wrong(error.to_string()))?;
    let scene: Scene = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shown = runtime.block_on(show(&policy, &scene)).map_err(wrong)?;
    match test.output {
        Output::Text => print(&shown.text())?,
        Output::Json => {
            let json = serde_json::to_string_pretty(&shown).map_err(|error| wrong(error.to_string()))?;
            print(&format!("{json}\n"))?;
        }
    }
    if shown.is_served() { Ok(()) } else { Err(Failure { exit: 1, text: "the policy refuses the request".to_owned() }) }
}

fn read(file: &Path) -> Result<Document, Failure> {
    load(file).map(|(_, document)| document).map_err(|faults| {
        let lines: String = faults.iter().map(|fault: &PolicyFault| format!("{fault}\n")).collect();
        Failure { exit: 2, text: format!("{lines}{}", Fault::PolicyInvalid) }
    })
}

/// The longest request, in octets.
const MAX_SCENE: u64 = 16 << 20;
