//! Who gets a session, and who gets one back.

use alloc::{boxed::Box, collections::BTreeMap, format, vec::Vec};

use super::{Held, Node, Origin, counts, refusal};
use crate::{
    AgentId, AuthRequest, Cause, Code, Config, Event, Hello, Instant, Link, Resume, ResumeOffer, Secret, SessionId,
    frame::Kind,
    side,
    testing::{
        a_hello, encoded, raw,
        sim::{
            Broken,
            ground::Ground,
            ledger::Ledger,
            plan::Refusing,
            port::{Port, name_of, number_of},
        },
    },
};

impl Node {
    pub(super) fn run_strangers(&mut self, ground: &mut Ground, now: Instant) -> Result<bool, Broken> {
        let mut moved = false;
        for mut port in core::mem::take(&mut self.strangers) {
            moved |= port.pump(ground, now)?;
            let mut asked = None;
            while let Some(event) = port.events.pop_front() {
                moved = true;
                if let Event::Hello(request) = event {
                    asked = Some(request);
                }
            }
            match asked {
                Some(request) => self.admit(request, port, ground, now)?,
                None => self.strangers.push(port),
            }
        }
        Ok(moved)
    }

    fn admit(
        &mut self,
        request: AuthRequest,
        mut port: Box<Port<side::Network>>,
        ground: &mut Ground,
        now: Instant,
    ) -> Result<(), Broken> {
        let no = match self.refuses(ground.now) {
            Some(Refusing::Busy) => Some(refusal(Code::BUSY, None)),
            Some(Refusing::BusyFor(delay)) => Some(refusal(Code::BUSY, Some(delay))),
            Some(Refusing::Credentials) => Some(refusal(Code::CREDENTIALS, None)),
            Some(Refusing::Silent) => {
                self.strangers.push(port);
                return Ok(()); // spec: PRE-004
            }
            Some(Refusing::Binds) | None => None,
        };
        match (no, &request.hello().resume) {
            (Some(no), _) => port.link.refuse(request, no, now),
            (None, Some(resume)) => {
                let number = number_of(resume.session);
                return self.resume(number, request, port, ground, now);
            }
            (None, None) => return self.welcome(request, port, ground, now),
        }
        self.strangers.push(port);
        Ok(())
    }

    fn welcome(
        &mut self,
        request: AuthRequest,
        mut port: Box<Port<side::Network>>,
        ground: &mut Ground,
        now: Instant,
    ) -> Result<(), Broken> {
        let origin = origin_of(request.hello());
        let agent = ground.seated(origin)?;
        let given_up = |held: &&mut Held| held.origin.gives_way(&origin) && held.port.link.is_parked(); // spec: AUTH-005
        for held in self.sessions.values_mut().filter(given_up) {
            held.port.link.close(Code::REPLACED, "the agent began another session", now);
        }
        let number = ground.ledgers.len();
        let mut welcome = request.welcome(name_of(number), "local", "node");
        welcome.resume = self.offer();
        let secret = welcome.resume.as_ref().map(|offer| offer.secret.clone());
        let theirs = ground.agents.get(agent).ok_or_else(|| Broken::new("harness", "an agent that is nobody"))?;
        let configs = [theirs, &self.plan.config];
        ground.ledgers.push(Ledger::new([agent, self.number], origin.incarnation, configs, secret));
        port.ledger = Some(number);
        port.link.accept(request, welcome, now);
        if port.link.session().is_none() {
            self.strangers.push(port); // it ended before it was answered
            return Ok(());
        }
        if self.draining
            && let Some(session) = port.link.session_mut()
        {
            session.drain(Code::SHUTDOWN, None, "the node stops", now);
        }
        ground.report.sessions += 1;
        ground.say(|| format!("node {}: agent {agent} gets session {number}", self.number));
        let held = Held {
            port: *port,
            origin,
            binds: Vec::new(),
            asked: BTreeMap::new(),
            shared: ground.place(agent)?.shared,
            parked: None,
            resumed_at: None,
            drains: self.draining,
            over: false,
        };
        self.sessions.insert(number, held);
        Ok(())
    }

