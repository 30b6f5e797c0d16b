//! What a run's record says of phases and of single operations.

#![allow(clippy::unwrap_used)]

use std::time::UNIX_EPOCH;

use reports::record::{LoadPhase, LoopKind, Operation, OutcomeKind, ThresholdVerdict};

use super::*;
use crate::export::hlog::LogWriter;
use crate::recorder::{Class, Ended, Recorder};
use crate::threshold::{Threshold, evaluate};

const MS: Nanos = 1_000_000;
const S: Nanos = 1000 * MS;

/// A put that was planned and sent at this time, and took so long.
pub(in crate::threshold) fn put(planned: Nanos, took: Nanos, outcome: OutcomeKind) -> Ended {
    let class = match outcome.is_good() {
        true => Class::Ok,
        false => Class::Failed,
    };
    Ended {
        operation: Operation::Put,
        planned,
        first: planned,
        done: planned + took,
        class,
        outcome,
        error: None,
        acknowledged_write: class == Class::Ok,
        term: None,
        redirects: 0,
        retries: 0,
        answered_after: (class == Class::Ok).then_some(took),
        refused: Vec::new(),
        parts: None,
    }
}

/// The record of a run of three seconds that ended so, with a phase for each second, after its log was written and read back.
fn recorded(begins: Nanos, ended: &[Ended]) -> (Load, IntervalLog) {
    let mut recorder = Recorder::new(true, begins, S);
    ended.iter().for_each(|one| recorder.planned(one.planned, 0));
    let mut by_end: Vec<&Ended> = ended.iter().collect();
    by_end.sort_by_key(|one| one.done);
    by_end.iter().for_each(|one| recorder.ended(one));
    let load_end = begins + 3 * S;
    let last = by_end.last().map_or(load_end, |one| one.done + 1);
    let totals = recorder.finish(load_end, last.max(load_end));
    let mut log = LogWriter::begin(Vec::new(), UNIX_EPOCH, &[]).unwrap();
    for interval in &totals.histograms {
        for (tag, histogram) in &interval.tagged {
            let (start, length) = (interval.start as i64, interval.length as i64);
            log.interval(Some(&tag.to_string()), start, length, histogram)
                .unwrap();
        }
    }
    let log = IntervalLog::read(log.finish().unwrap().as_slice()).unwrap();
    let phase = |number: u64| LoadPhase {
        name: format!("stage-{}", number + 1),
        start: begins + number * S,
        end: begins + (number + 1) * S,
    };
    let load = Load {
        kind: LoopKind::Constant,
        planned: totals.planned,
        counts: totals.counts,
        operations: totals.summary.operations,
        total: Some(totals.summary.total),
        intervals: totals.intervals,
        phases: (0..3).map(phase).collect(),
        longest_write_gap: Some(totals.longest_write_gap),
        write_gaps: totals.write_gaps,
        ..Load::default()
    };
    (load, log)
}

fn verdict(text: &str, begins: Nanos, record: &(Load, IntervalLog)) -> (ThresholdVerdict, String) {
    let threshold: Threshold = text.parse().unwrap();
    let result = evaluate(&threshold, &evidence(&record.0, &record.1, begins));
    let asked = [threshold];
    let alone = evidence_for(&asked, &record.0, &record.1, begins);
    assert_eq!(
        evaluate(&asked[0], &alone),
        result,
        "what was not asked for is missed"
    );
    (result.verdict, result.reason)
}

#[track_caller]
fn check(begins: Nanos, record: &(Load, IntervalLog), cases: &[(&str, ThresholdVerdict, &str)]) {
    for (text, expected, words) in cases {
        let (verdict, reason) = verdict(text, begins, record);
        assert_eq!(verdict, *expected, "{text}: {reason}");
        assert!(reason.contains(words), "{text}: {reason}");
    }
}

use ThresholdVerdict::{Fail, Pass};

