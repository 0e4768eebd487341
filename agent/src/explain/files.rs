//! Which files the configuration has the agent read, and whether it may.

use serde_json::{Value, json};

use super::{Situation, Teller};
use crate::config::Config;

impl Teller {
    /// Says of each file that is named whether it is read.
    pub(super) fn files(&mut self, config: &Config, situation: &Situation<'_>) -> Vec<Value> {
        let topic = "Files that are read";
        if let Some((policy, ..)) = situation.policy {
            self.say(topic, "may be named", format!("by the configuration: {}", policy.files));
        }
        let mut facts = Vec::new();
        for named in config.named() {
            let path = named.file.display();
            let refusal = situation.policy.and_then(|(policy, ..)| named.file.refusal(policy));
            let text = match (&refusal, situation.policy) {
                (Some(refusal), _) => format!("{path} is not read: {refusal}"),
                (None, _) if !named.file.is_of_configuration() => {
                    format!("{path}: by the command line or the environment")
                }
                (None, Some(_)) => format!("{path}: the policy lets the configuration name it"),
                (None, None) => format!("{path}: by the configuration alone: there is no policy"),
            };
            self.say(topic, &named.key, text);
            facts.push(json!({
                "key": named.key, "path": &*named.file, "by_configuration": named.file.is_of_configuration(),
                "allowed": refusal.is_none(),
            }));
        }
        if facts.is_empty() {
            self.say(topic, "none", "the configuration names no file");
        }
        facts
    }
}
