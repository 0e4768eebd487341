//! Windows: what the service control manager starts, and how it is told.

use core::time::Duration;
use std::{
    ffi::OsString,
    sync::{Arc, OnceLock},
};

use rustls::crypto::CryptoProvider;
use windows_service::{
    define_windows_service,
    service::{ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType},
    service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle},
    service_dispatcher,
};

use super::{Failure, control, unmanaged};
use crate::{
    cli::{arguments::Global, run},
    errors::Exit,
    log,
};

/// What the manager's thread is to run: it is given no arguments of ours.
static TASK: OnceLock<Task> = OnceLock::new();

struct Task {
    name: String,
    global: Global,
    provider: Arc<CryptoProvider>,
}

define_windows_service!(entry, serve);

/// Runs as the service `name` until the manager or the agent ends it.
pub(super) fn run(name: &str, global: &Global, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let task = Task { name: name.to_owned(), global: global.clone(), provider: Arc::clone(provider) };
    if TASK.set(task).is_err() {
        return Err(unmanaged("a process is one service".to_owned()));
    }
    let refused =
        |error| unmanaged(format!("{error}: this is for the service control manager; run `adit service start`"));
    service_dispatcher::start(name, entry).map_err(refused)?;
    Ok(Exit::Fine)
}

fn serve(_: Vec<OsString>) {
    let Some(task) = TASK.get() else { return };
    let handle = |control| match control {
        ServiceControl::Stop | ServiceControl::Shutdown => {
            run::stop();
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented, // whatever else Windows may ask
    };
    let handle = match service_control_handler::register(&task.name, handle) {
        Ok(handle) => handle,
        Err(error) => {
            let then = "Windows takes no word from this service";
            return log::last_words(&task.name, &error.to_string(), Exit::Failed as u8, then);
        }
    };
    tell(&handle, ServiceState::Running, 0);
    let code = match control::all(&task.name, &task.global, &task.provider) {
        Ok(Exit::Fine) => 0,
        Ok(exit) => exit as u32,
        Err(failure) => failure.exit as u32,
    };
    tell(&handle, ServiceState::Stopped, code);
}

/// Says how the service is. A code that is not 0 is a failure, after which Windows starts it again.
fn tell(handle: &ServiceStatusHandle, state: ServiceState, code: u32) {
    let is_running = state == ServiceState::Running;
    let accepted = if is_running {
        ServiceControlAccept::STOP | ServiceControlAccept::SHUTDOWN
    } else {
        ServiceControlAccept::empty()
    };
    let told = handle.set_service_status(ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted: accepted,
        exit_code: if code == 0 { ServiceExitCode::NO_ERROR } else { ServiceExitCode::ServiceSpecific(code) },
        checkpoint: 0,
        wait_hint: Duration::ZERO,
        process_id: None,
    });
    if let Err(error) = told {
        tracing::warn!(%error, "Windows is not told how the service is");
    }
}
