//! macOS: the unified log, with the label of the daemon as the subsystem.

#[cfg(target_os = "macos")]
use std::io;

#[cfg(target_os = "macos")]
use oslog::OsLog;
use tracing::Level;

#[cfg(target_os = "macos")]
use super::Sink;
#[cfg(target_os = "macos")]
use crate::service::launchd::label;

/// The log of one subsystem.
#[cfg(target_os = "macos")]
pub(in crate::log) struct System(OsLog);

#[cfg(target_os = "macos")]
impl System {
    /// Opens the log of the service's daemon.
    pub(in crate::log) fn open(service: &str) -> io::Result<Option<Self>> {
        Ok(Some(Self(OsLog::new(&label(service), "agent"))))
    }
}

#[cfg(target_os = "macos")]
impl Sink for System {
    fn keep(&self, level: Level, text: &str) {
        let kind = match kind(level) {
            Kind::Error => oslog::Level::Error,
            Kind::Default => oslog::Level::Default,
            Kind::Info => oslog::Level::Info,
            Kind::Debug => oslog::Level::Debug,
        };
        self.0.with_level(kind, super::cut(text));
    }
}

/// How the unified log tells events apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Kept on disk, and shown with a mark.
    Error,
    /// Kept on disk.
    Default,
    /// Kept in memory for a while.
    Info,
    /// Kept only where somebody has asked for it.
    Debug,
}

/// Returns the type of events of a level. A warning is an error, as Apple's own `Logger.warning` has it; what is said in the ordinary
/// course of things has to be on disk, which the type that is called info is not.
const fn kind(level: Level) -> Kind {
    match level {
        Level::ERROR | Level::WARN => Kind::Error,
        Level::INFO => Kind::Default,
        Level::DEBUG => Kind::Info,
        Level::TRACE => Kind::Debug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_in_the_ordinary_course_is_kept_on_disk_by_the_unified_log() {
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

        assert_eq!(levels.map(kind), [Kind::Error, Kind::Error, Kind::Default, Kind::Info, Kind::Debug]);
    }
}
