//! What is remembered of updates: the newest manifest that was seen, a version on trial, and those that failed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    config::{read_private, replace},
    errors::{Error, Fault},
};

use super::Version;

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// When the newest manifest of each channel was signed: an earlier one is an old copy.
    pub(crate) seen: BTreeMap<String, i64>,
    /// A version that has yet to show that it connects.
    pub(crate) trial: Option<Trial>,
    /// Versions that were put back, and are not taken again unless a person asks.
    pub(crate) failed: Vec<String>,
}

/// A version on trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// The file that it took.
    pub(crate) executable: PathBuf,
    /// Where the one before is.
    pub(crate) previous: PathBuf,
    /// Its version.
    pub(crate) version: String,
    /// The version before.
    pub(crate) from: String,
    /// How often it was started.
    pub(crate) starts: u32,
}

impl Trial {
    /// Returns whether the program at `executable`, of that version, is the one on trial, and the one before is there.
    pub(crate) fn is_of(&self, executable: &Path, version: &Version) -> bool {
        self.executable == executable && self.version == version.to_string() && self.previous.exists()
    }
}

/// What a start has to do about a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// Nothing.
    No,
    /// It has to connect within the time of a trial.
    Trial(Trial),
    /// It was started too often without ever connecting: it is to be put back at once.
    Failed(Trial),
}

/// Where the record is.
#[derive(Clone, Debug)]
pub(crate) struct Store(PathBuf);

impl Store {
    /// Keeps it in the agent's folder of state.
    pub(crate) fn new(folder: &Path) -> Self {
        Self(folder.join("update.json"))
    }

    /// Reads it; what is not there or cannot be understood is empty.
    pub(crate) fn read(&self) -> Record {
        let text = read_private(&self.0, MAX_RECORD).ok();
        text.and_then(|text| serde_json::from_slice(text.expose()).ok()).unwrap_or_default()
    }

    /// Changes it.
    ///
    /// # Errors
    /// [`Fault::FileUnwritable`].
    pub(crate) fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), Error> {
        let mut record = self.read();
        change(&mut record);
        let excess = record.failed.len().saturating_sub(MAX_FAILED);
        record.failed.drain(..excess);
        let text = serde_json::to_vec(&record).unwrap_or_default();
        replace(&self.0, &text)
            .map_err(|error| Error::new(Fault::FileUnwritable, format!("{}: {error}", self.0.display())))
    }

    /// Counts a start of `executable`, which has that version. One while the customer has frozen everything says nothing about the
    /// version, and does not count.
    pub(crate) fn begin(&self, executable: &Path, version: &Version, frozen: bool) -> Begun {
        let Some(mut trial) = self.read().trial.filter(|trial| trial.is_of(executable, version)) else {
            return Begun::No;
        };
        if frozen {
            return Begun::Trial(trial);
        }
        if trial.starts >= MAX_STARTS {
            return Begun::Failed(trial);
        }
        trial.starts += 1;
        let counted = trial.clone();
        if let Err(error) = self.change(|record| record.trial = Some(counted)) {
            // It could not be counted for ever: the trial goes by time alone.
            tracing::warn!(%error, "the start of a new version is not counted");
        }
        Begun::Trial(trial)
    }

    /// Ends a trial well.
    ///
    /// # Errors
    /// [`Fault::FileUnwritable`].
    pub(crate) fn passed(&self) -> Result<(), Error> {
        self.change(|record| record.trial = None)
    }

    /// Ends a trial badly: the version is remembered.
    ///
    /// # Errors
    /// [`Fault::FileUnwritable`].
    pub(crate) fn failed(&self, version: &str) -> Result<(), Error> {
        self.change(|record| {
            record.trial = None;
            record.failed.retain(|known| known != version);
            record.failed.push(version.to_owned());
        })
    }
}

/// A record is not larger, in octets.
const MAX_RECORD: u64 = 64 << 10;
/// More versions that failed are not remembered.
const MAX_FAILED: usize = 32;
/// A version that was started as often without connecting is put back.
const MAX_STARTS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_never_connects_is_put_back_after_its_starts_and_remembered() {
        let folder = crate::testing::folder("update-trial");
        let store = Store::new(&folder);
        let (executable, previous) = (folder.join("adit"), folder.join("adit.previous"));
        let [old, new] = ["1.0.0", "1.1.0"].map(|text| Version::parse(text).unwrap());
        let trial = Trial {
            executable: executable.clone(),
            previous: previous.clone(),
            version: "1.1.0".into(),
            from: "1.0.0".into(),
            starts: 0,
        };
        let begin = |frozen| store.begin(&executable, &new, frozen);
        assert_eq!(begin(false), Begun::No);
        store.change(|record| record.trial = Some(trial.clone())).unwrap();

        assert_eq!(begin(false), Begun::No, "there is nothing to put back");
        std::fs::write(&previous, "").unwrap();
        assert_eq!(store.begin(Path::new("/elsewhere"), &new, false), Begun::No);
        assert_eq!(store.begin(&executable, &old, false), Begun::No, "it never took the place of this one");
        for starts in 1..=MAX_STARTS {
            assert!(matches!(begin(true), Begun::Trial(_)));
            assert_eq!(begin(false), Begun::Trial(Trial { starts, ..trial.clone() }));
        }
        assert!(matches!(begin(true), Begun::Trial(_)), "a start while everything is frozen says nothing");
        assert!(matches!(begin(false), Begun::Failed(_)));
        store.failed("1.1.0").unwrap();

        assert_eq!(begin(false), Begun::No);
        assert_eq!(store.read().failed, ["1.1.0"]);
    }

    #[test]
    fn what_failed_is_remembered_to_a_bound() {
        let store = Store::new(&crate::testing::folder("update-bound"));
        for number in 0..40 {
            store.failed(&format!("1.{number}.0")).unwrap();
        }
        assert_eq!((store.read().failed.len(), store.read().failed[0].as_str()), (32, "1.8.0"));
    }
}
