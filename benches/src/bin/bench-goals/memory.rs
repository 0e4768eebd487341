//! Sessions in memory, beside what the others do through a pipe in memory on one thread.

use std::io;

use adit_benches::{
    BLOCK, clock,
    mux::{self, Dialer, h2, yamux},
    pair::{Options, Pair},
    report::{Figure, Goal, Report},
    secure::End,
};
use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use crate::turns;

pub(crate) fn measure(report: &mut Report, rounds: usize) -> io::Result<()> {
    let h2 = Beside::new(|runtime| runtime.block_on(h2::in_memory()))?;
    let yamux = Beside::new(|runtime| runtime.block_on(yamux::in_memory()))?;
    for count in [1, 100] {
        let mut pair = Pair::new(Options::default());
        let streams = pair.open(count).map_err(io::Error::other)?;
        let [adit, h2, yamux] = turns(
            rounds,
            [&mut || bulk(|| pair.bulk(&streams, BULK)), &mut || bulk(|| h2.bulk(count)), &mut || {
                bulk(|| yamux.bulk(count))
            }],
        );
        let name = |other: &str| format!("memory: bulk, {count} streams, beside {other}");
        report.add(Figure::beside(&name("yamux"), adit.clone(), yamux, "GB/s", Goal::AtLeast(3.0)));
        report.add(Figure::beside(&name("h2"), adit, h2, "GB/s", Goal::None));
    }
    for at_once in [1, 32] {
        let mut pair = Pair::new(Options::default());
        let [adit, h2, yamux] = turns(
            rounds,
            [&mut || echo(|| pair.echo(ECHOES, at_once)), &mut || echo(|| h2.echo(at_once)), &mut || {
                echo(|| yamux.echo(at_once))
            }],
        );
        let name = |other: &str| format!("memory: open-echo-close, {at_once} at once, beside {other}");
        report.add(Figure::beside(&name("yamux"), adit.clone(), yamux, "1,000/s", Goal::AtLeast(3.0)));
        report.add(Figure::beside(&name("h2"), adit, h2, "1,000/s", Goal::None));
    }
    secured(report, rounds)?;
    retention(report, rounds)?;
    others(report, rounds)
}

/// TLS and the session together, beside TLS alone.
fn secured(report: &mut Report, rounds: usize) -> io::Result<()> {
    for count in [1, 100] {
        let mut pair = Pair::new(Options::secured());
        let streams = pair.open(count).map_err(io::Error::other)?;
        let (mut agent, mut network) = End::pair();
        let record = vec![7; RECORD];
        let mut alone = || {
            for _ in 0..BULK / (4 * RECORD as u64) {
                (0..4).for_each(|_| network.seal_octets(&record));
                network.deliver(&mut agent, |_| ());
            }
        };
        let [adit, bare] = turns(rounds, [&mut || bulk(|| pair.bulk(&streams, BULK)), &mut || bulk(&mut alone)]);
        let name = format!("memory: TLS and session, {count} streams, beside TLS");
        report.add(Figure::beside(&name, adit, bare, "GB/s", Goal::AtLeast(0.85)));
    }
    Ok(())
}

/// What it costs to keep frames until they are acknowledged.
fn retention(report: &mut Report, rounds: usize) -> io::Result<()> {
    for count in [1, 100] {
        let (mut kept, mut dropped) = (Pair::new(Options::default()), Pair::new(Options::forgetful()));
        let kept_streams = kept.open(count).map_err(io::Error::other)?;
        let dropped_streams = dropped.open(count).map_err(io::Error::other)?;
        let [kept, dropped] = turns(
            rounds,
            [&mut || bulk(|| kept.bulk(&kept_streams, BULK)), &mut || bulk(|| dropped.bulk(&dropped_streams, BULK))],
        );
        let name = format!("memory: retention, {count} streams, beside none");
        report.add(Figure::beside(&name, kept, dropped, "GB/s", Goal::AtLeast(0.97)));
    }
    Ok(())
}

fn others(report: &mut Report, rounds: usize) -> io::Result<()> {
    let mut narrow = Pair::new(Options::narrow(1_024));
    let narrow_streams = narrow.open(100).map_err(io::Error::other)?;
    let mut pair = Pair::new(Options::default());
    let streams = pair.open(1_000).map_err(io::Error::other)?;
    let mut resume = || {
        for id in &streams {
            let network = pair.network.session_mut().expect("established");
            network.write(*id, &mut Bytes::from_static(&[7; 64])).expect("it is read");
        }
        pair.lose_output();
        let spent = clock::of_thread(|| {
            pair.cut();
            pair.resume();
        });
        let agent = pair.agent.session_mut().expect("established");
        for id in &streams {
            while let Ok(Some(_)) = agent.read(*id, usize::MAX) {}
        }
        pair.settle();
        spent.as_secs_f64() * 1e6
    };
    let [resume, credit] = turns(
        rounds,
        [&mut resume, &mut || {
            // Half a window is announced at a time.
            let spent = clock::of_thread(|| narrow.bulk(&narrow_streams, CHURN));
            CHURN as f64 / 512.0 / 1e6 / spent.as_secs_f64()
        }],
    );
    report.add(Figure::alone("memory: resume 1,000 streams, 64 octets lost on each", resume, "µs", Goal::None));
    report.add(Figure::alone("memory: announcements of credit, 100 streams", credit, "M/s", Goal::None));
    Ok(())
}

/// Another multiplexer, both ends on this thread.
struct Beside<D> {
    runtime: Runtime,
    dialer: D,
}

impl<D: Dialer> Beside<D> {
    fn new(join: impl FnOnce(&Runtime) -> io::Result<D>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().build()?;
        let dialer = join(&runtime)?;
        Ok(Self { runtime, dialer })
    }

    fn bulk(&self, streams: usize) {
        self.runtime.block_on(mux::bulk(&self.dialer, streams, BULK)).expect("it is taken");
    }

    fn echo(&self, at_once: usize) {
        self.runtime.block_on(mux::echo(&self.dialer, ECHOES, at_once)).expect("it comes back");
    }
}

pub(crate) fn bulk(work: impl FnOnce()) -> f64 {
    BULK as f64 / 1e9 / clock::of_thread(work).as_secs_f64()
}

pub(crate) fn echo(work: impl FnOnce()) -> f64 {
    ECHOES as f64 / 1e3 / clock::of_thread(work).as_secs_f64()
}

pub(crate) const BULK: u64 = 1_000 * BLOCK as u64 * 4;
const CHURN: u64 = 4 << 20;
pub(crate) const ECHOES: usize = 6_400;
const RECORD: usize = 16_384;
