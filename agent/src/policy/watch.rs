//! Keeps a guard as the files say: a policy that changes holds at once, one that is wrong changes nothing and is shouted about.

use core::time::Duration;
use std::{
    fs::Metadata,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::crypto::CryptoProvider;
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval},
};

use super::{Found, Freezer, Guard, find, keep::Keeper, load};
use crate::{
    audit::Record,
    config::{ConfigFault, fault},
    errors::{Error, Fault},
    trust::sha256,
};

/// What looks at the files of a guard.
#[derive(Clone, Debug)]
pub struct Watch {
    guard: Arc<Guard>,
    named: Option<PathBuf>,
    configuration: Option<PathBuf>,
    freezer: Freezer,
    provider: Arc<CryptoProvider>,
    again: Arc<Notify>,
    seen: Option<Seen>,
    ambiguous: bool,
    /// The SHA-256 of the policy in force, as hexadecimal digits.
    print: String,
    /// What is kept on the disk, once the agent runs.
    keeper: Option<Arc<Mutex<Keeper>>>,
}

/// Where a policy was, and what tells one content from another without reading it.
type Seen = (PathBuf, Option<Stamp>);

/// What changes whenever a file does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp(Vec<i128>);

impl Watch {
    /// Reads everything for the first time: the policy that `named` says, else that of the machine or beside `configuration`.
    ///
    /// # Errors
    /// Every fault of the policy; a policy that was named has to exist.
    pub fn open(
        named: Option<PathBuf>,
        configuration: Option<PathBuf>,
        freezer: Freezer,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Vec<ConfigFault>> {
        let guard = Guard::new();
        let again = Arc::default();
        let mut watch = Self {
            guard,
            named,
            configuration,
            freezer,
            provider,
            again,
            seen: None,
            ambiguous: false,
            print: String::new(),
            keeper: None,
        };
        let file = find(watch.named.as_deref(), watch.configuration.as_deref())?;
        watch.seen = Some((file.clone(), stamp(&file)));
        match load(&file)? {
            Some(found) => watch.take(&file, found),
            None if watch.named.is_some() => {
                let remedy = "Write it, or leave --policy and ADIT_POLICY out";
                return Err(vec![fault(&file, None, "does not exist", remedy)]);
            }
            None => {}
        }
        watch.look_frozen();
        Ok(watch)
    }

    /// Begins to keep what the policy says on the disk, below `state` where it names no other place: the audit log, and what was
    /// carried. Without it nothing is written, and totals count from the start of the process.
    ///
    /// # Errors
    /// When there is no audit log although the policy wants one and no connection without.
    pub fn keep(&mut self, state: Option<PathBuf>) -> Result<(), Error> {
        let mut keeper = Keeper::new(self.guard(), state, &self.provider);
        let followed = self.guard.policy().map_or(Ok(()), |policy| keeper.follow(&policy));
        self.keeper = Some(Arc::new(Mutex::new(keeper)));
        if let Err(error) = followed {
            if self.guard.is_audited() {
                return Err(error);
            }
            tracing::error!(%error, remedy = error.fault.entry().remedy, "audit log cannot be written");
        }
        self.record("in force", 0);
        if let Some(why) = self.guard.frozen() {
            self.guard.note(|| Record::new("freeze").text("why", &why));
        }
        if let Some(folder) = self.guard.audit_folder() {
            tracing::info!(folder = %folder.display(), "audit log");
        }
        Ok(())
    }

    /// Ends what [`Self::keep`] began, and waits for the disk. Blocks.
    pub fn close(&self) {
        self.with_keeper(Keeper::end);
    }

    /// Returns the guard.
    pub fn guard(&self) -> Arc<Guard> {
        Arc::clone(&self.guard)
    }

    /// Returns the file of the policy, be it there or not.
    pub fn file(&self) -> Option<&Path> {
        self.seen.as_ref().map(|(file, _)| file.as_path())
    }

    /// Returns what makes it read the policy again, changed or not.
    pub fn again(&self) -> Arc<Notify> {
        Arc::clone(&self.again)
    }

    /// Returns what freezes the agent.
    pub const fn freezer(&self) -> &Freezer {
        &self.freezer
    }

    /// Looks at the files four times a second, for ever. Whether all is frozen is looked at by itself: neither a disk that hangs while
    /// something is written nor a policy that takes its time holds it up.
    pub async fn run(self) {
        tokio::join!(self.clone().run_frozen(), self.run_rest());
    }

    async fn run_frozen(mut self) {
        let mut clock = interval(PERIOD);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let looked = tokio::task::spawn_blocking(move || {
                self.look_frozen();
                self
            });
            match looked.await {
                Ok(watch) => self = watch,
                Err(_) => return tracing::error!(error = %Fault::Internal, "what freezes is not looked at any more"),
            }
        }
    }

    async fn run_rest(mut self) {
        let mut clock = interval(PERIOD);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let again = self.again();
        loop {
            let forced = tokio::select! {
                _ = clock.tick() => false,
                () = again.notified() => true,
            };
            // A disk that hangs holds up nobody else.
            let looked = tokio::task::spawn_blocking(move || {
                self.look_rest(forced);
                self
            });
            match looked.await {
                Ok(watch) => self = watch,
                Err(_) => return tracing::error!(error = %Fault::Internal, "the policy is not looked at any more"),
            }
        }
    }

    /// Looks once; `forced` reads the policy whether it has changed or not.
    pub fn look(&mut self, forced: bool) {
        self.look_frozen();
        self.look_rest(forced);
    }

    fn look_rest(&mut self, forced: bool) {
        self.look_policy(forced);
        let policy = self.guard.policy();
        self.with_keeper(|keeper| keeper.tick(policy.as_deref()));
        let ended = self.guard.tick();
        if ended > 0 {
            tracing::warn!(connections = ended, "the policy allows less at this hour: connections are ended");
        }
    }

