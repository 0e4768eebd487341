//! What the uplink tells, as log lines, as the board, and as decisions to go on or not.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use adit_core::{BindId, Cause, Code, Command, GiveUp, Refusal, TlsEnd, escape};
use adit_tokio::{CommandReply, DialError, StepTaken, UplinkEvent};
use rustls::{crypto::CryptoProvider, pki_types::UnixTime};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{Agent, Outcome, Patience};
use crate::{
    audit::{Draft, Hasher},
    config::RemoteManagement,
    errors::{Error, Fault},
    policy::Guard,
    remote::NO_POLICY,
    route::Route,
    status::{Attempt, EndpointState, SessionState, Status, note},
    trust::{NetworkTls, explain_end},
};

/// What follows from an event.
#[derive(Debug)]
pub(super) enum Next {
    Continue,
    /// Close everything, until the customer opens it again.
    Freeze,
    /// End in order.
    End(Outcome),
    /// End at once.
    Fail(Error),
    /// Have the endpoints that the vendor wants.
    Configure(Order),
    /// It has ended; the last that was wrong.
    Over(Option<Error>),
}

/// The vendor's wish for a newer version, for whoever can fulfil it: whoever takes it answers, and writes down what it answers.
pub(crate) struct Wish {
    pub(crate) reply: CommandReply,
    /// What the vendor says about it.
    pub(crate) text: String,
}

/// The vendor's wish for endpoints, which the customer takes from there.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) document: String,
    /// What the vendor says about it.
    pub(super) text: String,
    pub(super) reply: CommandReply,
}

/// What has to be remembered between events.
pub(super) struct Memory {
    status: Arc<Status>,
    tls: NetworkTls,
    route: Route,
    provider: Arc<CryptoProvider>,
    allowed: RemoteManagement,
    guard: Arc<Guard>,
    updates: Option<mpsc::Sender<Wish>>,
    patience: Patience,
    targets: Vec<String>,
    sessions: usize,
    /// The lanes whose session has a connection.
    online: BTreeSet<u8>,
    /// The lanes in which each bind is in force. Not by name: a new configuration may give a name to another endpoint.
    bound: BTreeMap<BindId, BTreeSet<u8>>,
    was_connected: bool,
    failures: usize,
    last: Option<Error>,
}

impl Memory {
    pub(super) fn new(agent: &Agent) -> Self {
        let targets = agent.config.agent.targets.iter();
        Self {
            status: agent.status(),
            tls: agent.tls.clone(),
            route: agent.route.clone(),
            provider: Arc::clone(&agent.provider),
            allowed: agent.config.agent.remote_management,
            guard: Arc::clone(&agent.guard),
            updates: agent.updates.clone(),
            patience: agent.patience,
            targets: targets.map(|target| format!("{}:{}", target.host, target.port)).collect(),
            sessions: agent.config.agent.sessions.into(),
            online: BTreeSet::new(),
            bound: BTreeMap::new(),
            was_connected: false,
            failures: 0,
            last: None,
        }
    }

