//! The command line.

mod arguments;
mod audit;
mod certificate;
mod client;
mod configuration;
mod diagnose;
mod explain;
mod freeze;
mod import;
mod manual;
mod policy;
mod prove;
mod remote;
mod requests;
mod run;
mod service;
mod status;
mod update;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser as _;
use rustls::crypto::CryptoProvider;

use crate::{
    errors::{Actor, Error, Exit, Fault},
    schema,
};

use arguments::{Arguments, Command, ConfigCommand, Output};

/// Runs the command line of the process and returns its exit code, see [`Exit`]. Cryptography is `provider`'s.
pub fn main(provider: &Arc<CryptoProvider>) -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print(); // nobody is left to tell when the outputs are gone
            return if error.exit_code() == 0 { exit(Exit::Fine) } else { exit(Exit::Usage) };
        }
    };
    let Arguments { global, command } = arguments;
    let done = match command {
        Command::Http(one) => run::one(&global, crate::config::Kind::Http, &one, provider),
        Command::Tcp(one) => run::one(&global, crate::config::Kind::Tcp, &one, provider),
        Command::Tls(one) => run::one(&global, crate::config::Kind::Tls, &one, provider),
        Command::Start(start) => run::start(&global, &start, provider),
        Command::Certificate(command) => certificate::run(&global, &command, provider),
        Command::Config(ConfigCommand::Check(output)) => configuration::check(&global, output.output, provider),
        Command::Config(ConfigCommand::AddAuthtoken) => configuration::add_authtoken(&global),
        Command::Config(ConfigCommand::Path(output)) => configuration::path(&global, output.output),
        Command::Config(ConfigCommand::Import(wanted)) => import::run(&global, &wanted),
        Command::Config(ConfigCommand::Endpoints(output)) => configuration::endpoints(&global, output.output),
        Command::Config(ConfigCommand::Remote(command)) => remote::run(&global, &command, provider),
        Command::Config(ConfigCommand::Schema(schema)) => {
            print(schema::text(schema.of == "policy")).map(|()| Exit::Fine)
        }
        Command::Diagnose(asked) => diagnose::diagnose(&global, &asked, provider),
        Command::Firewall(asked) => diagnose::firewall(&global, &asked, provider),
        Command::Explain(explain) => explain::explain(&global, &explain, provider),
        Command::Service(command) => service::run(&global, command, provider),
        Command::Status(asked) => status::status(&global, &asked, provider),
        Command::Logs(asked) => status::logs(&global, &asked, provider),
        Command::Requests(command) => requests::run(&global, &command, provider),
        Command::Audit(command) => audit::run(&global, &command, provider),
        Command::Prove(asked) => prove::prove(&global, &asked, provider),
        Command::Freeze(wanted) => freeze::freeze(&global, &wanted, provider),
        Command::Thaw(asked) => freeze::thaw(&global, &asked, provider),
        Command::Update(wanted) => update::run(&global, &wanted, provider),
        Command::Probe(wanted) => update::probe(&global, &wanted, provider),
        Command::Completions(wanted) => print(&manual::completions(wanted.shell)).map(|()| Exit::Fine),
        Command::Man(wanted) => manual::pages(wanted.out.as_deref()),
        Command::Errors(output) => errors(output.output),
        Command::Version(output) => version(output.output),
    };
    match done {
        Ok(code) => exit(code),
        Err(failure) => {
            let _ = writeln!(io::stderr(), "{}", failure.text); // as above
            exit(failure.exit)
        }
    }
}

fn exit(code: Exit) -> ExitCode {
    ExitCode::from(code as u8)
}

/// Why a command failed, and the exit code that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    fn usage(text: &str) -> Self {
        Self { exit: Exit::Usage, text: format!("error: {text}\n\nFor more information, try '--help'.") }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let entry = error.fault.entry();
        Self { exit: entry.exit, text: format!("{error}\n{}", entry.remedy) }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { exit: Exit::Failed, text: error.to_string() }
    }
}

/// Prints; where nobody reads any more, nothing is wrong.
fn print(text: &str) -> Result<(), Failure> {
    say(text).map(drop)
}

/// Prints, and returns whether somebody reads: what goes on for ever ends when nobody does.
fn say(text: &str) -> Result<bool, Failure> {
    heard(io::stdout().write_all(text.as_bytes()))
}

fn heard(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn version(output: Output) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    match output {
        Output::Text => print(&format!("adit {version} (protocol {})\n", adit_core::VERSION))?,
        Output::Json => {
            let line = serde_json::json!({ "version": version, "protocol": adit_core::VERSION });
            print(&format!("{line}\n"))?;
        }
    }
    Ok(Exit::Fine)
}

fn errors(output: Output) -> Result<Exit, Failure> {
    for fault in Fault::ALL {
        let entry = fault.entry();
        let who = match entry.actor {
            Actor::Customer => "customer",
            Actor::Vendor => "vendor",
        };
        match output {
            Output::Text => {
                print(&format!("{}  {}  (to act: {who})\n    {}\n", fault.code(), entry.title, entry.remedy))?
            }
            Output::Json => {
                let line = serde_json::json!({
                    "code": fault.code(), "title": entry.title, "actor": who, "remedy": entry.remedy, "exit": entry.exit as u8,
                });
                print(&format!("{line}\n"))?;
            }
        }
    }
    Ok(Exit::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nobody_reads_nothing_is_wrong() {
        assert!(heard(Ok(())).unwrap());
        assert!(!heard(Err(io::ErrorKind::BrokenPipe.into())).unwrap());
        assert_eq!(heard(Err(io::ErrorKind::StorageFull.into())).unwrap_err().exit, Exit::Failed);
    }
}
