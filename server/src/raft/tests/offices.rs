//! What is still under way from an earlier office must not count in a later one.

use super::cluster::{Cluster, Flight, id};
use crate::raft::{Message, RoleKind};

/// Takes what is under way from one node to another off the wire.
fn take(cluster: &mut Cluster, from: u64, to: u64) -> Vec<Flight> {
    let wire = cluster.wire.drain(..);
    let (taken, left): (Vec<_>, Vec<_>) =
        wire.partition(|flight| flight.from == id(from) && flight.to == id(to));
    cluster.wire = left;
    taken
}

/// Delivers it, and lets both disks catch up.
fn deliver(cluster: &mut Cluster, from: u64, to: u64) {
    for flight in take(cluster, from, to) {
        cluster.hand_over(flight);
    }
    sync(cluster, &[from, to]);
}

fn sync(cluster: &mut Cluster, nodes: &[u64]) {
    for node in nodes {
        (0..4).for_each(|_| cluster.sync_one(id(*node)));
    }
}

#[test]
fn a_round_of_an_earlier_office_confirms_no_read_of_a_later_one() {
    let mut cluster = Cluster::new(3, 7);
    assert!(cluster.elect(1));
    cluster.run(5);
    for token in 1..=5 {
        cluster.node(1).core.read(token).unwrap();
        cluster.poll(id(1));
        cluster.settle();
    }
    assert_eq!(cluster.node(1).reads.len(), 5);
    cluster.propose(1, "a");
    let appends = |flight: &Flight| flight.to == id(2) && matches!(flight.message, Message::AppendRequest(_));
    let at = cluster.wire.iter().position(appends).unwrap();
    let late = cluster.wire.remove(at);
    cluster.settle();
    for _ in 0..40 {
        if !cluster.leads(1) {
            break;
        }
        cluster.tick(id(1));
        cluster.wire.clear();
    }
    assert!(!cluster.leads(1));
    cluster.forget_the_leader(&[2, 3]);
    assert!(cluster.elect(1));
    // What it sent in its earlier office arrives only now, with the number of a round that this one has yet to reach.
    cluster.hand_over(late);
    cluster.settle();
    assert!(cluster.leads(1));
    cluster.isolate(id(1));
    cluster.forget_the_leader(&[2, 3]);
    assert!(cluster.elect(3));
    let index = cluster.propose(3, "b");
    cluster.settle();
    assert!(cluster.node(3).core.commit() >= index);
    assert!(cluster.leads(1), "it does not know yet");
    cluster.node(1).reads.clear();
    cluster.node(1).core.read(99).unwrap();
    cluster.poll(id(1));
    let reads = &cluster.node(1).reads;
    assert!(reads.is_empty(), "answered without asking anybody: {reads:?}");
}

#[test]
fn whoever_prolonged_a_lease_helps_nobody_else_even_after_word_of_a_later_term() {
    let mut cluster = Cluster::adjusted(3, 11, |config| config.lease_ms = 100);
    let clock = |cluster: &mut Cluster, now_ms| cluster.node(1).core.set_clock(now_ms);
    clock(&mut cluster, 1000);
    cluster.forget_the_leader(&[2, 3]);
    assert!(cluster.elect(1));
    cluster.run(6);
    let term = cluster.node(1).core.term();
    // Node 1 is not heard for a while, and both others ask whether they would be elected. What 2 asks 3 is slow.
    let campaign = |cluster: &mut Cluster, node| {
        for _ in 0..40 {
            if cluster.node(node).core.role() == RoleKind::PreCandidate {
                return;
            }
            cluster.tick(id(node));
        }
        panic!("it has waited long enough");
    };
    campaign(&mut cluster, 2);
    let slow = take(&mut cluster, 2, 3);
    cluster.wire.clear();
    campaign(&mut cluster, 3);
    deliver(&mut cluster, 3, 2);
    deliver(&mut cluster, 2, 3);
    assert_eq!(cluster.node(3).core.term(), term + 1, "node 3 asks for votes");
    let ballot = take(&mut cluster, 3, 2);
    cluster.wire.clear();
    // Then node 2 hears node 1 again, which gets a new lease by it.
    clock(&mut cluster, 2000);
    for _ in 0..4 {
        cluster.tick(id(1));
        deliver(&mut cluster, 1, 2);
        deliver(&mut cluster, 2, 1);
    }
    assert!(cluster.node(1).core.lease_read().is_some());
    // From here on node 1 is cut off, and no time passes. Node 2 learns of the later term, and is asked for its vote.
    cluster.wire.clear();
    slow.into_iter().for_each(|flight| cluster.hand_over(flight));
    deliver(&mut cluster, 3, 2);
    assert_eq!(cluster.node(2).core.term(), term + 1);
    ballot.into_iter().for_each(|flight| cluster.hand_over(flight));
    for _ in 0..6 {
        deliver(&mut cluster, 2, 3);
        deliver(&mut cluster, 3, 2);
    }
    assert!(!cluster.leads(3), "while the lease of node 1 holds");
}
