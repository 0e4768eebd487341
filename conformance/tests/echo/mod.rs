//! The application of the scenarios, on a link alone with a virtual clock.

mod desk;

use std::collections::{BTreeMap, VecDeque};

use adit_conformance::{Bound, Lack, Subject};
use adit_core::{
    AuthRequest, BindId, Code, CommandResult, Config, Duration, Event, Link, Open, ReadError, Refusal, ResumeOffer,
    Secret, Session, SessionId, StreamId, Welcome,
    side::{Agent, Network},
    testing::{Lone, a_hello},
};
use bytes::Bytes;
use serde_json::Value;

/// The application of the scenarios, on a link alone.
pub(crate) struct Echo<S: adit_core::Side> {
    config: Config,
    lone: Lone<S>,
    /// The link before, whose session may be resumed.
    old: Option<Link<S>>,
    links: u8,
    streams: BTreeMap<StreamId, Line>,
    /// Binds whose end is that of the session.
    drains: Vec<BindId>,
    bound: Bound,
    /// What the application was told.
    told: VecDeque<Value>,
    on_event: fn(&mut Self, Event),
    next_link: fn(&mut Self),
    on_act: fn(&mut Self, &Value) -> Option<bool>,
}

/// What is on its way on one stream, and comes back on it unless the application opened it itself.
#[derive(Default)]
struct Line {
    back: Bytes,
    over: bool,
    mine: bool,
    finishing: bool,
}

impl Echo<Network> {
    pub(crate) fn network(config: Config) -> Self {
        let lone = Lone::network(config.clone());
        Self::new(config, lone, Self::on_network_event, Self::listen_again, Self::act_as_network)
    }

    fn listen_again(&mut self) {
        let now = self.lone.now();
        let link = Link::<Network>::new(self.config.clone(), u64::from(self.links), now);
        let last = core::mem::replace(&mut self.lone.link, link);
        if last.session().is_some() {
            self.old = Some(last); // a link that was refused has taken nothing
        }
    }

    fn answer(&mut self, request: AuthRequest) {
        let now = self.lone.now();
        let secret = Secret::new([self.links; 32]);
        let offer = Some(ResumeOffer { secret, window: Duration::from_secs(30) });
        let welcome = |request: &AuthRequest| Welcome { resume: offer, ..request.welcome(SessionId([7; 16]), "", "") };
        if request.hello().token.expose() == b"no" {
            self.lone.link.refuse(request, refusal(Code::CREDENTIALS), now);
        } else if request.hello().resume.is_none() {
            let welcome = welcome(&request);
            self.lone.link.accept(request, welcome, now);
        } else {
            let welcome = welcome(&request);
            let resumed = match &mut self.old {
                Some(old) => self.lone.link.resume(request, old, welcome, now),
                None => Err(request),
            };
            if let Err(request) = resumed {
                self.lone.link.refuse(request, refusal(Code::RESUME_UNKNOWN), now);
            }
        }
    }

    fn on_network_event(&mut self, event: Event) {
        let now = self.lone.now();
        if let Event::Hello(request) = event {
            self.answer(request);
        } else if let Event::Bind(request) = event {
            let (id, url) = (request.bind().id, request.bind().url.clone());
            let session = self.lone.session();
            if url.contains("silent") {
                core::mem::forget(request); // never answered
            } else if let Some(code) = self.bound.bind(id.0, &url, request.bind().tls_end as u32) {
                session.reject(request, refusal(Code(code)));
            } else {
                session.bound(request, &url);
            }
            if url.contains("drain") {
                self.drains.push(id);
            }
            if url.contains("call") {
                // A session that drains has none.
                if let Ok(id) = session.open(Open { bind: Some(id), ..Open::default() }) {
                    self.streams.insert(id, Line::default());
                }
            }
        } else if let Event::Unbind(unbind) = event {
            self.bound.unbind(unbind.id.0);
            if self.drains.contains(&unbind.id) {
                self.lone.session().drain(Code::SHUTDOWN, None, "", now);
            }
        } else {
            self.on_stream_event(event);
        }
    }
}

impl Echo<Agent> {
    pub(crate) fn agent(config: Config) -> Self {
        let lone = Lone::agent(config.clone());
        Self::new(config, lone, Self::on_agent_event, Self::dial_again, Self::act_as_agent)
    }

    fn dial_again(&mut self) {
        let (now, seed) = (self.lone.now(), u64::from(self.links));
        let old = &mut self.lone.link;
        let resuming = Link::<Agent>::resume(old, self.config.clone(), a_hello(), seed, now);
        *old = resuming.unwrap_or_else(|| Link::<Agent>::new(self.config.clone(), a_hello(), seed, now));
    }

