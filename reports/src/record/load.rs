//! `load.json`: what was asked for and what came back, in numbers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Nanos, Operation, OutcomeKind, ThresholdResult};

/// The load side of a run. The default is a load in which nothing happened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    /// Open or closed loop.
    pub kind: LoopKind,
    /// Operations a second that the plan asked for; absent in a closed loop.
    pub rate: Option<f64>,
    /// Operations that the plan wanted to start, by the end of the run. Equals the sum of all counts.
    pub planned: u64,
    /// How every operation ended.
    pub counts: Counts,
    /// Of the operations that ended well, those that did so before the load was over, so without what was only answered
    /// while open operations were waited for at the end. Absent in older records.
    #[serde(default)]
    pub ok_in_time: Option<u64>,
    /// By operation.
    pub operations: BTreeMap<Operation, OperationLoad>,
    /// All operations together.
    #[serde(default)]
    pub total: Option<OperationLoad>,
    /// How late operations were started, and why; absent in a closed loop.
    #[serde(default)]
    pub lag: Option<Lag>,
    /// Consecutive intervals covering the run, counted by completion time; latencies by planned start.
    pub intervals: Vec<Interval>,
    /// Whether these numbers can be trusted.
    pub verdict: LoadVerdict,
    /// Attempts beyond the first of an operation, because a node redirected.
    pub redirects: u64,
    /// Attempts beyond the first of an operation, for any other reason.
    pub retries: u64,
    /// Requests sent, first ones, redirects and retries together.
    #[serde(default)]
    pub attempts: u64,
    /// What each endpoint was asked and answered, in the order given.
    #[serde(default)]
    pub endpoints: Vec<EndpointLoad>,
    /// What was answered in each term that the answers named, in their order.
    #[serde(default)]
    pub terms: Vec<TermLoad>,
    /// Named stretches of the plan: the stages of a staged plan, else one called `steady`.
    #[serde(default)]
    pub phases: Vec<LoadPhase>,
    /// CPU time of the generator's own process, nanoseconds.
    pub client_cpu: Option<Nanos>,
    /// Longest time without any acknowledged write, and when it began.
    pub longest_write_gap: Option<(Nanos, Nanos)>,
    /// Where the longest is not known, because several generators made the load: it was not longer than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_gap_at_most: Option<Nanos>,
    /// Stretches of at least a tenth of a second without any acknowledged write: when each began and how long it was. At
    /// most 10,000, the first ones.
    #[serde(default)]
    pub write_gaps: Vec<(Nanos, Nanos)>,
    /// How much of the longest gap the generator itself spent waiting between attempts with nothing else out: the store may
    /// have been ready earlier.
    #[serde(default)]
    pub own_backoff_in_gap: Option<Nanos>,
    /// Reads that returned a value nobody can have written there (checked against the value's own text).
    pub integrity_errors: u64,
    /// What became of the thresholds that the run was given.
    #[serde(default)]
    pub thresholds: Vec<ThresholdResult>,
}

/// Who decides when the next operation starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LoopKind {
    /// A plan with equal gaps.
    Constant,
    /// A plan with exponential gaps.
    Poisson,
    /// A plan whose rate changes in stages.
    Stages,
    /// A plan in which many start at once, again and again.
    Burst,
    /// A plan that was read from a file.
    Replay,
    /// The previous answer. There is no planned start, and so no response time.
    #[default]
    Closed,
}

/// Every operation ends in exactly one of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OperationLoad {
    /// How they ended.
    pub counts: Counts,
    /// From planned start to final outcome, of `ok` operations; absent in a closed loop.
    pub response: Option<Percentiles>,
    /// From first attempt to final outcome, of `ok` operations.
    pub service: Option<Percentiles>,
    /// Of single attempts that were answered, from the sending of each. The only latency that does not depend on the
    /// policy of retries.
    #[serde(default)]
    pub attempt: Option<Percentiles>,
    /// From planned start, of all operations, where whatever is not `ok` counts as infinitely slow: a percentile
    /// that falls among those is absent. Absent altogether in a closed loop.
    pub scheduled: Option<Percentiles>,
    /// Error text and how often.
    pub errors: BTreeMap<String, u64>,
    /// Where it consists of parts, how long each took, of `ok` operations: `read` and `write` of a read-modify-write.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, Percentiles>,
    /// Every way in which operations ended, with its latency: from the planned start, in a closed loop from the first
    /// attempt. What never left or never ended has its age.
    #[serde(default)]
    pub outcomes: BTreeMap<OutcomeKind, OutcomeLoad>,
}

