//! Holds thresholds against what was measured.
//!
//! Promises: nothing measured is a failure, unless the threshold allows it; so is a percentile with fewer than
//! [`BEYOND_MIN`] values beyond it, and a question that the record cannot answer. A limit within the 95 % interval of
//! what was measured is inconclusive; where only an exit code follows ([`gate`]), what was measured decides then, and is a
//! failure if it lies on the wrong side of the limit. Counts, rates a second, minima, maxima and outages are taken as exact
//! statements about this run and have no interval; neither has a share that is held against zero, because only the exact one
//! can be zero.

use std::time::Duration;

use reports::record::{ThresholdResult, ThresholdUnit, ThresholdVerdict};

use super::evidence::{Evidence, Missing, Outages, Query, Sample, Stretch, Tally};
use super::expression::{Aggregation, Metric, MetricKind, Percentile, Threshold};
use super::quantity::quantity;
use crate::clock::nanos;
use crate::recorder::GAP_MIN;
use crate::statistics::{Interval, mean_interval, percentile_interval_among, share_interval};

/// Values that must lie beyond a percentile for it to mean something.
pub const BEYOND_MIN: u64 = 10;

/// Stretches that `over` may cut a run into; more are refused.
pub const WINDOWS_MAX: u64 = 10_000;

/// Holds a threshold against what was measured. With `over`, or with a phase that occurs several times, each stretch is judged
/// by itself and the worst one is the result. A limit within the uncertainty is inconclusive, on whichever side of it the
/// measured value lies.
pub fn evaluate(threshold: &Threshold, evidence: &dyn Evidence) -> ThresholdResult {
    judge(threshold, evidence, false)
}

/// As [`evaluate`], for a run that will not be repeated: what was measured fails if it lies on the wrong side of the limit, also
/// within the uncertainty. Inconclusive is what holds, but not for certain.
pub fn gate(threshold: &Threshold, evidence: &dyn Evidence) -> ThresholdResult {
    judge(threshold, evidence, true)
}

fn judge(threshold: &Threshold, evidence: &dyn Evidence, wrong_side_fails: bool) -> ThresholdResult {
    let stretches = match stretches(threshold, evidence) {
        Ok(stretches) => stretches,
        Err(reason) => return result(threshold, &Reading::without_value(ThresholdVerdict::Fail, reason)),
    };
    let decided = |reading: Reading| match wrong_side_fails {
        true => reading.decided(threshold),
        false => reading,
    };
    let readings = stretches
        .iter()
        .map(|within| decided(read(threshold, evidence, *within)));
    let worst = readings.reduce(|worst, next| {
        if next.is_worse_than(&worst, threshold) {
            next
        } else {
            worst
        }
    });
    let Some(mut worst) = worst else {
        let reason = "there is nothing to look at".into();
        return result(threshold, &Reading::without_value(ThresholdVerdict::Fail, reason));
    };
    if stretches.len() > 1 {
        worst.reason = format!("{}; the worst of {} stretches", worst.reason, stretches.len());
    }
    result(threshold, &worst)
}

/// The first threshold that stops a run: one with `abort`, whose time has come, and that what was measured so far breaks for
/// certain. Too little or nothing measured never stops a run. `elapsed` is the measured time that has passed; with `over`,
/// the last stretch of that length is what counts.
pub fn aborting(
    thresholds: &[Threshold],
    evidence: &dyn Evidence,
    elapsed: Duration,
) -> Option<ThresholdResult> {
    let due = thresholds
        .iter()
        .filter(|threshold| threshold.abort.is_some_and(|abort| abort.after <= elapsed));
    due.filter_map(|threshold| {
        let within = latest(threshold, evidence)?;
        let reading = read(threshold, evidence, within);
        let broken = reading.value.is_some() && reading.verdict == ThresholdVerdict::Fail;
        broken.then(|| result(threshold, &reading))
    })
    .next()
}

/// What of the run so far an aborting threshold looks at; nothing if that has not come yet.
fn latest(threshold: &Threshold, evidence: &dyn Evidence) -> Option<Option<Stretch>> {
    let mut within = None;
    if let Some(phase) = &threshold.selector.phase {
        let begun = evidence.phases().into_iter().filter(|(name, _)| name == phase);
        let begun = begun.filter_map(|(_, stretch)| stretch.intersection(evidence.measured()));
        within = Some(begun.last()?);
    }
    match threshold.over {
        None => Some(within),
        Some(over) => {
            let all = within.unwrap_or_else(|| evidence.measured());
            let start = all
                .end
                .checked_sub(nanos(over))
                .filter(|start| *start >= all.start)?;
            Some(Some(Stretch { start, end: all.end }))
        }
    }
}

