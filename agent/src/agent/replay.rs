//! A request that was kept, sent again: to the same upstream, by the same rules as a caller's.

use core::{future::poll_fn, task::Poll, time::Duration};
use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use adit_core::Open;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    account::{End, Entry},
    carry::Service,
};
use crate::{
    capture::{Record, Sight, Store, Tee, Unrepeatable},
    errors::{Error, Fault},
    policy::{Ticket, Way},
    status::Carried,
    upstream::{Socket, header},
};

/// The endpoints that are served, by name, and the turns of those who send again.
#[derive(Debug)]
pub(crate) struct Doors {
    services: Mutex<BTreeMap<String, Weak<Service>>>,
    turns: Semaphore,
}

/// Why a request was not sent again, or brought no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReplayError {
    /// It is not there.
    Unknown,
    /// Nothing may be kept.
    Off,
    /// It is not such a request.
    Unrepeatable(Unrepeatable),
    /// Its endpoint is not served at present, or leads elsewhere.
    EndpointGone,
    /// Others are sent again at this moment.
    Busy,
    /// The upstream was not reached, or the policy refuses.
    Failed(Error),
    /// The upstream closed before anything of an answer came, or took too long.
    Unanswered,
}

impl Default for Doors {
    fn default() -> Self {
        Self { services: Mutex::default(), turns: Semaphore::new(MAX_REPLAYS) }
    }
}

impl Doors {
    pub(super) fn open(&self, service: &Arc<Service>) {
        self.lock().insert(service.name.clone(), Arc::downgrade(service));
    }

    pub(super) fn close(&self, name: &str) {
        self.lock().remove(name);
    }

    pub(super) fn close_all(&self) {
        self.lock().clear();
    }

    /// Returns what can be seen of an endpoint, while it is served.
    pub(crate) fn sight(&self, name: &str) -> Option<Sight> {
        let service = self.lock().get(name).and_then(Weak::upgrade)?;
        Some(service.capture.1)
    }

    /// Sends request number `id` again; returns what was kept of that, and the names of fields that were left out.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub(crate) async fn replay(&self, id: u64, store: &Arc<Store>) -> Result<(Arc<Record>, Vec<String>), ReplayError> {
        if !store.is_on() {
            return Err(ReplayError::Off);
        }
        let record = store.get(id).ok_or(ReplayError::Unknown)?;
        let (octets, omitted) = record.exchange.request.again(id).map_err(ReplayError::Unrepeatable)?;
        let Ok(_turn) = self.turns.try_acquire() else { return Err(ReplayError::Busy) };
        let service = self.lock().get(&record.endpoint).and_then(Weak::upgrade);
        // A new configuration may have led the name elsewhere: what it gets is not for another upstream.
        let service = service.filter(|service| service.target.upstream.to_string() == record.upstream);
        let service = service.ok_or(ReplayError::EndpointGone)?;
        let tee = store.tee((&record.endpoint, &record.upstream), None, Some(id)).ok_or(ReplayError::Off)?;
        Box::pin(service.replay(octets, &tee)).await?;
        tee.end();
        let answered = tee.last().filter(|record| record.exchange.answer.is_some());
        answered.map(|record| (record, omitted)).ok_or(ReplayError::Unanswered)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Weak<Service>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Carries a request as if a caller had sent it: admitted by the policy, counted, dialed, at its rate.
    async fn replay(&self, octets: Vec<u8>, tee: &Tee) -> Result<(), ReplayError> {
        let permit = Arc::clone(&self.limits.connections).try_acquire_owned();
        let _permit = permit.map_err(|_| ReplayError::Failed(Fault::TooManyConnections.into()))?;
        let board = self.status.board();
        let bound = board.endpoints.into_iter().find(|state| state.name == self.name).map(|state| state.url);
        let refused = |refusal: crate::policy::Refusal| {
            self.refused(&refusal, None);
            ReplayError::Failed(Error::new(Fault::PolicyRefused, refusal.to_string()))
        };
        let mut ticket = self.guard.admit_tied(self.target(bound), &self.tie).map_err(refused)?;
        // Whoever asks for it: no connection without its record.
        let about = (&*self.guard, self.name.as_str(), &*self.target);
        let mut entry = Entry::begin(about, None, &ticket).await.map_err(refused)?;
        let sent = self.replay_admitted(octets, tee, (&mut ticket, &mut entry)).await;
        let (sent, end) = match sent {
            Ok(()) => (Ok(()), End::complete()),
            Err((error, end)) => (Err(error), end),
        };
        self.ended(entry, end).await;
        sent
    }

