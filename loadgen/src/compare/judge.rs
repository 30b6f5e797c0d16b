//! The comparison itself: numbers in, verdicts out.

use std::collections::BTreeMap;

use serde::Serialize;

use super::trial::{Metric, Trial};
use crate::statistics::{Interval, holm, mann_whitney, median, ratio, smallest_p};

/// Probability of seeing any change where there is none that a comparison accepts, over all metrics together.
pub const ALPHA: f64 = 0.05;

/// Changes up to this part are not worth a verdict, however sure (as in criterion and rlt).
pub const NOISE: f64 = 0.01;

/// Trials a side beyond which nobody need go to have enough.
const TRIALS_ENOUGH: usize = 20;

/// What became of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Better, surely, and by more than noise.
    Improved,
    /// Worse, surely, and by more than noise.
    Regressed,
    /// No change that is both sure and worth telling. The interval of the ratio says how much may have been missed.
    Unchanged,
    /// Too few trials for any change to be sure.
    Undecided,
}

/// What became of all metrics together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComparisonVerdict {
    /// Some metrics improved, none regressed.
    Improved,
    /// Some metrics regressed, none improved.
    Regressed,
    /// None did either.
    Unchanged,
    /// Some improved and some regressed.
    Mixed,
    /// Too few trials to tell.
    Undecided,
    /// The two sides were not made under the same conditions, or have no metric in common.
    NotComparable,
}

impl ComparisonVerdict {
    /// Whether something got worse.
    pub fn is_regression(self) -> bool {
        matches!(self, ComparisonVerdict::Regressed | ComparisonVerdict::Mixed)
    }
}

/// One metric on both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricComparison {
    /// Which.
    pub metric: Metric,
    /// Median of the first side's trials.
    pub base: f64,
    /// Median of the second side's trials.
    pub new: f64,
    /// How many times as large the second side's numbers are (Hodges and Lehmann); of the medians where some run answered nothing.
    pub ratio: f64,
    /// 95 % interval of the ratio; absent where there are too few trials for one, and where some run answered nothing.
    pub interval: Option<Interval>,
    /// Of Mann and Whitney, two-sided.
    pub p: f64,
    /// The same after Holm's correction over all metrics compared.
    pub p_adjusted: f64,
    /// What became of it.
    pub change: Change,
}

/// Both sides compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What became of all metrics together.
    pub verdict: ComparisonVerdict,
    /// Each metric that all trials have.
    pub metrics: Vec<MetricComparison>,
    /// Trials of the first and of the second side.
    pub trials: (usize, usize),
    /// What a reader has to know, a sentence each.
    pub notes: Vec<String>,
}

/// Compares two sides. A change must exceed the part `noise` to count. That both were made under the same conditions is the
/// caller's to ensure ([`super::differences`]).
pub fn compare(base: &[Trial], new: &[Trial], noise: f64) -> Comparison {
    let mut notes: Vec<String> = base
        .iter()
        .chain(new)
        .flat_map(|trial| trial.warnings.clone())
        .collect();
    let (dead_base, dead_new) = (is_dead(base), is_dead(new));
    for (dead, side) in [(dead_base, "first"), (dead_new, "second")] {
        if dead {
            notes.push(format!("no run of the {side} side answered a single operation"));
        }
    }
    // Then there is nothing to be unsure of.
    let certain = dead_base != dead_new;
    let mut metrics: Vec<MetricComparison> = Vec::new();
    for metric in Metric::ALL {
        match values(metric, base).zip(values(metric, new)) {
            Some(_) if dead_base && dead_new => {}
            Some((old, now)) => metrics.extend(one(metric, &old, &now)),
            None => notes.extend(left_out(metric, base, new)),
        }
    }
    let adjusted = holm(&metrics.iter().map(|metric| metric.p).collect::<Vec<f64>>());
    // What complete separation would be worth after the correction: if that is not enough, nothing is.
    let decidable = smallest_p(base.len(), new.len()) * metrics.len() as f64 <= ALPHA;
    for (metric, p_adjusted) in metrics.iter_mut().zip(adjusted) {
        metric.p_adjusted = p_adjusted;
        metric.change = match decidable || certain {
            true => change(metric, noise, certain),
            false => Change::Undecided,
        };
    }
    if !decidable && !certain && !metrics.is_empty() {
        notes.push(too_few(base, new, metrics.len()));
    }
    Comparison {
        verdict: overall(&metrics),
        metrics,
        trials: (base.len(), new.len()),
        notes,
    }
}

