//! What is refused while memory is short, before the system ends the process and with it every session (V91).

use core::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};
use std::{fs, path::Path, sync::Arc};

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::Edge;

/// How much is refused. Each step refuses what those before it do, too; nothing that is open is ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nothing.
    #[default]
    Calm,
    /// From 85 %: new requests and connections to endpoints.
    Requests,
    /// From 92 %: new sessions of agents.
    Sessions,
    /// From 97 %: every new connection of a caller, without an answer.
    Connections,
}

impl Step {
    const ALL: [(Self, u64); 3] = [(Self::Requests, 85), (Self::Sessions, 92), (Self::Connections, 97)];

    /// Returns the step for so many octets of `most`. A step is left [`BELOW`] percent under where it began.
    fn next(self, resident: u64, most: u64) -> Self {
        let reached = |percent: u64| u128::from(resident) * 100 >= u128::from(most) * u128::from(percent);
        let steps = Self::ALL.iter().rev();
        let fitting = |&&(step, percent): &&(Self, u64)| reached(if step <= self { percent - BELOW } else { percent });
        steps.into_iter().find(fitting).map_or(Self::Calm, |(step, _)| *step)
    }
}

/// The step in force.
#[derive(Debug, Default)]
pub struct Pressure(AtomicU8);

impl Pressure {
    /// Returns whether what `step` refuses is refused.
    pub fn refuses(&self, step: Step) -> bool {
        self.0.load(Ordering::Relaxed) >= step as u8
    }

    /// Sets the step.
    pub fn set(&self, step: Step) {
        self.0.store(step as u8, Ordering::Relaxed);
    }
}

/// Watches the memory of the process for as long as it serves: four times a second, and forty times once it is near a step.
pub(crate) async fn watch(edge: Arc<Edge>) {
    let allowed = allowed();
    if let Some(allowed) = allowed {
        info!(octets = allowed, "the control group allows so much memory");
    }
    let (mut step, mut released, mut pause) = (Step::Calm, Instant::now(), LOOK);
    loop {
        sleep(pause).await;
        let most = match edge.limits.load().memory {
            0 => allowed,
            most => u64::try_from(most).ok(),
        };
        let (Some(most), Some(resident)) = (most, resident()) else { continue };
        pause = until_next_look(resident, most);
        let next = step.next(resident, most);
        if next != step {
            warn!(resident, most, refused = ?next, "memory pressure has changed");
            edge.pressure.set(next);
            step = next;
        }
        // What was freed may still be counted as ours.
        if step > Step::Calm && released.elapsed() >= RELEASE {
            released = Instant::now();
            tokio::task::spawn_blocking(adit_memory::release);
        }
    }
}

/// Returns how long to wait after `resident` octets of `most` were seen. Many slow readers at once fill a small limit from the
/// first step to the last within [`LOOK`], and would have met closed connections before anybody was answered 503.
fn until_next_look(resident: u64, most: u64) -> Duration {
    if u128::from(resident) * 100 >= u128::from(most) * u128::from(NEAR) { LOOK_NEAR } else { LOOK }
}

/// Returns the resident octets of this process.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1_024)
}

/// Returns what the control groups of this process allow it, the least of them.
fn allowed() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    files(&groups).iter().filter_map(|file| octets(&fs::read_to_string(file).ok()?)).min()
}

/// Returns the files that may hold a limit, of both versions of control groups, the group's own and those above.
fn files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (base, name) = match (number, controllers) {
            ("0", "") => ("/sys/fs/cgroup", "memory.max"),
            (_, controllers) if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(path).ancestors().take(MAX_GROUPS) {
            let group = group.to_str().unwrap_or_default().trim_matches('/');
            files.push([base, group, name].join("/").replace("//", "/"));
        }
    }
    files
}

/// Reads a limit; `max`, and what no machine has, is none.
fn octets(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|octets| *octets < 1 << 60)
}

const BELOW: u64 = 3;
const LOOK: Duration = Duration::from_millis(250);
const LOOK_NEAR: Duration = Duration::from_millis(25);
/// Percent from which it is looked more often.
const NEAR: u64 = 65;
const RELEASE: Duration = Duration::from_secs(5);
const MAX_GROUPS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_begins_at_its_share_and_is_left_a_little_below() {
        let run = |shares: &[u64]| {
            let mut step = Step::Calm;
            shares
                .iter()
                .map(|share| {
                    step = step.next(*share, 1_000);
                    step
                })
                .collect::<Vec<_>>()
        };

        assert_eq!(run(&[0, 849, 850, 820, 819]), [Step::Calm, Step::Calm, Step::Requests, Step::Requests, Step::Calm]);
        assert_eq!(
            run(&[920, 889, 970, 940, 939]),
            [Step::Sessions, Step::Requests, Step::Connections, Step::Connections, Step::Sessions]
        );
        assert_eq!(run(&[5_000, 0]), [Step::Connections, Step::Calm]);
        assert_eq!(Step::Calm.next(u64::MAX, u64::MAX), Step::Connections);
    }

    #[test]
    fn from_65_percent_on_it_is_looked_ten_times_as_often() {
        assert_eq!(
            [0, 649, 650, 5_000].map(|resident| until_next_look(resident, 1_000).as_millis()),
            [250, 250, 25, 25]
        );
        assert_eq!(until_next_look(u64::MAX, u64::MAX).as_millis(), 25);
    }

    #[test]
    fn a_step_refuses_what_those_before_it_refuse() {
        let pressure = Pressure::default();
        assert!(!pressure.refuses(Step::Requests));

        pressure.set(Step::Sessions);

        assert!(
            pressure.refuses(Step::Requests)
                && pressure.refuses(Step::Sessions)
                && !pressure.refuses(Step::Connections)
        );
    }

    #[test]
    fn limits_of_both_versions_of_control_groups_are_looked_for() {
        let found = files("9:name=systemd:/\n4:cpu,memory:/a/b\n0::/c\nnonsense\n");

        let own = "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes";
        assert_eq!(found.first().map(String::as_str), Some(own));
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(
            found.contains(&"/sys/fs/cgroup/memory.max".to_owned())
                && found.contains(&"/sys/fs/cgroup/c/memory.max".to_owned())
        );
        assert_eq!(octets("max\n"), None);
        assert_eq!(octets("9223372036854771712\n"), None);
        assert_eq!(octets("1048576\n"), Some(1 << 20));
    }

    #[test]
    fn the_memory_of_this_process_is_known() {
        assert!(resident().is_some_and(|octets| octets > 1 << 20));
    }
}
