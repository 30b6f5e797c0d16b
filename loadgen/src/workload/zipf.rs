//! Ranks by Zipf's law: rank `k` of `n` is drawn in proportion to `k^-theta`, exactly, for any `theta` above zero.
//!
//! Rejection-inversion after Hörmann and Derflinger (*Rejection-inversion to generate variates from monotone discrete
//! distributions*, ACM TOMACS 6(3), 1996), in the form of Apache Commons' `RejectionInversionZipfSampler`. It needs no
//! table and no sum over `n`, so a hundred million keys cost no more than ten, and `theta` may be one or above, where
//! the method of Gray et al. that YCSB uses has no answer. Promises ranks below `n`. Never scrambles: rank zero is the
//! most frequent.

use super::random::{mix_bits, unit};

/// A distance of `theta` from one below which it counts as one: the closed forms would divide by next to nothing.
const NEAR_ONE: f64 = 1e-9;

/// The part of the method that does not depend on the number of items.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ZipfShape {
    theta: f64,
    /// `1 - theta`, and its inverse.
    power: f64,
    power_inverse: f64,
    logarithmic: bool,
    /// Integral of the density up to 1.5, without the whole first bar: where the first rank begins.
    begin: f64,
    /// Draws this close above their rank are taken without a look at the density.
    squeeze: f64,
}

/// Zipf's law over a number of items.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Zipf {
    shape: ZipfShape,
    items: u64,
    end: f64,
}

impl ZipfShape {
    /// For a `theta` above zero and finite.
    pub(super) fn new(theta: f64) -> ZipfShape {
        let power = 1.0 - theta;
        let mut shape = ZipfShape {
            theta,
            power,
            power_inverse: 1.0 / power,
            logarithmic: power.abs() < NEAR_ONE,
            begin: 0.0,
            squeeze: 0.0,
        };
        shape.begin = shape.integral(1.5) - 1.0;
        shape.squeeze = 2.0 - shape.integral_inverse(shape.integral(2.5) - shape.density(2.0));
        shape
    }

    /// The law over `items`, at least one.
    pub(super) fn over(self, items: u64) -> Zipf {
        Zipf {
            shape: self,
            items,
            end: self.integral(items as f64 + 0.5),
        }
    }

    fn density(&self, x: f64) -> f64 {
        (-self.theta * x.ln()).exp()
    }

    /// Integral of the density from one to `x`.
    fn integral(&self, x: f64) -> f64 {
        if self.logarithmic {
            x.ln()
        } else {
            (self.power * x.ln()).exp_m1() * self.power_inverse
        }
    }

    fn integral_inverse(&self, area: f64) -> f64 {
        if self.logarithmic {
            area.exp()
        } else {
            // Rounding may put the argument below -1, where the inverse has a pole; infinity is clamped by the caller.
            ((self.power * area).max(-1.0).ln_1p() * self.power_inverse).exp()
        }
    }
}

impl Zipf {
    /// A rank below the number of items, from a random word. Draws again from the word itself where the method rejects.
    #[inline]
    pub(super) fn rank(&self, mut word: u64) -> u64 {
        loop {
            let area = self.end + unit(word) * (self.shape.begin - self.end);
            let x = self.shape.integral_inverse(area);
            // The conversion saturates.
            let rank = ((x + 0.5) as u64).clamp(1, self.items);
            let at = rank as f64;
            if at - x <= self.shape.squeeze || area >= self.shape.integral(at + 0.5) - self.shape.density(at)
            {
                return rank - 1;
            }
            word = mix_bits(word);
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
        let zipf = ZipfShape::new(drawn).over(items);
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
        for theta in [0.1, 0.5, 0.99, 1.0, 1.2, 3.0] {
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
                    assert!(
                        ZipfShape::new(theta).over(items).rank(word) < items,
                        "{theta} {items}"
                    );
                }
            }
        }
        assert!((0..100).all(|n| ZipfShape::new(40.0).over(1 << 40).rank(mix_bits(n)) == 0));
    }
}