/// Trials a side with which a change in one of so many metrics can be significant.
pub fn trials_needed(metrics: usize) -> usize {
    let enough = |trials: &usize| smallest_p(*trials, *trials) * metrics as f64 <= ALPHA;
    (2..TRIALS_ENOUGH).find(enough).unwrap_or(TRIALS_ENOUGH)
}

/// Whether nothing at all was answered.
fn is_dead(trials: &[Trial]) -> bool {
    !trials.is_empty() && trials.iter().all(answered_nothing)
}

fn answered_nothing(trial: &Trial) -> bool {
    trial.metrics.get(&Metric::Throughput) == Some(&0.0)
}

/// The metric in all trials, if all have it and it can be compared. Where nothing was answered, the throughput is zero and latency
/// is infinite: both are the worst there is, not missing.
pub(super) fn values(metric: Metric, trials: &[Trial]) -> Option<Vec<f64>> {
    let usable = |value: &f64| (*value > 0.0 || metric == Metric::Throughput) && value.is_finite();
    let value = |trial: &Trial| match (metric, trial.metrics.get(&metric)) {
        (Metric::Latency(..), None) if answered_nothing(trial) => Some(f64::INFINITY),
        (_, value) => value.copied().filter(usable),
    };
    let values: Option<Vec<f64>> = trials.iter().map(value).collect();
    values.filter(|values| !values.is_empty())
}

fn one(metric: Metric, base: &[f64], new: &[f64]) -> Option<MetricComparison> {
    let p = mann_whitney(base, new)?.p;
    let (old, now) = (median(base)?, median(new)?);
    let shift = ratio(base, new);
    Some(MetricComparison {
        metric,
        base: old,
        new: now,
        // Where zero or never is among the values, only ranks and medians mean something.
        ratio: match &shift {
            Some(shift) => shift.estimate,
            None if old == now => 1.0,
            None => now / old,
        },
        interval: shift.and_then(|shift| shift.interval),
        p,
        p_adjusted: p,
        change: Change::Undecided,
    })
}

fn change(metric: &MetricComparison, noise: f64, certain: bool) -> Change {
    let larger = metric.ratio > 1.0 + noise;
    // The reciprocal, so that both directions are the same distance on the scale of ratios.
    let smaller = metric.ratio < 1.0 / (1.0 + noise);
    match (
        (certain || metric.p_adjusted <= ALPHA) && (larger || smaller),
        larger == metric.metric.wants_much(),
    ) {
        (false, _) => Change::Unchanged,
        (true, true) => Change::Improved,
        (true, false) => Change::Regressed,
    }
}

fn overall(metrics: &[MetricComparison]) -> ComparisonVerdict {
    let any = |change| metrics.iter().any(|metric| metric.change == change);
    match (any(Change::Improved), any(Change::Regressed)) {
        _ if metrics.is_empty() => ComparisonVerdict::NotComparable,
        _ if any(Change::Undecided) => ComparisonVerdict::Undecided,
        (true, true) => ComparisonVerdict::Mixed,
        (true, false) => ComparisonVerdict::Improved,
        (false, true) => ComparisonVerdict::Regressed,
        (false, false) => ComparisonVerdict::Unchanged,
    }
}

/// Why a metric that some trials have is not compared.
fn left_out(metric: Metric, base: &[Trial], new: &[Trial]) -> Option<String> {
    let has = |trial: &&Trial| trial.metrics.contains_key(&metric);
    let with = base.iter().chain(new).filter(has).count();
    let all = base.len() + new.len();
    (with > 0).then(|| match with == all {
        true => format!("{metric} is zero in some runs and is left out"),
        false => format!("{metric} is known in {with} of {all} runs and is left out"),
    })
}

fn too_few(base: &[Trial], new: &[Trial], metrics: usize) -> String {
    let needed = trials_needed(metrics);
    match (base, new) {
        ([base], [new]) => {
            let common = |(metric, a): (&Metric, &(f64, f64))| {
                let b = new.within_run.get(metric)?;
                (a.1 < b.0 || b.1 < a.0).then(|| metric.to_string())
            };
            let within: &BTreeMap<Metric, (f64, f64)> = &base.within_run;
            let apart: Vec<String> = within.iter().filter_map(common).collect();
            let apart = match apart.is_empty() {
                true => String::new(),
                false => format!(" (within the runs, {} differ)", apart.join(", ")),
            };
            format!(
                "within-run only: cannot see run-to-run noise{apart}; with {metrics} metrics, {needed} runs a side can decide"
            )
        }
        _ => format!(
            "{} and {} runs cannot decide anything over {metrics} metrics, however different they are: {needed} a side can",
            base.len(),
            new.len()
        ),
    }
}
