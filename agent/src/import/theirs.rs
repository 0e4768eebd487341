//! Their tree, read key by key: nothing of it is passed over without a word.

use core::cell::RefCell;
use std::path::{Path, PathBuf};

use super::{Level, Note};
use crate::config::{
    ConfigFault,
    yaml::{Node, Place, Value},
};

/// What became of each key.
#[derive(Debug)]
pub(super) struct Report {
    file: PathBuf,
    carried: RefCell<Vec<(Place, String)>>,
    notes: RefCell<Vec<(Place, Note)>>,
    faults: RefCell<Vec<(Place, ConfigFault)>>,
}

impl Report {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            carried: RefCell::default(),
            notes: RefCell::default(),
            faults: RefCell::default(),
        }
    }

    /// Notes what concerns no key.
    pub(super) fn whole(&self, level: Level, problem: &str, remedy: &str) {
        self.note(Place::default(), String::new(), level, problem, remedy);
    }

    /// Ends the report: the keys that came along, and the notes, in the order of lines.
    ///
    /// # Errors
    /// What cannot be read at all.
    pub(super) fn finish(self) -> Result<(Vec<String>, Vec<Note>), Vec<ConfigFault>> {
        let mut faults = self.faults.into_inner();
        if !faults.is_empty() {
            faults.sort_by_key(|(place, _)| *place);
            return Err(faults.into_iter().map(|(_, fault)| fault).collect());
        }
        let (mut carried, mut notes) = (self.carried.into_inner(), self.notes.into_inner());
        carried.sort();
        carried.dedup();
        notes.sort_by_key(|(place, _)| *place);
        notes.dedup();
        Ok((carried.into_iter().map(|(_, key)| key).collect(), notes.into_iter().map(|(_, note)| note).collect()))
    }

    pub(super) fn refuse(&self, place: Place, key: &str, problem: &str, remedy: &str) {
        let mut fault = crate::config::fault(&self.file, Some(place), problem, remedy);
        fault.key = key.to_owned();
        self.faults.borrow_mut().push((place, fault));
    }

    fn note(&self, place: Place, key: String, level: Level, problem: &str, remedy: &str) {
        let file = self.file.clone();
        let (problem, remedy) = (problem.to_owned(), remedy.to_owned());
        let note = Note { level, file, line: place.line, column: place.column, key, problem, remedy };
        self.notes.borrow_mut().push((place, note));
    }
}

/// A map of their tree.
#[derive(Debug)]
pub(super) struct Map<'r> {
    report: &'r Report,
    pub(super) path: String,
    pub(super) place: Place,
    entries: Vec<(String, Place, Node)>,
}

impl<'r> Map<'r> {
    /// Reads `node`; anything but a map or nothing is a fault.
    pub(super) fn new(report: &'r Report, path: String, node: Node) -> Self {
        let Node { place, value } = node;
        let entries = match value {
            Value::Map(entries) => entries,
            Value::Null => Vec::new(),
            Value::Text(_) | Value::List(_) => {
                report.refuse(
                    place,
                    &path,
                    "not a section of keys",
                    "Correct their file: it is no configuration of an ngrok agent",
                );
                Vec::new()
            }
        };
        Self { report, path, place, entries }
    }

