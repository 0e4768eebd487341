//! The log on standard error: one line an event, for a person, as logfmt or as JSON.
//!
//! Whatever stands in a field, it stays in its line and moves no cursor (V94); secrets have no `Display`.

use core::fmt;
use std::io::{self, IsTerminal as _};

use adit_core::escape;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, Targets},
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt as _,
};

use crate::config::{Log, LogFormat};

/// Changes what is logged while the process runs.
#[derive(Clone, Debug)]
pub struct LogHandle(reload::Handle<Targets, Registry>);

/// The log cannot be set up or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log cannot be set up: {0}")]
pub struct LogError(String);

/// Sends what is traced in this process to standard error.
///
/// # Errors
/// The level is not one, or the process logs already.
pub fn init(log: &Log) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(targets(&log.level)?);
    let on_terminal = io::stderr().is_terminal();
    let colour = on_terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let lines = Lines { format: log.format, colour };
    let layer = tracing_subscriber::fmt::layer().event_format(lines).with_writer(io::stderr);
    let started = tracing_subscriber::registry().with(filter).with(layer).try_init();
    started.map_err(|error| LogError(error.to_string()))?;
    Ok(LogHandle(handle))
}

impl LogHandle {
    /// Changes the level: error, warn, info, debug, trace, or levels by module.
    ///
    /// # Errors
    /// The level is not one; the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        let targets = targets(level)?;
        self.0.reload(targets).map_err(|error| LogError(error.to_string()))
    }
}

/// Returns whether `text` says what to log: a level, or levels by module.
pub(crate) fn is_filter(text: &str) -> bool {
    targets(text).is_ok()
}

fn targets(level: &str) -> Result<Targets, LogError> {
    // `Targets` alone takes a misspelt level for the name of a module.
    let known = |part: &str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
    let targets = level.split(',').all(|part| !part.is_empty() && known(part)).then(|| level.parse().ok()).flatten();
    targets.ok_or_else(|| LogError(format!("{level:?} is neither a level nor levels by module")))
}

/// How lines are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines {
    format: LogFormat,
    colour: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let line = self.line(&time, *event.metadata().level(), &fields);
        writeln!(out, "{line}")
    }
}

impl Lines {
    /// Returns lines without colours.
    pub(crate) const fn plain(format: LogFormat) -> Self {
        Self { format, colour: false }
    }

    pub(crate) fn line(self, time: &str, level: Level, fields: &Fields) -> String {
        match self.format {
            LogFormat::Json => json(time, level, fields),
            LogFormat::Logfmt => logfmt(time, level, fields),
            LogFormat::Text => term(time, level, fields, self.colour),
        }
    }
}

