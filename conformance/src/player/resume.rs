//! Another link for the same session.

use serde_json::{Value, json};

use super::talk::{HELLO, Stop, Talk, WELCOME, failed, merge, parse};
use crate::{FrameSpec, Side};

/// What a session can be resumed with.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    session: String,
    secret: String,
    /// The secret before this one.
    used: Option<String>,
}

impl Offer {
    /// Reads the offer of a handshake: what the player said, and what the subject answered.
    pub(super) fn of(said: &Value, answer: &Value, side: Side) -> Option<Self> {
        let welcome = match side {
            Side::Network => answer,
            Side::Agent => said,
        };
        let text = |path: &str| welcome.pointer(path).and_then(Value::as_str).map(str::to_owned);
        Some(Self { session: text("/session")?, secret: text("/resume/secret")?, used: None })
    }

    /// Puts the offer in the place of the words `$session`, `$secret` and `$used`, and the count of the frames that the player
    /// has processed in that of `$received`.
    fn fill(&self, value: &mut Value, received: usize) {
        match value {
            Value::String(text) => match text.as_str() {
                "$session" => *text = self.session.clone(),
                "$secret" => *text = self.secret.clone(),
                "$used" => *text = self.used.clone().unwrap_or_default(),
                "$received" => *value = Value::from(received),
                _ => {}
            },
            Value::Object(fields) => fields.values_mut().for_each(|value| self.fill(value, received)),
            Value::Array(list) => list.iter_mut().for_each(|value| self.fill(value, received)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

impl Talk<'_> {
    /// Returns the frame with the session and the secrets of the offer in it, where it names them.
    ///
    /// # Errors
    /// When it does and there is no offer: the subject does not offer resumption.
    pub(super) fn filled(&self, spec: &FrameSpec) -> Result<FrameSpec, Stop> {
        let mut spec = spec.clone();
        let Some(message) = spec.message.as_mut().filter(|message| message.to_string().contains("\"$")) else {
            return Ok(spec);
        };
        self.offer.as_ref().ok_or_else(no_offer)?.fill(message, self.heard.counted.len());
        Ok(spec)
    }

    /// An agent that never resumes must not be offered to.
    pub(super) fn check_wish(&self, welcome: &Value, hello: &Value) -> Result<(), Stop> {
        let wished = hello.get("resume_window_ms").and_then(Value::as_u64).unwrap_or(0) > 0;
        let offered = self.scenario.side == Side::Agent && welcome.get("resume").is_some();
        if offered && !wished { Err(no_offer()) } else { Ok(()) }
    }

    /// Resumes the session over another link: both sides say what they processed, and say again what was not.
    pub(super) fn resume(&mut self, changes: &Value) -> Result<(), Stop> {
        let offer = self.offer.take().ok_or_else(no_offer)?;
        self.redial()?;
        let before = core::mem::take(&mut self.heard.counted);
        let (ours, theirs) = match self.scenario.side {
            Side::Network => self.ask(&offer, before.len(), changes)?,
            Side::Agent => self.consent(&offer, before.len(), changes)?,
        };
        if theirs > self.sent.len() {
            return failed(&format!("a count of at most {}", self.sent.len()), &theirs.to_string());
        }
        self.heard.counted.splice(0..0, before.iter().take(ours).cloned());
        for frame in self.sent.split_off(theirs) {
            self.subject.hear(&frame);
            self.sent.push(frame);
        }
        self.listen()?;
        while self.heard.counted.len() < before.len() && self.hear_more()? {}
        for (place, (again, first)) in self.heard.counted.iter().zip(&before).enumerate() {
            if again != first {
                return failed(&format!("counted frame {} as it was said before", place + 1), &format!("{again:02x?}"));
            }
        }
        if self.heard.counted.len() < before.len() {
            return failed(&format!("{} counted frames again", before.len() - ours), "fewer");
        }
        self.answer_ping()
    }

    /// Asks a network to resume; returns what the player and what the network have processed.
    fn ask(&mut self, offer: &Offer, received: usize, changes: &Value) -> Result<(usize, usize), Stop> {
        let mut hello = parse(HELLO)?;
        let resume = json!({ "session": offer.session, "secret": offer.secret, "received": received });
        merge(&mut hello, &json!({ "resume": resume, "resume_window_ms": 30_000 }));
        merge(&mut hello, changes);
        let frame = self.player.frame("Hello", 0, &self.player.written("Hello", &hello)?)?;
        self.subject.hear(&frame);
        let welcome = self.hear_answer()?;
        self.offer = Offer::of(&hello, &welcome, Side::Network);
        let ours = count(hello.pointer("/resume/received"));
        self.renew(offer);
        match welcome.get("resumed") {
            Some(resumed) => Ok((ours, count(Some(resumed)))),
            None => failed("Welcome with `resumed`", &welcome.to_string()),
        }
    }

    /// Consents to an agent that asks to resume; returns what the player and what the agent have processed.
    fn consent(&mut self, offer: &Offer, received: usize, changes: &Value) -> Result<(usize, usize), Stop> {
        let hello = self.hear_answer()?;
        let text = |path: &str| hello.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        if (text("/resume/session"), text("/resume/secret")) != (offer.session.clone(), offer.secret.clone()) {
            return failed("Hello that resumes the session with its secret", &hello.to_string());
        }
        let next: String = offer.secret.chars().rev().collect();
        let mut welcome = parse(WELCOME)?;
        let resume = json!({ "secret": next, "window_ms": 30_000 });
        merge(&mut welcome, &json!({ "session": offer.session, "resume": resume, "resumed": received }));
        merge(&mut welcome, changes);
        let octets = self.player.written("Welcome", &welcome)?;
        let frame = self.player.frame("Welcome", 0, &octets)?;
        self.subject.hear(&frame);
        self.offer = Offer::of(&welcome, &hello, Side::Agent);
        self.renew(offer);
        Ok((count(welcome.get("resumed")), count(hello.pointer("/resume/received"))))
    }

    fn renew(&mut self, used: &Offer) {
        if let Some(offer) = &mut self.offer {
            offer.used = Some(used.secret.clone());
        }
    }
}

fn count(value: Option<&Value>) -> usize {
    value.and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}

fn no_offer() -> Stop {
    Stop::NotImplemented("resumption: it is not offered".to_owned())
}
