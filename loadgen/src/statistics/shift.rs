//! By how much two sets of trials differ: the estimate of Hodges and Lehmann, with its interval.
//!
//! The estimate is the median of all differences between a value of the second set and one of the first (Hodges and Lehmann,
//! *Estimates of Location Based on Rank Tests*, Annals of Mathematical Statistics 34, 1963); its interval ends at the
//! differences that the Mann-Whitney test would just not reject (Hollander and Wolfe, section 4.3). On logarithms the same
//! gives a ratio, which is what percentages of latencies need.
//!
//! Promises: the interval agrees with the test of [`super::mann_whitney`] up to ties, and is absent where the sets are too
//! small for 95 % (below four values each, roughly). Never looks at means.

use super::ranks::{EXACT_MAX, u_distribution};
use super::spread::median_of_sorted;
use super::{Interval, Z_95};

/// Pairs looked at; sets whose product is larger are refused, because all pairs are held in memory.
pub const PAIRS_MAX: usize = 4_000_000;

/// How far the second set lies from the first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// The median difference, or ratio, of all pairs.
    pub estimate: f64,
    /// Its 95 % interval; absent where there are too few values for one.
    pub interval: Option<Interval>,
}

/// How much larger the second set's values are. Absent if a set is empty or there are more than [`PAIRS_MAX`] pairs.
/// Values must be finite.
pub fn shift(first: &[f64], second: &[f64]) -> Option<Shift> {
    let pairs = first.len().checked_mul(second.len())?;
    if pairs == 0 || pairs > PAIRS_MAX {
        return None;
    }
    let mut differences: Vec<f64> = Vec::with_capacity(pairs);
    for to in second {
        differences.extend(first.iter().map(|from| to - from));
    }
    differences.sort_by(f64::total_cmp);
    let interval = outermost(first.len(), second.len()).map(|rank| Interval {
        low: differences[rank - 1],
        high: differences[pairs - rank],
    });
    Some(Shift {
        estimate: median_of_sorted(&differences)?,
        interval,
    })
}

/// How many times as large the second set's values are. Absent also if a value is not above zero.
pub fn ratio(first: &[f64], second: &[f64]) -> Option<Shift> {
    let logarithms = |values: &[f64]| -> Option<Vec<f64>> {
        let positive = |value: &f64| (*value > 0.0 && value.is_finite()).then(|| value.ln());
        values.iter().map(positive).collect()
    };
    let shift = shift(&logarithms(first)?, &logarithms(second)?)?;
    Some(Shift {
        estimate: shift.estimate.exp(),
        interval: shift.interval.map(|interval| Interval {
            low: interval.low.exp(),
            high: interval.high.exp(),
        }),
    })
}

/// Rank, from one and from either end, of the differences at which the 95 % interval ends.
fn outermost(m: usize, n: usize) -> Option<usize> {
    let rank = if m + n <= EXACT_MAX {
        // The first u that is no longer within the lowest 2.5 %; ranks from one are one more than the u below.
        u_distribution(m, n).iter().position(|below| *below > 0.025)?
    } else {
        let (m, n) = (m as f64, n as f64);
        let rank = m * n / 2.0 - Z_95 * (m * n * (m + n + 1.0) / 12.0).sqrt();
        if rank < 1.0 {
            return None;
        }
        rank.floor() as usize
    };
    (rank >= 1).then_some(rank)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn the_textbook_example_comes_out() {
        // Hollander and Wolfe, example 4.1 and 4.2: estimate 0.305, the other way round than R subtracts; R's
        // `wilcox.test(conf.int = TRUE)` gives -0.15 to 0.76.
        let earlier = [1.15, 0.88, 0.90, 0.74, 1.21];
        let term = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
        let shift = shift(&earlier, &term).unwrap();
        assert!(close(shift.estimate, 0.305), "{}", shift.estimate);
        let interval = shift.interval.unwrap();
        assert!(
            close(interval.low, -0.15) && close(interval.high, 0.76),
            "{interval:?}"
        );
    }

    #[test]
    fn ranks_of_the_ends_follow_the_critical_values() {
        // One more than the critical value of U at 5 %.
        for (m, n, rank) in [
            (4, 4, Some(1)),
            (5, 5, Some(3)),
            (6, 6, Some(6)),
            (10, 10, Some(24)),
            (3, 3, None),
            (1, 30, None),
        ] {
            assert_eq!(outermost(m, n), rank, "{m} {n}");
        }
        // Where counting ends and approximation begins there is no step.
        let (exact, approximate) = (outermost(20, 20).unwrap(), outermost(20, 21).unwrap());
        assert_eq!(exact, 128);
        assert!((128..=140).contains(&approximate), "{approximate}");
    }

    #[test]
    fn a_known_shift_and_a_known_ratio_are_found() {
        let base = [10.0, 11.0, 12.5, 13.0, 17.0, 19.0];
        let later: Vec<f64> = base.iter().map(|value| value + 3.0).collect();
        assert!(close(shift(&base, &later).unwrap().estimate, 3.0));
        let slower: Vec<f64> = base.iter().map(|value| value * 1.25).collect();
        let found = ratio(&base, &slower).unwrap();
        assert!(close(found.estimate, 1.25), "{}", found.estimate);
        assert!(found.interval.unwrap().contains(1.25));
        let back = ratio(&slower, &base).unwrap();
        assert!(
            close(back.estimate, 0.8)
                && close(back.interval.unwrap().low, 1.0 / found.interval.unwrap().high)
        );
    }

    #[test]
    fn what_has_no_answer_gets_none() {
        assert_eq!(shift(&[], &[1.0]), None);
        assert_eq!(ratio(&[1.0], &[0.0]), None);
        assert_eq!(ratio(&[-1.0], &[1.0]), None);
        let many = vec![1.0; 2001];
        assert_eq!(shift(&many, &many), None);
        let single = shift(&[1.0], &[3.0]).unwrap();
        assert_eq!((single.estimate, single.interval), (2.0, None));
    }
}
