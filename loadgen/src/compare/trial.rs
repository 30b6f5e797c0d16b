//! What one run says, reduced to one number for each metric.

use std::collections::BTreeMap;
use std::fmt;

use reports::record::{
    Interval, Load, LoadVerdict, Measure, Nanos, OperationLoad, Percentiles, ProcessRole, Resources, Run,
};
use serde::Serialize;
use thiserror::Error;

/// What is compared. Times are in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub enum Metric {
    /// Operations answered ok within the measured time, a second of it. What was answered afterwards, in the drain, does not count.
    Throughput,
    /// A percentile, in thousandths, of the latency of all ok operations.
    Latency(Measure, u16),
    /// CPU time that the generator's process used for each answered operation.
    ClientCpu,
    /// CPU time that all nodes together used for each answered operation, where they run on this machine.
    ServerCpu,
}

impl Metric {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Metric; 9] = [
        Metric::Throughput,
        Metric::Latency(Measure::Response, 500),
        Metric::Latency(Measure::Response, 990),
        Metric::Latency(Measure::Response, 999),
        Metric::Latency(Measure::Service, 500),
        Metric::Latency(Measure::Service, 990),
        Metric::Latency(Measure::Service, 999),
        Metric::ClientCpu,
        Metric::ServerCpu,
    ];

    /// Whether large numbers are the good ones.
    pub fn wants_much(self) -> bool {
        self == Metric::Throughput
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Metric::Throughput => f.pad("throughput"),
            Metric::ClientCpu => f.pad("client CPU per operation"),
            Metric::ServerCpu => f.pad("server CPU per operation"),
            Metric::Latency(measure, thousandths) => {
                let percentile = f64::from(*thousandths) / 10.0;
                f.pad(&format!("{} p{percentile}", measure.as_str()))
            }
        }
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> String {
        metric.to_string()
    }
}

/// One run, as a comparison sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trial {
    /// What the run is called in messages, for example its folder.
    pub label: String,
    /// One number for each metric that the run can support.
    pub metrics: BTreeMap<Metric, f64>,
    /// 95 % intervals within the run, where it is long enough for one. They do not see the noise between runs.
    pub within_run: BTreeMap<Metric, (f64, f64)>,
    /// What speaks against the run's numbers, a sentence each.
    pub warnings: Vec<String>,
    /// Those of the warnings that forbid to conclude anything about the target.
    pub doubts: Vec<Doubt>,
}

/// Why a run says nothing about its target. The text names the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// The generator was the limit.
    GeneratorBound(String),
    /// It never settled, was too short, or too much of it failed.
    Invalid(String),
    /// The target returned values that nobody can have written.
    Damaged(String),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Doubt::GeneratorBound(reason) | Doubt::Invalid(reason) | Doubt::Damaged(reason)) = self;
        f.write_str(reason)
    }
}

/// A run without numbers to compare.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{label} holds no load numbers (load.json): only finished load runs can be compared")]
pub struct TrialError {
    label: String,
}

/// Part of the operations that may have failed without a warning: failing fast improves the latency of the rest.
const FAILED_SHARE_MAX: f64 = 0.001;

impl Trial {
    /// Takes the numbers from a record.
    pub fn of(label: &str, run: &Run) -> Result<Trial, TrialError> {
        let load = run.load.as_ref().ok_or_else(|| TrialError {
            label: label.to_owned(),
        })?;
        let doubts = doubts(label, load);
        let mut trial = Trial {
            label: label.to_owned(),
            warnings: warnings(label, load, &doubts),
            doubts,
            ..Trial::default()
        };
        trial
            .metrics
            .extend(throughput(load).map(|rate| (Metric::Throughput, rate)));
        if let Some(cpu) = load.client_cpu.filter(|_| load.counts.ok > 0) {
            trial
                .metrics
                .insert(Metric::ClientCpu, cpu as f64 / load.counts.ok as f64);
        }
        match all_operations(load) {
            Some(total) => {
                trial.take(Measure::Response, total.response.as_ref());
                trial.take(Measure::Service, total.service.as_ref());
            }
            None => trial.warnings.push(format!(
                "{label} does not tell the latency of all its operations together, so that only throughput and CPU are compared"
            )),
        }
        Ok(trial)
    }

