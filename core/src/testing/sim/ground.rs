//! What everybody in a world shares: the time, what happens when, the connections, the streams, and the record.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use core::fmt;

use bytes::Bytes;

use super::{
    Broken, Report,
    cable::{Cable, Farewell, Fate, side},
    dice::Dice,
    ledger::Ledger,
    node::Origin,
    plan::{Fault, Place, Plan},
    talk::{Seat, Talk},
};
use crate::{Config, Duration, Instant, Role, Secret, testing::Path};

/// The common part of a world.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) now: Instant,
    agenda: BTreeMap<(Instant, u64), Happening>,
    serial: u64,
    pub(super) dice: Dice,
    pub(super) cables: BTreeMap<u64, Cable>,
    next_cable: u64,
    pub(super) ledgers: Vec<Ledger>,
    pub(super) talks: Vec<Talk>,
    /// By agent, node and direction: until when nothing passes.
    pub(super) outages: BTreeMap<(usize, usize), [Instant; 2]>,
    /// By agent and node: until when something was wrong between them, so that a link may be lost or not be made.
    pub(super) trouble: BTreeMap<(usize, usize), Instant>,
    /// The longest delay that any node asked for.
    pub(super) longest_wish: Duration,
    pub(super) pattern: Bytes,
    /// What the agents are configured for.
    pub(super) agents: Vec<Config>,
    /// By agent.
    places: Vec<Place>,
    ports: u32,
    /// By agent and node.
    paths: Vec<Vec<[Path; 2]>>,
    pub(super) report: Report,
    trace: Option<fn(&str)>,
}

/// Something that is due.
#[derive(Debug)]
pub(super) enum Happening {
    /// A host's own timer, or a wish to look around.
    Wake(Host),
    /// Something arrives at this end.
    Arrive(u64, Role),
    /// A dial comes to its connection, or tries once more.
    Connect(u64),
    /// A path may be open again.
    Heal(usize, usize),
    /// A host that was away comes back.
    Return(Host),
    /// A stream's reader or writer has rested.
    Rested(usize, Role),
    /// A stream is to be opened.
    Begin(usize),
    /// A node answers what it was asked a while ago.
    Answer(usize, u64),
    /// Something goes wrong.
    Strike(Fault),
}

/// Who is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    Agent(usize),
    Node(usize),
}

impl Ground {
    pub(super) fn new(dice: Dice, plan: &Plan, trace: Option<fn(&str)>) -> Self {
        let mut noise = dice.clone();
        let mut pattern = alloc::vec![0; PERIOD];
        pattern.chunks_exact_mut(8).for_each(|octets| octets.copy_from_slice(&noise.seed().to_be_bytes()));
        pattern.extend_from_within(..);
        Self {
            now: Instant::from_nanos(1_000_000_000),
            agenda: BTreeMap::new(),
            serial: 0,
            dice,
            cables: BTreeMap::new(),
            next_cable: 0,
            ledgers: Vec::new(),
            talks: Vec::new(),
            outages: BTreeMap::new(),
            trouble: BTreeMap::new(),
            longest_wish: Duration::ZERO,
            pattern: pattern.into(),
            agents: plan.agents.iter().map(|agent| agent.config.clone()).collect(),
            places: plan.agents.iter().map(|agent| agent.place).collect(),
            ports: 1 << 20,
            report: Report::default(),
            paths: plan.paths.clone(),
            trace,
        }
    }

    pub(super) fn after(&mut self, delay: Duration, happening: Happening) {
        self.at(self.now + delay, happening);
    }

    pub(super) fn at(&mut self, at: Instant, happening: Happening) {
        self.serial += 1;
        self.agenda.insert((at.max(self.now), self.serial), happening);
    }

    /// Goes to what is due next, unless that is later than `until`.
    pub(super) fn next(&mut self, until: Instant) -> Option<Happening> {
        let entry = self.agenda.first_entry().filter(|entry| entry.key().0 <= until)?;
        let ((at, _), happening) = entry.remove_entry();
        self.now = self.now.max(at);
        Some(happening)
    }

    pub(super) fn is_over(&self) -> bool {
        self.agenda.is_empty()
    }

