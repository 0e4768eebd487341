//! What each clause said when its tests were last looked at: `spec/digests.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Clause, Place, PlaceRole};

/// The digests of all clauses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Digests(pub BTreeMap<String, Reviewed>);

/// What one clause said, and what showed it then.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Reviewed {
    /// The digest of the clause's text.
    pub text: String,
    /// The digest of all that showed it.
    pub tests: String,
    /// The names of all that showed it.
    pub shown_by: Vec<String>,
}

impl Digests {
    /// Returns the digests that are committed.
    ///
    /// # Panics
    /// When `digests.json` is not what this module describes.
    pub fn load() -> Self {
        serde_json::from_str(include_str!("../spec/digests.json")).expect("digests.json is well formed")
    }

    /// Returns the digests of these clauses and places.
    pub fn of(clauses: &BTreeMap<String, Clause>, places: &[Place]) -> Self {
        let of_one = |(id, clause): (&String, &Clause)| {
            let showing = places.iter().filter(|place| place.role != PlaceRole::Code && place.clauses.contains(id));
            let (mut names, mut texts): (Vec<_>, Vec<_>) =
                showing.map(|place| (place.name.clone(), place.text.as_str())).unzip();
            names.sort();
            names.dedup();
            texts.sort_unstable();
            let reviewed = Reviewed { text: digest(&clause.text), tests: digest(&texts.join("\0")), shown_by: names };
            (id.clone(), reviewed)
        };
        Self(clauses.iter().map(of_one).collect())
    }

    /// Returns the clauses whose text is not the one that was looked at, each with what has to be looked at for it.
    pub fn changed<'a>(&self, now: &'a Self) -> Vec<(&'a str, &'a Reviewed)> {
        let is_same = |(id, one): &(&String, &Reviewed)| self.0.get(*id).is_some_and(|then| then.text == one.text);
        now.0.iter().filter(|one| !is_same(one)).map(|(id, one)| (id.as_str(), one)).collect()
    }

    /// Returns the clauses whose text has changed while nothing that shows them has.
    pub fn unattended<'a>(&self, now: &'a Self) -> Vec<(&'a str, &'a Reviewed)> {
        let mut changed = self.changed(now);
        changed.retain(|(id, one)| self.0.get(*id).is_some_and(|then| then.tests == one.tests));
        changed
    }
}

/// Returns what to tell about clauses whose text has changed.
pub fn report(changed: &[(&str, &Reviewed)]) -> String {
    let one = |(id, one): &(&str, &Reviewed)| {
        let shown_by: String = one.shown_by.iter().flat_map(|name| ["    ", name, "\n"]).collect();
        format!("{id} does not say any more what it said. What shows it:\n{shown_by}")
    };
    changed.iter().map(one).collect()
}

/// FNV-1a in 64 bits: a change by accident shows, and nobody has a reason to forge one.
fn digest(text: &str) -> String {
    let fold = |hash: u64, octet: u8| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_the_published_algorithm() {
        assert_eq!(digest(""), "cbf29ce484222325");
        assert_eq!(digest("foobar"), "85944171f73967e8");
    }

    #[test]
    fn a_clause_that_changes_without_its_tests_is_told_with_what_shows_it() {
        let clause =
            |text: &str| BTreeMap::from([("FRAME-001".to_owned(), Clause { file: "", text: text.to_owned() })]);
        let place = |text: &str| Place {
            name: "tests.rs: a_rule".to_owned(),
            clauses: vec!["FRAME-001".to_owned()],
            text: text.to_owned(),
            role: PlaceRole::Test,
        };
        let then = Digests::of(&clause("MUST"), &[place("one")]);
        let alone = Digests::of(&clause("MUST NOT"), &[place("one")]);
        let both = Digests::of(&clause("MUST NOT"), &[place("two")]);

        assert!(then.changed(&then).is_empty());
        assert!(
            report(&then.changed(&alone)).contains("FRAME-001") && report(&then.changed(&alone)).contains("a_rule")
        );
        assert_eq!(then.unattended(&alone).len(), 1);
        assert_eq!((then.changed(&both).len(), then.unattended(&both).len()), (1, 0));
    }
}
