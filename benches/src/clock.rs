//! Processor time, which other programs on the machine change less than they change the time of day.

use core::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Runs `work` and returns the processor time that this thread spent on it.
pub fn of_thread(work: impl FnOnce()) -> Duration {
    let before = now(ClockId::ThreadCPUTime);
    work();
    now(ClockId::ThreadCPUTime).saturating_sub(before)
}

/// Returns the processor time that this process has spent, all threads together.
pub fn of_process() -> Duration {
    now(ClockId::ProcessCPUTime)
}

fn now(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
