//! `deny`: refuses. A request is answered with a status and nothing else; a connection is closed.

use super::{Action, CONNECT, Config, REQUEST, Type};
use crate::engine::{Effect, Failure, Outcome, Refusal, Why};

/// Refuses.
#[derive(Debug)]
pub struct Deny {
    /// From 400 to 599; 403 when none is given.
    pub status: u16,
}

pub(super) const TYPE: Type = Type { name: "deny", phases: &[CONNECT, REQUEST], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [status] = config.map(["status_code"])?;
    let status = status.map_or(Some(403), |node| config.status(node, 400))?;
    Some(Action::Deny(Deny { status }))
}

impl Deny {
    pub(super) fn act(&self) -> Result<Effect, Failure> {
        Ok(Effect::End(Outcome::Refuse(Refusal::new(self.status, Why::Denied))))
    }
}
