//! Prometheus text exposition format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>): for node_exporter's textfile collector, and for a
//! `/metrics` page while a run goes on ([`serve`]).
//!
//! Promises: every family has its HELP and TYPE and its samples in one block; units are seconds and operations; label
//! values are escaped, label names checked; what is not known has no sample. Names begin with `whitewater_` and are
//! not changed for a given meaning.

mod labels;
mod progress;
mod server;

use hdrhistogram::Histogram;
use reports::record::{Load, LoadVerdict, Nanos, OperationLoad};

pub use labels::{LabelError, Labels, RESERVED};
pub use progress::render_progress;
pub use server::{CONNECTIONS_MAX, HEAD_BYTES_MAX, REQUEST_TIME_MAX, listen_address, serve};

use super::hlog::IntervalLog;

/// Upper bounds of the buckets: 50 µs to 1 min, three to a decade.
const BOUNDS: [Nanos; 19] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// A histogram and what it is of.
#[derive(Debug, Clone)]
pub struct Series {
    /// The operation; `all` for all together.
    pub operation: String,
    /// How the operations ended; empty if the tag did not say.
    pub outcome: String,
    /// What the latency is measured from; empty if the tag did not say.
    pub measure: String,
    /// Latencies in nanoseconds.
    pub histogram: Histogram<u64>,
}

impl Series {
    /// The series of a log, each added up over the run, by their tags `<operation>.<outcome>.<measure>`. The headline,
    /// which has no tag, is left out: it is the sum of others. A tag of another form stands as the operation.
    pub fn of(log: &IntervalLog) -> Vec<Series> {
        let tags = log.tags();
        tags.into_iter()
            .flatten()
            .filter_map(|tag| {
                let (operation, outcome, measure) = match tag.split('.').collect::<Vec<_>>()[..] {
                    [operation, outcome, measure] => (operation, outcome, measure),
                    _ => (tag, "", ""),
                };
                Some(Series {
                    operation: operation.to_owned(),
                    outcome: outcome.to_owned(),
                    measure: measure.to_owned(),
                    histogram: log.total(Some(tag))?,
                })
            })
            .collect()
    }
}

/// The page of a load, whole or so far. `labels` are put on every sample; `histograms` may be empty.
pub fn render(load: &Load, labels: &Labels, histograms: &[Series]) -> String {
    let mut page = Page {
        labels,
        text: String::new(),
    };
    operations(load, &mut page);
    generator(load, &mut page);
    endpoints(load, &mut page);
    percentiles(load, &mut page);
    buckets(histograms, &mut page);
    page.text
}

struct Page<'a> {
    labels: &'a Labels,
    text: String,
}

impl Page<'_> {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.text += &format!(
            "# HELP {name} {}\n# TYPE {name} {kind}\n",
            labels::escape_help(help)
        );
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text += &format!("{name}{} {value}\n", self.labels.with(labels));
    }

    fn count(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.text += &format!("{name}{} {value}\n", self.labels.with(labels));
    }

    /// A family of one sample.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

fn operations(load: &Load, page: &mut Page<'_>) {
    page.family(
        "whitewater_operations_total",
        "counter",
        "Operations by what came of them: ok, failed, unknown or unsent.",
    );
    for (operation, numbers) in &load.operations {
        let counts = numbers.counts;
        for (result, count) in [
            ("ok", counts.ok),
            ("failed", counts.failed),
            ("unknown", counts.unknown),
            ("unsent", counts.unsent),
        ] {
            let labels = [("operation", operation.as_str()), ("result", result)];
            page.count("whitewater_operations_total", &labels, count);
        }
    }
    if load
        .operations
        .values()
        .any(|numbers| !numbers.outcomes.is_empty())
    {
        page.family(
            "whitewater_outcomes_total",
            "counter",
            "Operations by how they ended, in detail.",
        );
        for (operation, numbers) in &load.operations {
            for (outcome, ended) in &numbers.outcomes {
                let labels = [("operation", operation.as_str()), ("outcome", outcome.as_str())];
                page.count("whitewater_outcomes_total", &labels, ended.count);
            }
        }
    }
}

fn generator(load: &Load, page: &mut Page<'_>) {
    let counters = [
        (
            "whitewater_planned_operations_total",
            "Operations that the plan wanted to start.",
            load.planned,
        ),
        (
            "whitewater_attempts_total",
            "Requests sent: first ones, redirects and retries.",
            load.attempts,
        ),
        (
            "whitewater_redirects_total",
            "Requests sent again because a node redirected.",
            load.redirects,
        ),
        (
            "whitewater_retries_total",
            "Requests sent again for any other reason.",
            load.retries,
        ),
        (
            "whitewater_integrity_errors_total",
            "Reads that returned a value nobody can have written there.",
            load.integrity_errors,
        ),
    ];
    for (name, help, value) in counters {
        if name == "whitewater_attempts_total" && load.attempts < load.counts.ok {
            // Records of older tools did not count them.
            continue;
        }
        page.family(name, "counter", help);
        page.count(name, &[], value);
    }
    if let Some(cpu) = load.client_cpu {
        let help = "CPU time of the load generator.";
        page.single(
            "whitewater_client_cpu_seconds_total",
            "counter",
            help,
            seconds(cpu),
        );
    }
    if let Some(rate) = load.rate {
        let help = "Operations a second that the plan asks for.";
        page.single("whitewater_offered_operations_per_second", "gauge", help, rate);
    }
    if let Some((length, _)) = load.longest_write_gap {
        let help = "Longest time without any acknowledged write.";
        page.single(
            "whitewater_longest_write_gap_seconds",
            "gauge",
            help,
            seconds(length),
        );
    }
    let valid = f64::from(u8::from(load.verdict == LoadVerdict::Valid));
    let help = "1 if nothing speaks against these numbers, else 0.";
    page.single("whitewater_valid", "gauge", help, valid);
}

