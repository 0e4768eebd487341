//! File descriptors: every connection of a caller and every session has one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::config::Limits;

/// Raises the soft limit of descriptors to the hard one, and says when that is less than the limits of the configuration
/// ask for (V87): the network then pauses accepting at the system's limit, and not at its own.
pub(super) fn prepare(limits: &Limits) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        info!(from = current, to = maximum, "the soft limit of file descriptors was raised");
    }
    let available = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if let Some(missing) = missing(limits, available) {
        warn!(
            available,
            missing, "too few file descriptors for limits.connections and limits.sessions; raise LimitNOFILE"
        );
    }
}

/// Returns how many descriptors the limits ask for beyond those that there are.
fn missing(limits: &Limits, available: u64) -> Option<u64> {
    let wanted = limits.connections.saturating_add(limits.sessions).saturating_add(OWN);
    u64::try_from(wanted).unwrap_or(u64::MAX).checked_sub(available).filter(|missing| *missing > 0)
}

/// What listeners, the database and the log need.
const OWN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_the_system_cannot_serve_are_noticed() {
        let limits = Limits { connections: 1_000, sessions: 100, ..Limits::default() };

        assert_eq!(missing(&limits, 1_356), None);
        assert_eq!(missing(&limits, 1_355), Some(1));
        assert_eq!(missing(&limits, u64::MAX), None);
    }
}
