//! Named values that rules have set.

use crate::cel::{Budget, Fault, Map, Value};

/// Named values.
#[derive(Clone, Debug)]
pub(super) struct Store {
    map: Map<'static>,
}

impl Default for Store {
    fn default() -> Self {
        Self { map: Map::Borrowed(&[]) }
    }
}

impl Store {
    /// Sets a name, for which it asks the budget.
    pub(super) fn set(&mut self, name: &str, value: Value<'static>, budget: &mut Budget) -> Result<(), Fault> {
        budget.make(name.len())?;
        let mut entries: Vec<_> = self.map.iter().filter(|(other, _)| other.as_str() != Some(name)).collect();
        entries.push((Value::from(name.to_owned()), value));
        if let Value::Map(map) = Value::map(entries, budget)? {
            self.map = map;
        }
        Ok(())
    }

    /// Returns them all.
    pub(super) fn map(&self) -> Map<'static> {
        self.map.clone()
    }
}
