//! Elections and terms, situation by situation.

use super::cluster::{Cluster, id};
use crate::raft::{Message, Position, RoleKind, VoteRequest};

#[test]
fn a_cluster_of_one_elects_itself_when_its_vote_is_on_disk() {
    let mut cluster = Cluster::new(1, 7);
    for _ in 0..40 {
        cluster.tick(id(1));
    }
    assert_eq!(
        cluster.node(1).core.role(),
        RoleKind::Candidate,
        "nothing is on disk yet"
    );
    cluster.settle();
    assert!(cluster.leads(1));
    assert_eq!(cluster.hard_state_on_disk(1).vote, Some(id(1)));
}

#[test]
fn a_vote_leaves_only_after_it_is_on_disk() {
    let mut cluster = Cluster::new(3, 1);
    let request = VoteRequest {
        term: 5,
        last: Position::default(),
        pre_vote: false,
        transfer: false,
    };
    cluster
        .node(2)
        .core
        .receive_request(id(1), Message::VoteRequest(request))
        .unwrap();
    cluster.poll(id(2));
    assert!(cluster.wire.is_empty(), "the vote is not durable");
    cluster.sync_one(id(2));
    assert_eq!(cluster.wire.len(), 1);
    assert_eq!(cluster.hard_state_on_disk(2).vote, Some(id(1)));
}

#[test]
fn nobody_votes_twice_in_a_term_not_even_after_a_crash() {
    let mut cluster = Cluster::new(3, 1);
    let request = VoteRequest {
        term: 5,
        last: Position::default(),
        pre_vote: false,
        transfer: false,
    };
    cluster
        .node(2)
        .core
        .receive_request(id(1), Message::VoteRequest(request))
        .unwrap();
    cluster.poll(id(2));
    cluster.sync_one(id(2));
    cluster.crash(id(2));
    cluster
        .node(2)
        .core
        .receive_request(id(3), Message::VoteRequest(request))
        .unwrap();
    cluster.poll(id(2));
    let refused = cluster.wire.iter().any(
        |flight| matches!(&flight.message, Message::VoteResponse(response) if flight.to == id(3) && !response.granted),
    );
    assert!(refused);
    assert_eq!(cluster.node(2).core.vote(), Some(id(1)));
}

#[test]
fn a_pre_vote_changes_nothing_at_the_voter() {
    let mut cluster = Cluster::new(3, 1);
    let request = VoteRequest {
        term: 9,
        last: Position::default(),
        pre_vote: true,
        transfer: false,
    };
    cluster
        .node(2)
        .core
        .receive_request(id(1), Message::VoteRequest(request))
        .unwrap();
    cluster.poll(id(2));
    let core = &cluster.node(2).core;
    assert_eq!(
        (core.term(), core.vote(), core.role()),
        (0, None, RoleKind::Follower)
    );
    assert!(cluster.node(2).unsynced.is_empty());
}

#[test]
fn a_node_with_a_shorter_log_is_not_elected() {
    let mut cluster = Cluster::new(3, 3);
    assert!(cluster.elect(1));
    cluster.isolate(id(3));
    cluster.propose(1, "a");
    cluster.settle();
    cluster.isolate(id(1));
    cluster.connect(id(3), id(2));
    cluster.connect(id(2), id(3));
    // Node 2 has stopped hearing a leader, so only its log speaks against node 3.
    for _ in 0..20 {
        cluster.tick(id(2));
    }
    assert!(!cluster.elect(3));
    assert!(cluster.elect(2));
}

#[test]
fn a_node_that_was_cut_off_returns_without_a_new_term() {
    let mut cluster = Cluster::new(3, 5);
    assert!(cluster.elect(1));
    let term = cluster.node(1).core.term();
    cluster.isolate(id(3));
    cluster.run(200);
    assert_eq!(
        cluster.node(3).core.term(),
        term,
        "pre-vote keeps it from counting up alone"
    );
    cluster.rejoin(id(3));
    cluster.run(50);
    assert_eq!(cluster.leaders(), [(id(1), term)]);
    assert_eq!(cluster.node(3).core.leader(), Some(id(1)));
}

#[test]
fn a_leader_cut_off_from_the_majority_gives_up() {
    let mut cluster = Cluster::new(3, 5);
    assert!(cluster.elect(1));
    cluster.isolate(id(1));
    cluster.run(35);
    assert!(!cluster.leads(1));
}

#[test]
fn whoever_hears_a_leader_does_not_help_to_depose_it() {
    let mut cluster = Cluster::new(3, 5);
    assert!(cluster.elect(1));
    let term = cluster.node(1).core.term();
    for pre_vote in [true, false] {
        let request = VoteRequest {
            term: term + 1,
            last: Position { term: 99, index: 99 },
            pre_vote,
            transfer: false,
        };
        cluster
            .node(2)
            .core
            .receive_request(id(3), Message::VoteRequest(request))
            .unwrap();
        cluster.poll(id(2));
    }
    assert_eq!(cluster.node(2).core.term(), term);
}

#[test]
fn a_refused_pre_vote_brings_the_asker_up_to_the_present_term() {
    let mut cluster = Cluster::new(3, 5);
    let request = VoteRequest {
        term: 8,
        last: Position::default(),
        pre_vote: false,
        transfer: false,
    };
    cluster
        .node(2)
        .core
        .receive_request(id(3), Message::VoteRequest(request))
        .unwrap();
    cluster.poll(id(2));
    cluster.settle();
    cluster.disconnect(id(1), id(3));
    for _ in 0..31 {
        cluster.tick(id(1));
    }
    cluster.settle();
    assert!(cluster.node(1).core.term() >= 8);
}

#[test]
fn a_leader_at_an_earlier_term_learns_of_the_later_one_from_the_answer() {
    let mut cluster = Cluster::new(3, 5);
    assert!(cluster.elect(1));
    let term = cluster.node(1).core.term();
    // Node 3 got ahead while nobody heard it, and waits longer than the stickiness of the others.
    cluster.isolate(id(3));
    for _ in 0..20 {
        cluster.tick(id(3));
    }
    let request = VoteRequest {
        term: term + 4,
        last: Position { term: 99, index: 99 },
        pre_vote: false,
        transfer: false,
    };
    cluster
        .node(3)
        .core
        .receive_request(id(2), Message::VoteRequest(request))
        .unwrap();
    cluster.poll(id(3));
    cluster.rejoin(id(3));
    cluster.run(100);
    let leaders = cluster.leaders();
    assert_eq!(leaders.len(), 1);
    assert!(leaders[0].1 > term + 3, "node 3 was not left behind: {leaders:?}");
}

#[test]
fn leadership_is_not_resumed_after_a_restart() {
    let mut cluster = Cluster::new(3, 5);
    assert!(cluster.elect(1));
    cluster.crash(id(1));
    assert_eq!(cluster.node(1).core.role(), RoleKind::Follower);
}

#[test]
fn nobody_campaigns_with_a_log_that_is_not_on_disk() {
    let mut cluster = Cluster::new(3, 5);
    assert!(cluster.elect(1));
    cluster.propose(1, "a");
    let append = cluster.wire.iter().position(|flight| flight.to == id(2)).unwrap();
    cluster.deliver(append);
    cluster.isolate(id(2));
    for _ in 0..100 {
        cluster.tick(id(2));
    }
    assert_eq!(
        cluster.node(2).core.role(),
        RoleKind::Follower,
        "its disk does not answer"
    );
    cluster.sync_one(id(2));
    cluster.tick(id(2));
    assert_eq!(cluster.node(2).core.role(), RoleKind::PreCandidate);
}
