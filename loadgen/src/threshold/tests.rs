//! What is read, what is refused and where, and how runs stand against what was read.

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

#[test]
fn what_is_written_canonically_prints_back_the_same() {
    for text in [
        "response:p99<20ms",
        "response{op=put,phase=after}:p99<20ms",
        "service{op=get,outcome=cas_conflict,phase=stage-2,endpoint=10.0.0.1:50051}:p99.99<=1.5s",
        "attempt:p50<500us",
        "lag:p99<1ms",
        "scheduled:p99<50ms",
        "response:p0.5>=1us allow-empty",
        "response:max<1s",
        "response:mean<5ms over 10s",
        "response:min>0us",
        "response:count>=1000",
        "unavailable:longest<3s",
        "unavailable{op=get}:count<=2",
        "errors{phase=stage-2}:rate<0.1%",
        "errors{outcome=timeout_client}:count<10",
        "errors:rate<=0%",
        "errors:rate<5/s",
        "throughput:mean>900/s",
        "goodput{op=put}:rate>=12.5/s",
        "retries:count<10",
        "redirects{endpoint=localhost:50051}:rate<1%",
        "response:p99<20ms over 1m30s abort after 5s allow-empty",
        "errors:rate<50% abort",
    ] {
        assert_eq!(threshold(text).to_string(), text);
    }
}

#[test]
fn other_spellings_mean_the_same() {
    for (text, canonical) in [
        ("  response : p99 < 20 ms ", "response:p99<20ms"),
        (
            "response{phase=after, op=put}:p99<20ms",
            "response{op=put,phase=after}:p99<20ms",
        ),
        ("response:p99.90<20ms", "response:p99.9<20ms"),
        ("response:p99<20µs", "response:p99<20us"),
        ("throughput:mean>20k/s", "throughput:mean>20000/s"),
        ("retries:count<1.5m", "retries:count<1500000"),
        ("retries:count<10 abort", "retries:count<10 abort"),
        (
            "retries:count<10 allow-empty over 60s",
            "retries:count<10 over 1m allow-empty",
        ),
        (
            "response{phase=after the kill}:max<020.0ms",
            "response{phase=after the kill}:max<20ms",
        ),
    ] {
        assert_eq!(threshold(text).to_string(), canonical);
        assert_eq!(threshold(canonical), threshold(text));
    }
    let with_default =
        |text| Threshold::parse_with_default(text, Metric::Response).map(|threshold| threshold.to_string());
    assert_eq!(with_default("p99<20ms"), Ok("response:p99<20ms".into()));
    assert_eq!(with_default("service:p99<20ms"), Ok("service:p99<20ms".into()));
    assert!(with_default("errors<3").is_err_and(|error| error.message.contains("no aggregation `errors`")));
}