    /// Takes an event; `names` are those of the binds.
    pub(super) fn handle(&mut self, event: UplinkEvent, names: &BTreeMap<BindId, String>) -> Next {
        match event {
            UplinkEvent::Dialing { lane, attempt, target } => {
                tracing::debug!(lane, attempt, network = self.target(target), "dialing");
                Next::Continue
            }
            UplinkEvent::DialFailed { lane, target, error, retry_in, steps } => {
                self.dial_failed((lane, target), &error, retry_in, steps)
            }
            UplinkEvent::Connected { lane, target, welcome, remote, steps } => {
                tracing::debug!(%remote, "connected");
                let (region, node) = (escape(&welcome.region), escape(&welcome.node));
                tracing::info!(lane, session = %welcome.session, %region, %node, "session established");
                self.guard.note(|| {
                    let record = Draft::session("began", lane).text("session", &welcome.session.to_string());
                    let record = record.text("region", &welcome.region).text("node", &welcome.node);
                    record.text("network", &remote.to_string())
                });
                self.was_connected = true;
                let attempt = Attempt::new(lane, self.target(target), steps, None);
                self.status.change(|board| {
                    (board.region, board.node) = (welcome.region, welcome.node);
                    (board.heartbeat, board.attempt) = (Some(welcome.heartbeat), Some(attempt));
                });
                self.back(lane, names);
                Next::Continue
            }
            UplinkEvent::Suspended { lane, cause, retry_in } => self.suspended(lane, &cause, retry_in, names),
            UplinkEvent::Resumed { lane, target, remote, steps } => {
                let attempt = Attempt::new(lane, self.target(target), steps, None);
                self.status.change(|board| board.attempt = Some(attempt));
                tracing::debug!(%remote, "connected");
                tracing::info!(lane, "session resumed: open connections go on");
                self.guard.note(|| Draft::session("resumed", lane).text("network", &remote.to_string()));
                self.back(lane, names);
                Next::Continue
            }
            UplinkEvent::Disconnected { lane, cause, retry_in } => self.disconnected(lane, &cause, retry_in, names),
            UplinkEvent::Draining { lane } => {
                tracing::info!(lane, "the network ends this session: another is made, open connections may finish");
                self.guard.note(|| Draft::session("draining", lane));
                Next::Continue
            }
            UplinkEvent::Bound { lane, id, url } => {
                if let Some(name) = names.get(&id) {
                    self.bound.entry(id).or_default().insert(lane);
                    let mut tls = TlsEnd::Unsaid;
                    let shown = escape(&url).to_string();
                    self.endpoint(name, |state| {
                        (state.bound, state.url) = (true, url);
                        state.problem.clear();
                        tls = state.tls;
                    });
                    // An answer that says another was taken for a refusal (BIND-018).
                    self.guard.note(|| {
                        let record = Draft::bind("bound", name).number("lane", lane.into());
                        record.text("decision", "allowed").text("url", &shown).text("tls", tls.word())
                    });
                    tracing::info!(name, lane, url = shown, tls = tls.word(), "endpoint bound");
                }
                Next::Continue
            }
            UplinkEvent::Rejected { lane, id, refusal, retry_in } => {
                self.refused((id, names.get(&id)), lane, &refusal, retry_in, false)
            }
            UplinkEvent::Unbound { lane, id, refusal, retry_in } => {
                self.refused((id, names.get(&id)), lane, &refusal, retry_in, true)
            }
            UplinkEvent::Command { command, text, document, reply } => self.command(command, (text, document), reply),
            UplinkEvent::Revocations { lists, .. } => self.told(&lists),
            UplinkEvent::GaveUp { reason: GiveUp::Shutdown | GiveUp::Refused } => Next::Over(self.last.take()),
        }
    }

    /// Hands revocation lists of the network to who judges them.
    fn told(&self, lists: &[u8]) -> Next {
        self.tls.revocation.hear(lists, UnixTime::now());
        Next::Continue
    }

    fn target(&self, target: usize) -> &str {
        self.targets.get(target).map_or("", String::as_str)
    }

    fn dial_failed(
        &mut self,
        (lane, target): (u8, usize),
        error: &DialError,
        retry_in: Option<Duration>,
        steps: Vec<StepTaken>,
    ) -> Next {
        let told = self.route.explain(error, &self.tls, &self.provider);
        let network = self.target(target);
        self.tls.revocation.show(&self.status);
        if told.fault == Fault::RevocationUnknown && self.tls.revocation.is_pending() {
            tracing::info!(network, "the network's revocation list is fetched, and then it is dialed again");
            return Next::Continue;
        }
        let (remedy, retry_in) = (told.fault.entry().remedy, retry_in.map(shown));
        tracing::warn!(network, error = %told, remedy, retry_in, "dial failed");
        let attempt = Attempt::new(lane, network, steps, Some(&told));
        self.failures += 1;
        self.status.change(|board| board.attempt = Some(attempt));
        self.trouble(&told);
        self.last = Some(told.clone());
        // Later it may be the network that errs, restored from a copy that does not know the token yet.
        let refused = told.fault == Fault::Revoked || told.fault == Fault::Credentials && !self.was_connected;
        let hopeless = self.patience == Patience::Command
            && !self.was_connected
            && self.failures >= self.targets.len() * self.sessions;
        if refused || hopeless { Next::Fail(told) } else { Next::Continue }
    }

    /// A session has a connection.
    fn back(&mut self, lane: u8, names: &BTreeMap<BindId, String>) {
        self.last = None;
        self.online.insert(lane);
        self.show(names);
        self.tls.revocation.judge_again();
        self.tls.revocation.show(&self.status);
        self.status.change(|board| board.trouble = None);
    }

    /// Shows how the sessions are, and the endpoints.
    fn show(&mut self, names: &BTreeMap<BindId, String>) {
        self.bound.retain(|id, lanes| names.contains_key(id) && !lanes.is_empty());
        let bound: BTreeSet<_> = self.bound.keys().filter_map(|id| names.get(id)).collect();
        self.status.change(|board| {
            board.sessions = (self.online.len(), self.sessions);
            board.session = if self.online.is_empty() { SessionState::Reconnecting } else { SessionState::Online };
            if self.online.is_empty() {
                board.round_trip = None;
            }
            for endpoint in &mut board.endpoints {
                endpoint.bound = bound.contains(&endpoint.name);
            }
        });
    }