/// The stretches that a threshold is about; one without bounds is the whole run. What `over` leaves at the end is a stretch too
/// if it is at least half as long, unless a least count is asked for.
fn stretches(threshold: &Threshold, evidence: &dyn Evidence) -> Result<Vec<Option<Stretch>>, String> {
    let mut stretches = vec![None];
    if let Some(phase) = &threshold.selector.phase {
        let phases = evidence.phases();
        stretches = phases
            .iter()
            .filter(|(name, _)| name == phase)
            .map(|(_, stretch)| Some(*stretch))
            .collect();
        if stretches.is_empty() {
            return Err(named(phase, phases.iter().map(|(name, _)| name.as_str())));
        }
    }
    let Some(over) = threshold.over else {
        return Ok(stretches);
    };
    let over = nanos(over).max(1);
    // A shorter stretch cannot be asked for as many.
    let shorter_is_fair = threshold.aggregation != Aggregation::Count || threshold.comparison.wants_little();
    let mut windows = Vec::new();
    for stretch in stretches {
        let stretch = stretch.unwrap_or_else(|| evidence.measured());
        let count = stretch.length() / over;
        let rest = Stretch {
            start: stretch.start + count * over,
            end: stretch.end,
        };
        let rest = Some(rest).filter(|rest| {
            shorter_is_fair && rest.length() >= over.div_ceil(2) && evidence.tells_apart(*rest)
        });
        if count > WINDOWS_MAX - windows.len() as u64 {
            return Err(format!(
                "`over` would make more than {WINDOWS_MAX} stretches; give a longer one"
            ));
        }
        windows.extend((0..count).map(|i| {
            let start = stretch.start + i * over;
            Some(Stretch {
                start,
                end: start + over,
            })
        }));
        windows.extend(rest.map(Some));
    }
    match windows.is_empty() {
        true => Err(format!(
            "what is looked at is shorter than half of {}",
            quantity(over as f64, ThresholdUnit::Nanoseconds)
        )),
        false => Ok(windows),
    }
}

/// That there is no phase of this name, and which there are.
pub(super) fn named<'a>(phase: &str, phases: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = phases.collect();
    names.dedup();
    let names = names.join(", ");
    let names = if names.is_empty() { "none" } else { &names };
    format!("the run has no phase `{phase}`; it has {names}")
}

/// How one stretch stands.
struct Reading {
    verdict: ThresholdVerdict,
    value: Option<f64>,
    interval: Option<Interval>,
    /// What was measured, in words, where there is a value.
    measured: String,
    reason: String,
}

impl Reading {
    fn without_value(verdict: ThresholdVerdict, reason: String) -> Reading {
        Reading {
            verdict,
            value: None,
            interval: None,
            measured: String::new(),
            reason,
        }
    }

    /// What lies on the wrong side of the limit fails, however unsure it is.
    fn decided(self, threshold: &Threshold) -> Reading {
        let holds = |value| threshold.comparison.holds(value, threshold.limit.value());
        match self.value {
            Some(value) if self.verdict == ThresholdVerdict::Inconclusive && !holds(value) => {
                let limit = quantity(threshold.limit.value(), threshold.limit.measured_in());
                Reading {
                    verdict: ThresholdVerdict::Fail,
                    reason: format!(
                        "{}, which is not {} {limit}; the interval is wide enough to reach the other side, and a longer run \
                         would tell more surely",
                        self.measured, threshold.comparison
                    ),
                    ..self
                }
            }
            _ => self,
        }
    }

    fn is_worse_than(&self, other: &Reading, threshold: &Threshold) -> bool {
        let badness = |reading: &Reading| match threshold.comparison.wants_little() {
            true => reading.value.unwrap_or(f64::NEG_INFINITY),
            false => -reading.value.unwrap_or(f64::INFINITY),
        };
        (self.verdict, badness(self)) > (other.verdict, badness(other))
    }
}

/// What one stretch holds.
enum Finding {
    Value(f64, Option<Interval>),
    /// It is not known exactly, and the limit does not lie between these.
    Between(f64, f64),
    Nothing,
    TooFew {
        needed: u64,
        have: u64,
    },
}

