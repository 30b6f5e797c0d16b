//! What is known of a run while it goes on, and what ends it.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use reports::record::{Operation, OutcomeKind};

use super::*;
use crate::recorder::{Ended, Recorder};
use crate::scribe::IntervalHistograms;
use crate::threshold::recorded::tests::put;
use crate::threshold::{Evidence, Metric, aborting};

const MS: Nanos = 1_000_000;
const S: Nanos = 1000 * MS;
const BEGINS: Nanos = 2 * S + 345_678;

/// The slices of a run of so many seconds, with a hundred puts in each, that ended as `how` says of the second.
fn slices(seconds: u64, how: impl Fn(u64) -> (Nanos, OutcomeKind)) -> Vec<(Interval, IntervalHistograms)> {
    let mut recorder = Recorder::new(true, BEGINS, S);
    let all: Vec<Ended> = (0..seconds * 100)
        .map(|n| {
            let (took, outcome) = how(n / 100);
            put(BEGINS + n * 10 * MS, took, outcome)
        })
        .collect();
    all.iter().for_each(|one| recorder.planned(one.planned, 0));
    all.iter().for_each(|one| recorder.ended(one));
    let closed = recorder.close_intervals(BEGINS + seconds * S);
    let intervals = recorder.closed_so_far().to_vec();
    assert_eq!(
        (closed.len(), intervals.len()),
        (seconds as usize, seconds as usize)
    );
    intervals.into_iter().zip(closed).collect()
}

/// In which second of the run the threshold ends it, if it does. Its phases are of ten seconds each.
fn ended_in(text: &str, slices: &[(Interval, IntervalHistograms)]) -> Option<usize> {
    let thresholds = [text.parse::<Threshold>().unwrap()];
    let plan = (0..3).map(|n| (format!("stage-{}", n + 1), n * 10 * S, (n + 1) * 10 * S));
    let mut so_far = SoFar::new(&thresholds, true, plan.collect(), 0);
    let mut most = 0;
    let ended = slices
        .iter()
        .enumerate()
        .find_map(|(second, (interval, histograms))| {
            let elapsed = Duration::from_secs(second as u64 + 1);
            let stretch = Stretch {
                start: histograms.start,
                end: histograms.start + histograms.length,
            };
            // Counts and histograms come in any order.
            let mut broken = false;
            for first in [second % 2 == 0, second % 2 != 0] {
                match first {
                    true => so_far.intervals(std::slice::from_ref(interval)),
                    false => so_far.histograms(stretch, &histograms.tagged),
                }
                let news = so_far.news().unwrap();
                broken |= aborting(&thresholds, news, elapsed).is_some();
                assert!(so_far.news().is_none(), "nothing came");
            }
            most = most.max(so_far.evidence.slices.len());
            broken.then_some(second + 1)
        });
    let over = thresholds[0].over.map_or(0, |over| over.as_secs() as usize);
    assert!(most <= 3 * (over + 2) + 2, "{most} slices are kept for {text}");
    ended
}

#[test]
fn a_threshold_ends_a_run_as_soon_as_it_is_broken() {
    // From the sixteenth second on nothing is answered; the twelfth is slow.
    let run = slices(30, |second| match second {
        11 => (80 * MS, OutcomeKind::Ok),
        15.. => (MS, OutcomeKind::Unavailable),
        _ => (MS, OutcomeKind::Ok),
    });
    for (text, second) in [
        ("response:max<50ms abort", Some(12)),
        ("response:max<50ms abort after 20s", Some(20)),
        ("response{op=put}:max<50ms abort", Some(12)),
        ("response{op=cas}:max<50ms abort", None),
        ("response{phase=stage-1}:max<50ms abort", None),
        ("response{phase=stage-2}:max<50ms abort", Some(12)),
        ("response{phase=stage-2}:max<50ms over 2s abort", Some(12)),
        ("response{phase=stage-3}:max<50ms abort", None),
        ("service:p50<50ms over 1s abort", Some(12)),
        ("response:p50<50ms over 3s abort", None),
        ("scheduled:p50<50ms over 3s abort", Some(17)),
        ("scheduled{op=put,phase=stage-2}:p50<1s abort", None),
        ("scheduled{phase=stage-3}:p50<1s abort", Some(21)),
        ("scheduled:p90<50ms abort", Some(16)),
        ("errors:rate<=0% abort", Some(16)),
        ("errors:count<150 abort", Some(17)),
        ("errors:rate<30/s abort", Some(22)),
        ("errors{op=put}:count<150 abort", Some(17)),
        ("errors{op=put,outcome=unavailable}:count<150 abort", Some(17)),
        ("errors{outcome=unavailable}:rate<=0% over 1s abort", Some(16)),
        ("errors{outcome=transport}:rate<=0% abort", None),
        ("errors{op=put,phase=stage-2}:count<150 abort", Some(17)),
        ("errors{phase=stage-1}:count<1 abort", None),
        ("goodput:rate>=90/s over 2s abort", Some(16)),
        ("goodput{phase=stage-1}:rate>=99/s abort", None),
        ("throughput:mean>=99/s abort", None),
    ] {
        assert_eq!(ended_in(text, &run), second, "{text}");
    }
}

#[test]
fn operations_that_are_still_open_end_no_run() {
    let thresholds = ["scheduled:p50<1s abort".parse::<Threshold>().unwrap()];
    let mut so_far = SoFar::new(&thresholds, true, Vec::new(), 0);
    let run = slices(2, |_| (MS, OutcomeKind::Ok));
    for (interval, _) in &run {
        so_far.intervals(std::slice::from_ref(interval));
    }
    // The histograms of the second slice are still on their way.
    let (_, histograms) = &run[0];
    let stretch = Stretch {
        start: histograms.start,
        end: histograms.start + histograms.length,
    };
    so_far.histograms(stretch, &histograms.tagged);
    let news = so_far.news().unwrap();
    assert!(aborting(&thresholds, news, Duration::from_secs(2)).is_none());
    let planned = Query {
        metric: Metric::Scheduled,
        operation: None,
        outcome: None,
        endpoint: None,
        within: None,
    };
    let sample = news.latencies(&planned).unwrap();
    assert_eq!((sample.total, sample.histogram.len()), (100, 100));
    let of_puts = Query {
        metric: Metric::Errors,
        operation: Some(Operation::Put),
        ..planned
    };
    assert_eq!(news.tally(&of_puts).unwrap().of, 100);
}
