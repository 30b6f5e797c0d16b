//! Ranks by Zipf's law: rank `k` of `n` is drawn in proportion to `k^-theta`, exactly, for any `theta` above zero.
//!
//! Rejection-inversion after Hörmann and Derflinger (*Rejection-inversion to generate variates from monotone discrete
//! distributions*, ACM TOMACS 6(3), 1996), with the bounds of acceptance of the first ranks computed beforehand where
//! the paper computes one for all. It needs no table that grows with `n` and no sum over `n`, so a hundred million keys
//! cost no more than ten, and `theta` may be one or above, where the method of Gray et al. that YCSB uses has no answer.
//! Promises ranks below `n`. Never scrambles: rank zero is the most frequent.

use super::random::{mix_bits, unit};

/// A distance of `theta` from one below which it counts as one: the closed forms would divide by next to nothing.
const NEAR_ONE: f64 = 1e-9;
/// A distance of `theta` from one above which plain logarithm and exponential lose no more than four of their sixteen
/// digits. They take half the time of those that are exact near zero.
const FAR_FROM_ONE: f64 = 1e-4;

/// Ranks whose bound of acceptance is computed beforehand; for those beyond, the last of these accepts nearly all.
const BOUNDS: usize = 64;

/// Zipf's law over a number of items.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Zipf {
    theta: f64,
    /// `1 - theta`, and its inverse.
    power: f64,
    power_inverse: f64,
    form: Form,
    items: u64,
    /// Integral of the density up to 1.5, without the whole first bar: where the first rank begins.
    begin: f64,
    /// Integral of the density up to half a rank beyond the last: where that ends.
    end: f64,
    /// A draw is accepted for a rank if it is no further below it than this. The bounds grow from the second rank on,
    /// to a half; for the first every draw is accepted.
    bounds: [f64; BOUNDS],
}

/// How the integral of the density is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `ln x`, for a `theta` of one.
    Logarithm,
    /// `(x^power - 1) / power` where the power is small: exact near zero.
    NearZero,
    /// The same where it is not.
    Plain,
}

impl Zipf {
    /// For a `theta` above zero and finite, over `items`, at least one.
    pub(super) fn new(theta: f64, items: u64) -> Zipf {
        let power = 1.0 - theta;
        let mut zipf = Zipf {
            theta,
            power,
            power_inverse: 1.0 / power,
            form: match power.abs() {
                distance if distance < NEAR_ONE => Form::Logarithm,
                distance if distance < FAR_FROM_ONE => Form::NearZero,
                _ => Form::Plain,
            },
            items,
            begin: 0.0,
            end: 0.0,
            bounds: [f64::INFINITY; BOUNDS],
        };
        zipf.begin = zipf.integral(1.5) - 1.0;
        zipf.end = zipf.end_of(items);
        for rank in 2..=BOUNDS {
            zipf.bounds[rank - 1] = rank as f64 - zipf.integral_inverse(zipf.accepted_from(rank as f64));
        }
        zipf
    }

    /// A rank below the number of items, from a random word.
    #[inline]
    pub(super) fn rank(&self, word: u64) -> u64 {
        self.draw(word, self.items, self.end)
    }

    /// The same over another number of items, at least one.
    #[inline]
    pub(super) fn rank_over(&self, items: u64, word: u64) -> u64 {
        if items == self.items {
            self.rank(word)
        } else {
            self.draw(word, items, self.end_of(items))
        }
    }

    /// Draws again from the word itself where the method rejects.
    #[inline]
    fn draw(&self, mut word: u64, items: u64, end: f64) -> u64 {
        loop {
            let area = end + unit(word) * (self.begin - end);
            let x = self.integral_inverse(area);
            // The conversion saturates.
            let rank = ((x + 0.5) as u64).clamp(1, items);
            let at = rank as f64;
            let bound = self.bounds[BOUNDS.min(rank as usize) - 1];
            if at - x <= bound || (rank as usize > BOUNDS && area >= self.accepted_from(at)) {
                return rank - 1;
            }
            word = mix_bits(word);
        }
    }

    /// The area from which on a draw is accepted for a rank: the last part of its bar that is as wide as it is high.
    fn accepted_from(&self, rank: f64) -> f64 {
        self.integral(rank + 0.5) - self.density(rank)
    }

    fn end_of(&self, items: u64) -> f64 {
        self.integral(items as f64 + 0.5)
    }

    fn density(&self, x: f64) -> f64 {
        (-self.theta * x.ln()).exp()
    }

