//! The ledger of keys that a run adds: which were started, which exist.
//!
//! After YCSB's `AcknowledgedCounterGenerator`: what reads may ask for moves on over an unbroken row of inserts whose
//! outcome is known. Unlike there, an insert that failed or whose outcome is unknown does not count as done; it leaves a
//! gap that positions skip. Promises that [`Inserts::key_at`] names only keys that were acknowledged. Never talks to the
//! store; owned by one task, no locks.

use std::collections::BTreeMap;

/// Gaps kept; eight bytes each. At the limit [`Inserts::known`] stays where it is, and later inserts are not read.
const GAPS_MAX: usize = 1 << 20;

/// Keys that the run inserts beyond its records, by the number of the key.
#[derive(Debug, Clone)]
pub struct Inserts {
    records: u64,
    started: u64,
    /// Inserts below this have ended, one way or the other.
    settled: u64,
    /// Ended out of turn, and whether they were acknowledged. Never more than are in flight.
    ahead: BTreeMap<u64, bool>,
    /// Inserts below `settled` that were not acknowledged, in order.
    gaps: Vec<u64>,
}

impl Inserts {
    /// None yet, beyond that many records.
    pub fn beyond(records: u64) -> Inserts {
        Inserts {
            records,
            started: 0,
            settled: 0,
            ahead: BTreeMap::new(),
            gaps: Vec::new(),
        }
    }

    /// Begins an insert: the number of its key, which no other insert has.
    pub fn start(&mut self) -> u64 {
        self.started += 1;
        self.records + self.started - 1
    }

    /// Inserts begun so far.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Ends the insert of `key`: whether the store acknowledged it. A key that was not started here, or ended before,
    /// is ignored.
    pub fn end(&mut self, key: u64, acknowledged: bool) {
        let Some(ordinal) = key.checked_sub(self.records) else {
            return;
        };
        if ordinal < self.settled || ordinal >= self.started || self.gaps.len() >= GAPS_MAX {
            return;
        }
        self.ahead.entry(ordinal).or_insert(acknowledged);
        while let Some(acknowledged) = self.ahead.remove(&self.settled) {
            if !acknowledged {
                self.gaps.push(self.settled);
            }
            self.settled += 1;
            if self.gaps.len() >= GAPS_MAX {
                self.ahead.clear();
            }
        }
    }

    /// How many keys are known to exist: the records, and the acknowledged inserts before the first that is still open.
    /// This is what [`Workload::operation`](super::Workload::operation) wants to be told.
    pub fn known(&self) -> u64 {
        self.records + self.settled - self.gaps.len() as u64
    }

    /// The number of the key at a position below [`Inserts::known`]: the same number for records, and beyond them the
    /// acknowledged inserts in the order in which they were started.
    pub fn key_at(&self, position: u64) -> u64 {
        let Some(nth) = position.checked_sub(self.records) else {
            return position;
        };
        // `gap - at` acknowledged inserts lie before gap number `at`; that never falls from one gap to the next.
        let (mut low, mut high) = (0, self.gaps.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.gaps[middle] - middle as u64 <= nth {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.records + nth + low as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::workload::statistics::properties;

    #[test]
    fn keys_become_known_in_order_and_gaps_are_skipped() {
        let mut inserts = Inserts::beyond(10);
        assert_eq!((inserts.known(), inserts.key_at(9)), (10, 9));
        let keys: Vec<u64> = (0..5).map(|_| inserts.start()).collect();
        assert_eq!((keys, inserts.started()), (vec![10, 11, 12, 13, 14], 5));
        inserts.end(11, true);
        assert_eq!(inserts.known(), 10, "10 is still open");
        inserts.end(10, false);
        assert_eq!((inserts.known(), inserts.key_at(10)), (11, 11));
        inserts.end(12, false);
        inserts.end(14, true);
        inserts.end(13, true);
        assert_eq!(inserts.known(), 13);
        let known: Vec<u64> = (9..13).map(|position| inserts.key_at(position)).collect();
        assert_eq!(known, [9, 11, 13, 14]);
    }

    #[test]
    fn strangers_and_second_ends_are_ignored() {
        let mut inserts = Inserts::beyond(10);
        inserts.start();
        for key in [0, 9, 11, 500] {
            inserts.end(key, true);
        }
        assert_eq!(inserts.known(), 10);
        inserts.end(10, false);
        inserts.end(10, true);
        assert_eq!(inserts.known(), 10);
        let next = inserts.start();
        inserts.end(next, true);
        assert_eq!((inserts.known(), inserts.key_at(10)), (11, 11));
    }

    #[test]
    fn at_the_limit_of_gaps_what_is_known_stays() {
        let mut inserts = Inserts::beyond(1);
        for _ in 0..GAPS_MAX {
            let key = inserts.start();
            inserts.end(key, false);
        }
        for _ in 0..10 {
            let key = inserts.start();
            inserts.end(key, true);
        }
        assert_eq!(
            (inserts.known(), inserts.gaps.len(), inserts.ahead.len()),
            (1, GAPS_MAX, 0)
        );
    }

    proptest! {
        #![proptest_config(properties())]

        /// Against a model that remembers everything.
        #[test]
        fn exactly_the_acknowledged_before_the_first_open_one_are_known(
            records in 0_u64..100,
            fates in proptest::collection::vec((any::<bool>(), any::<u16>()), 0..200),
            open in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
        ) {
            let mut inserts = Inserts::beyond(records);
            for _ in &fates {
                inserts.start();
            }
            let open: Vec<usize> = match fates.is_empty() {
                true => Vec::new(),
                false => open.iter().map(|at| at.index(fates.len())).collect(),
            };
            let mut order: Vec<usize> = (0..fates.len()).filter(|at| !open.contains(at)).collect();
            order.sort_by_key(|at| fates[*at].1);
            for at in order {
                inserts.end(records + at as u64, fates[at].0);
            }
            let first_open = open.iter().copied().min().unwrap_or(fates.len());
            let expected: Vec<u64> = (0..records)
                .chain((0..first_open).filter(|at| fates[*at].0).map(|at| records + at as u64))
                .collect();
            let known: Vec<u64> = (0..inserts.known()).map(|position| inserts.key_at(position)).collect();
            prop_assert_eq!(known, expected);
        }
    }
}
