//! An agent: the machine that outlives every session, and whoever does what it says, as a runtime does.

mod events;

use alloc::{borrow::ToOwned, collections::BTreeMap, format, string::String, vec::Vec};

use super::{
    Broken,
    cable::Farewell,
    clock::Clock,
    dice::Dice,
    ground::{Ground, Happening, Host},
    node::Node,
    plan::{AgentPlan, Place, with_spread},
    port::Port,
};
use crate::{
    Action, Bind, BindError, BindId, BindRefusal, Code, Duration, GiveUp, Hello, Instant, Link, Loss, Notice, Refusal,
    Retry, Role, Secret, Unbind, Uplink, UpstreamProtocol, side,
};

/// One agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) number: usize,
    pub(super) plan: AgentPlan,
    pub(super) clock: Clock,
    away: Option<Instant>,
    uplink: Option<Uplink>,
    dials: BTreeMap<u64, Dialing>,
    /// By the attempt that made them.
    sessions: BTreeMap<u64, Port<side::Agent>>,
    /// Links that say their last words.
    leaving: Vec<Port<side::Agent>>,
    /// By endpoint; `None` for one that waits for what a sibling is given.
    wishes: BTreeMap<u32, Option<BindId>>,
    endpoints: u32,
    /// Binds of the current session that are in force, and the endpoints as callers know them.
    bound: BTreeMap<BindId, String>,
    /// What the network chose last where something was left to it.
    chosen: BTreeMap<u32, String>,
    /// What of that the siblings were not told.
    news: Vec<(u32, String)>,
    current: Option<u64>,
    /// The session whose link is silent, as far as the uplink was told.
    silent: Option<u64>,
    /// Counts the runs of its program.
    run: u64,
    pub(super) gave_up: Option<GiveUp>,
    scheduled: Option<Instant>,
    /// Until when it may wait before it dials, as it was told or decides itself.
    allowed: Instant,
    /// Dials in this second.
    dialed: (u64, u32),
    dice: Dice,
}

/// A dial under way.
#[derive(Debug)]
struct Dialing {
    target: usize,
    /// The session that it is to take to a new link.
    resumes: Option<u64>,
    cable: u64,
    /// Whether it says nothing before it may, and whether it was allowed one step.
    stands_by: bool,
    secured: bool,
    /// When it is given up, for the world.
    until: Instant,
    /// The link of a new session, once there is a connection.
    port: Option<Port<side::Agent>>,
    connected: bool,
    /// What the end of the session that it resumes says about trying again.
    verdict: Option<Retry>,
}

impl Agent {
    pub(super) fn new(number: usize, plan: AgentPlan, dice: Dice) -> Self {
        Self {
            number,
            plan,
            clock: Clock::default(),
            away: None,
            uplink: None,
            dials: BTreeMap::new(),
            sessions: BTreeMap::new(),
            leaving: Vec::new(),
            wishes: BTreeMap::new(),
            endpoints: 0,
            bound: BTreeMap::new(),
            chosen: BTreeMap::new(),
            news: Vec::new(),
            current: None,
            silent: None,
            run: 0,
            gave_up: None,
            scheduled: None,
            allowed: Instant::ZERO,
            dialed: (0, 0),
            dice,
        }
    }

    /// Starts its program.
    pub(super) fn start(&mut self, ground: &Ground) {
        let (now, plan) = (self.clock.read(ground.now), &self.plan);
        let uplink = Uplink::new(plan.targets.len(), plan.policy.clone(), self.dice.seed(), now);
        (self.uplink, self.gave_up) = (Some(uplink), None);
        (self.wishes, self.endpoints, self.run) = (BTreeMap::new(), 0, self.run + 1);
        (self.chosen, self.news) = (BTreeMap::new(), Vec::new());
        (0..plan.binds).for_each(|_| self.wish(now));
    }

