//! Tests on ranks: whether two sets of trials differ, and what that is worth after many such questions.
//!
//! Mann and Whitney, *On a Test of Whether one of Two Random Variables is Stochastically Larger than the Other*, Annals of
//! Mathematical Statistics 18, 1947. Up to [`EXACT_MAX`] values the distribution is counted, with ties as they are (the
//! permutation distribution of the midranks, Lehmann, *Nonparametrics*, section 1.4); above, the normal approximation with
//! correction for ties and continuity. Holm, *A Simple Sequentially Rejective Multiple Test Procedure*, Scandinavian Journal of
//! Statistics 6, 1979.
//!
//! Promises: no assumption on the shape of the distributions, only that trials are independent. Never to be fed with single
//! requests of a run, which are not.

use super::normal::upper_tail;

/// Values of both sets together up to which probabilities are counted, not approximated.
pub const EXACT_MAX: usize = 40;

/// What [`mann_whitney`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannWhitney {
    /// Pairs in which the first set's value is the larger one; ties count half.
    pub u: f64,
    /// Probability of a `u` at least as far from its expectation if both sets came from one distribution (two-sided).
    pub p: f64,
    /// Whether `p` was counted; else it is an approximation.
    pub exact: bool,
}

/// The two-sided test of Mann and Whitney. Absent if a set is empty. Values must not be NaN.
pub fn mann_whitney(first: &[f64], second: &[f64]) -> Option<MannWhitney> {
    let (m, n) = (first.len(), second.len());
    if m == 0 || n == 0 {
        return None;
    }
    let ranked = Ranked::of(first, second);
    let u = (ranked.first_sum - (m * (m + 1)) as u64) as f64 / 2.0;
    let exact = m + n <= EXACT_MAX;
    let p = if exact {
        ranked.exact_p(m)
    } else {
        ranked.approximate_p(u, m as f64, n as f64)
    };
    Some(MannWhitney { u, p, exact })
}

/// The smallest two-sided p that sets of these sizes can give: what complete separation is worth.
pub fn smallest_p(first: usize, second: usize) -> f64 {
    // 2 / (first + second over first), as a product that does not overflow.
    let orders = (1..=first).fold(1.0, |orders, i| orders * (second + i) as f64 / i as f64);
    (2.0 / orders).min(1.0)
}

/// Holm's adjusted p values, in the order given: each may be held against the level that is meant for all together.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (step, index) in order.iter().enumerate() {
        largest = largest
            .max(p_values[*index] * (p_values.len() - step) as f64)
            .min(1.0);
        adjusted[*index] = largest;
    }
    adjusted
}

/// Both sets in one order. Ranks are doubled, so that midranks are whole numbers.
struct Ranked {
    doubled: Vec<u64>,
    /// Sum of the first set's doubled ranks.
    first_sum: u64,
    /// Sum of t³ - t over groups of t equal values.
    ties: f64,
}

impl Ranked {
    fn of(first: &[f64], second: &[f64]) -> Ranked {
        let mut all: Vec<(f64, bool)> = first.iter().map(|value| (*value, true)).collect();
        all.extend(second.iter().map(|value| (*value, false)));
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut ranked = Ranked {
            doubled: Vec::with_capacity(all.len()),
            first_sum: 0,
            ties: 0.0,
        };
        // `==` and not the total order, for which -0.0 and 0.0 differ.
        for group in all.chunk_by(|a, b| a.0 == b.0) {
            let before = ranked.doubled.len() as u64;
            let rank = 2 * before + group.len() as u64 + 1;
            ranked.doubled.extend(group.iter().map(|_| rank));
            ranked.first_sum += rank * group.iter().filter(|(_, is_first)| *is_first).count() as u64;
            let t = group.len() as f64;
            ranked.ties += t * t * t - t;
        }
        ranked
    }

    fn exact_p(&self, m: usize) -> f64 {
        let ways = subset_sums(&self.doubled, m);
        let sum = self.first_sum as usize;
        let all: f64 = ways.iter().sum();
        let at_most = ways.iter().take(sum + 1).sum::<f64>() / all;
        let at_least = ways.iter().skip(sum).sum::<f64>() / all;
        (2.0 * at_most.min(at_least)).min(1.0)
    }

    fn approximate_p(&self, u: f64, m: f64, n: f64) -> f64 {
        let all = m + n;
        let variance = m * n / 12.0 * (all + 1.0 - self.ties / (all * (all - 1.0)));
        if variance <= 0.0 {
            return 1.0;
        }
        // Half a step towards the middle, because `u` is discrete.
        let distance = ((u - m * n / 2.0).abs() - 0.5).max(0.0);
        (2.0 * upper_tail(distance / variance.sqrt())).min(1.0)
    }
}

/// In how many ways `size` of the numbers add up to each sum. Counts of up to 40 numbers are exact in 53 bits.
fn subset_sums(numbers: &[u64], size: usize) -> Vec<f64> {
    let most: usize = numbers.iter().sum::<u64>() as usize;
    let mut ways = vec![vec![0.0; most + 1]; size + 1];
    ways[0][0] = 1.0;
    for number in numbers.iter().map(|number| *number as usize) {
        // From the largest subset down, so that each number is taken at most once.
        for taken in (1..=size).rev() {
            let (smaller, larger) = ways.split_at_mut(taken);
            let shifted = larger[0][number..].iter_mut().zip(&smaller[taken - 1]);
            shifted.for_each(|(to, from)| *to += from);
        }
    }
    ways.swap_remove(size)
}

