//! What a seed decides before the world begins: who is there, over which paths, what is done, and what goes wrong.

use alloc::vec::Vec;

use super::{dice::Dice, ground::Host, talk::Lanes};
use crate::{Config, Duration, Heartbeat, ReconnectPolicy, Role, testing::Path};

/// One world.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) nodes: Vec<NodePlan>,
    pub(super) agents: Vec<AgentPlan>,
    /// By agent and node: the way up and the way down.
    pub(super) paths: Vec<Vec<[Path; 2]>>,
    pub(super) talks: Vec<TalkPlan>,
    pub(super) faults: Vec<(Duration, Fault)>,
    /// How long things go wrong.
    pub(super) chaos: Duration,
}

/// A place where agents are served.
#[derive(Clone, Debug)]
pub(super) struct NodePlan {
    pub(super) config: Config,
    /// How many sessions may wait for their agents.
    pub(super) parked: usize,
    /// How long it takes to answer a bind.
    pub(super) slow: Option<Duration>,
    pub(super) skew: Skew,
}

/// A program that wants endpoints.
#[derive(Clone, Debug)]
pub(super) struct AgentPlan {
    pub(super) config: Config,
    pub(super) policy: ReconnectPolicy,
    pub(super) targets: Vec<usize>,
    pub(super) binds: u32,
    pub(super) skew: Skew,
    pub(super) place: Place,
}

/// Which of the sessions of which program it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The number of whoever holds the program's first session.
    pub(super) program: usize,
    pub(super) lane: u8,
    /// Whether the program holds more than one.
    pub(super) shared: bool,
    /// Whether it leaves to the network what every other of its endpoints is.
    pub(super) open: bool,
}

/// A connection that a caller makes.
#[derive(Clone, Copy, Debug)]
pub(super) struct TalkPlan {
    pub(super) at: Duration,
    pub(super) node: usize,
    pub(super) lanes: [Lanes; 2],
}

/// How a side's version differs from the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skew {
    None,
    /// It offers these versions; zero is none.
    Versions([u32; 2]),
    /// Its messages have fields that nobody knows.
    Fields,
    /// It sends frames that may be ignored.
    Extensions,
}

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The connections of an agent are reset. Whoever is not told finds out by itself.
    Reset { agent: usize, told: [bool; 2] },
    /// Nothing passes for a while, in the directions named by their senders; TCP makes up for it.
    Outage { agent: usize, node: usize, roles: Vec<Role>, lasts: Duration },
    /// Connections that exist carry nothing any more; new ones do.
    Forget { host: Host, roles: Vec<Role>, swallow: bool },
    /// A program ends and comes back, knowing nothing. Quietly: no connection is closed.
    Restart { host: Host, away: Duration, quiet: bool },
    /// A node lets its sessions drain and then restarts.
    Drain { node: usize, patience: Duration, away: Duration },
    /// A machine sleeps; its clock counts that or not.
    Sleep { host: Host, lasts: Duration, counted: bool },
    /// A clock jumps ahead.
    Jump { host: Host, by: Duration },
    /// An agent has another address.
    Roam { agent: usize, noticed: bool },
    /// A node refuses whoever comes, and every bind.
    Refuse { node: usize, lasts: Duration, how: Refusing },
    /// A node takes a bind back.
    TakeBack { node: usize },
    /// A node ends a session at once.
    Evict { node: usize },
    /// A node asks something of its agents.
    Command { node: usize },
    /// Somebody tries to take sessions over.
    Thief { node: usize },
    /// An agent gives an endpoint up and wishes for another.
    Rebind { agent: usize, cut: bool },
}

/// What a node says to whoever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusing {
    Busy,
    BusyFor(Duration),
    Credentials,
    /// The handshakes go on, binds are refused.
    Binds,
    /// It does not answer at all.
    Silent,
}

impl Refusing {
    /// Returns the longest delay that an agent may take from it.
    pub(super) fn wish(self) -> Duration {
        match self {
            Self::Busy | Self::Binds | Self::Silent => Duration::ZERO,
            Self::BusyFor(delay) => with_spread(delay.min(Duration::from_secs(300))),
            Self::Credentials => with_spread(Duration::from_secs(30)),
        }
    }
}

/// Returns the longest that a delay may be that everyone is told.
pub(super) fn with_spread(delay: Duration) -> Duration {
    delay + delay / 10
}

