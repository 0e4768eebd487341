//! `remove-headers`: removes all headers of some names from the request or the response.

use http::HeaderName;

use super::{Action, Config, REQUEST, RESPONSE, Type};
use crate::{
    document::MAX_ENTRIES,
    engine::{Change, Effect, Failure, Turn},
};

/// Removes headers.
#[derive(Debug)]
pub struct RemoveHeaders {
    /// Their names.
    pub headers: Vec<HeaderName>,
}

pub(super) const TYPE: Type = Type { name: "remove-headers", phases: &[REQUEST, RESPONSE], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [headers] = config.map(["headers"])?;
    let headers = config.required("headers", headers)?;
    let mut names = Vec::new();
    for (key, node) in config.list("headers", headers, MAX_ENTRIES)? {
        let Some(name) = config.text(&key, node) else { continue };
        names.extend(config.header(&key, node.place, name));
    }
    Some(Action::RemoveHeaders(RemoveHeaders { headers: names }))
}

impl RemoveHeaders {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        if turn.tells() {
            let removed = self.headers.iter().map(|name| name.as_str().to_owned().into()).collect();
            let removed = turn.list(removed)?;
            turn.tell("remove_headers", [("headers_removed", removed)])?;
        }
        let there = self.headers.iter().filter(|name| turn.has_header(name));
        let changes: Vec<_> = there.map(|name| Change::Remove(name.clone())).collect();
        Ok(if changes.is_empty() { Effect::Next } else { Effect::Change(changes) })
    }
}
