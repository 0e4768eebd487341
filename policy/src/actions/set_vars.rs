//! `set-vars`: sets `vars`, one after another: each sees those before it. They last until the phase ends.

use super::{Action, CONNECT, Config, REQUEST, RESPONSE, Type};
use crate::{
    document::{Data, MAX_ENTRIES},
    engine::{Effect, Failure, Turn},
};

/// Sets variables.
#[derive(Debug)]
pub struct SetVars {
    /// Their names and what each is set to, in their order.
    pub vars: Vec<(String, Data)>,
}

pub(super) const TYPE: Type = Type { name: "set-vars", phases: &[CONNECT, REQUEST, RESPONSE], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [vars] = config.map(["vars"])?;
    let vars = config.required("vars", vars)?;
    let mut set = Vec::new();
    for (key, node) in config.list("vars", vars, MAX_ENTRIES)? {
        let Some(entries) = config.entries(&key, node) else { continue };
        for (name, _, node) in entries {
            set.extend(config.data(&format!("{key}.{name}"), node).map(|data| (name.clone(), data)));
        }
    }
    Some(Action::SetVars(SetVars { vars: set }))
}

impl SetVars {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        for (name, data) in &self.vars {
            let value = turn.data(data)?;
            turn.set(name, value)?;
        }
        Ok(Effect::Next)
    }
}