    /// Makes a connection of two ends that are there.
    pub(super) fn lay(&mut self, agent: usize, node: usize, paths: [Path; 2]) -> u64 {
        self.next_cable += 1;
        self.cables.insert(self.next_cable, Cable::new(agent, node, paths));
        self.next_cable
    }

    /// Takes octets from one end; returns how many.
    pub(super) fn send(&mut self, cable: u64, role: Role, octets: &[u8]) -> usize {
        let now = self.now;
        let Some(wire) = self.cables.get_mut(&cable) else { return octets.len() };
        let mut arrivals = Vec::new();
        let taken = wire.out(role).send(octets, now, |at| arrivals.push(at));
        for at in arrivals {
            self.at(at, Happening::Arrive(cable, role.peer()));
        }
        taken
    }

    /// Returns the next piece that has arrived at one end, or how the other end went.
    pub(super) fn receive(&mut self, cable: u64, role: Role) -> Option<Result<Vec<u8>, Farewell>> {
        let now = self.now;
        let wire = self.cables.get_mut(&cable)?;
        let (agent, node) = (wire.agent, wire.node);
        if self.outages.get(&(agent, node)).is_some_and(|until| until[side(role.peer())] > now) {
            return None;
        }
        let pipe = wire.out(role.peer());
        if let Some(piece) = pipe.receive(now) {
            if core::mem::take(&mut pipe.blocked) {
                let (latency, host) = (pipe.latency(), host(role.peer(), agent, node));
                self.after(latency, Happening::Wake(host));
            }
            return Some(Ok(piece));
        }
        pipe.farewell(now).map(Err)
    }

    /// Lets go of one end of a connection.
    pub(super) fn hang_up(&mut self, cable: u64, role: Role, farewell: Farewell) {
        let now = self.now;
        let Some(wire) = self.cables.get_mut(&cable) else { return };
        if !wire.is_held(role) {
            return;
        }
        let gone = wire.let_go(role, farewell, now);
        let arrives = wire.out(role).ends_at();
        if gone {
            self.cables.remove(&cable);
        } else if let Some(at) = arrives {
            self.at(at, Happening::Arrive(cable, role.peer()));
        }
    }

    /// Decides what becomes of octets on a connection, in the directions that are named by their senders.
    pub(super) fn doom(&mut self, cable: u64, roles: &[Role], fate: Fate) {
        if let Some(wire) = self.cables.get_mut(&cable) {
            for role in roles {
                wire.out(*role).fate = fate;
            }
        }
    }

    /// Returns the connections between an agent and any node, or between a node and any agent.
    pub(super) fn cables_of(&self, host: Host) -> Vec<u64> {
        let touches = |cable: &Cable| match host {
            Host::Agent(agent) => cable.agent == agent,
            Host::Node(node) => cable.node == node,
        };
        self.cables.iter().filter(|(_, cable)| touches(cable)).map(|(id, _)| *id).collect()
    }

    /// Lets nothing pass between an agent and a node for a while.
    pub(super) fn interrupt(&mut self, agent: usize, node: usize, roles: &[Role], lasts: Duration) {
        let until = self.now + lasts;
        let outage = self.outages.entry((agent, node)).or_default();
        for role in roles {
            outage[side(*role)] = outage[side(*role)].max(until);
        }
        self.at(until, Happening::Heal(agent, node));
    }

    /// Lets what an outage held up go on.
    pub(super) fn heal(&mut self, agent: usize, node: usize) {
        let now = self.now;
        let outage = self.outages.get(&(agent, node)).copied().unwrap_or_default();
        let mut arrivals = Vec::new();
        for (id, cable) in self.cables.iter_mut().filter(|(_, cable)| (cable.agent, cable.node) == (agent, node)) {
            for role in [Role::Agent, Role::Network].into_iter().filter(|role| outage[side(*role)] <= now) {
                cable.out(role).flow_again(now, |at| arrivals.push((at, *id, role.peer())));
            }
        }
        for (at, id, role) in arrivals {
            self.at(at, Happening::Arrive(id, role));
        }
    }

    /// Takes note that something is wrong with a host, or between two, from now on for so long.
    pub(super) fn note_trouble(&mut self, agents: &[usize], nodes: &[usize], lasts: Duration) {
        let until = self.now + lasts;
        for pair in agents.iter().flat_map(|agent| nodes.iter().map(|node| (*agent, *node))) {
            let trouble = self.trouble.entry(pair).or_default();
            *trouble = until.max(*trouble);
        }
    }

