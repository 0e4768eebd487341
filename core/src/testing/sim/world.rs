//! One world, from its beginning to its end.

use alloc::{format, vec::Vec};

use super::{
    Broken, Report,
    agent::{Agent, CONNECT},
    clock::Clock,
    dice::Dice,
    fault::SLACK,
    ground::{Ground, Happening, Host},
    node::{Call, Node},
    plan::{Plan, Skew},
};
use crate::{Duration, GiveUp, Instant, Role};

/// Everybody, and what they share.
#[derive(Debug)]
pub(super) struct World {
    pub(super) ground: Ground,
    pub(super) agents: Vec<Agent>,
    pub(super) nodes: Vec<Node>,
    plan: Plan,
    began: Instant,
    /// Whether things may still go wrong.
    wild: bool,
    /// The second that it is, and how often timers of each host were due in it.
    second: u64,
    wakes: Vec<(Host, u32)>,
}

impl World {
    pub(super) fn new(seed: u64, trace: Option<fn(&str)>) -> Self {
        let mut dice = Dice::new(seed);
        let mut plan = Plan::draw(&mut dice);
        plan.add_siblings(&mut Dice::new(!seed));
        let agents =
            plan.agents.iter().enumerate().map(|(it, plan)| Agent::new(it, plan.clone(), dice.fork())).collect();
        let nodes = plan.nodes.iter().enumerate().map(|(it, plan)| Node::new(it, plan.clone(), dice.fork())).collect();
        let ground = Ground::new(dice, &plan, trace);
        ground.say(|| format!("{plan:#?}"));
        Self { began: ground.now, ground, agents, nodes, plan, wild: true, second: 0, wakes: Vec::new() }
    }

    pub(super) fn age(&self) -> Duration {
        self.ground.now.since(self.began)
    }

    pub(super) fn report(&self) -> Report {
        let talks = &self.ground.talks;
        let whole = talks.iter().filter(|talk| talk.is_whole()).count() as u64;
        let shared = u64::from(self.plan.shares());
        Report { worlds: 1, shared, time: self.age(), streams: talks.len() as u64, whole, ..self.ground.report.clone() }
    }

    pub(super) fn run(&mut self) -> Result<(), Broken> {
        for agent in 0..self.agents.len() {
            self.agents[agent].start(&self.ground);
        }
        for (at, fault) in core::mem::take(&mut self.plan.faults) {
            self.ground.after(at, Happening::Strike(fault));
        }
        for (number, talk) in self.plan.talks.iter().enumerate() {
            self.ground.after(talk.at, Happening::Begin(number));
        }
        self.run_all()?;
        self.run_until(self.ground.now + self.plan.chaos, |_| false)?;

        self.wild = false;
        self.make_well()?;
        self.come_back()?;
        self.finish()?;
        self.close()
    }

    /// The liveness law: after everything is well, every endpoint is bound within a bound.
    fn come_back(&mut self) -> Result<(), Broken> {
        let (since, patience) = (self.ground.now, self.patience());
        let back = |world: &Self| {
            world.agents.iter().all(|agent| agent.missing(&world.nodes) == 0 || !agent.fits()) && world.agrees()
        };
        if !self.run_until(since + patience, back)? {
            let missing: Vec<usize> = self.agents.iter().map(|agent| agent.missing(&self.nodes)).collect();
            let what = if self.agrees() { "endpoints missing" } else { "siblings serve different endpoints" };
            return Err(Broken::new("liveness", format!("{what} after {patience:?}: {missing:?}")));
        }
        self.ground.report.back = self.ground.now.since(since);
        Ok(())
    }