fn endpoints(load: &Load, page: &mut Page<'_>) {
    if load.endpoints.is_empty() {
        return;
    }
    page.family(
        "whitewater_endpoint_attempts_total",
        "counter",
        "Requests sent to each endpoint.",
    );
    for one in &load.endpoints {
        let node = one.node.as_deref().unwrap_or_default();
        let labels = [("endpoint", one.endpoint.as_str()), ("node", node)];
        page.count("whitewater_endpoint_attempts_total", &labels, one.attempts);
    }
    page.family(
        "whitewater_endpoint_answers_total",
        "counter",
        "Requests that each endpoint answered.",
    );
    for one in &load.endpoints {
        let node = one.node.as_deref().unwrap_or_default();
        let labels = [("endpoint", one.endpoint.as_str()), ("node", node)];
        page.count("whitewater_endpoint_answers_total", &labels, one.ok);
    }
}

fn percentiles(load: &Load, page: &mut Page<'_>) {
    const NAME: &str = "whitewater_latency_percentile_seconds";
    page.family(
        NAME,
        "gauge",
        "Latency of operations that ended ok, as the record has it; a percentile that the sample cannot support has no sample.",
    );
    let total = load.total.iter().map(|total| ("all", total));
    let single = load
        .operations
        .iter()
        .map(|(operation, load)| (operation.as_str(), load));
    for (operation, numbers) in total.chain(single) {
        for (measure, quantile, value) in quantiles(numbers) {
            let labels = [
                ("operation", operation),
                ("measure", measure),
                ("quantile", quantile),
            ];
            page.sample(NAME, &labels, seconds(value));
        }
    }
}

fn quantiles(load: &OperationLoad) -> Vec<(&'static str, &'static str, Nanos)> {
    let measures = [
        ("response", &load.response),
        ("service", &load.service),
        ("attempt", &load.attempt),
    ];
    let mut found = Vec::new();
    for (measure, percentiles) in measures {
        let Some(p) = percentiles else { continue };
        for (quantile, value) in [
            ("0.5", p.p50),
            ("0.9", p.p90),
            ("0.99", p.p99),
            ("0.999", p.p999),
            ("0.9999", p.p9999),
            ("1", p.max),
        ] {
            found.extend(value.map(|value| (measure, quantile, value)));
        }
    }
    found
}

fn buckets(histograms: &[Series], page: &mut Page<'_>) {
    if histograms.is_empty() {
        return;
    }
    page.family(
        "whitewater_latency_seconds",
        "histogram",
        "Latency by operation, outcome and measure. A value counts below a bound if the step of the histogram that it fell into begins at or below it (three digits).",
    );
    for series in histograms {
        let labels = [
            ("operation", series.operation.as_str()),
            ("outcome", series.outcome.as_str()),
            ("measure", series.measure.as_str()),
        ];
        let (below, sum) = cumulative(&series.histogram);
        for (bound, count) in BOUNDS.iter().zip(below) {
            let bound = seconds(*bound).to_string();
            let labels = [labels[0], labels[1], labels[2], ("le", bound.as_str())];
            page.count("whitewater_latency_seconds_bucket", &labels, count);
        }
        let count = series.histogram.len();
        let infinite = [labels[0], labels[1], labels[2], ("le", "+Inf")];
        page.count("whitewater_latency_seconds_bucket", &infinite, count);
        page.sample("whitewater_latency_seconds_sum", &labels, sum / 1e9);
        page.count("whitewater_latency_seconds_count", &labels, count);
    }
}

/// How many values are at or below each bound, and the sum of all in nanoseconds, each taken as the middle of its step.
fn cumulative(histogram: &Histogram<u64>) -> ([u64; BOUNDS.len()], f64) {
    let mut below = [0_u64; BOUNDS.len()];
    let mut sum = 0.0;
    for step in histogram.iter_recorded() {
        let (value, count) = (step.value_iterated_to(), step.count_at_value());
        sum += histogram.median_equivalent(value) as f64 * count as f64;
        let lowest = histogram.lowest_equivalent(value);
        for (bound, below) in BOUNDS.iter().zip(&mut below) {
            if lowest <= *bound {
                *below = below.saturating_add(count);
            }
        }
    }
    (below, sum)
}

fn seconds(ns: Nanos) -> f64 {
    ns as f64 / 1e9
}
