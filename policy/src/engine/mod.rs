//! Runs the rules of a phase: facts go in, a decision comes out.
//!
//! Rules are taken in their order. When all expressions of a rule are true, its actions are done in their order. What a rule has
//! changed, later rules see. An action that ends the phase is the last.
//!
//! **It fails closed.** An expression that has no value, a text that cannot be written, a phase that costs more than its budget: each refuses
//! with 500. There is one exception: a `log` that cannot be written is passed over, and so is a rule that has nothing else.
//!
//! The engine does no IO. When an action needs the world, [`Run::step`] returns an [`Ask`], and is called again with the [`Answer`].
//!
//! ```
//! use std::{sync::Arc, time::Instant};
//!
//! use adit_policy::{
//!     cel::Timestamp,
//!     document::Document,
//!     engine::{Carried, Now, Outcome, Policy, Step, Subject},
//!     environment::{Connection, Endpoint, Phase},
//! };
//!
//! let document = Document::parse("
//! on_http_request:
//!   - expressions: [\"req.url.path.startsWith('/admin')\"]
//!     actions: [{type: deny, config: {status_code: 404}}]
//!   - actions: [{type: add-headers, config: {headers: {x-from: \"${conn.client_ip}\"}}}]
//! ").expect("a document");
//! let policy = Arc::new(Policy::new(document));
//! let now = Now { time: Timestamp::new(0, 0).expect("in range"), instant: Instant::now() };
//! let [client, server] = ["192.0.2.7:40000", "192.0.2.1:443"].map(|text| text.parse().expect("an address"));
//! let connection = Connection::new(client, server, now.time, None);
//! let endpoint = Endpoint { id: "ep", protocol: "https", host: "a.example", port: 443 };
//! let (mut request, ()) = http::Request::get("https://a.example/").body(()).expect("a request").into_parts();
//!
//! let mut subject = Subject::new(&connection, endpoint).with_request(&mut request, now.time);
//! let mut run = policy.begin(Phase::HttpRequest, Carried::default());
//! assert!(matches!(run.step(&mut subject, now, None), Step::Done(Outcome::Continue)));
//! assert_eq!(request.headers["x-from"], "192.0.2.7");
//! ```

mod ask;
mod outcome;
mod store;
mod subject;
mod trace;
mod turn;

use std::{sync::Arc, time::Instant};

pub use self::{
    ask::{Answer, Ask, Fetch, FetchError, Keys, Unavailable},
    outcome::{Failure, Outcome, Refusal, Why},
    subject::{Change, Subject},
    trace::{Entry, Trace, Verdict},
    turn::{Effect, MOST_BODY, Turn},
};
use self::{store::Store, turn::Gathered};
use crate::{
    actions::{Action, Fetching, ForwardInternal, Pass, TerminateTls},
    body::{Wish, is_event_stream},
    cel::{Budget, Program, Timestamp, Value},
    document::{Document, Rule},
    environment::{Connection, Endpoint, Exchange, Phase},
};

/// What a phase may cost: some milliseconds at the very most.
const BUDGET: Budget = Budget::new(100_000, 1 << 20);

/// A policy in force: its rules, and what they count.
#[derive(Debug)]
pub struct Policy {
    document: Document,
    /// Whether an expression may read what actions tell: else none is told.
    tells: bool,
}

impl Policy {
    /// Takes a document into force.
    pub fn new(document: Document) -> Self {
        let tells = document.reads_results();
        Self { document, tells }
    }

    /// Takes a document into force after another one. What `rate-limit` and `circuit-breaker` count goes on where one is configured alike,
    /// the first with the first: a reload lets nobody begin anew.
    pub fn succeed(mut document: Document, old: &Self) -> Self {
        for phase in Phase::ALL {
            let mut before: Vec<&Action> = old.document.rules(phase).iter().flat_map(|rule| &rule.actions).collect();
            for action in document.rules_mut(phase).iter_mut().flat_map(|rule| &mut rule.actions) {
                if let Some(at) = before.iter().position(|old| action.inherit(old)) {
                    before.remove(at);
                }
            }
        }
        Self::new(document)
    }

    /// Returns every way in which TLS may end here.
    pub fn tls(&self) -> impl Iterator<Item = &Arc<TerminateTls>> {
        self.document
            .rules(Phase::TcpConnect)
            .iter()
            .flat_map(|rule| &rule.actions)
            .filter_map(|action| if let Action::TerminateTls(tls) = action { Some(tls) } else { None })
    }

    /// Returns whether it depends on expressions in which of these ways TLS ends.
    pub fn tls_depends(&self) -> bool {
        self.tls_rules().any(|rule| !rule.expressions.is_empty())
    }

