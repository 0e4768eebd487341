//! Octets beside their meaning: `vectors/*.json`.

use serde::Deserialize;
use serde_json::Value;

/// Control messages.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageVectors {
    /// Messages and what they say.
    pub valid: Vec<ValidMessage>,
    /// Octets that are no message.
    pub invalid: Vec<Malformed>,
}

/// A message and what it says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidMessage {
    /// What this is about.
    pub what: String,
    /// The clauses that it shows.
    pub clauses: Vec<String>,
    /// The message's name in the schema.
    pub message: String,
    /// The octets.
    pub hex: String,
    /// Whether a sender of this version writes these very octets.
    pub canonical: bool,
    /// Each field that is not its default, by its name in the schema; octets as hexadecimal.
    pub value: Value,
}

/// Octets that are no message.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Malformed {
    /// What is wrong.
    pub what: String,
    /// The clause that is broken.
    pub clause: String,
    /// The message's name in the schema.
    pub message: String,
    /// The octets.
    pub hex: String,
}

/// Frames.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameVectors {
    /// Octets and the frames in them.
    pub valid: Vec<ValidFrames>,
    /// Octets that are refused.
    pub invalid: Vec<Misframed>,
}

/// Octets and the frames in them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidFrames {
    /// What this is about.
    pub what: String,
    /// The clauses that it shows.
    pub clauses: Vec<String>,
    /// The longest payload that the receiver announced.
    pub limit: u32,
    /// The octets.
    pub hex: String,
    /// The frames.
    pub frames: Vec<Heard>,
}

/// A frame as a receiver understands it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heard {
    /// The number of its type.
    pub r#type: u8,
    /// The stream, zero for none.
    pub stream: u32,
    /// Whether it counts.
    pub counted: bool,
    /// The payload in hexadecimal; absent where it is thrown away.
    pub payload: Option<String>,
}

/// Octets of which no frame is accepted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Misframed {
    /// What is wrong.
    pub what: String,
    /// The clause that is broken.
    pub clause: String,
    /// The longest payload that the receiver announced.
    pub limit: u32,
    /// The octets: a header, without the payload that it promises.
    pub hex: String,
}

impl MessageVectors {
    /// Returns the vectors of this version.
    ///
    /// # Panics
    /// When `messages.json` is not what this module describes.
    pub fn load() -> Self {
        serde_json::from_str(include_str!("../vectors/messages.json")).expect("messages.json is well formed")
    }
}

impl FrameVectors {
    /// Returns the vectors of this version.
    ///
    /// # Panics
    /// When `frames.json` is not what this module describes.
    pub fn load() -> Self {
        serde_json::from_str(include_str!("../vectors/frames.json")).expect("frames.json is well formed")
    }
}

/// Returns the octets that hexadecimal digits stand for; `None` when they are none.
pub fn octets(hex: &str) -> Option<Vec<u8>> {
    let digit = |octet: &u8| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = hex.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect()
}
