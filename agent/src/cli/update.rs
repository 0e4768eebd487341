//! `adit update`, and what a running agent does about newer versions.

use core::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use adit_core::{Code, escape};
use rustls::crypto::CryptoProvider;
use tokio::{
    runtime::Builder,
    sync::{Notify, mpsc},
    time::{interval, timeout},
};

use super::{
    Failure,
    arguments::{Global, Output, Probe, Update},
    configuration::{files, governed, load, overrides},
    policy, print,
};
use crate::{
    agent::{Agent, Outcome, Wish},
    audit::Draft,
    config::{AgentConfig, Channel, Releases, RemoteManagement, Token, token},
    errors::{Error, Exit, Fault, clip},
    identity::state_folder,
    policy::{Guard, Updates},
    status::{SessionState, Status},
    update::{Begun, Force, Offer, Store, Trial, Updater, current, keeper, put_back},
};

/// Looks for a newer version, and installs it.
pub(super) fn run(global: &Global, wanted: &Update, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let config = governed(load(&files(global), &overrides(global))?, &policy::open(global, provider)?)?;
    let channel = wanted.channel.as_deref().and_then(Channel::parse);
    let state = state_folder();
    let updater = Updater::new(&config.agent, channel, state.as_deref(), provider)?;
    let updater = updater.with_folder(wanted.from.clone());
    let force = Force { downgrade: wanted.allow_downgrade, failed: wanted.retry };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (offer, previous) = runtime.block_on(async {
        let offer = updater.look(force).await?;
        let Offer::Newer(release) = &offer else { return Ok((offer, None)) };
        if wanted.check {
            return Ok((offer, None));
        }
        let staged = updater.prepare(release, wanted.managed).await?;
        if !wanted.no_probe {
            probed(global, &staged.path).await?;
        }
        let previous = updater.install(release, staged)?;
        Ok::<_, Error>((offer, Some(previous)))
    })?;
    told(&offer, previous.as_deref(), wanted.output)?;
    Ok(Exit::Fine)
}

fn told(offer: &Offer, previous: Option<&Path>, output: Output) -> Result<(), Failure> {
    let current = current();
    let (version, newer) = match offer {
        Offer::Newer(release) => (&release.version, true),
        Offer::Current(version) => (version, false),
    };
    if output == Output::Json {
        let line = serde_json::json!({
            "current": current.to_string(), "offered": version.to_string(), "newer": newer,
            "installed": previous.is_some(), "previous": previous,
        });
        return print(&format!("{line}\n"));
    }
    match previous {
        Some(previous) => print(&format!(
            "version {version} is in the place of {current}, which is kept as {}\nit takes effect when the agent is started anew\n",
            previous.display()
        )),
        None if newer => print(&format!("version {version} is there; this is {current}. `adit update` installs it\n")),
        None => print(&format!("this is {current}, and {version} is offered: nothing to do\n")),
    }
}

