//! Effective sample size by batch means: how many independent values a series of dependent ones is worth.
//!
//! The method of latte (`EffectiveSampleSizeEstimator` in its `stats` module), which is the batch-means estimate of the
//! integrated autocorrelation time (Law and Kelton, *Simulation Modeling and Analysis*, section 9.5.3). Level k holds the
//! means of batches of 2^k neighbours. If neighbours were independent, the variance of those means would be var / 2^k; that
//! it is larger shows dependence. The autocorrelation time is
//! τ = max over k of 2^k · var(batch means at k) / var(values), where levels are climbed only while
//! τ > 0.2 · 2^k, that is while batches are too short to have outlived the dependence.
//! The series is worth n / τ independent values.
//!
//! Promises: constant memory ([`LEVELS_MAX`] levels), two levels touched per value on average, no division on the way, mergeable.
//! τ is never below one: a series that alternates is not taken for a longer one. Never looks at the times of values, only at
//! their order.

/// Levels kept. Batches are at most 2^31 values long; dependence that reaches further is not seen.
pub const LEVELS_MAX: usize = 32;

/// A variance of fewer batch means than this is not believed, and the climb ends below.
const BATCHES_MIN: u64 = 16;

/// Part of a batch that the autocorrelation time must exceed for the next level to be looked at.
const CLIMB_SHARE: f64 = 0.2;

/// Sums over the batch means of one level, relative to [`EffectiveSize::origin`].
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    count: u64,
    sum: f64,
    sum_of_squares: f64,
    /// The mean of a batch that waits for its neighbour.
    pending: Option<f64>,
}

impl Level {
    fn variance(&self) -> f64 {
        let n = self.count as f64;
        ((self.sum_of_squares - self.sum * self.sum / n) / (n - 1.0)).max(0.0)
    }

    /// The same batch means relative to an origin that lies `by` lower.
    fn moved(mut self, by: f64) -> Level {
        let n = self.count as f64;
        self.sum_of_squares += 2.0 * by * self.sum + n * by * by;
        self.sum += n * by;
        self.pending = self.pending.map(|mean| mean + by);
        self
    }
}

/// Watches a series and tells how many independent values it is worth.
#[derive(Debug, Clone)]
pub struct EffectiveSize {
    /// The first value. Sums are taken relative to it, so that squares keep their digits.
    origin: f64,
    levels: [Level; LEVELS_MAX],
}

impl Default for EffectiveSize {
    fn default() -> Self {
        EffectiveSize {
            origin: 0.0,
            levels: [Level::default(); LEVELS_MAX],
        }
    }
}

impl EffectiveSize {
    /// Adds the next value of the series. Values must be finite.
    pub fn record(&mut self, value: f64) {
        debug_assert!(value.is_finite(), "{value} has no place in a series");
        if self.levels[0].count == 0 {
            self.origin = value;
        }
        let mut mean = value - self.origin;
        for level in &mut self.levels {
            level.count += 1;
            level.sum += mean;
            level.sum_of_squares += mean * mean;
            match level.pending.take() {
                None => {
                    level.pending = Some(mean);
                    return;
                }
                Some(neighbour) => mean = (neighbour + mean) * 0.5,
            }
        }
    }

    /// Adds a series that ran beside this one. Batches that wait for a neighbour in the other series are lost to the higher
    /// levels, because their neighbour is not here; so keep consecutive pieces of one series in one place instead.
    pub fn merge(&mut self, other: &EffectiveSize) {
        if self.count() == 0 {
            *self = other.clone();
            return;
        }
        let by = other.origin - self.origin;
        for (level, theirs) in self.levels.iter_mut().zip(other.levels) {
            let theirs = theirs.moved(by);
            level.count += theirs.count;
            level.sum += theirs.sum;
            level.sum_of_squares += theirs.sum_of_squares;
            level.pending = level.pending.or(theirs.pending);
        }
    }

    /// Values recorded.
    pub fn count(&self) -> u64 {
        self.levels[0].count
    }

    /// The autocorrelation time τ, in values; one for independent values, and where there are too few to tell.
    pub fn autocorrelation_time(&self) -> f64 {
        self.climb().0
    }

    /// Independent values that the series is worth: n / τ, between zero and the count.
    pub fn effective_count(&self) -> f64 {
        self.count() as f64 / self.autocorrelation_time()
    }

