//! The side that is tested, in one scenario.

use core::{net::SocketAddr, time::Duration};
use std::{io, net::TcpListener, time::Instant};

use adit_conformance::{Fault, Hope, Lack, Scenario, Side, Subject, socket::Wire};
use serde_json::Value;

use crate::{
    bench::Bench,
    shim::{Shim, Word, lack},
};

/// The side that is tested, in one scenario.
pub(crate) struct Line<'a> {
    bench: &'a Bench,
    wire: Wire,
    source: Source,
    shim: Option<Shim>,
}

/// Where links come from.
enum Source {
    Dialed(SocketAddr),
    Taken(TcpListener),
}

impl<'a> Line<'a> {
    /// Waits for the first link.
    pub(crate) fn open(bench: &'a Bench, scenario: &Scenario) -> Result<Self, Lack> {
        match bench.side {
            Side::Network => Self::to_network(bench, scenario),
            Side::Agent => Self::to_agent(bench, scenario),
        }
    }

    fn to_network(bench: &'a Bench, scenario: &Scenario) -> Result<Self, Lack> {
        let mut shim = bench.start(scenario, ANY).map_err(broken)?;
        let ready = shim.as_mut().map(|shim| match shim.word(START) {
            Some(Word::Ready(ready)) => Ok(ready),
            other => Err(lack(other)),
        });
        let ready = ready.transpose()?;
        let told = ready.as_ref().and_then(|ready| ready.get("address")).and_then(Value::as_str);
        let told = told.map(str::parse).transpose().map_err(broken)?;
        let address = told.or_else(|| bench.target());
        let address = address.ok_or_else(|| Lack::Broken("the shim does not say where it listens".to_owned()))?;
        let wire = bench.dial(address, scenario.tls).map_err(broken)?;
        Ok(Self { bench, wire, source: Source::Dialed(address), shim })
    }

    fn to_agent(bench: &'a Bench, scenario: &Scenario) -> Result<Self, Lack> {
        let listener = TcpListener::bind(ANY).map_err(broken)?;
        listener.set_nonblocking(true).map_err(broken)?;
        let mut shim = bench.start(scenario, listener.local_addr().map_err(broken)?).map_err(broken)?;
        let wire = next_link(bench, &listener, scenario.tls, &mut shim, START)?;
        Ok(Self { bench, wire, source: Source::Taken(listener), shim })
    }
}

impl Subject for Line<'_> {
    fn hear(&mut self, octets: &[u8]) {
        self.wire.hear(octets);
    }

    fn say(&mut self) -> Vec<u8> {
        self.wire.say()
    }

    fn wait(&mut self, millis: u64) -> Vec<u8> {
        self.wire.wait(millis)
    }

    fn cut(&mut self) {
        self.wire.cut();
    }

    fn is_closed(&self) -> bool {
        self.wire.is_closed()
    }

    fn more(&mut self, hope: Hope) -> Vec<u8> {
        self.wire.more(hope)
    }

    fn lacks(&self, requirement: &str) -> Option<String> {
        self.wire.lacks(requirement)
    }

    fn has_own_application(&self) -> bool {
        self.bench.own_application
    }

    fn redial(&mut self) -> Result<(), Lack> {
        self.wire = match &self.source {
            Source::Dialed(address) => self.bench.dial(*address, None).map_err(broken)?,
            Source::Taken(listener) => {
                self.wire.cut();
                let until = Instant::now() + self.bench.patience.something.max(REDIAL);
                loop {
                    // What the agent dialed and gave up while nobody took it is no answer.
                    let patience = until.saturating_duration_since(Instant::now());
                    match next_link(self.bench, listener, None, &mut self.shim, patience) {
                        Err(Lack::Broken(_))
                            if Instant::now() < until && self.shim.as_mut().is_some_and(Shim::lives) => {}
                        link => break link?,
                    }
                }
            }
        };
        Ok(())
    }

    fn act(&mut self, act: &Value) -> Result<(), Lack> {
        let patience = self.bench.patience.something;
        self.shim.as_mut().map_or_else(|| Err(needs_shim()), |shim| shim.act(act, patience))
    }

    fn event(&mut self) -> Result<Option<Value>, Lack> {
        if self.bench.own_application {
            return Err(Lack::Unable("events of the application: it is one of its own".to_owned()));
        }
        let patience = self.bench.patience.something;
        self.shim.as_mut().map_or_else(|| Err(needs_shim()), |shim| shim.event(patience))
    }
}

/// Waits for the agent to dial.
fn next_link(
    bench: &Bench,
    listener: &TcpListener,
    fault: Option<Fault>,
    shim: &mut Option<Shim>,
    patience: Duration,
) -> Result<Wire, Lack> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Some(wire) = bench.take(listener, fault) {
            return wire.map_err(broken);
        }
        match shim.as_mut().and_then(|shim| shim.word(POLL)) {
            None | Some(Word::Ready(_)) => {}
            other => return Err(lack(other)),
        }
    }
    Err(Lack::Broken("the agent does not dial".to_owned()))
}

fn broken(error: impl Into<Box<dyn core::error::Error>>) -> Lack {
    Lack::Broken(io::Error::other(error.into().to_string()).to_string())
}

fn needs_shim() -> Lack {
    Lack::Unable("acts and events of the application: needs a shim".to_owned())
}

const ANY: SocketAddr = SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::LOCALHOST), 0);
const POLL: Duration = Duration::from_millis(2);
/// How long a program may take to start, on a machine that is busy.
const START: Duration = Duration::from_secs(60);
/// How long an agent may wait before it dials again, for the first time.
const REDIAL: Duration = Duration::from_secs(10);
