//! `adit freeze` and `adit thaw`: the file is written or removed, and the running agent is asked whether it has seen that.

use core::time::Duration;
use std::{
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use rustls::crypto::CryptoProvider;
use serde_json::{Value, json};

use super::{
    Failure,
    arguments::{Freeze, Global, Output, Running},
    client::Client,
    configuration::files,
    policy::said,
    print,
};
use crate::{
    errors::{Error, Exit, Fault},
    identity::state_folder,
    policy::Freezer,
};

/// Closes everything, until [`thaw`].
pub(super) fn freeze(global: &Global, freeze: &Freeze, provider: &CryptoProvider) -> Result<Exit, Failure> {
    let places = Places::of(global);
    let agent = Asked::find(global, &freeze.running, provider);
    let text = said(freeze.reason.as_deref());
    let (mut written, mut problem) = (Vec::new(), None);
    let mut put = |folder: &PathBuf, written: &mut Vec<PathBuf>| match Freezer::new([folder.clone()]).freeze(&text) {
        Ok(file) => written.push(file.to_owned()),
        Err(error) => problem = Some(error),
    };
    let mut confirmed = false;
    for folder in &places.beside {
        put(folder, &mut written);
        confirmed = !written.is_empty() && agent.becomes(true);
        if confirmed {
            break;
        }
    }
    // Where an agent looks as well; one that was asked and is not frozen does not look at the others.
    if !confirmed && (written.is_empty() || agent.client.is_ok()) {
        for folder in &places.kept {
            let before = written.len();
            put(folder, &mut written);
            confirmed = written.len() > before && agent.becomes(true);
            if confirmed || agent.client.is_err() && !written.is_empty() {
                break;
            }
        }
    }
    if written.is_empty() {
        let text = problem.map_or_else(|| NOWHERE.to_owned(), |error| error.to_string());
        return Err(Error::new(Fault::FileUnwritable, text).into());
    }
    let listed: Vec<_> = written.iter().map(|file| file.display().to_string()).collect();
    let doubt = (!confirmed).then(|| agent.doubt());
    match (freeze.running.output, &doubt) {
        (Output::Json, _) => {
            let line = json!({ "frozen": true, "files": written, "confirmed": confirmed, "why_not": doubt });
            print(&format!("{line}\n"))?;
        }
        (Output::Text, None) => print(&format!(
            "frozen: {} is there, and the running agent has closed everything. `adit thaw` ends it.\n",
            listed.join(", ")
        ))?,
        (Output::Text, Some(doubt)) => print(&format!(
            "{} is there: an agent that looks there stays closed from its start on, until `adit thaw`.\nNo running agent confirmed this: {doubt}\n",
            listed.join(", ")
        ))?,
    }
    Ok(if confirmed { Exit::Fine } else { Exit::Unconfirmed })
}

/// Ends what [`freeze`] began.
pub(super) fn thaw(global: &Global, running: &Running, provider: &CryptoProvider) -> Result<Exit, Failure> {
    let Places { beside, kept } = Places::of(global);
    let agent = Asked::find(global, running, provider);
    let freezer = Freezer::new(beside.into_iter().chain(kept));
    let removed = freezer.thaw().map_err(|error| Error::new(Fault::FileUnwritable, error.to_string()))?;
    let confirmed = agent.becomes(false);
    if !confirmed && let Some(why) = agent.frozen() {
        return Err(Error::new(Fault::Frozen, format!("the running agent says: {why}")).into());
    }
    let doubt = (!confirmed).then(|| agent.doubt());
    if running.output == Output::Json {
        let line = json!({ "frozen": false, "removed": removed, "confirmed": confirmed, "why_not": doubt });
        print(&format!("{line}\n"))?;
    } else {
        for file in &removed {
            print(&format!("thawed: {} is gone\n", file.display()))?;
        }
        if removed.is_empty() {
            let looked: Vec<_> = freezer.files().iter().map(|file| file.display().to_string()).collect();
            print(&format!("nothing was frozen: there is no {}\n", looked.join(", no ")))?;
        }
        if let Some(doubt) = &doubt {
            print(&format!("No running agent confirmed this: {doubt}\n"))?;
        }
    }
    Ok(if confirmed { Exit::Fine } else { Exit::Unconfirmed })
}

/// Where agents look for the file.
#[derive(Debug)]
struct Places {
    /// Beside configurations.
    beside: Vec<PathBuf>,
    /// Where agents keep what must last.
    kept: Vec<PathBuf>,
}

impl Places {
    /// Returns those of the agent with the configuration that is named; without, those of this user's and of this machine's.
    fn of(global: &Global) -> Self {
        let is_named =
            !global.config.is_empty() || std::env::var_os("ADIT_CONFIG").is_some_and(|name| !name.is_empty());
        let mut configurations: Vec<PathBuf> = files(global).into_iter().take(1).collect();
        if !is_named && cfg!(unix) {
            configurations.push(SYSTEM.into());
            // A command without a file looks where one would be.
            if configurations.iter().any(|file| file.exists()) {
                configurations.retain(|file| file.exists());
            } else {
                configurations.truncate(1);
            }
        }
        let is_ours = configurations.iter().all(|file| is_ours(file));
        let beside = configurations.iter().filter_map(|file| file.parent()).map(Path::to_owned).collect();
        // What this user keeps is looked at by an agent of this user alone.
        let own = state_folder().filter(|_| is_ours || std::env::var_os("STATE_DIRECTORY").is_some());
        let service = Some(PathBuf::from(SERVICE)).filter(|folder| cfg!(unix) && folder.is_dir());
        Self { beside, kept: own.into_iter().chain(service).collect() }
    }
}

/// Returns whether a configuration is this user's, or there is none.
#[cfg(unix)]
fn is_ours(file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    file.metadata().map_or(true, |metadata| metadata.uid() == rustix::process::geteuid().as_raw())
}

#[cfg(not(unix))]
const fn is_ours(_: &Path) -> bool {
    true
}

/// The agent that is asked whether it has seen what was done, or why there is none.
struct Asked {
    client: Result<Client, Failure>,
}

impl Asked {
    fn find(global: &Global, running: &Running, provider: &CryptoProvider) -> Self {
        let client = Client::find(global, running, provider);
        // A socket may be left of one that has gone.
        Self { client: client.and_then(|client| client.get("/v1/status").map(|_| client)) }
    }

    fn status(&self) -> Option<Value> {
        self.client.as_ref().ok()?.get("/v1/status").ok()
    }

    fn frozen(&self) -> Option<String> {
        self.status()?["frozen"].as_str().map(|why| adit_core::escape(why).to_string())
    }

    /// Waits for the agent to say that everything is closed, or is not.
    fn becomes(&self, frozen: bool) -> bool {
        let begun = Instant::now();
        while let Some(status) = self.status() {
            if status["frozen"].is_string() == frozen {
                return true;
            }
            if begun.elapsed() > PATIENCE {
                return false;
            }
            thread::sleep(LOOK);
        }
        false
    }

    /// Says why nobody has confirmed it.
    fn doubt(&self) -> String {
        if let Err(failure) = &self.client {
            return failure.text.lines().next().unwrap_or_default().to_owned();
        }
        let Some(status) = self.status() else { return Fault::NoAgent.to_string() };
        let files: Vec<_> =
            status["configuration"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let told = adit_core::escape(&files.join(", ")).to_string();
        format!(
            "process {} runs with {told} and does not look there; name its configuration with --config",
            status["process"]
        )
    }
}

const NOWHERE: &str = "there is no folder for it: name one by --config or STATE_DIRECTORY";
/// The configuration of an agent of the whole machine.
const SYSTEM: &str = "/etc/adit/adit.yml";
/// What a service keeps.
const SERVICE: &str = "/var/lib/adit";
/// How long an agent may take to say that it has seen it: it closes within a second.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked meanwhile.
const LOOK: Duration = Duration::from_millis(50);
