//! Keeps a guard as the files say.
//!
//! What freezes, the policy and what is kept on the disk are looked after by a thread each: none waits for another, for a disk that hangs
//! before it, or for whatever callers keep the agent busy with. A thread that fails closes everything.

use core::time::Duration;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use rustls::crypto::CryptoProvider;

use super::{Freezer, Guard, bell::Bell, follow::Follower, keep::Desk};
use crate::{
    audit::Record,
    config::ConfigFault,
    errors::{Error, Fault},
    local::name_of,
};

/// What looks at the files of a guard.
#[derive(Clone, Debug)]
pub struct Watch {
    guard: Arc<Guard>,
    freezer: Freezer,
    follower: Arc<Mutex<Follower>>,
    again: Arc<Bell>,
    provider: Arc<CryptoProvider>,
    /// What is kept on the disk, once the agent runs.
    desk: Option<Arc<Desk>>,
}

/// The threads of a [`Watch`]. Dropped, they end, and nothing is looked at any more.
#[derive(Debug)]
#[must_use = "dropped, nothing is looked at any more"]
pub struct Watching {
    end: Arc<Bell>,
    again: Arc<Bell>,
    desk: Option<Arc<Desk>>,
    clock: Arc<Bell>,
}

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
        let follower = Follower::open(Arc::clone(&guard), named, configuration, Arc::clone(&provider))?;
        freezer.serve(&guard);
        freezer.look();
        let (follower, again) = (Arc::new(Mutex::new(follower)), Arc::default());
        Ok(Self { guard, freezer, follower, again, provider, desk: None })
    }

    /// Begins to keep what the policy says on the disk, below `state` where it names no other place: the audit log, and what was
    /// carried. Without it nothing is written, and totals count from the start of the process.
    ///
    /// # Errors
    /// When there is no audit log although the policy wants one and no connection without, or no policy where there was one.
    pub fn keep(&mut self, state: Option<PathBuf>) -> Result<(), Error> {
        let mut follower = lock(&self.follower);
        let files: Vec<PathBuf> = follower.configuration().map(PathBuf::from).into_iter().collect();
        let name = name_of(&files, &self.provider);
        let mark = state.as_deref().map(|state| follower.mark(state));
        let desk = Arc::new(Desk::new((self.guard(), name), state, mark, &self.provider));
        let followed = desk.begin(follower.file());
        self.desk = Some(Arc::clone(&desk));
        follower.desk = Some(desk);
        if let Err(error) = followed {
            if self.guard.is_audited() || error.fault == Fault::PolicyGone {
                return Err(error);
            }
            tracing::error!(%error, remedy = error.fault.entry().remedy, "audit log cannot be written");
        }
        if let Some(policy) = self.guard.policy() {
            self.guard.note(|| follower.record("in force", &policy, 0));
        }
        drop(follower);
        if let Some(why) = self.guard.frozen() {
            self.guard.note(|| Record::new("freeze").text("why", &why));
        }
        if let Some(folder) = self.guard.audit_folder() {
            tracing::info!(folder = %folder.display(), "audit log");
        }
        Ok(())
    }

    /// Says whether there was a policy where there is none, below `state`.
    ///
    /// # Errors
    /// [`Fault::PolicyGone`].
    pub fn missed(&self, state: &Path) -> Result<(), Error> {
        if self.guard.policy().is_some() { Ok(()) } else { self.follower().mark(state).missed() }
    }

    /// Looks at the files from now on, at those that freeze five times a second.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start(&self) -> io::Result<Watching> {
        let bell = Arc::<Bell>::default;
        let watching = Watching { end: bell(), again: Arc::clone(&self.again), desk: self.desk.clone(), clock: bell() };
        let (freezer, end) = (self.freezer.clone(), Arc::clone(&watching.end));
        spawn("freeze", &self.freezer, move || {
            while end.wait(FREEZE_PERIOD).is_some() {
                freezer.look();
            }
        })?;
        let (freezer, guard, end) = (self.freezer.clone(), self.guard(), Arc::clone(&watching.clock));
        spawn("clock", &self.freezer, move || {
            while end.wait(CLOCK_PERIOD).is_some() {
                freezer.turn();
                pass(&guard);
            }
        })?;
        let (follower, again) = (Arc::clone(&self.follower), Arc::clone(&self.again));
        spawn("policy", &self.freezer, move || {
            while let Some(forced) = again.wait(POLICY_PERIOD) {
                lock(&follower).look(forced);
            }
        })?;
        if let Some(desk) = self.desk.clone() {
            spawn("keeper", &self.freezer, move || {
                while desk.bell.wait(KEEPER_PERIOD).is_some() {
                    desk.work();
                }
            })?;
        }
        Ok(watching)
    }

    /// Looks once, and waits for the disk; `forced` reads the policy whether it has changed or not.
    pub fn look(&self, forced: bool) {
        self.freezer.look();
        self.follower().look(forced);
        if let Some(desk) = &self.desk {
            desk.work();
        }
        pass(&self.guard);
    }

    /// Reads the policy again, changed or not, soon.
    pub fn read_again(&self) {
        self.again.ring();
    }

    /// Ends what [`Self::keep`] began, and waits for the disk. Blocks.
    pub fn close(&self) {
        if !self.freezer.wait_written(CLOSING) {
            tracing::error!("frozen in memory alone: the file could not be written before the end");
        }
        if let Some(desk) = &self.desk {
            desk.end();
        }
    }

    /// Returns the guard.
    pub fn guard(&self) -> Arc<Guard> {
        Arc::clone(&self.guard)
    }

    /// Returns the file of the policy, be it there or not.
    pub fn file(&self) -> Option<PathBuf> {
        self.follower().file().map(ToOwned::to_owned)
    }

    /// Returns what freezes the agent.
    pub const fn freezer(&self) -> &Freezer {
        &self.freezer
    }

    fn follower(&self) -> MutexGuard<'_, Follower> {
        lock(&self.follower)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        for bell in [&self.end, &self.clock, &self.again] {
            bell.end();
        }
        if let Some(desk) = &self.desk {
            desk.bell.end();
        }
    }
}

