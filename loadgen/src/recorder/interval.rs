//! One slice of the run while operations planned in it are still open.

use reports::record::{Counts, Interval, Measure, Nanos, Operation, OutcomeKind};

use super::{Class, Ended};
use crate::percentiles::Latencies;
use crate::scribe::{IntervalHistograms, Tag};

pub(crate) const MEASURES: [Measure; 4] = [
    Measure::Response,
    Measure::Service,
    Measure::Attempt,
    Measure::Lag,
];
const SERIES: usize = Operation::ALL.len() * OutcomeKind::ALL.len() * MEASURES.len();

/// Latencies by operation, outcome and measure; a series takes memory when it gets its first value.
#[derive(Debug)]
pub(super) struct SeriesTable(Vec<Option<Box<Latencies>>>);

impl Default for SeriesTable {
    fn default() -> Self {
        SeriesTable((0..SERIES).map(|_| None).collect())
    }
}

impl SeriesTable {
    /// Adds a value.
    pub(super) fn record(&mut self, tag: Tag, value: Nanos) {
        self.0[index(tag)].get_or_insert_default().record(value);
    }

    /// All series that have values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Tag, &Latencies)> {
        let all = self.0.iter().enumerate();
        all.filter_map(|(number, series)| Some((tag(number), series.as_deref()?)))
    }

    /// Adds all values of `other`.
    pub(super) fn absorb(&mut self, other: &SeriesTable) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            if let Some(theirs) = theirs {
                mine.get_or_insert_default().absorb(theirs);
            }
        }
    }

    /// Adds all values to one series.
    pub(super) fn absorb_one(&mut self, tag: Tag, values: &Latencies) {
        self.0[index(tag)].get_or_insert_default().absorb(values);
    }

    fn into_histograms(self) -> Vec<(Tag, hdrhistogram::Histogram<u64>)> {
        let filled = self.0.into_iter().enumerate();
        filled
            .filter_map(|(number, series)| Some((tag(number), series?.into_histogram())))
            .collect()
    }
}

fn index(tag: Tag) -> usize {
    (tag.operation as usize * OutcomeKind::ALL.len() + tag.outcome as usize) * MEASURES.len()
        + tag.measure as usize
}

fn tag(index: usize) -> Tag {
    Tag {
        operation: Operation::ALL[index / MEASURES.len() / OutcomeKind::ALL.len()],
        outcome: OutcomeKind::ALL[index / MEASURES.len() % OutcomeKind::ALL.len()],
        measure: MEASURES[index % MEASURES.len()],
    }
}

/// A slice of the run.
#[derive(Debug, Default)]
pub(super) struct OpenInterval {
    /// Operations planned in it.
    pub(super) planned: u64,
    /// Of those, how many have ended.
    ended: u64,
    /// Operations that ended in it, whenever they were planned.
    pub(super) counts: Counts,
    /// Of the good ones planned in it, all operations together.
    pub(super) headline: Latencies,
    pub(super) series: SeriesTable,
}

impl OpenInterval {
    /// An operation planned in it ended, after `latency` by the headline's measure.
    pub(super) fn ended(&mut self, ended: &Ended, open_loop: bool, latency: Nanos) {
        self.ended += 1;
        if ended.outcome.is_good() {
            self.headline.record(latency);
        }
        record_all(&mut self.series, ended, open_loop);
    }

    /// Whether all operations planned in it have ended.
    pub(super) fn is_complete(&self) -> bool {
        self.ended >= self.planned
    }

    /// What the interval log keeps of it; nothing if nothing ended.
    pub(super) fn into_histograms(self, start: Nanos, length: Nanos) -> Option<IntervalHistograms> {
        let tagged = self.series.into_histograms();
        (!tagged.is_empty()).then(|| IntervalHistograms {
            start,
            length,
            all: self.headline.into_histogram(),
            tagged,
        })
    }
}

/// Enters every latency of an operation.
pub(super) fn record_all(series: &mut SeriesTable, ended: &Ended, open_loop: bool) {
    let tag = |measure| Tag {
        operation: ended.operation,
        outcome: ended.outcome,
        measure,
    };
    let unsent = ended.class == Class::Unsent;
    if open_loop {
        series.record(tag(Measure::Response), ended.done.saturating_sub(ended.planned));
        if !unsent {
            series.record(tag(Measure::Lag), ended.first.saturating_sub(ended.planned));
        }
    }
    if !unsent {
        series.record(tag(Measure::Service), ended.done.saturating_sub(ended.first));
    }
    if let Some(attempt) = ended.answered_after {
        series.record(tag(Measure::Attempt), attempt);
    }
    for (outcome, attempt) in &ended.refused {
        let refused = Tag {
            outcome: *outcome,
            ..tag(Measure::Attempt)
        };
        series.record(refused, *attempt);
    }
}

/// A last interval shorter than half of the others, in which nothing was planned, would show as a spike: its few late
/// answers belong to the one before.
pub(super) fn merge_short_tail(intervals: &mut Vec<Interval>, interval_ns: Nanos) {
    let short = |last: &Interval| last.planned == 0 && last.end.saturating_sub(last.start) < interval_ns / 2;
    if intervals.len() < 2 || !intervals.last().is_some_and(short) {
        return;
    }
    if let (Some(tail), Some(last)) = (intervals.pop(), intervals.last_mut()) {
        last.end = tail.end;
        last.counts.ok += tail.counts.ok;
        last.counts.failed += tail.counts.failed;
        last.counts.unknown += tail.counts.unknown;
        last.counts.unsent += tail.counts.unsent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_a_place_of_its_own() {
        for number in 0..SERIES {
            assert_eq!(index(tag(number)), number);
        }
        for (number, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, number);
        }
        for (number, outcome) in OutcomeKind::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number);
        }
    }
}
