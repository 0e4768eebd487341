//! What a connection holds while it is carried: its place under a rule, which can be taken back.

use core::{
    future::{Future as _, poll_fn},
    net::IpAddr,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, Waker},
};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Sleep, sleep_until};

use super::{Guard, Protocol, Refusal};
use crate::config::Address;

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The endpoint's URL, as bound or as asked for.
    pub(crate) endpoint: String,
    pub(crate) upstream: Address,
    pub(crate) protocol: Protocol,
}

/// A connection's place under the policy. Dropped, it counts no longer.
#[derive(Debug)]
pub(crate) struct Ticket {
    guard: Arc<Guard>,
    number: u64,
    signal: Arc<Signal>,
    /// Runs while the rate of octets is reached.
    pause: Option<Pin<Box<Sleep>>>,
    moved: Arc<Moved>,
}

/// Octets that a connection has carried.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    up: AtomicU64,
    down: AtomicU64,
}

/// From a caller to its upstream, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

impl Moved {
    /// Returns the octets towards the upstream, and towards the caller.
    pub(crate) fn both(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }
}

/// Tells a connection that it is not allowed any more.
#[derive(Debug, Default)]
pub(super) struct Signal(Mutex<(Option<Refusal>, Option<Waker>)>);

impl Signal {
    pub(super) fn revoke(&self, refusal: Refusal) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = Some(refusal);
        let waker = state.1.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Refusal> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refusal) = &state.0 {
            return Poll::Ready(refusal.clone());
        }
        if !state.1.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.1 = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Ticket {
    pub(super) fn new(guard: Arc<Guard>, number: u64, signal: Arc<Signal>) -> Self {
        Self { guard, number, signal, pause: None, moved: Arc::default() }
    }

    /// Returns the rule that it counts under, and the address that was dialed.
    pub(crate) fn facts(&self) -> (Option<String>, Option<IpAddr>) {
        self.guard.facts(self.number)
    }

    /// Returns what counts what it carries.
    pub(crate) fn moved(&self) -> Arc<Moved> {
        Arc::clone(&self.moved)
    }

    /// Decides about the address that is going to be dialed: what a name meant a moment ago does not count (V78).
    ///
    /// # Errors
    /// Why it may not be dialed; another address may.
    pub(crate) fn settle(&self, address: IpAddr) -> Result<(), Refusal> {
        self.guard.settle(self.number, address)
    }

    /// Waits until the connection is not allowed any more.
    pub(crate) async fn revoked(&self) -> Refusal {
        poll_fn(|cx| self.poll_revoked(cx)).await
    }

    pub(crate) fn poll_revoked(&self, cx: &Context<'_>) -> Poll<Refusal> {
        self.signal.poll(cx)
    }

    /// Counts octets that were carried.
    pub(crate) fn carried(&self, way: Way, octets: usize) {
        if octets == 0 {
            return;
        }
        let octets = u64::try_from(octets).unwrap_or(u64::MAX);
        let counter = if way == Way::Up { &self.moved.up } else { &self.moved.down };
        counter.fetch_add(octets, Ordering::Relaxed);
        self.guard.carried(self.number, octets);
    }

    /// Returns when more may be carried. What others of the rule have carried counts, also before the first octet: whoever
    /// comes anew or by many connections is not faster.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(pause) = &mut self.pause {
                core::task::ready!(pause.as_mut().poll(cx));
            }
            self.pause = self.guard.ready(self.number).map(|ready| Box::pin(sleep_until(ready.into())));
            if self.pause.is_none() {
                return Poll::Ready(());
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.guard.leave(self.number);
    }
}
