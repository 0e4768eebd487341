//! Very many agents that lose their node at the same instant: timers only, no links.
//!
//! The node's program ends, so every connection is reset, nobody listens for a while, and when the node is back it knows no
//! session. Every agent is an [`Uplink`](crate::Uplink); the node answers so many handshakes a second, lets so many wait, and
//! drops what comes beyond, which TCP sends again.

use alloc::{
    collections::{BinaryHeap, VecDeque},
    vec::Vec,
};
use core::{cmp::Reverse, fmt};

use crate::{Action, Code, Duration, Instant, ReconnectPolicy, Retry, Rng, Uplink};

/// What the storm is like.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Storm {
    /// How many agents there are.
    pub agents: u32,
    /// How long nobody listens.
    pub away: Duration,
    /// How many handshakes a second the node answers; `None` for as many as come.
    pub rate: Option<u32>,
    /// How many connections may wait for an answer.
    pub backlog: usize,
    /// How the agents come back.
    pub policy: ReconnectPolicy,
    /// Decides delays and distances.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Aftermath {
    /// The most connections that came in one second to the node that is back.
    pub peak: u64,
    /// The most connections that were tried in one second while nobody listened.
    pub knocks: u64,
    /// Dials in all.
    pub dials: u64,
    /// From the return of the node until half of the agents had a session.
    pub half: Duration,
    /// The same for 99 of 100.
    pub most: Duration,
    /// The same for all.
    pub all: Duration,
}

impl Storm {
    /// Returns a storm of so many agents, with the defaults for the rest: the node is away for five seconds and answers
    /// 5,000 handshakes a second.
    pub fn new(agents: u32) -> Self {
        Self {
            agents,
            away: Duration::from_secs(5),
            rate: Some(5_000),
            backlog: 4_096,
            policy: ReconnectPolicy::default(),
            seed: 1,
        }
    }

    /// Lets it happen.
    pub fn run(&self) -> Aftermath {
        let mut scene = Scene::new(self);
        while scene.back.len() < self.agents as usize
            && let Some(Reverse((at, place, due))) = scene.agenda.pop()
        {
            scene.now = at;
            scene.step(place, due);
        }
        let until = |share: u64| {
            let place = (u64::from(self.agents) * share).div_ceil(100).saturating_sub(1);
            let at = usize::try_from(place).ok().and_then(|place| scene.back.get(place));
            at.map_or(Duration::MAX, |at| at.since(scene.opens))
        };
        let (peak, knocks, dials) = (scene.arrivals.peak, scene.knocks.peak, scene.dials);
        Aftermath { peak, knocks, dials, half: until(50), most: until(99), all: until(100) }
    }

    /// Returns the most connections a second, and the longest time until all are back, that are acceptable.
    ///
    /// Each agent shakes hands twice: a resume that is refused, and a new session. A node that answers a limited rate is
    /// kept busy until all are back, with half as much again for those whose connections were dropped; what comes in a
    /// second is what it answers in one and what may wait. Who comes to a node without a limit comes within 3 s.
    pub fn bounds(&self) -> (u64, Duration) {
        let twice = u64::from(self.agents) * 2;
        match self.rate.map(u64::from) {
            Some(rate) => {
                let least = Duration::from_millis(twice.saturating_mul(1_000) / rate.max(1));
                (rate + rate / 10 + self.backlog as u64, least * 3 / 2 + Duration::from_secs(5))
            }
            None => (twice, Duration::from_secs(3)),
        }
    }
}

impl fmt::Display for Aftermath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peak, knocks, dials, half, most, all } = self;
        writeln!(f, "{dials} dials; at most {knocks} a second to the closed door, {peak} a second to the open one")?;
        write!(f, "half are back after {half:.1?}, 99 % after {most:.1?}, all after {all:.1?}")
    }
}

#[derive(Debug)]
struct Scene<'a> {
    storm: &'a Storm,
    now: Instant,
    opens: Instant,
    agents: Vec<Agent>,
    agenda: BinaryHeap<Reverse<(Instant, u32, Due)>>,
    /// Whose connections wait for the node, and by which attempt.
    queue: VecDeque<(u32, u64)>,
    answers: bool,
    arrivals: Meter,
    knocks: Meter,
    dials: u64,
    /// When each agent had a session again.
    back: Vec<Instant>,
}

#[derive(Debug)]
struct Agent {
    uplink: Uplink,
    /// The way there and back.
    trip: Duration,
    dial: Option<Dial>,
    due: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Dial {
    attempt: u64,
    resumes: Option<u64>,
    since: Instant,
    tries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The agent's own timer.
    Timer,
    /// A connection, by attempt, knocks at the node.
    Knock(u64),
    /// Nobody listens, or nobody answered for too long.
    Failed(u64, bool),
    /// The node's answer arrives.
    Answer(u64),
    /// The node is ready for the next.
    Next,
}

/// The most that happened in a second.
#[derive(Debug, Default)]
struct Meter {
    second: u64,
    count: u64,
    peak: u64,
}

impl<'a> Scene<'a> {
    fn new(storm: &'a Storm) -> Self {
        let mut rng = Rng::new(storm.seed);
        let start = Instant::from_nanos(1_000_000_000);
        let lost = start + LIVED;
        let mut scene = Self {
            storm,
            now: lost,
            opens: lost + storm.away,
            agents: Vec::with_capacity(storm.agents as usize),
            agenda: BinaryHeap::new(),
            queue: VecDeque::new(),
            answers: false,
            arrivals: Meter::default(),
            knocks: Meter::default(),
            dials: 0,
            back: Vec::new(),
        };
        for place in 0..storm.agents {
            let mut uplink = Uplink::new(1, storm.policy.clone(), rng.next(), start);
            let Some(Action::Dial { attempt, .. }) = uplink.poll_action() else { continue };
            uplink.handle_established(attempt, start);
            uplink.handle_offer(attempt, true);
            uplink.handle_suspended(attempt, Retry::Backoff, lost);
            let trip = Duration::from_micros(rng.between(10_000, 200_000));
            scene.agents.push(Agent { uplink, trip, dial: None, due: None });
            scene.obey(place);
        }
        scene
    }