/// Operations that ended in one way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeLoad {
    /// How many.
    pub count: u64,
    /// How long they took to end so.
    pub latency: Percentiles,
}

/// How late operations were started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lag {
    /// From the planned start to the first attempt, of all operations that were started.
    pub total: Percentiles,
    /// From the planned start until the generator noticed that it was due: its own fault.
    pub pacer: Percentiles,
    /// From then until there was room to send it.
    pub queue: Percentiles,
}

/// What one endpoint was asked and answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointLoad {
    /// Its address.
    pub endpoint: String,
    /// The node behind it, if it said so.
    pub node: Option<String>,
    /// Requests sent to it.
    pub attempts: u64,
    /// Of these, answered.
    pub ok: u64,
    /// Of these, those sent because another endpoint pointed to it.
    pub redirects: u64,
    /// Of these, those sent again for any other reason.
    pub retries: u64,
    /// Of these, those that it answered with a hint to another node.
    pub redirected_away: u64,
}

/// What was answered in one term.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TermLoad {
    /// Which.
    pub term: u64,
    /// Operations answered in it.
    pub ok: u64,
    /// Of the operations answered in it, those that were redirected on their way.
    pub redirected: u64,
    /// Of the operations answered in it, those that were tried again on their way.
    pub retried: u64,
    /// When its first answer came.
    pub first: Nanos,
    /// When its last answer came.
    pub last: Nanos,
}

/// A named stretch of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadPhase {
    /// Its name.
    pub name: String,
    /// When it begins.
    pub start: Nanos,
    /// When it ends.
    pub end: Nanos,
}

/// What a latency is measured from; the tags in `latency.hlog` are `<operation>.<outcome>.<measure>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// From the planned start.
    Response,
    /// From the first attempt.
    Service,
    /// From the sending of one attempt to its answer.
    Attempt,
    /// From the planned start to the first attempt.
    Lag,
}

impl Measure {
    /// The name that record, logs, thresholds and pages share.
    pub fn as_str(self) -> &'static str {
        match self {
            Measure::Response => "response",
            Measure::Service => "service",
            Measure::Attempt => "attempt",
            Measure::Lag => "lag",
        }
    }
}

/// Nanoseconds at the usual percentiles. One that the sample cannot support (fewer than ten values beyond it) is
/// absent, and so is one that is infinite; `never` tells which is which.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// 99.99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p9999: Option<Nanos>,
    /// Largest value.
    pub max: Option<Nanos>,
    /// Names of the percentiles above (such as `p99`) that are absent because they are infinite: so many operations did not
    /// end well that the percentile is certainly among those. One that is absent and not named here was refused, because
    /// there are too few values to tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never: Vec<String>,
    /// Where the percentiles of a repetition would lie, if the run was long enough to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Box<Confidence>>,
}

/// 95 % confidence intervals of percentiles, from order statistics. They count a sample of dependent values as the smaller
/// number of independent ones that it is worth. They know the noise within a run, not that between runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Confidence {
    /// Independent values that the sample is worth.
    pub effective_count: f64,
    /// Of the median.
    pub p50: Option<(Nanos, Nanos)>,
    /// Of the 90th percentile.
    pub p90: Option<(Nanos, Nanos)>,
    /// Of the 99th percentile.
    pub p99: Option<(Nanos, Nanos)>,
    /// Of the 99.9th percentile.
    pub p999: Option<(Nanos, Nanos)>,
}

/// A slice of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "is", content = "because", rename_all = "kebab-case")]
pub enum LoadVerdict {
    /// Nothing speaks against them.
    Valid,
    /// The generator, not the store, was the limit.
    GeneratorBound(String),
    /// The store took less than the plan asked for, and operations waited until others had ended. The numbers are valid as
    /// those of an overloaded store.
    Overloaded(String),
    /// The machine or the numbers themselves were too unsteady for a repetition to agree.
    Noisy(String),
    /// The load never settled: what waited grew to the end.
    Unsteady(String),
    /// Too few operations, or too short, to say anything.
    TooThin(String),
}

impl Default for LoadVerdict {
    fn default() -> LoadVerdict {
        LoadVerdict::TooThin("nothing was measured".into())
    }
}
