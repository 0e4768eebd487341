//! YAML as a tree whose every node knows its place; the only module that knows the YAML library.

use core::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

/// Where a node begins, counted from one; zero when not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// A value. What is written without quotes and looks like a number or a truth is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// A number of another kind.
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Place, Node)>),
}

/// A number with a fraction, by its bits: two are equal when they are written alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number(u64);

impl Number {
    pub(crate) fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// Parses a document; an empty one is an empty map.
///
/// # Errors
/// The place and what is wrong there: syntax, a key twice, aliases in excess.
pub(crate) fn parse(text: &str) -> Result<Node, (Place, String)> {
    if text.trim().is_empty() {
        return Ok(Node { place: Place::default(), value: Value::Map(Vec::new()) });
    }
    match serde_saphyr::from_str::<Spanned<Value>>(text) {
        Ok(root) => Ok(root.into()),
        Err(error) => {
            let place = error.location().map_or_else(Place::default, place);
            // The library adds a picture of the source, the place once more, and advice for programmers.
            let text = error.without_snippet().to_string();
            let ends = ["\n", " at line ", ", set DuplicateKeyPolicy"].map(|end| text.find(end).unwrap_or(text.len()));
            Err((place, text.get(..ends.into_iter().min().unwrap_or_default()).unwrap_or_default().to_owned()))
        }
    }
}

fn place(at: serde_saphyr::Location) -> Place {
    Place { line: at.line(), column: at.column() }
}

impl From<Spanned<Value>> for Node {
    fn from(spanned: Spanned<Value>) -> Self {
        Self { place: place(spanned.referenced), value: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or_else(|_| Value::Number(Number((value as f64).to_bits())), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(Number(value.to_bits())))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(Self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(item.into());
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Value>>()? {
            map.push((key.value, place(key.referenced), value.into()));
        }
        Ok(Value::Map(map))
    }
}
