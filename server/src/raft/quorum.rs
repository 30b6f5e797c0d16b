//! Majority arithmetic. No protocol in here: numbers in, numbers out.

/// How many of `voters` make a majority.
pub(crate) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The largest value that a majority of `voters` has reached, where `reached` holds one value for each voter that
/// was heard of; the others count as 0. Reorders `reached`.
///
/// Sorts every time: with at most a handful of voters that is a few nanoseconds, and cleverer incremental schemes
/// have committed without a quorum elsewhere.
pub(crate) fn reached_by_majority(reached: &mut [u64], voters: usize) -> u64 {
    assert!(
        reached.len() <= voters,
        "{} voters cannot report {} values",
        voters,
        reached.len()
    );
    reached.sort_unstable_by(|a, b| b.cmp(a));
    reached.get(majority(voters) - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_majority_is_more_than_half() {
        for (voters, expected) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4), (9, 5)] {
            assert_eq!(majority(voters), expected, "of {voters}");
        }
    }

    proptest! {
        /// Brute force: the answer is the largest candidate that enough voters have reached.
        #[test]
        fn equals_counting_by_hand(mut reached in prop::collection::vec(0_u64..20, 0..9), silent in 0_usize..5) {
            let voters = (reached.len() + silent).max(1);
            let expected = (0..20)
                .rev()
                .find(|candidate| {
                    let count = reached.iter().filter(|value| *value >= candidate).count();
                    // Those not heard of have reached 0, and so has everybody else.
                    *candidate == 0 || 2 * count > voters
                })
                .unwrap_or(0);
            prop_assert_eq!(reached_by_majority(&mut reached, voters), expected);
        }
    }
}
