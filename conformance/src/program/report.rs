//! What came of all scenarios: for people, for JUnit's readers, and as data.

use std::collections::BTreeMap;

use adit_conformance::{Side, Verdict, clauses};

use crate::play::Outcome;

mod json;
mod junit;

/// What came of all scenarios.
pub(crate) struct Report {
    side: Side,
    name: String,
    outcomes: Vec<Outcome>,
}

/// How many scenarios ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    not_implemented: usize,
    skipped: usize,
}

impl Report {
    pub(crate) const fn new(side: Side, name: String, outcomes: Vec<Outcome>) -> Self {
        Self { side, name, outcomes }
    }

    /// Returns whether nothing failed.
    pub(crate) fn is_clean(&self) -> bool {
        self.total().failed == 0
    }

    /// Returns the table by clause, and what to know about each scenario that did not pass.
    pub(crate) fn table(&self) -> String {
        let mut lines = vec![format!("{:<12} {}", "clause", Tally::HEAD)];
        lines.extend(self.by_clause().iter().map(|(id, tally)| format!("{id:<12} {}", tally.row())));
        for outcome in &self.outcomes {
            let name = format!("{}/{}", outcome.file, outcome.what);
            match &outcome.verdict {
                Verdict::Failed(failure) => {
                    lines.push(format!("\nfailed: {name} [{}]", outcome.clauses.join(" ")));
                    lines.push(format!("  step {}, due:  {}", failure.step, failure.expected));
                    lines.push(format!("  step {}, came: {}", failure.step, failure.got));
                }
                Verdict::NotImplemented(why) => lines.push(format!("\nnot implemented: {name}\n  {why}")),
                Verdict::Passed | Verdict::Skipped(_) => {}
            }
        }
        let total = self.total();
        lines.push(format!(
            "\n{} {}: {} passed, {} failed, {} not implemented, {} skipped; {} of {} clauses",
            self.role(),
            self.name,
            total.passed,
            total.failed,
            total.not_implemented,
            total.skipped,
            self.by_clause().values().filter(|tally| tally.passed + tally.failed > 0).count(),
            clauses().len(),
        ));
        lines.extend(self.reasons().iter().map(|(why, count)| format!("skipped {count}: {why}")));
        lines.join("\n") + "\n"
    }

    fn by_clause(&self) -> BTreeMap<&str, Tally> {
        let mut tallies = BTreeMap::new();
        for outcome in &self.outcomes {
            for id in &outcome.clauses {
                tallies.entry(id.as_str()).or_insert_with(Tally::default).count(&outcome.verdict);
            }
        }
        tallies
    }

    fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.outcomes.iter().for_each(|outcome| total.count(&outcome.verdict));
        total
    }

    /// Why scenarios were skipped, and how many for each; numbers aside.
    fn reasons(&self) -> BTreeMap<String, usize> {
        let mut reasons = BTreeMap::new();
        for outcome in &self.outcomes {
            if let Verdict::Skipped(why) = &outcome.verdict {
                let why = why.trim_start_matches(|first: char| first.is_ascii_digit() || first == ' ');
                *reasons.entry(why.to_owned()).or_insert(0) += 1;
            }
        }
        reasons
    }

    const fn role(&self) -> &'static str {
        match self.side {
            Side::Agent => "agent",
            Side::Network => "network",
        }
    }
}

impl Tally {
    const HEAD: &str = "passed  failed  not implemented  skipped";

    const fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Failed(_) => self.failed += 1,
            Verdict::NotImplemented(_) => self.not_implemented += 1,
            Verdict::Skipped(_) => self.skipped += 1,
        }
    }

    fn row(self) -> String {
        let Self { passed, failed, not_implemented, skipped } = self;
        format!("{passed:>6}  {failed:>6}  {not_implemented:>15}  {skipped:>7}")
    }
}
