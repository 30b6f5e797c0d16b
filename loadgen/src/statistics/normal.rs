//! The upper tail of the standard normal distribution.
//!
//! Series near the middle (Marsaglia, *Evaluating the Normal Distribution*, Journal of Statistical Software 11(4), 2004),
//! Laplace's continued fraction beyond (Abramowitz and Stegun 26.2.14); absolute error below 1e-14, relative error in the
//! tail below 1e-9.

use std::f64::consts::PI;

/// Beyond this the continued fraction converges faster than the series.
const SERIES_MAX: f64 = 3.0;

/// Depth of the continued fraction: at [`SERIES_MAX`] the rest is below 1e-14.
const DEPTH: u32 = 120;

/// P(Z > z).
pub(super) fn upper_tail(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - upper_tail(-z);
    }
    let density = (-z * z / 2.0).exp() / (2.0 * PI).sqrt();
    if z <= SERIES_MAX {
        let (mut term, mut sum, mut odd) = (z, z, 1.0);
        while term > sum * 1e-17 {
            odd += 2.0;
            term *= z * z / odd;
            sum += term;
        }
        0.5 - density * sum
    } else {
        let fraction = (1..=DEPTH)
            .rev()
            .fold(z, |below, step| z + f64::from(step) / below);
        density / fraction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_those_of_the_tables() {
        for (z, expected) in [
            (0.0, 0.5),
            (1.0, 0.158_655_253_931_457),
            (1.959_963_984_540_054, 0.025),
            (2.575_829_303_548_901, 0.005),
            (3.0, 0.001_349_898_031_630_09),
            (3.000_001, 0.001_349_893_599_785_6),
            (4.0, 3.167_124_183_311_99e-5),
            (6.0, 9.865_876_450_376_98e-10),
            (-1.0, 0.841_344_746_068_543),
        ] {
            let error = upper_tail(z) / expected - 1.0;
            assert!(error.abs() < 1e-8, "{z}: {} instead of {expected}", upper_tail(z));
        }
    }
}
