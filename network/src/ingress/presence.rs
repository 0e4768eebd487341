//! Which agents are there, noted in the database for whoever asks: what has changed, a second at a time.

use core::time::Duration;
use std::{collections::HashSet, sync::Arc};

use adit_core::SessionId;
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::debug;

use super::{Ingress, commands::Look};
use crate::store::{ENDPOINTS, Sighting, StoreError};

/// The sessions of which the database does not know how they are.
#[derive(Debug, Default)]
pub struct Unnoted(Mutex<HashSet<SessionId>>);

impl Unnoted {
    /// Takes note that a session is not as it was.
    pub(super) fn add(&self, id: SessionId) {
        self.0.lock().insert(id);
    }

    fn take(&self, most: usize) -> Vec<SessionId> {
        let mut unnoted = self.0.lock();
        let taken: Vec<_> = unnoted.iter().take(most).copied().collect();
        taken.iter().for_each(|id| _ = unnoted.remove(id));
        taken
    }
}

impl Ingress {
    /// Keeps the database and agents informed of each other until `stop`, and then says that the agents of this node have gone.
    pub(crate) async fn correspond(self: Arc<Self>, mut stop: oneshot::Receiver<()>) {
        let mut tick = interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut look, mut alive, mut noted, mut up) = (Look::default(), None, Instant::now(), true);
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => return self.take_leave().await,
                _ = tick.tick() => {}
            }
            let result = self.round(&mut look, &mut alive, &mut noted).await;
            // That it does not answer is told where it is looked for tokens.
            if let Err(error) = &result
                && up
            {
                debug!(%error, "agents and commands cannot be noted");
            }
            up = result.is_ok();
        }
    }

    async fn round(&self, look: &mut Look, alive: &mut Option<Instant>, noted: &mut Instant) -> Result<(), StoreError> {
        let now = Instant::now();
        if alive.is_none_or(|alive| alive + ALIVE <= now) {
            if self.store.note_node(&self.run, &self.node).await? {
                // Another node may have taken this one for dead, and its agents for away.
                self.sessions.ids().into_iter().for_each(|id| self.unnoted.add(id));
            }
            *alive = Some(now);
        }
        if *noted + NOTED <= now {
            *noted = now;
            self.note_agents().await?;
        }
        self.look_for_commands(look).await
    }

    /// Notes the sessions that are not as they were.
    async fn note_agents(&self) -> Result<(), StoreError> {
        let ids = self.unnoted.take(AT_ONCE);
        if ids.is_empty() {
            return Ok(());
        }
        let sessions: Vec<_> = ids.iter().map(|id| (*id, self.sighting(*id))).collect();
        let result = self.store.note_sessions(&self.run, &sessions).await;
        if result.is_err() {
            ids.into_iter().for_each(|id| self.unnoted.add(id));
        }
        result
    }

    /// Says how a session is; nothing when it is over.
    fn sighting(&self, id: SessionId) -> Option<Sighting> {
        let member = self.sessions.member(id)?;
        let parked = self.sessions.get(id)?.is_parked();
        let router = self.edge.router.read();
        let (endpoints, bound) =
            (router.bound_by(id).take(ENDPOINTS).map(|key| key.stored()).collect(), router.binds(id));
        drop(router);
        let about = member.about;
        Some(Sighting {
            account: member.origin.account,
            agent: member.origin.agent,
            token: member.token,
            address: about.address.to_string(),
            software: about.software,
            metadata: about.metadata,
            endpoints,
            bound,
            parked,
            began: about.began,
        })
    }

    async fn take_leave(&self) {
        let leave = async {
            self.note_outcomes().await?;
            self.store.note_node_gone(&self.run).await
        };
        // Another node finds it out by itself.
        if let Err(error) = leave.await {
            debug!(%error, "the end of the node cannot be noted");
        }
    }
}

/// How often commands are looked for.
const PERIOD: Duration = Duration::from_millis(250);
/// How often it is noted which agents are there.
const NOTED: Duration = Duration::from_secs(1);
/// Sessions that are noted at once: a fleet that comes back must not hold up what else is written.
const AT_ONCE: usize = 1_000;
/// How often it is noted that the node lives.
const ALIVE: Duration = Duration::from_secs(10);
