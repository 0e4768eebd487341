//! From the configuration of an ngrok agent (the forms 1, 2 and 3) to one of this agent.
//!
//! Every key of theirs ends in one of two places: it means the same here and comes along, or it is named, with its line and what
//! to do about it. What protected an endpoint there is never lost in silence: such an endpoint is written down as a comment,
//! until its owner says that something protects it here.

mod endpoint;
mod options;
mod policy;
mod sample;
mod theirs;
mod tunnel;
mod write;

use core::fmt;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use adit_core::escape;

use crate::config::{
    ConfigFault, fault,
    yaml::{self, Place},
};

pub use sample::{ImportSample, import_sample};

use theirs::{Map, Report};
use write::Out;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Where the network of the vendor listens.
    pub(crate) connect_url: Option<String>,
    /// The domain below which the names of ngrok's own domains are to be.
    pub(crate) domain: Option<String>,
    /// Whether what is made may hold secrets: it goes to a file that nobody else reads.
    pub(crate) secrets: bool,
    /// Whether their authtoken comes along.
    pub(crate) keep_authtoken: bool,
    /// Whether endpoints are written so that they run although what protected them is not in force here.
    pub(crate) expose: bool,
}

/// What was made of their configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Imported {
    /// The configuration.
    pub(crate) text: String,
    /// Files that belong beside it.
    pub(crate) extras: Vec<Extra>,
    /// The keys of theirs that mean the same here, by their paths.
    pub(crate) carried: Vec<String>,
    /// What does not come along as it is, in the order of lines.
    pub(crate) notes: Vec<Note>,
}

/// A file beside the configuration. It may hold secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extra {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// What became of a key that does not mean the same here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) level: Level,
    pub(crate) file: PathBuf,
    /// From one; 0 where it concerns the whole.
    pub(crate) line: u64,
    pub(crate) column: u64,
    /// The path of the key.
    pub(crate) key: String,
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

/// How much somebody must look at a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// It protected an endpoint, and does not come along by itself.
    Protection,
    /// It has no equivalent.
    None,
    /// It is written otherwise, or means something else.
    Changed,
    /// It has to be decided here.
    Decide,
}

impl Level {
    pub(crate) const ALL: [Self; 4] = [Self::Protection, Self::None, Self::Changed, Self::Decide];

    /// Returns the word for programs.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Protection => "protection",
            Self::None => "no-equivalent",
            Self::Changed => "changed",
            Self::Decide => "decide",
        }
    }

    /// Returns the heading for people.
    pub(crate) const fn heading(self) -> &'static str {
        match self {
            Self::Protection => "Protected endpoints at ngrok, and does not do so here by itself",
            Self::None => "Has no equivalent",
            Self::Changed => "Means something else, or is written otherwise",
            Self::Decide => "Is for you to decide",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", escape(&self.key))?; // theirs may have anything
        }
        write!(f, "{}. {}", self.problem, self.remedy)
    }
}

/// Makes a configuration of theirs. `file` is named by what is told.
///
/// # Errors
/// What is no configuration of an ngrok agent, with its place.
pub(crate) fn import(file: &Path, text: &str, options: &Options) -> Result<Imported, Vec<ConfigFault>> {
    let (root, typed) = yaml::parse_with_types(0, text)
        .map_err(|(place, problem)| vec![fault(file, Some(place), &problem, "Correct the YAML there")])?;
    let report = Report::new(file);
    let mut root = Map::new(&report, String::new(), root);
    let mut made = Made { options, typed, names: BTreeSet::new(), endpoints: Vec::new(), extras: Vec::new() };
    if !KEYS.iter().any(|key| root.has(key)) {
        root.refuse("no configuration of an ngrok agent", "Name the file that `ngrok config check` shows");
    }
    let version = version(&mut root);
    let agent = if version == 3 {
        let mut agent = root.take("agent").map(theirs::Item::map);
        let keys = agent.as_mut().map(|agent| options::read(agent, options)).unwrap_or_default();
        if let Some(agent) = agent {
            agent.finish();
        }
        for endpoint in root.take("endpoints").map(theirs::Item::maps).unwrap_or_default() {
            endpoint::read(endpoint, &mut made);
        }
        keys
    } else {
        options::read(&mut root, options)
    };
    if let Some(tunnels) = root.take("tunnels") {
        for tunnel in tunnels.map().rest() {
            tunnel::read(tunnel, &mut made);
        }
    }
    root.finish();
    if options.connect_url.is_none() {
        let remedy =
            "Set agent.connect_url to where the vendor's network listens, or import with --connect-url HOST:PORT";
        report.whole(Level::Decide, "nothing says where the vendor's network is", remedy);
    }
    let text = document(file, agent, &made.endpoints);
    let extras = made.extras;
    let (carried, notes) = report.finish()?;
    Ok(Imported { text, extras, carried, notes })
}