/// Lets the new program show that it connects, with this configuration.
async fn probed(global: &Global, program: &Path) -> Result<(), Error> {
    let mut command = Command::new(program);
    command.arg("probe");
    for file in &global.config {
        command.arg("--config").arg(file);
    }
    if let Some(policy) = &global.policy {
        command.arg("--policy").arg(policy);
    }
    let flags = [
        ("--connect-url", &global.connect_url),
        ("--connect-cas", &global.connect_cas),
        ("--authtoken-file", &global.authtoken_file),
    ];
    for (flag, value) in flags {
        if let Some(value) = value {
            command.arg(flag).arg(value);
        }
    }
    command.stdin(Stdio::inherit()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let done = tokio::task::spawn_blocking(move || command.status()).await;
    match done {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(Error::new(Fault::UpdateFailed, format!("it does not connect: {status}"))),
        Ok(Err(error)) => Err(Error::new(Fault::UpdateFailed, format!("it does not run: {error}"))),
        Err(error) => Err(Error::new(Fault::Internal, error.to_string())),
    }
}

/// Connects once, without an endpoint, and says whether that works: what a version is asked before it takes the place of another.
pub(super) fn probe(global: &Global, wanted: &Probe, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let mut config = load(&files(global), &overrides(global))?;
    config.endpoints.clear();
    let within = crate::config::values::duration(&wanted.within)
        .ok_or_else(|| Failure::usage("--within: a time such as 60s"))?;
    let watch = policy::open(global, provider)?;
    let config = governed(config, &watch)?;
    let token = token(&config.agent.token)?;
    let agent = Agent::new(config, token, Arc::clone(provider))?.with_guard(watch.guard());
    let status = agent.status();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let run = pin!(agent.run(core::future::pending()));
        let done: Result<Exit, Failure> = tokio::select! {
            outcome = run => match outcome {
                Outcome::Failed(error) => Err(error.into()),
                Outcome::Ended | Outcome::Restart => Err(Error::from(Fault::ConnectionLost).into()),
            },
            online = timeout(within, online(&status)) => match online {
                Ok(()) => Ok(Exit::Fine),
                Err(_) => {
                    let why = status.board().trouble.map_or_else(String::new, |trouble| format!(": {trouble}"));
                    let detail = clip(&format!("not connected within {within:?}{why}"));
                    Err(Error::new(Fault::ConnectTimeout, detail).into())
                }
            },
        };
        done
    })
}

async fn online(status: &Status) {
    let mut looks = interval(LOOK);
    while status.board().session != SessionState::Online {
        looks.tick().await;
    }
}

/// What a running agent has to do with versions.
#[derive(Clone)]
pub(super) struct Service {
    updater: Option<Updater>,
    releases: Option<Releases>,
    /// What the vendor may ask for by the configuration.
    management: RemoteManagement,
    /// Whether the program can be started in the place of this one with what it has been told.
    restartable: bool,
    replaced: Arc<AtomicBool>,
    again: Arc<Notify>,
    trial: Option<(Store, Trial)>,
}

/// A version that has yet to show that it connects, and where that is remembered.
pub(super) type OnTrial = Option<(Store, Trial)>;

/// Counts a start of this program, before anything that could go wrong in a new version. One on trial that was started too often
/// without connecting is put back, and the one before is started in its place; while everything is `frozen` none can connect.
///
/// # Errors
/// When it cannot be put back.
pub(super) fn begin(frozen: bool) -> Result<OnTrial, Failure> {
    let executable = std::env::current_exe().and_then(std::fs::canonicalize).ok();
    let (Some(store), Some(executable)) = (state_folder().as_deref().map(Store::new), executable) else {
        return Ok(None);
    };
    match store.begin(&executable, &current(), frozen) {
        Begun::No => Ok(None),
        Begun::Trial(trial) => Ok(Some((store, trial))),
        Begun::Failed(trial) => {
            let _ = writeln!(
                io::stderr(),
                "{}: version {} was started {} times and never connected; {} is put back",
                Fault::UpdateFailed,
                trial.version,
                trial.starts,
                trial.from
            ); // the log is not there yet
            back(&store, &trial, "it was started several times and never connected")?;
            Err(start_anew())
        }
    }
}

impl Service {
    /// Prepares what there is to do about versions.
    pub(super) fn new(trial: OnTrial, agent: &AgentConfig, provider: &Arc<CryptoProvider>) -> Self {
        if let Some((_, trial)) = &trial {
            tracing::warn!(
                version = trial.version,
                start = trial.starts,
                "a new version is on trial: it has to connect"
            );
        }
        let (releases, state) = (agent.update.clone(), state_folder());
        let updater = releases.as_ref().and_then(|_| {
            let made = Updater::new(agent, None, state.as_deref(), provider);
            made.inspect_err(|error| tracing::error!(%error, "no updates")).ok()
        });
        let restartable = agent.token != Token::StandardInput;
        let management = agent.remote_management;
        Self { updater, releases, management, restartable, replaced: Arc::default(), again: Arc::default(), trial }
    }

