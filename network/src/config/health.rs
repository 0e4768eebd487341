//! `health` of an endpoint: when its members are turned away, and how their upstreams are asked whether they are well.

use core::time::Duration;

use super::{section::Section, values};
use crate::router::{Rounds, Rules};

/// `health` of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// When members are turned away, and how much they carry.
    pub rules: Rules,
    /// How their upstreams are asked.
    pub probe: Option<Probe>,
}

/// `health.probe`: how the upstreams of an endpoint are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// `path`: what is asked for with GET; without it, a connection is enough.
    pub path: Option<String>,
    /// `interval`: from one answer to the next question, less up to a quarter.
    pub interval: Duration,
    /// `timeout`: how long an answer may take.
    pub timeout: Duration,
    /// `healthy` and `unhealthy`: how many in a row change what is thought of a member.
    pub rounds: Rounds,
    /// `status`: the first and the last status of a good answer.
    pub status: (u16, u16),
}

/// Reads the section of an endpoint that speaks HTTP or not.
pub(super) fn read(mut section: Section<'_>, http: bool) -> Health {
    let default = Rules::default();
    let second = Duration::from_secs(1);
    let (hour, moment) = (second * 3_600, second / 10);
    let time = |text: &str| values::duration(text).filter(|time| (moment..=hour).contains(time));
    let count = |most: usize| move |text: &str| values::count(text).filter(|count| (1..=most).contains(count));
    let few = |text: &str| text.parse().ok().filter(|count| (1..=1_000).contains(count));
    let mut rules = Rules {
        failures: section.value("failures", default.failures, "a count from 1 to 1,000", few),
        errors: section.value("errors", default.errors, "true or false", values::flag),
        away: section.value("away", default.away, "a time from 100ms to 1h", time),
        away_max: section.value("away_max", default.away_max, "a time from 100ms to 1h", time),
        share: section.value("share", default.share, "a percentage from 0 to 100", |text| {
            text.parse().ok().filter(|share| *share <= 100)
        }),
        outstanding: section.value("outstanding", default.outstanding, "a count from 1 to 1,000,000", count(1_000_000)),
        pending: section.value("pending", default.pending, "a count from 1 to 1,000,000", count(1_000_000)),
        probed: None,
    };
    if rules.away_max < rules.away {
        section.missing("away_max", "shorter than away", "Make it longer");
    }
    let probe = section.has("probe").then(|| probe(section.section("probe"), http));
    rules.probed = probe.as_ref().map(|probe| probe.rounds);
    section.finish();
    Health { rules, probe }
}

fn probe(mut section: Section<'_>, http: bool) -> Probe {
    let second = Duration::from_secs(1);
    let time = |text: &str| values::duration(text).filter(|time| (second / 10..=second * 3_600).contains(time));
    let few = |text: &str| text.parse().ok().filter(|count| (1..=100).contains(count));
    let has_path = section.has("path");
    let path = section.value("path", None, "a path such as /healthz, printable and without spaces or #", |text| {
        let fits = text.starts_with('/') && text.len() <= 1_000;
        (fits && text.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'#')).then(|| Some(text.to_owned()))
    });
    let probe = Probe {
        path,
        interval: section.value("interval", second * 10, "a time from 100ms to 1h", time),
        timeout: section.value("timeout", second * 2, "a time from 100ms to 1h", time),
        rounds: Rounds {
            healthy: section.value("healthy", 2, "a count from 1 to 100", few),
            unhealthy: section.value("unhealthy", 3, "a count from 1 to 100", few),
        },
        status: section.value("status", (200, 399), "a status such as 200, or a range such as 200-399", status),
    };
    if has_path && !http {
        section.missing("path", "the endpoint does not speak HTTP", "Remove it: a connection is what is tried");
    }
    section.finish();
    probe
}

fn status(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last && (200..=599).contains(&first) && last <= 599).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, ConfigFault};

    #[test]
    fn the_health_of_an_endpoint_is_read_with_its_defaults() {
        let of = |text: &str| read(text).unwrap().endpoints.remove(0).health;

        assert_eq!(of(""), Health::default());
        assert_eq!(of(", health: {failures: 2}").rules, Rules { failures: 2, ..Rules::default() });
        let health = of(", health: {probe: {path: /healthz, status: 204}, away: 1s, outstanding: 10}");
        assert_eq!((health.rules.away, health.rules.outstanding), (Duration::from_secs(1), 10));
        let probe = health.probe.unwrap();
        assert_eq!((probe.path.as_deref(), probe.status), (Some("/healthz"), (204, 204)));
        assert_eq!((probe.interval, probe.timeout), (Duration::from_secs(10), Duration::from_secs(2)));
        assert_eq!(health.rules.probed, Some(Rounds { healthy: 2, unhealthy: 3 }));
        assert!(of(", health: {probe: {}}").probe.unwrap().path.is_none());
    }

    #[test]
    fn what_is_wrong_with_it_is_a_fault_at_its_line() {
        for (text, problem) in [
            (", health: {failures: 0}", "not a count"),
            (", health: {share: 101}", "not a percentage"),
            (", health: {away: 10s, away_max: 5s}", "shorter than away"),
            (", health: {outstandin: 5}", "unknown key"),
            (", health: {probe: {path: healthz}}", "not a path"),
            (", health: {probe: {path: '/a b'}}", "not a path"),
            (", health: {probe: {status: 399-200}}", "not a status"),
            (", health: {probe: {status: 100}}", "not a status"),
            (", health: {probe: {intervall: 1s}}", "unknown key"),
            (", health: {probe: {interval: 1ms}}", "not a time"),
        ] {
            let faults = read(text).unwrap_err();
            assert!(faults.len() == 1 && faults[0].problem.contains(problem), "{text}: {faults:?}");
            assert!(faults[0].line == Some(5) || faults[0].line.is_none(), "{text}: {faults:?}");
        }
        let tcp = |text: &str| parse(&format!("{{url: 'tcp://:5000', account: a, type: agent{text}}}"));
        assert!(tcp(", health: {probe: {}}").is_ok());
        assert!(tcp(", health: {probe: {path: /x}}").unwrap_err()[0].problem.contains("does not speak HTTP"));
        let cloud = parse("{url: 'http://a.example', account: a, policy: p, health: {}}").unwrap_err();
        assert!(cloud[0].problem.contains("no members"), "{cloud:?}");
    }

    fn read(text: &str) -> Result<Config, Vec<ConfigFault>> {
        parse(&format!("{{url: 'http://a.example', account: a, type: agent{text}}}"))
    }

    fn parse(item: &str) -> Result<Config, Vec<ConfigFault>> {
        let text = format!(
            "version: 1\ningress: {{listen: '127.0.0.1:1', certificate: a, key: b}}\nhttp: {{listen: '127.0.0.1:2'}}\n\
             tcp: {{address: 127.0.0.1, ports: [5000-5099]}}\nendpoints: [{item}]\n"
        );
        Config::parse(&text, Path::new("/"), Default::default())
    }
}
