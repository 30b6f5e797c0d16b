//! One run at one rate, and whether the store kept up with it.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use reports::record::{Percentiles, ThresholdResult, ThresholdVerdict};
use serde::Serialize;

use crate::statistics::{median, theil_sen};
use crate::threshold::{Aggregation, BEYOND_MIN, Evidence, Query, Threshold, evaluate};

/// Part of the planned operations that must be answered within the measured time.
pub const ACHIEVED_SHARE_MIN: f64 = 0.98;

/// Growth of the backlog, as a part of the planned rate, that is still taken for the queue's own wandering.
pub const GROWTH_SHARE_MAX: f64 = 0.005;

/// Stretches that a probe's backlog is cut into. Their medians are far enough apart to be taken for independent.
const BACKLOG_STRETCHES: usize = 20;

/// Makes probes: a run against a store, or a simulation.
pub trait Prober {
    /// Why a probe could not be made.
    type Error;

    /// Runs Poisson arrivals at `rate` (operations a second): a warm-up of the prober's choice, then `length` measured, then a
    /// drain. When this resolves, nothing is in flight any more.
    fn probe(&mut self, rate: f64, length: Duration) -> impl Future<Output = Result<Probe, Self::Error>>;
}

/// What a probe measured.
#[derive(Debug)]
pub struct Probe {
    /// Operations planned within the measured time.
    pub planned: u64,
    /// Operations answered within the measured time, whenever they were planned. In a steady state both are equal.
    pub answered: u64,
    /// Planned operations that did not end ok.
    pub errors: u64,
    /// The measured time.
    pub length: Duration,
    /// Response times of operations that ended ok.
    pub latency: Percentiles,
    /// Operations that were due and had not ended: seconds since the measured time began, and how many. At least one for each
    /// twentieth of the time.
    pub backlog: Vec<(f64, f64)>,
    /// Why the generator was the limit, if it was. A store that lets operations pile up until no more may be in flight is not
    /// the generator's fault: let that show in `answered` and `backlog` instead.
    pub generator_bound: Option<String>,
    /// What thresholds are held against.
    pub evidence: Box<dyn Evidence>,
    /// Where the record of the run is, if it was kept.
    pub folder: Option<PathBuf>,
}

/// What a probe is held against.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The objective.
    pub objectives: Vec<Threshold>,
    /// Part of the planned operations that may not end ok.
    pub errors_max: f64,
}

/// How a probe stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeVerdict {
    /// The store kept up, within the objective.
    Passed,
    /// It did not.
    Failed,
    /// Only the uncertainty of what was measured speaks against it.
    Marginal,
    /// There were too few operations to hold an objective against, and nothing else speaks against it: nothing is said of the store.
    TooThin,
    /// The generator was the limit: nothing is said of the store.
    GeneratorBound,
}

/// A verdict with its reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// How the probe stands.
    pub verdict: ProbeVerdict,
    /// What speaks against it, a sentence each.
    pub reasons: Vec<String>,
    /// Each objective.
    pub objectives: Vec<ThresholdResult>,
}

/// What a probe was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// The first one, far below the guess.
    Baseline,
    /// Doubling.
    Climb,
    /// Going down, because even the first one failed.
    Descend,
    /// Halving the gap.
    Bisect,
    /// Again and longer, because the one before was marginal, too thin or the generator's fault.
    Repeat,
    /// At the baseline's rate, to see whether the store has recovered.
    Recovery,
    /// Whether the winner wins again.
    Confirm,
    /// Whether the rate above the winner fails again.
    ConfirmLimit,
    /// At nine tenths of the winner, the rate to quote as sustained.
    Sustained,
    /// A point of a sweep.
    Sweep,
}

/// A probe as the result keeps it.
#[derive(Debug, Clone, Serialize)]
pub struct ProbeRecord {
    /// What it was made for.
    pub purpose: Purpose,
    /// Operations a second asked for.
    pub rate: f64,
    /// The measured time in seconds.
    pub seconds: f64,
    /// Operations planned within it.
    pub planned: u64,
    /// Operations answered a second within it.
    pub achieved_rate: f64,
    /// Planned operations that did not end ok.
    pub errors: u64,
    /// Response times of operations that ended ok.
    pub latency: Percentiles,
    /// How it stands.
    pub verdict: ProbeVerdict,
    /// What speaks against it.
    pub reasons: Vec<String>,
    /// Each objective.
    pub objectives: Vec<ThresholdResult>,
    /// Where its record is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
}

impl ProbeRecord {
    pub(super) fn new(purpose: Purpose, rate: f64, probe: Probe, limits: &Limits) -> ProbeRecord {
        let judgement = judge(&probe, limits);
        let seconds = probe.length.as_secs_f64();
        ProbeRecord {
            purpose,
            rate,
            seconds,
            planned: probe.planned,
            achieved_rate: probe.answered as f64 / seconds,
            errors: probe.errors,
            latency: probe.latency,
            verdict: judgement.verdict,
            reasons: judgement.reasons,
            objectives: judgement.objectives,
            folder: probe.folder,
        }
    }
}

