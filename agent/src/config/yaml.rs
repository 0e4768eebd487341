//! YAML as a tree whose every node knows its place; the only module that knows the YAML library.

use core::fmt;
use std::collections::BTreeSet;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

/// Where a node begins: the file by its index, line and column counted from one; zero when not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: usize,
    pub(crate) line: u64,
    pub(crate) column: u64,
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// A value. Scalars are text as written: what they mean is for the one who reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Place, Node)>),
}

/// Parses the document of file number `file`; an empty one is an empty map.
///
/// # Errors
/// The place and what is wrong there: syntax, a key twice, aliases in excess.
pub(crate) fn parse(file: usize, text: &str) -> Result<Node, (Place, String)> {
    parse_with_types(file, text).map(|(node, _)| node)
}

/// Parses the document, and tells the places of the scalars that are not text: numbers, `true` and `false` without quotes.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_with_types(file: usize, text: &str) -> Result<(Node, BTreeSet<Place>), (Place, String)> {
    if is_bare(text) {
        let place = Place { file, line: 0, column: 0 };
        return Ok((Node { place, value: Value::Map(Vec::new()) }, BTreeSet::new()));
    }
    read(file, text, serde_saphyr::Options::default())
}

/// Parses a document that somebody else wrote: one in which nothing stands for what is written elsewhere, of few values.
///
/// # Errors
/// The place and what is wrong there.
pub(crate) fn parse_plain(text: &str, most: usize) -> Result<Node, (Place, String)> {
    if is_bare(text) {
        return parse(0, text);
    }
    let mut budget = serde_saphyr::Budget::default();
    budget.max_nodes = most;
    budget.max_aliases = 0;
    budget.max_anchors = 0;
    budget.max_merge_keys = 0;
    let mut options = serde_saphyr::Options::default();
    options.budget = Some(budget);
    options.merge_keys = serde_saphyr::MergeKeyPolicy::Error;
    options.reject_unsupported_tags = true;
    read(0, text, options).map(|(node, _)| node)
}

/// Returns whether nothing is said.
fn is_bare(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

fn read(file: usize, text: &str, options: serde_saphyr::Options) -> Result<(Node, BTreeSet<Place>), (Place, String)> {
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(root) => {
            let mut source = Source { file, lines: text.lines().collect(), typed: BTreeSet::new() };
            let node = source.node(root);
            Ok((node, source.typed))
        }
        Err(error) => {
            let place = error.location().map_or_else(|| Place { file, ..Place::default() }, |at| place(file, at));
            // The library adds a picture of the source, which may hold a secret.
            let text = error.without_snippet().to_string();
            Err((place, text.lines().next().unwrap_or_default().to_owned()))
        }
    }
}

fn place(file: usize, at: serde_saphyr::Location) -> Place {
    Place { file, line: at.line(), column: at.column() }
}

/// What the library makes of a value.
enum Raw {
    Null,
    Text(String),
    /// Taken for something else than text: what was written stands at its place in the source.
    Typed(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

struct Source<'a> {
    file: usize,
    lines: Vec<&'a str>,
    typed: BTreeSet<Place>,
}

impl Source<'_> {
    fn node(&mut self, spanned: Spanned<Raw>) -> Node {
        let place = place(self.file, spanned.referenced);
        let value = match spanned.value {
            Raw::Null => Value::Null,
            Raw::Text(text) => Value::Text(text),
            Raw::Typed(text) => {
                self.typed.insert(place);
                Value::Text(self.written(place).unwrap_or(text))
            }
            Raw::List(items) => Value::List(items.into_iter().map(|item| self.node(item)).collect()),
            Raw::Map(entries) => {
                let mut map = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    map.push((key.value, self::place(self.file, key.referenced), self.node(value)));
                }
                Value::Map(map)
            }
        };
        Node { place, value }
    }

    /// Returns the plain scalar as it stands in the source: `1.10` is not 1.1, `007` is not 7.
    fn written(&self, place: Place) -> Option<String> {
        let line = self.lines.get(usize::try_from(place.line).ok()?.checked_sub(1)?)?;
        let rest: String = line.chars().skip(usize::try_from(place.column).ok()?.checked_sub(1)?).collect();
        let word = rest.split([' ', '\t', ',', ']', '}']).next()?;
        let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-' | b'_'));
        (plain && !word.is_empty()).then(|| word.to_owned())
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(Self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: u64, column: u64, value: &str) -> Node {
        Node { place: at(line, column), value: Value::Text(value.to_owned()) }
    }

    fn at(line: u64, column: u64) -> Place {
        Place { file: 0, line, column }
    }

    #[test]
    fn every_node_knows_its_line_and_column() {
        let root = parse(0, "a: 1\nb:\n  - x\n  - true\n").unwrap();

        let Value::Map(entries) = root.value else { panic!("not a map") };
        assert_eq!(entries[0], ("a".to_owned(), at(1, 1), text(1, 4, "1")));
        assert_eq!(entries[1].2.value, Value::List(vec![text(3, 5, "x"), text(4, 5, "true")]));
    }

    #[test]
    fn a_scalar_is_the_text_that_was_written() {
        for written in ["1.10", "007", "1e3", "0x10", "-5", "~x", "8080", "2_000", "no", "true"] {
            let root = parse(0, &format!("a: {written} # why\nb: [{written}, x]\n")).unwrap();

            let Value::Map(entries) = root.value else { panic!("not a map") };
            assert_eq!(entries[0].2.value, Value::Text(written.to_owned()));
            let Value::List(items) = &entries[1].2.value else { panic!("not a list") };
            assert_eq!(items[0].value, Value::Text(written.to_owned()));
        }
    }

    #[test]
    fn a_key_given_twice_is_an_error_with_its_place() {
        let (place, text) = parse(3, "a: 1\nb: 2\na: 3\n").unwrap_err();

        assert_eq!((place.file, place.line), (3, 3), "{text}");
    }

    #[test]
    fn an_error_does_not_show_the_line_it_is_in() {
        let (_, text) = parse(0, "agent:\n  authtoken: hunter2\n   x: [\n").unwrap_err();

        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn aliases_cannot_blow_the_tree_up() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let below = format!("*a{}", level - 1);
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(",")));
        }

        assert!(parse(0, &bomb).is_err());
    }
}
