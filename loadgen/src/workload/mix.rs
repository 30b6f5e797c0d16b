//! How often each operation occurs.
//!
//! Promises each operation in proportion to its weight, and none of weight zero. Never draws by itself: the caller
//! brings the random word.

use std::collections::BTreeMap;

use reports::record::Operation;
use serde::{Serialize, Serializer};

use super::WorkloadError;
use super::random::below;

/// How often each operation occurs, by weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    weights: BTreeMap<Operation, u32>,
}

impl Mix {
    /// From weights, those of the same operation added up; at least one must be above zero.
    pub fn new<O: Into<Operation>>(
        weights: impl IntoIterator<Item = (O, u32)>,
    ) -> Result<Mix, WorkloadError> {
        let mut sum = BTreeMap::<Operation, u32>::new();
        for (operation, weight) in weights {
            let entry = sum.entry(operation.into()).or_default();
            *entry = entry.saturating_add(weight);
        }
        sum.retain(|_, weight| *weight > 0);
        if sum.is_empty() {
            return Err(WorkloadError::EmptyMix);
        }
        Ok(Mix { weights: sum })
    }

    /// Whether any operation of the mix changes the store.
    pub fn writes(&self) -> bool {
        self.weights.keys().any(|operation| operation.is_write())
    }

    /// Whether the mix holds that operation.
    pub fn has(&self, operation: Operation) -> bool {
        self.weights.contains_key(&operation)
    }

    /// Weights above zero.
    pub fn weights(&self) -> &BTreeMap<Operation, u32> {
        &self.weights
    }
}

impl Default for Mix {
    /// As many reads as writes.
    fn default() -> Mix {
        Mix {
            weights: BTreeMap::from([(Operation::Get, 50), (Operation::Put, 50)]),
        }
    }
}

impl Serialize for Mix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(&self.weights)
    }
}

/// A mix, ready to draw from.
#[derive(Debug, Clone)]
pub(super) struct MixTable {
    /// Operations with the sum of the weights up to and including their own.
    steps: Vec<(u64, Operation)>,
    total: u64,
}

impl MixTable {
    pub(super) fn new(mix: &Mix) -> MixTable {
        let mut total = 0;
        let steps = mix.weights.iter().map(|(operation, weight)| {
            total += u64::from(*weight);
            (total, *operation)
        });
        let steps = steps.collect();
        MixTable { steps, total }
    }

    #[inline]
    pub(super) fn pick(&self, word: u64) -> Operation {
        let point = below(word, self.total);
        let step = self.steps.iter().find(|(until, _)| point < *until);
        step.expect("the point lies below the sum of the weights").1
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::workload::random::{Lane, Random};
    use crate::workload::statistics::chi_square_z;

    #[test]
    fn weights_of_the_same_operation_add_up_and_zero_is_nothing() {
        let mix = Mix::new([
            (Operation::Get, 3),
            (Operation::Put, 0),
            (Operation::Get, 4),
            (Operation::Scan, 1),
        ]);
        let mix = mix.unwrap();
        assert_eq!(
            mix.weights(),
            &BTreeMap::from([(Operation::Get, 7), (Operation::Scan, 1)])
        );
        assert!(!mix.writes() && mix.has(Operation::Scan) && !mix.has(Operation::Put));
        assert!(Mix::default().writes());
        assert_eq!(Mix::new([(Operation::Get, 0)]), Err(WorkloadError::EmptyMix));
        assert_eq!(Mix::new::<Operation>([]), Err(WorkloadError::EmptyMix));
        assert_eq!(serde_json::to_string(&mix).unwrap(), r#"{"get":7,"scan":1}"#);
    }

    #[test]
    fn every_share_is_exact() {
        // Words spaced evenly over all there are meet each operation exactly as often as its weight says.
        let weights = [5_u32, 40, 1, 20, 3, 30, 1];
        let mix = Mix::new(Operation::ALL.into_iter().zip(weights)).unwrap();
        let table = MixTable::new(&mix);
        let mut seen = BTreeMap::<Operation, u32>::new();
        for step in 0..100 {
            let word = (u64::MAX / 100) * step + u64::MAX / 200;
            *seen.entry(table.pick(word)).or_default() += 1;
        }
        assert_eq!(&seen, mix.weights());
    }

    #[test]
    fn operations_follow_the_weights() {
        let weights = [40_u32, 30, 5, 20, 10, 1, 0];
        let total: u32 = weights.iter().sum();
        let table = MixTable::new(&Mix::new(Operation::ALL.into_iter().zip(weights)).unwrap());
        let random = Random::new(17);
        let mut counts = [0_u64; 7];
        for number in 0..200_000 {
            let picked = table.pick(random.word(Lane::Operation, number));
            counts[Operation::ALL.iter().position(|one| *one == picked).unwrap()] += 1;
        }
        let z = chi_square_z(&counts, |at| f64::from(weights[at]) / f64::from(total));
        assert!(z.abs() < 5.0, "{z}");
        assert_eq!(counts[6], 0);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let table = MixTable::new(&Mix::new(Operation::ALL.map(|one| (one, u32::MAX))).unwrap());
        assert_eq!(
            (table.pick(0), table.pick(u64::MAX)),
            (Operation::Get, Operation::Rmw)
        );
        let same = Mix::new([(Operation::Get, u32::MAX), (Operation::Get, 1)]).unwrap();
        assert_eq!(same.weights()[&Operation::Get], u32::MAX);
    }
}
