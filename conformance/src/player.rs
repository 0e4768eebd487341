//! The player of scenarios.

use serde_json::Value;

use crate::{FrameSpec, Registry, Scenario, Schema, Subject, Verdict, octets};

mod heard;
mod resume;
mod talk;

use talk::{Stop, Talk};

/// Speaks with subjects.
#[derive(Debug)]
pub struct Player {
    registry: Registry,
    schema: Schema,
    /// The token in hexadecimal that stands for the scenarios' own.
    token: Option<String>,
    place: u16,
}

impl Player {
    /// Returns a player for this version.
    pub fn new() -> Self {
        Self { registry: Registry::load(), schema: Schema::load(), token: None, place: 0 }
    }

    /// Says this token wherever a scenario has the one that is consented to.
    #[must_use]
    pub fn with_token(mut self, token: Option<&str>) -> Self {
        self.token = token.map(|token| token.bytes().map(|octet| format!("{octet:02x}")).collect());
        self
    }

    /// Plays beside players with other numbers, all with one network: as an agent of its own, which binds ports of its own. At
    /// place 0 both are as the scenarios have them.
    #[must_use]
    pub const fn at_place(mut self, place: u16) -> Self {
        self.place = place;
        self
    }

    /// Plays a scenario to its end, and says what came of it.
    pub fn judge(&self, scenario: &Scenario, subject: &mut dyn Subject) -> Verdict {
        let lack = scenario.requires.iter().find_map(|requirement| subject.lacks(requirement));
        lack.map_or_else(|| Talk::new(self, scenario, subject).play(), Verdict::NotImplemented)
    }

    /// Plays a scenario to its end, with a subject that implements all of it.
    ///
    /// # Errors
    /// The first step that did not go as it says, and what happened.
    pub fn play(&self, scenario: &Scenario, subject: &mut dyn Subject) -> Result<(), String> {
        match self.judge(scenario, subject) {
            Verdict::Passed => Ok(()),
            Verdict::Failed(failure) => Err(format!("{} ({failure})", scenario.what)),
            Verdict::NotImplemented(why) | Verdict::Skipped(why) => {
                Err(format!("{} (not implemented: {why})", scenario.what))
            }
        }
    }

    /// Returns the octets of these frames; streams have `shift` added to their number.
    fn octets(&self, frames: &[FrameSpec], shift: u32) -> Result<Vec<Spoken>, Stop> {
        let mut all = Vec::new();
        for spec in frames {
            let (number, _) = self.kind(&spec.r#type)?;
            let stream = if spec.stream == 0 { 0 } else { spec.stream + shift };
            let payload = self.payload(spec)?;
            let length = spec.promised.map_or_else(|| u32::try_from(payload.len()).map_err(malformed), Ok)?;
            let counted = self.is_counted(number) && spec.promised.is_none();
            all.push(Spoken { octets: [&header(length, number, stream), payload.as_slice()].concat(), counted });
        }
        Ok(all)
    }

    /// Returns the octets of a message.
    fn written(&self, name: &str, message: &Value) -> Result<Vec<u8>, Stop> {
        let mut message = self.own(message);
        if let (Some(token), Some(said)) = (&self.token, message.get_mut("token"))
            && *said == TOKEN
        {
            *said = Value::from(token.as_str());
        }
        self.schema.write(name, &message).map_err(malformed)
    }

    /// Returns a message of the scenarios as it is at this player's place.
    fn own(&self, message: &Value) -> Value {
        match message {
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), self.own(value))).collect(),
            Value::String(text) if text == AGENT => format!("{:04x}{}", self.place ^ 0xa0a1, &AGENT[4..]).into(),
            Value::String(text) => {
                let port = text.strip_prefix("tcp://:").and_then(|port| port.parse::<u32>().ok());
                port.map_or_else(|| message.clone(), |port| self.port(port).into())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => message.clone(),
        }
    }

    fn port(&self, port: u32) -> String {
        format!("tcp://:{}", port + PORTS * u32::from(self.place))
    }

    fn frame(&self, name: &str, stream: u32, payload: &[u8]) -> Result<Vec<u8>, Stop> {
        let (number, _) = self.kind(&Value::from(name))?;
        let length = u32::try_from(payload.len()).map_err(malformed)?;
        Ok([&header(length, number, stream), payload].concat())
    }

    fn payload(&self, spec: &FrameSpec) -> Result<Vec<u8>, Stop> {
        if let Some(message) = &spec.message {
            let (_, name) = self.kind(&spec.r#type)?;
            return self.written(&self.message(&name)?, message);
        }
        if let Some(number) = spec.number {
            return Ok(number.to_be_bytes().to_vec());
        }
        if let Some(code) = &spec.code {
            let number = code.as_str().map_or_else(|| code.as_u64(), |name| self.registry.code(name).map(u64::from));
            let number = number.and_then(|number| u32::try_from(number).ok());
            return Ok(number.ok_or_else(|| malformed(format!("no code {code}")))?.to_be_bytes().to_vec());
        }
        if let Some(hex) = &spec.hex {
            return octets(hex).ok_or_else(|| malformed(format!("{hex} is not hexadecimal")));
        }
        let text = spec.text.as_ref().map(|text| text.as_bytes().to_vec());
        Ok(text.unwrap_or_else(|| vec![b'.'; spec.octets.unwrap_or(0)]))
    }

    /// The number and the name of a type.
    fn kind(&self, value: &Value) -> Result<(u8, String), Stop> {
        if let Some(number) = value.as_u64() {
            return Ok((u8::try_from(number).map_err(malformed)?, number.to_string()));
        }
        let name = value.as_str().unwrap_or_default();
        let kind = self.registry.frames.iter().find(|frame| frame.name == name);
        kind.map(|kind| (kind.number, kind.name.clone())).ok_or_else(|| malformed(format!("there is no type {value}")))
    }

    fn is_counted(&self, number: u8) -> bool {
        let extension = |range: &&crate::Extensions| (range.from..=range.to).contains(&number);
        let extension = self.registry.extensions.iter().find(extension);
        extension.map_or_else(|| self.registry.frame(number).is_some_and(|kind| kind.counted), |range| range.counted)
    }

    fn message(&self, name: &str) -> Result<String, Stop> {
        let kind = self.registry.frames.iter().find(|frame| frame.name == name);
        kind.and_then(|kind| kind.message.clone()).ok_or_else(|| malformed(format!("{name} carries no message")))
    }
}

