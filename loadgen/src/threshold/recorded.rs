//! A run's record as evidence: its numbers, and its interval log.
//!
//! Promises that the histograms are those of the log, slice by slice, so that a phase is judged by what was planned in it; a
//! slice that lies across the border of two phases belongs to the one in which it begins. What did not occur is empty or zero,
//! for every operation and outcome. Numbers that the record does not tell apart are missing, not guessed: throughput of single
//! operations within a phase, and latencies by endpoint.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;
use reports::record::{
    Counts, Interval, Load, LoopKind, Measure, Nanos, Operation, OperationLoad, OutcomeKind,
};

use super::evidence::{Query, Stretch};
use super::expression::{Metric, Tag as By, Threshold};
use super::measurements::{Measurements, Series, Slice};
use crate::export::hlog::IntervalLog;
use crate::percentiles::growing;
use crate::recorder::{GAP_MIN, GAPS_MAX, headline};
use crate::scribe::Tag;

/// What a run's `load.json` and `latency.hlog` say of the time from `measured_from` on. Times of the log are those of the
/// run's clock.
pub fn evidence(load: &Load, log: &IntervalLog, measured_from: Nanos) -> Measurements {
    gather(load, log, measured_from, &|_| true)
}

/// The same as far as these thresholds ask for it: all histograms of a long run take much memory unpacked.
pub fn evidence_for(
    thresholds: &[Threshold],
    load: &Load,
    log: &IntervalLog,
    measured_from: Nanos,
) -> Measurements {
    let selectors = thresholds.iter().map(|threshold| &threshold.selector);
    let mut wanted: BTreeSet<Series> = selectors
        .map(|selector| Series::asked_for(&Query::of(selector, None)))
        .collect();
    // What is scheduled is made from these.
    wanted.insert(Series::total(Metric::Response));
    gather(load, log, measured_from, &|series| wanted.contains(series))
}

fn gather(
    load: &Load,
    log: &IntervalLog,
    measured_from: Nanos,
    wanted: &dyn Fn(&Series) -> bool,
) -> Measurements {
    let end = load.phases.last().map(|phase| phase.end);
    let end = end
        .or(load.intervals.last().map(|slice| slice.end))
        .unwrap_or(measured_from);
    let measured = Stretch {
        start: measured_from,
        end: end.max(measured_from),
    };
    let mut evidence = Measurements::empty(measured);
    evidence.slices = load.intervals.iter().map(slice_of).collect();
    let open_loop = load.kind != LoopKind::Closed;
    evidence.told = told(open_loop);
    let mut ends = vec![Ends::new(); evidence.slices.len()];
    for entry in &log.entries {
        let Some(tag) = entry.tag.as_deref().and_then(Tag::parse) else {
            continue;
        };
        let histogram = entry.histogram();
        enter(&mut evidence.whole, tag, &histogram, wanted);
        let start = u64::try_from(entry.start).unwrap_or(0);
        if let Some(index) = nearest(&evidence.slices, start) {
            enter(&mut evidence.slices[index], tag, &histogram, wanted);
            if tag.measure == headline(open_loop) {
                *ends[index].entry((tag.operation, tag.outcome)).or_default() += histogram.len();
            }
        }
    }
    // In a closed loop nothing is planned.
    if open_loop {
        schedule(&mut evidence.whole, load.counts.total());
        for (slice, interval) in evidence.slices.iter_mut().zip(&load.intervals) {
            schedule(slice, interval.planned);
        }
    }
    for (slice, ends) in evidence.slices.iter_mut().zip(&ends) {
        count_outcomes(slice, ends);
    }
    tallies(&mut evidence.whole, load);
    let phases = load.phases.iter();
    evidence.phases = phases
        .map(|phase| {
            (
                phase.name.clone(),
                Stretch {
                    start: phase.start,
                    end: phase.end,
                },
            )
        })
        .collect();
    outages(&mut evidence, load);
    let confidence = load
        .total
        .as_ref()
        .and_then(|total| total.service.as_ref()?.confidence.as_ref());
    if let (Some(confidence), Some(total)) = (confidence, &load.total) {
        let worth = confidence.effective_count / total.counts.ok.max(1) as f64;
        let series = evidence.whole.latencies.keys();
        evidence.independence = series.map(|series| (series.clone(), worth.min(1.0))).collect();
    }
    evidence
}

