//! A node: it authenticates, binds, offers resumption, keeps sessions that lost their agents, drains and forgets.

mod admission;

use alloc::{boxed::Box, collections::BTreeMap, format, string::String, vec::Vec};

use bytes::Bytes;

use super::{
    Broken,
    clock::Clock,
    dice::Dice,
    ground::{Ground, Happening, Host},
    plan::{NodePlan, Refusing, TalkPlan},
    port::Port,
    talk::Talk,
};
pub(super) use admission::agent_name;

use crate::{
    BindId, BindRequest, Cause, Code, Command, Duration, Event, Instant, Link, Loss, Open, OpenError, Refusal, Role,
    Session, side,
};

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) number: usize,
    plan: NodePlan,
    pub(super) clock: Clock,
    /// Until when its program does not run.
    away: Option<Instant>,
    /// What it says to whoever comes, and until when.
    pub(super) refusing: Option<(Refusing, Instant)>,
    draining: bool,
    /// By record.
    sessions: BTreeMap<usize, Held>,
    /// Links without a session: shaking hands, or saying their last words.
    #[expect(clippy::vec_box, reason = "a port is large, and is moved whenever the node runs")]
    strangers: Vec<Box<Port<side::Network>>>,
    scheduled: Option<Instant>,
    tickets: u64,
    dice: Dice,
}

/// A session and what the node knows of it.
#[derive(Debug)]
struct Held {
    port: Port<side::Network>,
    origin: Origin,
    /// Binds in force, and their endpoints.
    binds: Vec<(BindId, String)>,
    /// Binds to be answered later, by ticket.
    asked: BTreeMap<u64, BindRequest>,
    /// Whether it may have siblings.
    shared: bool,
    /// Since when it waits for its agent.
    parked: Option<Instant>,
    /// What had been acknowledged and processed when the session was resumed last.
    resumed_at: Option<(u64, u64)>,
    drains: bool,
    over: bool,
}

/// Whose session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) program: usize,
    pub(super) incarnation: u64,
    pub(super) lane: u8,
}

impl Node {
    pub(super) fn new(number: usize, plan: NodePlan, dice: Dice) -> Self {
        Self {
            number,
            plan,
            clock: Clock::default(),
            away: None,
            refusing: None,
            draining: false,
            sessions: BTreeMap::new(),
            strangers: Vec::new(),
            scheduled: None,
            tickets: 0,
            dice,
        }
    }

    /// Returns whether its program listens.
    pub(super) const fn is_up(&self) -> bool {
        self.away.is_none()
    }

    /// Returns whether its program listens and its machine is awake.
    pub(super) const fn answers(&self) -> bool {
        self.is_up() && !self.clock.sleeps()
    }

    /// Takes a connection.
    pub(super) fn accept(&mut self, cable: u64, ground: &Ground) {
        let now = self.clock.read(ground.now);
        let link = Link::<side::Network>::new(self.plan.config.clone(), self.dice.seed(), now);
        self.strangers.push(Box::new(Port::new(link, cable, &self.plan.config, self.plan.skew)));
    }

    /// Does all that can be done now.
    pub(super) fn run(&mut self, ground: &mut Ground) -> Result<(), Broken> {
        if !self.answers() {
            return Ok(());
        }
        let now = self.clock.read(ground.now);
        loop {
            let mut moved = self.run_strangers(ground, now)?;
            for number in self.sessions.keys().copied().collect::<Vec<_>>() {
                if let Some(held) = self.sessions.get_mut(&number) {
                    moved |= held.port.pump(ground, now)?;
                }
                while let Some(event) = self.sessions.get_mut(&number).and_then(|held| held.port.events.pop_front()) {
                    moved = true;
                    self.attend(number, event, ground, now)?;
                }
            }
            if !moved {
                break;
            }
        }
        let ended: Vec<usize> = self.sessions.iter().filter(|(_, held)| held.over).map(|(number, _)| *number).collect();
        let ended = ended.into_iter().filter_map(|number| self.sessions.remove(&number));
        self.strangers.extend(ended.map(|held| Box::new(held.port)));
        self.strangers.retain(|port| !port.is_spent());
        self.schedule(ground);
        Ok(())
    }

