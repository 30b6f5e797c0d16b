//! What the log has done so far, readable from any thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counters of one open log. Each is exact; together they are not one moment.
#[derive(Debug, Default)]
pub struct WalStats {
    syncs: AtomicU64,
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
    /// Bytes written for them, padding included.
    pub bytes: u64,
    /// Time spent in these syncs.
    pub sync_ns_total: u64,
    /// The longest of them.
    pub sync_ns_max: u64,
    /// Segments on disk, without the prepared one.
    pub segments: u64,
    /// There is no space for the next segment. What the present one still takes is for votes and for what was accepted
    /// already; the log goes on by itself as soon as there is space.
    pub full: bool,
}

impl WalStats {
    /// Reads the counters.
    pub fn snapshot(&self) -> WalStatsSnapshot {
        WalStatsSnapshot {
            syncs: self.syncs.load(Relaxed),
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
        self.syncs.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        self.sync_ns_total.fetch_add(took_ns, Relaxed);
        self.sync_ns_max.fetch_max(took_ns, Relaxed);
    }
}
