//! What an action sees and may do.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::{Answer, Ask, Change, Failure, Now, Outcome, store::Store};
use crate::{
    actions::{Fetching, Pass, TerminateTls},
    body::{MAX_REPLACEMENTS, Wish},
    cel::{Budget, Value},
    document::{Data, Template},
    environment::{Exchange, Phase},
};

/// The most octets of a body that an action looks at whole.
pub const MOST_BODY: usize = 1 << 20;

/// What an action gives.
#[derive(Debug)]
pub enum Effect {
    /// The next action.
    Next,
    /// Changes, and the next action, which sees them.
    Change(Vec<Change>),
    /// A question: the action is done again with its answer.
    Ask(Ask),
    /// The end of the phase.
    End(Outcome),
}

/// What actions have gathered.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) logs: Vec<Vec<(String, Value<'static>)>>,
    pub(super) transforms: Vec<Wish>,
    pub(super) tls: Option<Arc<TerminateTls>>,
    /// The body, once an action has asked for it: nothing in it when it is too large.
    pub(super) body: Option<Option<Arc<[u8]>>>,
}

/// What an action sees and may do.
#[derive(Debug)]
pub struct Turn<'t, 'a> {
    /// What is known.
    pub facts: &'t mut Exchange<'a>,
    /// The time.
    pub now: Now,
    /// The phase.
    pub phase: Phase,
    /// The answer to what the action asked last.
    pub answer: Option<Answer>,
    /// What the action keeps while it asks.
    pub(crate) kept: &'t mut Option<Box<Fetching>>,
    /// What is left of the budget of the phase.
    pub budget: &'t mut Budget,
    pub(super) tells: bool,
    pub(super) vars: &'t mut Store,
    pub(super) results: &'t mut Store,
    pub(super) passes: &'t mut Vec<Pass>,
    pub(super) gathered: &'t mut Gathered,
}

impl Turn<'_, '_> {
    /// Returns whether an expression of the policy may read what actions tell.
    pub fn tells(&self) -> bool {
        self.tells
    }

    /// Tells `actions.ngrok.<action>`: these entries, and an `error` that has no code, as there is none.
    pub(crate) fn tell<const N: usize>(
        &mut self,
        action: &'static str,
        entries: [(&str, Value<'static>); N],
    ) -> Result<(), Failure> {
        self.tell_error(action, entries, ("", String::new()))
    }

    /// Tells `actions.ngrok.<action>` with an error: its code and a message.
    pub(crate) fn tell_error<const N: usize>(
        &mut self,
        action: &'static str,
        entries: [(&str, Value<'static>); N],
        (code, message): (&'static str, String),
    ) -> Result<(), Failure> {
        let error = vec![("code".into(), code.into()), ("message".into(), message.into())];
        let error = Value::map(error, self.budget).map_err(Failure::of)?;
        let entries = entries.into_iter().map(|(name, value)| (Value::from(name.to_owned()), value));
        let entries = entries.chain([(Value::from("error"), error)]).collect();
        let told = Value::map(entries, self.budget).map_err(Failure::of)?;
        self.results.set(action, told, self.budget).map_err(Failure::of)?;
        self.facts.results = self.results.map();
        Ok(())
    }

    /// Returns the whole body of the request, nothing when it has more than [`MOST_BODY`]; or what is to be asked first. What one
    /// action has asked for, later ones have.
    ///
    /// # Errors
    /// The question.
    pub(crate) fn body(&mut self) -> Result<Option<Arc<[u8]>>, Ask> {
        if let Some(Answer::Body(body)) = self.answer.take_if(|answer| matches!(answer, Answer::Body(_))) {
            self.gathered.body = Some(body.map(Arc::from));
        }
        self.gathered.body.clone().ok_or(Ask::Body { most: MOST_BODY })
    }

    /// Sets a variable.
    pub(crate) fn set(&mut self, name: &str, value: Value<'static>) -> Result<(), Failure> {
        self.vars.set(name, value, self.budget).map_err(Failure::of)?;
        self.facts.vars = self.vars.map();
        Ok(())
    }

    /// Tells something with what is told of the connection or request.
    pub(crate) fn log(&mut self, told: Vec<(String, Value<'static>)>) {
        self.gathered.logs.push(told);
    }

    /// Lets the body go through something more.
    pub(crate) fn transform(&mut self, wish: Wish) -> Result<(), Failure> {
        self.gathered.transforms.push(wish);
        let replacements: usize = self.gathered.transforms.iter().map(Wish::replacements).sum();
        if replacements > MAX_REPLACEMENTS { Err(Failure::Replacements) } else { Ok(()) }
    }

    /// Pays for something that is made.
    pub(crate) fn pay(&mut self, octets: usize, steps: u64) -> Result<(), Failure> {
        self.budget.make(octets).and_then(|()| self.budget.step(steps)).map_err(Failure::of)
    }

    /// Says how TLS ends here.
    pub(crate) fn terminate(&mut self, tls: &Arc<TerminateTls>) {
        self.gathered.tls = Some(Arc::clone(tls));
    }

    /// Waits for what comes of the call of the upstream.
    pub(crate) fn arm(&mut self, pass: Pass) {
        self.passes.push(pass);
    }

    /// Renders a text.
    pub(crate) fn render(&mut self, template: &Template) -> Result<String, Failure> {
        if let Some(text) = template.constant() {
            return Ok(text.to_owned());
        }
        template.render(&*self.facts, self.budget).map_err(Failure::Expression)
    }

    /// Renders the value of a header. What a caller sent may be in it: a control character never gets into a header.
    pub(crate) fn header(&mut self, template: &Template) -> Result<HeaderValue, Failure> {
        let text = self.render(template)?;
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err(Failure::Header);
        }
        HeaderValue::try_from(text).map_err(|_| Failure::Header)
    }

    /// Evaluates a value.
    pub(crate) fn data(&mut self, data: &Data) -> Result<Value<'static>, Failure> {
        data.evaluate(&*self.facts, self.budget).map_err(Failure::Expression)
    }

    /// Makes a map.
    pub(crate) fn map(&mut self, entries: Vec<(String, Value<'static>)>) -> Result<Value<'static>, Failure> {
        let entries = entries.into_iter().map(|(name, value)| (Value::from(name), value)).collect();
        Value::map(entries, self.budget).map_err(Failure::of)
    }

    /// Makes a list.
    pub(crate) fn list(&mut self, elements: Vec<Value<'static>>) -> Result<Value<'static>, Failure> {
        Value::list(elements, self.budget).map_err(Failure::of)
    }

    /// Returns whether the message of the phase has a header.
    pub(crate) fn has_header(&self, name: &HeaderName) -> bool {
        match self.phase {
            Phase::TcpConnect => false,
            Phase::HttpRequest => self.facts.request().is_some_and(|it| it.head().headers.contains_key(name)),
            Phase::HttpResponse => self.facts.response().is_some_and(|it| it.has(name)),
        }
    }
}
