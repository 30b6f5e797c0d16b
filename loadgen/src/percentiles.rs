//! Latencies of one kind, and what may be said about them.
//!
//! Promises: minimum, maximum and mean are exact; percentiles come from a histogram with three digits; a percentile with
//! fewer than ten values beyond it is refused, not guessed; one that is certainly among values that are infinite is named
//! as such. Never corrects or invents a value.

use hdrhistogram::{Counter, Histogram};
use reports::record::{Confidence, Nanos, Percentiles};

use crate::statistics::{percentile_interval_among, share_interval};

/// Values that must lie beyond a percentile for it to mean something.
const BEYOND_MIN: u64 = 10;
/// Digits that a recorded value keeps.
pub(crate) const DIGITS: u8 = 3;

/// The percentiles, by the names that the record uses, in ten-thousandths.
const NAMED: [(&str, u64); 5] = [
    ("p50", 5000),
    ("p90", 9000),
    ("p99", 9900),
    ("p999", 9990),
    ("p9999", 9999),
];

/// A growing set of latencies.
#[derive(Debug, Clone)]
pub struct Latencies {
    histogram: Histogram<u64>,
    min: Nanos,
    max: Nanos,
    sum: u128,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies {
            histogram: growing(),
            min: Nanos::MAX,
            max: 0,
            sum: 0,
        }
    }
}

/// A histogram that grows to whatever it has to hold.
pub(crate) fn growing<C: Counter>() -> Histogram<C> {
    Histogram::new(DIGITS).expect("three digits are within what the histogram supports")
}

/// Adds a value to a growing histogram. (`saturating_record` would clamp to the present size instead of growing.)
pub(crate) fn record<C: Counter>(histogram: &mut Histogram<C>, value: Nanos) {
    histogram
        .record(value)
        .expect("64 bits of nanoseconds fit into the largest histogram");
}

impl Latencies {
    /// From a histogram with what it has only roughly. Nothing if that cannot belong together.
    pub(crate) fn from_parts(
        histogram: Histogram<u64>,
        min: Nanos,
        max: Nanos,
        sum: u128,
    ) -> Option<Latencies> {
        if histogram.is_empty() {
            return Some(Latencies::default());
        }
        let count = u128::from(histogram.len());
        let fits = (u128::from(min) * count..=u128::from(max) * count).contains(&sum);
        let mut own = growing();
        (fits && own.add(&histogram).is_ok()).then_some(Latencies {
            histogram: own,
            min,
            max,
            sum,
        })
    }

    /// The histogram, the smallest and the largest value, and the sum of all.
    pub(crate) fn parts(&self) -> (&Histogram<u64>, Nanos, Nanos, u128) {
        (&self.histogram, self.min, self.max, self.sum)
    }

