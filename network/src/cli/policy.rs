//! `adit-network policy`: looks at policies without a network.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use adit_policy::{document::Document, engine::Policy};
use clap::{Args, Subcommand};

use super::{Failure, Output, block_on, print};
use crate::{
    Fault, bounded,
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
    let octets = if test.request.as_os_str() == "-" {
        bounded::take(std::io::stdin(), MAX_SCENE)
    } else {
        bounded::read(&test.request, MAX_SCENE).map(|contents| contents.octets)
    };
    let wrong = |problem: String| Failure { exit: 2, text: format!("{}: {problem}", test.request.display()) };
    let octets = octets.map_err(|error| wrong(error.to_string()))?;
    let scene: Scene = serde_json::from_slice(&octets).map_err(|error| wrong(error.to_string()))?;
    let shown = block_on(async { show(&policy, &scene).await.map_err(wrong) })?;
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
const MAX_SCENE: usize = 16 << 20;
