//! Values (language definition, "Values"), borrowed from facts and program wherever they can be.

use core::{fmt, ops::Deref};
use std::sync::Arc;

use super::{
    budget::Budget,
    compare,
    fault::Fault,
    parse::MAX_DEPTH,
    time::{Duration, Timestamp},
    types::Kind,
};

/// A value of the language. Cloning copies no text and no elements.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// Null.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number with a sign.
    Int(i64),
    /// A whole number without a sign.
    Uint(u64),
    /// A number with a fraction.
    Double(f64),
    /// Text.
    String(Text<'a>),
    /// Octets.
    Bytes(Octets<'a>),
    /// A list.
    List(List<'a>),
    /// A map.
    Map(Map<'a>),
    /// A moment.
    Timestamp(Timestamp),
    /// A span of time.
    Duration(Duration),
    /// The type of a value.
    Type(Kind),
}

impl<'a> Value<'a> {
    /// Returns the type.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) => Kind::Int,
            Self::Uint(_) => Kind::Uint,
            Self::Double(_) => Kind::Double,
            Self::String(_) => Kind::String,
            Self::Bytes(_) => Kind::Bytes,
            Self::List(_) => Kind::List,
            Self::Map(_) => Kind::Map,
            Self::Timestamp(_) => Kind::Timestamp,
            Self::Duration(_) => Kind::Duration,
            Self::Type(_) => Kind::Type,
        }
    }

    /// Returns the text of a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// Returns the truth of a bool.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(truth) = self { Some(*truth) } else { None }
    }

    /// Makes a string of text, for whose octets it asks the budget.
    ///
    /// # Errors
    /// [`Fault::OverBudget`]; the text is dropped then. Who makes a long one asks before it is made: [`Budget::make`].
    pub fn string(text: String, budget: &mut Budget) -> Result<Self, Fault> {
        budget.make(text.len())?;
        Ok(text.into())
    }

    /// Makes a list of elements, for whose room it asks the budget.
    ///
    /// # Errors
    /// [`Fault::OverBudget`], and [`Fault::TooDeep`] when it would be nested too deep.
    pub fn list(elements: Vec<Self>, budget: &mut Budget) -> Result<Self, Fault> {
        budget.make(size_of_val(elements.as_slice()))?;
        Self::list_of_paid(elements)
    }

    /// Makes a list of elements whose room is paid for.
    pub(crate) fn list_of_paid(elements: Vec<Self>) -> Result<Self, Fault> {
        let depth = deeper(elements.iter())?;
        Ok(Self::List(List::Owned(Arc::new(Owned { depth, items: elements }))))
    }

    /// Makes a map of keys and values, for whose room it asks the budget.
    ///
    /// # Errors
    /// [`Fault::InvalidKey`] for a key that is not a bool, an int, a uint or a string, [`Fault::DuplicateKey`] when two are equal,
    /// and as [`Self::list`].
    pub fn map(mut entries: Vec<(Self, Self)>, budget: &mut Budget) -> Result<Self, Fault> {
        budget.make(size_of_val(entries.as_slice()))?;
        for (key, _) in &entries {
            let (Self::Bool(_) | Self::Int(_) | Self::Uint(_) | Self::String(_)) = key else {
                return Err(Fault::InvalidKey);
            };
            // Each key is looked at as often as there are halves.
            budget
                .step(u64::from(entries.len().ilog2()) * (1 + key.as_str().map_or(0, |text| text.len() as u64 / 32)))?;
        }
        entries.sort_by(|(one, _), (other, _)| compare::keys(one, other));
        if entries.windows(2).any(|two| matches!(two, [a, b] if compare::keys(&a.0, &b.0).is_eq())) {
            return Err(Fault::DuplicateKey);
        }
        let depth = deeper(entries.iter().map(|(_, value)| value))?;
        Ok(Self::Map(Map::Owned(Arc::new(Owned { depth, items: entries }))))
    }

    /// Returns the same value, which lives as long as `self` without holding its parts.
    pub(crate) fn borrow(&'a self) -> Self {
        match self {
            Self::String(text) => Self::String(Text::Borrowed(text)),
            Self::Bytes(octets) => Self::Bytes(Octets::Borrowed(octets)),
            Self::List(List::Owned(list)) => Self::List(List::Borrowed(&list.items)),
            Self::Map(Map::Owned(map)) => Self::Map(Map::Borrowed(&map.items)),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Uint(_)
            | Self::Double(_)
            | Self::List(_)
            | Self::Map(_)
            | Self::Timestamp(_)
            | Self::Duration(_)
            | Self::Type(_) => self.clone(),
        }
    }

    /// Returns a copy that borrows nothing, for whose octets it asks the budget.
    ///
    /// # Errors
    /// [`Fault::OverBudget`], and [`Fault::TooDeep`] when it is nested too deep.
    pub fn detach(&self, budget: &mut Budget) -> Result<Value<'static>, Fault> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(it) => Value::Bool(*it),
            Self::Int(it) => Value::Int(*it),
            Self::Uint(it) => Value::Uint(*it),
            Self::Double(it) => Value::Double(*it),
            Self::String(Text::Shared(it)) => Value::String(Text::Shared(Arc::clone(it))),
            Self::String(it) => {
                budget.make(it.len())?;
                Value::String(Text::Shared(Arc::from(&**it)))
            }
            Self::Bytes(Octets::Shared(it)) => Value::Bytes(Octets::Shared(Arc::clone(it))),
            Self::Bytes(it) => {
                budget.make(it.len())?;
                Value::Bytes(Octets::Shared(Arc::from(&**it)))
            }
            Self::List(list) => {
                let elements = list.iter().map(|it| it.detach(budget)).collect::<Result<_, _>>()?;
                Value::list(elements, budget)?
            }
            Self::Map(map) => {
                let entry = |(key, value): (Self, Self)| Ok((key.detach(budget)?, value.detach(budget)?));
                let entries = map.iter().map(entry).collect::<Result<_, _>>()?;
                Value::map(entries, budget)?
            }
            Self::Timestamp(it) => Value::Timestamp(*it),
            Self::Duration(it) => Value::Duration(*it),
            Self::Type(it) => Value::Type(*it),
        })
    }

    fn depth(&self) -> u16 {
        match self {
            Self::List(List::Owned(list)) => list.depth,
            Self::Map(Map::Owned(map)) => map.depth,
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Uint(_)
            | Self::Double(_)
            | Self::String(_)
            | Self::Bytes(_)
            | Self::List(_)
            | Self::Map(_)
            | Self::Timestamp(_)
            | Self::Duration(_)
            | Self::Type(_) => 0,
        }
    }
}

