//! Looks again and again whether lists have changed, and tells of those that come to their end.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::{State, unix_now};
use crate::{
    Edge,
    metrics::{Metrics, ReasonLabel, StateLabel},
    store::Store,
    tls::TermsTable,
};

/// Keeps the lists up to date until it is dropped.
pub async fn run(edge: Arc<Edge>, store: Arc<Store>) {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_told = false;
    loop {
        tick.tick().await;
        let (table, metrics) = (edge.terms.load_full(), Arc::clone(&edge.metrics));
        // Reading files blocks; a panic in there is counted, and the next look is as good.
        let _ = tokio::task::spawn_blocking(move || look(&table, &metrics, unix_now())).await;
        let named: BTreeSet<_> = edge.terms.load().revocations().flat_map(|(_, it)| it.urls().to_vec()).collect();
        match edge.revocation.flush(&store, &named).await {
            Ok(()) => is_told = false,
            Err(error) if !is_told => {
                is_told = true;
                warn!(%error, "what is known of revocation lists cannot be written: a restart would forget it");
            }
            Err(_) => {}
        }
    }
}

/// Looks once.
pub(super) fn look(table: &TermsTable, metrics: &Metrics, now: u64) {
    let mut tally: BTreeMap<State, i64> = State::ALL.map(|state| (state, 0)).into();
    let count = |reason| metrics.tls.revocation_reads.get_or_create(&ReasonLabel { reason }).inc();
    for (name, revocations) in table.revocations() {
        match revocations.refresh(now) {
            None => {}
            Some(Ok(lists)) => {
                count("taken");
                info!(%name, lists = lists.join("; "), "revocation lists were read");
            }
            Some(Err(error)) => {
                count("refused");
                error!(%name, %error, "a revocation list cannot be used: the ones in force stay, up to their end");
            }
        }
        let (states, changed) = revocations.states(now);
        for state in states {
            *tally.entry(state).or_default() += 1;
        }
        for (list, state) in changed {
            match state {
                State::Good => info!(%name, list, "a revocation list is in force"),
                State::Near => warn!(%name, list, "a revocation list comes to its end and there is no newer one"),
                State::Grace => error!(%name, list, "a revocation list is over: it is believed for crl_grace"),
                State::Over | State::Missing => {
                    error!(%name, list, "a revocation list is over: certificates of its issuer are refused");
                }
            }
        }
    }
    for (state, count) in tally {
        metrics.tls.revocation_lists.get_or_create(&StateLabel { state: state.word() }).set(count);
    }
}

/// How often files are looked at.
const PERIOD: Duration = Duration::from_secs(2);