    /// Waits until the program is to be started anew because its file is another one.
    pub(super) async fn again(&self) {
        while !self.replaced.load(Ordering::Acquire) {
            self.again.notified().await;
        }
    }

    /// Returns whether the program is to be started anew.
    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire)
    }

    /// Does what there is to do while the agent runs: a trial, a look for newer versions, and what the vendor asks for.
    pub(super) async fn look_after(self, status: Arc<Status>, guard: Arc<Guard>, mut asked: mpsc::Receiver<Wish>) {
        if let Some((store, trial)) = &self.trial {
            self.tried(store, trial, &status, &guard).await;
        }
        let (Some(updater), Some(releases)) = (&self.updater, &self.releases) else { return };
        let mut changes = guard.changes();
        let mut is_due = releases.check;
        loop {
            changes.borrow_and_update();
            // Nobody is called while everything is closed: it is looked when that is over.
            if is_due && self.looked(updater, &guard, Whose::Nobody).await {
                is_due = false;
            }
            let wish = tokio::select! {
                wish = asked.recv() => wish,
                Ok(()) = changes.changed(), if is_due => continue,
            };
            let Some(Wish { reply, text }) = wish else { return };
            if let Some(keeper) = kept().await {
                reply.answer(Code::UNSUPPORTED, "the program of this agent is looked after by another");
                let error = Error::new(Fault::UpdateManaged, keeper);
                tracing::warn!(command = "update", %error, remedy = error.fault.entry().remedy, "remote command refused");
                guard.note(|| Draft::command("update", &text, "refused").text("why", &error.to_string()));
                continue;
            }
            tracing::warn!(command = "update", text = %escape(&text), "remote command obeyed");
            guard.note(|| Draft::command("update", &text, "obeyed"));
            reply.answer(Code::NO_ERROR, "");
            self.looked(updater, &guard, Whose::Vendor).await;
        }
    }

    /// Looks for a newer version, and installs it where that is wanted; returns whether it could be looked for. It is given up when it may
    /// not be any more.
    async fn looked(&self, updater: &Updater, guard: &Guard, whose: Whose) -> bool {
        let may = || match whose {
            Whose::Nobody => guard.updates(),
            Whose::Vendor => {
                let update = guard.commands(self.management).update;
                Updates { check: update, install: update }
            }
        };
        let found = async {
            match updater.look(Force::default()).await? {
                Offer::Current(version) => tracing::info!(offered = %version, "no newer version"),
                Offer::Newer(release) if !may().install => {
                    tracing::info!(offered = %release.version, "a newer version is there: `adit update` installs it");
                }
                Offer::Newer(release) => {
                    // It is tried when it runs; the one before comes back if it does not connect.
                    let staged = updater.prepare(&release, false).await?;
                    if !may().install {
                        tracing::info!(offered = %release.version, "a newer version is not installed: that is not allowed any more");
                        return Ok(());
                    }
                    let previous = updater.install(&release, staged)?;
                    tracing::warn!(version = %release.version, previous = %previous.display(), "a new version is installed");
                    guard.note(|| {
                        let record = Draft::update("installed", Some(&release.version.to_string()));
                        record.text("from", &current().to_string()).text("sha256", &release.artefact.sha256)
                    });
                    self.start_anew();
                }
            }
            Ok::<_, Error>(())
        };
        match while_it_may(Box::pin(found), guard, || may().check).await {
            None => false,
            Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::warn!(%error, remedy = error.fault.entry().remedy, "no update");
                if may().install {
                    guard.note(|| Draft::update("not installed", None).text("why", &error.to_string()));
                }
                true
            }
        }
    }

    /// Waits for a new version to connect; puts the one before back when it does not.
    async fn tried(&self, store: &Store, trial: &Trial, status: &Status, guard: &Guard) {
        let most = self.releases.as_ref().map_or(TRIAL, |releases| releases.trial);
        let mut begun = Instant::now();
        let mut looks = interval(LOOK);
        while begun.elapsed() < most {
            looks.tick().await;
            match status.board().session {
                SessionState::Online => {
                    if let Err(error) = store.passed() {
                        tracing::error!(%error, "the end of a trial is not remembered");
                    }
                    tracing::info!(version = trial.version, "the new version connects: its trial is over");
                    guard.note(|| Draft::update("stays", Some(&trial.version)));
                    return;
                }
                // The customer has closed everything: that says nothing about the version.
                SessionState::Frozen => begun = Instant::now(),
                SessionState::Draining => return,
                SessionState::Connecting | SessionState::Reconnecting => {}
            }
        }
        match back(store, trial, "it did not connect in time") {
            Ok(()) => {
                guard.note(|| Draft::update("put back", Some(&trial.version)).text("to", &trial.from));
                self.start_anew();
            }
            Err(failure) => tracing::error!(error = failure.text, "the version before cannot be put back"),
        }
    }

    fn start_anew(&self) {
        if !self.restartable {
            tracing::warn!(
                "the authtoken came from standard input: the new version takes effect when the agent is started anew"
            );
            return;
        }
        self.replaced.store(true, Ordering::Release);
        self.again.notify_waiters();
        self.again.notify_one();
    }
}