/// The slice whose beginning is nearest to `start`: a log has milliseconds, and slices begin at any nanosecond, so that a
/// beginning read from a log may lie in the slice before. Slices are in their order.
fn nearest(slices: &[Slice], start: Nanos) -> Option<usize> {
    let after = slices.partition_point(|slice| slice.stretch.start <= start);
    let away = |index: usize| slices.get(index).map(|slice| slice.stretch.start.abs_diff(start));
    let before = after.checked_sub(1);
    let index = match (before, before.and_then(away), away(after)) {
        (Some(before), Some(near), Some(far)) if near < far => before,
        (Some(before), _, None) => before,
        _ => after,
    };
    (index < slices.len()).then_some(index)
}

fn slice_of(interval: &Interval) -> Slice {
    let mut slice = Slice::empty(Stretch {
        start: interval.start,
        end: interval.end,
    });
    count(&mut slice, interval.counts);
    slice
}

/// How operations ended in a slice.
pub(super) fn count(slice: &mut Slice, counts: Counts) {
    let ended = counts.total();
    for (metric, count) in [
        (Metric::Errors, ended - counts.ok),
        (Metric::Throughput, ended - counts.unsent),
        (Metric::Goodput, counts.ok),
    ] {
        slice.tallies.insert(Series::total(metric), (count, ended));
    }
}

/// Adds a histogram to every wanted series that it belongs to.
pub(super) fn enter(slice: &mut Slice, tag: Tag, values: &Histogram<u64>, wanted: &dyn Fn(&Series) -> bool) {
    let Tag {
        operation,
        outcome,
        measure,
    } = tag;
    let metric = match measure {
        Measure::Response => Metric::Response,
        Measure::Service => Metric::Service,
        Measure::Attempt => Metric::Attempt,
        Measure::Lag => Metric::Lag,
    };
    let nothing = growing();
    for operation in [None, Some(operation)] {
        let of = |metric| Series {
            operation,
            ..Series::total(metric)
        };
        let mut add = |series: Series, values: &Histogram<u64>, infinite| {
            if wanted(&series) {
                slice.add(series, values, infinite);
            }
        };
        // Lag is told of everything that was sent; the others, where no outcome is asked for, of what was answered well.
        if outcome.is_good() || measure == Measure::Lag {
            add(of(metric), values, 0);
        }
        if measure != Measure::Lag {
            let outcome = Some(outcome);
            add(
                Series {
                    outcome,
                    ..of(metric)
                },
                values,
                0,
            );
        }
        // Every operation that was planned has a response time, however it ended.
        if measure == Measure::Response {
            match outcome.is_good() {
                true => add(of(Metric::Scheduled), values, 0),
                false => add(of(Metric::Scheduled), &nothing, values.len()),
            }
        }
    }
}

/// Response times among everything that was planned, where what was not answered well counts as infinite, also if nothing was.
pub(crate) fn schedule(slice: &mut Slice, planned: u64) {
    let response = slice.latencies.get(&Series::total(Metric::Response));
    let response = response.map_or_else(growing, |(response, _)| response.clone());
    let infinite = planned.saturating_sub(response.len());
    slice
        .latencies
        .insert(Series::total(Metric::Scheduled), (response, infinite));
}

/// What the whole run counted, all operations together.
pub(crate) fn count_all(whole: &mut Slice, load: &Load) {
    let counts = load.counts;
    let ended = counts.total();
    for (metric, count) in [
        (Metric::Errors, ended - counts.ok),
        (Metric::Throughput, ended - counts.unsent),
        (Metric::Goodput, counts.ok),
        (Metric::Retries, load.retries),
        (Metric::Redirects, load.redirects),
    ] {
        whole.tallies.insert(Series::total(metric), (count, ended));
    }
}

/// How many operations ended how.
pub(super) type Ends = BTreeMap<(Operation, OutcomeKind), u64>;

