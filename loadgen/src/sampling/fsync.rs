//! The books on the fsyncs that one server tells of.
//!
//! Promises: what happened before the first page was read does not count; a server that was started again, which shows in
//! a counter that fell, goes on from zero. Never invents a percentile: one is the upper edge of the server's own bucket.

use reports::record::FsyncUse;

use super::scrape::Fsyncs;

/// The books.
#[derive(Debug, Default)]
pub(super) struct FsyncBook {
    base: Option<Fsyncs>,
    last: Fsyncs,
    /// Of servers of this name that have ended.
    ended: Fsyncs,
    max: Option<u64>,
}

impl FsyncBook {
    /// Takes in what a page says. `from_zero`: the server began after the sampling did.
    pub(super) fn take_in(&mut self, now: Fsyncs, from_zero: bool) {
        if self.base.is_none() {
            self.base = Some(if from_zero { Fsyncs::default() } else { now.clone() });
        } else if now.count < self.last.count || now.total < self.last.total {
            self.ended = self.so_far();
            self.base = Some(Fsyncs::default());
        }
        self.max = self.max.max(now.max);
        self.last = now;
    }

    /// Count and nanoseconds so far; nothing before the first page.
    pub(super) fn count_and_total(&self) -> Option<(u64, u64)> {
        let base = self.base.as_ref()?;
        Some((
            self.ended.count + (self.last.count - base.count.min(self.last.count)),
            self.ended.total + (self.last.total - base.total.min(self.last.total)),
        ))
    }

    fn so_far(&self) -> Fsyncs {
        let (count, total) = self.count_and_total().unwrap_or_default();
        let base = self.base.as_ref().map_or(&[][..], |base| &base.buckets);
        Fsyncs {
            count,
            total,
            max: self.max,
            buckets: plus(&self.ended.buckets, &minus(&self.last.buckets, base)),
        }
    }

    /// All of it.
    pub(super) fn summary(&self) -> Option<FsyncUse> {
        self.base.as_ref()?;
        let all = self.so_far();
        Some(FsyncUse {
            count: all.count,
            total: all.total,
            mean: all.total.checked_div(all.count),
            p50: at_most(&all.buckets, 500),
            p99: at_most(&all.buckets, 990),
            max: all.max,
        })
    }
}

/// Buckets of a growing histogram since `base`, which may be empty.
fn minus(now: &[(u64, u64)], base: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let before = |edge| {
        base.iter()
            .find(|(of, _)| *of == edge)
            .map_or(0, |(_, count)| *count)
    };
    now.iter()
        .map(|&(edge, count)| (edge, count.saturating_sub(before(edge))))
        .collect()
}

/// The sum of two histograms of the same store; where the edges differ, the newer one alone.
fn plus(older: &[(u64, u64)], newer: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let same = older.len() == newer.len() && older.iter().zip(newer).all(|(a, b)| a.0 == b.0);
    match same {
        true => older.iter().zip(newer).map(|(a, b)| (a.0, a.1 + b.1)).collect(),
        false => newer.to_vec(),
    }
}

/// The finite edge that this many thousandths are at or below.
fn at_most(buckets: &[(u64, u64)], thousandths: u64) -> Option<u64> {
    let total = buckets.last()?.1;
    let rank = (u128::from(total) * u128::from(thousandths)).div_ceil(1000) as u64;
    let (edge, _) = buckets.iter().find(|(_, count)| *count >= rank.max(1))?;
    (*edge != u64::MAX).then_some(*edge)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn page(count: u64, total: u64, buckets: [u64; 2]) -> Fsyncs {
        Fsyncs {
            count,
            total,
            max: Some(total / 10),
            buckets: vec![(1000, buckets[0]), (2000, buckets[1]), (u64::MAX, count)],
        }
    }

    #[test]
    fn only_what_happened_meanwhile_counts() {
        let mut book = FsyncBook::default();
        assert_eq!((book.summary(), book.count_and_total()), (None, None));
        book.take_in(page(1000, 90_000_000, [0, 0]), false);
        assert_eq!(book.count_and_total(), Some((0, 0)));
        assert_eq!(book.summary().unwrap().mean, None);
        book.take_in(page(1100, 90_150_000, [60, 99]), false);
        let all = book.summary().unwrap();
        assert_eq!((all.count, all.total, all.mean), (100, 150_000, Some(1500)));
        assert_eq!((all.p50, all.p99), (Some(1000), Some(2000)));
    }

    #[test]
    fn a_server_that_was_started_again_goes_on() {
        let mut book = FsyncBook::default();
        book.take_in(page(100, 1000, [0, 0]), false);
        book.take_in(page(150, 1500, [50, 50]), false);
        book.take_in(page(10, 700, [0, 10]), false);
        book.take_in(page(50, 1400, [0, 50]), false);
        let all = book.summary().unwrap();
        assert_eq!((all.count, all.total), (100, 1900));
        assert_eq!((all.p50, all.p99, all.max), (Some(1000), Some(2000), Some(150)));
    }

    #[test]
    fn a_server_that_began_later_counts_from_zero() {
        let mut book = FsyncBook::default();
        book.take_in(page(10, 700, [0, 10]), true);
        assert_eq!(book.count_and_total(), Some((10, 700)));
    }

    #[test]
    fn beyond_the_last_edge_nothing_is_said() {
        let mut book = FsyncBook::default();
        book.take_in(page(0, 0, [0, 0]), false);
        book.take_in(page(100, 900, [60, 90]), false);
        let all = book.summary().unwrap();
        assert_eq!((all.p50, all.p99), (Some(1000), None));
        assert_eq!(at_most(&[], 500), None);
        assert_eq!(at_most(&[(1000, 0), (u64::MAX, 0)], 500), None);
    }
}
