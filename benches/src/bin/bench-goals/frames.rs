//! The decoder by itself.

use core::hint::black_box;

use adit_benches::{
    BLOCK, clock,
    frames::{self, Frames},
    report::{Figure, Goal, Report},
};
use adit_core::FRAME;

use crate::turns;

pub(crate) fn measure(report: &mut Report, rounds: usize) {
    let full = Frames::data(FRAME as usize, 1 << 20);
    let small = Frames::data(64, BLOCK);
    let credit = Frames::credit(BLOCK);
    let octets = |frames: &Frames, piece: usize| rate(frames, piece, 2_000, frames.octets.len() as f64 / 1e9);
    let count = |frames: &Frames| rate(frames, usize::MAX, 2_000, frames.count as f64 / 1e6);
    let [whole, cut, small, credit] = turns(
        rounds,
        [&mut || octets(&full, usize::MAX), &mut || octets(&full, 10_000), &mut || count(&small), &mut || {
            count(&credit)
        }],
    );
    let mut add = |name: &str, values, unit, goal| report.add(Figure::alone(name, values, unit, goal));
    add("decode: full frames, whole in the input", whole, "GB/s", Goal::AtLeast(10.0));
    add("decode: full frames, input cut each 10,000", cut, "GB/s", Goal::AtLeast(10.0));
    add("decode: DATA of 64 octets", small, "M/s", Goal::AtLeast(20.0));
    add("decode: CREDIT", credit, "M/s", Goal::AtLeast(20.0));
}

/// Decodes `times` times what counts `each`, and returns how much of that there was in a second.
fn rate(frames: &Frames, piece: usize, times: u32, each: f64) -> f64 {
    let mut decoder = frames::decoder();
    let spent = clock::of_thread(|| {
        for _ in 0..times {
            black_box(frames::decode(&mut decoder, black_box(&frames.octets), piece));
        }
    });
    each * f64::from(times) / spent.as_secs_f64()
}
