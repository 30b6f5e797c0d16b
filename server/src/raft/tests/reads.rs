//! Reads on followers and by lease (§6.4 of Ongaro's thesis).

use super::cluster::{Cluster, id};
use crate::raft::{Message, Refused};

fn three() -> Cluster {
    let mut cluster = Cluster::new(3, 11);
    assert!(cluster.elect(1));
    cluster.run(3);
    cluster
}

/// Node 1 leads, and nobody waits any more because it has just started.
fn three_with_leases() -> Cluster {
    let mut cluster = Cluster::adjusted(3, 11, |config| config.lease_ms = 100);
    (0..15).for_each(|_| (1..=3).for_each(|node| cluster.tick(id(node))));
    assert!(cluster.elect(1));
    cluster
}

/// The same with rounds that everybody answered at 1000 ms.
fn three_with_a_lease() -> Cluster {
    let mut cluster = three_with_leases();
    cluster.node(1).core.set_clock(1000);
    cluster.run(3);
    cluster
}

#[test]
fn a_follower_serves_a_read_from_the_index_that_its_leader_confirmed() {
    let mut cluster = three();
    cluster.node(3).core.read(1).unwrap();
    cluster.poll(id(3));
    let index = cluster.propose(1, "x");
    cluster.settle();
    cluster.node(3).core.read(2).unwrap();
    cluster.poll(id(3));
    cluster.settle();
    let reads = cluster.node(3).reads.clone();
    assert_eq!(reads.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 2]);
    assert!(
        reads[1].1 >= index,
        "a write acknowledged before the read is seen by it"
    );
}

#[test]
fn a_leader_that_lost_its_majority_confirms_no_read_of_a_follower() {
    let mut cluster = three();
    cluster.disconnect(id(1), id(2));
    cluster.disconnect(id(1), id(3));
    cluster.node(3).core.read(1).unwrap();
    cluster.poll(id(3));
    cluster.settle();
    assert!(cluster.node(3).reads.is_empty());
    (0..40).for_each(|_| cluster.tick(id(3)));
    assert_eq!(cluster.node(3).reads_failed, [1], "it does not wait for ever");
}

#[test]
fn a_follower_fails_what_it_asked_a_leader_that_is_no_more() {
    let mut cluster = three();
    cluster.node(3).core.read(1).unwrap();
    cluster.poll(id(3));
    cluster.isolate(id(1));
    cluster.forget_the_leader(&[2, 3]);
    assert!(cluster.elect(2));
    assert_eq!(cluster.node(3).reads_failed, [1]);
    assert!(cluster.node(3).reads.is_empty());
}

#[test]
fn a_late_confirmation_of_an_earlier_term_counts_for_nothing() {
    let mut cluster = three();
    cluster.node(3).core.read(1).unwrap();
    cluster.poll(id(3));
    let asked = cluster.wire.iter().find_map(|flight| match flight.message {
        Message::ReadIndexRequest(request) => Some(request.id),
        _ => None,
    });
    let late = crate::raft::ReadIndexResponse {
        term: 0,
        id: asked.unwrap(),
        index: Some(1),
    };
    cluster.respond(1, 3, Message::ReadIndexResponse(late));
    assert_eq!(
        (cluster.node(3).reads.len(), cluster.node(3).reads_failed.len()),
        (0, 1)
    );
    cluster.settle();
    assert!(
        cluster.node(3).reads.is_empty(),
        "nor does the real answer, which nobody waits for any more"
    );
}

#[test]
fn a_node_that_does_not_lead_refuses_the_reads_of_others() {
    let mut cluster = three();
    let ask = crate::raft::ReadIndexRequest { term: 1, id: 7 };
    cluster.request(3, 2, Message::ReadIndexRequest(ask));
    cluster.request(
        3,
        1,
        Message::ReadIndexRequest(crate::raft::ReadIndexRequest { term: 0, id: 8 }),
    );
    let refused = |flight: &&super::cluster::Flight| matches!(&flight.message, Message::ReadIndexResponse(response) if response.index.is_none());
    assert_eq!(cluster.wire.iter().filter(refused).count(), 2);
    cluster.isolate(id(2));
    (0..40).for_each(|_| cluster.tick(id(2)));
    assert!(matches!(cluster.node(2).core.read(3), Err(Refused::NotLeader(_))));
}

