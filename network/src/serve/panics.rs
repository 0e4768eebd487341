//! A panic ends the task that it is in, and nothing else (V98): it is counted, and told in the log.

use std::{panic, sync::Arc};

use tracing::error;

use crate::metrics::Metrics;

/// Counts and tells every panic of the process.
pub(super) fn watch(metrics: &Arc<Metrics>) {
    let (metrics, before) = (Arc::clone(metrics), panic::take_hook());
    panic::set_hook(Box::new(move |panicked| {
        metrics.panics.inc();
        // What it says may be of a peer: it goes where such things went before, and not into the log.
        let place = panicked.location().map(ToString::to_string).unwrap_or_default();
        error!(place, "a task panicked: what it served is lost, all else goes on");
        before(panicked);
    }));
}