    /// Whether the series is long enough for its own dependence: false if batches ended before the dependence did, so that
    /// [`EffectiveSize::effective_count`] may still be too large.
    pub fn is_settled(&self) -> bool {
        self.climb().1
    }

    fn climb(&self) -> (f64, bool) {
        let variance = self.levels[0].variance();
        let mut tau: f64 = 1.0;
        if self.count() < BATCHES_MIN {
            return (tau, false);
        }
        if variance <= 0.0 {
            return (tau, true);
        }
        let mut batch = 1.0;
        for level in &self.levels {
            if level.count < BATCHES_MIN {
                return (tau, false);
            }
            tau = tau.max(batch * level.variance() / variance);
            if tau <= CLIMB_SHARE * batch {
                return (tau, true);
            }
            batch *= 2.0;
        }
        (tau, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = f64>) -> EffectiveSize {
        let mut size = EffectiveSize::default();
        values.into_iter().for_each(|value| size.record(value));
        size
    }

    #[test]
    fn levels_hold_the_means_of_neighbours() {
        let size = of([1.0, 3.0, 5.0, 7.0, 11.0]);
        // Relative to the first value: 0 2 4 6 10; pairs 1 5; fours 3.
        let level = |k: usize| {
            (
                size.levels[k].count,
                size.levels[k].sum,
                size.levels[k].sum_of_squares,
            )
        };
        assert_eq!(level(0), (5, 22.0, 156.0));
        assert_eq!(level(1), (2, 6.0, 26.0));
        assert_eq!(level(2), (1, 3.0, 9.0));
        assert_eq!(level(3), (0, 0.0, 0.0));
        assert_eq!(size.levels[0].variance(), (156.0 - 22.0 * 22.0 / 5.0) / 4.0);
    }

    #[test]
    fn a_series_in_which_each_value_comes_eight_times_is_worth_an_eighth() {
        // Values without structure of their own: multiples of the golden ratio, modulo one, in bit-reversed order.
        let draw = |i: u64| {
            ((i.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (i << 7)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11)
                as f64
        };
        let size = of((0..1 << 16).map(|i| draw(i / 8)));
        let tau = size.autocorrelation_time();
        assert!((7.5..10.0).contains(&tau), "{tau}");
        assert!(size.is_settled());
    }

    #[test]
    fn alternating_and_constant_series_are_worth_their_length() {
        let alternating = of((0..1000).map(|i| f64::from(i % 2)));
        assert_eq!(alternating.effective_count(), 1000.0);
        let constant = of([7.0; 1000]);
        assert_eq!(
            (constant.effective_count(), constant.is_settled()),
            (1000.0, true)
        );
        assert_eq!(of([]).effective_count(), 0.0);
    }

    #[test]
    fn a_series_that_only_climbs_is_never_settled() {
        let climbing = of((0..4096).map(f64::from));
        assert!(!climbing.is_settled());
        assert!(
            climbing.effective_count() < 100.0,
            "{}",
            climbing.effective_count()
        );
        assert!(!of([1.0, 2.0]).is_settled());
    }

    #[test]
    fn merging_adds_the_moments_exactly_and_loses_at_most_one_batch_a_level() {
        let whole = of((0..1000).map(|i| f64::from(i * i % 97)));
        let mut merged = of((0..600).map(|i| f64::from(i * i % 97)));
        merged.merge(&of((600..1000).map(|i| f64::from(i * i % 97))));
        assert_eq!(merged.count(), 1000);
        let error = (merged.levels[0].variance() / whole.levels[0].variance() - 1.0).abs();
        assert!(error < 1e-12, "{error}");
        for (merged, whole) in merged.levels.iter().zip(&whole.levels) {
            assert!(whole.count - merged.count <= 1);
        }
        let mut empty = EffectiveSize::default();
        empty.merge(&whole);
        assert_eq!(empty.count(), 1000);
        empty.merge(&EffectiveSize::default());
        assert_eq!(
            (empty.count(), empty.effective_count()),
            (1000, whole.effective_count())
        );
    }

    #[test]
    fn one_outlier_in_front_does_not_cost_the_digits_of_the_rest() {
        let mut values = vec![2e9];
        values.extend((0..100_000).map(|i| 1e6 + f64::from(i % 7)));
        let size = of(values);
        // One value of 100,001 lies about 2e9 off: variance ≈ (2e9)² / n.
        let expected = (2e9_f64 - 1e6).powi(2) / 100_001.0;
        assert!((size.levels[0].variance() / expected - 1.0).abs() < 1e-4);
    }
}