#[test]
fn histograms_belong_to_the_slice_they_were_made_in_whatever_the_clock_said() {
    for below_a_millisecond in [0, 1, 300_000, 499_999, 500_000, 700_001, 999_999] {
        let begins = 7 * S + 123 * MS + below_a_millisecond;
        // The first second is slow, the others are not.
        let took = |at: Nanos| if at < S { 90 * MS } else { 10 * MS };
        let all: Vec<Ended> = (0..300)
            .map(|n| (begins + n * 10 * MS, took(n * 10 * MS)))
            .map(|(planned, took)| put(planned, took, OutcomeKind::Ok))
            .collect();
        let record = recorded(begins, &all);
        check(
            begins,
            &record,
            &[
                ("response{phase=stage-1}:min>80ms", Pass, ""),
                ("response{phase=stage-1}:count>=100", Pass, "100"),
                ("response{phase=stage-2}:max<20ms", Pass, ""),
                ("response{phase=stage-2}:count<=100", Pass, "100"),
                ("response{phase=stage-3}:max<20ms", Pass, ""),
                ("response:max<20ms over 1s", Fail, "90 ms"),
                ("response:count>=100 over 1s", Pass, "the worst of 3"),
            ],
        );
    }
}

#[test]
fn what_was_planned_in_an_outage_counts_as_infinitely_slow() {
    let begins = 2 * S;
    // In the second second nothing is answered.
    let all: Vec<Ended> = (0..300)
        .map(|n| {
            let down = (100..200).contains(&n);
            let outcome = if down {
                OutcomeKind::Unavailable
            } else {
                OutcomeKind::Ok
            };
            put(begins + n * 10 * MS, MS, outcome)
        })
        .collect();
    let record = recorded(begins, &all);
    check(
        begins,
        &record,
        &[
            ("scheduled{phase=stage-2}:p50<1s", Fail, "infinite"),
            ("scheduled{phase=stage-2}:p50<1s allow-empty", Fail, "infinite"),
            ("scheduled{op=put,phase=stage-2}:p50<1s", Fail, "infinite"),
            ("scheduled:p50<1s over 1s", Fail, "infinite"),
            ("scheduled{phase=stage-1}:p50<1s", Pass, ""),
            ("scheduled{op=put}:p50<1s", Pass, ""),
            ("scheduled{op=put}:p90<1s", Fail, "infinite"),
        ],
    );
    let none: Vec<Ended> = (0..300)
        .map(|n| put(begins + n * 10 * MS, MS, OutcomeKind::Unavailable))
        .collect();
    check(
        begins,
        &recorded(begins, &none),
        &[("scheduled:p50<1s", Fail, "infinite")],
    );
}

#[test]
fn what_is_done_after_the_measured_time_is_not_achieved_in_it() {
    let begins = 2 * S;
    // A hundred a second are planned; a third of them is answered in time, the rest by two seconds after the plan.
    let late: Vec<Ended> = (0..300)
        .map(|n| {
            let done = begins + n * 16_700_000;
            let planned = begins + n * 10 * MS;
            put(planned, done - planned + MS, OutcomeKind::Ok)
        })
        .collect();
    check(
        begins,
        &recorded(begins, &late),
        &[
            ("goodput:rate>=99/s", Fail, "was 60/s"),
            ("throughput:mean>=99/s", Fail, "was 60/s"),
            ("goodput{phase=stage-3}:rate>=70/s", Fail, "60/s"),
            ("goodput{op=put}:rate>=70/s", Fail, "was 60.1/s"),
            ("goodput:count>=300", Pass, ""),
            ("errors:rate<=0%", Pass, ""),
        ],
    );
    let timely: Vec<Ended> = (0..300)
        .map(|n| put(begins + n * 10 * MS, 9 * MS, OutcomeKind::Ok))
        .collect();
    check(
        begins,
        &recorded(begins, &timely),
        &[
            ("goodput:rate>=100/s", Pass, ""),
            ("goodput{phase=stage-3}:rate>=100/s", Pass, ""),
        ],
    );
}

