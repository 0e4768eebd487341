//! One scenario with one subject.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{
    Player,
    heard::{Frame, Heard},
    malformed,
    resume::Offer,
};
use crate::{Failure, FrameSpec, Hope, Lack, Scenario, Side, Step, Subject, Verdict};

/// One scenario with one subject.
pub(super) struct Talk<'a> {
    pub(super) player: &'a Player,
    pub(super) scenario: &'a Scenario,
    pub(super) subject: &'a mut dyn Subject,
    pub(super) heard: Heard,
    /// What the application was told that no step has asked for.
    told: VecDeque<Value>,
    /// Each counted frame that was sent in the session.
    pub(super) sent: Vec<Vec<u8>>,
    /// What the session can be resumed with.
    pub(super) offer: Option<Offer>,
}

/// Why a conversation goes no further.
#[derive(Debug)]
pub(super) enum Stop {
    Failed { expected: String, got: String },
    NotImplemented(String),
}

impl<'a> Talk<'a> {
    pub(super) fn new(player: &'a Player, scenario: &'a Scenario, subject: &'a mut dyn Subject) -> Self {
        Self {
            player,
            scenario,
            subject,
            heard: Heard::default(),
            told: VecDeque::new(),
            sent: Vec::new(),
            offer: None,
        }
    }

    pub(super) fn play(mut self) -> Verdict {
        for (place, step) in self.scenario.steps.iter().enumerate() {
            match self.step(step) {
                Ok(()) => {}
                Err(Stop::Failed { expected, got }) => {
                    return Verdict::Failed(Failure { step: place + 1, expected, got });
                }
                Err(Stop::NotImplemented(why)) => return Verdict::NotImplemented(why),
            }
        }
        Verdict::Passed
    }

    fn step(&mut self, step: &Step) -> Result<(), Stop> {
        match step {
            Step::Handshake(changes) => self.handshake(changes),
            Step::Send(frames) => {
                let octets = self.spoken(frames, 0)?;
                self.subject.hear(&octets);
                self.listen()
            }
            Step::Trickle(frames) => self.trickle(frames),
            Step::Repeat { times, stream_step, send } => {
                let mut octets = Vec::new();
                for time in 0..*times {
                    octets.extend(self.spoken(send, time * stream_step)?);
                }
                self.subject.hear(&octets);
                self.listen()
            }
            Step::Wait(millis) => {
                let said = self.subject.wait(*millis);
                self.take(&said).map(|_| ())
            }
            Step::Cut => {
                self.subject.cut();
                self.listen()
            }
            Step::Resume(changes) => self.resume(changes),
            Step::Redial => self.redial(),
            Step::Act(act) => self.subject.act(act).map_err(|lack| lacking(lack, &format!("the act {act}"))),
            Step::Event(wanted) => self.event(wanted),
            Step::Expect(frames) => {
                self.listen()?;
                frames.iter().try_for_each(|frame| self.expect(frame))
            }
            Step::ExpectNothing => self.expect_nothing(),
            Step::ExpectClose(code) => self.expect_close(code),
            Step::ExpectEnd => {
                self.hear_out()?;
                let closed = self.subject.is_closed();
                if closed { Ok(()) } else { failed("the end of the transport", "nothing") }
            }
        }
    }

    /// Returns the octets of frames that are sent.
    fn spoken(&mut self, frames: &[FrameSpec], shift: u32) -> Result<Vec<u8>, Stop> {
        let mut octets = Vec::new();
        for spoken in self.player.octets(&self.all_filled(frames)?, shift)? {
            octets.extend(&spoken.octets);
            if spoken.counted {
                self.sent.push(spoken.octets);
            }
        }
        Ok(octets)
    }

    fn trickle(&mut self, frames: &[FrameSpec]) -> Result<(), Stop> {
        for spoken in self.player.octets(&self.all_filled(frames)?, 0)? {
            spoken.octets.iter().for_each(|octet| self.subject.hear(&[*octet]));
            if spoken.counted {
                self.sent.push(spoken.octets);
            }
        }
        self.listen()
    }

