//! A node whose disk has lost what it acknowledged: protocol-aware recovery in the manner of Alagappan et al.
//! (FAST '18) for a log that knows how much it may have promised.

use super::cluster::{Cluster, id};
use crate::raft::{Message, Position, VoteRequest};

/// Three nodes with ten entries, of which node 3 then loses all but three.
fn one_damaged() -> Cluster {
    let mut cluster = Cluster::new(3, 4);
    assert!(cluster.elect(1));
    for _ in 0..10 {
        cluster.propose(1, "x");
    }
    cluster.run(5);
    cluster.damage(3, 3);
    cluster
}

fn is_suspect(cluster: &Cluster, number: u64) -> bool {
    cluster.nodes[&id(number)].core.suspect().is_some()
}

#[test]
fn a_damaged_node_is_refilled_by_the_leader_and_trusted_again() {
    let mut cluster = one_damaged();
    assert!(is_suspect(&cluster, 3));
    cluster.run(10);
    assert!(!is_suspect(&cluster, 3));
    assert_eq!(cluster.node(3).core.last(), cluster.node(1).core.last());
    cluster.crash(id(3));
    assert!(!is_suspect(&cluster, 3), "its disk knows");
    cluster.isolate(id(1));
    cluster.forget_the_leader(&[2, 3]);
    assert!(cluster.elect(3) || cluster.elect(2));
}

#[test]
fn a_damaged_node_votes_only_for_those_who_have_what_it_lost() {
    let mut cluster = one_damaged();
    cluster.isolate(id(3));
    let ask = |index| VoteRequest {
        term: 5,
        last: Position { term: 1, index },
        pre_vote: false,
        transfer: false,
    };
    let lost = cluster.node(1).core.last().index;
    cluster.request(2, 3, Message::VoteRequest(ask(lost - 1)));
    cluster.settle();
    assert_eq!(
        cluster.hard_state_on_disk(3).vote,
        None,
        "ahead of what is left, behind what was promised"
    );
    cluster.request(2, 3, Message::VoteRequest(ask(lost)));
    cluster.settle();
    assert_eq!(cluster.hard_state_on_disk(3).vote, Some(id(2)));
}

#[test]
fn a_damaged_node_never_campaigns() {
    let mut cluster = one_damaged();
    (0..500).for_each(|_| cluster.tick(id(3)));
    assert_eq!(cluster.node(3).core.term(), 1);
}

/// What would go wrong without all this: entries acknowledged by nodes 1 and 3 only, node 3 loses them, and nodes 2 and
/// 3 elect a leader that never had them.
#[test]
fn damage_does_not_lose_what_was_committed_with_the_damaged_nodes_copy() {
    let mut cluster = Cluster::new(3, 4);
    assert!(cluster.elect(1));
    cluster.run(3);
    cluster.isolate(id(2));
    let index = cluster.propose(1, "only on 1 and 3");
    cluster.settle();
    assert!(cluster.node(1).core.commit() >= index);
    cluster.isolate(id(1));
    cluster.rejoin(id(2));
    cluster.isolate(id(1));
    cluster.damage(3, index - 1);
    cluster.isolate(id(1));
    cluster.forget_the_leader(&[2, 3]);
    assert!(
        !cluster.elect(2) && !cluster.elect(3),
        "nobody may lead without node 1"
    );
    cluster.rejoin(id(1));
    cluster.run(100);
    assert_eq!(cluster.leaders().len(), 1);
    for node in 1..=3 {
        let kept = cluster
            .node(node)
            .applied
            .iter()
            .any(|entry| entry.payload == "only on 1 and 3");
        assert!(kept, "node {node}");
    }
}

#[test]
fn a_later_leader_with_a_shorter_log_restores_trust_too() {
    let mut cluster = Cluster::new(3, 4);
    assert!(cluster.elect(1));
    cluster.run(3);
    // Entries that only node 1 ever had, lost with its disk, and never committed.
    cluster.isolate(id(1));
    for _ in 0..10 {
        cluster.propose(1, "x");
    }
    cluster.settle();
    cluster.forget_the_leader(&[2, 3]);
    cluster.forget_the_leader(&[2, 3]);
    assert!(cluster.elect(2));
    cluster.run(3);
    cluster.damage(1, 1);
    assert!(is_suspect(&cluster, 1));
    cluster.run(40);
    assert!(
        !is_suspect(&cluster, 1),
        "a later term's entry vouches for everything before it"
    );
}

#[test]
fn a_snapshot_restores_trust_as_well() {
    let mut cluster = one_damaged();
    cluster.compact(1, 0);
    cluster.compact(2, 0);
    cluster.run(10);
    assert!(!is_suspect(&cluster, 3));
    assert_eq!(
        cluster.node(3).applied.len() as u64,
        cluster.node(1).core.commit()
    );
}
