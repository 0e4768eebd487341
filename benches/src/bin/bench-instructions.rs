//! Work of the core whose instructions valgrind counts: the same whatever else the machine does.
//!
//! `bench-instructions` prints the names, `bench-instructions NAME` does one; what [`measured`] does is counted, the rest is not.

use core::{hint::black_box, time::Duration};
use std::process::ExitCode;

use adit_benches::{
    BLOCK,
    frames::{self, Frames},
    pair::{Options, Pair},
};
use adit_core::{FRAME, StreamId};
use bytes::Bytes;

const CASES: &[(&str, fn())] = &[
    ("decode/data", || decode(Frames::data(64, BLOCK), usize::MAX)),
    ("decode/credit", || decode(Frames::credit(BLOCK), usize::MAX)),
    ("decode/cut", || decode(Frames::data(FRAME as usize, 1 << 20), 10_000)),
    ("encode/small", encode),
    ("bulk/one", || bulk(Options::default(), 1)),
    ("bulk/hundred", || bulk(Options::default(), 100)),
    ("bulk/forgetful", || bulk(Options::forgetful(), 1)),
    ("bulk/credit", || bulk(Options::narrow(1_024), 100)),
    ("echo/one", || echo(1)),
    ("echo/many", || echo(32)),
    ("resume/streams", resume),
    ("handshake/session", || drop(black_box(measured(|| Pair::new(black_box(Options::default())))))),
    ("rest/beats", rest),
];

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        for (name, _) in CASES {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    };
    let Some((_, work)) = CASES.iter().find(|(known, _)| *known == name) else { return ExitCode::FAILURE };
    work();
    ExitCode::SUCCESS
}

/// Does what is counted: valgrind knows the function by its name.
#[inline(never)]
fn measured<T>(work: impl FnOnce() -> T) -> T {
    work()
}

fn decode(input: Frames, piece: usize) {
    let mut decoder = frames::decoder();
    measured(|| black_box(frames::decode(&mut decoder, black_box(&input.octets), piece)));
}

fn encode() {
    let (data, mut out) = (Bytes::from_static(&[7; 64]), Vec::with_capacity(2 * BLOCK));
    measured(|| frames::encode(black_box(&data), 1_000, &mut out));
}

fn bulk(options: Options, count: usize) {
    let (mut pair, streams) = warm(options, count);
    measured(|| pair.bulk(black_box(&streams), 4 << 20));
}

fn echo(at_once: usize) {
    let (mut pair, _) = warm(Options::default(), 1);
    measured(|| pair.echo(black_box(320), at_once));
}

fn resume() {
    let mut pair = lost();
    measured(|| {
        pair.cut();
        pair.resume();
    });
}

fn rest() {
    let (mut pair, _) = warm(Options::default(), 1);
    measured(|| {
        for _ in 0..100 {
            pair.pass(black_box(Duration::from_secs(10)));
        }
    });
}

/// A pair whose windows have grown.
fn warm(options: Options, count: usize) -> (Pair, Vec<StreamId>) {
    let mut pair = Pair::new(options);
    let streams = pair.open(count).expect("few");
    pair.bulk(&streams, 4 << 20);
    pair.echo(32, 1);
    (pair, streams)
}

/// A pair with 1,000 streams that have each sent 64 octets in vain.
fn lost() -> Pair {
    let mut pair = Pair::new(Options::default());
    for id in pair.open(1_000).expect("few") {
        let network = pair.network.session_mut().expect("established");
        network.write(id, &mut Bytes::from_static(&[7; 64])).expect("open");
    }
    pair.lose_output();
    pair
}