    /// Returns for how long nothing was wrong between an agent and a node.
    pub(super) fn calm(&self, agent: usize, node: usize) -> Duration {
        self.now.since(self.trouble.get(&(agent, node)).copied().unwrap_or_default())
    }

    /// Returns whether a new connection can be made.
    pub(super) fn is_passable(&self, agent: usize, node: usize) -> bool {
        self.outages.get(&(agent, node)).is_none_or(|until| until.iter().all(|until| *until <= self.now))
    }

    /// Takes note that a program, and with it the applications of a session, is no more.
    pub(super) fn bury(&mut self, session: usize, role: Role) {
        for talk in self.talks.iter_mut().filter(|talk| talk.ledger == session) {
            talk.seats[side(role)] = Seat::Dead;
        }
    }

    pub(super) fn say(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = self.trace {
            let seconds = self.now.as_nanos() / 1_000_000_000;
            let micros = self.now.as_nanos() / 1_000 % 1_000_000;
            trace(&format!("{seconds:>6}.{micros:06} {}", line()));
        }
    }

    pub(super) const fn traces(&self) -> bool {
        self.trace.is_some()
    }

    pub(super) fn paths_between(&self, agent: usize, node: usize) -> [Path; 2] {
        self.paths.get(agent).and_then(|nodes| nodes.get(node)).cloned().unwrap_or_default()
    }

    /// Returns the place of an agent among the sessions of its program.
    pub(super) fn place(&self, agent: usize) -> Result<Place, Broken> {
        self.places.get(agent).copied().ok_or_else(|| Broken::new("harness", "an agent that is nobody"))
    }

    /// Returns who has a place.
    pub(super) fn seated(&self, origin: Origin) -> Result<usize, Broken> {
        let agent = self.places.iter().position(|place| (place.program, place.lane) == (origin.program, origin.lane));
        agent.ok_or_else(|| Broken::new("harness", format!("{origin:?} is nobody")))
    }

    /// AUTH-008: what a session has is taken over by one of its own place, or of another run of the program.
    pub(super) fn check_replaced(&self, number: usize) -> Result<(), Broken> {
        let Some(old) = self.ledgers.get(number) else { return Ok(()) };
        let place = self.place(old.agent)?;
        let is_heir = |ledger: &Ledger| {
            ledger.node == old.node
                && self.place(ledger.agent).is_ok_and(|it| it.program == place.program)
                && (ledger.agent == old.agent || ledger.incarnation != old.incarnation)
        };
        if !self.ledgers.iter().skip(number + 1).any(is_heir) {
            return Err(Broken::new("AUTH-008", format!("session {number}, {place:?}, gives way to a sibling")));
        }
        Ok(())
    }

    /// Returns a port that nobody has had.
    pub(super) const fn next_port(&mut self) -> u32 {
        self.ports += 1;
        self.ports
    }

    /// Returns what the other sessions of an agent are resumed with.
    pub(super) fn secrets_of_siblings(&mut self, number: usize) -> Result<Vec<Secret>, Broken> {
        let agent = self.ledger(number)?.agent;
        let program = self.place(agent)?.program;
        let is_sibling = |ledger: &&Ledger| {
            ledger.agent != agent && self.places.get(ledger.agent).is_some_and(|place| place.program == program)
        };
        Ok(self.ledgers.iter().filter(is_sibling).filter_map(|ledger| ledger.secrets.last().cloned()).collect())
    }

    /// Returns the record of a session.
    pub(super) fn ledger(&mut self, number: usize) -> Result<&mut Ledger, Broken> {
        self.ledgers.get_mut(number).ok_or_else(|| Broken::new("harness", "a session that nobody made"))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(number) => write!(f, "agent {number}"),
            Self::Node(number) => write!(f, "node {number}"),
        }
    }
}

const fn host(role: Role, agent: usize, node: usize) -> Host {
    match role {
        Role::Agent => Host::Agent(agent),
        Role::Network => Host::Node(node),
    }
}

/// The octets after which the content of streams repeats.
pub(super) const PERIOD: usize = 1 << 16;