    /// Wishes for one more endpoint. What is left to the network the first session asks for, and the others when they know
    /// what it was given (BIND-012).
    fn wish(&mut self, now: Instant) {
        let Some(uplink) = &mut self.uplink else { return };
        let (endpoint, place) = (self.endpoints, self.plan.place);
        self.endpoints += 1;
        let url = match place {
            Place { shared: false, .. } => Some("tcp://:1".to_owned()),
            Place { open: true, lane, .. } if endpoint.is_multiple_of(2) => (lane == 0).then(|| "tcp://:0".to_owned()),
            Place { program, .. } => Some(format!("tcp://:{}", 1 + (program << 10) + endpoint as usize)),
        };
        self.wishes.insert(endpoint, url.map(|url| uplink.bind(bind(url), now)));
    }

    /// Returns what the network chose since this was asked last.
    pub(super) fn take_news(&mut self) -> Vec<(u32, String)> {
        core::mem::take(&mut self.news)
    }

    /// Asks for what a sibling was given.
    pub(super) fn follow(&mut self, endpoint: u32, url: &str, ground: &Ground) {
        let now = self.clock.read(ground.now);
        let (Some(uplink), Some(wish)) = (&mut self.uplink, self.wishes.get_mut(&endpoint)) else { return };
        if let Some(old) = wish.replace(uplink.bind(bind(url.to_owned()), now)) {
            uplink.unbind(Unbind::new(old), now);
            self.bound.remove(&old);
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        self.away.is_none() && self.uplink.is_some()
    }

    pub(super) const fn answers(&self) -> bool {
        self.is_up() && !self.clock.sleeps()
    }

    /// Does all that can be done now.
    pub(super) fn run(&mut self, ground: &mut Ground) -> Result<(), Broken> {
        if !self.answers() {
            return Ok(());
        }
        let now = self.clock.read(ground.now);
        for round in 0.. {
            if round > 1_000 {
                return Err(Broken::new("L6", format!("agent {} does not come to rest", self.number)));
            }
            let mut moved = self.pump_sessions(ground, now)?;
            // What a link tells and what a dial waits for are two tasks: either may come first.
            let told_first = ground.dice.percent(50);
            moved |= if told_first { self.attend_sessions(ground, now)? } else { self.run_dials(ground, now)? };
            moved |= if told_first { self.run_dials(ground, now)? } else { self.attend_sessions(ground, now)? };
            if let Some(uplink) = &mut self.uplink {
                uplink.handle_timeout(now);
            }
            moved |= self.obey(ground, now)?;
            if !moved {
                break;
            }
        }
        for port in &mut self.leaving {
            port.pump(ground, now)?;
            port.events.clear();
        }
        self.leaving.retain(|port| !port.is_spent());
        self.schedule(ground, now)
    }

    /// Takes note that one of its timers may be due; returns whether it was waited for.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        self.scheduled.take_if(|at| *at <= now).is_some()
    }

    /// Ends its program, and with it all that it knows.
    pub(super) fn stop(&mut self, quiet: bool, until: Instant, ground: &mut Ground) {
        self.away = Some(self.away.map_or(until, |before| before.max(until)));
        (self.uplink, self.scheduled, self.current, self.silent) = (None, None, None, None);
        for mut port in core::mem::take(&mut self.sessions).into_values() {
            if let Some(number) = port.ledger {
                ground.bury(number, Role::Agent);
            }
            port.abandon(quiet, ground);
        }
        for dial in core::mem::take(&mut self.dials).into_values() {
            ground.hang_up(dial.cable, Role::Agent, Farewell::Reset);
        }
        for mut port in core::mem::take(&mut self.leaving) {
            port.abandon(quiet, ground);
        }
        self.bound.clear();
        ground.at(until, Happening::Return(Host::Agent(self.number)));
    }

    /// Comes back, if it is time.
    pub(super) fn come_back(&mut self, ground: &Ground) {
        self.clock.wake(ground.now);
        if !self.clock.sleeps() && self.away.take_if(|until| *until <= ground.now).is_some() {
            self.start(ground);
        }
    }

