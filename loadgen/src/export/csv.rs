//! Comma-separated values (RFC 4180): one table of intervals, one of totals.
//!
//! Promises: a header line names every column and its unit; what is not known is an empty field; a field that could be
//! taken for more than one is quoted. Lines end in a line feed alone, which every reader takes.

use reports::record::{Interval, Load, LoopKind, Measure, Nanos, OperationLoad, Percentiles};

/// Columns of percentiles, in nanoseconds.
const PERCENTILES: &str = "count,min_ns,mean_ns,p50_ns,p90_ns,p99_ns,p999_ns,p9999_ns,max_ns";

/// One row for each interval of a run: when, how operations ended in it, and the latency of those planned in it.
pub fn intervals(intervals: &[Interval]) -> String {
    let mut text = format!("start_s,end_s,planned,ok,failed,unknown,unsent,{PERCENTILES}\n");
    for interval in intervals {
        let counts = interval.counts;
        text += &format!(
            "{},{},{},{},{},{},{},{}\n",
            seconds(interval.start),
            seconds(interval.end),
            interval.planned,
            counts.ok,
            counts.failed,
            counts.unknown,
            counts.unsent,
            percentiles(&interval.latency)
        );
    }
    text
}

/// One row for each operation, outcome and measure of a run; `all` stands for all operations together.
///
/// The outcome is a detailed one (`ok`, `not_found`, `timeout_client`…), or `good` for the three good answers together,
/// which the headline percentiles are of, or `planned` for everything planned, where whatever did not end well counts
/// as infinitely slow (its percentiles are empty if they fall among those).
pub fn totals(load: &Load) -> String {
    let mut text = format!("operation,outcome,measure,{PERCENTILES}\n");
    if let Some(total) = &load.total {
        text += &operation("all", total, load.kind);
    }
    for (name, totals) in &load.operations {
        text += &operation(name.as_str(), totals, load.kind);
    }
    text
}

fn operation(name: &str, load: &OperationLoad, kind: LoopKind) -> String {
    let headline = headline(kind).as_str();
    let whole = [
        ("good", Measure::Response.as_str(), &load.response),
        ("good", Measure::Service.as_str(), &load.service),
        ("good", Measure::Attempt.as_str(), &load.attempt),
        ("planned", Measure::Response.as_str(), &load.scheduled),
    ];
    let whole = whole
        .into_iter()
        .filter_map(|(outcome, measure, values)| values.as_ref().map(|values| (outcome, measure, values)));
    let detailed = load
        .outcomes
        .iter()
        .map(|(outcome, load)| (outcome.as_str(), headline, &load.latency));
    whole
        .chain(detailed)
        .map(|(outcome, measure, values)| {
            format!("{},{outcome},{measure},{}\n", field(name), percentiles(values))
        })
        .collect()
}

/// What the latencies of outcomes and intervals are measured from.
pub(super) fn headline(kind: LoopKind) -> Measure {
    match kind {
        LoopKind::Closed => Measure::Service,
        _ => Measure::Response,
    }
}

fn percentiles(p: &Percentiles) -> String {
    let or_empty = |value: Option<Nanos>| value.map(|value| value.to_string()).unwrap_or_default();
    let mean = p.mean.map(|mean| format!("{mean:.1}")).unwrap_or_default();
    [
        p.count.to_string(),
        or_empty(p.min),
        mean,
        or_empty(p.p50),
        or_empty(p.p90),
        or_empty(p.p99),
        or_empty(p.p999),
        or_empty(p.p9999),
        or_empty(p.max),
    ]
    .join(",")
}

/// Exact, with all nine decimals.
fn seconds(ns: Nanos) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

/// Quotes a text that would otherwise end its field or its line.
pub fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
