//! What the vendor may ask for by commands, and what it has sent by one.

use serde_json::{Value, json};

use super::{Situation, Teller};
use crate::{
    clock,
    config::{AgentConfig, Config, EndpointConfig, RemoteManagement},
    policy::Commands,
    remote::{Document, NO_POLICY, beside, withheld},
};

impl Situation<'_> {
    /// Returns the endpoints that the vendor has sent and that are in force.
    pub(super) fn sent(&self, config: &Config) -> Vec<&EndpointConfig> {
        let Ok(Some(document)) = self.remote else { return Vec::new() };
        if self.held(config).is_some() {
            return Vec::new();
        }
        beside(&document.sent, &config.endpoints).0
    }

    fn held(&self, config: &Config) -> Option<&'static str> {
        withheld(config.agent.remote_management.configuration, self.policy.map(|(policy, ..)| policy))
    }
}

impl Teller {
    /// Says which commands are accepted.
    pub(super) fn commands(&mut self, agent: &AgentConfig, situation: &Situation<'_>) -> Value {
        let configured = agent.remote_management;
        let rests = situation.policy.and_then(|(policy, ..)| policy.rests(situation.now));
        let both = match situation.policy {
            None => RemoteManagement { configuration: false, ..configured },
            Some(_) if rests.is_some() => Commands::default().intersect(configured),
            Some((policy, ..)) => policy.commands.intersect(configured),
        };
        let update = match &agent.update {
            Some(_) => "it takes a newer version that the vendor has signed",
            None => "it is answered that no place for updates is configured",
        };
        let table = [
            ("stop", configured.stop, both.stop, "it ends the agent"),
            (
                "restart",
                configured.restart,
                both.restart,
                "it makes its sessions anew and reads its configuration again",
            ),
            ("update", configured.update, both.update, update),
            (
                "configuration",
                configured.configuration,
                both.configuration,
                "it has the endpoints that the vendor sends, beside those of the configuration and within the policy",
            ),
        ];
        for (word, configured, both, meaning) in table {
            let text = match (configured, both) {
                (_, true) => format!("accepted: {meaning}"),
                (true, false) => {
                    let never = || match situation.policy {
                        Some(_) => format!("commands.{word} of the policy is not true"),
                        None => NO_POLICY.to_owned(),
                    };
                    format!("refused: {}", rests.clone().unwrap_or_else(never))
                }
                (false, _) => format!("refused: remote_management.{word} of the configuration is not true"),
            };
            self.say("Commands of the vendor", word, text);
        }
        json!({ "stop": both.stop, "restart": both.restart, "update": both.update, "configuration": both.configuration })
    }

    /// Says what the vendor has sent.
    pub(super) fn remote(&mut self, config: &Config, situation: &Situation<'_>) -> Option<Value> {
        let topic = "Sent by the vendor";
        let Document { kept, sent } = match situation.remote {
            Ok(None) => {
                let text = situation.elsewhere?;
                self.say(topic, "not here", text.to_owned());
                return Some(json!({ "elsewhere": text }));
            }
            Ok(Some(document)) => document,
            Err(problem) => {
                self.say(topic, "not believed", format!("{problem}: an agent of this user has none of it in force"));
                return Some(json!({ "problem": problem }));
            }
        };
        let (count, taken) = (sent.len(), clock::utc(kept.taken));
        let text =
            format!("{count} endpoints, taken at {taken}, SHA-256 {}; the vendor said `{}`", kept.print, kept.said);
        self.say(topic, "document", text);
        let held = situation.held(config);
        let (_, left_out) = beside(sent, &config.endpoints);
        let names: Vec<&str> = left_out.iter().map(|endpoint| endpoint.name.as_str()).collect();
        let rests = situation.frozen.map(|why| format!("frozen: {why}"));
        let rests = rests.or_else(|| situation.policy.and_then(|(policy, ..)| policy.rests(situation.now)));
        if let (None, Some(why)) = (held, &rests) {
            self.say(topic, "kept", format!("callers are refused: {why}"));
        }
        match held {
            None if rests.is_some() => {}
            Some(why) => self.say(topic, "not in force", why),
            None if names.is_empty() => {
                self.say(topic, "in force", "beside the endpoints of the configuration, within the policy")
            }
            None => {
                let text = format!("without {}, which the configuration has itself", names.join(", "));
                self.say(topic, "in force", text);
            }
        }
        Some(json!({
            "endpoints": count, "taken": taken, "sha256": kept.print, "said": kept.said, "not_in_force": held, "callers_refused": rests,
            "left_out": names,
        }))
    }
}
