//! Centre and spread of a few numbers, and intervals of means and shares.

use super::{Interval, Z_95};

/// The median; the mean of the middle two where there is no middle one. Absent without values. Values must not be NaN.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    median_of_sorted(&sorted)
}

pub(super) fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    Some(match sorted.len() % 2 {
        1 => upper,
        _ => sorted[sorted.len() / 2 - 1].midpoint(upper),
    })
}

/// Sample standard deviation (divided by n - 1) over the mean. Absent with fewer than two values and for a mean of zero.
pub fn coefficient_of_variation(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 || mean == 0.0 {
        return None;
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (n - 1.0)).sqrt() / mean.abs())
}

/// The 95 % interval of a mean: mean ± z·s / sqrt(n - 1), where n is the number of independent values that the sample is worth
/// (the standard error that latte uses). Absent if it is worth fewer than two.
///
/// Rests on the central limit theorem: with fewer than about thirty independent values it is too narrow.
pub fn mean_interval(mean: f64, standard_deviation: f64, effective_count: f64) -> Option<Interval> {
    (effective_count >= 2.0).then(|| {
        let half = Z_95 * standard_deviation / (effective_count - 1.0).sqrt();
        Interval {
            low: mean - half,
            high: mean + half,
        }
    })
}

/// The 95 % interval of a share of which `n` independent trials showed `count` (Wilson, *Probable Inference, the Law of
/// Succession, and Statistical Inference*, JASA 22, 1927). Stays within 0 and 1, and is usable down to no occurrence at
/// all. Absent without trials. `count` may be scaled, like `n`, to what dependent trials are worth.
pub fn share_interval(count: f64, n: f64) -> Option<Interval> {
    if n.is_nan() || n <= 0.0 {
        return None;
    }
    let (share, z2) = ((count / n).clamp(0.0, 1.0), Z_95 * Z_95);
    let centre = share + z2 / (2.0 * n);
    let half = Z_95 * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    Some(Interval {
        low: ((centre - half) / scale).max(0.0),
        high: ((centre + half) / scale).min(1.0),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn medians_need_no_order() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 9.0, 2.0]), Some(3.0));
    }

    #[test]
    fn variation_is_relative_to_the_mean() {
        // Mean 5, squares 32, n - 1 = 7.
        let cv = coefficient_of_variation(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
        assert!((cv - (32.0_f64 / 7.0).sqrt() / 5.0).abs() < 1e-12);
        assert_eq!(coefficient_of_variation(&[1.0]), None);
        assert_eq!(coefficient_of_variation(&[-1.0, 1.0]), None);
        assert_eq!(coefficient_of_variation(&[3.0, 3.0]), Some(0.0));
    }

    #[test]
    fn a_mean_is_known_to_its_standard_error() {
        let interval = mean_interval(10.0, 2.0, 101.0).unwrap();
        assert!((interval.low - (10.0 - Z_95 * 0.2)).abs() < 1e-12);
        assert!((interval.high - (10.0 + Z_95 * 0.2)).abs() < 1e-12);
        assert_eq!(mean_interval(10.0, 2.0, 1.5), None);
    }

    #[test]
    fn shares_have_the_interval_of_wilson() {
        // Newcombe 1998, table I, method 3 (score without continuity correction).
        for (count, n, low, high) in [
            (81.0, 263.0, 0.2553, 0.3662),
            (15.0, 148.0, 0.0624, 0.1605),
            (0.0, 20.0, 0.0, 0.1611),
            (1.0, 29.0, 0.0061, 0.1718),
        ] {
            let interval = share_interval(count, n).unwrap();
            assert!(
                (interval.low - low).abs() < 5e-5 && (interval.high - high).abs() < 5e-5,
                "{interval:?}"
            );
        }
        assert_eq!(share_interval(0.0, 0.0), None);
        assert_eq!(share_interval(20.0, 20.0).map(|i| i.high), Some(1.0));
    }
}
