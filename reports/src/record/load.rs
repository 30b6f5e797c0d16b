//! `load.json`: what was asked for and what came back, in numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Function, Nanos};

/// The load side of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Open or closed loop.
    pub kind: LoopKind,
    /// Operations a second that the plan asked for; absent in a closed loop.
    pub rate: Option<f64>,
    /// Operations that the plan wanted to start, by the end of the run. Equals the sum of all counts.
    pub planned: u64,
    /// How every operation ended.
    pub counts: Counts,
    /// By operation.
    pub operations: BTreeMap<Function, OperationLoad>,
    /// Consecutive intervals covering the run, counted by completion time; latencies by planned start.
    pub intervals: Vec<Interval>,
    /// Whether these numbers can be trusted.
    pub verdict: LoadVerdict,
    /// Attempts beyond the first of an operation, because a node redirected.
    pub redirects: u64,
    /// Attempts beyond the first of an operation, for any other reason.
    pub retries: u64,
    /// CPU time of the generator's own process, nanoseconds.
    pub client_cpu: Option<Nanos>,
    /// Longest time without any acknowledged write, and when it began.
    pub longest_write_gap: Option<(Nanos, Nanos)>,
    /// Reads that returned a value nobody can have written there (checked against the value's own text).
    pub integrity_errors: u64,
}

/// Who decides when the next operation starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoopKind {
    /// A plan with equal gaps.
    Constant,
    /// A plan with exponential gaps.
    Poisson,
    /// The previous answer. There is no planned start, and so no response time.
    Closed,
}

/// Every operation ends in exactly one of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Happened. A compare-and-swap that found another value counts here too: the store answered.
    pub ok: u64,
    /// Did not happen, for certain.
    pub failed: u64,
    /// May have happened. Includes operations still open when the run ended.
    pub unknown: u64,
    /// Planned, but never sent, because the run ended or too much was in flight.
    pub unsent: u64,
}

impl Counts {
    /// All operations.
    pub fn total(&self) -> u64 {
        // Saturating: a damaged file must not stop a page.
        self.ok
            .saturating_add(self.failed)
            .saturating_add(self.unknown)
            .saturating_add(self.unsent)
    }
}

/// One kind of operation over the whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationLoad {
    /// How they ended.
    pub counts: Counts,
    /// From planned start to final outcome, of `ok` operations; absent in a closed loop.
    pub response: Option<Percentiles>,
    /// From first attempt to final outcome, of `ok` operations.
    pub service: Option<Percentiles>,
    /// From planned start, of all operations, where whatever is not `ok` counts as infinitely slow: a percentile
    /// that falls among those is absent. Absent altogether in a closed loop.
    pub scheduled: Option<Percentiles>,
    /// Error text and how often.
    pub errors: BTreeMap<String, u64>,
}

/// What a latency is measured from; the tags in `latency.hlog` are `<measure>.<operation>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// From the planned start.
    Response,
    /// From the first attempt.
    Service,
    /// From the planned start to the first attempt.
    Lag,
}

/// Nanoseconds at the usual percentiles. One that the sample cannot support (fewer than ten values beyond it) is
/// absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Number of values.
    pub count: u64,
    /// Smallest value.
    pub min: Option<Nanos>,
    /// Mean.
    pub mean: Option<f64>,
    /// Median.
    pub p50: Option<Nanos>,
    /// 90th percentile.
    pub p90: Option<Nanos>,
    /// 99th percentile.
    pub p99: Option<Nanos>,
    /// 99.9th percentile.
    pub p999: Option<Nanos>,
    /// Largest value.
    pub max: Option<Nanos>,
}

/// A slice of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// When it begins.
    pub start: Nanos,
    /// When it ends.
    pub end: Nanos,
    /// Operations whose planned start lies in it.
    pub planned: u64,
    /// Operations that ended in it.
    pub counts: Counts,
    /// Latency (response in an open loop, service in a closed one) of `ok` operations that were planned to start,
    /// or in a closed loop did start, in it.
    pub latency: Percentiles,
}

/// Whether a load run's numbers can be trusted, and why not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", content = "because", rename_all = "kebab-case")]
pub enum LoadVerdict {
    /// Nothing speaks against them.
    Valid,
    /// The generator, not the store, was the limit.
    GeneratorBound(String),
    /// Too few operations, or too short, to say anything.
    TooThin(String),
}