    /// Returns what those expressions read and nobody knows before the handshake: what it agrees on, and what other rules set or tell.
    pub fn tls_needs(&self) -> Option<&'static str> {
        let environment = Phase::TcpConnect.environment();
        let programs = self.tls_rules().flat_map(|rule| &rule.expressions);
        let mut read = programs.flat_map(Program::attributes).filter_map(|attribute| environment.name(attribute));
        read.find(|name| matches!(name.split('.').next(), Some("vars" | "actions")) || name.starts_with("conn.tls."))
    }

    /// Chooses the way in which TLS ends for a caller whose handshake is still to come, by its place in [`Self::tls`]: the last one
    /// whose rule has only expressions that are true.
    ///
    /// # Errors
    /// An expression has no truth value: nobody can say what is asked of the caller.
    pub fn choose_tls(
        &self,
        connection: &Connection,
        endpoint: Endpoint<'_>,
        now: Timestamp,
    ) -> Result<Option<usize>, Failure> {
        let facts = Exchange::new(connection, endpoint, now);
        let (mut budget, mut ways, mut chosen) = (BUDGET, 0, None);
        for rule in self.tls_rules() {
            ways += rule.actions.iter().filter(|action| matches!(action, Action::TerminateTls(_))).count();
            if is_true(&rule.expressions, &facts, &mut budget)? {
                chosen = Some(ways - 1);
            }
        }
        Ok(chosen)
    }

    fn tls_rules(&self) -> impl Iterator<Item = &Rule> {
        let ends = |rule: &&Rule| rule.actions.iter().any(|action| matches!(action, Action::TerminateTls(_)));
        self.document.rules(Phase::TcpConnect).iter().filter(ends)
    }

    /// Returns every forward of a phase.
    pub fn forwards(&self, phase: Phase) -> impl Iterator<Item = &ForwardInternal> {
        self.document
            .rules(phase)
            .iter()
            .flat_map(|rule| &rule.actions)
            .filter_map(|action| if let Action::ForwardInternal(forward) = action { Some(forward) } else { None })
    }

    /// Returns the document.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Returns whether a rule replaces in answers: then an upstream is to be [asked for what can be
    /// searched](crate::body::ask_for_whole).
    pub fn replaces_in_answers(&self) -> bool {
        let replaces =
            |action: &Action| matches!(action, Action::ResponseBodyFindReplace(_) | Action::SseFindReplace(_));
        self.document.rules(Phase::HttpResponse).iter().flat_map(|rule| &rule.actions).any(replaces)
    }

    /// Returns whether a phase has rules.
    pub fn has(&self, phase: Phase) -> bool {
        !self.document.rules(phase).is_empty()
    }

    /// Begins a phase, with what earlier phases have handed on.
    pub fn begin(self: &Arc<Self>, phase: Phase, carried: Carried) -> Run {
        Run {
            policy: Arc::clone(self),
            phase,
            at: At::default(),
            kept: None,
            budget: BUDGET,
            vars: Store::default(),
            carried,
            gathered: Gathered::default(),
            trace: Trace::new(phase),
        }
    }
}

/// The time of a step.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The time of the day, for expressions.
    pub time: Timestamp,
    /// The time that only goes forward, for what is counted.
    pub instant: Instant,
}

/// What one phase hands on to the next: what actions have told.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    results: Store,
    passes: Vec<Pass>,
}

impl Carried {
    /// Tells the breakers of the rules that the upstream has answered with a status, or that it has not answered at all. A call that
    /// nobody waited for says nothing.
    pub fn conclude(&mut self, status: Option<http::StatusCode>, now: Instant) {
        let well = status.is_some_and(|status| !status.is_server_error());
        for pass in self.passes.drain(..) {
            pass.conclude(well, now);
        }
    }
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Ask the world, and call [`Run::step`] with what it answers.
    Ask(Ask),
    /// The phase is over.
    Done(Outcome),
}

/// The rules of one phase, as they are evaluated for one connection, request or response.
#[derive(Debug)]
pub struct Run {
    policy: Arc<Policy>,
    phase: Phase,
    at: At,
    /// What the action keeps while it asks.
    kept: Option<Box<Fetching>>,
    budget: Budget,
    vars: Store,
    carried: Carried,
    gathered: Gathered,
    trace: Trace,
}

/// What is to be done next: the expressions of a rule, or one of its actions.
#[derive(Clone, Copy, Debug, Default)]
struct At {
    rule: usize,
    action: Option<usize>,
}

impl Run {
    /// Goes on until the world is asked or the phase is over. `answer` is what the last [`Ask`] came to. After
    /// [`Outcome::Forward`] with a fallback, it may be called once more with [`Answer::Unreachable`].
    pub fn step(&mut self, subject: &mut Subject<'_>, now: Now, answer: Option<Answer>) -> Step {
        let policy = Arc::clone(&self.policy);
        let rules = policy.document.rules(self.phase);
        let mut answer = answer;
        loop {
            let mut facts = subject.exchange(now.time, self.vars.map(), self.carried.results.map());
            let pause = self.stretch(rules, &mut facts, now, &mut answer);
            let seed = facts.seed();
            drop(facts);
            subject.reseed(seed);
            match pause {
                Pause::Change(changes) => {
                    for change in changes {
                        subject.apply(self.phase, change);
                    }
                }
                Pause::Step(step) => return step,
            }
        }
    }

