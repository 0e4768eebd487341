//! From a stream of the network to an upstream: admitted, dialed, relayed.

use core::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};
use std::sync::Arc;

use adit_core::{Code, Open};
use adit_tokio::{Endpoint, Stream};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    relay::{Ending, relay},
    status::{Counted, Status},
    upstream::{Failure, Upstream, header},
};

/// One endpoint, as its connections see it.
pub(super) struct Service {
    pub(super) name: String,
    pub(super) upstream: Upstream,
    pub(super) limits: Arc<Limits>,
    pub(super) status: Arc<Status>,
    /// When a failure was logged last, in milliseconds since `start`, plus one.
    pub(super) told: AtomicU64,
    pub(super) start: std::time::Instant,
}

/// What callers may make grow, of all endpoints together.
pub(super) struct Limits {
    pub(super) connections: Arc<Semaphore>,
    pub(super) dials: Semaphore,
}

/// Takes connections until the uplink is over or the endpoint is given up.
pub(super) async fn serve(mut endpoint: Endpoint, service: Arc<Service>, mut stopped: oneshot::Receiver<()>) {
    loop {
        let stream = tokio::select! {
            biased;
            _ = &mut stopped => return,
            stream = endpoint.accept() => stream,
        };
        let Some(stream) = stream else { return };
        let Ok(permit) = Arc::clone(&service.limits.connections).try_acquire_owned() else {
            service.tell(|| tracing::warn!(name = service.name, "too many connections: one is refused"));
            stream.abort(Code::LIMIT);
            continue;
        };
        let counted = service.status.connection();
        tokio::spawn(carry(stream, Arc::clone(&service), permit, counted));
    }
}

async fn carry(stream: Stream, service: Arc<Service>, permit: OwnedSemaphorePermit, counted: Counted) {
    // In a box of its own, which is gone before the long part begins.
    let socket = Box::pin(async {
        let _turn = service.limits.dials.acquire().await;
        service.upstream.connect().await // spec: ADDR-003, whatever OPEN names
    })
    .await;
    let socket = match socket {
        Ok(socket) => socket,
        Err(failure) => {
            service.failed(&failure, stream.open().and_then(|open| open.caller));
            stream.abort(failure.code);
            return;
        }
    };
    stream.accept();
    let first = match (service.upstream.config().proxy_protocol, stream.open()) {
        (Some(version), Some(open)) => header(version, open),
        (Some(version), None) => header(version, &Open::default()),
        (None, _) => Bytes::new(),
    };
    let caller = stream.open().and_then(|open| open.caller);
    tracing::debug!(name = service.name, stream = stream.id().number(), ?caller, "connection carried");
    let number = stream.id().number();
    let ending = relay(stream, socket, first).await;
    match ending {
        Ending::Complete => tracing::debug!(name = service.name, stream = number, "connection ended"),
        Ending::Caller(code) => tracing::debug!(name = service.name, stream = number, %code, "caller gone"),
        Ending::Upstream => tracing::debug!(name = service.name, stream = number, "upstream reset the connection"),
    }
    drop((permit, counted));
}

impl Service {
    fn failed(&self, failure: &Failure, caller: Option<SocketAddr>) {
        let error = &failure.error;
        tracing::debug!(name = self.name, ?caller, %error, "not carried");
        self.tell(|| {
            let remedy = error.fault.entry().remedy;
            tracing::warn!(name = self.name, %error, remedy, "upstream failed");
        });
    }

    /// Logs at most once a second: callers decide how often this happens.
    fn tell(&self, tell: impl FnOnce()) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let last = self.told.load(Ordering::Relaxed);
        let due = last == 0 || last.saturating_add(1_000) <= now;
        if due && self.told.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tell();
        }
    }
}