/// Starts a thread of its own, that closes everything if it fails: it would have seen what must be closed.
pub(crate) fn spawn(
    name: &'static str,
    freezer: &Freezer,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let closer = Closer { freezer: freezer.clone(), name };
    thread::Builder::new().name(format!("adit-{name}")).spawn(move || {
        let _closer = closer;
        body();
    })
}

/// Closes everything where the thread that has it fails.
struct Closer {
    freezer: Freezer,
    name: &'static str,
}

impl Drop for Closer {
    fn drop(&mut self) {
        if thread::panicking() {
            self.freezer.give_up(&format!("what looks after it has failed ({}): start the agent anew", self.name));
            tracing::error!(error = %Fault::Internal, thread = self.name, "everything is closed until the agent is started anew");
        }
    }
}

/// Lets the time pass for a guard.
fn pass(guard: &Guard) {
    let ended = guard.tick();
    if ended > 0 {
        tracing::warn!(connections = ended, "the policy allows less at this hour: connections are ended");
    }
}

fn lock(follower: &Mutex<Follower>) -> MutexGuard<'_, Follower> {
    follower.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often it is looked whether a file is there that freezes: a fifth of the second within which everything is closed.
const FREEZE_PERIOD: Duration = Duration::from_millis(200);
/// How often the hours are looked at, and whether files answer.
const CLOCK_PERIOD: Duration = Duration::from_millis(200);
/// How often it is looked whether the policy has changed.
const POLICY_PERIOD: Duration = Duration::from_millis(250);
/// How often the keeper looks what is due, if nothing has come.
const KEEPER_PERIOD: Duration = Duration::from_millis(500);
/// How long the end waits for the file of what is frozen in memory.
const CLOSING: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;

    use super::*;

    fn watch(name: &str) -> (PathBuf, Watch) {
        let folder = crate::testing::folder(name);
        let watch = Watch::open(None, Some(folder.join("adit.yml")), first_of(&folder), provider());
        (folder, watch.unwrap())
    }

    fn provider() -> Arc<CryptoProvider> {
        Arc::new(aws_lc_rs::default_provider())
    }

    fn first_of(folder: &Path) -> Freezer {
        Freezer::new([folder.to_owned()])
    }

    /// Waits for something that has to come.
    fn until(is: impl Fn() -> bool) {
        let begun = std::time::Instant::now();
        while !is() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it never came");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_watch_that_fails_closes_everything_for_good() {
        let (_folder, watch) = watch("watch-fails");

        let failed = spawn("test", &watch.freezer, || panic!("as it should")).unwrap().join();

        assert!(failed.is_err());
        watch.look(true);
        let why = watch.guard().frozen().unwrap();
        assert!(why.contains("has failed (test)"), "{why}");
    }

    /// The disk of the keeper and the policy's hang: each holds its own lock for as long.
    #[test]
    fn what_freezes_is_seen_while_the_policy_and_the_keeper_wait_for_their_disks() {
        let (folder, mut watch) = watch("watch-hangs");
        watch.keep(Some(folder.join("state"))).unwrap();
        let held = watch.clone();
        let (_policy, _keeper) = (held.follower(), held.desk.as_ref().unwrap().held());
        let _watching = watch.start().unwrap();

        std::fs::write(folder.join("frozen"), "why\n").unwrap();

        let guard = watch.guard();
        until(|| guard.frozen().is_some_and(|why| why.ends_with("is there: why")));
        std::fs::remove_file(folder.join("frozen")).unwrap();
        until(|| guard.frozen().is_none());
    }

    #[test]
    fn a_policy_that_is_gone_at_the_next_start_is_missed_until_the_mark_is_removed() {
        let (folder, mut first) = watch("watch-gone");
        let (state, policy) = (folder.join("state"), folder.join("policy.yml"));
        let again = || Watch::open(None, Some(folder.join("adit.yml")), first_of(&folder), provider()).unwrap();
        first.keep(Some(state.clone())).unwrap();
        assert_eq!(again().keep(Some(state.clone())), Ok(()), "there never was one");
        std::fs::write(&policy, "version: 1\naudit: { enabled: false }\n").unwrap();
        first.look(true); // one that comes while the agent runs counts as well
        std::fs::remove_file(&policy).unwrap();
        first.look(true);
        assert!(first.guard().policy().is_some());

        let missed = again().keep(Some(state.clone())).unwrap_err();

        assert_eq!(missed.fault, Fault::PolicyGone);
        assert_eq!(again().missed(&state), Err(missed.clone()));
        std::fs::remove_file(missed.detail.rsplit_once("remove ").unwrap().1).unwrap();
        assert_eq!(again().keep(Some(state)), Ok(()));
    }

    #[test]
    fn a_policy_is_taken_while_the_keeper_waits_for_its_disk() {
        let (folder, mut watch) = watch("watch-keeper-hangs");
        watch.keep(Some(folder.join("state"))).unwrap();
        let held = watch.clone();
        let keeper = held.desk.as_ref().unwrap().held();
        let _watching = watch.start().unwrap();

        std::fs::write(folder.join("policy.yml"), "version: 1\naudit: { on_failure: refuse }\n").unwrap();

        let guard = watch.guard();
        until(|| guard.policy().is_some());
        assert!(guard.is_audited() && guard.audit_folder().is_none(), "nothing goes on without a record");
        drop(keeper);
        until(|| guard.audit_folder().is_some());
        watch.close();
    }
}
