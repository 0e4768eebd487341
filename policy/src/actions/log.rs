//! `log`: tells something with what is told of the connection or request.

use super::{Action, CONNECT, Config, REQUEST, RESPONSE, Type};
use crate::{
    document::Data,
    engine::{Effect, Failure, Turn},
};

/// Tells this.
#[derive(Debug)]
pub struct Log {
    /// Names and what they have.
    pub metadata: Vec<(String, Data)>,
}

pub(super) const TYPE: Type = Type { name: "log", phases: &[CONNECT, REQUEST, RESPONSE], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [metadata] = config.map(["metadata"])?;
    let metadata = config.required("metadata", metadata)?;
    let mut named = Vec::new();
    for (name, _, node) in config.entries("metadata", metadata)? {
        named.extend(config.data(&format!("metadata.{name}"), node).map(|data| (name.clone(), data)));
    }
    Some(Action::Log(Log { metadata: named }))
}

impl Log {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        let mut told = Vec::with_capacity(self.metadata.len());
        for (name, data) in &self.metadata {
            told.push((name.clone(), turn.data(data)?));
        }
        if turn.tells() {
            let metadata = turn.map(told.clone())?;
            turn.tell("log", [("metadata", metadata)])?;
        }
        turn.log(told);
        Ok(Effect::Next)
    }
}
