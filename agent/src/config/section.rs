//! Reads a tree key by key, flags before the environment before the file, and gathers every fault on the way.

use core::{cell::RefCell, fmt};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use adit_core::escape;

use super::{
    Leave, Named, NamedFile,
    yaml::{Node, Place, Value},
};

/// One fault of a configuration: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigFault {
    /// The file, where it is about one.
    pub file: Option<PathBuf>,
    /// The line in the file, from one.
    pub line: Option<u64>,
    /// The column in the file, from one.
    pub column: Option<u64>,
    /// The environment variable or flag, where the value came from one.
    pub source: Option<String>,
    /// The key, as `agent.connect_url`; empty when it concerns the whole.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(f, "{source}: ")?;
        } else if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            if let (Some(line), Some(column)) = (self.line, self.column) {
                write!(f, ":{line}:{column}")?;
            }
            f.write_str(": ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", escape(&self.key))?; // one that is not known may be anything
        }
        write!(f, "{}. {}", self.problem, self.remedy)
    }
}

/// What outranks the files: flags, then environment variables.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub(crate) flags: BTreeMap<&'static str, Flag>,
    pub(crate) environment: BTreeMap<String, String>,
    /// What all programs are told of proxies.
    pub(super) shared: BTreeMap<String, String>,
    /// Where the agent keeps what must last.
    pub(super) state: Option<PathBuf>,
}

/// A flag of the command line that stands for a key.
#[derive(Clone, Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) value: String,
}

impl Overrides {
    /// Takes what the process's environment says: `ADIT_CONNECT_URL` for `agent.connect_url`.
    #[must_use]
    pub fn from_environment() -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        // Those of the network begin so too; the key is the agent's.
        let is_ours = |name: &str| !name.starts_with("ADIT_NETWORK_") || name == "ADIT_NETWORK_KEY";
        let ours = variables.filter(|(name, _)| name.starts_with(PREFIX) && is_ours(name));
        // What is no text is no value of any key: it is refused and not passed over.
        let text = ours.map(|(name, value)| (name, value.to_string_lossy().into_owned()));
        let (environment, shared) = (text.collect(), super::route::shared_variables());
        Self { flags: BTreeMap::new(), environment, shared, state: None }
    }

    /// Says where the agent keeps what must last.
    #[must_use]
    pub fn with_state(mut self, folder: PathBuf) -> Self {
        self.state = Some(folder);
        self
    }

    /// Sets what `flag` says for `key`.
    pub(crate) fn flag(&mut self, key: &'static str, name: &'static str, value: Option<String>) {
        if let Some(value) = value {
            self.flags.insert(key, Flag { name, value });
        }
    }
}

/// What reading gathers.
#[derive(Debug)]
pub(crate) struct Context<'c> {
    files: &'c [PathBuf],
    overrides: &'c Overrides,
    faults: RefCell<Vec<(Place, ConfigFault)>>,
    named: RefCell<Vec<Named>>,
    leave: Arc<Leave>,
}

impl<'c> Context<'c> {
    pub(crate) fn new(files: &'c [PathBuf], overrides: &'c Overrides) -> Self {
        Self { files, overrides, faults: RefCell::default(), named: RefCell::default(), leave: Arc::default() }
    }

    /// Returns the files that were named since this was asked last.
    pub(super) fn take_named(&self) -> Vec<Named> {
        self.named.take()
    }

    /// Returns who is asked before they are read.
    pub(super) fn leave(&self) -> Arc<Leave> {
        Arc::clone(&self.leave)
    }

    /// Ends the reading: every fault, in the order of files and lines.
    pub(crate) fn finish(self) -> Vec<ConfigFault> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|(place, _)| *place);
        faults.into_iter().map(|(_, fault)| fault).collect()
    }

    fn fault(&self, key: String, origin: &Origin, problem: String, remedy: String) {
        let problem = without_credentials(problem);
        let mut fault = ConfigFault { file: None, line: None, column: None, source: None, key, problem, remedy };
        let mut at = Place { file: usize::MAX, ..Place::default() };
        match origin {
            Origin::File(place) => {
                at = *place;
                fault.file = self.files.get(place.file).cloned();
                if place.line > 0 {
                    (fault.line, fault.column) = (Some(place.line), Some(place.column));
                }
            }
            Origin::Override(name) => fault.source = Some(name.clone()),
            Origin::Nowhere => fault.file = self.files.last().cloned(),
        }
        self.faults.borrow_mut().push((at, fault));
    }
}

