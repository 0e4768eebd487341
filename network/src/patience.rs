//! Waiting for what an agent has to do: while its session waits for it, time stands still.

use core::{pin::pin, time::Duration};

use tokio::time::{Instant, timeout_at};

/// Waits for `outcome` for at most `most`, and as much longer as `away` grows meanwhile: the time for which the agent was
/// away, in all. A session waits for its agent no longer than its window, and fails what waits for it then.
pub(crate) async fn patient<T>(
    most: Duration,
    away: impl Fn() -> Duration,
    outcome: impl Future<Output = T>,
) -> Option<T> {
    let (start, before) = (Instant::now(), away());
    let mut outcome = pin!(outcome);
    let mut until = start + most;
    loop {
        if let Ok(outcome) = timeout_at(until, outcome.as_mut()).await {
            return Some(outcome);
        }
        let now = Instant::now();
        let due = start + most + away().saturating_sub(before);
        if due <= now {
            return None;
        }
        until = due.max(now + LOOK);
    }
}

/// How often it is looked at the most whether an agent is back that went away when time was almost over.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use core::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn while_the_agent_is_away_time_stands_still() {
        let table = [
            // (away from, to, waited for in all)
            (0, 0, 10_000),
            (1_000, 4_000, 13_000),
            (9_999, 29_999, 30_000),
            (10_000, 20_000, 10_000),
            (12_000, 13_000, 10_000),
        ];
        for (from, to, expected) in table {
            let start = Instant::now();
            let away = || ms(from..to, start.elapsed());

            let outcome = patient(Duration::from_secs(10), away, pending::<()>()).await;

            let took = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            let late = u64::try_from(LOOK.as_millis()).unwrap_or(u64::MAX);
            assert_eq!(outcome, None);
            assert!((expected..=expected + late).contains(&took), "away {from} to {to}: {took}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_before_counts_for_nothing_and_an_outcome_ends_the_wait() {
        let start = Instant::now();

        let none = patient(Duration::from_secs(1), || Duration::from_secs(60), pending::<()>()).await;
        let some = patient(Duration::from_secs(1), || Duration::from_secs(60), ready(7)).await;

        assert_eq!((none, some, start.elapsed()), (None, Some(7), Duration::from_secs(1)));
    }

    /// Returns how much of the time up to `now` lies in a span of milliseconds.
    fn ms(span: core::ops::Range<u64>, now: Duration) -> Duration {
        now.min(Duration::from_millis(span.end)).saturating_sub(Duration::from_millis(span.start))
    }
}
