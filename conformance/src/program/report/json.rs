//! The report as data.

use adit_conformance::{Registry, Verdict};
use serde_json::{Map, Value, json};

use super::{Report, Tally};

impl Report {
    /// Returns the report in JSON: `summary`, `clauses` and `scenarios`.
    pub(crate) fn json(&self) -> String {
        let clauses: Map<String, Value> =
            self.by_clause().into_iter().map(|(id, tally)| (id.to_owned(), tally.json())).collect();
        let scenarios: Vec<Value> = self
            .outcomes
            .iter()
            .map(|outcome| {
                let mut scenario = json!({
                    "file": outcome.file,
                    "what": outcome.what,
                    "clauses": outcome.clauses,
                    "milliseconds": u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX),
                });
                match &outcome.verdict {
                    Verdict::Passed => scenario["verdict"] = json!("passed"),
                    Verdict::Failed(failure) => {
                        scenario["verdict"] = json!("failed");
                        scenario["step"] = json!(failure.step);
                        scenario["expected"] = json!(failure.expected);
                        scenario["got"] = json!(failure.got);
                    }
                    Verdict::NotImplemented(why) => {
                        scenario["verdict"] = json!("not_implemented");
                        scenario["why"] = json!(why);
                    }
                    Verdict::Skipped(why) => {
                        scenario["verdict"] = json!("skipped");
                        scenario["why"] = json!(why);
                    }
                }
                scenario
            })
            .collect();
        let report = json!({
            "role": self.role(),
            "tested": self.name,
            "version": Registry::load().version,
            "summary": self.total().json(),
            "clauses": clauses,
            "scenarios": scenarios,
        });
        format!("{report:#}\n")
    }
}

impl Tally {
    fn json(self) -> Value {
        let Self { passed, failed, not_implemented, skipped } = self;
        json!({ "passed": passed, "failed": failed, "not_implemented": not_implemented, "skipped": skipped })
    }
}
