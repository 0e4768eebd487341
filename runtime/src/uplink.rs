//! The agent's side across reconnects: one task that dials, binds and drains as [`adit_core::Uplink`] says.

mod endpoint;
mod supervisor;

use alloc::{borrow::ToOwned, collections::BTreeMap, string::String, sync::Arc, vec::Vec};
use core::{fmt, marker::PhantomData, net::SocketAddr, ops::Range, task::Waker, time::Duration};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::{ClientConfig, pki_types::ServerName};

use super::{
    ConnectError, ConnectOptions, Runtime, Session, SetupError, Stream, SystemClock,
    queue::{Receiver, Sender, queue},
    tasks::Abort,
};
use adit_core::{
    AgentId, Bind, BindId, Cause, Code, Command, CommandResult, Config, GiveUp, Instant, LANES, Notice,
    ReconnectPolicy, Refusal, Retry, Secret, Stats, Welcome,
    driver::{Clock, Handle},
    side,
};

pub use endpoint::Endpoint;

/// What an uplink needs to know.
#[derive(Clone, Debug)]
pub struct UplinkOptions {
    /// Where the network listens; tried in turn.
    pub targets: Vec<Target>,
    /// Whom to trust: see [`client_config`](adit_core::tls::client_config).
    pub tls: Arc<ClientConfig>,
    /// The name that the network's certificate must have; `None` for that of the target.
    pub server_name: Option<ServerName<'static>>,
    /// Limits, timers and the heartbeat to ask for.
    pub config: Config,
    /// The authtoken.
    pub token: Secret,
    /// The agent's lasting name.
    pub agent: AgentId,
    /// Name and version of the program.
    pub software: String,
    /// Text of the agent's owner.
    pub metadata: String,
    /// How to reach a target.
    pub connect: ConnectOptions,
    /// How to come back.
    pub reconnect: ReconnectPolicy,
    /// How many sessions to hold at once, 1 to [`LANES`]: each has a connection of its own, they begin at different targets
    /// and addresses, and every endpoint is bound in all of them.
    pub sessions: u8,
}

/// Where a network listens for agents.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// An agent's sessions with the network, whatever happens to single ones. Clones are the same; when the last is
/// dropped, it ends at once.
pub struct Uplink<R> {
    shared: Arc<Shared<R>>,
    alive: Arc<Alive<R>>,
}

impl<R> Clone for Uplink<R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), alive: Arc::clone(&self.alive) }
    }
}

impl<R> fmt::Debug for Uplink<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uplink").finish_non_exhaustive()
    }
}

/// What happens to an uplink, in order.
#[derive(Debug)]
pub struct UplinkEvents {
    events: Receiver<UplinkEvent>,
    over: bool,
}

/// Something that happened to an uplink.
#[derive(Debug)]
pub enum UplinkEvent {
    /// A target is dialed.
    Dialing {
        /// The place among the sessions of this uplink, from 0.
        lane: u8,
        /// Counts the dials, from 1.
        attempt: u64,
        /// The index of the target.
        target: usize,
    },
    /// A dial came to nothing.
    DialFailed {
        /// The place among the sessions of this uplink, from 0.
        lane: u8,
        /// The index of the target.
        target: usize,
        /// Why.
        error: DialError,
        /// When the next target is dialed; `None` when that is under way or will not happen.
        retry_in: Option<Duration>,
    },
    /// There is a session.
    Connected {
        /// The place among the sessions of this uplink, from 0.
        lane: u8,
        /// What the network said.
        welcome: Welcome,
        /// The address of the network.
        remote: SocketAddr,
    },
    /// The connection is lost; the session, its endpoints and its streams wait for the next one.
    Suspended {
        /// The place among the sessions of this uplink, from 0.
        lane: u8,
        /// Why.
        cause: Cause,
        /// When the network is dialed; `None` when that is under way.
        retry_in: Option<Duration>,
    },
    /// The session goes on over a new connection: no octet and no stream is lost.
    Resumed {
        /// The place among the sessions of this uplink, from 0.
        lane: u8,
        /// The address of the network.
        remote: SocketAddr,
    },
    /// The session is lost.
    Disconnected {
        /// The place among the sessions of this uplink, from 0.
        lane: u8,
        /// Why.
        cause: Cause,
        /// When a target is dialed; `None` when that is under way or will not happen.
        retry_in: Option<Duration>,
    },
    /// The network lets the session drain; another is made.
    Draining {
        /// The place among the sessions of this uplink, from 0.
        lane: u8,
    },
    /// A bind is in force.
    Bound {
        /// The place among the sessions of this uplink, from 0. Each session has its own binds.
        lane: u8,
        /// The bind.
        id: BindId,
        /// The endpoint as callers know it.
        url: String,
    },
    /// A bind was refused.
    Rejected {
        /// The place among the sessions of this uplink, from 0. Each session has its own binds.
        lane: u8,
        /// The bind.
        id: BindId,
        /// Why.
        refusal: Refusal,
        /// When it is asked for again.
        retry_in: Duration,
    },
    /// A bind that was in force was taken back.
    Unbound {
        /// The place among the sessions of this uplink, from 0. Each session has its own binds.
        lane: u8,
        /// The bind.
        id: BindId,
        /// Why.
        refusal: Refusal,
        /// When it is asked for again.
        retry_in: Duration,
    },
    /// The network asks for something.
    Command {
        /// What.
        command: Command,
        /// For the log.
        text: String,
        /// Answers, yes or no.
        reply: CommandReply,
    },
    /// It is over: the last event.
    GaveUp {
        /// Why.
        reason: GiveUp,
    },
}