    fn all_filled(&self, frames: &[FrameSpec]) -> Result<Vec<FrameSpec>, Stop> {
        frames.iter().map(|frame| self.filled(frame)).collect()
    }

    fn handshake(&mut self, changes: &Value) -> Result<(), Stop> {
        let (said, mut message) = match self.scenario.side {
            Side::Network => ("Hello", parse(HELLO)?),
            Side::Agent => ("Welcome", parse(WELCOME)?),
        };
        merge(&mut message, changes);
        let octets = self.player.written(said, &message)?;
        let frame = self.player.frame(said, 0, &octets)?;
        self.change_session();
        if self.scenario.side == Side::Network {
            self.subject.hear(&frame);
        }
        let answer = self.hear_answer()?;
        self.check_limits(&answer)?;
        self.check_wish(&message, &answer)?;
        self.offer = Offer::of(&message, &answer, self.scenario.side);
        if self.scenario.side == Side::Agent {
            self.subject.hear(&frame);
        }
        self.answer_ping()
    }

    /// Hears the subject's HELLO or WELCOME.
    pub(super) fn hear_answer(&mut self) -> Result<Value, Stop> {
        let name = if self.scenario.side == Side::Network { "Welcome" } else { "Hello" };
        self.listen()?;
        let frame = self.due(&spec(name)?)?;
        self.player.schema.read(name, &frame.payload).map_err(|got| Stop::failed(name, got))
    }

    /// Answers the first question, so that silence is the scenario's own.
    pub(super) fn answer_ping(&mut self) -> Result<(), Stop> {
        self.listen()?;
        let asked = |heard: &Heard| heard.frames.iter().position(|frame| frame.name == "Ping");
        while asked(&self.heard).is_none() && self.hear_more()? {}
        let ping = asked(&self.heard).and_then(|place| self.heard.frames.remove(place));
        if let Some(ping) = ping {
            let pong = self.player.frame("Pong", 0, &ping.payload)?;
            self.subject.hear(&pong);
        }
        self.listen()
    }

    /// A subject that cannot be configured says other limits than the scenario is about.
    fn check_limits(&self, answer: &Value) -> Result<(), Stop> {
        for name in ["frame", "window", "streams"] {
            let Some(wanted) = self.scenario.limits.get(name) else { continue };
            let said = answer.pointer(&format!("/limits/{name}")).and_then(Value::as_u64).unwrap_or(0);
            if said != *wanted {
                let why = format!("the limit `{name}` of {wanted}: it is {said}, and cannot be configured");
                return Err(Stop::NotImplemented(why));
            }
        }
        Ok(())
    }

    fn change_session(&mut self) {
        self.heard.change_session();
        self.sent.clear();
        self.offer = None;
    }

    pub(super) fn redial(&mut self) -> Result<(), Stop> {
        self.subject.redial().map_err(|lack| lacking(lack, "another link"))?;
        self.heard.change_link();
        self.listen()
    }

    /// Waits for the next event of the same name; others are kept, as nothing says which of two is told first.
    fn event(&mut self, wanted: &Value) -> Result<(), Stop> {
        let expected = format!("the event {wanted}");
        let is_named = |told: &Value| told.get("event") == wanted.get("event");
        let mut next = self.told.iter().position(is_named).and_then(|place| self.told.remove(place));
        loop {
            let told = match next.take() {
                Some(told) => told,
                None => match self.subject.event().map_err(|lack| lacking(lack, &expected))? {
                    Some(told) => told,
                    None => return failed(&expected, "nothing"),
                },
            };
            if is_named(&told) {
                return if includes(&told, wanted) { Ok(()) } else { failed(&expected, &told.to_string()) };
            }
            self.told.push_back(told);
        }
    }

    fn take(&mut self, octets: &[u8]) -> Result<bool, Stop> {
        self.heard.take(octets, self.player).map_err(|got| Stop::failed("a frame", got))
    }

    /// Takes what the subject has said already.
    pub(super) fn listen(&mut self) -> Result<(), Stop> {
        let said = self.subject.say();
        self.take(&said).map(|_| ())
    }

