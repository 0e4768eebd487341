//! The database, watched: a token that was revoked ends its sessions within a second.

use core::time::Duration;
use std::sync::Arc;

use adit_core::Code;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::{
    Fault,
    admin::Readiness,
    ingress::Ingress,
    store::{StoreError, Watch},
};

/// Looks for changes until it is dropped.
pub(super) async fn run(ingress: Arc<Ingress>, readiness: Arc<Readiness>) {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut watch, mut up, mut touched) = (None, true, Instant::now());
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
        ingress.sessions.weigh(ingress.edge.limits.load().parked_size as u64);
        ingress.edge.metrics.sessions_parked.set(i64::try_from(ingress.sessions.parked()).unwrap_or(i64::MAX));
        if touched.elapsed() >= TOUCH {
            touched = Instant::now();
            let live: Vec<_> = ingress.edge.router.read().live().map(|(key, _)| key.to_string()).collect();
            if let Err(error) = ingress.store.touch(&live).await {
                warn!(%error, "the use of names cannot be noted");
            }
        }
    }
}

async fn look(ingress: &Ingress, watch: &mut Option<Watch>) -> Result<(), StoreError> {
    let watch = match watch {
        Some(watch) => watch,
        empty => empty.insert(ingress.store.watch().await?),
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

/// How often the database is asked whether it has changed.
const PERIOD: Duration = Duration::from_millis(250);
/// How often the endpoints in use are noted.
const TOUCH: Duration = Duration::from_secs(600);