    /// Adds what the nodes used, as far as it was seen.
    pub fn with_resources(mut self, resources: Option<&Resources>) -> Trial {
        let servers = resources.and_then(|resources| resources.cpu_us_per_ok(ProcessRole::Server));
        self.metrics
            .extend(servers.map(|cpu_us| (Metric::ServerCpu, cpu_us * 1e3)));
        self
    }

    fn take(&mut self, measure: Measure, percentiles: Option<&Percentiles>) {
        let Some(percentiles) = percentiles else { return };
        let interval = |pick: fn(&reports::record::Confidence) -> Option<(Nanos, Nanos)>| {
            percentiles.confidence.as_deref().and_then(pick)
        };
        for (thousandths, value, interval) in [
            (500, percentiles.p50, interval(|confidence| confidence.p50)),
            (990, percentiles.p99, interval(|confidence| confidence.p99)),
            (999, percentiles.p999, interval(|confidence| confidence.p999)),
        ] {
            let metric = Metric::Latency(measure, thousandths);
            if let Some(value) = value {
                self.metrics.insert(metric, value as f64);
            }
            if let Some((low, high)) = interval {
                self.within_run.insert(metric, (low as f64, high as f64));
            }
        }
    }
}

/// The operations of a load together; for older records only where there is a single kind.
fn all_operations(load: &Load) -> Option<&OperationLoad> {
    let mut operations = load.operations.values();
    match (&load.total, operations.next(), operations.next()) {
        (Some(total), _, _) => Some(total),
        (None, Some(only), None) => Some(only),
        _ => None,
    }
}

/// Operations answered ok a second, over the intervals that end within the measured time; for records without intervals, all that
/// were answered over the planned time.
fn throughput(load: &Load) -> Option<f64> {
    let start = load.phases.first().map(|phase| phase.start);
    let end = load.phases.iter().map(|phase| phase.end).max();
    let measured = start.zip(end);
    let within = |interval: &&Interval| {
        // An interval may end a moment after the plan does.
        let slack = interval.end.saturating_sub(interval.start) / 10;
        measured.is_none_or(|(start, end)| interval.start + slack >= start && interval.end <= end + slack)
    };
    let within: Vec<&Interval> = load.intervals.iter().filter(within).collect();
    let (ok, time) = match (within.first(), within.last(), measured) {
        (Some(first), Some(last), _) => (
            within.iter().map(|interval| interval.counts.ok).sum(),
            last.end.saturating_sub(first.start),
        ),
        (_, _, Some((start, end))) => (load.counts.ok, end.saturating_sub(start)),
        _ => return None,
    };
    (time > 0).then(|| ok as f64 / (time as f64 / 1e9))
}

fn warnings(label: &str, load: &Load, doubts: &[Doubt]) -> Vec<String> {
    // Neither forbids a conclusion: the first is a finding, and what the second does shows between trials.
    let told = match &load.verdict {
        LoadVerdict::Overloaded(because) => Some(format!("{label} was overloaded: {because}")),
        LoadVerdict::Noisy(because) => Some(format!("{label} was noisy: {because}")),
        _ => None,
    };
    told.into_iter()
        .chain(doubts.iter().map(Doubt::to_string))
        .collect()
}

fn doubts(label: &str, load: &Load) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    match &load.verdict {
        LoadVerdict::Valid | LoadVerdict::Overloaded(_) | LoadVerdict::Noisy(_) => {}
        LoadVerdict::GeneratorBound(because) => doubts.push(Doubt::GeneratorBound(format!(
            "{label} was limited by the generator: {because}"
        ))),
        LoadVerdict::Unsteady(because) => {
            doubts.push(Doubt::Invalid(format!("{label} never settled: {because}")));
        }
        LoadVerdict::TooThin(because) => {
            doubts.push(Doubt::Invalid(format!("{label} is too thin: {because}")));
        }
    }
    let bad = load.counts.total() - load.counts.ok;
    if bad as f64 > load.counts.total() as f64 * FAILED_SHARE_MAX {
        doubts.push(Doubt::Invalid(format!(
            "{label}: {bad} of {} operations did not end ok, and latencies are those of the others",
            load.counts.total()
        )));
    }
    if load.integrity_errors > 0 {
        doubts.push(Doubt::Damaged(format!(
            "{label} returned {} damaged values",
            load.integrity_errors
        )));
    }
    doubts
}
