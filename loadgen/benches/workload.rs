//! What it costs to decide what an operation does and to write and check its value.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use loadgen::{KeyChoice, ValueSize, Workload, WorkloadConfig};

fn operations(criterion: &mut Criterion) {
    for text in [
        "uniform",
        "zipfian",
        "zipfian:1.2",
        "zipfian-ycsb",
        "latest",
        "hotspot:0.2/0.8",
        "sequential",
        "exponential",
    ] {
        let key_choice: KeyChoice = text.parse().expect("the choice is one of those that there are");
        let config = WorkloadConfig {
            keys: 1_000_000,
            key_choice,
            ..WorkloadConfig::default()
        };
        let workload = Workload::new(config, 7).expect("the workload is valid");
        let mut number = 0;
        criterion.bench_function(&format!("operation, {text}"), |bencher| {
            bencher.iter(|| {
                number += 1;
                black_box(workload.operation(number, 1_000_100))
            });
        });
    }
}

fn values(criterion: &mut Criterion) {
    for size in [256, 1000, 16_384] {
        let config = WorkloadConfig {
            value_size: ValueSize::Fixed(size),
            ..WorkloadConfig::default()
        };
        let workload = Workload::new(config, 7).expect("the workload is valid");
        let mut number = 1_000_000;
        let mut buffer = String::new();
        criterion.bench_function(&format!("value_into, {size} bytes"), |bencher| {
            bencher.iter(|| {
                number += 1;
                black_box(workload.value_into(&mut buffer, number, "k17"));
            });
        });
        let (value, _) = workload.value(1, "k17");
        criterion.bench_function(&format!("name_of, {size} bytes"), |bencher| {
            bencher.iter(|| black_box(workload.name_of("k17", &value)));
        });
    }
    let workload = Workload::new(WorkloadConfig::default(), 7).expect("the default workload is valid");
    let mut number = 1_000_000;
    criterion.bench_function("value, 256 bytes, with two new texts", |bencher| {
        bencher.iter(|| {
            number += 1;
            black_box(workload.value(number, "k17"))
        });
    });
    let (value, _) = workload.value(1, "k17");
    criterion.bench_function("inspect, 256 bytes, with a new text", |bencher| {
        bencher.iter(|| black_box(workload.inspect("k17", &value)));
    });
    criterion.bench_function("name of a key", |bencher| {
        bencher.iter(|| {
            number += 1;
            black_box(workload.key(number % 1000))
        });
    });
}

criterion_group!(benches, operations, values);
criterion_main!(benches);
