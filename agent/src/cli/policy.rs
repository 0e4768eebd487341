//! The policy of the command line, and what freezes the agent that begins.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::crypto::CryptoProvider;

use super::{
    Failure,
    arguments::Global,
    configuration::{files, refusal},
};
use crate::{
    clock,
    config::ConfigFault,
    errors::Fault,
    identity::state_folder,
    policy::{Freezer, Watch},
};

/// Opens the policy that the command line or ADIT_POLICY names, that of the machine, or the one beside the configuration. A key
/// of the configuration cannot name it: the vendor writes that file.
pub(super) fn open(global: &Global, provider: &Arc<CryptoProvider>) -> Result<Watch, Failure> {
    open_with(global, freezer(global), provider)
}

/// Opens it for an agent that `freezer` may have frozen already.
pub(super) fn open_with(global: &Global, freezer: Freezer, provider: &Arc<CryptoProvider>) -> Result<Watch, Failure> {
    read_with(global, freezer, provider).map_err(|faults| refusal(&faults, Fault::PolicyInvalid))
}

pub(super) fn read(global: &Global, provider: &Arc<CryptoProvider>) -> Result<Watch, Vec<ConfigFault>> {
    read_with(global, freezer(global), provider)
}

fn read_with(global: &Global, freezer: Freezer, provider: &Arc<CryptoProvider>) -> Result<Watch, Vec<ConfigFault>> {
    let variable = || std::env::var_os("ADIT_POLICY").filter(|value| !value.is_empty()).map(PathBuf::from);
    let named = global.policy.clone().or_else(variable);
    let configuration = files(global).into_iter().next();
    Watch::open(named, configuration, freezer, Arc::clone(provider))
}

fn freezer(global: &Global) -> Freezer {
    let beside = files(global).first().and_then(|file| file.parent()).map(Path::to_owned);
    Freezer::new(beside.into_iter().chain(state_folder()))
}

pub(super) fn said(reason: Option<&str>) -> String {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let since = clock::utc(i64::try_from(seconds).unwrap_or(i64::MAX));
    let reason: String = reason.unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect();
    let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
    format!("since {since}, {}{reason}", whoever())
}

#[cfg(unix)]
fn whoever() -> String {
    format!("by user {}", rustix::process::getuid().as_raw())
}

#[cfg(not(unix))]
fn whoever() -> String {
    "by a command".to_owned()
}

/// Returns what freezes the agent that begins, on SIGUSR1 too from now on. The first thing that an agent does: without it the signal would
/// end the process.
///
/// # Errors
/// When the system gives no threads or no signal.
pub(super) fn freezer_on_signal(global: &Global) -> Result<Freezer, Failure> {
    let freezer = freezer(global);
    #[cfg(unix)]
    freeze_on_signal(&freezer)?;
    Ok(freezer)
}

/// Freezes on SIGUSR1, for as long as the process lives: in memory first, then on the disk, which may be slow.
#[cfg(unix)]
fn freeze_on_signal(freezer: &Freezer) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    use crate::policy::spawn;

    // Of its own: callers do not keep it busy, and it outlives agents that are started anew.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        signal(SignalKind::user_defined1())?
    };
    let (sender, wanted) = std::sync::mpsc::sync_channel(1);
    let writing = freezer.clone();
    spawn("frozen", freezer, move || {
        while wanted.recv().is_ok() {
            match writing.write_held() {
                Ok(Some(file)) => tracing::warn!(file = %file.display(), "SIGUSR1: frozen"),
                Ok(None) => {} // written with the one before
                Err(error) => {
                    tracing::error!(%error, "SIGUSR1: frozen until this process ends, and no longer: no file can be written");
                }
            }
        }
    })?;
    let held = freezer.clone();
    spawn("signal", freezer, move || {
        runtime.block_on(async {
            while signals.recv().await.is_some() {
                held.hold(&said(Some("SIGUSR1")));
                let _ = sender.try_send(()); // one that waits already writes this too
            }
        });
    })?;
    Ok(())
}
