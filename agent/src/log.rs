//! The log: one line an event, for a person, as logfmt or as JSON.
//!
//! Whatever stands in a field, it stays in its line and moves no cursor (V94); secrets have no `Display`.

mod file;
mod native;
mod recent;

use core::fmt;
use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use adit_core::escape;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer as _,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::{
    config::{AgentConfig, LogFormat, LogOutput, log_filter},
    errors::{Error, Fault, clip},
    identity::state_folder,
};

pub use recent::Recent;

use file::LogFile;
use native::{Native, System};
use recent::Keeper;

/// Says why a log must not be written there: who writes the configuration must not be able to change what the agent keeps.
fn is_ours(path: &Path, state: Option<PathBuf>) -> Option<String> {
    let whole = |path: &Path| path.canonicalize().ok();
    let parent = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let place = whole(path).or_else(|| Some(whole(parent)?.join(path.file_name()?)))?;
    if let Some(state) = state.and_then(|folder| whole(&folder))
        && place.starts_with(&state)
        && place.extension().is_none_or(|extension| extension != "log")
    {
        return Some(format!("what is in {} and does not end in .log is the agent's own", state.display()));
    }
    let name = place.file_name()?.to_string_lossy().into_owned();
    (name.starts_with("audit-") && name.ends_with(".jsonl")).then(|| "an audit log has such a name".to_owned())
}

/// Sends what is traced in this process where the configuration says, and keeps the last of it. `shown` tells that a terminal
/// shows the state; `service` is the name of the service that this process is, where its manager keeps no standard error: unless the
/// configuration names a place, the log is the system's own then.
///
/// # Errors
/// [`Fault::LogUnwritable`].
pub fn start(config: &AgentConfig, shown: bool, service: Option<&str>) -> Result<Arc<Recent>, Error> {
    let unwritable = |detail: String| Error::new(Fault::LogUnwritable, detail);
    let filter = log_filter(&config.log_level).ok_or_else(|| unwritable("the filter is not one".to_owned()))?;
    let recent = Arc::<Recent>::default();
    let registry = tracing_subscriber::registry().with(filter).with(Keeper(Arc::clone(&recent)));
    let started = |done: Result<(), tracing_subscriber::util::TryInitError>| match done {
        Ok(()) => Ok(recent),
        Err(error) => Err(unwritable(error.to_string())),
    };
    let service = service.filter(|_| config.log == LogOutput::Auto);
    if let Some(system) = service.map_or(Ok(None), System::open).map_err(|error| unwritable(error.to_string()))? {
        return started(registry.with(Native::new(system, config.log_format)).try_init());
    }
    let (on_terminal, set) = match &config.log {
        LogOutput::Off => return started(registry.try_init()),
        LogOutput::Auto if shown => return started(registry.try_init()),
        LogOutput::Auto | LogOutput::Stderr => (io::stderr().is_terminal(), None),
        LogOutput::Stdout => (io::stdout().is_terminal(), None),
        LogOutput::File(path) => {
            if let Some(why) = is_ours(path, state_folder()) {
                return Err(unwritable(format!("{}: {why}", path.display())));
            }
            let file = LogFile::open(path).map_err(|error| unwritable(format!("{}: {error}", path.display())))?;
            (false, Some(file))
        }
    };
    let format = config.log_format.unwrap_or(if on_terminal { LogFormat::Term } else { LogFormat::Logfmt });
    let colour = on_terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let to_journal = match &config.log {
        LogOutput::Auto | LogOutput::Stderr => is_journal(2),
        LogOutput::Stdout => is_journal(1),
        LogOutput::File(_) | LogOutput::Off => false,
    };
    let lines = Lines { format, colour, to_journal };
    let layer = tracing_subscriber::fmt::layer().event_format(lines);
    let layer = match (set, &config.log) {
        (Some(file), _) => layer.with_writer(Mutex::new(file)).boxed(),
        (None, LogOutput::Stdout) => layer.with_writer(io::stdout).boxed(),
        (None, _) => layer.with_writer(io::stderr).boxed(),
    };
    started(registry.with(layer).try_init())
}

/// Writes down why a service ends: in its log, or in the system's own while there is none yet.
pub(crate) fn last_words(service: &str, error: &str, exit: u8, then: &'static str) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!(error, exit, "{then}");
    } else if let Ok(Some(system)) = System::open(service) {
        let others = vec![("error", clip(error).into()), ("exit", exit.into())];
        Native::new(system, None).keep(Level::ERROR, &Fields { message: then.to_owned(), others });
    }
}

