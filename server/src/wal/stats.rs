//! What the log has done so far, readable from any thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How many syncs are told apart by what they took: one bucket for each of [`WalStats::SYNC_BOUNDS`], one for the longer.
const BUCKETS: usize = WalStats::SYNC_BOUNDS.len() + 1;

/// Counters of one open log. Each is exact; together they are not one moment.
#[derive(Debug, Default)]
pub struct WalStats {
    /// Each sync counts in one: the first whose bound it did not exceed.
    sync_buckets: [AtomicU64; BUCKETS],
    bytes: AtomicU64,
    sync_ns_total: AtomicU64,
    sync_ns_max: AtomicU64,
    segments: AtomicU64,
    full: AtomicBool,
}

/// The counters at about one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalStatsSnapshot {
    /// Groups written and synced.
    pub syncs: u64,
    /// How many of them took no longer than each of [`WalStats::SYNC_BOUNDS`].
    pub syncs_within: [u64; WalStats::SYNC_BOUNDS.len()],
    /// Bytes written for them, padding included.
    pub bytes: u64,
    /// Nanoseconds spent in these syncs.
    pub sync_ns_total: u64,
    /// Nanoseconds of the longest of them.
    pub sync_ns_max: u64,
    /// Segments on disk, without the prepared one.
    pub segments: u64,
    /// There is no space for the next segment. What the present one still takes is for votes and for what was accepted
    /// already; the log goes on by itself as soon as there is space.
    pub full: bool,
}

impl WalStats {
    /// What syncs are measured against: 50 µs, and each bound twice the one before, up to 6.5536 s.
    pub const SYNC_BOUNDS: [Duration; 18] = {
        let mut bounds = [Duration::from_micros(50); 18];
        let mut at = 1;
        while at < bounds.len() {
            bounds[at] = bounds[at - 1].saturating_mul(2);
            at += 1;
        }
        bounds
    };

    /// Reads the counters. The syncs are added up from the buckets, so those of one reading never contradict each other.
    pub fn snapshot(&self) -> WalStatsSnapshot {
        let mut syncs = 0;
        let upto = self.sync_buckets.each_ref().map(|bucket| {
            syncs += bucket.load(Relaxed);
            syncs
        });
        WalStatsSnapshot {
            syncs,
            syncs_within: std::array::from_fn(|at| upto[at]),
            bytes: self.bytes.load(Relaxed),
            sync_ns_total: self.sync_ns_total.load(Relaxed),
            sync_ns_max: self.sync_ns_max.load(Relaxed),
            segments: self.segments.load(Relaxed),
            full: self.is_full(),
        }
    }

    /// See [`WalStatsSnapshot::full`].
    pub fn is_full(&self) -> bool {
        self.full.load(Relaxed)
    }

    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Relaxed);
    }

    pub(super) fn set_segments(&self, count: usize) {
        self.segments.store(count as u64, Relaxed);
    }

    pub(super) fn synced(&self, bytes: u64, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = Self::SYNC_BOUNDS.partition_point(|bound| *bound < took);
        self.sync_buckets[bucket].fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        self.sync_ns_total.fetch_add(took_ns, Relaxed);
        self.sync_ns_max.fetch_max(took_ns, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_counts_for_every_bound_that_it_did_not_exceed() {
        let stats = WalStats::default();
        let [shortest, .., longest] = WalStats::SYNC_BOUNDS;
        assert_eq!(longest, Duration::from_micros(6_553_600));
        let nanosecond = Duration::from_nanos(1);
        for took in [
            Duration::ZERO,
            shortest,
            shortest + nanosecond,
            2 * shortest + nanosecond,
            longest,
            longest + nanosecond,
            Duration::MAX,
        ] {
            stats.synced(4096, took);
        }
        let now = stats.snapshot();
        let mut expected = [4; WalStats::SYNC_BOUNDS.len()];
        (expected[0], expected[1], expected[expected.len() - 1]) = (2, 3, 5);
        assert_eq!(now.syncs_within, expected);
        assert_eq!((now.syncs, now.bytes), (7, 7 * 4096), "two exceed every bound");
    }
}
