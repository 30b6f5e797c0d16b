//! Latency over rate: probes at given rates in shuffled order, repeated, and where the curve bends.
//!
//! The order is shuffled within each repetition (as rpc-perf does), so that a store that slows down while it fills up, or a
//! machine that warms up, blurs the curve instead of bending it.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Serialize;

use super::algorithm::Step;
use super::probe::{Limits, ProbeRecord, ProbeVerdict, Prober, Purpose};
use crate::statistics::median;

/// Rates of a sweep, at most.
pub const RATES_MAX: usize = 1000;

/// All repetitions of one rate.
#[derive(Debug, Clone, Serialize)]
pub struct SweepPoint {
    /// Operations a second asked for.
    pub rate: f64,
    /// Median of the answered operations a second.
    pub achieved_rate: f64,
    /// Median over the repetitions of the median, in nanoseconds; like the next two absent if any repetition has none.
    pub p50: Option<f64>,
    /// Median over the repetitions of the 99th percentile.
    pub p99: Option<f64>,
    /// Median over the repetitions of the 99.9th percentile.
    pub p999: Option<f64>,
    /// What most repetitions came to; where none has a majority, the worst.
    pub verdict: ProbeVerdict,
    /// What spoke against the first repetition that did not pass.
    pub reasons: Vec<String>,
}

/// A whole sweep.
#[derive(Debug, Clone, Serialize)]
pub struct Sweep {
    /// One for each rate, rising.
    pub points: Vec<SweepPoint>,
    /// The rate at the bend, if there is one.
    pub knee: Option<f64>,
    /// Every probe, in the order in which they were made.
    pub probes: Vec<ProbeRecord>,
}

/// `count` rates from `low` to `high`, each the same factor above the one before. With a count of one, only `low`.
pub fn geometric(low: f64, high: f64, count: usize) -> Vec<f64> {
    let steps = count.saturating_sub(1).max(1) as f64;
    (0..count)
        .map(|i| match i + 1 == count && count > 1 {
            // Without the rounding of the power.
            true => high,
            false => low * (high / low).powf(i as f64 / steps),
        })
        .collect()
}

/// The order of a sweep: all rates once in each repetition, shuffled anew each time. The same seed gives the same order.
pub fn order(rates: &[f64], repetitions: usize, seed: u64) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut order = Vec::with_capacity(rates.len() * repetitions);
    for _ in 0..repetitions {
        let mut round = rates.to_vec();
        // Fisher and Yates, from the end.
        for last in (1..round.len()).rev() {
            let other = (u128::from(random.next_u64()) * (last as u128 + 1)) >> 64;
            round.swap(last, other as usize);
        }
        order.extend(round);
    }
    order
}

/// Probes every rate of `order` for `length`.
pub async fn sweep<P: Prober>(
    prober: &mut P,
    order: &[f64],
    length: Duration,
    limits: &Limits,
    mut watch: impl FnMut(Step<'_>),
) -> Result<Sweep, P::Error> {
    let mut probes = Vec::with_capacity(order.len());
    for rate in order.iter().copied() {
        let purpose = Purpose::Sweep;
        watch(Step::Begins {
            purpose,
            rate,
            length,
        });
        let record = ProbeRecord::new(purpose, rate, prober.probe(rate, length).await?, limits);
        watch(Step::Ended(&record));
        probes.push(record);
    }
    let points = points(&probes);
    Ok(Sweep {
        knee: knee(&points),
        points,
        probes,
    })
}

fn points(probes: &[ProbeRecord]) -> Vec<SweepPoint> {
    let mut sorted: Vec<&ProbeRecord> = probes.iter().collect();
    sorted.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    sorted
        .chunk_by(|a, b| a.rate == b.rate)
        .map(|repetitions| {
            let percentile = |pick: fn(&ProbeRecord) -> Option<u64>| -> Option<f64> {
                let values: Option<Vec<f64>> = repetitions
                    .iter()
                    .map(|r| pick(r).map(|value| value as f64))
                    .collect();
                median(&values?)
            };
            let achieved: Vec<f64> = repetitions.iter().map(|r| r.achieved_rate).collect();
            let objection = repetitions.iter().find(|r| r.verdict != ProbeVerdict::Passed);
            SweepPoint {
                rate: repetitions[0].rate,
                achieved_rate: median(&achieved).unwrap_or(0.0),
                p50: percentile(|r| r.latency.p50),
                p99: percentile(|r| r.latency.p99),
                p999: percentile(|r| r.latency.p999),
                verdict: verdict(repetitions),
                reasons: objection.map(|r| r.reasons.clone()).unwrap_or_default(),
            }
        })
        .collect()
}

fn verdict(repetitions: &[&ProbeRecord]) -> ProbeVerdict {
    // The worst first.
    let verdicts = [
        ProbeVerdict::GeneratorBound,
        ProbeVerdict::Failed,
        ProbeVerdict::TooThin,
        ProbeVerdict::Marginal,
        ProbeVerdict::Passed,
    ];
    let count = |verdict: &ProbeVerdict| repetitions.iter().filter(|r| r.verdict == *verdict).count();
    let majority = verdicts
        .iter()
        .find(|verdict| 2 * count(verdict) > repetitions.len());
    let worst = || verdicts.iter().find(|verdict| count(verdict) > 0);
    majority.or_else(worst).copied().unwrap_or(ProbeVerdict::Failed)
}

/// The rate at which the curve bends: where *power*, throughput over latency, is largest (Kleinrock, *Power and Deterministic
/// Rules of Thumb for Probabilistic Problems in Computer Communications*, ICC 1979). Below it, more load costs less latency than
/// it brings throughput; above it, more. Latency is the 99th percentile. Absent with fewer than three points that have one, and
/// where the largest power is at either end, because the bend then lies outside the sweep.
pub fn knee(points: &[SweepPoint]) -> Option<f64> {
    let power = points
        .iter()
        .filter(|point| point.verdict != ProbeVerdict::GeneratorBound);
    let power: Vec<(f64, f64)> = power
        .filter_map(|point| {
            Some((
                point.rate,
                point.achieved_rate / point.p99.filter(|p99| *p99 > 0.0)?,
            ))
        })
        .collect();
    let (index, (rate, _)) = power.iter().enumerate().max_by(|a, b| a.1.1.total_cmp(&b.1.1))?;
    (index > 0 && index + 1 < power.len()).then_some(*rate)
}