/// The answer owed to a remote command. Dropped, it refuses: a command that nobody attends to is not allowed.
#[derive(Debug)]
#[must_use = "a command must be answered"]
pub struct CommandReply {
    session: Handle<side::Agent>,
    id: u32,
}

/// Why a dial came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// There is no connection.
    #[error(transparent)]
    Connect(ConnectError),
    /// There is a connection and no session.
    #[error(transparent)]
    Setup(SetupError),
    /// The target's host cannot be the name of a certificate.
    #[error("{host} is not a name that a certificate can have")]
    Name {
        /// The host.
        host: String,
    },
    /// It took too long, or the network below changed meanwhile.
    #[error("the attempt was abandoned")]
    Abandoned,
}

impl DialError {
    /// Returns when to dial again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Connect(error) => error.retry(),
            Self::Setup(SetupError::Closed(cause)) => cause.retry(),
            Self::Setup(SetupError::Tls(_) | SetupError::NotAdit | SetupError::Io(_)) | Self::Abandoned => {
                Retry::Backoff
            }
            Self::Name { .. } => Retry::Never,
        }
    }
}

impl<R: Runtime> Uplink<R> {
    /// Starts dialing, in a task of the runtime.
    ///
    /// # Panics
    /// Where the runtime cannot spawn: with tokio, outside of a runtime.
    pub fn start(options: UplinkOptions) -> (Self, UplinkEvents) {
        let now = SystemClock.now();
        let (targets, policy) = (options.targets.len(), &options.reconnect);
        let lanes = (0..options.sessions.clamp(1, LANES)).map(|_| Lane {
            core: adit_core::Uplink::new(targets, policy.clone(), supervisor::seed(), now),
            binds: BTreeMap::new(),
            gave_up: None,
            remote: None,
        });
        let (sender, events) = queue();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                lanes: lanes.collect(),
                places: BTreeMap::new(),
                last_place: 0,
                dials: BTreeMap::new(),
                standbys: BTreeMap::new(),
                sessions: BTreeMap::new(),
                supervisor: None,
                due: true,
                over: false,
                ends: Some(Vec::new()),
            }),
            events: sender,
            incarnation: supervisor::seed(),
            runtime: PhantomData,
        });
        R::spawn(supervisor::supervise(Arc::clone(&shared), options));
        let alive = Arc::new(Alive(Arc::clone(&shared)));
        (Self { shared, alive }, UplinkEvents { events, over: false })
    }

    /// Wishes for an endpoint, now and after every reconnect. The `id` in `bind` is ignored.
    pub fn bind(&self, bind: Bind) -> Endpoint<R> {
        let (sender, streams) = queue();
        let id = self.shared.act(|state, now| state.place(bind, sender, now));
        Endpoint::new(id, streams, Arc::clone(&self.shared))
    }
}

impl<R> Uplink<R> {
    /// Dials at once, whatever it is doing: the addresses or routes of this machine have changed.
    ///
    /// A living session goes on until another is there.
    pub fn reconnect_now(&self) {
        self.shared.act(|state, now| state.each(|core| core.handle_network_change(now)));
    }

    /// Ends everything: streams may finish for at most `drain`, then all is closed. Cancelled, it still ends.
    pub async fn shutdown(&self, drain: Duration) {
        self.shared.act(|state, now| state.each(|core| core.shutdown(drain, now)));
        let (end, ended) = queue::<()>();
        self.shared.apply(|state, _| {
            if let Some(ends) = &mut state.ends {
                ends.retain(Sender::is_received); // who was cancelled leaves nothing behind
                ends.push(end);
            }
        });
        let _ = ended.recv().await; // the other end is dropped
    }

