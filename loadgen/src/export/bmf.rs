//! The Bencher metric format: `{"benchmark": {"measure": {"value", "lower_value", "upper_value"}}}`
//! (<https://bencher.dev/docs/reference/bencher-metric-format>), for `bencher run --adapter json`.
//!
//! Promises: only the two measures that Bencher knows by itself, with its units: `latency` in nanoseconds and
//! `throughput` in operations a second. What the sample could not support is left out. Bounds are the 95 % confidence
//! interval of the record; without one there are none, because a percentile is no bound of a mean.

use std::collections::BTreeMap;

use reports::record::{Confidence, Load, Nanos, OperationLoad, Percentiles};
use serde::Serialize;

/// Characters of a run's name that a benchmark's name keeps; Bencher takes 1024 for the whole.
const NAME_CHARS_MAX: usize = 900;

#[derive(Debug, Default, Serialize)]
struct Benchmark {
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Metric>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throughput: Option<Metric>,
}

#[derive(Debug, Serialize)]
struct Metric {
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lower_value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upper_value: Option<f64>,
}

/// The document of a run. Benchmarks are named `<run>/<operation>` for the throughput of operations that ended ok and
/// `<run>/<operation>/<measure>/<statistic>` for latencies; `all` stands for all operations together.
pub fn render(name: &str, load: &Load) -> String {
    let name: String = name.chars().take(NAME_CHARS_MAX).collect();
    let name = if name.trim().is_empty() { "run" } else { &name };
    let seconds = span(load) as f64 / 1e9;
    let mut benchmarks = BTreeMap::new();
    let mut rate = |operation: &str, ok: u64| {
        if seconds > 0.0 {
            let throughput = Some(Metric {
                value: ok as f64 / seconds,
                lower_value: None,
                upper_value: None,
            });
            let benchmark = Benchmark {
                latency: None,
                throughput,
            };
            benchmarks.insert(format!("{name}/{operation}"), benchmark);
        }
    };
    rate("all", load.counts.ok);
    for (operation, numbers) in &load.operations {
        rate(operation.as_str(), numbers.counts.ok);
    }
    let total = load.total.iter().map(|total| ("all", total));
    let single = load
        .operations
        .iter()
        .map(|(operation, load)| (operation.as_str(), load));
    for (operation, numbers) in total.chain(single) {
        latencies(&format!("{name}/{operation}"), numbers, &mut benchmarks);
    }
    let mut text = serde_json::to_string_pretty(&benchmarks)
        .expect("a map of texts to finite numbers, of which the document consists, is JSON");
    text.push('\n');
    text
}

/// How long the intervals last together.
fn span(load: &Load) -> Nanos {
    match (load.intervals.first(), load.intervals.last()) {
        (Some(first), Some(last)) => last.end.saturating_sub(first.start),
        _ => 0,
    }
}

fn latencies(prefix: &str, load: &OperationLoad, benchmarks: &mut BTreeMap<String, Benchmark>) {
    let measures = [
        ("response", &load.response),
        ("service", &load.service),
        ("attempt", &load.attempt),
    ];
    for (measure, percentiles) in measures {
        let Some(percentiles) = percentiles else { continue };
        for (statistic, metric) in statistics(percentiles) {
            let benchmark = Benchmark {
                latency: Some(metric),
                throughput: None,
            };
            benchmarks.insert(format!("{prefix}/{measure}/{statistic}"), benchmark);
        }
    }
}

fn statistics(p: &Percentiles) -> Vec<(&'static str, Metric)> {
    let of = |pick: fn(&Confidence) -> Option<(Nanos, Nanos)>| p.confidence.as_deref().and_then(pick);
    let rows = [
        ("mean", p.mean, None),
        ("p50", p.p50.map(|ns| ns as f64), of(|c| c.p50)),
        ("p90", p.p90.map(|ns| ns as f64), of(|c| c.p90)),
        ("p99", p.p99.map(|ns| ns as f64), of(|c| c.p99)),
        ("p999", p.p999.map(|ns| ns as f64), of(|c| c.p999)),
    ];
    rows.into_iter()
        .filter_map(|(name, value, bounds)| {
            let value = value.filter(|value| value.is_finite())?;
            Some((
                name,
                Metric {
                    value,
                    lower_value: bounds.map(|(lower, _)| lower as f64),
                    upper_value: bounds.map(|(_, upper)| upper as f64),
                },
            ))
        })
        .collect()
}
