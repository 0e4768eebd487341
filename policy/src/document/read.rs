//! Reads a tree and gathers all that is wrong with it.
#![expect(clippy::wildcard_enum_match_arm, reason = "a value of any other type is told of in one arm")]

use core::fmt;

use super::{
    MAX_PATTERNS, MAX_PROBLEMS,
    template::Template,
    yaml::{Node, Place, Value},
};
use crate::{
    cel::{CompileError, Position, Program, nearest},
    environment::Phase,
};

/// What is wrong with a document: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from one; zero when the whole is meant.
    pub line: u64,
    /// The column in characters, from one; zero when the whole is meant.
    pub column: u64,
    /// The key, as `on_http_request[0].actions[1].type`; empty when the whole is meant.
    pub key: String,
    /// What is wrong, for a human.
    pub what: String,
    /// What to do, for a human.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line != 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}. {}", self.what, self.remedy)
    }
}

impl core::error::Error for Problem {}

/// The text of a document, and what is wrong with it so far.
#[derive(Debug)]
pub(crate) struct Reader<'t> {
    source: &'t str,
    problems: Vec<Problem>,
    /// The octets that patterns take so far.
    patterns: usize,
    /// Whether an expression may read what actions tell.
    pub(crate) reads_results: bool,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(source: &'t str) -> Self {
        Self { source, problems: Vec::new(), patterns: 0, reads_results: false }
    }

    /// Returns the problems by place.
    pub(crate) fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems
    }

    pub(crate) fn problem(&mut self, at: Place, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            // A document may have a key or an expression as long as itself.
            let short = |text: &str| text.chars().take(512).collect::<String>();
            let (key, what, remedy) = (short(key), short(&what.into()), remedy.into());
            self.problems.push(Problem { line: at.line, column: at.column, key, what, remedy });
        }
    }

    /// Returns whether patterns have taken more room than there is: nothing more is compiled.
    const fn is_full(&self) -> bool {
        self.patterns > MAX_PATTERNS
    }

    /// Takes room for patterns; tells when there is not enough, once.
    pub(crate) fn has_room(&mut self, at: Place, key: &str, patterns: usize) -> bool {
        self.patterns = self.patterns.saturating_add(patterns);
        if self.is_full() {
            let what = format!("up to here, patterns take more than {MAX_PATTERNS} octets");
            self.problem(at, key, what, "Make them fewer or simpler");
        }
        !self.is_full()
    }

    /// Tells of an expression that is refused, which begins at an octet of the text of a node.
    pub(crate) fn refused(&mut self, at: Place, key: &str, text: &str, begin: usize, error: CompileError) {
        if self.problems.len() == MAX_PROBLEMS {
            return; // looking for the place goes over the whole document
        }
        let start = Position::of(text, begin);
        let column = if error.at.line == 1 { start.column + error.at.column - 1 } else { error.at.column };
        let inner = Position { line: start.line + error.at.line - 1, column };
        let place = self.place_within(at, text, inner).unwrap_or(at);
        self.problem(place, key, error.what, error.remedy.unwrap_or_else(|| "Correct the expression".into()));
    }

    /// Compiles an expression, which is a text or a part of it.
    pub(crate) fn program(
        &mut self,
        phase: Phase,
        path: &str,
        node: &Node,
        text: &str,
        inner: &str,
    ) -> Option<Program> {
        if self.is_full() {
            return None;
        }
        self.reads_results |= inner.contains(RESULTS);
        match phase.environment().compile(inner) {
            Ok(program) => self.has_room(node.place, path, program.patterns()).then_some(program),
            Err(error) => {
                self.refused(node.place, path, text, text.find(inner).unwrap_or(0), error);
                None
            }
        }
    }

    /// Reads text with expressions in it.
    pub(crate) fn template(&mut self, phase: Phase, path: &str, node: &Node, text: &str) -> Option<Template> {
        if self.is_full() {
            return None;
        }
        self.reads_results |= text.contains(RESULTS);
        match Template::parse(phase.environment(), text) {
            Ok(template) => self.has_room(node.place, path, template.patterns()).then_some(template),
            Err((begin, error)) => {
                self.refused(node.place, path, text, begin, error);
                None
            }
        }
    }

    /// Returns where a place of a scalar stands in the document; nothing where its line is not written as it reads (escaped or folded).
    fn place_within(&self, at: Place, text: &str, inner: Position) -> Option<Place> {
        let wanted = text.lines().nth(usize::try_from(inner.line).ok()?.checked_sub(1)?)?;
        let line = at.line.checked_add(u64::from(inner.line))?.checked_sub(1)?;
        // The first line stands beside the key, after a quote perhaps; or all of them stand below it.
        if let (1, Some(beside)) = (inner.line, self.source.lines().nth(usize::try_from(at.line).ok()?.checked_sub(1)?))
        {
            for quote in 0..=1 {
                let before = usize::try_from(at.column).ok()?.checked_sub(1)?.checked_add(quote)?;
                let start = beside.char_indices().nth(before).map_or(beside.len(), |(start, _)| start);
                if beside.get(start..).is_some_and(|rest| rest.starts_with(wanted)) {
                    return Some(Place { line: at.line, column: before as u64 + u64::from(inner.column) });
                }
            }
        }
        [line, line.checked_add(1)?].into_iter().find_map(|line| {
            let below = self.source.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
            let indent = below.strip_suffix(wanted).filter(|indent| indent.trim().is_empty())?;
            let column = u64::try_from(indent.len()).ok()?.checked_add(u64::from(inner.column))?;
            Some(Place { line, column })
        })
    }

    /// Returns the values of known keys, in their order; a key without a value has one of null, which is none that was not given; of other keys it tells, but for those that were told of before.
    pub(crate) fn map<'n, const N: usize>(
        &mut self,
        path: &str,
        node: &'n Node,
        known: [&str; N],
        told: &[&str],
    ) -> Option<[Option<&'n Node>; N]> {
        let entries = self.entries(path, node)?;
        for (key, place, _) in entries {
            if !known.contains(&&**key) && !told.contains(&&**key) {
                let remedy = match nearest(key, known.into_iter()) {
                    Some(near) => format!("Did you mean `{near}`?"),
                    None if N == 0 => "There is no key here; remove it".into(),
                    None => format!("There is `{}`", known.join("`, `")),
                };
                self.problem(*place, &join(path, key), "unknown key", remedy);
            }
        }
        Some(known.map(|name| entries.iter().find(|(key, ..)| key == name).map(|(.., node)| node)))
    }

    /// Returns the entries of a map.
    pub(crate) fn entries<'n>(&mut self, path: &str, node: &'n Node) -> Option<&'n [(String, Place, Node)]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            other => self.wrong(path, node.place, other, "a map", "Write `key: value` below it, indented"),
        }
    }

    /// Returns the elements of a list; none when there is no list.
    pub(crate) fn list<'n>(&mut self, path: &str, node: Option<&'n Node>, most: usize) -> &'n [Node] {
        let Some(node) = node else { return &[] };
        match &node.value {
            Value::List(nodes) if nodes.len() <= most => nodes,
            Value::List(nodes) => {
                let what = format!("{} elements, and {most} are allowed", nodes.len());
                self.problem(node.place, path, what, "Remove some");
                &[]
            }
            other => {
                self.wrong(path, node.place, other, "a list", "Begin each element with a dash").unwrap_or_default()
            }
        }
    }

    pub(crate) fn text<'n>(&mut self, path: &str, node: &'n Node) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => Some(text),
            other => self.wrong(path, node.place, other, "a string", "Write it in quotes"),
        }
    }

    pub(crate) fn truth(&mut self, path: &str, node: &Node) -> Option<bool> {
        match &node.value {
            Value::Bool(truth) => Some(*truth),
            other => self.wrong(path, node.place, other, "true or false", "Write `true` or `false` without quotes"),
        }
    }

    pub(crate) fn int(&mut self, path: &str, node: &Node) -> Option<i64> {
        match &node.value {
            Value::Int(number) => Some(*number),
            other => self.wrong(path, node.place, other, "a whole number", "Write it without quotes"),
        }
    }

    fn wrong<T>(&mut self, path: &str, at: Place, value: &Value, expected: &str, remedy: &str) -> Option<T> {
        let found = match value {
            Value::Null => "nothing",
            Value::Bool(_) => "a truth",
            Value::Int(_) | Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        };
        self.problem(at, path, format!("{found} where {expected} is asked for"), remedy);
        None
    }
}

/// What stands in the name of every attribute that has what actions tell.
const RESULTS: &str = "ngrok";

/// Returns the path of a key.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.into() } else { format!("{path}.{key}") }
}
