//! Conversations with an implementation: `scenarios/*.json`, and the player that holds them.
//!
//! A scenario knows the wire only. What it speaks with is a [`Subject`]: one side of the protocol with the application that
//! `scenarios/README.md` describes.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use serde_json::Value;

use crate::{Registry, Schema, octets};

/// One side of the protocol, as a scenario meets it.
pub trait Subject {
    /// Lets octets arrive.
    fn hear(&mut self, octets: &[u8]);
    /// Takes the octets that it has to say.
    fn say(&mut self) -> Vec<u8>;
    /// Lets time pass and returns the octets that it says meanwhile.
    fn wait(&mut self, millis: u64) -> Vec<u8>;
    /// Ends the transport's input.
    fn cut(&mut self);
    /// Returns whether it has closed the transport.
    fn is_closed(&self) -> bool;
    /// Waits for octets where time is real; a subject that has said everything already returns none.
    fn more(&mut self, hope: Hope) -> Vec<u8> {
        let _ = hope;
        Vec::new()
    }
}

/// What a player waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hope {
    /// Octets, or the end of the transport: a second or more is worth waiting.
    Something,
    /// That nothing comes: as long as it is worth to see that.
    Nothing,
}

/// A conversation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What is shown, as a sentence.
    pub what: String,
    /// The clauses that are held to.
    pub clauses: Vec<String>,
    /// The side that is tested.
    pub side: Side,
    /// Limits that the subject has to be configured with, by their names in the registry.
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
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
    /// Frames arrive again and again.
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
}

/// A frame that is sent, or what an expected one must be like: only what is given is compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameSpec {
    /// Its type: a name of the registry, or the number of an extension.
    r#type: Value,
    /// Its stream.
    #[serde(default)]
    stream: u32,
    /// Its message, by the schema. Of an expected frame, the fields that are compared.
    message: Option<Value>,
    /// Its payload as a number of 8 octets.
    number: Option<u64>,
    /// Its payload as a code of 4 octets: a name of the registry, or a number.
    code: Option<Value>,
    /// Its payload as text. DATA that is expected may come in several frames.
    text: Option<String>,
    /// Its payload as so many octets of no matter what.
    octets: Option<usize>,
    /// Its payload in hexadecimal.
    hex: Option<String>,
    /// Whether its header promises a payload that does not come.
    promised: Option<u32>,
}

/// Speaks with subjects.
#[derive(Debug)]
pub struct Player {
    registry: Registry,
    schema: Schema,
}

/// What a subject has said.
struct Heard {
    octets: Vec<u8>,
    frames: VecDeque<Frame>,
}

struct Frame {
    name: String,
    stream: u32,
    payload: Vec<u8>,
}

impl Scenario {
    /// Reads the scenarios of one file.
    ///
    /// # Errors
    /// Where the file is not well formed.
    pub fn read(file: &str) -> Result<Vec<Self>, serde_json::Error> {
        serde_json::from_str(file)
    }
}

impl Player {
    /// Returns a player for this version.
    pub fn new() -> Self {
        Self { registry: Registry::load(), schema: Schema::load() }
    }

    /// Plays a scenario to its end.
    ///
    /// # Errors
    /// The first step that did not go as it says, and what happened.
    pub fn play(&self, scenario: &Scenario, subject: &mut dyn Subject) -> Result<(), String> {
        let mut heard = Heard { octets: Vec::new(), frames: VecDeque::new() };
        for (place, step) in scenario.steps.iter().enumerate() {
            let result = self.step(step, scenario, subject, &mut heard);
            result.map_err(|error| format!("{} (step {}): {error}", scenario.what, place + 1))?;
        }
        Ok(())
    }