    fn resume(
        &mut self,
        number: usize,
        request: AuthRequest,
        mut port: Box<Port<side::Network>>,
        ground: &mut Ground,
        now: Instant,
    ) -> Result<(), Broken> {
        let origin = origin_of(request.hello());
        let agent = ground.seated(origin)?;
        let received = request.hello().resume.as_ref().map(|resume| resume.received).unwrap_or_default();
        let shown = request.hello().resume.as_ref().map(|resume| resume.secret.clone()).unwrap_or_default();
        let ended = port.link.cause().is_some();
        let mut welcome = request.welcome(SessionId::default(), "local", "node");
        welcome.resume = self.offer();
        let secret = welcome.resume.as_ref().map(|offer| offer.secret.clone());
        let Some(held) =
            self.sessions.get_mut(&number).filter(|held| held.origin.program == origin.program && !held.over)
        else {
            port.link.refuse(request, refusal(Code::RESUME_UNKNOWN, None), now); // spec: RES-013
            self.strangers.push(port);
            return Ok(());
        };
        let confirmed = held.is_confirmed();
        let kept = !ended && (held.port.link.is_parked() || held.port.link.is_established());
        match port.link.resume(request, &mut held.port.link, welcome, now) {
            Ok(()) => {
                let ledger = ground.ledger(number)?;
                let again = !confirmed && ledger.shown.as_ref() == Some(&shown);
                if ledger.secrets.last() != Some(&shown) && !again {
                    return Err(Broken::new(
                        "RES-006",
                        format!("session {number} is resumed with a secret that was used"),
                    ));
                }
                if ledger.agent != agent {
                    return Err(Broken::new("AUTH-008", format!("session {number} is taken by {origin:?}")));
                }
                ledger.shown = Some(shown);
                ledger.go_on(crate::Role::Network, received)?;
                ledger.secrets.extend(secret);
                port.ledger = Some(number);
                let mut old = core::mem::replace(&mut held.port, *port);
                core::mem::swap(&mut held.port.events, &mut old.events);
                if old.link.session().is_some() || old.link.is_established() {
                    return Err(Broken::new("RES-008", format!("session {number} has two links")));
                }
                (held.parked, held.resumed_at) = (None, held.port.link.session().map(counts));
                self.strangers.push(Box::new(old));
                ground.report.resumed += 1;
                ground.say(|| format!("node {}: session {number} goes on behind {received} frames", self.number));
            }
            Err(request) => {
                // What ended in the very moment when it was asked for is no more to be given back.
                if kept && held.port.link.cause() != Some(&Cause::ResumeExpired) {
                    let text = format!("session {number} was kept and is not given back to its agent");
                    return Err(Broken::new("RES-012", text));
                }
                ground.say(|| format!("node {}: session {number} is not given back", self.number));
                port.link.refuse(request, refusal(Code::RESUME_UNKNOWN, None), now);
                self.strangers.push(port);
            }
        }
        Ok(())
    }

    fn offer(&mut self) -> Option<ResumeOffer> {
        let window = self.plan.config.resume_window;
        let secret: Vec<u8> = (0..4).flat_map(|_| self.dice.seed().to_be_bytes()).collect();
        (!window.is_zero()).then(|| ResumeOffer { secret: Secret::new(secret), window })
    }

    /// L13: lets a stranger ask for each session with what it must not be given for. RES-021: so may the agent itself have
    /// asked, before what it was given.
    pub(in crate::testing::sim) fn rob(&mut self, ground: &mut Ground) -> Result<(), Broken> {
        let now = self.clock.read(ground.now);
        for (number, held) in self.sessions.iter_mut().filter(|(_, held)| !held.over) {
            held.port.link.handle_timeout(now);
            let Some(session) = held.port.link.session().filter(|session| session.over().is_none()) else { continue };
            let confirmed = held.is_confirmed();
            let theirs = ground.secrets_of_siblings(*number)?;
            let ledger = ground.ledger(*number)?;
            let Some((newest, older)) = ledger.secrets.split_last() else { continue };
            let shown = ledger.shown.as_ref().filter(|_| !confirmed);
            let attempt = |number, secret: &Secret, received| Resume {
                session: name_of(number),
                secret: secret.clone(),
                received,
                attempt: u64::MAX,
            };
            let mut attempts: Vec<Resume> = older
                .iter()
                .filter(|secret| shown != Some(secret))
                .map(|secret| attempt(*number, secret, session.sent()))
                .collect();
            attempts.push(attempt(*number, &Secret::new([0xee; 32]), session.sent()));
            attempts.push(attempt(*number, &Secret::default(), session.sent()));
            attempts.push(attempt(*number, newest, session.sent() + 1));
            attempts.push(attempt(*number + 1, newest, session.sent()));
            attempts.extend(theirs.iter().map(|secret| attempt(*number, secret, session.sent())));
            if let Some(shown) = shown {
                attempts.push(Resume { attempt: 0, ..attempt(*number, shown, session.sent()) }); // one that was given up
            }
            let before = format!("{:?}", held.port.link);
            for attempt in attempts {
                ground.report.thefts += 1;
                let Some((mut link, request)) = ask(&self.plan.config, attempt, now) else { continue };
                let welcome = request.welcome(name_of(*number), "", "");
                if link.resume(request, &mut held.port.link, welcome, now).is_ok() {
                    return Err(Broken::new("L13", format!("session {number} was given to a thief")));
                }
            }
            if before != format!("{:?}", held.port.link) {
                return Err(Broken::new("L13", format!("session {number} was changed by a thief")));
            }
        }
        Ok(())
    }
}

/// Returns a link on which a resume was asked for.
fn ask(config: &Config, resume: Resume, now: Instant) -> Option<(Link<side::Network>, AuthRequest)> {
    let mut link = Link::<side::Network>::new(config.clone(), 0, now);
    let hello = Hello { resume: Some(resume), resume_window: config.resume_window, ..a_hello() };
    link.handle_input(&raw(Kind::Hello.number(), 0, &encoded(&hello)), now);
    match link.poll_event() {
        Some(Event::Hello(request)) => Some((link, request)),
        _ => None,
    }
}

/// Returns the name of an agent.
pub(in crate::testing::sim) fn agent_name(agent: usize) -> AgentId {
    let mut octets = [0xa9; 16];
    octets[..8].copy_from_slice(&(agent as u64).to_be_bytes());
    AgentId(octets)
}

fn origin_of(hello: &Hello) -> Origin {
    let program = u64::from_be_bytes(hello.agent.0.first_chunk().copied().unwrap_or_default());
    let program = usize::try_from(program).unwrap_or(usize::MAX);
    Origin { program, incarnation: hello.incarnation, lane: hello.lane }
}
