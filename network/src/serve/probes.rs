//! Asks the upstreams of endpoints again and again whether they are well, through their agents, where the configuration says so.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Instant, UNIX_EPOCH},
};

use adit_core::{BindId, Open, UpstreamProtocol};
use adit_tokio::NetworkSession;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::debug;

use crate::{
    Edge,
    config::Probe,
    edge::now,
    endpoints::Settings,
    http::probe,
    router::{Key, MemberId},
};

/// Asks until it is dropped.
pub(super) async fn run(edge: Arc<Edge>) {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let seed = UNIX_EPOCH.elapsed().map_or(1, |since| since.subsec_nanos());
    let (mut schedule, mut probes) = (Schedule::new(u64::from(seed)), JoinSet::new());
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            Some(over) = probes.join_next(), if !probes.is_empty() => {
                if let Ok((member, interval)) = over {
                    schedule.asked(member, interval, now());
                }
            }
        }
        let mut targets = targets(&edge);
        for member in schedule.due(targets.keys().copied(), AT_ONCE - probes.len().min(AT_ONCE), now()) {
            if let Some(target) = targets.remove(&member) {
                probes.spawn(ask(Arc::clone(&edge), member, target));
            }
        }
    }
}

struct Target {
    key: Arc<Key>,
    settings: Arc<Settings>,
    bind: BindId,
    protocol: UpstreamProtocol,
    session: NetworkSession,
}

/// Returns whom to ask.
fn targets(edge: &Edge) -> BTreeMap<MemberId, Target> {
    let endpoints = edge.endpoints.load();
    if !endpoints.has_probes() {
        return BTreeMap::new();
    }
    let mut targets = BTreeMap::new();
    let router = edge.router.read();
    for (key, _) in router.live() {
        let Some(settings) = endpoints.find(key).filter(|settings| settings.health.probe.is_some()) else { continue };
        for (member, bind, protocol, session) in router.connected(key) {
            let (key, settings) = (Arc::clone(key), Arc::clone(settings));
            targets.insert(member, Target { key, settings, bind, protocol, session });
        }
    }
    targets
}

/// Asks one member and tells what was found; nothing when its agent was lost meanwhile, which is another matter.
async fn ask(edge: Arc<Edge>, member: MemberId, target: Target) -> (MemberId, Duration) {
    let Target { key, settings, bind, protocol, session } = target;
    let Some(settings) = &settings.health.probe else { return (member, PERIOD) };
    let endpoint = key.to_string();
    let host = endpoint.split_once("://").map_or(&*endpoint, |(_, host)| host).replace('*', "probe");
    let open = Open { bind: Some(bind), caller: None, local: None, tls: None, endpoint };
    let Ok(stream) = session.open(open) else { return (member, settings.interval) };
    let well = timeout(settings.timeout, is_well(stream, settings, protocol, &host)).await.unwrap_or(false);
    if !well && (session.is_parked() || session.is_ending()) {
        return (member, settings.interval);
    }
    debug!(endpoint = %key, ?member, well, "a member was asked whether it is well");
    edge.metrics.probed(well);
    let change = edge.router.read().probed(&key, member, well, settings.rounds);
    if let Some(change) = change {
        edge.changed(&key, member, change);
    }
    (member, settings.interval)
}

async fn is_well(stream: adit_tokio::Stream, settings: &Probe, protocol: UpstreamProtocol, host: &str) -> bool {
    let Some(path) = &settings.path else { return probe::connect(stream).await.is_ok() };
    let (first, last) = settings.status;
    let status = probe::ask(stream, protocol, host, path).await;
    status.is_ok_and(|status| (first..=last).contains(&status.as_u16()))
}

/// When whom to ask. Pure: time is an argument.
#[derive(Debug)]
struct Schedule {
    /// When each is due; none while it is being asked.
    members: BTreeMap<MemberId, Option<Instant>>,
    chance: u64,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        Self { members: BTreeMap::new(), chance: seed | 1 }
    }

    /// Returns whom to ask of those who are there, at most so many, those first that have been due for longest. Whoever is new is
    /// due at once.
    fn due(&mut self, present: impl Iterator<Item = MemberId>, most: usize, now: Instant) -> Vec<MemberId> {
        let mut before = core::mem::take(&mut self.members);
        self.members = present.map(|member| (member, before.remove(&member).unwrap_or(Some(now)))).collect();
        let due = self.members.iter().filter_map(|(member, at)| Some(((*at)?, *member)));
        let mut due: Vec<_> = due.filter(|(at, _)| *at <= now).collect();
        due.sort_unstable();
        due.truncate(most);
        due.into_iter()
            .map(|(_, member)| {
                self.members.insert(member, None);
                member
            })
            .collect()
    }

    /// Notes that a member was asked: it is again after the interval, less up to a quarter, by which members are asked apart.
    fn asked(&mut self, member: MemberId, interval: Duration, now: Instant) {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let less = interval / 4 / 256 * u32::try_from(self.chance % 256).unwrap_or(0);
        if let Some(due) = self.members.get_mut(&member) {
            *due = Some(now + interval - less);
        }
    }
}

/// How often it is looked whom to ask: a new member is known after that.
const PERIOD: Duration = Duration::from_millis(100);
/// Probes at once; more wait.
const AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_asked_at_once_and_then_at_intervals_of_its_own_no_more_at_a_time_than_may_be() {
        let members: Vec<_> = (1..=200).map(MemberId::of).collect();
        let (mut schedule, start, second) = (Schedule::new(7), Instant::now(), Duration::from_secs(1));
        let mut due = |most, at| schedule.due(members.iter().copied(), most, at);

        assert_eq!(due(150, start).len(), 150);
        assert_eq!(due(150, start).len(), 50, "those that waited");
        assert!(due(150, start + second * 100).is_empty(), "who is being asked is not asked again");

        for member in &members {
            schedule.asked(*member, second * 8, start);
        }
        let mut counts = Vec::new();
        for at in 0..=80 {
            counts.push(schedule.due(members.iter().copied(), 200, start + second / 10 * at).len());
        }
        assert_eq!(counts.iter().sum::<usize>(), 200);
        assert_eq!(counts[..60].iter().sum::<usize>(), 0);
        assert!(counts[60..].iter().all(|count| *count < 40), "apart: {counts:?}");

        assert!(schedule.due([].into_iter(), 9, start).is_empty() && schedule.members.is_empty());
    }
}
