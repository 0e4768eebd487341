//! A caller, and how a policy is run for it.
#![allow(dead_code, reason = "each test file uses some of it")]

use core::time::Duration;
use std::{sync::Arc, time::Instant};

use adit_policy::{
    cel::Timestamp,
    document::Document,
    engine::{Answer, Carried, Now, Outcome, Policy, Run, Step, Subject},
    environment::{Connection, Endpoint, Phase},
};

pub(crate) fn policy(text: &str) -> Arc<Policy> {
    let document = Document::parse(text);
    Arc::new(Policy::new(document.unwrap_or_else(|problems| panic!("{text}: {}", problems[0]))))
}

/// A caller at 192.0.2.7, who calls an endpoint a.example.
pub(crate) struct Caller {
    pub(crate) connection: Connection,
    pub(crate) request: http::request::Parts,
    pub(crate) response: Option<http::response::Parts>,
    start: Instant,
    passed: Duration,
}

impl Caller {
    pub(crate) fn new(method: &str, url: &str) -> Self {
        let (request, ()) = http::Request::builder().method(method).uri(url).body(()).expect("a request").into_parts();
        let (start, passed) = (Instant::now(), Duration::ZERO);
        Self { connection: connection("192.0.2.7"), request, response: None, start, passed }
    }

    /// Calls from elsewhere.
    pub(crate) fn from(self, ip: &str) -> Self {
        Self { connection: connection(ip), ..self }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request.headers.append(name, value.parse().expect("a value"));
        self
    }

    /// Lets the upstream answer.
    pub(crate) fn respond(&mut self, status: u16) {
        let (response, ()) = http::Response::builder().status(status).body(()).expect("a response").into_parts();
        self.response = Some(response);
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.passed += time;
    }

    pub(crate) fn now(&self) -> Now {
        let seconds = 1_234_567_890 + i64::try_from(self.passed.as_secs()).expect("short");
        let time = Timestamp::new(seconds, self.passed.subsec_nanos()).expect("in range");
        Now { time, instant: self.start + self.passed }
    }

    /// Runs a phase that asks nothing.
    pub(crate) fn run(&mut self, policy: &Arc<Policy>, phase: Phase) -> (Outcome, Run) {
        self.go_on(policy, phase, Carried::default())
    }

    /// Runs a phase that asks nothing, after an earlier one.
    pub(crate) fn go_on(&mut self, policy: &Arc<Policy>, phase: Phase, carried: Carried) -> (Outcome, Run) {
        let mut run = policy.begin(phase, carried);
        match self.step(&mut run) {
            Step::Done(outcome) => (outcome, run),
            Step::Ask(ask) => panic!("{ask:?}"),
        }
    }

    pub(crate) fn step(&mut self, run: &mut Run) -> Step {
        self.answer(run, None)
    }

    pub(crate) fn answer(&mut self, run: &mut Run, answer: Option<Answer>) -> Step {
        let now = self.now();
        let endpoint = Endpoint { id: "ep_1", protocol: "https", host: "a.example", port: 443 };
        let mut subject = Subject::new(&self.connection, endpoint);
        if run.phase() != Phase::TcpConnect {
            subject = subject.with_request(&mut self.request, now.time);
        }
        if let (Phase::HttpResponse, Some(response)) = (run.phase(), &mut self.response) {
            subject = subject.with_response(response);
        }
        run.step(&mut subject, now, answer)
    }
}

fn connection(ip: &str) -> Connection {
    let start = Timestamp::new(1_234_567_830, 0).expect("in range");
    let client = (ip.parse::<core::net::IpAddr>().expect("an address"), 40_000).into();
    Connection::new(client, "[2001:db8::1]:443".parse().expect("an address"), start, None)
}
