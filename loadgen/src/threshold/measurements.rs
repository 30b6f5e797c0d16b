//! Evidence made of histograms and counters in slices of time.
//!
//! Promises: a question is answered for exactly the series that was filled in, never for a sum made up from others: fill in
//! totals as series without operation. A slice counts for the stretch in which it begins. Throughput and goodput a second are
//! what the slices of the measured time hold, over the time of these slices: work done after it is counted, but was not
//! achieved in it.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;
use reports::record::{Nanos, Operation, OutcomeKind};

use super::evidence::{Evidence, Missing, Outages, Query, Sample, Stretch, Tally};
use super::expression::{Metric, Tag};
use crate::percentiles::growing;

/// How long before a stretch a slice of it may begin.
const SLACK_MAX: Nanos = 10_000_000;

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

    pub(super) fn asked_for(query: &Query<'_>) -> Series {
        Series {
            metric: query.metric,
            operation: query.operation,
            outcome: query.outcome,
            endpoint: query.endpoint.map(str::to_owned),
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

    /// Adds latencies, and how many more there are that count as infinite.
    pub(super) fn add(&mut self, series: Series, values: &Histogram<u64>, infinite: u64) {
        let (into, beyond) = self.latencies.entry(series).or_insert_with(|| (growing(), 0));
        into.add(values)
            .expect("a histogram that grows takes every value of another");
        *beyond += infinite;
    }

    /// Whether it belongs to a stretch. The clocks of several generators are not quite the same, so that it may begin a moment
    /// before the stretch does.
    pub(super) fn begins_in(&self, within: Stretch) -> bool {
        let slack = (self.stretch.length() / 10).min(SLACK_MAX);
        (within.start..within.end).contains(&self.stretch.start.saturating_add(slack))
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
    /// Further stretches like these, of which nothing else is known, are not longer than this; zero if there are none.
    pub outages_untold: Nanos,
    /// Series that would be filled in had anything of them occurred, in the whole run and in every slice: where they are not,
    /// nothing did. Others that are not filled in are not known.
    pub told: BTreeSet<Series>,
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
            outages_untold: 0,
            told: BTreeSet::new(),
            independence: BTreeMap::new(),
        }
    }

    /// The slices that a query is about: the whole run, or those that begin in a stretch.
    fn slices_of(&self, query: &Query<'_>) -> Result<Vec<&Slice>, Missing> {
        let Some(within) = query.within else {
            return Ok(vec![&self.whole]);
        };
        if self.slices.is_empty() {
            return Err(Missing(
                "the record does not tell one stretch of the run from another".into(),
            ));
        }
        let slices = self.slices.iter();
        Ok(slices.filter(|slice| slice.begins_in(within)).collect())
    }

    /// What a slice says of a series, if it says anything.
    fn tally_in(&self, slice: &Slice, series: &Series) -> Option<(u64, u64)> {
        slice.tallies.get(series).copied().or_else(|| {
            let every_outcome = Series {
                outcome: None,
                ..series.clone()
            };
            let of = slice.tallies.get(&every_outcome).map_or(0, |(_, of)| *of);
            self.told.contains(series).then_some((0, of))
        })
    }

    /// How many of a series were achieved in how much time.
    fn achieved(&self, series: &Series, query: &Query<'_>, asked: &[&Slice]) -> (u64, Nanos) {
        let measured = self.whole.stretch;
        let sums = |slices: &[&Slice], until: Nanos| {
            let counts = slices.iter().filter_map(|slice| slice.tallies.get(series));
            let until = |slice: &&Slice| slice.stretch.end.min(until);
            let times = slices
                .iter()
                .map(|slice| until(slice).saturating_sub(slice.stretch.start));
            (counts.map(|(count, _)| *count).sum(), times.sum())
        };
        if !matches!(series.metric, Metric::Throughput | Metric::Goodput) {
            return sums(asked, measured.end);
        }
        // A slice may end a moment after the measured time, and one that lies across its end belongs to it with its larger half.
        let slack = self.slices.first().map_or(0, |first| first.stretch.length() / 2);
        let end = measured.end.saturating_add(slack);
        let slices = self
            .slices
            .iter()
            .filter(|slice| query.within.is_none_or(|within| slice.begins_in(within)));
        let told = slices.filter(|slice| slice.tallies.contains_key(series));
        let timely: Vec<&Slice> = told.filter(|slice| slice.stretch.end <= end).collect();
        if !timely.is_empty() {
            return sums(&timely, Nanos::MAX);
        }
        // When it was achieved is not known, only that it was by the end of the last slice.
        let (count, time) = sums(asked, Nanos::MAX);
        let ends = self.slices.last().map_or(0, |last| last.stretch.end);
        match query.within {
            Some(_) => (count, time),
            None => (count, time.max(ends.saturating_sub(measured.start))),
        }
    }

    /// Adds a slice to another one.
    pub(super) fn join(&mut self, into: usize, slice: &Slice) {
        let own = &self.slices[into];
        let both = own.tallies.keys().chain(slice.tallies.keys());
        let tallies = both.map(|series| {
            let (count, of) = self.tally_in(own, series).unwrap_or_default();
            let (more, more_of) = self.tally_in(slice, series).unwrap_or_default();
            (series.clone(), (count + more, of + more_of))
        });
        let tallies = tallies.collect();
        let own = &mut self.slices[into];
        own.tallies = tallies;
        own.stretch.end = slice.stretch.end;
        for (series, (values, infinite)) in &slice.latencies {
            own.add(series.clone(), values, *infinite);
        }
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

    fn tells_apart(&self, within: Stretch) -> bool {
        self.slices.is_empty() || self.slices.iter().any(|slice| slice.begins_in(within))
    }

    fn latencies(&self, query: &Query<'_>) -> Result<Sample, Missing> {
        let series = Series::asked_for(query);
        let slices = self.slices_of(query)?;
        let tells = |slice: &Slice| slice.latencies.contains_key(&series);
        if !self.told.contains(&series) && !self.slices.iter().chain([&self.whole]).any(tells) {
            return Err(missing(&series));
        }
        let found = slices.iter().filter_map(|slice| slice.latencies.get(&series));
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
        let series = Series::asked_for(query);
        let slices = self.slices_of(query)?;
        let tells = |slice: &Slice| self.tally_in(slice, &series).is_some();
        let known = match query.within {
            None => tells(&self.whole),
            // That of the whole run says nothing of a stretch.
            Some(_) => self.slices.iter().any(tells),
        };
        if !known {
            let mut missing = missing(&series);
            missing.0 += if tells(&self.whole) {
                " of one stretch of the run"
            } else {
                ""
            };
            return Err(missing);
        }
        let found = slices.iter().filter_map(|slice| self.tally_in(slice, &series));
        let (count, of) = found.fold((0, 0), |sums, part| (sums.0 + part.0, sums.1 + part.1));
        let (achieved, time) = self.achieved(&series, query, &slices);
        Ok(Tally {
            count,
            of,
            achieved,
            time,
            effective_of: of as f64 * self.independence(&series),
        })
    }

    fn outages(&self, query: &Query<'_>) -> Result<Outages, Missing> {
        let outages = self.outages.get(&query.operation).ok_or_else(|| {
            let of = query
                .operation
                .map_or_else(|| "writes".into(), |operation| operation.to_string());
            Missing(format!("the record does not tell when no {of} were acknowledged"))
        })?;
        let within = query.within.unwrap_or(self.whole.stretch);
        let inside = outages.iter().filter_map(|outage| outage.intersection(within));
        Ok(Outages {
            lengths: inside.map(Stretch::length).collect(),
            untold: self.outages_untold.min(within.length()),
        })
    }
}
