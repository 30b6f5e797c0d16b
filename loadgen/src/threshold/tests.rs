//! How runs stand against thresholds; what is read and what is refused is next door.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use reports::record::{Operation, OutcomeKind, ThresholdVerdict};

use super::*;
use crate::percentiles::{growing, record};

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

fn threshold(text: &str) -> Threshold {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

mod parsing;

/// Ten seconds, of which each has a thousand puts with response times of 1 to 1000 steps of `step`.
fn ten_seconds(step: impl Fn(u64) -> u64) -> Measurements {
    let mut run = Measurements::empty(Stretch {
        start: 0,
        end: 10 * S,
    });
    let response = Series::total(Metric::Response);
    let mut all = growing();
    for second in 0..10 {
        let mut slice = Slice::empty(Stretch {
            start: second * S,
            end: (second + 1) * S,
        });
        let mut histogram = growing();
        for i in 1..=1000 {
            record(&mut histogram, i * step(second));
            record(&mut all, i * step(second));
        }
        slice.latencies.insert(response.clone(), (histogram, 0));
        slice.tallies.insert(Series::total(Metric::Goodput), (1000, 1000));
        run.slices.push(slice);
    }
    run.whole.latencies.insert(response, (all, 0));
    run.whole
        .tallies
        .insert(Series::total(Metric::Goodput), (10_000, 10_000));
    run.phases = vec![
        ("before".into(), Stretch { start: 0, end: 4 * S }),
        (
            "after".into(),
            Stretch {
                start: 4 * S,
                end: 10 * S,
            },
        ),
    ];
    run
}

fn verdict(text: &str, run: &Measurements) -> (ThresholdVerdict, String) {
    let result = evaluate(&threshold(text), run);
    assert_eq!(result.expression, threshold(text).to_string());
    (result.verdict, result.reason)
}

#[track_caller]
fn check(run: &Measurements, cases: &[(&str, ThresholdVerdict, &str)]) {
    for (text, expected, words) in cases {
        let (verdict, reason) = verdict(text, run);
        assert_eq!(verdict, *expected, "{text}: {reason}");
        assert!(reason.contains(words), "{text}: {reason}");
    }
}

use ThresholdVerdict::{Fail, Inconclusive, Pass};

#[test]
fn latencies_are_held_against_their_limits() {
    // Up to 20 ms; p99 is 19.8 ms and known to about ± 0.04 ms.
    let run = ten_seconds(|_| 20_000);
    check(
        &run,
        &[
            (
                "response:p99<20ms",
                Pass,
                "p99 of response was 19.8 ms (95 % interval 19.8 ms to 19.9 ms)",
            ),
            ("response:p99<19.8ms", Inconclusive, "within the uncertainty"),
            ("response:p99<19ms", Fail, "not < 19 ms"),
            ("response:p99>19ms", Pass, ""),
            ("response:p50<10ms", Inconclusive, ""),
            ("response:max<=20.1ms", Pass, ""),
            ("response:min>1us", Pass, "20"),
            ("response:mean<11ms", Pass, ""),
            ("response:mean<10.01ms", Inconclusive, ""),
            ("response:count>=10k", Pass, "10000"),
            (
                "response:p99.99<1s",
                Fail,
                "needs 100000 operations, and 10000 were measured",
            ),
        ],
    );
}

#[test]
fn nothing_measured_is_no_pass() {
    let mut run = ten_seconds(|_| 20_000);
    let cas = Series::of(Metric::Response, Operation::Cas);
    run.whole.latencies.insert(cas, (growing(), 0));
    check(
        &run,
        &[
            ("response{op=cas}:p99<20ms", Fail, "nothing was measured"),
            ("response{op=cas}:p99<20ms allow-empty", Pass, "allowed"),
            (
                "response{op=delete}:p99<20ms",
                Fail,
                "does not tell `response op=delete`",
            ),
            ("response{op=delete}:p99<20ms allow-empty", Fail, "does not tell"),
            (
                "response{phase=during}:p99<20ms",
                Fail,
                "no phase `during`; it has before, after",
            ),
            ("unavailable:longest<3s", Fail, "does not tell when no writes"),
            ("errors:rate<1%", Fail, "does not tell `errors`"),
        ],
    );
    run.whole.tallies.insert(Series::total(Metric::Errors), (0, 0));
    check(
        &run,
        &[
            ("errors:rate<1%", Fail, "nothing was measured"),
            ("errors:count<1 allow-empty", Pass, ""),
        ],
    );
}

#[test]
fn phases_and_stretches_are_judged_by_themselves() {
    // The sixth second is ten times as slow.
    let run = ten_seconds(|second| if second == 5 { 200_000 } else { 20_000 });
    check(
        &run,
        &[
            ("response{phase=before}:p99<21ms", Pass, "between 0 ns and 4 s"),
            ("response{phase=after}:p99<21ms", Fail, ""),
            ("response:p99<21ms", Fail, ""),
            ("response:p50<21ms", Pass, ""),
            (
                "response:p50<21ms over 1s",
                Fail,
                "between 5 s and 6 s was 100 ms",
            ),
            (
                "response{phase=after}:p50<21ms over 1s",
                Fail,
                "the worst of 6 stretches",
            ),
            (
                "response{phase=before}:p50<21ms over 1s",
                Pass,
                "the worst of 4 stretches",
            ),
            ("goodput:mean>999/s over 2s", Pass, "1000/s; the worst of 5"),
            ("goodput:mean>1001/s over 2s", Fail, ""),
            ("response:p50<21ms over 1m", Fail, "shorter than half of"),
            // What is left is a stretch of its own if it is at least half as long.
            (
                "response{phase=after}:p90<21ms over 5s",
                Fail,
                "between 4 s and 9 s",
            ),
            ("goodput:mean>999/s over 6s", Pass, "the worst of 2 stretches"),
            ("goodput:mean>999/s over 20s", Pass, "between 0 ns and 10 s"),
            ("goodput:count<=3999 over 6s", Fail, "between 0 ns and 6 s"),
            ("goodput:count>=6000 over 6s", Pass, "between 0 ns and 6 s"),
            ("response:p50<21ms over 1us", Fail, "more than 10000 stretches"),
        ],
    );
    // A bad end is not overlooked, unless it is too short.
    let run_with_bad_end = ten_seconds(|second| if second > 6 { 200_000 } else { 20_000 });
    check(
        &run_with_bad_end,
        &[
            ("response:p50<21ms over 6s", Fail, "between 6 s and 10 s"),
            ("response:p50<21ms over 7s", Pass, "between 0 ns and 7 s"),
        ],
    );
    let mut unsliced = run.clone();
    unsliced.slices.clear();
    check(
        &unsliced,
        &[("response:p50<21ms over 1s", Fail, "does not tell one stretch")],
    );
}

#[test]
fn dependent_values_make_a_threshold_less_sure() {
    let mut run = ten_seconds(|_| 20_000);
    check(&run, &[("response:p99<19.9ms", Pass, "")]);
    run.independence.insert(Series::total(Metric::Response), 0.02);
    check(
        &run,
        &[
            ("response:p99<19.9ms", Inconclusive, "to never"),
            ("response:p99<15ms", Fail, ""),
        ],
    );
}

#[test]
fn what_did_not_end_ok_counts_as_infinite() {
    let mut run = ten_seconds(|_| 20_000);
    let mut scheduled = |infinite| {
        let histogram = run.whole.latencies[&Series::total(Metric::Response)].0.clone();
        run.whole
            .latencies
            .insert(Series::total(Metric::Scheduled), (histogram, infinite));
        run.clone()
    };
    check(
        &scheduled(0),
        &[("scheduled:p99<20ms", Pass, ""), ("scheduled:max<21ms", Pass, "")],
    );
    check(
        &scheduled(500),
        &[
            (
                "scheduled:p99<20ms",
                Fail,
                "infinite, because too many operations did not end ok",
            ),
            ("scheduled:p90<20ms", Pass, ""),
            ("scheduled:max<1s", Fail, "infinite"),
            ("scheduled:mean<1s", Fail, "infinite"),
            ("scheduled:count<=10500", Pass, ""),
        ],
    );
    let result = evaluate(&threshold("scheduled:p99<20ms"), &scheduled(500));
    assert_eq!((result.measured, result.interval), (None, None));
    assert!(serde_json::to_string(&result).is_ok_and(|text| text.contains("\"verdict\":\"fail\"")));
}

#[test]
fn counts_shares_and_outages_are_held_against_their_limits() {
    let mut run = ten_seconds(|_| 20_000);
    let mut errors = Series::total(Metric::Errors);
    run.whole.tallies.insert(errors.clone(), (10, 10_000));
    errors.outcome = Some(OutcomeKind::TimeoutClient);
    run.whole.tallies.insert(errors, (0, 10_000));
    run.whole
        .tallies
        .insert(Series::total(Metric::Retries), (20_000, 10_000));
    run.outages.insert(
        None,
        vec![
            Stretch { start: S, end: 3 * S },
            Stretch {
                start: 8 * S,
                end: 12 * S,
            },
        ],
    );
    check(
        &run,
        &[
            // Wilson: 10 of 10,000 is 0.054 % to 0.184 %.
            (
                "errors:rate<1%",
                Pass,
                "was 0.1 % (95 % interval 0.0543 % to 0.184 %)",
            ),
            ("errors:rate<0.15%", Inconclusive, ""),
            ("errors:rate<0.05%", Fail, ""),
            ("errors:rate<=0%", Fail, ""),
            ("errors{outcome=timeout_client}:rate<=0%", Pass, ""),
            ("errors:count<=10", Pass, ""),
            ("errors:rate<=1/s", Pass, ""),
            ("retries:rate<150%", Fail, "200 %"),
            ("retries:count<20001", Pass, ""),
            ("unavailable:longest<=2s", Pass, ""),
            ("unavailable:longest<2s", Fail, "2 s"),
            ("unavailable{phase=before}:count<=1", Pass, ""),
            ("unavailable:count<2", Fail, ""),
        ],
    );
}

#[test]
fn only_what_is_broken_for_certain_stops_a_run() {
    let run = ten_seconds(|second| if second == 9 { 200_000 } else { 20_000 });
    let stops = |text: &str, elapsed: u64| {
        let thresholds = [threshold("response:p99<1us"), threshold(text)];
        aborting(&thresholds, &run, Duration::from_secs(elapsed)).map(|result| result.expression)
    };
    // Without `abort` nothing stops anything.
    assert_eq!(stops("response:p99<1ms", 10), None);
    assert_eq!(
        stops("response:p50<1ms abort", 10).as_deref(),
        Some("response:p50<1ms abort")
    );
    assert_eq!(stops("response:p50<1ms abort after 20s", 10), None);
    assert!(stops("response:p50<1ms abort after 10s", 10).is_some());
    // The whole run so far is fine, the last second is not.
    assert_eq!(stops("response:p50<21ms abort", 10), None);
    assert!(stops("response:p50<21ms over 1s abort", 10).is_some());
    assert_eq!(stops("response:p50<21ms over 20s abort", 10), None);
    // Nothing measured, too little, or not sure.
    assert_eq!(stops("response{op=get}:p50<1ms abort", 10), None);
    assert_eq!(stops("response:p99.99<1ms abort", 10), None);
    assert_eq!(stops("response{phase=never}:p50<1ms abort", 10), None);
    assert!(stops("response{phase=after}:p50<1ms abort", 10).is_some());
}

#[test]
fn what_lies_on_the_wrong_side_of_the_limit_fails_however_unsure_it_is() {
    let run = ten_seconds(|_| 20_000);
    // p99 is 19.8 ms, give or take 0.04 ms.
    for (text, sure, gated, words) in [
        (
            "response:p99<19.79ms",
            Inconclusive,
            Fail,
            "not < 19.8 ms; the interval is wide",
        ),
        (
            "response:p99<19.83ms",
            Inconclusive,
            Inconclusive,
            "within the uncertainty",
        ),
        ("response:p99>19.83ms", Inconclusive, Fail, "the interval is wide"),
        ("response:p99<20ms", Pass, Pass, ""),
        ("response:p99<19ms", Fail, Fail, "not < 19 ms"),
        (
            "response:p99<19.79ms over 10s",
            Inconclusive,
            Fail,
            "the interval is wide",
        ),
    ] {
        assert_eq!(verdict(text, &run).0, sure, "{text}");
        let result = gate(&threshold(text), &run);
        assert_eq!(result.verdict, gated, "{text}: {}", result.reason);
        assert!(result.reason.contains(words), "{text}: {}", result.reason);
    }
    // While a run goes on, only what is certain ends it.
    let unsure = [threshold("response:p99<19.79ms abort")];
    assert!(aborting(&unsure, &run, Duration::from_secs(10)).is_none());
}

#[test]
fn strictness_decides_what_inconclusive_means() {
    assert!(Fail.counts_as_failure(false) && !Pass.counts_as_failure(true));
    assert!(Inconclusive.counts_as_failure(true) && !Inconclusive.counts_as_failure(false));
}
