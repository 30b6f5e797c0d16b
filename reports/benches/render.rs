//! How long a page takes: ten minutes of run, 100,000 operations, sixty faults.

#[path = "../tests/common/mod.rs"]
mod common;

use criterion::{Criterion, criterion_group, criterion_main};

fn render(c: &mut Criterion) {
    let run = common::ten_minutes();
    c.bench_function("render", |b| b.iter(|| reports::render(&run)));
    c.bench_function("summary", |b| b.iter(|| reports::summary(&run)));
}

criterion_group!(benches, render);
criterion_main!(benches);