impl Plan {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let (nodes, agents, talks, faults, chaos) = match dice.between(0, 99) {
            0..78 => (1, 1, dice.size(1, 6), dice.size(0, 8), dice.spread_millis(1_000, 60_000)),
            78..96 => {
                let (nodes, agents) = (dice.size(1, 2), dice.size(1, 3));
                (nodes, agents, dice.size(2, 12), dice.size(2, 20), dice.spread_millis(5_000, 200_000))
            }
            _ => {
                let (nodes, agents) = (dice.size(2, 3), dice.size(4, 8));
                (nodes, agents, dice.size(10, 30), dice.size(10, 40), dice.spread_millis(10_000, 1_200_000))
            }
        };
        let most = if dice.percent(15) { 400_000 } else { 40_000 };
        Self {
            nodes: (0..nodes).map(|_| NodePlan::draw(dice)).collect(),
            agents: (0..agents).map(|number| AgentPlan::draw(dice, number, nodes)).collect(),
            paths: (0..agents).map(|_| (0..nodes).map(|_| paths(dice, most)).collect()).collect(),
            talks: (0..talks).map(|_| TalkPlan::draw(dice, nodes, chaos, most)).collect(),
            faults: (0..faults).map(|_| (within(dice, chaos), Fault::draw(dice, agents, nodes))).collect(),
            chaos,
        }
    }

    /// Returns whether there are programs that hold several sessions.
    pub(super) fn shares(&self) -> bool {
        self.agents.iter().any(|agent| agent.place.shared)
    }

    /// Lets the programs of some worlds hold several sessions, each like an agent of its own beside the others. The dice
    /// are others: what was drawn before is the same in every world.
    pub(super) fn add_siblings(&mut self, dice: &mut Dice) {
        if !dice.percent(SHARED) {
            return;
        }
        let programs = self.agents.len();
        let most = if programs == 1 { u64::from(crate::LANES) } else { 3 };
        for program in 0..programs {
            let lanes = u8::try_from(dice.spread(2, most)).unwrap_or(2);
            let place = Place { program, lane: 0, shared: true, open: dice.percent(40) };
            self.agents[program].place = place;
            let mut places = alloc::vec![program];
            for lane in 1..lanes {
                let mut plan = self.agents[program].clone();
                plan.place.lane = lane;
                let turn = usize::from(lane) % plan.targets.len();
                plan.targets.rotate_left(turn);
                places.push(self.agents.len());
                self.agents.push(plan);
                self.paths.push(self.paths[program].clone());
            }
            self.lose_some(&places, dice);
        }
    }

    /// Draws what becomes of single sessions of a program, and who calls meanwhile.
    fn lose_some(&mut self, places: &[usize], dice: &mut Dice) {
        for _ in 0..dice.size(1, 3) {
            let at = within(dice, self.chaos);
            let (agent, node) = (places[dice.index(places.len())], dice.index(self.nodes.len()));
            let fault = match dice.between(0, 3) {
                0 => Fault::Forget { host: Host::Agent(agent), roles: roles(dice), swallow: dice.percent(40) },
                1 => Fault::Outage { agent, node, roles: roles(dice), lasts: dice.spread_millis(5, 90_000) },
                _ => Fault::Reset { agent, told: [[true, true], [true, false], [false, true]][dice.index(3)] },
            };
            self.faults.push((at, fault));
            let talk = TalkPlan::draw(dice, self.nodes.len(), self.chaos, 10_000);
            self.talks.push(TalkPlan { at: at + dice.spread_millis(1, 10_000), ..talk });
        }
    }
}

impl NodePlan {
    fn draw(dice: &mut Dice) -> Self {
        let config = config(dice, Config::network());
        let parked = if dice.percent(80) { 100 } else { dice.size(1, 3) };
        let skew = [Skew::None, Skew::None, Skew::None, Skew::None, Skew::Fields, Skew::Extensions][dice.index(6)];
        Self { config, parked, slow: dice.percent(20).then(|| dice.spread_millis(1, 20_000)), skew }
    }
}

impl AgentPlan {
    fn draw(dice: &mut Dice, number: usize, nodes: usize) -> Self {
        let mut targets: Vec<usize> = (0..nodes).collect();
        for place in (1..targets.len()).rev() {
            targets.swap(place, dice.index(place + 1));
        }
        targets.truncate(dice.size(1, nodes as u64));
        let skew = match dice.between(0, 99) {
            0..85 => Skew::None,
            85..90 => Skew::Versions([2, crate::VERSION]),
            90..92 => Skew::Versions([2, 0]),
            92..96 => Skew::Fields,
            _ => Skew::Extensions,
        };
        let mut policy = ReconnectPolicy::default();
        if dice.percent(20) {
            policy.cap = dice.spread_millis(500, 30_000);
            policy.dials = u32::try_from(dice.between(1, 6)).unwrap_or(1);
            policy.faithful = dice.millis(0, 10_000);
        }
        let binds = u32::try_from(dice.between(1, 3)).unwrap_or(1);
        let place = Place { program: number, lane: 0, shared: false, open: false };
        Self { config: config(dice, Config::agent()), policy, targets, binds, skew, place }
    }
}

impl TalkPlan {
    fn draw(dice: &mut Dice, nodes: usize, chaos: Duration, most: u64) -> Self {
        let lanes = [Lanes::draw(dice, most), Lanes::draw(dice, most)];
        Self { at: within(dice, chaos), node: dice.index(nodes), lanes }
    }
}

