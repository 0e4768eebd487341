//! Follows the file of a policy: one that changes holds at once, one that is wrong changes nothing and is shouted about.

use std::{
    fs::Metadata,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::crypto::CryptoProvider;

use super::{Found, Guard, Policy, find, keep::Desk, load, mark::Mark};
use crate::{
    audit::Record,
    config::{ConfigFault, fault},
    errors::Fault,
    trust::sha256,
};

/// What looks at the file of a policy.
#[derive(Debug)]
pub(super) struct Follower {
    guard: Arc<Guard>,
    named: Option<PathBuf>,
    configuration: Option<PathBuf>,
    provider: Arc<CryptoProvider>,
    seen: Option<Seen>,
    ambiguous: bool,
    /// The SHA-256 of the policy in force, as hexadecimal digits.
    print: String,
    /// Who follows on the disk, once the agent runs.
    pub(super) desk: Option<Arc<Desk>>,
}

/// Where a policy was, and what tells one content from another without reading it.
type Seen = (PathBuf, Option<Stamp>);

/// What changes whenever a file does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp(Vec<i128>);

impl Follower {
    /// Reads the policy for the first time.
    ///
    /// # Errors
    /// Every fault of the policy; a policy that was named has to exist.
    pub(super) fn open(
        guard: Arc<Guard>,
        named: Option<PathBuf>,
        configuration: Option<PathBuf>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Vec<ConfigFault>> {
        let (seen, ambiguous, print, desk) = (None, false, String::new(), None);
        let mut follower = Self { guard, named, configuration, provider, seen, ambiguous, print, desk };
        let file = find(follower.named.as_deref(), follower.configuration.as_deref())?;
        follower.seen = Some((file.clone(), stamp(&file)));
        match load(&file)? {
            Some(found) => follower.take(&file, found),
            None if follower.named.is_some() => {
                let remedy = "Write it, or leave --policy and ADIT_POLICY out";
                return Err(vec![fault(&file, None, "does not exist", remedy)]);
            }
            None => {}
        }
        Ok(follower)
    }

    /// Returns the configuration beside which it is looked for.
    pub(super) fn configuration(&self) -> Option<&Path> {
        self.configuration.as_deref()
    }

    /// Returns what remembers the policy of this configuration.
    pub(super) fn mark(&self, state: &Path) -> Mark {
        Mark::of(self.configuration.as_deref(), state, &self.provider)
    }

    /// Returns the file of the policy, be it there or not.
    pub(super) fn file(&self) -> Option<&Path> {
        self.seen.as_ref().map(|(file, _)| file.as_path())
    }

    /// Looks at the file; `forced` reads it whether it has changed or not.
    pub(super) fn look(&mut self, forced: bool) {
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
                self.shout(&[fault(&file, None, "is gone", "Put it back: without it the agent does not start again")]);
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
        if let Some(desk) = &self.desk {
            desk.expect(&found.policy);
        }
        let ended = self.guard.set(found, version.clone());
        if let Some((desk, policy)) = self.desk.as_ref().zip(self.guard.policy()) {
            desk.hand((Arc::clone(&policy), file.to_owned(), self.record("taken", &policy, ended)));
        }
        tracing::info!(file = %file.display(), version, rules, connections_ended = ended, "policy in force");
    }

    /// Returns what is written down of a policy in force.
    pub(super) fn record(&self, event: &str, policy: &Policy, ended: usize) -> Record {
        let file = self.file().map(|file| file.display().to_string());
        let record =
            Record::new("policy").text("event", event).maybe("file", file.as_deref()).text("sha256", &self.print);
        record.number("rules", policy.rules.len() as u64).number("connections_ended", ended as u64)
    }

    fn shout(&self, faults: &[ConfigFault]) {
        for fault in faults {
            let error = Fault::PolicyInvalid;
            tracing::error!(%error, %fault, "policy not taken: what was in force stays");
        }
        let first = faults.first().map(ToString::to_string);
        self.guard.note(|| Record::new("policy").text("event", "not taken").maybe("fault", first.as_deref()));
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
