//! What is read, and what is refused and where.

use super::*;

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
