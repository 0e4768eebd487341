//! The clock of the operating system, and a timer of tokio that follows it.

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use adit_core::{
    Instant,
    driver::{Clock, Timer},
};
use tokio::time::Sleep;

/// A clock that goes on while the machine sleeps, where the operating system has one (Linux: `CLOCK_BOOTTIME`).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[cfg(target_os = "linux")]
    fn now(&self) -> Instant {
        use rustix::time::{ClockId, clock_gettime};

        let now = clock_gettime(ClockId::Boottime);
        let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
        Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    #[cfg(not(target_os = "linux"))]
    fn now(&self) -> Instant {
        use std::sync::OnceLock;

        static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();
        let origin = ORIGIN.get_or_init(std::time::Instant::now);
        Instant::from_nanos(u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// One timer, armed again only when it must ring earlier.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
}

impl Timer for Alarm {
    fn poll_until(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.armed.is_none_or(|armed| armed > at) {
                let left = at.since(SystemClock.now());
                let deadline = tokio::time::Instant::now() + left.min(FAR);
                match &mut self.sleep {
                    Some(sleep) => sleep.as_mut().reset(deadline),
                    empty => *empty = Some(Box::pin(tokio::time::sleep_until(deadline))),
                }
                self.armed = Some(at);
            }
            let rings = self.sleep.as_mut().is_none_or(|sleep| sleep.as_mut().poll(cx).is_ready());
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

/// What is further away is looked at again after this time.
const FAR: core::time::Duration = core::time::Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use adit_core::Duration;
    use core::future::poll_fn;

    #[tokio::test]
    async fn an_alarm_that_is_put_off_does_not_ring_early() {
        let mut alarm = Alarm::default();
        let start = SystemClock.now();
        let (soon, late) = (start + Duration::from_millis(5), start + Duration::from_millis(20));
        let pending = poll_fn(|cx| Poll::Ready(alarm.poll_until(soon, cx).is_pending())).await;

        poll_fn(|cx| alarm.poll_until(late, cx)).await;

        assert!(pending);
        assert!(SystemClock.now() >= late);
    }
}
