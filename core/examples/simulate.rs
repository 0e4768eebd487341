//! Runs simulated worlds: `simulate --seed N [--trace]`, or `simulate --seeds N [--from N]` on every core. `simulate --storm N`
//! lets so many agents lose their node at once.
//!
//! A world in which a law does not hold is named with the command that runs it again.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what it is for")]

use core::{
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::{
    env,
    panic::catch_unwind,
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use adit_core::{
    Duration,
    testing::sim::{self, Report, Storm},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)?.replace('_', "").parse::<u64>().ok()
    };
    if let Some(agents) = number("--storm") {
        let agents = u32::try_from(agents).unwrap_or(u32::MAX);
        let broken = storm(agents, number("--away").unwrap_or(5), number("--seed").unwrap_or(1));
        return if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let trace = arguments.iter().any(|argument| argument == "--trace");
    let (first, count) = match (number("--seed"), number("--seeds")) {
        (Some(seed), _) => (seed, 1),
        (None, Some(count)) => (number("--from").unwrap_or(0), count),
        (None, None) => {
            eprintln!(
                "usage: simulate --seed N [--trace] | --seeds N [--from N] | --storm N [--away SECONDS] [--seed N]"
            );
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let (report, failed) = run(first, count, trace.then_some(|line| println!("{line}")));
    println!("{report}");
    println!("took {:.1} s", began.elapsed().as_secs_f64());
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Lets agents lose their node; it answers as many handshakes as come, or a few. Returns whether a bound was broken.
fn storm(agents: u32, away: u64, seed: u64) -> bool {
    let mut broken = false;
    for rate in [None, Some(5_000)] {
        let mut storm = Storm::new(agents);
        (storm.away, storm.rate, storm.seed) = (Duration::from_secs(away), rate, seed);
        let rate = rate.map_or_else(|| "all".to_owned(), |rate| rate.to_string());
        println!("{agents} agents; nobody listens for {away} s, then {rate} handshakes a second are answered:");
        let (aftermath, (peak, time)) = (storm.run(), storm.bounds());
        println!("{aftermath}; the bounds are {peak} a second and {time:.1?}");
        broken |= aftermath.peak > peak || aftermath.all > time;
    }
    broken
}

/// Runs worlds until one fails; returns what happened in them, and whether one did.
fn run(first: u64, count: u64, trace: Option<fn(&str)>) -> (Report, bool) {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let total = Mutex::new(Report::default());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut sum = Report::default();
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if place >= count || failed.load(Ordering::Relaxed) {
                        break;
                    }
                    match world(first + place, trace) {
                        Some(report) => sum.add(&report),
                        None => failed.store(true, Ordering::Relaxed),
                    }
                }
                total.lock().unwrap_or_else(PoisonError::into_inner).add(&sum);
            });
        }
    });
    (total.into_inner().unwrap_or_else(PoisonError::into_inner), failed.into_inner())
}

/// Runs one world; says what failed and how to run it again.
fn world(seed: u64, trace: Option<fn(&str)>) -> Option<Report> {
    let result = catch_unwind(AssertUnwindSafe(|| sim::run(seed, trace)));
    match result {
        Ok(Ok(report)) => return Some(report),
        Ok(Err(failure)) => eprintln!("{failure}"),
        Err(_) => eprintln!("seed {seed}: it panicked (L1)"),
    }
    eprintln!("again: make simulate SEED={seed} TRACE=1");
    None
}