/// Whether the store kept up. A probe passes only if the generator was healthy, at least [`ACHIEVED_SHARE_MIN`] of what was planned was
/// answered in time, no more operations failed than may, the backlog did not grow, and every objective holds with its whole
/// 95 % interval.
pub fn judge(probe: &Probe, limits: &Limits) -> Judgement {
    let objectives: Vec<ThresholdResult> = limits
        .objectives
        .iter()
        .map(|objective| evaluate(objective, probe.evidence.as_ref()))
        .collect();
    if let Some(reason) = &probe.generator_bound {
        return Judgement {
            verdict: ProbeVerdict::GeneratorBound,
            reasons: vec![reason.clone()],
            objectives,
        };
    }
    if probe.planned == 0 {
        return Judgement {
            verdict: ProbeVerdict::TooThin,
            reasons: vec![
                "nothing was planned in the measured time: the rate is too low for its length".into(),
            ],
            objectives,
        };
    }
    let mut reasons = Vec::new();
    reasons.extend(not_achieved(probe));
    reasons.extend(too_many_errors(probe, limits.errors_max));
    reasons.extend(growing_backlog(probe));
    let mut thin = Vec::new();
    for (objective, result) in limits.objectives.iter().zip(&objectives) {
        match result.verdict {
            ThresholdVerdict::Fail if is_thin(objective, result, probe) => thin.push(result.reason.clone()),
            ThresholdVerdict::Fail => reasons.push(result.reason.clone()),
            // What may as well have been never says nothing.
            ThresholdVerdict::Inconclusive if is_boundless(objective, result) => {
                thin.push(result.reason.clone());
            }
            ThresholdVerdict::Pass | ThresholdVerdict::Inconclusive => {}
        }
    }
    let verdict = if !reasons.is_empty() {
        ProbeVerdict::Failed
    } else if !thin.is_empty() {
        reasons = thin;
        ProbeVerdict::TooThin
    } else {
        let unsure = objectives
            .iter()
            .filter(|result| result.verdict == ThresholdVerdict::Inconclusive);
        reasons.extend(unsure.map(|result| result.reason.clone()));
        match reasons.is_empty() {
            true => ProbeVerdict::Passed,
            false => ProbeVerdict::Marginal,
        }
    };
    Judgement {
        verdict,
        reasons,
        objectives,
    }
}

/// Operations without which an objective cannot be judged, if it is about a percentile.
pub(super) fn needed(objective: &Threshold) -> Option<u64> {
    match objective.aggregation {
        Aggregation::Percentile(percentile) => {
            Some((BEYOND_MIN as f64 / (1.0 - percentile.quantile())).round() as u64)
        }
        _ => None,
    }
}

/// Whether an objective that does not hold only lacks operations to be held against.
fn is_thin(objective: &Threshold, result: &ThresholdResult, probe: &Probe) -> bool {
    let Some(needed) = needed(objective).filter(|_| result.measured.is_none()) else {
        return false;
    };
    let query = Query {
        metric: objective.selector.metric,
        operation: objective.selector.operation,
        outcome: objective.selector.outcome,
        endpoint: objective.selector.endpoint.as_deref(),
        within: None,
    };
    let Ok(sample) = probe.evidence.latencies(&query) else {
        return false;
    };
    // With `over`, each stretch has its part of them.
    let part = objective.over.map_or(1.0, |over| {
        (over.as_secs_f64() / probe.length.as_secs_f64().max(1e-9)).min(1.0)
    });
    let have = sample.total.max(sample.histogram.len()) as f64 * part;
    have < needed as f64
}

/// Whether a percentile was measured, and so few values lie beyond it that its interval has no upper end.
fn is_boundless(objective: &Threshold, result: &ThresholdResult) -> bool {
    needed(objective).is_some() && result.measured.is_some() && result.interval.is_none()
}

fn not_achieved(probe: &Probe) -> Option<String> {
    let share = probe.answered as f64 / probe.planned.max(1) as f64;
    (share < ACHIEVED_SHARE_MIN).then(|| {
        format!(
            "{:.1} % of the {} planned operations were answered in time, and {:.0} % must be",
            share * 100.0,
            probe.planned,
            ACHIEVED_SHARE_MIN * 100.0
        )
    })
}

fn too_many_errors(probe: &Probe, errors_max: f64) -> Option<String> {
    let share = probe.errors as f64 / probe.planned.max(1) as f64;
    (share > errors_max).then(|| {
        format!(
            "{} of {} operations ({:.3} %) did not end ok, and at most {:.3} % may",
            probe.errors,
            probe.planned,
            share * 100.0,
            errors_max * 100.0
        )
    })
}

fn growing_backlog(probe: &Probe) -> Option<String> {
    let growth = backlog_growth(&probe.backlog)?;
    let rate = probe.planned as f64 / probe.length.as_secs_f64().max(1e-9);
    (growth > GROWTH_SHARE_MAX * rate).then(|| format!("the backlog grew by {growth:.0} operations a second"))
}

/// Operations a second by which a backlog surely grew: the slope of Theil and Sen through the medians of twenty stretches, if its 95 %
/// interval lies above zero. Points are (seconds, operations).
pub fn backlog_growth(points: &[(f64, f64)]) -> Option<f64> {
    let stretch = points.len().div_ceil(BACKLOG_STRETCHES).max(1);
    let medians: Option<Vec<(f64, f64)>> = points
        .chunks(stretch)
        .map(|points| {
            let of = |pick: fn(&(f64, f64)) -> f64| median(&points.iter().map(pick).collect::<Vec<f64>>());
            Some((of(|point| point.0)?, of(|point| point.1)?))
        })
        .collect();
    let slope = theil_sen(&medians?)?;
    (slope.interval?.low > 0.0).then_some(slope.estimate)
}