    /// Does what can be done without a change of the facts.
    fn stretch(&mut self, rules: &[Rule], facts: &mut Exchange<'_>, now: Now, answer: &mut Option<Answer>) -> Pause {
        while let Some(rule) = rules.get(self.at.rule) {
            let first = match self.at.action {
                Some(action) => action,
                None => match self.matches(rule, facts) {
                    Ok(true) => 0,
                    Ok(false) => {
                        self.at = At { rule: self.at.rule + 1, action: None };
                        continue;
                    }
                    Err(failure) if is_passed_over(rule, &failure) => {
                        self.at = At { rule: self.at.rule + 1, action: None };
                        continue;
                    }
                    Err(failure) => return Pause::refuse(failure),
                },
            };
            for (at, action) in rule.actions.iter().enumerate().skip(first) {
                self.at.action = Some(at);
                let mut turn = Turn {
                    facts,
                    now,
                    phase: self.phase,
                    answer: answer.take(),
                    kept: &mut self.kept,
                    tells: self.policy.tells,
                    budget: &mut self.budget,
                    vars: &mut self.vars,
                    results: &mut self.carried.results,
                    passes: &mut self.carried.passes,
                    gathered: &mut self.gathered,
                };
                let effect = action.act(&mut turn);
                let verdict = Verdict::of(&effect);
                self.trace.add(self.at.rule, self.at.action, verdict);
                match effect {
                    Ok(Effect::Next) => {}
                    Ok(Effect::Change(changes)) => {
                        self.at.action = Some(at + 1);
                        return Pause::Change(changes);
                    }
                    Ok(Effect::Ask(ask)) => return Pause::Step(Step::Ask(ask)),
                    Ok(Effect::End(outcome)) => return Pause::Step(Step::Done(outcome)),
                    // That nothing was told lets nobody pass.
                    Err(failure) if matches!(action, Action::Log(_)) && !failure.is_limit() => {}
                    Err(failure) => return Pause::refuse(failure),
                }
            }
            self.at = At { rule: self.at.rule + 1, action: None };
        }
        Pause::Step(Step::Done(Outcome::Continue))
    }

    /// Returns whether all expressions of a rule are true.
    fn matches(&mut self, rule: &Rule, facts: &Exchange<'_>) -> Result<bool, Failure> {
        if rule.of_events && !facts.response().is_some_and(|response| is_event_stream(response.map())) {
            self.trace.add(self.at.rule, None, Verdict::NotMatched);
            return Ok(false);
        }
        let verdict = is_true(&rule.expressions, facts, &mut self.budget);
        let told = match &verdict {
            Ok(true) => Verdict::Matched,
            Ok(false) => Verdict::NotMatched,
            Err(failure) => Verdict::Failed(failure.clone()),
        };
        self.trace.add(self.at.rule, None, told);
        verdict
    }

    /// Returns the phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns what came of each rule and action so far.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Returns what `log` has told so far, and forgets it.
    pub fn take_logs(&mut self) -> Vec<Vec<(String, Value<'static>)>> {
        core::mem::take(&mut self.gathered.logs)
    }

    /// Returns what the body goes through, the first one first, and forgets it.
    pub fn take_transforms(&mut self) -> Vec<Wish> {
        core::mem::take(&mut self.gathered.transforms)
    }

    /// Returns how TLS ends here, if a rule has said so: the handshake follows.
    pub fn tls(&self) -> Option<&Arc<TerminateTls>> {
        self.gathered.tls.as_ref()
    }

    /// Returns what is handed on to the next phase.
    pub fn into_carried(self) -> Carried {
        self.carried
    }
}

/// Returns whether all of these are true; those after the first that is not are not asked.
fn is_true(expressions: &[Program], facts: &Exchange<'_>, budget: &mut Budget) -> Result<bool, Failure> {
    for program in expressions {
        match program.evaluate(facts, budget) {
            Ok(Value::Bool(true)) => {}
            Ok(Value::Bool(false)) => return Ok(false),
            Ok(_) => return Err(Failure::NoBool),
            Err(error) => return Err(Failure::Expression(error)),
        }
    }
    Ok(true)
}

enum Pause {
    Change(Vec<Change>),
    Step(Step),
}

impl Pause {
    fn refuse(failure: Failure) -> Self {
        Self::Step(Step::Done(Outcome::Refuse(Refusal::new(500, Why::Failed(failure)))))
    }
}

/// Returns whether nobody passes who should not when a rule is passed over: it only tells. A limit ends the phase whatever the rule.
fn is_passed_over(rule: &Rule, failure: &Failure) -> bool {
    !failure.is_limit() && rule.actions.iter().all(|action| matches!(action, Action::Log(_)))
}
