//! Sessions over loopback with TLS, two workers, both ends in this process.

use core::{future::Future, time::Duration};
use std::{io, time::Instant};

use adit_benches::{
    BLOCK, clock,
    loopback::Bare,
    mux::{self, Dialer, adit, h2, yamux},
    report::{Figure, Goal, Report},
};
use tokio::runtime::{Builder, Runtime};

use crate::turns;

pub(crate) fn measure(report: &mut Report, rounds: usize) -> io::Result<()> {
    let runtime = &Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let adit = &runtime.block_on(adit::over_loopback(true))?;
    let forgetful = &runtime.block_on(adit::over_loopback(false))?;
    let h2 = &runtime.block_on(h2::over_loopback())?;
    let yamux = &runtime.block_on(yamux::over_loopback())?;
    let mut bare = runtime.block_on(Bare::new(BULK))?;
    for count in [1, 100] {
        let (mut cpu_adit, mut cpu_h2) = (Vec::new(), Vec::new());
        let [adit, forgetful, h2, yamux, bare] = turns(
            rounds,
            [
                &mut || processed(&mut cpu_adit, || bulk(runtime, mux::bulk(adit, count, BULK))),
                &mut || bulk(runtime, mux::bulk(forgetful, count, BULK)),
                &mut || processed(&mut cpu_h2, || bulk(runtime, mux::bulk(h2, count, BULK))),
                &mut || bulk(runtime, mux::bulk(yamux, count, BULK)),
                &mut || bulk(runtime, bare.bulk()),
            ],
        );
        let name = |other: &str| format!("loopback: bulk, {count} streams, beside {other}");
        let mut add = |other, reference, goal| {
            report.add(Figure::beside(&name(other), adit.clone(), reference, "MB/s", goal));
        };
        add("h2", h2, Goal::AtLeast(1.0));
        add("yamux", yamux, Goal::None);
        add("one bare TLS connection", bare, Goal::None);
        add("no retention", forgetful, Goal::None);
        report.add(Figure::beside(&name("h2: processor"), cpu_adit, cpu_h2, "ms/GB", Goal::None));
    }
    for count in [1, 100] {
        let (mut cpu_kept, mut cpu_dropped) = (Vec::new(), Vec::new());
        let [kept, dropped] = turns(
            rounds,
            [&mut || processed(&mut cpu_kept, || bulk(runtime, mux::bulk_of_copies(adit, count, BULK))), &mut || {
                processed(&mut cpu_dropped, || bulk(runtime, mux::bulk_of_copies(forgetful, count, BULK)))
            }],
        );
        let name = format!("loopback: retention of copies, {count} streams, beside none");
        report.add(Figure::beside(&name, kept, dropped, "MB/s", Goal::AtLeast(0.97)));
        report.add(Figure::beside(&format!("{name}: processor"), cpu_kept, cpu_dropped, "ms/GB", Goal::None));
    }
    for at_once in [1, 32] {
        let [adit, h2, yamux] = turns(
            rounds,
            [
                &mut || echo(runtime, mux::echo(adit, ECHOES, at_once)),
                &mut || echo(runtime, mux::echo(h2, ECHOES, at_once)),
                &mut || echo(runtime, mux::echo(yamux, ECHOES, at_once)),
            ],
        );
        let name = |other: &str| format!("loopback: open-echo-close, {at_once} at once, beside {other}");
        report.add(Figure::beside(&name("h2"), adit.clone(), h2, "1,000/s", Goal::AtLeast(1.0)));
        report.add(Figure::beside(&name("yamux"), adit, yamux, "1,000/s", Goal::None));
    }
    latency(report, rounds, runtime, (adit, h2, yamux));
    Ok(())
}

fn latency(
    report: &mut Report,
    rounds: usize,
    runtime: &Runtime,
    (adit, h2, yamux): (&impl Dialer, &impl Dialer, &impl Dialer),
) {
    let [idle, busy, h2, yamux] = turns(
        rounds,
        [
            &mut || p99(runtime, mux::ping_pong(adit, PINGS)),
            &mut || p99(runtime, mux::ping_pong_beside_bulk(adit, PINGS)),
            &mut || p99(runtime, mux::ping_pong_beside_bulk(h2, PINGS)),
            &mut || p99(runtime, mux::ping_pong_beside_bulk(yamux, PINGS)),
        ],
    );
    let mut add = |other, reference, goal| {
        let name = format!("loopback: ping-pong p99 under bulk, beside {other}");
        report.add(Figure::beside(&name, busy.clone(), reference, "µs", goal));
    };
    add("idle", idle, Goal::AtMost(2.0));
    add("h2", h2, Goal::None);
    add("yamux", yamux, Goal::None);
}

fn bulk(runtime: &Runtime, work: impl Future<Output = io::Result<()>>) -> f64 {
    BULK as f64 / 1e6 / timed(runtime, work).as_secs_f64()
}

fn echo(runtime: &Runtime, work: impl Future<Output = io::Result<()>>) -> f64 {
    ECHOES as f64 / 1e3 / timed(runtime, work).as_secs_f64()
}

fn timed(runtime: &Runtime, work: impl Future<Output = io::Result<()>>) -> Duration {
    let start = Instant::now();
    runtime.block_on(work).expect("loopback carries it");
    start.elapsed()
}

/// Notes the processor time of a bulk transfer, in milliseconds for each gigabyte.
fn processed(spent: &mut Vec<f64>, work: impl FnOnce() -> f64) -> f64 {
    let before = clock::of_process();
    let value = work();
    spent.push((clock::of_process() - before).as_secs_f64() * 1e3 / (BULK as f64 / 1e9));
    value
}

fn p99(runtime: &Runtime, work: impl Future<Output = io::Result<Vec<Duration>>>) -> f64 {
    let mut times = runtime.block_on(work).expect("loopback carries it");
    times.sort();
    times.get(times.len() * 99 / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}

const BULK: u64 = 1_000 * BLOCK as u64 * 4;
const ECHOES: usize = 3_200;
const PINGS: usize = 1_000;
