//! How long the exact check takes: one key, 100 clients, a tenth of the writes of unknown outcome.
//!
//! The worst case for a checker that searches; this one should grow hardly faster than the history.

#[path = "../tests/checker_support/mod.rs"]
mod checker_support;

use std::hint::black_box;
use std::time::Duration;

use chaos::checker::{Options, check_history, outcome};
use checker_support::{Simulation, simulate};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use reports::record::Outcome;

fn one_key(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one-key-100-clients-10%-unknown");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for operations in [10_000, 100_000, 1_000_000] {
        let simulation = Simulation {
            operations,
            clients: 100,
            keys: 1,
            unknown: 0.1,
            failed: 0.02,
            deletes: false,
        };
        let history = simulate(simulation, 1);
        group.throughput(Throughput::Elements(operations as u64));
        for (name, options) in [
            (
                "linearizable",
                Options {
                    index_order: false,
                    ..Options::default()
                },
            ),
            (
                "index-order",
                Options {
                    linearizable: false,
                    ..Options::default()
                },
            ),
        ] {
            assert_eq!(outcome(&check_history(&history.events, &options)), Outcome::Pass);
            group.bench_function(BenchmarkId::new(name, operations), |bencher| {
                bencher.iter(|| check_history(black_box(&history.events), &options));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, one_key);
criterion_main!(benches);
