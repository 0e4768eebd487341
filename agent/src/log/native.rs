//! The system's own log, for a service whose standard error nobody reads: the event log of Windows, the unified log of macOS.

#[cfg(any(target_os = "macos", test))]
mod macos;
#[cfg(any(windows, test))]
mod windows;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    Layer,
    fmt::{
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    layer::Context,
};

use super::{Fields, json, logfmt, said};
use crate::config::LogFormat;

#[cfg(target_os = "macos")]
pub(super) use macos::System;
#[cfg(windows)]
pub(super) use windows::System;

/// Where what a service has to say is kept, event by event.
pub(super) trait Sink {
    /// Keeps an event. One that cannot be kept is lost: there is nowhere to say so.
    fn keep(&self, level: Level, text: &str);
}

/// Gives every event to the system's log.
pub(super) struct Native<S> {
    sink: S,
    format: Option<LogFormat>,
}

impl<S: Sink> Native<S> {
    /// `format` is what the configuration says; without, the system's log has level and time in places of its own.
    pub(super) const fn new(sink: S, format: Option<LogFormat>) -> Self {
        Self { sink, format }
    }

    /// Keeps what an event says, as one line.
    pub(super) fn keep(&self, level: Level, fields: &Fields) {
        let mut time = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut time)); // a String takes it all
        let text = match self.format {
            Some(LogFormat::Json) => json(&time, level, fields),
            Some(LogFormat::Logfmt) => logfmt(&time, level, fields),
            Some(LogFormat::Term) | None => format!("{} {}", level.as_str(), said(fields)),
        };
        self.sink.keep(level, &text);
    }
}

impl<S: Subscriber, W: Sink + 'static> Layer<S> for Native<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.keep(*event.metadata().level(), &fields);
    }
}

/// Elsewhere standard error is where a service speaks.
#[cfg(not(any(windows, target_os = "macos")))]
pub(super) enum System {}

#[cfg(not(any(windows, target_os = "macos")))]
impl System {
    pub(super) const fn open(_: &str) -> std::io::Result<Option<Self>> {
        Ok(None)
    }
}

#[cfg(not(any(windows, target_os = "macos")))]
impl Sink for System {
    fn keep(&self, _: Level, _: &str) {
        match *self {}
    }
}

/// Cuts a line where it is longer than [`MOST`], so that the beginning is kept whatever it is.
#[cfg(any(windows, target_os = "macos", test))]
fn cut(text: &str) -> &str {
    let mut units = 0;
    let fits = |(_, c): &(usize, char)| {
        units += c.len_utf16();
        units <= MOST
    };
    text.char_indices().take_while(fits).last().and_then(|(at, c)| text.get(..at + c.len_utf8())).unwrap_or_default()
}

/// The longest line, in units of UTF-16: the event log takes no longer one.
#[cfg(any(windows, target_os = "macos", test))]
const MOST: usize = 31_839;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What was kept, in order.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<(Level, String)>>>);

    impl Sink for Kept {
        fn keep(&self, level: Level, text: &str) {
            self.0.lock().unwrap().push((level, text.to_owned()));
        }
    }

    fn kept(format: Option<LogFormat>, say: impl FnOnce()) -> Vec<(Level, String)> {
        let sink = Kept::default();
        let subscriber = tracing_subscriber::registry().with(Native::new(sink.clone(), format));
        tracing::subscriber::with_default(subscriber, say);
        let kept = sink.0.lock().unwrap();
        kept.clone()
    }

    #[test]
    fn a_service_says_one_line_an_event_with_its_level_and_fields() {
        let said = kept(None, || {
            tracing::warn!(endpoint = "https://a.example", tries = 3, "endpoint refused");
            tracing::info!("connected");
        });

        assert_eq!(
            said,
            [
                (Level::WARN, "WARN endpoint refused endpoint=https://a.example tries=3".to_owned()),
                (Level::INFO, "INFO connected".to_owned()),
            ]
        );
    }

    #[test]
    fn a_service_keeps_to_the_form_that_its_configuration_names() {
        let say = || tracing::error!(code = "ADIT-1021", "refused");

        let (_, line) = kept(Some(LogFormat::Json), say).remove(0);
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&parsed["level"], &parsed["code"]), (&"error".into(), &"ADIT-1021".into()));
        assert!(parsed["time"].as_str().unwrap().ends_with('Z'), "{line}");

        let (_, line) = kept(Some(LogFormat::Logfmt), say).remove(0);
        assert!(line.starts_with("time=2") && line.ends_with("level=error message=refused code=ADIT-1021"), "{line}");
    }

    /// V94
    #[test]
    fn text_of_others_stays_in_its_event_of_the_system_s_log() {
        for format in [None, Some(LogFormat::Logfmt), Some(LogFormat::Json)] {
            let said = kept(format, || tracing::info!(text = "a\r\nERROR forged\u{1b}]0;x\u{7}\0", "b\nc"));

            assert!(said.len() == 1 && said[0].1.chars().all(|c| !c.is_control()), "{said:?}");
        }
    }

    #[test]
    fn a_line_is_cut_between_characters_and_where_it_must() {
        let exact = "a".repeat(MOST);
        assert_eq!(cut(&exact), exact);
        assert_eq!(cut(&format!("{exact}b")), exact);
        let wide = "😀".repeat(MOST);
        assert_eq!(cut(&wide).encode_utf16().count(), MOST - 1); // two units each, and 31,839 is odd
        assert_eq!(cut(""), "");
    }
}
