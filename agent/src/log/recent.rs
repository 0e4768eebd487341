//! The last lines of the log, for whoever asks the running agent.

use core::time::Duration;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::timeout};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    Layer,
    fmt::{
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    layer::Context,
};

use super::{Fields, json};

/// The last lines of the log: at most 1,000, and 256 KiB of them.
#[derive(Debug, Default)]
pub struct Recent {
    lines: Mutex<Lines>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    octets: usize,
    /// The number of the first line that is kept; they rise by one.
    first: u64,
}

/// Some of the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// Each a JSON object, in order.
    pub(crate) lines: Vec<String>,
    /// The number of the first of them.
    pub(crate) first: u64,
    /// Lines between those that were asked for and the first that is kept.
    pub(crate) lost: u64,
}

impl Recent {
    /// Returns at most `most` of the lines from number `from` on; without, the last of all.
    pub(crate) fn lines(&self, from: Option<u64>, most: usize) -> Excerpt {
        let lines = self.lock();
        let kept = u64::try_from(lines.kept.len()).unwrap_or(u64::MAX);
        let end = lines.first.saturating_add(kept);
        let wanted =
            from.unwrap_or_else(|| end.saturating_sub(u64::try_from(most).unwrap_or(u64::MAX)).max(lines.first));
        let first = wanted.clamp(lines.first, end);
        let skipped = usize::try_from(first - lines.first).unwrap_or(usize::MAX);
        let some = lines.kept.iter().skip(skipped).take(most).cloned().collect();
        Excerpt { lines: some, first, lost: first.saturating_sub(wanted) }
    }

    /// Waits for line number `from`, at most so long.
    pub(crate) async fn wait(&self, from: u64, most: Duration) {
        let arrived = async {
            loop {
                let more = self.more.notified();
                if self.next() > from {
                    return;
                }
                more.await;
            }
        };
        let _ = timeout(most, arrived).await; // what is there then is what there is
    }

    /// Returns the number of the next line.
    pub(crate) fn next(&self) -> u64 {
        let lines = self.lock();
        lines.first.saturating_add(u64::try_from(lines.kept.len()).unwrap_or(u64::MAX))
    }

    fn keep(&self, line: String) {
        let mut lines = self.lock();
        lines.octets = lines.octets.saturating_add(line.len());
        lines.kept.push_back(line);
        while lines.kept.len() > MAX_LINES || lines.octets > MAX_OCTETS {
            let Some(oldest) = lines.kept.pop_front() else { break };
            lines.octets = lines.octets.saturating_sub(oldest.len());
            lines.first += 1;
        }
        drop(lines);
        self.more.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps what is traced.
#[derive(Debug)]
pub(super) struct Keeper(pub(super) Arc<Recent>);

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut time = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut time)); // a String takes it
        self.0.keep(json(&time, *event.metadata().level(), &fields));
    }
}

const MAX_LINES: usize = 1_000;
const MAX_OCTETS: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: u64, text: &str) -> Recent {
        let recent = Recent::default();
        (0..count).for_each(|number| recent.keep(format!("{number}{text}")));
        recent
    }

    #[test]
    fn the_last_lines_are_kept_and_it_is_said_how_many_are_not() {
        let recent = filled(1_200, "");

        let last = recent.lines(None, 2);
        assert_eq!((last.lines, last.first, last.lost), (vec!["1198".into(), "1199".into()], 1_198, 0));
        let from = recent.lines(Some(150), 1);
        assert_eq!((from.lines, from.first, from.lost), (vec!["200".into()], 200, 50));
        assert_eq!(recent.lines(Some(1_200), 9), Excerpt { first: 1_200, ..Excerpt::default() });
        assert_eq!(recent.lines(Some(u64::MAX), 9).lines.len(), 0);
    }

    #[test]
    fn long_lines_do_not_take_more_memory() {
        let recent = filled(100, &"x".repeat(10_000));

        let octets: usize = recent.lines(Some(0), 1_000).lines.iter().map(String::len).sum();
        assert!(octets <= MAX_OCTETS && octets > MAX_OCTETS / 2, "{octets}");
    }

    #[tokio::test]
    async fn who_waits_for_the_next_line_has_it() {
        let recent = Arc::new(filled(3, ""));
        let other = Arc::clone(&recent);
        let waiting = tokio::spawn(async move { other.wait(3, Duration::from_secs(60)).await });
        tokio::task::yield_now().await;

        recent.keep("more".into());

        waiting.await.unwrap();
        assert_eq!(recent.lines(Some(3), 9).lines, ["more"]);
    }
}