fn read(threshold: &Threshold, evidence: &dyn Evidence, within: Option<Stretch>) -> Reading {
    let subject = format!("{} of {}", threshold.aggregation, threshold.selector);
    let place = within.map_or_else(String::new, |stretch| {
        let time = |nanos| quantity(nanos as f64, ThresholdUnit::Nanoseconds);
        format!(" between {} and {}", time(stretch.start), time(stretch.end))
    });
    match find(threshold, evidence, &Query::of(&threshold.selector, within)) {
        Err(Missing(what)) => {
            Reading::without_value(ThresholdVerdict::Fail, format!("{subject} is not known: {what}"))
        }
        Ok(Finding::Nothing) if threshold.allow_empty => Reading::without_value(
            ThresholdVerdict::Pass,
            format!("nothing was measured{place}, which is allowed"),
        ),
        Ok(Finding::Nothing) => Reading::without_value(
            ThresholdVerdict::Fail,
            format!(
                "nothing was measured{place}, so that nothing shows that it holds (`allow-empty` would let it pass)"
            ),
        ),
        Ok(Finding::TooFew { needed, have }) => Reading::without_value(
            ThresholdVerdict::Fail,
            format!("{subject} needs {needed} operations, and {have} were measured{place}"),
        ),
        Ok(Finding::Between(least, most)) => between(threshold, least, most, &format!("{subject}{place}")),
        Ok(Finding::Value(value, interval)) => {
            compare(threshold, value, interval, &format!("{subject}{place}"))
        }
    }
}

fn between(threshold: &Threshold, least: f64, most: f64, subject: &str) -> Reading {
    let (unit, limit) = (threshold.limit.measured_in(), threshold.limit.value());
    let mut reason = match most.is_infinite() {
        true => format!("{subject} was at least {}", quantity(least, unit)),
        false => format!("{subject} was at most {}", quantity(most, unit)),
    };
    let verdict = match threshold.comparison.holds(least, limit) {
        true => ThresholdVerdict::Pass,
        false => {
            reason += &format!(
                ", which is not {} {}",
                threshold.comparison,
                quantity(limit, unit)
            );
            ThresholdVerdict::Fail
        }
    };
    Reading::without_value(verdict, reason)
}

fn compare(threshold: &Threshold, value: f64, interval: Option<Interval>, subject: &str) -> Reading {
    let (unit, limit) = (threshold.limit.measured_in(), threshold.limit.value());
    let holds = |value| threshold.comparison.holds(value, limit);
    let straddles = interval.is_some_and(|interval| holds(interval.low) != holds(interval.high));
    let mut reason = match value.is_infinite() {
        true => format!("{subject} is infinite, because too many operations did not end ok"),
        false => format!("{subject} was {}", quantity(value, unit)),
    };
    if let Some(Interval { low, high }) = interval {
        reason += &format!(
            " (95 % interval {} to {})",
            quantity(low, unit),
            quantity(high, unit)
        );
    }
    let measured = reason.clone();
    let wanted = format!("{} {}", threshold.comparison, quantity(limit, unit));
    let verdict = if straddles {
        reason += &format!(": whether it is {wanted} is within the uncertainty; a longer run would tell");
        ThresholdVerdict::Inconclusive
    } else if holds(value) {
        ThresholdVerdict::Pass
    } else {
        reason += &format!(", which is not {wanted}");
        ThresholdVerdict::Fail
    };
    Reading {
        verdict,
        value: Some(value),
        interval,
        measured,
        reason,
    }
}

fn find(threshold: &Threshold, evidence: &dyn Evidence, query: &Query<'_>) -> Result<Finding, Missing> {
    Ok(match query.metric.kind() {
        MetricKind::Latency => of_latencies(threshold.aggregation, &evidence.latencies(query)?),
        MetricKind::Tally => of_tally(threshold, &evidence.tally(query)?),
        MetricKind::Outages => of_outages(threshold, &evidence.outages(query)?)?,
    })
}

/// What is known exactly, or at least on which side of the limit it lies.
fn of_outages(threshold: &Threshold, outages: &Outages) -> Result<Finding, Missing> {
    let holds = |value: f64| threshold.comparison.holds(value, threshold.limit.value());
    let longest = outages.lengths.iter().max().copied().unwrap_or(0);
    let (least, most) = match threshold.aggregation {
        Aggregation::Count => {
            let count = outages
                .lengths
                .iter()
                .filter(|length| **length >= GAP_MIN)
                .count() as f64;
            let more = outages.untold >= GAP_MIN;
            (count, if more { f64::INFINITY } else { count })
        }
        _ => (longest as f64, longest.max(outages.untold) as f64),
    };
    if least == most {
        Ok(Finding::Value(least, None))
    } else if holds(least) == holds(most) {
        Ok(Finding::Between(least, most))
    } else {
        let unit = threshold.limit.measured_in();
        let (least, most) = (quantity(least, unit), quantity(most, unit));
        Err(Missing(format!(
            "it was at least {least} and at most {most}, and the record does not tell more"
        )))
    }
}

