//! Every scenario, against `adit-core` with a virtual clock.

mod common;

use std::collections::BTreeMap;

use adit_conformance::{Player, Scenario, Side, Subject, clauses};
use adit_core::{
    Bind, BindId, Code, CommandResult, Config, Duration, Event, Open, ReadError, Refusal, Session, SessionId, StreamId,
    UpstreamProtocol,
    side::{Agent, Network},
    testing::Lone,
};
use bytes::Bytes;
use common::{configured, scenarios};

#[test]
fn every_scenario_goes_as_it_says() {
    let player = Player::new();
    let mut failures = Vec::new();
    for scenario in scenarios() {
        let config = configured(&scenario);
        let result = match scenario.side {
            Side::Network => player.play(&scenario, &mut Echo::network(config)),
            Side::Agent => player.play(&scenario, &mut Echo::agent(config)),
        };
        failures.extend(result.err());
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_clause_that_a_scenario_names_exists() {
    let clauses = clauses();
    for scenario in scenarios() {
        for id in &scenario.clauses {
            assert!(clauses.contains_key(id), "{}: {id}", scenario.what);
        }
    }
}

#[test]
fn a_scenario_that_is_not_kept_to_fails() {
    let file = r#"[{ "what": "a made-up rule", "clauses": [], "side": "network", "steps": [
        { "handshake": {} },
        { "send": [{ "type": "Ping", "number": 1 }] },
        { "expect": [{ "type": "Pong", "number": 2 }] }
    ] }]"#;
    let scenario = Scenario::read(file).unwrap().remove(0);

    let error = Player::new().play(&scenario, &mut Echo::network(Config::network())).unwrap_err();
    assert!(error.contains("a made-up rule (step 3: Pong 1 where"), "{error}");
}

/// The application of the scenarios, on a link alone.
struct Echo<S: adit_core::Side> {
    lone: Lone<S>,
    streams: BTreeMap<StreamId, Line>,
    on_event: fn(&mut Self, Event),
}

/// What is on its way back on one stream.
#[derive(Default)]
struct Line {
    back: Bytes,
    over: bool,
}

impl Echo<Network> {
    fn network(config: Config) -> Self {
        Self { lone: Lone::network(config), streams: BTreeMap::new(), on_event: Self::on_network_event }
    }

    fn on_network_event(&mut self, event: Event) {
        let now = self.lone.now();
        if let Event::Hello(request) = event {
            if request.hello().token.expose() == b"no" {
                let refusal = refusal(Code::CREDENTIALS);
                return self.lone.link.refuse(request, refusal, now);
            }
            let welcome = request.welcome(SessionId([7; 16]), "", "");
            self.lone.link.accept(request, welcome, now);
        } else if let Event::Bind(request) = event {
            let (id, url) = (request.bind().id, request.bind().url.clone());
            let session = self.lone.session();
            if url.contains("silent") {
                core::mem::forget(request); // never answered
            } else if url.contains("refused") {
                session.reject(request, refusal(Code::FORBIDDEN));
            } else {
                session.bound(request, &url);
            }
            if url.contains("call") {
                // A session that drains has none.
                if let Ok(id) = session.open(Open { bind: Some(id), ..Open::default() }) {
                    self.streams.insert(id, Line::default());
                }
            }
        } else if let Event::Unbind(_) = event {
            self.lone.session().drain(Code::SHUTDOWN, None, "", now);
        } else {
            self.on_stream_event(event);
        }
    }
}

impl Echo<Agent> {
    fn agent(config: Config) -> Self {
        Self { lone: Lone::agent(config), streams: BTreeMap::new(), on_event: Self::on_agent_event }
    }

    fn on_agent_event(&mut self, event: Event) {
        if let Event::Established(_) = event {
            let bind = Bind {
                id: BindId(1),
                url: "tcp://:1".to_owned(),
                pooling: false,
                upstream_protocol: UpstreamProtocol::Http1,
                name: String::new(),
                description: String::new(),
                metadata: String::new(),
            };
            self.lone.session().bind(&bind).expect("the first");
        } else if let Event::Command(request) = event {
            let result = CommandResult { id: request.id, code: Code::FORBIDDEN, text: String::new() };
            self.lone.session().answer(&result).expect("asked");
        } else {
            self.on_stream_event(event);
        }
    }
}

impl<S: adit_core::Side> Echo<S> {
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
            (self.on_event)(self, event);
        }
        if self.lone.link.session().is_some() {
            let session = self.lone.session();
            self.streams.iter_mut().for_each(|(id, line)| line.go_on(*id, session));
            self.streams.retain(|_, line| !line.over);
        }
    }
}

impl Line {
    fn go_on<S: adit_core::Side>(&mut self, id: StreamId, session: &mut Session<S>) {
        loop {
            if !self.back.is_empty() && session.write(id, &mut self.back).is_err() {
                return;
            }
            match session.read(id, 65_536) {
                Ok(Some(chunk)) => self.back = chunk,
                Ok(None) => {
                    self.over = session.finish(id).is_ok();
                    session.release(id);
                    return;
                }
                Err(ReadError::Blocked) => return,
                Err(ReadError::Reset(code)) => {
                    session.reset(id, code);
                    session.release(id);
                    self.over = true;
                    return;
                }
                Err(_) => return,
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
}

fn refusal(code: Code) -> Refusal {
    Refusal { code, retry_after: None, text: String::new() }
}