/// Takes what may be a user and a password out of the text that a fault quotes.
fn without_credentials(problem: String) -> String {
    let (Some(from), Some(to)) = (problem.find('`'), problem.rfind('`')) else { return problem };
    let quoted = problem.get(from + 1..to).unwrap_or_default();
    let Some(at) = quoted.rfind('@') else { return problem };
    let scheme = quoted.find("://").map(|end| end + 3).filter(|end| *end <= at).unwrap_or_default();
    [&problem[..=from], &quoted[..scheme], "…", &quoted[at..], &problem[to..]].concat()
}

/// Environment variables begin with it.
const PREFIX: &str = "ADIT_";

/// A map of the tree that is read key by key.
#[derive(Debug)]
pub(crate) struct Section<'a, 'c> {
    context: &'a Context<'c>,
    path: String,
    place: Option<Place>,
    there: bool,
    entries: Vec<(String, Place, Node)>,
    known: Vec<&'static str>,
}

/// A scalar, and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    origin: Origin,
}

#[derive(Clone, Debug)]
enum Origin {
    File(Place),
    Override(String),
    Nowhere,
}

impl<'a, 'c> Section<'a, 'c> {
    /// Reads `node` as the map at `path`; anything else is a fault.
    pub(crate) fn new(context: &'a Context<'c>, path: String, node: Option<Node>) -> Self {
        let place = node.as_ref().map(|node| node.place);
        let there = place.is_some();
        let entries = match node {
            None | Some(Node { value: Value::Null, .. }) => Vec::new(),
            Some(Node { value: Value::Map(entries), .. }) => entries,
            Some(Node { place, value: Value::Text(_) | Value::List(_) }) => {
                let remedy = "Write keys below it, one a line, indented".to_owned();
                context.fault(path.clone(), &Origin::File(place), "not a section".to_owned(), remedy);
                Vec::new()
            }
        };
        Self { context, path, place, there, entries, known: Vec::new() }
    }

