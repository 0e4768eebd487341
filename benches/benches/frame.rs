//! Frames in and out, apart from any session.

use core::hint::black_box;

use adit_benches::{
    BLOCK,
    frames::{self, Frames},
};
use adit_core::FRAME;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/decode");
    // Whole: as many frames as fit stand in one input. Cut: the input ends where a TLS record does not.
    for (name, piece) in [("whole", usize::MAX), ("cut", 10_000)] {
        let full = Frames::data(FRAME as usize, 1 << 20);
        group.throughput(Throughput::Bytes(full.octets.len() as u64));
        group.bench_function(BenchmarkId::new("full", name), |bencher| {
            let mut decoder = frames::decoder();
            bencher.iter(|| frames::decode(&mut decoder, black_box(&full.octets), piece));
        });
    }
    for (name, small) in [("data-64", Frames::data(64, BLOCK)), ("credit", Frames::credit(BLOCK))] {
        group.throughput(Throughput::Elements(small.count));
        group.bench_function(BenchmarkId::new("small", name), |bencher| {
            let mut decoder = frames::decoder();
            bencher.iter(|| frames::decode(&mut decoder, black_box(&small.octets), usize::MAX));
        });
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/encode");
    let mut out = Vec::with_capacity(2 * BLOCK);
    let full = Bytes::from(vec![7; FRAME as usize]);
    group.throughput(Throughput::Bytes(64 * u64::from(FRAME)));
    group.bench_function("full", |bencher| bencher.iter(|| frames::encode(black_box(&full), 64, black_box(&mut out))));
    let small = Bytes::from_static(&[7; 64]);
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("small", |bencher| {
        bencher.iter(|| frames::encode(black_box(&small), 1_000, black_box(&mut out)))
    });
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
