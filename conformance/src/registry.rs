//! Numbers of the protocol as data: `spec/registry.json`.

use serde::Deserialize;

/// Everything in the registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// The version of the protocol.
    pub version: u32,
    /// The application protocol in TLS.
    pub alpn: String,
    /// The length of a frame's header.
    pub header_octets: usize,
    /// The highest offset or count.
    pub max_offset: u64,
    /// The highest stream.
    pub max_stream: u32,
    /// The types of frames.
    pub frames: Vec<FrameType>,
    /// The ranges of types that are ignored.
    pub extensions: Vec<Extensions>,
    /// The codes.
    pub codes: Vec<CodeEntry>,
    /// What ends a session, with the clause that says so.
    pub violations: Vec<ViolationEntry>,
    /// Limits that a peer can notice.
    pub limits: Vec<Limit>,
    /// Times that a peer can notice.
    pub timers: Vec<Timer>,
}

/// A type of frames.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameType {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u8,
    /// `link`, `stream` or `session`.
    pub of: String,
    /// `agent`, `network`, `both`, `opener` or `acceptor`.
    pub from: String,
    /// Whether it is counted.
    pub counted: bool,
    /// The length of its payload, where the type fixes it.
    pub length: Option<u32>,
    /// The message that it carries, if it carries one.
    pub message: Option<String>,
}

/// A range of types that are ignored.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extensions {
    /// The first.
    pub from: u8,
    /// The last.
    pub to: u8,
    /// Whether they are counted.
    pub counted: bool,
}

/// A code.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeEntry {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u32,
    /// `protocol`, `session` or `stream`.
    pub class: String,
}

/// A way to break the protocol.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViolationEntry {
    /// The name that the reference implementation gives it.
    pub name: String,
    /// The code that tells the peer.
    pub code: String,
    /// The clause that is broken.
    pub clause: String,
}

/// A limit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Its name in the configuration.
    pub name: String,
    /// What it counts.
    pub unit: String,
    /// The default on an agent.
    pub agent: u64,
    /// The default on the network.
    pub network: u64,
    /// The lowest value.
    pub least: u64,
    /// The highest value, where there is one.
    pub most: Option<u64>,
    /// The clause that says what happens at the limit.
    pub clause: String,
}

/// A time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timer {
    /// Its name in the configuration.
    pub name: String,
    /// The default, in milliseconds.
    pub ms: u64,
    /// The lowest value, in milliseconds.
    pub least_ms: u64,
    /// The highest value, in milliseconds.
    pub most_ms: u64,
    /// The clause that says what happens when it is over.
    pub clause: String,
}

impl Registry {
    /// Returns the registry of this version.
    ///
    /// # Panics
    /// When `registry.json` is not what this module describes.
    pub fn load() -> Self {
        serde_json::from_str(include_str!("../spec/registry.json")).expect("registry.json is well formed")
    }

    /// Returns the type with this number.
    pub fn frame(&self, number: u8) -> Option<&FrameType> {
        self.frames.iter().find(|frame| frame.number == number)
    }

    /// Returns the number of the code with this name.
    pub fn code(&self, name: &str) -> Option<u32> {
        self.codes.iter().find(|code| code.name == name).map(|code| code.number)
    }
}
