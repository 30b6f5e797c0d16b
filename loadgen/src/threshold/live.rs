//! What a run has measured so far, as evidence for thresholds that may end it.
//!
//! Promises: what comes is added once, and only to the series that the thresholds ask for, so that looking costs the same early
//! and late in a run. Slices that no threshold will ask for apart are added up. Knows of what was planned in slices whose
//! operations have all ended, and nothing of later ones. Never knows of outages, retries, redirects and endpoints.

use std::collections::BTreeSet;

use hdrhistogram::Histogram;
use reports::record::{Counts, Interval, Nanos};

use super::evidence::{Query, Stretch};
use super::expression::Threshold;
use super::measurements::{Measurements, Series, Slice};
use super::recorded::{Ends, count, count_outcomes, enter, told};
use crate::clock::nanos;
use crate::recorder::headline;
use crate::scribe::Tag;

/// A run that goes on.
#[derive(Debug)]
pub(crate) struct SoFar {
    evidence: Measurements,
    open_loop: bool,
    wanted: BTreeSet<Series>,
    /// The longest stretch that is asked for.
    window: Nanos,
    /// Named phases, since the beginning of the load.
    plan: Vec<(String, Nanos, Nanos)>,
    warmup: Nanos,
    counts: Counts,
    ends: Ends,
    /// Where the last slice begins of which there are histograms.
    heard: Nanos,
    /// Slices before this one are kept as they are.
    settled: usize,
    fresh: bool,
}

impl SoFar {
    /// For these thresholds, in a run with these phases: names, beginnings and ends since the beginning of the load, of which the
    /// measured time begins after `warmup`.
    pub(crate) fn new(
        thresholds: &[Threshold],
        open_loop: bool,
        plan: Vec<(String, Nanos, Nanos)>,
        warmup: Nanos,
    ) -> SoFar {
        let mut evidence = Measurements::empty(Stretch { start: 0, end: 0 });
        evidence.told = told(open_loop);
        let selectors = thresholds.iter().map(|threshold| &threshold.selector);
        let wanted = selectors.map(|selector| Series::asked_for(&Query::of(selector, None)));
        SoFar {
            evidence,
            open_loop,
            wanted: wanted.collect(),
            window: thresholds
                .iter()
                .filter_map(|threshold| threshold.over)
                .map(nanos)
                .max()
                .unwrap_or(0),
            plan,
            warmup,
            counts: Counts::default(),
            ends: Ends::new(),
            heard: 0,
            settled: 0,
            fresh: false,
        }
    }

    /// The histograms of a slice whose operations have all ended. Slices come in their order.
    pub(crate) fn histograms(&mut self, slice: Stretch, tagged: &[(Tag, Histogram<u64>)]) {
        let index = self.slice_at(slice);
        let wanted = |series: &Series| self.wanted.contains(series);
        let mut ends = Ends::new();
        for (tag, histogram) in tagged {
            enter(&mut self.evidence.whole, *tag, histogram, &wanted);
            enter(&mut self.evidence.slices[index], *tag, histogram, &wanted);
            if tag.measure == headline(self.open_loop) {
                *ends.entry((tag.operation, tag.outcome)).or_default() += histogram.len();
            }
        }
        count_outcomes(&mut self.evidence.slices[index], &ends);
        for (end, count) in ends {
            *self.ends.entry(end).or_default() += count;
        }
        self.heard = self.heard.max(slice.start);
        self.count_whole();
    }

    /// How operations ended in slices that are over. Slices come in their order.
    pub(crate) fn intervals(&mut self, closed: &[Interval]) {
        for interval in closed {
            let stretch = Stretch {
                start: interval.start,
                end: interval.end,
            };
            if self.evidence.phases.is_empty() {
                self.begin(interval.start);
            }
            let index = self.slice_at(stretch);
            count(&mut self.evidence.slices[index], interval.counts);
            self.counts.ok += interval.counts.ok;
            self.counts.failed += interval.counts.failed;
            self.counts.unknown += interval.counts.unknown;
            self.counts.unsent += interval.counts.unsent;
            self.evidence.whole.stretch.end = interval.end;
        }
        if !closed.is_empty() {
            self.count_whole();
        }
    }

    /// What thresholds are held against, if anything has come since this was last asked.
    pub(crate) fn news(&mut self) -> Option<&Measurements> {
        self.settle();
        std::mem::take(&mut self.fresh).then_some(&self.evidence)
    }

    fn begin(&mut self, measured_from: Nanos) {
        self.evidence.whole.stretch = Stretch {
            start: measured_from,
            end: measured_from,
        };
        let begins = measured_from.saturating_sub(self.warmup);
        let phases = self.plan.iter().map(|(name, start, end)| {
            let stretch = Stretch {
                start: (begins + start).max(measured_from),
                end: begins + end,
            };
            (name.clone(), stretch)
        });
        self.evidence.phases = phases.filter(|(_, stretch)| stretch.length() > 0).collect();
    }

    fn count_whole(&mut self) {
        self.fresh = true;
        let whole = &mut self.evidence.whole;
        whole.tallies.clear();
        count(whole, self.counts);
        count_outcomes(whole, &self.ends);
    }

    /// The place of a slice, whoever tells of it first.
    fn slice_at(&mut self, stretch: Stretch) -> usize {
        let slices = &mut self.evidence.slices;
        let index = slices.partition_point(|slice| slice.stretch.start < stretch.start);
        if slices
            .get(index)
            .is_none_or(|slice| slice.stretch.start != stretch.start)
        {
            slices.insert(index, Slice::empty(stretch));
        }
        index
    }

    /// Adds up slices that lie too far back for `over`, those of each phase by themselves. The last ones of a phase stay: a
    /// stretch at its end is still asked for when it is over.
    fn settle(&mut self) {
        while let Some(slice) = self.evidence.slices.get(self.settled) {
            let Stretch { start, end } = slice.stretch;
            let known = start < self.heard && end <= self.evidence.whole.stretch.end;
            if !known || end.saturating_add(self.window) > self.evidence.whole.stretch.end {
                return;
            }
            let phase = self.phase_of(self.settled);
            let ends = phase.map_or(Nanos::MAX, |phase| self.evidence.phases[phase].1.end);
            let joins = self.settled > 0
                && end.saturating_add(self.window) <= ends
                && self.phase_of(self.settled - 1) == phase;
            if joins {
                let slice = self.evidence.slices.remove(self.settled);
                self.evidence.join(self.settled - 1, &slice);
            } else {
                self.settled += 1;
            }
        }
    }

    fn phase_of(&self, slice: usize) -> Option<usize> {
        let slice = &self.evidence.slices[slice];
        let mut phases = self.evidence.phases.iter();
        phases.position(|(_, stretch)| slice.begins_in(*stretch))
    }
}

#[cfg(test)]
mod tests;
