//! The rules of a policy, read from YAML or from JSON, which is YAML.
//!
//! The form is that of ngrok's traffic policy: phases, each a list of rules, each with expressions that must all be true and with
//! actions. What is not known is refused and never passed over: a rule that is not understood restricts nobody.
//!
//! ```
//! use adit_policy::{actions::Action, document::Document, environment::Phase};
//!
//! let document = Document::parse("
//! on_http_request:
//!   - expressions: [\"req.url.path.startsWith('/admin')\"]
//!     actions:
//!       - type: deny
//!         config: {status_code: 404}
//! ").expect("a document");
//! let [Action::Deny(deny)] = &document.rules(Phase::HttpRequest)[0].actions[..] else { unreachable!() };
//! assert_eq!(deny.status, 404);
//!
//! let problems = Document::parse("on_http_request:\n  - action: []\n").unwrap_err();
//! assert_eq!(problems[0].to_string(), "line 2, column 5: on_http_request[0].action: unknown key. Did you mean `actions`?");
//! ```
//!
//! # Limits
//! | what | limit |
//! |---|---|
//! | octets of a document | [`MAX_OCTETS`] |
//! | nested lists and maps | 64 |
//! | rules of a phase | [`MAX_RULES`] |
//! | expressions of a rule | [`MAX_EXPRESSIONS`] |
//! | actions of a rule | [`MAX_ACTIONS`] |
//! | headers, variables or entries of one action | [`MAX_ENTRIES`] |
//! | octets of all compiled patterns | [`MAX_PATTERNS`] |
//! | problems that are told | [`MAX_PROBLEMS`] |

mod data;
mod read;
mod template;
mod yaml;

pub(crate) use self::template::alone;
pub use self::{data::Data, read::Problem, template::Template};
pub(crate) use self::{
    read::{Reader, join},
    yaml::{Node, Place, Value},
};
use crate::{
    actions::{self, Action},
    cel::{Program, Type},
    environment::Phase,
};

/// The longest document, in octets: room for a list of 100,000 networks.
pub const MAX_OCTETS: usize = 4 << 20;
/// The most rules of a phase.
pub const MAX_RULES: usize = 256;
/// The most expressions of a rule.
pub const MAX_EXPRESSIONS: usize = 32;
/// The most actions of a rule.
pub const MAX_ACTIONS: usize = 32;
/// The most headers, variables or entries of one action.
pub const MAX_ENTRIES: usize = 64;
/// The most octets that all patterns of a document may take: each is small, and a document has room for very many.
pub const MAX_PATTERNS: usize = 16 << 20;
/// The most problems that are told of a document.
pub const MAX_PROBLEMS: usize = 64;

/// A policy, ready to be evaluated: its expressions are compiled.
#[derive(Debug, Default)]
pub struct Document {
    phases: [Vec<Rule>; 3],
    reads_results: bool,
}

/// A rule: when all expressions are true, its actions are done in their order.
#[derive(Debug)]
pub struct Rule {
    /// What it is called, for humans.
    pub name: Option<String>,
    /// What must be true; nothing is always true.
    pub expressions: Vec<Program>,
    /// What is done.
    pub actions: Vec<Action>,
    /// Whether it is a rule of `on_event_stream_message`, for answers that are streams of events only.
    pub of_events: bool,
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// All that is wrong with it, in the order of places, up to [`MAX_PROBLEMS`].
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::new(text);
        if text.len() > MAX_OCTETS {
            let what = format!("the document has {} octets, and {MAX_OCTETS} are allowed", text.len());
            reader.problem(Place::default(), "", what, "Split it");
            return Err(reader.finish());
        }
        let root = match yaml::parse(text) {
            Ok(root) => root,
            Err((place, what)) => {
                reader.problem(place, "", what, "Write YAML or JSON");
                return Err(reader.finish());
            }
        };
        let phases = phases(&mut reader, &root);
        let reads_results = reader.reads_results;
        let problems = reader.finish();
        if problems.is_empty() { Ok(Self { phases, reads_results }) } else { Err(problems) }
    }

    pub(crate) fn rules_mut(&mut self, phase: Phase) -> &mut [Rule] {
        let [connect, request, response] = &mut self.phases;
        match phase {
            Phase::TcpConnect => connect,
            Phase::HttpRequest => request,
            Phase::HttpResponse => response,
        }
    }

    /// Returns whether an expression may read what actions tell.
    pub(crate) fn reads_results(&self) -> bool {
        self.reads_results
    }

    /// Returns the rules of a phase, in their order.
    pub fn rules(&self, phase: Phase) -> &[Rule] {
        let [connect, request, response] = &self.phases;
        match phase {
            Phase::TcpConnect => connect,
            Phase::HttpRequest => request,
            Phase::HttpResponse => response,
        }
    }
}

fn phases(reader: &mut Reader<'_>, root: &Node) -> [Vec<Rule>; 3] {
    if let Value::Map(entries) = &root.value {
        for (key, place, _) in entries {
            let phase = match &**key {
                "inbound" => "on_http_request",
                "outbound" => "on_http_response",
                _ => continue,
            };
            reader.problem(*place, key, "the older form of a policy", format!("Write `{phase}`"));
        }
    }
    let [connect, request, response] = Phase::ALL.map(Phase::name);
    let names = [connect, request, response, EVENTS];
    let Some(found) = reader.map("", root, names, &["inbound", "outbound"]) else { return Default::default() };
    let mut phases: [Vec<Rule>; 3] = Default::default();
    for (name, node) in names.into_iter().zip(found) {
        // What is done to events is decided when their answer begins, after all else.
        let phase = Phase::ALL.into_iter().find(|phase| phase.name() == name).unwrap_or(Phase::HttpResponse);
        let node = node.filter(|node| node.value != Value::Null);
        for (at, node) in reader.list(name, node, MAX_RULES).iter().enumerate() {
            let rule = rule(reader, phase, name == EVENTS, &format!("{name}[{at}]"), node);
            phases[phase as usize].extend(rule);
        }
    }
    phases
}

/// The phase of that form in which events are changed.
pub(crate) const EVENTS: &str = "on_event_stream_message";

fn rule(reader: &mut Reader<'_>, phase: Phase, of_events: bool, path: &str, node: &Node) -> Option<Rule> {
    let [name, expressions, actions] = reader.map(path, node, ["name", "expressions", "actions"], &[])?;
    let name = name.and_then(|node| reader.text(&format!("{path}.name"), node)).map(String::from);
    let mut compiled = Vec::new();
    for (at, node) in reader.list(&format!("{path}.expressions"), expressions, MAX_EXPRESSIONS).iter().enumerate() {
        compiled.extend(expression(reader, phase, &format!("{path}.expressions[{at}]"), node));
    }
    let nodes = reader.list(&format!("{path}.actions"), actions, MAX_ACTIONS);
    if nodes.is_empty() {
        reader.problem(node.place, path, "a rule without actions", "Add `actions`, each with a `type`");
    }
    let mut done = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        done.extend(actions::read(reader, phase, of_events, &format!("{path}.actions[{at}]"), node));
    }
    Some(Rule { name, expressions: compiled, actions: done, of_events })
}

fn expression(reader: &mut Reader<'_>, phase: Phase, path: &str, node: &Node) -> Option<Program> {
    let text = reader.text(path, node)?;
    let program = reader.program(phase, path, node, text, text)?;
    if !program.ty().fits(&Type::BOOL) {
        let what = format!("the expression is of type {}, and a condition is a bool", program.ty());
        reader.problem(node.place, path, what, "Compare it with something");
        return None;
    }
    Some(program)
}
