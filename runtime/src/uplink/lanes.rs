//! The sessions that an uplink holds side by side, each with a core, binds and dials of its own (AUTH-008).

use alloc::{collections::BTreeMap, vec::Vec};
use core::{net::SocketAddr, task::Waker};

use adit_core::{BindId, GiveUp, Instant, side};

use super::places::Place;
use crate::{Session, queue::Sender, steps::Steps, tasks::Abort};

/// What handles, sessions and the supervisor know in common.
pub(super) struct State<R> {
    /// One for each session that is wanted.
    pub(super) lanes: Vec<Lane>,
    pub(super) places: BTreeMap<BindId, Place>,
    pub(super) last_place: u32,
    /// Dials under way, whom they dial, and how far they are.
    pub(super) dials: BTreeMap<Name, (usize, Abort, Steps)>,
    /// Connections beside a silent link: each waits for a consent to go on.
    pub(super) standbys: BTreeMap<Name, Sender<()>>,
    /// Sessions that live, the current ones and those that drain.
    pub(super) sessions: BTreeMap<Name, Session<side::Agent, R>>,
    /// Whoever performs actions, while it sleeps.
    pub(super) supervisor: Option<Waker>,
    /// There may be an action to perform.
    pub(super) due: bool,
    pub(super) over: bool,
    /// Dropped when the last event has been told.
    pub(super) ends: Option<Vec<Sender<()>>>,
}

/// A dial, and the session that may come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) lane: u8,
    pub(super) attempt: u64,
}

/// One of the sessions that the uplink holds, across its reconnects.
pub(super) struct Lane {
    pub(super) core: adit_core::Uplink,
    /// The endpoints, by the numbers that they have in this lane.
    pub(super) binds: BTreeMap<BindId, BindId>,
    pub(super) gave_up: Option<GiveUp>,
    /// The address of the network that the session has its link to, or had last.
    pub(super) remote: Option<SocketAddr>,
}

impl<R> State<R> {
    pub(super) fn core(&mut self, lane: u8) -> &mut adit_core::Uplink {
        &mut self.lanes[usize::from(lane)].core
    }

    pub(super) fn each(&mut self, act: impl FnMut(&mut adit_core::Uplink)) {
        self.lanes.iter_mut().map(|lane| &mut lane.core).for_each(act);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| Some(lane.core.poll_timeout()?.at)).min()
    }
}