    /// L9: every stream comes to its ends, and never stands still for long.
    fn finish(&mut self) -> Result<(), Broken> {
        loop {
            let before = self.ground.report.progress;
            let done = |world: &Self| world.ground.talks.iter().all(|talk| talk.is_over());
            if self.run_until(self.ground.now + STANDSTILL, done)? {
                return Ok(());
            }
            if self.ground.report.progress == before {
                let stuck: Vec<_> = self.ground.talks.iter().filter(|talk| !talk.is_over()).collect();
                return Err(Broken::new("L9", format!("nothing moves for {STANDSTILL:?}: {stuck:?}")));
            }
        }
    }

    /// L10: everybody ends in order, and after the end nothing is left and nothing comes.
    fn close(&mut self) -> Result<(), Broken> {
        let drain = self.ground.dice.millis(0, 10_000);
        if self.ground.dice.percent(30) {
            self.nodes.iter_mut().for_each(|node| node.drain(&self.ground));
            self.run_all()?;
            self.run_until(self.ground.now + Duration::from_secs(2), |_| false)?;
        }
        self.agents.iter_mut().for_each(|agent| agent.shut_down(drain, &self.ground));
        self.run_all()?;
        let empty = |world: &Self| world.agents.iter().all(Agent::is_empty) && world.nodes.iter().all(Node::is_empty);
        if !self.run_until(self.ground.now + STANDSTILL, empty)? {
            let left: Vec<_> = self.nodes.iter().map(Node::left).chain(self.agents.iter().map(Agent::left)).collect();
            return Err(Broken::new("L10", format!("something is left after {STANDSTILL:?}: {left:?}")));
        }
        if let Some(agent) = self.agents.iter().find(|agent| agent.gave_up != Some(GiveUp::Shutdown) && agent.fits()) {
            return Err(Broken::new("L10", format!("agent {} ended with {:?}", agent.number, agent.gave_up)));
        }
        self.run_until(self.ground.now + STANDSTILL, |world| world.ground.is_over())?;
        if !self.ground.is_over() {
            return Err(Broken::new("L6", "after the end of everything something is due"));
        }
        Ok(())
    }

    /// Lets time pass until something holds; returns whether it did by then.
    fn run_until(&mut self, until: Instant, holds: impl Fn(&Self) -> bool) -> Result<bool, Broken> {
        loop {
            if holds(self) {
                return Ok(true);
            }
            let Some(happening) = self.ground.next(until) else {
                self.ground.now = self.ground.now.max(until);
                return Ok(false);
            };
            self.ground.report.steps += 1;
            if self.ground.report.steps > STEPS {
                return Err(Broken::new("L6", format!("{STEPS} steps, and no end")));
            }
            self.step(happening)?;
            if self.plan.shares() {
                self.share()?;
            }
        }
    }

    fn step(&mut self, happening: Happening) -> Result<(), Broken> {
        let ground = &mut self.ground;
        match happening {
            Happening::Wake(host) => {
                let now = ground.now;
                let due = match host {
                    Host::Agent(agent) => self.agents[agent].is_due(now),
                    Host::Node(node) => self.nodes[node].is_due(now),
                };
                if due {
                    self.count(host)?;
                }
                self.run_host(host)
            }
            Happening::Arrive(cable, role) => {
                let Some(cable) = ground.cables.get(&cable) else { return Ok(()) };
                let host = match role {
                    Role::Agent => Host::Agent(cable.agent),
                    Role::Network => Host::Node(cable.node),
                };
                self.run_host(host)
            }
            Happening::Connect(cable) => {
                let Some((agent, node)) = ground.cables.get(&cable).map(|cable| (cable.agent, cable.node)) else {
                    return Ok(());
                };
                self.agents[agent].connect(cable, &mut self.nodes, ground)?;
                self.run_host(Host::Node(node))
            }
            Happening::Heal(agent, node) => {
                ground.heal(agent, node);
                Ok(())
            }
            Happening::Return(host) => {
                match host {
                    Host::Agent(agent) => self.agents[agent].come_back(ground),
                    Host::Node(node) => self.nodes[node].come_back(ground.now),
                }
                self.run_host(host)
            }
            Happening::Rested(talk, role) => self.go_on(talk, role),
            Happening::Begin(number) => {
                let plan = self.plan.talks[number];
                let call = self.nodes[plan.node].open(&plan, ground)?;
                if call.as_ref().is_none_or(|call| call.session.is_none()) && self.wild {
                    ground.after(Duration::from_millis(500), Happening::Begin(number));
                }
                if let Some(call) = call {
                    self.check_call(plan.node, &call)?;
                }
                self.run_host(Host::Node(plan.node))
            }
            Happening::Answer(node, ticket) => {
                if self.nodes[node].clock.sleeps() {
                    ground.after(Duration::from_secs(1), Happening::Answer(node, ticket));
                    return Ok(());
                }
                self.nodes[node].answer(ticket, ground);
                self.run_host(Host::Node(node))
            }
            Happening::Strike(fault) => {
                if self.wild {
                    self.ground.say(|| format!("{fault:?}"));
                    self.strike(fault)?;
                }
                Ok(())
            }
        }
    }

