//! The command line.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::errors;

/// Runs the command line of the process and returns its exit code.
pub fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let done = match command {
        Command::Errors { markdown: _ } => io::stdout().write_all(errors::markdown().as_bytes()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The edge server of Adit.
#[derive(Debug, Parser)]
#[command(name = "adit-network", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the table of errors.
    Errors {
        /// As the page of the documentation.
        #[arg(long, required = true)]
        markdown: bool,
    },
}
