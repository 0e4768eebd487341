//! `add-headers`: adds headers to the request or to the response.
//!
//! A header that is there stays, and the one that is added comes after it; of `host` there is only one, so it is replaced. Every value
//! is rendered before any is added. One that would hold a control character, as what a caller sent may, is a failure.

use http::{HeaderName, HeaderValue, header};

use super::{Action, Config, REQUEST, RESPONSE, Type};
use crate::{
    cel::Value,
    document::Template,
    engine::{Change, Effect, Failure, Turn},
};

/// Adds headers, in their order.
#[derive(Debug)]
pub struct AddHeaders {
    /// The headers.
    pub headers: Vec<(HeaderName, Template)>,
}

pub(super) const TYPE: Type = Type { name: "add-headers", phases: &[REQUEST, RESPONSE], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [headers] = config.map(["headers"])?;
    let headers = config.required("headers", headers)?;
    config.headers("headers", headers).map(|headers| Action::AddHeaders(AddHeaders { headers }))
}

impl AddHeaders {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        let mut changes = Vec::with_capacity(self.headers.len());
        for (name, template) in &self.headers {
            let value = turn.header(template)?;
            let one = *name == header::HOST;
            changes.push(if one { Change::Host(value) } else { Change::Add(name.clone(), value) });
        }
        if turn.tells() {
            let added = self.headers.iter().zip(&changes).filter_map(|((name, _), change)| {
                let (Change::Add(_, value) | Change::Host(value)) = change else { return None };
                Some((name.as_str().to_owned(), text(value)))
            });
            let added = turn.map(added.collect())?;
            turn.tell("add_headers", [("headers_added", added)])?;
        }
        Ok(Effect::Change(changes))
    }
}

/// Returns what a header is to expressions.
pub(super) fn text(value: &HeaderValue) -> Value<'static> {
    Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned())
}
