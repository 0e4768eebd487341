//! What is looked at again and again: the database, so that a revoked token ends its sessions within a second; how much
//! waits for agents; how far they are, and what is ready; and whether a crowd has left.

use core::time::Duration;
use std::{collections::HashSet, sync::Arc};

use adit_core::Code;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::{
    Fault,
    admin::Readiness,
    ingress::Ingress,
    store::{StoreError, Topic, Watch},
};

/// Looks for changes until it is dropped.
pub(super) async fn run(ingress: Arc<Ingress>, readiness: Arc<Readiness>) {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut watch, mut up, mut touched, mut crowd) = (None, true, Instant::now(), Crowd::default());
    let (mut measured, mut shown) = (Instant::now(), Vec::new());
    let mut swept = touched;
    loop {
        tick.tick().await;
        let result = look(&ingress, &mut watch).await;
        if result.is_err() {
            watch = None;
        }
        if result.is_ok() != up {
            up = result.is_ok();
            match &result {
                Ok(()) => info!("the database answers again"),
                Err(error) => warn!(%error, "the database does not answer: tunnels stay, sessions and binds wait"),
            }
            readiness.set_database(up);
        }
        ingress.edge.metrics.store_up.set(i64::from(up));
        for _ in 0..ingress.sessions.weigh(ingress.edge.limits.load().parked_size as u64) {
            ingress.edge.metrics.limit("parked_size");
        }
        ingress.edge.metrics.sessions_parked.set(i64::try_from(ingress.sessions.parked()).unwrap_or(i64::MAX));
        if crowd.has_left(ingress.sessions.count() + ingress.edge.admission.total()) {
            // In a thread of its own: it takes milliseconds.
            tokio::task::spawn_blocking(adit_memory::release);
        }
        if measured.elapsed() >= MEASURE {
            measured = Instant::now();
            ingress.edge.measure_readiness(&mut shown);
            for (id, session) in ingress.sessions.all() {
                if let Some(rtt) = session.rtt() {
                    ingress.edge.router.read().measured(id, rtt);
                }
            }
        }
        ingress.edge.metrics.traffic.set_most(ingress.edge.limits.load().labelled_endpoints);
        if swept.elapsed() >= SWEEP {
            swept = Instant::now();
            let live: HashSet<_> = ingress.edge.router.read().live().map(|(key, _)| Arc::clone(key)).collect();
            ingress.edge.metrics.traffic.sweep(|key| live.contains(key), swept);
        }
        if touched.elapsed() >= TOUCH {
            touched = Instant::now();
            let live: Vec<_> = ingress.edge.router.read().live().map(|(key, _)| key.stored()).collect();
            if let Err(error) = ingress.store.touch(&live).await {
                warn!(%error, "the use of names cannot be noted");
            }
        }
    }
}

async fn look(ingress: &Ingress, watch: &mut Option<Watch>) -> Result<(), StoreError> {
    let watch = match watch {
        Some(watch) => watch,
        empty => empty.insert(ingress.store.watch(Topic::Access).await?),
    };
    if !watch.changed().await? {
        return Ok(());
    }
    for token in ingress.sessions.tokens() {
        match ingress.store.standing(&token).await? {
            Some(acl) => ingress.recheck(&token, &acl),
            None => {
                for (session, handle) in ingress.sessions.of_token(&token) {
                    info!(%session, token, "the token was revoked: the session ends");
                    let entry = Fault::Revoked.entry();
                    // spec: AUTH-003
                    handle.close(Code::REVOKED, &format!("{}: {}", Fault::Revoked.code(), entry.explanation));
                }
            }
        }
    }
    Ok(())
}

/// How many there were, of sessions and connections: what many have left behind is of use to other processes.
#[derive(Debug, Default)]
struct Crowd {
    most: usize,
    before: usize,
}

impl Crowd {
    /// Takes how many there are. True once, when at least half of them and a thousand have left and no more do.
    fn has_left(&mut self, now: usize) -> bool {
        self.most = self.most.max(now);
        let still = self.before <= now;
        self.before = now;
        let left = still && now <= self.most / 2 && CROWD <= self.most - now;
        if left {
            self.most = now;
        }
        left
    }
}

const CROWD: usize = 1_000;

/// How often the database is asked whether it has changed.
const PERIOD: Duration = Duration::from_millis(250);
/// How often it is measured how far agents are and which endpoints are ready.
const MEASURE: Duration = Duration::from_secs(1);
/// How often it is looked which endpoints are gone, for the labels of the metrics.
const SWEEP: Duration = Duration::from_secs(60);
/// How often the endpoints in use are noted.
const TOUCH: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_has_left_once_and_when_nobody_leaves_any_more() {
        let mut crowd = Crowd::default();
        let told = |crowd: &mut Crowd, counts: &[usize]| -> Vec<bool> {
            counts.iter().map(|count| crowd.has_left(*count)).collect()
        };

        assert_eq!(told(&mut crowd, &[0, 5_000, 10_000, 9_000, 9_000]), [false; 5], "most are there");
        assert_eq!(told(&mut crowd, &[4_000, 100, 100, 100]), [false, false, true, false]);
        assert_eq!(told(&mut crowd, &[1_098, 99, 99]), [false; 3], "one fewer than a crowd");
        assert_eq!(told(&mut crowd, &[1_100, 100, 100]), [false, false, true]);
    }
}
