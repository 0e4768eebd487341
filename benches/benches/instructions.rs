//! Instructions that the core takes, counted by valgrind: the same whatever else the machine does.
#![expect(missing_docs, unused_qualifications, reason = "the macros of gungraun write them")]

use core::{hint::black_box, time::Duration};

use adit_benches::{
    BLOCK,
    frames::{self, Frames},
    pair::{Options, Pair},
};
use adit_core::{FRAME, StreamId};
use bytes::Bytes;
use gungraun::prelude::*;

#[library_benchmark]
#[bench::data(Frames::data(64, BLOCK), usize::MAX)]
#[bench::credit(Frames::credit(BLOCK), usize::MAX)]
#[bench::cut(Frames::data(FRAME as usize, 1 << 20), 10_000)]
fn decode(input: Frames, piece: usize) -> Frames {
    black_box(frames::decode(&mut frames::decoder(), black_box(&input.octets), piece));
    input
}

#[library_benchmark]
#[bench::small(Bytes::from_static(&[7; 64]), Vec::with_capacity(2 * BLOCK))]
fn encode(data: Bytes, mut out: Vec<u8>) -> Vec<u8> {
    frames::encode(black_box(&data), 1_000, &mut out);
    out
}

#[library_benchmark]
#[bench::one(warm(Options::default(), 1))]
#[bench::hundred(warm(Options::default(), 100))]
#[bench::forgetful(warm(Options::forgetful(), 1))]
#[bench::credit(warm(Options::narrow(1_024), 100))]
fn bulk((mut pair, streams): (Pair, Vec<StreamId>)) -> Pair {
    pair.bulk(black_box(&streams), 4 << 20);
    pair
}

#[library_benchmark]
#[bench::one(warm(Options::default(), 1), 1)]
#[bench::many(warm(Options::default(), 1), 32)]
fn echo((mut pair, _): (Pair, Vec<StreamId>), at_once: usize) -> Pair {
    pair.echo(black_box(320), at_once);
    pair
}

#[library_benchmark]
#[bench::streams(lost())]
fn resume(mut pair: Pair) -> Pair {
    pair.cut();
    pair.resume();
    pair
}

#[library_benchmark]
#[bench::session(Options::default())]
fn handshake(options: Options) -> Pair {
    Pair::new(black_box(options))
}

#[library_benchmark]
#[bench::beats(warm(Options::default(), 1))]
fn rest((mut pair, _): (Pair, Vec<StreamId>)) -> Pair {
    for _ in 0..100 {
        pair.pass(black_box(Duration::from_secs(10)));
    }
    pair
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

library_benchmark_group!(name = machine, benchmarks = [decode, encode, bulk, echo, resume, handshake, rest]);
main!(library_benchmark_groups = machine);
