//! The last seconds of a run, one value each, for the charts.
//!
//! Holds at most [`SECONDS_MAX`] seconds; older ones are dropped. A second without a report has no value, not zero.

use std::collections::VecDeque;
use std::time::Duration;

use reports::record::Nanos;

use super::snapshot::Snapshot;

/// Seconds kept: more than any terminal has columns.
pub(super) const SECONDS_MAX: usize = 1024;

/// One whole second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Second {
    /// Operations answered well, a second.
    pub(super) ok_per_second: Option<f64>,
    /// 99th percentile, nanoseconds.
    pub(super) p99: Option<Nanos>,
}

/// The seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    whole: VecDeque<Second>,
    /// Number of the second that is going on.
    present: u64,
    p99: Option<Nanos>,
    /// When the last second that is over ended, as seen by a report, and operations answered well by then.
    mark: (Duration, u64),
}

impl History {
    /// Takes in a report; reports come in the order of their times.
    pub(super) fn push(&mut self, snapshot: &Snapshot) {
        let second = snapshot.elapsed.as_secs();
        if second > self.present {
            let (since, ok_before) = self.mark;
            let seconds = snapshot.elapsed.saturating_sub(since).as_secs_f64();
            let ok = snapshot.counts.ok.saturating_sub(ok_before) as f64;
            let p99 = self.p99.take();
            self.add(Second {
                ok_per_second: (seconds > 0.0).then(|| ok / seconds),
                p99,
            });
            // Nothing was reported in the seconds between.
            let silent = second - self.present - 1;
            for _ in 0..silent.min(SECONDS_MAX as u64) {
                self.add(Second::default());
            }
            self.present = second;
            self.mark = (snapshot.elapsed, snapshot.counts.ok);
        }
        self.p99 = snapshot.latency.and_then(|latency| latency.p99).or(self.p99);
    }

    fn add(&mut self, second: Second) {
        if self.whole.len() == SECONDS_MAX {
            self.whole.pop_front();
        }
        self.whole.push_back(second);
    }

    /// The last `count` whole seconds, oldest first.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = &Second> {
        self.whole.iter().skip(self.whole.len().saturating_sub(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::snapshot::LatencyRow;

    fn at(ms: u64, ok: u64, p99: Option<Nanos>) -> Snapshot {
        let mut snapshot = Snapshot {
            elapsed: Duration::from_millis(ms),
            latency: Some(LatencyRow {
                p99,
                ..LatencyRow::default()
            }),
            ..Snapshot::default()
        };
        snapshot.counts.ok = ok;
        snapshot
    }

    fn all(history: &History) -> Vec<Second> {
        history.last(SECONDS_MAX).copied().collect()
    }

    #[test]
    fn a_second_has_its_rate_and_its_last_percentile() {
        let mut history = History::default();
        for (ms, ok, p99) in [
            (100, 10, Some(5)),
            (900, 90, Some(7)),
            (950, 95, None),
            (1000, 100, None),
        ] {
            history.push(&at(ms, ok, p99));
        }
        let first = Second {
            ok_per_second: Some(100.0),
            p99: Some(7),
        };
        assert_eq!(all(&history), [first]);
        history.push(&at(2000, 350, None));
        let second = Second {
            ok_per_second: Some(250.0),
            p99: None,
        };
        assert_eq!(all(&history), [first, second]);
        assert_eq!(history.last(1).count(), 1);
    }

    #[test]
    fn seconds_without_a_report_have_no_value_and_the_rate_is_still_right() {
        let mut history = History::default();
        history.push(&at(4000, 400, None));
        history.push(&at(5000, 500, None));
        let rates: Vec<Option<f64>> = all(&history).iter().map(|second| second.ok_per_second).collect();
        assert_eq!(rates, [Some(100.0), None, None, None, Some(100.0)]);
    }

    #[test]
    fn old_seconds_are_dropped() {
        let mut history = History::default();
        for second in 1..3000 {
            history.push(&at(second * 1000, second, None));
        }
        assert_eq!(all(&history).len(), SECONDS_MAX);
        history.push(&at(u64::MAX / 2, 9999, None));
        assert_eq!(all(&history).len(), SECONDS_MAX);
    }
}
