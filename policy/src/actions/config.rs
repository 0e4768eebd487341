//! Reads the configuration of an action, and tells what is wrong with it.

use core::time::Duration;

use crate::{
    cel::{self, Environment, Pattern, Program, Type},
    document::{Data, MAX_ENTRIES, Node, Place, Reader, Template, Value, alone, join},
    environment::Phase,
};

/// The configuration of an action, and where it is.
#[derive(Debug)]
pub(crate) struct Config<'c, 't, 'n> {
    reader: &'c mut Reader<'t>,
    phase: Phase,
    path: String,
    node: &'n Node,
}

impl<'c, 't, 'n> Config<'c, 't, 'n> {
    pub(super) fn new(reader: &'c mut Reader<'t>, phase: Phase, path: String, node: &'n Node) -> Self {
        Self { reader, phase, path, node }
    }

    /// Returns the values of the keys that there are; of others it tells.
    pub(crate) fn map<const N: usize>(&mut self, known: [&str; N]) -> Option<[Option<&'n Node>; N]> {
        self.reader.map(&self.path, self.node, known, &[])
    }

    /// Returns the configuration that is the value of a key.
    pub(crate) fn within(&mut self, key: &str, node: &'n Node) -> Config<'_, 't, 'n> {
        Config { path: join(&self.path, key), phase: self.phase, reader: &mut *self.reader, node }
    }

    /// Returns the values of the keys that an element has; of others it tells.
    pub(crate) fn item<const N: usize>(
        &mut self,
        key: &str,
        node: &'n Node,
        known: [&str; N],
    ) -> Option<[Option<&'n Node>; N]> {
        self.reader.map(&join(&self.path, key), node, known, &[])
    }

    /// Takes room for a pattern; nothing when there is none left, of which it tells.
    pub(crate) fn has_room(&mut self, key: &str, node: &Node, octets: usize) -> Option<()> {
        self.reader.has_room(node.place, &join(&self.path, key), octets).then_some(())
    }

    /// Compiles an expression over other facts than those of the phase. It may stand in `${…}`.
    pub(crate) fn condition(&mut self, key: &str, node: &'n Node, environment: &Environment) -> Option<Program> {
        let text = self.text(key, node)?;
        let inner = alone(text).unwrap_or(text);
        let path = join(&self.path, key);
        match environment.compile(inner) {
            Ok(program) if !program.ty().fits(&Type::BOOL) => {
                self.problem(key, node, "a condition is a bool", "Compare it with something");
                None
            }
            Ok(program) => self.reader.has_room(node.place, &path, program.patterns()).then_some(program),
            Err(error) => {
                self.reader.refused(node.place, &path, text, 0, error);
                None
            }
        }
    }

    /// Returns the path of a key.
    pub(crate) fn key(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Tells what is wrong with the value of a key.
    pub(crate) fn problem(&mut self, key: &str, node: &Node, what: impl Into<String>, remedy: impl Into<String>) {
        self.reader.problem(node.place, &join(&self.path, key), what, remedy);
    }

    /// Tells what is wrong with the whole.
    pub(crate) fn whole(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.reader.problem(self.node.place, &self.path, what, remedy);
    }

    /// Returns a value that must be there; tells when it is not.
    pub(crate) fn required(&mut self, key: &str, node: Option<&'n Node>) -> Option<&'n Node> {
        if node.is_none() {
            self.whole(format!("no `{key}`"), "Add it");
        }
        node
    }

    pub(crate) fn text(&mut self, key: &str, node: &'n Node) -> Option<&'n str> {
        self.reader.text(&join(&self.path, key), node)
    }

    pub(crate) fn truth(&mut self, key: &str, node: &Node) -> Option<bool> {
        self.reader.truth(&join(&self.path, key), node)
    }

    /// Reads whether an action only tells what it would do.
    pub(crate) fn enforce(&mut self, node: Option<&Node>) -> Option<bool> {
        node.map_or(Some(true), |node| self.truth("enforce", node))
    }

    /// Returns the phase in which the action stands.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Reads a whole number within bounds.
    pub(crate) fn int(&mut self, key: &str, node: &Node, least: i64, most: i64) -> Option<i64> {
        let number = self.reader.int(&join(&self.path, key), node)?;
        let within = (least..=most).contains(&number);
        if !within {
            self.problem(key, node, format!("{number} is out of range"), format!("Write one from {least} to {most}"));
        }
        within.then_some(number)
    }

    /// Reads a span of time within bounds, as `90s`.
    pub(crate) fn duration(&mut self, key: &str, node: &'n Node, least: &str, most: &str) -> Option<Duration> {
        let text = self.text(key, node)?;
        let nanos = |text: &str| cel::Duration::parse(text).map(cel::Duration::nanos);
        let remedy = || format!("Write one from `{least}` to `{most}`");
        match (nanos(text), nanos(least), nanos(most)) {
            (Ok(found), Ok(least), Ok(most)) if (least..=most).contains(&found) => {
                u64::try_from(found).ok().map(Duration::from_nanos)
            }
            (Ok(_), ..) => {
                self.problem(key, node, format!("`{text}` is out of range"), remedy());
                None
            }
            (Err(_), ..) => {
                self.problem(key, node, format!("`{text}` is no span of time"), remedy());
                None
            }
        }
    }

    /// Reads one of some texts; returns which.
    pub(crate) fn choice(&mut self, key: &str, node: &'n Node, choices: &[&str]) -> Option<usize> {
        let text = self.text(key, node)?;
        let found = choices.iter().position(|choice| *choice == text);
        if found.is_none() {
            let remedy = format!("Write `{}`", choices.join("` or `"));
            self.problem(key, node, format!("`{text}` is none of what there is"), remedy);
        }
        found
    }

    /// Reads an expression of any type.
    pub(crate) fn program(&mut self, key: &str, node: &'n Node) -> Option<Program> {
        let text = self.text(key, node)?;
        self.reader.program(self.phase, &join(&self.path, key), node, text, text)
    }

    /// Reads a pattern that is the same whatever the facts.
    pub(crate) fn pattern(&mut self, key: &str, node: &Node, text: &str) -> Option<Pattern> {
        match Pattern::compile(text) {
            Ok(pattern) => {
                self.reader.has_room(node.place, &join(&self.path, key), pattern.octets()).then_some(pattern)
            }
            Err(what) => {
                self.problem(key, node, format!("no regular expression: {what}"), "Correct it");
                None
            }
        }
    }

    /// Reads a status from `least` to 599.
    pub(crate) fn status(&mut self, node: &Node, least: u16) -> Option<u16> {
        let number = self.reader.int(&self.key("status_code"), node)?;
        let status = u16::try_from(number).ok().filter(|status| (least..600).contains(status));
        if status.is_none() {
            let remedy = format!("Write one from {least} to 599");
            self.problem("status_code", node, format!("{number} is no such status"), remedy);
        }
        status
    }

    /// Returns the elements of a list with their paths.
    pub(crate) fn list(&mut self, key: &str, node: &'n Node, most: usize) -> Option<Vec<(String, &'n Node)>> {
        let path = join(&self.path, key);
        let nodes = self.reader.list(&path, Some(node), most);
        if nodes.is_empty() && node.value != Value::List(Vec::new()) {
            return None; // it was told of
        }
        Some(nodes.iter().enumerate().map(|(at, node)| (format!("{key}[{at}]"), node)).collect())
    }

    /// Returns the entries of a map, of which there are some, and not too many.
    pub(crate) fn entries(&mut self, key: &str, node: &'n Node) -> Option<&'n [(String, Place, Node)]> {
        let path = join(&self.path, key);
        let entries = self.reader.entries(&path, node)?;
        if entries.is_empty() || entries.len() > MAX_ENTRIES {
            let what = format!("{} entries", entries.len());
            self.reader.problem(node.place, &path, what, format!("Write from 1 to {MAX_ENTRIES}"));
            return None;
        }
        Some(entries)
    }

    /// Reads headers, names in lower case. A number or truth is written as it reads.
    pub(crate) fn headers(&mut self, key: &str, node: &'n Node) -> Option<Vec<(http::HeaderName, Template)>> {
        let mut headers = Vec::new();
        for (name, place, node) in self.entries(key, node)? {
            let key = join(key, name);
            let header = self.header(&key, *place, name);
            let Some(template) = self.written(&key, node) else { continue };
            let Some(header) = header else { continue };
            if template.has_control() {
                let remedy = "Write it on one line";
                self.reader.problem(*place, &join(&self.path, &key), "a control character in a header", remedy);
                continue;
            }
            headers.push((header, template));
        }
        Some(headers)
    }

    /// Reads the name of a header that a policy may change.
    pub(crate) fn header(&mut self, key: &str, place: Place, name: &str) -> Option<http::HeaderName> {
        let path = join(&self.path, key);
        let Ok(header) = http::HeaderName::try_from(name) else {
            self.reader.problem(place, &path, "no name of a header", "Write it as in `x-api-key`");
            return None;
        };
        if KEPT.contains(&header.as_str()) {
            let what = format!("`{header}` says how a message is sent, which no policy changes");
            self.reader.problem(place, &path, what, "Remove it");
            return None;
        }
        Some(header)
    }

    pub(crate) fn template(&mut self, key: &str, node: &'n Node) -> Option<Template> {
        let text = self.text(key, node)?;
        self.reader.template(self.phase, &join(&self.path, key), node, text)
    }

    /// Reads a template; a number or truth is written as it reads.
    pub(crate) fn written(&mut self, key: &str, node: &'n Node) -> Option<Template> {
        match &node.value {
            Value::Bool(truth) => Some(Template::of(truth.to_string())),
            Value::Int(number) => Some(Template::of(number.to_string())),
            Value::Null | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
                self.template(key, node)
            }
        }
    }

    /// Reads a value of any type, in whose texts there may be expressions.
    pub(crate) fn data(&mut self, key: &str, node: &'n Node) -> Option<Data> {
        Data::read(self.reader, self.phase, &join(&self.path, key), node)
    }
}

/// Headers of how a message is framed and carried: to change one would make two readers see two messages.
const KEPT: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "adit-request-id",
];
