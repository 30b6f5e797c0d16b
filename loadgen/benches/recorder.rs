//! What one operation costs in the books.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use loadgen::recorder::{Class, Ended, Recorder};
use reports::record::{Operation, OutcomeKind};

const MS: u64 = 1_000_000;
const INTERVAL_NS: u64 = 1000 * MS;

fn ended(number: u64) -> Ended {
    let planned = number * 200_000;
    Ended {
        operation: if number.is_multiple_of(2) {
            Operation::Get
        } else {
            Operation::Put
        },
        planned,
        first: planned + 40_000,
        done: planned + MS + (number.wrapping_mul(0x9e37_79b9) & 0xf_ffff),
        class: Class::Ok,
        error: None,
        acknowledged_write: !number.is_multiple_of(2),
        redirects: 0,
        retries: 0,
        outcome: OutcomeKind::Ok,
        term: Some(2),
        answered_after: Some(MS),
        refused: Vec::new(),
        parts: None,
    }
}

fn books(criterion: &mut Criterion) {
    criterion.bench_function("plan and end one operation", |bencher| {
        let mut recorder = Recorder::new(true, 0, INTERVAL_NS);
        let mut number = 0;
        bencher.iter(|| {
            let ended = ended(number);
            recorder.planned(ended.planned, 30_000);
            recorder.ended(black_box(&ended));
            number += 1;
            if number.is_multiple_of(5000) {
                black_box(recorder.close_intervals(ended.planned));
            }
        });
    });
    criterion.bench_function("add up a run of 100,000 operations", |bencher| {
        bencher.iter_batched(
            || {
                let mut recorder = Recorder::new(true, 0, INTERVAL_NS);
                for number in 0..100_000 {
                    let ended = ended(number);
                    recorder.planned(ended.planned, 30_000);
                    recorder.ended(&ended);
                }
                recorder
            },
            |recorder| black_box(recorder.finish(20 * INTERVAL_NS, 20 * INTERVAL_NS)),
            criterion::BatchSize::LargeInput,
        );
    });
}

criterion_group!(benches, books);
criterion_main!(benches);
