//! Sessions joined in memory: the machine without sockets, tasks and locks, without TLS and with it.

use core::time::Duration;
use std::time::Instant;

use adit_benches::{
    BLOCK,
    mux::{self, Dialer, h2, yamux},
    pair::{Options, Pair},
    secure::End,
};
use bytes::Bytes;
use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use tokio::runtime::Runtime;

fn bulk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memory/bulk");
    group.throughput(Throughput::Bytes(BULK)).sample_size(20);
    for (name, options) in
        [("retained", Options::default()), ("forgetful", Options::forgetful()), ("tls", Options::secured())]
    {
        for count in [1, 100] {
            let mut pair = Pair::new(options.clone());
            let streams = pair.open(count).expect("few");
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| pair.bulk(&streams, BULK));
            });
        }
    }
    let (mut agent, mut network) = End::pair();
    let record = vec![7; 16_384];
    group.bench_function("rustls alone", |bencher| {
        bencher.iter(|| {
            for _ in 0..BULK / BLOCK as u64 {
                (0..4).for_each(|_| network.seal_octets(&record));
                network.deliver(&mut agent, |_| ());
            }
        });
    });
    beside(&mut group, "h2", |runtime| runtime.block_on(h2::in_memory()).expect("memory"));
    beside(&mut group, "yamux", |runtime| runtime.block_on(yamux::in_memory()).expect("memory"));
    group.finish();
}

fn beside<D: Dialer>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, join: impl FnOnce(&Runtime) -> D) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("no IO");
    let dialer = join(&runtime);
    for streams in [1, 100] {
        group.bench_function(BenchmarkId::new(name, streams), |bencher| {
            bencher.iter(|| runtime.block_on(mux::bulk(&dialer, streams, BULK)).expect("it is taken"));
        });
    }
}

fn echo(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memory/open-echo-close");
    group.throughput(Throughput::Elements(320));
    for (name, options) in [("plain", Options::default()), ("tls", Options::secured())] {
        for at_once in [1, 32] {
            let mut pair = Pair::new(options.clone());
            group.bench_function(BenchmarkId::new(name, at_once), |bencher| bencher.iter(|| pair.echo(320, at_once)));
        }
    }
    echo_beside(&mut group, "h2", |runtime| runtime.block_on(h2::in_memory()).expect("memory"));
    echo_beside(&mut group, "yamux", |runtime| runtime.block_on(yamux::in_memory()).expect("memory"));
    group.finish();
}

fn echo_beside<D: Dialer>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, join: impl FnOnce(&Runtime) -> D) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("no IO");
    let dialer = join(&runtime);
    for at_once in [1, 32] {
        group.bench_function(BenchmarkId::new(name, at_once), |bencher| {
            bencher.iter(|| runtime.block_on(mux::echo(&dialer, 320, at_once)).expect("it comes back"));
        });
    }
}

fn credit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memory/credit");
    let octets = 1 << 20;
    // Half a window is announced at a time.
    group.throughput(Throughput::Elements(octets / 512));
    for count in [1, 100] {
        let mut pair = Pair::new(Options::narrow(1_024));
        let streams = pair.open(count).expect("few");
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| pair.bulk(&streams, octets));
        });
    }
    group.finish();
}

fn resume(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memory/resume");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    let mut pair = Pair::new(Options::default());
    let streams = pair.open(1_000).expect("few");
    group.bench_function("1000 streams", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut time = Duration::ZERO;
            for _ in 0..rounds {
                let session = pair.network.session_mut().expect("established");
                for id in &streams {
                    session.write(*id, &mut Bytes::from_static(&[7; 64])).expect("it is read");
                }
                pair.lose_output();
                let start = Instant::now();
                pair.cut();
                pair.resume();
                time += start.elapsed();
                let session = pair.agent.session_mut().expect("established");
                for id in &streams {
                    while let Ok(Some(_)) = session.read(*id, usize::MAX) {}
                }
                pair.settle();
            }
            time
        });
    });
    group.bench_function("new session", |bencher| {
        bencher.iter_batched(Options::default, Pair::new, BatchSize::SmallInput);
    });
    group.finish();
}

const BULK: u64 = 64 << 20;

criterion_group!(benches, bulk, echo, credit, resume);
criterion_main!(benches);