/// Returns the depth of what holds such elements: dropping it goes that deep.
fn deeper<'v, 'a: 'v>(elements: impl Iterator<Item = &'v Value<'a>>) -> Result<u16, Fault> {
    let depth = elements.map(Value::depth).max().unwrap_or(0) + 1;
    if usize::from(depth) > MAX_DEPTH { Err(Fault::TooDeep) } else { Ok(depth) }
}

/// Two values are identical: of one type, and alike in every part. Not the `==` of the language, for which `1 == 1.0` and
/// `nan != nan`.
impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Uint(a), Self::Uint(b)) => a == b,
            (Self::Double(a), Self::Double(b)) => a.to_bits() == b.to_bits() || a == b || (a.is_nan() && b.is_nan()),
            (Self::String(a), Self::String(b)) => **a == **b,
            (Self::Bytes(a), Self::Bytes(b)) => **a == **b,
            (Self::List(a), Self::List(b)) => a.len() == b.len() && a.iter().eq(b.iter()),
            (Self::Map(a), Self::Map(b)) => a.len() == b.len() && a.iter().eq(b.iter()),
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            (
                Self::Null
                | Self::Bool(_)
                | Self::Int(_)
                | Self::Uint(_)
                | Self::Double(_)
                | Self::String(_)
                | Self::Bytes(_)
                | Self::List(_)
                | Self::Map(_)
                | Self::Timestamp(_)
                | Self::Duration(_)
                | Self::Type(_),
                _,
            ) => false,
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(Text::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::String(Text::Shared(text.into()))
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(octets: &'a [u8]) -> Self {
        Self::Bytes(Octets::Borrowed(octets))
    }
}

impl From<Vec<u8>> for Value<'_> {
    fn from(octets: Vec<u8>) -> Self {
        Self::Bytes(Octets::Shared(octets.into()))
    }
}

/// Text of the facts, or made by the expression.
#[derive(Clone)]
pub enum Text<'a> {
    /// Of the facts or the program.
    Borrowed(&'a str),
    /// Made.
    Shared(Arc<str>),
}

