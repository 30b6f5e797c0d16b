//! What showing a report costs the load's own thread: on the live screen with its drawing thread beside it, and with no
//! display at all for comparison.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use loadgen::Progress;
use loadgen::screen::{Display, DisplayMode};
use ratatui::backend::TestBackend;
use reports::record::Counts;

fn progress(number: u64) -> Progress {
    Progress {
        elapsed: Duration::from_millis(100 * number),
        total: Duration::from_secs(3600),
        planned: 500 * number,
        counts: Counts {
            ok: 498 * number,
            failed: number,
            unknown: number,
            unsent: 0,
        },
        in_flight: 64,
        queued: 0,
        ok_per_second: 5000.0,
        interval: None,
        closed: Vec::new(),
    }
}

fn show(criterion: &mut Criterion, name: &str, mut display: Display) {
    let mut number = 0;
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            number += 1;
            display.show(black_box(&progress(number)));
        });
    });
    display.finish();
}

fn displays(criterion: &mut Criterion) {
    let screen = Display::on_backend(TestBackend::new(120, 40), true);
    let screen = screen.expect("a backend in memory can be drawn on, and a thread be started");
    // Reports come far faster than in a run, so that most find the channel full: the copy is made all the same.
    show(criterion, "show a report on the live screen", screen);
    let silent = Display::new(DisplayMode::Silent, Duration::from_secs(3600));
    show(criterion, "show a report nowhere", silent);
}

criterion_group!(benches, displays);
criterion_main!(benches);