/// P(U ≤ u) for every u, for sets without ties.
pub(super) fn u_distribution(m: usize, n: usize) -> Vec<f64> {
    let ranks: Vec<u64> = (1..=(m + n) as u64).collect();
    let ways = subset_sums(&ranks, m);
    let all: f64 = ways.iter().sum();
    let least = m * (m + 1) / 2;
    let steps = ways[least..=least + m * n].iter();
    steps
        .scan(0.0, |below, ways| {
            *below += ways;
            Some(*below / all)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    /// Hollander and Wolfe, *Nonparametric Statistical Methods*, table 4.1; also the example of R's `wilcox.test`,
    /// which reports W = 35 and p = 0.1272 for one side.
    const TERM: [f64; 10] = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
    const EARLIER: [f64; 5] = [1.15, 0.88, 0.90, 0.74, 1.21];

    #[test]
    fn the_textbook_example_comes_out() {
        let test = mann_whitney(&TERM, &EARLIER).unwrap();
        assert_eq!((test.u, test.exact), (35.0, true));
        assert!((test.p - 2.0 * 0.1272).abs() < 1e-4, "{}", test.p);
        let swapped = mann_whitney(&EARLIER, &TERM).unwrap();
        assert_eq!(swapped.u, 15.0);
        assert!(close(swapped.p, test.p));
    }

    /// Every way to choose `m` of the values, and what share is as extreme: slow and plain.
    fn by_enumeration(first: &[f64], second: &[f64]) -> f64 {
        let all: Vec<f64> = first.iter().chain(second).copied().collect();
        let u = |chosen: u32| -> f64 {
            let mut u = 0.0;
            for (i, a) in all.iter().enumerate().filter(|(i, _)| chosen >> i & 1 == 1) {
                for (j, b) in all.iter().enumerate().filter(|(j, _)| chosen >> j & 1 == 0) {
                    assert_ne!(i, j);
                    u += if a > b {
                        1.0
                    } else if a == b {
                        0.5
                    } else {
                        0.0
                    };
                }
            }
            u
        };
        let observed = u((1 << first.len()) - 1);
        let choices = (0..1_u32 << all.len()).filter(|chosen| chosen.count_ones() as usize == first.len());
        let us: Vec<f64> = choices.map(u).collect();
        let share =
            |holds: &dyn Fn(f64) -> bool| us.iter().filter(|u| holds(**u)).count() as f64 / us.len() as f64;
        (2.0 * share(&|u| u <= observed).min(share(&|u| u >= observed))).min(1.0)
    }

    #[test]
    fn counted_probabilities_are_those_of_all_permutations_with_and_without_ties() {
        for (first, second) in [
            (vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0]),
            (vec![1.0, 4.0, 6.0, 7.0], vec![2.0, 3.0, 5.0]),
            (vec![1.0, 1.0, 2.0], vec![1.0, 2.0, 3.0, 3.0]),
            (vec![5.0, 5.0, 5.0], vec![5.0, 5.0]),
            (vec![0.0, 1.0, 1.0, 4.0, 9.0], vec![-0.0, 4.0, 4.0, 4.0, 8.0, 9.0]),
        ] {
            let test = mann_whitney(&first, &second).unwrap();
            assert!(
                close(test.p, by_enumeration(&first, &second)),
                "{first:?} {second:?}: {}",
                test.p
            );
        }
        assert_eq!(mann_whitney(&[], &[1.0]), None);
    }

    /// Critical values of U, two-sided 5 %, as printed in every textbook (for example Siegel and Castellan, table J).
    #[test]
    fn critical_values_are_those_of_the_tables() {
        for (m, n, critical) in [
            (4, 4, 0),
            (5, 5, 2),
            (6, 6, 5),
            (5, 8, 6),
            (8, 8, 13),
            (10, 10, 23),
            (20, 20, 127),
        ] {
            let below = u_distribution(m, n);
            assert!(2.0 * below[critical] <= 0.05, "{m} {n}");
            assert!(2.0 * below[critical + 1] > 0.05, "{m} {n}");
            assert!(close(*below.last().unwrap(), 1.0));
        }
    }

    #[test]
    fn the_approximation_meets_the_counted_values_where_it_takes_over() {
        let first: Vec<f64> = (0..20).map(|i| f64::from(i * 7 % 20)).collect();
        for offset in [0.5, 2.5, 4.5, 6.5, 5.0] {
            let second: Vec<f64> = first.iter().map(|value| value + offset).collect();
            let exact = mann_whitney(&first, &second).unwrap();
            let ranked = Ranked::of(&first, &second);
            let approximate = ranked.approximate_p(exact.u, 20.0, 20.0);
            assert!((exact.p - approximate).abs() < 0.005, "{} {approximate}", exact.p);
        }
        let many = vec![1.0; 30];
        let test = mann_whitney(&many, &many).unwrap();
        assert_eq!((test.p, test.exact), (1.0, false));
        let apart: Vec<f64> = (0..30).map(|i| 2.0 + f64::from(i)).collect();
        assert!(mann_whitney(&many, &apart).unwrap().p < 1e-9);
    }

    #[test]
    fn few_trials_have_a_smallest_p() {
        assert!(close(smallest_p(5, 5), 2.0 / 252.0));
        assert!(close(smallest_p(4, 4), 2.0 / 70.0));
        assert_eq!(smallest_p(1, 1), 1.0);
        let separated = mann_whitney(&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0]).unwrap();
        assert!(close(separated.p, smallest_p(5, 5)));
    }

    #[test]
    fn holm_multiplies_by_what_is_left_and_never_falls() {
        // The worked example of Holm's procedure with four hypotheses.
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (adjusted, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!(close(*adjusted, expected), "{adjusted} {expected}");
        }
        assert_eq!(holm(&[]), Vec::<f64>::new());
        assert_eq!(holm(&[0.7, 0.9]), vec![1.0, 1.0]);
    }
}