    /// Returns whether the key stands there, with something below it or without.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, ..)| name == key)
    }

    /// Notes a fault of each of `keys` that stands there with nothing behind it: where it bounds something, that might be taken
    /// for no bound.
    pub(crate) fn fill(&self, keys: &[&str]) {
        let is_empty = |value: &Value| match value {
            Value::Null => true,
            Value::Text(text) => text.split(',').all(|part| part.trim().is_empty()),
            Value::List(items) => items.is_empty(),
            Value::Map(_) => false,
        };
        for (name, place, node) in &self.entries {
            if keys.contains(&name.as_str()) && is_empty(&node.value) {
                self.refuse(name, *place, "nothing stands behind it", "Write a value, or remove the key");
            }
        }
    }

    /// Takes out a key that may not stand there, with a fault.
    pub(crate) fn bar(&mut self, key: &'static str, problem: &str, remedy: &str) {
        if let Some((place, _)) = self.take(key) {
            self.refuse(key, place, problem, remedy);
        }
    }

    /// Returns where the section stands, as it is told to whoever has only the text.
    pub(crate) fn told(&self) -> String {
        let Place { line, column, .. } = self.place.unwrap_or_default();
        format!("line {line}, column {column}: {}", self.path)
    }

    /// Returns whether the section itself stands there, be it empty.
    pub(crate) const fn is_there(&self) -> bool {
        self.there
    }

    /// Returns the section below `key`. What is missing in one that is not there is missing where it would be.
    pub(crate) fn section(&mut self, key: &'static str) -> Self {
        let node = self.take(key).map(|(_, node)| node);
        let mut below = Self::new(self.context, self.key(key), node);
        below.place = below.place.or(self.place);
        below
    }

    /// Returns the scalar at `key`: the flag, the environment variable or what the file says.
    pub(crate) fn scalar(&mut self, key: &'static str) -> Option<Scalar> {
        let from_file = self.take(key);
        if let Some(scalar) = self.overriding(key) {
            return Some(scalar);
        }
        let (_, node) = from_file?;
        match node.value {
            Value::Text(text) => Some(Scalar { text, origin: Origin::File(node.place) }),
            Value::Null => None,
            Value::List(_) | Value::Map(_) => {
                self.refuse(key, node.place, "not a single value", "Write one value on the line of the key");
                None
            }
        }
    }

    /// Returns the scalars at `key`: a list, or one text with commas.
    pub(crate) fn scalars(&mut self, key: &'static str) -> Vec<Scalar> {
        let listed = self.entries.iter().any(|(name, _, node)| name == key && matches!(node.value, Value::List(_)));
        if !listed || self.overridden(key).is_some() {
            let one = self.scalar(key);
            return one.map(|one| one.split()).unwrap_or_default();
        }
        let Some((_, Node { value: Value::List(items), .. })) = self.take(key) else { return Vec::new() };
        let mut scalars = Vec::new();
        for Node { place, value } in items {
            match value {
                Value::Text(text) => scalars.push(Scalar { text, origin: Origin::File(place) }),
                Value::Null | Value::List(_) | Value::Map(_) => {
                    self.refuse(key, place, "not a list of values", "Write one value or a list of values");
                }
            }
        }
        scalars
    }

    /// Returns the sections of the list at `key`.
    pub(crate) fn sections(&mut self, key: &'static str) -> Vec<Self> {
        let Some((_, node)) = self.take(key) else { return Vec::new() };
        match node.value {
            Value::Null => Vec::new(),
            Value::List(nodes) => {
                let path = self.key(key);
                let section = |(at, node)| Self::new(self.context, format!("{path}[{at}]"), Some(node));
                nodes.into_iter().enumerate().map(section).collect()
            }
            Value::Text(_) | Value::Map(_) => {
                self.refuse(key, node.place, "not a list", "Begin each item with a dash");
                Vec::new()
            }
        }
    }

    /// Returns the value at `key` as `read` understands it, or `default`.
    pub(crate) fn value<T>(
        &mut self,
        key: &'static str,
        default: T,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        let Some(scalar) = self.scalar(key) else { return default };
        let Some(value) = read(&scalar.text) else {
            let problem = format!("`{}` is not {expected}", scalar.text.escape_debug());
            self.reject(key, &scalar, &problem, "Correct it");
            return default;
        };
        value
    }

    /// Returns the path at `key`, relative to the file that names it, and the scalar for faults.
    pub(crate) fn path(&mut self, key: &'static str) -> Option<(PathBuf, Scalar)> {
        let scalar = self.scalar(key)?;
        Some((self.beside(&scalar), scalar))
    }

    /// Returns the file at `key` that is to be read, and the scalar for faults.
    pub(super) fn file(&mut self, key: &'static str) -> Option<(NamedFile, Scalar)> {
        let scalar = self.scalar(key)?;
        Some((self.file_of(key, &scalar), scalar))
    }

    /// Returns the files at `key` that are to be read.
    pub(super) fn files(&mut self, key: &'static str) -> Vec<NamedFile> {
        let scalars = self.scalars(key);
        scalars.iter().map(|scalar| self.file_of(key, scalar)).collect()
    }

    /// Returns the file that a scalar names, to be read.
    pub(super) fn file_of(&self, key: &str, scalar: &Scalar) -> NamedFile {
        let place = match &scalar.origin {
            Origin::File(place) => Some(*place),
            Origin::Override(_) | Origin::Nowhere => None,
        };
        self.note_file(key, self.beside(scalar), place)
    }

    /// Returns a file that is to be read, beside the one that the section stands in.
    pub(super) fn file_beside(&self, key: &str, name: &str) -> NamedFile {
        let at = self.place.map_or(0, |place| place.file);
        let folder = self.context.files.get(at).and_then(|file| file.parent()).unwrap_or_else(|| Path::new(""));
        self.note_file(key, folder.join(name), Some(Place { file: at, ..Place::default() }))
    }

    fn note_file(&self, key: &str, path: PathBuf, place: Option<Place>) -> NamedFile {
        let by = place.and_then(|place| self.context.files.get(place.file));
        let file = match place {
            Some(_) => {
                let parent = by.and_then(|by| by.parent()).map(Path::to_owned);
                let here = |folder: PathBuf| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
                // What is from no file has nothing beside it.
                let folder = parent.map(here).unwrap_or_default();
                NamedFile::of_configuration(path, folder, self.context.leave())
            }
            None => NamedFile::from(path),
        };
        let at = by.zip(place).map(|(by, place)| (by.clone(), place.line, place.column));
        self.context.named.borrow_mut().push(Named { key: self.key(key), file: file.clone(), at });
        file
    }

    /// Returns the scalar as a path: relative to its file, or to the working directory when it is from elsewhere.
    pub(crate) fn beside(&self, scalar: &Scalar) -> PathBuf {
        let folder = match &scalar.origin {
            Origin::File(place) => self.context.files.get(place.file).and_then(|file| file.parent()),
            Origin::Override(_) | Origin::Nowhere => None,
        };
        folder.unwrap_or_else(|| Path::new("")).join(&scalar.text)
    }

    /// Notes a fault of a scalar that was read.
    pub(crate) fn reject(&self, key: &str, scalar: &Scalar, problem: &str, remedy: &str) {
        self.context.fault(self.key(key), &scalar.origin, problem.to_owned(), remedy.to_owned());
    }

    /// Notes a fault of what all programs are told.
    pub(crate) fn reject_source(&self, source: &str, problem: &str, remedy: &str) {
        let origin = Origin::Override(source.to_owned());
        self.context.fault(String::new(), &origin, problem.to_owned(), remedy.to_owned());
    }

    /// Returns what all programs are told of proxies.
    pub(crate) const fn shared(&self) -> &'c BTreeMap<String, String> {
        &self.context.overrides.shared
    }

    /// Returns where the agent keeps what must last, if that is known.
    pub(crate) fn state(&self) -> Option<&'c Path> {
        self.context.overrides.state.as_deref()
    }

    /// Returns what a variable of the environment says.
    pub(crate) fn variable(&self, name: &str) -> Option<&'c str> {
        self.context.overrides.environment.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Notes a fault of a key that is missing or does not fit another.
    pub(crate) fn missing(&self, key: &str, problem: &str, remedy: &str) {
        let origin = self.place.map_or(Origin::Nowhere, Origin::File);
        self.context.fault(self.key(key), &origin, problem.to_owned(), remedy.to_owned());
    }

    /// Ends the section: keys that nobody asked for are faults.
    pub(crate) fn finish(self) {
        for (name, place, _) in &self.entries {
            let remedy = nearest(name, self.known.iter().copied(), "Remove it");
            self.refuse(name, *place, "unknown key", &remedy);
        }
    }

    fn take(&mut self, key: &'static str) -> Option<(Place, Node)> {
        self.known.push(key);
        #[cfg(test)]
        ASKED.with_borrow_mut(|asked| asked.insert(self.key(key)));
        let at = self.entries.iter().position(|(name, ..)| name == key)?;
        let (_, place, node) = self.entries.remove(at);
        Some((place, node))
    }

    fn overriding(&self, key: &str) -> Option<Scalar> {
        let (name, text) = self.overridden(key)?;
        Some(Scalar { text: text.to_owned(), origin: Origin::Override(name) })
    }

    fn overridden(&self, key: &str) -> Option<(String, &'c str)> {
        let path = self.key(key);
        let below = path.strip_prefix("agent.")?; // items of lists have no variable of their own
        let overrides = self.context.overrides;
        if let Some(flag) = overrides.flags.get(below) {
            return Some((flag.name.to_owned(), &flag.value));
        }
        let name = format!("{PREFIX}{}", below.replace('.', "_").to_uppercase());
        let text = overrides.environment.get(&name).filter(|text| !text.is_empty())?;
        Some((name, text))
    }

    fn key(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    fn refuse(&self, key: &str, place: Place, problem: &str, remedy: &str) {
        self.context.fault(self.key(key), &Origin::File(place), problem.to_owned(), remedy.to_owned());
    }
}

