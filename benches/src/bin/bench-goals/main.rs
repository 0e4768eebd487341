//! `bench-goals`: the figures that the core is held to, each beside its reference in the same run.
//!
//! In memory, times are processor time of one thread; over loopback they are of the clock, with two workers. Rounds are short and
//! interleaved, so that a slow moment of the machine meets all alike; values are medians, and a ratio is the median of the
//! ratios of each round.

mod allocations;
mod frames;
mod loopback;
mod memory;
#[cfg(feature = "quic")]
mod quic;
mod rest;

use std::{io, process::ExitCode};

use adit_benches::report::Report;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let mut report = Report::new(false);
    match run(&mut report, if quick { 1 } else { ROUNDS }) {
        Ok(()) => report.finish(arguments.into_iter()),
        Err(error) => {
            println!("bench-goals: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(report: &mut Report, rounds: usize) -> io::Result<()> {
    frames::measure(report, rounds);
    memory::measure(report, rounds)?;
    #[cfg(feature = "quic")]
    quic::measure(report, rounds)?;
    rest::measure(report, rounds);
    loopback::measure(report, rounds)?;
    allocations::measure(report)
}

/// Takes turns: each way once a round. Returns what each gave, round by round.
fn turns<const N: usize>(rounds: usize, mut ways: [&mut dyn FnMut() -> f64; N]) -> [Vec<f64>; N] {
    let mut values = [(); N].map(|()| Vec::with_capacity(rounds));
    for way in &mut ways {
        way(); // caches, windows and the allocator get to know the load
    }
    for _ in 0..rounds {
        for (way, values) in ways.iter_mut().zip(&mut values) {
            values.push(way());
        }
    }
    values
}

const ROUNDS: usize = 9;
