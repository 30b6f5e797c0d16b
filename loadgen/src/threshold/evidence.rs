//! What a threshold is held against.
//!
//! Implement [`Evidence`] for whatever knows what was measured; [`super::Measurements`] does it for histograms and counters
//! in slices of time.

use std::fmt;

use hdrhistogram::Histogram;
use reports::record::{Nanos, Operation, OutcomeKind};

use super::expression::{Metric, Selector};

/// What was measured, by metric, operation, outcome, endpoint and stretch of time.
pub trait Evidence: fmt::Debug {
    /// The measured time: from the end of the warm-up to the end of the plan, or to now while the run goes on.
    fn measured(&self) -> Stretch;

    /// The named phases that there are, in their order. A name may occur several times.
    fn phases(&self) -> Vec<(String, Stretch)>;

    /// Whether a stretch that is shorter than others has anything of its own, or all of it is told with its neighbours.
    fn tells_apart(&self, _within: Stretch) -> bool {
        true
    }

    /// The latencies of a metric whose kind is [`super::MetricKind::Latency`]. No operation fits: an empty sample.
    fn latencies(&self, query: &Query<'_>) -> Result<Sample, Missing>;

    /// The count of a metric whose kind is [`super::MetricKind::Tally`].
    fn tally(&self, query: &Query<'_>) -> Result<Tally, Missing>;

    /// The stretches without an acknowledged write (with [`Query::operation`], without an acknowledged one of
    /// those), as far as they lie within the query.
    fn outages(&self, query: &Query<'_>) -> Result<Outages, Missing>;
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// The metric.
    pub metric: Metric,
    /// Only of this operation; else of all together.
    pub operation: Option<Operation>,
    /// Only of what ended so; else what the metric says.
    pub outcome: Option<OutcomeKind>,
    /// Only of what this endpoint was asked; else of all.
    pub endpoint: Option<&'a str>,
    /// Only of what was planned to start in this stretch; else of the whole measured time.
    pub within: Option<Stretch>,
}

impl<'a> Query<'a> {
    pub(super) fn of(selector: &'a Selector, within: Option<Stretch>) -> Query<'a> {
        Query {
            metric: selector.metric,
            operation: selector.operation,
            outcome: selector.outcome,
            endpoint: selector.endpoint.as_deref(),
            within,
        }
    }
}

/// A stretch of time on the run's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Where it begins.
    pub start: Nanos,
    /// Where it ends; not part of it.
    pub end: Nanos,
}

impl Stretch {
    /// Its length; zero if it ends before it begins.
    pub fn length(self) -> Nanos {
        self.end.saturating_sub(self.start)
    }

    /// What both have in common; nothing if that has no length.
    pub fn intersection(self, other: Stretch) -> Option<Stretch> {
        let common = Stretch {
            start: self.start.max(other.start),
            end: self.end.min(other.end),
        };
        (common.length() > 0).then_some(common)
    }
}

/// Latencies.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Those that are finite, in nanoseconds.
    pub histogram: Histogram<u64>,
    /// All, including those that count as infinite because the operation did not end ok; not below what the histogram holds.
    pub total: u64,
    /// Independent values that all of them are worth; see [`crate::statistics::EffectiveSize`].
    pub effective_count: f64,
    /// The exact smallest and largest finite one, if known. The histogram knows them to a thousandth.
    pub extremes: Option<(Nanos, Nanos)>,
}

/// A count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Among how many operations.
    pub of: u64,
    /// How many in `time`: what came after the measured time counts, but was not achieved in it.
    pub achieved: u64,
    /// In how much time.
    pub time: Nanos,
    /// Independent operations that `of` is worth, for the interval of a share; errors that come in bursts are worth less
    /// than their number.
    pub effective_of: f64,
}

/// Stretches without an acknowledged operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outages {
    /// How long each was. Those shorter than a tenth of a second do not count as outages.
    pub lengths: Vec<Nanos>,
    /// Further ones are not longer than this; zero if there are none.
    pub untold: Nanos,
}

/// Why there is no answer: a sentence that says what the record does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing(pub String);
