//! `request-body-find-replace`, `response-body-find-replace`, `sse-find-replace`: replace in bodies, and in events of answers.
//!
//! Replacements are done in their order, each in what the one before has made. The body is not kept: see [`crate::body`]. A body that
//! cannot be searched is refused, never passed on as it came.

use super::{Action, Config, REQUEST, RESPONSE, Type};
use crate::{
    body::{Field, Pattern, Replacement, Wish},
    cel::Value,
    document::{MAX_ENTRIES, Template},
    engine::{Effect, Failure, Turn},
};

/// Replaces in a body or in events.
#[derive(Debug)]
pub struct FindReplace {
    rules: Vec<Rule>,
    in_events: bool,
}

/// What is replaced by what.
#[derive(Debug)]
struct Rule {
    /// Which field of events; a text that is rendered, unless it is known.
    field: Known<Field>,
    from: Known<Pattern>,
    to: Template,
}

/// A value that is known when the document is read, or the text that it is written as later.
#[derive(Debug)]
enum Known<T> {
    Now(T),
    Later(Template),
}

pub(super) const REQUEST_TYPE: Type =
    Type { name: "request-body-find-replace", phases: &[REQUEST], read: read_request };
pub(super) const RESPONSE_TYPE: Type =
    Type { name: "response-body-find-replace", phases: &[RESPONSE], read: read_response };
/// For rules of events alone.
pub(super) const EVENTS_TYPE: Type = Type { name: "sse-find-replace", phases: &[], read: read_events };

fn read_request(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    read(config, false).map(Action::RequestBodyFindReplace)
}

fn read_response(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    read(config, false).map(Action::ResponseBodyFindReplace)
}

fn read_events(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    read(config, true).map(Action::SseFindReplace)
}

fn read(config: &mut Config<'_, '_, '_>, in_events: bool) -> Option<FindReplace> {
    let [list] = config.map(["replacements"])?;
    let list = config.required("replacements", list)?;
    let items = config.list("replacements", list, MAX_ENTRIES)?;
    if items.is_empty() {
        config.problem("replacements", list, "no replacement", "Add one");
    }
    let mut rules = Vec::new();
    for (key, node) in items {
        let known = ["from", "to", "field"];
        let [from, to, field] = config.item(&key, node, known)?;
        let Some(from) = from else {
            config.problem(&key, node, "no `from`", "Add the pattern that is replaced");
            continue;
        };
        if let Some(field) = field
            && !in_events
        {
            config.problem(&format!("{key}.field"), field, "only events have fields", "Remove it");
        }
        let from_key = format!("{key}.from");
        let template = config.template(&from_key, from)?;
        let from = match template.constant().map(Pattern::compile) {
            None => Known::Later(template),
            Some(Ok(pattern)) => {
                config.has_room(&from_key, from, pattern.octets())?;
                Known::Now(pattern)
            }
            Some(Err(bad)) => {
                config.problem(&from_key, from, bad.to_string(), "Correct the pattern");
                continue;
            }
        };
        let to = to.map_or_else(|| Some(Template::default()), |node| config.template(&format!("{key}.to"), node))?;
        let field = match field {
            None => Known::Now(Field::default()),
            Some(node) => {
                let key = format!("{key}.field");
                let template = config.template(&key, node)?;
                match template.constant().map(Field::named) {
                    None => Known::Later(template),
                    Some(Some(field)) => Known::Now(field),
                    Some(None) => {
                        config.problem(&key, node, "no field in which is replaced", "Write `data` or `retry`");
                        continue;
                    }
                }
            }
        };
        rules.push(Rule { field, from, to });
    }
    Some(FindReplace { rules, in_events })
}

impl FindReplace {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        let mut replacements = Vec::with_capacity(self.rules.len());
        for rule in &self.rules {
            let pattern = match &rule.from {
                Known::Now(pattern) => pattern.clone(),
                Known::Later(template) => {
                    let text = turn.render(template)?;
                    turn.pay(COMPILED, 10_000 + 100 * text.len() as u64)?;
                    Pattern::compile(&text).map_err(Failure::Pattern)?
                }
            };
            let field = match &rule.field {
                Known::Now(field) => *field,
                Known::Later(template) => Field::named(&turn.render(template)?).ok_or(Failure::Field)?,
            };
            let to = turn.render(&rule.to)?;
            replacements.push((field, Replacement::new(pattern, &to)));
        }
        let (name, wish) = match (self.in_events, turn.phase == REQUEST) {
            (true, _) => ("sse_find_replace", Wish::Events(replacements)),
            (false, request) => {
                let name = if request { "request_body_find_replace" } else { "response_body_find_replace" };
                (name, Wish::Replace(replacements.into_iter().map(|(_, replacement)| replacement).collect()))
            }
        };
        turn.transform(wish)?;
        if turn.tells() {
            // Rules are over before the body comes: that form keeps the whole body first, and tells what was found.
            let none = turn.list(Vec::<Value<'static>>::new())?;
            turn.tell(name, [("replacements", none)])?;
        }
        Ok(Effect::Next)
    }
}

/// What a pattern takes that is made for one message.
const COMPILED: usize = 64 << 10;
