//! Conversations with an implementation: the form of `scenarios/*.json`.
//!
//! A scenario knows the wire only. What it speaks with is a [`Subject`](crate::Subject): one side of the protocol with the
//! application that `scenarios/README.md` describes.

use core::fmt;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A conversation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The file that it stands in, without its ending.
    #[serde(skip)]
    pub file: String,
    /// What is shown, as a sentence.
    pub what: String,
    /// The clauses that are held to.
    pub clauses: Vec<String>,
    /// The side that is tested.
    pub side: Side,
    /// Limits that the subject has to be configured with, by their names in the registry.
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
    /// What the subject needs beyond its side of the protocol, by the words of `scenarios/README.md`.
    #[serde(default)]
    pub requires: Vec<String>,
    /// What is wrong with the TLS that the subject meets; nothing, if it is not given.
    #[serde(default)]
    pub tls: Option<Fault>,
    /// The types of frames that may come unasked.
    #[serde(default = "unasked")]
    pub ignore: Vec<String>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// The side that is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The subject dials.
    Agent,
    /// The subject listens.
    Network,
}

/// What is wrong with the TLS that a subject meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// No application protocol is offered, or agreed on.
    NoAlpn,
    /// Another application protocol is offered.
    OtherAlpn,
    /// TLS 1.2 is offered, and nothing later.
    #[serde(rename = "version_1_2")]
    Version12,
    /// The certificate of the network is of nobody whom the agent trusts.
    Stranger,
    /// The certificate of the network is for another name.
    OtherName,
}

/// One step.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// The handshake happens, with these fields of HELLO or WELCOME changed.
    Handshake(Value),
    /// Frames arrive, in one piece.
    Send(Vec<FrameSpec>),
    /// Frames arrive, an octet at a time.
    Trickle(Vec<FrameSpec>),
    /// Frames arrive again and again, in one piece: what time forgives is not forgiven between them.
    Repeat {
        /// How often.
        times: u32,
        /// What is added to the stream's number each time.
        #[serde(default)]
        stream_step: u32,
        /// The frames.
        send: Vec<FrameSpec>,
    },
    /// Time passes, in milliseconds.
    Wait(u64),
    /// The subject has said these frames, in this order.
    Expect(Vec<FrameSpec>),
    /// The subject has said nothing else.
    ExpectNothing,
    /// The subject has ended the session with this code, and closes the transport.
    ExpectClose(String),
    /// The subject has closed the transport.
    ExpectEnd,
    /// The transport's input ends.
    Cut,
    /// A link replaces the one before, and resumes its session; with these fields of HELLO or WELCOME changed.
    Resume(Value),
    /// A link replaces the one before; nothing is said yet.
    Redial,
    /// The subject's application does something that no peer can ask it for.
    Act(Value),
    /// The subject's application has been told this; only what is given is compared.
    Event(Value),
}

/// A frame that is sent, or what an expected one must be like: only what is given is compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameSpec {
    /// Its type: a name of the registry, or the number of an extension.
    pub(crate) r#type: Value,
    /// Its stream.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) stream: u32,
    /// Its message, by the schema. Of an expected frame, the fields that are compared; one that is null must be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<Value>,
    /// Its payload as a number of 8 octets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) number: Option<u64>,
    /// Its payload as a code of 4 octets: a name of the registry, or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<Value>,
    /// Its payload as text. DATA that is expected may come in several frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    /// Its payload as so many octets of no matter what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) octets: Option<usize>,
    /// Its payload in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hex: Option<String>,
    /// Whether the clause says SHOULD of it: without it, the scenario is not implemented.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub(crate) should: bool,
    /// Whether its header promises a payload that does not come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) promised: Option<u32>,
}

impl Scenario {
    /// Returns every scenario of this version, in the order of the files.
    ///
    /// # Panics
    /// When a file is not well formed.
    pub fn all() -> Vec<Self> {
        let files: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/scenarios.rs"));
        let read = |(file, content): &(&str, &str)| {
            let mut scenarios = Self::read(content).unwrap_or_else(|error| panic!("{file}.json: {error}"));
            scenarios.iter_mut().for_each(|scenario| scenario.file = (*file).to_owned());
            scenarios
        };
        files.iter().flat_map(read).collect()
    }

    /// Reads the scenarios of one file.
    ///
    /// # Errors
    /// Where the file is not well formed.
    pub fn read(file: &str) -> Result<Vec<Self>, serde_json::Error> {
        serde_json::from_str(file)
    }

    /// Returns whether octets that it gives stand for a HELLO.
    pub fn says_hello_in_octets(&self) -> bool {
        let sent = self.steps.iter().flat_map(|step| match step {
            Step::Send(frames) | Step::Trickle(frames) | Step::Repeat { send: frames, .. } => frames.as_slice(),
            Step::Handshake(_) | Step::Wait(_) | Step::Expect(_) | Step::ExpectNothing => &[],
            Step::ExpectClose(_) | Step::ExpectEnd | Step::Cut | Step::Resume(_) => &[],
            Step::Redial | Step::Act(_) | Step::Event(_) => &[],
        });
        sent.into_iter().any(|frame| frame.r#type == "Hello" && frame.hex.is_some())
    }
}

impl fmt::Display for FrameSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// What may come at any time unless a scenario is about it.
fn unasked() -> Vec<String> {
    ["Ack", "Blocked", "Credit", "Streams", "Ping"].map(str::to_owned).to_vec()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
const fn is_zero(stream: &u32) -> bool {
    *stream == 0
}
