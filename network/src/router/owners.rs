//! Whose names and ports are by the configuration, and what their policies serve.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{NameMap, NamePattern};

use super::{Key, index::Index};

/// What the configuration says of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// The endpoint.
    pub key: Key,
    /// Whose it is.
    pub account: i64,
    /// Whether no agent may bind it: its policy serves it.
    pub cloud: bool,
}

/// All that the configuration says.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// Endpoints that are known for no other reason than that they are set.
    only_set: HashSet<Arc<Key>>,
    names: NameMap<i64>,
    ports: HashMap<u16, i64>,
    /// Endpoints that are served though nobody bound them, and whose.
    cloud: HashMap<Arc<Key>, i64>,
}

impl Owners {
    /// Takes in what is set, which becomes known.
    pub(super) fn new(configured: Vec<Configured>, known: &mut Index) -> Self {
        let mut owners = Self::default();
        for Configured { key, account, cloud } in configured {
            match &key {
                Key::Name(_, name) => drop(owners.names.insert(name.clone(), account)),
                Key::Port(port) => drop(owners.ports.insert(*port, account)),
                Key::Internal(..) => {}
            }
            let key = Arc::new(key);
            if known.insert(&key) {
                owners.only_set.insert(Arc::clone(&key));
            }
            if cloud {
                owners.cloud.insert(key, account);
            }
        }
        owners
    }

    /// Returns whose the endpoint is, whatever the scheme: by its name or port, else by the nearest wildcard that it is inside of.
    pub(super) fn of(&self, key: &Key) -> Option<i64> {
        match key {
            Key::Name(_, name @ (NamePattern::Exact(base) | NamePattern::Below(base))) => {
                self.names.get(name).or_else(|| self.names.above(base)).copied()
            }
            Key::Port(port) => self.ports.get(port).copied(),
            Key::Internal(account, _) => Some(*account),
        }
    }

    /// Returns whether no agent of an account may bind it: its policy serves it, or it is another account's.
    pub(super) fn bar(&self, key: &Key, account: i64) -> bool {
        self.cloud.contains_key(key) || self.of(key).is_some_and(|owner| owner != account)
    }

    /// Returns whose an endpoint is that its policy serves.
    pub(super) fn of_cloud(&self, key: &Key) -> Option<i64> {
        self.cloud.get(key).copied()
    }

    /// Returns the endpoints that their policies serve, and whose they are.
    pub(super) fn cloud(&self) -> impl Iterator<Item = (&Arc<Key>, i64)> {
        self.cloud.iter().map(|(key, account)| (key, *account))
    }

    /// Notes that an endpoint is known from now on, set or not.
    pub(super) fn bound(&mut self, key: &Key) {
        self.only_set.remove(key);
    }

    /// Takes out of `known` what is there only because it was set.
    pub(super) fn forget(self, known: &mut Index) {
        self.only_set.iter().for_each(|key| known.remove(key));
    }
}
