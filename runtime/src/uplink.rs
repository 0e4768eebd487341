//! The agent's side across reconnects: one task that dials, binds and drains as [`adit_core::Uplink`] says.

mod endpoint;
mod events;
mod lanes;
mod places;
mod probe;
mod supervisor;

use alloc::{collections::BTreeMap, string::String, sync::Arc, vec::Vec};
use core::{fmt, marker::PhantomData, time::Duration};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::{ClientConfig, pki_types::ServerName};

use super::{
    ConnectOptions, Runtime, Session, Stream, SystemClock,
    queue::{Receiver, Sender, queue},
};
use adit_core::{
    AgentId, Bind, Cause, Code, Config, Instant, LANES, Notice, ReconnectPolicy, Secret, Stats, Unbind, Withheld,
    driver::Clock, side, tls::Peer,
};

pub use endpoint::Endpoint;
pub use events::{CommandReply, DialError, UplinkEvent, UplinkEvents};
use lanes::{Lane, Name, State};
pub use probe::{Probe, greet, probe};

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

    /// Gives an endpoint up, as [`Endpoint::unbind_because`] does, from where its [`Endpoint`] is not at hand: at once, so that a bind
    /// of the same URL that follows comes after it. Its [`Endpoint::accept`] ends.
    pub fn give_up(&self, unbind: &Unbind) {
        let place = self.shared.act(|state, now| state.leave(unbind, now));
        drop(place);
    }

    /// Tells those who run the network why an endpoint is not asked for (BIND-021), now and in every session that is new, until
    /// [`Self::bind`] of the same URL, or until this is called with [`Code::NO_ERROR`]. It binds nothing. More than
    /// [`Config::binds`] are not told.
    pub fn withhold(&self, withheld: Withheld) {
        self.shared.act(|state, now| state.withhold(withheld, now));
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

    /// Ends everything at once, and tells the network why. Cancelled, it still ends.
    pub async fn close(&self, code: Code, text: &str) {
        let sessions: Vec<_> = self.shared.lock().sessions.values().cloned().collect();
        for session in sessions {
            session.close(code, text);
        }
        self.shutdown(Duration::ZERO).await;
    }

    /// Ends at once the sessions whose network `is_lost` says so of, draining ones too, and tells it why; returns how many. They are
    /// made anew with the usual delay, unless the code says otherwise.
    pub fn close_where(&self, is_lost: impl Fn(&Peer) -> bool, code: Code, text: &str) -> usize {
        let sessions: Vec<_> = self.shared.lock().sessions.values().cloned().collect();
        let lost = sessions.iter().filter(|session| session.peer().is_some_and(|peer| is_lost(&peer)));
        lost.map(|session| session.close(code, text)).count()
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

/// What handles, sessions and the supervisor share.
struct Shared<R> {
    state: Mutex<State<R>>,
    events: Sender<UplinkEvent>,
    /// The number of this run of the agent.
    incarnation: u64,
    runtime: PhantomData<fn() -> R>,
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
