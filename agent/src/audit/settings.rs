//! What a policy says of the audit log.

use core::time::Duration;
use std::path::PathBuf;

/// The section `audit` of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// `enabled`: yes, wherever there is a policy.
    pub enabled: bool,
    /// `path`: the folder; `audit` in the agent's state folder without.
    pub path: Option<PathBuf>,
    /// `on_failure`: what becomes of new connections while nothing can be written.
    pub on_failure: OnFailure,
    /// `sync`: when the disk is asked to keep what was written.
    pub sync: SyncWhen,
    /// `max_size`: a file is not much longer, in octets.
    pub max_size: u64,
    /// `max_age`: a file does not begin earlier.
    pub max_age: Duration,
    /// `keep`: so many files are kept.
    pub keep: u64,
}

/// What becomes of new connections while nothing can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// They are refused: no record, no connection.
    #[default]
    Refuse,
    /// They are carried, and how many records were lost is written later.
    Continue,
}

/// When the disk is asked to keep what was written. Whatever was written survives the end of the process at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncWhen {
    /// Within a second: so much is lost with the power.
    #[default]
    Second,
    /// Before a connection goes on.
    Each,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            path: None,
            on_failure: OnFailure::default(),
            sync: SyncWhen::default(),
            max_size: 16 << 20,
            max_age: Duration::from_secs(7 * 86_400),
            keep: 64,
        }
    }
}
