//! What the benches of clusters in memory share: the cluster of our own cores, and the clock around its work.

pub(crate) mod trio;

use std::time::{Duration, Instant};

use criterion::Bencher;

/// Three nodes in one thread, whose network and disks answer at once. The first leads.
pub(crate) trait Cluster {
    /// How many entries one unit of the work appends.
    fn entries(&self) -> u64;
    /// One unit of the work. Kept out of line, so that a profiler can tell it from what surrounds it.
    fn work(&mut self);
    /// Panics unless all of the work so far was done.
    fn check(&mut self);
}

/// The logs stay in memory, so a cluster is replaced after so many entries.
const ENTRIES_MAX: u64 = 100_000;

/// Measures the work alone, without the elections before and the checks after it.
pub(crate) fn measure<C: Cluster>(bencher: &mut Bencher<'_>, elected: impl Fn() -> C) {
    bencher.iter_custom(|iterations| {
        let mut spent = Duration::ZERO;
        let mut left = iterations;
        while left > 0 {
            let mut cluster = elected();
            let rounds = left.min(ENTRIES_MAX / cluster.entries().max(1));
            let begin = Instant::now();
            (0..rounds).for_each(|_| cluster.work());
            spent += begin.elapsed();
            cluster.check();
            left -= rounds;
        }
        spent
    });
}
