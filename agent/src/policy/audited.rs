//! The log that a guard writes to: what comes of each connection without a record is the policy's to say.

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Guard, Reason, Refusal};
use crate::{
    audit::{Log, Record},
    errors::{Error, Fault},
};

/// Where a guard writes.
#[derive(Debug, Default)]
pub(super) struct Audited(Mutex<Place>);

/// What there is to write to.
#[derive(Clone, Debug, Default)]
pub(super) enum Place {
    /// Nothing: no policy asks for it.
    #[default]
    Off,
    On(Log),
    /// A policy asks for it, and it cannot be opened: no connection without a record.
    Missing(String),
}

impl Audited {
    pub(super) fn set(&self, place: Place) -> Place {
        core::mem::replace(&mut self.lock(), place)
    }

    fn log(&self) -> Option<Log> {
        match &*self.lock() {
            Place::On(log) => Some(log.clone()),
            Place::Off | Place::Missing(_) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard {
    /// Writes a record, some time; nothing where there is no log.
    pub(crate) fn note(&self, record: impl FnOnce() -> Record) {
        if let Some(log) = self.audited.log() {
            log.note(record().text("policy", &self.version()));
        }
    }

    /// Returns whether there is anything to write to.
    pub(crate) fn is_audited(&self) -> bool {
        !matches!(*self.audited.lock(), Place::Off)
    }

    /// Returns why nothing can be written, if that is so, and whether connections are refused for it.
    pub(crate) fn audit_trouble(&self) -> Option<(String, bool)> {
        let place = self.audited.lock().clone();
        match place {
            Place::Off => None,
            Place::Missing(why) => Some((why, true)),
            Place::On(log) => {
                let trouble = Error::new(Fault::AuditUnwritable, log.trouble()?);
                Some((trouble.to_string(), log.refuses()))
            }
        }
    }

    /// Returns the folder of the log.
    pub(crate) fn audit_folder(&self) -> Option<PathBuf> {
        self.audited.log().map(|log| log.folder().to_owned())
    }

    /// Writes that a connection begins, and waits until that survives the end of the process; returns the record's number.
    ///
    /// # Errors
    /// [`Reason::Audit`]: without a record it may not go on.
    pub(crate) async fn begin(&self, record: impl FnOnce() -> Record) -> Result<Option<u64>, Refusal> {
        let refusal = |why: String| Refusal { reason: Reason::Audit, rule: None, detail: format!("audit log: {why}") };
        let place = self.audited.lock().clone();
        let log = match place {
            Place::Off => return Ok(None),
            Place::Missing(why) => return Err(refusal(why)),
            Place::On(log) => log,
        };
        match log.written(record().text("policy", &self.version())).await {
            Ok(number) => Ok(Some(number)),
            Err(why) if log.refuses() => Err(refusal(why)),
            Err(_) => Ok(None), // the log counts it
        }
    }

    /// Writes that a connection has ended.
    pub(crate) async fn end(&self, record: impl FnOnce() -> Record) {
        if let Some(log) = self.audited.log() {
            log.put(record().text("policy", &self.version())).await;
        }
    }
}