    fn step(&mut self, place: u32, due: Due) {
        match due {
            Due::Next => {
                if let Some((place, attempt)) = self.queue.pop_front() {
                    self.reply(place, attempt);
                    self.after(self.pause(), 0, Due::Next);
                } else {
                    self.answers = false;
                }
                return;
            }
            Due::Timer => {
                let agent = &mut self.agents[place as usize];
                if agent.due.take_if(|due| *due <= self.now).is_some() {
                    agent.uplink.handle_timeout(self.now);
                }
            }
            Due::Knock(attempt) => self.knock(place, attempt),
            Due::Failed(attempt, refused) => {
                let agent = &mut self.agents[place as usize];
                if agent.dial.take_if(|dial| dial.attempt == attempt).is_some() {
                    let retry = if refused { Retry::Soon } else { Retry::Backoff };
                    agent.uplink.handle_closed(attempt, retry, self.now);
                }
            }
            Due::Answer(attempt) => self.answer(place, attempt),
        }
        self.obey(place);
    }

    /// A connection reaches the node, or its closed door.
    fn knock(&mut self, place: u32, attempt: u64) {
        let now = self.now;
        let agent = &mut self.agents[place as usize];
        let half = agent.trip / 2;
        let Some(dial) = agent.dial.as_mut().filter(|dial| dial.attempt == attempt) else { return };
        if now < self.opens {
            self.knocks.count(now);
            return self.after(half, place, Due::Failed(attempt, true));
        }
        if self.queue.len() < self.storm.backlog {
            self.arrivals.count(now);
            self.queue.push_back((place, attempt));
            if !core::mem::replace(&mut self.answers, true) {
                self.after(Duration::ZERO, 0, Due::Next);
            }
            return;
        }
        // Dropped: TCP tries again, after one second, two, four.
        dial.tries += 1;
        let wait = Duration::from_secs(1 << (dial.tries - 1).min(6));
        if dial.since + CONNECT < now + wait {
            let rest = (dial.since + CONNECT).since(now);
            self.after(rest, place, Due::Failed(attempt, false));
        } else {
            self.after(wait, place, Due::Knock(attempt));
        }
    }

    /// The node answers a connection; the handshakes take another way there and back.
    fn reply(&mut self, place: u32, attempt: u64) {
        let trip = self.agents[place as usize].trip;
        self.after(trip + trip / 2, place, Due::Answer(attempt));
    }

    /// What the node says arrives: it knows no session to resume, and consents to a new one.
    fn answer(&mut self, place: u32, attempt: u64) {
        let now = self.now;
        let agent = &mut self.agents[place as usize];
        let Some(dial) = agent.dial.take_if(|dial| dial.attempt == attempt) else { return };
        if let Some(session) = dial.resumes {
            let retry = Retry::session(Code::RESUME_UNKNOWN, None);
            agent.uplink.handle_closed(session, retry, now);
            agent.uplink.handle_closed(attempt, retry, now);
        } else {
            agent.uplink.handle_established(attempt, now);
            self.back.push(now);
        }
    }

    fn obey(&mut self, place: u32) {
        let now = self.now;
        let agent = &mut self.agents[place as usize];
        let mut knock = None;
        while let Some(action) = agent.uplink.poll_action() {
            let (attempt, resumes) = match action {
                Action::Dial { attempt, .. } => (attempt, None),
                Action::Resume { attempt, session, .. } => (attempt, Some(session)),
                Action::Hangup { attempt } => {
                    agent.dial.take_if(|dial| dial.attempt == attempt);
                    continue;
                }
                Action::Bind { .. }
                | Action::Unbind { .. }
                | Action::Withhold { .. }
                | Action::Drain { .. }
                | Action::GiveUp(_) => continue,
                Action::StandBy { .. } | Action::Proceed { .. } => continue, // nothing is ever silent here
            };
            agent.dial = Some(Dial { attempt, resumes, since: now, tries: 0 });
            self.dials += 1;
            knock = Some((agent.trip / 2, attempt));
        }
        let due = agent.uplink.poll_timeout().map(|deadline| deadline.at);
        if let Some(at) = due.filter(|at| agent.due.is_none_or(|due| *at < due)) {
            agent.due = Some(at);
            self.agenda.push(Reverse((at, place, Due::Timer)));
        }
        if let Some((half, attempt)) = knock {
            self.after(half, place, Due::Knock(attempt));
        }
    }

    /// Returns how long one handshake keeps the node busy.
    fn pause(&self) -> Duration {
        self.storm.rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.max(1))
    }

    fn after(&mut self, delay: Duration, place: u32, due: Due) {
        self.agenda.push(Reverse((self.now + delay, place, due)));
    }
}

impl Meter {
    fn count(&mut self, now: Instant) {
        let second = now.as_nanos() / 1_000_000_000;
        if self.second != second {
            (self.second, self.count) = (second, 0);
        }
        self.count += 1;
        self.peak = self.peak.max(self.count);
    }
}

/// How long the sessions had lived.
const LIVED: Duration = Duration::from_secs(600);
/// How long a connection is tried for.
const CONNECT: Duration = Duration::from_secs(10);