    /// Returns the counters of each current session.
    pub fn stats(&self) -> Vec<Stats> {
        self.shared.current().iter().map(Session::stats).collect()
    }

    /// Returns the shortest of the latest round trips of the current sessions.
    pub fn rtt(&self) -> Option<Duration> {
        self.shared.current().iter().filter_map(Session::rtt).min()
    }

    /// Returns how many streams are open, those of draining sessions included.
    pub fn open_streams(&self) -> usize {
        self.shared.lock().sessions.values().map(Session::open_streams).sum()
    }
}

impl UplinkEvents {
    /// Waits for the next event; `None` after [`UplinkEvent::GaveUp`]. Cancelled, it loses nothing.
    pub async fn next(&mut self) -> Option<UplinkEvent> {
        if self.over {
            return None;
        }
        let event = self.events.recv().await;
        self.over = matches!(event, None | Some(UplinkEvent::GaveUp { .. }));
        event
    }
}

impl CommandReply {
    /// Answers: [`Code::NO_ERROR`] for a command that will be obeyed, or why not.
    pub fn answer(self, code: Code, text: &str) {
        let _ = self.session.answer(&CommandResult { id: self.id, code, text: text.into() });
    }
}

impl Drop for CommandReply {
    fn drop(&mut self) {
        let text = String::from("nobody attends to commands");
        let _ = self.session.answer(&CommandResult { id: self.id, code: Code::FORBIDDEN, text }); // a second answer is none
    }
}

/// What handles, sessions and the supervisor share.
struct Shared<R> {
    state: Mutex<State<R>>,
    events: Sender<UplinkEvent>,
    /// The number of this run of the agent.
    incarnation: u64,
    runtime: PhantomData<fn() -> R>,
}

struct State<R> {
    /// One for each session that is wanted.
    lanes: Vec<Lane>,
    places: BTreeMap<BindId, Place>,
    last_place: u32,
    /// Dials under way, and whom they dial.
    dials: BTreeMap<Name, (usize, Abort)>,
    /// Connections beside a silent link: each waits for a consent to go on.
    standbys: BTreeMap<Name, Sender<()>>,
    /// Sessions that live, the current ones and those that drain.
    sessions: BTreeMap<Name, Session<side::Agent, R>>,
    /// Whoever performs actions, while it sleeps.
    supervisor: Option<Waker>,
    /// There may be an action to perform.
    due: bool,
    over: bool,
    /// Dropped when the last event has been told.
    ends: Option<Vec<Sender<()>>>,
}

/// A dial, and the session that may come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    lane: u8,
    attempt: u64,
}

/// One of the sessions that the uplink holds, across its reconnects.
struct Lane {
    core: adit_core::Uplink,
    /// The endpoints, by the numbers that they have in this lane.
    binds: BTreeMap<BindId, BindId>,
    gave_up: Option<GiveUp>,
    /// The address of the network that the session has its link to, or had last.
    remote: Option<SocketAddr>,
}

/// An endpoint, and where its streams go.
struct Place {
    bind: Bind,
    streams: Sender<Stream>,
    url: Option<String>,
    /// What the network chose where `bind` leaves something open. Only the first lane asks so; the others ask for this.
    chosen: Option<String>,
    /// Its number in each lane that asks for it.
    numbers: BTreeMap<u8, BindId>,
}

impl<R> State<R> {
    fn core(&mut self, lane: u8) -> &mut adit_core::Uplink {
        &mut self.lanes[usize::from(lane)].core
    }