fn json(time: &str, level: Level, fields: &Fields) -> String {
    use serde_json::{Map, Value};

    let mut line = Map::new();
    line.insert("time".to_owned(), Value::from(time));
    line.insert("level".to_owned(), Value::from(level.as_str().to_ascii_lowercase()));
    line.insert("message".to_owned(), Value::from(fields.message.as_str()));
    for (name, value) in &fields.others {
        line.insert((*name).to_owned(), value.clone());
    }
    let line = Value::Object(line).to_string();
    let mut safe = String::with_capacity(line.len());
    for c in line.chars() {
        // JSON itself escapes only what is below 0x20; outside of texts there are no such characters.
        if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            safe.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    safe
}

fn logfmt(time: &str, level: Level, fields: &Fields) -> String {
    let mut line =
        format!("time={time} level={} message={}", level.as_str().to_ascii_lowercase(), word(&fields.message));
    for (name, value) in &fields.others {
        line.push_str(&format!(" {name}={}", plain(value)));
    }
    line
}

fn term(time: &str, level: Level, fields: &Fields, colour: bool) -> String {
    let (start, end) = match (colour, level) {
        (false, _) => ("", ""),
        (true, Level::ERROR) => ("\x1b[31m", "\x1b[0m"),
        (true, Level::WARN) => ("\x1b[33m", "\x1b[0m"),
        (true, Level::INFO) => ("\x1b[32m", "\x1b[0m"),
        (true, _) => ("\x1b[2m", "\x1b[0m"),
    };
    let clock = time.get(11..19).unwrap_or(time);
    let mut line = format!("{clock} {start}{:5}{end} {}", level.as_str(), escape(&fields.message));
    for (name, value) in &fields.others {
        line.push_str(&format!(" {name}={}", plain(value)));
    }
    line
}

fn plain(value: &serde_json::Value) -> String {
    use serde_json::Value;

    match value {
        Value::String(text) => word(text),
        Value::Array(items) => word(&items.iter().filter_map(|item| item.as_str()).collect::<Vec<_>>().join("; ")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// Writes a text so that it is one word: as it is, or quoted and escaped.
fn word(text: &str) -> String {
    let bare = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '=');
    if !text.is_empty() && text.chars().all(bare) {
        return text.to_owned();
    }
    format!("\"{}\"", escape(text).to_string().replace('"', "\\\""))
}

/// What an event says, in order.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    message: String,
    others: Vec<(&'static str, serde_json::Value)>,
}

impl Fields {
    /// Returns none yet.
    pub(crate) fn new(message: &str) -> Self {
        Self { message: message.to_owned(), others: Vec::with_capacity(24) }
    }

    /// Adds a text, as much of it as a line has room for.
    pub(crate) fn text(&mut self, name: &'static str, text: &str) {
        self.others.push((name, clip(text).into()));
    }

    /// Adds a text, if there is one.
    pub(crate) fn text_if(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// Adds a value that is bounded by what it is.
    pub(crate) fn value(&mut self, name: &'static str, value: serde_json::Value) {
        self.others.push((name, value));
    }

    /// Adds such a value, if there is one.
    pub(crate) fn value_if(&mut self, name: &'static str, value: Option<serde_json::Value>) {
        self.others.extend(value.map(|value| (name, value)));
    }

    fn put(&mut self, field: &Field, text: &str) {
        match field.name() {
            "message" => self.message = clip(text).to_owned(),
            name => self.others.push((name, clip(text).into())),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.push((field.name(), value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.push((field.name(), value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.others.push((field.name(), value.into()));
    }
}

/// Returns at most 1 KiB of a text (V94).
fn clip(text: &str) -> &str {
    let end = text.floor_char_boundary(MAX_FIELD);
    text.get(..end).unwrap_or(text)
}

const MAX_FIELD: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        let hostile = "a\n{\"level\":\"error\"}\u{1b}]0;x\u{7}\u{9b}2J\u{202e}\u{2028}";
        Fields { message: "endpoint bound".into(), others: vec![("text", hostile.into()), ("count", 3.into())] }
    }

    #[test]
    fn text_of_others_stays_in_its_line_and_moves_no_cursor() {
        for format in [LogFormat::Text, LogFormat::Logfmt, LogFormat::Json] {
            let line = Lines { format, colour: false }.line("2026-11-24T12:00:00Z", Level::INFO, &fields());

            assert!(line.chars().all(|c| !c.is_control()), "{line:?}");
            assert!(!line.contains(['\u{202e}', '\u{2028}']), "{line:?}");
            assert!(line.contains("endpoint bound"), "{line}");
        }
    }

    #[test]
    fn json_has_the_message_and_the_fields_at_the_top() {
        let line = Lines { format: LogFormat::Json, colour: false }.line("t", Level::WARN, &fields());

        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&parsed["message"], &parsed["level"]), (&"endpoint bound".into(), &"warn".into()));
        assert_eq!((&parsed["count"], &parsed["text"]), (&3.into(), &fields().others[0].1));
    }

    #[test]
    fn a_filter_is_a_level_or_levels_by_module() {
        for text in ["info", "debug", "info,adit_network=trace", "adit_network=warn", "off"] {
            assert!(is_filter(text), "{text}");
        }
        for text in ["", "loud", "info,", "adit_network=loud", "info,loud"] {
            assert!(!is_filter(text), "{text}");
        }
    }

    #[test]
    fn logfmt_quotes_what_is_not_a_word() {
        let fields = Fields { message: "m".into(), others: vec![("a", "x y\"z".into()), ("b", "".into())] };

        let line = Lines { format: LogFormat::Logfmt, colour: false }.line("t", Level::DEBUG, &fields);

        assert_eq!(line, "time=t level=debug message=m a=\"x y\\\"z\" b=\"\"");
    }
}