    /// The endpoints stay bound: the session waits for the next connection.
    fn suspended(
        &mut self,
        lane: u8,
        cause: &Cause,
        retry_in: Option<Duration>,
        names: &BTreeMap<BindId, String>,
    ) -> Next {
        let told = explain_end(cause);
        let retry_in = retry_in.map(shown);
        tracing::warn!(
            lane, error = %told, retry_in, "connection lost: the session and its open connections wait for the next"
        );
        self.status.change(|board| note(&mut board.disconnects, lane, &told, true));
        self.guard.note(|| Draft::session("lost its connection", lane).text("why", &told.to_string()));
        self.trouble(&told);
        self.online.remove(&lane);
        self.show(names);
        Next::Continue
    }

    fn disconnected(
        &mut self,
        lane: u8,
        cause: &Cause,
        retry_in: Option<Duration>,
        names: &BTreeMap<BindId, String>,
    ) -> Next {
        let ended = if *cause == Cause::Local(Code::UNTRUSTED) { self.tls.revocation.ended() } else { None };
        let told = ended.unwrap_or_else(|| explain_end(cause));
        let (remedy, retry_in) = (told.fault.entry().remedy, retry_in.map(shown));
        tracing::warn!(lane, error = %told, remedy, retry_in, "session lost");
        self.status.change(|board| note(&mut board.disconnects, lane, &told, false));
        self.guard.note(|| Draft::session("ended", lane).text("why", &told.to_string()));
        self.trouble(&told);
        self.online.remove(&lane);
        for lanes in self.bound.values_mut() {
            lanes.remove(&lane);
        }
        self.show(names);
        let revoked = told.fault == Fault::Revoked;
        self.last = Some(told.clone());
        if revoked { Next::Fail(told) } else { Next::Continue }
    }

    fn refused(
        &mut self,
        (id, name): (BindId, Option<&String>),
        lane: u8,
        refusal: &Refusal,
        retry_in: Duration,
        was_bound: bool,
    ) -> Next {
        let Some(name) = name else { return Next::Continue };
        let told = Error::of_bind(refusal);
        let entry = told.fault.entry();
        let (error, act) = (told.to_string(), entry.actor.word());
        let message = if was_bound { "endpoint taken back" } else { "endpoint refused" };
        tracing::warn!(name, lane, error, to_act = act, remedy = entry.remedy, retry_in = shown(retry_in), "{message}");
        self.guard.note(|| {
            let record =
                Draft::bind(if was_bound { "taken back" } else { "refused" }, name).number("lane", lane.into());
            record.text("decision", "refused").text("why", &error)
        });
        let lanes = self.bound.entry(id).or_default();
        lanes.remove(&lane);
        let bound = !lanes.is_empty();
        self.endpoint(name, |state| {
            state.bound = bound;
            state.problem = format!("{error}. To act: {act}");
        });
        let final_answer = entry.exit == crate::errors::Exit::Refused && !was_bound;
        if self.patience == Patience::Command && final_answer { Next::Fail(told) } else { Next::Continue }
    }

    /// Takes over what the vendor may ask for.
    pub(super) const fn allow(&mut self, allowed: RemoteManagement) {
        self.allowed = allowed;
    }

    fn command(&self, command: Command, (text, document): (String, String), reply: CommandReply) -> Next {
        let (both, whole, text) = (self.guard.commands(self.allowed), text.clone(), text.as_str());
        let (word, configured, allowed) = match command {
            Command::Stop => ("stop", self.allowed.stop, both.stop),
            Command::Restart => ("restart", self.allowed.restart, both.restart),
            Command::Update => ("update", self.allowed.update, both.update),
            Command::Configuration => ("configuration", self.allowed.configuration, both.configuration),
            Command::Unknown(_) => {
                reply.answer(Code::UNKNOWN, "this agent does not know the command");
                tracing::warn!(text = %escape(text), "remote command not known");
                self.guard.note(|| Draft::command("unknown", text, "refused"));
                return Next::Continue;
            }
        };
        let (said, text) = (text, escape(text));
        let hasher = Hasher::of(&self.provider).filter(|_| command == Command::Configuration);
        let print = hasher.map(|hasher| hasher.hash(document.as_bytes()).to_string());
        let refused = |why: &str| {
            self.guard
                .note(|| Draft::command(word, said, "refused").text("why", why).maybe("sha256", print.as_deref()));
            Next::Continue
        };
        if configured && !allowed {
            let error = Fault::PolicyRefused;
            let never = || match self.guard.policy() {
                Some(_) => format!("commands.{word} of the policy is not true"),
                None => NO_POLICY.to_owned(),
            };
            let detail = self.guard.rests().unwrap_or_else(never);
            let is_there = self.guard.policy().is_some() || self.guard.frozen().is_some();
            let told = if is_there { "the customer's policy does not allow it" } else { NO_POLICY_HERE };
            reply.answer(Code::FORBIDDEN, told); // spec: CMD-001
            tracing::warn!(command = word, %text, %error, detail, remedy = error.entry().remedy, "remote command refused");
            return refused(&detail);
        }
        if !allowed {
            let error = Fault::CommandForbidden;
            reply.answer(Code::FORBIDDEN, "the agent's configuration does not allow it"); // spec: CMD-001
            tracing::warn!(command = word, %text, %error, remedy = error.entry().remedy, "remote command refused");
            return refused(&error.to_string());
        }
        let outcome = match command {
            // spec: CMD-004
            Command::Stop => Outcome::Ended,
            Command::Restart => Outcome::Restart,
            Command::Configuration => return Next::Configure(Order { document, text: whole, reply }),
            Command::Update | Command::Unknown(_) => return self.update(said, reply),
        };
        tracing::warn!(command = word, %text, "remote command obeyed");
        self.guard.note(|| Draft::command(word, said, "obeyed"));
        reply.answer(Code::NO_ERROR, "");
        Next::End(outcome)
    }