    /// Takes note that one of its timers may be due; returns whether it was waited for.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        self.scheduled.take_if(|at| *at <= now).is_some()
    }

    /// Ends its program, and with it all that it knows.
    pub(super) fn stop(&mut self, quiet: bool, until: Instant, ground: &mut Ground) {
        self.away = Some(self.away.map_or(until, |before| before.max(until)));
        (self.draining, self.scheduled) = (false, None);
        for (number, mut held) in core::mem::take(&mut self.sessions) {
            ground.bury(number, Role::Network);
            held.port.abandon(quiet, ground);
        }
        for mut port in core::mem::take(&mut self.strangers) {
            port.abandon(quiet, ground);
        }
        ground.at(until, Happening::Return(Host::Node(self.number)));
    }

    /// Comes back, if it is time.
    pub(super) fn come_back(&mut self, now: Instant) {
        self.clock.wake(now);
        self.away = self.away.filter(|until| *until > now);
    }

    /// Ends its sleep or absence.
    pub(super) fn come_back_at_once(&mut self, now: Instant) {
        self.clock.wake_at_once(now);
        self.away = None;
    }

    pub(super) const fn is_draining(&self) -> bool {
        self.draining
    }

    /// Tells its links over certain connections that they are lost.
    pub(super) fn lose(&mut self, cables: &[u64], ground: &mut Ground) {
        let now = self.clock.read(ground.now);
        let ports = self.sessions.values_mut().map(|held| &mut held.port);
        let ports = ports.chain(self.strangers.iter_mut().map(Box::as_mut));
        for port in ports.filter(|port| port.cable.is_some_and(|cable| cables.contains(&cable))) {
            port.lose(ground, Loss::Reset, now);
        }
    }

    /// Announces to every session that the node stops.
    pub(super) fn drain(&mut self, ground: &Ground) {
        self.draining = self.is_up();
        let now = self.clock.read(ground.now);
        for held in self.sessions.values_mut().filter(|held| !held.over) {
            held.drain(now);
        }
    }

    /// Opens a stream to one of the endpoints, on a session that has a link if there is one among siblings; returns what
    /// came of it, unless no endpoint is bound.
    pub(super) fn open(&mut self, plan: &TalkPlan, ground: &mut Ground) -> Result<Option<Call>, Broken> {
        let able = self.numbers(|held| !held.binds.is_empty());
        let (true, Some(drawn)) = (self.answers(), able.get(self.dice.index(able.len())).copied()) else {
            return Ok(None);
        };
        let Some(Held { binds, origin, .. }) = self.sessions.get(&drawn) else { return Ok(None) };
        let (Some((bind, url)), origin) = (binds.get(self.dice.index(binds.len())).cloned(), *origin) else {
            return Ok(None);
        };
        let mut call = Call { url, session: None, full: false };
        for number in self.serving(drawn, &origin, &call.url) {
            let Some(held) = self.sessions.get_mut(&number) else { continue };
            let same = held.binds.iter().find(|(_, url)| *url == call.url).map(|(bind, _)| *bind);
            let bind = if number == drawn { Some(bind) } else { same };
            let talk = ground.talks.len();
            let open = Open { bind, endpoint: format!("{talk}"), ..Open::default() };
            let id = match held.port.link.session_mut().map(|session| session.open(open)) {
                Some(Ok(id)) => id,
                Some(Err(error)) => {
                    call.full |= error == OpenError::Limit;
                    continue;
                }
                None => continue,
            };
            ground.say(|| format!("talk {talk} begins: session {number}, stream {id}"));
            ground.talks.push(Talk::new(talk, number, id, plan.lanes));
            ground.ledger(number)?.talks.insert(id.number(), talk);
            held.port.go_on(talk, ground)?;
            call.session = Some(number);
            break;
        }
        Ok(Some(call))
    }

    /// Returns the sessions by which callers may reach an endpoint: the one that was drawn and its siblings, those first
    /// that have a link and do not drain.
    fn serving(&self, drawn: usize, origin: &Origin, url: &str) -> Vec<usize> {
        let mut serving: Vec<usize> = self
            .sessions
            .iter()
            .filter(|(number, held)| **number == drawn || held.origin.is_sibling(origin))
            .filter(|(_, held)| !held.over && held.binds.iter().any(|(_, bound)| bound == url))
            .map(|(number, _)| *number)
            .collect();
        serving.sort_by_key(|number| (!self.is_live(*number), *number != drawn));
        serving
    }

    /// Returns whether a session has a link and takes new streams.
    pub(super) fn is_live(&self, session: usize) -> bool {
        self.sessions.get(&session).is_some_and(|held| held.port.link.is_established() && !held.drains)
    }

    /// Lets the application of a stream go on.
    pub(super) fn talk(&mut self, session: usize, talk: usize, ground: &mut Ground) -> Result<(), Broken> {
        match self.sessions.get_mut(&session) {
            Some(held) => held.port.go_on(talk, ground),
            None => Ok(()),
        }
    }

    /// Takes a bind back, if one is in force.
    pub(super) fn take_back(&mut self) {
        let able = self.numbers(|held| !held.binds.is_empty());
        let Some(held) = able.get(self.dice.index(able.len())).and_then(|it| self.sessions.get_mut(it)) else { return };
        let (bind, _) = held.binds.swap_remove(self.dice.index(held.binds.len()));
        if let Some(session) = held.port.link.session_mut() {
            session.unbound(bind, refusal(Code::IN_USE, None));
        }
    }

    /// Ends a session at once.
    pub(super) fn evict(&mut self, ground: &Ground) {
        let now = self.clock.read(ground.now);
        let able = self.numbers(|_| true);
        if let Some(held) = able.get(self.dice.index(able.len())).and_then(|it| self.sessions.get_mut(it)) {
            held.port.link.close(Code::REVOKED, "the token was withdrawn", now);
        }
    }

    /// Asks something of every agent, and tells it which certificates are revoked.
    pub(super) fn command(&mut self) {
        for held in self.sessions.values_mut() {
            if let Some(session) = held.port.link.session_mut() {
                let _ = session.command(Command::Update, "please"); // as many as may be
                let _ = session.tell_revocations(Bytes::from_static(LISTS));
            }
        }
    }

    /// Answers a bind that had to wait.
    pub(super) fn answer(&mut self, ticket: u64, ground: &mut Ground) {
        let refuses = self.refuses(ground.now) == Some(Refusing::Binds);
        let asked = self.sessions.iter_mut().find_map(|(number, held)| Some((*number, held.asked.remove(&ticket)?)));
        if let Some((number, request)) = asked {
            self.decide(number, request, refuses, ground);
        }
    }

    /// Returns whether a bind of this session is in force.
    pub(super) fn has_bound(&self, session: usize, bind: BindId) -> bool {
        self.sessions.get(&session).is_some_and(|held| !held.over && held.binds.iter().any(|(it, _)| *it == bind))
    }

    /// Returns whether callers of an endpoint are taken by a session that has a link.
    pub(super) fn serves(&self, session: usize, url: &str) -> bool {
        self.is_live(session)
            && self.sessions.get(&session).is_some_and(|held| held.binds.iter().any(|(_, bound)| bound == url))
    }

    /// Returns whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.strangers.is_empty()
    }

    /// Says what is left.
    pub(super) fn left(&self) -> String {
        let causes = |port: &Port<side::Network>| format!("{:?} {:?}", port.ledger, port.link.cause());
        let sessions: Vec<_> = self.sessions.values().map(|held| causes(&held.port)).collect();
        let strangers: Vec<_> = self.strangers.iter().map(|port| causes(port)).collect();
        format!("node {}: {sessions:?} and {strangers:?}", self.number)
    }

    fn attend(&mut self, number: usize, event: Event, ground: &mut Ground, now: Instant) -> Result<(), Broken> {
        let refuses = self.refuses(ground.now) == Some(Refusing::Binds);
        let Some(held) = self.sessions.get_mut(&number) else { return Ok(()) };
        match event {
            Event::Bind(request) => match self.plan.slow {
                Some(delay) => {
                    self.tickets += 1;
                    held.asked.insert(self.tickets, request);
                    ground.after(delay, Happening::Answer(self.number, self.tickets));
                }
                None => self.decide(number, request, refuses, ground),
            },
            Event::Unbind(unbind) => {
                held.binds.retain(|(bind, _)| *bind != unbind.id);
                let given_up = held.asked.iter().find(|(_, request)| request.bind().id == unbind.id).map(|it| *it.0);
                if let Some(request) = given_up.and_then(|ticket| held.asked.remove(&ticket)) {
                    self.decide(number, request, true, ground);
                }
            }
            Event::Accepted(id) | Event::Readable(id) | Event::Writable(id) => {
                if let Some(talk) = ground.ledger(number)?.talks.get(&id.number()).copied() {
                    held.port.go_on(talk, ground)?;
                }
            }
            Event::Suspended(cause) => {
                ground.report.suspended += 1;
                ground.say(|| format!("node {}: session {number} is parked: {cause}", self.number));
                if held.port.link.is_parked() {
                    self.park(number, now);
                }
            }
            Event::Closed(cause) => {
                ground.report.end(&cause);
                ground.say(|| format!("node {}: session {number} is over: {cause}", self.number));
                held.over = true;
                held.port.conclude(ground)?;
                if let Cause::Local(Code::REPLACED) = cause {
                    ground.check_replaced(number)?;
                }
            }
            Event::GoAway(_) => held.drains = true,
            Event::Opened(_) | Event::CommandResult(_) | Event::Withheld(_) => {}
            Event::Hello(_)
            | Event::Established(_)
            | Event::Bound(_)
            | Event::Rejected(_)
            | Event::Unbound(_)
            | Event::Command(_)
            | Event::Revocations(_)
            | Event::Resumed(_) => return Err(Broken::new("harness", format!("a node hears {event:?}"))),
        }
        Ok(())
    }

    /// Answers a bind. One that leaves its port open gets one that nobody has had.
    fn decide(&mut self, number: usize, request: BindRequest, refuses: bool, ground: &mut Ground) {
        let id = request.bind().id;
        let Some(held) = self.sessions.get_mut(&number) else { return };
        let Some(session) = held.port.link.session_mut() else { return };
        if refuses {
            return session.reject(request, refusal(Code::BUSY, None));
        }
        let url = match request.bind().leaves_open() {
            true => format!("tcp://:{}", ground.next_port()),
            false => request.bind().url.clone(),
        };
        session.bound(request, &url);
        held.binds.push((id, url.clone()));
        let (origin, shared) = (held.origin, held.shared);
        if shared {
            self.displace(number, &origin, &url, self.clock.read(ground.now));
        }
    }

    /// BIND-003: takes an endpoint over from the agent's older sessions. Its siblings keep it.
    fn displace(&mut self, number: usize, origin: &Origin, url: &str, now: Instant) {
        for (_, held) in self.sessions.range_mut(..number).filter(|(_, held)| held.origin.gives_way(origin)) {
            let Some(place) = held.binds.iter().position(|(_, bound)| bound == url) else { continue };
            let (bind, _) = held.binds.swap_remove(place);
            if let Some(session) = held.port.link.session_mut() {
                session.unbound(bind, refusal(Code::REPLACED, None));
            }
            if held.binds.is_empty() && !held.drains {
                held.port.link.close(Code::REPLACED, "the agent has another session", now); // spec: AUTH-005
            }
        }
    }

    /// Keeps a session for its agent. The one that has waited longest makes room where too many wait.
    fn park(&mut self, number: usize, now: Instant) {
        let draining = self.draining;
        if let Some(held) = self.sessions.get_mut(&number) {
            held.parked = Some(now);
            if draining {
                held.port.link.close(Code::SHUTDOWN, "the node stops", now);
            }
        }
        let waits = |held: &&mut Held| !held.over && held.port.link.is_parked();
        if self.sessions.values_mut().filter(waits).count() > self.plan.parked
            && let Some(oldest) = self.sessions.values_mut().filter(waits).min_by_key(|held| held.parked)
        {
            oldest.port.link.close(Code::LIMIT, "others wait", now);
        }
    }

    fn refuses(&self, now: Instant) -> Option<Refusing> {
        self.refusing.filter(|(_, until)| *until > now).map(|(how, _)| how)
    }

    fn numbers(&self, able: impl Fn(&Held) -> bool) -> Vec<usize> {
        self.sessions.iter().filter(|(_, held)| !held.over && able(held)).map(|(number, _)| *number).collect()
    }

    fn schedule(&mut self, ground: &mut Ground) {
        let ports = self.sessions.values().map(|held| &held.port).chain(self.strangers.iter().map(Box::as_ref));
        let Some(due) = ports.filter_map(Port::due).min().map(|due| self.clock.world(due)) else { return };
        if self.scheduled.is_none_or(|at| due < at) {
            self.scheduled = Some(due);
            ground.at(due, Happening::Wake(Host::Node(self.number)));
        }
    }
}

