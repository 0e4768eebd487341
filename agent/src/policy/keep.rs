//! What a running agent keeps on the disk as its policy says: the audit log, and what was carried.

use core::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rustls::crypto::CryptoProvider;

use super::{
    Guard, Policy,
    audited::Place,
    bell::Bell,
    mark::Mark,
    seen::{Seen, SeenFile},
    totals::TotalsFile,
};
use crate::{
    audit::{Hasher, Log, OnFailure, Record, Settings},
    errors::{Error, Fault},
};

/// A keeper that is handed its work, so that nobody waits for the disk but itself.
#[derive(Debug)]
pub(super) struct Desk {
    guard: Arc<Guard>,
    keeper: Mutex<Keeper>,
    inbox: Mutex<Inbox>,
    done: Condvar,
    /// Whether what was counted before is known.
    counting: Arc<AtomicBool>,
    /// What remembers that there is a policy.
    mark: Option<Mark>,
    pub(super) bell: Bell,
}

/// What has come and is not done.
#[derive(Debug, Default)]
struct Inbox {
    taken: VecDeque<Taken>,
    is_busy: bool,
}

/// A policy that is in force, its file, and what is to be written down of that.
type Taken = (Arc<Policy>, PathBuf, Record);

impl Desk {
    pub(super) fn new(
        (guard, name): (Arc<Guard>, String),
        state: Option<PathBuf>,
        mark: Option<Mark>,
        provider: &CryptoProvider,
    ) -> Self {
        let counting = Arc::<AtomicBool>::default();
        let keeper = Keeper::new((Arc::clone(&guard), name), state, Arc::clone(&counting), provider);
        let (keeper, inbox, done) = (Mutex::new(keeper), Mutex::default(), Condvar::new());
        Self { guard, keeper, inbox, done, counting, mark, bell: Bell::default() }
    }

    /// Follows the policy in force at the start.
    ///
    /// # Errors
    /// As [`Keeper::follow`].
    pub(super) fn begin(&self, file: Option<&Path>) -> Result<(), Error> {
        let Some(policy) = self.guard.policy() else { return self.mark.as_ref().map_or(Ok(()), Mark::missed) };
        if let Some(file) = file {
            self.remember(file);
        }
        self.keeper().follow(&policy)
    }

    /// Prepares for a policy that comes into force: what must not go on without the disk waits for it.
    pub(super) fn expect(&self, policy: &Policy) {
        if counts(policy) && !self.counting.load(Ordering::Acquire) {
            self.guard.uncounted(Some("it is being read".to_owned()));
        }
        if policy.audit.enabled && policy.audit.on_failure == OnFailure::Refuse && !self.guard.is_audited() {
            self.guard.audited.set(Place::Missing("it is being opened".to_owned()));
        }
    }

    /// Hands over a policy that is in force. Waits a little, for a disk that is as it should be.
    pub(super) fn hand(&self, taken: Taken) {
        let mut inbox = self.inbox();
        if inbox.taken.len() >= MAX_TAKEN {
            inbox.taken.pop_front(); // the later ones hold
        }
        inbox.taken.push_back(taken);
        self.bell.ring();
        let waited = self.done.wait_timeout_while(inbox, HANDING, |inbox| inbox.is_busy || !inbox.taken.is_empty());
        drop(waited);
    }

    /// Does what has come and what is due.
    pub(super) fn work(&self) {
        let mut keeper = self.keeper();
        while let Some((policy, file, record)) = self.next() {
            self.remember(&file);
            if let Err(error) = keeper.follow(&policy) {
                tracing::error!(%error, remedy = error.fault.entry().remedy, "audit log cannot be written");
            }
            self.guard.note(|| record);
        }
        let policy = self.guard.policy();
        keeper.tick(policy.as_deref());
    }

    /// Ends it, and waits for the disk.
    pub(super) fn end(&self) {
        self.keeper().end();
    }

    /// Holds it up, as a disk does.
    #[cfg(test)]
    pub(super) fn held(&self) -> impl Sized {
        self.keeper()
    }