impl Fault {
    fn draw(dice: &mut Dice, agents: usize, nodes: usize) -> Self {
        let (agent, node) = (dice.index(agents), dice.index(nodes));
        let host = if dice.percent(50) { Host::Agent(agent) } else { Host::Node(node) };
        let away = dice.spread_millis(10, 60_000);
        match dice.between(0, 99) {
            0..18 => Self::Reset { agent, told: [[true, true], [true, false], [false, true]][dice.index(3)] },
            18..34 => Self::Outage { agent, node, roles: roles(dice), lasts: dice.spread_millis(5, 90_000) },
            34..46 => Self::Forget { host, roles: roles(dice), swallow: dice.percent(40) },
            46..58 => Self::Restart { host, away, quiet: dice.percent(30) },
            58..63 => Self::Drain { node, patience: dice.spread_millis(50, 30_000), away },
            63..71 => Self::Sleep { host, lasts: dice.spread_millis(100, 600_000), counted: dice.percent(70) },
            71..75 => Self::Jump { host, by: dice.spread_millis(10, 3_600_000) },
            75..81 => Self::Roam { agent, noticed: dice.percent(60) },
            81..86 => Self::Refuse { node, lasts: dice.spread_millis(100, 120_000), how: refusing(dice) },
            86..88 => Self::TakeBack { node },
            88..90 => Self::Evict { node },
            90..92 => Self::Command { node },
            92..97 => Self::Thief { node },
            _ => Self::Rebind { agent, cut: dice.percent(50) },
        }
    }
}

fn refusing(dice: &mut Dice) -> Refusing {
    match dice.between(0, 4) {
        0 => Refusing::Busy,
        1 => Refusing::BusyFor(dice.spread_millis(1, 400_000)),
        2 => Refusing::Credentials,
        3 => Refusing::Binds,
        _ => Refusing::Silent,
    }
}

fn roles(dice: &mut Dice) -> Vec<Role> {
    match dice.between(0, 3) {
        0 => [Role::Agent].into(),
        1 => [Role::Network].into(),
        _ => [Role::Agent, Role::Network].into(),
    }
}

fn within(dice: &mut Dice, time: Duration) -> Duration {
    Duration::from_nanos(dice.between(0, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
}

fn paths(dice: &mut Dice, most: u64) -> [Path; 2] {
    let latency = dice.spread_millis(1, 300);
    // Small pieces are many events: only where there is little to carry.
    let least = (most / 100).max(1);
    [0, 1].map(|_| {
        let rate = dice.percent(40).then(|| dice.spread(8_000.max(least * 10), 10_000_000));
        let piece = dice.spread(least, 64 << 10);
        // A piece arrives when its last octet does: no longer than packets of the slowest lines take.
        let piece = piece.min(rate.map_or(u64::MAX, |rate| rate / 5));
        Path {
            latency: latency + dice.millis(0, 5),
            capacity: dice.size(2_000.max(least), 300_000),
            piece: usize::try_from(piece).unwrap_or(usize::MAX),
            rate,
        }
    })
}

/// Limits that are soon reached, or the defaults.
fn config(dice: &mut Dice, mut config: Config) -> Config {
    if dice.percent(70) {
        let window = u32::try_from(dice.spread(1_024, 64 << 10)).unwrap_or(1_024);
        (config.window, config.window_eager) = (window, window * [1, 1, 2][dice.index(3)]);
        config.window_max = config.window_eager.max(u32::try_from(dice.spread(4_096, 256 << 10)).unwrap_or(4_096));
        config.pool = dice.spread(1_000, 1 << 20);
        config.send_stream = u32::try_from(dice.spread(16_376, 64 << 10)).unwrap_or(16_376);
        config.send_total = u64::from(config.send_stream) * dice.between(1, 4);
        config.retain_octets = dice.spread(64 << 10, 1 << 20);
        config.retain_frames = u32::try_from(dice.spread(64, 4_096)).unwrap_or(64);
        config.streams = u32::try_from(dice.spread(2, 64)).unwrap_or(2);
        config.open_streams = u32::try_from(dice.spread(2, 64)).unwrap_or(2);
        (config.binds, config.unanswered) = (16, 16);
        config.ack_octets = u32::try_from(dice.spread(500, 64 << 10)).unwrap_or(500);
    }
    if dice.percent(30) {
        let interval = dice.spread_millis(1_000, 60_000);
        config.heartbeat = Heartbeat { interval, tolerance: interval / 2 + dice.spread_millis(500, 30_000) };
    }
    if dice.percent(20) {
        config.resume_window = if dice.percent(25) { Duration::ZERO } else { dice.spread_millis(500, 120_000) };
    }
    debug_assert_eq!(config.check(), Ok(()));
    config
}

/// In how many worlds of a hundred programs hold several sessions.
const SHARED: u64 = 5;
