//! Which scenarios, and all of them.

use core::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use std::{sync::Mutex, thread, time::Instant};

use adit_conformance::{Failure, Lack, Player, Scenario, Side, States, Verdict};

use crate::{bench::Bench, line::Line};

/// What came of one scenario.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) file: String,
    pub(crate) what: String,
    pub(crate) clauses: Vec<String>,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
}

/// Returns the scenarios for a side that match any of the patterns and have any of the clauses; none of them is all.
pub(crate) fn chosen(side: Side, only: &[String], clauses: &[String], states: bool) -> Vec<Scenario> {
    let mut scenarios = Scenario::all();
    if states {
        scenarios.extend(States::load().scenarios());
    }
    scenarios.retain(|scenario| {
        let name = format!("{}/{}", scenario.file, scenario.what);
        let named = only.is_empty() || only.iter().any(|pattern| matches(pattern, &name));
        let has = |id: &String| scenario.clauses.contains(id);
        scenario.side == side && named && (clauses.is_empty() || clauses.iter().any(has))
    });
    scenarios
}

/// Plays scenarios, several at once, and returns the outcomes in their order.
pub(crate) fn all(scenarios: &[Scenario], bench: &Bench, jobs: u16) -> Vec<Outcome> {
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for job in 0..jobs {
            // With one network for all, none may take what is another's.
            let place = if bench.target().is_some() { job } else { 0 };
            let player = Player::new().with_token(bench.token.as_deref()).at_place(place);
            let (next, outcomes) = (&next, &outcomes);
            scope.spawn(move || {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(scenario) = scenarios.get(place) else { return };
                    let outcome = one(scenario, bench, &player);
                    outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((place, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    outcomes.sort_by_key(|(place, _)| *place);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn one(scenario: &Scenario, bench: &Bench, player: &Player) -> Outcome {
    let began = Instant::now();
    let verdict = bench.skips(scenario).map_or_else(|| play(scenario, bench, player), Verdict::Skipped);
    Outcome {
        file: scenario.file.clone(),
        what: scenario.what.clone(),
        clauses: scenario.clauses.clone(),
        verdict,
        took: began.elapsed(),
    }
}

fn play(scenario: &Scenario, bench: &Bench, player: &Player) -> Verdict {
    match Line::open(bench, scenario) {
        Ok(mut line) => player.judge(scenario, &mut line),
        Err(Lack::Unable(why)) => Verdict::NotImplemented(why),
        Err(Lack::Broken(got)) => Verdict::Failed(Failure { step: 0, expected: "a link".to_owned(), got }),
    }
}

/// Whether `name` is like `pattern`, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter_map(|place| rest.get(place..)).any(|rest| matches(after, rest))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name) in [("*", ""), ("a*", "a/b"), ("*b", "a/b"), ("a*b*c", "a1b2bc"), ("a", "a")] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "a"), ("a*c", "a/b"), ("a", "ab"), ("*b", "ba")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
