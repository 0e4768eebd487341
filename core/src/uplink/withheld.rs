//! The endpoints that an agent is configured for and does not ask for, each with what the network is told of it.

use alloc::{collections::BTreeMap, string::String};

use crate::{Code, Withheld};

/// By URL.
#[derive(Debug, Default)]
pub(super) struct Withholdings(BTreeMap<String, Withheld>);

impl Withholdings {
    /// Takes note of what is to be said; returns whether it is news.
    pub(super) fn note(&mut self, withheld: &Withheld) -> bool {
        if withheld.code == Code::NO_ERROR {
            return self.0.remove(&withheld.url).is_some();
        }
        let before = self.0.insert(withheld.url.clone(), withheld.clone());
        before.as_ref() != Some(withheld)
    }

    /// Returns what a session that is new has to be told.
    pub(super) fn all(&self) -> impl Iterator<Item = Withheld> {
        self.0.values().cloned()
    }
}
