//! Reads a tree key by key, the environment before the file, and gathers every fault on the way.

use core::{cell::RefCell, fmt};
use std::collections::BTreeMap;

use super::yaml::{Node, Place, Value};

/// One fault of a configuration: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// The key, as `limits.connections`; empty when it concerns the whole.
    pub key: String,
    /// The line in the file, from one.
    pub line: Option<u64>,
    /// The column in the file, from one.
    pub column: Option<u64>,
    /// The environment variable, where the value came from one.
    pub variable: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.variable, self.line, self.column) {
            (Some(variable), ..) => write!(f, "{variable}: ")?,
            (None, Some(line), Some(column)) => write!(f, "line {line}, column {column}: ")?,
            (None, ..) => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}. {}", self.problem, self.remedy)
    }
}

/// What reading gathers: faults, and which environment variables were asked for.
#[derive(Debug)]
pub(crate) struct Context {
    environment: BTreeMap<String, String>,
    asked: RefCell<Vec<String>>,
    faults: RefCell<Vec<ConfigFault>>,
}

impl Context {
    /// Takes the variables that begin with [`PREFIX`].
    pub(crate) fn new(environment: BTreeMap<String, String>) -> Self {
        Self { environment, asked: RefCell::default(), faults: RefCell::default() }
    }

    pub(crate) fn fault(&self, fault: ConfigFault) {
        self.faults.borrow_mut().push(fault);
    }

    /// Ends the reading: variables that nobody asked for are faults too (a typo must not be ignored: V45).
    pub(crate) fn finish(self) -> Vec<ConfigFault> {
        let asked = self.asked.into_inner();
        let mut faults = self.faults.into_inner();
        for variable in self.environment.keys().filter(|name| !asked.contains(name)) {
            faults.push(ConfigFault {
                key: String::new(),
                line: None,
                column: None,
                variable: Some(variable.clone()),
                problem: "unknown variable".to_owned(),
                remedy: nearest(variable, asked.iter().map(String::as_str), "Remove it"),
            });
        }
        faults.sort_by_key(|fault| (fault.line, fault.column));
        faults
    }
}

/// Environment variables begin with it.
pub(crate) const PREFIX: &str = "ADIT_NETWORK_";

/// A map of the tree that is read key by key.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    context: &'a Context,
    path: String,
    entries: Vec<(String, Place, Node)>,
    known: Vec<&'static str>,
}

/// A scalar, and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    origin: Origin,
}

/// An item of a list.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    Scalar(Scalar),
    Section(Section<'a>),
}

impl Scalar {
    /// Tells whether it stood in the environment.
    pub(crate) const fn is_variable(&self) -> bool {
        matches!(self.origin, Origin::Variable(_))
    }
}

#[derive(Clone, Debug)]
enum Origin {
    File(Place),
    Variable(String),
}

impl<'a> Section<'a> {
    /// Reads `node` as the map at `path`; anything else is a fault.
    pub(crate) fn new(context: &'a Context, path: String, node: Option<Node>) -> Self {
        let entries = match node {
            None | Some(Node { value: Value::Null, .. }) => Vec::new(),
            Some(Node { value: Value::Map(entries), .. }) => entries,
            Some(Node { place, value: Value::Text(_) | Value::List(_) }) => {
                context.fault(ConfigFault {
                    key: path.clone(),
                    line: Some(place.line),
                    column: Some(place.column),
                    variable: None,
                    problem: "not a section".to_owned(),
                    remedy: "Write keys below it, one a line, indented".to_owned(),
                });
                Vec::new()
            }
        };
        Self { context, path, entries, known: Vec::new() }
    }

    /// Returns the section below `key`.
    pub(crate) fn section(&mut self, key: &'static str) -> Self {
        let node = self.take(key).map(|(_, node)| node);
        Self::new(self.context, self.key(key), node)
    }