    fn each(&mut self, act: impl FnMut(&mut adit_core::Uplink)) {
        self.lanes.iter_mut().map(|lane| &mut lane.core).for_each(act);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| Some(lane.core.poll_timeout()?.at)).min()
    }

    /// Makes a place for an endpoint, and asks for it.
    fn place(&mut self, bind: Bind, streams: Sender<Stream>, now: Instant) -> BindId {
        let id = loop {
            self.last_place = self.last_place.wrapping_add(1);
            if !self.places.contains_key(&BindId(self.last_place)) {
                break BindId(self.last_place);
            }
        };
        if self.over {
            return id;
        }
        let open = bind.leaves_open();
        self.places.insert(id, Place { bind, streams, url: None, chosen: None, numbers: BTreeMap::new() });
        let asking = if open { 1 } else { self.lanes.len() };
        self.ask(id, 0..asking, None, now);
        id
    }

    /// Asks for an endpoint in some lanes, under `url` if that is another than the endpoint's own.
    fn ask(&mut self, id: BindId, lanes: Range<usize>, url: Option<&str>, now: Instant) {
        let Some(place) = self.places.get_mut(&id) else { return };
        for (number, lane) in (0..).zip(&mut self.lanes).skip(lanes.start).take(lanes.len()) {
            let mut bind = place.bind.clone();
            if let Some(url) = url {
                url.clone_into(&mut bind.url);
            }
            let in_lane = lane.core.bind(bind, now);
            lane.binds.insert(in_lane, id);
            if let Some(old) = place.numbers.insert(number, in_lane) {
                lane.binds.remove(&old);
                lane.core.unbind(old, false, now);
            }
        }
    }

    /// Takes note of what the network chose for an endpoint, so that all lanes serve the same.
    fn bound(&mut self, id: BindId, url: &str, now: Instant) {
        let Some(place) = self.places.get_mut(&id) else { return };
        place.url = Some(url.to_owned());
        let chosen = place.bind.chosen(url);
        if chosen.is_some() && chosen != place.chosen {
            place.chosen.clone_from(&chosen);
            let all = 1..self.lanes.len();
            self.ask(id, all, chosen.as_deref(), now);
        }
    }

    /// Gives an endpoint up.
    fn leave(&mut self, id: BindId, cut: bool, now: Instant) -> Option<Place> {
        let place = self.places.remove(&id)?;
        for (lane, number) in &place.numbers {
            let lane = &mut self.lanes[usize::from(*lane)];
            lane.binds.remove(number);
            lane.core.unbind(*number, cut, now);
        }
        Some(place)
    }
}

impl<R> Shared<R> {
    /// Runs `act`, tells what came of it, and lets the supervisor perform it.
    fn act<T>(&self, act: impl FnOnce(&mut State<R>, Instant) -> T) -> T {
        let result = self.apply(act);
        let mut state = self.lock();
        state.due = true;
        let waker = state.supervisor.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    /// Runs `act` and tells what came of it.
    fn apply<T>(&self, act: impl FnOnce(&mut State<R>, Instant) -> T) -> T {
        let now = SystemClock.now();
        let mut state = self.lock();
        let result = act(&mut state, now);
        for lane in (0..).take(state.lanes.len()) {
            while let Some(notice) = state.core(lane).poll_notice() {
                self.notice(&mut state, lane, notice, now);
            }
        }
        result
    }

    fn notice(&self, state: &mut State<R>, lane: u8, notice: Notice, now: Instant) {
        // A number that nobody knows is that of an endpoint that was given up meanwhile.
        let known = |state: &State<R>, number| state.lanes[usize::from(lane)].binds.get(&number).copied();
        let event = match notice {
            Notice::Draining { .. } => UplinkEvent::Draining { lane },
            Notice::Bound { id, url } => {
                let Some(id) = known(state, id) else { return };
                state.bound(id, &url, now);
                UplinkEvent::Bound { lane, id, url }
            }
            Notice::Rejected { id, refusal, retry_in } => {
                let Some(id) = known(state, id) else { return };
                UplinkEvent::Rejected { lane, id, refusal, retry_in }
            }
            Notice::Unbound { id, refusal, retry_in } => {
                let Some(id) = known(state, id) else { return };
                UplinkEvent::Unbound { lane, id, refusal, retry_in }
            }
        };
        self.tell(event);
    }

    /// Tells the core that a session is over, and the user if it was the current one. Again it changes nothing.
    fn conclude(&self, state: &mut State<R>, session: Name, cause: Cause, now: Instant) {
        let core = state.core(session.lane);
        let current = core.current() == Some(session.attempt);
        core.handle_closed(session.attempt, cause.retry(), now);
        if current {
            let retry_in = core.redial_in(now);
            self.tell(UplinkEvent::Disconnected { lane: session.lane, cause, retry_in });
        }
    }

    fn tell(&self, event: UplinkEvent) {
        let _ = self.events.send(event); // nobody need listen
    }

    /// Returns the current sessions, at most one a lane.
    fn current(&self) -> Vec<Session<side::Agent, R>> {
        let state = self.lock();
        let current =
            (0..).zip(&state.lanes).filter_map(|(lane, one)| Some(Name { lane, attempt: one.core.current()? }));
        current.filter_map(|name| state.sessions.get(&name).cloned()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> fmt::Debug for Shared<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Ends the uplink when the last handle is gone.
struct Alive<R>(Arc<Shared<R>>);

impl<R> Drop for Alive<R> {
    fn drop(&mut self) {
        self.0.act(|state, now| state.each(|core| core.shutdown(Duration::ZERO, now)));
    }
}