/// Errors by operation and outcome, where they are not counted yet. The total of a slice is counted by the times at which
/// operations ended, these by those at which they were planned.
pub(super) fn count_outcomes(slice: &mut Slice, ends: &Ends) {
    let mut ended = BTreeMap::<Option<Operation>, u64>::new();
    for ((operation, _), count) in ends {
        *ended.entry(None).or_default() += count;
        *ended.entry(Some(*operation)).or_default() += count;
    }
    let mut sums = BTreeMap::<Series, (u64, u64)>::new();
    for ((operation, outcome), count) in ends {
        let bad = if outcome.is_good() { 0 } else { *count };
        let answered = *outcome == OutcomeKind::Integrity;
        for (operation, outcome) in [
            (None, Some(*outcome)),
            (Some(*operation), None),
            (Some(*operation), Some(*outcome)),
        ] {
            let series = Series {
                operation,
                outcome,
                ..Series::total(Metric::Errors)
            };
            let of = ended.get(&operation).copied().unwrap_or(0);
            // A value that nobody can have written was answered all the same, and is no error of its operation.
            let counts = outcome.is_some() || !answered;
            sums.entry(series).or_insert((0, of)).0 += if counts { bad } else { 0 };
        }
    }
    for (series, tally) in sums {
        slice.tallies.entry(series).or_insert(tally);
    }
}

/// What the record of any run would tell, had it occurred.
pub(super) fn told(open_loop: bool) -> BTreeSet<Series> {
    let mut told = BTreeSet::new();
    let operations = || std::iter::once(None).chain(Operation::ALL.map(Some));
    for operation in operations() {
        let mut tell = |metric, outcome| {
            told.insert(Series {
                operation,
                outcome,
                ..Series::total(metric)
            });
        };
        let planned = [Metric::Response, Metric::Scheduled, Metric::Lag];
        let metrics = [Metric::Service, Metric::Attempt, Metric::Errors];
        let metrics = metrics
            .into_iter()
            .chain(planned.into_iter().filter(|_| open_loop));
        for metric in metrics {
            tell(metric, None);
            let outcomes = OutcomeKind::ALL.into_iter();
            let apart = metric.tags().contains(&By::Outcome);
            outcomes
                .filter(|_| apart)
                .for_each(|outcome| tell(metric, Some(outcome)));
        }
    }
    told
}

fn tallies(whole: &mut Slice, load: &Load) {
    count_all(whole, load);
    let nothing = OperationLoad::default();
    for operation in Operation::ALL {
        let of_it = load.operations.get(&operation).unwrap_or(&nothing);
        let ended = of_it.counts.total();
        for (metric, count) in [
            (Metric::Errors, ended - of_it.counts.ok),
            (Metric::Throughput, ended - of_it.counts.unsent),
            (Metric::Goodput, of_it.counts.ok),
        ] {
            whole
                .tallies
                .insert(Series::of(metric, operation), (count, ended));
        }
    }
    let ends = load.operations.iter().flat_map(|(operation, of_it)| {
        let outcomes = of_it.outcomes.iter();
        outcomes.map(|(outcome, of_outcome)| ((*operation, *outcome), of_outcome.count))
    });
    count_outcomes(whole, &ends.collect());
    for endpoint in &load.endpoints {
        for (metric, count) in [
            (Metric::Errors, endpoint.attempts - endpoint.ok),
            (Metric::Throughput, endpoint.attempts),
            (Metric::Goodput, endpoint.ok),
            (Metric::Retries, endpoint.retries),
            (Metric::Redirects, endpoint.redirects),
        ] {
            let endpoint_name = Some(endpoint.endpoint.clone());
            let series = Series {
                endpoint: endpoint_name,
                ..Series::total(metric)
            };
            whole.tallies.insert(series, (count, endpoint.attempts));
        }
    }
}

/// Fills in all that are worth telling, the longest one also if it is shorter or came after too many others, and how long others
/// can be at most. Nothing where nobody looked for them.
fn outages(evidence: &mut Measurements, load: &Load) {
    let mut gaps = load.write_gaps.clone();
    let at_most = match (load.longest_write_gap, load.write_gap_at_most) {
        (Some((length, start)), _) => {
            if !gaps.contains(&(start, length)) {
                gaps.push((start, length));
            }
            length
        }
        (None, Some(at_most)) => at_most,
        (None, None) => return,
    };
    let complete = load.write_gaps.len() < GAPS_MAX;
    evidence.outages_untold = if complete {
        at_most.min(GAP_MIN - 1)
    } else {
        at_most
    };
    let stretches = gaps.into_iter().map(|(start, length)| Stretch {
        start,
        end: start + length,
    });
    evidence.outages = BTreeMap::from([(None, stretches.collect())]);
}

#[cfg(test)]
pub(super) mod tests;
