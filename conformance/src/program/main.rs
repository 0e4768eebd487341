//! The program `adit-conformance`: scenarios against anybody's implementation.

use core::time::Duration;
use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use adit_conformance::{Side, clauses, socket::Patience};
use clap::{Parser, ValueEnum};

mod bench;
mod line;
mod play;
mod report;
mod shim;

use bench::Bench;
use report::Report;

/// Holds an implementation of the Adit protocol to its specification, over TLS.
///
/// Exits with 0 when nothing failed, 1 when something did, 2 when it could not begin.
#[derive(Debug, Parser)]
#[command(name = "adit-conformance", version)]
struct Arguments {
    /// The side that is tested
    #[arg(long)]
    role: Role,
    /// The network that is tested, where it listens already, or where the shim lets it listen
    #[arg(long, value_name = "HOST:PORT")]
    target: Option<String>,
    /// The command that runs the side that is tested, once for each scenario; see conformance/README.md
    #[arg(long, value_name = "COMMAND")]
    shim: Option<String>,
    /// The authorities that the target's certificate is checked with, in PEM [default with a shim: what the shim is given]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Take any certificate of the target
    #[arg(long)]
    insecure: bool,
    /// The name in the network's certificate [default: the host of the target]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// What is tested runs an application of its own: what that refuses or does not tell is not implemented
    #[arg(long)]
    own_application: bool,
    /// The token that the network consents to
    #[arg(long, env = "ADIT_CONFORMANCE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Play only scenarios whose FILE/WHAT matches: `*` stands for anything; may be given again
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Play only scenarios of this clause; may be given again
    #[arg(long, value_name = "ID")]
    clause: Vec<String>,
    /// Play every type of frame in every state as well: FILE is `states`
    #[arg(long)]
    states: bool,
    /// Skip scenarios in which more time passes than this many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1_500)]
    longest: u64,
    /// How many milliseconds to wait for an answer
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(10..))]
    timeout: u64,
    /// How many milliseconds without an answer are silence
    #[arg(long, value_name = "MS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..))]
    silence: u64,
    /// How many scenarios to play at once; each job is another agent, and binds other ports [default: 1 with a target, 8 with a shim]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Write a report for JUnit's readers
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a report in JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Show what the shim writes to its standard error
    #[arg(long)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Agent,
    Network,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(report) if report.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "adit-conformance: {error}"); // there is nobody else to tell
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<Report> {
    let scenarios = play::chosen(arguments.role.side(), &arguments.only, &arguments.clause, arguments.states);
    if let Some(unknown) = arguments.clause.iter().find(|id| !clauses().contains_key(*id)) {
        return Err(io::Error::other(format!("there is no clause {unknown}")));
    }
    if scenarios.is_empty() {
        return Err(io::Error::other("no scenario is like that"));
    }
    let bench = Bench::new(arguments)?;
    let own_place = arguments.shim.is_some() && arguments.target.is_none();
    let jobs = arguments.jobs.unwrap_or(if own_place { 8 } else { 1 });
    let report = Report::new(arguments.role.side(), bench.name(), play::all(&scenarios, &bench, jobs));

    write!(io::stdout(), "{}", report.table())?;
    if let Some(file) = &arguments.junit {
        fs::write(file, report.junit())?;
    }
    if let Some(file) = &arguments.json {
        fs::write(file, report.json())?;
    }
    Ok(report)
}

impl Arguments {
    const fn patience(&self) -> Patience {
        Patience { something: Duration::from_millis(self.timeout), nothing: Duration::from_millis(self.silence) }
    }
}

impl Role {
    const fn side(self) -> Side {
        match self {
            Self::Agent => Side::Agent,
            Self::Network => Side::Network,
        }
    }
}