    fn step(
        &self,
        step: &Step,
        scenario: &Scenario,
        subject: &mut dyn Subject,
        heard: &mut Heard,
    ) -> Result<(), String> {
        match step {
            Step::Handshake(changes) => self.handshake(changes, scenario, subject, heard)?,
            Step::Send(frames) => subject.hear(&self.octets(frames, 0)?),
            Step::Trickle(frames) => {
                for octet in self.octets(frames, 0)? {
                    subject.hear(&[octet]);
                }
            }
            Step::Repeat { times, stream_step, send } => {
                for time in 0..*times {
                    subject.hear(&self.octets(send, time * stream_step)?);
                }
            }
            Step::Wait(millis) => {
                let said = subject.wait(*millis);
                heard.octets.extend(said);
            }
            Step::Cut => subject.cut(),
            Step::Expect(_) | Step::ExpectNothing | Step::ExpectClose(_) | Step::ExpectEnd => {}
        }
        heard.octets.extend(subject.say());
        self.take_frames(heard)?;
        match step {
            Step::Expect(frames) => frames.iter().try_for_each(|frame| self.expect(frame, scenario, subject, heard)),
            Step::ExpectNothing => {
                heard.octets.extend(subject.more(Hope::Nothing));
                self.take_frames(heard)?;
                heard.frames.retain(|frame| !scenario.ignore.contains(&frame.name));
                heard.frames.front().map_or(Ok(()), |frame| Err(format!("{} was said", frame.name)))
            }
            Step::ExpectClose(code) => self.expect_close(code, subject, heard),
            Step::ExpectEnd => {
                self.hear_out(subject, heard)?;
                if subject.is_closed() { Ok(()) } else { Err("the transport is still open".to_owned()) }
            }
            Step::Handshake(_) | Step::Send(_) | Step::Trickle(_) | Step::Repeat { .. } | Step::Wait(_) | Step::Cut => {
                Ok(())
            }
        }
    }

    fn handshake(
        &self,
        changes: &Value,
        scenario: &Scenario,
        subject: &mut dyn Subject,
        heard: &mut Heard,
    ) -> Result<(), String> {
        let (said, mut message) = match scenario.side {
            Side::Network => ("Hello", parse(HELLO)?),
            Side::Agent => ("Welcome", parse(WELCOME)?),
        };
        merge(&mut message, changes);
        let answer = if scenario.side == Side::Network { "Welcome" } else { "Hello" };
        let expected: FrameSpec = serde_json::from_value(serde_json::json!({ "type": answer })).map_err(text)?;
        let frame = self.frame(said, 0, &self.schema.write(said, &message)?)?;
        if scenario.side == Side::Network {
            subject.hear(&frame);
        }
        heard.octets.extend(subject.say());
        self.take_frames(heard)?;
        self.expect(&expected, scenario, subject, heard)?;
        if scenario.side == Side::Agent {
            subject.hear(&frame);
        }
        // The first question is answered, so that silence is the scenario's own.
        heard.octets.extend(subject.say());
        self.take_frames(heard)?;
        let asked = |heard: &Heard| heard.frames.iter().position(|frame| frame.name == "Ping");
        while asked(heard).is_none() && self.hear_more(subject, heard)? {}
        let ping = asked(heard);
        if let Some(ping) = ping.and_then(|place| heard.frames.remove(place)) {
            subject.hear(&self.frame("Pong", 0, &ping.payload)?);
        }
        Ok(())
    }

    /// Waits for more frames; returns whether there are any.
    fn hear_more(&self, subject: &mut dyn Subject, heard: &mut Heard) -> Result<bool, String> {
        let octets = subject.more(Hope::Something);
        let any = !octets.is_empty();
        heard.octets.extend(octets);
        self.take_frames(heard)?;
        Ok(any)
    }

    /// Hears all that is said until the transport is closed, or nothing comes.
    fn hear_out(&self, subject: &mut dyn Subject, heard: &mut Heard) -> Result<(), String> {
        while !subject.is_closed() && self.hear_more(subject, heard)? {}
        Ok(())
    }