#[test]
fn what_did_not_occur_is_empty_and_what_cannot_be_told_is_missing() {
    let begins = 2 * S;
    let at = |n: Nanos| begins + n * 10 * MS;
    let clean: Vec<Ended> = (0..300).map(|n| put(at(n), MS, OutcomeKind::Ok)).collect();
    check(
        begins,
        &recorded(begins, &clean),
        &[
            ("errors{op=put,outcome=transport}:rate<=0%", Pass, "0 %"),
            ("errors{outcome=timeout_client}:rate<2%", Pass, "0 %"),
            ("errors{outcome=timeout_client,phase=stage-2}:count<1", Pass, ""),
            ("errors{op=put,phase=stage-2}:rate<=0%", Pass, ""),
            ("response{op=cas}:p50<1s", Fail, "nothing was measured"),
            ("response{op=cas}:p50<1s allow-empty", Pass, "allowed"),
            (
                "response{op=put,outcome=not_found,phase=stage-1}:p50<1s allow-empty",
                Pass,
                "",
            ),
            ("errors{op=cas}:rate<1%", Fail, "nothing was measured"),
            ("errors{op=cas,outcome=transport}:rate<1% allow-empty", Pass, ""),
            ("goodput{op=cas}:rate>1/s allow-empty", Pass, ""),
            ("response{endpoint=a:1}:p50<1s allow-empty", Fail, "does not tell"),
            ("errors{endpoint=a:1}:rate<1% allow-empty", Fail, "does not tell"),
            (
                "errors{endpoint=a:1,outcome=transport}:count<1 allow-empty",
                Fail,
                "does not tell",
            ),
            (
                "goodput{op=put,phase=stage-1}:rate>1/s allow-empty",
                Fail,
                "of one stretch",
            ),
            ("response{phase=stage-9}:p50<1s allow-empty", Fail, "no phase"),
        ],
    );
    let mut one_bad = clean.clone();
    one_bad[150] = put(at(150), MS, OutcomeKind::Transport);
    check(
        begins,
        &recorded(begins, &one_bad),
        &[
            ("errors{outcome=transport}:count<1", Fail, "was 1"),
            ("errors{op=put,outcome=transport}:rate<=0%", Fail, "0.333 %"),
            (
                "errors{outcome=transport,phase=stage-2}:rate<=0%",
                Fail,
                "was 1 %",
            ),
            ("errors{outcome=transport,phase=stage-1}:rate<=0%", Pass, ""),
            ("errors{op=put,outcome=transport}:count<1 over 1s", Fail, ""),
        ],
    );
    // In a closed loop there are no response times.
    let (mut load, mut log) = recorded(begins, &clean);
    load.kind = LoopKind::Closed;
    let planned = |tag: &str| tag.ends_with("response") || tag.ends_with("lag");
    log.entries
        .retain(|entry| !entry.tag.as_deref().is_some_and(planned));
    check(
        begins,
        &(load, log),
        &[
            ("scheduled:p50<1s allow-empty", Fail, "does not tell"),
            ("response:p50<1s allow-empty", Fail, "does not tell"),
            ("service:p50<1s", Pass, ""),
        ],
    );
}

#[test]
fn outages_are_told_from_short_gaps_and_the_longest_is_never_forgotten() {
    let begins = 2 * S;
    let clean: Vec<Ended> = (0..300)
        .map(|n| put(begins + n * 10 * MS, MS, OutcomeKind::Ok))
        .collect();
    let (mut load, log) = recorded(begins, &clean);
    assert!(load.write_gaps.is_empty() && load.longest_write_gap.is_some());
    let known = (load.clone(), log.clone());
    check(
        begins,
        &known,
        &[
            ("unavailable:count<1", Pass, "was 0"),
            ("unavailable:longest<9ms", Fail, "10 ms"),
            ("unavailable:longest<50ms", Pass, "10 ms"),
            ("unavailable{phase=stage-3}:count<1", Pass, ""),
            ("unavailable{phase=stage-3}:longest<50ms", Pass, ""),
            ("unavailable:longest>1s", Fail, ""),
        ],
    );
    // Several generators: only what it cannot exceed is known.
    (load.longest_write_gap, load.write_gap_at_most) = (None, Some(GAP_MIN - 1));
    check(
        begins,
        &(load.clone(), log.clone()),
        &[
            ("unavailable:count<1", Pass, "was 0"),
            ("unavailable:longest<1s", Pass, "at most 100 ms"),
            (
                "unavailable:longest>1s",
                Fail,
                "at most 100 ms, which is not > 1 s",
            ),
            ("unavailable:longest<50ms", Fail, "does not tell more"),
        ],
    );
    load.write_gap_at_most = None;
    check(
        begins,
        &(load.clone(), log.clone()),
        &[("unavailable:longest<1s", Fail, "does not tell when")],
    );
    // So many gaps that the longest one came after the last that was kept.
    load.write_gaps = vec![(begins, GAP_MIN); GAPS_MAX];
    load.longest_write_gap = Some((S, begins + S));
    check(
        begins,
        &(load, log),
        &[
            ("unavailable:longest<900ms", Fail, "was 1 s"),
            ("unavailable:longest<=1s", Pass, "was 1 s"),
            ("unavailable:count<5", Fail, "at least 10001"),
            ("unavailable:count<20k", Fail, "does not tell more"),
        ],
    );
}