/// Expression, the marked part, and words of the message.
#[test]
fn refusals_mark_the_place_and_say_what_would_be_right() {
    for (text, marked, words) in [
        ("", "", "a metric: response"),
        (":p99<20ms", ":", "expected a metric"),
        (
            "latency:p99<20ms",
            "latency",
            "no metric `latency`: use response, service",
        ),
        ("response", "", "a colon"),
        ("response p99<20ms", "p", "a colon"),
        ("response{:p99<20ms", "{", "never closed"),
        ("response{}:p99<20ms", "}", "expected a tag"),
        ("response{op=put{}:p99<20ms", "{", "`}` or a comma"),
        ("response{op}:p99<20ms", "}", "`=` and which op"),
        ("response{op=}:p99<20ms", "", "say which op"),
        (
            "response{op=read}:p99<20ms",
            "read",
            "no operation `read`: use get, put",
        ),
        ("response{outcome=bad}:p99<20ms", "bad", "no outcome `bad`"),
        ("errors{outcome=ok}:count<1", "ok", "no error `ok`"),
        ("response{op=put,op=get}:p99<20ms", "op", "given twice"),
        ("response{op=put:p99<20ms", "{", "never closed"),
        (
            "lag{endpoint=a:1}:p99<20ms",
            "endpoint",
            "`lag` is not told apart by `endpoint`, only by op and phase",
        ),
        ("response{zone=a}:p99<20ms", "zone", "no tag `zone`"),
        ("response:<20ms", "<", "an aggregation: p50, p99"),
        ("response:avg<20ms", "avg", "no aggregation `avg`"),
        ("response:p<20ms", "p", "no aggregation `p`"),
        ("response:p99.99999<20ms", "p99.99999", "no aggregation"),
        ("response:p100<20ms", "p100", "`max`"),
        ("response:p0<20ms", "p0", "`min`"),
        ("response:rate<1%", "rate", "`response` has no `rate`"),
        (
            "errors:p99<20ms",
            "p99",
            "`errors` has no `p99`, only rate and count",
        ),
        ("unavailable:max<3s", "max", "only longest and count"),
        ("response:p99", "", "a comparison is missing"),
        ("response:p99==20ms", "==", "no comparison `==`"),
        ("response:p99=<20ms", "=<", "no comparison `=<`"),
        ("response:p99<", "", "a number is needed"),
        ("response:p99<fast", "fast", "a number is needed"),
        ("response:p99<-1ms", "-1", "a number is needed"),
        ("response:p99<1.2.3ms", "1.2.3", "a number is needed"),
        ("response:p99<.5ms", ".5", "a number is needed"),
        (
            "response:p99<20",
            "20",
            "no unit: it is a time, such as 500us, 20ms or 3s",
        ),
        ("response:p99<20 over 5s", "20", "no unit"),
        ("response:p99<20min", "min", "not a unit of `response:p99`"),
        ("response:p99<20%", "%", "a time"),
        ("unavailable:longest<1m", "m", "a time"),
        (
            "errors:rate<0.1",
            "0.1",
            "no unit: it is a share of the operations",
        ),
        ("errors:count<5%", "%", "a number without a unit"),
        ("throughput:mean>900", "900", "900/s"),
        ("response:p99<20ms overall", "overall", "what follows a limit"),
        ("response:p99<20ms over", "", "`over` needs a duration"),
        ("response:p99<20ms over 10", "10", "`over` needs a duration"),
        ("response:p99<20ms over 0s", "0s", "above zero"),
        (
            "response:p99<20ms abort after soon",
            "soon",
            "`after` needs a duration",
        ),
        ("response:p99<20ms abort abort", "abort", "given twice"),
        (
            "response:p99<20ms allow-empty allow-empty",
            "allow-empty",
            "given twice",
        ),
    ] {
        let error = text.parse::<Threshold>().expect_err(text);
        assert_eq!(
            &error.expression[error.start..error.end],
            marked,
            "{text}: {error}"
        );
        assert!(error.message.contains(words), "{text}: {error}");
    }
    let nines = "9".repeat(400);
    assert!(
        format!("retries:count<{nines}")
            .parse::<Threshold>()
            .is_err_and(|e| e.message.contains("too large"))
    );
    assert!(
        "x".repeat(600)
            .parse::<Threshold>()
            .is_err_and(|e| e.message.contains("500 bytes"))
    );
    assert!(
        "response:\u{1b}[2J"
            .parse::<Threshold>()
            .is_err_and(|e| !e.to_string().contains('\u{1b}'))
    );
}

#[test]
fn the_caret_stands_under_the_character_also_after_wide_ones() {
    let error = "response{phase=größer}:p99<20x".parse::<Threshold>().unwrap_err();
    let lines: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines[1], "  response{phase=größer}:p99<20x");
    assert_eq!(lines[2].chars().count(), lines[1].chars().count());
    assert!(lines[2].ends_with(" ^"));
}

#[test]
fn no_text_makes_the_parser_panic() {
    let seed: u64 = std::env::var("WHITEWATER_SEED").map_or(7, |text| text.parse().unwrap());
    println!("WHITEWATER_SEED={seed}");
    let pieces = [
        "response",
        "errors",
        "{",
        "}",
        "op",
        "=",
        "put",
        ",",
        ":",
        "p99",
        "<",
        "20",
        "ms",
        "%",
        " ",
        "over",
        "abort",
        "after",
        "é",
        "\u{0}",
        "µ",
        ".",
        "/s",
        "allow-empty",
        "unavailable",
        "longest",
        "10s",
        "-",
        "phase",
        "🦀",
    ];
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut accepted = 0;
    for _ in 0..20_000 {
        let text: String = (0..next() % 12).map(|_| pieces[next() % pieces.len()]).collect();
        match text.parse::<Threshold>() {
            Ok(threshold) => {
                accepted += 1;
                assert_eq!(threshold.to_string().parse::<Threshold>(), Ok(threshold));
            }
            Err(error) => assert!(error.to_string().lines().count() == 3, "{error}"),
        }
    }
    println!("{accepted} accepted");
}

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
            ("response:p50<21ms over 1m", Fail, "shorter than"),
            ("response:p50<21ms over 1us", Fail, "more than 10000 stretches"),
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
fn strictness_decides_what_inconclusive_means() {
    assert!(Fail.counts_as_failure(false) && !Pass.counts_as_failure(true));
    assert!(Inconclusive.counts_as_failure(true) && !Inconclusive.counts_as_failure(false));
}
