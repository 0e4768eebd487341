//! `url-rewrite`: changes the URL that the upstream gets. Later rules see the new one.
//!
//! When the authority becomes another one, so does the `host` header: what policy sees is what is served.

use http::HeaderValue;

use super::{Action, Config, REQUEST, Type, location::Location};
use crate::engine::{Change, Effect, Failure, Turn};

/// Changes the URL.
#[derive(Debug)]
pub struct UrlRewrite {
    location: Location,
}

pub(super) const TYPE: Type = Type { name: "url-rewrite", phases: &[REQUEST], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [from, to] = config.map(["from", "to"])?;
    Location::read(config, from, to).map(|location| Action::UrlRewrite(Box::new(UrlRewrite { location })))
}

impl UrlRewrite {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        let located = self.location.locate(turn, "url_rewrite")?;
        if !located.changed {
            return Ok(Effect::Next);
        }
        let authority = located.uri.authority().map_or("", |authority| authority.as_str());
        let same = turn.facts.request().is_some_and(|request| request.head().authority == authority);
        let mut changes = Vec::new();
        if !same {
            changes.push(Change::Host(HeaderValue::try_from(authority).map_err(|_| Failure::Header)?));
        }
        changes.push(Change::Url(located.uri));
        Ok(Effect::Change(changes))
    }
}