impl Held {
    /// Returns whether its agent has shown on the present link that it has the newest secret.
    fn is_confirmed(&self) -> bool {
        let Some(session) = self.port.link.session() else { return true };
        self.resumed_at.is_none_or(|before| before != counts(session))
    }

    fn drain(&mut self, now: Instant) {
        self.drains = true;
        if self.port.link.is_parked() {
            self.port.link.close(Code::SHUTDOWN, "the node stops", now);
        } else if let Some(session) = self.port.link.session_mut() {
            session.drain(Code::SHUTDOWN, None, "the node stops", now);
        }
    }
}

impl Origin {
    /// AUTH-008.
    fn is_sibling(&self, other: &Self) -> bool {
        (self.program, self.incarnation) == (other.program, other.incarnation) && self.lane != other.lane
    }

    /// Returns whether a session of the same agent, when it begins, takes the place of this one.
    fn gives_way(&self, begun: &Self) -> bool {
        self.program == begun.program && !self.is_sibling(begun)
    }
}

/// What came of a caller's wish for an endpoint.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) url: String,
    /// The session on which a stream was opened.
    pub(super) session: Option<usize>,
    /// Whether a session had no room for one more stream.
    pub(super) full: bool,
}

/// Returns how many frames of either side the other is known to have.
const fn counts(session: &Session<side::Network>) -> (u64, u64) {
    (session.acknowledged(), session.processed())
}

fn refusal(code: Code, retry_after: Option<Duration>) -> Refusal {
    Refusal { code, retry_after, text: String::new() }
}

/// The revocation lists that nodes hand out.
pub(super) const LISTS: &[u8] = b"lists of what is revoked";