    /// Returns where the section is, as `endpoints[0]`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Returns true when the file has the key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, ..)| name == key)
    }

    /// Returns the scalar at `key`, the environment before the file.
    pub(crate) fn scalar(&mut self, key: &'static str) -> Option<Scalar> {
        let from_file = self.take(key);
        if let Some(scalar) = self.variable(key) {
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

    /// Returns the scalars at `key`: a list, or one value; in the environment separated by commas.
    pub(crate) fn scalars(&mut self, key: &'static str) -> Vec<Scalar> {
        let from_file = self.take(key);
        if let Some(Scalar { text, origin }) = self.variable(key) {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            return parts.map(|part| Scalar { text: part.to_owned(), origin: origin.clone() }).collect();
        }
        let Some((_, node)) = from_file else { return Vec::new() };
        let nodes = match node.value {
            Value::List(nodes) => nodes,
            Value::Null => Vec::new(),
            Value::Text(_) | Value::Map(_) => vec![node],
        };
        let mut scalars = Vec::new();
        for Node { place, value } in nodes {
            match value {
                Value::Text(text) => scalars.push(Scalar { text, origin: Origin::File(place) }),
                Value::Null | Value::List(_) | Value::Map(_) => {
                    self.refuse(key, place, "not a list of values", "Write one value or a list of values");
                }
            }
        }
        scalars
    }

    /// Returns the names and values of the map at `key`, whatever the names are.
    pub(crate) fn pairs(&mut self, key: &'static str) -> Vec<(String, Scalar)> {
        let Some((place, node)) = self.take(key) else { return Vec::new() };
        let Value::Map(entries) = node.value else {
            if node.value != Value::Null {
                self.refuse(key, place, "not a section", "Write names and values below it, one a line, indented");
            }
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (name, place, node) in entries {
            match node.value {
                Value::Text(text) => pairs.push((name, Scalar { text, origin: Origin::File(place) })),
                Value::Null | Value::List(_) | Value::Map(_) => {
                    self.refuse(key, place, "not a name with one value", "Write one value");
                }
            }
        }
        pairs
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

    /// Returns the items of the list at `key`, which may be values and sections side by side; in the environment, values alone.
    pub(crate) fn items(&mut self, key: &'static str) -> Vec<Item<'a>> {
        let is_map = |node: &Node| matches!(node.value, Value::Map(_));
        let has_maps = self.entries.iter().any(|(name, _, node)| {
            name == key && (is_map(node) || matches!(&node.value, Value::List(nodes) if nodes.iter().any(is_map)))
        });
        if !has_maps || self.variable(key).is_some() {
            return self.scalars(key).into_iter().map(Item::Scalar).collect();
        }
        let Some((_, node)) = self.take(key) else { return Vec::new() };
        let path = self.key(key);
        let nodes = if let Value::List(nodes) = node.value { nodes } else { vec![node] };
        let item = |(at, node): (usize, Node)| match node.value {
            Value::Text(text) => Item::Scalar(Scalar { text, origin: Origin::File(node.place) }),
            Value::Null | Value::List(_) | Value::Map(_) => {
                Item::Section(Self::new(self.context, format!("{path}[{at}]"), Some(node)))
            }
        };
        nodes.into_iter().enumerate().map(item).collect()
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
        match read(&scalar.text) {
            Some(value) => value,
            None => {
                self.reject(key, &scalar, &format!("`{}` is not {expected}", scalar.text.escape_debug()), "Correct it");
                default
            }
        }
    }

    /// Returns the values at `key` as `read` understands them.
    pub(crate) fn values<T>(&mut self, key: &'static str, expected: &str, read: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let mut values = Vec::new();
        for scalar in self.scalars(key) {
            match read(&scalar.text) {
                Some(value) => values.push(value),
                None => {
                    let problem = format!("`{}` is not {expected}", scalar.text.escape_debug());
                    self.reject(key, &scalar, &problem, "Correct it");
                }
            }
        }
        values
    }

    /// Notes a fault of a scalar that was read.
    pub(crate) fn reject(&self, key: &str, scalar: &Scalar, problem: &str, remedy: &str) {
        let (place, variable) = match &scalar.origin {
            Origin::File(place) => (Some(*place), None),
            Origin::Variable(name) => (None, Some(name.clone())),
        };
        self.context.fault(ConfigFault {
            key: self.key(key),
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            variable,
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        });
    }

    /// Notes a fault of a key that is missing or does not fit another.
    pub(crate) fn missing(&self, key: &str, problem: &str, remedy: &str) {
        self.context.fault(ConfigFault {
            key: self.key(key),
            line: None,
            column: None,
            variable: None,
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        });
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
        let at = self.entries.iter().position(|(name, ..)| name == key)?;
        let (_, place, node) = self.entries.remove(at);
        Some((place, node))
    }

    fn variable(&self, key: &str) -> Option<Scalar> {
        if self.path.contains('[') {
            return None; // items of lists have no variable of their own
        }
        let name = format!("{PREFIX}{}", self.key(key).replace('.', "_").to_uppercase());
        let text = self.context.environment.get(&name).cloned();
        self.context.asked.borrow_mut().push(name.clone());
        text.map(|text| Scalar { text, origin: Origin::Variable(name) })
    }

    fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn refuse(&self, key: &str, place: Place, problem: &str, remedy: &str) {
        let scalar = Scalar { text: String::new(), origin: Origin::File(place) };
        self.reject(key, &scalar, problem, remedy);
    }
}

/// Returns a remedy that names the known word nearest to `word`, or `otherwise`.
fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>, otherwise: &str) -> String {
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