/// Returns whether what is written to a file of this process arrives in the journal of systemd, which says so by device and inode.
#[cfg(target_os = "linux")]
fn is_journal(file: u8) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let metadata = std::fs::metadata(format!("/proc/self/fd/{file}"));
    metadata.is_ok_and(|metadata| stream == format!("{}:{}", metadata.dev(), metadata.ino()))
}

#[cfg(not(target_os = "linux"))]
const fn is_journal(_: u8) -> bool {
    false
}

#[derive(Clone, Copy, Debug)]
struct Lines {
    format: LogFormat,
    colour: bool,
    /// Whether a line begins with its priority, as the journal reads it.
    to_journal: bool,
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
        let level = *event.metadata().level();
        let line = self.line(&time, level, &fields);
        writeln!(out, "{}{line}", self.priority(level))
    }
}

impl Lines {
    /// Returns what stands before a line: `<3>` to `<7>`, as sd-daemon(3) says.
    const fn priority(self, level: Level) -> &'static str {
        match level {
            _ if !self.to_journal => "",
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            Level::DEBUG | Level::TRACE => "<7>",
        }
    }

    fn line(self, time: &str, level: Level, fields: &Fields) -> String {
        match self.format {
            LogFormat::Json => json(time, level, fields),
            LogFormat::Logfmt => logfmt(time, level, fields),
            LogFormat::Term => term(time, level, fields, self.colour),
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
    Value::Object(line).to_string()
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
    format!("{clock} {start}{:5}{end} {}", level.as_str(), said(fields))
}

/// Writes a message and its fields.
fn said(fields: &Fields) -> String {
    let mut line = escape(&fields.message).to_string();
    for (name, value) in &fields.others {
        line.push_str(&format!(" {name}={}", plain(value)));
    }
    line
}

pub(crate) fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), word)
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
struct Fields {
    message: String,
    others: Vec<(&'static str, serde_json::Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, text: &str) {
        match field.name() {
            "message" => self.message = clip(text),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        let hostile = "a\n{\"level\":\"error\"}\u{1b}]0;x\u{7}\u{202e}";
        Fields { message: "endpoint bound".into(), others: vec![("text", hostile.into()), ("count", 3.into())] }
    }

    fn lines(format: LogFormat) -> Lines {
        Lines { format, colour: false, to_journal: false }
    }

    #[test]
    fn the_journal_is_told_how_grave_it_is() {
        let journal = Lines { to_journal: true, ..lines(LogFormat::Json) };
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

        assert_eq!(levels.map(|level| journal.priority(level)), ["<3>", "<4>", "<6>", "<7>", "<7>"]);
        assert_eq!(levels.map(|level| lines(LogFormat::Json).priority(level)), [""; 5]);
    }

    #[test]
    fn text_of_others_stays_in_its_line_and_moves_no_cursor() {
        for format in [LogFormat::Term, LogFormat::Logfmt, LogFormat::Json] {
            let line = lines(format).line("2026-11-24T12:00:00Z", Level::INFO, &fields());

            assert!(line.chars().all(|c| !c.is_control()), "{line:?}");
            assert!(format == LogFormat::Json || !line.contains('\u{202e}'), "{line:?}");
            assert!(line.contains("endpoint bound"), "{line}");
        }
    }

    #[test]
    fn the_log_is_kept_out_of_what_the_agent_keeps() {
        let folder = crate::testing::folder("log-place");
        let state = folder.join("state");
        std::fs::create_dir_all(state.join("audit")).unwrap();
        let ours = |path: &str| is_ours(&folder.join(path), Some(state.clone())).is_some();

        for path in ["state/frozen", "state/audit/audit-1.jsonl", "state/../state/totals", "audit-0001.jsonl"] {
            assert!(ours(path), "{path}");
        }
        for path in ["state/agent.log", "agent.jsonl", "new"] {
            assert!(!ours(path), "{path}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(state.join("audit"), folder.join("link")).unwrap();
            assert!(ours("link/x.jsonl"));
        }
    }

    #[test]
    fn json_has_the_message_and_the_fields_at_the_top() {
        let line = lines(LogFormat::Json).line("t", Level::WARN, &fields());

        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&parsed["message"], &parsed["level"]), (&"endpoint bound".into(), &"warn".into()));
        assert_eq!(parsed["count"], 3);
    }

    #[test]
    fn logfmt_quotes_what_is_not_a_word() {
        let fields = Fields { message: "m".into(), others: vec![("a", "x y\"z".into()), ("b", "".into())] };

        let line = lines(LogFormat::Logfmt).line("t", Level::DEBUG, &fields);

        assert_eq!(line, "time=t level=debug message=m a=\"x y\\\"z\" b=\"\"");
    }
}
