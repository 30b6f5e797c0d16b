//! Whether the numbers of a run would come out the same again.
//!
//! Promises to object only where the evidence is clear: a backlog counts as growing if the whole confidence interval of its
//! slope is above zero and what it grew by is more than a passing queue; slices count as unequal by more than their
//! own random scatter.

use reports::record::{Interval, Nanos, Percentiles};

use crate::statistics::{coefficient_of_variation, theil_sen};

/// Part of the machine's time that its host may give to others.
pub const STEAL_MAX: f64 = 0.02;
/// Scatter of the slices' throughput, as a part of its mean, beyond what the plan itself causes.
pub const VARIATION_MAX: f64 = 0.25;
/// Width of the median's confidence interval, as a part of the median.
pub const MEDIAN_WIDTH_MAX: f64 = 0.2;
/// Full slices that a judgement takes.
pub const SLICES_MIN: usize = 5;
/// A backlog that grew by less than what arrives in this many seconds is a passing queue.
pub const GROWTH_SECONDS_MIN: f64 = 0.1;

/// What is known of how steady a run was.
#[derive(Debug, Clone, Default)]
pub struct Steadiness {
    /// Slices of the measured time, all of the same length but for the last.
    pub slices: Vec<Interval>,
    /// Operations planned and not ended, over time in seconds; empty in a closed loop, which has always as many.
    pub backlog: Vec<(f64, f64)>,
    /// The headline latency of the whole run.
    pub latency: Percentiles,
    /// Part of the machine's time that its host gave to others.
    pub steal: Option<f64>,
    /// Arrivals a second; absent in a closed loop.
    pub rate: Option<f64>,
}

/// What speaks against a repetition that agrees, where the load settled.
pub(super) fn noise(steadiness: &Steadiness) -> Option<String> {
    stolen(steadiness)
        .or_else(|| scattered(steadiness))
        .or_else(|| wide(steadiness))
}

/// What says that the load never settled.
pub(super) fn growing(steadiness: &Steadiness) -> Option<String> {
    let (first, last) = (steadiness.backlog.first()?, steadiness.backlog.last()?);
    let seconds = last.0 - first.0;
    if seconds < SLICES_MIN as f64 {
        return None;
    }
    let slope = theil_sen(&steadiness.backlog)?;
    let growth = slope.estimate * seconds;
    let much = growth > steadiness.rate? * GROWTH_SECONDS_MIN;
    let grows = slope.interval.is_some_and(|interval| interval.low > 0.0);
    (grows && much).then(|| {
        format!(
            "operations that were planned and not ended grew by {:.0} a second to the end ({:.0} in {seconds:.0} s): the \
             store takes less than the plan asks for; lower the rate",
            slope.estimate, growth
        )
    })
}

fn stolen(steadiness: &Steadiness) -> Option<String> {
    let steal = steadiness.steal.filter(|steal| *steal > STEAL_MAX)?;
    Some(format!(
        "the host took {:.1} % of this machine's time for others (limit {:.0} %): measure on a quieter machine",
        steal * 100.0,
        STEAL_MAX * 100.0
    ))
}

fn scattered(steadiness: &Steadiness) -> Option<String> {
    let full = full_slices(steadiness);
    let per_second: Vec<f64> = full.iter().map(|slice| per_second(slice)).collect();
    if per_second.len() < SLICES_MIN {
        return None;
    }
    let variation = coefficient_of_variation(&per_second)?;
    // Random arrivals alone scatter by the root of their number.
    let mean = full.iter().map(|slice| slice.counts.ok).sum::<u64>() as f64 / full.len() as f64;
    let own = 1.0 / mean.max(1.0).sqrt();
    let beyond = (variation.powi(2) - own.powi(2)).max(0.0).sqrt();
    (beyond > VARIATION_MAX).then(|| {
        format!(
            "throughput differed from slice to slice by {:.0} % of its mean (limit {:.0} %): look at what happened \
             meanwhile, or measure for longer",
            beyond * 100.0,
            VARIATION_MAX * 100.0
        )
    })
}

fn wide(steadiness: &Steadiness) -> Option<String> {
    let p50 = steadiness.latency.p50?;
    let (low, high) = steadiness.latency.confidence.as_ref()?.p50?;
    let width = high.saturating_sub(low) as f64 / p50.max(1) as f64;
    (width > MEDIAN_WIDTH_MAX).then(|| {
        format!(
            "the median is known only to {:.0} % (from {} to {} µs; limit {:.0} %): measure for longer",
            width * 100.0,
            low / 1000,
            high / 1000,
            MEDIAN_WIDTH_MAX * 100.0
        )
    })
}

