//! `redirect`: sends the caller to another URL. One that is the same as before is no redirect: the rules go on.

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{Action, Config, REQUEST, Type, location::Location};
use crate::{
    document::Template,
    engine::{Effect, Failure, Outcome, Turn},
};

/// Sends the caller elsewhere.
#[derive(Debug)]
pub struct Redirect {
    location: Location,
    /// From 300 to 399; 302 when none is given.
    pub status: u16,
    /// Headers of the answer.
    pub headers: Vec<(HeaderName, Template)>,
}

pub(super) const TYPE: Type = Type { name: "redirect", phases: &[REQUEST], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [from, to, status, headers] = config.map(["from", "to", "status_code", "headers"])?;
    let location = Location::read(config, from, to);
    let status = match status {
        Some(node) => config.int("status_code", node, 300, 399).and_then(|status| u16::try_from(status).ok()),
        None => Some(302),
    };
    let headers = headers.map_or_else(|| Some(Vec::new()), |node| config.headers("headers", node));
    Some(Action::Redirect(Box::new(Redirect { location: location?, status: status?, headers: headers? })))
}

impl Redirect {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        let located = self.location.locate(turn, "redirect")?;
        if !located.changed {
            return Ok(Effect::Next);
        }
        let mut response = http::Response::new(Vec::new());
        *response.status_mut() = StatusCode::from_u16(self.status).map_err(|_| Failure::Status)?;
        let location =
            HeaderValue::try_from(format!("{}{}", located.uri, located.fragment)).map_err(|_| Failure::Header)?;
        response.headers_mut().insert(header::LOCATION, location);
        for (name, template) in &self.headers {
            response.headers_mut().append(name.clone(), turn.header(template)?);
        }
        Ok(Effect::End(Outcome::Respond(Box::new(response))))
    }
}