    /// Integral of the density from one to `x`.
    #[inline]
    fn integral(&self, x: f64) -> f64 {
        match self.form {
            Form::Plain => ((self.power * x.ln()).exp() - 1.0) * self.power_inverse,
            Form::NearZero => (self.power * x.ln()).exp_m1() * self.power_inverse,
            Form::Logarithm => x.ln(),
        }
    }

    /// Rounding may put the argument of the logarithm below zero, where the inverse has a pole; the infinity of zero is
    /// clamped by the caller.
    #[inline]
    fn integral_inverse(&self, area: f64) -> f64 {
        match self.form {
            Form::Plain => ((1.0 + self.power * area).max(0.0).ln() * self.power_inverse).exp(),
            Form::NearZero => ((self.power * area).max(-1.0).ln_1p() * self.power_inverse).exp(),
            Form::Logarithm => area.exp(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::random::{Lane, Random};
    use crate::workload::statistics::chi_square_z;

    /// Probability of each rank, by summing up.
    fn probabilities(theta: f64, items: u64) -> Vec<f64> {
        let weights: Vec<f64> = (1..=items).map(|rank| (rank as f64).powf(-theta)).collect();
        // From the small end, so that the sum is exact enough.
        let sum: f64 = weights.iter().rev().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }

    fn deviation(drawn: f64, expected: f64, items: u64, draws: u64) -> f64 {
        let zipf = Zipf::new(drawn, items);
        let random = Random::new(11);
        let mut counts = vec![0_u64; items as usize];
        for number in 0..draws {
            counts[zipf.rank(random.word(Lane::Key, number)) as usize] += 1;
        }
        let expected = probabilities(expected, items);
        chi_square_z(&counts, |rank| expected[rank])
    }

    #[test]
    fn ranks_follow_the_law_for_few_and_for_a_million_items() {
        for theta in [0.1, 0.5, 0.99, 0.99995, 1.0, 1.2, 3.0] {
            for (items, draws) in [
                (2, 200_000),
                (10, 200_000),
                (1000, 300_000),
                (1_000_000, 1_000_000),
            ] {
                let z = deviation(theta, theta, items, draws);
                assert!(z.abs() < 5.0, "theta {theta} over {items}: z = {z}");
            }
        }
    }

    #[test]
    fn a_theta_that_is_slightly_wrong_is_noticed() {
        for theta in [0.5, 0.99, 1.2] {
            let z = deviation(theta, theta + 0.02, 1000, 300_000);
            assert!(z > 5.0, "theta {theta}: z = {z}");
        }
        assert!(deviation(1.0, 0.99, 1000, 1_000_000) > 5.0);
    }

    #[test]
    fn bounds_grow_to_a_half_so_that_the_last_holds_for_all_beyond() {
        for theta in [0.1, 0.5, 0.99, 0.99995, 1.0, 1.2, 3.0] {
            let zipf = Zipf::new(theta, 1 << 30);
            assert!(zipf.bounds[1..].is_sorted(), "{theta}");
            let last = zipf.bounds[BOUNDS - 1];
            assert!((0.4..0.5).contains(&last), "{theta}: {last}");
            for rank in [65, 100, 1000, 10_000] {
                let bound = f64::from(rank) - zipf.integral_inverse(zipf.accepted_from(f64::from(rank)));
                assert!((last..0.5).contains(&bound), "{theta}: {bound} at {rank}");
            }
        }
    }

    #[test]
    fn another_number_of_items_is_no_different() {
        let (one, other) = (Zipf::new(0.8, 10), Zipf::new(0.8, 5000));
        for number in 0..2000 {
            let word = mix_bits(number);
            assert_eq!(one.rank_over(5000, word), other.rank(word));
            assert_eq!(one.rank_over(10, word), one.rank(word));
        }
    }

    #[test]
    fn extremes_stay_in_range() {
        let random = Random::new(5);
        let words = (0..2000)
            .map(|n| random.word(Lane::Key, n))
            .chain([0, u64::MAX, 1 << 63]);
        for word in words {
            for theta in [
                1e-6,
                0.99,
                1.0 - 1e-10,
                1.0,
                1.0 + 1e-10,
                1.0 + 1e-8,
                2.0,
                40.0,
                1e6,
            ] {
                for items in [1, 2, 3, 1 << 20, 1 << 53] {
                    assert!(Zipf::new(theta, items).rank(word) < items, "{theta} {items}");
                }
            }
        }
        assert!((0..100).all(|n| Zipf::new(40.0, 1 << 40).rank(mix_bits(n)) == 0));
    }
}
