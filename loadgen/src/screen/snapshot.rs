//! What is shown of one moment: a copy that the thread that draws may keep.
//!
//! Whatever a report does not say is empty or absent here, and the screen leaves its place empty.

use std::time::Duration;

use reports::record::{Counts, Nanos, Percentiles};

use crate::run::Progress;

/// One moment of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Since the start of the load.
    pub elapsed: Duration,
    /// Of which operations will be started.
    pub total: Duration,
    /// Planned operations so far.
    pub planned: u64,
    /// How they ended.
    pub counts: Counts,
    /// Operations being executed.
    pub in_flight: u64,
    /// Arrivals waiting for a place.
    pub queued: u64,
    /// Answered operations a second since the last report.
    pub ok_per_second: f64,
    /// What the verdict would be now, in a few words.
    pub verdict: Option<String>,
    /// Latency of the last interval whose operations have all ended, of all operations.
    pub latency: Option<LatencyRow>,
    /// Each operation since the start.
    pub operations: Vec<OperationRow>,
    /// How operations ended since the start.
    pub outcomes: Vec<OutcomeRow>,
    /// How late operations start.
    pub lag: Option<LagRow>,
    /// Each endpoint since the start.
    pub endpoints: Vec<EndpointRow>,
}

/// Percentiles, nanoseconds; one that cannot be told is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LatencyRow {
    /// Median.
    pub p50: Option<Nanos>,
    /// 90th percentile.
    pub p90: Option<Nanos>,
    /// 99th percentile.
    pub p99: Option<Nanos>,
    /// 99.9th percentile.
    pub p999: Option<Nanos>,
    /// Largest.
    pub max: Option<Nanos>,
}

/// A line of the table of operations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperationRow {
    /// Its name.
    pub name: String,
    /// Those answered well.
    pub ok: u64,
    /// Their latency.
    pub latency: LatencyRow,
}

/// A line of the list of outcomes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutcomeRow {
    /// Its name.
    pub name: String,
    /// How many ended so.
    pub count: u64,
}

/// How late operations start, nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LagRow {
    /// From the planned start until it was noticed, 99th percentile.
    pub pacer_p99: Option<Nanos>,
    /// From then until there was room, 99th percentile.
    pub queue_p99: Option<Nanos>,
}

/// A line of the list of endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointRow {
    /// The node, or its address.
    pub name: String,
    /// Requests sent to it.
    pub attempts: u64,
    /// Of these, answered well.
    pub ok: u64,
}

impl From<&Percentiles> for LatencyRow {
    fn from(of: &Percentiles) -> LatencyRow {
        LatencyRow {
            p50: of.p50,
            p90: of.p90,
            p99: of.p99,
            p999: of.p999,
            max: of.max,
        }
    }
}

impl From<&Progress> for Snapshot {
    fn from(progress: &Progress) -> Snapshot {
        let counts = progress.counts;
        let outcomes = [
            ("ok", counts.ok),
            ("failed", counts.failed),
            ("unknown", counts.unknown),
            ("unsent", counts.unsent),
        ];
        Snapshot {
            elapsed: progress.elapsed,
            total: progress.total,
            planned: progress.planned,
            counts,
            in_flight: progress.in_flight as u64,
            queued: progress.queued,
            ok_per_second: progress.ok_per_second,
            latency: progress
                .interval
                .as_ref()
                .map(|interval| LatencyRow::from(&interval.latency)),
            outcomes: outcomes
                .into_iter()
                .map(|(name, count)| OutcomeRow {
                    name: name.into(),
                    count,
                })
                .collect(),
            ..Snapshot::default()
        }
    }
}
