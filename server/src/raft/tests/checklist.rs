//! Lines of `server/CHECKLIST.md` that no other test of the core is about.

use super::cluster::{Cluster, id};
use crate::raft::{
    AppendRequest, Change, Configuration, Message, Position, RoleKind, SnapshotMeta, Term, Violation,
    VoteRequest, VoteResponse,
};

/// A leader, node 1, with everybody in its configuration.
fn led(voters: u64) -> Cluster {
    let mut cluster = Cluster::new(voters, 5);
    assert!(cluster.elect(1));
    cluster.begin_configuration(1, voters);
    cluster.settle();
    cluster.run(4);
    cluster
}

fn pre_vote(term: Term) -> Message {
    Message::VoteResponse(VoteResponse {
        term,
        granted: true,
        pre_vote: true,
    })
}

fn until_it_asks(cluster: &mut Cluster) {
    while cluster.node(1).core.role() != RoleKind::PreCandidate {
        cluster.tick(id(1));
    }
}

/// Line 11.
#[test]
fn a_vote_given_or_a_leader_heard_ends_a_pre_vote_under_way() {
    let given = Message::VoteRequest(VoteRequest {
        term: 1,
        last: Position { term: 1, index: 1 },
        pre_vote: false,
        transfer: false,
    });
    let heard = Message::AppendRequest(AppendRequest {
        term: 1,
        prev: Position::default(),
        entries: Default::default(),
        commit: 0,
        read_seq: 0,
    });
    for message in [given, heard] {
        let mut cluster = Cluster::new(3, 5);
        until_it_asks(&mut cluster);
        cluster.request(2, 1, message);
        assert_eq!(cluster.node(1).core.role(), RoleKind::Follower);
        // Both terms that the answers could be about, the old one and the one after the present.
        for term in [1, 2] {
            cluster.respond(2, 1, pre_vote(term));
            cluster.respond(3, 1, pre_vote(term));
        }
        let core = &cluster.node(1).core;
        assert_eq!((core.role(), core.term()), (RoleKind::Follower, 1));
    }
}

/// Line 12.
#[test]
fn an_append_that_is_refused_holds_off_the_election_as_well() {
    let mut cluster = Cluster::new(3, 5);
    for _ in 0..200 {
        let unconnected = AppendRequest {
            term: 1,
            prev: Position { term: 1, index: 7 },
            entries: Default::default(),
            commit: 7,
            read_seq: 0,
        };
        cluster.request(2, 1, Message::AppendRequest(unconnected));
        cluster.tick(id(1));
        assert_eq!(cluster.node(1).core.role(), RoleKind::Follower);
    }
    assert_eq!(cluster.node(1).core.last(), Position::default());
}

/// Lines 35 and 51.
#[test]
fn while_a_configuration_is_joint_both_majorities_confirm_a_read() {
    let mut cluster = led(3);
    // From {1, 2, 3} to {1, 2}: node 3 is a majority of the old with node 1, and nothing in the new.
    cluster.isolate(id(2));
    cluster.change(1, Change::Remove(id(3))).unwrap();
    cluster.node(1).core.read(7).unwrap();
    cluster.poll(id(1));
    cluster.settle();
    assert!(cluster.node(1).reads.is_empty(), "one of two of the new voters");
    cluster.rejoin(id(2));
    cluster.run(4);
    assert_eq!(cluster.node(1).reads.len(), 1);
}

/// Line 54: the removed one need not hear that it was removed.
#[test]
fn of_two_nodes_one_can_be_removed_and_the_other_goes_on_alone() {
    let mut cluster = led(2);
    cluster.change(1, Change::Remove(id(2))).unwrap();
    cluster.settle();
    assert!(cluster.node(1).core.configuration_is_settled());
    cluster.isolate(id(2));
    let index = cluster.propose(1, "alone");
    cluster.settle();
    assert_eq!(cluster.node(1).core.commit(), index);
    cluster.crash(id(1));
    assert!(cluster.elect(1), "a majority of one");
}

fn members(configuration: Option<&std::sync::Arc<Configuration>>) -> usize {
    configuration.map_or(0, |configuration| configuration.members.len())
}

/// Line 58.
#[test]
fn a_snapshot_takes_the_configuration_of_its_end_and_not_a_later_one() {
    let mut cluster = led(3);
    let before = cluster.propose(1, "a");
    cluster.settle();
    cluster.start_joining(4);
    cluster.add_learner(1, 4);
    cluster.settle();
    let core = &cluster.node(1).core;
    assert_eq!(members(core.configuration_at(before)), 3);
    assert_eq!(members(core.configuration_at(core.last().index)), 4);
    assert_eq!(members(core.configuration_at(1)), 0, "before there was any");
}

/// Line 59.
#[test]
fn a_snapshot_that_contradicts_what_is_committed_is_reported_and_changes_nothing() {
    let mut cluster = led(3);
    cluster.propose(1, "a");
    cluster.settle();
    cluster.run(4);
    let (term, last) = (cluster.node(1).core.term(), Position { term: 9, index: 3 });
    assert!(cluster.node(2).core.commit() >= 3);
    let impossible = SnapshotMeta {
        last,
        configuration: None,
    };
    let violation = Violation::Snapshot {
        from: id(1),
        index: 3,
        known: term,
        found: 9,
    };
    let before = cluster.node(2).core.last();
    let core = &mut cluster.node(2).core;
    assert_eq!(core.snapshot_arrives(id(1), term, last), Err(violation));
    assert_eq!(core.install(id(1), term, impossible), Err(violation));
    assert_eq!((core.last(), core.commit() >= 3), (before, true));
}

/// Line 63: a core hears of a snapshot when it is durable, so none is ever pending in it. What a candidate then promises,
/// the end of its log, outlives a power cut although the log itself was not reset on disk yet.
#[test]
fn whoever_campaigns_with_a_snapshot_that_just_arrived_keeps_what_it_promised() {
    let mut cluster = led(3);
    cluster.isolate(id(3));
    cluster.propose(1, "a");
    cluster.settle();
    cluster.compact(1, 0);
    cluster.rejoin(id(3));
    while cluster.parcels.is_empty() {
        cluster.deliver(0);
    }
    cluster.deliver_parcel(0);
    cluster.isolate(id(3));
    while cluster.node(3).core.role() != RoleKind::PreCandidate {
        cluster.tick(id(3));
    }
    let last = cluster.node(1).core.last();
    assert_eq!(cluster.node(3).core.last(), last);
    assert!(
        !cluster.node(3).unsynced.is_empty(),
        "the log was not reset on disk yet"
    );
    cluster.crash(id(3));
    assert_eq!(cluster.node(3).core.last(), last);
}
