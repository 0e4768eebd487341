//! Revocation lists inside sessions: agents hear of a new list without looking for it, and end what runs under a certificate that it
//! revokes.

use core::{net::SocketAddr, time::Duration};
use std::sync::Arc;

use adit_core::{RevocationsError, SessionId};
use adit_tokio::NetworkSession;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::Ingress;
use crate::metrics::ReasonLabel;

/// How an agent came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    pub(super) peer: SocketAddr,
    /// Which revocation lists there were before it shook hands.
    pub(super) edition: u64,
}

/// How many sessions were told.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    sessions: usize,
    too_long: usize,
}

impl Ingress {
    /// Tells every agent of each change of the revocation lists, until it is dropped.
    pub(crate) async fn tell_revocations(self: Arc<Self>) {
        let mut edition = self.edge.certificates.edition();
        while edition.changed().await.is_ok() {
            let next = Instant::now() + BETWEEN;
            // An agent that is to come over, because the certificate was replaced, has its next session by then.
            sleep(FIRST).await;
            let mut told = Told::default();
            spread(&self.sessions.ids(), |id| self.tell(*id, &mut told)).await; // spec: CRL-006
            info!(sessions = told.sessions, "agents were told of the new revocation lists");
            told.warn();
            sleep_until(next).await;
        }
    }

    /// Tells an agent of revocation lists that have changed since it began to shake hands.
    pub(super) fn catch_up(&self, id: SessionId, session: &NetworkSession, came: Came) {
        let name = session.peer().and_then(|peer| peer.name.clone());
        self.sessions.note_issuer(id, self.edge.certificates.issuer_for_agents(name.as_deref()));
        // Not before the session is known: what changes from here on is told to it.
        if *self.edge.certificates.edition().borrow() != came.edition {
            let mut told = Told::default();
            self.tell(id, &mut told); // spec: CRL-006
            told.warn();
        }
    }

    fn tell(&self, id: SessionId, told: &mut Told) {
        let Some((session, issuer)) = self.sessions.shown(id) else { return };
        let Some(lists) = self.edge.certificates.lists_of(&issuer) else { return };
        let reason = match session.tell_revocations(&lists) {
            Ok(()) => {
                told.sessions += 1;
                "sent"
            }
            Err(RevocationsError::TooLong(_)) => {
                told.too_long += 1;
                "too_long"
            }
            Err(_) => return, // it is over
        };
        self.edge.metrics.revocations_told.get_or_create(&ReasonLabel { reason }).inc();
    }
}

impl Told {
    fn warn(self) {
        if self.too_long > 0 {
            let sessions = self.too_long;
            warn!(
                sessions,
                "revocation lists are too long for a frame that agents take: they hear of them when they look"
            );
        }
    }
}

/// Tells one after the other, so that there is no moment at which all of them act; done within [`WITHIN`].
async fn spread<T>(all: &[T], mut tell: impl FnMut(&T)) {
    let steps = usize::try_from(WITHIN.as_millis() / STEP.as_millis()).unwrap_or(usize::MAX);
    for some in all.chunks(all.len().div_ceil(steps).max(1)) {
        some.iter().for_each(&mut tell);
        sleep(STEP).await;
    }
}

/// From one change that agents are told of to the next.
const BETWEEN: Duration = Duration::from_secs(10);
/// Until the first agent is told.
const FIRST: Duration = Duration::from_secs(1);
/// From the first to the last.
const WITHIN: Duration = Duration::from_secs(8);
const STEP: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// CRL-006
    #[tokio::test(start_paused = true)]
    async fn ten_thousand_agents_are_told_within_eight_seconds_and_few_at_a_time() {
        for count in [0, 1, 3, 160, 161, 10_000] {
            let (all, begun) = ((0..count).collect::<Vec<usize>>(), Instant::now());
            let (mut told, mut moments) = (Vec::new(), BTreeMap::<_, usize>::new());

            spread(&all, |number| {
                told.push(*number);
                *moments.entry(begun.elapsed()).or_default() += 1;
            })
            .await;

            assert_eq!(told, all, "each once");
            assert!(moments.keys().all(|at| *at < WITHIN), "{count}: {moments:?}");
            assert!(moments.values().all(|together| *together <= count.div_ceil(100)), "{count}: {moments:?}");
        }
        assert!(FIRST + WITHIN < BETWEEN);
    }
}
