//! What it costs to decide when and what the next operation is.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use loadgen::schedule::{Spacing, parse_stages};
use loadgen::{Arrivals, Rate, Schedule, Workload, WorkloadConfig};

fn plans(criterion: &mut Criterion) {
    let rate = Rate::per_second(5000);
    let stages = |spacing| Arrivals::Stages {
        stages: parse_stages("100h@4k,1000h->6k").expect("these are stages"),
        spacing,
    };
    // Ramps from the first arrival on.
    let ramp = |spacing| Arrivals::Stages {
        stages: parse_stages("8000h@4k..6k").expect("this is a stage"),
        spacing,
    };
    let burst = Arrivals::Burst {
        size: 100,
        every: Duration::from_millis(20),
    };
    for (name, arrivals) in [
        ("next arrival, constant", Arrivals::Constant { rate }),
        ("next arrival, poisson", Arrivals::Poisson { rate }),
        ("next arrival, stages, constant", stages(Spacing::Constant)),
        ("next arrival, stages, poisson", stages(Spacing::Poisson)),
        ("next arrival, ramp, constant", ramp(Spacing::Constant)),
        ("next arrival, ramp, poisson", ramp(Spacing::Poisson)),
        ("next arrival, burst", burst),
        ("next arrival, replay", replay()),
    ] {
        let plan = arrivals.schedule(Duration::MAX, 7);
        let plan = plan.expect("an open loop has a plan");
        let mut cursor = plan.clone();
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| black_box(following(&mut cursor, &plan)))
        });
    }
}

/// The next arrival, from the beginning again after the last.
fn following(cursor: &mut Schedule, plan: &Schedule) -> u64 {
    match cursor.next() {
        Some(arrival) => arrival.at,
        None => {
            *cursor = plan.clone();
            0
        }
    }
}

/// A million arrivals from a file.
fn replay() -> Arrivals {
    let folder = tempfile::tempdir().expect("there is room for a file of seven megabytes");
    let file = folder.path().join("plan.txt");
    let text: String = (0..1_000_000_u64)
        .map(|number| format!("{}\n", number * 200))
        .collect();
    std::fs::write(&file, text).expect("there is room for a file of seven megabytes");
    Arrivals::Replay(loadgen::schedule::Replay::read(&file).expect("this is a plan"))
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
