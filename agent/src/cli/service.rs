//! `adit service`: the agent as a service of the system.

pub(super) mod arguments;
mod control;
mod install;
#[cfg(windows)]
mod scm;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use super::{Failure, arguments::Global, print};
use crate::{
    errors::{Error, Exit, Fault},
    service::{Manager, plan::Plan},
};

use arguments::{Doing, ServiceCommand};

pub(super) fn run(global: &Global, command: ServiceCommand, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    match command {
        ServiceCommand::Install(wanted) => install::install(global, &wanted, provider),
        ServiceCommand::Uninstall(wanted) => install::uninstall(global, &wanted),
        ServiceCommand::Start(wanted) => control::start(&wanted, "start"),
        ServiceCommand::Restart(wanted) => control::start(&wanted, "restart"),
        ServiceCommand::Stop(wanted) => control::stop(&wanted),
        ServiceCommand::Status(wanted) => control::status(&wanted),
        #[cfg(windows)]
        ServiceCommand::Run(wanted) => scm::run(&wanted.name, global, provider),
        #[cfg(not(windows))]
        ServiceCommand::Run(wanted) => control::all(&wanted.name, global, provider),
    }
}

/// Shows a plan, or carries it out.
fn act(plan: &Plan, doing: &Doing) -> Result<Exit, Failure> {
    if doing.dry_run {
        print(&plan.to_string())?;
        return Ok(Exit::Fine);
    }
    administrator()?;
    let done = plan.carry_out().map_err(unmanaged)?;
    done.iter().try_for_each(|line| print(&format!("{line}\n")))?;
    Ok(Exit::Fine)
}

/// Returns what looks after services on this system.
fn manager() -> Result<Manager, Failure> {
    let unknown =
        || unmanaged("this system has none that is known here: start `adit start --all` by what it has".to_owned());
    Manager::here().ok_or_else(unknown)
}

#[cfg(unix)]
fn administrator() -> Result<(), Failure> {
    match rustix::process::geteuid().as_raw() {
        0 => Ok(()),
        user => Err(Error::new(Fault::ServiceRights, format!("this is user {user}")).into()),
    }
}

#[cfg(not(unix))]
const fn administrator() -> Result<(), Failure> {
    Ok(()) // what is run says so
}

fn unmanaged(problem: String) -> Failure {
    Error::new(Fault::ServiceManager, problem).into()
}

fn unfit(problems: &[String]) -> Failure {
    let fault = Fault::ServiceUnfit;
    let lines: String = problems.iter().map(|problem| format!("{problem}.\n")).collect();
    Failure { exit: fault.entry().exit, text: format!("{lines}{fault}\n{}", fault.entry().remedy) }
}
