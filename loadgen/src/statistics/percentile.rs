//! Where the percentile of a repetition would lie, from the order statistics of one run.
//!
//! Of n independent values, the number below the true q-quantile is binomial, so the quantile lies between the values
//! of ranks n·q ± z·sqrt(n·q·(1-q)) with the confidence that z stands for (Conover, *Practical Nonparametric Statistics*,
//! section 3.2; David and Nagaraja, *Order Statistics*, section 7.1). Dependent values count as the smaller number of
//! independent ones that they are worth ([`super::EffectiveSize`]), and the ranks are scaled back to the sample.
//!
//! Promises: ends are rounded outwards, to the edges of the histogram's buckets and to whole ranks. An end that would lie
//! beyond the sample is not invented: it is open, or the interval is absent. Never resamples.

use hdrhistogram::{Counter, Histogram};

use super::{Interval, Z_95};

/// The 95 % interval of the `quantile` (above 0, below 1) of a sample that is worth `effective_count` independent values.
/// Absent if the sample is too small for one.
pub fn percentile_interval<C: Counter>(
    sample: &Histogram<C>,
    quantile: f64,
    effective_count: f64,
) -> Option<Interval> {
    let interval = percentile_interval_among(sample, sample.len(), quantile, effective_count)?;
    (interval.low.is_finite() && interval.high.is_finite()).then_some(interval)
}

/// The same for `total` values of which those that the histogram does not hold are infinitely large. An end that lies among
/// those, or beyond what the sample can tell, is infinite. Absent if the sample is worth less than one value.
pub fn percentile_interval_among<C: Counter>(
    sample: &Histogram<C>,
    total: u64,
    quantile: f64,
    effective_count: f64,
) -> Option<Interval> {
    let total = total.max(sample.len());
    // Never worth more than it is.
    let n = effective_count.min(total as f64);
    let inside = quantile > 0.0 && quantile < 1.0;
    if !inside || effective_count.is_nan() || n < 1.0 {
        return None;
    }
    let half = Z_95 * (n * quantile * (1.0 - quantile)).sqrt();
    let low = (n * quantile - half).floor();
    // One more than the rank below: the value that is above the quantile with that confidence.
    let high = (n * quantile + half).ceil() + 1.0;
    let scale = total as f64 / n;
    Some(Interval {
        low: match low {
            ..1.0 => f64::NEG_INFINITY,
            _ => value_at_rank(sample, (low * scale).floor(), Edge::Low),
        },
        high: match high > n {
            true => f64::INFINITY,
            false => value_at_rank(sample, (high * scale).ceil(), Edge::High),
        },
    })
}

enum Edge {
    Low,
    High,
}

/// The edge of the bucket that holds the value of `rank`, counted from one; infinite beyond what the histogram holds.
fn value_at_rank<C: Counter>(sample: &Histogram<C>, rank: f64, edge: Edge) -> f64 {
    let held = sample.len() as f64;
    if rank > held {
        return f64::INFINITY;
    }
    // The middle of the rank's step, where rounding cannot reach the next one.
    let value = sample.value_at_quantile((rank.max(1.0) - 0.5) / held);
    match edge {
        Edge::Low => sample.lowest_equivalent(value) as f64,
        Edge::High => sample.highest_equivalent(value) as f64,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::percentiles::{growing, record};

    /// 1, 2, …, `n`; below 2048 each value has its own bucket.
    fn ladder(n: u64) -> Histogram<u64> {
        let mut histogram = growing();
        (1..=n).for_each(|value| record(&mut histogram, value));
        histogram
    }

    #[test]
    fn ranks_are_those_of_the_formula() {
        // n·q = 500, z·sqrt(250) = 30.99: ranks 469 and 532.
        let interval = percentile_interval(&ladder(1000), 0.5, 1000.0).unwrap();
        assert_eq!((interval.low, interval.high), (469.0, 532.0));
        // n·q = 1980, z·sqrt(19.8) = 8.72: ranks 1971 and 1990.
        let interval = percentile_interval(&ladder(2000), 0.99, 2000.0).unwrap();
        assert_eq!((interval.low, interval.high), (1971.0, 1990.0));
    }

    #[test]
    fn dependent_values_widen_the_interval_in_proportion() {
        // Worth 100: n·q = 50, z·5 = 9.8: ranks 40 and 61 of 100, scaled by ten.
        let interval = percentile_interval(&ladder(1000), 0.5, 100.0).unwrap();
        assert_eq!((interval.low, interval.high), (400.0, 610.0));
        assert!(percentile_interval(&ladder(1000), 0.99, 100.0).is_none());
        // A claim to be worth more than it is changes nothing.
        assert_eq!(
            percentile_interval(&ladder(1000), 0.5, 1e9),
            percentile_interval(&ladder(1000), 0.5, 1000.0)
        );
    }

    #[test]
    fn what_the_sample_cannot_support_is_absent() {
        for (n, quantile, effective) in [
            (0, 0.5, 0.0),
            (5, 0.5, 5.0),
            (300, 0.99, 300.0),
            (1000, 0.999, 1000.0),
            (1000, 0.0, 1000.0),
            (1000, 1.0, 1000.0),
            (1000, f64::NAN, 1000.0),
            (1000, 0.5, f64::NAN),
            (1000, 0.5, 0.5),
        ] {
            assert_eq!(
                percentile_interval(&ladder(n), quantile, effective),
                None,
                "{n} {quantile} {effective}"
            );
        }
        assert!(percentile_interval(&ladder(1000), 0.99, 1000.0).is_some());
    }

    #[test]
    fn values_that_never_came_count_as_infinite() {
        let sample = ladder(980);
        let among =
            |total, quantile| percentile_interval_among(&sample, total, quantile, total as f64).unwrap();
        assert_eq!(among(980, 0.5), percentile_interval(&sample, 0.5, 980.0).unwrap());
        let interval = among(1000, 0.98);
        assert!(
            interval.low < 980.0 && interval.high == f64::INFINITY,
            "{interval:?}"
        );
        assert_eq!(among(2000, 0.5).high, f64::INFINITY);
        let open = percentile_interval_among(&sample, 980, 0.99, 100.0).unwrap();
        assert!(open.low.is_finite() && open.high == f64::INFINITY, "{open:?}");
        let open = percentile_interval_among(&sample, 980, 0.01, 100.0).unwrap();
        assert!(open.low == f64::NEG_INFINITY && open.high.is_finite(), "{open:?}");
    }
}
