//! The requests of one HTTP/2 connection: what they wait for, and how many of them ended in a reset.
//!
//! hyper gives no hook for a caller that grants no window, nor for one that opens and resets; both are seen here, in the
//! tasks that hyper spawns through [`Streams`].

use core::{
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};
use std::sync::Arc;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tokio::{
    sync::Notify,
    time::{Instant, Sleep, sleep},
};

use super::{HttpLimits, Note, record::Notes};

tokio::task_local! {
    /// The stream whose request is being served.
    static WATCH: Arc<Watch>;
}

/// What is known of one stream.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Data was handed out and more was not asked for: the caller has no room.
    waiting: AtomicBool,
    pieces: AtomicU32,
    /// A request was served on it.
    served: AtomicBool,
    /// The answer is out, or it is not the caller's doing that it is not.
    done: AtomicBool,
    /// What the stream has become outside HTTP is broken off.
    broken: AtomicBool,
    tunnel: AtomicWaker,
}

impl Watch {
    /// Returns the watch of the stream that the current task serves.
    pub(super) fn current() -> Option<Arc<Self>> {
        let watch = WATCH.try_with(Arc::clone).ok()?;
        watch.served.store(true, Ordering::Relaxed);
        Some(watch)
    }

    pub(super) fn handed_out(&self) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
        self.waiting.store(true, Ordering::Relaxed);
    }

    pub(super) fn asked(&self) {
        self.waiting.store(false, Ordering::Relaxed);
    }

    pub(super) fn done(&self) {
        self.done.store(true, Ordering::Relaxed);
    }

    /// Resets the stream that has left HTTP: its end would be taken for the end of what it carries.
    pub(super) fn break_off(&self) {
        self.broken.store(true, Ordering::Release);
        self.tunnel.wake();
    }
}

/// Runs the tasks of one connection.
#[derive(Clone, Debug)]
pub(super) struct Streams(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    active: AtomicUsize,
    idle_since: Mutex<Instant>,
    stall_timeout: Duration,
    notes: Notes,
    resets: Mutex<Bucket>,
    flood: Notify,
}

impl Streams {
    pub(super) fn new(limits: &HttpLimits, notes: Notes) -> Self {
        Self(Arc::new(Shared {
            active: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            stall_timeout: limits.stall_timeout,
            notes,
            resets: Mutex::new(Bucket::full(limits.reset_burst, limits.reset_rate)),
            flood: Notify::new(),
        }))
    }

    /// Waits until the caller has reset more requests than it may.
    pub(super) async fn flooded(&self) {
        self.0.flood.notified().await;
    }

    /// Waits until no request was served for `most`.
    pub(super) async fn idle(&self, most: Duration) {
        loop {
            let due = *self.0.idle_since.lock() + most;
            let busy = self.0.active.load(Ordering::Relaxed) > 0;
            if !busy && due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(if busy { Instant::now() + most } else { due }).await;
        }
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.active.fetch_add(1, Ordering::Relaxed);
        // What a stream's task starts is the sending half of the stream that leaves HTTP.
        let (watch, tunnel) =
            WATCH.try_with(Arc::clone).map_or_else(|_| (Arc::default(), false), |watch| (watch, true));
        let guard = Guard { shared: Arc::clone(&self.0), watch };
        tokio::spawn(Watched { task, guard, tunnel, pieces: 0, stall: None });
    }
}

/// Counts the stream until its task is gone, however it ends.
#[derive(Debug)]
struct Guard {
    shared: Arc<Shared>,
    watch: Arc<Watch>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.watch.served.load(Ordering::Relaxed)
            && !self.watch.done.load(Ordering::Relaxed)
            && !self.shared.resets.lock().take(Instant::now())
        {
            self.shared.flood.notify_one();
        }
        *self.shared.idle_since.lock() = Instant::now();
        self.shared.active.fetch_sub(1, Ordering::Relaxed);
    }
}

pin_project! {
    /// One task of a connection; it ends when its data waits for the caller for too long.
    struct Watched<F> {
        #[pin]
        task: F,
        guard: Guard,
        tunnel: bool,
        pieces: u32,
        stall: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let (watch, task) = (&this.guard.watch, this.task);
        if *this.tunnel {
            watch.tunnel.register(cx.waker());
            if watch.broken.load(Ordering::Acquire) {
                return Poll::Ready(()); // dropped unfinished it is a reset
            }
        }
        if WATCH.sync_scope(Arc::clone(watch), || task.poll(cx)).is_ready() {
            return Poll::Ready(());
        }
        if !watch.waiting.load(Ordering::Relaxed) {
            *this.stall = None;
            return Poll::Pending;
        }
        let pieces = watch.pieces.load(Ordering::Relaxed);
        if *this.pieces != pieces {
            *this.pieces = pieces;
            *this.stall = None;
        }
        let shared = &this.guard.shared;
        ready!(this.stall.get_or_insert_with(|| Box::pin(sleep(shared.stall_timeout))).as_mut().poll(cx));
        shared.notes.note(Note::Limit("stall_timeout"));
        Poll::Ready(())
    }
}

/// How many resets there may still be.
#[derive(Debug)]
struct Bucket {
    most: u32,
    rate: u32,
    /// Thousandths of a reset.
    level: u64,
    filled: Instant,
}

impl Bucket {
    fn full(most: u32, rate: u32) -> Self {
        Self { most, rate, level: u64::from(most) * 1000, filled: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = u64::try_from(now.duration_since(self.filled).as_millis()).unwrap_or(u64::MAX);
        self.filled = now;
        self.level =
            passed.saturating_mul(u64::from(self.rate)).saturating_add(self.level).min(u64::from(self.most) * 1000);
        let enough = self.level >= 1000;
        self.level = self.level.saturating_sub(1000);
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn resets_are_counted_with_a_burst_and_a_rate() {
        let (start, secs) = (Instant::now(), Duration::from_secs);
        let mut bucket = Bucket::full(3, 2);

        let burst: Vec<_> = (0..4).map(|_| bucket.take(start)).collect();
        let later: Vec<_> = (0..3).map(|_| bucket.take(start + secs(1))).collect();

        assert_eq!(burst, [true, true, true, false]);
        assert_eq!(later, [true, true, false]);
    }
}