    /// Hands the wish for a newer version on.
    fn update(&self, said: &str, reply: CommandReply) -> Next {
        let wish = Wish { reply, text: said.to_owned() };
        let refused = match &self.updates {
            Some(updates) => updates.try_send(wish).err(),
            None => Some(TrySendError::Closed(wish)),
        };
        let text = escape(said);
        match refused {
            None => tracing::info!(command = "update", %text, "remote command: looking for a newer version"),
            Some(TrySendError::Full(Wish { reply, .. })) => {
                reply.answer(Code::BUSY, "an update is under way");
                tracing::warn!(command = "update", %text, "remote command refused: an update is under way");
                self.guard.note(|| Draft::command("update", said, "refused").text("why", "an update is under way"));
            }
            Some(TrySendError::Closed(Wish { reply, .. })) => {
                let error = Fault::CommandUnsupported;
                reply.answer(Code::UNSUPPORTED, "this agent has no place for updates");
                tracing::warn!(command = "update", %text, %error, remedy = error.entry().remedy, "remote command refused");
                self.guard.note(|| Draft::command("update", said, "refused").text("why", &error.to_string()));
            }
        }
        Next::Continue
    }

    fn endpoint(&self, name: &str, change: impl FnOnce(&mut EndpointState)) {
        self.status.change(|board| {
            if let Some(state) = board.endpoints.iter_mut().find(|state| state.name == name) {
                change(state);
            }
        });
    }

    fn trouble(&self, error: &Error) {
        let text = format!("{error}. {}", error.fault.entry().remedy);
        self.status.change(|board| board.trouble = Some(text));
    }
}

/// What the vendor is told where there is no policy.
const NO_POLICY_HERE: &str = "the customer has no policy, and without one no endpoints are taken";

fn shown(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use core::cell::Cell;
    use std::fs;

    use adit_core::{Heartbeat, Limits, Secret, SessionId, VERSION, Welcome};

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn whoever_has_a_connection_is_judged_by_what_was_heard_while_the_dial_was_on_its_way() {
        let folder = testing::folder("judged");
        fs::write(folder.join("ca.pem"), testing::root_pem()).unwrap();
        let config = testing::config(&format!(
            "version: 1\nagent:\n  connect_url: node.example.com\n  connect_cas: {}\n",
            folder.join("ca.pem").display()
        ));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut memory = Memory::new(&Agent::new(config, Secret::new("tok3n"), provider).unwrap());
        let revocation = Arc::clone(&memory.tls.revocation);
        let is_judged = async || {
            let judged = Cell::new(false);
            revocation.judging(tokio::task::yield_now(), || judged.set(true)).await;
            judged.get()
        };
        let heartbeat = Heartbeat { interval: Duration::from_secs(10), tolerance: Duration::from_secs(15) };
        let welcome = Welcome {
            version: VERSION,
            session: SessionId([7; 16]),
            heartbeat,
            limits: Limits { frame: 16_376, window: 1, streams: 1 },
            region: String::new(),
            node: String::new(),
            resume: None,
            resumed: None,
        };
        let remote = ([192, 0, 2, 1], 443).into();

        for event in [
            UplinkEvent::Connected { lane: 0, target: 0, welcome, remote, steps: Vec::new() },
            UplinkEvent::Resumed { lane: 0, target: 0, remote, steps: Vec::new() },
        ] {
            assert!(!is_judged().await);
            assert!(matches!(memory.handle(event, &BTreeMap::new()), Next::Continue));
            assert!(is_judged().await);
        }
    }
}