impl Scalar {
    /// Returns whether this one was said nearer to the start of the program than `other`.
    pub(crate) const fn outranks(&self, other: &Self) -> bool {
        matches!((&self.origin, &other.origin), (Origin::Override(_), Origin::File(_)))
    }

    fn split(self) -> Vec<Self> {
        let parts = self.text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| Self { text: part.to_owned(), origin: self.origin.clone() }).collect()
    }
}

#[cfg(test)]
thread_local! {
    /// The paths that were asked for in this thread.
    static ASKED: RefCell<std::collections::BTreeSet<String>> = const { RefCell::new(std::collections::BTreeSet::new()) };
}

/// Returns the paths that were asked for in this thread since the last call, lists as `endpoints[]`.
#[cfg(test)]
pub(crate) fn asked() -> std::collections::BTreeSet<String> {
    ASKED.take().into_iter().map(|path| path.replace("[0]", "[]")).collect()
}

/// Returns a remedy that names the known word nearest to `word`, or `otherwise`.
pub(crate) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>, otherwise: &str) -> String {
    let best = known.map(|candidate| (distance(word, candidate), candidate)).min();
    match best {
        Some((distance, candidate)) if distance <= 1 + word.len() / 4 => format!("Did you mean `{candidate}`?"),
        Some(_) | None => otherwise.to_owned(),
    }
}

/// Returns the number of insertions, deletions and replacements between two words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
