//! Fetches revocation lists: before they are over, not often, and only where requests of policies may go too (V78).

use core::time::Duration;
use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::{Request, StatusCode};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::{MAX_SOURCE, unix_now};
use crate::{Edge, fetch::Bounds, metrics::ReasonLabel};

/// When a URL is asked next, and how often it failed in a row.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    failures: u32,
}

/// Fetches until it is dropped.
pub async fn run(edge: Arc<Edge>) {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due = BTreeMap::<String, Due>::new();
    loop {
        tick.tick().await;
        let now = Instant::now();
        let mut old = core::mem::take(&mut due);
        for url in edge.terms.load().revocations().flat_map(|(_, it)| it.urls().iter()) {
            let entry = old.remove(url).unwrap_or(Due { at: now, failures: 0 });
            due.entry(url.clone()).or_insert(entry);
        }
        let ready: Vec<_> = due.iter().filter(|(_, due)| due.at <= now).map(|(url, _)| url.clone()).collect();
        for some in ready.chunks(TOGETHER) {
            let mut asked = JoinSet::new();
            for url in some {
                let (edge, url) = (Arc::clone(&edge), url.clone());
                asked.spawn(async move {
                    let result = get(&edge, &url).await;
                    (url, result)
                });
            }
            while let Some(done) = asked.join_next().await {
                let Ok((url, result)) = done else { continue };
                let Some(entry) = due.get_mut(&url) else { continue };
                *entry = settle(&edge, &url, result, *entry);
            }
        }
    }
}

/// Notes what came of a request, and when the next one is due.
fn settle(edge: &Edge, url: &str, result: Result<u64, String>, before: Due) -> Due {
    let count = |reason| edge.metrics.tls.revocation_reads.get_or_create(&ReasonLabel { reason }).inc();
    let now = Instant::now();
    match result {
        Ok(next) => {
            count("fetched");
            if before.failures > 0 {
                info!(url, "a revocation list can be fetched again");
            }
            let left = Duration::from_secs(next.saturating_sub(unix_now()));
            Due { at: now + (left / 2).clamp(SOONEST, LATEST), failures: 0 }
        }
        Err(error) => {
            count("unreachable");
            let failures = before.failures.saturating_add(1);
            let wait = SOONEST.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX)).min(LATEST);
            warn!(url, error, failures, seconds = wait.as_secs(), "a revocation list cannot be fetched");
            Due { at: now + wait, failures }
        }
    }
}

/// Asks once. Returns when the successor of the list is due.
async fn get(edge: &Edge, url: &str) -> Result<u64, String> {
    let fetcher = edge.world.fetcher().ok_or("nothing is fetched here")?;
    let request = Request::get(url).body(Bytes::new()).map_err(|error| error.to_string())?;
    let bounds = Bounds { timeout: PATIENCE, most: MAX_SOURCE };
    let answer = fetcher.fetch_own(request, bounds).await.map_err(|fault| fault.to_string())?.response;
    if answer.status() != StatusCode::OK {
        return Err(format!("the server answers {}", answer.status().as_u16())); // a redirect too
    }
    let body = answer.into_body();
    let (table, url) = (edge.terms.load_full(), url.to_owned());
    // To verify a large list takes a while.
    let offered = tokio::task::spawn_blocking(move || {
        let mut result = Err("no endpoint asks for it any more".to_owned());
        for (_, revocations) in table.revocations().filter(|(_, it)| it.urls().contains(&url)) {
            result = revocations.offer(&url, body.to_vec(), unix_now());
            if result.is_ok() {
                break;
            }
        }
        result
    });
    offered.await.map_err(|_| "it cannot be read by a fault of our own".to_owned())?
}

/// How often it is looked whether something is due.
const PERIOD: Duration = Duration::from_secs(1);
/// A list is asked for after half of the time that it has left; never more often than this,
const SOONEST: Duration = Duration::from_secs(60);
/// and at least so often.
const LATEST: Duration = Duration::from_secs(3_600);
/// Requests at a time.
const TOGETHER: usize = 8;
const PATIENCE: Duration = Duration::from_secs(30);
