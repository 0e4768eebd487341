//! Finds endpoints by what callers say.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::NameMap;

use super::Key;

/// Keys by name, by port, and by what an account calls its own.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) names: [NameMap<Arc<Key>>; 3],
    pub(super) ports: HashMap<u16, Arc<Key>>,
    pub(super) internal: HashSet<Arc<Key>>,
}

impl Index {
    /// Adds a key; returns whether it is new.
    pub(super) fn insert(&mut self, key: &Arc<Key>) -> bool {
        let before = match &**key {
            Key::Name(scheme, name) => self.names[*scheme as usize].insert(name.clone(), Arc::clone(key)),
            Key::Port(port) => self.ports.insert(*port, Arc::clone(key)),
            Key::Internal(..) => self.internal.replace(Arc::clone(key)),
        };
        before.is_none()
    }

    pub(super) fn remove(&mut self, key: &Key) {
        match key {
            Key::Name(scheme, name) => self.names[*scheme as usize].remove(name),
            Key::Port(port) => self.ports.remove(port),
            Key::Internal(..) => self.internal.take(key),
        };
    }
}
