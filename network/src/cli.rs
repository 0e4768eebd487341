//! The command line.

mod agents;
mod authority;
mod certificates;
mod command;
mod explain;
mod policy;
mod secrets;
mod tokens;

use core::{fmt, time::Duration};
use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    config::{Config, ConfigFault},
    endpoints::Draft,
    errors::{self, Fault},
    log,
    policy::PolicyFault,
    serve::{self, ServeError},
    store::Store,
};

/// Runs the command line of the process and returns its exit code.
///
/// 0 is fine, 1 a failure while running, 2 wrong usage, 3 a configuration that is not valid; from 4 on an agent does not obey.
pub fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let done = match command {
        Command::Config(ConfigCommand::Check(ConfigFile { config })) => check(&config),
        Command::Config(ConfigCommand::Path(ConfigFile { config })) => print(&format!("{}\n", config.display())),
        Command::Errors { markdown: _ } => print(&errors::markdown()),
        Command::Serve(serve) => serve_command(&serve),
        Command::Token(token) => tokens::run(&token),
        Command::Agents(list) => agents::run(&list),
        Command::Ask(ask) => command::run(&ask),
        Command::Explain(explain) => explain::run(&explain),
        Command::Ca(ca) => authority::run(&ca),
        Command::Policy(command) => policy::run(&command),
        Command::Certificates(certificates) => certificates::run(&certificates),
        Command::Secrets(secrets) => secrets::run(&secrets),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell when standard error is gone.
            let _ = writeln!(io::stderr(), "{}", failure.text);
            ExitCode::from(failure.exit)
        }
    }
}

/// Why a command failed, and the exit code that says so.
#[derive(Debug)]
struct Failure {
    exit: u8,
    text: String,
}

impl Failure {
    /// A failure that the table of errors knows: its code, what happened, what to do.
    fn known(exit: u8, fault: Fault, detail: &dyn fmt::Display) -> Self {
        Self { exit, text: format!("{fault}: {detail}\n{}", fault.entry().remedy) }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Certificate(error) => error.into(),
            ServeError::Store(error) => error.into(),
            ServeError::Policy(_) => Self { exit: 3, text: format!("{error}\n{}", Fault::PolicyInvalid) },
            ServeError::Kept(error) => error.into(),
            ServeError::Listen { .. } => Self::known(1, Fault::ListenFailed, &error),
            ServeError::AccessLog(_) | ServeError::Tls(_) | ServeError::Io(_) => {
                Self { exit: 1, text: error.to_string() }
            }
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { exit: 1, text: error.to_string() }
    }
}

/// Serves until a signal ends it.
fn serve_command(serve: &Serve) -> Result<(), Failure> {
    let path = &serve.file.config;
    let config = load(path)?;
    let log = log::init(&config.log).map_err(|error| Failure { exit: 1, text: error.to_string() })?;
    let runtime = serve::runtime()?;
    let served = runtime.block_on(serve::run(config, path, serve.ready, log));
    runtime.shutdown_timeout(FAREWELL);
    Ok(served?)
}

/// Checks the configuration and the policies that it names, and whether what they forward to could be there.
fn check(path: &Path) -> Result<(), Failure> {
    let config = load(path)?;
    let told = |faults: Vec<PolicyFault>| {
        let lines: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
        Failure { exit: 3, text: format!("{lines}{}", Fault::PolicyInvalid) }
    };
    let draft = Draft::read(&config, None).map_err(told)?;
    let look = async { Ok(Store::look(&config.database).await?) };
    let known = if config.endpoints.is_empty() { None } else { block_on(look)? };
    let faults = draft.check(known.as_ref());
    if !faults.is_empty() {
        return Err(told(faults));
    }
    for account in draft.accounts().filter(|_| !config.endpoints.is_empty()) {
        if known.as_ref().is_some_and(|known| !known.accounts.contains_key(account)) {
            note(&format!("note: there is no account {account}; it is made when the network starts"));
        }
    }
    if known.is_none() && !config.endpoints.is_empty() {
        let database = config.database.display();
        note(&format!("note: accounts, and forwards to what agents bind, were not checked: there is no {database}"));
    }
    print(&format!("{} is valid\n", path.display()))
}

fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(|faults| {
        let line = |fault: &ConfigFault| format!("{}: {fault}\n", path.display());
        let lines: String = faults.iter().map(line).collect();
        Failure { exit: 3, text: format!("{lines}{}", Fault::ConfigInvalid) }
    })
}

/// Does something to its end, on this thread.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Says something that is no result.
fn note(text: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(io::stderr(), "{text}");
}

fn print(text: &str) -> Result<(), Failure> {
    Ok(io::stdout().write_all(text.as_bytes())?)
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
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Serve agents and callers until SIGTERM. SIGHUP reloads.
    Serve(Serve),
    /// Create, list and revoke authtokens.
    #[command(subcommand)]
    Token(tokens::TokenCommand),
    /// List the agents that are connected, a page at a time.
    Agents(agents::Agents),
    /// Ask an agent for something that its owner may refuse: to stop, to restart, to update, to serve other endpoints.
    ///
    /// Nothing is allowed by default: the agent's configuration and the policy of its owner must both say so. The exit code is 0
    /// when it obeys, 4 when its owner does not allow it, 5 when it does not know the command, 6 when it cannot, 7 when it is busy,
    /// 8 when there is no such agent, 9 when more than one is meant, 10 when the time passed before it was handed over, which
    /// it then never is, 11 when it was handed over and nobody knows what came of it, 13 when it finds a fault in the document, 12 for everything else.
    #[command(name = "command")]
    Ask(command::Ask),
    /// Make a private CA, and issue certificates with it.
    #[command(subcommand)]
    Ca(authority::CaCommand),
    /// Check policies, and evaluate them for a request.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Put certificates of your own into the database, list and remove them.
    #[command(subcommand)]
    Certificates(certificates::CertificatesCommand),
    /// Make and change the key of what is encrypted in the database.
    #[command(subcommand)]
    Secrets(secrets::SecretsCommand),
    /// Say what was decided about a request, by its ADIT-Request-Id.
    Explain(explain::Explain),
    /// Print the table of errors.
    Errors {
        /// As the page of the documentation.
        #[arg(long, required = true)]
        markdown: bool,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say what is wrong with it, at which line and key.
    Check(ConfigFile),
    /// Print the path that is read.
    Path(ConfigFile),
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON line with the addresses on standard output once everything listens.
    #[arg(long)]
    ready: bool,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For a person.
    #[default]
    Text,
    /// One JSON value.
    Json,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    file: ConfigFile,
    /// How they are printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(long, env = "ADIT_NETWORK_CONFIG", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

/// What tasks that do not end get before the process does.
const FAREWELL: Duration = Duration::from_millis(200);
const DEFAULT_CONFIG: &str = "/etc/adit/network.yml";