    fn remember(&self, file: &Path) {
        let Some(mark) = &self.mark else { return };
        if let Err(error) = mark.write(file) {
            tracing::warn!(%error, "it is not remembered that there is a policy: one that is gone is not missed at the next start");
        }
    }

    fn next(&self) -> Option<Taken> {
        let mut inbox = self.inbox();
        let next = inbox.taken.pop_front();
        inbox.is_busy = next.is_some();
        if next.is_none() {
            self.done.notify_all();
        }
        next
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the disk as the policy says.
#[derive(Debug)]
struct Keeper {
    guard: Arc<Guard>,
    state: Option<PathBuf>,
    /// What tells this agent from others that share the state.
    name: String,
    hasher: Option<Hasher>,
    /// What the log goes by, and the log, if it could be opened.
    audit: Option<(Settings, Option<Log>)>,
    totals: Option<TotalsFile>,
    counting: Arc<AtomicBool>,
    seen: Option<SeenFile>,
    /// When what could not be done is tried again, and what was counted is written.
    due: Instant,
    told: Option<String>,
    /// The agent has ended: nothing is opened again.
    is_over: bool,
}

impl Keeper {
    fn new(
        (guard, name): (Arc<Guard>, String),
        state: Option<PathBuf>,
        counting: Arc<AtomicBool>,
        provider: &CryptoProvider,
    ) -> Self {
        let (hasher, due) = (Hasher::of(provider), Instant::now());
        let (audit, totals, seen, told) = (None, None, None, None);
        Self { guard, state, name, hasher, audit, totals, seen, counting, due, told, is_over: false }
    }

    /// Follows a policy that has come into force.
    ///
    /// # Errors
    /// Why there is no log although the policy wants one; what becomes of connections is settled.
    fn follow(&mut self, policy: &Policy) -> Result<(), Error> {
        if self.is_over {
            return Ok(());
        }
        self.count(policy);
        self.recall(policy);
        let wanted = &policy.audit;
        let place = |settings: &Settings| settings.enabled.then(|| folder(settings, self.state.as_deref())).flatten();
        let wanted_place = place(wanted);
        if let Some((settings, Some(log))) = &mut self.audit
            && wanted_place.is_some()
            && wanted_place == place(settings)
        {
            log.set(wanted.clone());
            settings.clone_from(wanted);
            return Ok(());
        }
        let opened = if wanted.enabled { self.open(wanted).map(Some) } else { Ok(None) };
        let place = match &opened {
            Ok(Some(log)) => Place::On(log.clone()),
            Ok(None) => Place::Off,
            Err(_) if wanted.on_failure == OnFailure::Continue => Place::Off,
            Err(error) => Place::Missing(error.to_string()),
        };
        let before = self.guard.audited.set(place);
        if let Place::On(log) = before {
            log.note(
                Record::new("policy").text("event", "the log goes on elsewhere, or ends").text("next", &told(&opened)),
            );
            log.close();
        }
        let (log, result) = match opened {
            Ok(log) => (log, Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.audit = Some((wanted.clone(), log));
        result
    }

    /// Tries again what could not be done, and writes what was counted, every few seconds.
    fn tick(&mut self, policy: Option<&Policy>) {
        let Some(policy) = policy.filter(|_| !self.is_over && self.due <= Instant::now()) else { return };
        let knows_time = self.seen.is_some() || self.state.is_none() || expiries(policy).next().is_none();
        let is_whole = self.is_open() && (self.totals.is_some() || !counts(policy)) && knows_time;
        if is_whole {
            let (saved, noted) = (self.save(), self.note_time(policy, false));
            if saved && noted {
                self.told = None;
            }
        } else if let Err(error) = self.follow(policy) {
            self.tell(&error);
        }
        self.due = Instant::now() + if self.told.is_some() { RETRY } else { PERIOD };
    }

    /// Writes what was counted, and that the agent ends in order.
    fn end(&mut self) {
        self.save();
        if let Some(policy) = self.guard.policy() {
            self.note_time(&policy, true);
        }
        self.is_over = true;
        if let Place::On(log) = self.guard.audited.set(Place::Off) {
            log.close();
        }
        self.audit = None;
    }

    fn is_open(&self) -> bool {
        matches!(&self.audit, Some((settings, log)) if log.is_some() || !settings.enabled)
    }

    fn open(&self, settings: &Settings) -> Result<Log, Error> {
        let unwritable = |detail: &str| Error::new(Fault::AuditUnwritable, detail.to_owned());
        let hasher = self.hasher.ok_or_else(|| unwritable("this build has no SHA-256"))?;
        let folder = folder(settings, self.state.as_deref()).ok_or_else(|| unwritable(NOWHERE))?;
        Log::open(&folder, settings.clone(), hasher)
    }

    /// Counts on from where an agent before this one ended, where anything has a total.
    fn count(&mut self, policy: &Policy) {
        if !counts(policy) {
            self.guard.uncounted(None);
            return;
        }
        if self.totals.is_some() {
            self.save(); // what was expected is known
            return;
        }
        let opened = match (&self.state, self.hasher) {
            (Some(state), Some(hasher)) => TotalsFile::open(state, &self.name, hasher),
            _ => Err(NOWHERE.to_owned()),
        };
        match opened {
            Ok((file, found)) => {
                self.guard.add(&found);
                self.totals = Some(file);
                self.counting.store(true, Ordering::Release);
                self.guard.uncounted(None);
            }
            Err(why) => self.distrust(why),
        }
    }

    /// Writes what was counted; returns whether that is so, or nothing is.
    fn save(&mut self) -> bool {
        let Some(file) = &mut self.totals else { return true };
        match file.write(&self.guard.totals()) {
            Ok(()) => {
                self.guard.uncounted(None);
                true
            }
            Err(error) => {
                self.distrust(error.to_string());
                false
            }
        }
    }

    /// Takes over which time was seen under this policy before, where anything in it expires.
    fn recall(&mut self, policy: &Policy) {
        let (Some(state), Some(hasher)) = (&self.state, self.hasher) else { return };
        if self.seen.is_some() || expiries(policy).next().is_none() {
            return;
        }
        match SeenFile::open(state, &self.name, hasher) {
            Ok(file) => {
                let seen = &file.written;
                self.guard.recall((seen.policy == self.guard.version()).then_some(seen.latest));
                self.seen = Some(file);
            }
            Err(why) => {
                self.guard.recall(Some(i64::MAX)); // it may have been the time at which everything ends
                self.tell(&Error::new(Fault::TotalsUnknown, why));
            }
        }
    }

    /// Writes which time was seen: when something expires, another policy comes, and else now and then. Returns whether that is so.
    fn note_time(&mut self, policy: &Policy, is_last: bool) -> bool {
        let Some(file) = &mut self.seen else { return true };
        let seen = Seen { policy: self.guard.version(), latest: self.guard.latest() };
        let before = if file.written.policy == seen.policy { file.written.latest } else { i64::MIN };
        let expires = expiries(policy).any(|expires| before < expires && expires <= seen.latest);
        let is_due = is_last || expires || before.saturating_add(NOTE) <= seen.latest;
        if !is_due || before == seen.latest || seen.latest == i64::MAX {
            return true;
        }
        match file.write(seen) {
            Ok(()) => true,
            Err(error) => {
                self.tell(&Error::new(Fault::TotalsUnknown, error.to_string()));
                false
            }
        }
    }

    fn distrust(&mut self, why: String) {
        let ended = self.guard.uncounted(Some(why.clone()));
        if ended > 0 {
            tracing::warn!(connections = ended, "what was carried cannot be counted on: connections are ended");
        }
        self.tell(&Error::new(Fault::TotalsUnknown, why));
    }

    /// Tells what is wrong, once.
    fn tell(&mut self, error: &Error) {
        let text = error.to_string();
        if self.told.as_ref() != Some(&text) {
            tracing::error!(%error, remedy = error.fault.entry().remedy, "the policy cannot be followed");
            self.told = Some(text);
        }
    }
}

/// Returns where a log is; nothing where no folder is known.
pub(crate) fn folder(settings: &Settings, state: Option<&Path>) -> Option<PathBuf> {
    settings.path.clone().or_else(|| state.map(|state| state.join("audit")))
}

/// Returns every moment at which something of a policy expires.
fn expiries(policy: &Policy) -> impl Iterator<Item = i64> {
    core::iter::once(&policy.bounds)
        .chain(policy.rules.iter().map(|rule| &rule.bounds))
        .filter_map(|bounds| bounds.expires)
}

fn counts(policy: &Policy) -> bool {
    let mut bounds = core::iter::once(&policy.bounds).chain(policy.rules.iter().map(|rule| &rule.bounds));
    bounds.any(|bounds| bounds.limits.total_bytes.is_some())
}

fn told(opened: &Result<Option<Log>, Error>) -> String {
    match opened {
        Ok(Some(log)) => log.folder().display().to_string(),
        Ok(None) => "nowhere".to_owned(),
        Err(error) => error.to_string(),
    }
}

const NOWHERE: &str = "no folder is known: set STATE_DIRECTORY, or name one in audit.path of the policy";
/// How often what was counted is written: so much is counted anew after a crash.
const PERIOD: Duration = Duration::from_secs(5);
/// How often the time is written, in seconds: by so much more a clock may be set back while the agent does not run.
const NOTE: i64 = 60;
/// How soon it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a policy waits for its keeper, once it is in force: the log tells of it when its records are where it says.
const HANDING: Duration = Duration::from_secs(1);
/// More policies than these are not followed by a disk that hangs.
const MAX_TAKEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Found;

    /// A guard whose policy lets requests be recorded until 2100, and what keeps it.
    fn kept(state: &Path, version: &str) -> (Arc<Guard>, Keeper) {
        let rule = "{ name: a, endpoints: ['*'], hosts: [localhost], ports: [1], protocols: [tcp] }";
        let text = format!(
            "version: 1\ncapture: true\nexpires: 2100-01-01T00:00:00Z\naudit: {{ enabled: false }}\nallow:\n  - {rule}\n"
        );
        let policy = Policy::parse(Path::new("policy.yml"), &text).unwrap();
        let guard = Guard::new();
        guard.set(Found { policy, text }, version.to_owned());
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let mut keeper =
            Keeper::new((Arc::clone(&guard), "crm".to_owned()), Some(state.to_owned()), Arc::default(), &provider);
        keeper.follow(&guard.policy().unwrap()).unwrap();
        (guard, keeper)
    }

    const EXPIRED: i64 = 4_102_444_800;

    #[test]
    fn what_has_expired_stays_so_over_restarts_whatever_the_clock_shows_until_another_policy_comes() {
        let state = crate::testing::folder("keep-time");
        let (guard, mut keeper) = kept(&state, "one");
        assert!(guard.captures());
        guard.recall(Some(EXPIRED)); // as by a clock that goes on
        assert!(!guard.captures());
        keeper.due = Instant::now();
        keeper.tick(guard.policy().as_deref());
        drop(keeper); // killed

        let (guard, keeper) = kept(&state, "one");
        assert!(!guard.captures(), "by a clock that was set back");
        drop(keeper);
        let (guard, mut keeper) = kept(&state, "two");
        assert!(guard.captures());
        keeper.end();
        drop(keeper);
        let (guard, keeper) = kept(&state, "one");
        assert!(guard.captures(), "the last policy is known, and no other");
        drop(keeper);
    }

    #[test]
    fn a_time_that_is_not_known_is_past_until_its_file_is_removed() {
        let state = crate::testing::folder("keep-time-changed");
        let file = state.join("seen").join("crm").join("seen.json");
        kept(&state, "one").1.end();
        std::fs::write(&file, "{}").unwrap();

        let (guard, mut keeper) = kept(&state, "one");
        assert!(!guard.captures());
        std::fs::remove_file(&file).unwrap();
        keeper.due = Instant::now();
        keeper.tick(guard.policy().as_deref());
        assert!(guard.captures());
    }
}
