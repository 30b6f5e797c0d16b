//! What it costs to decide when and what the next operation is.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use loadgen::{Arrivals, Rate, Workload, WorkloadConfig};

fn plans(criterion: &mut Criterion) {
    let rate = Rate::per_second(5000);
    for (name, arrivals) in [
        ("next arrival, constant", Arrivals::Constant { rate }),
        ("next arrival, poisson", Arrivals::Poisson { rate }),
    ] {
        let plan = arrivals.schedule(Duration::MAX, 7);
        let mut plan = plan.expect("an open loop has a plan");
        criterion.bench_function(name, |bencher| bencher.iter(|| black_box(plan.next())));
    }
}

fn operations(criterion: &mut Criterion) {
    let workload = Workload::new(WorkloadConfig::default(), 7).expect("the default workload is valid");
    let mut number = 0;
    criterion.bench_function("operation by number", |bencher| {
        bencher.iter(|| {
            number += 1;
            black_box(workload.operation(number, 0))
        });
    });
    criterion.bench_function("self-checking value of 256 bytes", |bencher| {
        bencher.iter(|| {
            number += 1;
            black_box(workload.value(number, "k17"))
        });
    });
    let (value, _) = workload.value(1, "k17");
    criterion.bench_function("inspect a value of 256 bytes", |bencher| {
        bencher.iter(|| black_box(workload.inspect("k17", &value)));
    });
}

criterion_group!(benches, plans, operations);
criterion_main!(benches);
