//! The measurements, in the order of the table.

use core::time::Duration;
use std::{collections::BTreeMap, io};

use crate::{
    bulk::{self, Direction},
    idle, latency,
    options::Options,
    recovery,
    report::{Goal, Report, Row},
    requests::{self, Connections},
    services::Services,
    sessions,
    stand::{ADIT, DIRECT, HAPROXY, Stand},
};

/// Runs what was asked for.
pub(crate) fn run(options: &Options) -> io::Result<Report> {
    let services = Services::start()?;
    let mut stands = Vec::new();
    if options.has_way(DIRECT) {
        stands.push(Stand::direct(services));
    }
    if options.has_way(HAPROXY) {
        stands.push(Stand::haproxy(services)?);
    }
    if options.has_way(ADIT) {
        stands.push(Stand::adit(services)?);
    }
    let mut report = Report::default();
    println!("{}", Report::head());
    // Memory first: afterwards there is no telling what a tunnel keeps from earlier work.
    if options.wants("idle") {
        memory_of_connections(options, &stands, &mut report)?;
    }
    if options.wants("sessions")
        && let Some(adit) = stands.iter_mut().find_map(Stand::as_adit)
    {
        let rounds = BTreeMap::from([(ADIT, vec![sessions::per_session(adit, options.sessions)? / 1024.0])]);
        let work = "memory of the network per idle session".into();
        report.push(Row { work, unit: "KiB", goal: Goal::Within(24.0), rounds });
    }
    if options.wants("bulk") {
        bulk_rows(options, &stands, &mut report)?;
    }
    request_rows(options, &stands, &mut report)?;
    latency_rows(options, &stands, &mut report)?;
    if options.wants("closed") {
        memory_after_closing(options, &stands, &mut report)?;
    }
    if options.wants("recovery")
        && let Some(adit) = stands.iter_mut().find_map(Stand::as_adit)
    {
        let rounds = (0..options.rounds)
            .map(|_| recovery::after_kill(adit, Duration::from_secs(3)))
            .collect::<io::Result<Vec<_>>>()?;
        let rounds = BTreeMap::from([(ADIT, rounds)]);
        report.push(Row {
            work: "back after kill -9 of the network, 3 s".into(),
            unit: "s",
            goal: Goal::Within(0.5),
            rounds,
        });
    }
    Ok(report)
}

/// Runs one measurement on every way in turn, `rounds` times.
fn interleave(
    rounds: usize,
    stands: &[Stand],
    mut measure: impl FnMut(&Stand) -> io::Result<Option<f64>>,
) -> io::Result<BTreeMap<&'static str, Vec<f64>>> {
    let mut found: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for stand in stands {
            if let Some(figure) = measure(stand)? {
                found.entry(stand.name).or_default().push(figure);
            }
        }
    }
    Ok(found)
}

fn bulk_rows(options: &Options, stands: &[Stand], report: &mut Report) -> io::Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "a size of some GiB")]
    let (megabytes, gib) = (options.bulk as f64 / 1e6, options.bulk as f64 / f64::from(1 << 30));
    let mut spent: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for (streams, goal) in [(1, 1.3), (16, 1.5)] {
        for (direction, word) in [(Direction::Down, "down"), (Direction::Up, "up")] {
            let rounds = interleave(options.rounds, stands, |stand| {
                let before = stand.cpu()?;
                let time = bulk::transfer(stand.services.bulk, direction, streams, options.bulk)?;
                if stand.is_tunnel() {
                    spent.entry(stand.name).or_default().push((stand.cpu()? - before) / gib);
                }
                Ok(Some(megabytes / time.as_secs_f64()))
            })?;
            let work = format!("{streams} TCP stream{}, {word}", if streams == 1 { "" } else { "s" });
            report.push(Row { work, unit: "MB/s", goal: Goal::AtLeast(goal), rounds });
        }
    }
    report.push(Row {
        work: "processor of the tunnel, all four".into(),
        unit: "s/GiB",
        goal: Goal::AtMost(0.75),
        rounds: spent,
    });
    Ok(())
}

fn request_rows(options: &Options, stands: &[Stand], report: &mut Report) -> io::Result<()> {
    for (name, kind, work, goal) in [
        ("keep-alive", Connections::Kept, "HTTP keep-alive, 64 connections", 1.0),
        ("connections", Connections::New, "a new TCP connection per request", 4.0),
    ] {
        if !options.wants(name) {
            continue;
        }
        let rounds = interleave(options.rounds, stands, |stand| {
            requests::rate(stand.services.http, "localhost", kind, 64, options.seconds).map(Some)
        })?;
        report.push(Row { work: work.into(), unit: "1/s", goal: Goal::AtLeast(goal), rounds });
        let rounds = interleave(options.rounds, stands, |stand| {
            stand.http_endpoint.map(|address| requests::rate(address, HOST, kind, 64, options.seconds)).transpose()
        })?;
        report.push(Row { work: format!("{work}, HTTP proxy"), unit: "1/s", goal: Goal::None, rounds });
    }
    Ok(())
}

fn latency_rows(options: &Options, stands: &[Stand], report: &mut Report) -> io::Result<()> {
    let p99 = |times: &[f64]| latency::quantile(times, 0.99) * 1e3;
    if options.wants("segments") {
        let rounds = interleave(options.rounds, stands, |stand| {
            latency::two_segments(stand.services.http, "localhost", options.seconds).map(|times| Some(p99(&times)))
        })?;
        report.push(Row { work: "answer in two segments, p99".into(), unit: "ms", goal: Goal::AtMost(1.5), rounds });
        let rounds = interleave(options.rounds, stands, |stand| {
            let times = stand.http_endpoint.map(|address| latency::two_segments(address, HOST, options.seconds));
            Ok(times.transpose()?.map(|times| p99(&times)))
        })?;
        report.push(Row {
            work: "answer in two segments, HTTP proxy, p99".into(),
            unit: "ms",
            goal: Goal::None,
            rounds,
        });
    }
    if options.wants("echo") {
        let rounds = interleave(options.rounds, stands, |stand| {
            let times = latency::echo_beside_bulk(stand.services.echo, stand.services.bulk, options.seconds)?;
            Ok(Some(p99(&times)))
        })?;
        let work = "64-byte echo beside a bulk download, p99".into();
        report.push(Row { work, unit: "ms", goal: Goal::WithinAndAtMost(1.0, 2.0), rounds });
    }
    Ok(())
}

fn memory_of_connections(options: &Options, stands: &[Stand], report: &mut Report) -> io::Result<()> {
    let rounds = interleave(1, stands, |stand| {
        let measured = stand.is_tunnel().then(|| idle::per_connection(stand, options.idle));
        Ok(measured.transpose()?.map(|octets| octets / 1024.0))
    })?;
    report.push(Row { work: "memory per idle connection".into(), unit: "KiB", goal: Goal::Within(16.0), rounds });
    Ok(())
}

fn memory_after_closing(options: &Options, stands: &[Stand], report: &mut Report) -> io::Result<()> {
    let rounds = interleave(1, stands, |stand| {
        let measured = stand.is_tunnel().then(|| idle::after_closing(stand, options.closed));
        Ok(measured.transpose()?.map(|(before, after)| after / before))
    })?;
    let work = format!("memory after {} closed, to before", options.closed);
    report.push(Row { work, unit: "x", goal: Goal::Within(2.0), rounds });
    Ok(())
}

/// The name of the HTTP endpoint.
const HOST: &str = "web.bench.test";