    fn look_frozen(&self) {
        let (frozen, before) = (self.freezer.frozen(), self.guard.frozen());
        if frozen.is_some() == before.is_some() {
            return;
        }
        let ended = self.guard.freeze(frozen.clone());
        match frozen {
            Some(why) => {
                self.guard.note(|| Record::new("freeze").text("why", &why).number("connections_ended", ended as u64));
                tracing::warn!(why, connections = ended, "frozen: everything is closed");
            }
            None => {
                self.guard.note(|| Record::new("thaw"));
                tracing::warn!("thawed");
            }
        }
    }

    fn look_policy(&mut self, forced: bool) {
        let file = match find(self.named.as_deref(), self.configuration.as_deref()) {
            Ok(file) => file,
            Err(faults) => {
                if !self.ambiguous || forced {
                    self.shout(&faults);
                }
                self.ambiguous = true;
                return;
            }
        };
        self.ambiguous = false;
        let seen = Some((file.clone(), stamp(&file)));
        if !forced && self.seen == seen {
            return;
        }
        self.seen = seen;
        match load(&file) {
            Ok(Some(found)) => self.take(&file, found),
            Ok(None) if self.guard.policy().is_some() => {
                self.shout(&[fault(
                    &file,
                    None,
                    "is gone",
                    "Put it back; to do without a policy, start the agent anew",
                )]);
            }
            Ok(None) => {}
            Err(faults) => self.shout(&faults),
        }
    }

    fn take(&mut self, file: &Path, found: Found) {
        let print = sha256(found.text.as_bytes(), &self.provider).unwrap_or_default();
        self.print = print.replace(':', "").to_lowercase();
        let version: String = self.print.chars().take(16).collect();
        let rules = found.policy.rules.len();
        self.with_keeper(|keeper| keeper.expect(&found.policy));
        let ended = self.guard.set(found, version.clone());
        if let Some(policy) = self.guard.policy() {
            let followed = self.with_keeper(|keeper| keeper.follow(&policy));
            if let Some(Err(error)) = followed {
                tracing::error!(%error, remedy = error.fault.entry().remedy, "audit log cannot be written");
            }
        }
        self.record("taken", ended);
        tracing::info!(file = %file.display(), version, rules, connections_ended = ended, "policy in force");
    }

    /// Writes which policy is in force.
    fn record(&self, event: &str, ended: usize) {
        let Some(policy) = self.guard.policy() else { return };
        let file = self.file().map(|file| file.display().to_string());
        self.guard.note(|| {
            let record =
                Record::new("policy").text("event", event).maybe("file", file.as_deref()).text("sha256", &self.print);
            record.number("rules", policy.rules.len() as u64).number("connections_ended", ended as u64)
        });
    }

    fn shout(&self, faults: &[ConfigFault]) {
        for fault in faults {
            let error = Fault::PolicyInvalid;
            tracing::error!(%error, %fault, "policy not taken: what was in force stays");
        }
        let first = faults.first().map(ToString::to_string);
        self.guard.note(|| Record::new("policy").text("event", "not taken").maybe("fault", first.as_deref()));
    }

    fn with_keeper<T>(&self, act: impl FnOnce(&mut Keeper) -> T) -> Option<T> {
        let keeper = self.keeper.as_ref()?;
        Some(act(&mut keeper.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    file.metadata().ok().map(|metadata| Stamp(marks(&metadata)))
}

#[cfg(unix)]
fn marks(metadata: &Metadata) -> Vec<i128> {
    use std::os::unix::fs::MetadataExt as _;

    let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    let numbers = [metadata.dev(), metadata.ino(), metadata.size()];
    times.into_iter().map(i128::from).chain(numbers.into_iter().map(i128::from)).collect()
}

#[cfg(not(unix))]
fn marks(metadata: &Metadata) -> Vec<i128> {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    vec![i128::from(metadata.len()), modified.map_or(0, |time| i128::try_from(time.as_nanos()).unwrap_or_default())]
}

/// How often the files are looked at: what is closed is closed within a second.
const PERIOD: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Instant};

    use super::*;

    async fn until(what: &str, fine: impl Fn() -> bool) {
        let begun = Instant::now();
        while !fine() {
            assert!(begun.elapsed() < Duration::from_secs(60), "in vain: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_hangs_on_the_disk_does_not_hold_up_a_freeze() {
        let (folder, provider) = (crate::testing::folder("watch-hangs"), rustls::crypto::aws_lc_rs::default_provider());
        let freezer = Freezer::new([folder.clone()]);
        let mut watch = Watch::open(None, Some(folder.join("adit.yml")), freezer.clone(), Arc::new(provider)).unwrap();
        watch.keep(Some(folder.join("state"))).unwrap();
        let (keeper, guard) = (watch.keeper.clone().unwrap(), watch.guard());
        let (free, freed) = mpsc::channel::<()>();
        let (hangs, hanging) = mpsc::channel();
        let disk = thread::spawn(move || {
            let _keeper = keeper.lock().unwrap();
            hangs.send(()).unwrap();
            let _ = freed.recv(); // the other end is dropped
        });
        hanging.recv().unwrap();
        let running = tokio::spawn(watch.run());

        // Whatever is looked at once before it hangs, it is not looked at twice.
        freezer.freeze("by a test").unwrap();
        until("it is frozen", || guard.frozen().is_some()).await;
        freezer.thaw().unwrap();
        until("it is thawed", || guard.frozen().is_none()).await;

        drop(free);
        disk.join().unwrap();
        running.abort();
    }
}
