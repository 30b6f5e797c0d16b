//! Snapshots in place of the log's beginning (§7 of the Raft paper).

use super::cluster::{Cluster, Parcel, id};
use crate::raft::{Index, Message, Position, SnapshotMeta};

/// A leader with a compacted log and a follower, node 3, that missed all of it.
fn one_far_behind(trailing: u64) -> (Cluster, Index) {
    let mut cluster = Cluster::new(3, 3);
    assert!(cluster.elect(1));
    cluster.begin_configuration(1, 3);
    cluster.settle();
    cluster.isolate(id(3));
    for _ in 0..20 {
        cluster.propose(1, "x");
    }
    cluster.settle();
    cluster.compact(1, trailing);
    let last = cluster.node(1).core.commit();
    (cluster, last)
}

fn applied(cluster: &Cluster, number: u64) -> Vec<Index> {
    cluster.nodes[&id(number)]
        .applied
        .iter()
        .map(|entry| entry.index)
        .collect()
}

#[test]
fn a_follower_far_behind_gets_a_snapshot_and_then_the_log() {
    let (mut cluster, last) = one_far_behind(0);
    cluster.rejoin(id(3));
    cluster.run(5);
    let next = cluster.propose(1, "after");
    cluster.run(5);
    assert_eq!(next, last + 1);
    assert_eq!(applied(&cluster, 3), (1..=next).collect::<Vec<_>>());
    assert_eq!(
        cluster.node(3).core.base().index,
        last,
        "its log begins behind the snapshot"
    );
    assert_eq!(cluster.node(3).core.durable_index(), next);
}

#[test]
fn what_the_trailing_log_covers_needs_no_snapshot() {
    let (mut cluster, _) = one_far_behind(100);
    cluster.rejoin(id(3));
    for _ in 0..500 {
        if cluster.wire.is_empty() {
            (1..=3).for_each(|node| cluster.sync_one(id(node)));
        } else {
            cluster.deliver(0);
        }
        assert!(cluster.parcels.is_empty());
    }
    assert_eq!(cluster.node(3).core.commit(), cluster.node(1).core.commit());
}

/// Delivers messages until a snapshot is under way to node 3.
fn until_sent(cluster: &mut Cluster) {
    cluster.rejoin(id(3));
    for _ in 0..200 {
        if !cluster.parcels.is_empty() {
            return;
        }
        if cluster.wire.is_empty() {
            cluster.tick(id(1));
        } else {
            cluster.deliver(0);
        }
        (1..=3).for_each(|node| cluster.sync_one(id(node)));
    }
    panic!("nobody sent a snapshot");
}

#[test]
fn one_snapshot_at_a_time_is_sent_and_a_lost_one_again() {
    let (mut cluster, _) = one_far_behind(0);
    until_sent(&mut cluster);
    assert!(cluster.node(1).core.receives_snapshot(id(3)));
    for _ in 0..30 {
        cluster.tick(id(1));
        while !cluster.wire.is_empty() {
            cluster.deliver(0);
        }
    }
    assert_eq!(cluster.parcels.len(), 1, "the first one is still on its way");
    cluster.lose_parcel(0);
    assert!(cluster.parcels.is_empty(), "not again at once");
    cluster.run(30);
    assert_eq!(cluster.node(3).core.commit(), cluster.node(1).core.commit());
}

#[test]
fn a_snapshot_holds_off_elections() {
    let (mut cluster, _) = one_far_behind(0);
    until_sent(&mut cluster);
    let last = cluster.parcels[0].meta.last;
    cluster.wire.clear();
    for _ in 0..100 {
        cluster.tick(id(3));
        assert_eq!(cluster.node(3).core.snapshot_arrives(id(1), 1, last), Ok(true));
    }
    assert_eq!(cluster.node(3).core.term(), 1);
    let arrives = cluster.node(3).core.snapshot_arrives(id(1), 0, last);
    assert_eq!(arrives, Ok(false), "from a leader of the past");
}

#[test]
fn a_snapshot_of_the_past_changes_nothing() {
    let (mut cluster, last) = one_far_behind(0);
    cluster.rejoin(id(3));
    cluster.run(5);
    cluster.propose(1, "after");
    cluster.run(5);
    let before = applied(&cluster, 3);
    let old = SnapshotMeta {
        last: Position { term: 1, index: last },
        configuration: None,
    };
    assert_eq!(cluster.node(3).core.install(id(1), 1, old), Ok(false));
    cluster.settle();
    assert_eq!(applied(&cluster, 3), before);
    assert!(cluster.node(3).core.configuration().is_some());
}

