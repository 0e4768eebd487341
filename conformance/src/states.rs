//! Each type of frame in each state of a link and of a stream: `spec/states.json`, as scenarios.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Clause, Registry, Scenario, clauses};

type Known<'a> = (&'a Registry, &'a BTreeMap<String, Clause>);

/// What is in `states.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct States {
    /// A sound frame of each type, without its stream.
    pub frames: BTreeMap<String, Value>,
    /// The states.
    pub states: Vec<State>,
}

/// A state, and what becomes of each type of frame in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Whose state it is, and of which stream.
    pub what: String,
    /// The side that is in it.
    pub side: String,
    /// The stream that frames of streams name.
    pub stream: u32,
    /// The steps that lead to it.
    pub before: Vec<Value>,
    /// The types of frames by what becomes of them: `taken` or ignored, the `end` of the link without a CLOSE, or a violation
    /// of the clause that stands there.
    pub verdicts: BTreeMap<String, Vec<String>>,
}

impl States {
    /// Returns the states of this version.
    ///
    /// # Panics
    /// When `states.json` is not what this module describes.
    pub fn load() -> Self {
        serde_json::from_str(include_str!("../spec/states.json")).expect("states.json is well formed")
    }

    /// Returns a scenario for each type of frame in each state.
    ///
    /// # Panics
    /// When a verdict is no clause that names a code.
    pub fn scenarios(&self) -> Vec<Scenario> {
        let (registry, clauses) = (Registry::load(), clauses());
        let mut all = Vec::new();
        for state in &self.states {
            for (verdict, kinds) in &state.verdicts {
                all.extend(kinds.iter().map(|kind| self.scenario((&registry, &clauses), state, verdict, kind)));
            }
        }
        all
    }

    fn scenario(&self, (registry, clauses): Known<'_>, state: &State, verdict: &str, kind: &str) -> Scenario {
        let mut frame = self.frames.get(kind).cloned().unwrap_or_else(|| json!({}));
        frame["type"] = number(kind).map_or_else(|| json!(kind), |number| json!(number));
        if registry.frames.iter().any(|known| known.name == kind && known.of == "stream") {
            frame["stream"] = json!(state.stream);
        }
        let mut steps = state.before.clone();
        steps.push(json!({ "send": [frame] }));
        match verdict {
            "taken" => {
                if kind == "Hello" {
                    steps.push(json!({ "expect": [{ "type": "Welcome" }] })); // PRE-002: nothing before that
                }
                steps.push(json!({ "send": [{ "type": "Ping", "number": ALIVE }] }));
                steps.push(json!({ "expect": [{ "type": "Pong", "number": ALIVE }] }));
            }
            "end" => steps.push(json!("expect_end")),
            clause => {
                let code = clauses.get(clause).and_then(|clause| clause.codes().first().copied());
                steps.push(json!({ "expect_close": code.unwrap_or_else(|| panic!("{clause} names no code")) }));
            }
        }
        let said = registry.frames.iter().map(|known| known.name.as_str());
        let ignored: Vec<&str> = said.filter(|name| !["Pong", "Close"].contains(name)).collect();
        let broken = Some(verdict).filter(|verdict| !["taken", "end"].contains(verdict));
        let clauses: Vec<&str> = ["FRAME-013"].into_iter().chain(broken).collect();
        let scenario = json!({
            "what": format!("{}: {kind} is {verdict}", state.what),
            "clauses": clauses,
            "side": state.side,
            "ignore": ignored,
            "steps": steps,
        });
        let scenario: Scenario = serde_json::from_value(scenario).expect("a scenario as this crate reads it");
        Scenario { file: "states".to_owned(), ..scenario }
    }
}

/// Returns the number of a type that is given as one: `0x41`.
fn number(kind: &str) -> Option<u8> {
    u8::from_str_radix(kind.strip_prefix("0x")?, 16).ok()
}

/// The PING that shows that the session lives.
const ALIVE: u64 = 77;