fn of_latencies(aggregation: Aggregation, sample: &Sample) -> Finding {
    let (held, total) = (sample.histogram.len(), sample.total.max(sample.histogram.len()));
    if total == 0 {
        return Finding::Nothing;
    }
    let complete = held == total;
    let or_infinite = |value: f64| if complete { value } else { f64::INFINITY };
    let (min, max) = sample
        .extremes
        .unwrap_or((sample.histogram.min(), sample.histogram.max()));
    match aggregation {
        Aggregation::Percentile(percentile) => of_percentile(percentile, sample, total, (min, max)),
        Aggregation::Max => Finding::Value(or_infinite(max as f64), None),
        Aggregation::Min if held == 0 => Finding::Value(f64::INFINITY, None),
        Aggregation::Min => Finding::Value(min as f64, None),
        Aggregation::Mean => {
            let mean = or_infinite(sample.histogram.mean());
            let interval = mean_interval(mean, sample.histogram.stdev(), sample.effective_count);
            // Where it is not known at all how sure the mean is, nothing on either side of a limit can be excluded.
            let interval = interval.unwrap_or(Interval {
                low: 0.0,
                high: f64::INFINITY,
            });
            Finding::Value(mean, complete.then_some(interval))
        }
        // The other two are refused by the parser for latencies; a count is what remains of them.
        Aggregation::Count | Aggregation::Rate | Aggregation::Longest => Finding::Value(total as f64, None),
    }
}

fn of_percentile(percentile: Percentile, sample: &Sample, total: u64, extremes: (u64, u64)) -> Finding {
    let rank = percentile.rank(total);
    if total - rank < BEYOND_MIN {
        let needed = BEYOND_MIN as f64 / (1.0 - percentile.quantile());
        return Finding::TooFew {
            needed: needed.round() as u64,
            have: total,
        };
    }
    let held = sample.histogram.len();
    let value = if rank > held {
        f64::INFINITY
    } else {
        // The middle of the rank's step, where rounding cannot reach the next one.
        let value = sample
            .histogram
            .value_at_quantile((rank as f64 - 0.5) / held as f64);
        value.clamp(extremes.0, extremes.1) as f64
    };
    let interval = percentile_interval_among(
        &sample.histogram,
        total,
        percentile.quantile(),
        sample.effective_count,
    );
    let interval = interval.map_or(
        Interval {
            low: 0.0,
            high: f64::INFINITY,
        },
        |Interval { low, high }| Interval {
            low: low.max(0.0),
            high,
        },
    );
    Finding::Value(value, Some(interval))
}

fn of_tally(threshold: &Threshold, tally: &Tally) -> Finding {
    if tally.of == 0 && tally.count == 0 {
        return Finding::Nothing;
    }
    let count = tally.count as f64;
    match (threshold.aggregation, threshold.limit.measured_in()) {
        (Aggregation::Count, _) => Finding::Value(count, None),
        (_, ThresholdUnit::Share) => {
            let share = count / (tally.of.max(1)) as f64;
            // Only errors happen at most once to an operation, and only they are trials in the sense of the interval.
            let is_trial = threshold.selector.metric == Metric::Errors && threshold.limit.value() > 0.0;
            let worth = tally.effective_of.clamp(0.0, tally.of as f64);
            let interval = is_trial.then(|| share_interval(share * worth, worth)).flatten();
            Finding::Value(share, interval)
        }
        _ => match tally.time {
            0 => Finding::Nothing,
            time => Finding::Value(tally.achieved as f64 / (time as f64 / 1e9), None),
        },
    }
}

fn result(threshold: &Threshold, reading: &Reading) -> ThresholdResult {
    let finite = |value: f64| value.is_finite().then_some(value);
    ThresholdResult {
        expression: threshold.to_string(),
        verdict: reading.verdict,
        measured: reading.value.and_then(finite),
        interval: reading
            .interval
            .and_then(|interval| Some((finite(interval.low)?, finite(interval.high)))),
        limit: threshold.limit.value(),
        unit: threshold.limit.measured_in(),
        reason: reading.reason.clone(),
    }
}
