//! Sessions over loopback with TLS, two workers, both ends in this process.

use core::time::Duration;

use adit_benches::{
    loopback::Bare,
    mux::{self, Dialer, adit, h2, yamux},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

fn beside(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("threads");
    let bare = runtime.block_on(Bare::new(BULK)).expect("sockets");
    let mut group = criterion.benchmark_group("loopback/bulk");
    group.throughput(Throughput::Bytes(BULK)).sample_size(10);
    let mut bare = bare;
    group.bench_function("rustls alone", |bencher| {
        bencher.iter(|| runtime.block_on(bare.bulk()).expect("it is taken"));
    });
    group.finish();
    let in_place = runtime.block_on(async {
        (
            adit::over_loopback(true).await.expect("sockets"),
            adit::over_loopback(false).await.expect("sockets"),
            h2::over_loopback().await.expect("sockets"),
            yamux::over_loopback().await.expect("sockets"),
        )
    });
    let (retained, forgetful, h2, yamux) = in_place;
    measure(criterion, &runtime, "adit", &retained);
    measure(criterion, &runtime, "adit-forgetful", &forgetful);
    measure(criterion, &runtime, "h2", &h2);
    measure(criterion, &runtime, "yamux", &yamux);
}

fn measure(criterion: &mut Criterion, runtime: &Runtime, name: &str, dialer: &impl Dialer) {
    let mut group = criterion.benchmark_group("loopback/bulk");
    group.throughput(Throughput::Bytes(BULK)).sample_size(10);
    for streams in [1, 100] {
        group.bench_function(BenchmarkId::new(name, streams), |bencher| {
            bencher.iter(|| runtime.block_on(mux::bulk(dialer, streams, BULK)).expect("it is taken"));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("loopback/open-echo-close");
    group.throughput(Throughput::Elements(ECHOES as u64)).sample_size(10).measurement_time(Duration::from_secs(3));
    for at_once in [1, 32] {
        group.bench_function(BenchmarkId::new(name, at_once), |bencher| {
            bencher.iter(|| runtime.block_on(mux::echo(dialer, ECHOES, at_once)).expect("it comes back"));
        });
    }
    group.finish();
}

const BULK: u64 = 128 << 20;
const ECHOES: usize = 3_200;

criterion_group!(benches, beside);
criterion_main!(benches);