    async fn replay_admitted(
        &self,
        octets: Vec<u8>,
        tee: &Tee,
        (ticket, entry): (&mut Ticket, &mut Option<Entry>),
    ) -> Result<(), (ReplayError, End)> {
        let refused = |refusal: crate::policy::Refusal| {
            self.told_refused(&refusal, None);
            let error = Error::new(Fault::PolicyRefused, refusal.to_string());
            (ReplayError::Failed(error), End::refused(&refusal))
        };
        let counted = self.status.connection(&self.name, None, self.target.upstream.to_string());
        let dialed = tokio::select! {
            biased;
            refusal = ticket.revoked() => return Err(refused(refusal)),
            dialed = self.upstream.connect(&self.dials, ticket) => dialed,
        };
        let mut socket = dialed.map_err(|failure| {
            self.failed(&failure, None);
            let end = End::from(&failure);
            (ReplayError::Failed(failure.error), end)
        })?;
        if let Some(entry) = entry {
            entry.reached(ticket, None);
        }
        let mut first = match self.upstream.config().proxy_protocol {
            Some(version) => header(version, &Open::default(), None).to_vec(),
            None => Vec::new(),
        };
        let from = first.len();
        first.extend_from_slice(&octets);
        let talking = talk(&mut socket, (&first, from), ticket, (&counted.carried, tee));
        match timeout(PATIENCE, talking).await {
            Err(_) => Err((ReplayError::Unanswered, End::before(format!("no answer within {PATIENCE:?}")))),
            Ok(Ok(())) => Ok(()),
            Ok(Err(Stop::Revoked(refusal))) => Err(refused(refusal)),
            // Whatever came before stands in the record.
            Ok(Err(Stop::Io)) => Ok(()),
        }
    }
}

/// Why it does not go on.
enum Stop {
    Revoked(crate::policy::Refusal),
    Io,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// Writes all octets, of which those `from` an offset are the request, and reads until its answer is over.
async fn talk(
    socket: &mut Socket,
    (octets, from): (&[u8], usize),
    ticket: &mut Ticket,
    (carried, tee): (&Carried, &Tee),
) -> Result<(), Stop> {
    tee.up(octets.get(from..).unwrap_or_default());
    carried.sent(octets.len());
    ticket.carried(Way::Up, octets.len());
    let mut rest = octets;
    poll_fn(|cx| {
        if let Poll::Ready(refusal) = ticket.poll_revoked(cx) {
            return Poll::Ready(Err(Stop::Revoked(refusal)));
        }
        while !rest.is_empty() {
            match socket.poll_write(&[IoSlice::new(rest)], cx)? {
                Poll::Ready(0) => return Poll::Ready(Err(Stop::Io)),
                Poll::Ready(count) => rest = rest.get(count..).unwrap_or_default(),
                Poll::Pending => break,
            }
        }
        let _ = socket.poll_flush(cx)?; // it wakes when there is room; an answer may come before
        loop {
            if tee.last().is_some() {
                return Poll::Ready(Ok(()));
            }
            if ticket.poll_ready(cx).is_pending() {
                return Poll::Pending;
            }
            let data = match socket.poll_read(cx)? {
                Poll::Ready(data) => data,
                Poll::Pending => return Poll::Pending,
            };
            tee.down(&data);
            if data.is_empty() {
                return Poll::Ready(Ok(()));
            }
            carried.received(data.len());
            ticket.carried(Way::Down, data.len());
        }
    })
    .await
}

/// Requests that are sent again at once.
const MAX_REPLAYS: usize = 4;
/// How long the whole of it may take.
const PATIENCE: Duration = Duration::from_secs(30);
