//! Tasks that can be aborted and whose end is told, whatever it is.

use alloc::{boxed::Box, collections::BTreeMap, sync::Arc};
use core::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Waker},
};
use std::{
    panic::catch_unwind,
    sync::{Mutex, PoisonError},
};

use super::{
    Runtime,
    queue::{Receiver, Sender, queue},
};

/// Tasks that belong together, by age. Dropped, it aborts them.
#[derive(Debug)]
pub(super) struct Tasks<T> {
    running: BTreeMap<u64, Abort>,
    count: u64,
    ended: Receiver<(u64, Ended<T>)>,
    sender: Sender<(u64, Ended<T>)>,
}

/// How a task ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended<T> {
    Done(T),
    Panicked,
    /// By its handle, or with its runtime.
    Aborted,
}

impl<T: Send + 'static> Tasks<T> {
    pub(super) fn new() -> Self {
        let (sender, ended) = queue();
        Self { running: BTreeMap::new(), count: 0, ended, sender }
    }

    pub(super) fn spawn<R: Runtime>(&mut self, future: impl Future<Output = T> + Send + 'static) -> Abort {
        self.count += 1;
        let (number, abort) = (self.count, Abort::default());
        self.running.insert(number, abort.clone());
        R::spawn(Guarded { future: Some(Box::pin(future)), number, abort: abort.clone(), sender: self.sender.clone() });
        abort
    }

    /// Returns how many tasks have not ended, as far as [`Self::poll_next`] has told.
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// Aborts the oldest task; its end is not told.
    pub(super) fn abort_oldest(&mut self) {
        if let Some((_, oldest)) = self.running.pop_first() {
            oldest.abort();
        }
    }

    /// Waits for the next end; `None` when all have been told.
    pub(super) fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Option<Ended<T>>> {
        while !self.running.is_empty() {
            match self.ended.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some((number, ended))) if self.running.remove(&number).is_some() => {
                    return Poll::Ready(Some(ended));
                }
                Poll::Ready(_) => {} // it was given up before
            }
        }
        Poll::Ready(None)
    }
}

impl<T> Drop for Tasks<T> {
    fn drop(&mut self) {
        self.running.values().for_each(Abort::abort);
    }
}

/// Ends a task where it next awaits. Clones end the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Abort(Arc<Aborts>);

#[derive(Debug, Default)]
struct Aborts {
    asked: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Abort {
    pub(super) fn abort(&self) {
        self.0.asked.store(true, Ordering::Release);
        let waker = self.0.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn is_asked(&self, cx: &Context<'_>) -> bool {
        let mut task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.asked.load(Ordering::Acquire) {
            return true;
        }
        match &mut *task {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        false
    }
}

struct Guarded<F: Future> {
    future: Option<Pin<Box<F>>>,
    number: u64,
    abort: Abort,
    sender: Sender<(u64, Ended<F::Output>)>,
}

impl<F: Future> Guarded<F> {
    /// Lets go of the future and tells how it ended.
    fn end(&mut self, ended: Ended<F::Output>) {
        if let Some(future) = self.future.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
            let _ = self.sender.send((self.number, ended)); // nobody need listen
        }
    }
}

impl<F: Future> Future for Guarded<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let ended = if self.abort.is_asked(cx) {
            Ended::Aborted
        } else {
            let Some(future) = &mut self.future else { return Poll::Ready(()) };
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(done)) => Ended::Done(done),
                Err(_) => Ended::Panicked, // the panic hook has told
            }
        };
        self.end(ended);
        Poll::Ready(())
    }
}

impl<F: Future> Unpin for Guarded<F> {}

impl<F: Future> Drop for Guarded<F> {
    fn drop(&mut self) {
        self.end(Ended::Aborted);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use core::{
        future::{pending, poll_fn},
        time::Duration,
    };

    use super::*;
    use crate::{
        Sleep as _,
        testing::{Nap, Virtual, run},
    };

    #[test]
    fn every_end_is_told_whatever_it_is() {
        run(async {
            let mut tasks = Tasks::new();
            let aborted = tasks.spawn::<Virtual>(pending());
            tasks.spawn::<Virtual>(async { panic!("a bad day") });
            tasks.spawn::<Virtual>(async {
                Nap::start(Duration::from_secs(1)).await;
                7
            });
            let mut ends = Vec::from([poll_fn(|cx| tasks.poll_next(cx)).await]);
            aborted.abort();
            ends.push(poll_fn(|cx| tasks.poll_next(cx)).await);
            ends.push(poll_fn(|cx| tasks.poll_next(cx)).await);

            assert_eq!(ends, [Some(Ended::Panicked), Some(Ended::Aborted), Some(Ended::Done(7))]);
            assert_eq!(poll_fn(|cx| tasks.poll_next(cx)).await, None);
        });
    }

    #[test]
    fn dropped_they_are_gone_and_the_oldest_can_go_first() {
        struct Told(Arc<Mutex<Vec<u8>>>, u8);

        impl Drop for Told {
            fn drop(&mut self) {
                self.0.lock().expect("no panic").push(self.1);
            }
        }

        let gone = Arc::new(Mutex::new(Vec::new()));
        run(async {
            let mut tasks = Tasks::new();
            for number in 1..=3 {
                let told = Told(Arc::clone(&gone), number);
                tasks.spawn::<Virtual>(async move {
                    let _told = told;
                    pending::<()>().await;
                });
            }
            Nap::start(Duration::from_secs(1)).await;
            tasks.abort_oldest();
            Nap::start(Duration::from_secs(1)).await;
            assert_eq!(*gone.lock().expect("no panic"), [1]);
            assert_eq!(tasks.len(), 2);
            drop(tasks);
            Nap::start(Duration::from_secs(1)).await;
        });

        assert_eq!(*gone.lock().expect("no panic"), [1, 2, 3]);
    }
}
