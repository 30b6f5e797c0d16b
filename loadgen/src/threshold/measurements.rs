//! Evidence made of histograms and counters in slices of time.
//!
//! Promises: a question is answered for exactly the series that was filled in, never for a sum made up from others: fill in
//! totals as series without operation. A slice counts for the stretch in which it begins.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use reports::record::{Nanos, Operation, OutcomeKind};

use super::evidence::{Evidence, Missing, Query, Sample, Stretch, Tally};
use super::expression::{Metric, Tag};
use crate::percentiles::growing;

/// Which numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// Of what.
    pub metric: Metric,
    /// Of which operation; absent for all together.
    pub operation: Option<Operation>,
    /// Ended how; absent for what the metric says.
    pub outcome: Option<OutcomeKind>,
    /// Asked of which endpoint; absent for all together.
    pub endpoint: Option<String>,
}

impl Series {
    /// A metric of all operations, outcomes and endpoints together.
    pub fn total(metric: Metric) -> Series {
        Series {
            metric,
            operation: None,
            outcome: None,
            endpoint: None,
        }
    }

    /// A metric of one operation.
    pub fn of(metric: Metric, operation: Operation) -> Series {
        Series {
            operation: Some(operation),
            ..Series::total(metric)
        }
    }
}

impl std::fmt::Display for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.metric.as_str())?;
        let tags = [
            (Tag::Operation, self.operation.map(Operation::as_str)),
            (Tag::Outcome, self.outcome.map(OutcomeKind::as_str)),
            (Tag::Endpoint, self.endpoint.as_deref()),
        ];
        for (tag, text) in tags {
            if let Some(text) = text {
                write!(f, " {}={text}", tag.as_str())?;
            }
        }
        Ok(())
    }
}

/// What was measured in one stretch.
#[derive(Debug, Clone)]
pub struct Slice {
    /// The stretch.
    pub stretch: Stretch,
    /// Latencies in nanoseconds, and how many more there are that count as infinite.
    pub latencies: BTreeMap<Series, (Histogram<u64>, u64)>,
    /// Counts, and among how many operations.
    pub tallies: BTreeMap<Series, (u64, u64)>,
}

impl Slice {
    /// A stretch in which nothing was measured yet.
    pub fn empty(stretch: Stretch) -> Slice {
        Slice {
            stretch,
            latencies: BTreeMap::new(),
            tallies: BTreeMap::new(),
        }
    }
}

/// A whole run, as [`Evidence`].
#[derive(Debug, Clone)]
pub struct Measurements {
    /// All of the measured time.
    pub whole: Slice,
    /// The same in slices, in their order; without them, nothing can be said of phases and stretches.
    pub slices: Vec<Slice>,
    /// Named phases.
    pub phases: Vec<(String, Stretch)>,
    /// Stretches without an acknowledged operation, by operation; absent for writes of any kind. Absent altogether where
    /// they were not looked for.
    pub outages: BTreeMap<Option<Operation>, Vec<Stretch>>,
    /// How many independent values each series of `whole` is worth, as a part of its number; one where nothing is said.
    pub independence: BTreeMap<Series, f64>,
}

impl Measurements {
    /// A run of which nothing is known but its time.
    pub fn empty(measured: Stretch) -> Measurements {
        Measurements {
            whole: Slice::empty(measured),
            slices: Vec::new(),
            phases: Vec::new(),
            outages: BTreeMap::new(),
            independence: BTreeMap::new(),
        }
    }

    /// What `pick` finds in the whole run, or in the slices of a stretch.
    fn pick<'a, T>(
        &'a self,
        query: &Query<'_>,
        pick: impl Fn(&'a Slice, &Series) -> Option<&'a T>,
    ) -> Result<(Series, Vec<&'a T>), Missing> {
        let series = Series {
            metric: query.metric,
            operation: query.operation,
            outcome: query.outcome,
            endpoint: query.endpoint.map(str::to_owned),
        };
        let Some(within) = query.within else {
            let found = pick(&self.whole, &series).ok_or_else(|| missing(&series))?;
            return Ok((series, vec![found]));
        };
        if self.slices.is_empty() {
            return Err(Missing(
                "the record does not tell one stretch of the run from another".into(),
            ));
        }
        let known = self.slices.iter().any(|slice| pick(slice, &series).is_some());
        if !known && pick(&self.whole, &series).is_none() {
            return Err(missing(&series));
        }
        let slices = self
            .slices
            .iter()
            .filter(|slice| (within.start..within.end).contains(&slice.stretch.start));
        let found = slices.filter_map(|slice| pick(slice, &series)).collect();
        Ok((series, found))
    }

    fn independence(&self, series: &Series) -> f64 {
        self.independence.get(series).copied().unwrap_or(1.0)
    }
}

fn missing(series: &Series) -> Missing {
    Missing(format!("the record does not tell `{series}`"))
}

impl Evidence for Measurements {
    fn measured(&self) -> Stretch {
        self.whole.stretch
    }

    fn phases(&self) -> Vec<(String, Stretch)> {
        self.phases.clone()
    }

    fn latencies(&self, query: &Query<'_>) -> Result<Sample, Missing> {
        let (series, found) = self.pick(query, |slice, series| slice.latencies.get(series))?;
        let mut histogram = growing();
        let mut infinite = 0;
        for (part, beyond) in found {
            histogram.add(part).map_err(|error| {
                Missing(format!(
                    "the histograms of `{series}` do not fit together: {error}"
                ))
            })?;
            infinite += beyond;
        }
        let total = histogram.len() + infinite;
        Ok(Sample {
            total,
            effective_count: total as f64 * self.independence(&series),
            histogram,
            extremes: None,
        })
    }

    fn tally(&self, query: &Query<'_>) -> Result<Tally, Missing> {
        let (series, found) = self.pick(query, |slice, series| slice.tallies.get(series))?;
        let (count, of) = found
            .iter()
            .fold((0, 0), |sums, part| (sums.0 + part.0, sums.1 + part.1));
        Ok(Tally {
            count,
            of,
            time: query.within.unwrap_or(self.whole.stretch).length(),
            effective_of: of as f64 * self.independence(&series),
        })
    }

    fn outages(&self, query: &Query<'_>) -> Result<Vec<Nanos>, Missing> {
        let outages = self.outages.get(&query.operation).ok_or_else(|| {
            let of = query
                .operation
                .map_or_else(|| "writes".into(), |operation| operation.to_string());
            Missing(format!("the record does not tell when no {of} were acknowledged"))
        })?;
        let within = query.within.unwrap_or(self.whole.stretch);
        let inside = outages.iter().filter_map(|outage| outage.intersection(within));
        Ok(inside.map(Stretch::length).collect())
    }
}
