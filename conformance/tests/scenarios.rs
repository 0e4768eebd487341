//! Every scenario, against `adit-core` with a virtual clock.

mod common;
mod echo;

use core::panic::AssertUnwindSafe;
use std::{collections::BTreeSet, panic};

use adit_conformance::{Player, Registry, Scenario, Side, States, Step, Subject, clauses};
use adit_core::Config;
use common::{configured, scenarios};
use echo::Echo;

#[test]
fn every_scenario_goes_as_it_says() {
    all_go(&scenarios());
}

/// FRAME-013
#[test]
fn every_frame_in_every_state_does_what_the_table_says() {
    all_go(&States::load().scenarios());
}

/// FRAME-002
#[test]
fn every_scenario_goes_so_in_single_octets() {
    let mut scenarios = scenarios();
    for step in scenarios.iter_mut().flat_map(|scenario| &mut scenario.steps) {
        if let Step::Send(frames) = step {
            *step = Step::Trickle(core::mem::take(frames));
        }
    }
    // What came in one read with something else comes in many.
    scenarios.retain(|scenario| {
        !scenario.clauses.iter().any(|clause| ["PRE-006", "HB-006", "CODE-003", "CMD-005"].contains(&clause.as_str()))
    });
    all_go(&scenarios);
}

/// FRAME-013: no type is left out, and none stands in two places.
#[test]
fn every_state_says_something_of_every_type_of_frame() {
    let (registry, table) = (Registry::load(), States::load());
    let mut known: BTreeSet<String> = registry.frames.iter().map(|frame| frame.name.clone()).collect();
    for range in &registry.extensions {
        known.extend([format!("{:#04x}", range.from), format!("{:#04x}", range.to)]);
    }
    for state in &table.states {
        let told: Vec<&String> = state.verdicts.values().flatten().collect();
        let set: BTreeSet<String> = told.iter().map(|kind| (*kind).clone()).collect();
        assert_eq!(told.len(), set.len(), "{}", state.what);
        let unknown = set.difference(&known).all(|kind| kind.starts_with("0x"));
        assert!(known.is_subset(&set) && unknown, "{}: {:?}", state.what, known.symmetric_difference(&set));
    }
}

#[test]
fn every_clause_that_a_scenario_names_exists() {
    let clauses = clauses();
    for scenario in scenarios() {
        for id in &scenario.clauses {
            assert!(clauses.contains_key(id), "{}: {id}", scenario.what);
        }
    }
}

#[test]
fn a_scenario_that_is_not_kept_to_fails() {
    let file = r#"[{ "what": "a made-up rule", "clauses": [], "side": "network", "steps": [
        { "handshake": {} },
        { "send": [{ "type": "Ping", "number": 1 }] },
        { "expect": [{ "type": "Pong", "number": 2 }] }
    ] }]"#;
    let scenario = Scenario::read(file).unwrap().remove(0);

    let error = Player::new().play(&scenario, &mut Echo::network(Config::network())).unwrap_err();
    assert!(error.contains("a made-up rule (step 3: Pong 1 where"), "{error}");
}

/// TLS-004, FRAME-010: wherever a transport ends, nothing is done of a frame that is cut, and nobody is told of an end in order.
#[test]
fn every_scenario_cut_anywhere_ends_with_the_transport() {
    for scenario in scenarios() {
        let mut whole = Cutting::new(&scenario, usize::MAX);
        Player::new().judge(&scenario, &mut whole);
        let step = whole.heard / if whole.heard > 10_000 { 10 } else { 40 } + 1;
        for left in (1..whole.heard).step_by(step) {
            let mut cut = Cutting::new(&scenario, left);
            Player::new().judge(&scenario, &mut cut);
            assert!(cut.subject.is_closed(), "{}: open after {left} octets", scenario.what);
            assert!(cut.said_after.is_empty(), "{}: more was said after {left} octets", scenario.what);
        }
    }
}

/// A subject that hears so many octets, and then that the transport has ended.
struct Cutting {
    subject: Box<dyn Subject>,
    left: usize,
    heard: usize,
    said_after: Vec<u8>,
}

impl Cutting {
    fn new(scenario: &Scenario, left: usize) -> Self {
        let config = configured(scenario);
        let subject: Box<dyn Subject> = match scenario.side {
            Side::Network => Box::new(Echo::network(config)),
            Side::Agent => Box::new(Echo::agent(config)),
        };
        Self { subject, left, heard: 0, said_after: Vec::new() }
    }

    fn take(&mut self, said: Vec<u8>) -> Vec<u8> {
        if self.left == 0 {
            self.said_after.extend(&said);
        }
        said
    }
}

impl Subject for Cutting {
    fn hear(&mut self, octets: &[u8]) {
        let Some(now) = octets.get(..octets.len().min(self.left)).filter(|now| !now.is_empty()) else {
            self.subject.cut();
            return;
        };
        self.subject.hear(now);
        self.heard += now.len();
        self.left -= now.len();
        if self.left == 0 {
            self.subject.say(); // what was owed before the end
            self.subject.cut();
        }
    }

    fn say(&mut self) -> Vec<u8> {
        let said = self.subject.say();
        self.take(said)
    }

    fn wait(&mut self, millis: u64) -> Vec<u8> {
        let said = self.subject.wait(millis);
        self.take(said)
    }

    fn cut(&mut self) {
        self.left = 0;
        self.subject.cut();
    }

    fn is_closed(&self) -> bool {
        self.subject.is_closed()
    }
}

fn all_go(scenarios: &[Scenario]) {
    let player = Player::new();
    let play = |scenario: &Scenario| {
        let config = configured(scenario);
        match scenario.side {
            Side::Network => player.play(scenario, &mut Echo::network(config)),
            Side::Agent => player.play(scenario, &mut Echo::agent(config)),
        }
    };
    // A panic is a failure of one scenario, not of those that come after it.
    let tried = |scenario: &Scenario| {
        let played = panic::catch_unwind(AssertUnwindSafe(|| play(scenario)));
        played.unwrap_or_else(|_| Err(format!("{} (a panic)", scenario.what))).err()
    };
    let failures: Vec<String> = scenarios.iter().filter_map(tried).collect();
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}
