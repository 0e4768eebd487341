//! What can be said to `adit service`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    cli::arguments::Output,
    service::{Manager, is_name},
};

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Check configuration and policy, and install the service: the system starts it at boot and after a crash.
    Install(Install),
    /// Stop the service and remove it. Configuration, token, state and audit stay, unless --purge says otherwise.
    Uninstall(Uninstall),
    /// Start the service, and wait until its endpoints are bound.
    Start(Start),
    /// Stop the service: open connections may finish, for drain_timeout.
    Stop(Named),
    /// Stop the service and start it again.
    Restart(Start),
    /// Say how the service is; the exit code is 0 while it runs.
    Status(Status),
    /// What launchd and Windows run.
    #[command(hide = true)]
    Run(Named),
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The name of the service: several agents on one machine need several.
    #[arg(long, default_value = "adit", value_parser = service_name)]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Doing {
    /// Print exactly the files and commands, and do nothing.
    #[arg(long, visible_alias = "print")]
    pub(crate) dry_run: bool,
    /// Write below this folder in place of /, for an image of a system; nothing is started or stopped.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) root: Option<PathBuf>,
    /// Whose files and commands to print [default: those of this system].
    #[arg(long, value_enum, requires = "dry_run", conflicts_with = "root")]
    pub(crate) system: Option<Manager>,
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    #[command(flatten)]
    pub(crate) named: Named,
    #[command(flatten)]
    pub(crate) doing: Doing,
    /// The user that the service is [default: with systemd one that exists only while it runs, on Windows the service's own].
    #[arg(long, value_name = "NAME", value_parser = user_name)]
    pub(crate) user: Option<String>,
    /// The program that the service runs [default: this one].
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
    /// Start it at once, or anew.
    #[arg(long, conflicts_with = "root")]
    pub(crate) now: bool,
    /// Take the place of a service of this name that something else has made.
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    #[command(flatten)]
    pub(crate) named: Named,
    #[command(flatten)]
    pub(crate) doing: Doing,
    /// Remove its configuration, policy, token, state and audit as well.
    #[arg(long)]
    pub(crate) purge: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    pub(crate) named: Named,
    /// How long to wait until its endpoints are bound, in seconds; it goes on trying afterwards.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub(crate) wait: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) named: Named,
    /// The form of what is printed.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

fn service_name(text: &str) -> Result<String, String> {
    let why = "adit, or adit- and small letters, digits and -, at most 32 in all";
    if is_name(text) { Ok(text.to_owned()) } else { Err(why.to_owned()) }
}

/// Takes what is a name of a user somewhere, and cannot be anything else in a unit, a description or a command.
fn user_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '\\' | ' ' | '$');
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if begins && text.len() <= 64 && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("letters, digits, _, - and .".to_owned())
    }
}