    /// Waits for more frames; returns whether there was anything.
    pub(super) fn hear_more(&mut self) -> Result<bool, Stop> {
        let octets = self.subject.more(Hope::Something);
        self.take(&octets)
    }

    /// Hears all that is said until the transport is closed, or nothing comes.
    fn hear_out(&mut self) -> Result<(), Stop> {
        self.listen()?;
        while !self.subject.is_closed() && self.hear_more()? {}
        Ok(())
    }

    fn expect(&mut self, wanted: &FrameSpec) -> Result<(), Stop> {
        match self.expect_exactly(wanted) {
            Err(Stop::Failed { .. }) if wanted.should => {
                Err(Stop::NotImplemented(format!("what SHOULD come: {wanted}")))
            }
            result => result,
        }
    }

    fn expect_exactly(&mut self, wanted: &FrameSpec) -> Result<(), Stop> {
        let wanted = &self.filled(wanted)?;
        let frame = self.due(wanted)?;
        let frame = self.whole(wanted, frame)?;
        match self.is_as(wanted, &frame)? {
            true => Ok(()),
            // A refusal was due, with another code: that is no refusal of what the scenario needs.
            false if frame.name == "Rejected" => Err(Stop::failed(wanted.to_string(), frame.said(self.player))),
            false => Err(self.other(&wanted.to_string(), &frame)),
        }
    }

