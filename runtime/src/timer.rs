//! Timers over those of a runtime.

use core::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use super::{Runtime, Sleep, SystemClock};
use adit_core::{
    Instant,
    driver::{Clock, Timer},
};

/// One timer that follows the system's clock, armed again only when it must ring earlier.
pub(super) struct Alarm<R: Runtime> {
    sleep: Option<R::Sleep>,
    armed: Option<Instant>,
}

impl<R: Runtime> Alarm<R> {
    pub(super) const fn new() -> Self {
        Self { sleep: None, armed: None }
    }
}

impl<R: Runtime> Timer for Alarm<R> {
    fn poll_until(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.armed.is_none_or(|armed| armed > at) {
                let left = at.since(SystemClock.now()).min(FAR);
                match &mut self.sleep {
                    Some(sleep) => sleep.restart(left),
                    empty => *empty = Some(R::Sleep::start(left)),
                }
                self.armed = Some(at);
            }
            let rings = self.sleep.as_mut().is_none_or(|sleep| Pin::new(sleep).poll(cx).is_ready());
            if !rings {
                return Poll::Pending;
            }
            self.armed = None;
            if at <= SystemClock.now() {
                return Poll::Ready(());
            }
        }
    }
}

impl<R: Runtime> fmt::Debug for Alarm<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").field("armed", &self.armed).finish_non_exhaustive()
    }
}

/// Waits for a future at most so long.
pub(super) async fn within<R: Runtime, F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let (mut future, mut sleep) = (pin!(future), R::Sleep::start(limit));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Pin::new(&mut sleep).poll(cx).map(|()| None),
    })
    .await
}

/// What is further away is looked at again after this time.
const FAR: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use core::future::pending;

    use super::*;
    use crate::testing::{Nap, Virtual, now, run};

    #[test]
    fn what_takes_too_long_is_given_up_at_its_limit() {
        let (late, early) = run(async {
            let late = within::<Virtual, _>(Duration::from_secs(3), pending::<()>()).await;
            (late, within::<Virtual, _>(Duration::from_secs(3), Nap::start(Duration::from_secs(2))).await)
        });

        assert_eq!((late, early, now()), (None, Some(()), Duration::from_secs(5)));
    }
}
