//! What is known of a running agent, for whoever shows it.

mod carried;
mod connection;

use core::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use adit_core::{Heartbeat, TlsEnd};
use tokio::sync::Notify;

pub(crate) use carried::{Carried, Counted};
pub(crate) use connection::note;
pub use connection::{Attempt, Disconnect, StepOutcome, StepState};

/// What is known of a running agent.
#[derive(Debug, Default)]
pub struct Status {
    board: Mutex<Board>,
    changed: Notify,
    traffic: Traffic,
    turns: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Carried>>>,
}

/// The state of everything at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Board {
    /// The session; online while any of several is.
    pub session: SessionState,
    /// How many sessions have a connection, and how many are wanted.
    pub sessions: (usize, usize),
    /// Where the node is that holds the session.
    pub region: String,
    /// The node that holds the session.
    pub node: String,
    /// The latest round trip.
    pub round_trip: Option<Duration>,
    /// The endpoints, in the order of the configuration.
    pub endpoints: Vec<EndpointState>,
    /// Connections at this moment.
    pub live: usize,
    /// Connections since the start.
    pub total: u64,
    /// What went wrong last, while it matters.
    pub trouble: Option<String>,
    /// Whether the network's certificate is revoked, as far as that is asked; empty before the first handshake.
    pub revocation: String,
    /// Why the customer has closed everything, while that lasts.
    pub frozen: Option<String>,
    /// The last attempt to connect that is over.
    pub attempt: Option<Attempt>,
    /// The heartbeat in force, as agreed upon with the network; before that there is none.
    pub heartbeat: Option<Heartbeat>,
    /// What the vendor has sent by a command; nothing where that is not so.
    pub remote: Option<RemoteState>,
    /// The last ten ends of connections to the network, the latest last.
    pub disconnects: VecDeque<Disconnect>,
}

impl Board {
    /// Returns after how long a silence the connection is taken for dead: until the next question, and the tolerance.
    #[must_use]
    pub fn dead_after(&self) -> Option<Duration> {
        self.heartbeat.map(|heartbeat| heartbeat.interval.saturating_add(heartbeat.tolerance))
    }
}

/// The state of the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionState {
    /// There is none yet.
    #[default]
    Connecting,
    /// There is one.
    Online,
    /// There was one.
    Reconnecting,
    /// It ends.
    Draining,
    /// The customer has closed everything: there is none until that is over.
    Frozen,
}

/// The state of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointState {
    /// Its name in the configuration.
    pub name: String,
    /// Its URL: as bound, or as asked for.
    pub url: String,
    /// Where it leads.
    pub upstream: String,
    /// Where TLS of callers ends: what was asked for, which the network cannot change.
    pub tls: TlsEnd,
    /// Whether it is bound.
    pub bound: bool,
    /// Why not, and who must act; empty while it is not known.
    pub problem: String,
    /// What the network was told where it is not asked for: the name of a code, or nothing.
    pub told: String,
    /// What of the customer's own policy refuses every caller; empty when some may come.
    pub refusal: String,
    /// The certificate, where the agent orders it itself.
    pub certificate: Option<CertificateState>,
    /// Whether the vendor has sent it by a command.
    pub remote: bool,
}

/// The document of endpoints that the vendor has sent by a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteState {
    /// How many endpoints it names.
    pub endpoints: usize,
    /// The SHA-256 of the document, in hexadecimal digits.
    pub print: String,
    /// What the vendor said about it, and so by whom.
    pub said: String,
    /// When it was taken, in seconds since 1970.
    pub taken: i64,
    /// Why it is not in force; empty while it is.
    pub withheld: String,
    /// The endpoints that are left out because the configuration has one of that name or URL.
    pub left_out: Vec<String>,
    /// Why what is kept is not believed; empty when it is.
    pub problem: String,
}

/// A certificate that the agent orders itself. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateState {
    /// The authority's directory.
    pub directory: String,
    /// Until when the one in use is good; none yet.
    pub until: Option<i64>,
    /// When the next is ordered.
    pub next: i64,
    /// How often in a row that came to nothing.
    pub failures: u32,
    /// Why there is none, or no new one; empty when all is well.
    pub problem: String,
}

/// Counts connections.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    live: AtomicUsize,
    total: AtomicU64,
}

impl Status {
    /// Returns everything as it is.
    pub fn board(&self) -> Board {
        let mut board = self.lock().clone();
        board.live = self.traffic.live.load(Ordering::Relaxed);
        board.total = self.traffic.total.load(Ordering::Relaxed);
        board
    }

    /// Waits for a change of anything but the counters and the round trip.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Board)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    /// Returns whether an endpoint is bound while there is a session.
    pub(crate) fn is_bound(&self, name: &str) -> bool {
        let board = self.lock();
        board.session == SessionState::Online && board.endpoints.iter().any(|one| one.name == name && one.bound)
    }

    /// Puts on the board how an endpoint's certificate stands; returns whether the endpoint is there.
    pub(crate) fn set_certificate(&self, name: &str, state: &CertificateState) -> bool {
        let mut board = self.lock();
        let Some(endpoint) = board.endpoints.iter_mut().find(|endpoint| endpoint.name == name) else { return false };
        endpoint.certificate = Some(state.clone());
        drop(board);
        self.changed.notify_one();
        true
    }

    pub(crate) fn measured(&self, round_trip: Option<Duration>) {
        self.lock().round_trip = round_trip;
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns a number that grows each second while the loop of the agent turns.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Returns how many connections are carried.
    pub fn live(&self) -> usize {
        self.traffic.live.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
