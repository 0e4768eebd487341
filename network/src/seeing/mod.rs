//! What the operator sees of each request and connection: the numbers of its endpoint and account, its line in the access log, and its
//! part of a trace.

mod access;
mod spans;
mod trace;
mod traffic;
mod visit;

use std::{io, sync::Arc};

use http::HeaderMap;

use crate::{config::Config, metrics::Metrics};

pub(crate) use access::Time;
pub use access::{AccessLog, Entry, Request};
pub use spans::Exporter;
pub use trace::{Chance, Sample, SpanId, Trace, TraceId};
pub use traffic::{Numbers, Open, Traffic};
pub(crate) use visit::Visit;

/// Where everything goes that is told of requests and connections.
#[derive(Debug)]
pub struct Seeing {
    log: AccessLog,
    tracing: Option<Tracing>,
}

#[derive(Debug)]
struct Tracing {
    sample: Sample,
    exporter: Exporter,
    logged: crate::config::Logged,
}

impl Default for Seeing {
    /// Sees nothing.
    fn default() -> Self {
        Self { log: AccessLog::none(), tracing: None }
    }
}

impl Seeing {
    /// Opens what the configuration says. Must be called inside a runtime.
    ///
    /// # Errors
    /// The file of the access log cannot be opened.
    pub fn start(config: &Config, metrics: &Metrics) -> io::Result<Self> {
        let log = AccessLog::start(&config.log.access, config.log.format, metrics.access_dropped.clone())?;
        let tracing = config.telemetry.as_ref().map(|telemetry| Tracing {
            sample: telemetry.sample,
            exporter: Exporter::start(telemetry, &config.node, metrics.spans.clone()),
            logged: config.log.access.clone(),
        });
        Ok(Self { log, tracing })
    }

    /// Takes part in the trace of a request, if there is tracing; else what the caller says of it passes untouched.
    pub fn trace(&self, fields: &mut HeaderMap) -> Option<Trace> {
        let tracing = self.tracing.as_ref()?;
        Some(Trace::join(fields, tracing.sample, Chance::draw()))
    }

    /// Takes what is known of a request or connection that is over.
    pub fn finish(&self, entry: Entry) {
        let recorded = entry.request.as_ref().and_then(|request| request.trace).filter(|trace| trace.recorded);
        if let (Some(trace), Some(tracing)) = (recorded, &self.tracing)
            && let Some(span) = spans::span(&entry, trace, &tracing.logged)
        {
            tracing.exporter.export(span);
        }
        self.log.write(entry);
    }

    /// Has the file of the access log opened again.
    pub fn reopen(&self) {
        self.log.reopen();
    }

    /// Waits until what was told so far is written and sent, but not for long.
    pub async fn flush(self: Arc<Self>) {
        let log = Arc::clone(&self);
        let _ = tokio::task::spawn_blocking(move || log.log.flush()).await;
        if let Some(tracing) = &self.tracing {
            tracing.exporter.flush().await;
        }
    }
}