impl<'a> Text<'a> {
    /// Returns a part, which is copied only if the whole may be gone before it.
    ///
    /// # Errors
    /// [`Fault::IndexOutOfRange`] when the octets are not a part, and [`Fault::OverBudget`].
    pub fn part(&self, start: usize, end: usize, budget: &mut Budget) -> Result<Self, Fault> {
        match self {
            Self::Borrowed(text) => text.get(start..end).map(Self::Borrowed).ok_or(Fault::IndexOutOfRange),
            Self::Shared(text) => {
                let part = text.get(start..end).ok_or(Fault::IndexOutOfRange)?;
                budget.make(part.len())?;
                Ok(Self::Shared(part.into()))
            }
        }
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Octets of the facts, or made by the expression.
#[derive(Clone)]
pub enum Octets<'a> {
    /// Of the facts or the program.
    Borrowed(&'a [u8]),
    /// Made.
    Shared(Arc<[u8]>),
}

impl Deref for Octets<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(octets) => octets,
            Self::Shared(octets) => octets,
        }
    }
}

impl fmt::Debug for Octets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// What was made by an expression, and how deep it is.
#[derive(Debug)]
pub struct Owned<T> {
    depth: u16,
    items: Vec<T>,
}

/// A list of facts, looked up one element at a time. Elements are nested not deeper than [`MAX_DEPTH`].
pub trait ListSource: Sync {
    /// Returns how many elements there are.
    fn len(&self) -> usize;

    /// Returns whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the element at an index from zero, in constant time.
    fn get(&self, index: usize) -> Option<Value<'_>>;
}

/// A map of facts, looked up one key at a time.
pub trait MapSource: Sync {
    /// Returns how many keys there are.
    fn len(&self) -> usize;

    /// Returns whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what a key has. It takes about as long whatever the number of keys.
    fn get(&self, key: &Value<'_>) -> Option<Value<'_>>;

    /// Returns the key at an index from zero, for macros and comparisons.
    fn key(&self, index: usize) -> Option<Value<'_>>;
}

/// A list: of the facts, of the program, or made by the expression.
#[derive(Clone)]
pub enum List<'a> {
    /// Elements that are there.
    Borrowed(&'a [Value<'a>]),
    /// Elements that the facts give when asked.
    Source(&'a dyn ListSource),
    /// Made.
    Owned(Arc<Owned<Value<'a>>>),
}

impl<'a> List<'a> {
    /// Returns how many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Borrowed(items) => items.len(),
            Self::Source(source) => source.len(),
            Self::Owned(list) => list.items.len(),
        }
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the element at an index from zero.
    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Borrowed(items) => items.get(index).map(Value::borrow),
            Self::Source(source) => source.get(index),
            Self::Owned(list) => list.items.get(index).cloned(),
        }
    }

    /// Goes over the elements.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> {
        (0..self.len()).map_while(|index| self.get(index))
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A map: of the facts, of the program, or made by the expression.
#[derive(Clone)]
pub enum Map<'a> {
    /// Entries that are there, sorted by key.
    Borrowed(&'a [(Value<'a>, Value<'a>)]),
    /// Entries that the facts give when asked.
    Source(&'a dyn MapSource),
    /// Made.
    Owned(Arc<Owned<(Value<'a>, Value<'a>)>>),
}

impl<'a> Map<'a> {
    /// Returns how many keys there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Borrowed(entries) => entries.len(),
            Self::Source(source) => source.len(),
            Self::Owned(map) => map.items.len(),
        }
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what a key has. A number finds the key of the same size, whatever its kind.
    pub fn get(&self, key: &Value<'_>) -> Option<Value<'a>> {
        match self {
            Self::Borrowed(entries) => find(entries, key).map(|(_, value)| value.borrow()),
            Self::Source(source) => source.get(key),
            Self::Owned(map) => find(&map.items, key).map(|(_, value)| value.clone()),
        }
    }

    /// Returns the key at an index from zero.
    pub fn key(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Borrowed(entries) => entries.get(index).map(|(key, _)| key.borrow()),
            Self::Source(source) => source.key(index),
            Self::Owned(map) => map.items.get(index).map(|(key, _)| key.clone()),
        }
    }

    /// Goes over the keys and what they have.
    pub fn iter(&self) -> impl Iterator<Item = (Value<'a>, Value<'a>)> {
        (0..self.len()).map_while(|index| self.key(index)).filter_map(|key| self.get(&key).map(|value| (key, value)))
    }
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn find<'m, 'a>(entries: &'m [(Value<'a>, Value<'a>)], key: &Value<'_>) -> Option<&'m (Value<'a>, Value<'a>)> {
    let at = entries.binary_search_by(|(other, _)| compare::keys(other, key)).ok()?;
    entries.get(at)
}
