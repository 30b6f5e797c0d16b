//! Runs in which little or nothing was answered in time.

use reports::record::Interval;

use super::*;

/// A run in which nothing was answered.
fn dead() -> Trial {
    Trial {
        metrics: [(Metric::Throughput, 0.0)].into(),
        ..Trial::default()
    }
}

#[test]
fn a_side_that_answers_nothing_is_a_regression_however_few_the_runs() {
    let mut store = Store::new(1.0, 0.01, seed());
    for count in [1, 6] {
        let (alive, dead) = (store.trials(count), vec![dead(); count]);
        let comparison = compare(&alive, &dead, NOISE);
        assert_eq!(comparison.verdict, ComparisonVerdict::Regressed, "{comparison:?}");
        assert_eq!(change_of(&comparison, Metric::Throughput), Change::Regressed);
        assert_eq!(change_of(&comparison, P99), Change::Regressed);
        assert!(
            comparison
                .notes
                .iter()
                .any(|note| note.contains("second side answered"))
        );
        assert!(comparison.notes.iter().any(|note| note.contains("client CPU")));
        let comparison = compare(&dead, &alive, NOISE);
        assert_eq!(comparison.verdict, ComparisonVerdict::Improved);
        let comparison = compare(&dead, &dead, NOISE);
        assert_eq!(comparison.verdict, ComparisonVerdict::NotComparable);
        assert_eq!(comparison.notes.len(), 2);
    }
}

#[test]
fn runs_that_answer_nothing_are_the_worst_of_their_side() {
    let mut store = Store::new(1.0, 0.01, seed());
    // With two metrics only, so that Holm's correction leaves room.
    let mut few = |count: usize| -> Vec<Trial> {
        let mut trials = store.trials(count);
        let wanted = [Metric::Throughput, P99];
        trials
            .iter_mut()
            .for_each(|trial| trial.metrics.retain(|metric, _| wanted.contains(metric)));
        trials
    };
    let base = few(8);
    let mut new = few(8);
    new[..7].fill(dead());
    let comparison = compare(&base, &new, NOISE);
    assert_eq!(comparison.metrics.len(), 2, "{:?}", comparison.notes);
    assert_eq!(comparison.verdict, ComparisonVerdict::Regressed, "{comparison:?}");
    // One of them may be chance.
    let mut new = few(8);
    new[0] = dead();
    let comparison = compare(&base, &new, NOISE);
    assert_eq!(
        (comparison.metrics.len(), comparison.verdict),
        (2, ComparisonVerdict::Unchanged)
    );
}

#[test]
fn only_what_was_answered_in_the_measured_time_is_throughput() {
    let mut late = run();
    let load = late.load.as_mut().unwrap();
    let second = 1_000_000_000;
    // 3500 of 5000 a second are answered in time, and the rest in a drain of five seconds.
    load.intervals = (2..17)
        .map(|at| Interval {
            start: at * second,
            end: (at + 1) * second,
            counts: Counts {
                ok: if at < 12 { 3500 } else { 3000 },
                ..Counts::default()
            },
            planned: 5000,
            latency: Percentiles::default(),
        })
        .collect();
    assert_eq!(
        Trial::of("a", &late).unwrap().metrics[&Metric::Throughput],
        3500.0
    );
    // Half an interval at the end is left out together with its time.
    late.load.as_mut().unwrap().phases[0].end += second / 2;
    assert_eq!(
        Trial::of("a", &late).unwrap().metrics[&Metric::Throughput],
        3500.0
    );
}
