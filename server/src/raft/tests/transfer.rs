//! Handing the office over (§3.10 of Ongaro's thesis), and giving it up when the disk does not let a node fill it.

use super::cluster::{Cluster, id};
use crate::raft::{Message, Refused, RoleKind, TransferRefused};

fn three() -> Cluster {
    let mut cluster = Cluster::new(3, 11);
    assert!(cluster.elect(1));
    cluster.run(3);
    cluster
}

fn asked(cluster: &Cluster, number: u64) -> bool {
    let asks = |flight: &super::cluster::Flight| matches!(flight.message, Message::TimeoutNow { .. });
    cluster
        .wire
        .iter()
        .any(|flight| flight.to == id(number) && asks(flight))
}

#[test]
fn the_office_is_handed_over_without_waiting_for_a_timeout_or_a_pre_vote() {
    let mut cluster = three();
    assert_eq!(cluster.node(1).core.transfer(Some(id(3))), Ok(id(3)));
    cluster.poll(id(1));
    cluster.settle();
    assert!(cluster.leads(3) && !cluster.leads(1), "no clock has ticked");
    assert_eq!(cluster.node(3).core.term(), 2);
}

#[test]
fn the_successor_is_asked_only_when_it_has_everything_on_its_disk() {
    let mut cluster = three();
    cluster.isolate(id(3));
    cluster.propose(1, "x");
    cluster.settle();
    cluster.rejoin(id(3));
    assert_eq!(cluster.node(1).core.transfer(Some(id(3))), Ok(id(3)));
    cluster.poll(id(1));
    for _ in 0..50 {
        assert!(!asked(&cluster, 3), "its disk has not finished");
        if cluster.wire.is_empty() {
            break;
        }
        cluster.deliver(0);
    }
    cluster.settle();
    assert!(cluster.leads(3));
}

#[test]
fn meanwhile_nothing_is_proposed_and_afterwards_again() {
    let mut cluster = three();
    cluster.isolate(id(3));
    cluster.connect(id(1), id(3));
    cluster.node(1).core.transfer(Some(id(3))).unwrap();
    let refused = cluster.node(1).core.propose("y".into());
    assert_eq!(refused, Err(Refused::Transferring));
    assert_eq!(
        cluster.node(1).core.transfer(None),
        Err(TransferRefused::InProgress(id(3)))
    );
    cluster.wire.clear();
    for _ in 0..31 {
        cluster.tick(id(1));
        cluster.wire.retain(|flight| flight.to != id(3));
        cluster.settle();
    }
    cluster.propose(1, "z");
}

#[test]
fn only_the_leader_hands_over_and_only_to_somebody_who_can_lead() {
    let mut cluster = three();
    assert_eq!(
        cluster.node(2).core.transfer(None),
        Err(TransferRefused::NotLeader(Some(id(1))))
    );
    assert_eq!(
        cluster.node(1).core.transfer(Some(id(1))),
        Err(TransferRefused::LeadsAlready)
    );
    assert_eq!(
        cluster.node(1).core.transfer(Some(id(7))),
        Err(TransferRefused::NotAVoter)
    );
    cluster.isolate(id(3));
    assert_eq!(
        cluster.node(1).core.transfer(Some(id(3))),
        Err(TransferRefused::NotConnected)
    );
    cluster.isolate(id(2));
    assert_eq!(cluster.node(1).core.transfer(None), Err(TransferRefused::Nobody));
}

#[test]
fn a_request_to_take_over_counts_only_from_the_leader_of_this_term_and_not_for_a_leader() {
    let mut cluster = three();
    cluster.request(3, 2, Message::TimeoutNow { term: 1 });
    cluster.request(1, 2, Message::TimeoutNow { term: 9 });
    assert_eq!(cluster.node(2).core.role(), RoleKind::Follower);
    cluster.request(2, 1, Message::TimeoutNow { term: 1 });
    assert!(cluster.leads(1));
    cluster.request(1, 2, Message::TimeoutNow { term: 1 });
    assert_eq!(cluster.node(2).core.role(), RoleKind::Candidate);
}

#[test]
fn a_node_that_may_not_campaign_does_not_take_over() {
    let mut cluster = three();
    cluster.damage(2, 0);
    cluster.wire.clear();
    cluster.request(
        1,
        2,
        Message::Heartbeat(crate::raft::Heartbeat {
            term: 1,
            commit: 0,
            read_seq: 0,
        }),
    );
    cluster.request(1, 2, Message::TimeoutNow { term: 1 });
    assert_eq!(cluster.node(2).core.role(), RoleKind::Follower);
}

#[test]
fn a_leader_whose_disk_hangs_gives_up_and_a_healthy_majority_goes_on() {
    let mut cluster = three();
    cluster.propose(1, "x");
    // Its heartbeats would go on for ever, and nobody else would be elected.
    for _ in 0..40 {
        cluster.tick(id(1));
        while !cluster.wire.is_empty() {
            cluster.deliver(0);
            cluster.sync_one(id(2));
            cluster.sync_one(id(3));
        }
    }
    assert!(!cluster.leads(1));
    assert!(cluster.node(1).core.is_unfit());
    let leader = cluster.leaders();
    assert_eq!(leader.len(), 1, "it asked the best of them to take over");
    let leader = if leader[0].0 == id(2) { 2 } else { 3 };
    let index = cluster.propose(leader, "y");
    for _ in 0..20 {
        while !cluster.wire.is_empty() {
            cluster.deliver(0);
            cluster.sync_one(id(2));
            cluster.sync_one(id(3));
        }
    }
    assert!(cluster.node(leader).core.commit() >= index);
    for _ in 0..100 {
        cluster.tick(id(1));
    }
    assert_eq!(
        cluster.node(1).core.role(),
        RoleKind::Follower,
        "whose disk hangs does not campaign"
    );
    cluster.settle();
    assert!(!cluster.node(1).core.is_unfit(), "the disk answers again");
}

#[test]
fn a_leader_with_a_full_disk_takes_no_writes_and_hands_over_to_one_that_has_room() {
    let mut cluster = three();
    cluster.node(1).core.set_unfit(true);
    assert_eq!(cluster.node(1).core.propose("x".into()), Err(Refused::Unfit));
    cluster.run(10);
    assert_eq!(cluster.leaders().len(), 1);
    assert!(!cluster.leads(1));
}

#[test]
fn if_every_disk_is_full_the_leader_stays_for_the_sake_of_reads() {
    let mut cluster = three();
    (2..=3).for_each(|node| cluster.node(node).core.set_unfit(true));
    cluster.run(5);
    cluster.node(1).core.set_unfit(true);
    cluster.run(100);
    assert!(cluster.leads(1));
    cluster.node(1).core.read(5).unwrap();
    cluster.poll(id(1));
    cluster.settle();
    assert_eq!(cluster.node(1).reads.last().map(|(token, _)| *token), Some(5));
}