#[test]
fn a_leader_that_resigns_refuses_the_reads_of_followers_that_wait() {
    let mut cluster = three();
    cluster.node(3).core.read(1).unwrap();
    cluster.poll(id(3));
    let ask = |flight: &super::cluster::Flight| matches!(flight.message, Message::ReadIndexRequest(_));
    let at = cluster.wire.iter().position(ask).unwrap();
    cluster.deliver(at);
    cluster.wire.clear();
    cluster.request(
        2,
        1,
        Message::Heartbeat(crate::raft::Heartbeat {
            term: 2,
            commit: 0,
            read_seq: 0,
        }),
    );
    cluster.settle();
    assert_eq!(cluster.node(3).reads_failed, [1]);
}

#[test]
fn a_lease_begins_when_the_round_was_sent_and_ends_before_anybody_else_could_be_elected() {
    let mut cluster = three_with_a_lease();
    cluster.node(1).core.set_clock(1050);
    assert!(cluster.node(1).core.lease_read().is_some());
    cluster.node(1).core.set_clock(1099);
    assert!(cluster.node(1).core.lease_read().is_some());
    cluster.node(1).core.set_clock(1100);
    assert!(
        cluster.node(1).core.lease_read().is_none(),
        "counted from the sending, not from the answer"
    );
}

#[test]
fn without_answers_there_is_no_lease() {
    let mut cluster = three_with_a_lease();
    cluster.node(1).core.set_clock(1090);
    (0..3).for_each(|_| cluster.tick(id(1)));
    // Nothing arrives, and no connection breaks.
    cluster.wire.clear();
    assert!(cluster.node(1).core.lease_read().is_some(), "the old one holds");
    cluster.node(1).core.set_clock(1110);
    assert!(
        cluster.node(1).core.lease_read().is_none(),
        "rounds that nobody answered prolong nothing"
    );
    let mut off = three();
    off.node(1).core.set_clock(5);
    assert!(
        off.node(1).core.lease_read().is_none(),
        "leases are for those who ask for them"
    );
}

#[test]
fn there_is_no_lease_while_a_voter_is_loyal_for_a_shorter_time_or_does_not_say() {
    let mut cluster = three_with_a_lease();
    let mut holds_with = |loyal_ms| {
        let core = &mut cluster.node(1).core;
        core.set_loyalty(id(3), loyal_ms);
        core.lease_read().is_some()
    };
    for (loyal_ms, holds) in [(150, true), (149, false), (0, false), (200, true)] {
        assert_eq!(holds_with(loyal_ms), holds, "{loyal_ms} ms");
    }
    let core = &mut cluster.node(1).core;
    core.loyal_ms.remove(&id(3));
    assert!(core.lease_read().is_none(), "it was not met yet");
}

#[test]
fn what_a_peer_answered_before_its_connection_broke_prolongs_no_lease() {
    let mut cluster = three_with_a_lease();
    assert!(cluster.node(1).core.lease_read().is_some());
    cluster.disconnect(id(1), id(3));
    assert!(cluster.node(1).core.lease_read().is_none());
    cluster.run(3);
    assert!(
        cluster.node(1).core.lease_read().is_some(),
        "a new round has been answered by those who are there"
    );
}

#[test]
fn handing_the_office_over_ends_the_lease_at_once() {
    let mut cluster = three_with_a_lease();
    assert!(cluster.node(1).core.lease_read().is_some());
    cluster.node(1).core.transfer(Some(id(2))).unwrap();
    assert!(cluster.node(1).core.lease_read().is_none());
}

#[test]
fn a_transfer_that_failed_ends_leases_for_the_rest_of_the_term() {
    let mut cluster = three_with_a_lease();
    cluster.node(1).core.transfer(Some(id(2))).unwrap();
    cluster.poll(id(1));
    // The request to take over is delayed for longer than the transfer lasts.
    let asks = |flight: &super::cluster::Flight| matches!(flight.message, Message::TimeoutNow { .. });
    let late = cluster
        .wire
        .iter()
        .position(asks)
        .map(|at| cluster.wire.remove(at))
        .unwrap();
    cluster.run(40);
    cluster.node(1).core.set_clock(1050);
    cluster.run(3);
    assert!(!cluster.node(1).core.is_transferring() && cluster.leads(1));
    assert!(
        cluster.node(1).core.lease_read().is_none(),
        "the request may still arrive"
    );
    // And when it does, nobody waits for a lease to end.
    cluster.hand_over(late);
    cluster.settle();
    assert!(cluster.leads(2));
}

#[test]
fn with_leases_a_restarted_node_honours_what_it_may_have_granted() {
    let mut cluster = three_with_leases();
    cluster.run(3);
    cluster.isolate(id(1));
    cluster.crash(id(3));
    cluster.isolate(id(1));
    assert!(
        !cluster.elect(2),
        "node 3 has forgotten whom it heard, but not that it may have"
    );
    (0..15).for_each(|_| cluster.tick(id(3)));
    assert!(cluster.elect(2));
}
