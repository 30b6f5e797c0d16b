//! The statistics behind confidence intervals, thresholds, searches and comparisons.
//!
//! | question | answer | module |
//! |---|---|---|
//! | How many independent values is this series worth? | batch means | [`EffectiveSize`] |
//! | Where would the percentile of a repetition lie? | order statistics | [`percentile_interval`] |
//! | Do two sets of trials differ? | Mann-Whitney U, exact for small sets | [`mann_whitney`] |
//! | By how much? | Hodges-Lehmann shift or ratio, with its interval | [`shift()`], [`ratio`] |
//! | And if many things were compared at once? | Holm's correction | [`holm`] |
//! | Does this series grow? | Theil-Sen slope, with its interval | [`theil_sen`] |
//! | How steady is it? | coefficient of variation | [`coefficient_of_variation`] |
//!
//! Promises: the same input gives the same answer (nothing is resampled or drawn); an answer that the input cannot support
//! is absent, not guessed; all intervals are two-sided at 95 %. No function assumes that latencies follow a normal
//! distribution. Never takes values that follow each other in time for independent: whoever asks for an interval says
//! how many independent values there are.

mod effective;
mod normal;
mod percentile;
mod ranks;
mod shift;
mod slope;
mod spread;

#[cfg(test)]
mod simulations;

pub use effective::{EffectiveSize, LEVELS_MAX};
pub use percentile::{percentile_interval, percentile_interval_among};
pub use ranks::{EXACT_MAX, MannWhitney, holm, mann_whitney, smallest_p};
pub use shift::{PAIRS_MAX, Shift, ratio, shift};
pub use slope::{POINTS_MAX, Slope, theil_sen};
pub use spread::{coefficient_of_variation, mean_interval, median, share_interval};

/// Standard normal quantile at 0.975: what two-sided 95 % intervals are made with.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// A 95 % confidence interval; an open end is infinite.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end, not below the lower one.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies in it, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}
