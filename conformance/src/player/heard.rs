//! What a subject has said.

use std::collections::VecDeque;

use serde_json::Value;

use super::Player;

/// What a subject has said: frames that nobody has looked at yet, and the octets of one that is not whole.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) frames: VecDeque<Frame>,
    /// Each counted frame of the session, as it came.
    pub(super) counted: Vec<Vec<u8>>,
    octets: Vec<u8>,
}

/// A frame that was said.
pub(super) struct Frame {
    /// The name of its type; of an extension, its number.
    pub(super) name: String,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Heard {
    /// Takes octets, and the frames that are whole with them; returns whether there were octets.
    ///
    /// # Errors
    /// What was said instead of a frame.
    pub(super) fn take(&mut self, octets: &[u8], player: &Player) -> Result<bool, String> {
        self.octets.extend(octets);
        while let Some(([l0, l1, l2, kind, s0, s1, s2, s3], rest)) = self.octets.split_first_chunk() {
            let length = u32::from_be_bytes([0, *l0, *l1, *l2]) as usize;
            let Some(payload) = rest.get(..length) else { break };
            let (kind, stream) = (*kind, u32::from_be_bytes([*s0, *s1, *s2, *s3]));
            let known = player.registry.frame(kind).map(|known| known.name.clone());
            let extension = player.registry.extensions.iter().any(|range| (range.from..=range.to).contains(&kind));
            let name = known.or_else(|| extension.then(|| kind.to_string()));
            let name = name.ok_or_else(|| format!("a frame of the type {kind:#04x}"))?;
            self.frames.push_back(Frame { name, stream, payload: payload.to_vec() });
            let whole: Vec<u8> = self.octets.drain(..8 + length).collect();
            if player.is_counted(kind) {
                self.counted.push(whole);
            }
        }
        Ok(!octets.is_empty())
    }

    /// Forgets what belongs to one link.
    pub(super) fn change_link(&mut self) {
        self.octets.clear();
        self.frames.clear();
    }

    /// Forgets what belongs to one session.
    pub(super) fn change_session(&mut self) {
        self.counted.clear();
    }
}

impl Frame {
    /// Says which frame it is, for people.
    pub(super) fn said(&self, player: &Player) -> String {
        let kind = player.registry.frames.iter().find(|kind| kind.name == self.name);
        let message = kind.and_then(|kind| kind.message.as_deref());
        let content = message.and_then(|message| player.schema.read(message, &self.payload).ok());
        let content = content.unwrap_or_else(|| match <[u8; 8]>::try_from(self.payload.as_slice()) {
            Ok(number) if self.name != "Data" => Value::from(u64::from_be_bytes(number)),
            Ok(_) | Err(_) => Value::from(hex(&self.payload)),
        });
        if self.stream == 0 {
            return format!("{} {content}", self.name);
        }
        format!("{} of stream {} {content}", self.name, self.stream)
    }
}

/// The first octets in hexadecimal, and how many there are.
fn hex(octets: &[u8]) -> String {
    let shown: String = octets.iter().take(SHOWN).map(|octet| format!("{octet:02x}")).collect();
    if octets.len() > SHOWN { format!("{shown}… ({} octets)", octets.len()) } else { shown }
}

const SHOWN: usize = 32;
