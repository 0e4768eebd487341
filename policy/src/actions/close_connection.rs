//! `close-connection`: closes the connection of the caller without an answer.

use super::{Action, CONNECT, Config, REQUEST, Type};
use crate::engine::{Effect, Failure, Outcome};

/// Closes the connection.
#[derive(Debug)]
pub struct CloseConnection;

pub(super) const TYPE: Type = Type { name: "close-connection", phases: &[CONNECT, REQUEST], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    config.map([]).map(|[]| Action::CloseConnection(CloseConnection))
}

impl CloseConnection {
    #[expect(clippy::unused_self, reason = "as every action")]
    pub(super) fn act(&self) -> Result<Effect, Failure> {
        Ok(Effect::End(Outcome::Close))
    }
}