    /// Takes what stands at `key`; nothing when nothing does.
    pub(super) fn take(&mut self, key: &str) -> Option<Item<'r>> {
        let at = self.entries.iter().position(|(name, ..)| name == key)?;
        let (name, place, node) = self.entries.remove(at);
        let path = if self.path.is_empty() { name } else { format!("{}.{name}", self.path) };
        (node.value != Value::Null).then_some(Item { report: self.report, path, place, node })
    }

    /// Looks at the single value at `key`.
    pub(super) fn peek(&self, key: &str) -> Option<&str> {
        let (.., node) = self.entries.iter().find(|(name, ..)| name == key)?;
        match &node.value {
            Value::Text(text) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Returns whether anything stands at `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, ..)| name == key)
    }

    /// Takes what stands at the first of the keys that has something.
    pub(super) fn take_any(&mut self, keys: &[&str]) -> Option<Item<'r>> {
        keys.iter().find_map(|key| self.take(key))
    }

    /// Takes the rest, in its order.
    pub(super) fn rest(&mut self) -> Vec<Item<'r>> {
        let names: Vec<_> = self.entries.iter().map(|(name, ..)| name.clone()).collect();
        names.iter().filter_map(|name| self.take(name)).collect()
    }

    /// Notes that the whole map is not what it should be.
    pub(super) fn refuse(&self, problem: &str, remedy: &str) {
        self.report.refuse(self.place, &self.path, problem, remedy);
    }

    /// Notes something of the whole map.
    pub(super) fn note(&self, level: Level, problem: &str, remedy: &str) {
        self.report.note(self.place, self.path.clone(), level, problem, remedy);
    }

    /// Ends the map: what nobody has taken is told.
    pub(super) fn finish(mut self) {
        for item in self.rest() {
            item.note(Level::None, UNKNOWN, "See what it was for, and whether it is wanted here");
        }
    }

    /// Ends the map of an endpoint: what nobody has taken may have protected it.
    pub(super) fn finish_protected(mut self, unprotected: &mut Vec<String>) {
        for item in self.rest() {
            item.note(Level::Protection, UNKNOWN, "See what it was for: it may have kept callers out");
            let name = item.path.rsplit('.').next().unwrap_or_default();
            let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            unprotected.push(format!("{name} (not known)"));
        }
    }
}

const UNKNOWN: &str = "not a key that is known of an ngrok agent";

/// A key and its value.
#[derive(Debug)]
pub(super) struct Item<'r> {
    report: &'r Report,
    pub(super) path: String,
    place: Place,
    pub(super) node: Node,
}

impl<'r> Item<'r> {
    /// Returns the single value; anything else is a fault.
    pub(super) fn text(&self) -> Option<String> {
        let Value::Text(text) = &self.node.value else {
            self.refuse("not a single value");
            return None;
        };
        Some(text.clone())
    }

    /// Returns the values of a list, or the single one.
    pub(super) fn texts(&self) -> Vec<String> {
        match &self.node.value {
            Value::Null => Vec::new(),
            Value::Text(text) => vec![text.clone()],
            Value::Map(_) => {
                self.refuse("not a list of values");
                Vec::new()
            }
            Value::List(items) => items.iter().filter_map(|item| self.one(item)).collect(),
        }
    }

    fn one(&self, item: &Node) -> Option<String> {
        let Value::Text(text) = &item.value else {
            self.report.refuse(item.place, &self.path, "not a single value", "Correct their file");
            return None;
        };
        Some(text.clone())
    }

    /// Returns the map below.
    pub(super) fn map(self) -> Map<'r> {
        Map::new(self.report, self.path, self.node)
    }

    /// Returns the items of the list below.
    pub(super) fn maps(self) -> Vec<Map<'r>> {
        let Value::List(items) = self.node.value else {
            self.refuse("not a list");
            return Vec::new();
        };
        let map = |(at, node)| Map::new(self.report, format!("{}[{at}]", self.path), node);
        items.into_iter().enumerate().map(map).collect()
    }

    /// Says that it means the same here.
    pub(super) fn carried(&self) {
        self.report.carried.borrow_mut().push((self.place, self.path.clone()));
    }

    /// Says what became of it.
    pub(super) fn note(&self, level: Level, problem: &str, remedy: &str) {
        self.report.note(self.place, self.path.clone(), level, problem, remedy);
    }

    pub(super) fn refuse(&self, problem: &str) {
        self.report.refuse(self.node.place, &self.path, problem, "Correct their file: `ngrok config check` says more");
    }
}
