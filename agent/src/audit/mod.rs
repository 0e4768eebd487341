//! The audit log: what this agent did, on the customer's host, in records of which each names the one before it by its hash.
//!
//! [`Record`], [`Checker`] and [`Scanner`] are pure: octets in, octets and verdicts out. A thread of its own does the rest, so that no
//! disk holds up a connection that is carried. Whoever may write the files can write a new chain; whoever has a record of the old one
//! elsewhere sees that.

mod chain;
mod entry;
mod folder;
mod head;
mod log;
mod reader;
mod record;
mod scan;
mod settings;
mod store;
mod syslog;
mod writer;

pub use chain::{Checker, Head, Misfit};
pub use record::{Hasher, Header, Link, MAX_LINE, Print, Record, Stamp};
pub use scan::{Scanned, Scanner};
pub use settings::{OnFailure, Settings, SyncWhen};

pub(crate) use entry::{Draft, caller_of};
pub(crate) use head::head;
pub(crate) use log::Log;
pub(crate) use reader::{Broken, Reader, Summary};
pub(crate) use syslog::{hostname, syslog};

pub(crate) use folder::{Claim, check as check_owner, folders};