    fn expect(
        &self,
        spec: &FrameSpec,
        scenario: &Scenario,
        subject: &mut dyn Subject,
        heard: &mut Heard,
    ) -> Result<(), String> {
        let (_, name) = self.kind(&spec.r#type)?;
        loop {
            while heard.frames.is_empty() && self.hear_more(subject, heard)? {}
            let frame = heard.frames.pop_front().ok_or_else(|| format!("{name} was not said"))?;
            if frame.name != name && scenario.ignore.contains(&frame.name) {
                continue;
            }
            if (frame.name.as_str(), frame.stream) != (name.as_str(), spec.stream) {
                return Err(format!("{} of stream {} came where {name} was due", frame.name, frame.stream));
            }
            return self.compare(spec, &self.whole(spec, frame, subject, heard)?);
        }
    }

    /// DATA may come in any frames: returns it in one, as long as what is expected.
    fn whole(
        &self,
        spec: &FrameSpec,
        mut frame: Frame,
        subject: &mut dyn Subject,
        heard: &mut Heard,
    ) -> Result<Frame, String> {
        let length = spec.octets.map_or_else(|| self.payload(spec).map(|payload| payload.len()), Ok)?;
        while frame.name == "Data" && frame.payload.len() < length {
            while heard.frames.is_empty() && self.hear_more(subject, heard)? {}
            let more = |next: &mut Frame| (next.name.as_str(), next.stream) == ("Data", frame.stream);
            let Some(next) = heard.frames.pop_front_if(more) else { break };
            frame.payload.extend(next.payload);
        }
        Ok(frame)
    }

    fn compare(&self, spec: &FrameSpec, frame: &Frame) -> Result<(), String> {
        if let Some(wanted) = &spec.message {
            let message = self.message(&frame.name)?;
            let found = self.schema.read(&message, &frame.payload)?;
            return if includes(&found, wanted) { Ok(()) } else { Err(format!("{} says {found}", frame.name)) };
        }
        let given = spec.number.is_some() || spec.code.is_some() || spec.text.is_some() || spec.hex.is_some();
        if let Some(length) = spec.octets {
            let same = frame.payload.len() == length;
            return if same { Ok(()) } else { Err(format!("{} has {} octets", frame.name, frame.payload.len())) };
        }
        if given && self.payload(spec)? != frame.payload {
            return Err(format!("{} carries {:02x?}", frame.name, frame.payload));
        }
        Ok(())
    }

    fn expect_close(&self, code: &str, subject: &mut dyn Subject, heard: &mut Heard) -> Result<(), String> {
        self.hear_out(subject, heard)?;
        let said: Vec<String> = heard.frames.iter().map(|frame| frame.name.clone()).collect();
        let close = heard.frames.pop_back().filter(|frame| frame.name == "Close");
        let close = close.ok_or_else(|| format!("no CLOSE is the last frame of {said:?}"))?;
        let found = self.schema.read("Close", &close.payload)?;
        let number = self.registry.code(code).ok_or_else(|| format!("there is no code {code}"))?;
        if found.get("code").and_then(Value::as_u64).unwrap_or(0) != u64::from(number) {
            return Err(format!("CLOSE says {found}, not {code}"));
        }
        if subject.is_closed() { Ok(()) } else { Err("the transport is still open after CLOSE".to_owned()) }
    }

    fn take_frames(&self, heard: &mut Heard) -> Result<(), String> {
        while let Some(([l0, l1, l2, kind, s0, s1, s2, s3], rest)) = heard.octets.split_first_chunk() {
            let length = u32::from_be_bytes([0, *l0, *l1, *l2]);
            let Some(payload) = rest.get(..length as usize) else { break };
            let known = self.registry.frame(*kind).ok_or_else(|| format!("type {kind:#04x} was said"))?;
            let stream = u32::from_be_bytes([*s0, *s1, *s2, *s3]);
            heard.frames.push_back(Frame { name: known.name.clone(), stream, payload: payload.to_vec() });
            heard.octets.drain(..8 + length as usize);
        }
        Ok(())
    }

    fn octets(&self, frames: &[FrameSpec], shift: u32) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        for spec in frames {
            let (number, _) = self.kind(&spec.r#type)?;
            let stream = if spec.stream == 0 { 0 } else { spec.stream + shift };
            let payload = self.payload(spec)?;
            let length = spec.promised.map_or_else(|| u32::try_from(payload.len()).map_err(text), Ok)?;
            all.extend(header(length, number, stream));
            all.extend(payload);
        }
        Ok(all)
    }

    fn frame(&self, name: &str, stream: u32, payload: &[u8]) -> Result<Vec<u8>, String> {
        let (number, _) = self.kind(&Value::from(name))?;
        let length = u32::try_from(payload.len()).map_err(text)?;
        Ok([&header(length, number, stream), payload].concat())
    }

    fn payload(&self, spec: &FrameSpec) -> Result<Vec<u8>, String> {
        if let Some(message) = &spec.message {
            let (_, name) = self.kind(&spec.r#type)?;
            return self.schema.write(&self.message(&name)?, message);
        }
        if let Some(number) = spec.number {
            return Ok(number.to_be_bytes().to_vec());
        }
        if let Some(code) = &spec.code {
            let number = code.as_str().map_or_else(|| code.as_u64(), |name| self.registry.code(name).map(u64::from));
            let number =
                number.and_then(|number| u32::try_from(number).ok()).ok_or_else(|| format!("no code {code}"))?;
            return Ok(number.to_be_bytes().to_vec());
        }
        if let Some(hex) = &spec.hex {
            return octets(hex).ok_or_else(|| format!("{hex} is not hexadecimal"));
        }
        let text = spec.text.as_ref().map(|text| text.as_bytes().to_vec());
        Ok(text.unwrap_or_else(|| vec![b'.'; spec.octets.unwrap_or(0)]))
    }

    /// The number and the name of a type.
    fn kind(&self, value: &Value) -> Result<(u8, String), String> {
        if let Some(number) = value.as_u64() {
            return Ok((u8::try_from(number).map_err(text)?, number.to_string()));
        }
        let name = value.as_str().unwrap_or_default();
        let kind = self.registry.frames.iter().find(|frame| frame.name == name);
        kind.map(|kind| (kind.number, kind.name.clone())).ok_or_else(|| format!("there is no type {value}"))
    }

    fn message(&self, name: &str) -> Result<String, String> {
        let kind = self.registry.frames.iter().find(|frame| frame.name == name);
        kind.and_then(|kind| kind.message.clone()).ok_or_else(|| format!("{name} carries no message"))
    }
}

impl Default for Player {
    fn default() -> Self {
        Self::new()
    }
}

fn header(length: u32, number: u8, stream: u32) -> [u8; 8] {
    let ([_, l0, l1, l2], [s0, s1, s2, s3]) = (length.to_be_bytes(), stream.to_be_bytes());
    [l0, l1, l2, number, s0, s1, s2, s3]
}

/// Whether every field of `wanted` is in `found`.
fn includes(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(name, value)| found.get(name).is_some_and(|found| includes(found, value)))
        }
        (found, wanted) => found == wanted,
    }
}

fn merge(message: &mut Value, changes: &Value) {
    if let (Value::Object(message), Value::Object(changes)) = (&mut *message, changes) {
        for (name, value) in changes {
            merge(message.entry(name.clone()).or_insert(Value::Null), value);
        }
    } else {
        *message = changes.clone();
    }
}

fn parse(json: &str) -> Result<Value, String> {
    serde_json::from_str(json).map_err(text)
}

fn text(error: impl core::fmt::Display) -> String {
    error.to_string()
}

/// What may come at any time unless a scenario is about it.
fn unasked() -> Vec<String> {
    ["Ack", "Credit", "Streams", "Ping"].map(str::to_owned).to_vec()
}

const HELLO: &str = r#"{
    "versions": [1], "agent": "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf", "token": "74657374", "software": "scenario",
    "heartbeat": { "interval_ms": 10000, "tolerance_ms": 15000 },
    "limits": { "frame": 16376, "window": 16384, "streams": 100 }
}"#;

const WELCOME: &str = r#"{
    "version": 1, "session": "50515253545556575859505152535455",
    "heartbeat": { "interval_ms": 10000, "tolerance_ms": 15000 },
    "limits": { "frame": 16376, "window": 16384, "streams": 100 }
}"#;