    fn on_agent_event(&mut self, event: Event) {
        if let Event::Established(_) = event {
            self.lone.session().bind(&desk::bind(1, "tcp://:1", 0)).expect("the first");
        } else if let Event::Command(request) = event {
            let result = CommandResult { id: request.id, code: Code::FORBIDDEN, text: String::new() };
            self.lone.session().answer(&result).expect("asked");
        } else {
            self.on_stream_event(event);
        }
    }
}

impl<S: adit_core::Side> Echo<S> {
    fn new(
        config: Config,
        lone: Lone<S>,
        on_event: fn(&mut Self, Event),
        next_link: fn(&mut Self),
        on_act: fn(&mut Self, &Value) -> Option<bool>,
    ) -> Self {
        let (streams, drains, bound, told) = Default::default();
        Self { config, lone, old: None, links: 1, streams, drains, bound, told, on_event, next_link, on_act }
    }

    fn on_stream_event(&mut self, event: Event) {
        let Event::Opened(id) = event else { return };
        let session = self.lone.session();
        match session.take_open(id).as_ref().map(|open| open.endpoint.as_str()) {
            Some("deaf") => {}
            Some("sink") => session.accept_stream(id),
            Some("drop") => session.release(id),
            Some(_) | None => {
                session.accept_stream(id);
                self.streams.insert(id, Line::default());
            }
        }
    }

    /// Lets the application do all that it can.
    fn run(&mut self) {
        for event in self.lone.events() {
            self.tell(&event);
            (self.on_event)(self, event);
        }
        if self.lone.link.session().is_some() {
            let session = self.lone.session();
            for (id, line) in &mut self.streams {
                self.told.extend(line.go_on(*id, session));
            }
            self.streams.retain(|_, line| !line.over);
        }
    }
}

impl Line {
    /// Goes on as far as it can; returns what the application is told.
    fn go_on<S: adit_core::Side>(&mut self, id: StreamId, session: &mut Session<S>) -> Option<Value> {
        loop {
            while !self.back.is_empty() && session.write(id, &mut self.back).is_ok() {}
            if self.back.is_empty() && self.finishing {
                self.finishing = session.finish(id).is_err();
            }
            if !self.back.is_empty() && !self.mine {
                return None;
            }
            match session.read(id, 65_536) {
                Ok(Some(chunk)) => {
                    if !self.mine {
                        self.back = chunk;
                    }
                }
                Ok(None) => {
                    self.over = session.finish(id).is_ok() || self.mine;
                    session.release(id);
                    return self.over.then(|| desk::ended(id, None));
                }
                Err(ReadError::Blocked) => return None,
                Err(ReadError::Reset(code)) => {
                    session.reset(id, code);
                    session.release(id);
                    self.over = true;
                    return Some(desk::ended(id, Some(code)));
                }
                Err(ReadError::Lost(code)) => {
                    self.over = true;
                    return Some(desk::ended(id, Some(code)));
                }
                Err(_) => return None,
            }
        }
    }
}

impl<S: adit_core::Side> Subject for Echo<S> {
    fn hear(&mut self, octets: &[u8]) {
        self.lone.hear(octets);
        self.run();
    }

    fn say(&mut self) -> Vec<u8> {
        self.run();
        let mut said = Vec::new();
        self.lone.say().iter().for_each(|frame| frame.write(&mut said));
        self.run();
        self.lone.say().iter().for_each(|frame| frame.write(&mut said));
        said
    }

    fn wait(&mut self, millis: u64) -> Vec<u8> {
        let mut said = Vec::new();
        self.lone.wait_and_say(Duration::from_millis(millis), |frame| frame.write(&mut said));
        self.run();
        said
    }

    fn cut(&mut self) {
        let now = self.lone.now();
        self.lone.link.handle_eof(false, now);
    }

    fn is_closed(&self) -> bool {
        self.lone.link.is_finished()
    }

    fn redial(&mut self) -> Result<(), Lack> {
        self.cut();
        self.run();
        self.links += 1;
        (self.next_link)(self);
        Ok(())
    }

    fn act(&mut self, act: &Value) -> Result<(), Lack> {
        let done = (self.on_act)(self, act).ok_or_else(|| Lack::Unable(format!("the act {act}")))?;
        self.run();
        if done { Ok(()) } else { Err(Lack::Broken(format!("the act {act} cannot be done"))) }
    }

    fn event(&mut self) -> Result<Option<Value>, Lack> {
        self.run();
        Ok(self.told.pop_front())
    }
}

fn refusal(code: Code) -> Refusal {
    Refusal { code, retry_after: None, text: String::new() }
}
