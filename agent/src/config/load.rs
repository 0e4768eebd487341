//! Configuration and token from where they are kept, refused when others could have written or read them.

use std::{
    fs::File,
    io::{self, BufRead as _, Read as _},
    path::{Path, PathBuf},
};

use adit_core::Secret;

use super::{
    Config, ConfigFault, NamedFile, Overrides, Token,
    merge::merge,
    read,
    section::Context,
    yaml::{self, Node, Place, Value},
};
use crate::{
    errors::{Error, Fault},
    regular::open_regular,
};

impl Config {
    /// Reads files, the later over the earlier, and `overrides` over all.
    ///
    /// # Errors
    /// Every fault, in the order of files and lines.
    pub fn load(files: &[PathBuf], overrides: &Overrides) -> Result<Self, Vec<ConfigFault>> {
        let mut texts = Vec::new();
        let mut faults = Vec::new();
        for file in files {
            match read_text(file, MAX_FILE) {
                Ok(text) => texts.push(text),
                Err(problem) => {
                    faults.push(fault(
                        file,
                        None,
                        &format!("cannot be read: {problem}"),
                        "Check the path and its rights",
                    ));
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Self::parse(files, &texts, overrides)
    }

    /// Reads texts with their names and modes.
    ///
    /// # Errors
    /// Every fault, in the order of files and lines.
    pub(crate) fn parse(files: &[PathBuf], texts: &[Text], overrides: &Overrides) -> Result<Self, Vec<ConfigFault>> {
        let mut tree = Node { place: Place::default(), value: Value::Map(Vec::new()) };
        let mut faults = Vec::new();
        for (index, (file, Text { text, mode })) in files.iter().zip(texts).enumerate() {
            match yaml::parse(index, text) {
                Ok(node) => {
                    faults.extend(mode_fault(file, *mode, secret_of(&node)));
                    tree = merge(tree, node);
                }
                Err((place, problem)) => faults.push(fault(file, Some(place), &problem, "Correct the YAML there")),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let context = Context::new(files, overrides);
        let (agent, endpoints, named) = read::config(&context, tree);
        let leave = context.leave();
        let faults = context.finish();
        if faults.is_empty() { Ok(Self { agent, endpoints, files: files.to_vec(), named, leave }) } else { Err(faults) }
    }
}

/// A file's content, and its mode where the system has modes.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) mode: Option<u32>,
}

/// Returns the file that is read when none is named: `ADIT_CONFIG`, else `adit/adit.yml` among the user's configurations.
#[must_use]
pub fn default_path() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("ADIT_CONFIG").or_else(|| {
        let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
        Some(base.join("adit").join("adit.yml"))
    })
}

/// Fetches the authtoken from where the configuration says that it is.
///
/// # Errors
/// [`Fault::TokenMissing`] or [`Fault::TokenUnreadable`].
pub fn token(source: &Token) -> Result<Secret, Error> {
    match source {
        Token::Missing => Err(Error::from(Fault::TokenMissing)),
        Token::Given(secret) => Ok(secret.clone()),
        Token::File(path) => token_file(path),
        Token::StandardInput => {
            let mut line = String::new();
            let read = io::stdin().lock().take(MAX_TOKEN).read_line(&mut line);
            read.map_err(|error| Error::new(Fault::TokenUnreadable, format!("standard input: {error}")))?;
            secret(&line, "standard input")
        }
    }
}

fn token_file(file: &NamedFile) -> Result<Secret, Error> {
    let shown = file.display();
    let text = file
        .read_private(MAX_TOKEN)
        .map_err(|problem| Error::new(Fault::TokenUnreadable, format!("{shown}: {problem}")))?;
    secret(&String::from_utf8_lossy(text.expose()), &shown.to_string())
}

/// Reads a file that nobody else may read or write (V46), of at most `most` octets.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read_private(path: &Path, most: u64) -> Result<Secret, String> {
    private(path, read_text(path, most)?)
}

pub(super) fn private(path: &Path, Text { text, mode }: Text) -> Result<Secret, String> {
    // A group may read it: that is how orchestrators mount secrets.
    if let Some(mode) = mode.filter(|mode| mode & 0o027 != 0) {
        return Err(format!("mode {mode:04o} lets others read or change it; chmod 600 {}", path.display()));
    }
    Ok(Secret::new(text.into_bytes()))
}

/// Reads a file that not everybody may write, of at most `most` octets.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read_public(path: &Path, most: u64) -> Result<String, String> {
    public(path, read_text(path, most)?)
}

pub(super) fn public(path: &Path, Text { text, mode }: Text) -> Result<String, String> {
    match mode.filter(|mode| mode & 0o002 != 0) {
        Some(mode) => Err(format!("mode {mode:04o} lets everybody change it; chmod 644 {}", path.display())),
        None => Ok(text),
    }
}

fn secret(text: &str, from: &str) -> Result<Secret, Error> {
    let token = text.trim();
    if token.is_empty() || token.chars().any(char::is_control) {
        let detail = format!("{from}: {}", if token.is_empty() { "empty" } else { "more than one line" });
        return Err(Error::new(Fault::TokenUnreadable, detail));
    }
    Ok(Secret::new(token.as_bytes()))
}

pub(super) fn read_text(path: &Path, most: u64) -> Result<Text, String> {
    text_of(open_regular(path).map_err(|error| error.to_string())?, most)
}

pub(super) fn text_of(file: File, most: u64) -> Result<Text, String> {
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    let mut octets = Vec::new();
    file.take(most + 1).read_to_end(&mut octets).map_err(|error| error.to_string())?;
    if octets.len() as u64 > most {
        return Err(format!("it is longer than {most} octets"));
    }
    let text = String::from_utf8(octets).map_err(|_| "it is not UTF-8".to_owned())?;
    Ok(Text { text, mode: mode(&metadata) })
}

#[cfg(unix)]
fn mode(metadata: &std::fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;

    metadata.is_file().then(|| metadata.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
const fn mode(_: &std::fs::Metadata) -> Option<u32> {
    None
}

/// Returns what a file holds that others must not read.
fn secret_of(root: &Node) -> Option<&'static str> {
    let Value::Map(entries) = &root.value else { return None };
    let agent = entries.iter().find(|(key, ..)| key == "agent").map(|(.., node)| &node.value);
    let Some(Value::Map(keys)) = agent else { return None };
    keys.iter().find_map(|(key, _, node)| match (key.as_str(), &node.value) {
        ("authtoken", value) if *value != Value::Null => Some("an authtoken"),
        ("proxy_url", Value::Text(url)) if url.contains('@') => Some("a proxy's password"),
        _ => None,
    })
}

fn mode_fault(file: &Path, mode: Option<u32>, secret: Option<&str>) -> Option<ConfigFault> {
    let mode = mode?;
    if let Some(secret) = secret.filter(|_| mode & 0o077 != 0) {
        let problem = format!("holds {secret} and its mode {mode:04o} lets others read or change it");
        return Some(fault(file, None, &problem, &format!("chmod 600 {}", file.display())));
    }
    if mode & 0o002 != 0 {
        let problem = format!("its mode {mode:04o} lets everybody change it");
        return Some(fault(file, None, &problem, &format!("chmod 600 {}", file.display())));
    }
    None
}

/// Returns a fault of a file that no key of it is to blame for.
pub(crate) fn fault(file: &Path, place: Option<Place>, problem: &str, remedy: &str) -> ConfigFault {
    ConfigFault {
        file: Some(file.to_owned()),
        line: place.map(|place| place.line).filter(|line| *line > 0),
        column: place.map(|place| place.column).filter(|column| *column > 0),
        source: None,
        key: String::new(),
        problem: problem.to_owned(),
        remedy: remedy.to_owned(),
    }
}

/// A configuration is not larger, in octets.
pub(crate) const MAX_FILE: u64 = 1 << 20;
/// A token is not longer, in octets.
const MAX_TOKEN: u64 = 512;
