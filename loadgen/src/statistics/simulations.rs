//! Whether intervals and tests keep what they promise, on series whose truth is known. Seeds are fixed; a correct
//! implementation misses the bounds for none of them, because the bounds lie several standard errors away.

#![allow(clippy::unwrap_used)]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Exp1, StandardNormal};

use super::*;
use crate::percentiles::{growing, record};

fn seed() -> u64 {
    let seed = std::env::var("WHITEWATER_SEED").map_or(1, |text| text.parse().unwrap());
    println!("WHITEWATER_SEED={seed}");
    seed
}

fn random(stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed());
    random.set_stream(stream);
    random
}

/// x' = φ·x + sqrt(1 - φ²)·noise: standard normal, with autocorrelation time (1 + φ) / (1 - φ).
fn autoregressive(phi: f64, n: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
    let mut x: f64 = StandardNormal.sample(random);
    let mut series = Vec::with_capacity(n);
    for _ in 0..n {
        series.push(x);
        let noise: f64 = StandardNormal.sample(random);
        x = phi * x + (1.0 - phi * phi).sqrt() * noise;
    }
    series
}

fn effective(values: &[f64]) -> EffectiveSize {
    let mut size = EffectiveSize::default();
    values.iter().for_each(|value| size.record(*value));
    size
}

#[test]
fn autocorrelation_times_are_found() {
    let mut random = random(1);
    for phi in [0.0, 0.5, 0.9, 0.97] {
        let expected = (1.0 + phi) / (1.0 - phi);
        let times: Vec<f64> = (0..15)
            .map(|_| effective(&autoregressive(phi, 50_000, &mut random)).autocorrelation_time())
            .collect();
        let found = median(&times).unwrap();
        assert!(
            (0.8..1.35).contains(&(found / expected)),
            "φ = {phi}: {found} instead of {expected}"
        );
    }
}

/// Part of `rounds` series whose interval for the q-quantile held the true one.
fn coverage(phi: f64, q: f64, truth: f64, n: usize, rounds: usize, random: &mut ChaCha8Rng) -> f64 {
    let mut held = 0;
    for _ in 0..rounds {
        let series = autoregressive(phi, n, random);
        let size = effective(&series);
        let mut histogram = growing::<u64>();
        // Far from zero, so that the histogram's steps of a thousandth do not matter.
        let scaled = |x: f64| (1e6 * (x / 10.0).exp()) as u64;
        series.iter().for_each(|x| record(&mut histogram, scaled(*x)));
        let interval = percentile_interval(&histogram, q, size.effective_count()).unwrap();
        held += u32::from(interval.contains(1e6 * (truth / 10.0).exp()));
    }
    f64::from(held) / rounds as f64
}

#[test]
fn percentile_intervals_hold_the_truth_as_often_as_they_say() {
    let mut random = random(2);
    let (median, p90, p99) = (0.0, 1.281_551_565_545, 2.326_347_874_041);
    // 300 rounds: one standard error of a coverage of 95 % is 1.3 %.
    for (phi, q, truth) in [(0.0, 0.5, median), (0.0, 0.9, p90), (0.0, 0.99, p99)] {
        let coverage = coverage(phi, q, truth, 3000, 300, &mut random);
        assert!(coverage >= 0.91, "q = {q}: {coverage}");
    }
    // Dependence: taken for independent, these would hold the truth in about half of the rounds.
    for (phi, q, truth) in [
        (0.5, 0.5, median),
        (0.9, 0.5, median),
        (0.9, 0.9, p90),
        (0.9, 0.99, p99),
    ] {
        let coverage = coverage(phi, q, truth, 40_000, 150, &mut random);
        assert!(coverage >= 0.88, "φ = {phi}, q = {q}: {coverage}");
    }
}

#[test]
fn intervals_that_ignore_dependence_do_not_hold() {
    // The control of the test above: the correction is what makes the difference.
    let mut random = random(3);
    let mut held = 0;
    for _ in 0..150 {
        let series = autoregressive(0.9, 10_000, &mut random);
        let mut histogram = growing::<u64>();
        series
            .iter()
            .for_each(|x| record(&mut histogram, (1e6 * (x / 10.0).exp()) as u64));
        let naive = percentile_interval(&histogram, 0.5, 10_000.0).unwrap();
        held += u32::from(naive.contains(1e6));
    }
    assert!(held < 120, "{held} of 150");
}

#[test]
fn shifts_lie_in_their_interval_and_equal_sets_are_rarely_told_apart() {
    let mut random = random(4);
    let (mut held, mut alarms) = (0, 0);
    let rounds = 2000;
    for _ in 0..rounds {
        // Skewed, as latencies are.
        let mut draw = |offset: f64| -> Vec<f64> {
            (0..7)
                .map(|_| offset + Distribution::<f64>::sample(&Exp1, &mut random))
                .collect()
        };
        let (base, new, same) = (draw(0.0), draw(0.75), draw(0.0));
        held += u32::from(shift(&base, &new).unwrap().interval.unwrap().contains(0.75));
        alarms += u32::from(mann_whitney(&base, &same).unwrap().p <= 0.05);
    }
    // Exact at seven values a side: 96.2 % and 3.8 %.
    let (held, alarms) = (
        f64::from(held) / f64::from(rounds),
        f64::from(alarms) / f64::from(rounds),
    );
    assert!((0.945..0.98).contains(&held), "{held}");
    assert!((0.02..0.055).contains(&alarms), "{alarms}");
}

#[test]
fn slopes_lie_in_their_interval() {
    let mut random = random(5);
    let rounds = 1000;
    let mut held = 0;
    for _ in 0..rounds {
        let points: Vec<(f64, f64)> = (0..20)
            .map(|i| {
                let noise: f64 = StandardNormal.sample(&mut random);
                (f64::from(i), 0.3 * f64::from(i) + noise)
            })
            .collect();
        held += u32::from(theil_sen(&points).unwrap().interval.unwrap().contains(0.3));
    }
    let held = f64::from(held) / f64::from(rounds);
    assert!((0.92..0.985).contains(&held), "{held}");
}

#[test]
fn means_and_shares_lie_in_their_interval() {
    let mut random = random(6);
    let rounds = 500;
    let (mut mean_held, mut share_held) = (0, 0);
    for _ in 0..rounds {
        let series = autoregressive(0.8, 4000, &mut random);
        let (n, size) = (series.len() as f64, effective(&series).effective_count());
        let mean = series.iter().sum::<f64>() / n;
        let deviation = (series.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        mean_held += u32::from(mean_interval(mean, deviation, size).unwrap().contains(0.0));
        let mut draws = StandardNormal.sample_iter(&mut random);
        let rare = (0..2000)
            .filter(|_| draws.next().is_some_and(|x: f64| x > 2.326_347_874))
            .count();
        share_held += u32::from(share_interval(rare as f64, 2000.0).unwrap().contains(0.01));
    }
    assert!(mean_held * 100 >= rounds * 90, "{mean_held}");
    assert!(share_held * 100 >= rounds * 92, "{share_held}");
}
