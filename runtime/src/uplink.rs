//! The agent's side across reconnects: one task that dials, binds and drains as [`adit_core::Uplink`] says.

mod endpoint;
mod supervisor;

use alloc::{collections::BTreeMap, string::String, sync::Arc, vec::Vec};
use core::{fmt, marker::PhantomData, net::SocketAddr, task::Waker, time::Duration};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::{ClientConfig, pki_types::ServerName};

use super::{
    ConnectError, ConnectOptions, Runtime, Session, SetupError, Stream, SystemClock,
    queue::{Receiver, Sender, queue},
    tasks::Abort,
};
use adit_core::{
    AgentId, Bind, BindId, Cause, Code, Command, CommandResult, Config, GiveUp, Instant, Notice, ReconnectPolicy,
    Refusal, Retry, Secret, Stats, Welcome,
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
}

/// Where a network listens for agents.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// An agent's connection to the network, whatever happens to single sessions. Clones are the same; when the last is
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
        /// Counts the dials, from 1.
        attempt: u64,
        /// The index of the target.
        target: usize,
    },
    /// A dial came to nothing.
    DialFailed {
        /// The index of the target.
        target: usize,
        /// Why.
        error: DialError,
        /// When the next target is dialed; `None` when that is under way or will not happen.
        retry_in: Option<Duration>,
    },
    /// There is a session.
    Connected {
        /// What the network said.
        welcome: Welcome,
        /// The address of the network.
        remote: SocketAddr,
    },
    /// The connection is lost; the session, its endpoints and its streams wait for the next one.
    Suspended {
        /// Why.
        cause: Cause,
        /// When the network is dialed; `None` when that is under way.
        retry_in: Option<Duration>,
    },
    /// The session goes on over a new connection: no octet and no stream is lost.
    Resumed {
        /// The address of the network.
        remote: SocketAddr,
    },
    /// The session is lost.
    Disconnected {
        /// Why.
        cause: Cause,
        /// When a target is dialed; `None` when that is under way or will not happen.
        retry_in: Option<Duration>,
    },
    /// The network lets the session drain; another is made.
    Draining,
    /// A bind is in force.
    Bound {
        /// The bind.
        id: BindId,
        /// The endpoint as callers know it.
        url: String,
    },
    /// A bind was refused.
    Rejected {
        /// The bind.
        id: BindId,
        /// Why.
        refusal: Refusal,
        /// When it is asked for again.
        retry_in: Duration,
    },
    /// A bind that was in force was taken back.
    Unbound {
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
        let core = adit_core::Uplink::new(options.targets.len(), options.reconnect.clone(), supervisor::seed(), now);
        let (sender, events) = queue();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                core,
                places: BTreeMap::new(),
                dials: BTreeMap::new(),
                sessions: BTreeMap::new(),
                supervisor: None,
                due: true,
                over: false,
                ends: Some(Vec::new()),
            }),
            events: sender,
            runtime: PhantomData,
        });
        R::spawn(supervisor::supervise(Arc::clone(&shared), options));
        let alive = Arc::new(Alive(Arc::clone(&shared)));
        (Self { shared, alive }, UplinkEvents { events, over: false })
    }

    /// Wishes for an endpoint, now and after every reconnect. The `id` in `bind` is ignored.
    pub fn bind(&self, bind: Bind) -> Endpoint<R> {
        let (sender, streams) = queue();
        let id = self.shared.act(|state, now| {
            let id = state.core.bind(bind, now);
            if !state.over {
                state.places.insert(id, Place { streams: sender, url: None });
            }
            id
        });
        Endpoint::new(id, streams, Arc::clone(&self.shared))
    }
}

impl<R> Uplink<R> {
    /// Dials at once, whatever it is doing: the addresses or routes of this machine have changed.
    ///
    /// A living session goes on until another is there.
    pub fn reconnect_now(&self) {
        self.shared.act(|state, now| state.core.handle_network_change(now));
    }

    /// Ends everything: streams may finish for at most `drain`, then all is closed. Cancelled, it still ends.
    pub async fn shutdown(&self, drain: Duration) {
        self.shared.act(|state, now| state.core.shutdown(drain, now));
        let (end, ended) = queue::<()>();
        self.shared.apply(|state, _| {
            if let Some(ends) = &mut state.ends {
                ends.retain(Sender::is_received); // who was cancelled leaves nothing behind
                ends.push(end);
            }
        });
        let _ = ended.recv().await; // the other end is dropped
    }

    /// Returns the counters of the current session.
    pub fn stats(&self) -> Option<Stats> {
        self.shared.current().map(|session| session.stats())
    }

    /// Returns the latest round trip of the current session.
    pub fn rtt(&self) -> Option<Duration> {
        self.shared.current()?.rtt()
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
    runtime: PhantomData<fn() -> R>,
}

struct State<R> {
    core: adit_core::Uplink,
    places: BTreeMap<BindId, Place>,
    /// Dials under way, by attempt, and whom they dial.
    dials: BTreeMap<u64, (usize, Abort)>,
    /// Sessions that live, the current and those that drain.
    sessions: BTreeMap<u64, Session<side::Agent, R>>,
    /// Whoever performs actions, while it sleeps.
    supervisor: Option<Waker>,
    /// There may be an action to perform.
    due: bool,
    over: bool,
    /// Dropped when the last event has been told.
    ends: Option<Vec<Sender<()>>>,
}

/// Where the streams of an endpoint go.
struct Place {
    streams: Sender<Stream>,
    url: Option<String>,
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
        while let Some(notice) = state.core.poll_notice() {
            let event = match notice {
                Notice::Draining { .. } => UplinkEvent::Draining,
                Notice::Bound { id, url } => {
                    if let Some(place) = state.places.get_mut(&id) {
                        place.url = Some(url.clone());
                    }
                    UplinkEvent::Bound { id, url }
                }
                Notice::Rejected { id, refusal, retry_in } => UplinkEvent::Rejected { id, refusal, retry_in },
                Notice::Unbound { id, refusal, retry_in } => UplinkEvent::Unbound { id, refusal, retry_in },
            };
            self.tell(event);
        }
        result
    }

    /// Tells the core that a session is over, and the user if it was the current one. Again it changes nothing.
    fn conclude(&self, state: &mut State<R>, session: u64, cause: Cause, now: Instant) {
        let current = state.core.current() == Some(session);
        state.core.handle_closed(session, cause.retry(), now);
        if current {
            let retry_in = state.core.redial_in(now);
            self.tell(UplinkEvent::Disconnected { cause, retry_in });
        }
    }

    fn tell(&self, event: UplinkEvent) {
        let _ = self.events.send(event); // nobody need listen
    }

    fn current(&self) -> Option<Session<side::Agent, R>> {
        let state = self.lock();
        state.core.current().and_then(|attempt| state.sessions.get(&attempt).cloned())
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
        self.0.act(|state, now| state.core.shutdown(Duration::ZERO, now));
    }
}
