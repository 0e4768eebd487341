//! A queue between tasks: any number of senders, one receiver. Who fills it bounds it.

use alloc::{collections::VecDeque, sync::Arc};
use core::{
    fmt,
    future::poll_fn,
    task::{Context, Poll, Waker},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) fn queue<T>() -> (Sender<T>, Receiver<T>) {
    let inner = Inner { items: VecDeque::new(), waker: None, senders: 1, received: true };
    let inner = Arc::new(Mutex::new(inner));
    (Sender(Arc::clone(&inner)), Receiver(inner))
}

pub(super) struct Sender<T>(Arc<Mutex<Inner<T>>>);

pub(super) struct Receiver<T>(Arc<Mutex<Inner<T>>>);

struct Inner<T> {
    items: VecDeque<T>,
    waker: Option<Waker>,
    senders: usize,
    /// Whether there is a receiver.
    received: bool,
}

impl<T> Sender<T> {
    /// Returns whether somebody may still receive.
    pub(super) fn is_received(&self) -> bool {
        lock(&self.0).received
    }

    /// Passes `item` on, or returns it when nobody receives any more.
    pub(super) fn send(&self, item: T) -> Result<(), T> {
        let mut inner = lock(&self.0);
        if !inner.received {
            return Err(item);
        }
        inner.items.push_back(item);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        lock(&self.0).senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut inner = lock(&self.0);
        inner.senders -= 1;
        let waker = if inner.senders == 0 { inner.waker.take() } else { None };
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// Waits for the next item; `None` when all senders are gone. Cancelled, it loses nothing. One task at a time may wait.
    pub(super) async fn recv(&self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    pub(super) fn poll_recv(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        let mut inner = lock(&self.0);
        if let Some(item) = inner.items.pop_front() {
            return Poll::Ready(Some(item));
        }
        if inner.senders == 0 {
            return Poll::Ready(None);
        }
        let gone = inner.waker.replace(cx.waker().clone());
        drop(inner);
        drop(gone); // outside of the lock: a waker may do anything when it goes
        Poll::Pending
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut inner = lock(&self.0);
        inner.received = false;
        let left = (core::mem::take(&mut inner.items), inner.waker.take());
        drop(inner);
        drop(left); // outside of the lock: what is dropped may send
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

fn lock<T>(inner: &Mutex<Inner<T>>) -> MutexGuard<'_, Inner<T>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_comes_in_order_and_the_end_after_it() {
        let (sender, receiver) = queue();
        let other = sender.clone();
        let cx = Context::from_waker(Waker::noop());
        assert_eq!(receiver.poll_recv(&cx), Poll::Pending);

        sender.send(1).expect("a receiver");
        other.send(2).expect("a receiver");
        drop((sender, other));

        assert_eq!(receiver.poll_recv(&cx), Poll::Ready(Some(1)));
        assert_eq!(receiver.poll_recv(&cx), Poll::Ready(Some(2)));
        assert_eq!(receiver.poll_recv(&cx), Poll::Ready(None));
    }

    #[test]
    fn what_nobody_receives_is_given_back() {
        let (sender, receiver) = queue();
        assert!(sender.is_received());
        drop(receiver);

        assert_eq!(sender.send(1), Err(1));
        assert!(!sender.is_received());
    }
}