    /// Ends its sleep or absence.
    pub(super) fn come_back_at_once(&mut self, ground: &Ground) {
        self.clock.wake_at_once(ground.now);
        if self.away.take().is_some() {
            self.start(ground);
        }
    }

    /// Tells it that addresses or routes have changed.
    pub(super) fn notice_change(&mut self, ground: &Ground) {
        let now = self.clock.read(ground.now);
        if let Some(uplink) = self.uplink.as_mut().filter(|_| !self.clock.sleeps()) {
            uplink.handle_network_change(now);
            self.allow(Retry::Backoff, true, now);
        }
    }

    /// Gives an endpoint up and wishes for another.
    pub(super) fn rebind(&mut self, cut: bool, ground: &Ground) {
        let now = self.clock.read(ground.now);
        if let (Some(uplink), Some((_, old)), false) = (&mut self.uplink, self.wishes.pop_first(), self.clock.sleeps())
        {
            if let Some(old) = old {
                uplink.unbind(Unbind::new(old).cutting(cut), now);
                self.bound.remove(&old);
            }
            self.wish(now);
        }
    }

    /// Ends it in order.
    pub(super) fn shut_down(&mut self, drain: Duration, ground: &Ground) {
        let now = self.clock.read(ground.now);
        if let Some(uplink) = &mut self.uplink {
            uplink.shutdown(drain, now);
        }
    }

    /// Tells its links over certain connections that they are lost.
    pub(super) fn lose(&mut self, cables: &[u64], ground: &mut Ground) {
        let now = self.clock.read(ground.now);
        let hit = |port: &&mut Port<side::Agent>| port.cable.is_some_and(|cable| cables.contains(&cable));
        let dials = self.dials.values_mut().filter_map(|dial| dial.port.as_mut());
        for port in self.sessions.values_mut().chain(dials).chain(&mut self.leaving).filter(hit) {
            port.lose(ground, Loss::Reset, now);
        }
    }

    /// Lets the application of a stream go on.
    pub(super) fn talk(&mut self, session: usize, talk: usize, ground: &mut Ground) -> Result<(), Broken> {
        match self.sessions.values_mut().find(|port| port.ledger == Some(session)) {
            Some(port) => port.go_on(talk, ground),
            None => Ok(()),
        }
    }

    /// Returns the endpoints that it wishes for and does not have, as far as it knows and the nodes do.
    pub(super) fn missing(&self, nodes: &[Node]) -> usize {
        let Some(session) = self.live() else { return self.wishes.len() };
        let in_force = |wish: &&Option<BindId>| {
            wish.is_some_and(|bind| {
                self.bound.contains_key(&bind) && nodes.iter().any(|it| it.has_bound(session, bind))
            })
        };
        self.wishes.len() - self.wishes.values().filter(in_force).count()
    }

    /// Returns the endpoints that callers reach by its session, as far as it knows.
    pub(super) fn serves(&self) -> BTreeMap<u32, &str> {
        let url = |wish: &Option<BindId>| wish.and_then(|bind| self.bound.get(&bind)).map(String::as_str);
        self.wishes.iter().filter_map(|(endpoint, wish)| Some((*endpoint, url(wish)?))).collect()
    }

    /// Returns the current session, if it has a link.
    pub(super) fn live(&self) -> Option<usize> {
        let port = self.sessions.get(&self.current?).filter(|port| port.link.is_established())?;
        port.ledger.filter(|_| self.answers())
    }

