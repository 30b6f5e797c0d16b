//! Majority arithmetic. No protocol in here: numbers in, numbers out.

use super::membership::Configuration;
use super::types::NodeId;

/// The largest value that a quorum has reached: a majority of the voters and, while the configuration is joint, a majority
/// of the outgoing voters as well (§6 of the Raft paper). Learners and strangers do not count.
pub(crate) fn reached_by_quorum(configuration: &Configuration, reached: impl Fn(NodeId) -> u64) -> u64 {
    let by_majority_of = |voters: &mut dyn Iterator<Item = NodeId>| {
        let mut values: Vec<u64> = voters.map(&reached).collect();
        let voters = values.len();
        reached_by_majority(&mut values, voters)
    };
    let incoming = by_majority_of(&mut configuration.voters());
    match configuration.joint {
        true => incoming.min(by_majority_of(&mut configuration.outgoing_voters())),
        false => incoming,
    }
}

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

    use super::super::membership::Member;
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

        /// Brute force over both sets of voters: the answer is the largest value that more than half of each has reached.
        #[test]
        fn a_joint_quorum_is_a_majority_of_both_sets(
            members in prop::collection::vec((0_u64..12, any::<bool>(), any::<bool>()), 1..9),
            joint in any::<bool>(),
        ) {
            // The first one always votes: no configuration is without voters.
            let member = |at: usize, voter: bool, outgoing: bool| Member {
                name: "".into(),
                address: "".into(),
                voter: voter || at == 0,
                outgoing_voter: outgoing || at == 0,
            };
            let configuration = Configuration {
                members: (members.iter().enumerate())
                    .map(|(at, (_, voter, outgoing))| (NodeId(at as u64), member(at, *voter, *outgoing)))
                    .collect(),
                joint,
                ..Configuration::default()
            };
            let reached = |id: NodeId| members[id.0 as usize].0;
            let most_have = |candidate: u64, votes: &dyn Fn(&Member) -> bool| {
                let voters = configuration.members.iter().filter(|(_, member)| votes(member));
                let (all, enough) = voters.fold((0, 0), |(all, enough), (id, _)| {
                    (all + 1, enough + usize::from(reached(*id) >= candidate))
                });
                2 * enough > all
            };
            let expected = (0..12).rev().find(|candidate| {
                most_have(*candidate, &|member| member.voter)
                    && (!joint || most_have(*candidate, &|member| member.outgoing_voter))
            });
            prop_assert_eq!(Some(reached_by_quorum(&configuration, reached)), expected);
        }
    }
}