    /// Lets an application go on that has rested; one on a machine that sleeps rests with it.
    fn go_on(&mut self, talk: usize, role: Role) -> Result<(), Broken> {
        let ground = &mut self.ground;
        let session = ground.talks[talk].ledger;
        let (agent, node) = (ground.ledgers[session].agent, ground.ledgers[session].node);
        let host = match role {
            Role::Agent => Host::Agent(agent),
            Role::Network => Host::Node(node),
        };
        if self.clock(host).sleeps() {
            self.ground.after(Duration::from_secs(1), Happening::Rested(talk, role));
            return Ok(());
        }
        self.ground.talks[talk].rested(role);
        match host {
            Host::Agent(agent) => self.agents[agent].talk(session, talk, &mut self.ground)?,
            Host::Node(node) => self.nodes[node].talk(session, talk, &mut self.ground)?,
        }
        self.run_host(host)
    }

    /// Lets siblings ask for what the first of them was given (BIND-012).
    fn share(&mut self) -> Result<(), Broken> {
        for first in 0..self.agents.len() {
            for (endpoint, url) in self.agents[first].take_news() {
                for sibling in self.kin(first).into_iter().filter(|sibling| *sibling != first) {
                    self.agents[sibling].follow(endpoint, &url, &self.ground);
                    self.agents[sibling].run(&mut self.ground)?;
                }
            }
        }
        Ok(())
    }

    /// Returns whether siblings serve the same endpoints.
    fn agrees(&self) -> bool {
        !self.plan.shares()
            || self.agents.iter().all(|agent| {
                let first = &self.agents[agent.plan.place.program];
                !agent.fits() || agent.serves() == first.serves()
            })
    }

    /// AUTH-008: losing one session does not lose the agent. Nobody waits for a session while a sibling serves the endpoint.
    fn check_call(&mut self, node: usize, call: &Call) -> Result<(), Broken> {
        let node = &self.nodes[node];
        let serves = |agent: &&Agent| {
            agent.live().is_some_and(|session| node.serves(session, &call.url))
                && agent.serves().values().any(|url| *url == call.url)
        };
        let siblings = self.agents.iter().filter(|agent| agent.plan.place.shared);
        let serving: Vec<usize> = siblings.filter(serves).map(|agent| agent.number).collect();
        let Some(first) = serving.first() else { return Ok(()) };
        if !call.full && !call.session.is_some_and(|session| node.is_live(session)) {
            let text = format!("a caller of {} gets {:?} while {serving:?} serve it", call.url, call.session);
            return Err(Broken::new("AUTH-008", text));
        }
        let lost = self.kin(*first).into_iter().filter(|sibling| self.agents[*sibling].live().is_none()).count();
        self.ground.report.spared += u64::from(lost > 0);
        Ok(())
    }

    /// Returns the agents that are one program with this one.
    pub(super) fn kin(&self, agent: usize) -> Vec<usize> {
        let program = self.agents[agent].plan.place.program;
        let kin = self.agents.iter().filter(|agent| agent.plan.place.program == program);
        kin.map(|agent| agent.number).collect()
    }