/// Whose wish it is to look for a newer version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The policy lets it be done unasked.
    Nobody,
    /// The vendor has asked for it.
    Vendor,
}

/// Works for as long as it may; returns nothing when it may not.
async fn while_it_may<T>(work: impl Future<Output = T>, guard: &Guard, may: impl Fn() -> bool) -> Option<T> {
    let mut changes = guard.changes();
    let mut work = pin!(work);
    loop {
        changes.borrow_and_update();
        if !may() {
            return None;
        }
        tokio::select! {
            done = &mut work => return Some(done),
            Ok(()) = changes.changed() => {}
        }
    }
}

/// Returns who looks after this program's file, if it is somebody else.
async fn kept() -> Option<String> {
    let look = || std::env::current_exe().and_then(std::fs::canonicalize).ok().and_then(|file: PathBuf| keeper(&file));
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// Puts the version before back.
fn back(store: &Store, trial: &Trial, why: &str) -> Result<(), Failure> {
    put_back(&trial.executable, &trial.previous)?;
    let error = Fault::UpdateFailed;
    tracing::error!(%error, version = trial.version, back_to = trial.from, why, "a new version is put back");
    if let Err(error) = store.failed(&trial.version) {
        tracing::error!(%error, "the version that failed is not remembered");
    }
    Ok(())
}

/// Starts the program that is at this one's place in the place of this process; returns why not.
#[cfg(unix)]
pub(super) fn start_anew() -> Failure {
    use std::os::unix::process::CommandExt as _;

    let Ok(program) = std::env::current_exe() else { return Error::from(Fault::Internal).into() };
    // The system names a file that was replaced with a mark behind it.
    let text = program.to_string_lossy();
    let program = text.strip_suffix(" (deleted)").map_or_else(|| program.clone(), PathBuf::from);
    let error = Command::new(&program).args(std::env::args_os().skip(1)).exec();
    Error::new(Fault::UpdateFailed, format!("{}: {error}", program.display())).into()
}

/// Ends, so that whoever looks after this program starts the one that is at its place.
#[cfg(not(unix))]
pub(super) fn start_anew() -> Failure {
    Error::new(Fault::UpdateFailed, "another version is in place: start the agent anew".to_owned()).into()
}

/// How often the state is looked at during a trial.
const LOOK: Duration = Duration::from_millis(200);
/// How long a trial lasts where the configuration says nothing of it.
const TRIAL: Duration = Duration::from_secs(120);
