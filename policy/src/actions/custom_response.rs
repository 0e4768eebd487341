//! `custom-response`: answers in place of the upstream.
//!
//! In `on_http_request`, the upstream does not see the request, and the rules of `on_http_response` see this response. In
//! `on_http_response`, it replaces what the upstream sent.

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{Action, Config, REQUEST, RESPONSE, Type};
use crate::{
    document::Template,
    engine::{Effect, Failure, Outcome, Turn},
};

/// Answers so.
#[derive(Debug)]
pub struct CustomResponse {
    /// From 200 to 599; 200 when none is given.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(HeaderName, Template)>,
    /// Its body.
    pub body: Template,
}

pub(super) const TYPE: Type = Type { name: "custom-response", phases: &[REQUEST, RESPONSE], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [status, headers, body, content] = config.map(["status_code", "headers", "body", "content"])?;
    let status = status.map_or(Some(200), |node| config.status(node, 200));
    let headers = headers.map_or_else(|| Some(Vec::new()), |node| config.headers("headers", node));
    if let (Some(_), Some(node)) = (body, content) {
        config.problem("content", node, "the body is there twice", "Keep `body`; `content` is its older name");
        return None;
    }
    let body = match (body, content) {
        (Some(node), _) => config.template("body", node),
        (None, Some(node)) => config.template("content", node),
        (None, None) => Some(Template::default()),
    };
    Some(Action::CustomResponse(CustomResponse { status: status?, headers: headers?, body: body? }))
}

impl CustomResponse {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        let body = turn.render(&self.body)?;
        let mut response = http::Response::new(Vec::new());
        *response.status_mut() = StatusCode::from_u16(self.status).map_err(|_| Failure::Status)?;
        for (name, template) in &self.headers {
            response.headers_mut().append(name.clone(), turn.header(template)?);
        }
        if !body.is_empty() && !response.headers().contains_key(header::CONTENT_TYPE) {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(inferred(&body)));
        }
        *response.body_mut() = body.into_bytes();
        Ok(Effect::End(Outcome::Respond(Box::new(response))))
    }
}

/// Returns the type of a body by how it begins. What is no document is plain text, so that no browser runs what a caller sent.
fn inferred(body: &str) -> &'static str {
    let start = body.trim_start();
    let begins = |with: &str| start.get(..with.len()).is_some_and(|it| it.eq_ignore_ascii_case(with));
    if begins("<!doctype html") || begins("<html") {
        "text/html; charset=utf-8"
    } else if start.starts_with(['{', '[']) {
        "application/json"
    } else {
        "text/plain; charset=utf-8"
    }
}
