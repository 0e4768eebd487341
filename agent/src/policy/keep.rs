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

use super::{Guard, Policy, audited::Place, bell::Bell, mark::Mark, totals::TotalsFile};
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
        guard: Arc<Guard>,
        state: Option<PathBuf>,
        mark: Option<Mark>,
        provider: &CryptoProvider,
    ) -> Self {
        let counting = Arc::<AtomicBool>::default();
        let keeper = Keeper::new(Arc::clone(&guard), state, Arc::clone(&counting), provider);
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
    hasher: Option<Hasher>,
    /// What the log goes by, and the log, if it could be opened.
    audit: Option<(Settings, Option<Log>)>,
    totals: Option<TotalsFile>,
    counting: Arc<AtomicBool>,
    /// When what could not be done is tried again, and what was counted is written.
    due: Instant,
    told: Option<String>,
    /// The agent has ended: nothing is opened again.
    is_over: bool,
}

impl Keeper {
    fn new(guard: Arc<Guard>, state: Option<PathBuf>, counting: Arc<AtomicBool>, provider: &CryptoProvider) -> Self {
        let hasher = Hasher::of(provider);
        let (due, is_over) = (Instant::now(), false);
        Self { guard, state, hasher, audit: None, totals: None, counting, due, told: None, is_over }
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
        let is_whole = self.is_open() && (self.totals.is_some() || !counts(policy));
        if is_whole {
            if self.save() {
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
            (Some(state), Some(hasher)) => TotalsFile::open(state, hasher),
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
/// How soon it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a policy waits for its keeper, once it is in force: the log tells of it when its records are where it says.
const HANDING: Duration = Duration::from_secs(1);
/// More policies than these are not followed by a disk that hangs.
const MAX_TAKEN: usize = 64;