fn version(root: &mut Map<'_>) -> u8 {
    let Some(item) = root.take("version") else {
        root.note(
            Level::Changed,
            "says no version: read as the form of ngrok 2, which had none",
            "Nothing, if that is right",
        );
        return 1;
    };
    let Some(text) = item.text() else { return 2 };
    item.carried();
    match text.trim() {
        "1" => 1,
        "2" => 2,
        "3" => 3,
        _ => {
            item.refuse("a version that is not known: 2 and 3 are");
            2
        }
    }
}

/// What has been made so far.
struct Made<'o> {
    options: &'o Options,
    /// Where scalars are that are not text.
    typed: BTreeSet<Place>,
    names: BTreeSet<String>,
    endpoints: Vec<Endpoint>,
    extras: Vec<Extra>,
}

/// An endpoint to write.
struct Endpoint {
    entries: Out,
    /// What protected it there and is not in force here.
    unprotected: Vec<String>,
}

impl Made<'_> {
    /// Returns a name of this agent's that is not taken.
    fn name(&mut self, wanted: &str) -> String {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let base: String = wanted.chars().take(200).map(|c| if fine(c) { c } else { '-' }).collect();
        let base = if base.chars().any(|c| c.is_ascii_alphanumeric()) { base } else { "endpoint".to_owned() };
        let mut name = base.clone();
        let mut number = 2;
        while !self.names.insert(name.to_ascii_lowercase()) {
            name = format!("{base}-{number}");
            number += 1;
        }
        name
    }

    fn push(&mut self, entries: Vec<(String, Out)>, unprotected: Vec<String>) {
        let unprotected = if self.options.expose { Vec::new() } else { unprotected };
        self.endpoints.push(Endpoint { entries: Out::Map(entries), unprotected });
    }
}

fn document(file: &Path, agent: Vec<(String, Out)>, endpoints: &[Endpoint]) -> String {
    let from = file.file_name().unwrap_or_default().to_string_lossy();
    let from: String = from.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let mut text =
        format!("# Made of {from} by `adit config import`, which told what did not come along.\nversion: 1\n");
    if !agent.is_empty() {
        Out::map([("agent", Out::Map(agent))]).write(0, &mut text);
    }
    if endpoints.is_empty() {
        return text;
    }
    text.push_str("endpoints:\n");
    for Endpoint { entries, unprotected } in endpoints {
        let mut item = String::new();
        Out::List(vec![entries.clone()]).write(2, &mut item);
        if unprotected.is_empty() {
            text.push_str(&item);
            continue;
        }
        let what = unprotected.join(", ");
        text.push_str(&format!(
            "  # NOT IN FORCE. At ngrok this endpoint was protected by: {what}.\n  # Remove the signs before the lines when something protects it here.\n"
        ));
        for line in item.lines() {
            text.push_str(&format!("#{line}\n"));
        }
    }
    text
}

/// Some of these stand in every configuration that does anything.
const KEYS: [&str; 12] = [
    "agent",
    "endpoints",
    "tunnels",
    "authtoken",
    "api_key",
    "region",
    "server_addr",
    "proxy_url",
    "http_proxy",
    "heartbeat_interval",
    "log",
    "web_addr",
];

#[cfg(test)]
mod tests;