    fn run_host(&mut self, host: Host) -> Result<(), Broken> {
        match host {
            Host::Agent(agent) => self.agents[agent].run(&mut self.ground),
            Host::Node(node) => self.nodes[node].run(&mut self.ground),
        }
    }

    pub(super) fn run_all(&mut self) -> Result<(), Broken> {
        self.agents.iter_mut().try_for_each(|agent| agent.run(&mut self.ground))?;
        self.nodes.iter_mut().try_for_each(|node| node.run(&mut self.ground))
    }

    pub(super) fn clock(&mut self, host: Host) -> &mut Clock {
        match host {
            Host::Agent(agent) => &mut self.agents[agent].clock,
            Host::Node(node) => &mut self.nodes[node].clock,
        }
    }

    /// L6: timers are not due more often than there is reason to.
    fn count(&mut self, host: Host) -> Result<(), Broken> {
        let second = self.ground.now.as_nanos() / 1_000_000_000;
        if self.second != second {
            self.second = second;
            self.wakes.clear();
        }
        let place = match self.wakes.iter().position(|(other, _)| *other == host) {
            Some(place) => place,
            None => {
                self.wakes.push((host, 0));
                self.wakes.len() - 1
            }
        };
        self.wakes[place].1 += 1;
        let most = WAKES * (u32::try_from(self.agents.len()).unwrap_or(u32::MAX) + 1);
        if self.wakes[place].1 > most {
            return Err(Broken::new("L6", format!("timers of {host} were due more than {most} times in a second")));
        }
        Ok(())
    }

    /// Returns how long it may take until every endpoint is bound, after everything is well:
    ///
    /// - a link that is dead has to be found out: an interval and a tolerance, at either side, one after the other;
    /// - a dial that is under way may be in vain: connecting and shaking hands;
    /// - then the longest delay that is drawn, or the longest that was asked for, and a tenth;
    /// - the next dial may go to a target that has forgotten the session, and the one after it comes after the longest delay
    ///   again;
    /// - a bind that was refused waits for as long as binds do.
    fn patience(&self) -> Duration {
        let agents = self.plan.agents.iter().map(|agent| {
            let delay = agent.policy.cap.max(self.ground.longest_wish).max(REPLACED);
            let dial = CONNECT + agent.config.handshake_timeout;
            (delay + dial) * 2
        });
        let nodes = self.plan.nodes.iter().map(|node| node.config.heartbeat);
        let heartbeats = self.plan.agents.iter().map(|agent| agent.config.heartbeat).chain(nodes);
        let silence = heartbeats.map(|it| it.interval + it.tolerance).max().unwrap_or_default() * 2;
        let slow = self.plan.nodes.iter().filter_map(|node| node.slow).max().unwrap_or_default();
        // Where one session asks for what another was given, one bind waits for the other.
        let binds = if self.plan.shares() { 2 } else { 1 };
        agents.max().unwrap_or_default() + silence + (slow + REBIND) * binds + SLACK
    }
}

impl Agent {
    /// Returns whether it speaks a version that the nodes speak.
    pub(super) const fn fits(&self) -> bool {
        !matches!(self.plan.skew, Skew::Versions([_, 0]))
    }
}

/// How long an agent waits whose session was taken over, or whose token was withdrawn: 30 s and a tenth.
const REPLACED: Duration = Duration::from_secs(33);
/// The longest that a bind waits after it was refused, and its answer.
const REBIND: Duration = Duration::from_secs(33 + 30);
/// How long streams may stand still: a dead link has to be found out, and a session to expire.
const STANDSTILL: Duration = Duration::from_secs(600);
/// How often timers of a host may be due in a second, for each other host: acknowledgements are due after 25 ms.
const WAKES: u32 = 100;
const STEPS: u64 = 20_000_000;
