//! What the generator itself costs for each operation: closed loops against a target inside the process, so that nothing but
//! planning, writing the request, reading the answer and the books is measured.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use loadgen::target::Null;
use loadgen::{Arrivals, Client, ClientOptions, HistoryTarget, LoadConfig, Outputs, RunClock, run};
use tokio::runtime::Builder;

/// How long one measurement runs: the time of a run is fixed, and what it got done is what is measured.
const RUN: Duration = Duration::from_millis(200);

fn overhead(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("null target");
    group.throughput(Throughput::Elements(1));
    group.sample_size(10);
    group.bench_function("one put of 256 bytes", |bencher| {
        bencher.iter_custom(|operations| {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let (mut done, mut spent) = (0, Duration::ZERO);
            while done < operations {
                let config = LoadConfig {
                    arrivals: Arrivals::Closed { clients: 64 },
                    duration: RUN,
                    ..LoadConfig::default()
                };
                let outcome = runtime.block_on(async {
                    let none: [&str; 0] = [];
                    let client =
                        Client::of(Arc::new(Null), &none, ClientOptions::default()).expect("a client");
                    let outputs = Outputs {
                        history: HistoryTarget::Discard,
                        latency_log: None,
                        intervals: None,
                    };
                    run(config, client, RunClock::start(), outputs, |_| {}, pending()).await
                });
                let outcome = outcome.expect("the null target takes everything");
                done += outcome.load.counts.ok;
                spent += Duration::from_nanos(outcome.ended - outcome.begins);
            }
            spent.mul_f64(operations as f64 / done as f64)
        });
    });
    group.finish();
}

criterion_group!(benches, overhead);
criterion_main!(benches);
