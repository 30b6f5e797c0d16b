//! Whether a series grows: the slope of Theil and Sen, with its interval.
//!
//! The estimate is the median of the slopes of all pairs of points (Theil, *A Rank-invariant Method of Linear and Polynomial
//! Regression Analysis*, 1950; Sen, *Estimates of the Regression Coefficient Based on Kendall's Tau*, JASA 63, 1968). Its
//! interval ends at the slopes that Kendall's test would just not reject (Sen, section 4; Hollander and Wolfe, section 9.3).
//! Nearly a third of the points may be arbitrarily wrong without moving the estimate arbitrarily, so one stall is not growth.
//!
//! The interval takes the noise of the points to be independent. Points of a queue are not: take them far enough apart, or
//! take medians of stretches.

use super::spread::median_of_sorted;
use super::{Interval, Z_95};

/// Points looked at; longer series are refused, because all pairs of points are held in memory.
pub const POINTS_MAX: usize = 2000;

/// What [`theil_sen`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    /// Growth of y for one of x.
    pub estimate: f64,
    /// Its 95 % interval; absent where there are too few points for one.
    pub interval: Option<Interval>,
}

/// The slope of `points`, each (x, y). Absent if fewer than two differ in x, or if there are more than [`POINTS_MAX`].
/// Values must be finite.
pub fn theil_sen(points: &[(f64, f64)]) -> Option<Slope> {
    if points.len() > POINTS_MAX {
        return None;
    }
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (index, (x0, y0)) in points.iter().enumerate() {
        let later = points[index + 1..].iter().filter(|(x1, _)| x1 != x0);
        slopes.extend(later.map(|(x1, y1)| (y1 - y0) / (x1 - x0)));
    }
    slopes.sort_by(f64::total_cmp);
    Some(Slope {
        estimate: median_of_sorted(&slopes)?,
        interval: interval(&slopes, points),
    })
}

fn interval(slopes: &[f64], points: &[(f64, f64)]) -> Option<Interval> {
    let n = points.len() as f64;
    let mut variance = n * (n - 1.0) * (2.0 * n + 5.0);
    // Points at the same x make no pair (Sen, equation 2.6).
    let mut xs: Vec<f64> = points.iter().map(|(x, _)| *x).collect();
    xs.sort_by(f64::total_cmp);
    for group in xs.chunk_by(|a, b| a == b) {
        let t = group.len() as f64;
        variance -= t * (t - 1.0) * (2.0 * t + 5.0);
    }
    let half = Z_95 * (variance / 18.0).max(0.0).sqrt();
    let pairs = slopes.len() as f64;
    let low = ((pairs - half) / 2.0).floor();
    if low < 1.0 {
        return None;
    }
    let low = low as usize;
    Some(Interval {
        low: slopes[low - 1],
        high: slopes[slopes.len() - low],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The worked example of Sen 1968, section 6: the estimate is 4, and his 93 % interval is 26/7 to 35/8.
    #[test]
    fn the_example_of_sen_comes_out() {
        let t = [1.0, 2.0, 3.0, 4.0, 10.0, 12.0, 18.0];
        let x = [9.0, 15.0, 19.0, 20.0, 45.0, 55.0, 78.0];
        let points: Vec<_> = t.into_iter().zip(x).collect();
        let slope = theil_sen(&points).unwrap();
        assert_eq!(slope.estimate, 4.0);
        let interval = slope.interval.unwrap();
        assert!(
            interval.low <= 26.0 / 7.0 && interval.high >= 35.0 / 8.0,
            "{interval:?}"
        );
        assert!(interval.low > 3.0 && interval.high < 6.1, "{interval:?}");
    }

    #[test]
    fn a_line_is_found_under_wild_points() {
        let mut points: Vec<(f64, f64)> = (0..40)
            .map(|i| (f64::from(i), 5.0 + 0.5 * f64::from(i)))
            .collect();
        for wild in [3, 11, 20, 31, 38] {
            points[wild].1 = 1e6;
        }
        let slope = theil_sen(&points).unwrap();
        assert!((slope.estimate - 0.5).abs() < 1e-9, "{}", slope.estimate);
        assert!(slope.interval.unwrap().contains(0.5));
    }

    #[test]
    fn what_has_no_answer_gets_none() {
        assert_eq!(theil_sen(&[]), None);
        assert_eq!(theil_sen(&[(1.0, 2.0)]), None);
        assert_eq!(theil_sen(&[(1.0, 2.0), (1.0, 5.0)]), None);
        assert_eq!(theil_sen(&vec![(0.0, 0.0); POINTS_MAX + 1]), None);
        let two = theil_sen(&[(1.0, 2.0), (2.0, 5.0)]).unwrap();
        assert_eq!((two.estimate, two.interval), (3.0, None));
    }
}