    /// Returns whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.dials.is_empty() && self.leaving.is_empty()
    }

    /// Says what is left.
    pub(super) fn left(&self) -> String {
        let causes = |port: &Port<side::Agent>| format!("{:?} {:?}", port.ledger, port.link.cause());
        let sessions: Vec<_> = self.sessions.values().map(causes).collect();
        let leaving: Vec<_> = self.leaving.iter().map(causes).collect();
        format!("agent {}: {sessions:?} and {leaving:?}", self.number)
    }

    /// Goes on with a dial: a connection is there, or will not come, or needs another try.
    pub(super) fn connect(&mut self, cable: u64, nodes: &mut [Node], ground: &mut Ground) -> Result<(), Broken> {
        let Some((attempt, dial)) = self.dials.iter_mut().find(|(_, dial)| dial.cable == cable) else { return Ok(()) };
        let (attempt, target) = (*attempt, dial.target);
        let Some(node) = self.plan.targets.get(target).and_then(|node| nodes.get_mut(*node)) else { return Ok(()) };
        if self.clock.sleeps() {
            ground.after(AGAIN, Happening::Connect(cable));
            return Ok(());
        }
        if !ground.is_passable(self.number, node.number) || (node.is_up() && !node.answers()) {
            if dial.until <= ground.now {
                self.fail(attempt, Retry::Backoff, ground)?;
            } else {
                ground.after(AGAIN, Happening::Connect(cable));
            }
            return self.run(ground);
        }
        if !node.is_up() {
            self.fail(attempt, Retry::Soon, ground)?;
            return self.run(ground);
        }
        node.accept(cable, ground);
        let now = self.clock.read(ground.now);
        match &mut self.uplink {
            Some(uplink) if dial.stands_by => uplink.handle_connected(attempt, now),
            Some(_) | None => self.shake_hands(attempt, ground)?,
        }
        self.run(ground)
    }

    /// Goes on beside a silent link: TLS first, and then the session's way there.
    fn proceed(&mut self, attempt: u64, ground: &mut Ground, now: Instant) -> Result<(), Broken> {
        let Some(dial) = self.dials.get_mut(&attempt) else { return Ok(()) };
        if !core::mem::replace(&mut dial.secured, true) {
            self.uplink.iter_mut().for_each(|uplink| uplink.handle_secured(attempt, now));
            return Ok(());
        }
        let link = dial.resumes.and_then(|session| self.sessions.get(&session)).map(|port| &port.link);
        if !link.is_some_and(|link| link.is_silent() || link.is_parked()) {
            return self.fail(attempt, Retry::Backoff, ground);
        }
        ground.report.moved += 1;
        self.shake_hands(attempt, ground)
    }

    fn shake_hands(&mut self, attempt: u64, ground: &mut Ground) -> Result<(), Broken> {
        let Some(dial) = self.dials.get_mut(&attempt) else { return Ok(()) };
        dial.connected = true;
        let (now, seed, config) = (self.clock.read(ground.now), self.dice.seed(), self.plan.config.clone());
        let hello = hello(self.plan.place, self.run);
        let Some(session) = dial.resumes else {
            let link = Link::<side::Agent>::new(config, hello, seed, now);
            dial.port = Some(Port::new(link, dial.cable, &self.plan.config, self.plan.skew));
            return Ok(());
        };
        let cable = dial.cable;
        let resumed = self.sessions.get_mut(&session).and_then(|port| {
            let link = Link::<side::Agent>::resume(&mut port.link, config, hello, seed, now)?;
            let mut fresh = Port::new(link, cable, &self.plan.config, self.plan.skew);
            (fresh.ledger, fresh.events) = (port.ledger, core::mem::take(&mut port.events));
            fresh.waits = port.waits.or(Some(now));
            Some(core::mem::replace(port, fresh))
        });
        match resumed {
            Some(old) => self.leaving.push(old),
            None => self.fail(attempt, Retry::Backoff, ground)?,
        }
        Ok(())
    }

    /// Does what the uplink says; returns whether there was anything.
    fn obey(&mut self, ground: &mut Ground, now: Instant) -> Result<bool, Broken> {
        let mut moved = false;
        while let Some(action) = self.uplink.as_mut().and_then(Uplink::poll_action) {
            moved = true;
            ground.say(|| format!("agent {}: {action:?}", self.number));
            match action {
                Action::Dial { attempt, target } => self.dial(attempt, target, None, ground)?,
                Action::Resume { attempt, session, target } => self.dial(attempt, target, Some(session), ground)?,
                Action::StandBy { attempt, session, target } => {
                    self.dial(attempt, target, Some(session), ground)?;
                    ground.report.standbys += 1;
                    self.dials.get_mut(&attempt).into_iter().for_each(|dial| dial.stands_by = true);
                }
                Action::Proceed { attempt } => self.proceed(attempt, ground, now)?,
                Action::Hangup { attempt } => {
                    self.hang_up(attempt, ground, now);
                    self.allow(Retry::Backoff, false, now);
                }
                Action::Bind { attempt, bind } => {
                    let session = self.sessions.get_mut(&attempt).and_then(|port| port.link.session_mut());
                    let Some(result) = session.map(|session| session.bind(&bind)) else { continue };
                    if let (Err(BindError::Limit | BindError::InUse(_)), Some(uplink)) = (result, &mut self.uplink) {
                        let refusal = Refusal { code: Code::LIMIT, retry_after: None, text: String::new() };
                        uplink.handle_rejected(attempt, BindRefusal { id: bind.id, refusal }, now);
                    }
                }
                Action::Unbind { attempt, unbind } => {
                    if let Some(session) = self.sessions.get_mut(&attempt).and_then(|port| port.link.session_mut()) {
                        session.unbind(&unbind);
                    }
                }
                Action::Withhold { attempt, withheld } => {
                    if let Some(session) = self.sessions.get_mut(&attempt).and_then(|port| port.link.session_mut()) {
                        let _ = session.withhold(&withheld); // a hint: what does not fit is left out
                    }
                }
                Action::Drain { attempt } => {
                    if let Some(session) = self.sessions.get_mut(&attempt).and_then(|port| port.link.session_mut()) {
                        session.drain(Code::NO_ERROR, None, "", now);
                    }
                }
                Action::GiveUp(reason) => self.gave_up = Some(reason),
            }
        }
        self.note(ground);
        Ok(moved)
    }

    /// Takes what the uplink tells the user.
    fn note(&mut self, ground: &Ground) {
        let Some(uplink) = &mut self.uplink else { return };
        if uplink.current() != self.current {
            self.current = uplink.current();
            self.bound.clear();
        }
        while let Some(notice) = uplink.poll_notice() {
            ground.say(|| format!("agent {}: {notice:?}", self.number));
            match notice {
                Notice::Bound { id, url } => {
                    let wish = self.wishes.iter().find(|(_, wish)| **wish == Some(id));
                    if let (Some((endpoint, _)), Place { open: true, lane: 0, .. }) = (wish, self.plan.place)
                        && endpoint.is_multiple_of(2)
                        && let Some(chosen) = bind("tcp://:0".to_owned()).chosen(&url)
                        && self.chosen.insert(*endpoint, chosen.clone()).as_ref() != Some(&chosen)
                    {
                        self.news.push((*endpoint, chosen));
                    }
                    self.bound.insert(id, url);
                }
                Notice::Rejected { id, .. } | Notice::Unbound { id, .. } => drop(self.bound.remove(&id)),
                Notice::Draining { .. } => {}
            }
        }
    }

    fn dial(&mut self, attempt: u64, target: usize, resumes: Option<u64>, ground: &mut Ground) -> Result<(), Broken> {
        let Some(node) = self.plan.targets.get(target).copied() else { return Ok(()) };
        let second = ground.now.as_nanos() / 1_000_000_000;
        self.dialed = if self.dialed.0 == second { (second, self.dialed.1 + 1) } else { (second, 1) };
        if self.dialed.1 > DIALS {
            return Err(Broken::new(
                "TIME-002",
                format!("agent {} dials more than {DIALS} times in a second", self.number),
            ));
        }
        let paths = ground.paths_between(self.number, node);
        let trip = paths.iter().map(|path| path.latency).sum::<Duration>();
        let cable = ground.lay(self.number, node, paths);
        let until = ground.now + CONNECT;
        ground.report.dials += 1;
        ground.after(trip * 2, Happening::Connect(cable)); // TCP and TLS
        let (stands_by, secured) = (false, false);
        let dial =
            Dialing { target, resumes, stands_by, secured, cable, until, port: None, connected: false, verdict: None };
        self.dials.insert(attempt, dial);
        Ok(())
    }

    /// Takes note of how long it may wait, as what ended says; `resumes` when a session waits for the next link.
    pub(super) fn allow(&mut self, retry: Retry, resumes: bool, now: Instant) {
        let policy = &self.plan.policy;
        let most = match retry {
            Retry::After(asked) => with_spread(asked.clamp(policy.floor, Duration::from_secs(300))),
            Retry::Never | Retry::Now | Retry::Soon | Retry::Backoff if resumes => policy.resume_cap.max(policy.base),
            Retry::Never | Retry::Now | Retry::Soon | Retry::Backoff => {
                policy.cap.max(policy.base).max(policy.resume_cap)
            }
        };
        self.allowed = self.allowed.max(now + most);
    }

    fn hang_up(&mut self, attempt: u64, ground: &mut Ground, now: Instant) {
        if let Some(port) = self.sessions.get_mut(&attempt) {
            port.link.close(Code::DRAIN_TIMEOUT, "", now);
            return;
        }
        let Some(dial) = self.dials.remove(&attempt) else { return };
        if let Some(port) = dial.resumes.filter(|_| dial.connected).and_then(|session| self.sessions.get_mut(&session))
            && port.cable == Some(dial.cable)
        {
            port.lose(ground, Loss::Other, now);
        }
        ground.hang_up(dial.cable, Role::Agent, Farewell::Reset);
    }

    fn schedule(&mut self, ground: &mut Ground, now: Instant) -> Result<(), Broken> {
        let dials = self.dials.values().filter_map(|dial| dial.port.as_ref());
        let ports = self.sessions.values().chain(&self.leaving).chain(dials).filter_map(Port::due);
        let own = self.uplink.as_ref().and_then(Uplink::poll_timeout);
        if let Some(deadline) = own.filter(|deadline| deadline.at <= now) {
            return Err(Broken::new("L3", format!("agent {}: {deadline:?} at {now:?}", self.number)));
        }
        if let Some(wait) =
            self.uplink.as_ref().and_then(|uplink| uplink.redial_in(now)).filter(|it| now + *it > self.allowed)
        {
            return Err(Broken::new("TIME-002", format!("agent {} waits for {wait:?} to dial", self.number)));
        }
        let Some(due) = ports.chain(own.map(|deadline| deadline.at)).min() else { return Ok(()) };
        let due = self.clock.world(due);
        if self.scheduled.is_none_or(|at| due < at) {
            self.scheduled = Some(due);
            ground.at(due, Happening::Wake(Host::Agent(self.number)));
        }
        Ok(())
    }
}

const fn bind(url: String) -> Bind {
    Bind {
        id: BindId(0),
        url,
        pooling: false,
        upstream_protocol: UpstreamProtocol::Http1,
        name: String::new(),
        description: String::new(),
        metadata: String::new(),
        tls_end: crate::TlsEnd::Unsaid,
    }
}

fn hello(place: Place, run: u64) -> Hello {
    Hello {
        agent: super::node::agent_name(place.program),
        incarnation: run,
        lane: place.lane,
        token: Secret::new(*b"token"),
        ..crate::testing::a_hello()
    }
}

/// How long a connection is tried for, and how often.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(1);

/// The most dials in a second: the least delay is 100 ms, and a few come at once.
const DIALS: u32 = 15;