    /// Adds a value.
    pub fn record(&mut self, value: Nanos) {
        record(&mut self.histogram, value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += u128::from(value);
    }

    /// Adds all values of `other`.
    pub fn absorb(&mut self, other: &Latencies) {
        self.histogram
            .add(&other.histogram)
            .expect("both grow to whatever they have to hold");
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Values above this one, to the digits that are kept.
    pub(crate) fn above(&self, value: Nanos) -> u64 {
        let next = self.histogram.next_non_equivalent(value);
        match next > self.max {
            true => 0,
            false => self.histogram.count_between(next, self.max),
        }
    }

    /// The bare histogram.
    pub fn into_histogram(self) -> Histogram<u64> {
        self.histogram
    }

    /// The value that `rank` values (from 1) are at or below.
    fn at_rank(&self, rank: u64) -> Nanos {
        // The middle of the rank's step, where rounding cannot reach the next one.
        let quantile = (rank as f64 - 0.5) / self.count() as f64;
        self.histogram
            .value_at_quantile(quantile)
            .clamp(self.min, self.max)
    }

    /// The usual percentiles of these values, without a word on how sure they are.
    pub fn percentiles(&self) -> Percentiles {
        Percentiles {
            confidence: None,
            ..self.percentiles_worth(1.0)
        }
    }

    /// The usual percentiles of these values, which are worth this part of their number in independent ones.
    pub fn percentiles_worth(&self, worth: f64) -> Percentiles {
        self.percentiles_among(self.count(), worth)
    }

    /// The usual percentiles of `total` values, of which those that are not here count as infinite.
    pub fn percentiles_among(&self, total: u64, worth: f64) -> Percentiles {
        let total = total.max(self.count());
        let finite = |there: bool| there && self.count() > 0;
        let complete = finite(total == self.count());
        Percentiles {
            count: total,
            min: finite(true).then_some(self.min),
            mean: complete.then(|| self.sum as f64 / total as f64),
            p50: self.percentile(5000, total),
            p90: self.percentile(9000, total),
            p99: self.percentile(9900, total),
            p999: self.percentile(9990, total),
            p9999: self.percentile(9999, total),
            max: complete.then_some(self.max),
            never: self.never(total),
            confidence: self.confidence(total, worth).map(Box::new),
        }
    }

    /// Names of the percentiles that are certainly infinite.
    fn never(&self, total: u64) -> Vec<String> {
        let infinite = |(_, share): &(&str, u64)| self.is_infinite(*share, total);
        let names = NAMED.iter().filter(|named| infinite(named));
        names.map(|(name, _)| (*name).to_owned()).collect()
    }

    /// Whether a percentile in ten-thousandths is among values that are not here: by its rank if the sample is large enough
    /// for it, else because so many are not here that chance does not explain it.
    fn is_infinite(&self, share: u64, total: u64) -> bool {
        let rank = rank(share, total);
        if rank <= self.count() {
            return false;
        }
        let beyond = 1.0 - share as f64 / 1e4;
        let missing = share_interval((total - self.count()) as f64, total as f64);
        total - rank >= BEYOND_MIN || missing.is_some_and(|missing| missing.low > beyond)
    }

    /// How sure the percentiles are; nothing if there is none that could be sure. A percentile without an interval is known
    /// to nobody knows what.
    fn confidence(&self, total: u64, worth: f64) -> Option<Confidence> {
        let effective_count = total as f64 * worth.min(1.0);
        let interval = |share: u64| {
            self.percentile(share, total)?;
            let quantile = share as f64 / 1e4;
            let interval = percentile_interval_among(&self.histogram, total, quantile, effective_count)?;
            let finite = interval.low.is_finite() && interval.high.is_finite();
            finite.then_some((interval.low as Nanos, interval.high as Nanos))
        };
        let confidence = Confidence {
            effective_count,
            p50: interval(5000),
            p90: interval(9000),
            p99: interval(9900),
            p999: interval(9990),
        };
        (self.percentile(5000, total).is_some()).then_some(confidence)
    }

    /// A percentile in ten-thousandths; nothing if it is infinite or the sample too small.
    fn percentile(&self, share: u64, total: u64) -> Option<Nanos> {
        let rank = rank(share, total);
        let supported = total - rank >= BEYOND_MIN;
        (supported && (1..=self.count()).contains(&rank)).then(|| self.at_rank(rank))
    }
}

/// Which of `total` values, in their order and from one, is this percentile in ten-thousandths.
fn rank(share: u64, total: u64) -> u64 {
    (u128::from(total) * u128::from(share)).div_ceil(10_000) as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn latencies(values: impl IntoIterator<Item = Nanos>) -> Latencies {
        let mut latencies = Latencies::default();
        values.into_iter().for_each(|value| latencies.record(value));
        latencies
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let p = latencies((1..=10_000).map(|n| n * 1000)).percentiles();
        let close = |found: Option<Nanos>, expected: f64| {
            let found = found.unwrap() as f64;
            assert!((found / expected - 1.0).abs() < 0.001, "{found} for {expected}");
        };
        close(p.p50, 5_000_000.0);
        close(p.p90, 9_000_000.0);
        close(p.p99, 9_900_000.0);
        close(p.p999, 9_990_000.0);
        assert_eq!((p.count, p.min, p.max), (10_000, Some(1000), Some(10_000_000)));
        assert_eq!(p.mean, Some(5_000_500.0));
    }

    #[test]
    fn any_number_of_nanoseconds_can_be_recorded() {
        let all = latencies([0, 1, u64::MAX / 2, u64::MAX]);
        assert_eq!((all.count(), all.percentiles().max), (4, Some(u64::MAX)));
    }

    #[test]
    fn a_percentile_with_fewer_than_ten_values_beyond_it_is_refused() {
        let p = latencies(1..=19).percentiles();
        assert_eq!((p.p50, p.min, p.max), (None, Some(1), Some(19)));
        let p = latencies(1..=20).percentiles();
        assert_eq!((p.p50, p.p90), (Some(10), None));
        let p = latencies(1..=999).percentiles();
        assert!(p.p90.is_some() && p.p99.is_none());
        assert!(latencies(1..=1000).percentiles().p99.is_some());
        assert_eq!(latencies([]).percentiles(), Percentiles::default());
    }

    #[test]
    fn what_did_not_end_well_counts_as_infinitely_slow() {
        let fast = latencies(std::iter::repeat_n(1000, 980));
        let p = fast.percentiles_among(1000, 1.0);
        assert_eq!(p.count, 1000);
        assert!(p.p50.is_some() && p.p90.is_some());
        assert_eq!((p.p99, p.mean, p.max), (None, None, None), "2 % are infinite");
        // The tenth of a thousand: 11 infinite ones leave rank 990 infinite too, ten do not.
        assert_eq!(
            latencies(std::iter::repeat_n(1, 989))
                .percentiles_among(1000, 1.0)
                .p99,
            None
        );
        assert_eq!(
            latencies(std::iter::repeat_n(1, 990))
                .percentiles_among(1000, 1.0)
                .p99,
            Some(1)
        );
    }

    #[test]
    fn what_is_certainly_infinite_is_told_from_what_is_refused() {
        let never = |finite, total| {
            latencies(std::iter::repeat_n(1000, finite))
                .percentiles_among(total, 1.0)
                .never
        };
        assert!(never(500, 500).is_empty() && never(0, 0).is_empty());
        // Too few for a 99th percentile, but nearly half are infinite.
        assert_eq!(never(310, 500), ["p90", "p99", "p999", "p9999"]);
        assert_eq!(never(0, 500).len(), 5);
        assert_eq!(never(989, 1000)[0], "p99");
        assert!(!never(990, 1000).contains(&"p99".to_owned()));
        // One in a hundred may be chance.
        assert!(!never(99, 100).contains(&"p99".to_owned()));
    }

    #[test]
    fn a_sample_worth_too_little_for_any_interval_says_what_it_is_worth() {
        let p = latencies(1..=5000).percentiles_worth(0.0084);
        let confidence = p.confidence.unwrap();
        assert!(p.p99.is_some() && confidence.p99.is_none());
        assert!((confidence.effective_count - 42.0).abs() < 0.01);
    }

    #[test]
    fn values_above_a_limit_are_counted() {
        let all = latencies([0, 1000, 1000, 1001, 5000]);
        assert_eq!((all.above(1000), all.above(999), all.above(5000)), (2, 4, 0));
        assert_eq!(latencies([]).above(1), 0);
    }
}