    /// Returns the next frame, which has to be of this type and stream.
    fn due(&mut self, wanted: &FrameSpec) -> Result<Frame, Stop> {
        let (_, name) = self.player.kind(&wanted.r#type)?;
        loop {
            let frame = self.next_frame()?;
            let Some(frame) = frame else {
                let got = if self.subject.is_closed() { "the end of the transport" } else { "nothing" };
                return failed(&wanted.to_string(), got);
            };
            if frame.name != name && self.is_ignored(&frame) && !self.is_refusal(&frame) {
                continue;
            }
            if (frame.name.as_str(), frame.stream) != (name.as_str(), wanted.stream) {
                return Err(self.other(&wanted.to_string(), &frame));
            }
            return Ok(frame);
        }
    }

    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, Stop> {
        while self.heard.frames.is_empty() && self.hear_more()? {}
        Ok(self.heard.frames.pop_front())
    }

    /// A frame that may come unasked, or an extension, of which none is known.
    fn is_ignored(&self, frame: &Frame) -> bool {
        self.scenario.ignore.contains(&frame.name) || frame.name.starts_with(|first: char| first.is_ascii_digit())
    }

    /// DATA may come in any frames: returns it in one, as long as what is expected.
    fn whole(&mut self, wanted: &FrameSpec, mut frame: Frame) -> Result<Frame, Stop> {
        let length = wanted.octets.map_or_else(|| self.player.payload(wanted).map(|payload| payload.len()), Ok)?;
        while frame.name == "Data" && frame.payload.len() < length {
            while self.heard.frames.is_empty() && self.hear_more()? {}
            let more = |next: &mut Frame| (next.name.as_str(), next.stream) == ("Data", frame.stream);
            let Some(next) = self.heard.frames.pop_front_if(more) else { break };
            frame.payload.extend(next.payload);
        }
        Ok(frame)
    }

    fn is_as(&self, wanted: &FrameSpec, frame: &Frame) -> Result<bool, Stop> {
        if let Some(message) = &wanted.message {
            let name = self.player.message(&frame.name)?;
            let found = self.player.schema.read(&name, &frame.payload);
            let mut wanted = self.player.own(message);
            if frame.name == "Bound" && self.subject.has_own_application() {
                wanted.as_object_mut().and_then(|fields| fields.remove("url")); // it says what callers know
            }
            return Ok(found.is_ok_and(|found| includes(&found, &wanted)));
        }
        if let Some(length) = wanted.octets {
            return Ok(frame.payload.len() == length);
        }
        let given = wanted.number.is_some() || wanted.code.is_some() || wanted.text.is_some() || wanted.hex.is_some();
        Ok(!given || self.player.payload(wanted)? == frame.payload)
    }

    fn expect_nothing(&mut self) -> Result<(), Stop> {
        self.listen()?;
        let octets = self.subject.more(Hope::Nothing);
        self.take(&octets)?;
        while let Some(frame) = self.heard.frames.pop_front() {
            if !self.is_ignored(&frame) {
                return Err(self.other("nothing", &frame));
            }
        }
        Ok(())
    }

    /// What it means that this frame came and not what was due.
    fn other(&self, due: &str, frame: &Frame) -> Stop {
        let said = frame.said(self.player);
        if self.is_refusal(frame) {
            return Stop::NotImplemented(format!("what its application refuses: {said}"));
        }
        Stop::failed(due, said)
    }

    /// A stream or a bind that an application of its own may refuse.
    fn is_refusal(&self, frame: &Frame) -> bool {
        let code = self.player.registry.code("REFUSED").map(u32::to_be_bytes);
        let refuses = match frame.name.as_str() {
            "Reset" | "Stop" => code.is_some_and(|code| frame.payload == code),
            name => name == "Rejected",
        };
        refuses && self.subject.has_own_application()
    }

    fn expect_close(&mut self, code: &str) -> Result<(), Stop> {
        let number = self.player.registry.code(code).ok_or_else(|| malformed(format!("there is no code {code}")))?;
        let expected = format!("Close with {code} ({number}) as the last frame");
        self.hear_out()?;
        let Some(frame) = self.heard.frames.pop_back() else { return failed(&expected, "nothing") };
        let close = (frame.name == "Close").then(|| self.player.schema.read("Close", &frame.payload).ok()).flatten();
        let said = close.map(|close| close.get("code").and_then(Value::as_u64).unwrap_or(0));
        if said != Some(u64::from(number)) {
            return failed(&expected, &frame.said(self.player));
        }
        let closed = self.subject.is_closed();
        if closed { Ok(()) } else { failed("the end of the transport after Close", "nothing") }
    }
}

impl Stop {
    pub(super) fn failed(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Failed { expected: expected.into(), got: got.into() }
    }
}

pub(super) fn failed<T>(expected: &str, got: &str) -> Result<T, Stop> {
    Err(Stop::failed(expected, got))
}

fn lacking(lack: Lack, expected: &str) -> Stop {
    match lack {
        Lack::Unable(what) => Stop::NotImplemented(what),
        Lack::Broken(got) => Stop::failed(expected, got),
    }
}

fn spec(name: &str) -> Result<FrameSpec, Stop> {
    serde_json::from_value(json!({ "type": name })).map_err(malformed)
}

/// Whether every field of `wanted` is in `found`; one that is absent has its default.
fn includes(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, wanted)| found.get(name).map_or_else(|| is_default(wanted), |found| includes(found, wanted))),
        (found, wanted) => found == wanted,
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_u64() == Some(0),
        Value::Bool(set) => !set,
        Value::String(text) => text.is_empty(),
        Value::Object(fields) => fields.values().all(is_default),
        Value::Array(list) => list.is_empty(),
        Value::Null => true, // must be absent
    }
}

pub(super) fn merge(message: &mut Value, changes: &Value) {
    if let (Value::Object(message), Value::Object(changes)) = (&mut *message, changes) {
        for (name, value) in changes {
            merge(message.entry(name.clone()).or_insert(Value::Null), value);
        }
    } else {
        *message = changes.clone();
    }
}

pub(super) fn parse(json: &str) -> Result<Value, Stop> {
    serde_json::from_str(json).map_err(malformed)
}

pub(super) const HELLO: &str = r#"{
    "versions": [1], "agent": "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf", "token": "74657374", "software": "scenario",
    "heartbeat": { "interval_ms": 10000, "tolerance_ms": 15000 },
    "limits": { "frame": 16376, "window": 16384, "streams": 100 }
}"#;

pub(super) const WELCOME: &str = r#"{
    "version": 1, "session": "50515253545556575859505152535455",
    "heartbeat": { "interval_ms": 10000, "tolerance_ms": 15000 },
    "limits": { "frame": 16376, "window": 16384, "streams": 100 }
}"#;