#[test]
fn a_log_that_holds_the_snapshots_end_keeps_what_follows_it() {
    let mut cluster = Cluster::new(3, 3);
    assert!(cluster.elect(1));
    cluster.isolate(id(2));
    for _ in 0..5 {
        cluster.propose(1, "x");
    }
    // Node 3 has the entries and does not know that they are committed.
    let appends = |flight: &super::cluster::Flight| matches!(&flight.message, Message::AppendRequest(_));
    while let Some(at) = cluster.wire.iter().position(appends) {
        cluster.deliver(at);
    }
    cluster.sync_one(id(3));
    let end = cluster.node(3).core.last();
    let part = SnapshotMeta {
        last: Position {
            index: end.index - 2,
            ..end
        },
        configuration: None,
    };
    assert_eq!(
        cluster.node(3).core.install(id(1), 1, part),
        Ok(false),
        "nothing has to be restored"
    );
    cluster.poll(id(3));
    assert_eq!(cluster.node(3).core.last(), end);
    assert_eq!(applied(&cluster, 3).last(), Some(&(end.index - 2)));
}

#[test]
fn a_snapshot_brings_its_configuration_and_displaces_the_one_that_was_there() {
    let (mut cluster, _) = one_far_behind(0);
    cluster.add_learner(1, 4);
    cluster.settle();
    cluster.compact(1, 0);
    let known = |cluster: &Cluster| {
        let configuration = cluster.nodes[&id(3)].core.configuration();
        configuration.is_some_and(|(_, found)| found.members.contains_key(&id(4)))
    };
    assert!(!known(&cluster));
    cluster.rejoin(id(3));
    cluster.run(5);
    assert!(known(&cluster));
    cluster.crash(id(3));
    assert!(known(&cluster), "after a restart as well");
}

#[test]
fn a_crash_between_a_snapshot_and_its_mark_in_the_log_loses_nothing() {
    let (mut cluster, last) = one_far_behind(0);
    until_sent(&mut cluster);
    cluster.deliver_parcel(0);
    assert!(
        !cluster.node(3).unsynced.is_empty(),
        "the log has not been told yet"
    );
    cluster.crash(id(3));
    assert_eq!(applied(&cluster, 3), (1..=last).collect::<Vec<_>>());
    cluster.run(40);
    cluster.propose(cluster_leader(&cluster), "after");
    cluster.run(10);
    assert!(applied(&cluster, 3).len() as u64 > last);
}

fn cluster_leader(cluster: &Cluster) -> u64 {
    (1..=3).find(|node| cluster.leads(*node)).expect("somebody leads")
}

#[test]
fn a_snapshot_is_acknowledged_only_when_the_log_is_on_disk_behind_it() {
    let (mut cluster, last) = one_far_behind(0);
    until_sent(&mut cluster);
    cluster.deliver_parcel(0);
    cluster.wire.retain(|flight| flight.from == id(3));
    let acknowledges = |cluster: &Cluster| {
        cluster.wire.iter().any(|flight| match &flight.message {
            Message::AppendResponse(response) => response.result == crate::raft::AppendResult::Matched(last),
            _ => false,
        })
    };
    assert!(!acknowledges(&cluster));
    cluster.sync_one(id(3));
    assert!(acknowledges(&cluster));
}

#[test]
fn a_leader_that_has_compacted_everything_serves_a_peer_of_which_it_knows_nothing() {
    let (mut cluster, last) = one_far_behind(0);
    cluster.compact(2, 0);
    // A new leader, whose log is all snapshot, and a follower whose end it has never seen.
    cluster.rejoin(id(3));
    cluster.isolate(id(1));
    cluster.forget_the_leader(&[2, 3]);
    assert!(cluster.elect(2));
    cluster.run(10);
    assert!(cluster.node(3).core.commit() > last);
}

#[test]
fn an_append_that_begins_inside_the_snapshot_is_no_conflict() {
    let (mut cluster, last) = one_far_behind(0);
    cluster.compact(2, 0);
    let leader = cluster.node(1).core.term();
    let late = crate::raft::AppendRequest {
        term: leader,
        prev: Position { term: 1, index: 2 },
        entries: Default::default(),
        commit: 2,
        read_seq: 0,
    };
    cluster.request(1, 2, Message::AppendRequest(late));
    let answer = cluster.wire.pop().expect("every append is answered").message;
    let Message::AppendResponse(answer) = answer else {
        panic!("{answer:?} is no answer to an append");
    };
    assert_eq!(answer.result, crate::raft::AppendResult::Matched(2));
    assert_eq!(cluster.node(2).core.last().index, last);
}

#[test]
fn a_parcel_for_a_follower_that_came_back_with_more_is_not_needed() {
    let (mut cluster, last) = one_far_behind(0);
    until_sent(&mut cluster);
    let Parcel { from, to, .. } = &cluster.parcels[0];
    assert_eq!((*from, *to), (id(1), id(3)));
    cluster.deliver_parcel(0);
    cluster.run(3);
    assert_eq!(cluster.node(1).core.matched(id(3)), last);
}