/// Those that are as long as most. A plan may ask for nothing in some; in a closed loop, where nothing is started nobody
/// answered.
fn full_slices(steadiness: &Steadiness) -> Vec<&Interval> {
    let (slices, closed) = (&steadiness.slices, steadiness.rate.is_none());
    let length = |slice: &Interval| slice.end.saturating_sub(slice.start);
    let usual: Nanos = slices.first().map_or(0, length);
    let full = |slice: &&Interval| length(slice) == usual && (closed || slice.planned > 0);
    slices.iter().filter(full).collect()
}

fn per_second(slice: &Interval) -> f64 {
    slice.counts.ok as f64 / (slice.end.saturating_sub(slice.start).max(1) as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use reports::record::{Confidence, Counts, LoadVerdict};

    use super::*;

    const S: Nanos = 1_000_000_000;

    fn steady() -> Steadiness {
        let slice = |n: u64| Interval {
            start: n * S,
            end: (n + 1) * S,
            planned: 1000,
            counts: Counts {
                ok: 990 + n % 3 * 10,
                ..Counts::default()
            },
            latency: Percentiles::default(),
        };
        Steadiness {
            slices: (0..10).map(slice).collect(),
            backlog: (0..100_u32)
                .map(|n| (f64::from(n) / 10.0, f64::from(3 + n % 4)))
                .collect(),
            latency: Percentiles {
                p50: Some(2_000_000),
                confidence: Some(Box::new(Confidence {
                    p50: Some((1_950_000, 2_050_000)),
                    ..Confidence::default()
                })),
                ..Percentiles::default()
            },
            steal: Some(0.019),
            rate: Some(1000.0),
        }
    }

    fn judge(steadiness: &Steadiness) -> Option<LoadVerdict> {
        growing(steadiness)
            .map(LoadVerdict::Unsteady)
            .or_else(|| noise(steadiness).map(LoadVerdict::Noisy))
    }

    #[test]
    fn in_a_closed_loop_slices_in_which_nothing_was_started_count() {
        let mut closed = steady();
        closed.rate = None;
        closed.backlog.clear();
        assert_eq!(judge(&closed), None);
        for slice in &mut closed.slices[3..6] {
            slice.planned = 0;
            slice.counts.ok = 0;
        }
        assert!(
            matches!(judge(&closed), Some(LoadVerdict::Noisy(why)) if why.contains("from slice to slice"))
        );
    }

    fn says(change: impl FnOnce(&mut Steadiness), word: &str) {
        let mut changed = steady();
        change(&mut changed);
        match judge(&changed) {
            Some(LoadVerdict::Noisy(why)) => assert!(word != "grew" && why.contains(word), "{why}"),
            Some(LoadVerdict::Unsteady(why)) => assert!(word == "grew" && why.contains(word), "{why}"),
            other => panic!("{word}: {other:?}"),
        }
    }

    #[test]
    fn a_steady_run_is_not_objected_to() {
        assert_eq!(judge(&steady()), None);
        assert_eq!(judge(&Steadiness::default()), None);
    }

    #[test]
    fn each_kind_of_unsteadiness_is_told() {
        says(|s| s.steal = Some(0.021), "host took 2.1 %");
        says(
            |s| s.backlog.iter_mut().for_each(|(at, open)| *open += *at * 50.0),
            "grew",
        );
        says(|s| s.slices[4].counts.ok = 3000, "from slice to slice");
        says(
            |s| {
                if let Some(confidence) = &mut s.latency.confidence {
                    confidence.p50 = Some((1_500_000, 2_000_000));
                }
            },
            "known only to 25 %",
        );
    }

    #[test]
    fn a_passing_queue_random_scatter_and_short_runs_are_no_objection() {
        let mut queue = steady();
        queue.backlog[50].1 = 800.0;
        assert_eq!(judge(&queue), None);
        let mut few = steady();
        few.slices.iter_mut().enumerate().for_each(|(n, slice)| {
            slice.counts.ok = if n % 2 == 0 { 9 } else { 14 };
        });
        assert_eq!(judge(&few), None, "eleven at random are no steadier than that");
        let mut short = steady();
        short.slices.truncate(4);
        short.slices[0].counts.ok = 1;
        short.backlog = short.backlog[..40]
            .iter()
            .map(|(at, _)| (*at, at * 1e4))
            .collect();
        assert_eq!(judge(&short), None);
    }
}
