//! Windows: the event log `Application`, with the service's name as the source.

#[cfg(windows)]
use std::{
    io,
    sync::{Mutex, PoisonError},
};

use tracing::Level;
#[cfg(windows)]
use winsafe::{HEVENTLOG, co, guard::DeregisterEventSourceGuard};

#[cfg(windows)]
use super::Sink;

/// An open source of events.
#[cfg(windows)]
pub(in crate::log) struct System(Mutex<DeregisterEventSourceGuard>);

#[cfg(windows)]
impl System {
    /// Opens the source that is named like the service; one that is not registered works as well, but is shown less nicely.
    pub(in crate::log) fn open(service: &str) -> io::Result<Option<Self>> {
        let source =
            HEVENTLOG::RegisterEventSource(None, service).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Some(Self(Mutex::new(source))))
    }
}

#[cfg(windows)]
impl Sink for System {
    fn keep(&self, level: Level, text: &str) {
        let (kind, id) = kind(level);
        let kind = match kind {
            Kind::Error => co::EVENTLOG::ERROR_TYPE,
            Kind::Warning => co::EVENTLOG::WARNING_TYPE,
            Kind::Information => co::EVENTLOG::INFORMATION_TYPE,
        };
        let source = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = source.ReportEvent(kind, 0, id, None, &[insertion(text)], &[]); // there is nowhere to say so
    }
}

/// How the event log tells events apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Error,
    Warning,
    Information,
}

/// Returns the type and the number of events of a level. The numbers are among the 1,000 that `EventCreate.exe` has a text for.
const fn kind(level: Level) -> (Kind, u32) {
    match level {
        Level::ERROR => (Kind::Error, 1),
        Level::WARN => (Kind::Warning, 2),
        Level::INFO => (Kind::Information, 3),
        Level::DEBUG => (Kind::Information, 4),
        Level::TRACE => (Kind::Information, 5),
    }
}

/// Returns a line as the event log takes it.
///
/// Whoever shows events replaces `%` and a number by something else, within what was inserted too, and nothing escapes it. So there is
/// none: `\u0025` is what JSON reads as one, and what others cannot have written, whose backslashes are doubled (V94).
fn insertion(text: &str) -> String {
    super::cut(&text.replace('%', "\\u0025")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_has_its_type_and_its_number_in_the_event_log() {
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

        assert_eq!(
            levels.map(kind),
            [
                (Kind::Error, 1),
                (Kind::Warning, 2),
                (Kind::Information, 3),
                (Kind::Information, 4),
                (Kind::Information, 5)
            ]
        );
    }

    /// V94
    #[test]
    fn nothing_that_others_wrote_is_replaced_when_the_event_is_shown() {
        assert_eq!(insertion("fe80::1%12, %%3 and 100%"), "fe80::1\\u002512, \\u0025\\u00253 and 100\\u0025");

        let json = r#"{"message":"fe80::1%12"}"#;
        let parsed: serde_json::Value = serde_json::from_str(&insertion(json)).unwrap();
        assert_eq!(parsed["message"], "fe80::1%12");
    }

    #[test]
    fn an_event_is_no_longer_than_the_event_log_takes() {
        assert_eq!(insertion(&"%1".repeat(super::super::MOST)).encode_utf16().count(), super::super::MOST);
    }
}