impl Default for Player {
    fn default() -> Self {
        Self::new()
    }
}

/// A frame that is sent.
struct Spoken {
    octets: Vec<u8>,
    counted: bool,
}

fn header(length: u32, number: u8, stream: u32) -> [u8; 8] {
    let ([_, l0, l1, l2], [s0, s1, s2, s3]) = (length.to_be_bytes(), stream.to_be_bytes());
    [l0, l1, l2, number, s0, s1, s2, s3]
}

/// The scenario itself is at fault.
fn malformed(error: impl core::fmt::Display) -> Stop {
    Stop::Failed { expected: "a scenario that can be played".to_owned(), got: error.to_string() }
}

/// The name of the scenarios' agent, in hexadecimal.
const AGENT: &str = "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf";

/// How many ports scenarios may use: those of the next place begin behind them.
const PORTS: u32 = 100;

/// The token of scenarios that is consented to, in hexadecimal.
const TOKEN: &str = "74657374";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::States;

    #[test]
    fn players_at_other_places_are_other_agents_and_bind_other_ports() {
        let hello = json!({ "agent": AGENT, "token": TOKEN, "lane": 1 });
        let bind = json!({ "id": 1, "url": "tcp://:9" });
        let at = |place| {
            let player = Player::new().at_place(place);
            (player.own(&hello), player.own(&bind))
        };

        assert_eq!(at(0), (hello.clone(), bind.clone()));
        assert_eq!(at(3).0, json!({ "agent": "a0a2a2a3a4a5a6a7a8a9aaabacadaeaf", "token": TOKEN, "lane": 1 }));
        assert_eq!(at(3).1, json!({ "id": 1, "url": "tcp://:309" }));
    }

    #[test]
    fn no_scenario_uses_a_port_of_the_next_place() {
        let all = Scenario::all().into_iter().chain(States::load().scenarios());
        let texts: Vec<String> = all.map(|scenario| format!("{:?}", scenario.steps)).collect();
        let ports = texts.iter().flat_map(|text| text.split("tcp://:").skip(1));
        let ports = ports.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
        let ports: Vec<u32> = ports.filter_map(|port| port.parse().ok()).collect();

        assert!(ports.len() > 30 && ports.iter().all(|port| *port < PORTS), "{ports:?}");
    }
}
